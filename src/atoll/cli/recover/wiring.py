"""A recovery wired to the real world: transport, threads, scratch database, target."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from atoll.cli.recover.targets import PARTIAL, BucketTarget, FolderTarget
from atoll.client.keys import Keyring
from atoll.client.objects import SegmentedObjects
from atoll.client.recovery.model import (
    PROBLEMS_MAX,
    NodePlace,
    RecoveryFigures,
    RecoveryReport,
)
from atoll.client.recovery.nodes import OwnerControl, OwnerNodes
from atoll.client.recovery.restore import Restore, Target
from atoll.client.recovery.search import Catalogue, Search
from atoll.client.recovery.store import RecoveryStore
from atoll.client.segment.buffers import BufferPool
from atoll.client.transfer.download import SegmentDownloader
from atoll.client.transfer.upload import SegmentUploader
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.process import allow_open_files
from atoll.runtime.rng import SystemRng
from atoll.runtime.transport import HttpPieceTransport

S3 = "s3://"
SCRATCH = "recover.sqlite"
REPORT = "recover-report.json"
BUFFER_BYTES = 256 << 20
"""What all restores under way hold in memory."""


class Recovery:
    """One run. ``search``, then ``restore``, then ``finish``."""

    def __init__(
        self,
        account: bytes,
        keyring: Keyring,
        nodes: OwnerNodes,
        store: RecoveryStore,
        folder: Path | None,
        target: Target | None,
    ) -> None:
        clock, compute = SystemClock(), ThreadCompute()
        self.account = account
        self.keyring = keyring
        self.nodes = nodes
        self.store = store
        self.clock = clock
        self.compute = compute
        self._folder = folder
        self._target = target
        self.report = RecoveryReport(RecoveryFigures(nodes=len(nodes.outcomes)))

    @classmethod
    async def open(
        cls,
        stack: AsyncExitStack,
        root: bytes,
        places: list[NodePlace],
        options: dict[str, Any],
        other: tuple[bytes, Catalogue] | None = None,
    ) -> "Recovery":
        """Wire everything; ``stack`` closes it. Raises ``BAD_REQUEST``, ``WRONG_FOLDER``.

        ``other`` is an account of the same phrase beside its first, and what its catalogue says.
        """
        allow_open_files()
        keyring = Keyring(root, SystemRng())
        account, catalogue = other or (keyring.first_account, None)
        owner = Identity(keyring.account(account).owner_seed())
        transport = HttpPieceTransport()
        stack.push_async_callback(transport.close)
        nodes = OwnerNodes(places, owner, transport, SystemClock())
        folder, target = await _target_of(stack, options)
        store = RecoveryStore(
            ":memory:" if folder is None else str(folder / PARTIAL / f"{account.hex()}-{SCRATCH}")
        )
        stack.callback(store.close)
        made = cls(account, keyring, nodes, store, folder, target)
        stack.callback(made.compute.close)
        buffers = BufferPool(BUFFER_BYTES)
        control = OwnerControl(nodes)
        made.downloader = SegmentDownloader(
            control, transport, made.compute, made.clock, owner.public_key, buffers
        )
        stack.push_async_callback(made.downloader.close)
        # Reads only: nothing is ever uploaded through it, there is nobody to order from.
        uploader = SegmentUploader(control, transport, made.compute, made.clock, owner, buffers)
        made.objects = SegmentedObjects(keyring, uploader, made.downloader)
        made.transport, made.root, made.owner = transport, root, owner
        made.finder = Search(
            account,
            keyring,
            nodes,
            store,
            made.downloader,
            made.report.figures,
            made.clock.now_ms(),
            catalogue,
        )
        return made

    downloader: SegmentDownloader
    objects: SegmentedObjects
    finder: Search
    transport: HttpPieceTransport
    root: bytes
    owner: Identity

    async def search(self, only: str) -> None:
        """Ask all nodes, then find what can be restored. Raises ``UNREACHABLE``."""
        figures = self.report.figures
        figures.stage = "nodes"
        self.store.begin_survey()
        await self.nodes.survey(self.store.add_pieces)
        figures.nodes_answered = sum(not one.fault for one in self.nodes.outcomes)
        figures.pieces, figures.segments = self.store.counts()
        if not figures.pieces and self.account == self.keyring.first_account:
            faults = {one.fault for one in self.nodes.outcomes if one.fault}
            raise AtollError(
                Kind.NOT_FOUND if not faults else Kind.UNREACHABLE,
                "recover",
                f"none of {figures.nodes} nodes holds a piece of this phrase's account",
                hint=next(iter(faults), "check the phrase, and that these are your cloud's nodes"),
            )
        await self.finder.run(only)

    async def restore(self, only: str) -> None:
        """Bring the objects to the target. Raises what makes going on useless."""
        assert self._target is not None
        work = Restore(
            self.finder, self.store, self.objects, self._target, self.compute, self.report
        )
        await work.run(only)

    async def take_over(self, where: str, data: Path | None, only: str) -> None:
        """Let another coordinator keep the buckets from now on."""
        from atoll.cli.recover.takeover import take_over

        await take_over(self, where, data, only)

    def finish(self, only: str) -> RecoveryReport:
        """Close the report."""
        report = self.report
        report.nodes = self.nodes.outcomes
        report.problems = [*self.finder.problems, *report.problems]
        report.problems_total += len(self.finder.problems)
        report.notes = self.finder.notes[:PROBLEMS_MAX]
        names = {self.finder.name_of(bucket) for bucket in self.finder.buckets}
        report.buckets = sorted(names & {only} if only else names)
        return report


def write_report(report: RecoveryReport, options: dict[str, Any]) -> None:
    """Write the report beside the objects, where they went to a folder."""
    name = options["target"]
    if name and not name.startswith(S3):
        body = msgspec.json.format(msgspec.json.encode(report), indent=1)
        (Path(name) / REPORT).write_bytes(body)


async def _target_of(
    stack: AsyncExitStack, options: dict[str, Any]
) -> tuple[Path | None, Target | None]:
    name = options["target"]
    if not name:
        return None, None
    if name.startswith(S3):
        from atoll.cli.s3 import Door

        client = Door(options["data"], None, options["endpoint"], None).client()
        await stack.enter_async_context(client)
        return None, BucketTarget(client, name.removeprefix(S3).rstrip("/"))
    folder = Path(name)
    try:
        (folder / PARTIAL).mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise AtollError(
            Kind.FORBIDDEN, "recover", f"{folder} cannot be written", hint=str(cause)
        ) from cause
    target = FolderTarget(folder)
    stack.callback(target.close)
    return folder, target
