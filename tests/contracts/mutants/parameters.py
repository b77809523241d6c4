"""Faults of the parameters."""

from tests.contracts.mutate import Mutant

CONTRACT = "Parameters"
TESTS = ("test_parameters.py",)
MUTANTS = (
    Mutant(
        "anybody sets",
        """    assert msg.sender == self._owner(), "not the owner"
    assert len(keys)""",
        "    assert len(keys)",
    ),
    Mutant(
        "no bounds",
        'assert values[i] >= self.lowest[key] and values[i] <= self.highest[key], "bounds"',
        "pass",
    ),
    Mutant("no lower bound", "values[i] >= self.lowest[key] and ", ""),
    Mutant(
        "self-dealing pays by a hair",
        "self.value[TOP_UP] + self_payable < BPS",
        "self.value[TOP_UP] + self_payable <= BPS",
    ),
    Mutant(
        "insurance is nobody's",
        "whole - self.value[TREASURY]",
        "whole - self.value[TREASURY] - self.value[INSURANCE]",
    ),
    Mutant(
        "shares need not make up the whole",
        'assert whole == BPS, "the',
        'assert whole <= BPS, "the',
    ),
    Mutant("a discount may be the take", "2 * self.value[DISCOUNT] <=", "self.value[DISCOUNT] <="),
    Mutant("take in leaps", "<= TAKE_STEP_BPS", "<= 2 * TAKE_STEP_BPS"),
    Mutant(
        "take without rest",
        "    self._check_step(key, values[i])",
        "    now: uint256 = self.value[key]\n            assert max(now, values[i]) - "
        'min(now, values[i]) <= TAKE_STEP_BPS, "step"',
    ),
    Mutant(
        "checks before it sets",
        """        log Set(key=key, name=self.name_of[key], value=values[i])
    self._check()""",
        """        log Set(key=key, name=self.name_of[key], value=values[i])""",
    ),
    Mutant("any delay owns", "if delay < OWNER_DELAY_S // TIME_DIVISOR:", "if delay < 1:"),
    Mutant(
        "pauses for ever",
        'assert last == 0 or block.timestamp >= last + PAUSE_S // TIME_DIVISOR, "rest"',
        "pass",
    ),
    Mutant(
        "anybody pauses",
        """    assert msg.sender == self.guardian, "not the guardian"
    last""",
        "    last",
    ),
    Mutant(
        "a pause of a month",
        "self.paused_until_s = block.timestamp + PAUSE_S //",
        "self.paused_until_s = block.timestamp + REST_S //",
    ),
    Mutant(
        "verifiers get the stakers'",
        "(split >> 48) & (2**16 - 1)",
        "(split >> 64) & (2**16 - 1) + 0",
    ),
    Mutant(
        "nothing is burned",
        "(self.value[STAKERS] << 64) | (self.value[BURN] << 80)",
        "(self.value[STAKERS] << 64)",
    ),
    Mutant(
        "wrong window",
        'return self.value[keccak256("answer_window_s")]',
        'return self.value[keccak256("challenge_window_s")]',
    ),
)
