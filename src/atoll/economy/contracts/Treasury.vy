# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title The take, split into six buckets
@license AGPL-3.0-only
@notice Each epoch's take is split as `Parameters` says, to the unit: every bucket gets its share
        rounded down, insurance gets what rounding left. A bucket is paid out by its own payee
        only, and only a payee can name its successor. Nobody else moves anything.
"""

# pragma nonreentrancy on

from ethereum.ercs import IERC20

interface Parameters:
    def split_bps() -> uint256[6]: view

event TakeReceived:
    epoch: indexed(uint256)
    amount_micro: uint256
    shares_micro: uint256[6]

event Absorbed:
    amount_micro: uint256

event Withdrawn:
    bucket: indexed(uint256)
    receiver: indexed(address)
    amount_micro: uint256

event PayeeOffered:
    bucket: indexed(uint256)
    payee: indexed(address)

event PayeeChanged:
    bucket: indexed(uint256)
    payee: indexed(address)

BPS: constant(uint256) = 10_000
BUCKETS: constant(uint256) = 6
FIGURE_BITS: constant(uint256) = 64
FIGURE_MAX: constant(uint256) = 2**64 - 1
RECEIVED: constant(uint256) = 6
INSURANCE: public(constant(uint256)) = 0
TREASURY: public(constant(uint256)) = 1
COORDINATORS: public(constant(uint256)) = 2
VERIFIERS: public(constant(uint256)) = 3
STAKERS: public(constant(uint256)) = 4
BURN: public(constant(uint256)) = 5

DEPLOYER: immutable(address)
STABLE: public(immutable(IERC20))
PARAMETERS: public(immutable(Parameters))

escrow: public(address)
payee: public(address[BUCKETS])
offered: public(address[BUCKETS])
# What each bucket holds, in stablecoin units, and what all ever received: figures of 64 bits (18
# trillion euros), so that a take touches two words. Their sum never exceeds this contract's balance.
# Buckets 0 to 3, the lowest first; then 4, 5 and what was received.
lower: uint256
upper: uint256


@deploy
def __init__(stable: address, parameters: address, payees: address[BUCKETS]):
    """
    @param stable The EUR stablecoin (6 decimals).
    @param parameters Where the split is read.
    @param payees Who may pay out each bucket: insurance and repair, treasury, coordinators and
           gateways, verifiers and relays, stakers, burn.
    """
    assert stable != empty(address) and parameters != empty(address), "zero address"
    for one: address in payees:
        assert one != empty(address), "zero address"
    DEPLOYER = msg.sender
    STABLE = IERC20(stable)
    PARAMETERS = Parameters(parameters)
    self.payee = payees


@external
def connect(escrow: address):
    """
    @notice Name the escrow, from which takes come. Once, by who deployed this contract.
    """
    assert msg.sender == DEPLOYER, "not the deployer"
    assert self.escrow == empty(address), "connected"
    assert escrow != empty(address), "zero address"
    self.escrow = escrow


@external
def receive_take(epoch: uint256, amount_micro: uint256):
    """
    @notice Take an epoch's take from the escrow and split it.
    """
    assert msg.sender == self.escrow, "not the escrow"
    assert amount_micro > 0, "zero amount"
    before: uint256 = staticcall STABLE.balanceOf(self)
    sent: bool = extcall STABLE.transferFrom(
        msg.sender, self, amount_micro, default_return_value=True
    )
    assert sent and staticcall STABLE.balanceOf(self) == before + amount_micro, "transfer"
    bps: uint256[BUCKETS] = staticcall PARAMETERS.split_bps()
    shares: uint256[BUCKETS] = empty(uint256[BUCKETS])
    rest: uint256 = amount_micro
    for i: uint256 in range(1, BUCKETS):
        shares[i] = amount_micro * bps[i] // BPS
        rest -= shares[i]
    shares[INSURANCE] = rest
    self._receive(shares, amount_micro)
    log TakeReceived(epoch=epoch, amount_micro=amount_micro, shares_micro=shares)


@external
def absorb() -> uint256:
    """
    @notice Give insurance what was sent here by plain transfers (slashes, struck bonds).
    @return What it was.
    """
    amount: uint256 = staticcall STABLE.balanceOf(self) - self._total()
    if amount > 0:
        shares: uint256[BUCKETS] = empty(uint256[BUCKETS])
        shares[INSURANCE] = amount
        self._receive(shares, amount)
        log Absorbed(amount_micro=amount)
    return amount


@external
def withdraw(bucket: uint256, receiver: address, amount_micro: uint256):
    """
    @notice Pay out of a bucket; by its payee.
    """
    assert msg.sender == self.payee[bucket], "not the payee"
    assert receiver != empty(address) and receiver != self, "receiver"
    assert amount_micro > 0 and amount_micro <= self._figure(bucket), "amount"
    if bucket < 4:
        self.lower -= amount_micro << (FIGURE_BITS * bucket)
    else:
        self.upper -= amount_micro << (FIGURE_BITS * (bucket - 4))
    assert extcall STABLE.transfer(receiver, amount_micro, default_return_value=True), "transfer"
    log Withdrawn(bucket=bucket, receiver=receiver, amount_micro=amount_micro)


@external
def withdraw_other(other: address, receiver: address, amount: uint256):
    """
    @notice Pay out another token that reached this contract (slashed bonds); by insurance's payee.
    """
    assert msg.sender == self.payee[INSURANCE], "not the payee"
    assert other != STABLE.address, "the stablecoin"
    assert receiver != empty(address), "receiver"
    assert extcall IERC20(other).transfer(receiver, amount, default_return_value=True), "transfer"


@external
def offer(bucket: uint256, payee: address):
    """
    @notice Offer a bucket to another payee, who takes it by `accept`; zero takes it back.
    """
    assert msg.sender == self.payee[bucket], "not the payee"
    self.offered[bucket] = payee
    log PayeeOffered(bucket=bucket, payee=payee)


@external
def accept(bucket: uint256):
    """
    @notice Become a bucket's payee, if it was offered to the caller.
    """
    assert msg.sender == self.offered[bucket], "not offered"
    self.offered[bucket] = empty(address)
    self.payee[bucket] = msg.sender
    log PayeeChanged(bucket=bucket, payee=msg.sender)


@external
@view
def balance_of(bucket: uint256) -> uint256:
    """
    @notice What a bucket holds.
    """
    assert bucket < BUCKETS, "no such bucket"
    return self._figure(bucket)


@external
@view
def received_micro() -> uint256:
    """
    @notice What all buckets ever received.
    """
    return self._figure(RECEIVED)


@external
@view
def total_micro() -> uint256:
    """
    @notice What all buckets hold.
    """
    return self._total()


@internal
@view
def _total() -> uint256:
    total: uint256 = 0
    lower: uint256 = self.lower
    upper: uint256 = self.upper
    for i: uint256 in range(4):
        total += (lower >> (FIGURE_BITS * i)) & FIGURE_MAX
    return total + (upper & FIGURE_MAX) + ((upper >> FIGURE_BITS) & FIGURE_MAX)


@internal
@view
def _figure(number: uint256) -> uint256:
    if number < 4:
        return (self.lower >> (FIGURE_BITS * number)) & FIGURE_MAX
    return (self.upper >> (FIGURE_BITS * (number - 4))) & FIGURE_MAX


@internal
def _receive(shares: uint256[BUCKETS], amount: uint256):
    # No bucket holds more than all ever received, so no figure runs into the next.
    upper: uint256 = self.upper
    assert (upper >> (2 * FIGURE_BITS)) + amount <= FIGURE_MAX, "more money than there is"
    lower: uint256 = 0
    for i: uint256 in range(4):
        lower |= shares[i] << (FIGURE_BITS * i)
    self.lower += lower
    more: uint256 = shares[4] | (shares[5] << FIGURE_BITS) | (amount << (2 * FIGURE_BITS))
    self.upper = upper + more
