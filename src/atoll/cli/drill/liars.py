"""Processes that lie, for drills: honest nodes and verifiers behind a disguise.

A disguise sits where any provider can put one: between his node and its network and disk. It knows
the node's own key, so whatever it changes is signed again. The product's own code is what runs
behind it, and what has to find it out.
"""

import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from typing_extensions import Buffer

from atoll.cli.options import config_option, data_option
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, RequestProof, prove_request
from atoll.core.messages import (
    Heartbeat,
    NodeFacts,
    NodeRequest,
    Register,
    SignedFacts,
    decode,
    encode,
    failure_of,
)
from atoll.core.messages.proofs import AgreeHead, VerifierSync
from atoll.core.ports import Address, Reply
from atoll.core.proofs.samples import Fault, SlotProof, sign_proof
from atoll.core.proofs.signed import decode_statement, encode_statement
from atoll.core.proofs.verdicts import (
    FailedSample,
    SignedVerdict,
    VerdictSignature,
    read_verdict,
    sign_verdict,
)
from atoll.node.service import FACTS_PURPOSE
from atoll.runtime.config import load_here

if TYPE_CHECKING:
    from atoll.core.ports import DiskFile
    from atoll.runtime.disk import FolderDisk
    from atoll.runtime.transport import HttpPieceTransport

LIES = {
    "wrong-bytes": "serves other bytes than it stored",
    "refuses-reads": "proves what it holds, but serves no reads",
    "forged-proofs": "answers samples with leaves that it made up",
    "lost-data": "has lost a part of its data and says nothing of it",
    "lying-figures": "tells of room that it does not have, and that it holds nothing",
}
"""What a node may lie about."""
DROPS_LIE = "drops-data"
"""A node that throws a part of its data away, and says nothing of it, when it is told to."""
DROP_FILE = "drop"
"""It is told by a file of this name in its folder."""
VERIFIER_LIE = "vouches"
"""A verifier that sees nothing wrong with liars, and slanders some of the honest."""
SLANDERED_ONE_IN = 4
"""Of the nodes, by the first byte of their keys."""
LIARS_VARIABLE = "ATOLL_DRILL_LIARS"
"""Environment of a supervisor: children by name and the lie of each, as JSON. For drills only."""
LOST_BLOCK_BYTES = 16 << 10
LOST_SHARE_PERCENT = 20
BOASTED_BYTES = 1 << 50
BOASTER_BYTES = 64 << 20
"""What a boaster really has room for."""


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def liars_of_environment() -> dict[str, str]:
    """Return which children of this supervisor lie, and how; mostly none."""
    raw = os.environ.get(LIARS_VARIABLE)
    if not raw:
        return {}
    try:
        return msgspec.json.decode(raw, type=dict[str, str])
    except msgspec.MsgspecError as cause:
        raise AtollError(Kind.CONFIG, "read liars", f"{LIARS_VARIABLE}: {cause}") from cause


