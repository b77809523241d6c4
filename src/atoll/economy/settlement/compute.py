"""One epoch, computed: who pays what, who is paid what, and that both are the same.

Pure and deterministic: the same inputs give the same bytes on every machine, so anybody may check
what was published. Every rule of rounding stands in ``docs/spec/epochs.md``; the short of it:

* the fee of a line is rounded down, the take and a discount are rounded up, line by line, so no
  line is ever worth more to those who share it than it costs;
* what is divided makes the whole again; fractions of the take's shares are carried.

``compute`` checks conservation of what it returns (``balance``) and raises rather than publish an
epoch in which a pico came from nowhere.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.money import BPS, GB_BYTES, Shares, micro_of, part_down, split
from atoll.economy.settlement.lines import (
    NO_ACCOUNT,
    PAYER_BYTES,
    LineAmounts,
    NodeEpoch,
    amounts_of,
    check,
    nodes_of,
)
from atoll.economy.settlement.model import (
    INSURANCE,
    AccountTotal,
    CustomerResult,
    EpochInputs,
    EpochResult,
    EpochTotals,
    NodeResult,
    NodeTotal,
    Owed,
    Reward,
    TakeParameters,
    wrong,
)
from atoll.economy.settlement.sumtree import ACCOUNT_BYTES, Leaf
from atoll.economy.tariff.model import Tariff


@dataclass(slots=True)
class _Customer:
    """A customer's epoch in the making."""

    charge_pico: int = 0
    refund_pico: int = 0
    discount_pico: int = 0
    unfunded_pico: int = 0
    credit_pico: int = 0


# --- the epoch ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pot:
    """The insurance while an epoch is computed."""

    pico: int
    out_pico: int = 0

    def pay(self, wanted_pico: int) -> int:
        paid = min(wanted_pico, self.pico)
        self.pico -= paid
        self.out_pico += paid
        return paid


def compute(
    previous: EpochTotals, inputs: EpochInputs, tariff: Tariff, parameters: TakeParameters
) -> EpochResult:
    """Compute an epoch from where the last one ended.

    Raises ``BAD_REQUEST`` for inputs that cannot be and ``INTERNAL`` if the result did not balance.
    """
    check(inputs, tariff, parameters)
    if inputs.epoch != previous.epoch + 1:
        raise wrong(f"epoch {inputs.epoch} does not follow epoch {previous.epoch}")
    nodes = nodes_of(previous, inputs, tariff)
    customers: defaultdict[bytes, _Customer] = defaultdict(_Customer)
    take = 0
    for line in amounts_of(inputs, parameters, nodes):
        take += line.take_pico
        _note(line, nodes[line.node], customers[line.payer])
    parts, shares = Shares(parameters.shares_bps, previous.carried).take(take)
    pot = _Pot(previous.insurance_pico + parts[INSURANCE])
    owed, slash_repair = _pay_repairs(previous, inputs, tariff, nodes, pot)
    rewards, slash_insurance, slash_repair_more = _slash(inputs, parameters, nodes, customers)
    pot.pico += slash_insurance + slash_repair_more
    for credit in inputs.credits:
        if credit.amount_pico < 0 or len(credit.payer) != PAYER_BYTES:
            raise wrong("a credit below nothing, or for nobody")
        customers[credit.payer].credit_pico += pot.pay(credit.amount_pico)
    top_ups = _top_ups(take, inputs.reserve_pico, parameters.top_up_bps, nodes)
    results = [_settle(nodes[node], top_ups.get(node, 0)) for node in sorted(nodes)]
    after = EpochTotals(
        epoch=inputs.epoch,
        accounts=_accounts(previous, results, rewards),
        nodes=_held(previous, results),
        buckets_pico=_six(
            [had + part for had, part in zip(previous.buckets_pico, parts, strict=True)]
        ),
        carried=_six(shares.carried),
        insurance_pico=pot.pico,
        owed=[Owed(node, amount) for node, amount in sorted(owed.items()) if amount],
    )
    result = EpochResult(
        nodes=results,
        customers=[
            CustomerResult(
                payer,
                one.charge_pico,
                one.refund_pico,
                one.discount_pico,
                one.unfunded_pico,
                one.credit_pico,
            )
            for payer, one in sorted(customers.items())
        ],
        rewards=rewards,
        take_pico=take,
        buckets_pico=_six(parts),
        top_up_pico=sum(top_ups.values()),
        slash_repair_pico=slash_repair + slash_repair_more,
        slash_insurance_pico=slash_insurance,
        insurance_out_pico=pot.out_pico,
        totals=after,
    )
    balance(previous, result)
    return result


