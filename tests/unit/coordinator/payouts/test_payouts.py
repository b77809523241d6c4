"""Providers are paid in euro and in storage: once, to the cent and the pico, whatever banks say."""

import logging
from collections.abc import Sequence

import pytest
from lxml import etree
from sqlalchemy import text
from tests.fixtures.bank import OPERATOR, OURS, Row, Sheet, Tx, camt, report
from tests.unit.coordinator.billing.test_billing import EUR, account
from tests.unit.coordinator.market.providers import provider
from tests.unit.coordinator.metadata.world import ACCOUNT
from tests.unit.coordinator.payouts.world import ADA_IBAN, ADA_NAME, BERT_IBAN, BERT_NAME, World
from tests.unit.economy.payments.test_payouts import SCHEMAS

from atoll.cli.earnings import movements_of
from atoll.cli.payout import share_bps
from atoll.coordinator.metadata.store import buckets
from atoll.coordinator.payouts.model import Terms
from atoll.coordinator.payouts.rules import terms_set
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import OPERATOR_REQUESTS
from atoll.core.messages.payouts import (
    FILE_BYTES_MAX,
    GetPayoutFile,
    GetPayoutOrders,
    GetPayoutTerms,
    GetStatement,
    GiveBackPayout,
    ListPayouts,
    OpenPayouts,
    PayoutFileWritten,
    PayoutList,
    PayoutOrders,
    PayoutTaken,
    PayoutTerms,
    SetPayout,
    StatementPage,
    TakeBankWords,
    WritePayoutFile,
)
from atoll.economy.ledger.model import AccountKind
from atoll.economy.payments import xml
from atoll.economy.payments.accounts import BankAccount
from atoll.economy.payments.amounts import PICO_PER_CENT, parse_cents
from atoll.economy.payments.booking import bank_account, payable_account
from atoll.economy.payments.earnings import csv_of
from atoll.economy.payments.payouts.order import VERSIONS, end_to_end_of

SECRETS = (ADA_IBAN, BERT_IBAN, ADA_NAME, BERT_NAME, "Lowicz", "NL91 ABNA", OURS)


async def due(world: World, number: int) -> int:
    return await world.balance(AccountKind.PROVIDER, account(number))


def amounts_of(data: bytes) -> dict[str, int]:
    """Return a file's payments: cents by end-to-end id."""
    root = etree.fromstring(data)
    path = "CstmrCdtTrfInitn/PmtInf/CdtTrfTxInf"
    names = xml.texts_at(root, f"{path}/PmtId/EndToEndId")
    cents = xml.texts_at(root, f"{path}/Amt/InstdAmt")
    return {name: parse_cents(amount) for name, amount in zip(names, cents, strict=True)}


def message_of(data: bytes) -> str:
    return xml.text_at(etree.fromstring(data), "CstmrCdtTrfInitn/GrpHdr/MsgId")


def left(name: str, cents: int, reference: str) -> Row:
    """A payout that left the account."""
    return Row((Tx(cents, end_to_end=name),), reference=reference, debit=True)


def back(name: str, cents: int, reference: str) -> Row:
    """A payout that came back."""
    return Row((Tx(cents, end_to_end=name, reason="AC04"),), reference=reference)