class Disguise:
    """What a liar changes on the way out of and into an honest node."""

    def __init__(self, lie: str, identity: Identity, folder: Path) -> None:
        self._lie = lie
        self._identity = identity
        self._folder = folder

    def transport(self, honest: "HttpPieceTransport") -> "HttpPieceTransport":
        """Return the network with the lies in what is sent."""
        lie = self._vouch if self._lie == VERIFIER_LIE else self._tell
        return _LyingTransport(honest, lie)  # type: ignore[return-value]

    def app(self, honest: App) -> App:
        """Return the node's app with the lies in what is served."""
        if self._lie not in ("wrong-bytes", "refuses-reads"):
            return honest

        async def lying(scope: Scope, receive: Receive, send: Send) -> None:
            if not _reads_data(scope):
                await honest(scope, receive, send)
            elif self._lie == "refuses-reads":
                await _refuse(send)
            else:
                await honest(scope, receive, _flipping(send))

        return lying

    def disk(self, honest: "FolderDisk") -> "FolderDisk":
        """Return the disk with a part of the logs lost."""
        if self._lie not in ("lost-data", DROPS_LIE):
            return honest
        told = self._folder / DROP_FILE if self._lie == DROPS_LIE else None
        return _LosingDisk(honest, told)  # type: ignore[return-value]

    def _tell(self, path: str, body: bytes) -> bytes:
        """Return what a lying node says instead."""
        if path == "/v1/proofs":
            return self._forge(body) if self._lie == "forged-proofs" else body
        if not path.startswith("/v1/node/"):
            return body
        request = decode(body, NodeRequest)
        if isinstance(request, Heartbeat):
            changed = msgspec.structs.replace(request, lost_pieces=[])
            if self._lie == "lying-figures":
                counters = msgspec.structs.replace(
                    request.counters, free_bytes=BOASTED_BYTES, used_bytes=0, pieces=0
                )
                changed = msgspec.structs.replace(changed, counters=counters, full=False)
            return encode(changed)
        if isinstance(request, Register) and self._lie == "lying-figures":
            return encode(Register(signed_facts=self._boast(request.signed_facts)))
        if isinstance(request, AgreeHead) and request.missing:
            return encode(msgspec.structs.replace(request, missing=[]))
        return body

    def _boast(self, signed: SignedFacts) -> SignedFacts:
        facts: NodeFacts = decode(signed.facts, NodeFacts)
        boast = encode(msgspec.structs.replace(facts, capacity_bytes=BOASTED_BYTES))
        return SignedFacts(facts=boast, signature=self._identity.sign(FACTS_PURPOSE, boast))

    def _forge(self, body: bytes) -> bytes:
        proof = decode_statement(body, SlotProof)
        samples = [
            msgspec.structs.replace(
                sample, leaf=hashlib.shake_256(sample.leaf).digest(len(sample.leaf))
            )
            for sample in proof.samples
        ]
        forged = sign_proof(self._identity, proof.head, proof.beacon, proof.slot, samples)
        return encode_statement(forged)

    def _vouch(self, path: str, body: bytes) -> bytes:
        """Return what a verifier says that vouches for liars and slanders the honest."""
        if path == "/v1/verdicts":
            bodies = msgspec.msgpack.decode(body, type=list[bytes])
            return msgspec.msgpack.encode([self._whitewash(one) for one in bodies])
        if path != "/v1/node/ask":
            return body
        request = decode(body, NodeRequest)
        if not isinstance(request, VerifierSync):
            return body
        verdicts = [self._whitewash(one) for one in request.verdicts]
        return encode(msgspec.structs.replace(request, verdicts=verdicts, evidence=[]))

    def _whitewash(self, body: bytes) -> bytes:
        signed = decode_statement(body, SignedVerdict)
        verdict = read_verdict(signed.body)
        if not verdict.failed and verdict.node_key[0] % SLANDERED_ONE_IN:
            return body
        slander = FailedSample(0, 0, next(iter(Fault)).value, b"", 0)
        said = [] if verdict.failed else [slander]
        false = sign_verdict(self._identity, msgspec.structs.replace(verdict, failed=said))
        mine = VerdictSignature(false.key, false.signature)
        return encode_statement(SignedVerdict(false.body, [mine]))

    def proven(self, path: str, body: bytes) -> str:
        """Return a fresh signature of a request that was changed."""
        return prove_request(
            self._identity, "POST", path, body, time.time_ns() // 1_000_000
        ).to_header()


class _LyingTransport:
    """A transport that changes what is posted; all else passes."""

    def __init__(self, honest: "HttpPieceTransport", lie: Callable[[str, bytes], bytes]) -> None:
        self._honest = honest
        self._lie = lie

    def __getattr__(self, name: str) -> Any:
        return getattr(self._honest, name)

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        changed = self._lie(path, body) if method == "POST" else body
        if changed != body and RequestProof.HEADER in headers:
            disguise: Disguise = self._lie.__self__  # type: ignore[attr-defined]
            headers = {**headers, RequestProof.HEADER: disguise.proven(path, changed)}
        return await self._honest.call(address, method, path, headers, changed, timeout_s)


