"""The genesis file: the whole supply of the token, public, adding up, recomputable by anyone.

``genesis.toml`` beside this file says who gets how much and when; from it follow the arguments of
the constructors of ``Vesting`` and ``Token``, and nothing else does. ``docs/spec/contracts.md``.
"""

import datetime
import hashlib
import re
import tomllib
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from atoll.core.errors import AtollError, Kind

FORMAT: Final = 1
FILE_BYTES_MAX: Final = 256 << 10
DECIMALS: Final = 18
UNIT: Final = 10**DECIMALS
DAY_S: Final = 86_400
# As the contracts have them.
SCHEDULES_MAX: Final = 32
HOLDERS_MAX: Final = 64
DURATION_DAYS_MAX: Final = 3_650
START_MIN: Final = datetime.date(2020, 1, 1)
START_MAX: Final = datetime.date(2100, 1, 1)
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
REFERENCE: Final = "@"
"""Before a name in ``arguments``: the address of that contract or of the account in that role."""


class VestingTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an allocation becomes free: in proportion from ``start``, nothing before the cliff."""

    start: datetime.date
    cliff_days: int
    duration_days: int

    @property
    def start_s(self) -> int:
        """Unix time of the start, midnight UTC."""
        midnight = datetime.datetime.combine(self.start, datetime.time(), datetime.UTC)
        return int(midnight.timestamp())


class Allocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who gets how much. ``holder``: a role or an address; ``amount``: whole or decimal ATOLL."""

    name: str
    holder: str
    amount: str
    vesting: VestingTerms | None = None


class TokenTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the token is called and how much there is, in ATOLL."""

    name: str
    symbol: str
    decimals: int
    supply: str


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A genesis file."""

    format: int
    token: TokenTerms
    allocation: list[Allocation]


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule of the vesting contract, by its number there."""

    number: int
    name: str
    holder: str
    amount_wei: int
    start_s: int
    cliff_s: int
    duration_s: int

    def vested_wei(self, at_s: int) -> int:
        """What is free at a time, rounded down, as the contract computes it."""
        if at_s < self.start_s + self.cliff_s:
            return 0
        passed = at_s - self.start_s
        return self.amount_wei * min(passed, self.duration_s) // self.duration_s


def wrong(message: str, about: str = "") -> AtollError:
    """Return the refusal of a genesis file that cannot be."""
    return AtollError(Kind.BAD_REQUEST, "verify genesis", message, about=about)


def read(path: Path | None = None) -> tuple[Genesis, bytes]:
    """Read a genesis file, the shipped one for None; returns its bytes, too. Does not check it.

    Raises:
        AtollError: ``BAD_REQUEST`` for what is no genesis file, ``TOO_LARGE``, ``NEWER_FORMAT``.
    """
    source = resources.files("atoll.economy") / "genesis.toml" if path is None else path
    raw = source.read_bytes()
    if len(raw) > FILE_BYTES_MAX:
        raise AtollError(Kind.TOO_LARGE, "verify genesis", "the file is too long")
    try:
        table = tomllib.loads(raw.decode())
        if isinstance(table.get("format"), int) and table["format"] > FORMAT:
            raise AtollError(
                Kind.NEWER_FORMAT, "verify genesis", f"the file has format {table['format']}"
            )
        return msgspec.convert(table, Genesis), raw
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise wrong(f"not a genesis file: {error}") from error


def wei(text: str, about: str) -> int:
    """Return an amount of ATOLL in 1e-18. Raises ``BAD_REQUEST`` unless exact and above zero."""
    try:
        amount = Decimal(text)
        exact = int(amount.scaleb(DECIMALS))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise wrong(f"{text!r} is no amount", about) from error
    if amount != Decimal(exact).scaleb(-DECIMALS) or not 0 < exact < 2**128:
        raise wrong(f"{text!r} is no amount of 1e-18 above zero", about)
    return exact


def check(genesis: Genesis) -> None:
    """Raise ``BAD_REQUEST`` unless the file adds up and the contracts would take it."""
    token, allocations = genesis.token, genesis.allocation
    if genesis.format != FORMAT:
        raise wrong(f"format {genesis.format} is not {FORMAT}")
    if (token.name, token.symbol, token.decimals) != ("Atoll", "ATOLL", DECIMALS):
        raise wrong("the token is not Atoll (ATOLL, 18 decimals)")
    if len({one.name for one in allocations}) != len(allocations):
        raise wrong("two allocations have one name")
    for one in allocations:
        _check_allocation(one)
    vesting = sum(one.vesting is not None for one in allocations)
    if not 0 < vesting <= SCHEDULES_MAX or len(allocations) - vesting >= HOLDERS_MAX:
        raise wrong("too many allocations, or none that vests")
    total = sum(wei(one.amount, one.name) for one in allocations)
    supply = wei(token.supply, "supply")
    if total != supply:
        raise wrong(f"allocations make {show(total)} ATOLL, the supply is {show(supply)}")


def _check_allocation(one: Allocation) -> None:
    wei(one.amount, one.name)
    if not (_ROLE.fullmatch(one.holder) or _ADDRESS.fullmatch(one.holder)):
        raise wrong(f"{one.holder!r} is neither a role nor an address", one.name)
    if _ADDRESS.fullmatch(one.holder) and int(one.holder, 16) == 0:
        raise wrong("the zero address holds nothing", one.name)
    terms = one.vesting
    if terms is None:
        return
    if not START_MIN <= terms.start <= START_MAX:
        raise wrong(f"{terms.start} is out of bounds", one.name)
    if not 0 < terms.duration_days <= DURATION_DAYS_MAX:
        raise wrong(f"a duration of {terms.duration_days} days is out of bounds", one.name)
    if not 0 <= terms.cliff_days <= terms.duration_days:
        raise wrong("the cliff is not within the duration", one.name)


def schedules(genesis: Genesis) -> list[Schedule]:
    """Schedules of the vesting contract, in its order."""
    vesting = [one for one in genesis.allocation if one.vesting is not None]
    return [
        Schedule(
            number=number,
            name=one.name,
            holder=one.holder,
            amount_wei=wei(one.amount, one.name),
            start_s=one.vesting.start_s,
            cliff_s=one.vesting.cliff_days * DAY_S,
            duration_s=one.vesting.duration_days * DAY_S,
        )
        for number, one in enumerate(vesting)
        if one.vesting is not None
    ]


def at_once(genesis: Genesis) -> list[tuple[str, int]]:
    """Holder and amount (1e-18 ATOLL) of what does not vest, in the order of the file."""
    return [
        (one.holder, wei(one.amount, one.name)) for one in genesis.allocation if one.vesting is None
    ]


def arguments(genesis: Genesis) -> dict[str, list[Any]]:
    """Arguments of the constructors, by ``Contract.argument``; roles as ``@role``."""
    plan, rest = schedules(genesis), at_once(genesis)
    return {
        "Vesting.beneficiaries": [_named(one.holder) for one in plan],
        "Vesting.amounts": [one.amount_wei for one in plan],
        "Vesting.starts_s": [one.start_s for one in plan],
        "Vesting.cliffs_s": [one.cliff_s for one in plan],
        "Vesting.durations_s": [one.duration_s for one in plan],
        "Token.holders": [f"{REFERENCE}Vesting", *(_named(holder) for holder, _ in rest)],
        "Token.amounts": [sum(one.amount_wei for one in plan), *(amount for _, amount in rest)],
    }


def roles(genesis: Genesis) -> tuple[str, ...]:
    """Roles the file names, each once, in its order."""
    found = [one.holder for one in genesis.allocation if _ROLE.fullmatch(one.holder)]
    return tuple(dict.fromkeys(found))


def digest(genesis: Genesis) -> str:
    """SHA-256 of what the file means, whatever its comments and layout, as hexadecimal."""
    return hashlib.sha256(
        msgspec.json.encode(
            [msgspec.to_builtins(genesis.token), arguments(genesis)], order="sorted"
        )
    ).hexdigest()


def free_wei(genesis: Genesis, at_s: int) -> int:
    """How much of the supply is free at a time, by the file."""
    vested = sum(one.vested_wei(at_s) for one in schedules(genesis))
    return vested + sum(amount for _, amount in at_once(genesis))


def show(amount_wei: int) -> str:
    """An amount of ATOLL for people: exact, thousands apart."""
    whole, rest = divmod(amount_wei, UNIT)
    text = f"{whole:,}"
    return f"{text}.{rest:018d}".rstrip("0") if rest else text


def _named(holder: str) -> Any:
    if _ADDRESS.fullmatch(holder):
        return bytes.fromhex(holder[2:])
    return f"{REFERENCE}{holder}"
