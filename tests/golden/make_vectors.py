"""Makes the golden vectors of docs/spec: ``python -m tests.golden.make_vectors``.

The files under ``vectors/`` are for everybody who writes another implementation, and they hold
this one to its word: ``test_vectors.py`` makes them anew and compares. A change of a file that is
already there is a change of format, and needs a new version and a decision.

Byte strings are hex. Long inputs are given by rule: byte ``i`` of ``pattern(length, seed)`` is
``(131 * i + 7 * (i // 256) + seed) mod 256``.
"""

import hashlib
import importlib
import json
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
from tests.golden.calendar_vectors import calendars
from tests.golden.epoch_vectors import epochs
from tests.golden.policy_vectors import attestations, credentials, policies
from tests.golden.proof_vectors import proofs
from tests.golden.receipt_vectors import receipts
from tests.golden.recovery_vectors import recovery
from tests.golden.slash_vectors import slashes
from tests.golden.statement_vectors import statements
from tests.golden.storage_vectors import logs, packs
from tests.golden.sumtree_vectors import sumtree

from atoll.core import (
    crypto,
    erasure,
    merkle,
    messages,
    orders,
    pieces,
    relay,
    retention,
    scheme,
    sets,
)
from atoll.core.errors import AtollError
from atoll.core.identity import Identity, prove_request
from atoll.core.ids import (
    AccountId,
    BucketId,
    OrderSerial,
    PayerTag,
    SegmentId,
    node_id_of,
    piece_id_of,
)

FOLDER = Path(__file__).parent / "vectors"

COORDINATOR = Identity(b"c" * 32)
PROVIDER = Identity(b"p" * 32)
GATEWAY = Identity(b"g" * 32)
SEGMENT = SegmentId(bytes(range(16)))
NOW_MS = 1_800_000_000_000
PRIME = 2**255 - 19
ORDER_EIGHT_Y = int.from_bytes(
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
)
SMALL_ORDER_Y = {0, 1, ORDER_EIGHT_Y, PRIME - ORDER_EIGHT_Y, PRIME - 1, PRIME, PRIME + 1}