# --- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_file_pays_whole_cents_and_the_rest_stays(world: World, version: str) -> None:
    await world.earn()
    owed = {number: await due(world, number) for number in (1, 2, 3)}
    opened = await world.open()
    assert (opened.opened, opened.ready, opened.skipped) == (2, 2, 1)
    made = await world.file(version=version)
    SCHEMAS[version].assertValid(etree.fromstring(made.data))
    cents = amounts_of(made.data)
    assert sorted(cents.values()) == sorted(owed[one] // PICO_PER_CENT for one in (1, 2))
    assert made.amount_cents == sum(cents.values()) == opened.ready_cents > 0
    for number in (1, 2):
        assert await due(world, number) == owed[number] % PICO_PER_CENT
    assert await due(world, 3) == owed[3], "who named no bank account is not paid"
    told = await world.earned(1)
    assert told.sent_pico == owed[1] // PICO_PER_CENT * PICO_PER_CENT
    assert (told.paid_pico, told.bank) == (0, f"NL…{ADA_IBAN[-4:]}")
    root = etree.fromstring(made.data)
    names = xml.texts_at(root, "CstmrCdtTrfInitn/PmtInf/CdtTrfTxInf/Cdtr/Nm")
    assert sorted(names) == ["Ada Lowicz", "Bert + Soehne"]
    await world.ledger.check()


async def test_nothing_is_paid_twice_and_a_file_can_be_had_again(world: World) -> None:
    await world.earn()
    assert (await world.open()).opened == 2
    assert (await world.open()).opened == 0, "what is set aside is not owed any more"
    made = await world.file()
    again = await world.as_operator(GetPayoutFile(number=made.number), PayoutFileWritten)
    assert again.data == made.data
    assert (await world.open()).opened == 0
    with pytest.raises(AtollError) as refused:
        await world.file()
    assert refused.value.kind is Kind.NOT_FOUND
    with pytest.raises(AtollError) as refused:
        await world.as_operator(GetPayoutFile(number=2), PayoutFileWritten)
    assert refused.value.kind is Kind.NOT_FOUND


async def test_what_was_set_aside_survives_until_a_file_is_written(world: World) -> None:
    await world.earn()
    await world.open()
    world.debtor = None
    for wrong, kind in (
        ({}, Kind.PRECONDITION_FAILED),
        ({"execution_date": "2001-01-01"}, Kind.BAD_REQUEST),
        ({"execution_date": "tomorrow"}, Kind.BAD_REQUEST),
        ({"version": "pain.001.001.02"}, Kind.BAD_REQUEST),
    ):
        with pytest.raises(AtollError) as refused:
            await world.file(**wrong)
        assert refused.value.kind is kind
        world.debtor = OPERATOR
    # Another process, that knows only what is durable.
    made = await world.file()
    assert made.number == 1, "no number was lost"
    assert made.payouts == 2


async def test_nothing_is_taken_where_nothing_can_be_paid(world: World) -> None:
    await world.earn()
    owed = await due(world, 1)
    world.debtor = None
    with pytest.raises(AtollError) as refused:
        await world.open()
    assert refused.value.kind is Kind.PRECONDITION_FAILED
    # An operator who provides, too: nothing goes from his account into his account.
    world.debtor = BankAccount("Ada", ADA_IBAN)
    opened = await world.open()
    assert (opened.opened, opened.skipped) == (1, 2)
    assert await due(world, 1) == owed


async def test_what_comes_in_later_goes_into_the_next_file(world: World) -> None:
    await world.earn()
    await world.open()
    first = await world.file()
    await world.pass_epoch()
    await world.settle()
    await world.open()
    second = await world.file()
    assert (first.number, second.number) == (1, 2)
    assert not amounts_of(first.data).keys() & amounts_of(second.data).keys()
    released = (await world.earned(1)).released_pico
    (one,) = {
        cents for name, cents in amounts_of(first.data).items() if name in await names(world, 1)
    }
    (two,) = {
        cents for name, cents in amounts_of(second.data).items() if name in await names(world, 1)
    }
    assert one + two == released // PICO_PER_CENT, "fractions of a cent are carried, never lost"


async def names(world: World, number: int) -> set[str]:
    """Return what banks know a node's payouts by."""
    terms = await world.as_node(number, GetPayoutTerms(), PayoutTerms)
    return {end_to_end_of(one.payout) for one in terms.payouts}


# --- what the bank says --------------------------------------------------------------------------


async def filed(world: World) -> tuple[PayoutFileWritten, str, str]:
    """Return a file and what its two payments are known by: Ada's and Bert's."""
    await world.earn()
    await world.open()
    made = await world.file()
    (ada,), (bert,) = await names(world, 1), await names(world, 2)
    return made, ada, bert


async def test_a_rejected_payout_is_the_providers_again_and_the_others_are_paid(
    world: World,
) -> None:
    made, ada, _ = await filed(world)
    cents, rest = amounts_of(made.data), await due(world, 1)
    said = report(message_of(made.data), group="PART", payments=((ada, "RJCT", "AC04"),))
    taken = await world.hear(said)
    assert (taken.kind, taken.words) == ("pain.002", 1)
    assert [(one.state, one.bank_state, one.reason) for one in taken.changed] == [
        ("given_back", "rejected", "AC04 says the bank")
    ]
    assert await due(world, 1) == cents[ada] * PICO_PER_CENT + rest
    assert await due(world, 2) < PICO_PER_CENT
    told = await world.earned(1)
    assert (told.sent_pico, told.paid_pico) == (0, 0)
    assert "AC04" in told.problem
    assert (await world.hear(said)).changed == [], "the same file again does nothing"
    assert await due(world, 1) == cents[ada] * PICO_PER_CENT + rest
    opened = await world.open()
    assert (opened.opened, opened.skipped) == (0, 2), "not again to an account that is closed"
    wish = SetPayout(method="euro", name=ADA_NAME, iban=BERT_IBAN)
    await world.as_node(1, wish, PayoutTerms)
    assert (await world.open()).opened == 1
    assert (await world.file()).amount_cents == cents[ada]
    await world.ledger.check()


@pytest.mark.parametrize("version", ["02", "08"])
async def test_a_statement_says_what_left_and_what_came_back(world: World, version: str) -> None:
    made, ada, bert = await filed(world)
    cents, rest = amounts_of(made.data), await due(world, 2)
    paid = camt(
        Sheet((left(ada, cents[ada], "R1"), left(bert, cents[bert], "R2"))), version=version
    )
    taken = await world.hear(paid)
    assert (taken.kind, taken.words) == ("camt.053", 2)
    assert {one.bank_state for one in taken.changed} == {"paid"}
    assert (await world.earned(1)).paid_pico == cents[ada] * PICO_PER_CENT
    for name in (ada, bert):
        assert await payable(world, name) == 0
    bank = await world.ledger.balance(bank_account(OURS))
    assert bank.amount_pico == 0, "the operator's own euros paid it"
    assert (await world.hear(paid)).changed == []
    returned = camt(Sheet((back(bert, cents[bert], "R3"),), "S-2"), version=version)
    taken = await world.hear(returned)
    assert [(one.state, one.bank_state, one.reason) for one in taken.changed] == [
        ("given_back", "returned", "AC04")
    ]
    assert await due(world, 2) == cents[bert] * PICO_PER_CENT + rest
    assert (await world.hear(returned)).changed == []
    assert (await world.hear(paid)).changed == []
    assert (await world.earned(2)).paid_pico == 0
    assert (await world.earned(1)).paid_pico == cents[ada] * PICO_PER_CENT
    await world.ledger.check()


async def payable(world: World, name: str) -> int:
    listed = await world.as_operator(ListPayouts(), PayoutList)
    (one,) = (one for one in listed.payouts if end_to_end_of(one.payout) == name)
    return (await world.ledger.balance(payable_account(one.payout))).amount_pico


async def test_statements_in_any_order_come_to_the_same(world: World) -> None:
    made, ada, _ = await filed(world)
    cents, rest = amounts_of(made.data), await due(world, 1)
    returned = camt(Sheet((back(ada, cents[ada], "R3"),), "S-2"))
    await world.hear(returned)
    assert await due(world, 1) == cents[ada] * PICO_PER_CENT + rest
    await world.hear(camt(Sheet((left(ada, cents[ada], "R1"),))))
    assert await due(world, 1) == cents[ada] * PICO_PER_CENT + rest
    assert await payable(world, ada) == 0
    assert (await world.ledger.balance(bank_account(OURS))).amount_pico == 0
    await world.ledger.check()


async def test_rejected_and_paid_all_the_same_is_for_a_person(world: World) -> None:
    made, ada, _ = await filed(world)
    cents = amounts_of(made.data)
    await world.hear(report(message_of(made.data), payments=((ada, "RJCT", "AC04"),)))
    owed = await due(world, 1)
    taken = await world.hear(camt(Sheet((left(ada, cents[ada], "R1"),))))
    assert [one.conflict for one in taken.changed] == ["the bank rejected it and paid it"]
    assert await due(world, 1) == owed
    assert await payable(world, ada) == 0
    assert (await world.ledger.balance(bank_account(OURS))).amount_pico == 0, "not booked"
    await world.ledger.check()


async def test_what_contradicts_itself_is_not_given_back_by_itself(world: World) -> None:
    made, ada, _ = await filed(world)
    cents, owed = amounts_of(made.data)[ada], await due(world, 1)
    await world.hear(camt(Sheet((left(ada, cents, "R1"),))))
    taken = await world.hear(report(message_of(made.data), payments=((ada, "RJCT", "AC04"),)))
    assert [one.bank_state for one in taken.changed] == ["paid"], "a statement weighs more"
    taken = await world.hear(camt(Sheet((back(ada, cents, "R2"),), "S-2")))
    (one,) = taken.changed
    assert (one.state, one.bank_state) == ("filed", "returned")
    assert one.conflict == "the bank rejected it and paid it"
    assert await due(world, 1) == owed
    await world.ledger.check()
    # A person has looked: it came back, so it is hers. Once.
    wish = GiveBackPayout(payout=one.payout)
    assert (await world.as_operator(wish, PayoutTaken)).state == "given_back"
    assert await due(world, 1) == owed + cents * PICO_PER_CENT
    with pytest.raises(AtollError) as refused:
        await world.as_operator(wish, PayoutTaken)
    assert refused.value.kind is Kind.CONFLICT
    await world.ledger.check()


async def test_what_left_the_account_for_good_is_not_given_back(world: World) -> None:
    made, ada, bert = await filed(world)
    cents = amounts_of(made.data)
    for name, reference in ((ada, "R1"), (bert, "R2")):
        await world.hear(camt(Sheet((left(name, cents[name], reference),), reference)))
    await world.hear(report(message_of(made.data), payments=((ada, "RJCT", "AC04"),)))
    owed = await due(world, 1)
    terms = await world.as_node(1, GetPayoutTerms(), PayoutTerms)
    for payout, kind in (
        (terms.payouts[0].payout, Kind.PRECONDITION_FAILED),
        (b"?" * 16, Kind.NOT_FOUND),
    ):
        with pytest.raises(AtollError) as refused:
            await world.as_operator(GiveBackPayout(payout=payout), PayoutTaken)
        assert refused.value.kind is kind
    assert await due(world, 1) == owed
    await world.ledger.check()


async def test_files_of_others_are_refused_and_change_nothing(world: World) -> None:
    made, ada, _ = await filed(world)
    before = await due(world, 1)
    cents = amounts_of(made.data)[ada]
    other = Sheet((left(ada, cents, "R1"),), iban="GB82WEST12345698765432")
    for data, kind in (
        (b"no bank's file", Kind.BAD_REQUEST),
        (b"x" * (FILE_BYTES_MAX + 1), Kind.TOO_LARGE),
        (report("M" * 32, group="RJCT"), Kind.NOT_FOUND),
        (camt(other), Kind.NOT_FOUND),
    ):
        with pytest.raises(AtollError) as refused:
            await world.hear(data)
        assert refused.value.kind is kind
    # Another amount than was sent, and a transfer that is nobody's payout.
    taken = await world.hear(
        camt(Sheet((left(ada, cents + 1, "R1"), left("NOTPROVIDED", 5, "R2"))))
    )
    assert (taken.words, taken.changed) == (0, [])
    assert await due(world, 1) == before


# --- barter --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "share", "bps"), [("credit", 0, 10_000), ("mix", 3_333, 3_333)])
async def test_storage_is_paid_at_par_to_the_pico(
    world: World, method: str, share: int, bps: int
) -> None:
    await world.begin(prepaid_pico=1_000 * EUR)
    wish = SetPayout(
        method=method, credit_bps=share, name=ADA_NAME, iban=ADA_IBAN, access_key="AKADA"
    )
    with pytest.raises(AtollError) as refused:
        await world.as_node(1, wish, PayoutTerms)
    assert refused.value.kind is Kind.NOT_FOUND, "nobody has this key"
    ada = b"A" * 16
    await world.database.write(lambda c: buckets.insert_account(c, ada, "ada", 1))
    await world.database.write(lambda c: buckets.insert_credential(c, "AKADA", ada, b"x", 1))
    terms = await world.as_node(1, wish, PayoutTerms)
    assert (terms.method, terms.credit_bps, terms.customer) == (method, bps, ada)
    await world.pass_epoch()
    await world.settle()
    result = (await world.document(1)).content.result
    node = next(one for one in result.nodes if one.node == provider(1).node_id)
    payable = node.earned_pico - node.withheld_pico + node.returned_pico
    assert node.credited_pico == payable * bps // 10_000 > 0
    assert await world.balance(AccountKind.CUSTOMER, ada) == node.credited_pico
    assert await due(world, 1) == payable - node.credited_pico
    charged = sum(one.charge_pico - one.refund_pico for one in result.customers)
    assert await world.balance(AccountKind.CUSTOMER, ACCOUNT) == 1_000 * EUR - charged
    told = await world.earned(1)
    assert told.credited_pico == node.credited_pico == told.days[0].credited_pico
    assert told.released_pico == payable - node.credited_pico
    await world.ledger.check()
    # Back to euros: what was frozen before still finds whose storage it was.
    await world.as_node(1, SetPayout(method="euro", name=ADA_NAME, iban=ADA_IBAN), PayoutTerms)
    await world.pass_epoch()
    await world.settle()
    assert await world.balance(AccountKind.CUSTOMER, ada) == node.credited_pico


# --- terms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (SetPayout(method="euro", name=ADA_NAME, iban="NL92ABNA0417164300"), "check digits"),
        (SetPayout(method="euro", name=ADA_NAME, iban="NL91ABNA041716430"), "18 characters"),
        (SetPayout(method="euro", name=ADA_NAME, iban="US64SVBKUS6S3300958879"), "SEPA"),
        (SetPayout(method="euro", name=" ", iban=ADA_IBAN), "somebody's"),
        (SetPayout(method="euro", name="漢字", iban=ADA_IBAN), "Latin"),
        (SetPayout(method="euro", name=ADA_NAME, iban=ADA_IBAN, bic="X"), "BIC"),
        (SetPayout(method="euro"), "no bank account"),
        (SetPayout(method="credit"), "whose storage"),
        (SetPayout(method="mix", name=ADA_NAME, iban=ADA_IBAN, credit_bps=0), "mix"),
        (SetPayout(method="mix", name=ADA_NAME, iban=ADA_IBAN, credit_bps=10_000), "mix"),
        (SetPayout(method="gold", name=ADA_NAME, iban=ADA_IBAN), "euro"),
    ],
)
def test_wrong_terms_are_refused_without_being_repeated(wish: SetPayout, words: str) -> None:
    with pytest.raises(AtollError) as refused:
        terms_set(Terms(b"n" * 32), wish, b"", 1)
    assert refused.value.kind is Kind.BAD_REQUEST
    assert words in refused.value.message
    said = f"{refused.value} {refused.value.hint} {refused.value.about} {wish!r}"
    assert not any(part and part in said for part in (wish.iban, wish.name.strip()))


