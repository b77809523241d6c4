# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Customers' prepaid euro
@license AGPL-3.0-only
@notice A customer is named by the hash of an owner's address and a salt, so its owner needs no
        entry and nobody can take it. What it prepaid leaves in two ways only: the owner withdraws
        it, after notice; or the settler draws an epoch's charges, at most once per customer and
        epoch and within the epoch's cap. A draw waits in its epoch's pot: the settler may give
        back from it, the guardian may reject it, and what is not released in time goes back to
        the customers by anybody's call. Released money goes to the distributor, of it at most
        the take's share to the treasury, nowhere else.
@dev    A pause stops deposits and draws; never notices, withdrawals, refunds, releases of what
        has been drawn, or reclaims. Money noticed for withdrawal can still be drawn until it is
        withdrawn: charges of what was used come first. Plain transfers to here belong to nobody.
"""

# pragma nonreentrancy on

from ethereum.ercs import IERC20

interface Parameters:
    def paused() -> bool: view
    def owner() -> address: view
    def guardian() -> address: view
    def take_bps() -> uint256: view
    def escrow_lock_s() -> uint256: view
    def draw_lock_s() -> uint256: view
    def draw_interval_s() -> uint256: view
    def draw_expiry_s() -> uint256: view
    def draw_epoch_max_micro() -> uint256: view

interface Treasury:
    def receive_take(epoch: uint256, amount_micro: uint256): nonpayable

struct Notice:
    amount_micro: uint256
    ready_s: uint256

# state: 0 none, 1 open, 2 released, 3 rejected
struct Pot:
    drawn_micro: uint256
    ready_s: uint256
    expires_s: uint256
    take_bps: uint256
    state: uint256

event Deposited:
    customer: indexed(bytes32)
    payer: indexed(address)
    amount_micro: uint256

event Noticed:
    customer: indexed(bytes32)
    amount_micro: uint256
    ready_s: uint256

event Withdrawn:
    customer: indexed(bytes32)
    receiver: indexed(address)
    amount_micro: uint256

event Drawn:
    epoch: indexed(uint256)
    customer: indexed(bytes32)
    amount_micro: uint256

event Refunded:
    epoch: indexed(uint256)
    customer: indexed(bytes32)
    amount_micro: uint256

event Released:
    epoch: indexed(uint256)
    providers_micro: uint256
    take_micro: uint256

event Rejected:
    epoch: indexed(uint256)
    amount_micro: uint256

event SettlerChanged:
    settler: indexed(address)

BPS: constant(uint256) = 10_000
CUSTOMERS_MAX: constant(uint256) = 256
OPEN: constant(uint256) = 1
AMOUNT_MAX: constant(uint256) = 2**128
# Above any amount that can be drawn.
DRAWN: constant(uint256) = 2**255
RELEASED: constant(uint256) = 2
REJECTED: constant(uint256) = 3

DEPLOYER: immutable(address)
STABLE: public(immutable(IERC20))
PARAMETERS: public(immutable(Parameters))
TREASURY: public(immutable(Treasury))

distributor: public(address)
settler: public(address)
balance_of: public(HashMap[bytes32, uint256])
notice_of: public(HashMap[bytes32, Notice])
# In one word each: drawn (128 bits), ready and expiry (40 each), take (16), state (8).
packed_pots: HashMap[uint256, uint256]
# Of the pot opened last; the next is of a later epoch, and opened not before an interval is over.
last_epoch: public(uint256)
last_opened_s: public(uint256)
# By epoch, then customer: what was drawn and not given back, and DRAWN if there was a draw at all.
draws: HashMap[uint256, HashMap[bytes32, uint256]]
# Of all customers; what open and rejected pots hold.
customers_micro: public(uint256)
pots_micro: public(uint256)


@deploy
def __init__(stable: address, parameters: address, treasury: address, settler: address):
    """
    @param stable The EUR stablecoin (6 decimals).
    @param parameters Where caps and locks are read.
    @param treasury Gets the take.
    @param settler Draws epochs; the timelock may name another.
    """
    assert stable != empty(address) and parameters != empty(address), "zero address"
    assert treasury != empty(address) and settler != empty(address), "zero address"
    DEPLOYER = msg.sender
    STABLE = IERC20(stable)
    PARAMETERS = Parameters(parameters)
    TREASURY = Treasury(treasury)
    self.settler = settler


@external
def connect(distributor: address):
    """
    @notice Name the distributor, to which released money goes. Once, by who deployed this.
    """
    assert msg.sender == DEPLOYER, "not the deployer"
    assert self.distributor == empty(address), "connected"
    assert distributor != empty(address), "zero address"
    self.distributor = distributor


@external
def set_settler(settler: address):
    """
    @notice Name another settler; by the timelock.
    """
    assert msg.sender == staticcall PARAMETERS.owner(), "not the owner"
    assert settler != empty(address), "zero address"
    self.settler = settler
    log SettlerChanged(settler=settler)


@external
@pure
def customer_of(owner: address, salt: bytes32) -> bytes32:
    """
    @notice Id of a customer: keccak256 of its owner and a salt, ABI-encoded.
    """
    return self._customer(owner, salt)


@external
def deposit(customer: bytes32, amount_micro: uint256):
    """
    @notice Prepay for a customer, by anybody: a bank's payment, a credit, a refund.
    """
    assert not staticcall PARAMETERS.paused(), "paused"
    assert customer != empty(bytes32), "zero id"
    assert amount_micro > 0 and amount_micro < AMOUNT_MAX, "amount"
    self.balance_of[customer] += amount_micro
    self.customers_micro += amount_micro
    before: uint256 = staticcall STABLE.balanceOf(self)
    sent: bool = extcall STABLE.transferFrom(
        msg.sender, self, amount_micro, default_return_value=True
    )
    assert sent and staticcall STABLE.balanceOf(self) == before + amount_micro, "transfer"
    log Deposited(customer=customer, payer=msg.sender, amount_micro=amount_micro)


@external
def give_notice(salt: bytes32, amount_micro: uint256):
    """
    @notice Announce a withdrawal by a customer's owner; replaces an earlier notice, 0 ends it.
    @dev    More than was noticed before starts the lock anew; less does not.
    """
    customer: bytes32 = self._customer(msg.sender, salt)
    assert amount_micro <= self.balance_of[customer], "amount"
    notice: Notice = self.notice_of[customer]
    if amount_micro > notice.amount_micro:
        notice.ready_s = block.timestamp + staticcall PARAMETERS.escrow_lock_s()
    notice.amount_micro = amount_micro
    self.notice_of[customer] = notice
    log Noticed(customer=customer, amount_micro=amount_micro, ready_s=notice.ready_s)


@external
def withdraw(salt: bytes32, receiver: address) -> uint256:
    """
    @notice Withdraw what was noticed, as far as it has not been drawn since.
    @return What was withdrawn.
    """
    customer: bytes32 = self._customer(msg.sender, salt)
    notice: Notice = self.notice_of[customer]
    assert receiver != empty(address) and receiver != self, "receiver"
    assert notice.amount_micro > 0, "no notice"
    assert block.timestamp >= notice.ready_s, "locked"
    amount: uint256 = min(notice.amount_micro, self.balance_of[customer])
    assert amount > 0, "nothing left"
    self.notice_of[customer] = empty(Notice)
    self.balance_of[customer] -= amount
    self.customers_micro -= amount
    assert extcall STABLE.transfer(receiver, amount, default_return_value=True), "transfer"
    log Withdrawn(customer=customer, receiver=receiver, amount_micro=amount)
    return amount


@external
def draw(
    epoch: uint256,
    customers: DynArray[bytes32, CUSTOMERS_MAX],
    sums_micro: DynArray[uint256, CUSTOMERS_MAX],
):
    """
    @notice Draw customers' charges of an epoch into its pot; by the settler, in as many calls as
            it takes, each customer once.
    """
    assert msg.sender == self.settler, "not the settler"
    assert not staticcall PARAMETERS.paused(), "paused"
    assert len(customers) == len(sums_micro) and len(customers) > 0, "lengths"
    pot: Pot = self._pot(epoch)
    if pot.state == 0:
        assert epoch > self.last_epoch or self.last_opened_s == 0, "epoch"
        assert (
            self.last_opened_s == 0
            or block.timestamp >= self.last_opened_s + staticcall PARAMETERS.draw_interval_s()
        ), "too soon"
        self.last_epoch = epoch
        self.last_opened_s = block.timestamp
        pot.state = OPEN
        pot.expires_s = block.timestamp + staticcall PARAMETERS.draw_expiry_s()
        pot.take_bps = staticcall PARAMETERS.take_bps()
    assert pot.state == OPEN, "closed"
    assert block.timestamp < pot.expires_s, "expired"
    total: uint256 = 0
    for i: uint256 in range(len(customers), bound=CUSTOMERS_MAX):
        customer: bytes32 = customers[i]
        amount: uint256 = sums_micro[i]
        assert self.draws[epoch][customer] == 0, "drawn already"
        assert amount > 0 and amount < AMOUNT_MAX, "amount"
        assert amount <= self.balance_of[customer], "balance"
        self.draws[epoch][customer] = DRAWN | amount
        self.balance_of[customer] -= amount
        total += amount
        log Drawn(epoch=epoch, customer=customer, amount_micro=amount)
    pot.drawn_micro += total
    assert pot.drawn_micro <= staticcall PARAMETERS.draw_epoch_max_micro(), "cap"
    pot.ready_s = block.timestamp + staticcall PARAMETERS.draw_lock_s()
    self._keep(epoch, pot)
    self.customers_micro -= total
    self.pots_micro += total


@external
def refund(
    epoch: uint256,
    customers: DynArray[bytes32, CUSTOMERS_MAX],
    sums_micro: DynArray[uint256, CUSTOMERS_MAX],
):
    """
    @notice Give back from an open pot what was drawn too much; by the settler.
    """
    assert msg.sender == self.settler, "not the settler"
    assert len(customers) == len(sums_micro) and len(customers) > 0, "lengths"
    assert self._pot(epoch).state == OPEN, "closed"
    for i: uint256 in range(len(customers), bound=CUSTOMERS_MAX):
        assert sums_micro[i] > 0, "amount"
        self._give_back(epoch, customers[i], sums_micro[i])


@external
def reject(epoch: uint256):
    """
    @notice Close an open pot for its customers; by the guardian.
    """
    assert msg.sender == staticcall PARAMETERS.guardian(), "not the guardian"
    pot: Pot = self._pot(epoch)
    assert pot.state == OPEN, "closed"
    pot.state = REJECTED
    self._keep(epoch, pot)
    log Rejected(epoch=epoch, amount_micro=pot.drawn_micro)


@external
def reclaim(epoch: uint256, customers: DynArray[bytes32, CUSTOMERS_MAX]):
    """
    @notice Give customers back what was drawn for an epoch that was rejected, or not released in
            time. Anybody may call.
    """
    pot: Pot = self._pot(epoch)
    late: bool = pot.state == OPEN and block.timestamp >= pot.expires_s
    assert late or pot.state == REJECTED, "not to be reclaimed"
    for customer: bytes32 in customers:
        amount: uint256 = self._drawn_of(epoch, customer)
        if amount > 0:
            self._give_back(epoch, customer, amount)


@external
def release(epoch: uint256, take_micro: uint256):
    """
    @notice Send a pot to the distributor, and of it the take to the treasury; by the settler,
            after the lock and before the pot expires.
    @param take_micro At most the take's share of the pot as it was when the pot was opened,
           rounded up.
    """
    assert msg.sender == self.settler, "not the settler"
    assert self.distributor != empty(address), "not connected"
    pot: Pot = self._pot(epoch)
    assert pot.state == OPEN, "closed"
    assert block.timestamp >= pot.ready_s, "locked"
    assert block.timestamp < pot.expires_s, "expired"
    assert take_micro * BPS < pot.drawn_micro * pot.take_bps + BPS, "take"
    providers: uint256 = pot.drawn_micro - take_micro
    self.packed_pots[epoch] += RELEASED - OPEN
    self.pots_micro -= pot.drawn_micro
    if take_micro > 0:
        assert extcall STABLE.approve(TREASURY.address, take_micro, default_return_value=True)
        extcall TREASURY.receive_take(epoch, take_micro)
    if providers > 0:
        sent: bool = extcall STABLE.transfer(
            self.distributor, providers, default_return_value=True
        )
        assert sent, "transfer"
    log Released(epoch=epoch, providers_micro=providers, take_micro=take_micro)


@external
@view
def pots(epoch: uint256) -> Pot:
    """
    @notice The pot of an epoch.
    """
    return self._pot(epoch)


@external
@view
def drawn_of(epoch: uint256, customer: bytes32) -> uint256:
    """
    @notice What was drawn of a customer for an epoch and not given back.
    """
    return self._drawn_of(epoch, customer)


@internal
@view
def _drawn_of(epoch: uint256, customer: bytes32) -> uint256:
    return self.draws[epoch][customer] & (DRAWN - 1)


@internal
@view
def _pot(epoch: uint256) -> Pot:
    packed: uint256 = self.packed_pots[epoch]
    return Pot(
        drawn_micro=packed >> 104,
        ready_s=(packed >> 64) & (2**40 - 1),
        expires_s=(packed >> 24) & (2**40 - 1),
        take_bps=(packed >> 8) & (2**16 - 1),
        state=packed & (2**8 - 1),
    )


@internal
def _keep(epoch: uint256, pot: Pot):
    # What is drawn is below the cap of an epoch, times are below 2**40 for 34,000 years.
    self.packed_pots[epoch] = (
        (pot.drawn_micro << 104)
        | (pot.ready_s << 64)
        | (pot.expires_s << 24)
        | (pot.take_bps << 8)
        | pot.state
    )


@internal
@pure
def _customer(owner: address, salt: bytes32) -> bytes32:
    return keccak256(abi_encode(owner, salt))


@internal
def _give_back(epoch: uint256, customer: bytes32, amount: uint256):
    assert amount <= self._drawn_of(epoch, customer), "amount"
    self.draws[epoch][customer] -= amount
    pot: Pot = self._pot(epoch)
    pot.drawn_micro -= amount
    self._keep(epoch, pot)
    self.balance_of[customer] += amount
    self.customers_micro += amount
    self.pots_micro -= amount
    log Refunded(epoch=epoch, customer=customer, amount_micro=amount)
