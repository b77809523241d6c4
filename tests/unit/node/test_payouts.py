"""A node lets its earnings go for exactly what it was promised, to its provider's own account."""

import dataclasses
from pathlib import Path

import msgspec
import pytest
from tests.fixtures.bank import CUSTOMER_IBAN, OURS

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import encode
from atoll.core.messages.payouts import (
    ORDER_PURPOSE,
    PayoutOrder,
    PayoutOrders,
    PayoutTaken,
    SignedPayout,
    SignPayout,
    bank_digest,
)
from atoll.core.ports import Address
from atoll.economy.chain.permit import permit_of
from atoll.economy.chain.signer import Signer, recover_account
from atoll.node.config import PayoutAccess
from atoll.node.link import Link
from atoll.node.payouts import PayoutSigner, checked
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.disk import FolderDisk

COORDINATOR, NODE = Identity(b"c" * 32), Identity(b"n" * 32)
KEY = Signer.derived(b"n" * 32, "payout")
PAYOUT = b"p" * 16
ORDER = PayoutOrder(
    payout=PAYOUT,
    node_id=NODE.node_id,
    account=KEY.address,
    amount_cents=123,
    bank_sha256=bank_digest(PAYOUT, CUSTOMER_IBAN),
    created_ms=1,
    domain=b"d" * 32,
    spender=b"o" * 20,
    amount_micro=1_230_000,
    nonce=0,
    deadline_s=2_000_000_000,
)


def promised(order: PayoutOrder, by: Identity = COORDINATOR) -> SignedPayout:
    body = encode(order)
    return SignedPayout(order=body, signature=by.sign(ORDER_PURPOSE, body))


def with_(**changes: object) -> PayoutOrder:
    return msgspec.structs.replace(ORDER, **changes)


def refused(promise: SignedPayout, iban: str = CUSTOMER_IBAN) -> str:
    with pytest.raises(AtollError) as found:
        checked(promise, COORDINATOR.public_key, NODE.node_id, KEY.address, iban)
    assert found.value.kind is Kind.FORBIDDEN
    assert CUSTOMER_IBAN not in str(found.value)
    return found.value.message


def test_what_is_promised_is_signed_for() -> None:
    order = checked(
        promised(ORDER), COORDINATOR.public_key, NODE.node_id, KEY.address, CUSTOMER_IBAN
    )
    assert order == ORDER
    digest = permit_of(order).digest()
    assert recover_account(digest, KEY.sign_digest(digest)) == KEY.address


def test_nothing_else_is() -> None:
    assert "signed" in refused(promised(ORDER, NODE))
    body = encode(with_(amount_cents=1))
    stolen = SignedPayout(order=body, signature=promised(ORDER).signature)
    assert "signed" in refused(stolen)
    assert "another node" in refused(promised(with_(node_id=b"x" * 32)))
    assert "another node" in refused(promised(with_(account=b"x" * 20)))
    assert "another amount" in refused(promised(with_(amount_micro=1_230_001)))
    assert "another amount" in refused(promised(with_(amount_cents=0, amount_micro=0)))
    assert "another amount" in refused(promised(with_(amount_cents=-1, amount_micro=-10_000)))
    assert "another bank account" in refused(promised(ORDER), OURS)
    assert "another bank account" in refused(promised(with_(payout=b"q" * 16)))
    assert "no bank account" in refused(promised(ORDER), "")


def test_every_figure_is_part_of_what_is_signed() -> None:
    permit = permit_of(ORDER)
    seen = {permit.digest()}
    for change in (
        {"domain": b"e" * 32},
        {"owner": b"x" * 20},
        {"spender": b"x" * 20},
        {"value": 1},
        {"nonce": 1},
        {"deadline_s": 1},
    ):
        seen.add(dataclasses.replace(permit, **change).digest())  # type: ignore[arg-type]
    assert len(seen) == 7
    for wrong in ({"value": -1}, {"value": 1 << 256}, {"owner": b""}, {"domain": b""}):
        with pytest.raises(ValueError, match=r"bytes|word"):
            dataclasses.replace(permit, **wrong).digest()  # type: ignore[arg-type]


async def test_a_promise_is_kept_before_the_permit_is_given(tmp_path: Path) -> None:
    disk, compute = FolderDisk(tmp_path), ThreadCompute(1)
    wrong = promised(with_(payout=b"q" * 16))
    given: list[SignPayout] = []

    async def orders(_: Link) -> PayoutOrders:
        return PayoutOrders(orders=[wrong, promised(ORDER)])

    async def take(_: Link, permit: SignPayout) -> PayoutTaken:
        assert disk.exists(f"payouts/{PAYOUT.hex()}")
        given.append(permit)
        return PayoutTaken(state="signed")

    link = Link(Address("127.0.0.1", 1), key=COORDINATOR.public_key, registered=True)
    access = PayoutAccess(KEY.address, KEY.sign_digest, lambda: CUSTOMER_IBAN)
    signer = PayoutSigner(SystemClock(), compute, disk, NODE, [link], access, orders, take)
    assert await signer.look() == 1
    assert await signer.look() == 0, "a coordinator is not asked all the time"
    (permit,) = given
    assert permit.payout == PAYOUT
    assert recover_account(permit_of(ORDER).digest(), permit.permit) == KEY.address
    kept = msgspec.msgpack.decode(disk.read(f"payouts/{PAYOUT.hex()}"), type=SignedPayout)
    assert kept == promised(ORDER)
    compute.close()
