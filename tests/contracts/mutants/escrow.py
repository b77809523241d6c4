"""Faults of the escrow."""

from tests.contracts.mutate import Mutant

CONTRACT = "Escrow"
TESTS = ("test_escrow.py",)
MUTANTS = (
    Mutant("can be entered again", "# pragma nonreentrancy on", ""),
    Mutant("draws twice", 'assert self.draws[epoch][customer] == 0, "drawn already"', "pass"),
    Mutant(
        "debits nobody",
        "        self.balance_of[customer] -= amount\n        total += amount",
        "        total += amount",
    ),
    Mutant("forgets a draw that was given back", "= DRAWN | amount", "= amount"),
    Mutant(
        "no cap",
        'assert pot.drawn_micro <= staticcall PARAMETERS.draw_epoch_max_micro(), "cap"',
        "pass",
    ),
    Mutant("no lock of draws", 'assert block.timestamp >= pot.ready_s, "locked"', "pass"),
    Mutant(
        "only the first draw is locked",
        "    pot.ready_s = block.timestamp + staticcall PARAMETERS.draw_lock_s()",
        "    if pot.ready_s == 0:\n"
        "        pot.ready_s = block.timestamp + staticcall PARAMETERS.draw_lock_s()",
    ),
    Mutant(
        "take without bound",
        'assert take_micro * BPS < pot.drawn_micro * pot.take_bps + BPS, "take"',
        "pass",
    ),
    Mutant("take rounded down", "pot.take_bps + BPS, ", "pot.take_bps + 1, "),
    Mutant(
        "take of today",
        "pot.drawn_micro * pot.take_bps",
        "pot.drawn_micro * staticcall PARAMETERS.take_bps()",
    ),
    Mutant("releases twice", "    self.packed_pots[epoch] += RELEASED - OPEN\n", ""),
    Mutant(
        "releases late",
        """    assert block.timestamp >= pot.ready_s, "locked"
    assert block.timestamp < pot.expires_s, "expired\"""",
        '    assert block.timestamp >= pot.ready_s, "locked"',
    ),
    Mutant(
        "notice is no lock",
        "notice.ready_s = block.timestamp + staticcall PARAMETERS.escrow_lock_s()",
        "notice.ready_s = block.timestamp",
    ),
    Mutant(
        "an old lock holds for new money",
        "if amount_micro > notice.amount_micro:",
        "if notice.ready_s == 0:",
    ),
    Mutant(
        "withdraws what was drawn",
        "min(notice.amount_micro, self.balance_of[customer])",
        "notice.amount_micro",
    ),
    Mutant("withdraws twice", "    self.notice_of[customer] = empty(Notice)\n", ""),
    Mutant(
        "anybody's notice",
        "customer: bytes32 = self._customer(msg.sender, salt)\n    assert amount_micro",
        "customer: bytes32 = self._customer(msg.sender, empty(bytes32))\n    assert amount_micro",
    ),
    Mutant("refund keeps the draw", "    self.draws[epoch][customer] -= amount\n", ""),
    Mutant("refund keeps the pot", "    pot.drawn_micro -= amount\n", ""),
    Mutant(
        "reclaims from open pots",
        'assert late or pot.state == REJECTED, "not to be reclaimed"',
        "pass",
    ),
    Mutant(
        "fees of tokens are ours",
        ' and staticcall STABLE.balanceOf(self) == before + amount_micro, "transfer"',
        ', "transfer"',
    ),
    Mutant("a false answer passes", "assert sent and staticcall", "assert staticcall"),
    Mutant(
        "pause stops withdrawals",
        """    assert notice.amount_micro > 0, "no notice\"""",
        """    assert not staticcall PARAMETERS.paused()
    assert notice.amount_micro > 0, "no notice\"""",
    ),
    Mutant(
        "pause does not stop draws",
        """    assert msg.sender == self.settler, "not the settler"
    assert not staticcall PARAMETERS.paused(), "paused\"""",
        '    assert msg.sender == self.settler, "not the settler"',
    ),
    Mutant(
        "anybody rejects",
        'assert msg.sender == staticcall PARAMETERS.guardian(), "not the guardian"',
        "pass",
    ),
    Mutant(
        "epochs at will",
        "block.timestamp >= self.last_opened_s + staticcall PARAMETERS.draw_interval_s()",
        "True",
    ),
    Mutant("a pot forgets its expiry", "        | (pot.expires_s << 24)\n", ""),
    Mutant("a pot forgets its take", "        | (pot.take_bps << 8)\n", ""),
    Mutant("connects again", 'assert self.distributor == empty(address), "connected"', "pass"),
)
