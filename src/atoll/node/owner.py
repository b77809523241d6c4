"""The provider and his node: terms shown and changed live, exit begun and called off.

Requests are signed by the node's own key, which lies in the node's folder: whoever may read that
file is the provider. Each proof is good once, for a minute, and none from before this start.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from atoll.core.calendar import parse_calendar
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, RequestProof, check_request
from atoll.core.messages import decode, encode
from atoll.core.messages.terms import (
    EXIT_PATH,
    TERMS_PATH,
    MoveProgress,
    SetExit,
    SetTerms,
    TermsShown,
)
from atoll.core.ports import Clock, Compute, Disk, Host, PieceTransport
from atoll.node import http
from atoll.node.config import NodeConfig
from atoll.node.departure import Ask, Departures
from atoll.node.evacuate import DiskWatch
from atoll.node.http import Receive, Scope, Send
from atoll.node.link import Link
from atoll.node.move import Mover
from atoll.node.part import NodePart, Step
from atoll.node.pressure import Pressure
from atoll.node.retention import NodeRetention
from atoll.node.settings import Settings
from atoll.node.store.store import PieceStore
from atoll.node.traffic import TrafficMeter

_LOG = logging.getLogger(__name__)
PROOF_HEADER = RequestProof.HEADER.encode()
SKEW_MS_MAX = 60_000
PROOFS_KEPT_MAX = 10_000
BODY_BYTES_MAX = 64 << 10
SAVE_LOOKS = 6
"""The month's traffic is kept as often as the disk is looked at, over this."""


class ProofDesk:
    """Checks that a request is the provider's, and fresh."""

    def __init__(self, identity: Identity, clock: Clock) -> None:
        """Believe this identity only, from now on."""
        self._key = identity.public_key
        self._clock = clock
        self._since_ms = clock.now_ms()
        self._spent: OrderedDict[str, int] = OrderedDict()

    def check(self, header: str, method: str, path: str, body: bytes) -> None:
        """Spend a proof.

        Raises ``UNAUTHENTICATED``, ``FORBIDDEN``, ``CLOCK_SKEW``, ``REPLAYED`` and ``OVERLOADED``.
        """
        now_ms = self._clock.now_ms()
        prover = check_request(header, method, path, body, now_ms)
        if prover != self._key:
            raise AtollError(
                Kind.FORBIDDEN,
                "check request",
                "only the node's own key changes its terms",
                hint="run the command where the node's folder is",
            )
        time_ms = int(header.split(":")[1])
        if abs(now_ms - time_ms) > SKEW_MS_MAX or time_ms < self._since_ms:
            raise AtollError(
                Kind.CLOCK_SKEW, "check request", "the request's time is not now", hint="try again"
            )
        while self._spent and next(iter(self._spent.values())) < now_ms - 2 * SKEW_MS_MAX:
            self._spent.popitem(last=False)
        if header in self._spent:
            raise AtollError(Kind.REPLAYED, "check request", "this request came before")
        if len(self._spent) >= PROOFS_KEPT_MAX:
            raise AtollError(Kind.OVERLOADED, "check request", "too many requests")
        self._spent[header] = now_ms


