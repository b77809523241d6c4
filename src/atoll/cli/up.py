"""``atoll up``: a whole cloud on this machine, started, watched over and stopped together."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit, paint, say
from atoll.cli.places import cloud_folder
from atoll.core.errors import AtollError, Kind
from atoll.runtime.config import CloudSettings, Config, load_here

if TYPE_CHECKING:
    from atoll.cli.cloud import Cloud
    from atoll.runtime.supervisor import ChildEvent, Supervisor

SPREAD_S = 0.4
"""Until the gateways, too, have read of the nodes in the database."""
POLL_S = 0.1
FAST_FAILURES_MAX = 3
"""Ends of one child before the cloud was ready: then the start has failed."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option("--nodes", type=click.IntRange(1, 250), help="Node processes to run.  [default: 12]")
@data_option("Folder that keeps it all. Default: an XDG data folder.")
@click.option("--ephemeral", is_flag=True, help="A folder of its own, removed at the end.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_000),
    help="Port of the S3 endpoint; the three after it serve the rest. 0: any.  [default: 9000]",
)
@click.option(
    "--database",
    metavar="URL",
    help="PostgreSQL database for the metadata, instead of SQLite in the folder.",
)
@click.option("--workers", type=click.IntRange(1, 64), help="Gateway processes.  [default: 2]")
@click.option(
    "--time-factor",
    type=click.IntRange(1, 1_000_000_000),
    metavar="N",
    help="Let a second of storage cost as much as N, so that amounts can be seen.  [default: 1]",
)
@config_option
@json_option
def up(
    nodes: int | None,
    data: Path | None,
    ephemeral: bool,
    port: int | None,
    database: str | None,
    workers: int | None,
    time_factor: int | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Start a whole cloud: coordinator, S3 gateway, nodes; keep it running until Ctrl-C.

    A second `atoll up` on the same folder goes on where the first stopped.
    """
    if ephemeral and data is not None:
        raise AtollError(
            Kind.BAD_REQUEST,
            "start cloud",
            "an ephemeral cloud makes its own folder",
            hint="leave out --data or --ephemeral",
        )
    flags = {
        "cloud.nodes": nodes,
        "cloud.port": port,
        "cloud.workers": workers,
        "coordinator.database": database,
        "coordinator.time_factor": time_factor,
    }
    folder = Path(tempfile.mkdtemp(prefix="atoll-")) if ephemeral else cloud_folder(data)
    try:
        config = load_here(folder, config_file, flags).config
        # In the environment the children see it too, and no argument shows its password.
        status = asyncio.run(_Up(config, folder, ephemeral, as_json).run())
    finally:
        if ephemeral:
            shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(status)


class _Up:
    """One run of the command."""

    def __init__(self, config: Config, folder: Path, ephemeral: bool, as_json: bool) -> None:
        self._config = config
        self._folder = folder
        self._ephemeral = ephemeral
        self._as_json = as_json
        self._early: dict[str, int] = {}
        self._unfit_nodes = 0
        self._failed: asyncio.Future[str] | None = None
        self._ready = False

    @property
    def _settings(self) -> CloudSettings:
        return self._config.cloud

    async def run(self) -> int:
        from atoll.cli.cloud import billing_settings, prepare
        from atoll.runtime.clock import SystemClock
        from atoll.runtime.control import ControlServer, socket_path
        from atoll.runtime.rng import SystemRng
        from atoll.runtime.supervisor import Supervisor

        clock = SystemClock()
        own_chain = self._find_chain()
        cloud = prepare(
            self._folder,
            self._settings,
            self._config.node,
            region=self._config.gateway.region,
            database=self._config.coordinator.database,
            ephemeral=self._ephemeral,
            own_chain=own_chain,
            billing=billing_settings(self._config, own_chain),
            rng=SystemRng(),
            now_ms=clock.now_ms(),
        )
        self._failed = asyncio.get_running_loop().create_future()
        supervisor = Supervisor(clock, self._heard, os.getpid())
        control = ControlServer(supervisor, socket_path(cloud.folder.path))
        asked = self._watch_signals(supervisor)
        try:
            await control.start()
            if not self._as_json:
                say(f"starting {self._settings.nodes} nodes in {cloud.folder.path} …")
            supervisor.start(cloud.specs())
            if await self._until_ready(cloud, asked):
                self._ready = True
                cloud.note_running()
                self._announce(cloud)
                await asked.wait()
            return 0
        finally:
            await self._stop(cloud, supervisor)
            await control.stop()

    def _find_chain(self) -> bool:
        """Say whether an embedded chain can run, to a person where it cannot."""
        if self._settings.chain != "embedded" or self._config.chain.url:
            return False
        from atoll.cli.chain.embedded import find_engine

        engine = find_engine()
        if engine.problem:
            what = "settlement" if engine.name else "no settlement"
            say(paint(f"{what}: {engine.problem}", err=True, fg="yellow"))
        return bool(engine.name)

    def _watch_signals(self, supervisor: "Supervisor") -> asyncio.Event:
        asked = asyncio.Event()

        def ask() -> None:
            if asked.is_set():  # asked twice: no more patience
                for child in supervisor.facts():
                    with suppress(AtollError):
                        supervisor.kill(child.name, hold=True)
            asked.set()

        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, ask)
        return asked

    def _heard(self, event: "ChildEvent") -> None:
        say(paint(event.text, err=True, fg="yellow"))
        if self._ready or self._failed is None or self._failed.done():
            return
        if event.name == "chain" or event.name.startswith("watcher-"):
            return  # a cloud stands that too: settlement catches up
        if event.name.startswith("node-"):
            # A cloud stands the loss of nodes, at its start as later.
            self._unfit_nodes += event.what == "unfit"
            if self._unfit_nodes < self._settings.nodes:
                return
        self._early[event.name] = self._early.get(event.name, 0) + 1
        if event.what == "unfit" or self._early[event.name] >= FAST_FAILURES_MAX:
            self._failed.set_result(event.name)

    async def _until_ready(self, cloud: "Cloud", asked: asyncio.Event) -> bool:
        """Wait until an S3 request works and the nodes are there; False if asked to stop."""
        assert self._failed is not None
        ready = asyncio.create_task(_serves(cloud, lambda: self._unfit_nodes))
        stop = asyncio.create_task(asked.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {ready, stop, self._failed}
            await asyncio.wait(
                waiting,
                timeout=self._settings.ready_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if stop.done():
                return False
            if self._failed.done():
                raise _start_error(cloud, self._failed.result())
            if not ready.done():
                raise AtollError(
                    Kind.TIMEOUT,
                    "start cloud",
                    f"not ready after {self._settings.ready_timeout_s} s",
                    hint=f"see {cloud.folder.path / 'logs'}",
                )
            alive = ready.result()
            if alive < self._settings.nodes:
                say(f"{alive} of {self._settings.nodes} nodes are up; going on without the rest")
            return True
        finally:
            for task in (ready, stop):
                task.cancel()
            await asyncio.gather(ready, stop, return_exceptions=True)

    async def _stop(self, cloud: "Cloud", supervisor: "Supervisor") -> None:
        if self._ready and not self._as_json:
            say("stopping …")
        forced = await supervisor.stop()
        if forced:
            say(f"had to be killed: {', '.join(forced)}")
        with suppress(OSError):
            (cloud.folder.path / "run" / "cloud.json").unlink(missing_ok=True)
        cloud.folder.close()
        if self._ready and not self._as_json:
            gone = "its folder is removed" if self._ephemeral else f"data in {cloud.folder.path}"
            say(f"stopped; {gone}")

    def _announce(self, cloud: "Cloud") -> None:
        from atoll.cli.cloud import forget_phrase, unseen_phrase

        phrase = unseen_phrase(cloud.folder.path)
        if self._as_json:
            emit(_facts(cloud, phrase))
        else:
            click.echo("\n".join(_words(cloud, phrase)))
        if phrase:
            forget_phrase(cloud.folder.path)


def _facts(cloud: "Cloud", phrase: str) -> dict[str, object]:
    facts: dict[str, object] = {
        "endpoint": cloud.endpoint,
        "region": cloud.region,
        "access_key": cloud.access.access_key,
        "secret_key": cloud.access.secret_key,
        "page": cloud.page,
        "coordinator": cloud.coordinator,
        "data": str(cloud.folder.path),
        "nodes": cloud.settings.nodes,
        "workers": cloud.settings.workers,
        "pid": os.getpid(),
        "ephemeral": cloud.folder.marker.ephemeral,
        "chain": cloud.chain,
    }
    return facts | ({"recovery_phrase": phrase} if phrase else {})


def _words(cloud: "Cloud", phrase: str) -> list[str]:
    def bold(text: str) -> str:
        return paint(text, bold=True)

    lines = [f"{bold('Atoll is running:')} {cloud.settings.nodes} nodes on this machine", ""]
    if phrase:
        lines += [
            bold("Recovery phrase: write it down now, it is shown this once only"),
            f"  {paint(phrase, fg='yellow')}",
            "",
        ]
    lines += [
        f"S3 endpoint  {cloud.endpoint}",
        f"live page    {cloud.page}",
        f"data         {cloud.folder.path}",
        "",
        bold("For S3 clients"),
        f"  export AWS_ENDPOINT_URL={cloud.endpoint} AWS_REGION={cloud.region}",
        f"  export AWS_ACCESS_KEY_ID={cloud.access.access_key}",
    ]
    folder = cloud.folder.path
    # Shown in clear at the first start; later it is read from where it is kept.
    secret = cloud.access.secret_key
    if not phrase:
        secret = f'"$(sed \'s/.*secret_key":"//; s/".*//\' {folder}/secrets/access.json)"'
    lines += [
        f"  export AWS_SECRET_ACCESS_KEY={secret}",
        "",
        bold("Then"),
        f"  {'atoll':7} {_atoll(cloud)}",
        f"  {'aws':7} aws s3 mb s3://photos && aws s3 cp FILE s3://photos/",
        f'  {"rclone":7} rclone copy DIR ":s3,provider=Other,env_auth=true,'
        f"endpoint='{cloud.endpoint}':photos\"",
        f"  {'boto3':7} python3 -c 'import boto3; print(boto3.client(\"s3\").list_buckets())'",
        f"  {'restic':7} restic -r s3:{cloud.endpoint}/backups init",
        *_money_words(cloud),
        "",
        "One machine: no protection against its loss. Ctrl-C stops it; the data stays."
        if not cloud.folder.marker.ephemeral
        else "An ephemeral cloud: Ctrl-C stops it and removes all of it.",
    ]
    return lines


def _money_words(cloud: "Cloud") -> list[str]:
    """Say where to look at money, where there are epochs; in play money by itself."""
    if not cloud.billing.get("epoch_s"):
        return []
    play = "   (play money)" if cloud.billing.get("allowance_euro") else ""
    return [f"  {'euros':7} atoll bill; atoll earnings --watch; atoll epoch list{play}"]


def _atoll(cloud: "Cloud") -> str:
    return "atoll mb s3://photos && atoll cp FILE s3://photos/"


def _start_error(cloud: "Cloud", name: str) -> AtollError:
    from atoll.runtime.supervisor import last_words

    log = cloud.folder.path / "logs" / f"{name}.log"
    what = last_words(log)
    return AtollError(Kind.INTERNAL, "start cloud", f"{name}: {what}", hint=f"see {log}")


async def _serves(cloud: "Cloud", unfit: Callable[[], int]) -> int:
    """Return the nodes alive as soon as S3 answers and all are there, or most after a while.

    ``unfit`` says how many nodes will never come.
    """
    from atoll.cli.status import ask_page
    from atoll.client import AsyncClient, Options

    options = Options(attempts=1, stall_s=5.0)
    access = cloud.access
    patience = cloud.settings.ready_timeout_s / 2
    loop = asyncio.get_running_loop()
    begun, answered, since_ms = loop.time(), False, time.time_ns() // 1_000_000
    async with AsyncClient(
        cloud.endpoint, access.access_key, access.secret_key, cloud.region, options=options
    ) as client:
        while True:
            with suppress(AtollError):
                status = await asyncio.to_thread(ask_page, cloud.page)
                # A coordinator that starts again takes yesterday's word for a moment.
                # Before its first heartbeat a node has told of no room: nothing goes there.
                alive = sum(
                    node.state == "alive"
                    and node.last_seen_ms >= since_ms
                    and (node.free_bytes > 0 or node.full)
                    for node in status.nodes
                )
                if not answered:
                    await client.list_buckets()
                    answered = True
                late = loop.time() - begun > patience
                wanted = cloud.settings.nodes - unfit()
                if alive >= wanted or (late and alive * 2 > wanted):
                    await asyncio.sleep(SPREAD_S)
                    return alive
            await asyncio.sleep(POLL_S)
