"""Who may store what now: looked up before a request is answered, whatever a gateway thinks.

What is refused is kept in memory for a moment, so that an upload costs no query; nobody is sent
away before the database has been asked anew.
"""

from dataclasses import replace
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.customers import reserve, rules, store
from atoll.coordinator.customers.rules import Prices
from atoll.coordinator.customers.service import CustomersService
from atoll.coordinator.part import Guard, Part
from atoll.core.messages import (
    CommitObject,
    CommitPart,
    CompleteUpload,
    CreateBucket,
    CreateUpload,
    Message,
    OrderSegment,
)
from atoll.core.messages.retention import LockObject
from atoll.core.money import PICO_PER_MICRO
from atoll.core.ports import Clock, Database


class Admission(Part):
    """Refuses uploads of whoever has nothing left, and locks that are not prepaid."""

    def __init__(self, clock: Clock, database: Database, customers: CustomersService) -> None:
        self._clock = clock
        self._database = database
        self._customers = customers
        self._config = customers.config
        self._refused: dict[bytes, str] = {}
        self._refused_at = float("-inf")
        self.guards: dict[type[Message], Guard] = {}
        if not self._config.charged:
            return
        self.guards = {
            OrderSegment: self._admit_order,
            CommitObject: self._admit_object,
            CommitPart: self._admit_bucket,
            CreateUpload: self._admit_bucket,
            CreateBucket: self._admit_account,
            CompleteUpload: self._admit_whole,
            LockObject: self._admit_lock,
        }

    async def _admit_order(self, request: OrderSegment) -> None:
        # What keeps stored data in order (manifests, packs, copies) goes on.
        if request.upkeep:
            return
        await self._admit(request.bucket)
        if self._config.enforced and await self._locks(request.bucket):
            prices = await self._customers.prices()
            check = partial(self._check_prepaid, request=request, prices=prices)
            await self._database.read(check)

    async def _locks(self, bucket: bytes) -> bool:
        """Say whether new objects of a bucket are locked: most are not, and cost no more here."""
        return await self._database.read(partial(reserve.locks_new, bucket=bucket))

    async def _admit_bucket(self, request: CommitPart | CreateUpload) -> None:
        await self._admit(request.bucket)

    async def _admit_object(self, request: CommitObject) -> None:
        await self._admit(request.bucket)
        await self._admit_whole(request)

    async def _admit_whole(self, request: CommitObject | CompleteUpload) -> None:
        """Set aside what the default lock of the object's bucket costs."""
        # Parts that were stored while something was left become an object even afterwards.
        if self._config.enforced and await self._locks(request.bucket):
            prices = await self._customers.prices()
            cost = await self._database.read(
                partial(reserve.of_default, request=request, prices=prices)
            )
            await self._set_aside(*cost, prices)

    async def _admit_lock(self, request: LockObject) -> None:
        if not self._config.enforced:
            return
        prices, now_ms = await self._customers.prices(), self._clock.now_ms()
        account, cost_pico = await self._database.read(
            partial(reserve.of_lock, request=request, prices=prices, now_ms=now_ms)
        )
        if request.last:
            await self._set_aside(account, cost_pico, prices)
        elif cost_pico:
            # The object's state changes with the last request of several; but already the first
            # ones have records that holders would obey.
            await self._database.read(
                partial(self._check, account=account, cost_pico=cost_pico, prices=prices)
            )

    def _check_prepaid(self, connection: Connection, request: OrderSegment, prices: Prices) -> None:
        account, cost_pico = reserve.of_default(connection, request, prices)
        if cost_pico:
            self._check(connection, account, cost_pico, prices)

    def _check(
        self, connection: Connection, account: bytes, cost_pico: int, prices: Prices
    ) -> None:
        """Raise ``UNPAID`` where less is available than something costs."""
        customer = store.customer(connection, account)
        known = self._customers.known_now(connection, customer, prices)
        if known.available_pico < cost_pico:
            raise reserve.refusal(cost_pico, known.available_pico)

    async def _set_aside(self, account: bytes, cost_pico: int, prices: Prices) -> None:
        """Set something aside of what is available. Raises ``UNPAID`` where that is too little.

        Where what it is for does not happen after all, the next ``set_aside_all`` gives it back.
        """
        if not cost_pico:
            return

        def write(connection: Connection) -> None:
            customer = store.hold_customer(connection, account)
            known = self._customers.known_now(connection, customer, prices)
            if known.available_pico < cost_pico:
                raise reserve.refusal(cost_pico, known.available_pico)
            micro = customer.reserved_micro - (-cost_pico // PICO_PER_MICRO)
            store.put_customer(
                connection,
                replace(customer, reserved_micro=micro, sequence=customer.sequence + 1),
            )

        await self._database.write(write)

    async def set_aside_all(self) -> None:
        """Set aside for every customer what his locked data costs from now on."""
        prices, now_ms = await self._customers.prices(), self._clock.now_ms()
        for account in await self._database.read(partial(store.with_locks, now_ms=now_ms)):

            def write(connection: Connection, account: bytes = account) -> None:
                customer = store.hold_customer(connection, account)
                micro = reserve.reserved_micro(connection, account, prices, now_ms)
                if micro != customer.reserved_micro:
                    store.put_customer(
                        connection,
                        replace(customer, reserved_micro=micro, sequence=customer.sequence + 1),
                    )

            await self._database.write(write)

    def reserved(self, connection: Connection) -> dict[bytes, int]:
        """Return what is set aside, in pico-euro, by account: epochs charge what is beyond it."""
        if not self._config.enforced:
            return {}
        return {
            account: micro * PICO_PER_MICRO for account, micro in store.reserved(connection).items()
        }

    async def _admit_account(self, request: CreateBucket) -> None:
        await self._admit(request.account)

    async def _admit(self, name: bytes) -> None:
        """Raise ``UNPAID`` where uploads to a bucket, or of an account, are refused."""
        now = self._clock.monotonic()
        if not 0 <= now - self._refused_at < self._config.fresh_s:
            self._refused = await self._database.read(store.refused)
            self._refused_at = now
        reason = self._refused.get(name)
        if reason:
            # A payment may have come in this very second: nobody is sent away by old news.
            self._refused = await self._database.read(store.refused)
            reason = self._refused.get(name)
        if reason:
            raise rules.refusal(reason)