async def test_an_older_wish_is_a_replay(world: World) -> None:
    await world.begin()
    desk, key = world.desk(), provider(1).public_key
    handle = desk.node_handlers[SetPayout]
    new = SetPayout(method="euro", name=ADA_NAME, iban=ADA_IBAN)
    old = SetPayout(method="euro", name=BERT_NAME, iban=BERT_IBAN)
    await handle(new, key, 1_000)
    for time_ms in (999, 1_000):
        with pytest.raises(AtollError) as refused:
            await handle(old, key, time_ms)
        assert refused.value.kind is Kind.REPLAYED
    terms = await world.as_node(1, GetPayoutTerms(), PayoutTerms)
    assert terms.bank == f"NL…{ADA_IBAN[-4:]}"


async def test_bank_data_is_sealed_and_never_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        made, ada, _ = await filed(world)
        await world.hear(report(message_of(made.data), payments=((ada, "RJCT", "AC04"),)))
        with pytest.raises(AtollError):
            await world.as_node(1, SetPayout(method="gold", iban=ADA_IBAN), PayoutTerms)
    told = [caplog.text, repr(made), repr(await world.earned(1)), repr(TakeBankWords(data=b"x"))]
    rows: Sequence[object] = await world.database.read(
        lambda c: [
            tuple(row)
            for name in ("payout", "payout_terms", "payout_file", "ledger_entry", "ledger_posting")
            for row in c.execute(text(f"SELECT * FROM {name}"))
        ]
    )
    assert len(rows) > 5
    told.append(repr(rows))
    for words in told:
        assert not any(secret in words for secret in SECRETS)


