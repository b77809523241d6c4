"""The prover: once in a slot it shows drawn leaves to the verifiers that the beacon chose.

It only ever asks and pushes: a node behind a router that lets nothing in proves like any other.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import Answer, Message
from atoll.core.messages.proofs import (
    MISSING_MAX,
    AgreeHead,
    GetProofEntries,
    GetProofRanges,
    HeadAnswer,
    MissingPiece,
    ProofEntries,
    ProofRanges,
    ProofState,
    ProofSync,
    RangeInfo,
    VerifierPlace,
)
from atoll.core.ports import Address, Clock, Compute, Disk, PieceTransport
from atoll.core.proofs.beacon import BeaconValue, check_beacon, draw_committee
from atoll.core.proofs.heads import KnownHead, SignedHead, check_head, countersign_head
from atoll.core.proofs.samples import SAMPLES_MAX, SlotProof, sign_proof
from atoll.core.proofs.signed import Signed, decode_statement, encode_statement
from atoll.core.proofs.sums import RangeTree
from atoll.node.link import Link
from atoll.node.part import NodePart, Step
from atoll.node.prover.blocks import BlockCache
from atoll.node.prover.samples import Sampler
from atoll.node.prover.time import BeaconTime
from atoll.node.prover.tree import (
    PAGE_PIECES,
    Holdings,
    Tree,
    entry_of_info,
    reconcile,
    top_of,
    tree_of,
)
from atoll.node.store.model import State
from atoll.node.store.store import PieceStore

_LOG = logging.getLogger(__name__)
MEMORY_FILE = "prover.memory"
PROOF_PATH = "/v1/proofs"
LOOK_S = 0.25
"""How often it is looked whether a coordinator is due."""
PAUSE_MS_MAX = 10 * 60 * 1000
PUSH_TIMEOUT_S = 20.0
PUSH_TRIES = 2
RANGES_PAGES_MAX = 10_000
REFUSED_PAUSE_MS = 5_000
PREPARE_PAUSE_S = 5.0
PREPARE_BYTES_PER_S = 16 << 20


Ask = Callable[[Link, Message, type[Any]], Awaitable[Any]]
"""Sends a signed request to a link's coordinator."""


class _Kept(msgspec.Struct, frozen=True):
    """What a restart must not forget about one coordinator."""

    coordinator_key: bytes
    slot: int
    """Latest slot proven: a second, different proof for it would be evidence against us."""
    head: SignedHead | None
    """Head signed last, of the highest epoch: another one for it would be evidence against us."""


@dataclass(slots=True)
class _Account:
    """Where the proofs for one coordinator stand."""

    holdings: Holdings = field(default_factory=Holdings)
    signed: KnownHead | None = None
    """The head signed last, whether or not we can still show what it promises."""
    head: KnownHead | None = None
    """The head to prove; None where we do not hold all of it."""
    tree: Tree | None = None
    prepared: Tree | None = None
    """The tree whose pieces all have their block hashes."""
    slot: int = -1
    heard_slot: int = -1
    """Slot of the newest beacon that told the time."""
    next_ms: int = 0
    agreed_slot: int = -1
    """Slot of the latest attempt to agree on a head."""


