"""What a verifier said, durably before anybody hears it: one append-only file per slot.

A record is ``length u32 | crc32 u32 | MessagePack [node key, signed verdict, proof]``. A tail cut
off by a crash is cut away at the next start: what was not durable was not said.
"""

import struct
import zlib
from dataclasses import dataclass

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.ids import node_id_of
from atoll.core.ports import Disk, DiskFile
from atoll.core.proofs.signed import Signed
from atoll.core.proofs.verdicts import read_verdict
from atoll.verifier.epochs_rules import OwnVerdict

FOLDER = "slots"
RECORD_BYTES_MAX = 16 << 20
SLOTS_KEPT_MIN = 4
_HEAD = struct.Struct(">II")


class Said(msgspec.Struct, frozen=True, array_like=True):
    """One verdict of ours with the proof it is of."""

    node_key: bytes
    verdict: Signed
    proof: bytes
    """Encoded ``SlotProof``."""


@dataclass(slots=True)
class _SlotFile:
    file: DiskFile
    size: int
    places: dict[bytes, tuple[int, int]]
    """Node key to (offset, length) of its record's body."""
    found: dict[bytes, tuple[bytes, int, int]]
    """Node key to the coordinator's key, samples, and how many of them failed."""


class Record:
    """The files. Blocking: hand ``add`` and ``open`` to ``Compute``."""

    def __init__(self, disk: Disk, keep_bytes: int) -> None:
        """Touch nothing yet."""
        self._disk = disk
        self._keep_bytes = keep_bytes
        self._slots: dict[int, _SlotFile] = {}

    def open(self) -> None:
        """Read what is there; cut away what was never finished."""
        for name in self._disk.names(FOLDER):
            stem = name.removesuffix(".log")
            if not stem.isdigit() or stem == name:
                continue
            file = self._disk.open(f"{FOLDER}/{name}")
            self._slots[int(stem)] = self._scan(file)

    def _scan(self, file: DiskFile) -> _SlotFile:
        places: dict[bytes, tuple[int, int]] = {}
        found: dict[bytes, tuple[bytes, int, int]] = {}
        offset, size = 0, file.size()
        while offset + _HEAD.size <= size:
            length, crc = _HEAD.unpack(file.read_at(offset, _HEAD.size))
            body = file.read_at(offset + _HEAD.size, length) if length <= RECORD_BYTES_MAX else b""
            if len(body) != length or zlib.crc32(body) != crc:
                break
            said = _decode(body)
            places[said.node_key] = (offset + _HEAD.size, length)
            found[said.node_key] = _found_in(said)
            offset += _HEAD.size + length
        if offset < size:
            file.truncate(offset)
            file.sync()
        return _SlotFile(file, offset, places, found)

    def slots(self) -> list[int]:
        """Return the slots of which something is kept."""
        return sorted(self._slots)

    def nodes(self, slot: int) -> list[bytes]:
        """Return the keys of nodes judged in a slot."""
        found = self._slots.get(slot)
        return sorted(found.places) if found is not None else []

    def add(self, slot: int, said: list[Said]) -> None:
        """Write records of a slot, durably. Raises ``DISK_FULL``."""
        found = self._slots.get(slot)
        if found is None:
            file = self._disk.open(f"{FOLDER}/{slot}.log", create=True)
            self._disk.sync_folder(FOLDER)
            found = self._slots[slot] = _SlotFile(file, 0, {}, {})
        parts: list[bytes] = []
        places: dict[bytes, tuple[int, int]] = {}
        offset = found.size
        for one in said:
            body = msgspec.msgpack.encode(one)
            parts += [_HEAD.pack(len(body), zlib.crc32(body)), body]
            places[one.node_key] = (offset + _HEAD.size, len(body))
            offset += _HEAD.size + len(body)
        found.file.write_at(found.size, parts)
        found.file.sync()
        found.size = offset
        found.places.update(places)
        found.found.update((one.node_key, _found_in(one)) for one in said)

    def own(self, coordinator_key: bytes, first: int, end: int) -> dict[bytes, list[OwnVerdict]]:
        """Return what was found in slots ``first`` … ``end - 1``, by node id, as far as kept."""
        by_node: dict[bytes, list[OwnVerdict]] = {}
        for slot in range(first, end):
            kept = self._slots.get(slot)
            if kept is None:
                continue
            for node_key, (key, samples, failed) in kept.found.items():
                if key == coordinator_key:
                    verdict = OwnVerdict(slot, samples, failed)
                    by_node.setdefault(node_id_of(node_key), []).append(verdict)
        return by_node

    def get(self, slot: int, node_key: bytes) -> Said | None:
        """Return what was said of a node in a slot."""
        found = self._slots.get(slot)
        place = found.places.get(node_key) if found is not None else None
        if found is None or place is None:
            return None
        return _decode(found.file.read_at(*place))

    def forget(self) -> None:
        """Remove the oldest slots while more is kept than should be."""
        kept = sum(slot.size for slot in self._slots.values())
        for slot in sorted(self._slots)[:-SLOTS_KEPT_MIN]:
            if kept <= self._keep_bytes:
                return
            gone = self._slots.pop(slot)
            kept -= gone.size
            gone.file.close()
            self._disk.remove(f"{FOLDER}/{slot}.log")

    def close(self) -> None:
        """Close the files."""
        for slot in self._slots.values():
            slot.file.close()
        self._slots.clear()


def _found_in(said: Said) -> tuple[bytes, int, int]:
    try:
        verdict = read_verdict(said.verdict.body)
    except AtollError:
        return b"", 0, 0  # of another version: it is shown as it was said, and counts nowhere
    return verdict.coordinator_key, verdict.samples, len(verdict.failed)


def _decode(body: bytes) -> Said:
    try:
        return msgspec.msgpack.decode(body, type=Said)
    except msgspec.MsgspecError as cause:
        raise AtollError(
            Kind.CORRUPT, "read record of verdicts", f"a record cannot be read: {cause}"
        ) from cause
