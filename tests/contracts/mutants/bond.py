"""Faults of the bond."""
# ruff: noqa: E501 - what is replaced stands as it does in the source

from tests.contracts.mutate import Mutant

CONTRACT = "Bond"
TESTS = ("test_bond.py", "test_bond_model.py")
MUTANTS = (
    Mutant("delegations are lost first", "    own: uint256 = self._slash_own(node, last, amount)\n    delegated: uint256 = self._slash_delegated(node, last, amount - own)", "    delegated: uint256 = self._slash_delegated(node, last, amount)\n    own: uint256 = self._slash_own(node, last, amount - delegated)"),
    Mutant("who left is not slashed", "BUCKETS: constant(uint256) = 3", "BUCKETS: constant(uint256) = 1"),
    Mutant("one bucket short", "BUCKETS: constant(uint256) = 3", "BUCKETS: constant(uint256) = 2"),
    Mutant("who retired is bonded", 'assert staticcall REGISTRY.is_active(node), "no such node"\n    assert amount', 'assert staticcall REGISTRY.owner_of(node) != empty(address), "no such node"\n    assert amount'),
    Mutant("who retired is delegated to", 'assert staticcall REGISTRY.is_active(node), "no such node"\n    generation', 'assert staticcall REGISTRY.owner_of(node) != empty(address), "no such node"\n    generation'),
    Mutant("anyone slashes", 'assert msg.sender == self.COURT, "not the court"', "pass"),
    Mutant("leaving bucket is not debited", "            self.leaving[node][generation][last - back].assets = there - part\n", ""),
    Mutant("own bucket is not debited", "            self.own_leaving[node][last - back] = there - part\n", ""),
    Mutant("slash drops the remainder", "            left -= part\n            total -= there\n    self.own[node] -= left", "            left -= part\n            total -= there\n    self.own[node] -= want * self.own[node] // max(self._own_liable(node, last) + want, 1)"),
    Mutant("free shares", "return amount * (pool.shares + VIRTUAL_SHARES) // (pool.assets + 1)", "return amount * (pool.shares + VIRTUAL_SHARES) // (pool.assets + 1) + 10**6"),
    Mutant("shares rounded up", "return shares * (pool.assets + 1) // (pool.shares + VIRTUAL_SHARES)", "return (shares * (pool.assets + 1) + pool.shares + VIRTUAL_SHARES - 1) // (pool.shares + VIRTUAL_SHARES)"),
    Mutant("no virtual shares", "VIRTUAL_SHARES: public(constant(uint256)) = 10**6", "VIRTUAL_SHARES: public(constant(uint256)) = 1"),
    Mutant("withdrawn units stay", "    self.leaving_shares[node][generation][bucket][msg.sender] = 0\n", ""),
    Mutant("withdrawn own stays", "    self.own_leaving[node][bucket] = 0\n", ""),
    Mutant("commission rises at once", "from_s += UNBONDING_S", "from_s += 1"),
    Mutant("a rise reaches back", "            flow = self._flow_until(node, flow, terms.next_s, terms.bps)\n", "            pass\n"),
    Mutant("no bound of commission", 'assert bps <= COMMISSION_BPS_MAX, "commission"', "pass"),
    Mutant("late joiners earn the past", "    self._flow(node)\n    self._settle(node, generation, msg.sender)\n    shares: uint256 = self._shares(pool, amount)", "    shares: uint256 = self._shares(pool, amount)"),
    Mutant("joiners are not settled", "    self._settle(node, generation, msg.sender)\n    shares: uint256 = self._shares(pool, amount)", "    shares: uint256 = self._shares(pool, amount)"),
    Mutant("leavers are not settled", "    self._settle(node, generation, msg.sender)\n    pool: Pool = self.pools[node][generation]\n    amount", "    pool: Pool = self.pools[node][generation]\n    amount"),
    Mutant("rewards at once", "        amount = flow.left_micro * (until - flow.last_s) // (flow.end_s - flow.last_s)\n", "        amount = flow.left_micro\n"),
    Mutant("a gift puts a reward off", "ahead = (flow.left_micro * ahead + amount_micro * REWARD_S) // left", "ahead = REWARD_S"),
    Mutant("operator adds without a flow", '    self._flow(node)\n    self.own[node] += amount', "    self.own[node] += amount"),
    Mutant("claimed stays", "    self.earned_micro[node][delegator] = 0\n", ""),
    Mutant("operator's claimed stays", "    self.operator_micro[node] = 0\n", ""),
    Mutant("a lost pool goes on", "self.generation[node] = generation + 1", "pass"),
    Mutant("a nearly lost pool goes on", "if pool.assets * CLOSED_SHARES < pool.shares:", "if pool.assets == 0 and pool.shares > 0:"),
    Mutant("no bound of delegations", "assert amount > 0 and pool.assets + amount <= limit", "assert amount > 0"),
    Mutant("attackers leave", '    self._require_owner(node)\n    assert amount > 0 and amount <= self.own[node]', "    assert amount > 0 and amount <= self.own[node]"),
    Mutant("fewer shares than wanted", 'assert shares > 0 and shares >= shares_min, "shares"', "pass"),
    Mutant("fee tokens are taken", "assert sent and staticcall token.balanceOf(self) == before + amount", "assert sent"),
    Mutant("held funds do not count", "held = staticcall self.DISTRIBUTOR.held_of(account)", "held = 0"),
    Mutant("tells while it moves", "@view\n@nonreentrant\ndef worth", "@view\ndef worth"),
    Mutant("connected again", 'assert self.COURT == empty(address), "connected"', "pass"),
)  # fmt: skip
