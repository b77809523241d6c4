"""Pure decisions of the ledger: what is an entry, what it does to balances, an epoch's entries."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

from atoll.core.errors import AtollError, Kind
from atoll.core.money import AMOUNT_PICO_MAX, BPS
from atoll.economy.ledger.model import (
    ENTRY_POSTINGS_MAX,
    EVIDENCE_BYTES_MAX,
    KEY_BYTES_MAX,
    MEMO_CHARACTERS_MAX,
    NATURES,
    OWNER_BYTES_MAX,
    Account,
    AccountKind,
    Entry,
    Nature,
    Posting,
)
from atoll.economy.settlement.model import BUCKETS, INSURANCE, EpochResult, EpochTotals

CHAIN_START = hashlib.sha256(b"atoll/ledger/1").digest()


def nature_of(account: Account) -> Nature:
    """Return what an account's kind means. Raises ``BAD_REQUEST`` for a kind that is not known."""
    try:
        return NATURES[AccountKind(account.kind)]
    except ValueError:
        raise AtollError(
            Kind.BAD_REQUEST, "post entry", f"there is no kind of account {account.kind!r}"
        ) from None


def check(entry: Entry) -> None:
    """Raise ``BAD_REQUEST`` unless this is an entry: it balances, and says why."""
    if not 2 <= len(entry.postings) <= ENTRY_POSTINGS_MAX:
        raise _bad(f"an entry has 2 to {ENTRY_POSTINGS_MAX} postings")
    total = 0
    for one in entry.postings:
        nature_of(one.account)
        if len(one.account.owner) > OWNER_BYTES_MAX:
            raise _bad("an owner's name is too long")
        if not one.amount_pico or abs(one.amount_pico) > AMOUNT_PICO_MAX:
            raise _bad("a posting moves something, and not more than there is")
        total += one.amount_pico
    if total:
        raise _bad(f"the postings sum to {total} pico-euro, not to zero")
    if not 1 <= len(entry.key) <= KEY_BYTES_MAX or not 1 <= len(entry.kind) <= KEY_BYTES_MAX:
        raise _bad("an entry has a key and a kind")
    if not 1 <= len(entry.evidence) <= EVIDENCE_BYTES_MAX or len(entry.memo) > MEMO_CHARACTERS_MAX:
        raise _bad("an entry names its evidence, briefly")


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "post entry", message)


def in_own_sense(account: Account, amount_pico: int) -> int:
    """Return a posting's amount as its account sees it: positive where the balance grows."""
    return amount_pico if nature_of(account).asset else -amount_pico


def changes(entry: Entry) -> dict[Account, int]:
    """Return by how much each balance changes, in its own sense."""
    found: defaultdict[Account, int] = defaultdict(int)
    for one in entry.postings:
        found[one.account] += in_own_sense(one.account, one.amount_pico)
    return dict(found)


def check_balances(entry: Entry, before: Mapping[Account, int]) -> None:
    """Raise ``PRECONDITION_FAILED`` where an entry overdraws what must not be overdrawn.

    Only the balance after the whole entry counts.
    """
    for account, change in changes(entry).items():
        after = before.get(account, 0) + change
        if after < 0 and change < 0 and not nature_of(account).may_be_negative:
            raise AtollError(
                Kind.PRECONDITION_FAILED,
                "post entry",
                f"the balance would fall to {after} pico-euro",
                about=str(account),
            )
        if abs(after) > AMOUNT_PICO_MAX:
            raise _bad("a balance beyond all the money there is")


def chained(chain: bytes, entry: Entry) -> bytes:
    """Return the chain's next value."""
    return hashlib.sha256(chain + entry.digest()).digest()


# --- an epoch's entries ---------------------------------------------------------------------------


def epoch_entries(
    previous: EpochTotals,
    result: EpochResult,
    evidence: bytes,
    payers: Mapping[bytes, bytes],
    credited: Mapping[bytes, bytes],
    postings_max: int = ENTRY_POSTINGS_MAX,
) -> list[Entry]:
    """Return an epoch as entries: in all they move what the epoch moved, and sum to zero.

    ``payers`` gives the customer behind each payer of the result, ``credited`` the customer whose
    storage a node's owner spends his pay on (barter); ``evidence`` is the document's content hash.
    Where one entry does not hold all postings, several go over a clearing account, first those
    that bring money in. Raises ``BAD_REQUEST`` where a name is missing.
    """
    moves: defaultdict[Account, int] = defaultdict(int)

    def owe(kind: AccountKind, owner: bytes, amount_pico: int) -> None:
        """Owe an account more (or less): credits are negative."""
        moves[Account.of(kind, owner)] -= amount_pico

    for customer in result.customers:
        owner = _named(payers, customer.payer, "customer")
        change = customer.refund_pico - customer.charge_pico + customer.credit_pico
        owe(AccountKind.CUSTOMER, owner, change)
    held = {one.node: one.held_pico for one in previous.nodes}
    for node in result.nodes:
        owe(AccountKind.PROVIDER, node.account, node.released_pico)
        owe(AccountKind.HELD, node.node, node.held_pico - held.get(node.node, 0))
        if node.credited_pico:
            owner = _named(credited, node.node, "owner of a bartering node")
            owe(AccountKind.CUSTOMER, owner, node.credited_pico)
    for reward in result.rewards:
        owe(AccountKind.PROVIDER, reward.account, reward.amount_pico)
    after = result.totals
    for place, name in enumerate(BUCKETS):
        change = result.buckets_pico[place]
        if place == INSURANCE:
            change = after.insurance_pico - previous.insurance_pico
        owe(AccountKind.BUCKET, name.encode(), change)
    owe(AccountKind.REMAINDER, b"", (sum(after.carried) - sum(previous.carried)) // BPS)
    owe(AccountKind.RESERVE, b"", -result.top_up_pico)
    return _entries(after.epoch, moves, evidence, postings_max)


def _named(names: Mapping[bytes, bytes], key: bytes, what: str) -> bytes:
    name = names.get(key)
    if name is None:
        raise _bad(f"no name for a {what}: {key.hex()[:10]}")
    return name


def _entries(
    epoch: int, moves: Mapping[Account, int], evidence: bytes, postings_max: int
) -> list[Entry]:
    def in_then_out(one: Posting) -> tuple[bool, Account]:
        return one.amount_pico < 0, one.account

    postings = sorted(
        (Posting(account, amount) for account, amount in moves.items() if amount), key=in_then_out
    )
    if not postings:
        return []
    if len(postings) <= postings_max:
        return [_entry(epoch, 0, evidence, postings)]
    clearing = Account.of(AccountKind.CLEARING, epoch.to_bytes(8, "big"))
    entries = []
    for part, start in enumerate(range(0, len(postings), postings_max - 1)):
        some = postings[start : start + postings_max - 1]
        rest = -sum(one.amount_pico for one in some)
        if rest:
            some = [*some, Posting(clearing, rest)]
        entries.append(_entry(epoch, part, evidence, some))
    return entries


def _entry(epoch: int, part: int, evidence: bytes, postings: Iterable[Posting]) -> Entry:
    key = b"epoch/%d/%d" % (epoch, part)
    return Entry(key, "epoch", evidence, tuple(postings), f"epoch {epoch}")
