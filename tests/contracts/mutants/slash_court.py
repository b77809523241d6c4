"""Faults of the slash court."""
# ruff: noqa: E501 - what is replaced stands as it does in the source

from tests.contracts.mutate import Mutant

CONTRACT = "SlashCourt"
TESTS = ("test_slash_court.py",)
MUTANTS = (
    Mutant("a half is enough", "return max(1, (2 * self.verifiers + 2) // 3)", "return max(1, (self.verifiers + 1) // 2)"),
    Mutant("quorum rounded down", "(2 * self.verifiers + 2) // 3", "2 * self.verifiers // 3"),
    Mutant("nobody is enough", "max(1, (2 * self.verifiers + 2) // 3)", "(2 * self.verifiers + 2) // 3"),
    Mutant("one signer counts twice", "if convert(key, uint256) <= before or not self.standing[key]:", "if convert(key, uint256) < before or not self.standing[key]:"),
    Mutant("strangers sign", "<= before or not self.standing[key]:", "<= before:"),
    Mutant("any order of s", "if signature.s > S_MAX:", "if False:"),
    Mutant("agreeing statements", 'assert one.stated != other.stated, "they agree"', "pass"),
    Mutant("epochs differ", 'assert one.epoch == other.epoch, "not about one thing"', "pass"),
    Mutant("subjects differ", "assert one.kind == other.kind and one.subject == other.subject", "assert one.kind == other.kind"),
    Mutant("two signers", 'assert key == self._signer(other, by_other), "two signers"', "pass"),
    Mutant("verdicts again", '    assert not self.punished[fault], "punished"\n    self.punished[fault] = True\n    if verdict.held', "    if verdict.held"),
    Mutant("keys again", '    assert not self.punished[fault], "punished"\n    self.punished[fault] = True\n    if self.standing', "    if self.standing"),
    Mutant("another value is another fault", "abi_encode(key, statement.kind, statement.subject, statement.epoch)", "abi_encode(key, statement.kind, statement.subject, statement.stated)"),
    Mutant("verdict without quorum", 'assert self._agreed(statement, signatures), "quorum"', "pass"),
    Mutant("figures are not signed", "stated=keccak256(abi_encode(verdict))", "stated=keccak256(abi_encode(verdict.node, verdict.evidence))"),
    Mutant("reporter before the customer", "credit = min(customer_wanted, left)", "credit = min(customer_wanted, left - min(left, taken // 10))"),
    Mutant("reporter gets all", "reward = min(taken * staticcall PARAMETERS.reporter_bps_max() // 10_000, left)", "reward = left"),
    Mutant("customer before repair", "repair: uint256 = min(repair_wanted, left)", "repair: uint256 = min(repair_wanted, left - min(left, customer_wanted))"),
    Mutant("more than the whole bond", 'assert verdict.bond_bps <= BPS, "shares"', "pass"),
    Mutant("more than is taken", 'assert verdict.repair_bps <= BPS and verdict.customer_bps <= BPS, "shares"', "pass"),
    Mutant("delegations do not answer", "(own + delegated) * verdict.bond_bps", "own * verdict.bond_bps"),
    Mutant("fraud needs no proof", 'assert staticcall self.DISTRIBUTOR.fraudulent(known), "not shown to be wrong"', "pass"),
    Mutant("leaf needs no proof", 'assert shown == root, "not in the tree"', "pass"),
    Mutant("leaf of another account", 'assert statement.subject == convert(convert(leaf.account, uint256), bytes32), "account"', "pass"),
    Mutant("right leaf is punished", 'assert statement.stated != sum_tree._leaf_hash(leaf.account, leaf.sums), "they agree"', "pass"),
    Mutant("punished keys stand", "    if self.standing[key]:\n        self._remove(key)\n", ""),
    Mutant("anyone names verifiers", '    assert msg.sender == staticcall PARAMETERS.owner(), "not the owner"\n    self._add(key, node)', "    self._add(key, node)"),
    Mutant("keys move to other nodes", 'assert self.node_of[key] in [empty(bytes32), node], "another node\'s"', "pass"),
    Mutant("another court's signatures", "chain.id, self", "chain.id, empty(address)"),
    Mutant("tells while it pays", "@view\n@nonreentrant\ndef quorum", "@view\ndef quorum"),
)  # fmt: skip
