"""What the tests of epochs, bonds and the court share: a world of contracts, trees, signatures."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from atoll.economy.keccak import keccak_256
from atoll.economy.settlement.sumtree import (
    Leaf,
    SumTree,
    build,
    depth_of,
    empty_node,
    leaf_hash,
    node_hash,
    root_of,
    sums_word,
)
from tests.contracts.world import (
    DAY_S,
    EURO_MICRO,
    TOKEN,
    Contract,
    account,
    account_key,
    deploy,
    deploy_text,
    environment,
)

PROPOSER_BOND = 100 * EURO_MICRO
DEMAND_FEE = EURO_MICRO
CHALLENGE_S = DAY_S
ANSWER_S = 6 * 3_600
VERIFIERS = ("verifier 1", "verifier 2", "verifier 3")
KIND_ROOT, KIND_VERDICT, KIND_LEAF = 1, 2, 3

# A token with every oddity: a fee on transfers, refused accounts, no return value on request, and
# a call to somebody in the middle of a transfer.
ODD_TOKEN = """
# pragma version 0.4.3
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
refused: public(HashMap[address, bool])
fee_bps: public(uint256)
lies: public(bool)
hook: public(address)
hook_data: public(Bytes[4096])
hook_worked: public(bool)
hook_calls: public(uint256)

@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount

@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True

@external
def set_refused(account: address, refused: bool):
    self.refused[account] = refused

@external
def set_fee(bps: uint256):
    self.fee_bps = bps

@external
def set_lies(lies: bool):
    self.lies = lies

@external
def set_hook(target: address, data: Bytes[4096]):
    self.hook = target
    self.hook_data = data
    self.hook_calls = 0
    self.hook_worked = False

@internal
def _move(giver: address, taker: address, amount: uint256):
    assert not self.refused[taker], "refused"
    self.balanceOf[giver] -= amount
    self.balanceOf[taker] += amount - amount * self.fee_bps // 10_000
    if self.hook != empty(address):
        success: bool = False
        response: Bytes[32] = b""
        success, response = raw_call(
            self.hook, self.hook_data, max_outsize=32, revert_on_failure=False
        )
        self.hook_calls += 1
        if success:
            self.hook_worked = True

@external
def transfer(to: address, amount: uint256) -> bool:
    if self.lies:
        return False
    self._move(msg.sender, to, amount)
    return True

@external
def transferFrom(giver: address, taker: address, amount: uint256) -> bool:
    self.allowance[giver][msg.sender] -= amount
    self._move(giver, taker, amount)
    return True
