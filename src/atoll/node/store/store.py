"""The piece store of a node: the one way in for the rest of the node."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import NodeCounters
from atoll.core.pieces import TLV_HEAD_BYTES
from atoll.core.ports import Clock, Compute, Disk, DiskFile, Rng
from atoll.core.retention import (
    LOCK_GRANT_BYTES,
    RECORD_BYTES,
    Order,
    RetentionRecord,
    compare,
)
from atoll.core.sets import SERIAL_MAX
from atoll.node.config import StoreConfig
from atoll.node.store import retention
from atoll.node.store.commit import GroupCommit
from atoll.node.store.compaction import Compactor
from atoll.node.store.identity import open_identity
from atoll.node.store.log import HEAD_BYTES, LogFile, extent_bytes
from atoll.node.store.logs import Logs
from atoll.node.store.model import (
    SPENT_GRACE_MS,
    HeldPiece,
    LostTold,
    Rotten,
    Row,
    SpentForgotten,
    State,
)
from atoll.node.store.recovery import Recovered, recover
from atoll.node.store.retention import Kept
from atoll.node.store.scrub import Scrubber
from atoll.node.store.trash import delete_piece, discard_piece, purge_trash, revive_piece
from atoll.node.store.upload import BODY_BYTES_MIN, PieceUpload
from atoll.node.store.volume import Admission, Counts, Volume, replayed

_LOG = logging.getLogger(__name__)
INLINE_READ_BYTES = 256 << 10
"""Reads up to this length of a recently used region happen on the loop, without a thread."""
REVIVE_SKEW_MS = 60_000
"""A read order revives a deleted piece only if it was issued so long after the deletion."""
SCRUB_FIRST_S = 60.0
"""Until the first round of scrubbing begins, and until one that broke off begins again."""
LOCK_TLV_BYTES = 2 * TLV_HEAD_BYTES + RECORD_BYTES + LOCK_GRANT_BYTES
"""So much longer a piece's record is with a retention record than without."""
HELD_PIECES_MAX = 1000
"""Pieces listed at a time: about 2 ms of the loop."""


