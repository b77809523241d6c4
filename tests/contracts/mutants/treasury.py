"""Faults of the treasury."""

from tests.contracts.mutate import Mutant

CONTRACT = "Treasury"
TESTS = ("test_treasury.py",)
MUTANTS = (
    Mutant("can be entered again", "# pragma nonreentrancy on", ""),
    Mutant(
        "loses what rounding leaves",
        "shares[INSURANCE] = rest",
        "shares[INSURANCE] = amount_micro * bps[INSURANCE] // BPS",
    ),
    Mutant("rounds up", "amount_micro * bps[i] // BPS", "(amount_micro * bps[i] + BPS - 1) // BPS"),
    Mutant("takes from anybody", 'assert msg.sender == self.escrow, "not the escrow"', "pass"),
    Mutant(
        "anybody pays out",
        'assert msg.sender == self.payee[bucket], "not the payee"\n    assert receiver',
        "assert receiver",
    ),
    Mutant("pays out twice", "self.lower -= amount_micro << (FIGURE_BITS * bucket)", "pass"),
    Mutant(
        "pays out of other buckets",
        "amount_micro <= self._figure(bucket)",
        "amount_micro <= self._total()",
    ),
    Mutant(
        "stablecoin goes out as another token",
        'assert other != STABLE.address, "the stablecoin"',
        "pass",
    ),
    Mutant(
        "gifts count twice",
        "staticcall STABLE.balanceOf(self) - self._total()",
        "staticcall STABLE.balanceOf(self)",
    ),
    Mutant(
        "stakers are paid twice",
        "self.upper -= amount_micro << (FIGURE_BITS * (bucket - 4))",
        "pass",
    ),
    Mutant(
        "figures run over",
        'assert (upper >> (2 * FIGURE_BITS)) + amount <= FIGURE_MAX, "more money than there is"',
        "pass",
    ),
    Mutant(
        "burn is the stakers'",
        "more: uint256 = shares[4] | (shares[5] << FIGURE_BITS)",
        "more: uint256 = (shares[4] + shares[5])",
    ),
    Mutant("anybody accepts", 'assert msg.sender == self.offered[bucket], "not offered"', "pass"),
    Mutant("an offer is taken twice", "    self.offered[bucket] = empty(address)\n", ""),
    Mutant("connects again", 'assert self.escrow == empty(address), "connected"', "pass"),
    Mutant(
        "fees of tokens are ours",
        'assert sent and staticcall STABLE.balanceOf(self) == before + amount_micro, "transfer"',
        'assert sent, "transfer"',
    ),
)
