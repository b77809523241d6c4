"""Pure decisions of billing: on which terms nodes are paid, what an epoch is computed from."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

import msgspec

from atoll.coordinator.billing.model import (
    CALM_PARTS,
    HOLD_BACK_HALF_MONTHS,
    PART_BYTES,
    Barter,
    BillingConfig,
    Frozen,
    Made,
    SoFar,
)
from atoll.coordinator.market.rules import tier_of
from atoll.coordinator.metering.service import Metered
from atoll.coordinator.registry.model import NodeView
from atoll.core.money import BPS, GB_BYTES, MONTH_MS
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.document import (
    content_of,
    publish,
    read_index,
    with_pseudonyms,
)
from atoll.economy.settlement.lines import amounts_of, nodes_of
from atoll.economy.settlement.model import (
    REAL_TIME,
    CustomerTerms,
    EpochInputs,
    EpochTotals,
    NodeTerms,
    StorageLine,
    TakeParameters,
)
from atoll.economy.settlement.wire import decode_rows, encode_rows
from atoll.economy.tariff.model import Tariff


def ceiling_pico(view: NodeView, tariff: Tariff) -> int:
    """Return up to how much of a node's pay is held back, pico-euro.

    What all of its capacity earns in four and a half months at the reference: it grows with what
    the node says it can hold, so with what it can lose.
    """
    reference = tariff.of(tier_of(view)).reference_pico
    return view.facts.capacity_bytes * reference * HOLD_BACK_HALF_MONTHS // (2 * GB_BYTES)


def terms_of(
    views: Iterable[NodeView],
    tariff: Tariff,
    hold_back_bps: int,
    barters: Mapping[bytes, Barter],
    left: Collection[int] = (),
) -> list[NodeTerms]:
    """Return on which terms nodes are paid; who names no account is not there.

    ``left``: aliases of nodes that moved all their pieces and left: what was held returns. Who
    says that he is back is held to a bond again.
    """
    return [
        NodeTerms(
            node=view.node_id,
            account=view.facts.payout_account,
            tier=tier_of(view),
            hold_back_bps=hold_back_bps,
            ceiling_pico=(
                0 if view.facts.exiting and view.alias in left else ceiling_pico(view, tariff)
            ),
            credit_bps=barters[view.node_id].share_bps if view.node_id in barters else 0,
        )
        for view in views
        if view.facts.payout_account
    ]


def length_of(config: BillingConfig, running_ms: int) -> int:
    """Return how long the next epoch is, when the process has run for so long."""
    return max(config.length_ms, min(config.length_max_ms, running_ms // CALM_PARTS))


def inputs_of(
    metered: Metered, nodes: list[NodeTerms], reserve_pico: int, time_factor: int
) -> EpochInputs:
    """Return what an epoch is computed from, as far as nobody has a limit.

    Lines of nodes that are not paid are left out: nobody is charged for them either.
    """
    paid = {terms.node for terms in nodes}
    epoch = metered.epoch
    return EpochInputs(
        epoch=epoch.epoch,
        from_ms=epoch.from_ms,
        until_ms=epoch.until_ms,
        nodes=nodes,
        customers=[],
        storage=[line for line in metered.storage if line.node in paid],
        egress=[line for line in metered.egress if line.node in paid],
        repairs=[line for line in metered.repairs if line.worker in paid],
        proofs=[line for line in metered.proofs if line.node in paid],
        slashes=[],
        credits=[],
        reserve_pico=reserve_pico,
        time_factor=time_factor,
    )


def with_limits(
    before: EpochTotals,
    inputs: EpochInputs,
    tariff: Tariff,
    parameters: TakeParameters,
    balances: Mapping[bytes, int],
) -> EpochInputs:
    """Return inputs with a limit for each customer who has less than he would be charged.

    ``balances``: what each has prepaid, pico-euro. Others have none: it would tell who they are.
    """
    free = msgspec.structs.replace(inputs, customers=[])
    # Names make no difference to amounts, but they have another length than true ids.
    renamed, names = with_pseudonyms(free, bytes(32))
    charges: defaultdict[bytes, int] = defaultdict(int)
    for line in amounts_of(renamed, parameters, nodes_of(before, renamed, tariff)):
        charges[names[line.payer]] += line.charge_pico
    limits = [
        CustomerTerms(payer, limit_pico=max(0, balances.get(payer, 0)))
        for payer, charge_pico in sorted(charges.items())
        if charge_pico > balances.get(payer, 0)
    ]
    return msgspec.structs.replace(inputs, customers=limits)


def so_far(
    before: EpochTotals,
    inputs: EpochInputs,
    stored: Iterable[StorageLine],
    tariff: Tariff,
    parameters: TakeParameters,
    balances: Mapping[bytes, int],
) -> SoFar:
    """Return what an epoch would come to if it ended now, by the functions that settle it.

    ``stored``: what lies where now, as ``MeteringService.so_far`` has it. A month of it is paid
    in the proportion in which its customer's charges are covered so far.
    """
    renamed, names = with_pseudonyms(inputs, bytes(32))
    result = compute(before, renamed, tariff, parameters)
    nodes = nodes_of(before, renamed, tariff)
    wanted: defaultdict[bytes, int] = defaultdict(int)
    covered: defaultdict[bytes, int] = defaultdict(int)
    for line in amounts_of(renamed, parameters, nodes):
        wanted[line.payer] += line.fee_pico + line.unfunded_pico
        covered[line.payer] += line.fee_pico
    month = msgspec.structs.replace(
        inputs,
        customers=[],
        storage=[
            msgspec.structs.replace(line, byte_ms=line.byte_ms * MONTH_MS)
            for line in stored
            if line.node in nodes
        ],
        egress=[],
        time_factor=REAL_TIME,
    )
    renamed, names = with_pseudonyms(month, bytes(32))
    months: defaultdict[bytes, int] = defaultdict(int)
    for line in amounts_of(renamed, parameters, nodes):
        earned = line.earned_pico
        if wanted[line.payer]:
            earned = earned * covered[line.payer] // wanted[line.payer]
        elif balances.get(names[line.payer], 0) <= 0:
            earned = 0
        months[line.node] += earned
    return SoFar(
        since_ms=inputs.from_ms,
        until_ms=inputs.until_ms,
        time_factor=inputs.time_factor,
        nodes={
            one.node: one.earned_pico + one.repair_pico + one.top_up_pico for one in result.nodes
        },
        months=dict(months),
        proven_bps={node: BPS * one.proven[0] // one.proven[1] for node, one in nodes.items()},
    )


def make(frozen: Frozen, before: EpochTotals, secret: bytes, coordinator_key: bytes) -> Made:
    """Compute an epoch and write its document. The same arguments give the same bytes.

    Raises ``BAD_REQUEST`` for inputs that cannot be, ``INTERNAL`` where it does not balance.
    """
    inputs, names = with_pseudonyms(frozen.inputs, secret)
    result = compute(before, inputs, frozen.tariff, frozen.parameters)
    content = content_of(before, inputs, frozen.tariff, frozen.parameters, result)
    published = publish(content, coordinator_key, frozen.previous)
    return Made(published, read_index(published.index), result, names)


def pack(row: msgspec.Struct) -> bytes:
    """Return a struct as bytes to keep."""
    return encode_rows([row])


def unpack_frozen(body: bytes) -> Frozen:
    """Read what ``pack`` wrote. Raises ``CORRUPT``."""
    return decode_rows(body, Frozen)[0]


def unpack_totals(body: bytes) -> EpochTotals:
    """Read what ``pack`` wrote. Raises ``CORRUPT``."""
    return decode_rows(body, EpochTotals)[0]


def digest(body: bytes) -> bytes:
    """Return the SHA-256 of what is frozen."""
    return hashlib.sha256(body).digest()


def parts_of(body: bytes) -> list[bytes]:
    """Cut a body for the database."""
    return [body[start : start + PART_BYTES] for start in range(0, len(body), PART_BYTES)]
