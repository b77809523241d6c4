"""Where ``atoll epoch`` reads documents: a coordinator's door, a folder, a bucket."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Address, PieceTransport

if TYPE_CHECKING:
    from atoll.client import AsyncClient
    from atoll.coordinator.billing.model import EpochFacts

FETCH_TIMEOUT_S = 30.0
INDEX_SUFFIX = "/index"
_ABSENT = frozenset({Kind.NOT_FOUND, Kind.OBJECT_NOT_FOUND, Kind.BUCKET_NOT_FOUND})


class Source(Protocol):
    """Where documents are read: a coordinator's door, a folder or a bucket."""

    @property
    def name(self) -> str:
        """What to call it to people."""

    async def epochs(self) -> "list[EpochFacts]":
        """Return what there is, newest first."""

    async def index(self, epoch: int) -> bytes:
        """Return a document's index. Raises ``NOT_FOUND``."""

    async def chunk(self, sha256: bytes) -> bytes:
        """Return a chunk, unchecked. Raises ``NOT_FOUND``."""


class FolderSource:
    """A folder of documents, as a coordinator keeps them and mirrors copy them."""

    def __init__(self, folder: Path) -> None:
        """Read below ``folder``."""
        self._folder = folder

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._folder)

    async def epochs(self) -> "list[EpochFacts]":
        """Return what there is, newest first. Their content hashes are those of the files."""
        from atoll.coordinator.billing.model import EpochFacts, State
        from atoll.economy.settlement.document import content_hash, read_index

        numbers = sorted(
            (int(one.parent.name) for one in self._folder.glob("[0-9]*/index")), reverse=True
        )
        found = []
        for number in numbers:
            body = await self.index(number)
            index = read_index(body)
            state, content = State.PUBLISHED.value, content_hash(body).hex()
            found.append(
                EpochFacts(number, state, index.from_ms, index.until_ms, content, index.root.hex())
            )
        return found

    async def index(self, epoch: int) -> bytes:
        """Return a document's index. Raises ``NOT_FOUND``."""
        return self._read(self._folder / str(epoch) / "index", f"epoch {epoch}")

    async def chunk(self, sha256: bytes) -> bytes:
        """Return a chunk, unchecked. Raises ``NOT_FOUND``."""
        return self._read(self._folder / "chunks" / sha256.hex(), f"chunk {sha256.hex()}")

    def _read(self, path: Path, what: str) -> bytes:
        from atoll.economy.settlement.document import INDEX_BYTES_MAX

        try:
            with path.open("rb") as file:
                return file.read(INDEX_BYTES_MAX + 1)
        except OSError as cause:
            raise AtollError(
                Kind.NOT_FOUND, "read epoch", f"{what} is not in {self._folder}"
            ) from cause


class DoorSource:
    """A coordinator's public pages."""

    def __init__(self, transport: PieceTransport, address: Address) -> None:
        """Ask over the network."""
        self._transport = transport
        self._address = address

    @property
    def name(self) -> str:
        """Its address."""
        return str(self._address)

    async def epochs(self) -> "list[EpochFacts]":
        """Return the newest hundred."""
        import msgspec

        from atoll.coordinator.billing.model import EpochFacts

        try:
            return msgspec.json.decode(await self._get(""), type=list[EpochFacts])
        except msgspec.MsgspecError as cause:
            raise AtollError(Kind.CORRUPT, "list epochs", f"no list of epochs: {cause}") from cause

    async def facts(self, epoch: int) -> "EpochFacts":
        """Return what is told of one epoch, how far it is on the chain included."""
        import msgspec

        from atoll.coordinator.billing.model import EpochFacts

        try:
            return msgspec.json.decode(await self._get(f"/{epoch}"), type=EpochFacts)
        except msgspec.MsgspecError as cause:
            raise AtollError(Kind.CORRUPT, "show epoch", f"no facts of one: {cause}") from cause

    async def index(self, epoch: int) -> bytes:
        """Return a document's index. Raises ``NOT_FOUND``."""
        return await self._get(f"/{epoch}/index")

    async def chunk(self, sha256: bytes) -> bytes:
        """Return a chunk, unchecked. Raises ``NOT_FOUND``."""
        return await self._get(f"/chunks/{sha256.hex()}")

    async def _get(self, path: str) -> bytes:
        reply = await self._transport.call(
            self._address, "GET", f"/v1/epochs{path}", {}, b"", FETCH_TIMEOUT_S
        )
        if reply.status != 200:
            raise AtollError(
                Kind.NOT_FOUND,
                "read epoch",
                f"the coordinator has nothing at /v1/epochs{path}",
                hint="`atoll epoch list` shows what there is; coordinator.epoch_s asks for epochs",
            )
        return bytes(reply.body)


class BucketSource:
    """Documents in a bucket, as mirrors put them there."""

    def __init__(self, client: "AsyncClient", bucket: str) -> None:
        """Read through an S3 client, which the caller closes."""
        self._client = client
        self._bucket = bucket

    @property
    def name(self) -> str:
        """The bucket."""
        return f"s3://{self._bucket}"

    async def epochs(self) -> "list[EpochFacts]":
        """Return what there is, newest first. Their content hashes are those of the files."""
        from atoll.client import ObjectEntry
        from atoll.coordinator.billing.model import EpochFacts, State
        from atoll.economy.settlement.document import content_hash, read_index

        numbers: list[int] = []
        async for entry in self._client.list(self._bucket):
            if isinstance(entry, ObjectEntry) and entry.key.endswith(INDEX_SUFFIX):
                name = entry.key.removesuffix(INDEX_SUFFIX)
                numbers += [int(name)] if name.isdigit() else []
        found = []
        for number in sorted(numbers, reverse=True):
            body = await self.index(number)
            index, content = read_index(body), content_hash(body).hex()
            found.append(
                EpochFacts(
                    number,
                    State.PUBLISHED.value,
                    index.from_ms,
                    index.until_ms,
                    content,
                    index.root.hex(),
                )
            )
        return found

    async def index(self, epoch: int) -> bytes:
        """Return a document's index. Raises ``NOT_FOUND``."""
        return await self._read(f"{epoch}{INDEX_SUFFIX}")

    async def chunk(self, sha256: bytes) -> bytes:
        """Return a chunk, unchecked. Raises ``NOT_FOUND``."""
        return await self._read(f"chunks/{sha256.hex()}")

    async def _read(self, key: str) -> bytes:
        from atoll.economy.settlement.document import INDEX_BYTES_MAX

        try:
            return await self._client.get_bytes(self._bucket, key, end=INDEX_BYTES_MAX + 1)
        except AtollError as error:
            if error.kind not in _ABSENT:
                raise
            raise AtollError(
                Kind.NOT_FOUND, "read epoch", f"{key} is not in {self.name}"
            ) from error
