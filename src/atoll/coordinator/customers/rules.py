"""Pure decisions about customers: how one stands, what runs, what an epoch charged to whom."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from atoll.coordinator.customers.model import (
    BUDGET_ALERTS_PERCENT,
    NO_BUDGET,
    Customer,
    Known,
    LineKind,
    OpenLine,
    OpenRead,
    Running,
    Standing,
    Stored,
    Times,
    Told,
    UsageLine,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.money import MONTH_MS, PICO_PER_MICRO, show_euro
from atoll.economy.settlement.document import Content, pseudonym
from atoll.economy.settlement.lines import egress_fee, line_amounts, storage_fee
from atoll.economy.settlement.model import REAL_TIME, EgressLine, StorageLine
from atoll.economy.tariff.model import ClassTariff, Tariff

Name = TypeVar("Name")
EMPTY_MS_MAX = 10 * 365 * 86_400_000
"""A balance that lasts longer is said to last."""
UNPAID = "unpaid"
BUDGET = "budget"
_SHUT = frozenset({Standing.READ_ONLY, Standing.GRACE, Standing.DELETION})
_NEXT = {
    Standing.NOTICE: Standing.READ_ONLY,
    Standing.READ_ONLY: Standing.GRACE,
    Standing.GRACE: Standing.DELETION,
}


# --- months ---------------------------------------------------------------------------------------


def month_of(time_ms: int) -> str:
    """Return the month of a moment, in UTC: ``2026-11``."""
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m}"


def month_span(month: str) -> tuple[int, int]:
    """Return when a month begins and ends. Raises ``BAD_REQUEST`` for what is none."""
    try:
        begin = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        begin = None
    if begin is None or f"{begin:%Y-%m}" != month or not 1970 <= begin.year <= 9998:
        raise AtollError(
            Kind.BAD_REQUEST, "read month", f"{month[:20]!r} is no month", hint="write 2026-11"
        )
    later = begin.month == 12
    end = begin.replace(year=begin.year + later, month=1 if later else begin.month + 1)
    return int(begin.timestamp()) * 1000, int(end.timestamp()) * 1000


# --- how a customer stands ------------------------------------------------------------------------


def _lasting(standing: Standing, times: Times) -> int:
    """Return how long a standing lasts; 0 for ever."""
    return {
        Standing.NOTICE: times.notice_ms,
        Standing.READ_ONLY: times.read_only_ms,
        Standing.GRACE: times.grace_ms,
    }.get(standing, 0)


def _moved(customer: Customer, standing: Standing, now_ms: int, lasting_ms: int) -> Customer:
    return replace(
        customer,
        standing=standing,
        since_ms=now_ms,
        until_ms=now_ms + lasting_ms if lasting_ms else 0,
    )


def _standing(customer: Customer, known: Known, now_ms: int, times: Times) -> Customer:
    """Return a customer as he stands now: one step at a time, each with its full time.

    A coordinator that was away for months takes nobody's time away: what comes next begins when
    the step is taken.
    """
    if known.available_pico > 0:
        if customer.standing is Standing.ACTIVE:
            return customer
        return _moved(customer, Standing.ACTIVE, now_ms, 0)
    if not known.bytes_now:
        # Nothing is stored, nothing is prepaid: there is nothing to announce, and paid is first.
        if customer.standing is Standing.READ_ONLY and not customer.until_ms:
            return customer
        return _moved(customer, Standing.READ_ONLY, now_ms, 0)
    if customer.standing is Standing.ACTIVE:
        return _moved(customer, Standing.NOTICE, now_ms, times.notice_ms)
    if customer.standing is Standing.READ_ONLY and not customer.until_ms:
        return replace(customer, until_ms=now_ms + times.read_only_ms)
    following = _NEXT.get(customer.standing)
    if following is None or now_ms < customer.until_ms:
        return customer
    return _moved(customer, following, now_ms, _lasting(following, times))


def _budget_percent(customer: Customer, known: Known) -> int:
    """Return how much of the budget is used: 0 without one."""
    if customer.budget_micro == NO_BUDGET:
        return 0
    budget_pico = customer.budget_micro * PICO_PER_MICRO
    return known.month_pico * 100 // budget_pico if budget_pico else 100


def judge(
    customer: Customer, known: Known, now_ms: int, times: Times, *, enforced: bool
) -> tuple[Customer, list[Told]]:
    """Return a customer as he stands now, and what he is to be told."""
    after = customer
    if enforced:
        after = _standing(customer, known, now_ms, times)
    elif customer.standing is not Standing.ACTIVE:
        after = _moved(customer, Standing.ACTIVE, now_ms, 0)
    told = []
    if after.standing is not customer.standing:
        told.append(Told(after.standing.value, show_euro(max(0, known.balance_pico))))
    percent = _budget_percent(customer, known)
    told_percent = customer.told_percent if customer.told_month == known.month else 0
    reached = max((one for one in BUDGET_ALERTS_PERCENT if one <= percent), default=0)
    if reached > told_percent:
        told.append(Told(f"budget_{reached}", show_euro(customer.budget_micro * PICO_PER_MICRO)))
        told_percent = reached
    if told_percent != customer.told_percent or customer.told_month != known.month:
        after = replace(after, told_month=known.month, told_percent=told_percent)
    refused = ""
    if after.standing in _SHUT:
        refused = UNPAID
    elif customer.budget_stops and percent >= 100:
        refused = BUDGET
    return replace(after, refused=refused), told


def refusal(reason: str) -> AtollError:
    """Return the error for whoever may not upload now."""
    if reason == BUDGET:
        return AtollError(
            Kind.UNPAID,
            "store data",
            "the budget of this month is used up; what is stored stays and can be read",
            hint="raise it with `atoll bill budget EUR`, or wait for the next month",
        )
    return AtollError(
        Kind.UNPAID,
        "store data",
        "nothing is left of what was prepaid; what is stored can be read and removed",
        hint="`atoll invoice pay` shows how to pay in, `atoll bill` by when",
    )


def empty_ms(known: Known, now_ms: int, time_factor: int) -> int:
    """Return when the available balance will be used up; 0 for not within ten years."""
    if known.available_pico <= 0:
        return now_ms
    if not known.rate_pico:
        return 0
    lasts_ms = known.available_pico * MONTH_MS // (known.rate_pico * time_factor)
    return now_ms + lasts_ms if lasts_ms <= EMPTY_MS_MAX else 0


def projected_pico(to_date_pico: int, rate_pico: int, left_ms: int, time_factor: int) -> int:
    """Return what a month comes to if all stays as it is for the time that is left of it."""
    return to_date_pico + rate_pico * time_factor * max(0, left_ms) // MONTH_MS


# --- what runs ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prices:
    """What storage costs now, and at which nodes: those that are paid, by alias."""

    tariff: Tariff
    take_bps: int
    nodes: Mapping[int, tuple[str, int]]
    """Class, and price as posted, of each node that is paid."""
    time_factor: int

    def of(self, alias: int) -> ClassTariff | None:
        """Return the prices at a node; None where nobody is charged for it."""
        found = self.nodes.get(alias)
        return None if found is None else self.tariff.of(found[0])

    def month_of(self, alias: int, piece_bytes: int) -> int:
        """Return what bytes at a node cost in a month at what it asks now; 0 where nothing."""
        known = self.of(alias)
        if known is None:
            return 0
        return storage_fee(
            _line(piece_bytes, MONTH_MS, self.nodes[alias][1]), known, self.take_bps, REAL_TIME
        )


def _line(piece_bytes: int, span_ms: int, price_pico: int) -> StorageLine:
    return StorageLine(b"", b"", piece_bytes * span_ms, price_pico, 0, b"")


def running_of(
    lines: Iterable[OpenLine | OpenRead],
    stored: Iterable[Stored],
    prices: Prices,
    now_ms: int,
    posted_epoch: int,
) -> dict[tuple[bytes, bytes], Running]:
    """Return what runs, by account and bucket, as if all of it were proven.

    A line that goes on counts until now. ``stored``: what lies where at the last reading.
    ``posted_epoch``: the last one that the ledger knows.
    """
    found: defaultdict[tuple[bytes, bytes], Running] = defaultdict(Running)
    for line in lines:
        known = prices.of(line.alias)
        if known is None:
            continue
        if isinstance(line, OpenRead):
            # Receipts name nodes and payers, no buckets.
            bucket, byte_ms = b"", 0
            fee = egress = egress_fee(
                EgressLine(b"", b"", line.byte_count, b""), known, prices.take_bps
            )
        else:
            span_ms = max(0, (line.until_ms or now_ms) - line.from_ms)
            used = _line(line.piece_bytes, span_ms, line.price_pico)
            bucket, byte_ms, egress = line.bucket, used.byte_ms, 0
            fee = storage_fee(used, known, prices.take_bps, prices.time_factor)
        unposted = fee if not line.epoch or line.epoch > posted_epoch else 0
        key = (line.account, bucket)
        found[key] = found[key].plus(Running(0, byte_ms, fee, unposted, 0, egress))
    for one in stored:
        key = (one.account, one.bucket)
        rate = prices.month_of(one.alias, one.piece_bytes)
        found[key] = found[key].plus(Running(one.piece_bytes, 0, 0, 0, rate))
    return dict(found)


# --- what an epoch charged ------------------------------------------------------------------------


Whose = tuple[bytes, bytes]
"""Account and bucket."""


def merged(*groups: Iterable[UsageLine]) -> tuple[UsageLine, ...]:
    """Return lines summed by bucket and kind, in that order; empty ones are left out."""
    sums: defaultdict[tuple[bytes, str], list[int]] = defaultdict(lambda: [0, 0])
    for group in groups:
        for one in group:
            pair = sums[(one.bucket, one.kind)]
            pair[0] += one.quantity
            pair[1] += one.amount_pico
    return tuple(
        UsageLine(bucket, kind, quantity, amount)
        for (bucket, kind), (quantity, amount) in sorted(sums.items())
        if quantity or amount
    )


def usage_of(
    content: Content, whose: Mapping[bytes, Whose], names: Mapping[bytes, bytes]
) -> dict[bytes, tuple[UsageLine, ...]]:
    """Return what an epoch charged, by account; to the pico what the ledger says.

    ``whose`` names account and bucket behind the evidence of storage, ``names`` the account behind
    each pseudonym. Raises ``CORRUPT`` where one is missing.
    """
    inputs = content.inputs
    lines: list[StorageLine | EgressLine] = [*inputs.storage, *inputs.egress]
    found: defaultdict[bytes, list[UsageLine]] = defaultdict(list)
    amounts = line_amounts(inputs, content.tariff, content.parameters)
    for line, one in zip(lines, amounts, strict=True):
        if isinstance(line, StorageLine):
            account, bucket = _named(whose, line.evidence)
            kind, quantity = LineKind.STORAGE, line.byte_ms * inputs.time_factor
        else:
            account, bucket = _named(names, line.payer), b""
            kind, quantity = LineKind.EGRESS, line.byte_count
        unproven = one.fee_pico - one.discount_pico - (one.charge_pico - one.refund_pico)
        found[account] += [
            UsageLine(bucket, kind.value, quantity, one.fee_pico),
            UsageLine(bucket, LineKind.UNPROVEN.value, 0, unproven),
            UsageLine(bucket, LineKind.DISCOUNT.value, 0, one.discount_pico),
            UsageLine(bucket, LineKind.UNFUNDED.value, 0, one.unfunded_pico),
        ]
    for customer in content.result.customers:
        if customer.credit_pico:
            credit = UsageLine(b"", LineKind.CREDIT.value, 0, customer.credit_pico)
            found[_named(names, customer.payer)].append(credit)
    return {account: merged(some) for account, some in found.items()}


def _named(names: Mapping[bytes, Name], key: bytes) -> Name:
    name = names.get(key)
    if name is None:
        raise AtollError(
            Kind.CORRUPT, "take epoch over", "the document names a customer nobody knows"
        )
    return name


def names_of(epoch: int, accounts: Iterable[bytes], secret: bytes) -> dict[bytes, bytes]:
    """Return the accounts by their pseudonyms in an epoch."""
    return {pseudonym(secret, epoch, one): one for one in accounts}


def net_pico(lines: Iterable[UsageLine]) -> int:
    """Return what lines come to: what was charged less what was given back."""
    total = 0
    for one in lines:
        if one.kind in (LineKind.STORAGE.value, LineKind.EGRESS.value):
            total += one.amount_pico
        elif one.kind != LineKind.UNFUNDED.value:
            total -= one.amount_pico
    return total


def sum_of(lines: Sequence[UsageLine], *kinds: LineKind) -> int:
    """Return the amounts of some kinds."""
    wanted = {kind.value for kind in kinds}
    return sum(one.amount_pico for one in lines if one.kind in wanted)
