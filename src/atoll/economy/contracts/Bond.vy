# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title What answers for a node: its operator's own tranche, and delegations behind it
@license AGPL-3.0-only
@notice The own tranche is lost first, delegations after it, each in proportion with what is
        leaving: who asks to leave stays liable until the unbonding time is over. Rewards flow
        over time to whoever is bonded while they flow. A commission rises only after a delay as
        long as the unbonding time. Held funds of the node's account count as bond. A pause stops
        entry only.
@dev    Delegations are shares of a pool with virtual shares against inflation. A pool that was
        slashed to almost nothing is closed: its shares keep what is left, new delegations start
        a new pool. There is no owner.
"""

from ethereum.ercs import IERC20

interface Parameters:
    def paused() -> bool: view

interface Registry:
    def owner_of(node: bytes32) -> address: view
    def payout_of(node: bytes32) -> address: view
    def is_active(node: bytes32) -> bool: view

interface Distributor:
    def held_of(account: address) -> uint256: view

struct Pool:
    assets: uint256
    shares: uint256

# Rewards that still flow: `left_micro` evenly from `last_s` to `end_s`.
struct Stream:
    left_micro: uint256
    last_s: uint256
    end_s: uint256

struct Commission:
    bps: uint256
    next_bps: uint256
    next_s: uint256

event Connected:
    court: address
    distributor: address

event OwnBonded:
    node: indexed(bytes32)
    payer: indexed(address)
    amount: uint256

event Delegated:
    node: indexed(bytes32)
    delegator: indexed(address)
    generation: uint256
    amount: uint256
    shares: uint256

# `generation` of the own tranche is the highest number.
event Leaving:
    node: indexed(bytes32)
    account: indexed(address)
    generation: uint256
    bucket: uint256
    amount: uint256

event Left:
    node: indexed(bytes32)
    account: indexed(address)
    generation: uint256
    bucket: uint256
    amount: uint256

event CommissionSet:
    node: indexed(bytes32)
    bps: uint256
    from_s: uint256

event Rewarded:
    node: indexed(bytes32)
    payer: indexed(address)
    amount_micro: uint256
    end_s: uint256

event RewardPaid:
    node: indexed(bytes32)
    account: indexed(address)
    amount_micro: uint256

event Slashed:
    node: indexed(bytes32)
    own: uint256
    delegated: uint256

event PoolClosed:
    node: indexed(bytes32)
    generation: uint256

# Shares of one unit of the asset in an untouched pool.
VIRTUAL_SHARES: public(constant(uint256)) = 10**6
# A pool whose unit costs less than a millionth of the first price takes no more delegations.
CLOSED_SHARES: constant(uint256) = 10**12
COMMISSION_BPS_MAX: public(constant(uint256)) = 3_000
# Delegations may be this many times the own tranche when they enter.
DELEGATION_BPS_MAX: public(constant(uint256)) = 10_000
SCALE: constant(uint256) = 10**36
AMOUNT_MAX: constant(uint256) = 2**112
OWN: public(constant(uint256)) = max_value(uint256)
# Buckets that cannot be withdrawn yet: this one and the two before it.
BUCKETS: constant(uint256) = 3

ASSET: public(immutable(IERC20))
STABLE: public(immutable(IERC20))
PARAMETERS: public(immutable(Parameters))
REGISTRY: public(immutable(Registry))
UNBONDING_S: public(immutable(uint256))
REWARD_S: public(immutable(uint256))
DEPLOYER: immutable(address)

COURT: public(address)
DISTRIBUTOR: public(Distributor)

own: public(HashMap[bytes32, uint256])
own_leaving: public(HashMap[bytes32, HashMap[uint256, uint256]])
# Closed pools come before this one.
generation: public(HashMap[bytes32, uint256])
pools: public(HashMap[bytes32, HashMap[uint256, Pool]])
shares_of: public(HashMap[bytes32, HashMap[uint256, HashMap[address, uint256]]])
leaving: public(HashMap[bytes32, HashMap[uint256, HashMap[uint256, Pool]]])
leaving_shares: HashMap[bytes32, HashMap[uint256, HashMap[uint256, HashMap[address, uint256]]]]

commission: public(HashMap[bytes32, Commission])
stream: public(HashMap[bytes32, Stream])
# Rewards of one share since the pool began, times SCALE; what rounding kept back, times SCALE.
per_share: HashMap[bytes32, HashMap[uint256, uint256]]
carried: HashMap[bytes32, uint256]
seen_per_share: HashMap[bytes32, HashMap[uint256, HashMap[address, uint256]]]
earned_micro: HashMap[bytes32, HashMap[address, uint256]]
operator_micro: public(HashMap[bytes32, uint256])


@deploy
def __init__(
    asset: address,
    stable: address,
    parameters: address,
    registry: address,
    unbonding_s: uint256,
    reward_s: uint256,
):
    """
    @param asset What is bonded.
    @param stable What rewards are paid in; another token than `asset`.
    @param parameters Who knows whether entry is paused.
    @param registry Who knows nodes' owners and payout accounts.
    @param unbonding_s How long who leaves stays liable, at least; also the delay of a commission.
    @param reward_s How long a reward flows.
    """
    assert asset != empty(address) and stable != empty(address), "zero address"
    assert parameters != empty(address) and registry != empty(address), "zero address"
    assert asset != stable, "one token"
    assert unbonding_s > 1 and unbonding_s <= 365 * 86_400, "unbonding"
    assert reward_s > 0 and reward_s <= 365 * 86_400, "reward"
    ASSET = IERC20(asset)
    STABLE = IERC20(stable)
    PARAMETERS = Parameters(parameters)
    REGISTRY = Registry(registry)
    UNBONDING_S = unbonding_s
    REWARD_S = reward_s
    DEPLOYER = msg.sender


@external
def connect(court: address, distributor: address):
    """
    @notice Name the contracts that are deployed later; once, by the deployer.
    """
    assert msg.sender == DEPLOYER, "not the deployer"
    assert self.COURT == empty(address), "connected"
    assert court != empty(address) and distributor != empty(address), "zero address"
    self.COURT = court
    self.DISTRIBUTOR = Distributor(distributor)
    log Connected(court=court, distributor=distributor)


# The own tranche


@external
@nonreentrant
def bond_own(node: bytes32, amount: uint256):
    """
    @notice Add to the own tranche of a node. Anyone may pay; only its owner gets it back.
    """
    assert not staticcall PARAMETERS.paused(), "paused"
    assert staticcall REGISTRY.is_active(node), "no such node"
    assert amount > 0 and self.own[node] + amount < AMOUNT_MAX, "amount"
    self._flow(node)
    self.own[node] += amount
    self._take(ASSET, amount)
    log OwnBonded(node=node, payer=msg.sender, amount=amount)


@external
@nonreentrant
def leave_own(node: bytes32, amount: uint256) -> uint256:
    """
    @notice Begin to take back a part of the own tranche; it stays liable meanwhile.
    @return The bucket to withdraw from.
    """
    self._require_owner(node)
    assert amount > 0 and amount <= self.own[node], "amount"
    self._flow(node)
    bucket: uint256 = self._bucket()
    self.own[node] -= amount
    self.own_leaving[node][bucket] += amount
    log Leaving(node=node, account=msg.sender, generation=OWN, bucket=bucket, amount=amount)
    return bucket


@external
@nonreentrant
def withdraw_own(node: bytes32, bucket: uint256) -> uint256:
    """
    @notice Take back what left the own tranche, once its unbonding time is over.
    """
    self._require_owner(node)
    self._require_over(bucket)
    amount: uint256 = self.own_leaving[node][bucket]
    assert amount > 0, "nothing"
    self.own_leaving[node][bucket] = 0
    self._send(ASSET, msg.sender, amount)
    log Left(node=node, account=msg.sender, generation=OWN, bucket=bucket, amount=amount)
    return amount


# Delegations


@external
@nonreentrant
def delegate(node: bytes32, amount: uint256, shares_min: uint256) -> uint256:
    """
    @notice Put a bond behind a node's own tranche; it can be lost.
    @param shares_min Refuse to get fewer shares.
    @return Shares of the pool `generation(node)`.
    """
    assert not staticcall PARAMETERS.paused(), "paused"
    assert staticcall REGISTRY.is_active(node), "no such node"
    generation: uint256 = self.generation[node]
    pool: Pool = self.pools[node][generation]
    limit: uint256 = self.own[node] * DELEGATION_BPS_MAX // 10_000
    assert amount > 0 and pool.assets + amount <= limit, "amount"
    self._flow(node)
    self._settle(node, generation, msg.sender)
    shares: uint256 = self._shares(pool, amount)
    assert shares > 0 and shares >= shares_min, "shares"
    self.pools[node][generation] = Pool(
        assets=pool.assets + amount, shares=pool.shares + shares
    )
    self.shares_of[node][generation][msg.sender] += shares
    self._take(ASSET, amount)
    log Delegated(
        node=node,
        delegator=msg.sender,
        generation=generation,
        amount=amount,
        shares=shares,
    )
    return shares


@external
@nonreentrant
def leave(node: bytes32, generation: uint256, shares: uint256) -> uint256:
    """
    @notice Begin to take back shares; what they are worth stays liable meanwhile.
    @return The bucket to withdraw from.
    """
    assert shares > 0 and shares <= self.shares_of[node][generation][msg.sender], "shares"
    self._flow(node)
    self._settle(node, generation, msg.sender)
    pool: Pool = self.pools[node][generation]
    amount: uint256 = self._assets(pool, shares)
    bucket: uint256 = self._bucket()
    gone: Pool = self.leaving[node][generation][bucket]
    units: uint256 = self._shares(gone, amount)
    self.pools[node][generation] = Pool(
        assets=pool.assets - amount, shares=pool.shares - shares
    )
    self.shares_of[node][generation][msg.sender] -= shares
    self.leaving[node][generation][bucket] = Pool(
        assets=gone.assets + amount, shares=gone.shares + units
    )
    self.leaving_shares[node][generation][bucket][msg.sender] += units
    log Leaving(
        node=node, account=msg.sender, generation=generation, bucket=bucket, amount=amount
    )
    return bucket


@external
@nonreentrant
def withdraw(node: bytes32, generation: uint256, bucket: uint256) -> uint256:
    """
    @notice Take back what left a pool, once its unbonding time is over.
    """
    self._require_over(bucket)
    units: uint256 = self.leaving_shares[node][generation][bucket][msg.sender]
    assert units > 0, "nothing"
    gone: Pool = self.leaving[node][generation][bucket]
    amount: uint256 = self._assets(gone, units)
    self.leaving_shares[node][generation][bucket][msg.sender] = 0
    self.leaving[node][generation][bucket] = Pool(
        assets=gone.assets - amount, shares=gone.shares - units
    )
    self._send(ASSET, msg.sender, amount)
    log Left(
        node=node, account=msg.sender, generation=generation, bucket=bucket, amount=amount
    )
    return amount


# Rewards


@external
@nonreentrant
def set_commission(node: bytes32, bps: uint256):
    """
    @notice What the operator keeps of delegations' rewards. Falls at once, rises after a delay.
    """
    self._require_owner(node)
    assert bps <= COMMISSION_BPS_MAX, "commission"
    self._flow(node)
    now: Commission = self.commission[node]
    from_s: uint256 = block.timestamp
    if bps <= now.bps:
        self.commission[node] = Commission(bps=bps, next_bps=bps, next_s=0)
    else:
        from_s += UNBONDING_S
        self.commission[node] = Commission(bps=now.bps, next_bps=bps, next_s=from_s)
    log CommissionSet(node=node, bps=bps, from_s=from_s)


@external
@nonreentrant
def reward(node: bytes32, amount_micro: uint256):
    """
    @notice Let a reward flow to a node's bond over `REWARD_S`. Anyone may pay.
    """
    assert not staticcall PARAMETERS.paused(), "paused"
    assert staticcall REGISTRY.owner_of(node) != empty(address), "no such node"
    assert amount_micro > 0 and amount_micro < AMOUNT_MAX, "amount"
    self._flow(node)
    flow: Stream = self.stream[node]
    left: uint256 = flow.left_micro + amount_micro
    assert left < AMOUNT_MAX, "amount"
    # The mean of both ends by amount: a small gift does not put off a large reward.
    ahead: uint256 = 0
    if flow.left_micro > 0:
        ahead = flow.end_s - block.timestamp
    ahead = (flow.left_micro * ahead + amount_micro * REWARD_S) // left
    end: uint256 = block.timestamp + max(ahead, 1)
    self.stream[node] = Stream(left_micro=left, last_s=block.timestamp, end_s=end)
    self._take(STABLE, amount_micro)
    log Rewarded(node=node, payer=msg.sender, amount_micro=amount_micro, end_s=end)


@external
@nonreentrant
def claim_reward(node: bytes32, generation: uint256, delegator: address) -> uint256:
    """
    @notice Pay a delegator what his shares earned. Anyone may ask.
    """
    self._flow(node)
    self._settle(node, generation, delegator)
    amount: uint256 = self.earned_micro[node][delegator]
    self.earned_micro[node][delegator] = 0
    if amount > 0:
        self._send(STABLE, delegator, amount)
    log RewardPaid(node=node, account=delegator, amount_micro=amount)
    return amount


@external
@nonreentrant
def claim_operator(node: bytes32) -> uint256:
    """
    @notice Pay a node's payout account its own tranche's rewards and commission. Anyone may ask.
    """
    self._flow(node)
    account: address = staticcall REGISTRY.payout_of(node)
    assert account != empty(address), "no such node"
    amount: uint256 = self.operator_micro[node]
    self.operator_micro[node] = 0
    if amount > 0:
        self._send(STABLE, account, amount)
    log RewardPaid(node=node, account=account, amount_micro=amount)
    return amount


# Slashing


@external
@nonreentrant
def slash(node: bytes32, amount: uint256) -> uint256:
    """
    @notice Take up to `amount` of a node's bond and send it to the court, which alone may ask.
    @return What was taken.
    """
    assert msg.sender == self.COURT, "not the court"
    self._flow(node)
    last: uint256 = self._bucket()
    own: uint256 = self._slash_own(node, last, amount)
    delegated: uint256 = self._slash_delegated(node, last, amount - own)
    taken: uint256 = own + delegated
    if taken > 0:
        self._send(ASSET, msg.sender, taken)
    log Slashed(node=node, own=own, delegated=delegated)
    return taken


@internal
def _slash_own(node: bytes32, last: uint256, amount: uint256) -> uint256:
    total: uint256 = self._own_liable(node, last)
    want: uint256 = min(amount, total)
    # Each part of what is left, in proportion to what is left: the last one takes the rest, so
    # the sum is exact.
    left: uint256 = want
    for back: uint256 in range(BUCKETS):
        if back > last:
            break
        there: uint256 = self.own_leaving[node][last - back]
        if there > 0:
            part: uint256 = left * there // total
            self.own_leaving[node][last - back] = there - part
            left -= part
            total -= there
    self.own[node] -= left
    return want


@internal
def _slash_delegated(node: bytes32, last: uint256, amount: uint256) -> uint256:
    generation: uint256 = self.generation[node]
    total: uint256 = self._delegated_liable(node, last)
    want: uint256 = min(amount, total)
    left: uint256 = want
    for back: uint256 in range(BUCKETS):
        if back > last:
            break
        there: uint256 = self.leaving[node][generation][last - back].assets
        if there > 0:
            part: uint256 = left * there // total
            self.leaving[node][generation][last - back].assets = there - part
            left -= part
            total -= there
    self.pools[node][generation].assets -= left
    pool: Pool = self.pools[node][generation]
    if pool.assets * CLOSED_SHARES < pool.shares:
        self.generation[node] = generation + 1
        log PoolClosed(node=node, generation=generation)
    return want


# Views


@external
@view
@nonreentrant
def coverage(node: bytes32) -> (uint256, uint256, uint256):
    """
    @notice What answers for a node: own tranche, delegations (both with what is leaving), and the
            held funds of its payout account in stablecoin units.
    """
    last: uint256 = self._bucket()
    held: uint256 = 0
    account: address = staticcall REGISTRY.payout_of(node)
    if account != empty(address) and self.DISTRIBUTOR.address != empty(address):
        held = staticcall self.DISTRIBUTOR.held_of(account)
    return self._own_liable(node, last), self._delegated_liable(node, last), held


@external
@view
@nonreentrant
def worth(node: bytes32, generation: uint256, delegator: address) -> uint256:
    """
    @notice What a delegator's shares are worth now.
    """
    shares: uint256 = self.shares_of[node][generation][delegator]
    return self._assets(self.pools[node][generation], shares)


@external
@view
@nonreentrant
def leaving_worth(
    node: bytes32, generation: uint256, bucket: uint256, delegator: address
) -> uint256:
    """
    @notice What a delegator can withdraw from a bucket if nothing is slashed until then.
    """
    units: uint256 = self.leaving_shares[node][generation][bucket][delegator]
    return self._assets(self.leaving[node][generation][bucket], units)


@external
@view
@nonreentrant
def bucket_now() -> uint256:
    """
    @notice The bucket of who leaves now.
    """
    return self._bucket()


@internal
@view
def _bucket() -> uint256:
    # Two buckets after this one are at least UNBONDING_S.
    return block.timestamp // ((UNBONDING_S + 1) // 2)


@internal
@view
def _require_over(bucket: uint256):
    assert bucket < 2**64 and self._bucket() >= bucket + BUCKETS, "still liable"


@internal
@view
def _require_owner(node: bytes32):
    assert msg.sender == staticcall REGISTRY.owner_of(node), "not the owner"


@internal
@view
def _own_liable(node: bytes32, last: uint256) -> uint256:
    total: uint256 = self.own[node]
    for back: uint256 in range(BUCKETS):
        if back > last:
            break
        total += self.own_leaving[node][last - back]
    return total


@internal
@view
def _delegated_liable(node: bytes32, last: uint256) -> uint256:
    generation: uint256 = self.generation[node]
    total: uint256 = self.pools[node][generation].assets
    for back: uint256 in range(BUCKETS):
        if back > last:
            break
        total += self.leaving[node][generation][last - back].assets
    return total


@internal
@pure
def _shares(pool: Pool, amount: uint256) -> uint256:
    return amount * (pool.shares + VIRTUAL_SHARES) // (pool.assets + 1)


@internal
@pure
def _assets(pool: Pool, shares: uint256) -> uint256:
    return shares * (pool.assets + 1) // (pool.shares + VIRTUAL_SHARES)


@internal
def _flow(node: bytes32):
    # Let rewards flow until now, by the commission that held at each moment.
    flow: Stream = self.stream[node]
    terms: Commission = self.commission[node]
    if terms.next_s != 0 and block.timestamp >= terms.next_s:
        if flow.left_micro > 0 and flow.last_s < terms.next_s:
            flow = self._flow_until(node, flow, terms.next_s, terms.bps)
        terms = Commission(bps=terms.next_bps, next_bps=terms.next_bps, next_s=0)
        self.commission[node] = terms
    if flow.left_micro > 0:
        flow = self._flow_until(node, flow, block.timestamp, terms.bps)
        self.stream[node] = flow


@internal
def _flow_until(node: bytes32, flow: Stream, until: uint256, bps: uint256) -> Stream:
    own: uint256 = self.own[node]
    generation: uint256 = self.generation[node]
    pool: Pool = self.pools[node][generation]
    bonded: uint256 = own + pool.assets
    if bonded == 0:
        # Nobody is there: the rewards wait.
        waited: uint256 = until - flow.last_s
        return Stream(left_micro=flow.left_micro, last_s=until, end_s=flow.end_s + waited)
    amount: uint256 = flow.left_micro
    if until < flow.end_s:
        amount = flow.left_micro * (until - flow.last_s) // (flow.end_s - flow.last_s)
    if amount == 0 and until < flow.end_s:
        return flow
    behind: uint256 = amount * pool.assets // bonded
    behind -= behind * bps // 10_000
    if pool.shares == 0:
        behind = 0
    if behind > 0:
        scaled: uint256 = behind * SCALE + self.carried[node]
        self.per_share[node][generation] += scaled // pool.shares
        self.carried[node] = scaled % pool.shares
    self.operator_micro[node] += amount - behind
    return Stream(left_micro=flow.left_micro - amount, last_s=until, end_s=flow.end_s)


@internal
def _settle(node: bytes32, generation: uint256, delegator: address):
    shares: uint256 = self.shares_of[node][generation][delegator]
    now: uint256 = self.per_share[node][generation]
    gained: uint256 = now - self.seen_per_share[node][generation][delegator]
    if gained > 0:
        self.earned_micro[node][delegator] += shares * gained // SCALE
        self.seen_per_share[node][generation][delegator] = now


@internal
def _take(token: IERC20, amount: uint256):
    # A token that keeps a part for itself is refused.
    before: uint256 = staticcall token.balanceOf(self)
    sent: bool = extcall token.transferFrom(msg.sender, self, amount, default_return_value=True)
    assert sent and staticcall token.balanceOf(self) == before + amount, "transfer"


@internal
def _send(token: IERC20, to: address, amount: uint256):
    assert extcall token.transfer(to, amount, default_return_value=True), "transfer"
