"""The registry as it runs: registrations, heartbeats, states by silence, a table in memory.

One process (the coordinator, ``judges=True``) hears the nodes and judges silence; what it knows
goes to the database at most once a second. Others (gateway workers) read that, as often.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from atoll.coordinator.registry import store
from atoll.coordinator.registry.hours import ALL_HOURS, excuses, expected_ms
from atoll.coordinator.registry.model import LOCAL, NodeState, NodeView, Timers
from atoll.coordinator.registry.rules import (
    SKEW_MS_LIMIT,
    check_heartbeat,
    checked_facts,
    is_loopback,
    is_repeat,
    matters,
    silence_at_start,
    state_after,
    state_by_hours,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import node_id_of, show_node
from atoll.core.messages import (
    Heartbeat,
    HeartbeatAnswer,
    NodeStatus,
    Register,
    Registered,
)
from atoll.core.orders import link_key
from atoll.core.ports import Clock, Database

log = logging.getLogger("atoll.coordinator.registry")

LEAVING_MS = 5 * 60_000
"""So long before its hours end a node gets nothing new: an upload takes its time."""
NODES_MAX = 1_000_000
"""Anybody with a key may register; beyond this many nodes only known ones."""


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """Settings of the registry."""

    timers: Timers = LOCAL
    flush_interval_ms: int = 1_000
    """What heartbeats say is written, and the table read, at most this often."""
    news_interval_ms: int = 100
    """The same where a node came (back), whose room others should know of."""


@dataclass(slots=True)
class _Owed:
    """How much of a silence a node owed to be online, counted step by step."""

    heard: float
    """When it was heard last: of which silence this is."""
    until_ms: int
    """Counted so far."""
    owed_ms: int = 0


class RegistryService:
    """The nodes."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        coordinator_key: bytes,
        config: RegistryConfig,
        *,
        judges: bool,
        link_secret: bytes = b"",
    ) -> None:
        """``coordinator_key`` is what nodes are told to obey.

        With ``link_secret`` each node is given a key of its own, under which orders for it carry a
        MAC: verifying a signature costs more than storing a small piece.
        """
        self._clock = clock
        self._database = database
        self._coordinator_key = coordinator_key
        self._config = config
        self._judges = judges
        self._link_secret = link_secret
        self._views: dict[int, NodeView] = {}
        self._aliases: dict[bytes, int] = {}
        self._heard: dict[int, float] = {}
        self._scheduled: set[int] = set()
        """Nodes with a calendar."""
        self._owed: dict[int, _Owed] = {}
        """Of silent nodes with a calendar."""
        self._placed: dict[int, NodeView] = {}
        self._dirty: set[int] = set()
        self._version = 0
        self._loaded_ms: int | None = None
        self._refreshed = float("-inf")
        self._flushed = float("-inf")
        self._news = False
        """Whether a node came (back): other processes should not wait long to hear of it."""

    # --- what others read -------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Grows whenever a node came, changed its state or facts, or its room noticeably."""
        return self._version

    def nodes(self) -> Iterable[NodeView]:
        """Return all nodes, by alias."""
        return list(self._views.values())

    def node(self, alias: int) -> NodeView | None:
        """Return a node by its alias."""
        return self._views.get(alias)

    def alias_of(self, node_id: bytes) -> int | None:
        """Return the alias of a node by its id; None for a stranger (ask ``fresh`` first)."""
        return self._aliases.get(node_id)

    def statuses(self) -> list[NodeStatus]:
        """Return the nodes as status messages show them, by alias."""
        return [
            NodeStatus(
                alias=view.alias,
                node_id=view.node_id,
                operator=view.facts.operator,
                site=view.facts.site,
                region=view.facts.region,
                country=view.facts.country,
                tier=view.facts.tier,
                address=str(view.address),
                state=view.state.value,
                last_seen_ms=view.last_seen_ms,
                capacity_bytes=view.facts.capacity_bytes,
                used_bytes=view.counters.used_bytes,
                free_bytes=view.free_bytes,
                pieces=view.counters.pieces,
                full=view.full,
                errors=view.counters.errors,
            )
            for view in self._views.values()
        ]

    @property
    def one_machine(self) -> bool:
        """Say whether all nodes are loopback addresses."""
        return all(is_loopback(view.facts.host) for view in self._views.values())

    # --- the table --------------------------------------------------------------------------

    async def fresh(self) -> None:
        """Read the table if what is in memory is older than the flush interval."""
        age_ms = (self._clock.monotonic() - self._refreshed) * 1000
        if age_ms >= self._config.flush_interval_ms:
            await self.refresh()

    async def refresh(self) -> None:
        """Take over what other processes wrote."""
        self._refreshed = self._clock.monotonic()
        now_ms = self._clock.now_ms()
        since_ms = self._loaded_ms
        if since_ms is None:
            views = await self._database.read(store.all_nodes)
        else:
            views = await self._database.read(lambda c: store.changed_nodes(c, since_ms))
        for view in views:
            self._take(view, now_ms, starting=since_ms is None)
        self._loaded_ms = now_ms
        self._look_at_hours(now_ms)

    def _look_at_hours(self, now_ms: int) -> None:
        """See who is about to leave by his calendar, or may be gone already."""
        for alias in list(self._scheduled):
            view = self._views[alias]
            if self._off_hours(view, now_ms) is not view.off_hours:
                self._put(view)

    def _off_hours(self, view: NodeView, now_ms: int) -> bool:
        if view.hours == ALL_HOURS:
            return False
        return excuses(view.hours, now_ms) or excuses(view.hours, now_ms + LEAVING_MS)

    def _take(self, view: NodeView, now_ms: int, *, starting: bool) -> None:
        known = self._views.get(view.alias)
        if known is not None and (
            view.last_seen_ms < known.last_seen_ms or view.alias in self._dirty
        ):
            return
        if self._judges:
            if known is None or view.last_seen_ms > known.last_seen_ms:
                silence_ms = (
                    silence_at_start(view, now_ms)
                    if starting
                    else max(0, now_ms - view.last_seen_ms)
                )
                self._heard[view.alias] = self._clock.monotonic() - silence_ms / 1000
            elif known is not None:
                view = replace(view, state=known.state, state_since_ms=known.state_since_ms)
        self._put(view)

    def _put(self, view: NodeView) -> None:
        off = self._off_hours(view, self._clock.now_ms())
        if off is not view.off_hours:
            view = replace(view, off_hours=off)
        if view.hours == ALL_HOURS:
            self._scheduled.discard(view.alias)
        else:
            self._scheduled.add(view.alias)
        self._views[view.alias] = view
        self._aliases[view.node_id] = view.alias
        placed = self._placed.get(view.alias)
        if placed is None or matters(placed, view):
            self._placed[view.alias] = view
            self._version += 1

    async def flush(self) -> None:
        """Write the news of nodes."""
        self._flushed = self._clock.monotonic()
        self._news = False
        if not self._dirty:
            return
        aliases, self._dirty = self._dirty, set()
        views = [self._views[alias] for alias in sorted(aliases)]
        now_ms = self._clock.now_ms()
        try:
            await self._database.write(lambda c: store.note_seen(c, views, now_ms))
        except BaseException:
            self._dirty |= aliases
            raise

    async def _flush_if_due(self) -> None:
        age_ms = (self._clock.monotonic() - self._flushed) * 1000
        config = self._config
        if age_ms >= (config.news_interval_ms if self._news else config.flush_interval_ms):
            await self.flush()

    # --- what nodes say ---------------------------------------------------------------------

    async def register(self, request: Register, prover: bytes, proof_ms: int) -> Registered:
        """Take a node in, or its new facts.

        ``prover`` is the key that signed the request, ``proof_ms`` the time it signed. Raises
        ``BAD_REQUEST``, ``UNAUTHENTICATED``, ``REPLAYED`` and ``OVERLOADED``.
        """
        facts = checked_facts(request.signed_facts, prover)
        node_id = node_id_of(facts.public_key)
        if node_id not in self._aliases and len(self._aliases) >= NODES_MAX:
            raise AtollError(Kind.OVERLOADED, "register node", "there are too many nodes already")
        now_ms = self._clock.now_ms()
        view = await self._database.write(
            lambda c: store.register_node(
                c, node_id, request.signed_facts, proof_ms, now_ms, self._config.timers.notice
            )
        )
        self._heard[view.alias] = self._clock.monotonic()
        self._put(view)
        log.info("node %s registered as %d at %s", show_node(node_id), view.alias, view.address)
        return Registered(
            alias=view.alias,
            coordinator_key=self._coordinator_key,
            heartbeat_interval_ms=self._config.timers.heartbeat_interval_ms,
            time_ms=now_ms,
            link_key=link_key(self._link_secret, node_id) if self._link_secret else b"",
        )

    async def heartbeat(
        self, request: Heartbeat, prover: bytes
    ) -> tuple[HeartbeatAnswer, NodeView | None]:
        """Hear a node; return the answer and the node, None for one that must register first.

        A repeated heartbeat is answered and changes nothing. Raises ``BAD_REQUEST`` and
        ``REPLAYED``.
        """
        check_heartbeat(request)
        now_ms = self._clock.now_ms()
        node_id = node_id_of(prover)
        alias = self._aliases.get(node_id)
        if alias is None:
            found = await self._database.read(lambda c: store.find_node(c, node_id))
            if found is None:
                return self._answer(now_ms, known=False), None
            self._take(found, now_ms, starting=False)
            alias = found.alias
        view = self._views[alias]
        if is_repeat(view, request):
            return self._answer(now_ms, known=True), view
        self._heard[alias] = self._clock.monotonic()
        skew_ms = request.time_ms - now_ms
        if abs(skew_ms) > SKEW_MS_LIMIT >= abs(view.skew_ms):
            log.warning("node %s: its clock is %d s off", show_node(node_id), round(skew_ms / 1000))
        back = view.state is not NodeState.ALIVE
        first = bool(request.counters.free_bytes) and not view.counters.free_bytes
        view = replace(
            view,
            last_seen_ms=max(now_ms, view.last_seen_ms),
            heartbeat_ms=request.time_ms,
            incarnation=request.incarnation,
            full=request.full,
            skew_ms=skew_ms,
            state=NodeState.ALIVE,
            state_since_ms=now_ms if back else view.state_since_ms,
            counters=request.counters,
        )
        if back:
            log.info("node %s is back", show_node(node_id))
        self._news = self._news or back or first
        self._dirty.add(alias)
        self._put(view)
        await self._flush_if_due()
        return self._answer(now_ms, known=True), view

    def _answer(self, now_ms: int, *, known: bool) -> HeartbeatAnswer:
        return HeartbeatAnswer(
            known=known,
            time_ms=now_ms,
            heartbeat_interval_ms=self._config.timers.heartbeat_interval_ms,
        )

    # --- silence ----------------------------------------------------------------------------

    def excused(self, alias: int, time_ms: int) -> bool:
        """Say whether a node need not be online at a moment, by its declared hours.

        What happens (or does not) at such a moment is never held against it.
        """
        view = self._views.get(alias)
        return view is not None and excuses(view.hours, time_ms)

    def _judge(self, view: NodeView, silence_ms: int, now_ms: int) -> NodeState:
        timers = self._config.timers
        if view.hours == ALL_HOURS:
            return state_after(silence_ms, timers)
        if silence_ms < timers.suspect_ms:
            self._owed.pop(view.alias, None)
            return NodeState.ALIVE
        owed, heard = self._owed.get(view.alias), self._heard.get(view.alias, 0.0)
        if owed is None or owed.heard != heard:
            since_ms = now_ms - silence_ms
            if view.state is NodeState.AWAY:
                # A coordinator that starts again: the silence before may have been its own.
                since_ms = now_ms
            owed = self._owed[view.alias] = _Owed(heard, since_ms)
        owed.owed_ms += expected_ms(view.hours, owed.until_ms, now_ms)
        owed.until_ms = max(owed.until_ms, now_ms)
        return state_by_hours(silence_ms, owed.owed_ms, timers)

    async def tick(self) -> None:
        """Judge the silence of every node; write and read the table if it is time."""
        await self.fresh()
        now, now_ms = self._clock.monotonic(), self._clock.now_ms()
        for view in list(self._views.values()):
            silence_ms = round((now - self._heard.get(view.alias, now)) * 1000)
            state = self._judge(view, silence_ms, now_ms)
            if state is view.state:
                continue
            log.info("node %s is %s", show_node(view.node_id), state.value)
            self._dirty.add(view.alias)
            self._put(replace(view, state=state, state_since_ms=now_ms))
        await self._flush_if_due()
