# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Public vesting of the genesis supply
@license AGPL-3.0-only
@notice Holds what the genesis file gives out over time. Each schedule is fixed by the constructor:
        nothing before its cliff, then in proportion to the time since its start, all at its end.
        Nobody can revoke, hasten or change one; only its beneficiary can pass it on.
@dev    Deployed before the token, which mints to it; `connect` then checks that exactly the sum
        of all schedules arrived, and is done once.
"""

# pragma nonreentrancy on

from ethereum.ercs import IERC20

struct Schedule:
    beneficiary: address
    amount: uint256
    start_s: uint256
    cliff_s: uint256
    duration_s: uint256
    claimed: uint256

event Connected:
    token: indexed(address)
    amount: uint256

event Claimed:
    schedule: indexed(uint256)
    beneficiary: indexed(address)
    amount: uint256

event BeneficiaryOffered:
    schedule: indexed(uint256)
    beneficiary: indexed(address)

event BeneficiaryChanged:
    schedule: indexed(uint256)
    beneficiary: indexed(address)

SCHEDULES_MAX: constant(uint256) = 32
DURATION_S_MAX: constant(uint256) = 10 * 365 * 86_400
# Starts lie between 2020 and 2100: a date in milliseconds would never vest.
START_S_MIN: constant(uint256) = 1_577_836_800
START_S_MAX: constant(uint256) = 4_102_444_800

DEPLOYER: immutable(address)
# What all schedules give out together, in 1e-18 ATOLL.
TOTAL: public(immutable(uint256))

token: public(IERC20)
schedules: public(DynArray[Schedule, SCHEDULES_MAX])
# Who may take a schedule over, by its number.
offered: public(HashMap[uint256, address])


@deploy
def __init__(
    beneficiaries: DynArray[address, SCHEDULES_MAX],
    amounts: DynArray[uint256, SCHEDULES_MAX],
    starts_s: DynArray[uint256, SCHEDULES_MAX],
    cliffs_s: DynArray[uint256, SCHEDULES_MAX],
    durations_s: DynArray[uint256, SCHEDULES_MAX],
):
    """
    @param amounts In 1e-18 ATOLL.
    @param starts_s Unix time from which the proportion is counted.
    @param cliffs_s Seconds after the start before which nothing can be claimed.
    @param durations_s Seconds from the start to the last unit; at least the cliff.
    """
    count: uint256 = len(beneficiaries)
    assert count > 0, "no schedules"
    assert len(amounts) == count and len(starts_s) == count, "lengths"
    assert len(cliffs_s) == count and len(durations_s) == count, "lengths"
    DEPLOYER = msg.sender
    total: uint256 = 0
    for i: uint256 in range(count, bound=SCHEDULES_MAX):
        assert beneficiaries[i] != empty(address), "zero address"
        assert amounts[i] > 0, "zero amount"
        assert starts_s[i] >= START_S_MIN and starts_s[i] <= START_S_MAX, "start"
        assert durations_s[i] > 0 and durations_s[i] <= DURATION_S_MAX, "duration"
        assert cliffs_s[i] <= durations_s[i], "cliff"
        total += amounts[i]
        self.schedules.append(
            Schedule(
                beneficiary=beneficiaries[i],
                amount=amounts[i],
                start_s=starts_s[i],
                cliff_s=cliffs_s[i],
                duration_s=durations_s[i],
                claimed=0,
            )
        )
    TOTAL = total


@external
def connect(token: address):
    """
    @notice Name the token, once, by who deployed this contract, after it minted to here.
    """
    assert msg.sender == DEPLOYER, "not the deployer"
    assert self.token.address == empty(address), "connected"
    amount: uint256 = staticcall IERC20(token).balanceOf(self)
    assert amount == TOTAL, "not the sum of the schedules"
    self.token = IERC20(token)
    log Connected(token=token, amount=amount)


@external
def claim(number: uint256) -> uint256:
    """
    @notice Pay a schedule's beneficiary what it may have by now. Anybody may call.
    @return What was paid, in 1e-18 ATOLL.
    """
    assert self.token.address != empty(address), "not connected"
    amount: uint256 = self._claimable(number)
    assert amount > 0, "nothing to claim"
    beneficiary: address = self.schedules[number].beneficiary
    self.schedules[number].claimed += amount
    assert extcall self.token.transfer(beneficiary, amount), "transfer"
    log Claimed(schedule=number, beneficiary=beneficiary, amount=amount)
    return amount


@external
def offer(number: uint256, beneficiary: address):
    """
    @notice Offer a schedule to another account, which takes it by `accept`; zero takes it back.
    """
    assert msg.sender == self.schedules[number].beneficiary, "not the beneficiary"
    self.offered[number] = beneficiary
    log BeneficiaryOffered(schedule=number, beneficiary=beneficiary)


@external
def accept(number: uint256):
    """
    @notice Take over a schedule that was offered to the caller.
    """
    assert msg.sender == self.offered[number], "not offered"
    self.offered[number] = empty(address)
    self.schedules[number].beneficiary = msg.sender
    log BeneficiaryChanged(schedule=number, beneficiary=msg.sender)


@external
@view
def count() -> uint256:
    """
    @notice How many schedules there are.
    """
    return len(self.schedules)


@external
@view
def vested(number: uint256, at_s: uint256) -> uint256:
    """
    @notice What a schedule has given free at a time, claimed or not.
    """
    return self._vested(self.schedules[number], at_s)


@external
@view
def claimable(number: uint256) -> uint256:
    """
    @notice What `claim` would pay now.
    """
    return self._claimable(number)


@internal
@view
def _claimable(number: uint256) -> uint256:
    schedule: Schedule = self.schedules[number]
    return self._vested(schedule, block.timestamp) - schedule.claimed


@internal
@pure
def _vested(schedule: Schedule, at_s: uint256) -> uint256:
    if at_s < schedule.start_s + schedule.cliff_s:
        return 0
    passed: uint256 = at_s - schedule.start_s
    if passed >= schedule.duration_s:
        return schedule.amount
    # Rounded down: what is free is never more than the proportion.
    return schedule.amount * passed // schedule.duration_s
