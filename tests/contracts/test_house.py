"""All contracts together: a customer's euro becomes pay and take, and nothing is left over."""

from tests.contracts.house import BUCKETS, build, split
from tests.contracts.world import EURO_MICRO, account, deploy, pass_time

SALT = bytes(32)


def test_a_customers_euro_reaches_distributor_and_buckets():
    house = build()
    court = deploy("SlashCourt", house.parameters, account("repair"), house.treasury, [], [])
    distributor = deploy("EpochDistributor", house.stable, house.parameters, court, house.treasury)
    treasury = deploy(
        "Treasury",
        house.stable,
        house.parameters,
        [account(f"payee of {bucket}") for bucket in BUCKETS],
    )
    escrow = deploy("Escrow", house.stable, house.parameters, treasury, account("settler"))
    treasury.connect(escrow, sender=account("deployer"))
    escrow.connect(distributor, sender=account("deployer"))
    customer = escrow.customer_of(account("photographer"), SALT)
    house.give("photographer", 100 * EURO_MICRO, escrow)
    escrow.deposit(customer, 100 * EURO_MICRO, sender=account("photographer"))
    escrow.draw(1, [customer], [7_000_001], sender=account("settler"))
    escrow.refund(1, [customer], [1_000_000], sender=account("settler"))
    pass_time(house.parameters.draw_lock_s())
    take = 6_000_001 * house.parameters.take_bps() // 10_000
    escrow.release(1, take, sender=account("settler"))
    distributor.absorb(sender=account("anybody"))
    assert distributor.funded_micro() == 6_000_001 - take
    assert [treasury.balance_of(i) for i in range(6)] == split(take, house.parameters.split_bps())
    escrow.give_notice(SALT, escrow.balance_of(customer), sender=account("photographer"))
    pass_time(house.parameters.escrow_lock_s())
    escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))
    everything = [house.euro_of(one) for one in ("photographer", distributor, treasury)]
    assert everything == [94 * EURO_MICRO - 1, 6_000_001 - take, take]
    assert house.euro_of(escrow) == 0
