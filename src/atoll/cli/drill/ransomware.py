"""``atoll drill ransomware``: a thief of all keys and the database destroys what he can."""

import asyncio
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from atoll.cli.drill.recovery import Truth, node_list, recover, store_large, truth_of
from atoll.cli.drill.stage import POLL_S, Stage, drill_options, options_of, play
from atoll.cli.drill.thief import TAKEN, Loot, Mark, Thief
from atoll.cli.drill.workload import digest_of
from atoll.cli.places import DATABASE
from atoll.cli.wire import address_of
from atoll.client.keys import Keyring
from atoll.client.recovery.model import NodePlace, decode_nodes
from atoll.client.recovery.nodes import OwnerNodes
from atoll.core.crypto import root_from_phrase
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages.recovery import OwnedPiece
from atoll.runtime.clock import SystemClock
from atoll.runtime.rng import SystemRng
from atoll.runtime.transport import HttpPieceTransport

SURPLUS_AGE = "ATOLL_COORDINATOR_SURPLUS_AGE_S"
SURPLUS_AGE_S = 2
"""A piece that the emptied database does not count is given up after so long, not after a day."""
LOCK_DAYS = 3650
LOCK_ONE_IN = 2
LOCKS_AT_ONCE = 8
CONFIRMED_S_MAX = 120.0
COLLECTED_S_MAX = 180.0
BACK_S_MAX = 120.0
SHOWN_MAX = 3

Attempt = Callable[[], Awaitable[Any]]
Place = tuple[bytes, bytes]
"""Node id and piece id."""
Held = dict[Place, bool]
"""To whether it lies in the trash."""


@click.command()
@drill_options()
def ransomware(**values: Any) -> int:
    """Let a thief with the root key, the coordinator's key and its database destroy what he can.

    Half of the objects are under compliance locks. He asks as their owner, tells nodes that the
    locks have ended, orders every piece deleted and written over, empties the database and lets the
    coordinator's own clean-up do the rest; at last all but the nodes is deleted. No locked byte may
    go. Runs on a cloud of its own only.
    """
    options = options_of(values)
    if options.data is not None:
        raise AtollError(
            Kind.BAD_REQUEST,
            "start drill",
            "this drill deletes a cloud's data, database and keys",
            hint="leave out --data: it starts a cloud of its own",
        )
    about = "A thief holds every key and the database; half of the objects are locked."
    environment = {SURPLUS_AGE: str(SURPLUS_AGE_S)}
    return play("ransomware", about, options, _ransomware, environment=environment)


async def _ransomware(stage: Stage) -> None:
    await store_large(stage)
    await asyncio.sleep(stage.options.seconds)
    await stage.workload.stop()
    ledger = stage.workload.ledger
    stage.check(ledger.failed == 0, f"{ledger.failed} operations failed before the thief came")
    truth = truth_of(stage)
    locked = {key: truth.objects[key] for key in sorted(truth.objects)[::LOCK_ONE_IN]}
    await _lock(stage, sorted(locked))
    marks = {
        node.alias: Mark(node.node_id, address_of(node.address, ""))
        for node in (await stage.status()).nodes
    }
    async with AsyncExitStack() as stack:
        thief = Thief(stage.folder, marks)
        stack.push_async_callback(thief.close)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atoll-recover-")))
        nodes = await node_list(stage, work)
        witness = await _Witness.come(stage, nodes, marks, thief.read_database())
        stack.push_async_callback(witness.close)
        await _attack(stage, thief, witness, sorted(locked))
        await _destroy(stage)
        kept = Truth(locked, frozenset())
        folder = await recover(stage, _phrase(stage), nodes, work / "after", kept)
        _tell_unlocked(stage, folder, truth, locked)
    stage.report.limits.append(
        "A thief of the providers' machines: against pulled disks there are repair and proofs, "
        "which `drill churn` and `drill byzantine` show."
    )
    stage.report.limits.append("Governance locks and legal holds: their owner's keys end them.")


def _phrase(stage: Stage) -> str:
    return str(stage.facts["recovery_phrase"])


