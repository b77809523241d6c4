"""Signs for what is read: a piece transport that keeps count, and the book it keeps it in.

Whoever reads through ``PayingTransport`` need not think of receipts. What came is noted, two
dictionary look-ups a read; every four seconds, or after some megabytes, one receipt a node is
signed and sent beside the reads, and again until the node says that it keeps it. Bytes that did not
come are never signed for.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from typing_extensions import Buffer

from atoll.core.errors import AtollError
from atoll.core.identity import Identity
from atoll.core.orders import is_customers_read, parties_of, serial_of
from atoll.core.piece_http import accepted
from atoll.core.ports import Address, Clock, PiecePart, PieceStream, PieceTransport, Reply, Rng
from atoll.core.receipts import RECEIPTS_PATH, ReadReceipt, Tab, sign_read_receipt

log = logging.getLogger("atoll.client.receipts")

SIGN_S = 4.0
"""What is read is signed for after so long: what a gateway that dies leaves unsigned."""
SIGN_BYTES_MAX = 64 << 20
"""At once after so many bytes from one node."""
SIGN_ORDERS_MAX = 2048
"""At once after so many orders."""
ORDERS_MAX = 65_536
"""Orders whose bytes so far are remembered; the one used longest ago is forgotten first, and what
is read under it later counts from nothing: less than was read, never more."""
TABS_MAX = 10_000
SENDING_MAX = 4
"""Receipts of one tab under way at a time."""
WAITING_MAX = 64
"""Receipts of one tab that its node has not taken; the oldest is given up first."""
SEND_S_MAX = 15.0
CLOSE_S_MAX = 3.0
RETRY_S_MAX = 60.0


@dataclass(slots=True)
class _OpenTab:
    """What was read from one node under one coordinator's orders."""

    of: Tab
    address: Address
    entries: dict[bytes, int] = field(default_factory=dict)
    """Bytes so far by order, of those read under since the last receipt."""
    unsigned_bytes: int = 0
    sequence: int = 0
    byte_count: int = 0
    order_count: int = 0
    waiting: deque[bytes] = field(default_factory=deque)
    sending: int = 0
    failures: int = 0
    due_s: float = 0.0
    """After a failure nothing is sent before."""

    @property
    def busy(self) -> bool:
        """Whether anything is to be signed or sent."""
        return bool(self.entries or self.waiting or self.sending)


