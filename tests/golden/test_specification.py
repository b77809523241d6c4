"""The pages of docs/spec are enough: what they say, written anew here, gives the vectors.

Nothing of Atoll is imported. Standard hashes and ciphers only, by the letter of the pages.
"""

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

VECTORS = Path(__file__).parent / "vectors"


def stored(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def pattern(length: int, seed: int) -> bytes:
    return bytes((131 * i + 7 * (i // 256) + seed) % 256 for i in range(length))


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")


def hkdf(key: bytes, info: bytes, length: int) -> bytes:
    secret, block, out = mac(bytes(32), key), b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = mac(secret, block, info, bytes((number,)))
        out += block
    return out[:length]


def verify(key: bytes, purpose: bytes, message: bytes, signature: bytes) -> None:
    signed = b"atoll/" + purpose + b"\0" + message
    Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)


def top(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return sha256(b"\1", top(hashes[:split]), top(hashes[split:]))


def climb(leaf: bytes, position: int, count: int, path: list[bytes]) -> bytes:
    hashes, last = iter(path), count - 1
    while last > 0:
        if position % 2:
            leaf = sha256(b"\1", next(hashes), leaf)
        elif position < last:
            leaf = sha256(b"\1", leaf, next(hashes))
        position //= 2
        last //= 2
    assert next(hashes, None) is None
    return leaf


def leaves_of(data: bytes) -> list[bytes]:
    return [data[i : i + 4096] for i in range(0, len(data), 4096)] or [b""]


def piece_root(data: bytes) -> bytes:
    hashes = [sha256(b"\0", leaf) for leaf in leaves_of(data)]
    return sha256(b"\2", struct.pack(">Q", len(data)), top(hashes))


def segment_root(
    segment: bytes, k: int, n: int, unit: int, plain: int, roots: list[bytes]
) -> bytes:
    hashes = [sha256(b"\4", bytes((i,)), root) for i, root in enumerate(roots)]
    return sha256(b"\3", segment, struct.pack(">BBIQ", k, n, unit, plain), top(hashes))


def gf_multiply(left: int, right: int) -> int:
    product = 0
    for bit in range(8):
        if right >> bit & 1:
            product ^= left << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11D << (bit - 8)
    return product


INVERSE = {a: b for a in range(1, 256) for b in range(1, 256) if gf_multiply(a, b) == 1}


def coded(columns: list[bytes], n: int) -> list[bytes]:
    k = len(columns)
    if k == 1:
        return columns * n
    parity = []
    for i in range(k, n):
        piece = bytes(len(columns[0]))
        for j, column in enumerate(columns):
            table = bytes(gf_multiply(INVERSE[i ^ j], value) for value in range(256))
            piece = bytes(map(int.__xor__, piece, column.translate(table)))
        parity.append(piece)
    return columns + parity


def test_identifiers() -> None:
    vectors = stored("identifiers")
    for one in vectors["node_ids"]:
        node_id = sha256(b"atoll/node-id/1", bytes.fromhex(one["public_key"]))
        assert node_id.hex() == one["node_id"]
    for one in vectors["piece_ids"]:
        segment = bytes.fromhex(one["segment_id"])
        piece_id = sha256(b"atoll/piece-id/1", segment, bytes((one["index"],)))[:16]
        assert piece_id.hex() == one["piece_id"]
    (one,) = vectors["request_proofs"]
    key, time_ms, signature = one["header"].split(":")
    digest = hashlib.sha256(bytes.fromhex(one["body"])).hexdigest()
    text = f"{one['method']}\n{one['path']}\n{time_ms}\n{digest}".encode()
    verify(bytes.fromhex(key), b"request/1", text, bytes.fromhex(signature))


def test_keys() -> None:
    vectors = stored("keys")
    for one in vectors["phrases"]:
        root = hash_secret_raw(
            one["phrase"].encode(), b"atoll/root/1 recovery phrase", 3, 65536, 4, 32, Type.ID, 0x13
        )
        assert root.hex() == one["root"]
    held = vectors["account"]
    root = bytes.fromhex(held["root"])
    assert mac(root, b"atoll/keys-id/1")[:8].hex() == held["keys_id"]
    assert mac(root, b"atoll/first-account/1")[:16].hex() == held["first_account"]
    account = hkdf(root, b"atoll/account/1\0" + bytes.fromhex(held["account_id"]), 32)
    assert hkdf(account, b"atoll/owner/1", 32).hex() == held["owner_seed"]
    assert hkdf(account, b"atoll/recovery/1", 32).hex() == held["recovery_key"]
    held = vectors["bucket"]
    bucket = hkdf(account, b"atoll/bucket/1\0" + bytes.fromhex(held["bucket_id"]), 32)
    assert mac(bucket, b"recovery").hex() == held["recovery_key"]
    assert mac(bucket, b"lock").hex() == held["lock_seed"]
    assert mac(bucket, b"manifest").hex() == held["manifest_key"]
    assert mac(bucket, b"pack").hex() == held["pack_key"]

    def chain(components: list[bytes]) -> bytes:
        key = bucket
        for component in components:
            key = mac(key, b"path\0", component)
        return key

    for name, key in held["content_keys"].items():
        assert mac(chain(name.encode().split(b"/")), b"content").hex() == key
    for name, key in held["path_keys"].items():
        assert mac(chain(name.encode().split(b"/")[:-1]), b"name").hex() == key
    (one,) = vectors["wraps"]
    siv = AESSIV(hkdf(bytes.fromhex(one["kek"]), b"atoll/wrap/1", 64))
    wrapped = siv.encrypt(bytes.fromhex(one["content_key"]), [bytes.fromhex(one["segment_id"])])
    assert wrapped.hex() == one["wrapped"]
    for one in vectors["names"]:
        siv = AESSIV(hkdf(bytes.fromhex(one["path_key"]), b"atoll/name/1", 64))
        assert siv.decrypt(bytes.fromhex(one["sealed"]), [b"name"]).decode() == one["name"]
    (one,) = vectors["secrets"]
    label, sealed = one["label"].encode(), bytes.fromhex(one["sealed"])
    gcm = AESGCM(hkdf(root, b"atoll/secret/1\0" + label, 32))
    assert sealed[0] == 1
    assert gcm.decrypt(sealed[1:13], sealed[13:], label).hex() == one["plain"]


def test_segments() -> None:
    vectors = stored("segment")
    segment = bytes.fromhex(vectors["segment_id"])
    gcm = AESGCM(bytes.fromhex(vectors["content_key"]))

    def chunk_cipher(number: int, last: bool, plain: bytes) -> bytes:
        bound = struct.pack(">B16sIB", 1, segment, number, last)
        return gcm.encrypt(number.to_bytes(12, "big"), plain, bound)

    for one in vectors["chunks"]:
        sealed = chunk_cipher(one["number"], one["last"], bytes.fromhex(one["plain"]))
        assert sealed.hex() == one["cipher"]
    for one in vectors["segments"]:
        k, n = map(int, one["scheme"].split("/"))
        length, seed = one["plain"]["pattern"]
        plain = pattern(length, seed)
        unit = length + 16 if k == 1 else 1024
        chunks = max(1, -(-length // (unit - 16))) if unit > 16 else 1
        columns = [bytearray(-(-chunks // k) * unit) for _ in range(k)]
        for c in range(chunks):
            sealed = chunk_cipher(c, c == chunks - 1, plain[c * (unit - 16) :][: unit - 16])
            start = c // k * unit
            columns[c % k][start : start + len(sealed)] = sealed
        pieces = coded([bytes(column) for column in columns], n)
        assert [hashlib.sha256(piece).hexdigest() for piece in pieces] == one["data_sha256"]
        roots = [piece_root(piece) for piece in pieces]
        assert [root.hex() for root in roots] == one["piece_roots"]
        root = segment_root(segment, k, n, unit, length, roots)
        assert root.hex() == one["segment_root"]


def test_erasure_code() -> None:
    for one in stored("erasure")["codes"]:
        columns = [pattern(37, seed) for seed in range(one["k"])]
        assert [piece.hex() for piece in coded(columns, one["n"])[one["k"] :]] == one["parity"]


def test_merkle_trees() -> None:
    vectors = stored("merkle")
    for one in vectors["piece_roots"]:
        assert piece_root(pattern(*one["pattern"])).hex() == one["root"]
    proofs = vectors["proofs"]
    data = pattern(*proofs["pattern"])
    leaves = leaves_of(data)
    for one in proofs["leaves"]:
        path = [bytes.fromhex(hash_) for hash_ in one["path"]]
        reached = climb(sha256(b"\0", leaves[one["leaf"]]), one["leaf"], len(leaves), path)
        assert sha256(b"\2", struct.pack(">Q", len(data)), reached).hex() == proofs["root"]


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_piece_record() -> None:
    vectors = stored("piece")
    record = bytes.fromhex(vectors["tiny"]["record"])
    fields = struct.unpack_from(">4sBBBBB3sIQQ16s16s16sI4sII", record)
    magic, version, flags, index, k, n, _, unit, plain, length = fields[:10]
    piece_id, segment, _, area_bytes, _, area_crc, header_crc = fields[10:]
    assert (magic, version, flags, index, k, n) == (b"ATPC", 1, 0, 1, 1, 4)
    assert header_crc == crc32c(record[:92])
    assert area_crc == crc32c(record[96 : 96 + area_bytes])
    assert piece_id == sha256(b"atoll/piece-id/1", segment, bytes((index,)))[:16]
    assert len(record) == 96 + area_bytes + length + 32 * n + 140
    data = record[96 + area_bytes :][:length]
    trailer = record[96 + area_bytes + length :]
    roots = [trailer[i : i + 32] for i in range(0, 32 * n, 32)]
    assert roots[index] == piece_root(data)
    root, key, signature = trailer[32 * n :][:32], trailer[32 * n + 32 :][:32], trailer[-76:-12]
    assert root == segment_root(segment, k, n, unit, plain, roots)
    tlvs = record[96 : 96 + area_bytes]  # none of type 1
    verify(key, b"piece-trailer/1", root + sha256(tlvs), signature)
    assert struct.unpack(">I", trailer[-12:-8])[0] == crc32c(record[:-12])
    assert trailer[-8:] == b"ATOLLEND"


def check_order(signed: bytes) -> bytes:
    limit = signed[:156]
    key, count, position, hashes = struct.unpack_from(">32sHHB", signed, 156)
    end = 193 + 32 * hashes
    path = [signed[i : i + 32] for i in range(193, end, 32)]
    reached = climb(sha256(b"\5", limit), position, count, path)
    message = struct.pack(">H32s", count, reached)
    verify(key, b"order-batch/1", message, signed[end : end + 64])
    return signed[end + 64 :]


def roaring(packed: bytes) -> list[int]:
    """Read array and run containers of the portable roaring serialization."""
    if not packed:
        return []
    (cookie,) = struct.unpack_from("<I", packed)
    runs = b""
    if cookie & 0xFFFF == 12347:
        count, at = (cookie >> 16) + 1, 4
        runs = packed[at : at + (count + 7) // 8]
        at += len(runs)
    else:
        assert cookie == 12346
        (count,), at = struct.unpack_from("<I", packed, 4), 8
    heads = [struct.unpack_from("<HH", packed, at + 4 * i) for i in range(count)]
    at += 4 * count
    if not runs or count >= 4:
        at += 4 * count
    found: list[int] = []
    for number, (high, less_one) in enumerate(heads):
        if runs and runs[number // 8] >> number % 8 & 1:
            (pairs,) = struct.unpack_from("<H", packed, at)
            for i in range(pairs):
                start, more = struct.unpack_from("<HH", packed, at + 2 + 4 * i)
                found += [high << 16 | low for low in range(start, start + more + 1)]
            at += 2 + 4 * pairs
        else:
            assert less_one < 4096, "the vectors have no bitset container"
            lows = struct.unpack_from(f"<{less_one + 1}H", packed, at)
            found += [high << 16 | low for low in lows]
            at += 2 * len(lows)
    assert at == len(packed)
    return found


def range_digest(number: int, pieces: dict[int, int]) -> bytes:
    ordered = sorted(pieces.items())
    lows = struct.pack(f"<{len(ordered)}H", *(low for low, _ in ordered))
    indexes = bytes(index for _, index in ordered)
    head = b"atoll/set-range/1\0" + struct.pack(">QI", number, len(ordered))
    return sha256(head, lows, indexes)[:16]


def test_sets() -> None:
    vectors = stored("sets")
    held: dict[str, dict[int, dict[int, int]]] = {}
    for name in ("before", "after"):
        window = vectors[name]
        held[name] = {
            one["number"]: {int(low): index for low, index in one["pieces"].items()}
            for one in window["ranges"]
        }
        digests = b""
        for one in window["ranges"]:
            digest = range_digest(one["number"], held[name][one["number"]])
            assert digest.hex() == one["digest"]
            digests += struct.pack(">Q", one["number"]) + digest
        assert sha256(b"atoll/set-window/1\0", digests)[:16].hex() == window["digest"]
    change, first = vectors["change"], vectors["first_range"]
    window = {number: dict(pieces) for number, pieces in held["before"].items()}
    for (place,) in struct.iter_unpack(">I", bytes.fromhex(change["whole"])):
        window.pop(first + place, None)
    for place in roaring(bytes.fromhex(change["removed"])):
        window[first + (place >> 16)].pop(place & 0xFFFF)
    added = roaring(bytes.fromhex(change["added"]))
    for place, index in zip(added, bytes.fromhex(change["indexes"]), strict=True):
        window.setdefault(first + (place >> 16), {})[place & 0xFFFF] = index
    assert {number: pieces for number, pieces in window.items() if pieces} == held["after"]


def test_orders_and_receipts() -> None:
    vectors = stored("orders")
    for batch in vectors["batches"]:
        for one in batch:
            signed, limit = bytes.fromhex(one["signed"]), one["limit"]
            assert check_order(signed) == b""
            fields = struct.unpack_from(">BBBxQQQQQ32s16s16s16s32s", signed)
            assert fields[1:3] == (limit["action"], limit["index"])
            assert fields[3:6] == (limit["byte_cap"], limit["issued_ms"], limit["expires_ms"])
            assert fields[6:8] == (limit["retention_until_ms"], limit["segment_serial"])
            bound = "segment_root" if limit["action"] == 4 else "gateway_key"
            assert [field.hex() for field in fields[8:]] == [
                limit[name] for name in ("node_id", "segment_id", "serial", "payer_tag", bound)
            ]
    link = vectors["link"]
    secret, node_id = bytes.fromhex(link["coordinator_secret"]), bytes.fromhex(link["node_id"])
    link_key = mac(secret, b"atoll/link/1\0", node_id)
    assert link_key.hex() == link["link_key"]
    signed = bytes.fromhex(link["signed_with_mac"])
    assert check_order(signed) == mac(link_key, signed[:-16])[:16]
    signed = bytes.fromhex(vectors["receipt"]["signed"])
    verify(signed[76:108], b"piece-receipt/1", signed[:108], signed[108:])


def test_packs() -> None:
    vectors = stored("pack")
    assert mac(bytes.fromhex(vectors["bucket_key"]), b"pack").hex() == vectors["pack_key"]
    pack = b""
    for one in vectors["items"]:
        assert one["offset"] == len(pack)
        length, seed = one["plain"]["pattern"]
        plain, unit = pattern(length, seed), one["unit_bytes"]
        gcm, segment = AESGCM(bytes.fromhex(one["content_key"])), bytes.fromhex(one["segment_id"])
        chunks = max(1, -(-length // (unit - 16))) if unit > 16 else 1
        assert one["chunks"] == chunks
        stored_item = b""
        for c in range(chunks):
            assert len(stored_item) == c * unit
            bound = struct.pack(">B16sIB", 1, segment, c, c == chunks - 1)
            part = plain[c * (unit - 16) :][: unit - 16]
            stored_item += gcm.encrypt(c.to_bytes(12, "big"), part, bound)
        assert len(stored_item) == one["stored_bytes"] == length + 16 * chunks
        assert sha256(stored_item).hex() == one["stored_sha256"]
        pack += stored_item
    assert (len(pack), sha256(pack).hex()) == (vectors["plain_bytes"], vectors["plain_sha256"])


def test_node_logs() -> None:
    vectors = stored("node-store")
    key, end = bytes.fromhex(vectors["key"]), 0
    issuer = sha256(bytes.fromhex(vectors["issuer_key"]))[:7]
    for one in vectors["records"]:
        extent, offset = bytes.fromhex(one["extent"]), one["offset"]
        assert offset == end
        head = extent[:120]
        magic, version, kind, _, body_bytes = struct.unpack_from("<4sBBHQ", head)
        assert (magic, version, kind) == (b"ATLR", 1, one["kind"])
        assert struct.unpack_from("<Q", head, 80)[0] == int.from_bytes(issuer, "little")
        place = struct.pack("<QQ", vectors["log"], offset)
        check = hashlib.blake2b(head[:104] + place, key=key, digest_size=16).digest()
        assert check == head[104:]
        body, foot = extent[120 : 120 + body_bytes], extent[120 + body_bytes :][:24]
        assert struct.unpack_from("<4sI", foot) == (b"ATLE", crc32c(body))
        check = hashlib.blake2b(b"foot" + head + foot[:8], key=key, digest_size=16).digest()
        assert check == foot[8:]
        assert not any(extent[144 + body_bytes :])
        assert len(extent) == -(-(144 + body_bytes) // 8) * 8
        end += len(extent)