class Prover(NodePart):
    """The part of a node that proves. ``steps`` drive it."""

    def __init__(
        self,
        *,
        store: PieceStore,
        identity: Identity,
        clock: Clock,
        compute: Compute,
        disk: Disk,
        transport: PieceTransport,
        links: Sequence[Link],
        ask: Ask,
        time: BeaconTime,
    ) -> None:
        """Touch nothing yet; ``ask`` sends a signed request to a link's coordinator.

        ``time`` is told the time that beacons prove.
        """
        self._store = store
        self._identity = identity
        self._clock = clock
        self._compute = compute
        self._disk = disk
        self._transport = transport
        self._links = links
        self._ask = ask
        self._time = time
        self._accounts: dict[bytes, _Account] = {}
        self._cache: BlockCache | None = None
        self._sampler: Sampler | None = None
        self.proofs = 0
        """Proofs pushed since the start."""
        self.steps = (
            Step("prove", self.step, LOOK_S),
            Step("prepare proofs", self.prepare, PREPARE_PAUSE_S),
        )

    async def start(self) -> None:
        """Open the cache and remember what was proven."""
        self._cache = BlockCache(self._disk)
        self._sampler = Sampler(self._store, self._clock, self._compute, self._cache)
        for kept in await self._compute.run(_read_memory, self._disk):
            account = self._accounts[kept.coordinator_key] = _Account(slot=kept.slot)
            if kept.head is not None:
                account.signed = account.head = check_head(kept.head)

    async def stop(self) -> None:
        """Close the cache, write down the time."""
        await self._time.save()
        if self._cache is not None:
            self._cache.close()

    async def step(self) -> None:
        """Look after every coordinator that is due."""
        for link in self._links:
            if not link.registered:
                continue
            account = self._accounts.setdefault(link.key, _Account())
            now_ms = self._clock.now_ms()
            if not account.next_ms - PAUSE_MS_MAX <= now_ms < account.next_ms:
                account.next_ms = now_ms + REFUSED_PAUSE_MS
                await self._serve(link, account)

    async def prepare(self) -> None:
        """Get ready to show any leaf of the agreed heads without reading whole pieces."""
        assert self._sampler is not None
        for key, account in list(self._accounts.items()):
            if account.tree is not None and account.tree is not account.prepared:
                tree = account.tree
                await self._sampler.prepare(tree, issuer_number(key), PREPARE_BYTES_PER_S)
                account.prepared = tree

    async def _serve(self, link: Link, account: _Account) -> None:
        state = await self._ask_for(link, ProofSync(), ProofState)
        now_ms = self._clock.now_ms()
        account.next_ms = now_ms + min(max(0, state.pause_ms), PAUSE_MS_MAX)
        if not state.slot_ms:
            return
        await self._hear_time(link, account, state)
        await self._keep_tree(link, account)
        behind = (
            account.head is None
            or account.tree is None
            or account.head.head.epoch < state.epoch
            or state.head_epoch < account.head.head.epoch
        )
        owes = bool(state.beacon and state.samples)
        if owes and state.slot > account.slot and account.tree is not None:
            await self._prove(link, account, state)
        if behind and state.slot > account.agreed_slot:
            account.agreed_slot = state.slot
            await self._agree(link, account)

    async def _hear_time(self, link: Link, account: _Account, state: ProofState) -> None:
        """Take the time from a beacon. Raises ``CORRUPT`` and ``UNAUTHENTICATED``."""
        if not state.beacon or state.slot <= account.heard_slot:
            return
        value = check_beacon(decode_statement(state.beacon, Signed), link.key)
        if value.slot != state.slot or value.opened_ms != state.slot * state.slot_ms:
            raise AtollError(Kind.CORRUPT, "take beacon", "it is of another slot")
        account.heard_slot = state.slot
        await self._time.hear(value.opened_ms)

    async def _ask_for(self, link: Link, message: Message, answer: type[Answer]) -> Answer:
        found = await self._ask(link, message, answer)
        assert isinstance(found, answer)
        return found

    # --- heads ------------------------------------------------------------------------------

    async def _keep_tree(self, link: Link, account: _Account) -> None:
        """After a restart: build the tree of the head we remember, if we still hold all of it."""
        if account.head is None or account.tree is not None:
            return
        await account.holdings.refresh(self._store, issuer_number(link.key), self._clock)
        tree = tree_of(account.holdings.ranges.values())
        if tree.top.root == account.head.head.root:
            account.tree = tree
        else:
            account.head = None

    async def _agree(self, link: Link, account: _Account) -> None:
        """Compare with the coordinator what we hold; sign the head that both make of it."""
        issuer = issuer_number(link.key)
        await account.holdings.refresh(self._store, issuer, self._clock)
        epoch, infos = await self._ranges(link)
        _require_newer(account.signed, epoch)
        ranges: list[RangeTree] = []
        missing: list[MissingPiece] = []
        for info in infos:
            own = account.holdings.ranges.get(info.range)
            if own is not None and own.top == top_of(info):
                ranges.append(own)
                continue
            kept, absent = await self._compare(link, epoch, info.range, issuer)
            missing += absent
            if kept is not None:
                ranges.append(kept)
        tree = tree_of(ranges)
        if missing:
            _LOG.warning("%d pieces that should be here are not: said so", len(missing))
        # What is beyond the limit is said next time; until then the roots differ.
        question = AgreeHead(epoch=epoch, root=tree.top.root, missing=missing[:MISSING_MAX])
        answer = await self._ask_for(link, question, HeadAnswer)
        if not answer.head:
            account.agreed_slot = -1
            return
        signed = decode_statement(answer.head, SignedHead)
        known = check_head(signed, node=False)
        head = known.head
        if account.signed is not None and head.epoch <= account.signed.head.epoch:
            await self._sign_again(link, account, known, tree)
            return
        if (
            head.root != tree.top.root
            or head.leaves != tree.top.leaves
            or head.pieces != tree.top.pieces
            or head.piece_bytes != tree.top.piece_bytes
            or head.epoch != epoch
            or head.node_key != self._identity.public_key
            or head.coordinator_key != link.key
        ):
            raise AtollError(Kind.CORRUPT, "agree on tree head", "the head is not of this set")
        known = KnownHead(head, countersign_head(self._identity, signed))
        account.signed = known
        # First here, then there: what others hold of us we can always show, and never sign another.
        await self._remember()
        account.head, account.tree = known, tree
        await self._hand_in(link, known)
        _LOG.info("head of epoch %d agreed: %d pieces", epoch, head.pieces)

    async def _hand_in(self, link: Link, known: KnownHead) -> None:
        head, signature = known.head, known.signed.node_signature
        question = AgreeHead(epoch=head.epoch, root=head.root, signature=signature)
        await self._ask_for(link, question, HeadAnswer)

    async def _sign_again(
        self, link: Link, account: _Account, asked: KnownHead, tree: Tree
    ) -> None:
        """Give the same signature under the same bytes again. Raises ``FORBIDDEN`` for others."""
        last = account.signed
        assert last is not None
        if asked.signed.body != last.signed.body:
            raise _second_head(asked.head.epoch, last.head.epoch)
        # What was remembered last may not have reached the disk.
        await self._remember()
        if tree.top.root == last.head.root:
            account.head, account.tree = last, tree
        await self._hand_in(link, last)

    async def _ranges(self, link: Link) -> tuple[int, list[RangeInfo]]:
        found: list[RangeInfo] = []
        after, epoch = -1, -1
        for _ in range(RANGES_PAGES_MAX):
            page = await self._ask_for(link, GetProofRanges(after=after), ProofRanges)
            if after >= 0 and page.epoch != epoch:
                raise AtollError(Kind.CONFLICT, "agree on tree head", "the set was taken anew")
            epoch = page.epoch
            found += page.ranges
            if not page.more or not page.ranges:
                return epoch, found
            after = page.ranges[-1].range
        raise AtollError(Kind.TOO_LARGE, "agree on tree head", "there is no end of ranges")

    async def _compare(
        self, link: Link, epoch: int, number: int, issuer: int
    ) -> tuple[RangeTree | None, list[MissingPiece]]:
        entries = []
        after = (number << 16) - 1
        while True:
            question = GetProofEntries(epoch=epoch, range=number, after_serial=after)
            page = await self._ask_for(link, question, ProofEntries)
            entries += [entry_of_info(info) for info in page.entries]
            if not page.more or not page.entries:
                break
            after = page.entries[-1].serial
        if not entries:
            return None, []
        if page.top is None or RangeTree(number, entries).top != top_of(page.top):
            raise AtollError(Kind.CONFLICT, "agree on tree head", "the range changed meanwhile")
        held: dict[tuple[int, int], bytes] = {}
        after = max(0, (number << 16) - 1)
        end = number + 1 << 16
        while pieces := self._store.held(issuer, after, PAGE_PIECES, end):
            for piece in pieces:
                if piece.state in (State.LIVE, State.TRASH):
                    held[piece.segment_serial, piece.index] = piece.segment_root
            after = pieces[-1].segment_serial
            await self._clock.sleep(0)
        return reconcile(number, entries, held)

    # --- proofs -----------------------------------------------------------------------------

    async def _prove(self, link: Link, account: _Account, state: ProofState) -> None:
        known, tree = account.head, account.tree
        assert known is not None
        assert tree is not None
        beacon = decode_statement(state.beacon, Signed)
        value = check_beacon(beacon, link.key)
        if value.slot != state.slot or known.head.frozen_ms >= value.opened_ms:
            return
        if not known.head.leaves:
            return
        assert self._sampler is not None
        count = min(max(1, state.samples), SAMPLES_MAX)
        samples = await self._sampler.samples(
            tree, known.head, issuer_number(link.key), value.value, state.slot, count
        )
        # No second, different proof for a slot, whatever happens from here on.
        account.slot = state.slot
        await self._remember()
        proof = sign_proof(self._identity, known.signed, beacon, state.slot, samples)
        await self._push(proof, value, state.verifiers)
        await self._sampler.mark_damaged()

    async def _push(
        self, proof: SlotProof, beacon: BeaconValue, verifiers: Sequence[VerifierPlace]
    ) -> None:
        members = set(draw_committee(beacon.value, self._identity.node_id, beacon.verifiers))
        body = encode_statement(proof)
        places = [place for place in verifiers if place.key in members]
        taken = await asyncio.gather(*(self._push_to(place, body) for place in places))
        self.proofs += 1
        if not any(taken):
            _LOG.warning("no verifier took the proof of slot %d", proof.slot)

    async def _push_to(self, place: VerifierPlace, body: bytes) -> bool:
        address = Address(place.host, place.port, place.fingerprint)
        for _ in range(PUSH_TRIES):
            try:
                reply = await self._transport.call(
                    address,
                    "POST",
                    PROOF_PATH,
                    {"content-type": "application/msgpack"},
                    body,
                    PUSH_TIMEOUT_S,
                )
            except AtollError as error:
                _LOG.info("verifier %s: %s", address, error)
                continue
            if reply.status == 200:
                return True
            _LOG.info("verifier %s did not take the proof: status %d", address, reply.status)
            return False
        return False

    async def _remember(self) -> None:
        kept = [
            _Kept(key, account.slot, account.signed.signed if account.signed is not None else None)
            for key, account in sorted(self._accounts.items())
        ]
        await self._compute.run(self._disk.replace, MEMORY_FILE, msgspec.msgpack.encode(kept))