async def test_only_the_operator_asks_for_payouts() -> None:
    for request in (
        OpenPayouts,
        WritePayoutFile,
        GetPayoutFile,
        ListPayouts,
        TakeBankWords,
        GiveBackPayout,
    ):
        assert request in OPERATOR_REQUESTS


async def test_without_a_chain_nobody_is_asked_to_sign(world: World) -> None:
    await world.earn()
    await world.open()
    assert (await world.as_node(1, GetPayoutOrders(), PayoutOrders)).orders == []


# --- statements ----------------------------------------------------------------------------------


async def test_a_statement_ends_with_what_is_due(world: World) -> None:
    made, ada, _ = await filed(world)
    await world.hear(report(message_of(made.data), payments=((ada, "RJCT", "AC04"),)))
    page = await world.as_node(1, GetStatement(), StatementPage)
    assert not page.more
    assert [one.kind for one in page.entries] == ["epoch", "payout", "payout failed"]
    assert [one.evidence for one in page.entries[1:]] == [ada, ada]
    movements = movements_of(page.entries, page.days)
    assert sum(one.units for one in movements) == await due(world, 1)
    lines = csv_of(movements).split("\r\n")
    assert len(lines) == 5
    assert all(line.endswith(ada) for line in lines[2:4])
    later = await world.as_node(1, GetStatement(after=page.entries[0].number), StatementPage)
    assert later.entries == page.entries[1:]


@pytest.mark.parametrize(
    ("share", "bps"), [("30%", 3_000), ("12.5 %", 1_250), ("0.01", 1), ("99.99%", 9_999)]
)
def test_shares_are_read(share: str, bps: int) -> None:
    assert share_bps("mix", share) == bps


@pytest.mark.parametrize("share", ["0", "100%", "-1", "1.234", "x", "", "1e1", None])
def test_other_shares_are_refused(share: str | None) -> None:
    with pytest.raises(AtollError) as refused:
        share_bps("mix", share)
    assert refused.value.kind is Kind.BAD_REQUEST
