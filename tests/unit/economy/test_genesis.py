"""The genesis file: it adds up, its schedules are the contract's, and a wrong one is refused."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import AtollError, Kind
from atoll.economy import genesis

GOOD = """
format = 1
[token]
name = "Atoll"
symbol = "ATOLL"
decimals = 18
supply = "1000.5"
[[allocation]]
name = "one"
holder = "treasury"
amount = "1000"
vesting = { start = 2027-01-01, cliff_days = 10, duration_days = 100 }
[[allocation]]
name = "two"
holder = "0x00000000000000000000000000000000000000aa"
amount = "0.5"
"""


def read(tmp_path: Path, text: str) -> genesis.Genesis:
    path = tmp_path / "genesis.toml"
    path.write_text(text)
    found, raw = genesis.read(path)
    assert raw == text.encode()
    genesis.check(found)
    return found


def test_the_shipped_file_adds_up():
    found, _ = genesis.read()
    genesis.check(found)
    plan = genesis.schedules(found)
    total = sum(one.amount_wei for one in plan) + sum(a for _, a in genesis.at_once(found))
    assert total == 10**27
    assert genesis.free_wei(found, 4_000_000_000) == total


def test_arguments_are_what_the_constructors_take(tmp_path: Path):
    found = genesis.arguments(read(tmp_path, GOOD))
    assert found == {
        "Vesting.beneficiaries": ["@treasury"],
        "Vesting.amounts": [1000 * 10**18],
        "Vesting.starts_s": [1_798_761_600],
        "Vesting.cliffs_s": [864_000],
        "Vesting.durations_s": [8_640_000],
        "Token.holders": ["@Vesting", b"\0" * 19 + b"\xaa"],
        "Token.amounts": [1000 * 10**18, 5 * 10**17],
    }


def test_digest_is_of_the_meaning(tmp_path: Path):
    first = genesis.digest(read(tmp_path, GOOD))
    assert genesis.digest(read(tmp_path, "# a remark\n" + GOOD)) == first
    other = GOOD.replace("cliff_days = 10,", "cliff_days = 11,")
    assert genesis.digest(read(tmp_path, other)) != first


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('amount = "1000"', 'amount = "1001"', "allocations make"),
        ('amount = "0.5"', 'amount = "0.5000000000000000001"', "no amount"),
        ('amount = "0.5"', 'amount = "-0.5"', "no amount"),
        ('amount = "0.5"', 'amount = "nan"', "no amount"),
        ('amount = "0.5"', 'amount = "1e99"', "no amount"),
        ('amount = "0.5"', "amount = 0.5", "not a genesis file"),
        ('name = "two"', 'name = "one"', "one name"),
        ('holder = "treasury"', 'holder = "0x12"', "neither a role nor an address"),
        ("00aa", "0000", "zero address"),
        ("cliff_days = 10", "cliff_days = 101", "cliff"),
        ("duration_days = 100", "duration_days = 0", "duration"),
        ("duration_days = 100", "duration_days = 4000", "duration"),
        ("2027-01-01", "1999-01-01", "out of bounds"),
        ("2027-01-01", "2027-01-01T00:00:00", "not a genesis file"),
        ('symbol = "ATOLL"', 'symbol = "OTHER"', "not Atoll"),
        ("decimals = 18", "decimals = 6", "not Atoll"),
        ("format = 1", "format = 0", "format"),
        ("format = 1", "format = 1\nsurplus = 1", "not a genesis file"),
        ("[token]", "[token", "not a genesis file"),
        ("vesting =", "# vesting =", "none that vests"),
    ],
)
def test_a_file_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, words: str):
    assert old in GOOD
    with pytest.raises(AtollError, match=words) as error:
        read(tmp_path, GOOD.replace(old, new))
    assert error.value.kind is Kind.BAD_REQUEST


def test_a_newer_file_and_a_huge_one_are_refused(tmp_path: Path):
    with pytest.raises(AtollError) as error:
        read(tmp_path, GOOD.replace("format = 1", "format = 2"))
    assert error.value.kind is Kind.NEWER_FORMAT
    with pytest.raises(AtollError) as error:
        read(tmp_path, GOOD + "#" * genesis.FILE_BYTES_MAX)
    assert error.value.kind is Kind.TOO_LARGE


@given(
    amount=st.integers(1, 10**27),
    duration=st.integers(1, 10**8),
    cliff=st.integers(0, 10**8),
    at=st.integers(0, 3 * 10**8),
)
def test_vested_is_the_exact_proportion(amount: int, duration: int, cliff: int, at: int):
    cliff = min(cliff, duration)
    one = genesis.Schedule(0, "one", "treasury", amount, 10**8, cliff, duration)
    passed = at - 10**8
    expected = 0
    if passed >= cliff:
        expected = int(min(Fraction(passed, duration), Fraction(1)) * amount)
    assert one.vested_wei(at) == expected


def test_amounts_are_shown_exactly():
    assert genesis.show(10**18) == "1"
    assert genesis.show(1_234_567 * 10**18 + 10**17) == "1,234,567.1"
    assert genesis.show(1) == "0.000000000000000001"
