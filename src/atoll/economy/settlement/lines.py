"""What each line of an epoch comes to: fee, charge, refund, pay and take, line by line.

A line's fee is rounded down, its take and its discount are rounded up, so no line is ever worth
more to those who share it than it costs. ``docs/spec/epochs.md`` has the formulas.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from atoll.core.money import AMOUNT_PICO_MAX, BPS, GB_BYTES, GB_MONTH_BYTE_MS, part_up
from atoll.economy.settlement.model import (
    FIRST,
    LINES_MAX,
    NO_LIMIT,
    REAL_TIME,
    TIME_FACTOR_MAX,
    CustomerTerms,
    EgressLine,
    EpochInputs,
    EpochTotals,
    NodeTerms,
    StorageLine,
    TakeParameters,
    wrong,
)
from atoll.economy.settlement.sumtree import ACCOUNT_BYTES
from atoll.economy.tariff.model import ClassTariff, Tariff
from atoll.economy.tariff.rules import fee_price, payout_price

NODE_BYTES = 32
PAYER_BYTES = 16
NO_ACCOUNT = bytes(ACCOUNT_BYTES)


@dataclass(frozen=True, slots=True)
class LineAmounts:
    """What one line comes to. ``charge = refund + earned + take``."""

    node: bytes
    payer: bytes
    evidence: bytes
    fee_pico: int
    charge_pico: int
    """The fee less the customer's discount."""
    refund_pico: int
    """The charge of the unproven share."""
    discount_pico: int
    """Of the proven share: it comes out of the take."""
    earned_pico: int
    take_pico: int
    unfunded_pico: int
    """Fee that could not be drawn, and for which nobody is paid."""


@dataclass(slots=True)
class NodeEpoch:
    """A node's epoch in the making."""

    terms: NodeTerms
    prices: ClassTariff
    proven: tuple[int, int] = (0, 1)
    """Without a proof line nothing is proven."""
    held_pico: int = 0
    fee_pico: int = 0
    earned_pico: int = 0
    take_pico: int = 0
    repair_pico: int = 0
    slashed_pico: int = 0


# --- one line -------------------------------------------------------------------------------------


def storage_fee(line: StorageLine, prices: ClassTariff, take_bps: int, time_factor: int) -> int:
    """Return the fee of a storage line, rounded down: bytes x time x price.

    ``time_factor``: the epoch's; here and nowhere else time is counted as longer than it was.
    """
    price = fee_price(payout_price(line.price_pico, prices), take_bps)
    if line.price_max_pico:
        price = min(price, line.price_max_pico)
    return line.byte_ms * time_factor * price // GB_MONTH_BYTE_MS


def egress_fee(line: EgressLine, prices: ClassTariff, take_bps: int) -> int:
    """Return the fee of traffic, rounded down: bytes x price."""
    return line.byte_count * fee_price(prices.egress_pico, take_bps) // GB_BYTES


def amounts(
    line: StorageLine | EgressLine,
    fee_pico: int,
    unfunded_pico: int,
    proven: tuple[int, int],
    discount_bps: int,
    take_bps: int,
) -> LineAmounts:
    """Divide one line's fee. ``proven`` is a ratio; traffic is proven by its receipts: (1, 1)."""
    part, whole = proven
    proven_pico = fee_pico * part // whole
    charge = fee_pico - part_up(fee_pico, discount_bps)
    discount = part_up(proven_pico, discount_bps)
    take = part_up(proven_pico, take_bps)
    return LineAmounts(
        node=line.node,
        payer=line.payer,
        evidence=line.evidence,
        fee_pico=fee_pico,
        charge_pico=charge,
        refund_pico=charge - (proven_pico - discount),
        discount_pico=discount,
        earned_pico=proven_pico - take,
        take_pico=take - discount,
        unfunded_pico=unfunded_pico,
    )


def check(inputs: EpochInputs, tariff: Tariff, parameters: TakeParameters) -> None:
    """Raise ``BAD_REQUEST`` for an epoch whose frame cannot be."""
    parameters.check()
    tariff.check()
    lines = len(inputs.storage) + len(inputs.egress) + len(inputs.repairs)
    if lines > LINES_MAX:
        raise wrong(f"more than {LINES_MAX} lines")
    if inputs.until_ms <= inputs.from_ms or inputs.reserve_pico < 0:
        raise wrong("the epoch has no length, or a reserve below nothing")
    if not REAL_TIME <= inputs.time_factor <= TIME_FACTOR_MAX:
        raise wrong(f"a time factor of {inputs.time_factor} is out of bounds")