async def _lock(stage: Stage, keys: Sequence[str]) -> None:
    """Lock objects, and wait until every holder has signed that it obeys."""
    gate = asyncio.Semaphore(LOCKS_AT_ONCE)
    until = time.monotonic() + CONFIRMED_S_MAX

    async def one(key: str) -> tuple[int, int]:
        place = {"bucket": stage.workload.bucket, "key": key}
        async with gate:
            answer = await stage.client.ask("lock", {**place, "days": LOCK_DAYS})
        while answer["confirmed"] < answer["holders"] and time.monotonic() < until:
            await asyncio.sleep(POLL_S)
            async with gate:
                answer = await stage.client.ask("lock", place)
        return answer["confirmed"], answer["holders"]

    words = await asyncio.gather(*(one(key) for key in keys))
    confirmed, holders = (sum(column) for column in zip(*words, strict=True))
    stage.note(f"{len(keys)} objects are locked for {LOCK_DAYS} days, the others are not")
    stage.check(
        confirmed == holders > 0,
        f"{confirmed} of {holders} pieces of locked objects: their nodes have signed for the lock",
    )
    stage.report.figures |= {"objects locked": len(keys), "pieces locked": holders}


class _Witness:
    """Looks at the nodes as the owner does, with the phrase alone, and knows what must be there."""

    def __init__(self, stage: Stage, places: Sequence[NodePlace], root: bytes) -> None:
        keyring = Keyring(root, SystemRng())
        self._stage = stage
        self._places = places
        self._owner = Identity(keyring.account(keyring.first_account).owner_seed())
        self._transport = HttpPieceTransport()
        self._must: set[Place] = set()
        self._free: set[Place] = set()

    @classmethod
    async def come(
        cls, stage: Stage, nodes: Path, marks: Mapping[int, Mark], loot: Sequence[Loot]
    ) -> "_Witness":
        """Return one that knows which pieces are locked, and has seen them at their nodes."""
        root = await asyncio.to_thread(root_from_phrase, _phrase(stage))
        raw = await asyncio.to_thread(nodes.read_bytes)
        made = cls(stage, decode_nodes(raw).nodes, root)
        for one in loot:
            place = (marks[one.alias].node_id, one.piece)
            (made._must if one.record else made._free).add(place)
        await made.check("when the thief comes")
        return made

    async def close(self) -> None:
        await self._transport.close()

    async def check(self, what: str) -> None:
        """Check that every locked piece lies where it lay, and not in the trash."""
        held = await self._held()
        gone = sum(held.get(place, True) for place in self._must)
        self._stage.check(
            not gone,
            f"{len(self._must) - gone} of {len(self._must)} locked pieces untouched {what}",
        )

    async def given_up(self) -> tuple[int, int]:
        """Return how many of the pieces that are not locked their nodes gave up, of how many."""
        held = await self._held()
        return sum(held.get(place, True) for place in self._free), len(self._free)

    async def _held(self) -> Held:
        """Return what the nodes hold; those that are being started again get some time."""
        found: Held = {}

        def note(alias: int, pieces: list[OwnedPiece]) -> None:
            node = bytes.fromhex(self._places[alias - 1].node_id)
            found.update({(node, one.piece): one.trash for one in pieces})

        until = time.monotonic() + BACK_S_MAX
        while True:
            found.clear()
            nodes = OwnerNodes(self._places, self._owner, self._transport, SystemClock())
            await nodes.survey(note)
            silent = [one for one in nodes.outcomes if one.fault]
            if not silent or time.monotonic() > until:
                return found
            await asyncio.sleep(POLL_S)


