# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title The numbers that govern the economy, within bounds nobody can move
@license AGPL-3.0-only
@notice Every number has a lowest and a highest value fixed in this code. Changes come from the
        timelock only, as a whole batch, and only if afterwards self-dealing still loses: what a
        coalition of everybody could pay to itself out of the take, plus the top-up on it, is
        less than the take; and a discount is at most half of the take.
@dev    Times are divided by TIME_DIVISOR, 1 on a real chain: demonstrations show their factor.
        A pause is the guardian's, lasts seven days at most and is followed by as long a rest; the
        contracts that read it stop entries only, never exits.
"""

interface Timelock:
    def get_minimum_delay() -> uint256: view

event Set:
    key: indexed(bytes32)
    name: String[32]
    value: uint256

event Paused:
    until_s: uint256

event Unpaused:
    at_s: uint256

event GuardianChanged:
    guardian: indexed(address)

BPS: constant(uint256) = 10_000
DAY_S: constant(uint256) = 86_400
CHANGES_MAX: constant(uint256) = 12
NAMES_MAX: constant(uint256) = 32
PAUSE_S: constant(uint256) = 7 * DAY_S
# Stakers, who can leave within the fourteen days of unbonding, leave before a change they mislike.
OWNER_DELAY_S: constant(uint256) = 15 * DAY_S
# A number with a step changes by one step at most, and then rests.
REST_S: constant(uint256) = 30 * DAY_S
TAKE_STEP_BPS: constant(uint256) = 100

TAKE: constant(bytes32) = keccak256("take_bps")
INSURANCE: constant(bytes32) = keccak256("insurance_bps")
TREASURY: constant(bytes32) = keccak256("treasury_bps")
COORDINATORS: constant(bytes32) = keccak256("coordinators_bps")
VERIFIERS: constant(bytes32) = keccak256("verifiers_bps")
STAKERS: constant(bytes32) = keccak256("stakers_bps")
BURN: constant(bytes32) = keccak256("burn_bps")
TOP_UP: constant(bytes32) = keccak256("top_up_bps")
DISCOUNT: constant(bytes32) = keccak256("discount_bps_max")

TIME_DIVISOR: public(immutable(uint256))
TIMELOCK: public(immutable(address))

names: public(DynArray[String[32], NAMES_MAX])
value: public(HashMap[bytes32, uint256])
lowest: public(HashMap[bytes32, uint256])
# 0 for a name that does not exist.
highest: public(HashMap[bytes32, uint256])
name_of: HashMap[bytes32, String[32]]
changed_s: public(HashMap[bytes32, uint256])
guardian: public(address)
paused_until_s: public(uint256)
# Shares of the take in one word, because every epoch reads them: 16 bits each, insurance lowest.
split: uint256


@deploy
def __init__(timelock: address, guardian: address, time_divisor: uint256):
    """
    @param timelock The only one who may change numbers.
    @param guardian Who may pause entries; the timelock may name another.
    @param time_divisor 1 on a real chain; up to 86,400 where days are played as seconds.
    """
    assert timelock != empty(address) and guardian != empty(address), "zero address"
    assert time_divisor > 0 and time_divisor <= DAY_S, "time divisor"
    TIMELOCK = timelock
    TIME_DIVISOR = time_divisor
    self.guardian = guardian
    # Shares of what customers pay, of the take, and of a slash, in basis points.
    self._define("take_bps", 1_200, 500, 2_000)
    self._define("insurance_bps", 2_500, 1_500, 6_000)
    self._define("treasury_bps", 1_500, 500, 4_000)
    self._define("coordinators_bps", 2_000, 500, 4_000)
    self._define("verifiers_bps", 1_500, 500, 4_000)
    self._define("stakers_bps", 2_000, 0, 4_000)
    self._define("burn_bps", 500, 0, 2_000)
    self._define("top_up_bps", 1_000, 0, 3_500)
    self._define("discount_bps_max", 500, 0, 500)
    self._define("reporter_bps_max", 1_000, 0, 1_000)
    self._define("hold_back_bps", 2_500, 500, 7_500)
    # Money, in 1e-6 EUR.
    self._define("bond_per_tb_micro", 4_000_000, 100_000, 100_000_000)
    self._define("proposer_bond_micro", 100_000_000, 1_000_000, 100_000_000_000)
    self._define("demand_fee_micro", 1_000_000, 10_000, 100_000_000)
    self._define("draw_epoch_max_micro", 10**12, 10**6, 10**15)
    # Windows, in seconds of a real chain.
    self._define_time("challenge_window_s", DAY_S, 3_600, 7 * DAY_S)
    self._define_time("answer_window_s", 6 * 3_600, 1_800, 3 * DAY_S)
    self._define_time("escrow_lock_s", 3 * DAY_S, DAY_S, 30 * DAY_S)
    self._define_time("draw_lock_s", 6 * 3_600, 3_600, 7 * DAY_S)
    self._define_time("draw_interval_s", 3_600, 600, DAY_S)
    self._define_time("draw_expiry_s", 30 * DAY_S, 14 * DAY_S, 90 * DAY_S)
    self._check()


@external
def set(keys: DynArray[bytes32, CHANGES_MAX], values: DynArray[uint256, CHANGES_MAX]):
    """
    @notice Change numbers, all of them or none.
    @param keys keccak256 of the names.
    @param values New values; times in seconds of this chain.
    """
    assert msg.sender == self._owner(), "not the owner"
    assert len(keys) == len(values) and len(keys) > 0, "lengths"
    for i: uint256 in range(len(keys), bound=CHANGES_MAX):
        key: bytes32 = keys[i]
        assert self.highest[key] > 0, "no such name"
        assert values[i] >= self.lowest[key] and values[i] <= self.highest[key], "bounds"
        if key == TAKE:
            self._check_step(key, values[i])
        self.value[key] = values[i]
        self.changed_s[key] = block.timestamp
        log Set(key=key, name=self.name_of[key], value=values[i])
    self._check()


@external
def set_guardian(guardian: address):
    """
    @notice Name another guardian.
    """
    assert msg.sender == self._owner(), "not the owner"
    assert guardian != empty(address), "zero address"
    self.guardian = guardian
    log GuardianChanged(guardian=guardian)


@external
def pause():
    """
    @notice Stop entries for seven days. Again only after as long a rest.
    """
    assert msg.sender == self.guardian, "not the guardian"
    last: uint256 = self.paused_until_s
    assert last == 0 or block.timestamp >= last + PAUSE_S // TIME_DIVISOR, "rest"
    self.paused_until_s = block.timestamp + PAUSE_S // TIME_DIVISOR
    log Paused(until_s=self.paused_until_s)


@external
def unpause():
    """
    @notice End a pause before its time; the rest counts from now.
    """
    assert msg.sender == self.guardian, "not the guardian"
    assert block.timestamp < self.paused_until_s, "not paused"
    self.paused_until_s = block.timestamp
    log Unpaused(at_s=block.timestamp)


@external
@view
def paused() -> bool:
    """
    @notice Whether entries are stopped now.
    """
    return block.timestamp < self.paused_until_s


@external
@view
def owner() -> address:
    """
    @notice The timelock; nobody while its delay is shorter than fifteen days.
    """
    return self._owner()


@external
@view
def split_bps() -> uint256[6]:
    """
    @notice Shares of the take: insurance and repair, treasury, coordinators and gateways,
            verifiers and relays, stakers, burn. Their sum is 10,000.
    """
    split: uint256 = self.split
    return [
        split & (2**16 - 1),
        (split >> 16) & (2**16 - 1),
        (split >> 32) & (2**16 - 1),
        (split >> 48) & (2**16 - 1),
        (split >> 64) & (2**16 - 1),
        split >> 80,
    ]


@external
@view
def take_bps() -> uint256:
    """
    @notice The take: share of what customers pay.
    """
    return self.value[TAKE]


@external
@view
def top_up_bps() -> uint256:
    """
    @notice A top-up is at most this share of the take of its own epoch, net of discounts.
    """
    return self.value[TOP_UP]


@external
@view
def discount_bps_max() -> uint256:
    """
    @notice The largest discount of a customer, borne by the take.
    """
    return self.value[DISCOUNT]


@external
@view
def reporter_bps_max() -> uint256:
    """
    @notice Of a slash, what its reporter gets at most.
    """
    return self.value[keccak256("reporter_bps_max")]


@external
@view
def proposer_bond_micro() -> uint256:
    """
    @notice What a proposal of an epoch locks.
    """
    return self.value[keccak256("proposer_bond_micro")]


@external
@view
def demand_fee_micro() -> uint256:
    """
    @notice What who demands a chunk pays to who answers.
    """
    return self.value[keccak256("demand_fee_micro")]


@external
@view
def challenge_window_s() -> uint256:
    """
    @notice For how long a proposal can be struck down.
    """
    return self.value[keccak256("challenge_window_s")]


@external
@view
def answer_window_s() -> uint256:
    """
    @notice For how long a demanded chunk may be missing.
    """
    return self.value[keccak256("answer_window_s")]


@external
@view
def escrow_lock_s() -> uint256:
    """
    @notice Between a customer's notice and its withdrawal.
    """
    return self.value[keccak256("escrow_lock_s")]


@external
@view
def draw_lock_s() -> uint256:
    """
    @notice Between the last draw of an epoch and its release.
    """
    return self.value[keccak256("draw_lock_s")]


@external
@view
def draw_interval_s() -> uint256:
    """
    @notice Between the first draws of two epochs: the cap of an epoch is a cap of time, too.
    """
    return self.value[keccak256("draw_interval_s")]


@external
@view
def draw_expiry_s() -> uint256:
    """
    @notice After this a draw that was not released goes back to the customers.
    """
    return self.value[keccak256("draw_expiry_s")]


@external
@view
def draw_epoch_max_micro() -> uint256:
    """
    @notice What can be drawn for one epoch from all customers.
    """
    return self.value[keccak256("draw_epoch_max_micro")]


@internal
@view
def _owner() -> address:
    delay: uint256 = staticcall Timelock(TIMELOCK).get_minimum_delay()
    if delay < OWNER_DELAY_S // TIME_DIVISOR:
        return empty(address)
    return TIMELOCK


@internal
@view
def _check_step(key: bytes32, wanted: uint256):
    before: uint256 = self.value[key]
    assert max(before, wanted) - min(before, wanted) <= TAKE_STEP_BPS, "step"
    changed: uint256 = self.changed_s[key]
    assert changed == 0 or block.timestamp >= changed + REST_S // TIME_DIVISOR, "rest"


@internal
def _check():
    whole: uint256 = self.value[INSURANCE] + self.value[TREASURY] + self.value[COORDINATORS]
    whole += self.value[VERIFIERS] + self.value[STAKERS] + self.value[BURN]
    assert whole == BPS, "the shares make up the whole"
    # The treasury is spent by the timelock in public; everything else a coalition of customer,
    # provider, coordinator, verifier, repair worker and staker could pay to itself.
    self_payable: uint256 = whole - self.value[TREASURY]
    assert self.value[TOP_UP] + self_payable < BPS, "self-dealing"
    assert 2 * self.value[DISCOUNT] <= self.value[TAKE], "discount"
    # No share is above 10,000, so each fits its 16 bits.
    split: uint256 = self.value[INSURANCE] | (self.value[TREASURY] << 16)
    split |= (self.value[COORDINATORS] << 32) | (self.value[VERIFIERS] << 48)
    self.split = split | (self.value[STAKERS] << 64) | (self.value[BURN] << 80)


@internal
def _define(name: String[32], first: uint256, lowest: uint256, highest: uint256):
    key: bytes32 = keccak256(name)
    self.names.append(name)
    self.name_of[key] = name
    self.value[key] = first
    self.lowest[key] = lowest
    self.highest[key] = highest
    log Set(key=key, name=name, value=first)


@internal
def _define_time(name: String[32], first_s: uint256, lowest_s: uint256, highest_s: uint256):
    self._define(
        name,
        max(first_s // TIME_DIVISOR, 1),
        max(lowest_s // TIME_DIVISOR, 1),
        max(highest_s // TIME_DIVISOR, 1),
    )
