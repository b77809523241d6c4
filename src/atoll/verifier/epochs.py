"""Signs epochs with the verifier's key of the chain, after it has computed them again itself.

A verifier signs a root only if the document behind it is complete, follows the one before, comes
out to the last figure, and does not contradict what the verifier judged itself. What it states is
durable before it is signed, and it never states two things about one: whoever asks for that is
refused. Nobody is believed, the coordinator least.

Statements of other kinds are judged by whoever registers a ``Judge`` for them.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, RequestProof, prove_request
from atoll.core.messages import Failure, Message, decode, encode
from atoll.core.messages.settlement import (
    AskedStatement,
    GetStatements,
    PostSignature,
    SignatureTaken,
    StatementList,
)
from atoll.core.ports import Clock, Compute, Disk, PieceTransport
from atoll.economy.chain.model import EMBEDDED_CHAIN_ID
from atoll.economy.chain.signer import Signer
from atoll.economy.settlement.document import NO_DOCUMENT, Content, Document, Index, read_index
from atoll.economy.settlement.model import REAL_TIME
from atoll.economy.settlement.recompute import recompute
from atoll.economy.settlement.slots import slots_of
from atoll.economy.settlement.source import DoorSource, find_document, find_index, whole
from atoll.economy.settlement.statement import (
    Court,
    RootStated,
    Statement,
    StatementKind,
    root_statement,
    statement_digest,
)
from atoll.economy.settlement.wire import decode_rows
from atoll.verifier.desk import Desk
from atoll.verifier.epochs_record import Checked, EpochRecord, Pinned, Stated
from atoll.verifier.epochs_rules import OwnVerdict, objections

ROLE: Final = "verifier"
"""Role of the key that statements are signed with (``Signer.derived``)."""
ASK_PATH: Final = "/v1/node/ask"
ASK_TIMEOUT_S: Final = 20.0
WALK_MAX: Final = 100_000
"""Epochs that are computed again before the first signature of a verifier that came late."""
REFUSED_MAX: Final = 1_000
"""Refusals that are remembered, so that the same is not computed again and again."""
PAUSE_MS_MIN, PAUSE_MS_MAX = 200, 60_000
RETRY_MS: Final = 1_000
SHOWN_MAX: Final = 3
"""Differences that are told in a log line."""
_LOG = logging.getLogger(__name__)
_FINAL_REFUSALS: Final = frozenset(
    {Kind.CORRUPT, Kind.CONFLICT, Kind.BAD_REQUEST, Kind.NEWER_FORMAT, Kind.TOO_LARGE}
)
"""What is wrong with a statement itself: it is not looked at again."""

Answer = TypeVar("Answer", bound=Message)
Judge = Callable[[Desk, Court, AskedStatement], Awaitable[None]]
"""Raises ``AtollError`` unless a statement may be signed. It is held against ``stated`` itself:
what it checks must be what ``kind``, ``subject``, ``epoch`` and ``stated`` are made of."""
CheckSlashes = Callable[[Desk, Content], Awaitable[None]]
"""Raises ``AtollError`` unless every slash of a document follows from evidence that holds."""
OwnVerdicts = Callable[[bytes, int, int], Mapping[bytes, Sequence[OwnVerdict]]]
"""Returns own verdicts by node id: of a coordinator's key, from a slot up to another."""


