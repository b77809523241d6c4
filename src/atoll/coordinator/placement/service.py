"""Order limits: where a new segment goes, who replaces a node, who may read, who must delete.

All answers come from the node table in memory: no SQL on the way of an upload or a read. Every
answer is one batch: a single signature of the coordinator covers all its limits.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from atoll.coordinator.metadata.serials import NOISE_BYTES, check_serials, segment_id
from atoll.coordinator.placement.model import (
    EVERYWHERE,
    POLICY_EVERYWHERE,
    Candidate,
    NodeState,
    Policy,
)
from atoll.coordinator.placement.rules import (
    Pool,
    choose,
    part_time_max,
    pool_of,
    scheme_in,
    too_few_under,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import NodeId, OrderSerial, PayerTag, SegmentId
from atoll.core.messages import (
    GrantList,
    GrantReads,
    OrderSegment,
    PieceGrant,
    ReplaceGrants,
    SegmentGrant,
    StoredPiece,
)
from atoll.core.orders import ANY_INDEX, Action, OrderLimit, link_key, sign_orders
from atoll.core.pieces import Header, record_bytes
from atoll.core.policy.model import RULES_ANYWHERE
from atoll.core.ports import Clock, Rng
from atoll.core.scheme import (
    SEGMENT_PLAIN_BYTES_MAX,
    TINY_PLAIN_BYTES_MAX,
    Layout,
    Scheme,
    layout_for,
    scheme_for,
    scheme_of,
)

TLV_ALLOWANCE_BYTES = 8 << 10
"""Room a PUT order leaves above the bare record for TLVs (capsules, tags, retention)."""
SIZES_KEPT_MAX = 4096
PAYERS_KEPT_MAX = 65_536
SETTLEMENT_PURPOSE = b"order-settlement-key/1"
POOLS_KEPT_MAX = 1024
READ_PIECES_MAX = 255
NODES_AT_ONCE_MAX = 256
"""A node table up to this size is prepared again at every change."""
NODES_PER_MS = 10
"""A longer one rests for a millisecond per so many nodes: preparing it takes 2 us a node."""
SHAPES_BY_SIZE = (SEGMENT_PLAIN_BYTES_MAX, 16 << 20, 4 << 20, 1 << 20, 64 << 10)
"""Record sizes are rounded up to those of a few segment sizes, so that few pools are prepared."""


@dataclass(frozen=True, slots=True)
class OrderTimes:
    """How long order limits hold. A node remembers a spent serial until its order expires."""

    put_ms: int = 15 * 60 * 1000
    get_ms: int = 15 * 60 * 1000
    delete_ms: int = 15 * 60 * 1000
    repair_ms: int = 60 * 60 * 1000


class NodeSource(Protocol):
    """The node table in memory. ``version`` grows whenever ``candidates`` would answer anew."""

    @property
    def version(self) -> int:
        """Count of changes."""

    def candidates(self) -> Sequence[Candidate]:
        """Return every registered node, whatever its state."""


class PolicySource(Protocol):
    """The policies of buckets, in memory; the newest version of a bucket's decides."""

    @property
    def newest(self) -> int:
        """Grows whenever a bucket gets another policy."""

    def of_bucket(self, bucket: bytes) -> Policy:
        """Return the policy that decides about a bucket now."""

    def by_id(self, policy: int) -> Policy | None:
        """Return what decides now about what was placed under an id; None for an unknown one."""


class _NoPolicies:
    """Every bucket may be anywhere, but for policies that are named by their id."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._policies = {policy.policy: policy for policy in policies}

    @property
    def newest(self) -> int:
        return EVERYWHERE

    def of_bucket(self, bucket: bytes) -> Policy:
        return POLICY_EVERYWHERE

    def by_id(self, policy: int) -> Policy | None:
        return self._policies.get(policy)


@dataclass(frozen=True, slots=True)
class OrderItem:
    """One limit to sign: for this node, piece index (``ANY_INDEX`` is any) of a segment."""

    node: Candidate
    segment: SegmentId
    index: int
    serial: int
    """The segment's; 0 where none is known."""
    root: bytes = b""
    """The segment's, for a ``REPAIR_PUT``: the target stores nothing else."""


