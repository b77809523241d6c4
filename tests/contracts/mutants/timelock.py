"""Faults of the timelock: of how it is set up, since the rest is a library's."""

from tests.contracts.mutate import Mutant

CONTRACT = "Timelock"
TESTS = ("test_parameters.py",)
MUTANTS = (
    Mutant("no delay", "__init__(minimum_delay_s,", "__init__(0,"),
    Mutant("shorter delay", "__init__(minimum_delay_s,", "__init__(minimum_delay_s - 1,"),
    Mutant("governor is admin", "[empty(address)], empty(address))", "[empty(address)], governor)"),
    Mutant(
        "only the governor carries out", "[governor], [empty(address)],", "[governor], [governor],"
    ),
    Mutant("nobody schedules", "[governor], [", "[self], ["),
    Mutant("zero governor", 'assert governor != empty(address), "zero address"', "pass"),
)
