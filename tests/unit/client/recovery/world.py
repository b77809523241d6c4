"""A cloud in memory with real metadata, a manifest writer, and nodes that owners may ask."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from tests.unit.client.cluster import Cluster, InlineCompute
from tests.unit.coordinator.metadata.world import Metadata

from atoll.client.keys import Keyring
from atoll.client.lock_keys import lock_keys
from atoll.client.objects import SegmentedObjects
from atoll.client.recovery.control import ManifestControl
from atoll.client.recovery.model import NodePlace, RecoveryFigures, RecoveryReport
from atoll.client.recovery.nodes import LIST_PATH, OwnerControl, OwnerNodes
from atoll.client.recovery.restore import Restore, Restored
from atoll.client.recovery.search import Search
from atoll.client.recovery.store import RecoveryStore
from atoll.client.recovery.writer import ManifestWriter
from atoll.client.transfer.download import DownloadLimits, SegmentDownloader
from atoll.coordinator.recovery.service import RecoveryService
from atoll.core.capsule import owner_hash_of, tlv_of
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId
from atoll.core.messages import (
    BucketInfo,
    CommitObject,
    CreateBucket,
    DeletedKeys,
    DeleteObjects,
    GetBucket,
    ObjectFacts,
    ObjectInfo,
    decode,
    encode,
    failure_of,
)
from atoll.core.messages.recovery import ListOwned, OwnedPiece, OwnedPieces
from atoll.core.messages.retention import RETENTION_SHOW_PATH
from atoll.core.owner import check_owner_proof
from atoll.core.pieces import TlvType, parse_header, parse_trailer, trailer_bytes
from atoll.core.ports import Address, PiecePart, Reply
from atoll.core.retention import Mode, RetentionRecord, sign_record
from atoll.runtime.database import SqlDatabase, migrate


class World:
    """Customers write; then nothing but ``cluster.nodes`` is left and ``recover`` is asked."""

    def __init__(self, folder: Path, nodes: int = 12) -> None:
        url = f"sqlite:///{folder / 'metadata.db'}"
        migrate(url)
        self.database = SqlDatabase(url)
        self.cluster = Cluster(nodes)
        self.metadata = Metadata(self.database)
        self.metadata.clock = self.cluster.clock  # type: ignore[assignment]
        self.metadata.__post_init__()
        self.service = RecoveryService(self.cluster.clock, self.database)
        self.root = self.cluster.keyring._root
        self.account = self.cluster.keyring.first_account
        self.cluster.uploader.control = self
        self.writer = ManifestWriter(
            self, self.cluster.keyring, self.cluster.uploader, self.cluster.clock, self.cluster.rng
        )
        self.control = ManifestControl(self, self.writer)
        self.lists_nonsense: set[int] = set()
        self.trash: set[bytes] = set()
        """Segments whose pieces lie in the trash everywhere."""
        self.locks: dict[bytes, bytes] = {}
        """Segment to the retention record that its holders show."""

    async def ask(self, request: Any, answer: Any) -> Any:
        """The control plane: real metadata, the cluster's placement."""
        for handlers in (self.service.handlers, self.metadata.handlers):
            if type(request) in handlers:
                return await handlers[type(request)](request)
        return await self.cluster.ask(request, answer)

    async def make_bucket(self, name: str = "photos", account: bytes = b"") -> BucketInfo:
        made = CreateBucket(account=account or self.account, name=name, region="r")
        await self.control.ask(made, BucketInfo)
        return await self.control.ask(GetBucket(name=name), BucketInfo)

    async def put(self, bucket: BucketInfo, key: str, body: bytes, **facts: Any) -> None:
        async def source() -> Any:
            yield memoryview(body)

        records = []
        if body:
            records = await self.cluster.objects.write_object(bucket, key, len(body), source())
        import hashlib

        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        told = ObjectFacts(size=len(body), etag=etag, content_type="text/x", **facts)
        commit = CommitObject(bucket=bucket.bucket, key=key, facts=told, segments=records)
        await self.control.ask(commit, ObjectInfo)

    async def delete(self, bucket: BucketInfo, *keys: str) -> None:
        request = DeleteObjects(bucket=bucket.bucket, keys=list(keys))
        await self.control.ask(request, DeletedKeys)

    async def close(self) -> None:
        await self.database.close()

    # --- the owner's transport -------------------------------------------------------------------

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        """Answer what an owner lists, as a node does."""
        node = self.cluster.nodes[address.port - 1]
        node.check_alive()
        if path == RETENTION_SHOW_PATH:
            return Reply(200, {}, msgspec.msgpack.encode(self._records(node, body)))
        assert (method, path) == ("POST", LIST_PATH)
        now_ms = self.cluster.clock.now_ms()
        try:
            proof = check_owner_proof(
                base64.b64decode(headers["x-atoll-order"]), node.identity.node_id, now_ms
            )
        except AtollError as fault:
            return Reply(401, {}, encode(failure_of(fault)))
        request: ListOwned = decode(body, ListOwned)
        found = []
        for piece in sorted(node.pieces):
            header = parse_header(node.pieces[piece])
            record = node.pieces[piece]
            if piece <= request.after:
                continue
            if tlv_of(header, TlvType.OWNER_KEY_HASH) != owner_hash_of(proof.owner_key):
                continue
            trailer, _crc = parse_trailer(header, record[-trailer_bytes(header.n) :])
            false = node.alias in self.lists_nonsense
            found.append(
                OwnedPiece(
                    piece=piece,
                    segment=header.segment_id,
                    index=header.index,
                    segment_root=bytes(32) if false else trailer.segment_root,
                    tag=tlv_of(header, TlvType.BUCKET_TAG) or b"",
                    issuer=1,
                    segment_serial=1,
                    trash=header.segment_id in self.trash,
                )
            )
        page = found[: request.limit]
        return Reply(200, {}, encode(OwnedPieces(pieces=page, more=len(found) > len(page))))

    def _records(self, node: Any, body: bytes) -> list[bytes]:
        asked = msgspec.msgpack.decode(body, type=list[bytes])
        segments = [parse_header(node.pieces[piece]).segment_id for piece in asked]
        return [self.locks.get(segment, b"") for segment in segments]

    def segments(self) -> set[bytes]:
        """Return all segments of which some node holds a piece."""
        nodes = self.cluster.nodes
        return {parse_header(raw).segment_id for node in nodes for raw in node.pieces.values()}

    def lock(self, bucket: BucketInfo, segment: bytes, until_ms: int, key: Identity | None) -> None:
        """Let holders of a segment show a record of the bucket's lock key, or of another."""
        keys = lock_keys(self.cluster.keyring, bucket.account, bucket.bucket)
        signer = key or keys.lock
        record = RetentionRecord(
            SegmentId(segment), signer.public_key, Mode.COMPLIANCE, until_ms, False, 1
        )
        self.locks[segment] = sign_record(signer, record)

    async def get_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        part: PiecePart,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> bytes:
        node = self.cluster.nodes[address.port - 1]
        node.check_alive()
        check_owner_proof(order, node.identity.node_id, self.cluster.clock.now_ms())
        if part is PiecePart.HEAD:
            if piece_id not in node.pieces:
                raise AtollError(Kind.NOT_FOUND, "get piece", "no such piece")
            head = node.pieces[piece_id][: parse_header(node.pieces[piece_id]).head_bytes]
            return bytes([head[0] ^ 1]) + head[1:] if node.lies else head
        return await self.cluster.get_piece(
            address, piece_id, order, part, offset, length, timeout_s
        )

    async def open_piece(self, *words: Any) -> Any:
        return await self.cluster.open_piece(*words)

    # --- recovery --------------------------------------------------------------------------------

    async def recover(self, root: bytes | None = None) -> "Recovered":
        """Bring back what nodes hold, with the root key alone."""
        cluster = self.cluster
        keyring = Keyring(self.root if root is None else root, cluster.rng)
        account = keyring.first_account
        owner = Identity(keyring.account(account).owner_seed())
        places = [
            NodePlace(node.identity.node_id.hex(), "127.0.0.1", node.alias)
            for node in cluster.nodes
        ]
        nodes = OwnerNodes(places, owner, self, cluster.clock)  # type: ignore[arg-type]
        control = OwnerControl(nodes)
        downloader = SegmentDownloader(
            control, self, InlineCompute(), cluster.clock, owner.public_key, cluster.pool,  # type: ignore[arg-type]
            DownloadLimits(piece_timeout_s=0.2),
        )  # fmt: skip
        store = RecoveryStore(":memory:")
        report = RecoveryReport(RecoveryFigures(nodes=len(places)))
        await nodes.survey(store.add_pieces)
        search = Search(
            account, keyring, nodes, store, downloader, report.figures, cluster.clock.now_ms()
        )
        await search.run()
        target = Recovered(report, search, nodes)
        objects = SegmentedObjects(keyring, cluster.uploader, downloader)
        await Restore(search, store, objects, target, InlineCompute(), report).run()
        await downloader.close()
        return target


class Recovered:
    """A target in memory, and what was said on the way."""

    def __init__(self, report: RecoveryReport, search: Search, nodes: OwnerNodes) -> None:
        self.report = report
        self.search = search
        self.nodes = nodes
        self.bodies: dict[tuple[str, str], bytes] = {}
        self.objects: dict[tuple[str, str], Restored] = {}

    async def begin_bucket(self, bucket: str) -> None:
        return

    async def put(self, restored: Restored, body: Any) -> None:
        data = b"".join([bytes(view) async for view in body])
        self.bodies[restored.bucket, restored.key] = data
        self.objects[restored.bucket, restored.key] = restored