"""


def odd_token() -> Contract:
    """A token of no supply; ``mint`` makes some for anybody."""
    return deploy_text("OddToken", ODD_TOKEN)


@dataclass
class World:
    """Everything deployed and connected; three verifiers stand."""

    stable: Contract
    token: Contract
    parameters: Contract
    registry: Contract
    owner: str
    bond: Contract
    court: Contract
    distributor: Contract

    def give_stable(self, role: str, amount: int = 10**12) -> None:
        self.stable.mint(account(role), amount)
        for spender in (self.distributor, self.bond):
            self.stable.approve(spender.address, 2**255, sender=account(role))

    def give_token(self, role: str, amount: int = 10**6 * TOKEN) -> None:
        self.token.mint(account(role), amount)
        self.token.approve(self.bond.address, 2**255, sender=account(role))

    def register(self, name: str, owner: str = "", payout: str = "") -> bytes:
        """Enter a node; returns its key in the registry."""
        by, to = account(owner or name), account(payout or owner or name)
        key: bytes = self.registry.register(node_id(name), to, node_id(name), sender=by)
        return key

    def pause(self) -> None:
        self.parameters.pause(sender=account("guardian"))


UNBONDING_S = 14 * DAY_S
REWARD_S = DAY_S


def make_world() -> World:
    stable, token = odd_token(), odd_token()
    timelock = deploy("Timelock", 15 * DAY_S, account("governor"))
    parameters = deploy("Parameters", timelock.address, account("guardian"), 1)
    registry = deploy("NodeRegistry", parameters.address)
    bond = deploy(
        "Bond",
        token.address,
        stable.address,
        parameters.address,
        registry.address,
        UNBONDING_S,
        REWARD_S,
    )
    court = deploy(
        "SlashCourt", parameters.address, account("repair"), account("insurance"), [], []
    )
    distributor = deploy(
        "EpochDistributor",
        stable.address,
        parameters.address,
        court.address,
        account("insurance"),
    )
    bond.connect(court.address, distributor.address, sender=account("deployer"))
    court.connect(bond.address, distributor.address, sender=account("deployer"))
    world = World(stable, token, parameters, registry, timelock.address, bond, court, distributor)
    for role in VERIFIERS:
        # What the timelock does after its delay.
        court.add_verifier(account(role), world.register(role), sender=world.owner)
    for role in ("funder", "proposer", "watcher", "relayer"):
        world.give_stable(role)
    return world


@cache
def node_id(name: str) -> bytes:
    return keccak_256(f"node {name}".encode())


# Trees


def account_bytes(role: str) -> bytes:
    return bytes.fromhex(account(role)[2:])


def words(path: tuple[bytes, ...]) -> list[bytes]:
    """A path as the contracts take it: hash, sums, hash, sums."""
    return [half for node in path for half in (node[:32], node[32:])]


def leaf_tuple(leaf: Leaf) -> tuple[str, int]:
    return "0x" + leaf.account.hex(), sums_word(leaf.released_micro, leaf.held_micro)


class RawTree:
    """A tree as a cheat makes it: any leaves in any order, and recorded nodes replaced at will."""

    def __init__(
        self,
        leaves: list[Leaf],
        sums: dict[tuple[int, int], int] | None = None,
        nodes: dict[tuple[int, int], bytes] | None = None,
        count: int = 0,
    ) -> None:
        self.leaves = leaves
        self.count = count or len(leaves)
        self.depth = depth_of(self.count)
        row = [
            leaf_hash(leaf) + sums_word(leaf.released_micro, leaf.held_micro).to_bytes(32, "big")
            for leaf in leaves
        ]
        self.levels = []
        for level in range(self.depth + 1):
            if level:
                row = [
                    node_hash(left, right)
                    + (
                        int.from_bytes(left[32:], "big") + int.from_bytes(right[32:], "big")
                    ).to_bytes(32, "big")
                    for left, right in zip(row[::2], row[1::2], strict=True)
                ]
            for (at, place), node in (nodes or {}).items():
                if at == level:
                    row[place : place + 1] = [node]
            for (at, place), word in (sums or {}).items():
                if at == level:
                    row[place] = row[place][:32] + word.to_bytes(32, "big")
            if level < self.depth and len(row) % 2:
                row.append(empty_node(level))
            self.levels.append(row)
        (top,) = self.levels[-1]
        self.top, self.word = top[:32], int.from_bytes(top[32:], "big")
        self.root = root_of(self.count, self.word, self.top)

    @property
    def sums(self) -> tuple[int, int]:
        return self.word >> 128, self.word & (2**128 - 1)

    def node(self, level: int, place: int) -> bytes:
        return self.levels[level][place]

    def path(self, level: int, place: int) -> list[bytes]:
        found = []
        for at in range(level, self.depth):
            found.append(self.levels[at][place ^ 1])
            place >>= 1
        return words(tuple(found))

    def shown(self, index: int) -> tuple[Any, int, list[bytes]]:
        return leaf_tuple(self.leaves[index]), index, self.path(0, index)


def tree_of(amounts: dict[bytes, tuple[int, int]]) -> SumTree:
    return build(Leaf(one, *amounts[one]) for one in sorted(amounts))


def top_of(tree: SumTree) -> bytes:
    return tree.node(tree.depth, 0)[:32]


# Signatures


def sign(world: World, role: str, statement: tuple[int, bytes, int, bytes]) -> tuple[int, int, int]:
    """Signature (v, r, s) over a statement, its digest made here from the specification."""
    from eth_abi.abi import encode

    domain = keccak_256(
        encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "address"],
            [
                keccak_256(
                    b"EIP712Domain(string name,string version,uint256 chainId,"
                    b"address verifyingContract)"
                ),
                keccak_256(b"Atoll SlashCourt"),
                keccak_256(b"1"),
                int(environment().evm.patch.chain_id),
                world.court.address,
            ],
        )
    )
    body = keccak_256(
        keccak_256(b"Statement(uint256 kind,bytes32 subject,uint256 epoch,bytes32 stated)")
        + encode(["uint256", "bytes32", "uint256", "bytes32"], list(statement))
    )
    signature = account_key(role).sign_msg_hash(keccak_256(b"\x19\x01" + domain + body))
    return signature.v + 27, signature.r, signature.s


def sign_all(
    world: World, roles: tuple[str, ...], statement: tuple[int, bytes, int, bytes]
) -> list[tuple[int, int, int]]:
    """Signatures of several keys, in the order the court wants them."""
    ordered = sorted(roles, key=lambda role: int(account(role), 16))
    return [sign(world, role, statement) for role in ordered]


def root_statement(
    world: World, attempt: int, epoch: int, root: bytes, content: bytes
) -> tuple[int, bytes, int, bytes]:
    address = bytes.fromhex(world.distributor.address[2:]).rjust(32, b"\0")
    subject = keccak_256(address + attempt.to_bytes(32, "big"))
    return KIND_ROOT, subject, epoch, keccak_256(root + content)


CONTENT = keccak_256(b"document")


def propose(
    world: World,
    epoch: int,
    tree: SumTree | RawTree,
    *,
    sums: tuple[int, int] | None = None,
    signers: tuple[str, ...] = VERIFIERS[:2],
    sender: str = "proposer",
) -> None:
    """Propose a tree with the verifiers' signatures."""
    if isinstance(tree, RawTree):
        top, (released, held) = tree.top, tree.sums
    else:
        top, released, held = top_of(tree), tree.released_micro, tree.held_micro
    released, held = sums or (released, held)
    root = root_of(tree.count, (released << 128) + held, top)
    attempt = world.distributor.attempts() + 1
    statement = root_statement(world, attempt, epoch, root, CONTENT)
    world.distributor.propose(
        epoch,
        top,
        released,
        held,
        tree.count,
        CONTENT,
        sign_all(world, signers, statement),
        sender=account(sender),
    )


def claim(world: World, epoch: int, tree: SumTree, index: int, sender: str = "relayer") -> Any:
    proof = tree.prove(index)
    return world.distributor.claim(
        epoch, tree.count, index, leaf_tuple(proof.leaf), words(proof.path), sender=account(sender)
    )


def claim_many(
    world: World, epoch: int, tree: SumTree, level: int, position: int, skip: int = 0
) -> Any:
    opening = tree.open(level, position)
    return world.distributor.claim_many(
        epoch,
        tree.count,
        level,
        position,
        [leaf_tuple(leaf) for leaf in opening.leaves],
        skip,
        words(opening.path),
        sender=account("relayer"),
    )
