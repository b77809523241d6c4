"""A coordinator, three verifiers and a chain, each a real process; documents are put there by hand.

No node stores anything here: what epochs come to is drawn by ``tests.fixtures.epochs``. All that
happens to a document afterwards is the product's own.
"""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tests.fixtures.chain import LocalChain, give_funds, open_chain, sign, stand, start_anvil
from tests.fixtures.epochs import PARAMETERS, Life

from atoll.cli.cloud import make_secrets
from atoll.cli.places import COORDINATOR_SEED, TRUSTED_VERIFIERS, VERIFIER_SEED
from atoll.cli.settling import book_name, keep_accounts, verifier_signer
from atoll.coordinator.billing import store as billing
from atoll.coordinator.billing.model import EpochRow, State
from atoll.coordinator.billing.service import chunk_name, index_name
from atoll.core.identity import SEED_BYTES, Identity, RequestProof, prove_request
from atoll.core.messages import Failure, Message, decode, encode
from atoll.core.ports import Address, ChainCall
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.chain.book import read_book
from atoll.economy.chain.model import EMBEDDED_CHAIN_ID, Contract
from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.document import (
    NO_DOCUMENT,
    Content,
    Index,
    Published,
    content_of,
    publish,
    read_index,
    with_pseudonyms,
)
from atoll.economy.settlement.model import FIRST, EpochInputs, EpochTotals
from atoll.runtime.clock import SystemClock
from atoll.runtime.database import SqlDatabase, migrate
from atoll.runtime.disk import FolderDisk
from atoll.runtime.folder import open_folder, read_secret, write_file
from atoll.runtime.rng import SystemRng
from atoll.runtime.transport import HttpPieceTransport

HOST = "127.3.2.1"
VERIFIERS = 3
TIME_DIVISOR = 3_600
"""A proposal can be challenged for 24 seconds, leaves must be shown within 6."""
EPOCH_MS = 60_000
SECRET = b"p" * 32
PATIENCE_S = 240.0
FUNDS_MICRO = 900_000 * 10**6
FUNDER = Signer.derived(b"f" * 32, "funder")
DYING = Path(__file__).parent / "dying_coordinator.py"
ASK_PATH = "/v1/node/ask"
Answer = TypeVar("Answer")
Told = TypeVar("Told", bound=Message)


