"""A provider's terms at the node: settings, traffic, pressure, the disk's watch, his door."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, prove_request
from atoll.core.messages.terms import SetTerms
from atoll.core.orders import Action
from atoll.core.ports import HostPressure
from atoll.node.config import NodeConfig
from atoll.node.evacuate import RotCount, rot_warning, squeezed_bytes
from atoll.node.owner import ProofDesk
from atoll.node.pressure import FALL_LOOKS, RISE_LOOKS, Level, Pressure
from atoll.node.settings import SETTINGS_FILE, Settings
from atoll.node.traffic import TRAFFIC_FILE, TrafficMeter
from atoll.runtime.disk import FolderDisk
from atoll.runtime.host import SystemHost, warning_of

NODE = Identity(b"n" * 32)
ATTACKER = Identity(b"a" * 32)
MONTH_MS = 31 * 24 * 3_600_000
CONFIG = NodeConfig(
    operator="o", site="cellar", region="eu", country="DE", tier="home", host="127.0.0.1", port=1
)


class HereCompute:
    """Runs everything at once."""

    async def run(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)


class HandClock:
    """Time stands until somebody sleeps."""

    def __init__(self) -> None:
        self.time_ms = 1_790_000_000_000
        self.slept_s = 0.0

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic(self) -> float:
        return self.time_ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self.time_ms += round(seconds * 1000)


# --- settings ------------------------------------------------------------------------------------


async def test_a_change_is_in_force_at_once_and_survives(tmp_path: Path) -> None:
    disk = FolderDisk(tmp_path)
    settings = Settings(disk, HereCompute(), CONFIG)
    await settings.load()
    heard: list[int] = []
    settings.listeners.append(lambda: heard.append(settings.terms.capacity_bytes))
    await settings.change(SetTerms(capacity_bytes=5 << 30, calendar="mon-fri 18:00-23:00 UTC"))
    await settings.change(SetTerms(price_micro=7))
    assert heard[0] == 5 << 30
    again = Settings(disk, HereCompute(), CONFIG)
    await again.load()
    assert again.terms.capacity_bytes == 5 << 30
    assert again.terms.calendar == "mon-fri 18:00-23:00"
    assert again.terms.price_micro == 7
    assert again.changed == ["capacity_bytes", "price_micro", "calendar"]
    await again.change(SetTerms(reset=["capacity_bytes"], site="attic"))
    assert again.terms.capacity_bytes == CONFIG.store.capacity_bytes
    assert again.terms.site == "attic"


@pytest.mark.parametrize(
    "request_",
    [
        SetTerms(capacity_bytes=10),
        SetTerms(capacity_bytes=1 << 61),
        SetTerms(bandwidth_bytes_per_s=1),
        SetTerms(bandwidth_bytes_per_s=-1),
        SetTerms(traffic_bytes_month=5),
        SetTerms(price_micro=-1),
        SetTerms(tier="cloud"),
        SetTerms(country="Germany"),
        SetTerms(site=""),
        SetTerms(region="a\nb"),
        SetTerms(asn=1 << 33),
        SetTerms(calendar="mon-fri whenever"),
        SetTerms(reset=["colour"]),
    ],
)
async def test_terms_that_cannot_be_are_refused_and_change_nothing(
    tmp_path: Path, request_: SetTerms
) -> None:
    settings = Settings(FolderDisk(tmp_path), HereCompute(), CONFIG)
    await settings.load()
    with pytest.raises(AtollError) as refused:
        await settings.change(request_)
    assert refused.value.kind is Kind.BAD_REQUEST
    assert settings.terms == settings.configured
    assert not (tmp_path / SETTINGS_FILE).exists()


async def test_unreadable_settings_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_bytes(b"\xc1")
    with pytest.raises(AtollError) as refused:
        await Settings(FolderDisk(tmp_path), HereCompute(), CONFIG).load()
    assert refused.value.kind is Kind.WRONG_FOLDER


# --- traffic -------------------------------------------------------------------------------------


async def test_the_month_is_counted_on_disk_and_begins_anew(tmp_path: Path) -> None:
    clock, disk = HandClock(), FolderDisk(tmp_path)
    meter = TrafficMeter(clock)
    await meter.load(disk, HereCompute())
    meter.traffic_bytes_month = 1000
    await meter.came_in(500)
    await meter.goes_out(399)
    meter.check_write()
    await meter.goes_out(1)
    with pytest.raises(AtollError) as refused:
        meter.check_write()
    assert refused.value.kind is Kind.OVERLOADED
    meter.check_read(Action.GET)
    await meter.goes_out(100)
    with pytest.raises(AtollError):
        meter.check_read(Action.GET)
    meter.check_read(Action.REPAIR_GET)
    meter.check_read(Action.AUDIT)
    await meter.save()
    later = TrafficMeter(clock)
    await later.load(disk, HereCompute())
    assert later.month_bytes == 1000
    clock.time_ms += MONTH_MS
    assert later.month_bytes == 0
    (tmp_path / TRAFFIC_FILE).write_bytes(b"\xc1")
    await TrafficMeter(clock).load(disk, HereCompute())


async def test_the_line_is_bounded_in_each_direction() -> None:
    clock = HandClock()
    meter = TrafficMeter(clock)
    meter.bandwidth_bytes_per_s = 1000
    for _ in range(10):
        await meter.came_in(1000)
    assert clock.slept_s == pytest.approx(9.0, abs=0.01), "a burst of one second is free"
    before = clock.slept_s
    await meter.goes_out(1000)
    assert clock.slept_s == before, "the other direction has its own"
    meter.eased_bytes_per_s = 100
    await meter.goes_out(1000)
    assert clock.slept_s - before > 8


# --- pressure ------------------------------------------------------------------------------------


def test_levels_rise_slowly_and_fall_more_slowly() -> None:
    level = Level()
    busy = HostPressure(cpu_percent=60.0, known=True)
    assert [level.look(busy) for _ in range(RISE_LOOKS)][-1] == 2
    near = HostPressure(cpu_percent=40.0, known=True)
    assert {level.look(near) for _ in range(30)} == {2}, "within the hysteresis"
    calm = HostPressure(cpu_percent=1.0, known=True)
    looks = [level.look(calm) for _ in range(2 * FALL_LOOKS)]
    assert looks[FALL_LOOKS - 2] == 2
    assert looks[FALL_LOOKS - 1] == 1
    assert looks[-1] == 0


def test_one_busy_look_is_no_pressure() -> None:
    level = Level()
    for _ in range(10):
        level.look(HostPressure(memory_percent=90.0, known=True))
        assert level.look(HostPressure(known=True)) in (0, 3)
        if level.level:
            break
    assert level.level == 0
    assert Level().look(HostPressure(cpu_percent=99.0)) == 0, "a machine that tells nothing"


async def test_a_node_gives_way_as_far_as_it_is_told() -> None:
    class Busy:
        def pressure(self) -> HostPressure:
            return HostPressure(io_percent=99.0, known=True)

        def disk_warning(self) -> str:
            return ""

    for level_max, level, eased in ((3, 3, True), (2, 2, False), (0, 0, False)):
        pressure = Pressure(Busy(), HereCompute(), level_max)
        heard: list[int] = []
        pressure.listeners.append(lambda p=pressure, h=heard: h.append(p.level))  # type: ignore[misc]
        for _ in range(3):
            await pressure.look()
        assert pressure.level == level
        assert bool(pressure.eased_bytes_per_s) is eased
        assert heard == ([level] if level else [])
        assert 0 < pressure.background_share <= 1
        assert pressure.shown().io_percent == 99.0


def test_pressure_is_read_as_linux_writes_it(tmp_path: Path) -> None:
    for name, figure in (("cpu", "12.50"), ("io", "3.00")):
        (tmp_path / name).write_text(
            f"some avg10={figure} avg60=1.00 avg300=0.00 total=1\n"
            "full avg10=99.00 avg60=0.00 avg300=0.00 total=0\n"
        )
    host = SystemHost(tmp_path, pressure=tmp_path, cgroups=tmp_path / "none")
    assert host.pressure() == HostPressure(12.5, 3.0, 0.0, known=True)
    nothing = SystemHost(tmp_path, pressure=tmp_path / "none", cgroups=tmp_path / "none")
    assert not nothing.pressure().known
    (tmp_path / "cpu").write_text("some nonsense")
    (tmp_path / "io").write_text("")
    assert not host.pressure().known


# --- disks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "warns"),
    [
        ({"smart_status": {"passed": True}}, False),
        ({"smart_status": {"passed": False}}, True),
        ({"nvme_smart_health_information_log": {"critical_warning": 4}}, True),
        ({"ata_smart_attributes": {"table": [{"id": 197, "raw": {"value": 1}}]}}, True),
        ({"ata_smart_attributes": {"table": [{"id": 5, "raw": {"value": 8}}]}}, False),
        ({"ata_smart_attributes": {"table": [{"id": 5, "raw": {"value": 800}}]}}, True),
        ({"ata_smart_attributes": []}, False),
        ([], False),
    ],
)
def test_what_smart_warns_of(facts: Any, warns: bool) -> None:
    assert bool(warning_of(msgspec.json.encode(facts))) is warns
    assert warning_of(b"not json") == ""


def test_rot_within_a_day_counts() -> None:
    count = RotCount()
    assert count.look(2, 0) == 2
    assert count.look(5, 1000) == 5
    assert count.look(5, 25 * 3_600_000) == 0, "yesterday's"
    assert rot_warning(4, 10) == ""
    assert rot_warning(5, 100_000) == ""
    assert "rotten" in rot_warning(6, 500)


def test_room_is_given_up_before_there_is_none() -> None:
    assert squeezed_bytes(100, 100, 1000, 0) is None
    assert squeezed_bytes(60, 100, 1000, 0) == 910
    assert squeezed_bytes(60, 100, 1000, 50) == 960, "what comes back by itself"
    assert squeezed_bytes(60, 100, 1000, 90) is None
    assert squeezed_bytes(0, 1 << 20, 1000, 0) == 0


# --- the door ------------------------------------------------------------------------------------


def test_only_the_nodes_own_key_and_each_proof_once() -> None:
    clock = HandClock()
    desk = ProofDesk(NODE, clock)
    clock.time_ms += 5

    def proof(identity: Identity, **changes: Any) -> str:
        given = {"method": "POST", "path": "/p", "body": b"x", "now_ms": clock.time_ms} | changes
        return prove_request(identity, **given).to_header()

    good = proof(NODE)
    desk.check(good, "POST", "/p", b"x")
    cases = [
        (good, Kind.REPLAYED),
        (proof(ATTACKER), Kind.FORBIDDEN),
        (proof(NODE, body=b"y"), Kind.UNAUTHENTICATED),
        (proof(NODE, path="/q"), Kind.UNAUTHENTICATED),
        (proof(NODE, now_ms=clock.time_ms - 70_000), Kind.CLOCK_SKEW),
        (proof(NODE, now_ms=clock.time_ms - 100), Kind.CLOCK_SKEW),
        ("", Kind.UNAUTHENTICATED),
    ]
    for header, kind in cases:
        with pytest.raises(AtollError) as refused:
            desk.check(header, "POST", "/p", b"x")
        assert refused.value.kind is kind, header


def test_the_machine_here_tells_something_or_nothing() -> None:
    host = SystemHost(Path(os.curdir))
    seen = host.pressure()
    assert seen.known or seen == HostPressure()
    assert isinstance(host.disk_warning(), str)
