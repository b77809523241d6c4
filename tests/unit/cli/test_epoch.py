"""``atoll epoch`` over a folder of documents: it agrees, and one altered byte is named."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from tests.fixtures.epochs import PARAMETERS, Life

from atoll.cli.main import main
from atoll.cli.rooms import billing_of
from atoll.coordinator.billing.model import BillingConfig
from atoll.core.errors import AtollError, Kind
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.document import (
    NO_DOCUMENT,
    Published,
    content_of,
    publish,
    read_index,
    with_pseudonyms,
)
from atoll.economy.settlement.model import FIRST, EpochResult
from atoll.economy.settlement.wire import encode_rows
from atoll.runtime.config import ChainSettings, Config, CoordinatorSettings

KEY = b"k" * 32
SECRET = b"s" * 32
Change = Callable[[EpochResult], EpochResult]
CORRUPT = 65


def write(folder: Path, epoch: int, published: Published) -> None:
    (folder / "chunks").mkdir(exist_ok=True)
    (folder / str(epoch)).mkdir(exist_ok=True)
    (folder / str(epoch) / "index").write_bytes(published.index)
    entries = read_index(published.index).chunks
    for entry, body in zip(entries, published.chunks, strict=True):
        (folder / "chunks" / entry.sha256.hex()).write_bytes(body)


def settle(
    folder: Path, epochs: int, change: Change = lambda result: result, begin_pico: int = 0
) -> None:
    """Publish epochs of some life; the last one's result after a change.

    ``begin_pico``: so much more than there was stands in the insurance when the last one begins.
    """
    life, before, previous = Life(7, nodes=6, payers=4), FIRST, NO_DOCUMENT
    for epoch in range(1, epochs + 1):
        if epoch == epochs and begin_pico:
            more = before.insurance_pico + begin_pico
            before = msgspec.structs.replace(before, insurance_pico=more)
        inputs, _ = with_pseudonyms(life.next(), SECRET)
        result = compute(before, inputs, life.tariff, PARAMETERS)
        if epoch == epochs:
            result = change(result)
        content = content_of(before, inputs, life.tariff, PARAMETERS, result)
        published = publish(content, KEY, previous)
        write(folder, epoch, published)
        before, previous = result.totals, published.content_hash


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        main(["epoch", *arguments])
    return int(left.value.code or 0), capsys.readouterr().out


def test_what_was_published_comes_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle(tmp_path, 3)
    status, out = run(capsys, "list", "--from", str(tmp_path), "--json")
    listed = json.loads(out)
    assert status == 0
    assert [one["epoch"] for one in listed] == [3, 2, 1]
    for epoch in (1, 2, 3):
        status, out = run(capsys, "recompute", str(epoch), "--from", str(tmp_path), "--json")
        found = json.loads(out)
        assert (status, found["agrees"], found["previous_read"]) == (0, True, True)
    status, out = run(capsys, "show", "2", "--from", str(tmp_path), "--json")
    assert status == 0
    assert json.loads(out)["content"] == listed[1]["content"]
    assert run(capsys, "show", "2", "--from", str(tmp_path))[0] == 0


def test_every_altered_byte_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle(tmp_path, 1)
    index = read_index((tmp_path / "1" / "index").read_bytes())
    draw = Random(3)
    for entry in index.chunks:
        path = tmp_path / "chunks" / entry.sha256.hex()
        body = bytearray(path.read_bytes())
        place = draw.randrange(len(body))
        body[place] ^= 1 << draw.randrange(8)
        good = path.read_bytes()
        path.write_bytes(body)
        status, out = run(capsys, "recompute", "1", "--from", str(tmp_path), "--json")
        found = json.loads(out)
        assert (status, found["agrees"]) == (CORRUPT, False)
        assert f"({entry.section}, " in found["differences"][0]
        path.unlink()
        status, out = run(capsys, "recompute", "1", "--from", str(tmp_path))
        assert status == CORRUPT
        assert entry.section in out
        path.write_bytes(good)
    assert run(capsys, "recompute", "1", "--from", str(tmp_path))[0] == 0


def test_a_figure_made_up_with_its_hashes_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def more(result: EpochResult) -> EpochResult:
        first = result.nodes[0]
        richer = msgspec.structs.replace(first, released_pico=first.released_pico + 1)
        return msgspec.structs.replace(result, nodes=[richer, *result.nodes[1:]])

    settle(tmp_path, 2, more)
    status, out = run(capsys, "recompute", "2", "--from", str(tmp_path), "--json")
    assert status == CORRUPT
    assert any("result.nodes[0].released_pico" in one for one in json.loads(out)["differences"])


def test_another_document_than_was_settled_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(tmp_path, 1)
    arguments = ("recompute", "1", "--from", str(tmp_path))
    assert run(capsys, *arguments, "--content", "ab" * 32)[0] == CORRUPT
    content = json.loads(run(capsys, "list", "--from", str(tmp_path), "--json")[1])[0]["content"]
    assert run(capsys, *arguments, "--content", content)[0] == 0
    path = tmp_path / "1" / "index"
    index = read_index(path.read_bytes())
    path.write_bytes(encode_rows([msgspec.structs.replace(index, released_micro=1 << 60)]))
    assert run(capsys, *arguments, "--content", content)[0] == CORRUPT
    status, out = run(capsys, *arguments)
    assert status == CORRUPT
    assert "index.released_micro" in out


def test_a_document_that_does_not_follow_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(tmp_path, 2)
    other = tmp_path / "other"
    other.mkdir()
    settle(other, 1, lambda r: msgspec.structs.replace(r, take_pico=r.take_pico + 1))
    for path in (other / "chunks").iterdir():
        path.rename(tmp_path / "chunks" / path.name)
    (other / "1" / "index").rename(tmp_path / "1" / "index")
    status, out = run(capsys, "recompute", "2", "--from", str(tmp_path))
    assert status == CORRUPT
    assert "epoch 1" in out
    (tmp_path / "1" / "index").unlink()
    status, out = run(capsys, "recompute", "2", "--from", str(tmp_path), "--json")
    assert (status, json.loads(out)["previous_read"]) == (0, False)


def test_money_from_nowhere_at_its_beginning_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(tmp_path, 2, begin_pico=5)
    status, out = run(capsys, "recompute", "2", "--from", str(tmp_path))
    assert status == CORRUPT
    assert "before.insurance_pico" in out


def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settle(tmp_path, 1)
    assert run(capsys, "show", "9", "--from", str(tmp_path))[0] != 0
    assert run(capsys, "recompute", "9", "--from", str(tmp_path))[0] != 0
    assert run(capsys, "list", "--data", str(tmp_path / "nothing"))[0] != 0
    assert run(capsys, "recompute", "1", "--from", str(tmp_path), "--content", "xy")[0] != 0


def test_an_epoch_has_time_for_proofs(tmp_path: Path) -> None:
    def billing(**given: Any) -> BillingConfig | None:
        chain = ChainSettings(id=given.pop("chain_id", 31_337))
        return billing_of(tmp_path, Config(coordinator=CoordinatorSettings(**given), chain=chain))

    assert billing() is None, "nobody asked for epochs"
    made = billing(profile="local", epoch_s=20)
    assert made is not None
    assert made.length_ms == 20_000
    with pytest.raises(AtollError) as caught:
        billing(profile="wan", epoch_s=3_600)
    assert caught.value.kind is Kind.CONFIG


def test_time_counts_more_only_where_no_money_is_meant(tmp_path: Path) -> None:
    fast = CoordinatorSettings(profile="local", epoch_s=20, time_factor=86_400)
    made = billing_of(tmp_path, Config(coordinator=fast))
    assert made is not None
    assert made.time_factor == 86_400
    with pytest.raises(AtollError, match="time that did not pass"):
        billing_of(tmp_path, Config(coordinator=fast, chain=ChainSettings(id=8453)))


def test_a_demonstration_says_that_it_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(tmp_path, 8)
    shown = {}
    for epoch in range(1, 9):
        _, out = run(capsys, "show", str(epoch), "--from", str(tmp_path), "--json")
        shown[epoch] = json.loads(out)["time_factor"]
    assert {1} < set(shown.values()), "lives have epochs in real time, and others"
    for epoch, factor in shown.items():
        _, out = run(capsys, "show", str(epoch), "--from", str(tmp_path))
        assert ("time factor" in out) == (factor > 1)
        assert factor == 1 or f"{factor:,}" in out
