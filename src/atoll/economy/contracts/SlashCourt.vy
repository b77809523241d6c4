# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title What is punished, by evidence a machine can check
@license AGPL-3.0-only
@notice Verifiers' keys, and the evidence against nodes and verifiers: two statements of one key
        that contradict each other, a signed root that was shown to be wrong, a signed leaf that a
        final root contradicts, a verdict of two thirds of the verifiers. Each fault is punished
        once. What is taken goes to repair, then the customer, then the reporter (at most a
        tenth), then insurance.
@dev    A statement is (kind, subject, epoch, stated), signed by EIP-712. There is no jury: what
        needs judgement is not slashed here. The timelock of `Parameters` names verifiers.
"""

from ethereum.ercs import IERC20
from modules import sum_tree

struct Signature:
    v: uint256
    r: uint256
    s: uint256

struct Statement:
    kind: uint256
    subject: bytes32
    epoch: uint256
    stated: bytes32

# What two thirds of the verifiers say a node did. The bond's token has no price here, so shares:
# `bond_bps` of all that answers for the node (own tranche first), of what is taken at most
# `repair_bps` and `customer_bps`. `held_micro`: what epoch `epoch` takes of its held funds at most.
struct Verdict:
    node: bytes32
    evidence: bytes32
    epoch: uint256
    bond_bps: uint256
    repair_bps: uint256
    customer_bps: uint256
    customer_account: address
    reporter: address
    held_micro: uint256

interface Parameters:
    def owner() -> address: view
    def reporter_bps_max() -> uint256: view

interface Bond:
    def slash(node: bytes32, amount: uint256) -> uint256: nonpayable
    def coverage(node: bytes32) -> (uint256, uint256, uint256): view
    def ASSET() -> address: view

interface Distributor:
    def fraudulent(statement: bytes32) -> bool: view
    def final_root(epoch: uint256) -> bytes32: view

event Connected:
    bond: address
    distributor: address

event VerifierAdded:
    key: indexed(address)
    node: indexed(bytes32)

event VerifierRemoved:
    key: indexed(address)

event Punished:
    node: indexed(bytes32)
    fault: indexed(bytes32)
    reporter: indexed(address)
    taken: uint256
    repair: uint256
    customer: uint256
    reward: uint256
    insurance: uint256

event HeldForfeited:
    node: indexed(bytes32)
    fault: indexed(bytes32)
    amount_micro: uint256

KIND_ROOT: public(constant(uint256)) = 1
KIND_VERDICT: public(constant(uint256)) = 2
KIND_LEAF: public(constant(uint256)) = 3
BPS: constant(uint256) = 10_000
VERIFIERS_MAX: public(constant(uint256)) = 64
# Half of the order of secp256k1: the other half of the signatures are copies.
S_MAX: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
STATEMENT_TYPE: constant(bytes32) = keccak256(
    "Statement(uint256 kind,bytes32 subject,uint256 epoch,bytes32 stated)"
)

PARAMETERS: public(immutable(Parameters))
REPAIR: public(immutable(address))
INSURANCE: public(immutable(address))
DEPLOYER: immutable(address)

BOND: public(Bond)
DISTRIBUTOR: public(Distributor)
# Kept after a key was removed: what it signed before stays punishable.
node_of: public(HashMap[address, bytes32])
standing: public(HashMap[address, bool])
verifiers: public(uint256)
# Faults that were punished.
punished: public(HashMap[bytes32, bool])


@deploy
def __init__(
    parameters: address,
    repair: address,
    insurance: address,
    keys: DynArray[address, VERIFIERS_MAX],
    nodes: DynArray[bytes32, VERIFIERS_MAX],
):
    """
    @param parameters Whose owner (a timelock) names verifiers.
    @param repair Who pays for repairs.
    @param insurance Who gets what nobody else does.
    @param keys The first verifiers, so that epochs need not wait for the timelock.
    @param nodes Whose bond answers for each.
    """
    assert parameters != empty(address), "zero address"
    assert repair != empty(address) and insurance != empty(address), "zero address"
    PARAMETERS = Parameters(parameters)
    REPAIR = repair
    INSURANCE = insurance
    DEPLOYER = msg.sender
    assert len(keys) == len(nodes), "lengths"
    for i: uint256 in range(len(keys), bound=VERIFIERS_MAX):
        self._add(keys[i], nodes[i])


@external
def connect(bond: address, distributor: address):
    """
    @notice Name the contracts that are deployed later; once, by the deployer.
    """
    assert msg.sender == DEPLOYER, "not the deployer"
    assert self.BOND.address == empty(address), "connected"
    assert bond != empty(address) and distributor != empty(address), "zero address"
    self.BOND = Bond(bond)
    self.DISTRIBUTOR = Distributor(distributor)
    log Connected(bond=bond, distributor=distributor)


# Verifiers


@external
def add_verifier(key: address, node: bytes32):
    """
    @notice Let a key sign; the bond of `node` answers for it, for ever.
    """
    assert msg.sender == staticcall PARAMETERS.owner(), "not the owner"
    self._add(key, node)


@external
def remove_verifier(key: address):
    """
    @notice Let a key sign no more.
    """
    assert msg.sender == staticcall PARAMETERS.owner(), "not the owner"
    assert self.standing[key], "does not stand"
    self._remove(key)


@external
@view
@nonreentrant
def quorum() -> uint256:
    """
    @notice How many signatures are two thirds of the verifiers; one at least.
    """
    return self._quorum()


@external
@view
@nonreentrant
def has_quorum(
    kind: uint256,
    subject: bytes32,
    epoch: uint256,
    stated: bytes32,
    signatures: DynArray[Signature, 64],
) -> bool:
    """
    @notice Whether two thirds of the verifiers signed a statement; signers ascend by address.
    """
    statement: Statement = Statement(kind=kind, subject=subject, epoch=epoch, stated=stated)
    return self._agreed(statement, signatures)


@external
@view
def digest_of(kind: uint256, subject: bytes32, epoch: uint256, stated: bytes32) -> bytes32:
    """
    @notice What a key signs for a statement.
    """
    return self._digest(Statement(kind=kind, subject=subject, epoch=epoch, stated=stated))


# Evidence


@external
@nonreentrant
def accuse_equivocation(one: Statement, by_one: Signature, other: Statement, by_other: Signature):
    """
    @notice Two statements of one key about one thing that say different things: its whole bond.
    """
    assert one.kind == other.kind and one.subject == other.subject, "not about one thing"
    assert one.epoch == other.epoch, "not about one thing"
    assert one.stated != other.stated, "they agree"
    key: address = self._signer(one, by_one)
    assert key == self._signer(other, by_other), "two signers"
    self._punish_key(key, one)


@external
@nonreentrant
def accuse_signed_fraud(statement: Statement, signature: Signature):
    """
    @notice A key signed a root that was struck down because it was wrong: its whole bond.
    """
    assert statement.kind == KIND_ROOT, "kind"
    known: bytes32 = keccak256(
        abi_encode(statement.kind, statement.subject, statement.epoch, statement.stated)
    )
    assert staticcall self.DISTRIBUTOR.fraudulent(known), "not shown to be wrong"
    self._punish_key(self._signer(statement, signature), statement)


@external
@nonreentrant
def accuse_leaf(
    statement: Statement,
    signature: Signature,
    count: uint256,
    index: uint256,
    leaf: sum_tree.Leaf,
    path: DynArray[bytes32, 64],
):
    """
    @notice A key signed a leaf of an account and the final root has another: its whole bond.
    @param leaf The account's leaf in the final root.
    """
    assert statement.kind == KIND_LEAF, "kind"
    assert statement.subject == convert(convert(leaf.account, uint256), bytes32), "account"
    assert statement.stated != sum_tree._leaf_hash(leaf.account, leaf.sums), "they agree"
    root: bytes32 = staticcall self.DISTRIBUTOR.final_root(statement.epoch)
    assert root != empty(bytes32), "not final"
    shown: bytes32 = sum_tree._root_of_leaf(count, index, leaf.account, leaf.sums, path)
    assert shown == root, "not in the tree"
    self._punish_key(self._signer(statement, signature), statement)


@external
@nonreentrant
def carry_out(verdict: Verdict, signatures: DynArray[Signature, 64]) -> uint256:
    """
    @notice Carry out what two thirds of the verifiers found; once for each evidence of a node.
    @return What was taken from the bond.
    """
    subject: bytes32 = keccak256(abi_encode(verdict.node, verdict.evidence))
    statement: Statement = Statement(
        kind=KIND_VERDICT,
        subject=subject,
        epoch=verdict.epoch,
        stated=keccak256(abi_encode(verdict)),
    )
    assert self._agreed(statement, signatures), "quorum"
    fault: bytes32 = keccak256(abi_encode(KIND_VERDICT, subject))
    assert not self.punished[fault], "punished"
    self.punished[fault] = True
    if verdict.held_micro > 0:
        log HeldForfeited(node=verdict.node, fault=fault, amount_micro=verdict.held_micro)
    assert verdict.bond_bps <= BPS, "shares"
    assert verdict.repair_bps <= BPS and verdict.customer_bps <= BPS, "shares"
    own: uint256 = 0
    delegated: uint256 = 0
    held: uint256 = 0
    own, delegated, held = staticcall self.BOND.coverage(verdict.node)
    amount: uint256 = (own + delegated) * verdict.bond_bps // BPS
    return self._punish(
        verdict.node,
        fault,
        amount,
        amount * verdict.repair_bps // BPS,
        amount * verdict.customer_bps // BPS,
        verdict.customer_account,
        verdict.reporter,
    )


@internal
def _punish_key(key: address, statement: Statement):
    node: bytes32 = self.node_of[key]
    assert node != empty(bytes32), "not a verifier's"
    # One wrong statement about one thing is one fault, whichever way it was shown.
    fault: bytes32 = keccak256(
        abi_encode(key, statement.kind, statement.subject, statement.epoch)
    )
    assert not self.punished[fault], "punished"
    self.punished[fault] = True
    if self.standing[key]:
        self._remove(key)
    self._punish(node, fault, max_value(uint256), 0, 0, empty(address), msg.sender)


@internal
def _punish(
    node: bytes32,
    fault: bytes32,
    amount: uint256,
    repair_wanted: uint256,
    customer_wanted: uint256,
    customer: address,
    reporter: address,
) -> uint256:
    taken: uint256 = extcall self.BOND.slash(node, amount)
    left: uint256 = taken
    repair: uint256 = min(repair_wanted, left)
    left -= repair
    credit: uint256 = 0
    if customer != empty(address):
        credit = min(customer_wanted, left)
        left -= credit
    reward: uint256 = 0
    if reporter != empty(address):
        reward = min(taken * staticcall PARAMETERS.reporter_bps_max() // 10_000, left)
        left -= reward
    self._send(REPAIR, repair)
    self._send(customer, credit)
    self._send(reporter, reward)
    self._send(INSURANCE, left)
    log Punished(
        node=node,
        fault=fault,
        reporter=reporter,
        taken=taken,
        repair=repair,
        customer=credit,
        reward=reward,
        insurance=left,
    )
    return taken


@internal
def _send(to: address, amount: uint256):
    if amount > 0:
        token: IERC20 = IERC20(staticcall self.BOND.ASSET())
        assert extcall token.transfer(to, amount, default_return_value=True), "transfer"


@internal
def _add(key: address, node: bytes32):
    assert key != empty(address) and node != empty(bytes32), "zero"
    assert not self.standing[key], "stands"
    assert self.node_of[key] in [empty(bytes32), node], "another node's"
    assert self.verifiers < VERIFIERS_MAX, "too many"
    self.node_of[key] = node
    self.standing[key] = True
    self.verifiers += 1
    log VerifierAdded(key=key, node=node)


@internal
def _remove(key: address):
    self.standing[key] = False
    self.verifiers -= 1
    log VerifierRemoved(key=key)


@internal
@view
def _quorum() -> uint256:
    return max(1, (2 * self.verifiers + 2) // 3)


@internal
@view
def _agreed(statement: Statement, signatures: DynArray[Signature, 64]) -> bool:
    if len(signatures) < self._quorum():
        return False
    digest: bytes32 = self._digest(statement)
    before: uint256 = 0
    for signature: Signature in signatures:
        key: address = self._recovered(digest, signature)
        if convert(key, uint256) <= before or not self.standing[key]:
            return False
        before = convert(key, uint256)
    return True


@internal
@view
def _signer(statement: Statement, signature: Signature) -> address:
    key: address = self._recovered(self._digest(statement), signature)
    assert key != empty(address), "signature"
    return key


@internal
@view
def _recovered(digest: bytes32, signature: Signature) -> address:
    if signature.s > S_MAX:
        return empty(address)
    return ecrecover(digest, signature.v, signature.r, signature.s)


@internal
@view
def _digest(statement: Statement) -> bytes32:
    # Computed each time: a fork of the chain is another chain.
    domain: bytes32 = keccak256(
        abi_encode(
            DOMAIN_TYPE, keccak256("Atoll SlashCourt"), keccak256("1"), chain.id, self
        )
    )
    body: bytes32 = keccak256(
        abi_encode(
            STATEMENT_TYPE,
            statement.kind,
            statement.subject,
            statement.epoch,
            statement.stated,
        )
    )
    return keccak256(concat(b"\x19\x01", domain, body))