class ProviderDoor(NodePart):
    """Answers the provider, and lets what he said take effect."""

    def __init__(
        self,
        store: PieceStore,
        identity: Identity,
        clock: Clock,
        settings: Settings,
        meter: TrafficMeter,
        pressure: Pressure,
        departures: Departures,
        watch: DiskWatch,
        announce: Callable[[], None],
        save_s: float,
    ) -> None:
        """``announce`` has the coordinators told of new facts."""
        self._store = store
        self._identity = identity
        self._clock = clock
        self._settings = settings
        self._meter = meter
        self._pressure = pressure
        self._departures = departures
        self._watch = watch
        self._announce = announce
        self.parts: tuple[NodePart, ...] = (pressure, departures, watch, self)
        """All that keeps to the terms."""
        self._desk = ProofDesk(identity, clock)
        self._told: tuple[object, ...] = ()
        settings.listeners.append(self.apply)
        self.routes = {
            ("GET", TERMS_PATH): self._show,
            ("POST", TERMS_PATH): self._set,
            ("POST", EXIT_PATH): self._exit,
        }
        pressure.listeners.append(self._ease)
        self.steps = (Step("keep the month's traffic", meter.save, save_s),)

    async def start(self) -> None:
        """Let the kept terms be in force."""
        self._desk = ProofDesk(self._identity, self._clock)
        self.apply()

    async def stop(self) -> None:
        """Keep the month's figure."""
        if not self._store.failed:
            await self._meter.save()

    # --- effect -----------------------------------------------------------------------------

    @property
    def capacity_bytes(self) -> int:
        """What is offered, less what the disk's owner took meanwhile."""
        offered, squeezed = self._settings.terms.capacity_bytes, self._watch.squeeze_bytes
        return offered if squeezed is None else min(offered, squeezed)

    def apply(self) -> None:
        """Let the terms as they are now take effect everywhere; tell coordinators of new facts."""
        terms, kept = self._settings.terms, self._settings.kept
        self._store.set_capacity(self.capacity_bytes)
        self._meter.bandwidth_bytes_per_s = terms.bandwidth_bytes_per_s
        self._meter.traffic_bytes_month = terms.traffic_bytes_month
        facts = (terms, self.capacity_bytes, kept.exiting, kept.evacuating)
        if self._told and facts != self._told:
            self._announce()
        self._told = facts

    def _ease(self) -> None:
        """Follow the machine's pressure."""
        _LOG.info("the machine's pressure is at level %d", self._pressure.level)
        self._meter.eased_bytes_per_s = self._pressure.eased_bytes_per_s
        if self._store.is_open:
            self._store.volume.background_share = self._pressure.background_share

    @property
    def refuses(self) -> str:
        """Why new pieces are refused now; empty where they are not."""
        kept = self._settings.kept
        if kept.evacuating:
            return f"evacuating: {kept.evacuating}"
        if kept.exiting:
            return "it leaves"
        if self._store.failed:
            return "its disk failed"
        if not self._meter.takes_new:
            return "this month's traffic is nearly spent"
        return "it is full" if self._store.full else ""

    # --- requests ---------------------------------------------------------------------------

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        body = b""
        if scope["method"] == "POST":
            body = await http.read_body(receive, BODY_BYTES_MAX, 10.0)
        proof = http.header_of(scope, PROOF_HEADER).decode("latin-1")
        self._desk.check(proof, scope["method"], scope["path"], body)
        return body

    async def _show(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._read(scope, receive)
        await self._answer(send)

    async def _set(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: SetTerms = decode(await self._read(scope, receive), SetTerms)
        await self.change(request)
        await self._answer(send)

    async def change(self, request: SetTerms) -> None:
        """Change terms; in force when this returns. Raises ``BAD_REQUEST``."""
        await self._settings.change(request)
        _LOG.info("terms changed: %s", ", ".join(self._settings.changed) or "as in the folder")

    async def _exit(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: SetExit = decode(await self._read(scope, receive), SetExit)
        await self.leave(exiting=request.exiting)
        await self._answer(send)

    async def leave(self, *, exiting: bool) -> None:
        """Begin to leave, or stay after all."""
        kept = self._settings.kept
        if exiting and not kept.exiting:
            kept = msgspec.structs.replace(kept, exiting=True, began_ms=0, statements=[])
        elif not exiting and (kept.exiting or kept.evacuating):
            self._watch.dismiss()
            kept = msgspec.structs.replace(
                kept, exiting=False, evacuating="", began_ms=0, total_pieces=0, total_bytes=0
            )
        if kept is not self._settings.kept:
            await self._settings.keep(kept)
            _LOG.info("the provider %s", "leaves" if exiting else "stays")

    async def _answer(self, send: Send) -> None:
        await http.send_whole(send, 200, http.MSGPACK, encode(self.shown()))

    def progress(self) -> MoveProgress:
        """Return how far moving pieces away is."""
        return self._departures.progress()

    def shown(self) -> TermsShown:
        """Return the terms and how the node stands by them."""
        settings, now_ms = self._settings, self._clock.now_ms()
        calendar = parse_calendar(settings.terms.calendar)
        totals = self._store.volume.index.totals
        return TermsShown(
            node_id=self._identity.node_id,
            terms=settings.terms,
            changed=settings.changed,
            effective_capacity_bytes=self.capacity_bytes,
            used_bytes=totals.used_bytes,
            trash_bytes=totals.trash_bytes,
            pieces=totals.pieces,
            month=self._meter.month,
            month_bytes=self._meter.month_bytes,
            refuses=self.refuses,
            online=calendar.online_at(now_ms),
            next_change_ms=calendar.next_change(now_ms) or 0,
            exiting=settings.kept.exiting,
            evacuating=settings.kept.evacuating,
            progress=self.progress(),
            pressure=self._pressure.shown(),
            statements=list(settings.kept.statements),
        )


def make_door(
    *,
    store: PieceStore,
    disk: Disk,
    compute: Compute,
    clock: Clock,
    host: Host,
    transport: PieceTransport,
    identity: Identity,
    config: NodeConfig,
    settings: Settings,
    meter: TrafficMeter,
    retention: NodeRetention,
    links: Sequence[Link],
    ask: Ask,
    announce: Callable[[], None],
) -> ProviderDoor:
    """Put together what keeps to a provider's terms: pressure, moves, disk watch, door."""
    pressure = Pressure(host, compute, config.yields_level_max)
    door: ProviderDoor
    departures = Departures(
        store,
        clock,
        settings,
        Mover(store, transport, meter, retention, config.body_stall_s),
        links,
        ask,
        at_once=config.moves_at_once,
        capacity=lambda: door.capacity_bytes,
        pace=lambda: pressure.background_share,
    )
    watch = DiskWatch(
        store,
        disk,
        compute,
        clock,
        host,
        settings,
        lambda: departures.released_bytes,
        config.watch_interval_s,
    )
    door = ProviderDoor(
        store,
        identity,
        clock,
        settings,
        meter,
        pressure,
        departures,
        watch,
        announce,
        config.watch_interval_s * SAVE_LOOKS,
    )
    return door
