"""What became of payouts: reads pain.002, and adds up what the bank said in whatever order."""

from collections.abc import Iterable, Mapping

from lxml import etree

from atoll.core.errors import AtollError, Kind
from atoll.economy.payments import xml
from atoll.economy.payments.payouts.model import PayoutFile, Progress, State, Word
from atoll.economy.payments.payouts.order import batch_id_of, end_to_end_of, message_id_of
from atoll.economy.payments.statements.model import Judged, Verdict

OPERATION = "read a payment status report"

_STATES = {
    "RJCT": State.REJECTED,
    "CANC": State.REJECTED,
    "ACTC": State.ACCEPTED,
    "ACCP": State.ACCEPTED,
    "ACSP": State.ACCEPTED,
    "ACWC": State.ACCEPTED,
    "ACSC": State.ACCEPTED,
    "ACCC": State.ACCEPTED,
    "ACWP": State.ACCEPTED,
    "ACFC": State.ACCEPTED,
}
"""Of ISO 20022's codes. "Settled" is no debit yet: that is the statement's to say. Others
(``PDNG``, ``RCVD``, ``PART``) say nothing new."""

_RANK = {
    State.SENT: 0,
    State.ACCEPTED: 1,
    State.REJECTED: 2,
    State.PAID: 3,
    State.RETURNED: 4,
}
"""A later word wins by its weight, not by when it comes: statements weigh more than reports."""


def read_report(data: bytes, orders: Iterable[PayoutFile]) -> tuple[Word, ...]:
    """Read a pain.002 about our orders: what it says of each payout, the narrowest word first.

    A status of a payment goes before one of its batch, and that before one of its message. What
    it says of payments that are not ours is left out. Raises ``BAD_REQUEST``, ``TOO_LARGE``, and
    ``NOT_FOUND`` for a report about none of the orders.
    """
    root = xml.read(data, OPERATION)
    report = xml.all_at(root, "CstmrPmtStsRpt")
    if not xml.message_of(root).startswith("pain.002.") or len(report) != 1:
        raise AtollError(
            Kind.BAD_REQUEST,
            OPERATION,
            "this is no pain.002",
            hint="ask the bank for payment status reports as pain.002 (ISO 20022 XML)",
        )
    message = xml.text_at(report[0], "OrgnlGrpInfAndSts/OrgnlMsgId")
    order = next((one for one in orders if message_id_of(one) == message), None)
    if order is None:
        raise AtollError(
            Kind.NOT_FOUND, OPERATION, "it is about no payout file of ours", about=message[:40]
        )
    payouts = {end_to_end_of(one.payout): one.payout for one in order.payouts}
    found: dict[bytes, Word] = {}
    batches = xml.all_at(report[0], "OrgnlPmtInfAndSts")
    for source in (*batches, report[0]):
        for payment in xml.children(source, "TxInfAndSts"):
            payout = payouts.get(xml.text_at(payment, "OrgnlEndToEndId"))
            state = _STATES.get(xml.text_at(payment, "TxSts"))
            if payout is not None and state is not None:
                # A payment with two words: the graver one counts.
                word = Word(payout, state, _reason(payment))
                if payout not in found or _RANK[found[payout].state] < _RANK[state]:
                    found[payout] = word
    for source, path in (
        *((one, "PmtInfSts") for one in batches),
        *((one, "GrpSts") for one in xml.all_at(report[0], "OrgnlGrpInfAndSts")),
    ):
        state = _STATES.get(xml.text_at(source, path))
        ours = path == "GrpSts" or xml.text_at(source, "OrgnlPmtInfId") == batch_id_of(order)
        if state is not None and ours:
            for payout in payouts.values():
                found.setdefault(payout, Word(payout, state, _reason(source)))
    return tuple(found[one.payout] for one in order.payouts if one.payout in found)


def _reason(element: etree._Element) -> str:
    code = xml.text_at(element, "StsRsnInf/Rsn/Cd", "StsRsnInf/Rsn/Prtry")
    more = " ".join(xml.texts_at(element, "StsRsnInf/AddtlInf"))
    return f"{code} {more}".strip()[:200]


def words_of(judged: Iterable[Judged]) -> tuple[Word, ...]:
    """Return what a judged statement says of payouts."""
    words = []
    for one in judged:
        if one.verdict is Verdict.PAID:
            words += [Word(payout, State.PAID, "", one.movement.key) for payout in one.payouts]
        elif one.verdict is Verdict.RETURNED:
            words += [
                Word(payout, State.RETURNED, one.note, one.movement.key) for payout in one.payouts
            ]
    return tuple(words)


def _weight(said: tuple[State, str]) -> tuple[int, str]:
    return _RANK[said[0]], said[1]


def heard(before: Progress, word: Word) -> Progress:
    """Return a payout's progress after one more word of the bank: the same in any order.

    What was rejected and left the account all the same, or left it twice, is for a person.
    """
    conflicts = {before.conflict} if before.conflict else set()
    states = {before.state, word.state}
    if State.REJECTED in states and states & {State.PAID, State.RETURNED}:
        conflicts.add("the bank rejected it and paid it")
    paid, returned = before.paid_by, before.returned_by
    if word.state is State.PAID:
        if paid and paid != word.evidence:
            conflicts.add("it left the account twice")
        paid = min(paid or word.evidence, word.evidence)
    elif word.state is State.RETURNED:
        if returned and returned != word.evidence:
            conflicts.add("it came back twice")
        returned = min(returned or word.evidence, word.evidence)
    state, reason = max((before.state, before.reason), (word.state, word.reason), key=_weight)
    conflict = "; ".join(sorted({part for one in conflicts for part in one.split("; ")}))
    return Progress(state, reason, conflict, paid, returned)


def reconcile(before: Mapping[bytes, Progress], words: Iterable[Word]) -> dict[bytes, Progress]:
    """Return the progress of every payout after all words; words of others are left out."""
    after = dict(before)
    for word in words:
        if word.payout in after:
            after[word.payout] = heard(after[word.payout], word)
    return after
