"""Faults of the token."""

from tests.contracts.mutate import Mutant

CONTRACT = "Token"
TESTS = ("test_token.py",)
MUTANTS = (
    Mutant("keeps its minter", "erc20.is_minter[msg.sender] = False", "pass"),
    Mutant("keeps its owner", "ownable._transfer_ownership(empty(address))", "pass"),
    Mutant("mints after genesis", "    erc20.burn,\n", "    erc20.burn,\n    erc20.mint,\n"),
    Mutant("counts the first holder only", "supply += amounts[i]", "supply = amounts[0]"),
    Mutant(
        "mints one more",
        "erc20._mint(holders[i], amounts[i])",
        "erc20._mint(holders[i], amounts[i] + 1)",
    ),
    Mutant("six decimals", '"ATOLL", 18,', '"ATOLL", 6,'),
    Mutant(
        "drops the surplus holders",
        'assert len(holders) == len(amounts), "lengths"',
        'assert len(holders) >= len(amounts), "lengths"',
    ),
    Mutant("another version signs", '"Atoll", "1")', '"Atoll", "2")'),
    Mutant("empty allocations", 'assert amounts[i] > 0, "zero amount"', "pass"),
)
