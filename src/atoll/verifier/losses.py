"""Judges what lost data costs before it is signed: the evidence must show the loss by itself.

Verdicts for the chain, and the slashes of an epoch whose root is to be signed.

The file is fetched from the coordinator that asks and named by its hash; every verdict in it must
be of verifiers that are known here, so that a coordinator cannot accuse with verifiers of its own
making.
"""

from atoll.core.errors import AtollError, Kind
from atoll.core.ids import show_node
from atoll.core.messages.settlement import AskedStatement
from atoll.core.ports import Address, Compute, PieceTransport
from atoll.core.proofs.loss import FILE_BYTES_MAX, check_loss
from atoll.economy.settlement.document import Content
from atoll.economy.settlement.slashes import LossStated, check_slashes, loss_statement
from atoll.economy.settlement.statement import Court
from atoll.economy.settlement.wire import decode_rows
from atoll.verifier.desk import Desk

PATH = "/v1/slashes"
TIMEOUT_S = 20.0
SHOWN_MAX = 3
"""Problems that are told in one refusal."""


class LossJudge:
    """Says whether a verdict on lost data may be signed (``epochs.Judge``, kind ``VERDICT``)."""

    def __init__(self, transport: PieceTransport, compute: Compute) -> None:
        self._transport = transport
        self._compute = compute

    async def judge(self, desk: Desk, court: Court, asked: AskedStatement) -> None:
        """Raise unless it follows from evidence that holds.

        ``CORRUPT`` where it does not, ``UNAUTHENTICATED`` for verifiers that are not known here,
        ``NOT_FOUND`` and what the way there raises where the evidence cannot be had (yet).
        """
        rows = decode_rows(asked.body, LossStated)
        if len(rows) != 1:
            raise _refusal("its body is no verdict on lost data")
        stated = rows[0]
        made = loss_statement(stated)
        if (made.kind, made.subject, made.epoch, made.stated) != (
            asked.kind,
            asked.subject,
            asked.epoch,
            asked.stated,
        ):
            raise _refusal("what is to be signed is not what is shown")
        await self._check_evidence(desk, stated.node_id, stated.evidence)

    async def check_slashes(self, desk: Desk, content: Content) -> None:
        """Raise unless each slash of a document follows from its lines and from evidence.

        As ``judge``; so nobody signs an epoch in which held pay is taken on somebody's word.
        """
        problems = await self._compute.run(check_slashes, content)
        if problems:
            raise _refusal("; ".join(problems[:SHOWN_MAX]))
        for slash in content.inputs.slashes:
            await self._check_evidence(desk, slash.node, slash.evidence)

    async def _check_evidence(self, desk: Desk, node_id: bytes, evidence: bytes) -> None:
        known = {place.key for place in desk.state.verifiers} if desk.state is not None else set()
        known.add(desk.identity.public_key)
        body = await self._fetch(desk.address, evidence)
        loss = await self._compute.run(check_loss, body, known - desk.liars)
        if loss.evidence != evidence or loss.node_id != node_id:
            raise _refusal(f"its evidence is not about {show_node(node_id)}")
        if loss.coordinator_key != desk.key:
            raise _refusal("its evidence is another coordinator's")

    async def _fetch(self, address: Address, evidence: bytes) -> bytes:
        path = f"{PATH}/{evidence.hex()}"
        reply = await self._transport.call(address, "GET", path, {}, b"", TIMEOUT_S)
        if reply.status != 200 or len(reply.body) > FILE_BYTES_MAX:
            raise AtollError(
                Kind.NOT_FOUND,
                "fetch evidence",
                f"nothing is at {path} there",
                hint="the coordinator that asks for a verdict has to show what it rests on",
            )
        return bytes(reply.body)


def _refusal(message: str) -> AtollError:
    return AtollError(Kind.CORRUPT, "sign verdict", message)