class PieceReader:
    """Reads one record; the log it lies in stays while this is open."""

    def __init__(self, store: "PieceStore", row: Row, file: DiskFile) -> None:
        """Built by ``PieceStore.reading``."""
        self._store = store
        self._file = file
        self.row = row

    async def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the record, counted from its first. Raises ``DATA_LOST``."""
        start = self.row.offset + HEAD_BYTES + offset
        if length <= INLINE_READ_BYTES and self._store.volume.warm(self.row.log, start):
            data = self._file.read_at(start, length)
        else:
            data = await self._store.volume.compute.run(self._file.read_at, start, length)
        if len(data) != length:
            raise AtollError(Kind.DATA_LOST, "read piece", "the log ends within the piece")
        self._store.volume.counts.get_bytes += length
        return data


class PieceStore:
    """Pieces on one disk. Call ``open`` first and ``close`` last; ``run`` does the upkeep."""

    commit_class = GroupCommit

    def __init__(
        self, disk: Disk, compute: Compute, clock: Clock, rng: Rng, config: StoreConfig
    ) -> None:
        """Touch nothing yet."""
        self._disk = disk
        self._compute = compute
        self._clock = clock
        self._rng = rng
        self.config = config
        self._volume: Volume | None = None
        self.recovered: Recovered | None = None

    @property
    def volume(self) -> Volume:
        """The open volume."""
        assert self._volume is not None, "the store is not open"
        return self._volume

    @property
    def is_open(self) -> bool:
        """Whether recovery is over and the store serves."""
        return self._volume is not None

    @property
    def counts(self) -> Counts:
        """Events since the start."""
        return self.volume.counts

    async def open(self) -> Recovered:
        """Recover and open. Raises ``WRONG_FOLDER``, ``NEWER_FORMAT``, ``INTERNAL``."""
        identity = await self._compute.run(open_identity, self._disk, self._rng)
        logs = Logs(
            self._disk,
            self._compute,
            self._clock,
            identity.key,
            log_bytes=self.config.log_bytes,
            step_bytes=self.config.log_step_bytes,
        )
        recovered = await self._compute.run(recover, self._disk, logs, identity)
        commit = self.commit_class(
            self._disk,
            self._compute,
            self._clock,
            recovered.index,
            window_s=self.config.sync_window_ms / 1000,
        )
        self._volume = Volume(
            self._disk, self._compute, self._clock, self.config, logs, recovered.index, commit
        )
        self.recovered = recovered
        _LOG.info(
            "store open: %d pieces, %d bytes; scanned %d bytes%s",
            recovered.index.totals.pieces,
            recovered.index.totals.used_bytes,
            recovered.scanned_bytes,
            ", index built anew" if recovered.rebuilt else "",
        )
        return recovered

    async def close(self) -> None:
        """Make all durable that was queued, then close. Uploads under way are lost."""
        if self._volume is None:
            return
        volume, self._volume = self._volume, None
        await volume.commit.flush()
        volume.logs.close()
        await self._compute.run(volume.index.close)

    # --- pieces ---

    def begin(self, admission: Admission, body_bytes: int) -> PieceUpload:
        """Start to receive a record of a known length.

        Raises ``CORRUPT`` (too short for any record), ``TOO_LARGE``, ``REPLAYED``, ``CONFLICT``,
        ``DISK_FULL``, ``INTERNAL`` (the volume failed).
        """
        volume = self.volume
        volume.commit.check()
        if body_bytes < BODY_BYTES_MIN:
            raise AtollError(Kind.CORRUPT, "store piece", "this is shorter than any piece record")
        if extent_bytes(body_bytes) > self.config.log_bytes:
            raise AtollError(Kind.TOO_LARGE, "store piece", "the record is larger than a log")
        spent = volume.check_serial(admission.serial, admission.piece)
        row = volume.index.get(admission.piece)
        repeat = row is not None and row.state == State.LIVE
        if row is not None and repeat:
            # A later lock may have come or gone in the head; all else is compared at the end.
            if abs(row.body_bytes - body_bytes) > LOCK_TLV_BYTES:
                raise AtollError(
                    Kind.CONFLICT, "store piece", "another record is stored under this piece id"
                )
        elif spent and (row is None or row.state != State.LOST):
            raise replayed(admission.piece)
        else:
            volume.check_room(body_bytes)
        fresh = row is None and not spent
        return PieceUpload(volume, admission, body_bytes, fresh=fresh, repeat=repeat)

    async def locate(self, piece: bytes, issued_ms: int) -> Row:
        """Return where a piece lies, for a read order issued at this time.

        A piece in the trash is served; one read by an order issued well after its deletion is
        taken out again, since a coordinator counts on it. Raises ``NOT_FOUND``, ``DATA_LOST``.
        """
        row = self.volume.index.get(piece)
        if row is None or row.state == State.DEAD:
            raise AtollError(
                Kind.NOT_FOUND, "read piece", "no such piece is stored here", about=piece.hex()[:10]
            )
        if row.state == State.LOST:
            raise AtollError(
                Kind.DATA_LOST, "read piece", "the piece was lost here", about=piece.hex()[:10]
            )
        if row.state == State.TRASH and issued_ms > row.marked_ms + REVIVE_SKEW_MS:
            try:
                await revive_piece(self.volume, piece)
            except AtollError as cause:
                # It can be read all the same; the next read tries again.
                _LOG.warning("cannot revive piece %s: %s", piece.hex()[:10], cause)
        return row

    @contextmanager
    def reading(self, row: Row) -> Iterator[PieceReader]:
        """Hold a piece for reading, even while its log is compacted away."""
        log = self.volume.log_of(row)
        with self.volume.logs.reading(log) as file:
            yield PieceReader(self, row, file)

    def held(
        self, issuer: int, after_serial: int, limit: int, end_serial: int = SERIAL_MAX
    ) -> list[HeldPiece]:
        """Return pieces stored by a coordinator's orders, by segment serial above ``after_serial``.

        Pieces in the trash are among them (``state``). All pieces of the last serial are given,
        even over ``limit``; fewer than ``limit`` mean that there are no more. 2 us a piece, on the
        loop. Raises ``ValueError`` above ``HELD_PIECES_MAX``: a cut page would look like the last.
        """
        _check_page(limit)
        return self.volume.index.held(issuer, after_serial, limit, end_serial)

    def owned(
        self, owner_hash: bytes, bucket_tag: bytes | None, after_piece: bytes, limit: int
    ) -> list[HeldPiece]:
        """Return pieces whose record names this owner (and bucket tag), by piece id.

        ``owner_hash`` is TLV 4 (32 bytes), ``bucket_tag`` TLV 2 (16 bytes) or None for any. Pieces
        in the trash are among them. Raises ``ValueError`` above ``HELD_PIECES_MAX``.
        """
        _check_page(limit)
        return self.volume.index.owned(owner_hash, bucket_tag, after_piece, limit)

    async def damaged(self, piece: bytes, row: Row) -> None:
        """Note that a piece could not be read at its place."""
        self.volume.counts.rotten += 1
        if not self.failed:
            await self.volume.commit.add(Rotten(piece, row.log, row.offset))

    async def delete(self, admission: Admission) -> None:
        """Move a piece to the trash, durably; see ``trash.delete_piece``."""
        await delete_piece(self.volume, admission)

    # --- retention ---

    def retained(self, piece: bytes, time_ms: int | None = None) -> bool:
        """Say whether a piece must stay, whoever asks for its removal; False if it is not here.

        ``time_ms`` is now by default. Everything that lets pieces go asks this first: comparison
        of sets, exit, evacuation.
        """
        row = self.volume.index.get(piece)
        now = retention.now_ms(self.volume) if time_ms is None else time_ms
        return row is not None and retention.is_retained(self.volume, piece, row, now)

    def kept_retention(self, piece: bytes) -> Kept | None:
        """Return the newest retention record of a piece and whether it was handed over."""
        return retention.kept_of(self.volume, piece)

    async def extend_retention(self, piece: bytes, signed: bytes, grant: bytes) -> Kept:
        """Judge a retention record offered for a stored piece; return what is kept, durably.

        ``grant`` is the owner's word for the lock key (``core.retention.grant_lock_key``), needed
        for the first record of a piece stored without one. A piece in the trash that is retained
        now is taken out again. Raises ``NOT_FOUND`` and what ``retention.admitted`` raises.
        """
        volume = self.volume
        async with volume.alone(piece):
            row = retention.held_row(volume, piece)
            order = retention.admitted(volume, piece, row.segment, signed)
            kept = retention.kept_of(volume, piece)
            if kept is None:
                retention.check_owner(signed, grant, row.owner_hash)
            # Who says that it obeys this record holds the piece by it, handed over before or not.
            again = kept is not None and kept.handed_over and order is Order.SAME
            if order is Order.NEWER or again:
                body = signed + (grant if kept is None else kept.grant)
                await retention.write_down(volume, piece, row.issuer, body)
        if row.state == State.TRASH and self.retained(piece):
            await revive_piece(volume, piece, "is under retention")
        kept = retention.kept_of(volume, piece)
        assert kept is not None
        return kept

    async def hand_over(self, piece: bytes, receipt: bytes, record: RetentionRecord) -> None:
        """Note that another node holds the piece under ``record``: this one may go.

        ``receipt`` is that node's retention receipt over it, checked by the caller. Raises
        ``RETAINED`` where a newer record came here meanwhile: that one holds the piece still.
        """
        volume = self.volume
        async with volume.alone(piece):
            row = retention.held_row(volume, piece)
            kept = retention.kept_of(volume, piece)
            if kept is None or kept.handed_over:
                return
            if compare(kept.record, record) is Order.OLDER:
                raise AtollError(
                    Kind.RETAINED,
                    "let a piece go",
                    "a newer record came meanwhile: the next holder has not confirmed that one",
                    about=piece.hex()[:10],
                )
            await retention.write_down(volume, piece, row.issuer, kept.body + receipt)

    # --- sets, as ``node.sets`` compares them ---

    async def discard(self, held: HeldPiece) -> bool:
        """Move a piece that its coordinator counts no more to the trash, durably.

        False where it changed meanwhile. Raises ``RETAINED`` for one that must stay, ``INTERNAL``.
        """
        return await discard_piece(self.volume, held)

    async def revive(self, piece: bytes) -> None:
        """Take a piece that its coordinator counts again out of the trash, durably."""
        await revive_piece(self.volume, piece, "is counted by its coordinator")

    def take_touched(self, issuer: int, number: int) -> bool:
        """Say whether pieces of a range of serials changed since the last call for it."""
        touched = self.volume.index.touched_ranges
        if (issuer, number) not in touched:
            return False
        touched.discard((issuer, number))
        return True

    def set_capacity(self, capacity_bytes: int) -> None:
        """Offer another capacity from now on; what is held above it stays until it is moved."""
        self.config = replace(self.config, capacity_bytes=capacity_bytes)
        if self._volume is not None:
            self._volume.config = self.config

    # --- figures ---

    @property
    def failed(self) -> bool:
        """Whether the volume takes no more writes until a restart."""
        return self.volume.commit.failure is not None

    @property
    def full(self) -> bool:
        """Whether new pieces will soon be refused: less than one step of growth is left."""
        return self.volume.room_bytes() < self.config.log_step_bytes

    def counters(self) -> NodeCounters:
        """Return the figures that heartbeats carry."""
        volume = self.volume
        totals, counts = volume.index.totals, volume.counts
        return NodeCounters(
            used_bytes=totals.used_bytes,
            trash_bytes=totals.trash_bytes,
            free_bytes=volume.room_bytes(),
            pieces=totals.pieces,
            put_bytes=counts.put_bytes,
            get_bytes=counts.get_bytes,
            errors=counts.errors + counts.rotten + counts.revived,
        )

    def lost(self, limit: int) -> list[bytes]:
        """Return ids of lost pieces that not every coordinator was told."""
        return self.volume.index.lost(limit)

    async def told_lost(self, pieces: list[bytes]) -> None:
        """Note that lost pieces were told to every coordinator."""
        await self.volume.commit.add(LostTold(tuple(pieces)))

    # --- upkeep ---

    async def maintain(self) -> None:
        """Empty the trash, forget expired serials, give back unused room, compact.

        Raises ``DISK_FULL`` and ``INTERNAL``; another call may follow later.
        """
        volume = self.volume
        await purge_trash(volume)
        await volume.commit.add(SpentForgotten(self._clock.now_ms() - SPENT_GRACE_MS))
        for log in list(volume.logs.files.values()):
            if log.sealed and not log.flying and log.allocated > log.tail:
                await self._compute.run(volume.logs.trim, log)
        compactor = Compactor(volume)
        while await compactor.run_once():
            pass

    async def scrub(self) -> int:
        """Check every log once; return how many pieces were found rotten."""
        scrubber = Scrubber(self.volume)
        rotten = 0
        for number in sorted(self.volume.logs.files):
            log: LogFile | None = self.volume.logs.files.get(number)
            if log is not None:
                rotten += await scrubber.check_log(log)
        self.volume.counts.scrub_rounds += 1
        return rotten

    async def run(self) -> None:
        """Do the upkeep for ever, scrub included; cancel to stop."""
        tasks = [asyncio.create_task(self._maintain_for_ever())]
        if self.config.scrub_bytes_per_s:
            tasks.append(asyncio.create_task(self._scrub_for_ever()))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _maintain_for_ever(self) -> None:
        while True:
            await self._clock.sleep(self.config.maintenance_interval_s)
            if self.failed:
                continue
            try:
                await self.maintain()
            except AtollError as cause:
                self.volume.counts.errors += 1
                _LOG.warning("upkeep of the store: %s", cause)

    async def _scrub_for_ever(self) -> None:
        pause_s = SCRUB_FIRST_S
        while True:
            await self._clock.sleep(pause_s)
            try:
                rotten = await self.scrub()
            except AtollError as cause:
                self.volume.counts.errors += 1
                _LOG.warning("scrub: %s", cause)
                pause_s = SCRUB_FIRST_S
            else:
                pause_s = self.config.scrub_pause_s
                if rotten:
                    _LOG.warning("scrub: %d pieces were found rotten", rotten)


def _check_page(limit: int) -> None:
    """Raise for another limit: whoever gets fewer than he asked for takes the page for the last."""
    if not 0 < limit <= HELD_PIECES_MAX:
        raise ValueError(f"a page has 1 to {HELD_PIECES_MAX} pieces, not {limit}")
