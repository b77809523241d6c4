"""Garbage on its way to the nodes: signed deletions in batches, done when acknowledged.

The garbage table is the only state. Two coordinators that send the same deletion do no harm: a
node that has not the piece says so, and that is done as well. A piece that its owner has locked is
left to the comparison of sets.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from atoll.coordinator.collection.rules import CollectionLimits, retry_ms, settled
from atoll.coordinator.metadata.model import GarbagePiece
from atoll.coordinator.metadata.store.segments import (
    forget_garbage,
    garbage_counts,
    garbage_of_node,
)
from atoll.coordinator.placement.model import Candidate, NodeState
from atoll.coordinator.placement.service import OrderItem, PlacementService
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId
from atoll.core.messages import Failure, decode
from atoll.core.ports import Clock, Database, PieceTransport

log = logging.getLogger("atoll.coordinator.collection")

DELETE_PATH = "/v1/delete"
PAGES_GIVEN_UP = 20
"""Pages of deletions for a lost node that are forgotten in one pass."""
_ANSWERS = msgspec.msgpack.Decoder(list[str])


@dataclass(slots=True)
class _Patience:
    """How a node has behaved lately."""

    failures: int = 0
    until_ms: int = 0


class CollectionService:
    """Sends deletions to the nodes that are alive; those of dead nodes wait for them."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        transport: PieceTransport,
        placement: PlacementService,
        limits: CollectionLimits,
    ) -> None:
        """Make it; nothing runs before ``start``."""
        self._clock = clock
        self._database = database
        self._transport = transport
        self._placement = placement
        self._limits = limits
        self._patience: dict[int, _Patience] = {}
        self._loop_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run until ``stop``."""
        self._loop_task = asyncio.create_task(self._loop())

    async def stop(self) -> None:
        """Stop; what is not acknowledged is sent again by whoever runs next."""
        task, self._loop_task = self._loop_task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _loop(self) -> None:
        while True:
            try:
                await self.collect()
            except (AtollError, SQLAlchemyError) as cause:
                log.warning("collection: %s", cause)
            except Exception:
                # Deletions must go on though one step met a bug.
                log.exception("collection failed")
            await self._clock.sleep(self._limits.poll_s)

    async def collect(self) -> int:
        """Send what waits for nodes alive, one pass; return the deletions acknowledged."""
        waiting = await self._database.read(garbage_counts)
        nodes = self._placement.nodes()
        now_ms = self._clock.now_ms()
        ready = []
        for alias in waiting:
            node = nodes.get(alias)
            if node is not None and node.state is NodeState.LOST:
                await self._give_up(alias)
            if node is None or node.state is not NodeState.ALIVE:
                continue
            patience = self._patience.get(alias)
            if patience is None or patience.until_ms <= now_ms:
                ready.append(node)
        for alias in [a for a in self._patience if a not in waiting]:
            del self._patience[alias]
        gate = asyncio.Semaphore(self._limits.nodes_at_once)

        async def one(node: Candidate) -> int:
            async with gate:
                return await self._collect_node(node)

        tasks = [asyncio.create_task(one(node)) for node in ready]
        try:
            return sum(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _give_up(self, alias: int) -> None:
        """Forget deletions for a node of which nothing is expected any more, some at a time.

        If it returns, it learns its set, and what nobody counts goes to its trash without an order.
        """
        now_ms = self._clock.now_ms()
        for _ in range(PAGES_GIVEN_UP):
            page = await self._database.read(
                partial(garbage_of_node, alias=alias, limit=self._limits.batch_pieces)
            )
            due = [piece for piece in page if piece.since_ms <= now_ms]
            if not due:
                return
            await self._database.write(partial(forget_garbage, pieces=due))

    async def _collect_node(self, node: Candidate) -> int:
        """Send all that waits for one node, page by page, until it fails or nothing is left."""
        done = 0
        refused: dict[str, int] = {}
        after: GarbagePiece | None = None
        now_ms = self._clock.now_ms()
        while True:
            page = await self._database.read(
                partial(
                    garbage_of_node, alias=node.alias, limit=self._limits.batch_pieces, after=after
                )
            )
            # Rows of the future are intents of a running repair: not garbage yet.
            due = [piece for piece in page if piece.since_ms <= now_ms]
            try:
                answers = await self._send(node, due) if due else []
            except AtollError as cause:
                self._failed(node, str(cause))
                return done
            done_with = [p for p, answer in zip(due, answers, strict=True) if settled(answer)]
            for answer in answers:
                if not settled(answer):
                    refused[answer] = refused.get(answer, 0) + 1
            if done_with:
                await self._database.write(partial(forget_garbage, pieces=done_with))
                done += len(done_with)
            if len(page) < self._limits.batch_pieces:
                break
            after = page[-1]
        if refused:
            self._failed(node, f"it refused deletions: {refused}")
        else:
            self._patience.pop(node.alias, None)
        return done

    async def _send(self, node: Candidate, pieces: Sequence[GarbagePiece]) -> list[str]:
        orders = self._placement.delete_orders(
            [
                OrderItem(node, SegmentId(piece.segment), piece.index, piece.serial)
                for piece in pieces
            ]
        )
        reply = await self._transport.call(
            node.address,
            "POST",
            DELETE_PATH,
            {"content-type": "application/msgpack"},
            msgspec.msgpack.encode(orders),
            self._limits.timeout_s,
        )
        if reply.status != 200:
            failure: Failure = decode(reply.body, Failure)
            raise failure.to_error()
        try:
            answers = _ANSWERS.decode(reply.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
            raise AtollError(Kind.BAD_REQUEST, "collect garbage", str(cause)) from cause
        if len(answers) != len(pieces):
            raise AtollError(
                Kind.BAD_REQUEST,
                "collect garbage",
                f"the node answered {len(answers)} of {len(pieces)} deletions",
            )
        return answers

    def _failed(self, node: Candidate, reason: str) -> None:
        patience = self._patience.setdefault(node.alias, _Patience())
        patience.failures += 1
        wait_ms = retry_ms(patience.failures, self._limits)
        patience.until_ms = self._clock.now_ms() + wait_ms
        log.info(
            "node %d: deletions wait %d ms more (failure %d): %s",
            node.alias,
            wait_ms,
            patience.failures,
            reason,
        )
