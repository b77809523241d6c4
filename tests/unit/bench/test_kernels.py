"""Kernels: each is timed, and what they sum up to makes sense."""

import importlib
from dataclasses import asdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_every_kernel_is_timed_and_the_floor_is_below_each_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    kernels = importlib.import_module("bench.kernels").measure(seconds_each=0.003)
    assert [name for name, value in asdict(kernels).items() if value <= 0] == []
    floor = importlib.import_module("bench.floor")
    for object_bytes, k, n in ((4 << 10, 1, 4), (1 << 20, 4, 8), (64 << 20, 10, 20)):
        assert 0 < floor.mb_per_cpu_s(kernels, "PUT", object_bytes, k, n) < kernels.md5_mb
        assert 0 < floor.mb_per_cpu_s(kernels, "GET", object_bytes, k, n) < kernels.socket_send_mb
