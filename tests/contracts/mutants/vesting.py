"""Faults of vesting."""

from tests.contracts.mutate import Mutant

CONTRACT = "Vesting"
TESTS = ("test_vesting.py",)
MUTANTS = (
    Mutant("claims again", "self.schedules[number].claimed += amount", "pass"),
    Mutant(
        "no cliff", "if at_s < schedule.start_s + schedule.cliff_s:", "if at_s < schedule.start_s:"
    ),
    Mutant(
        "counts from the cliff",
        "at_s - schedule.start_s",
        "at_s - schedule.start_s - schedule.cliff_s",
    ),
    Mutant(
        "rounds up",
        "schedule.amount * passed // schedule.duration_s",
        "(schedule.amount * passed + schedule.duration_s - 1) // schedule.duration_s",
    ),
    Mutant("pays the caller", "transfer(beneficiary, amount)", "transfer(msg.sender, amount)"),
    Mutant("connects to less", 'assert amount == TOTAL, "not', 'assert amount <= TOTAL, "not'),
    Mutant("connects to more", 'assert amount == TOTAL, "not', 'assert amount >= TOTAL, "not'),
    Mutant("connects again", 'assert self.token.address == empty(address), "connected"', "pass"),
    Mutant(
        "anybody offers",
        'assert msg.sender == self.schedules[number].beneficiary, "not the beneficiary"',
        "pass",
    ),
    Mutant("anybody accepts", 'assert msg.sender == self.offered[number], "not offered"', "pass"),
    Mutant("an offer is taken twice", "    self.offered[number] = empty(address)\n", ""),
    Mutant("milliseconds", "and starts_s[i] <= START_S_MAX", ""),
)
