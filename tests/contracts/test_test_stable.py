"""The test euro: for anybody, and on its own chain only."""

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.contracts.machine import Machine, run_machine
from tests.contracts.world import CHAIN_ID, EURO_MICRO, account, artifact, deploy, refused

ACTORS = ("photographer", "provider")
FAUCET_MAX = 1_000_000 * EURO_MICRO


def test_it_refuses_another_chain_and_every_public_one():
    with refused("not the embedded chain"):
        deploy("TestStable", CHAIN_ID + 1)
    from tests.contracts.world import environment

    for public in (1, 10, 137):
        environment().evm.patch.chain_id = public
        with refused("a public chain"):
            deploy("TestStable", public)
    environment().evm.patch.chain_id = CHAIN_ID


def test_it_looks_like_a_euro_of_six_decimals():
    stable = deploy("TestStable", CHAIN_ID)
    assert (stable.name(), stable.symbol(), stable.decimals()) == ("Atoll Test Euro", "tEUR", 6)
    functions = {entry.get("name") for entry in artifact("TestStable").abi}
    assert not functions & {"mint", "set_minter", "transfer_ownership", "burn"}
    roles = [event.name for event in stable.events()]
    assert roles[-1] == "OwnershipTransferred"


def test_faucet_gives_so_much_at_once():
    stable = deploy("TestStable", CHAIN_ID)
    with refused("too much at once"):
        stable.faucet(account("provider"), FAUCET_MAX + 1)
    stable.faucet(account("provider"), FAUCET_MAX, sender=account("anybody"))
    assert stable.balanceOf(account("provider")) == stable.totalSupply() == FAUCET_MAX


class StableMachine(Machine):
    """The faucet and transfers against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.stable = deploy("TestStable", CHAIN_ID)
        self.held = dict.fromkeys(ACTORS, 0)

    amounts = st.integers(0, 2 * FAUCET_MAX)

    @rule(role=st.sampled_from(ACTORS), amount=amounts)
    def faucet(self, role: str, amount: int) -> None:
        allowed = amount <= FAUCET_MAX
        self.attempt("faucet", allowed, lambda: self.stable.faucet(account(role), amount))
        self.held[role] += amount * allowed

    @rule(giver=st.sampled_from(ACTORS), taker=st.sampled_from(ACTORS), amount=amounts)
    def transfer(self, giver: str, taker: str, amount: int) -> None:
        allowed = amount <= self.held[giver]
        self.attempt(
            "transfer",
            allowed,
            lambda: self.stable.transfer(account(taker), amount, sender=account(giver)),
        )
        self.held[giver] -= amount * allowed
        self.held[taker] += amount * allowed

    @invariant()
    def conserves(self) -> None:
        for role, amount in self.held.items():
            assert self.stable.balanceOf(account(role)) == amount
        assert self.stable.totalSupply() == sum(self.held.values())


def test_test_stable_against_a_model():
    run_machine(StableMachine, runs=3, steps=20)