def _require_newer(signed: KnownHead | None, epoch: int) -> None:
    """Raise ``FORBIDDEN`` for a set of an epoch before that of the head signed last."""
    if signed is not None and epoch < signed.head.epoch:
        raise _second_head(epoch, signed.head.epoch)


def _second_head(epoch: int, signed_epoch: int) -> AtollError:
    return AtollError(
        Kind.FORBIDDEN,
        "agree on tree head",
        f"the coordinator wants another head of epoch {epoch} signed; we signed {signed_epoch}",
        hint="tell its operator: no honest coordinator asks for that, unless its clock was wrong",
    )


def issuer_number(coordinator_key: bytes) -> int:
    """Return the short name under which the store knows a coordinator's pieces."""
    return int.from_bytes(hashlib.sha256(coordinator_key).digest()[:7], "little")


def _read_memory(disk: Disk) -> list[_Kept]:
    if not disk.exists(MEMORY_FILE):
        return []
    try:
        return msgspec.msgpack.decode(disk.read(MEMORY_FILE), type=list[_Kept])
    except msgspec.MsgspecError as cause:
        # Proving a slot twice would look like a lie: better to miss some.
        raise AtollError(
            Kind.WRONG_FOLDER,
            "start prover",
            f"{MEMORY_FILE} cannot be read: {cause}",
            hint=f"remove {MEMORY_FILE}; wait for one slot (an hour) before the next start",
        ) from cause
