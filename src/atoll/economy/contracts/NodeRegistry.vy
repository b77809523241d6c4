# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Providers' nodes: who owns one, where it is paid, where it describes itself
@license AGPL-3.0-only
@notice A node is named on the chain by a key made of its id and its owner's address. So nobody
        can take somebody else's id: a second owner has a second key, and the node's own signature
        in the document at `uri_hash` says which is meant. The owner may sign instead of sending,
        so that a provider needs nothing but its keys.
@dev    An entry is never removed: what is bonded under it must find its owner. A pause stops new
        entries only.
"""

# pragma nonreentrancy on

from snekmate.utils import ecdsa
from snekmate.utils import eip712_domain_separator

initializes: eip712_domain_separator

exports: eip712_domain_separator.eip712Domain

interface Parameters:
    def paused() -> bool: view

struct Node:
    node_id: bytes32
    owner: address
    payout: address
    uri_hash: bytes32
    registered_s: uint256
    retired_s: uint256

event Registered:
    key: indexed(bytes32)
    node_id: indexed(bytes32)
    owner: indexed(address)
    payout: address
    uri_hash: bytes32

event Updated:
    key: indexed(bytes32)
    payout: address
    uri_hash: bytes32

event Retired:
    key: indexed(bytes32)

_REGISTER: constant(bytes32) = keccak256(
    "Register(bytes32 node_id,address owner,address payout,bytes32 uri_hash,uint256 nonce,uint256 deadline)"
)
_UPDATE: constant(bytes32) = keccak256(
    "Update(bytes32 key,address payout,bytes32 uri_hash,uint256 nonce,uint256 deadline)"
)
_RETIRE: constant(bytes32) = keccak256("Retire(bytes32 key,uint256 nonce,uint256 deadline)")

PARAMETERS: public(immutable(Parameters))

nodes: public(HashMap[bytes32, Node])
# Entries ever made, and those not retired.
count: public(uint256)
active_count: public(uint256)
# Of what an owner signs next.
nonces: public(HashMap[address, uint256])


@deploy
def __init__(parameters: address):
    """
    @param parameters Says whether new entries are paused.
    """
    assert parameters != empty(address), "zero address"
    PARAMETERS = Parameters(parameters)
    eip712_domain_separator.__init__("Atoll NodeRegistry", "1")


@external
def register(node_id: bytes32, payout: address, uri_hash: bytes32) -> bytes32:
    """
    @notice Enter a node of the caller's.
    @param node_id SHA-256 by which the cloud knows the node.
    @param payout Account its earnings are paid to.
    @param uri_hash SHA-256 of the node's signed description.
    @return The key of the entry.
    """
    return self._register(node_id, msg.sender, payout, uri_hash)


@external
def register_for(
    node_id: bytes32,
    owner: address,
    payout: address,
    uri_hash: bytes32,
    deadline_s: uint256,
    v: uint256,
    r: uint256,
    s: uint256,
) -> bytes32:
    """
    @notice Enter a node for an owner who signed `Register`. Anybody may send it.
    """
    body: bytes32 = keccak256(
        abi_encode(_REGISTER, node_id, owner, payout, uri_hash, self.nonces[owner], deadline_s)
    )
    self._check_signature(owner, body, deadline_s, v, r, s)
    return self._register(node_id, owner, payout, uri_hash)


@external
def update(key: bytes32, payout: address, uri_hash: bytes32):
    """
    @notice Change where a node is paid and described; by its owner.
    """
    assert msg.sender == self.nodes[key].owner, "not the owner"
    self._update(key, payout, uri_hash)


@external
def update_for(
    key: bytes32,
    payout: address,
    uri_hash: bytes32,
    deadline_s: uint256,
    v: uint256,
    r: uint256,
    s: uint256,
):
    """
    @notice The same for an owner who signed `Update`.
    """
    owner: address = self.nodes[key].owner
    body: bytes32 = keccak256(
        abi_encode(_UPDATE, key, payout, uri_hash, self.nonces[owner], deadline_s)
    )
    self._check_signature(owner, body, deadline_s, v, r, s)
    self._update(key, payout, uri_hash)


@external
def retire(key: bytes32):
    """
    @notice Say that a node is gone; by its owner. It keeps its payout account.
    """
    assert msg.sender == self.nodes[key].owner, "not the owner"
    self._retire(key)


@external
def retire_for(key: bytes32, deadline_s: uint256, v: uint256, r: uint256, s: uint256):
    """
    @notice The same for an owner who signed `Retire`.
    """
    owner: address = self.nodes[key].owner
    body: bytes32 = keccak256(abi_encode(_RETIRE, key, self.nonces[owner], deadline_s))
    self._check_signature(owner, body, deadline_s, v, r, s)
    self._retire(key)


@external
@pure
def key_of(node_id: bytes32, owner: address) -> bytes32:
    """
    @notice Key of a node of an owner: keccak256 of both, ABI-encoded.
    """
    return self._key(node_id, owner)


@external
@view
def owner_of(key: bytes32) -> address:
    """
    @notice Owner of an entry, retired or not; zero if there is none.
    """
    return self.nodes[key].owner


@external
@view
def payout_of(key: bytes32) -> address:
    """
    @notice Account an entry is paid to, retired or not; zero if there is none.
    """
    return self.nodes[key].payout


@external
@view
def is_active(key: bytes32) -> bool:
    """
    @notice Whether there is such a node and it is not retired.
    """
    return self.nodes[key].owner != empty(address) and self.nodes[key].retired_s == 0


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    """
    @notice Domain of what owners sign (EIP-712).
    """
    return eip712_domain_separator._domain_separator_v4()


@internal
@pure
def _key(node_id: bytes32, owner: address) -> bytes32:
    return keccak256(abi_encode(node_id, owner))


@internal
def _register(node_id: bytes32, owner: address, payout: address, uri_hash: bytes32) -> bytes32:
    assert not staticcall PARAMETERS.paused(), "paused"
    assert node_id != empty(bytes32), "zero id"
    assert owner != empty(address) and payout != empty(address), "zero address"
    key: bytes32 = self._key(node_id, owner)
    assert self.nodes[key].owner == empty(address), "registered"
    self.nodes[key] = Node(
        node_id=node_id,
        owner=owner,
        payout=payout,
        uri_hash=uri_hash,
        registered_s=block.timestamp,
        retired_s=0,
    )
    self.count += 1
    self.active_count += 1
    log Registered(key=key, node_id=node_id, owner=owner, payout=payout, uri_hash=uri_hash)
    return key


@internal
def _update(key: bytes32, payout: address, uri_hash: bytes32):
    assert payout != empty(address), "zero address"
    self.nodes[key].payout = payout
    self.nodes[key].uri_hash = uri_hash
    log Updated(key=key, payout=payout, uri_hash=uri_hash)


@internal
def _retire(key: bytes32):
    assert self.nodes[key].retired_s == 0, "retired"
    self.nodes[key].retired_s = block.timestamp
    self.active_count -= 1
    log Retired(key=key)


@internal
def _check_signature(
    owner: address, body: bytes32, deadline_s: uint256, v: uint256, r: uint256, s: uint256
):
    assert block.timestamp <= deadline_s, "expired"
    assert owner != empty(address), "no such node"
    self.nonces[owner] += 1
    digest: bytes32 = eip712_domain_separator._hash_typed_data_v4(body)
    assert ecdsa._recover_vrs(digest, v, r, s) == owner, "signature"