class EpochSigner:
    """Asks coordinators what there is to sign, judges it, signs it."""

    def __init__(
        self,
        clock: Clock,
        disk: Disk,
        compute: Compute,
        transport: PieceTransport,
        identity: Identity,
        signer: Signer,
        own: OwnVerdicts,
    ) -> None:
        """Touch nothing yet. ``identity`` signs requests, ``signer`` statements."""
        self._clock = clock
        self._compute = compute
        self._transport = transport
        self._identity = identity
        self._signer = signer
        self._own = own
        self.record = EpochRecord(disk)
        self.judges: dict[int, Judge] = {int(StatementKind.ROOT): self._judge_root}
        """By kind of statement. Kinds without a judge are not signed."""
        self.check_slashes: CheckSlashes | None = None
        """Looks at the slashes of a document; without it a document that has some is not signed."""
        self._refused: OrderedDict[tuple[int, bytes, int, bytes], str] = OrderedDict()
        self._next_ms: dict[bytes, int] = {}
        self._last: Document | None = None
        """The document that was checked last."""
        self.signed = 0
        """Signatures since the start."""

    @property
    def account(self) -> bytes:
        """The account of the chain that signs."""
        return self._signer.address

    @property
    def refusals(self) -> list[str]:
        """Why statements were refused, the newest last."""
        return list(self._refused.values())

    async def open(self) -> None:
        """Read what was stated before. Raises ``CORRUPT``."""
        await self._compute.run(self.record.open)

    def close(self) -> None:
        """Close the record."""
        self.record.close()

    async def step(self, desk: Desk) -> int:
        """Ask one coordinator and sign what may be signed; return how many signatures that was."""
        now_ms = self._clock.now_ms()
        if not desk.key or now_ms < self._next_ms.get(desk.key, 0):
            return 0
        self._next_ms[desk.key] = now_ms + PAUSE_MS_MAX
        try:
            found = await self._ask(desk, GetStatements(account=self.account), StatementList)
        except AtollError:
            self._next_ms[desk.key] = now_ms + RETRY_MS
            raise
        pause_ms = min(max(found.pause_ms, PAUSE_MS_MIN), PAUSE_MS_MAX)
        count = 0
        try:
            if found.court and found.standing:
                count = await self._sign_all(desk, found)
        finally:
            self._next_ms[desk.key] = self._clock.now_ms() + pause_ms
        return count

    async def _sign_all(self, desk: Desk, found: StatementList) -> int:
        court = Court(found.chain_id, found.court, found.distributor)
        pin = Pinned(desk.key, court.chain_id, court.address, court.distributor)
        await self._compute.run(self.record.add, pin)
        count = 0
        waits: AtollError | None = None
        for asked in found.statements:
            name = (asked.kind, asked.subject, asked.epoch, asked.stated)
            if name in self._refused:
                continue
            try:
                signature = await self.sign(desk, court, asked)
            except AtollError as error:
                if error.kind not in _FINAL_REFUSALS:
                    # It may be signed later; what else is asked for does not wait for it.
                    waits = waits or error
                    continue
                _LOG.error("epoch %d is not signed: %s", asked.epoch, error)
                self._refused[name] = str(error)
                while len(self._refused) > REFUSED_MAX:
                    self._refused.popitem(last=False)
                continue
            count += await self._post(desk, asked, signature)
        if waits is not None:
            _LOG.info("signing for %s: %s", desk.address, waits)
        return count

    async def sign(self, desk: Desk, court: Court, asked: AskedStatement) -> bytes:
        """Judge a statement, keep that it is stated, and return its signature (r, s, v).

        Raises what the judge raises, ``CONFLICT`` where something else was stated about the same.
        """
        judge = self.judges.get(asked.kind)
        if judge is None:
            raise _refusal(Kind.BAD_REQUEST, f"statements of kind {asked.kind} are not known here")
        statement = Statement(asked.kind, asked.subject, asked.epoch, asked.stated)
        statement.check()
        await judge(desk, court, asked)
        stated = Stated(
            court.chain_id, court.address, asked.kind, asked.subject, asked.epoch, asked.stated
        )
        await self._compute.run(self.record.add, stated)
        return self._signer.sign_digest(statement_digest(court, statement))

    async def _post(self, desk: Desk, asked: AskedStatement, signature: bytes) -> bool:
        post = PostSignature(
            kind=asked.kind,
            subject=asked.subject,
            epoch=asked.epoch,
            stated=asked.stated,
            signature=signature,
        )
        try:
            taken = await self._ask(desk, post, SignatureTaken)
        except AtollError as error:
            if error.kind not in (Kind.NOT_FOUND, Kind.FORBIDDEN):
                raise
            # Another attempt is due by now, or the court has forgotten us: it is asked anew.
            _LOG.info("a signature of epoch %d came too late: %s", asked.epoch, error)
            return False
        self.signed += 1
        _LOG.info("signed epoch %d: %d of %d", asked.epoch, taken.signatures, taken.quorum)
        return True

    # --- roots ----------------------------------------------------------------------------------

    async def _judge_root(self, desk: Desk, court: Court, asked: AskedStatement) -> None:
        """Compute an epoch again, and all that lead to it; see that it is what is to be signed."""
        rows = decode_rows(asked.body, RootStated)
        if len(rows) != 1:
            raise _refusal(Kind.CORRUPT, "its body is no root of an epoch")
        root = rows[0]
        made = root_statement(court, root)
        if (made.kind, made.subject, made.epoch, made.stated) != (
            asked.kind,
            asked.subject,
            asked.epoch,
            asked.stated,
        ):
            raise _refusal(Kind.CORRUPT, "what is to be signed is not what is shown")
        index = await self._check(desk, court.chain_id, root.epoch, root.content)
        if index.root != root.root:
            raise _refusal(Kind.CORRUPT, "the document has another root")

    async def _check(self, desk: Desk, chain_id: int, epoch: int, content: bytes) -> Index:
        """Check a document and all before it that were not; return its index."""
        source = [DoorSource(self._transport, desk.address)]
        known = self.record.checked(desk.key, epoch)
        if known is not None:
            if known.content != content:
                raise _refusal(Kind.CONFLICT, f"epoch {epoch} had another document before")
            return read_index(await find_index(source, epoch, content), content)
        last = self.record.last_checked(desk.key)
        way = await self._way_to(source, epoch, content, last)
        document = await self._reload(source, last) if last else None
        for number, name in way:
            previous, document = document, await self._read(source, number, name)
            await self._check_one(desk, chain_id, document, previous)
            self._last = document
        assert document is not None, "a way has an end"
        return document.index

    async def _way_to(
        self, source: Sequence[DoorSource], epoch: int, content: bytes, last: Checked | None
    ) -> list[tuple[int, bytes]]:
        """Return number and content hash of each document from the last checked one to this one."""
        begin, begin_content = (last.epoch, last.content) if last else (0, NO_DOCUMENT)
        if epoch - begin > WALK_MAX:
            raise _refusal(Kind.TOO_LARGE, f"{epoch - begin} epochs were never checked here")
        way: list[tuple[int, bytes]] = []
        for number in range(epoch, begin, -1):
            index = read_index(await find_index(source, number, content), content)
            if index.epoch != number:
                raise _refusal(Kind.CORRUPT, f"the document of epoch {number} is another epoch's")
            way.append((number, content))
            content = index.previous
        if content != begin_content:
            raise _refusal(Kind.CONFLICT, f"it does not follow epoch {begin} as it was checked")
        return way[::-1]

    async def _reload(self, source: Sequence[DoorSource], last: Checked) -> Document:
        """Return the document that was checked last, from memory if it is there."""
        if self._last is None or self._last.content_hash != last.content:
            self._last = await self._read(source, last.epoch, last.content)
        return self._last

    async def _read(self, source: Sequence[DoorSource], epoch: int, content: bytes) -> Document:
        """Return a document from whoever has it; a large one takes a second to read."""
        return await self._compute.run(whole, await find_document(source, epoch, content))

    async def _check_one(
        self, desk: Desk, chain_id: int, document: Document, previous: Document | None
    ) -> None:
        """Compute one document again; keep that it was right. Raises ``CORRUPT``."""
        index = document.index
        if index.coordinator_key != desk.key:
            raise _refusal(Kind.CORRUPT, "the document is another coordinator's")
        if document.content.inputs.time_factor != REAL_TIME and chain_id != EMBEDDED_CHAIN_ID:
            raise _refusal(Kind.CORRUPT, f"epoch {index.epoch} charges time that did not pass")
        differences = await self._compute.run(recompute, document, previous)
        if differences:
            told = "; ".join(str(one) for one in differences[:SHOWN_MAX])
            raise _refusal(Kind.CORRUPT, f"epoch {index.epoch} does not come out: {told}")
        before = self.record.checked(desk.key, index.epoch - 1)
        ended = before.slots_end if before else None
        first, end = slots_of(index.from_ms, index.until_ms, desk.slot_ms, ended)
        own = self._own(desk.key, first, end)
        found = objections(document.content.inputs.proofs, own)
        if found:
            told = "; ".join(found[:SHOWN_MAX])
            raise _refusal(Kind.CORRUPT, f"epoch {index.epoch} contradicts what we saw: {told}")
        if document.content.inputs.slashes:
            if self.check_slashes is None:
                raise _refusal(Kind.BAD_REQUEST, "slashes are not judged here")
            await self.check_slashes(desk, document.content)
        checked = Checked(desk.key, index.epoch, document.content_hash, end)
        await self._compute.run(self.record.add, checked)
        _LOG.info("epoch %d comes out as published", index.epoch)

    # --- asking ---------------------------------------------------------------------------------

    async def _ask(self, desk: Desk, question: Message, answer: type[Answer]) -> Answer:
        body = encode(question)
        proof = prove_request(self._identity, "POST", ASK_PATH, body, self._clock.now_ms())
        reply = await self._transport.call(
            desk.address,
            "POST",
            ASK_PATH,
            {RequestProof.HEADER: proof.to_header(), "content-type": "application/msgpack"},
            body,
            ASK_TIMEOUT_S,
        )
        if reply.status >= 300:
            failure: Failure = decode(reply.body, Failure)
            raise failure.to_error()
        found: Answer = decode(reply.body, answer)
        return found


def _refusal(kind: Kind, message: str) -> AtollError:
    return AtollError(kind, "sign statement", message)
