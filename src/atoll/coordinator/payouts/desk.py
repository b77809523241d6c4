"""Pays providers: how each wants it, what may be paid out, and its way from the node's account.

A payout is asked for, signed by its node, taken over the chain and set aside in the ledger; then it
may stand in a file for the bank (``bank``). Where nothing is settled on a chain it is set aside at
once. Every step is one transaction or an intent of the outbox, so that a coordinator may be killed
between any two.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from msgspec.structs import replace as replace_fields
from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.store import buckets
from atoll.coordinator.part import Part, Step
from atoll.coordinator.payouts import orders, rules, store
from atoll.coordinator.payouts.model import (
    MICRO_PER_CENT,
    ORDERS_AT_ONCE,
    PAYOUT_BYTES,
    SIGN_MS_MAX,
    Order,
    OrderState,
    Terms,
)
from atoll.coordinator.payouts.seal import Seal
from atoll.coordinator.payouts.till import Done, Till
from atoll.coordinator.registry.model import NodeView
from atoll.coordinator.registry.service import RegistryService
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import node_id_of, show_node
from atoll.core.messages import Message, decode, encode
from atoll.core.messages.payouts import (
    EARNING_DAYS_MAX,
    OPENED_AT_ONCE,
    ORDER_PURPOSE,
    ORDERS_SHOWN_MAX,
    STATEMENT_PAGE_MAX,
    GetPayoutOrders,
    GetPayoutTerms,
    GetStatement,
    OpenPayouts,
    PayoutOrder,
    PayoutOrders,
    PayoutsOpened,
    PayoutTaken,
    PayoutTerms,
    SetPayout,
    SignedPayout,
    SignPayout,
    StatementEntry,
    StatementPage,
    bank_digest,
)
from atoll.core.ports import Clock, Database, Rng
from atoll.economy.chain.permit import PERMIT_BYTES, permit_of
from atoll.economy.chain.signer import recover_account
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import Account, AccountKind
from atoll.economy.ledger.service import post_in
from atoll.economy.payments.accounts import BankAccount
from atoll.economy.payments.booking import entry_of_order

log = logging.getLogger("atoll.coordinator.payouts")

PAUSE_S = 1.0
_AWAY = frozenset({Kind.UNREACHABLE, Kind.TIMEOUT, Kind.OVERLOADED})


class PayoutDesk(Part):
    """Answers nodes about how they are paid; carries payouts to where a file may take them."""

    def __init__(
        self,
        clock: Clock,
        rng: Rng,
        database: Database,
        identity: Identity,
        registry: RegistryService,
        seal: Seal,
        till: Till | None,
        debtor: Callable[[], BankAccount | None],
    ) -> None:
        """``identity`` signs what is promised; ``till``: None where no chain is settled on.

        ``debtor``: the operator's bank account, None while he has named none.
        """
        self._clock = clock
        self._rng = rng
        self._database = database
        self._identity = identity
        self._registry = registry
        self._seal = seal
        self._till = till
        self._debtor = debtor
        self.node_handlers = {
            SetPayout: self._set,
            GetPayoutTerms: self._terms,
            GetPayoutOrders: self._asked,
            SignPayout: self._sign,
            GetStatement: self._statement,
        }
        self.handlers = {OpenPayouts: self._open}
        if till is not None:
            self.steps = [Step("carry payouts", self.carry, PAUSE_S)]

    async def _view(self, prover: bytes) -> NodeView:
        await self._registry.fresh()
        alias = self._registry.alias_of(node_id_of(prover))
        view = None if alias is None else self._registry.node(alias)
        if view is None:
            raise AtollError(
                Kind.NOT_FOUND,
                "pay node",
                "this node is not registered",
                hint="start it: it registers by itself",
            )
        return view

    # --- terms ------------------------------------------------------------------------------

    async def _set(self, request: SetPayout, prover: bytes, signed_ms: int) -> Message:
        """Change how a node is paid. The signer's time orders changes: an old one is a replay."""
        node = (await self._view(prover)).node_id

        def write(connection: Connection) -> Terms:
            customer = b""
            if request.access_key:
                found = buckets.find_credential(connection, request.access_key)
                if found is None:
                    raise AtollError(
                        Kind.NOT_FOUND,
                        "set payout",
                        "no customer has this access key here",
                        hint="it is the S3 access key of the storage that is to be paid",
                    )
                customer = bytes(found.account)
            before = orders.terms_of(connection, node, self._seal.open)
            if signed_ms <= before.changed_ms:
                raise AtollError(
                    Kind.REPLAYED, "set payout", "a later wish is known", hint="set it again"
                )
            after = rules.terms_set(before, request, customer, signed_ms)
            orders.put_terms(connection, after, self._seal.close(node, after.bank))
            # What nobody signed yet went to the former account.
            for order in orders.of_node(connection, node, ORDERS_SHOWN_MAX, self._seal):
                if order.state is OrderState.ASKED:
                    dropped = rules.moved(order, OrderState.DROPPED, self._clock.now_ms())
                    orders.move(connection, order, dropped)
            return after

        await self._database.write(write)
        log.info("node %s is paid by %s", show_node(node), request.method)
        return await self._shown(node)

    async def _terms(self, _: GetPayoutTerms, prover: bytes, __: int) -> Message:
        return await self._shown((await self._view(prover)).node_id)

    async def _shown(self, node: bytes) -> PayoutTerms:
        def load(connection: Connection) -> PayoutTerms:
            terms = orders.terms_of(connection, node, self._seal.open)
            listed = orders.of_node(connection, node, ORDERS_SHOWN_MAX, self._seal)
            return PayoutTerms(
                method=terms.method.value,
                credit_bps=terms.credit_bps,
                bank=rules.hint_of(terms.bank),
                customer=terms.customer,
                problem=terms.problem,
                payouts=[rules.facts_of(one) for one in listed],
            )

        return await self._database.read(load)

    async def _statement(self, request: GetStatement, prover: bytes, _: int) -> Message:
        view = await self._view(prover)
        account = Account.of(AccountKind.PROVIDER, view.facts.payout_account)
        first = rules.day_of(self._clock.now_ms()) - EARNING_DAYS_MAX

        def load(connection: Connection) -> StatementPage:
            found = ledger_store.lines(connection, account, request.after, STATEMENT_PAGE_MAX + 1)
            days = store.days_of(connection, view.node_id, first) if not request.after else []
            return StatementPage(
                entries=[
                    StatementEntry(
                        number=line.number,
                        time_ms=line.time_ms,
                        kind=line.kind,
                        amount_pico=line.amount_pico,
                        evidence=_evidence(line.kind, line.evidence),
                    )
                    for line in found[:STATEMENT_PAGE_MAX]
                ],
                more=len(found) > STATEMENT_PAGE_MAX,
                days=[rules.day_facts(day, one) for day, one in days],
            )

        return await self._database.read(load)

    # --- opening ----------------------------------------------------------------------------

    async def _open(self, request: OpenPayouts) -> Message:
        """Ask for a payout to everybody who is owed a cent and can be paid.

        Raises ``PRECONDITION_FAILED`` where there is no account to pay from: nothing is taken then.
        """
        rules.required(self._debtor())
        await self._registry.fresh()
        views = sorted(
            (one for one in self._registry.nodes() if one.alias > request.after),
            key=lambda one: one.alias,
        )
        page = [] if request.count_only else views[:OPENED_AT_ONCE]
        outcomes = Counter([await self._open_one(view) for view in page])
        more = page[-1].alias if page and len(views) > len(page) else 0
        counts = await self._database.read(_counted)
        return replace_fields(
            counts,
            opened=outcomes["opened"],
            skipped=outcomes["skipped"],
            not_arrived=outcomes["not arrived"],
            more_after=more,
        )

    async def _open_one(self, view: NodeView) -> str:
        """Open a payout to a node; say ``opened``, or why not.

        ``skipped``: it cannot be paid; ``not arrived``: its earnings are not at its account yet.
        """
        account = view.facts.payout_account
        if not account:
            return ""

        def load(connection: Connection) -> tuple[Terms, int, int, bool]:
            owed = ledger_store.balance(connection, Account.of(AccountKind.PROVIDER, account))
            return (
                orders.terms_of(connection, view.node_id, self._seal.open),
                owed.amount_pico,
                orders.taken_cents(connection, account),
                orders.is_open(connection, view.node_id),
            )

        terms, due_pico, taken_cents, is_open = await self._database.read(load)
        if is_open or not rules.payable_cents(due_pico, None):
            return ""
        debtor = rules.required(self._debtor())
        if terms.bank is None or terms.problem or terms.bank.iban == debtor.iban:
            return "skipped"
        at_hand = None
        if self._till is not None:
            at_hand = rules.at_hand_micro(
                await self._till.arrived_micro(account),
                taken_cents,
                await self._till.there_micro(account),
            )
        cents = rules.payable_cents(due_pico, at_hand)
        if not cents:
            return "not arrived"
        order = await self._promised(view, terms, cents)

        def write(connection: Connection) -> bool:
            if orders.is_open(connection, view.node_id):
                return False
            orders.put(connection, order, self._seal)
            if order.state is OrderState.SET_ASIDE:
                entry = entry_of_order(rules.payout_of(order), account)
                post_in(connection, [entry], order.created_ms)
            return True

        return "opened" if await self._database.write(write) else ""

    async def _promised(self, view: NodeView, terms: Terms, cents: int) -> Order:
        """Return a payout; where a chain is settled on with what the node is to sign."""
        assert terms.bank is not None
        now_ms = self._clock.now_ms()
        order = orders.new_order(
            Order(
                payout=self._rng.bytes(PAYOUT_BYTES),
                node=view.node_id,
                account=view.facts.payout_account,
                amount_cents=cents,
                state=OrderState.SET_ASIDE,
                to=terms.bank,
                created_ms=now_ms,
                changed_ms=now_ms,
            )
        )
        if self._till is None:
            return order
        wanted = await self._till.permit_terms(order.account)
        promise = PayoutOrder(
            payout=order.payout,
            node_id=order.node,
            account=order.account,
            amount_cents=cents,
            bank_sha256=bank_digest(order.payout, terms.bank.iban),
            created_ms=now_ms,
            domain=wanted.domain,
            spender=wanted.spender,
            amount_micro=cents * MICRO_PER_CENT,
            nonce=wanted.nonce,
            deadline_s=(now_ms + SIGN_MS_MAX) // 1000,
        )
        body = encode(promise)
        signed = SignedPayout(order=body, signature=self._identity.sign(ORDER_PURPOSE, body))
        return replace(order, state=OrderState.ASKED, statement=encode(signed))

    # --- signing ----------------------------------------------------------------------------

    async def _asked(self, _: GetPayoutOrders, prover: bytes, __: int) -> Message:
        node = (await self._view(prover)).node_id
        listed = await self._database.read(
            partial(orders.of_node, node=node, limit=ORDERS_SHOWN_MAX, seal=self._seal)
        )
        asked = [one.statement for one in listed if one.state is OrderState.ASKED]
        return PayoutOrders(orders=[decode(one, SignedPayout) for one in asked])

    async def _sign(self, request: SignPayout, prover: bytes, _: int) -> Message:
        node = (await self._view(prover)).node_id
        order = await self._database.read(
            partial(orders.one, payout=request.payout, seal=self._seal)
        )
        if order is None or order.node != node:
            raise AtollError(Kind.NOT_FOUND, "sign payout", "there is no such payout to this node")
        if order.state is not OrderState.ASKED:
            return PayoutTaken(state=order.state.value)
        digest = permit_of(promise_of(order)).digest()
        if len(request.permit) != PERMIT_BYTES or (
            recover_account(digest, request.permit) != order.account
        ):
            raise AtollError(
                Kind.BAD_REQUEST,
                "sign payout",
                "the permit is not signed by the node's account",
                hint="was the node's key changed? start it again",
            )
        signed = replace(order, permit=request.permit)
        after = rules.moved(signed, OrderState.SIGNED, self._clock.now_ms())
        await self._database.write(partial(orders.move, before=order, after=after))
        return PayoutTaken(state=after.state.value)

    # --- carrying ---------------------------------------------------------------------------

    async def carry(self) -> int:
        """Bring payouts on as far as the chain lets them; return how many moved."""
        assert self._till is not None
        moved = 0
        try:
            for state, act in (
                (OrderState.ASKED, self._expire),
                (OrderState.SIGNED, self._pull),
                (OrderState.FAILED, self._give_back),
            ):
                waiting = await self._database.read(
                    partial(orders.in_state, state=state, limit=ORDERS_AT_ONCE, seal=self._seal)
                )
                for order in waiting:
                    moved += await act(order)
        except AtollError as error:
            if error.kind not in _AWAY:
                raise
            log.debug("payouts wait for the chain: %s", error.message)
        return moved

    async def _expire(self, order: Order) -> bool:
        now_ms = self._clock.now_ms()
        if now_ms - order.created_ms < SIGN_MS_MAX:
            return False
        return await self._drop(order)

    async def _drop(self, order: Order) -> bool:
        after = rules.moved(order, OrderState.DROPPED, self._clock.now_ms())
        return await self._database.write(partial(orders.move, before=order, after=after))

    async def _pull(self, order: Order) -> bool:
        assert self._till is not None
        done = await self._till.pull(order, promise_of(order))
        if done is Done.WAITS:
            return False
        if done is Done.REFUSED:
            log.warning("payout %s was refused by the chain", order.end_to_end)
            return await self._drop(order)
        now_ms = self._clock.now_ms()
        after = rules.moved(order, OrderState.SET_ASIDE, now_ms)
        entry = entry_of_order(rules.payout_of(order), order.account)

        def write(connection: Connection) -> bool:
            if not orders.move(connection, order, after):
                return False
            post_in(connection, [entry], now_ms)
            return True

        return await self._database.write(write)

    async def _give_back(self, order: Order) -> bool:
        assert self._till is not None
        if await self._till.give_back(order) is not Done.DONE:
            return False
        after = rules.moved(order, OrderState.GIVEN_BACK, self._clock.now_ms())
        return await self._database.write(partial(orders.move, before=order, after=after))


def promise_of(order: Order) -> PayoutOrder:
    """Return what the coordinator signed for a payout. Raises ``CORRUPT``."""
    signed: SignedPayout = decode(order.statement, SignedPayout)
    promise: PayoutOrder = decode(signed.order, PayoutOrder)
    return promise


def _evidence(kind: str, evidence: bytes) -> str:
    """Write an entry's evidence: ids of banks are text, hashes are not."""
    return evidence.decode("ascii") if kind.startswith("payout") else evidence.hex()


def _counted(connection: Connection) -> PayoutsOpened:
    asked, asked_cents = orders.sum_in_state(connection, OrderState.ASKED)
    signed, signed_cents = orders.sum_in_state(connection, OrderState.SIGNED)
    ready, ready_cents = orders.sum_in_state(connection, OrderState.SET_ASIDE)
    return PayoutsOpened(
        opened=0,
        waiting=asked + signed,
        waiting_cents=asked_cents + signed_cents,
        ready=ready,
        ready_cents=ready_cents,
        skipped=0,
    )
