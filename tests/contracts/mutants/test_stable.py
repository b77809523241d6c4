"""Faults of the test euro."""

from tests.contracts.mutate import Mutant

CONTRACT = "TestStable"
TESTS = ("test_test_stable.py",)
MUTANTS = (
    Mutant(
        "on any chain", 'assert chain.id == embedded_chain_id, "not the embedded chain"', "pass"
    ),
    Mutant("on public chains", 'assert chain.id > 1_000, "a public chain"', "pass"),
    Mutant("faucet without end", 'assert amount_micro <= FAUCET_MAX, "too much at once"', "pass"),
    Mutant(
        "faucet gives more",
        "erc20._mint(receiver, amount_micro)",
        "erc20._mint(receiver, amount_micro + 1)",
    ),
    Mutant("eighteen decimals", '"tEUR", 6,', '"tEUR", 18,'),
    Mutant("keeps an owner", "ownable._transfer_ownership(empty(address))", "pass"),
)