def _note(line: LineAmounts, node: NodeEpoch, customer: _Customer) -> None:
    node.fee_pico += line.fee_pico
    node.earned_pico += line.earned_pico
    node.take_pico += line.take_pico
    customer.charge_pico += line.charge_pico
    customer.refund_pico += line.refund_pico
    customer.discount_pico += line.discount_pico
    customer.unfunded_pico += line.unfunded_pico


def _pay_repairs(
    previous: EpochTotals,
    inputs: EpochInputs,
    tariff: Tariff,
    nodes: dict[bytes, NodeEpoch],
    pot: _Pot,
) -> tuple[dict[bytes, int], int]:
    """Pay repair workers: from what is held of the failed node, then from the insurance.

    What was owed from before comes first. Returns what stays owed and what held funds paid.
    """
    owed: defaultdict[bytes, int] = defaultdict(int)
    for one in previous.owed:
        node = nodes.get(one.node)
        paid = pot.pay(one.amount_pico) if node is not None else 0
        if node is not None:
            node.repair_pico += paid
        owed[one.node] += one.amount_pico - paid
    from_held = 0
    for line in inputs.repairs:
        worker, failed = nodes.get(line.worker), nodes.get(line.failed)
        if worker is None or line.byte_count < 0:
            raise wrong("repair work of nobody, or below nothing")
        due = line.byte_count * tariff.repair_pico // GB_BYTES
        held = 0
        if failed is not None:
            held = min(due, failed.held_pico)
            failed.held_pico -= held
            failed.slashed_pico += held
            from_held += held
        insured = pot.pay(due - held)
        worker.repair_pico += held + insured
        owed[line.worker] += due - held - insured
    return dict(owed), from_held


def _slash(
    inputs: EpochInputs,
    parameters: TakeParameters,
    nodes: dict[bytes, NodeEpoch],
    customers: defaultdict[bytes, _Customer],
) -> tuple[list[Reward], int, int]:
    """Take what is slashed: repair, customers, reporter (a tenth at most), insurance.

    Returns rewards by account, what the insurance gets, and what it gets for repair.
    """
    rewards: defaultdict[bytes, int] = defaultdict(int)
    insurance = repair = 0
    for slash in inputs.slashes:
        node = nodes.get(slash.node)
        if node is None or slash.amount_pico < 0 or slash.repair_pico < 0:
            raise wrong("a slash of nobody, or below nothing")
        if not 0 <= slash.reporter_bps <= parameters.reporter_bps_max:
            raise wrong("a reporter gets more than the parameters allow")
        taken = left = min(slash.amount_pico, node.held_pico)
        node.held_pico -= taken
        node.slashed_pico += taken
        bill = min(left, slash.repair_pico)
        repair += bill
        left -= bill
        losses = [one.amount_pico for one in slash.customers]
        if any(loss < 0 for loss in losses):
            raise wrong("a damage below nothing")
        credits = min(left, sum(losses))
        for one, part in zip(slash.customers, split(credits, losses), strict=True):
            customers[one.payer].credit_pico += part
        left -= credits
        if slash.reporter:
            if len(slash.reporter) != ACCOUNT_BYTES or slash.reporter == NO_ACCOUNT:
                raise wrong("a reporter without an account")
            reward = min(left, part_down(taken, slash.reporter_bps))
            rewards[slash.reporter] += reward
            left -= reward
        insurance += left
    return [Reward(one, rewards[one]) for one in sorted(rewards)], insurance, repair


