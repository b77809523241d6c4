import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import AtollError, Kind
from atoll.sim.disk import SECTOR_BYTES, DiskFaults, Platter, SimDisk
from atoll.sim.incarnation import Fenced, Incarnation
from atoll.sim.loop import SimLoop
from atoll.sim.trace import Trace


def boot(platter):
    loop = SimLoop("x")
    life = Incarnation("node", 1, loop, Trace(loop.time))
    loop.close()
    return life, SimDisk(life, platter, "reads")


changes = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 5000), st.binary(min_size=1, max_size=3000)),
        st.tuples(st.just("truncate"), st.integers(0, 6000), st.just(b"")),
        st.tuples(st.just("sync"), st.just(0), st.just(b"")),
    ),
    max_size=25,
)


def play(model, file, steps):
    for what, number, data in steps:
        if what == "write":
            file.write_at(number, [data])
            model.extend(bytes(max(0, number + len(data) - len(model))))
            model[number : number + len(data)] = data
        elif what == "truncate":
            file.truncate(number)
            del model[number:]
            model.extend(bytes(number - len(model)))
        else:
            file.sync()


@settings(max_examples=60, deadline=None)
@given(changes, changes, st.integers())
def test_what_was_synced_survives_and_the_rest_is_old_or_new(before, after, seed):
    platter = Platter(str(seed), 1 << 20)
    life, disk = boot(platter)
    file = disk.open("log", create=True)
    disk.sync_folder("")
    model = bytearray()
    play(model, file, before)
    file.sync()
    durable = bytes(model)
    play(model, file, [s for s in after if s[0] == "write"])
    assert file.read_at(0, 1 << 20) == model
    life.crash()
    _, disk = boot(platter)
    found = disk.read("log")
    assert len(durable) <= len(found) <= max(len(model), len(durable))
    touched = bytearray(max(len(model), len(found)))
    for what, number, data in after:
        if what == "write":
            touched[number : number + len(data)] = b"\1" * len(data)
    for at, byte in enumerate(durable):
        if not touched[at]:
            assert found[at] == byte


def test_unsynced_writes_are_kept_dropped_or_torn():
    fates = set()
    for seed in range(60):
        platter = Platter(str(seed), 1 << 20)
        life, disk = boot(platter)
        file = disk.open("log", create=True)
        disk.sync_folder("")
        file.write_at(0, [b"a" * 4 * SECTOR_BYTES])
        life.crash()
        found = platter.files["log"].content.read(0, 10_000)
        if not found:
            fates.add("dropped")
        elif found == b"a" * 4 * SECTOR_BYTES:
            fates.add("kept")
        else:
            fates.add("torn")
            sectors = [found[i : i + SECTOR_BYTES] for i in range(0, len(found), SECTOR_BYTES)]
            assert all(len(set(s)) == 1 for s in sectors)
    assert fates == {"kept", "dropped", "torn"}


def test_new_names_may_vanish_until_the_folder_is_synced():
    def crash(seed, sync):
        platter = Platter(str(seed), 1 << 20)
        life, disk = boot(platter)
        disk.open("logs/1", create=True).sync()
        if sync:
            disk.sync_folder("logs")
        life.crash()
        return "logs/1" in platter.files

    assert {crash(i, False) for i in range(30)} == {True, False}
    assert {crash(i, True) for i in range(30)} == {True}


def test_removed_names_may_return_with_what_they_held():
    def crash(seed):
        platter = Platter(str(seed), 1 << 20)
        life, disk = boot(platter)
        file = disk.open("a", create=True)
        file.write_at(0, [b"held"])
        file.sync()
        disk.sync_folder("")
        disk.remove("a")
        life.crash()
        return platter.files["a"].content.read(0, 9) if "a" in platter.files else None

    assert {crash(i) for i in range(30)} == {None, b"held"}


def test_replace_is_old_or_new_at_a_crash_inside_it():
    found = set()
    for crash_at in (1, 2):
        platter = Platter("s", 1 << 20)
        _, disk = boot(platter)
        disk.replace("id", b"old")
        platter.faults.crash_at = crash_at
        with pytest.raises(Fenced):
            disk.replace("id", b"new")
        found.add(boot(platter)[1].read("id"))
    assert found == {b"old", b"new"}


def test_a_full_disk_refuses_and_keeps_what_it_has():
    platter = Platter("s", 1000)
    _, disk = boot(platter)
    file = disk.open("a", create=True)
    file.write_at(0, [b"x" * 900])
    for act in (lambda: file.write_at(900, [b"x" * 101]), lambda: file.allocate(1001)):
        with pytest.raises(AtollError) as caught:
            act()
        assert caught.value.kind is Kind.DISK_FULL
    assert file.size() == 900
    assert disk.free_bytes() == 100
    file.write_at(0, [b"y" * 900])


def test_a_lying_disk_loses_what_it_said_was_safe():
    lost = 0
    for seed in range(20):
        platter = Platter(str(seed), 1 << 20)
        life, disk = boot(platter)
        file = disk.open("a", create=True)
        disk.sync_folder("")
        platter.faults.lies = True
        file.write_at(0, [b"x"])
        file.sync()
        life.crash()
        lost += platter.files["a"].content.read(0, 1) != b"x"
    assert lost


def test_a_failed_sync_is_final_for_the_file():
    platter = Platter("s", 1 << 20)
    _, disk = boot(platter)
    file = disk.open("a", create=True)
    file.write_at(0, [b"x"])
    platter.faults.sync_fails = 1.0
    with pytest.raises(AtollError):
        file.sync()
    platter.faults = DiskFaults()
    for act in (file.sync, lambda: file.write_at(1, [b"x"])):
        with pytest.raises(AtollError):
            act()


def test_rot_changes_single_bits():
    platter = Platter("s", 1 << 20)
    _, disk = boot(platter)
    disk.replace("logs/a", bytes(5000))
    disk.replace("id", bytes(5000))
    where = platter.rot(3, "logs/")
    assert len(where) == 3
    assert sum(byte.bit_count() for byte in disk.read("logs/a")) in (1, 3)
    assert disk.read("id") == bytes(5000)
