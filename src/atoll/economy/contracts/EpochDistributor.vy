# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title What accounts earned, one root per epoch
@license AGPL-3.0-only
@notice A root commits (account, released, held) of every account since the first epoch. It is
        proposed with a bond and the signatures of two thirds of the verifiers, may be struck down
        by anyone who shows what is wrong with it while its window is open, and is final after
        that. Claims are made by anyone and pay the account, never more than what is released and
        never more than what was funded. A pause stops funding and proposals, nothing else.
@dev    Wrong in a root is: a recorded sum that is not the sum below it, two leaves out of order
        (or of one account), a released figure below the last final root's, a chunk of leaves
        that nobody shows when it is asked for. There is no owner.
"""

from ethereum.ercs import IERC20
from modules import sum_tree

struct Signature:
    v: uint256
    r: uint256
    s: uint256

interface Parameters:
    def paused() -> bool: view
    def proposer_bond_micro() -> uint256: view
    def challenge_window_s() -> uint256: view
    def answer_window_s() -> uint256: view
    def demand_fee_micro() -> uint256: view

interface Court:
    def has_quorum(
        kind: uint256,
        subject: bytes32,
        epoch: uint256,
        stated: bytes32,
        signatures: DynArray[Signature, 64],
    ) -> bool: view

# Packed; see `proposal`.
struct Proposal:
    root: bytes32
    content: bytes32
    sums: uint256
    terms: uint256
    state: uint256

# In stablecoin units since the first epoch, 64 bits each (18 trillion euros): what came in, what
# was paid out, and what is in this contract but not for claims (bonds, fees of demands, what could
# not be sent). Then the epoch of the last final root (40 bits) and proposals so far (24 bits).
struct Totals:
    funded_micro: uint256
    paid_micro: uint256
    locked_micro: uint256
    last_epoch: uint256
    attempts: uint256

struct Demand:
    demander: address
    deadline_s: uint256
    fee_micro: uint256

event Funded:
    payer: indexed(address)
    amount_micro: uint256

event Proposed:
    epoch: indexed(uint256)
    attempt: indexed(uint256)
    root: bytes32
    released_micro: uint256
    held_micro: uint256
    count: uint256
    content: bytes32
    proposer: address
    ends_s: uint256

event Rejected:
    epoch: indexed(uint256)
    attempt: indexed(uint256)
    fault: uint256
    challenger: address
    reward_micro: uint256

event Demanded:
    attempt: indexed(uint256)
    chunk: indexed(uint256)
    demander: address
    deadline_s: uint256

event Answered:
    attempt: indexed(uint256)
    chunk: indexed(uint256)

event Finalised:
    epoch: indexed(uint256)
    root: bytes32
    released_micro: uint256
    held_micro: uint256
    count: uint256

event Claimed:
    account: indexed(address)
    epoch: indexed(uint256)
    amount_micro: uint256
    held_micro: uint256

event ClaimFailed:
    account: indexed(address)
    epoch: indexed(uint256)
    amount_micro: uint256

event Owed:
    account: indexed(address)
    amount_micro: uint256

FAULT_SUM: public(constant(uint256)) = 1
FAULT_ORDER: public(constant(uint256)) = 2
FAULT_FALLING: public(constant(uint256)) = 3
FAULT_WITHHELD: public(constant(uint256)) = 4

KIND_ROOT: constant(uint256) = 1
CHUNK_LEVEL: public(constant(uint256)) = 6
COUNT_MAX: constant(uint256) = 2**32
# Epochs may be left out (figures are cumulative), not jumped to the end of numbers.
EPOCH_SKIP_MAX: public(constant(uint256)) = 4096
# Of a struck bond; the rest goes to insurance, so striking one's own root costs something.
CHALLENGER_BPS: public(constant(uint256)) = 5_000
SIGNATURES_MAX: constant(uint256) = 64
WINDOW_S_MAX: constant(uint256) = 30 * 86_400
HELD_MAX: constant(uint256) = 2**96 - 1
SPENT: constant(uint256) = max_value(uint256)
CLOSED: constant(uint256) = 1
FIGURE_MAX: constant(uint256) = 2**64 - 1
ATTEMPTS_MAX: constant(uint256) = 2**24 - 1

STABLE: public(immutable(IERC20))
PARAMETERS: public(immutable(Parameters))
COURT: public(immutable(Court))
INSURANCE: public(immutable(address))

# Sums of the last final root: released in the upper 128 bits, held in the lower.
last_sums: public(uint256)
final_root: public(HashMap[uint256, bytes32])
# See `proposal`; its state is CLOSED while none is open, not 0: a word that is never empty is
# cheaper to write.
current: Proposal
# Statements (see `statement_of`) that were shown to be wrong.
fraudulent: public(HashMap[bytes32, bool])
demands: public(HashMap[uint256, HashMap[uint256, Demand]])

# In one word, because every epoch and every claim changes it; see `_totals`.
packed_totals: uint256
owed_micro: public(HashMap[address, uint256])
# paid (120 bits), held (96 bits), epoch of the figure (40 bits)
accounts: HashMap[address, uint256]


@deploy
def __init__(stable: address, parameters: address, court: address, insurance: address):
    """
    @param stable The EUR stablecoin (6 decimals) everything is paid in.
    @param parameters Where windows, bond and fee are read.
    @param court Who knows the verifiers.
    @param insurance Who gets the part of a struck bond that its challenger does not.
    """
    assert stable != empty(address) and parameters != empty(address), "zero address"
    assert court != empty(address) and insurance != empty(address), "zero address"
    STABLE = IERC20(stable)
    PARAMETERS = Parameters(parameters)
    COURT = Court(court)
    INSURANCE = insurance


# Funds


@external
@nonreentrant
def fund(amount_micro: uint256):
    """
    @notice Pay in what epochs may pay out. It cannot be taken back.
    """
    assert not staticcall PARAMETERS.paused(), "paused"
    self._take(amount_micro)
    totals: Totals = self._totals()
    totals.funded_micro += amount_micro
    self._keep(totals)
    log Funded(payer=msg.sender, amount_micro=amount_micro)


@external
@nonreentrant
def absorb() -> uint256:
    """
    @notice Count as funds what was sent here by a plain transfer (as the escrow does).
    @return What was counted.
    """
    totals: Totals = self._totals()
    kept: uint256 = totals.funded_micro - totals.paid_micro + totals.locked_micro
    amount: uint256 = staticcall STABLE.balanceOf(self) - kept
    totals.funded_micro += amount
    self._keep(totals)
    log Funded(payer=msg.sender, amount_micro=amount)
    return amount


@external
@nonreentrant
def withdraw_owed(account: address):
    """
    @notice Send again what could not be sent to an account before.
    """
    amount: uint256 = self.owed_micro[account]
    assert amount > 0, "nothing owed"
    self.owed_micro[account] = 0
    self._unlock(amount)
    assert extcall STABLE.transfer(account, amount, default_return_value=True), "transfer"


# Proposing


@external
@nonreentrant
def propose(
    epoch: uint256,
    top: bytes32,
    released_micro: uint256,
    held_micro: uint256,
    count: uint256,
    content: bytes32,
    signatures: DynArray[Signature, SIGNATURES_MAX],
):
    """
    @notice Propose the root of an epoch and lock a bond.
    @param top Hash of the topmost node; the root is made of count, sums and top.
    @param released_micro What all accounts may have claimed after this epoch, since the first.
    @param held_micro What is held back of all accounts.
    @param content Root of the published document's chunks.
    @param signatures Of two thirds of the verifiers over `statement_of`, signers ascending.
    """
    assert not staticcall PARAMETERS.paused(), "paused"
    assert self.current.state <= CLOSED, "another is open"
    packed: uint256 = self.packed_totals
    last: uint256 = (packed >> 24) & (2**40 - 1)
    assert epoch > last and epoch < 2**40, "epoch"
    assert last == 0 or epoch <= last + EPOCH_SKIP_MAX, "epoch"
    assert count > 0 and count <= COUNT_MAX, "count"
    assert released_micro < 2**120 and held_micro < 2**120, "sums too large"
    assert released_micro >= self.last_sums >> sum_tree.HALF, "released falls"
    assert released_micro + held_micro <= packed >> 192, "not funded"
    sums: uint256 = (released_micro << sum_tree.HALF) | held_micro
    root: bytes32 = sum_tree._root(count, sums, top)
    attempt: uint256 = (packed & ATTEMPTS_MAX) + 1
    subject: bytes32 = self._subject(attempt)
    agreed: bool = staticcall COURT.has_quorum(
        KIND_ROOT, subject, epoch, self._stated(root, content), signatures
    )
    assert agreed, "quorum"
    bond: uint256 = staticcall PARAMETERS.proposer_bond_micro()
    window: uint256 = staticcall PARAMETERS.challenge_window_s()
    assert window > 0 and window <= WINDOW_S_MAX, "window"
    assert attempt <= ATTEMPTS_MAX, "attempts"
    assert ((packed >> 64) & FIGURE_MAX) + bond <= FIGURE_MAX, "bond"
    self.packed_totals = packed + (bond << 64) + 1
    ends: uint256 = block.timestamp + window
    self.current = Proposal(
        root=root,
        content=content,
        sums=sums,
        terms=(bond << 128) | (epoch << 64) | count,
        state=(convert(msg.sender, uint256) << 96) | (ends << 32),
    )
    self._take(bond)
    log Proposed(
        epoch=epoch,
        attempt=attempt,
        root=root,
        released_micro=released_micro,
        held_micro=held_micro,
        count=count,
        content=content,
        proposer=msg.sender,
        ends_s=ends,
    )


@external
@nonreentrant
def finalise():
    """
    @notice Make the open proposal final once its window is over and all demands are answered.
    """
    state: uint256 = self._open_state()
    assert block.timestamp >= self._ends(state), "window"
    assert state & (2**32 - 1) == 0, "demands"
    terms: uint256 = self.current.terms
    sums: uint256 = self.current.sums
    root: bytes32 = self.current.root
    epoch: uint256 = (terms >> 64) & (2**64 - 1)
    self.final_root[epoch] = root
    # The epoch is above the one that stands there.
    packed: uint256 = self.packed_totals
    packed += (epoch - ((packed >> 24) & (2**40 - 1))) << 24
    self.last_sums = sums
    self.current.state = CLOSED
    bond: uint256 = terms >> 128
    if self._sent_or_owed(self._proposer(state), bond):
        packed -= bond << 64
    self.packed_totals = packed
    log Finalised(
        epoch=epoch,
        root=root,
        released_micro=sums >> sum_tree.HALF,
        held_micro=sums & sum_tree.LOW,
        count=terms & (2**64 - 1),
    )


# Striking down


@external
@nonreentrant
def prove_bad_sum(
    position: uint256,
    recorded: uint256,
    left: bytes32,
    left_sums: uint256,
    right: bytes32,
    right_sums: uint256,
    path: DynArray[bytes32, 64],
):
    """
    @notice Show a node whose recorded sums are not those of its two children.
    @param position Place of the node in its level; the level follows from the path's length.
    @param recorded Its sums as its parent (or the proposal) has them.
    """
    bad: bool = (left_sums | right_sums) & sum_tree.GUARD != 0
    if not bad:
        bad = left_sums + right_sums != recorded
    assert bad, "sums agree"
    root: bytes32 = empty(bytes32)
    count: uint256 = 0
    root, count = self._open_root()
    level: uint256 = sum_tree._level(count, len(path))
    assert level > 0 and position < 2**32 and position << level < count, "position"
    node: bytes32 = sum_tree._node_hash(left, left_sums, right, right_sums)
    self._require_recorded(root, count, position, node, recorded, path)
    self._strike(FAULT_SUM, msg.sender)


@external
@nonreentrant
def prove_bad_leaf(
    leaf: sum_tree.Leaf, index: uint256, recorded: uint256, path: DynArray[bytes32, 64]
):
    """
    @notice Show a leaf whose amounts are not those its parent has recorded.
    """
    assert leaf.sums != recorded, "sums agree"
    root: bytes32 = empty(bytes32)
    count: uint256 = 0
    root, count = self._open_root()
    assert sum_tree._level(count, len(path)) == 0 and index < count, "index"
    node: bytes32 = sum_tree._leaf_hash(leaf.account, leaf.sums)
    self._require_recorded(root, count, index, node, recorded, path)
    self._strike(FAULT_SUM, msg.sender)


@external
@nonreentrant
def prove_disorder(left: sum_tree.Shown, right: sum_tree.Shown):
    """
    @notice Show two leaves of the proposal of which the earlier has no smaller account.
    """
    assert left.index < right.index, "index"
    earlier: uint256 = convert(left.leaf.account, uint256)
    assert earlier >= convert(right.leaf.account, uint256), "in order"
    root: bytes32 = empty(bytes32)
    count: uint256 = 0
    root, count = self._open_root()
    self._require_shown(root, count, left)
    self._require_shown(root, count, right)
    self._strike(FAULT_ORDER, msg.sender)


@external
@nonreentrant
def prove_falling(old_count: uint256, old: sum_tree.Shown, new: sum_tree.Shown):
    """
    @notice Show an account that the proposal gives less than the last final root did.
    """
    assert old.leaf.account == new.leaf.account, "accounts"
    assert new.leaf.sums >> sum_tree.HALF < old.leaf.sums >> sum_tree.HALF, "does not fall"
    self._require_shown(self.final_root[self._totals().last_epoch], old_count, old)
    root: bytes32 = empty(bytes32)
    count: uint256 = 0
    root, count = self._open_root()
    self._require_shown(root, count, new)
    self._strike(FAULT_FALLING, msg.sender)


@external
@nonreentrant
def prove_missing(
    old_count: uint256, old: sum_tree.Shown, beside: DynArray[sum_tree.Shown, 2]
):
    """
    @notice Show an account of the last final root that the proposal has left out.
    @param beside The proposal's leaves on both sides of where it should be; one at an end.
    """
    account: uint256 = convert(old.leaf.account, uint256)
    assert old.leaf.sums >> sum_tree.HALF > 0, "nothing released"
    self._require_shown(self.final_root[self._totals().last_epoch], old_count, old)
    root: bytes32 = empty(bytes32)
    count: uint256 = 0
    root, count = self._open_root()
    assert len(beside) > 0, "beside"
    first: uint256 = convert(beside[0].leaf.account, uint256)
    if len(beside) == 2:
        assert beside[1].index == beside[0].index + 1, "not adjacent"
        assert first < account, "not beside"
        assert account < convert(beside[1].leaf.account, uint256), "not beside"
    elif beside[0].index == 0 and account < first:
        pass
    else:
        assert beside[0].index == count - 1 and first < account, "not beside"
    for shown: sum_tree.Shown in beside:
        self._require_shown(root, count, shown)
    self._strike(FAULT_FALLING, msg.sender)


@external
@nonreentrant
def demand(chunk: uint256):
    """
    @notice Ask for 64 leaves of the open proposal. Whoever shows them gets the fee; if nobody does
            in time the proposal is struck down and the fee comes back with half of the bond.
    """
    state: uint256 = self._open_state()
    assert block.timestamp < self._ends(state), "window"
    count: uint256 = self.current.terms & (2**64 - 1)
    assert chunk < COUNT_MAX and chunk << CHUNK_LEVEL < count, "chunk"
    totals: Totals = self._totals()
    attempt: uint256 = totals.attempts
    assert self.demands[attempt][chunk].deadline_s == 0, "asked before"
    window: uint256 = staticcall PARAMETERS.answer_window_s()
    assert window > 0 and window <= WINDOW_S_MAX, "window"
    fee: uint256 = staticcall PARAMETERS.demand_fee_micro()
    deadline: uint256 = block.timestamp + window
    self.demands[attempt][chunk] = Demand(
        demander=msg.sender, deadline_s=deadline, fee_micro=fee
    )
    self.current.state = state + 1
    totals.locked_micro += fee
    self._keep(totals)
    self._take(fee)
    log Demanded(attempt=attempt, chunk=chunk, demander=msg.sender, deadline_s=deadline)


@external
@nonreentrant
def answer(
    chunk: uint256, leaves: DynArray[sum_tree.Leaf, 256], path: DynArray[bytes32, 64]
):
    """
    @notice Show demanded leaves; the fee goes to the sender.
    """
    root: bytes32 = empty(bytes32)
    count: uint256 = 0
    root, count = self._open_root()
    attempt: uint256 = self._totals().attempts
    asked: Demand = self.demands[attempt][chunk]
    assert asked.deadline_s != 0 and asked.deadline_s != SPENT, "not asked"
    level: uint256 = sum_tree._level(count, len(path))
    assert level == CHUNK_LEVEL or (len(path) == 0 and level < CHUNK_LEVEL), "level"
    assert sum_tree._root_of_opening(count, level, chunk, leaves, path) == root, "not in the tree"
    sum_tree._require_tidy(count, level, chunk, leaves, path)
    self.demands[attempt][chunk].deadline_s = SPENT
    self.current.state -= 1
    self._give(msg.sender, asked.fee_micro)
    log Answered(attempt=attempt, chunk=chunk)


@external
@nonreentrant
def reject_withheld(chunk: uint256):
    """
    @notice Strike down the open proposal because a chunk was not shown in time.
    """
    assert self._open_state() > CLOSED
    attempt: uint256 = self._totals().attempts
    asked: Demand = self.demands[attempt][chunk]
    assert asked.deadline_s != 0 and asked.deadline_s != SPENT, "not asked"
    assert block.timestamp > asked.deadline_s, "window"
    self.demands[attempt][chunk].deadline_s = SPENT
    self._give(asked.demander, asked.fee_micro)
    self._strike(FAULT_WITHHELD, asked.demander)


@external
@nonreentrant
def reclaim(attempt: uint256, chunk: uint256):
    """
    @notice Send back the fee of a demand whose proposal was struck down for another fault.
    """
    assert attempt < self._totals().attempts or self.current.state <= CLOSED, "still open"
    asked: Demand = self.demands[attempt][chunk]
    assert asked.deadline_s != 0 and asked.deadline_s != SPENT, "not asked"
    self.demands[attempt][chunk].deadline_s = SPENT
    self._give(asked.demander, asked.fee_micro)


# Claims


@external
@nonreentrant
def claim(
    epoch: uint256,
    count: uint256,
    index: uint256,
    leaf: sum_tree.Leaf,
    path: DynArray[bytes32, 64],
) -> uint256:
    """
    @notice Pay an account what a final root releases and it has not got yet. Anyone may ask.
    @return What was paid.
    """
    root: bytes32 = self.final_root[epoch]
    assert root != empty(bytes32), "not final"
    shown: bytes32 = sum_tree._root_of_leaf(count, index, leaf.account, leaf.sums, path)
    assert shown == root, "not in the tree"
    amount: uint256 = 0
    held: uint256 = 0
    amount, held = self._record(epoch, leaf)
    if amount > 0:
        packed: uint256 = self.packed_totals
        paid: uint256 = ((packed >> 128) & FIGURE_MAX) + amount
        assert paid <= self.last_sums >> sum_tree.HALF, "more than released"
        # What is released is funded, so it fits its place.
        self.packed_totals = packed + (amount << 128)
        sent: bool = extcall STABLE.transfer(leaf.account, amount, default_return_value=True)
        assert sent, "transfer"
    log Claimed(account=leaf.account, epoch=epoch, amount_micro=amount, held_micro=held)
    return amount


@external
@nonreentrant
def claim_many(
    epoch: uint256,
    count: uint256,
    level: uint256,
    position: uint256,
    leaves: DynArray[sum_tree.Leaf, 256],
    skip: uint256,
    path: DynArray[bytes32, 64],
) -> uint256:
    """
    @notice Pay all accounts of one subtree: up to 256 neighbours share one way up.
    @param level The subtree is 2**level leaves wide, at most 8.
    @param position Its place in that level.
    @param leaves All its leaves.
    @param skip Bit i leaves leaf i unpaid.
    @return What was paid. An account that cannot be paid is passed over and loses nothing.
    """
    root: bytes32 = self.final_root[epoch]
    assert root != empty(bytes32), "not final"
    shown: bytes32 = sum_tree._root_of_opening(count, level, position, leaves, path)
    assert shown == root, "not in the tree"
    packed: uint256 = self.packed_totals
    paid: uint256 = (packed >> 128) & FIGURE_MAX
    before: uint256 = paid
    bound: uint256 = self.last_sums >> sum_tree.HALF
    i: uint256 = 0
    for leaf: sum_tree.Leaf in leaves:
        if (skip >> i) & 1 == 0:
            known: uint256 = self.accounts[leaf.account]
            amount: uint256 = 0
            held: uint256 = 0
            amount, held = self._record(epoch, leaf)
            assert paid + amount <= bound, "more than released"
            if amount == 0 or self._sent(leaf.account, amount):
                paid += amount
                log Claimed(
                    account=leaf.account, epoch=epoch, amount_micro=amount, held_micro=held
                )
            else:
                self.accounts[leaf.account] = known
                log ClaimFailed(account=leaf.account, epoch=epoch, amount_micro=amount)
        i += 1
    self.packed_totals = packed + ((paid - before) << 128)
    return paid - before


# Views


@external
@view
def proposal() -> Proposal:
    """
    @notice The open proposal, or the last one with state 0. `terms`: bond (128 bits), epoch (64),
            count (64). `state`: proposer (160 bits), end of the window (64), open demands (32).
    """
    found: Proposal = self.current
    if found.state == CLOSED:
        found.state = 0
    return found


@external
@view
def attempts() -> uint256:
    """
    @notice Proposals so far; the next is one more.
    """
    return self._totals().attempts


@external
@view
def last_epoch() -> uint256:
    """
    @notice The epoch of the last final root; 0 before the first.
    """
    return self._totals().last_epoch


@external
@view
def funded_micro() -> uint256:
    """
    @notice What came in for claims, since the first epoch.
    """
    return self._totals().funded_micro


@external
@view
def paid_micro() -> uint256:
    """
    @notice What was paid to accounts, since the first epoch.
    """
    return self._totals().paid_micro


@external
@view
def locked_micro() -> uint256:
    """
    @notice What is here and not for claims: bonds, fees of demands, what could not be sent.
    """
    return self._totals().locked_micro


@external
@view
@nonreentrant
def paid_of(account: address) -> uint256:
    """
    @notice What an account was paid, since the first epoch.
    """
    return self.accounts[account] >> 136


@external
@view
@nonreentrant
def held_of(account: address) -> uint256:
    """
    @notice What is held back of an account by the newest root it was claimed from.
    """
    return (self.accounts[account] >> 40) & HELD_MAX


@external
@view
@nonreentrant
def epoch_of(account: address) -> uint256:
    """
    @notice The epoch of `held_of`.
    """
    return self.accounts[account] & (2**40 - 1)


@external
@view
def is_leaf(
    epoch: uint256,
    count: uint256,
    index: uint256,
    leaf: sum_tree.Leaf,
    path: DynArray[bytes32, 64],
) -> bool:
    """
    @notice Whether a leaf is in a final root.
    """
    shown: bytes32 = sum_tree._root_of_leaf(count, index, leaf.account, leaf.sums, path)
    return shown == self.final_root[epoch]


@external
@view
def statement_of(
    root: bytes32, content: bytes32, attempt: uint256
) -> (uint256, bytes32, bytes32):
    """
    @notice What verifiers sign, once per attempt: kind, subject, what is stated (with the epoch).
    """
    return KIND_ROOT, self._subject(attempt), self._stated(root, content)


@internal
@view
def _subject(attempt: uint256) -> bytes32:
    return keccak256(abi_encode(self, attempt))


@internal
@pure
def _stated(root: bytes32, content: bytes32) -> bytes32:
    return keccak256(abi_encode(root, content))


@internal
@pure
def _proposer(state: uint256) -> address:
    return convert(state >> 96, address)


@internal
@pure
def _ends(state: uint256) -> uint256:
    return (state >> 32) & (2**64 - 1)


@internal
@view
def _totals() -> Totals:
    packed: uint256 = self.packed_totals
    return Totals(
        funded_micro=packed >> 192,
        paid_micro=(packed >> 128) & FIGURE_MAX,
        locked_micro=(packed >> 64) & FIGURE_MAX,
        last_epoch=(packed >> 24) & (2**40 - 1),
        attempts=packed & ATTEMPTS_MAX,
    )


@internal
def _keep(totals: Totals):
    # Epochs are bounded where they are proposed; paid is never more than funded.
    assert totals.funded_micro | totals.locked_micro <= FIGURE_MAX, "more money than there is"
    assert totals.attempts <= ATTEMPTS_MAX, "attempts"
    self.packed_totals = (
        (totals.funded_micro << 192)
        | (totals.paid_micro << 128)
        | (totals.locked_micro << 64)
        | (totals.last_epoch << 24)
        | totals.attempts
    )


@internal
def _unlock(amount: uint256):
    packed: uint256 = self.packed_totals
    assert (packed >> 64) & FIGURE_MAX >= amount, "not locked"
    self.packed_totals = packed - (amount << 64)


@internal
@view
def _open_state() -> uint256:
    # Of the proposal that may still be struck down.
    state: uint256 = self.current.state
    assert state > CLOSED, "none is open"
    return state


@internal
@view
def _open_root() -> (bytes32, uint256):
    # Root and count of the proposal that may still be struck down.
    assert self.current.state > CLOSED, "none is open"
    return self.current.root, self.current.terms & (2**64 - 1)


@internal
@view
def _require_shown(root: bytes32, count: uint256, shown: sum_tree.Shown):
    leaf: sum_tree.Leaf = shown.leaf
    found: bytes32 = sum_tree._root_of_leaf(
        count, shown.index, leaf.account, leaf.sums, shown.path
    )
    assert found == root, "not in the tree"


@internal
@pure
def _require_recorded(
    root: bytes32,
    count: uint256,
    position: uint256,
    node: bytes32,
    recorded: uint256,
    path: DynArray[bytes32, 64],
):
    top: bytes32 = empty(bytes32)
    total: uint256 = 0
    top, total = sum_tree._fold(node, recorded, position, path)
    assert sum_tree._root(count, total, top) == root, "not in the tree"


@internal
def _strike(fault: uint256, challenger: address):
    terms: uint256 = self.current.terms
    epoch: uint256 = (terms >> 64) & (2**64 - 1)
    attempt: uint256 = self._totals().attempts
    bond: uint256 = terms >> 128
    reward: uint256 = bond * CHALLENGER_BPS // 10_000
    self.current.state = CLOSED
    if fault != FAULT_WITHHELD:
        # What is withheld may have been right: another may propose the same root.
        stated: bytes32 = self._stated(self.current.root, self.current.content)
        self.fraudulent[
            keccak256(abi_encode(KIND_ROOT, self._subject(attempt), epoch, stated))
        ] = True
    self._give(challenger, reward)
    self._give(INSURANCE, bond - reward)
    log Rejected(
        epoch=epoch, attempt=attempt, fault=fault, challenger=challenger, reward_micro=reward
    )


@internal
def _record(epoch: uint256, leaf: sum_tree.Leaf) -> (uint256, uint256):
    # Note a leaf of a final root for its account; what is to be paid now, and what is held.
    known: uint256 = self.accounts[leaf.account]
    paid: uint256 = known >> 136
    held: uint256 = (known >> 40) & HELD_MAX
    seen: uint256 = known & (2**40 - 1)
    released: uint256 = leaf.sums >> sum_tree.HALF
    if epoch >= seen:
        held = min(leaf.sums & sum_tree.LOW, HELD_MAX)
        seen = epoch
    amount: uint256 = 0
    if released > paid:
        amount = released - paid
        paid = released
    new: uint256 = (paid << 136) | (held << 40) | seen
    if new != known:
        self.accounts[leaf.account] = new
    return amount, held


@internal
def _take(amount: uint256):
    # A token that keeps a part for itself is refused.
    if amount == 0:
        return
    before: uint256 = staticcall STABLE.balanceOf(self)
    sent: bool = extcall STABLE.transferFrom(
        msg.sender, self, amount, default_return_value=True
    )
    assert sent and staticcall STABLE.balanceOf(self) == before + amount, "transfer"


@internal
def _give(to: address, amount: uint256):
    # Out of what is locked.
    if amount > 0 and self._sent_or_owed(to, amount):
        self._unlock(amount)


@internal
def _sent_or_owed(to: address, amount: uint256) -> bool:
    # What cannot be sent is owed, so that nobody can block an epoch.
    if self._sent(to, amount):
        return True
    self.owed_micro[to] += amount
    log Owed(account=to, amount_micro=amount)
    return False


@internal
def _sent(to: address, amount: uint256) -> bool:
    success: bool = False
    response: Bytes[32] = b""
    success, response = raw_call(
        STABLE.address,
        abi_encode(to, amount, method_id=method_id("transfer(address,uint256)")),
        max_outsize=32,
        revert_on_failure=False,
    )
    return success and (len(response) == 0 or convert(response, uint256) == 1)