class ReceiptBook:
    """What one worker of a gateway has read, node by node."""

    def __init__(
        self, gateway: Identity, transport: PieceTransport, clock: Clock, rng: Rng
    ) -> None:
        """Sign as ``gateway``: the key that orders are asked for."""
        self._gateway = gateway
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._tabs: OrderedDict[bytes, _OpenTab] = OrderedDict()
        self._orders: OrderedDict[bytes, int] = OrderedDict()
        self._running: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.read_bytes = 0
        """Noted since the start."""
        self.given_up = 0
        """Receipts that their nodes would not have."""

    def note(self, order: bytes, byte_count: int, address: Address) -> None:
        """Note bytes that came from a node under a signed read order."""
        node_id, coordinator_key = parties_of(order)
        tab = self._tabs.get(node_id + coordinator_key)
        if tab is None:
            tab = self._open(node_id, coordinator_key, address)
        serial = serial_of(order)
        so_far = self._orders.get(serial)
        if so_far is None:
            so_far = byte_count
            tab.order_count += 1
            if len(self._orders) >= ORDERS_MAX:
                self._orders.popitem(last=False)
        else:
            so_far += byte_count
            self._orders.move_to_end(serial)
        self._orders[serial] = tab.entries[serial] = so_far
        tab.address = address
        tab.unsigned_bytes += byte_count
        tab.byte_count += byte_count
        self.read_bytes += byte_count
        if tab.unsigned_bytes >= SIGN_BYTES_MAX or len(tab.entries) >= SIGN_ORDERS_MAX:
            self._sign(tab)
            self._send(tab)
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="sign for reads")

    def by_node(self) -> dict[bytes, int]:
        """Return the bytes noted, by node id."""
        found: dict[bytes, int] = {}
        for tab in self._tabs.values():
            found[tab.of.node_id] = found.get(tab.of.node_id, 0) + tab.byte_count
        return found

    def _open(self, node_id: bytes, coordinator_key: bytes, address: Address) -> _OpenTab:
        if len(self._tabs) >= TABS_MAX:
            idle = next((key for key, tab in self._tabs.items() if not tab.busy), None)
            if idle is not None:
                del self._tabs[idle]
        of = Tab(self._gateway.public_key, node_id, coordinator_key, self._rng.bytes(16))
        tab = self._tabs[node_id + coordinator_key] = _OpenTab(of, address)
        return tab

    async def _run(self) -> None:
        """Sign and send until there is nothing left to do."""
        while True:
            await self._clock.sleep(SIGN_S)
            for tab in list(self._tabs.values()):
                if tab.busy:
                    self._sign(tab)
                    self._send(tab)
            if not any(tab.busy for tab in self._tabs.values()):
                self._running = None
                return

    def _sign(self, tab: _OpenTab) -> None:
        if not tab.entries:
            return
        entries, tab.entries, tab.unsigned_bytes = tab.entries, {}, 0
        tab.sequence += 1
        receipt = ReadReceipt(
            tab.of,
            tab.sequence,
            self._clock.now_ms(),
            tab.byte_count,
            tab.order_count,
            entries,
        )
        if len(tab.waiting) >= WAITING_MAX:
            tab.waiting.popleft()
            self.given_up += 1
        tab.waiting.append(sign_read_receipt(self._gateway, receipt))

    def _send(self, tab: _OpenTab) -> None:
        if self._clock.monotonic() < tab.due_s:
            return
        while tab.waiting and tab.sending < SENDING_MAX:
            tab.sending += 1
            task = asyncio.create_task(self._deliver(tab, tab.waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, tab: _OpenTab, receipt: bytes) -> None:
        """Send one receipt; the node answers when it keeps it durably."""
        try:
            reply = await self._transport.call(
                tab.address, "POST", RECEIPTS_PATH, {}, receipt, SEND_S_MAX
            )
            accepted(reply.status, reply.body, tab.address)
        except AtollError as error:
            if error.meaning.transient and len(tab.waiting) < WAITING_MAX:
                tab.waiting.appendleft(receipt)
                tab.failures += 1
                tab.due_s = self._clock.monotonic() + min(RETRY_S_MAX, 2.0 ** min(tab.failures, 6))
            else:
                self.given_up += 1
                log.warning("%s does not take a receipt: %s", tab.address, error)
        else:
            tab.failures, tab.due_s = 0, 0.0
        finally:
            tab.sending -= 1

    async def flush(self) -> None:
        """Sign and send all that was noted; return when it was tried."""
        for tab in list(self._tabs.values()):
            self._sign(tab)
            tab.due_s = 0.0
            self._send(tab)
        while self._tasks:
            await asyncio.wait(self._tasks)
            for tab in list(self._tabs.values()):
                self._send(tab)

    async def close(self) -> None:
        """Sign for the rest, as far as nodes take it soon."""
        if self._running is not None:
            self._running.cancel()
            self._running = None
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await self.flush()
        except TimeoutError:
            log.warning("some nodes did not take their receipts in time")
        for task in list(self._tasks):
            task.cancel()


class PayingTransport:
    """``core.ports.PieceTransport`` that notes in a book what is read under customers' orders."""

    def __init__(self, transport: PieceTransport, book: ReceiptBook) -> None:
        self._transport = transport
        self.book = book

    async def put_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        body: AsyncIterator[Buffer],
        body_bytes: int,
        timeout_s: float,
    ) -> bytes:
        """Send one piece: nothing is signed for it."""
        return await self._transport.put_piece(
            address, piece_id, order, body, body_bytes, timeout_s
        )

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
        """Return a part of a piece record; what came of its data is noted."""
        data = await self._transport.get_piece(
            address, piece_id, order, part, offset, length, timeout_s
        )
        if part is PiecePart.DATA and data and is_customers_read(order):
            self.book.note(order, len(data), address)
        return data

    async def open_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> PieceStream:
        """Start reading; what comes is noted as it comes."""
        stream = await self._transport.open_piece(
            address, piece_id, order, offset, length, timeout_s
        )
        if not is_customers_read(order):
            return stream
        return _PaidStream(stream, order, address, self.book)

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        """Send a small message: nothing is signed for it."""
        return await self._transport.call(address, method, path, headers, body, timeout_s)


class _PaidStream:
    """A stream whose bytes are noted."""

    __slots__ = ("_address", "_book", "_order", "_stream")

    def __init__(
        self, stream: PieceStream, order: bytes, address: Address, book: ReceiptBook
    ) -> None:
        self._stream = stream
        self._order = order
        self._address = address
        self._book = book

    async def read_into(self, buffer: memoryview) -> None:
        """Fill ``buffer`` with the next bytes."""
        await self._stream.read_into(buffer)
        self._book.note(self._order, len(buffer), self._address)

    async def close(self) -> None:
        """Stop."""
        await self._stream.close()