def _top_ups(
    take_pico: int, reserve_pico: int, top_up_bps: int, nodes: dict[bytes, NodeEpoch]
) -> dict[bytes, int]:
    """Divide the top-up by the take that each node's lines brought.

    So no line gets more than its share of its own take, whatever discounts others have. Rounded
    down; the rest stays in the reserve.
    """
    pool = min(part_down(take_pico, top_up_bps), reserve_pico)
    if not pool:
        return {}
    return {node: pool * one.take_pico // take_pico for node, one in nodes.items() if one.take_pico}


def _settle(node: NodeEpoch, top_up_pico: int) -> NodeResult:
    """Divide what one node gets: held back, spent on its owner's storage, released."""
    terms = node.terms
    room = max(0, terms.ceiling_pico - node.held_pico)
    kept = min(part_down(node.earned_pico, terms.hold_back_bps), room)
    held = node.held_pico + kept + top_up_pico
    returned = max(0, held - terms.ceiling_pico)
    payable = node.earned_pico - kept + node.repair_pico + returned
    credited = part_down(payable, terms.credit_bps)
    return NodeResult(
        node=terms.node,
        account=terms.account,
        fee_pico=node.fee_pico,
        earned_pico=node.earned_pico,
        repair_pico=node.repair_pico,
        top_up_pico=top_up_pico,
        withheld_pico=kept + top_up_pico,
        returned_pico=returned,
        slashed_pico=node.slashed_pico,
        credited_pico=credited,
        released_pico=payable - credited,
        held_pico=held - returned,
    )


def _accounts(
    previous: EpochTotals, results: Sequence[NodeResult], rewards: Sequence[Reward]
) -> list[AccountTotal]:
    released: defaultdict[bytes, int] = defaultdict(int)
    for account in previous.accounts:
        released[account.account] += account.released_pico
    for one in results:
        released[one.account] += one.released_pico
    for reward in rewards:
        released[reward.account] += reward.amount_pico
    return [AccountTotal(account, released[account]) for account in sorted(released)]


def _held(previous: EpochTotals, results: Sequence[NodeResult]) -> list[NodeTotal]:
    held = {one.node: one for one in previous.nodes}
    for one in results:
        held[one.node] = NodeTotal(one.node, one.account, one.held_pico)
    return [held[node] for node in sorted(held) if held[node].held_pico]


def _six(values: Sequence[int]) -> tuple[int, int, int, int, int, int]:
    one, two, three, four, five, six = values
    return one, two, three, four, five, six


# --- what follows ---------------------------------------------------------------------------------


def leaves(totals: EpochTotals) -> list[Leaf]:
    """Return the leaves of the sum tree after an epoch, sorted by account, in stablecoin units.

    ``released`` is the floor of a cumulative figure. Accounts that never had anything are left out.
    """
    held: defaultdict[bytes, int] = defaultdict(int)
    for node in totals.nodes:
        held[node.account] += node.held_pico
    released = {one.account: one.released_pico for one in totals.accounts}
    found = []
    for account in sorted(released.keys() | held.keys()):
        leaf = Leaf(account, micro_of(released.get(account, 0)), micro_of(held.get(account, 0)))
        if released.get(account, 0) or held.get(account, 0):
            found.append(leaf)
    return found


def _held_of(totals: EpochTotals) -> int:
    return sum(one.held_pico for one in totals.nodes)


def _remainder_of(totals: EpochTotals) -> int:
    return sum(totals.carried) // BPS


def balance(previous: EpochTotals, result: EpochResult) -> None:
    """Raise ``INTERNAL`` unless every pico of an epoch came from somewhere and went somewhere."""
    after = result.totals
    paid = sum(one.charge_pico - one.refund_pico for one in result.customers)
    earned = sum(one.earned_pico for one in result.nodes)
    released = sum(one.released_pico for one in result.nodes)
    credited = sum(one.credited_pico for one in result.nodes)
    rewards = sum(one.amount_pico for one in result.rewards)
    credits = sum(one.credit_pico for one in result.customers)
    checks = (
        ("customers pay what providers and take get", paid, earned + result.take_pico),
        (
            "the take is split, its fractions carried",
            result.take_pico + _remainder_of(previous),
            sum(result.buckets_pico) + _remainder_of(after),
        ),
        (
            "what came in went out or is kept",
            paid
            + result.top_up_pico
            + _held_of(previous)
            + previous.insurance_pico
            + _remainder_of(previous),
            released
            + credited
            + rewards
            + credits
            + _held_of(after)
            + after.insurance_pico
            + _remainder_of(after)
            + sum(result.buckets_pico[1:]),
        ),
        (
            "accounts have what was released",
            sum(one.released_pico for one in after.accounts),
            sum(one.released_pico for one in previous.accounts) + released + rewards,
        ),
    )
    for name, left, right in checks:
        if left != right:
            raise AtollError(
                Kind.INTERNAL, "compute epoch", f"does not balance: {name}: {left} != {right}"
            )
    figures = (figure for one in (*result.nodes, *result.customers) for figure in _figures(one))
    if any(figure < 0 for figure in figures):
        raise AtollError(Kind.INTERNAL, "compute epoch", "a figure is below nothing")


def _figures(one: msgspec.Struct) -> Iterator[int]:
    """Yield the amounts of a result."""
    for name in one.__struct_fields__:
        value = getattr(one, name)
        if isinstance(value, int):
            yield value
