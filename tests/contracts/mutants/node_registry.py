"""Faults of the registry."""

from tests.contracts.mutate import Mutant

CONTRACT = "NodeRegistry"
TESTS = ("test_node_registry.py",)
MUTANTS = (
    Mutant("the id is the key", "return keccak256(abi_encode(node_id, owner))", "return node_id"),
    Mutant(
        "registers again", 'assert self.nodes[key].owner == empty(address), "registered"', "pass"
    ),
    Mutant(
        "anybody updates",
        """    assert msg.sender == self.nodes[key].owner, "not the owner"
    self._update""",
        "    self._update",
    ),
    Mutant(
        "anybody retires",
        """    assert msg.sender == self.nodes[key].owner, "not the owner"
    self._retire""",
        "    self._retire",
    ),
    Mutant("signatures count again", "    self.nonces[owner] += 1\n", ""),
    Mutant(
        "signatures are not checked",
        'assert ecdsa._recover_vrs(digest, v, r, s) == owner, "signature"',
        "pass",
    ),
    Mutant("signatures for ever", 'assert block.timestamp <= deadline_s, "expired"', "pass"),
    Mutant(
        "signature is not for this account",
        "abi_encode(_REGISTER, node_id, owner, payout, uri_hash,",
        "abi_encode(_REGISTER, node_id, owner, owner, uri_hash,",
    ),
    Mutant("retires twice", 'assert self.nodes[key].retired_s == 0, "retired"', "pass"),
    Mutant(
        "retiring forgets the account",
        "    self.active_count -= 1\n",
        "    self.active_count -= 1\n    self.nodes[key].payout = empty(address)\n",
    ),
    Mutant("pause stops nothing", 'assert not staticcall PARAMETERS.paused(), "paused"', "pass"),
    Mutant("retired is active", " and self.nodes[key].retired_s == 0", ""),
)
