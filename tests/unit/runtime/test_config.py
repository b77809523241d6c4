"""Settings: order of sources, origins, refusals, and the golden list of defaults."""

import os
import tomllib
from pathlib import Path

import pytest

from atoll.core.errors import AtollError, Kind
from atoll.runtime.config import NodeSettings, load, to_toml

GOLDEN = Path(__file__).parents[2] / "golden" / "config_defaults.txt"


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "atoll.toml"
    file.write_text(
        '[cloud]\nnodes = 5\nport = 7000\nworkers = 3\n[node]\ncapacity_bytes = "2 GB"\n'
    )
    loaded = load(
        [file, tmp_path / "absent.toml"],
        {"ATOLL_CLOUD_NODES": "6", "ATOLL_CLOUD_PORT": "7001", "ATOLL_UNRELATED": "x"},
        {"cloud.nodes": 7, "cloud.port": None},
    )
    cloud = loaded.config.cloud
    assert (cloud.nodes, cloud.port, cloud.workers) == (7, 7001, 3)
    assert loaded.config.node.capacity_bytes == 2_000_000_000
    origins = {shown.name: shown.origin for shown in loaded.shown()}
    assert origins["cloud.nodes"] == "flag --nodes"
    assert origins["cloud.port"] == "environment ATOLL_CLOUD_PORT"
    assert origins["cloud.workers"] == f"file {file}"
    assert origins["log.level"] == "default"


def test_every_size_is_read_and_shown_with_a_unit(tmp_path: Path) -> None:
    file = tmp_path / "atoll.toml"
    file.write_text('[gateway]\ntransfer_bytes_max = "64 MiB"\n')
    loaded = load([file], {}, {})
    assert loaded.config.gateway.transfer_bytes_max == 64 << 20
    shown = {shown.name: shown.text for shown in loaded.shown()}
    assert shown["gateway.transfer_bytes_max"] == "64 MiB"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[cloud]\nnodse = 5", "did you mean cloud.nodes"),
        ("[cloud]\nnodes = 0", "1 to 250"),
        ("[cloud]\nnodes = true", "whole number"),
        ("[cloud]\nnodes = 1.5", "whole number"),
        ("[node]\ntier = 'moon'", "edge, home, pro, dc"),
        ("[node]\nhost = 5", "wants a text"),
        ("nodes = 5", "config show"),
        ("[cloud", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_a_hint(tmp_path: Path, content: str, word: str) -> None:
    file = tmp_path / "atoll.toml"
    file.write_text(content)
    with pytest.raises(AtollError) as refused:
        load([file])
    assert refused.value.kind is Kind.CONFIG
    assert word in str(refused.value)


def test_a_written_section_reads_back_the_same(tmp_path: Path) -> None:
    node = NodeSettings(operator='a "quoted" \\ name', capacity_bytes=3 << 40, port=9999)
    file = tmp_path / "atoll.toml"
    file.write_text(to_toml("node", node))
    assert load([file]).config.node == node
    assert "price_micro" not in tomllib.loads(file.read_text())["node"]


def test_the_defaults_are_the_agreed_ones() -> None:
    lines = [f"{s.name} = {s.text}  # {s.doc}" for s in load().shown()]
    if os.environ.get("ATOLL_WRITE_GOLDEN"):
        GOLDEN.write_text("\n".join(lines) + "\n")
    assert "\n".join(lines) + "\n" == GOLDEN.read_text()