class PlacementService:
    """Answers ``OrderSegment``, ``ReplaceGrants`` and ``GrantReads``; signs for repair, deletes."""

    def __init__(
        self,
        clock: Clock,
        rng: Rng,
        identity: Identity,
        source: NodeSource,
        *,
        policies: PolicySource | None = None,
        times: OrderTimes | None = None,
        link_secret: bytes = b"",
        segment_key: bytes = b"",
    ) -> None:
        """Sign with ``identity``: nodes obey the orders of its key.

        With ``link_secret`` (that of the registry) an order also carries a MAC for its node; with
        ``segment_key`` (that of the metadata) a commit can tell what serial a segment was given.
        """
        self._segment_key = segment_key
        self._clock = clock
        self._rng = rng
        self._identity = identity
        self._source = source
        self._policies = policies or _NoPolicies((POLICY_EVERYWHERE,))
        self._times = times or OrderTimes()
        self._link_secret = link_secret
        self._link_keys: dict[bytes, bytes] = {}
        self._payer_secret = hashlib.sha256(identity.sign(b"payer-tag-key/1", b"")).digest()
        self.settlement_key = hashlib.sha256(identity.sign(SETTLEMENT_PURPOSE, b"")).digest()
        """By which this coordinator knows its own read orders again."""
        self._payers: dict[bytes, PayerTag] = {}
        self._record_bytes: dict[tuple[int, int, int], int] = {}
        self._pools: dict[tuple[int, int], Pool] = {}
        self._nodes: Mapping[int, Candidate] = {}
        self._seen_version: int | None = None
        self._seen_ms = 0

    # --- the node table ---------------------------------------------------------------------

    def nodes(self) -> Mapping[int, Candidate]:
        """Return the nodes by alias, as fresh as ``NODES_AT_ONCE_MAX`` allows."""
        version = self._source.version
        if version != self._seen_version:
            now_ms = self._clock.now_ms()
            count = len(self._nodes)
            rest_ms = 0 if count <= NODES_AT_ONCE_MAX else count // NODES_PER_MS
            if self._seen_version is None or not 0 <= now_ms - self._seen_ms < rest_ms:
                self._nodes = {node.alias: node for node in self._source.candidates()}
                if self._link_secret and len(self._nodes) != len(self._link_keys):
                    self._link_keys = {
                        node.node_id: link_key(self._link_secret, node.node_id)
                        for node in self._nodes.values()
                    }
                self._pools.clear()
                self._seen_version = version
                self._seen_ms = now_ms
        return self._nodes

    def pool(self, record_bytes: int, policy: int = EVERYWHERE) -> Pool:
        """Return the eligible nodes for records up to a length under a policy.

        Raises ``BAD_REQUEST`` for a policy that is not known here.
        """
        nodes = self.nodes()
        rules = self._policies.by_id(policy)
        if rules is None:
            raise AtollError(Kind.BAD_REQUEST, "place segment", f"no policy {policy}")
        key = (rules.policy, record_bytes)
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= POOLS_KEPT_MAX:
                self._pools.clear()
            pool = self._pools[key] = pool_of(nodes.values(), rules, record_bytes)
        return pool

    def policy_of(self, policy: int, bucket: bytes = b"") -> Policy | None:
        """Return what decides now about a segment that was placed under a policy.

        Its bucket's newest version; without a bucket that of the policy's own bucket. None for an
        id that is not known here.
        """
        if bucket:
            return self._policies.of_bucket(bucket)
        return self._policies.by_id(policy)

    @property
    def newest_policy(self) -> int:
        """Grows whenever a bucket gets another policy."""
        return self._policies.newest

    def policy_id(self, bucket: bytes) -> int:
        """Return the id of the policy that decides about a bucket now."""
        return self._policies.of_bucket(bucket).policy

    def pool_for(self, plain_bytes: int, policy: int = EVERYWHERE) -> tuple[Pool, Scheme]:
        """Return the pool and the scheme of a new segment. Raises ``TOO_FEW_NODES``.

        The scheme follows from the number of independent operators with room, and the room needed
        follows from the scheme: settled by trying the widest scheme first.
        """
        scheme = scheme_for(plain_bytes, self.pool(0, policy).independent)
        pool = self.pool_of_scheme(plain_bytes, scheme, policy)
        rules = self._policies.by_id(policy)
        try:
            return pool, scheme_in(pool, plain_bytes)
        except AtollError as few:
            if rules is None or rules.rules is RULES_ANYWHERE:
                raise
            fitting = scheme_for(plain_bytes, pool.independent)
            raise too_few_under(rules, fitting, pool, self.nodes().values()) from few

    def pool_of_scheme(self, plain_bytes: int, scheme: Scheme, policy: int = EVERYWHERE) -> Pool:
        """Return the nodes with room for a piece of a segment of this size and scheme."""
        return self.pool(self.record_bytes(_rounded(plain_bytes), scheme), policy)

    def record_bytes(self, plain_bytes: int, scheme: Scheme) -> int:
        """Return the length of a whole piece record of a segment, without TLVs."""
        key = (plain_bytes, scheme.k, scheme.n)
        length = self._record_bytes.get(key)
        if length is None:
            if len(self._record_bytes) >= SIZES_KEPT_MAX:
                self._record_bytes.clear()
            length = self._record_bytes[key] = bare_record_bytes(layout_for(plain_bytes, scheme))
        return length

    # --- answers ----------------------------------------------------------------------------

    def order_segment(
        self, request: OrderSegment, policy: int = EVERYWHERE, *, serial: int
    ) -> SegmentGrant:
        """Place a new segment, of a serial never given before, by the policy of its bucket.

        Raises ``TOO_FEW_NODES`` (in words) and ``BAD_REQUEST``.
        """
        if not 0 <= request.plain_bytes <= SEGMENT_PLAIN_BYTES_MAX:
            raise AtollError(
                Kind.BAD_REQUEST,
                "place segment",
                f"a segment holds 0..{SEGMENT_PLAIN_BYTES_MAX} bytes, not {request.plain_bytes}",
            )
        pool, scheme = self.pool_for(request.plain_bytes, policy)
        chosen = choose(pool, scheme.ask, self._rng, part_time_max=part_time_max(scheme))
        segment = segment_id(self._segment_key, serial, self._rng.bytes(NOISE_BYTES))
        grants = self.sign(
            Action.PUT,
            [
                OrderItem(node, segment, place if place < scheme.n else ANY_INDEX, serial)
                for place, node in enumerate(chosen)
            ],
            byte_cap=self.record_bytes(request.plain_bytes, scheme) + TLV_ALLOWANCE_BYTES,
            life_ms=self._times.put_ms,
            gateway_key=request.gateway_key,
            payer=self.payer_tag(request.bucket),
        )
        return SegmentGrant(
            segment=segment,
            serial=serial,
            k=scheme.k,
            n=scheme.n,
            durable=scheme.durable,
            commit=scheme.commit,
            unit_bytes=layout_for(request.plain_bytes, scheme).unit_bytes,
            grants=grants,
        )

    def replace_grants(self, request: ReplaceGrants, policy: int = EVERYWHERE) -> GrantList:
        """Give other nodes for pieces that found no home; fewer than asked when they run out."""
        try:
            scheme = scheme_of(request.k, request.n)
        except ValueError as cause:
            raise AtollError(Kind.BAD_REQUEST, "replace nodes", str(cause)) from cause
        if (
            not 0 <= request.plain_bytes <= SEGMENT_PLAIN_BYTES_MAX
            or len(request.segment) != 16
            or len(request.indexes) > scheme.ask
            or any(not (0 <= i < scheme.n or i == ANY_INDEX) for i in request.indexes)
        ):
            raise AtollError(Kind.BAD_REQUEST, "replace nodes", "not pieces of such a segment")
        check_serials(self._segment_key, [(request.segment, request.serial)])
        nodes = self.nodes()
        used = [nodes[alias] for alias in request.used_aliases if alias in nodes]
        pool = self.pool_of_scheme(request.plain_bytes, scheme, policy)
        chosen = choose(
            pool,
            len(request.indexes),
            self._rng,
            holders=used,
            refused=request.used_aliases,
            part_time_max=part_time_max(scheme),
        )
        segment = SegmentId(request.segment)
        return GrantList(
            grants=self.sign(
                Action.PUT,
                [
                    OrderItem(node, segment, index, request.serial)
                    for index, node in zip(request.indexes, chosen, strict=False)
                ],
                byte_cap=self.record_bytes(request.plain_bytes, scheme) + TLV_ALLOWANCE_BYTES,
                life_ms=self._times.put_ms,
                gateway_key=request.gateway_key,
                payer=self.payer_tag(request.bucket),
            )
        )

    def grant_reads(self, request: GrantReads) -> GrantList:
        """Sign read limits: nodes alive before suspects, quick ones first, dead ones left out."""
        if len(request.pieces) > READ_PIECES_MAX or request.byte_cap < 0:
            raise AtollError(Kind.BAD_REQUEST, "grant reads", "not a read of one segment")
        segment = SegmentId(request.segment)
        return GrantList(
            grants=self.sign(
                Action.GET,
                [
                    OrderItem(node, segment, index, request.serial)
                    for node, index in self.readable(request.pieces)
                ],
                byte_cap=request.byte_cap,
                life_ms=self._times.get_ms,
                gateway_key=request.gateway_key,
                payer=self.payer_tag(request.gateway_key),
            )
        )

    def readable(self, pieces: Sequence[StoredPiece]) -> list[tuple[Candidate, int]]:
        """Return the pieces on nodes alive or suspect as (node, index), best first.

        Nodes away are left out: they are silent, and say so beforehand.
        """
        nodes = self.nodes()
        found: list[tuple[bool, float, int, Candidate]] = []
        for piece in pieces:
            node = nodes.get(piece.alias)
            if node is None or node.state not in (NodeState.ALIVE, NodeState.SUSPECT):
                continue
            suspect = node.state is NodeState.SUSPECT
            found.append((suspect, node.latency_ms, piece.index, node))
        found.sort(key=lambda entry: entry[:3])
        return [(entry[3], entry[2]) for entry in found]

    def repair_grants(
        self, action: Action, items: Sequence[OrderItem], byte_cap: int, bucket: bytes
    ) -> list[PieceGrant]:
        """Sign ``REPAIR_GET`` or ``REPAIR_PUT`` limits; new pieces are the bucket's as before."""
        return self.sign(
            action,
            items,
            byte_cap=byte_cap,
            life_ms=self._times.repair_ms,
            gateway_key=self._identity.public_key,
            payer=self.payer_tag(bucket),
        )

    def delete_orders(self, items: Sequence[OrderItem]) -> list[bytes]:
        """Sign deletions of pieces at their nodes; in the order of ``items``."""
        grants = self.sign(
            Action.DELETE,
            items,
            byte_cap=0,
            life_ms=self._times.delete_ms,
            gateway_key=self._identity.public_key,
            payer=self.payer_tag(self._identity.public_key),
        )
        return [grant.order for grant in grants]

    # --- signing ----------------------------------------------------------------------------

    def payer_tag(self, payer: bytes) -> PayerTag:
        """Return the tag that stands for a payer (a bucket, a gateway) towards nodes.

        Keyed by the coordinator's identity: nodes can neither invert it nor test a guess.
        """
        tag = self._payers.get(payer)
        if tag is None:
            if len(self._payers) >= PAYERS_KEPT_MAX:
                self._payers.clear()
            digest = hmac.digest(self._payer_secret, b"payer/1" + payer, "sha256")
            tag = self._payers[payer] = PayerTag(digest[:16])
        return tag

    def sign(
        self,
        action: Action,
        items: Sequence[OrderItem],
        *,
        byte_cap: int,
        life_ms: int,
        gateway_key: bytes,
        payer: PayerTag,
        retention_until_ms: int = 0,
    ) -> list[PieceGrant]:
        """Sign one batch of limits and address each to its node; in the order of ``items``.

        Read limits carry a settlement tag in place of the payer: receipts of them come back.
        """
        if not items:
            return []
        now_ms = self._clock.now_ms()
        serials = self._rng.bytes(16 * len(items))
        orders = sign_orders(
            self._identity,
            [
                OrderLimit(
                    action=action,
                    node_id=NodeId(item.node.node_id),
                    segment_id=item.segment,
                    segment_serial=item.serial,
                    index=item.index,
                    byte_cap=byte_cap,
                    issued_ms=now_ms,
                    expires_ms=now_ms + life_ms,
                    serial=OrderSerial(serials[16 * place : 16 * place + 16]),
                    payer_tag=payer,
                    gateway_key=gateway_key,
                    retention_until_ms=retention_until_ms,
                    segment_root=item.root,
                )
                for place, item in enumerate(items)
            ],
            self._link_keys,
            self.settlement_key if action is Action.GET else b"",
        )
        return [
            PieceGrant(
                index=item.index,
                alias=item.node.alias,
                node_id=item.node.node_id,
                host=item.node.address.host,
                port=item.node.address.port,
                fingerprint=item.node.address.fingerprint,
                order=order,
            )
            for item, order in zip(items, orders, strict=True)
        ]


def bare_record_bytes(layout: Layout) -> int:
    """Return the length of a piece record of this layout without TLVs."""
    return record_bytes(
        Header(
            segment_id=SegmentId(bytes(16)),
            index=0,
            k=layout.k,
            n=layout.n,
            unit_bytes=layout.unit_bytes,
            plain_bytes=layout.plain_bytes,
            data_bytes=layout.piece_bytes,
            payer_tag=PayerTag(bytes(16)),
            tlvs=(),
        )
    )


def _rounded(plain_bytes: int) -> int:
    """Return a segment size at least this large whose record needs as much room or more."""
    if plain_bytes <= TINY_PLAIN_BYTES_MAX:
        return TINY_PLAIN_BYTES_MAX
    rounded = SEGMENT_PLAIN_BYTES_MAX
    for size in SHAPES_BY_SIZE:
        if plain_bytes <= size:
            rounded = size
    return rounded