def pattern(length: int, seed: int) -> bytes:
    return bytes((131 * i + 7 * (i // 256) + seed) & 0xFF for i in range(length))


def refusal(function: Any, *arguments: Any) -> str:
    """The kind of error that a call raises."""
    try:
        function(*arguments)
    except AtollError as error:
        return error.kind.value
    raise AssertionError(f"{function.__name__} accepted what it must refuse")


def identifiers() -> dict[str, Any]:
    return {
        "node_ids": [
            {"public_key": key.hex(), "node_id": node_id_of(key).hex()}
            for key in (bytes(32), PROVIDER.public_key)
        ],
        "piece_ids": [
            {
                "segment_id": SEGMENT.hex(),
                "index": index,
                "piece_id": piece_id_of(SEGMENT, index).hex(),
            }
            for index in (0, 1, 39, 254)
        ],
        "identities": [
            {
                "seed": (b"p" * 32).hex(),
                "public_key": PROVIDER.public_key.hex(),
                "purpose": "node-facts/1",
                "message": b"message".hex(),
                "signature": PROVIDER.sign(b"node-facts/1", b"message").hex(),
            }
        ],
        "keys_of_nobody": [
            (y | sign << 255).to_bytes(32, "little").hex()
            for y in sorted(SMALL_ORDER_Y)
            for sign in (0, 1)
        ],
        "request_proofs": [
            {
                "seed": (b"g" * 32).hex(),
                "method": "POST",
                "path": "/v1/control",
                "time_ms": NOW_MS,
                "body": b"body".hex(),
                "header": prove_request(
                    GATEWAY, "POST", "/v1/control", b"body", NOW_MS
                ).to_header(),
            }
        ],
    }


def keys() -> dict[str, Any]:
    phrases = []
    for entropy in (bytes(16), b"\xff" * 16, pattern(16, 1)):
        phrase = crypto.new_phrase(entropy)
        root = crypto.root_from_phrase(phrase)
        phrases.append({"entropy": entropy.hex(), "phrase": phrase, "root": root.hex()})
    root = crypto.root_from_phrase(crypto.new_phrase(pattern(16, 1)))
    account = crypto.account_keys(root, AccountId(b"a" * 16))
    bucket = account.bucket(BucketId(b"b" * 16))
    names = ["", "a", "photos/2026/reef.jpg", "a//b/", "/", "ключ/鍵", "%2F/../odd name"]
    kek = bucket.content_key("photos/2026/reef.jpg")
    wrapped = crypto.wrap_key(kek, SEGMENT, pattern(32, 2))
    path_key = bucket.path_key("photos/")
    return {
        "phrases": phrases,
        "refused_phrases": [
            {"phrase": phrase, "kind": refusal(crypto.check_phrase, phrase)}
            for phrase in ("", "abandon " * 12, "abandon " * 11 + "atoll")
        ],
        "account": {
            "root": root.hex(),
            "keys_id": crypto.keys_id(root).hex(),
            "first_account": crypto.first_account(root).hex(),
            "account_id": (b"a" * 16).hex(),
            "owner_seed": account.owner_seed().hex(),
            "recovery_key": account.recovery_key().hex(),
        },
        "bucket": {
            "bucket_id": (b"b" * 16).hex(),
            "recovery_key": bucket.recovery_key().hex(),
            "lock_seed": bucket.lock_seed().hex(),
            "manifest_key": bucket.manifest_key().hex(),
            "pack_key": bucket.pack_key().hex(),
            "content_keys": {name: bucket.content_key(name).hex() for name in names},
            "prefix_keys": {name: bucket.prefix_key(name).hex() for name in ("", "photos/", "/")},
            "path_keys": {name: bucket.path_key(name).hex() for name in ("", "photos/", "/")},
        },
        "wraps": [
            {
                "kek": kek.hex(),
                "segment_id": SEGMENT.hex(),
                "content_key": pattern(32, 2).hex(),
                "wrapped": wrapped.hex(),
            }
        ],
        "names": [
            {
                "path_key": path_key.hex(),
                "name": name,
                "sealed": crypto.seal_name(path_key, name).hex(),
            }
            for name in ("", "reef.jpg", "鍵")
        ],
        "secrets": [
            {
                "root": root.hex(),
                "label": "credential/AK1",
                "plain": b"secret".hex(),
                "nonce": pattern(12, 3).hex(),
                "sealed": crypto.seal_secret(
                    root, "credential/AK1", b"secret", pattern(12, 3)
                ).hex(),
            }
        ],
    }


def encode_segment(
    plain: bytes, code: scheme.Scheme, content_key: bytes, segment_id: bytes
) -> list[bytes]:
    """The data areas of all pieces, by the letter of docs/spec/segment.md."""
    layout = scheme.layout_for(len(plain), code)
    columns = [bytearray(layout.piece_bytes) for _ in range(code.k)]
    cipher = crypto.SegmentCipher(content_key, segment_id)
    for chunk in range(layout.chunks):
        start = chunk * layout.chunk_bytes
        part = plain[start : start + layout.chunk_plain_bytes(chunk)]
        column, offset = layout.place(chunk)
        unit = memoryview(columns[column])[offset : offset + len(part) + scheme.TAG_BYTES]
        cipher.encrypt_chunk(chunk, chunk == layout.chunks - 1, part, unit)
    parity = [bytearray(layout.piece_bytes) for _ in range(code.n - code.k)]
    erasure.codec(code.k, code.n).encode(columns, parity, layout.piece_bytes)
    return [bytes(piece) for piece in (*columns, *parity)]


def segment() -> dict[str, Any]:
    cipher = crypto.SegmentCipher(pattern(32, 4), SEGMENT)
    chunks = []
    for number, last, plain_bytes in ((0, False, 40), (1, True, 3), (0, True, 0), (1 << 31, 0, 1)):
        out = memoryview(bytearray(plain_bytes + 16))
        cipher.encrypt_chunk(number, bool(last), pattern(plain_bytes, 5), out)
        chunks.append(
            {
                "number": number,
                "last": bool(last),
                "plain": pattern(plain_bytes, 5).hex(),
                "cipher": bytes(out).hex(),
            }
        )
    codes = [scheme.TINY, scheme.RS_2_4, scheme.RS_4_8, scheme.RS_10_20, scheme.RS_20_40]
    sizes = [0, 1, 1008, 1009, 8192, 8193, 1 << 20, 4 << 20, 16 << 20, 64 << 20]
    layouts = []
    for code in codes:
        for plain_bytes in sizes:
            layout = scheme.layout_for(plain_bytes, code)
            fields = ("unit_bytes", "chunks", "rows", "piece_bytes")
            layouts.append(
                {"plain_bytes": plain_bytes, "scheme": code.name}
                | {name: getattr(layout, name) for name in fields}
            )
    segments = []
    for code, plain_bytes in (
        (scheme.TINY, 0),
        (scheme.TINY, 100),
        (scheme.RS_2_4, 9000),
        (scheme.RS_4_8, 70000),
        (scheme.RS_10_20, 9000),
        (scheme.RS_20_40, 70000),
    ):
        data = encode_segment(pattern(plain_bytes, 6), code, pattern(32, 4), SEGMENT)
        roots = [merkle.piece_root(piece) for piece in data]
        unit = scheme.layout_for(plain_bytes, code).unit_bytes
        root = merkle.segment_root(SEGMENT, code.k, code.n, unit, plain_bytes, roots)
        segments.append(
            {
                "scheme": code.name,
                "plain": {"pattern": [plain_bytes, 6]},
                "data_sha256": [hashlib.sha256(piece).hexdigest() for piece in data],
                "piece_roots": [root.hex() for root in roots],
                "segment_root": root.hex(),
            }
        )
    return {
        "content_key": pattern(32, 4).hex(),
        "segment_id": SEGMENT.hex(),
        "chunks": chunks,
        "layouts": layouts,
        "segments": segments,
    }


def coding() -> dict[str, Any]:
    codes = []
    for k, n in ((2, 4), (4, 8), (10, 20), (20, 40)):
        columns = [pattern(37, seed) for seed in range(k)]
        parity = [bytearray(37) for _ in range(n - k)]
        erasure.codec(k, n).encode(columns, parity, 37)
        codes.append(
            {
                "k": k,
                "n": n,
                "parity_rows": [row.hex() for row in erasure.generator_matrix(k, n)[k:]],
                "columns": {"pattern": [37, "seed is the column's number"]},
                "parity": [bytes(piece).hex() for piece in parity],
            }
        )
    return {"polynomial": erasure.POLYNOMIAL, "codes": codes}


def trees() -> dict[str, Any]:
    lengths = [0, 1, 4095, 4096, 4097, 8192, 12288, 20480, 28672, 65536, 65537]
    data = pattern(28673, 7)
    proofs = [
        {
            "leaf": leaf,
            "leaf_bytes_sha256": hashlib.sha256(data[leaf * 4096 : (leaf + 1) * 4096]).hexdigest(),
            "path": [hash_.hex() for hash_ in merkle.leaf_proof(data, leaf).path],
        }
        for leaf in range(8)
    ]
    roots = [pattern(32, seed) for seed in range(5)]
    return {
        "piece_roots": [
            {"pattern": [length, 7], "root": merkle.piece_root(pattern(length, 7)).hex()}
            for length in lengths
        ],
        "proofs": {
            "pattern": [28673, 7],
            "root": merkle.piece_root(data).hex(),
            "leaves": proofs,
        },
        "segment_roots": [
            {
                "segment_id": SEGMENT.hex(),
                "k": 2,
                "n": 5,
                "unit_bytes": 1024,
                "plain_bytes": 5000,
                "piece_roots": [root.hex() for root in roots],
                "segment_root": merkle.segment_root(SEGMENT, 2, 5, 1024, 5000, roots).hex(),
            }
        ],
    }


def record(header: pieces.Header, data: list[bytes]) -> bytes:
    trailer = pieces.sign_trailer(GATEWAY, header, [merkle.piece_root(piece) for piece in data])
    before = pieces.encode_header(header) + data[header.index]
    return before + pieces.encode_trailer(header, trailer, pieces.crc32c(before))


def check_record(body: bytes) -> None:
    checker = pieces.RecordChecker()
    checker.feed(body)
    checker.finish()


def piece() -> dict[str, Any]:
    tlvs = (pieces.Tlv(2, b"tag"), pieces.Tlv(60000, b""))
    data = encode_segment(b"hello", scheme.TINY, pattern(32, 4), SEGMENT)
    header = pieces.Header(SEGMENT, 1, 1, 4, 21, 5, 21, PayerTag(b"y" * 16), tlvs)
    tiny = record(header, data)
    check_record(tiny)
    wide_data = encode_segment(pattern(9000, 6), scheme.RS_2_4, pattern(32, 4), SEGMENT)
    wide = [
        record(
            pieces.Header(SEGMENT, index, 2, 4, 1024, 9000, len(wide_data[0]), PayerTag(b"y" * 16)),
            wide_data,
        )
        for index in range(4)
    ]
    flips = {"magic": 0, "version": 4, "index": 6, "payer tag": 64, "TLV": 100, "data": 115}
    refused = []
    for what, place in {**flips, "root": 130, "signature": 330, "commit mark": -1}.items():
        body = bytearray(tiny)
        body[place] ^= 1
        kind = refusal(check_record, bytes(body))
        refused.append({"flip_bit_0_of_byte": place % len(tiny), "in": what, "kind": kind})
    return {
        "signer_seed": (b"g" * 32).hex(),
        "tiny": {
            "plain": b"hello".hex(),
            "content_key": pattern(32, 4).hex(),
            "header": msgspec.to_builtins(header, builtin_types=[bytes]) | _header_hex(header),
            "record": tiny.hex(),
        },
        "tiny_refused": [
            *refused,
            {"cut_to": len(tiny) - 1, "kind": refusal(check_record, tiny[:-1])},
            {"append": "00", "kind": refusal(check_record, tiny + b"\0")},
        ],
        "records": [
            {"index": index, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            for index, body in enumerate(wide)
        ],
    }


def _header_hex(header: pieces.Header) -> dict[str, Any]:
    return {
        "segment_id": header.segment_id.hex(),
        "payer_tag": header.payer_tag.hex(),
        "tlvs": [[tlv.type, tlv.value.hex()] for tlv in header.tlvs],
    }


def order_limit(number: int) -> orders.OrderLimit:
    action = orders.Action(number % 6 + 1)
    repair = action is orders.Action.REPAIR_PUT
    return orders.OrderLimit(
        action=action,
        node_id=PROVIDER.node_id,
        segment_id=SEGMENT,
        segment_serial=number * 1000 + 1,
        index=number if number < 3 else orders.ANY_INDEX,
        byte_cap=1 << 20,
        issued_ms=NOW_MS,
        expires_ms=NOW_MS + 600_000,
        serial=OrderSerial(pattern(16, number)),
        payer_tag=PayerTag(b"y" * 16),
        gateway_key=b"" if repair else GATEWAY.public_key,
        retention_until_ms=number and NOW_MS + number * 86_400_000,
        segment_root=pattern(32, 6) if repair else b"",
    )


def order() -> dict[str, Any]:
    link_key = orders.link_key(pattern(32, 9), PROVIDER.node_id)
    batches = []
    for count in (1, 2, 5):
        limits = [order_limit(number) for number in range(count)]
        signed = orders.sign_orders(COORDINATOR, limits)
        batches.append(
            [
                {"limit": _hexed(limit), "signed": one.hex()}
                for limit, one in zip(limits, signed, strict=True)
            ]
        )
    (with_mac,) = orders.sign_orders(COORDINATOR, [order_limit(0)], {PROVIDER.node_id: link_key})
    trusted = {COORDINATOR.public_key}
    (foreign,) = orders.sign_orders(GATEWAY, [order_limit(0)])
    good = bytes.fromhex(batches[0][0]["signed"])
    bad = good[:-1] + bytes((good[-1] ^ 1,))
    cases = {
        "expired": (good, NOW_MS + 660_001),
        "issued in the future": (good, NOW_MS - 60_001),
        "another coordinator": (foreign, NOW_MS),
        "signature does not hold": (bad, NOW_MS),
        "cut short": (good[:-1], NOW_MS),
    }
    receipt = orders.PieceReceipt(
        PROVIDER.node_id, SEGMENT, 7, pattern(32, 8), OrderSerial(pattern(16, 0)), NOW_MS
    )
    return {
        "coordinator_seed": (b"c" * 32).hex(),
        "node_seed": (b"p" * 32).hex(),
        "batches": batches,
        "link": {
            "coordinator_secret": pattern(32, 9).hex(),
            "node_id": PROVIDER.node_id.hex(),
            "link_key": link_key.hex(),
            "signed_with_mac": with_mac.hex(),
        },
        "refused": [
            {
                "what": what,
                "signed": signed.hex(),
                "now_ms": now_ms,
                "skew_ms": 60_000,
                "kind": refusal(orders.check_order, signed, trusted, now_ms, 60_000),
            }
            for what, (signed, now_ms) in cases.items()
        ],
        "receipt": {
            "fields": _hexed(receipt),
            "signed": orders.sign_receipt(PROVIDER, receipt).hex(),
        },
    }


def _hexed(value: Any) -> Any:
    return json.loads(json.dumps(msgspec.to_builtins(value, builtin_types=[bytes]), default=_hex))


def _hex(value: Any) -> str:
    assert isinstance(value, bytes)
    return value.hex()


def _sample(kind: Any, name: str) -> Any:
    """A value of a field's type that can be told from others."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return [_sample(inner[0], name)]
    if origin is dict:
        return {"key": _sample(inner[1], name)}
    plain: dict[Any, Any] = {bool: True, float: 0.5, bytes: name.encode(), int: 7, str: name}
    if kind in plain:
        return plain[kind]
    if origin in (types.UnionType, typing.Union):
        return _sample(inner[0], name)
    hints = typing.get_type_hints(kind)
    return kind(**{f.name: _sample(hints[f.name], f.name) for f in msgspec.structs.fields(kind)})


def wire() -> dict[str, Any]:
    """One example of each message. New messages and new fields with defaults may be added."""
    return {
        kind.__name__: {
            "fields": _hexed(_sample(kind, "")),
            "encoded": messages.encode(_sample(kind, "")).hex(),
        }
        for kind in sorted(messages.Message.__subclasses__(), key=lambda kind: kind.__name__)
    }


def locks() -> dict[str, Any]:
    lock, owner = Identity(b"l" * 32), Identity(b"o" * 32)
    node = Identity(b"p" * 32)
    made = [
        retention.RetentionRecord(
            SEGMENT, lock.public_key, retention.Mode(mode), until_ms, hold, sequence
        )
        for mode, until_ms, hold, sequence in (
            (2, NOW_MS + retention.DAY_MS, False, NOW_MS),
            (1, NOW_MS + 1, True, NOW_MS + 1),
            (0, 0, True, NOW_MS + 2),
            (0, 0, False, NOW_MS + 3),
        )
    ]
    signed = [retention.sign_record(lock, record) for record in made]
    receipt = retention.RetentionReceipt(
        node.node_id, SEGMENT, 3, retention.record_digest(signed[0]), NOW_MS
    )
    return {
        "lock_seed": (b"l" * 32).hex(),
        "owner_seed": (b"o" * 32).hex(),
        "lock_key_grant": retention.grant_lock_key(owner, lock.public_key).hex(),
        "records": [
            {
                "segment_id": SEGMENT.hex(),
                "mode": int(record.mode),
                "until_ms": record.until_ms,
                "legal_hold": record.legal_hold,
                "sequence": record.sequence,
                "signed": one.hex(),
                "digest": retention.record_digest(one).hex(),
            }
            for record, one in zip(made, signed, strict=True)
        ],
        "compliance_kept": [
            {
                "mode": mode,
                "until_ms": until_ms,
                "sequence": sequence,
                "result": _order_of(
                    made[0],
                    retention.RetentionRecord(
                        SEGMENT, lock.public_key, retention.Mode(mode), until_ms, False, sequence
                    ),
                ),
            }
            for mode, until_ms, sequence in (
                (2, made[0].until_ms, NOW_MS + 1),
                (2, made[0].until_ms - 1, NOW_MS + 1),
                (1, made[0].until_ms, NOW_MS + 1),
                (0, 0, NOW_MS + 1),
                (0, 0, NOW_MS - 1),
                (2, made[0].until_ms, NOW_MS),
                (2, made[0].until_ms + 1, NOW_MS),
            )
        ],
        "receipt": {
            "node_seed": (b"p" * 32).hex(),
            "index": 3,
            "time_ms": NOW_MS,
            "signed": retention.sign_retention_receipt(node, receipt).hex(),
        },
    }


def _order_of(kept: retention.RetentionRecord, new: retention.RetentionRecord) -> str:
    try:
        return retention.compare(kept, new).value
    except AtollError as error:
        return error.kind.value


def compared_sets() -> dict[str, Any]:
    """Two contents of a window and the change between them; range 9 is told whole."""
    first = 7
    before = {
        7: {0: 0, 1: 7, 40_000: 3, 65_535: 254},
        8: {low: low % 8 for low in range(100, 400)},
        9: {5: 5},
        11: {9: 1},
    }
    after = {
        7: {0: 0, 1: 6, 40_000: 3},
        8: {low: low % 8 for low in range(110, 400)} | {500: 1},
        9: {6: 2, 7: 3},
        12: {low: 1 for low in range(0, 60_000, 600)},
    }
    change = sets.WindowChange.empty(first)
    for number in range(first, first + 6):
        old = None if number == 9 else sets.RangeSet.of(before.get(number, {}))
        change.note(number, old, sets.RangeSet.of(after.get(number, {})))
    whole, removed, added, indexes = change.encode()
    return {
        "first_range": first,
        "before": _window(before),
        "after": _window(after),
        "change": {
            "whole": whole.hex(),
            "removed": removed.hex(),
            "added": added.hex(),
            "indexes": indexes.hex(),
        },
        "missing": sets.pack_missing([(7, 3), (1 << 40, 0)]).hex(),
    }


def _window(held: dict[int, dict[int, int]]) -> dict[str, Any]:
    digests = {n: sets.RangeSet.of(pieces).digest(n) for n, pieces in held.items()}
    return {
        "digest": sets.window_digest(digests.items()).hex(),
        "ranges": [
            {
                "number": number,
                "pieces": {str(low): index for low, index in pieces.items()},
                "digest": digests[number].hex(),
            }
            for number, pieces in held.items()
        ],
    }


def relays() -> dict[str, Any]:
    carrier, node = Identity(b"r" * 32), Identity(b"p" * 32)
    challenge = relay.Challenge(pattern(32, 5), carrier.public_key)
    nonce = pattern(32, 6)
    welcome = relay.Welcome(9100, "Reef Carriers")
    return {
        "relay_seed": (b"r" * 32).hex(),
        "node_seed": (b"p" * 32).hex(),
        "challenge": relay.encode_challenge(challenge).hex(),
        "node_nonce": nonce.hex(),
        "hello": relay.encode_hello(node, challenge, nonce).hex(),
        "port": welcome.port,
        "operator": welcome.operator,
        "welcome": relay.encode_welcome(carrier, node.public_key, nonce, welcome).hex(),
        "frame_heads": [
            {
                "type": int(kind),
                "stream": stream,
                "payload_bytes": count,
                "head": relay.frame_head(kind, stream, count).hex(),
            }
            for kind, stream, count in (
                (relay.FrameType.OPEN, 1, 0),
                (relay.FrameType.DATA, 1, 65_536),
                (relay.FrameType.DATA, 7, 100),
                (relay.FrameType.CREDIT, 7, 4),
                (relay.FrameType.PING, 0, 0),
            )
        ],
    }


VECTORS = {
    "recovery": recovery,
    "identifiers": identifiers,
    "keys": keys,
    "segment": segment,
    "erasure": coding,
    "merkle": trees,
    "piece": piece,
    "orders": order,
    "receipts": receipts,
    "retention": locks,
    "sets": compared_sets,
    "relay": relays,
    "policy": policies,
    "certificates": credentials,
    "attestation": attestations,
    "proofs": proofs,
    "calendar": calendars,
    "pack": packs,
    "node-store": logs,
    "epochs": epochs,
    "sumtree": sumtree,
    "slashes": slashes,
    "statements": statements,
    "messages": wire,
}


def text_of(name: str) -> str:
    return json.dumps(VECTORS[name](), indent=1, ensure_ascii=False, default=_hex) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in VECTORS:
        (FOLDER / f"{name}.json").write_text(text_of(name), encoding="utf-8")
        print(FOLDER / f"{name}.json")
    message_tables = importlib.import_module("tests.golden.message_tables")
    message_tables.write_page()
    print(message_tables.PAGE)


if __name__ == "__main__":
    main()