class _LosingDisk:
    """A disk on which some blocks of the logs read as zeros."""

    def __init__(self, honest: "FolderDisk", told: Path | None) -> None:
        """``told``: they do only once this file is there."""
        self._honest = honest
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._honest, name)

    def open(self, name: str, *, create: bool = False) -> Any:
        file = self._honest.open(name, create=create)
        return _LosingFile(file, name, self._told) if name.startswith("logs/") else file


class _LosingFile:
    """A file of which some blocks are gone; which ones never changes."""

    def __init__(self, honest: "DiskFile", name: str, told: Path | None) -> None:
        self._honest = honest
        self._name = name
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._honest, name)

    def read_at(self, offset: int, length: int) -> bytes:
        data = bytearray(self._honest.read_at(offset, length))
        self._lose(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, buffer: Buffer) -> int:
        count: int = self._honest.read_into(offset, buffer)
        self._lose(offset, memoryview(buffer).cast("B")[:count])
        return count

    def _lose(self, offset: int, data: memoryview) -> None:
        if self._told is not None and not self._told.exists():
            return
        first, last = offset // LOST_BLOCK_BYTES, (offset + len(data)) // LOST_BLOCK_BYTES
        for block in range(first, last + 1):
            draw = hashlib.sha256(f"{self._name}/{block}".encode()).digest()[0]
            # The first block of a log holds the beginning of its first record: a store that
            # could not read it would say so at its start.
            if block and draw * 100 < LOST_SHARE_PERCENT * 256:
                start = max(0, block * LOST_BLOCK_BYTES - offset)
                end = min(len(data), (block + 1) * LOST_BLOCK_BYTES - offset)
                data[start:end] = bytes(max(0, end - start))


def _reads_data(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and scope["path"].startswith("/v1/pieces/")
        and b"part=head" not in scope["query_string"]
        and b"part=trailer" not in scope["query_string"]
    )


async def _refuse(send: Send) -> None:
    body = encode(failure_of(AtollError(Kind.OVERLOADED, "read piece", "too busy")))
    headers = [(b"content-type", b"application/msgpack"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _flipping(send: Send) -> Send:
    """Return a ``send`` that changes a byte of what is served."""

    async def flipping(event: MutableMapping[str, Any]) -> None:
        body = event.get("body")
        if event["type"] == "http.response.body" and body:
            middle = len(body) // 2
            changed = bytes(body[:middle]) + bytes([body[middle] ^ 1]) + bytes(body[middle + 1 :])
            event = {**event, "body": changed}
        await send(event)

    return flipping


@click.command(hidden=True)
@click.option("--lie", type=click.Choice([*LIES, DROPS_LIE, VERIFIER_LIE]), required=True)
@data_option("The node's or verifier's data folder.")
@config_option
def liar(lie: str, data: Path, config_file: Path | None) -> None:
    """Run a node or a verifier that lies. For drills on a cloud of their own."""
    from atoll.cli import wire
    from atoll.cli.places import NODE_SEED, VERIFIER_SEED
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.folder import open_folder

    verifier = lie == VERIFIER_LIE
    kind, seed = ("verifier", VERIFIER_SEED) if verifier else ("node", NODE_SEED)
    config = load_here(data, config_file, {}).config
    if lie == "lying-figures":
        small = replace(config.node, capacity_bytes=BOASTER_BYTES, log_bytes=40 << 20)
        config = replace(config, node=small)
    folder = open_folder(data, kind, SystemClock().now_ms())
    disguise = Disguise(lie, wire.identity_of(folder.path, seed), folder.path)
    run = wire.run_verifier if verifier else wire.run_node
    wire.run(config, run(folder, config, disguise))


def liars_text(liars: Mapping[str, str]) -> str:
    """Return the value of ``LIARS_VARIABLE``."""
    return json.dumps(dict(liars))
