"""Pure decisions of slashing: what shows a loss, what an epoch takes for it."""

from collections.abc import Mapping, Sequence

import msgspec

from atoll.coordinator.audit.model import Result
from atoll.coordinator.slashing.model import Case
from atoll.core.errors import AtollError
from atoll.core.proofs.loss import LossEvidence, LossSlot, choose_run, write_loss
from atoll.core.proofs.signed import Signed, decode_statement
from atoll.core.proofs.verdicts import SignedVerdict, Verdict, read_verdict
from atoll.economy.settlement.document import with_pseudonyms
from atoll.economy.settlement.model import (
    Damage,
    EpochInputs,
    EpochTotals,
    NodeResult,
    Slash,
    TakeParameters,
)
from atoll.economy.settlement.slashes import lost_data_slash
from atoll.economy.tariff.model import Tariff


def run_of(results: Sequence[Result]) -> list[tuple[Verdict, SignedVerdict]]:
    """Return the run of verdicts that shows a loss, ascending; empty where none does.

    ``results``: of one node, in any order; slots without a verdict are passed over.
    """
    found: dict[int, tuple[Verdict, SignedVerdict]] = {}
    for result in results:
        if not result.verdict:
            continue
        try:
            signed = decode_statement(result.verdict, SignedVerdict)
            verdict = read_verdict(signed.body)
        except AtollError:
            continue
        found[verdict.slot] = (verdict, signed)
    ordered = [found[slot] for slot in sorted(found)]
    run = choose_run([verdict for verdict, _ in ordered])
    return ordered[run[0] : run[1]] if run is not None else []


def loss_file(
    run: Sequence[tuple[Verdict, SignedVerdict]], beacons: Mapping[int, Signed]
) -> bytes | None:
    """Return the file that shows a loss; None where a beacon is not kept any more."""
    if not run or any(verdict.slot not in beacons for verdict, _ in run):
        return None
    first = run[0][0]
    slots = [LossSlot(beacons[verdict.slot], signed) for verdict, signed in run]
    return write_loss(LossEvidence(first.node_key, first.coordinator_key, slots))


def slashes_of(
    cases: Sequence[Case],
    before: EpochTotals,
    inputs: EpochInputs,
    tariff: Tariff,
    parameters: TakeParameters,
) -> list[Slash]:
    """Return the slashes of an epoch, by node. Payers: customers' true ids, as in ``inputs``.

    Cases of nodes that are not paid in the epoch wait: nothing is held of them.
    """
    paid = {terms.node for terms in inputs.nodes}
    due = sorted((case for case in cases if case.node_id in paid), key=lambda case: case.node_id)
    if not due:
        return []
    # Names make no difference to amounts, but they have another length than true ids.
    renamed, names = with_pseudonyms(msgspec.structs.replace(inputs, slashes=[]), bytes(32))
    found = []
    for case in due:
        slash = lost_data_slash(
            case.node_id, case.evidence, case.reporter, before, renamed, tariff, parameters
        )
        damages = [Damage(names[one.payer], one.amount_pico) for one in slash.customers]
        found.append(msgspec.structs.replace(slash, customers=damages))
    return found


def taken_of(slashes: Sequence[Slash], results: Sequence[NodeResult]) -> list[tuple[bytes, int]]:
    """Return evidence and what an epoch took, for each of its slashes."""
    slashed = {one.node: one.slashed_pico for one in results}
    return [(slash.evidence, slashed.get(slash.node, 0)) for slash in slashes]