def nodes_of(previous: EpochTotals, inputs: EpochInputs, tariff: Tariff) -> dict[bytes, NodeEpoch]:
    """Return every node of an epoch with its terms, prices, proofs and what is held of it."""
    held = {one.node: one.held_pico for one in previous.nodes}
    prices = {one.tier: one for one in tariff.classes}
    nodes: dict[bytes, NodeEpoch] = {}
    for terms in inputs.nodes:
        if terms.node in nodes or len(terms.node) != NODE_BYTES:
            raise wrong("a node is named twice, or not by its id")
        if len(terms.account) != ACCOUNT_BYTES or terms.account == NO_ACCOUNT:
            raise wrong(f"an account has {ACCOUNT_BYTES} bytes, not all of them 0")
        if not (0 <= terms.hold_back_bps <= BPS and 0 <= terms.credit_bps <= BPS):
            raise wrong("a share is beyond the whole")
        if terms.ceiling_pico < 0 or terms.tier not in prices:
            raise wrong("a ceiling below nothing, or a class that is not sold")
        nodes[terms.node] = NodeEpoch(terms, prices[terms.tier], held_pico=held.get(terms.node, 0))
    proven: set[bytes] = set()
    for proof in inputs.proofs:
        proof.check()
        if proof.node in proven:
            raise wrong("two proof lines of one node")
        proven.add(proof.node)
        if proof.node in nodes:
            nodes[proof.node].proven = proof.fraction()
    return nodes


def _terms_of_customers(
    inputs: EpochInputs, parameters: TakeParameters
) -> dict[bytes, CustomerTerms]:
    terms: dict[bytes, CustomerTerms] = {}
    for one in inputs.customers:
        if one.payer in terms:
            raise wrong("a customer is named twice")
        if not 0 <= one.discount_bps <= parameters.discount_bps_max or one.limit_pico < NO_LIMIT:
            raise wrong("a discount or a limit out of bounds")
        terms[one.payer] = one
    return terms


def line_amounts(
    inputs: EpochInputs, tariff: Tariff, parameters: TakeParameters
) -> Iterator[LineAmounts]:
    """Yield what each line of an epoch comes to, as ``amounts_of``. Raises ``BAD_REQUEST``."""
    check(inputs, tariff, parameters)
    nodes = nodes_of(FIRST, inputs, tariff)
    yield from amounts_of(inputs, parameters, nodes)


def amounts_of(
    inputs: EpochInputs, parameters: TakeParameters, nodes: dict[bytes, NodeEpoch]
) -> Iterator[LineAmounts]:
    """Yield what each line comes to: storage, then traffic, in the order of the inputs.

    Where a customer's limit does not cover his lines each is cut in the same proportion: nobody is
    paid with money that is not there. Raises ``BAD_REQUEST`` for inputs that cannot be.
    """
    terms = _terms_of_customers(inputs, parameters)
    take_bps = parameters.take_bps
    lines: list[StorageLine | EgressLine] = [*inputs.storage, *inputs.egress]
    fees = [_fee_of(line, nodes, take_bps, inputs.time_factor) for line in lines]
    cut = _cuts(lines, fees, terms)
    for line, wanted in zip(lines, fees, strict=True):
        one = terms.get(line.payer)
        discount = one.discount_bps if one is not None else 0
        fee = wanted
        if line.payer in cut:
            part, whole = cut[line.payer]
            fee = wanted * part // whole
        proven = (1, 1) if isinstance(line, EgressLine) else nodes[line.node].proven
        yield amounts(line, fee, wanted - fee, proven, discount, take_bps)


def _cuts(
    lines: Sequence[StorageLine | EgressLine],
    fees: Sequence[int],
    terms: Mapping[bytes, CustomerTerms],
) -> dict[bytes, tuple[int, int]]:
    """Return by which ratio the fees of a customer are cut, where his limit does not cover them.

    Fees cut like that, less the discount, never add up to more than the limit.
    """
    fee_sums: dict[bytes, int] = {}
    charge_sums: dict[bytes, int] = {}
    for line, fee in zip(lines, fees, strict=True):
        one = terms.get(line.payer)
        if one is not None and one.limit_pico != NO_LIMIT:
            charge = fee - part_up(fee, one.discount_bps)
            fee_sums[line.payer] = fee_sums.get(line.payer, 0) + fee
            charge_sums[line.payer] = charge_sums.get(line.payer, 0) + charge
    return {
        payer: (terms[payer].limit_pico * BPS, fee_sums[payer] * (BPS - terms[payer].discount_bps))
        for payer, charge in charge_sums.items()
        if charge > terms[payer].limit_pico
    }


def _fee_of(
    line: StorageLine | EgressLine,
    nodes: Mapping[bytes, NodeEpoch],
    take_bps: int,
    time_factor: int,
) -> int:
    node = nodes.get(line.node)
    if node is None:
        raise wrong(f"a line of a node without terms: {line.node.hex()[:10]}")
    if len(line.payer) != PAYER_BYTES:
        raise wrong(f"a customer is named by {PAYER_BYTES} bytes")
    if isinstance(line, EgressLine):
        if line.byte_count < 0:
            raise wrong("fewer bytes than none")
        fee = egress_fee(line, node.prices, take_bps)
    else:
        if line.byte_ms < 0 or line.price_pico < 0 or line.price_max_pico < 0:
            raise wrong("a line below nothing")
        fee = storage_fee(line, node.prices, take_bps, time_factor)
    if fee > AMOUNT_PICO_MAX:
        raise wrong("a fee larger than all the money there is")
    return fee