def free_port(host: str) -> int:
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def documents(coordinator: Identity, count: int, *, nodes: int = 20) -> list[Published]:
    """Epochs of random life up to now, as this coordinator would publish them."""
    life = iter(Life(7, nodes, max(4, nodes // 5)))
    begin_ms = SystemClock().now_ms() - count * EPOCH_MS
    before, previous = FIRST, NO_DOCUMENT
    found = []
    for number in range(count):
        inputs = with_times(next(life), begin_ms + number * EPOCH_MS)
        one, before = document_of(coordinator, inputs, before, previous)
        previous = one.content_hash
        found.append(one)
    return found


def with_times(inputs: EpochInputs, from_ms: int) -> EpochInputs:
    """Inputs of another time; without slashes, whose evidence verifiers would ask for."""
    return msgspec.structs.replace(inputs, from_ms=from_ms, until_ms=from_ms + EPOCH_MS, slashes=[])


def document_of(
    coordinator: Identity,
    inputs: EpochInputs,
    before: EpochTotals,
    previous: bytes,
    change: Callable[[Content], Content] = lambda content: content,
) -> tuple[Published, EpochTotals]:
    """One document; ``change`` falsifies it before it is published."""
    named, _ = with_pseudonyms(inputs, SECRET)
    tariff = Life(7, 4, 4).tariff
    result = compute(before, named, tariff, PARAMETERS)
    content = change(content_of(before, named, tariff, PARAMETERS, result))
    return publish(content, coordinator.public_key, previous), result.totals


@dataclass
class Settling:
    """The processes, and what they stand on. Use as a context manager."""

    folder: Path
    time_divisor: int = TIME_DIVISOR
    chain: LocalChain = field(init=False)
    coordinator: Identity = field(init=False)
    verifiers: list[Identity] = field(init=False)
    port: int = field(init=False)
    verifier_ports: dict[int, int] = field(default_factory=dict)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> "Settling":
        self.chain = start_anvil(self.folder, state_interval_s=1)
        self.port = free_port(HOST)
        rng, now_ms = SystemRng(), SystemClock().now_ms()
        opened = open_folder(self.home, "coordinator", now_ms)
        make_secrets(opened.path, rng)
        opened.close()
        self.coordinator = Identity(read_secret(self.home, COORDINATOR_SEED))
        self.verifiers = []
        for number in range(1, VERIFIERS + 1):
            verifier = open_folder(self.verifier_home(number), "verifier", now_ms)
            self.verifiers.append(
                Identity(verifier.secret(VERIFIER_SEED, lambda: rng.bytes(SEED_BYTES)))
            )
            verifier.close()
        keys = "".join(f"{one.public_key.hex()}\n" for one in self.verifiers)
        write_file(self.home / TRUSTED_VERIFIERS, keys.encode())
        keep_accounts(self.home, self.verifiers)
        migrate(f"sqlite:///{self.database}")
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._processes):
            self.kill(name)
        self.chain.kill()

    @property
    def home(self) -> Path:
        return self.folder / "coordinator"

    @property
    def database(self) -> Path:
        return self.home / "metadata.db"

    def verifier_home(self, number: int) -> Path:
        return self.folder / f"verifier-{number}"

    def accounts(self) -> list[Signer]:
        """The verifiers' keys of the chain."""
        signers = [verifier_signer(one) for one in self.verifiers]
        return [one for one in signers if one is not None]

    # --- processes ------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ATOLL_CHAIN_URL": self.chain.url,
            "ATOLL_CHAIN_TIME_DIVISOR": str(self.time_divisor),
            "ATOLL_COORDINATOR_EPOCH_S": "100000",
            "ATOLL_COORDINATOR_PROFILE": "demo",
        }

    def _words(self) -> list[str]:
        place = ["--host", HOST, "--port", str(self.port), "--page-port", "0"]
        return ["coordinator", "run", "--data", str(self.home), *place]

    def start_coordinator(self) -> None:
        self._start("coordinator", [sys.executable, "-m", "atoll", *self._words()])

    def start_dying_coordinators(self) -> None:
        """One after the other dies after the next new thing that settlement makes durable."""
        seen = str(self.folder / "seen")
        self._start("coordinator", [sys.executable, str(DYING), seen, *self._words()])

    def start_verifiers(self, numbers: Sequence[int] = range(1, VERIFIERS + 1)) -> None:
        for number in numbers:
            host = f"127.3.3.{number}"
            words = ["verifier", "run", "--data", str(self.verifier_home(number))]
            port = self.verifier_ports[number] = free_port(host)
            words += ["--host", host, "--port", str(port), "--operator", f"v{number}"]
            words += ["--coordinator", f"http://{HOST}:{self.port}"]
            self._start(f"verifier-{number}", [sys.executable, "-m", "atoll", *words])

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment(), start_new_session=True
            )

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    def deaths(self) -> int:
        """How often a dying coordinator died."""
        path = self.folder / "seen.deaths"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for something; fail at once where a process has ended that should not."""

        def good() -> bool:
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} ended: {self.log(name)}"
            return condition()

        wait_for(good, lambda: self.log("coordinator"))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-6_000:]

    def tell(self, identity: Identity, question: Message, answer: type[Told]) -> Told:
        """Ask the coordinator as whoever has this identity. Raises what it answers."""

        async def run() -> Told:
            body = encode(question)
            now_ms = SystemClock().now_ms()
            proof = prove_request(identity, "POST", ASK_PATH, body, now_ms).to_header()
            transport = HttpPieceTransport()
            try:
                reply = await transport.call(
                    Address(HOST, self.port),
                    "POST",
                    ASK_PATH,
                    {RequestProof.HEADER: proof, "content-type": "application/msgpack"},
                    body,
                    20.0,
                )
            finally:
                await transport.close()
            if reply.status >= 300:
                failure: Failure = decode(reply.body, Failure)
                raise failure.to_error()
            found: Told = decode(reply.body, answer)
            return found

        return asyncio.run(run())

    def verifier_facts(self, number: int) -> dict[str, Any]:
        """What a running verifier tells of itself."""
        words = ["verifier", "show", "--json", "--data", str(self.verifier_home(number))]
        place = {
            "ATOLL_VERIFIER_HOST": f"127.3.3.{number}",
            "ATOLL_VERIFIER_PORT": str(self.verifier_ports[number]),
        }
        ended = subprocess.run(
            [sys.executable, "-m", "atoll", *words],
            capture_output=True,
            check=True,
            env={**os.environ, **place},
        )
        return dict(json.loads(ended.stdout))

    # --- documents ------------------------------------------------------------------------------

    def publish(self, *published: Published) -> None:
        """Put documents where the coordinator has its own, as it does: files first."""
        disk = FolderDisk(self.home / "epochs")
        rows = []
        for one in published:
            index = read_index(one.index)
            for entry, body in zip(index.chunks, one.chunks, strict=True):
                disk.replace(chunk_name(entry.sha256), body)
            disk.replace(index_name(index.epoch), one.index)
            rows.append(_row(index, one.content_hash))

        async def put() -> None:
            database = SqlDatabase(f"sqlite:///{self.database}")
            for row in rows:
                await database.write(lambda c, row=row: billing.put(c, row))
            await database.close()

        asyncio.run(put())

    def states(self) -> dict[int, str]:
        rows = self.rows("SELECT epoch, state FROM settlement_epoch ORDER BY epoch")
        return {int(epoch): str(state) for epoch, state in rows}

    def rows(self, sql: str) -> list[Any]:
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30) as raw:
            return raw.execute(sql).fetchall()

    def epochs(self) -> list[dict[str, Any]]:
        """What the coordinator's door tells of epochs, by the command line."""
        words = ["epoch", "list", "--json", "--from", f"http://{HOST}:{self.port}"]
        ended = subprocess.run(
            [sys.executable, "-m", "atoll", *words], capture_output=True, check=True
        )
        return list(json.loads(ended.stdout))

    # --- the chain ------------------------------------------------------------------------------

    def book(self) -> dict[str, Contract]:
        """Where the contracts stand, as the coordinator published it; empty before."""
        path = self.home / book_name(EMBEDDED_CHAIN_ID)
        return read_book(path.read_bytes(), EMBEDDED_CHAIN_ID) if path.exists() else {}

    def connected(self) -> bool:
        """Whether all contracts stand and know each other."""
        intents = self.rows("SELECT state FROM chain_intent WHERE intent_key LIKE 'connect/%'")
        return "EpochDistributor" in self.book() and {state for (state,) in intents} == {3}

    def on_chain(self, ask: Callable[[RpcChain], Awaitable[Answer]]) -> Answer:
        async def run() -> Answer:
            chain = await open_chain(self.chain.url)
            try:
                return await ask(chain)
            finally:
                await chain.close()

        return asyncio.run(run())

    def ask(self, contract: str, function: str, *values: Any) -> Any:
        address = self.book()[contract].address

        async def call(chain: RpcChain) -> Any:
            data = abi.call_data(load(contract), function, *values)
            answer = await chain.call(ChainCall(address, data))
            return abi.read_answer(load(contract), function, answer, len(values))

        return self.on_chain(call)

    def send(self, signer: Signer, contract: str, function: str, *values: Any) -> bool:
        """Send a transaction and wait for it; False where the contract undid it."""
        address = self.book()[contract].address

        async def run(chain: RpcChain) -> bool:
            if await chain.balance(signer.address) == 0:
                await give_funds(chain, signer.address)
            data = abi.call_data(load(contract), function, *values)
            nonce, fees = await chain.nonce(signer.address), await chain.fees()
            signed = sign(signer, nonce, address, data, fees, gas=3_000_000)
            await chain.send_raw(signed.raw)
            return (await stand(chain, signed.hash)).succeeded

        return self.on_chain(run)

    def demand(self, chunk: int) -> bool:
        """Ask for leaves of the open proposal, as a stranger with money."""
        distributor = self.book()["EpochDistributor"].address
        assert self.send(FUNDER, "TestStable", "faucet", FUNDER.address, FUNDS_MICRO)
        assert self.send(FUNDER, "TestStable", "approve", distributor, FUNDS_MICRO)
        return self.send(FUNDER, "EpochDistributor", "demand", chunk)

    def fund(self) -> None:
        """Pay in more than any epoch here needs, as anybody may."""
        distributor = self.book()["EpochDistributor"].address
        assert self.send(FUNDER, "TestStable", "faucet", FUNDER.address, FUNDS_MICRO)
        assert self.send(FUNDER, "TestStable", "approve", distributor, FUNDS_MICRO)
        assert self.send(FUNDER, "EpochDistributor", "fund", FUNDS_MICRO)


def _row(index: Index, content: bytes) -> EpochRow:
    return EpochRow(
        index.epoch, State.PUBLISHED, index.from_ms, index.until_ms, content, index.root
    )


def wait_for(condition: Callable[[], bool], why: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not so after {PATIENCE_S} s: {why()}"
        time.sleep(0.1)  # other processes have no event to wait for