async def _attack(stage: Stage, thief: Thief, witness: _Witness, keys: Sequence[str]) -> None:
    """Do everything that keys and database allow, and look after each step."""
    loot = thief.read_database()
    locked = [one for one in loot if one.record]
    free = [one for one in loot if not one.record]
    await _as_owner(stage, keys)
    await witness.check("after their owner's own keys asked for their removal")
    said = await thief.unlock(locked)
    _all_refused(stage, said, "records under the owner's lock key that end or shorten a lock")
    await witness.check("after nodes were told that the locks have ended")
    some = free[: len(free) // 2]
    said = await thief.delete([*locked, *some])
    stage.check(
        said[TAKEN] == len(some) and said["retained"] == len(locked),
        f"{said['retained']} of {len(locked)} orders to delete locked pieces refused; "
        f"{said[TAKEN]} of {len(some)} others obeyed ({_words(said)})",
    )
    await witness.check("after the coordinator's key ordered them deleted")
    said = await thief.overwrite([*locked, *free])
    _all_refused(stage, said, "uploads of other bytes under a piece's id")
    await witness.check("after the coordinator's key ordered other bytes over them")
    await _empty(stage, thief, witness)
    await witness.check("after the database was emptied and nodes had compared their sets with it")
    names = await stage.children("node")
    await asyncio.gather(*(stage.order("crash", name) for name in names))
    stage.note(f"all {len(names)} nodes killed at the same moment; they start again")
    await witness.check("after all nodes were killed and started again")


async def _as_owner(stage: Stage, keys: Sequence[str]) -> None:
    """Ask for the removal of locked objects as their owner's S3 key can."""
    client, bucket = stage.client, stage.workload.bucket

    def attempts(key: str) -> dict[str, Attempt]:
        place = {"bucket": bucket, "key": key}
        return {
            "delete": lambda: client.delete(bucket, key),
            "overwrite": lambda: client.put_bytes(bucket, key, os.urandom(1000)),
            "end the lock": lambda: client.ask("lock", {**place, "clear": True}),
            "shorten the lock": lambda: client.ask("lock", {**place, "days": 1}),
            "weaken the lock": lambda: client.ask(
                "lock", {**place, "days": LOCK_DAYS, "mode": "governance"}
            ),
        }

    said: Counter[str] = Counter()
    done: list[str] = []
    for key in keys:
        for name, attempt in attempts(key).items():
            try:
                await attempt()
                done.append(f"{name} {key}")
            except AtollError as refused:
                said[refused.kind.value] += 1
    try:
        await client.delete_bucket(bucket)
        done.append("delete the bucket")
    except AtollError as refused:
        said[refused.kind.value] += 1
    stage.check(
        not done,
        f"{said.total()} of {said.total() + len(done)} requests under the owner's S3 key refused: "
        f"delete, overwrite, end, shorten or weaken the lock ({_words(said)})"
        + (f"; done: {', '.join(done[:SHOWN_MAX])}" if done else ""),
    )


async def _empty(stage: Stage, thief: Thief, witness: _Witness) -> None:
    """Empty the database; start coordinator and gateways again; let nodes compare their sets."""
    names = await stage.children("coordinator") + await stage.children("gateway")
    await asyncio.gather(*(stage.order("kill", name) for name in names))
    rows = thief.empty_database()
    stage.note(f"{', '.join(names)} killed, {rows} rows of the database deleted, started again")
    await asyncio.gather(*(stage.order("start", name) for name in names))
    until = time.monotonic() + COLLECTED_S_MAX
    while True:
        gone, total = await witness.given_up()
        if gone == total or time.monotonic() > until:
            break
        await asyncio.sleep(2 * POLL_S)
    stage.check(
        gone == total, f"{gone} of {total} pieces that are not locked were given up by their nodes"
    )


async def _destroy(stage: Stage) -> None:
    names = await stage.children("coordinator") + await stage.children("gateway")
    await asyncio.gather(*(stage.order("kill", name) for name in names))
    for path in [*stage.folder.glob(f"{DATABASE}*"), stage.folder / "nodes.json"]:
        path.unlink(missing_ok=True)
    shutil.rmtree(stage.folder / "secrets")
    stage.note("coordinator and gateways killed; database, node list and all keys deleted")


def _tell_unlocked(stage: Stage, folder: Path, truth: Truth, locked: dict[str, str]) -> None:
    """Say what became of the objects that were not locked: nodes keep their trash for a week."""
    free = {key: digest for key, digest in truth.objects.items() if key not in locked}
    back = sum(digest_of(folder / key) == digest for key, digest in free.items())
    text = f"{back} of {len(free)} objects without a lock came back as well, out of the trash"
    stage.note(text)
    stage.report.figures["objects without a lock that came back"] = f"{back} of {len(free)}"


def _all_refused(stage: Stage, said: Counter[str], what: str) -> None:
    refused = said.total() - said[TAKEN]
    stage.check(
        said.total() > 0 and not said[TAKEN],
        f"{refused} of {said.total()} {what} refused ({_words(said)})",
    )


def _words(said: Counter[str]) -> str:
    return ", ".join(f"{word or 'done'}: {count}" for word, count in sorted(said.items()))
