"""The registry: a node's key is its owner's, who may sign instead of sending."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.contracts.gas import check_gas
from tests.contracts.house import House, build
from tests.contracts.machine import Machine, run_machine
from tests.contracts.permit import domain, sign
from tests.contracts.world import (
    CHAIN_ID,
    DAY_S,
    ZERO,
    account,
    account_key,
    deploy,
    now_s,
    pass_time,
    refused,
    transaction,
)

NODE = b"\x11" * 32
URI = b"\x22" * 32
OWNERS = ("provider", "neighbour")
REGISTER = (
    "Register(bytes32 node_id,address owner,address payout,bytes32 uri_hash,"
    "uint256 nonce,uint256 deadline)"
)
UPDATE = "Update(bytes32 key,address payout,bytes32 uri_hash,uint256 nonce,uint256 deadline)"
RETIRE = "Retire(bytes32 key,uint256 nonce,uint256 deadline)"


def signed(house: House, role: str, kind: str, *values: Any, chain: int = CHAIN_ID) -> Any:
    separator = domain("Atoll NodeRegistry", "1", chain, house.registry.address)
    v, r, s = sign(account_key(role), separator, kind, *values)
    return v, int.from_bytes(r, "big"), int.from_bytes(s, "big")


def registered(house: House, role: str = "provider", node: bytes = NODE) -> bytes:
    key: bytes = house.registry.register(
        node, account(f"{role}'s account"), URI, sender=account(role)
    )
    return key


def test_an_entry_says_who_owns_where_paid_and_described():
    house = build()
    key = registered(house)
    assert key == house.registry.key_of(NODE, account("provider"))
    assert house.registry.nodes(key) == (
        NODE,
        account("provider").lower(),
        account("provider's account").lower(),
        URI,
        now_s(),
        0,
    )
    assert house.registry.owner_of(key) == account("provider").lower()
    assert house.registry.payout_of(key) == account("provider's account").lower()
    assert house.registry.is_active(key)
    event = house.registry.events("Registered")[0].values
    assert (event["key"], event["node_id"]) == (key, NODE)
    assert house.registry.owner_of(b"\x33" * 32) == ZERO
    assert not house.registry.is_active(b"\x33" * 32)


def test_nobody_can_take_a_nodes_id_away():
    house = build()
    squatted = registered(house, "attacker")
    key = registered(house)
    assert key != squatted
    assert house.registry.owner_of(key) == account("provider").lower()
    with refused("registered"):
        registered(house)
    house.registry.retire(key, sender=account("provider"))
    with refused("registered"):
        registered(house)


def test_only_the_owner_changes_an_entry():
    house = build()
    key = registered(house)
    for role in ("attacker", "governor", "deployer", "provider's account"):
        with refused("not the owner"):
            house.registry.update(key, account("attacker"), URI, sender=account(role))
        with refused("not the owner"):
            house.registry.retire(key, sender=account(role))
    house.registry.update(key, account("other"), b"\x44" * 32, sender=account("provider"))
    assert house.registry.payout_of(key) == account("other").lower()
    assert house.registry.nodes(key)[3] == b"\x44" * 32


def test_a_retired_node_keeps_owner_and_account():
    house = build()
    key = registered(house)
    house.registry.retire(key, sender=account("provider"))
    assert not house.registry.is_active(key)
    assert house.registry.owner_of(key) == account("provider").lower()
    house.registry.update(key, account("other"), URI, sender=account("provider"))
    assert house.registry.payout_of(key) == account("other").lower()
    with refused("retired"):
        house.registry.retire(key, sender=account("provider"))
    assert (house.registry.count(), house.registry.active_count()) == (1, 0)


def test_owner_signs_and_anybody_sends():
    house, provider = build(), account("provider")
    payout, deadline = account("provider's account"), now_s() + DAY_S
    values = (NODE, provider, payout, URI, 0, deadline)
    signature = signed(house, "provider", REGISTER, *values)
    register = house.registry.register_for
    for node, owner, account_, uri in (
        (b"\x12" * 32, provider, payout, URI),
        (NODE, account("attacker"), payout, URI),
        (NODE, provider, account("attacker"), URI),
        (NODE, provider, payout, b"\x23" * 32),
    ):
        with refused():
            register(node, owner, account_, uri, deadline, *signature)
    with refused():
        register(NODE, provider, payout, URI, deadline + 1, *signature)
    key = register(NODE, provider, payout, URI, deadline, *signature, sender=account("relayer"))
    assert house.registry.owner_of(key) == provider.lower()
    # Neither again, nor for another contract or chain, nor after its time.
    with refused():
        register(NODE, provider, payout, URI, deadline, *signature)
    update = (key, account("other"), URI, 1, deadline)
    with refused():
        house.registry.update_for(
            *update[:3], deadline, *signed(house, "provider", UPDATE, *update, chain=CHAIN_ID + 1)
        )
    with refused():
        house.registry.update_for(
            *update[:3], deadline, *signed(house, "attacker", UPDATE, *update)
        )
    good = signed(house, "provider", UPDATE, *update)
    house.registry.update_for(*update[:3], deadline, *good)
    with refused():
        house.registry.update_for(*update[:3], deadline, *good)
    retire = signed(house, "provider", RETIRE, key, 2, deadline)
    pass_time(DAY_S + 1)
    with refused("expired"):
        house.registry.retire_for(key, deadline, *retire)
    late = now_s() + DAY_S
    house.registry.retire_for(key, late, *signed(house, "provider", RETIRE, key, 2, late))
    assert not house.registry.is_active(key)


def test_an_older_signature_does_not_undo_a_newer():
    house = build()
    key = registered(house)
    deadline = now_s() + DAY_S
    first = (key, account("first"), URI, 0, deadline)
    second = (key, account("second"), URI, 0, deadline)
    signatures = [signed(house, "provider", UPDATE, *one) for one in (first, second)]
    house.registry.update_for(*second[:3], deadline, *signatures[1])
    with refused():
        house.registry.update_for(*first[:3], deadline, *signatures[0])


def test_signatures_for_nobody_are_refused():
    house = build()
    deadline = now_s() + DAY_S
    with refused("no such node"):
        house.registry.retire_for(b"\x55" * 32, deadline, 27, 1, 1)
    with refused("no such node"):
        house.registry.update_for(b"\x55" * 32, account("x"), URI, deadline, 27, 1, 1)
    with refused("no such node"):
        house.registry.register_for(NODE, ZERO, account("x"), URI, deadline, 27, 1, 1)


def test_bad_arguments_and_pause():
    house = build()
    with refused("zero id"):
        registered(house, node=bytes(32))
    with refused("zero address"):
        house.registry.register(NODE, ZERO, URI, sender=account("provider"))
    key = registered(house)
    with refused("zero address"):
        house.registry.update(key, ZERO, URI, sender=account("provider"))
    with refused("zero address"):
        deploy("NodeRegistry", ZERO)
    house.parameters.pause(sender=account("guardian"))
    with refused("paused"):
        registered(house, "neighbour")
    house.registry.update(key, account("other"), URI, sender=account("provider"))
    house.registry.retire(key, sender=account("provider"))


class RegistryMachine(Machine):
    """Entries of two owners against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.house = build()
        self.entries: dict[bytes, list[Any]] = {}
        self.nonces = dict.fromkeys(OWNERS, 0)
        for owner in OWNERS:
            key = registered(self.house, owner, b"\1" * 32)
            self.entries[key] = [owner, account(f"{owner}'s account"), True]

    owners = st.sampled_from(OWNERS)
    nodes = st.integers(1, 2).map(lambda n: bytes([n]) * 32)

    def _key(self, node: bytes, owner: str) -> bytes:
        return bytes(self.house.registry.key_of(node, account(owner)))

    @rule(node=nodes, owner=owners, by_signature=st.booleans())
    def register(self, node: bytes, owner: str, by_signature: bool) -> None:
        key = self._key(node, owner)
        allowed = key not in self.entries
        deadline, payout = now_s() + 60, account("first account")

        def call() -> None:
            if by_signature:
                values = (node, account(owner), payout, URI, self.nonces[owner], deadline)
                signature = signed(self.house, owner, REGISTER, *values)
                self.house.registry.register_for(*values[:4], deadline, *signature)
            else:
                self.house.registry.register(node, payout, URI, sender=account(owner))

        self.attempt("register", allowed, call)
        if allowed:
            self.entries[key] = [owner, payout, True]
            self.nonces[owner] += by_signature

    @rule(node=nodes, owner=owners, stranger=st.booleans(), number=st.integers(0, 3))
    def update(self, node: bytes, owner: str, stranger: bool, number: int) -> None:
        caller = "attacker" if stranger else owner
        key, payout = self._key(node, owner), account(f"account {number}")
        allowed = key in self.entries and caller == owner
        self.attempt(
            "update",
            allowed,
            lambda: self.house.registry.update(key, payout, URI, sender=account(caller)),
        )
        if allowed:
            self.entries[key][1] = payout

    @rule(node=nodes, owner=owners, by_signature=st.booleans())
    def retire(self, node: bytes, owner: str, by_signature: bool) -> None:
        key, deadline = self._key(node, owner), now_s() + 60
        allowed = key in self.entries and self.entries[key][2]

        def call() -> None:
            if by_signature:
                signature = signed(self.house, owner, RETIRE, key, self.nonces[owner], deadline)
                self.house.registry.retire_for(key, deadline, *signature)
            else:
                self.house.registry.retire(key, sender=account(owner))

        self.attempt("retire", allowed, call)
        if allowed:
            self.entries[key][2] = False
            self.nonces[owner] += by_signature

    @invariant()
    def agrees(self) -> None:
        registry = self.house.registry
        for key, (owner, payout, active) in self.entries.items():
            assert registry.owner_of(key) == account(owner).lower()
            assert registry.payout_of(key) == payout.lower()
            assert registry.is_active(key) == active
        for owner, nonce in self.nonces.items():
            assert registry.nonces(account(owner)) == nonce
        assert registry.count() == len(self.entries)
        assert registry.active_count() == sum(entry[2] for entry in self.entries.values())


def test_registry_against_a_model():
    run_machine(RegistryMachine, runs=5, steps=20)


@pytest.mark.usefixtures("gas_chain")
def test_gas():
    house, measured = build(), {}
    registered(house, "neighbour")
    transaction()
    key = registered(house)
    measured["register"] = house.registry.gas_used()
    transaction()
    house.registry.update(key, account("other"), URI, sender=account("provider"))
    measured["update"] = house.registry.gas_used()
    deadline = now_s() + DAY_S
    signature = signed(house, "provider", UPDATE, key, account("third"), URI, 0, deadline)
    transaction()
    house.registry.update_for(key, account("third"), URI, deadline, *signature)
    measured["first update by signature"] = house.registry.gas_used()
    transaction()
    house.registry.retire(key, sender=account("provider"))
    measured["retire"] = house.registry.gas_used()
    check_gas("NodeRegistry", measured, {})
