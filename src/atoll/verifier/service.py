"""A verifier as it runs: takes proofs, judges them, says it durably, and tells everybody.

A verdict is on the disk before anybody hears it, so that a verifier that was killed never says two
different things. Fellow verifiers and the coordinator are told; whoever is away is told later.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, RequestProof, prove_request
from atoll.core.ids import node_id_of, show_node
from atoll.core.messages import Failure, decode, encode
from atoll.core.messages.proofs import VERDICTS_MAX, VerifierPlace, VerifierState, VerifierSync
from atoll.core.ports import Address, Clock, Compute, Disk, PieceTransport
from atoll.core.proofs.evidence import Evidence, Lie, make_evidence
from atoll.core.proofs.heads import check_head
from atoll.core.proofs.samples import SlotProof
from atoll.core.proofs.signed import Signed, decode_statement, encode_statement
from atoll.core.proofs.verdicts import (
    Judged,
    SignedVerdict,
    VerdictSignature,
    judge_proof,
    read_verdict,
    sign_verdict,
)
from atoll.economy.chain.signer import Signer
from atoll.economy.settlement.statement import StatementKind
from atoll.verifier.config import VerifierConfig
from atoll.verifier.desk import MEMORY_FILE, Desk
from atoll.verifier.epochs import EpochSigner
from atoll.verifier.losses import LossJudge
from atoll.verifier.record import Record, Said

_LOG = logging.getLogger(__name__)
ASK_PATH = "/v1/node/ask"
VERDICTS_PATH = "/v1/verdicts"
EVIDENCE_PATH = "/v1/evidence"
WRITE_WINDOW_S = 0.1
"""Verdicts of so long are written and synced together."""
TELL_S = 0.25
QUEUE_MAX = 4_096
SAMPLES_INLINE_MAX = 64
"""Proofs of more samples are judged in a thread."""
JUDGED_AT_ONCE_MAX = 4
PROOF_FETCH_BYTES_MAX = 16 << 20
RETRY_MS = 1_000
REFUSED_MS = 30_000
"""A coordinator that is not what it was at first is asked again after so long."""
EVIDENCE_AT_ONCE = 2
EVIDENCE_BYTES_MAX = 400_000
"""Longer evidence (a false verdict on many samples) is shown to who asks, not sent."""
FETCH_TIMEOUT_S = 10.0


Step = Callable[[], Awaitable[None]]


class VerifierMemory(msgspec.Struct, frozen=True):
    """What coordinators said at first: anything else is refused later."""

    coordinators: dict[str, bytes] = {}
    """Keys by address."""
    slots_ms: dict[bytes, int] = {}
    """Lengths of a slot by key."""


class VerifierService:
    """Runs a verifier. ``start`` reads what was said before; ``stop`` ends in order."""

    def __init__(
        self,
        clock: Clock,
        disk: Disk,
        compute: Compute,
        transport: PieceTransport,
        identity: Identity,
        config: VerifierConfig,
        signer: Signer | None = None,
    ) -> None:
        """Touch nothing yet. ``signer``: its key of the chain; without one no epoch is signed."""
        self._clock = clock
        self._disk = disk
        self._compute = compute
        self._transport = transport
        self.identity = identity
        self.config = config
        self.desks = [Desk(address, identity) for address in config.coordinators]
        self.record = Record(disk, config.keep_bytes)
        self.epochs: EpochSigner | None = None
        if signer is not None:
            self.epochs = EpochSigner(
                clock, disk, compute, transport, identity, signer, self.record.own
            )
            losses = LossJudge(transport, compute)
            self.epochs.judges[int(StatementKind.VERDICT)] = losses.judge
            self.epochs.check_slashes = losses.check_slashes
        self._memory = VerifierMemory()
        self._remembering = asyncio.Lock()
        self._queue: asyncio.Queue[tuple[int, Said, asyncio.Future[None]]] = asyncio.Queue(
            QUEUE_MAX
        )
        self._judging = asyncio.Semaphore(JUDGED_AT_ONCE_MAX)
        self._outbox: list[tuple[Desk, bytes]] = []
        """Own verdicts that fellow verifiers were not told yet."""
        self._busy: set[tuple[int, bytes]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.proofs = 0
        """Proofs judged since the start."""
        self.failed = 0
        """Of these, proofs with failed samples."""

    async def start(self) -> None:
        """Read memory and record; then ask coordinators."""
        self._memory = await self._compute.run(_read_memory, self._disk)
        await self._compute.run(self.record.open)
        if self.epochs is not None:
            await self.epochs.open()
        for desk in self.desks:
            desk.key = self._memory.coordinators.get(str(desk.address), b"")
        self._tasks = [
            asyncio.create_task(self._repeat("write verdicts", self._write, 0.0)),
            asyncio.create_task(self._repeat("tell verdicts", self._tell, TELL_S)),
            *(
                asyncio.create_task(self._repeat("ask coordinator", self._sync_with(d), TELL_S))
                for d in self.desks
            ),
        ]
        if self.epochs is not None:
            self._tasks.append(asyncio.create_task(self._repeat("sign", self._sign, TELL_S)))

    async def stop(self) -> None:
        """Say nothing more; close the record."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.record.close()
        if self.epochs is not None:
            self.epochs.close()

    async def _repeat(self, name: str, run: Step, pause_s: float) -> None:
        while True:
            try:
                await run()
            except AtollError as error:
                _LOG.warning("%s: %s", name, error)
                await self._clock.sleep(TELL_S)
            except Exception:  # noqa: BLE001 - see below
                # One step's bug must not end the verifier.
                _LOG.exception("%s failed", name)
                await self._clock.sleep(TELL_S)
            await self._clock.sleep(pause_s)

    # --- proofs -----------------------------------------------------------------------------

    async def take(self, body: bytes) -> Signed:
        """Judge a proof; return our verdict, which is durable by then.

        The same proof again gets the same answer. Raises ``CORRUPT``, ``UNAUTHENTICATED``,
        ``EXPIRED``, ``FORBIDDEN`` (others were drawn), ``OVERLOADED``, ``DISK_FULL``.
        """
        proof = decode_statement(body, SlotProof)
        desk, node_key = self._admit(proof)
        known = self._said_before(proof.slot, node_key, body)
        if known is not None:
            return known
        key = (proof.slot, node_key)
        if key in self._busy or self._queue.full():
            raise AtollError(Kind.OVERLOADED, "take proof", "it is being judged already")
        self._busy.add(key)
        try:
            async with self._judging:
                if len(proof.samples) > SAMPLES_INLINE_MAX:
                    judged = await self._compute.run(judge_proof, proof, desk.key)
                else:
                    judged = judge_proof(proof, desk.key)
            return await self._say(desk, judged, body)
        finally:
            self._busy.discard(key)

    def _admit(self, proof: SlotProof) -> tuple[Desk, bytes]:
        """Find whose proof it is, before anything costs much."""
        # Cheap questions first: strangers may send us anything.
        head = check_head(proof.head).head
        for desk in self.desks:
            if desk.key and desk.key == head.coordinator_key:
                beacon = desk.take_beacon(proof.beacon)
                desk.may_judge(node_id_of(head.node_key), beacon, self._clock.now_ms())
                return desk, head.node_key
        raise AtollError(Kind.FORBIDDEN, "take proof", "we do not verify for this coordinator")

    def _said_before(self, slot: int, node_key: bytes, body: bytes) -> Signed | None:
        said = self.record.get(slot, node_key)
        if said is None:
            return None
        if said.proof != body:
            self._two_proofs(said.proof, body)
        return said.verdict

    def _two_proofs(self, first: bytes, second: bytes) -> None:
        one, two = decode_statement(first, SlotProof), decode_statement(second, SlotProof)
        with contextlib.suppress(AtollError):
            evidence = make_evidence(Lie.PROOF, one, two)
            for desk in self.desks:
                desk.note(evidence)

    async def _say(self, desk: Desk, judged: Judged, body: bytes) -> Signed:
        verdict = sign_verdict(self.identity, judged.verdict)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        said = Said(judged.verdict.node_key, verdict, body)
        await self._queue.put((judged.verdict.slot, said, written))
        await written
        self.proofs += 1
        if judged.verdict.failed:
            self.failed += 1
            _LOG.warning(
                "%s failed %d of %d samples in slot %d",
                show_node(judged.verdict.node_id),
                len(judged.verdict.failed),
                judged.verdict.samples,
                judged.verdict.slot,
            )
        desk.own(judged, verdict)
        desk.compare(judged)
        signature = VerdictSignature(verdict.key, verdict.signature)
        self._outbox.append((desk, encode_statement(SignedVerdict(verdict.body, [signature]))))
        return verdict

    async def _write(self) -> None:
        """Write what waits, together; then those who wait may speak."""
        waiting = [await self._queue.get()]
        await self._clock.sleep(WRITE_WINDOW_S)
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
        slots: dict[int, list[Said]] = {}
        for slot, said, _ in waiting:
            slots.setdefault(slot, []).append(said)
        try:
            for slot, all_said in sorted(slots.items()):
                await self._compute.run(self.record.add, slot, all_said)
            await self._compute.run(self.record.forget)
        except BaseException as cause:
            for _, _, written in waiting:
                if not written.done():
                    written.set_exception(
                        cause
                        if isinstance(cause, AtollError)
                        else AtollError(Kind.INTERNAL, "write verdict", str(cause))
                    )
            raise
        for _, _, written in waiting:
            if not written.done():
                written.set_result(None)

    # --- fellow verifiers -------------------------------------------------------------------

    async def hear(self, bodies: Sequence[bytes]) -> None:
        """Take verdicts of fellow verifiers. What is none is passed over."""
        for body in bodies[:VERDICTS_MAX]:
            try:
                signed = decode_statement(body, SignedVerdict)
                verdict = read_verdict(signed.body)
                for desk in self.desks:
                    if desk.key == verdict.coordinator_key:
                        desk.hear(signed)
                        await self._look_again(desk, signed)
            except AtollError as error:
                _LOG.info("verdict of a fellow verifier: %s", error)

    async def _look_again(self, desk: Desk, signed: SignedVerdict) -> None:
        """Compare another's verdict with the proof that we have ourselves."""
        verdict = read_verdict(signed.body)
        said = self.record.get(verdict.slot, verdict.node_key)
        if said is None or said.verdict.body == signed.body:
            return
        judged = judge_proof(decode_statement(said.proof, SlotProof), desk.key)
        if judged.verdict.proof == verdict.proof:
            desk.compare(judged)
            return
        # The node showed another proof there: fetch it, two are evidence.
        for one in signed.signatures:
            place = next((p for p in desk.fellows() if p.key == one.key), None)
            if place is not None:
                body = await self._fetch(place, verdict.node_key, verdict.slot)
                if body:
                    self._two_proofs(said.proof, body)
                return

    async def _fetch(self, place: VerifierPlace, node_key: bytes, slot: int) -> bytes:
        path = f"/v1/proofs/{node_id_of(node_key).hex()}/{slot}"
        try:
            reply = await self._transport.call(
                _address(place), "GET", path, {}, b"", FETCH_TIMEOUT_S
            )
            if reply.status != 200 or len(reply.body) > PROOF_FETCH_BYTES_MAX:
                return b""
            return msgspec.msgpack.decode(reply.body, type=Said).proof
        except (AtollError, msgspec.MsgspecError):
            return b""

    def accuse(self, bodies: Sequence[bytes]) -> None:
        """Take evidence from anybody. What proves nothing is passed over."""
        for body in bodies[:VERDICTS_MAX]:
            try:
                evidence = decode_statement(body, Evidence)
                for desk in self.desks:
                    desk.note(evidence)
            except AtollError as error:
                _LOG.info("evidence: %s", error)

    async def _tell(self) -> None:
        """Tell fellow verifiers our verdicts, and the evidence that is new."""
        outbox, self._outbox = self._outbox, []
        by_desk: dict[int, list[bytes]] = {}
        for desk, body in outbox:
            by_desk.setdefault(self.desks.index(desk), []).append(body)
        calls = []
        for number, bodies in by_desk.items():
            message = msgspec.msgpack.encode(bodies)
            calls += [
                self._call(place, VERDICTS_PATH, message) for place in self.desks[number].fellows()
            ]
        await asyncio.gather(*calls)

    async def _call(self, place: VerifierPlace, path: str, body: bytes) -> None:
        headers = {"content-type": "application/msgpack"}
        try:
            await self._transport.call(
                _address(place), "POST", path, headers, body, self.config.ask_timeout_s
            )
        except AtollError as error:
            # It hears of it from the coordinator, or not at all: two thirds are enough.
            _LOG.debug("verifier %s: %s", place.key.hex()[:16], error)

    async def _sign(self) -> None:
        """Sign what coordinators ask for and what is right, each by itself."""
        assert self.epochs is not None
        for desk in self.desks:
            try:
                await self.epochs.step(desk)
            except AtollError as error:
                _LOG.info("signing for %s: %s", desk.address, error)

    # --- coordinators -----------------------------------------------------------------------

    def _sync_with(self, desk: Desk) -> Step:
        async def sync() -> None:
            now_ms = self._clock.now_ms()
            untold = desk.untold_verdicts(1)
            if now_ms < desk.rest_ms:
                return
            if now_ms < desk.next_ms and not untold and not desk.untold:
                return
            desk.next_ms = now_ms + RETRY_MS
            await self._sync(desk)

        return sync

    async def _sync(self, desk: Desk) -> None:
        verdicts = desk.untold_verdicts(VERDICTS_MAX)[:VERDICTS_MAX]
        evidence = [
            one for one in desk.untold[:EVIDENCE_AT_ONCE] if len(one.second) <= EVIDENCE_BYTES_MAX
        ]
        reveal = desk.reveal_due(self._clock.now_ms())
        chain = None
        if desk.state is not None:
            chain = desk.ready_chain(desk.slot_at(self._clock.now_ms()))
        question = VerifierSync(
            time_ms=self._clock.now_ms(),
            host=self.config.host,
            port=self.config.port,
            fingerprint=self.config.fingerprint,
            operator=self.config.operator,
            chain=encode_statement(chain) if chain is not None else b"",
            reveal=encode_statement(reveal) if reveal is not None else b"",
            verdicts=[encode_statement(signed) for _, signed, _ in verdicts],
            evidence=[encode_statement(one) for one in evidence],
        )
        state = await self._ask(desk.address, question)
        await self._know(desk, state)
        for case, _, count in verdicts:
            case.told = max(case.told, count)
        desk.untold = desk.untold[EVIDENCE_AT_ONCE:]
        desk.adopt(state, self._clock.now_ms())
        now_ms = self._clock.now_ms()
        desk.next_ms = now_ms + desk.pause_ms(now_ms)

    async def _know(self, desk: Desk, state: VerifierState) -> None:
        """Hold the coordinator against what it said at first; remember that durably."""
        async with self._remembering:
            if desk.key in (b"", state.coordinator_key):
                # Also what it said at another of its addresses binds it.
                told_ms = self._memory.slots_ms.get(state.coordinator_key, 0)
                desk.slot_ms = desk.slot_ms or told_ms
            try:
                desk.pin(state.coordinator_key, state.slot_ms)
            except AtollError:
                desk.rest_ms = self._clock.now_ms() + REFUSED_MS
                raise
            memory = VerifierMemory(
                {**self._memory.coordinators, str(desk.address): desk.key},
                {**self._memory.slots_ms, desk.key: desk.slot_ms},
            )
            if memory != self._memory:
                content = msgspec.msgpack.encode(memory)
                await self._compute.run(self._disk.replace, MEMORY_FILE, content)
                self._memory = memory

    async def _ask(self, address: Address, question: VerifierSync) -> VerifierState:
        body = encode(question)
        proof = prove_request(self.identity, "POST", ASK_PATH, body, self._clock.now_ms())
        reply = await self._transport.call(
            address,
            "POST",
            ASK_PATH,
            {RequestProof.HEADER: proof.to_header(), "content-type": "application/msgpack"},
            body,
            self.config.ask_timeout_s,
        )
        if reply.status >= 300:
            failure: Failure = decode(reply.body, Failure)
            raise failure.to_error()
        state: VerifierState = decode(reply.body, VerifierState)
        return state


def _address(place: VerifierPlace) -> Address:
    return Address(place.host, place.port, place.fingerprint)


def _read_memory(disk: Disk) -> VerifierMemory:
    if not disk.exists(MEMORY_FILE):
        return VerifierMemory()
    try:
        return msgspec.msgpack.decode(disk.read(MEMORY_FILE), type=VerifierMemory)
    except msgspec.MsgspecError as cause:
        raise AtollError(
            Kind.WRONG_FOLDER,
            "start verifier",
            f"{MEMORY_FILE} cannot be read: {cause}",
            hint=f"remove {MEMORY_FILE}; coordinators will be asked who they are again",
        ) from cause
