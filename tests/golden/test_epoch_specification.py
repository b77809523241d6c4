"""docs/spec/epochs.md is enough: its letter, written anew here, gives the vectors.

Nothing of Atoll is imported: a stranger's program that recomputes an epoch from its bytes.
"""

import hashlib
import hmac
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

STORED = json.loads((Path(__file__).parent / "vectors" / "epochs.json").read_text(encoding="utf-8"))
Rows = dict[str, list[Any]]


def number(code: int, data: memoryview) -> int:
    assert code == 1
    return int.from_bytes(data, "big")


def rows_of(epoch: dict[str, Any]) -> Rows:
    found: Rows = defaultdict(list)
    for chunk in epoch["chunks"]:
        body = bytes.fromhex(chunk["body"])
        assert hashlib.sha256(body).hexdigest() == chunk["sha256"]
        found[chunk["section"]] += msgspec.msgpack.Decoder(ext_hook=number).decode(body)
    return found


def ceil(part: int, whole: int) -> int:
    return -(-part // whole)


class Epoch:
    """One epoch by the page."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        ((classes, self.repair_price),) = rows["tariff"]
        self.classes = {one[0]: one[1:] for one in classes}
        ((self.take_bps, self.shares, self.rho, _, _),) = rows["parameters"]
        ((_, _, _, self.reserve, self.time_factor),) = rows["frame"]
        self.nodes = {one[0]: one for one in rows["nodes"]}
        self.held = {node: 0 for node in self.nodes}
        self.held |= {node: held for node, _, held in rows["before.nodes"]}
        self.released = defaultdict(int, {a: r for a, r in rows["before.accounts"]})
        self.owed = defaultdict(int, {n: o for n, o in rows["before.owed"]})
        self.sums: defaultdict[tuple[str, bytes], int] = defaultdict(int)
        _, self.taken, self.carried, self.insurance = rows["before"][0]

    def price(self, node: bytes, posted: int, customers_max: int) -> int:
        low, high, reference, multiplier, _ = self.classes[self.nodes[node][2]]
        asked = min(max(posted or reference, low), high)
        payout = min(asked, reference * 20_000 // 10_000) * multiplier // 10_000
        price = ceil(payout * 10_000, 10_000 - self.take_bps)
        return min(price, customers_max) if customers_max else price

    def lines(self) -> list[list[Any]]:
        proofs = {one[0]: one[1:5] for one in self.rows["proofs"]}
        found = []
        for node, payer, byte_ms, posted, most, _ in self.rows["storage"]:
            due, missed, samples, failed = proofs.get(node, (1, 1, 0, 0))
            q = ((due - missed) * (samples - failed), due * samples)
            if due == 0:
                q = (1, 1)
            elif samples == 0 or due == missed:
                q = (0, 1)
            price = self.price(node, posted, most)
            fee = byte_ms * self.time_factor * price // (10**9 * 2_592_000_000)
            found.append([node, payer, fee, q])
        for node, payer, count, _ in self.rows["egress"]:
            price = ceil(self.classes[self.nodes[node][2]][4] * 10_000, 10_000 - self.take_bps)
            found.append([node, payer, count * price // 10**9, (1, 1)])
        return found

    def compute(self) -> None:
        lines = self.lines()
        terms = {payer: (d, limit) for payer, d, limit in self.rows["customers"]}
        fees: defaultdict[bytes, int] = defaultdict(int)
        charges: defaultdict[bytes, int] = defaultdict(int)
        for _, payer, fee, _ in lines:
            fees[payer] += fee
            charges[payer] += fee - ceil(fee * terms.get(payer, (0, -1))[0], 10_000)
        taken: defaultdict[bytes, int] = defaultdict(int)
        for node, payer, fee, (part, whole) in lines:
            d, limit = terms.get(payer, (0, -1))
            wanted = fee
            if 0 <= limit < charges[payer]:
                fee = fee * limit * 10_000 // (fees[payer] * (10_000 - d))
            proven = fee * part // whole
            charge = fee - ceil(fee * d, 10_000)
            discount = ceil(proven * d, 10_000)
            take = ceil(proven * self.take_bps, 10_000)
            taken[node] += take - discount
            for name, amount in (
                ("charge", charge), ("refund", charge - proven + discount),
                ("discount", discount), ("unfunded", wanted - fee),
            ):  # fmt: skip
                self.sums[name, payer] += amount
            self.sums["fee", node] += fee
            self.sums["earned", node] += proven - take
        total = sum(taken.values())
        owing = [
            total * share + rest for share, rest in zip(self.shares, self.carried, strict=True)
        ]
        self.parts, self.rests = [o // 10_000 for o in owing], [o % 10_000 for o in owing]
        self.insurance += self.parts[0]
        self.take = total
        self.repair()
        self.slashes()
        for payer, amount, _ in self.rows["credits"]:
            self.sums["credit", payer] += self.insured(amount)
        pool = min(total * self.rho // 10_000, self.reserve)
        for node in self.nodes:
            self.settle(node, pool * taken[node] // total if total else 0)

    def insured(self, wanted: int) -> int:
        paid = min(wanted, self.insurance)
        self.insurance -= paid
        return paid

    def repair(self) -> None:
        for node in sorted(self.owed):
            if node in self.nodes:
                paid = self.insured(self.owed[node])
                self.owed[node] -= paid
                self.sums["repair", node] += paid
        for worker, failed, count, _ in self.rows["repairs"]:
            due = count * self.repair_price // 10**9
            held = min(due, self.held[failed]) if failed in self.nodes else 0
            self.held[failed] -= held
            self.sums["slashed", failed] += held
            paid = self.insured(due - held)
            self.sums["repair", worker] += held + paid
            self.owed[worker] += due - held - paid

    def slashes(self) -> None:
        for node, amount, bill, customers, reporter, bps, _ in self.rows["slashes"]:
            taken = min(amount, self.held[node])
            self.held[node] -= taken
            self.sums["slashed", node] += taken
            left = taken - min(taken, bill)
            damage = sum(lost for _, lost in customers)
            given = min(left, damage)
            parts = [given * lost // damage for _, lost in customers] if damage else []
            order = sorted(
                range(len(parts)), key=lambda at: (-(given * customers[at][1] % damage), at)
            )
            for at in order[: given - sum(parts)]:
                parts[at] += 1
            for (payer, _), part in zip(customers, parts, strict=True):
                self.sums["credit", payer] += part
            left -= given
            reward = min(left, taken * bps // 10_000) if reporter else 0
            if reporter:
                self.released[reporter] += reward
            self.insurance += min(taken, bill) + left - reward

    def settle(self, node: bytes, top_up: int) -> None:
        _, account, _, hold_back, ceiling, credit = self.nodes[node]
        earned = self.sums["earned", node]
        kept = min(earned * hold_back // 10_000, max(0, ceiling - self.held[node]))
        held = self.held[node] + kept + top_up
        returned = max(0, held - ceiling)
        self.held[node] = held - returned
        payable = earned - kept + self.sums["repair", node] + returned
        credited = payable * credit // 10_000
        self.released[account] += payable - credited
        for name, amount in (
            ("top_up", top_up), ("withheld", kept + top_up), ("returned", returned),
            ("credited", credited), ("released", payable - credited),
        ):  # fmt: skip
            self.sums[name, node] = amount


@pytest.mark.parametrize("place", [0, 1])
def test_a_stranger_computes_an_epoch_from_its_bytes(place: int) -> None:
    rows = rows_of(STORED["epochs"][place])
    epoch = Epoch(rows)
    epoch.compute()
    names = (
        "fee", "earned", "repair", "top_up", "withheld", "returned", "slashed", "credited",
        "released",
    )  # fmt: skip
    for node, account, *figures, held in rows["result.nodes"]:
        assert figures == [epoch.sums[name, node] for name in names]
        assert (held, account) == (epoch.held[node], epoch.nodes[node][1])
    assert len(rows["result.nodes"]) == 3
    for payer, *figures in rows["result.customers"]:
        assert figures == [
            epoch.sums[name, payer]
            for name in ("charge", "refund", "discount", "unfunded", "credit")
        ]
    assert len(rows["result.customers"]) == 2
    assert rows["result"][0][:2] == [epoch.take, epoch.parts]
    taken = [had + part for had, part in zip(epoch.taken, epoch.parts, strict=True)]
    assert rows["after"] == [[place + 1, taken, epoch.rests, epoch.insurance]]
    accounts = {one[1] for one in rows["nodes"]}
    expected = sorted(epoch.released.items())
    assert [tuple(row) for row in rows["after.accounts"]] == expected
    assert {node: held for node, _, held in rows["after.nodes"]} == {
        node: held for node, held in epoch.held.items() if held
    }
    owed = {node: amount for node, amount in epoch.owed.items() if amount}
    assert dict(rows["after.owed"]) == owed
    leaves = [
        [
            account,
            released // 10**6,
            sum(epoch.held[n] for n in epoch.nodes if epoch.nodes[n][1] == account) // 10**6,
        ]
        for account, released in expected
        if released or account in accounts
    ]
    assert [row for row in leaves if any(row[1:])] == [
        row for row in rows["leaves"] if any(row[1:])
    ]


def test_epochs_follow_each_other() -> None:
    one, two = STORED["epochs"]
    first, second = rows_of(one), rows_of(two)
    for section in ("", ".accounts", ".nodes", ".owed"):
        assert second[f"before{section}"] == first[f"after{section}"]
    assert bytes.fromhex(one["content_hash"]) in bytes.fromhex(two["index"])


@pytest.mark.parametrize("place", [0, 1])
def test_the_index_names_the_chunks_and_the_hash_names_the_index(place: int) -> None:
    epoch = STORED["epochs"][place]
    index = bytes.fromhex(epoch["index"])
    name = hashlib.sha256(b"atoll/epoch-index/1\0" + index).hexdigest()
    assert name == epoch["content_hash"]
    ((version, at, _, _, _, _, root, _, released, held, chunks),) = msgspec.msgpack.decode(index)
    assert (version, at, root.hex()) == (1, place + 1, epoch["root"])
    assert (released, held) == (epoch["released_micro"], epoch["held_micro"])
    assert [(section, sha.hex()) for section, _, _, sha in chunks] == [
        (chunk["section"], chunk["sha256"]) for chunk in epoch["chunks"]
    ]
    leaves = rows_of(epoch)["leaves"]
    assert [released, held] == [sum(row[at] for row in leaves) for at in (1, 2)]


def test_pseudonyms_are_macs() -> None:
    for one in STORED["pseudonyms"]:
        message = b"atoll/epoch-payer/1\0" + one["epoch"].to_bytes(8, "big")
        message += bytes.fromhex(one["payer"])
        name = hmac.digest(bytes.fromhex(one["secret"]), message, "sha256")[:16]
        assert name.hex() == one["pseudonym"]


def unseal(seed: bytes, reader: bytes, purpose: bytes, box: bytes) -> bytes:
    secret = X25519PrivateKey.from_private_bytes(hashlib.sha512(seed).digest()[:32])
    shared = secret.exchange(X25519PublicKey.from_public_bytes(box[:32]))
    info = b"atoll/sealed/1\0" + purpose + b"\0" + box[:32] + reader
    key = HKDF(SHA256(), 32, salt=None, info=info).derive(shared)
    return AESGCM(key).decrypt(bytes(12), box[32:], None)


def test_a_box_opens_by_the_page() -> None:
    one = {name: bytes.fromhex(value) for name, value in STORED["sealed"].items()}
    assert unseal(one["seed"], one["public_key"], one["purpose"], one["box"]) == one["plain"]
    y = int.from_bytes(one["public_key"], "little") & (2**255 - 1)
    u = (1 + y) * pow(1 - y, -1, 2**255 - 19) % (2**255 - 19)
    moved = X25519PrivateKey.from_private_bytes(hashlib.sha512(one["seed"]).digest()[:32])
    assert moved.public_key().public_bytes_raw() == u.to_bytes(32, "little")
    rows = rows_of(STORED["epochs"][0])
    ((box,),) = rows["sealed"]
    body = unseal(one["seed"], one["public_key"], b"epoch-details/1", box)
    ((epoch, payer, name, lines),) = msgspec.msgpack.decode(body)
    assert (epoch, payer.hex()) == (1, "c1" * 16)
    mine = [row for row in [*rows["storage"], *rows["egress"]] if row[1] == name]
    assert sorted((line[0], line[1]) for line in lines) == sorted((row[0], row[-1]) for row in mine)
    (customer,) = [row for row in rows["result.customers"] if row[0] == name]
    assert [sum(line[at] for line in lines) for at in (2, 3)] == customer[1:3]


def test_numbers_are_written_by_the_page() -> None:
    for one in STORED["numbers"]:
        encoded = bytes.fromhex(one["encoded"])
        assert msgspec.msgpack.Decoder(ext_hook=number).decode(encoded) == [int(one["number"])]
