"""Money: what is stored and proven is charged, published, settled and paid; what is dropped is not.

One node is run by somebody who throws a part of its data away and says nothing of it. What he earns
falls with what he can prove, the customer has the rest back in the same epoch, and what was held of
him goes to those he harmed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from atoll.cli.demo.settled import Settled, earned_of, settlement_state, slash_of
from atoll.cli.demo.story import Demo
from atoll.cli.drill.liars import DROP_FILE
from atoll.coordinator.billing.model import EpochFacts, State
from atoll.core.money import MICRO_PER_EUR, PICO_PER_MICRO, parse_euro
from atoll.economy.settlement.document import Document
from atoll.economy.settlement.lines import line_amounts

TIME_FACTOR = 31_536_000
"""A second of storage costs as much as a year."""
PATIENCE_S = 120.0
POLL_S = 0.3
STATES_TOLD = 5
"""Epochs whose states are told where something takes too long."""
CLAIMED = "claimed"
PAYING = (CLAIMED, "final")
"""States of an epoch of which something may have been paid."""
Found = TypeVar("Found")


@dataclass(slots=True)
class Money:
    """The money's part of the demo."""

    demo: Demo
    dropper: str
    """Name of the node that will drop data."""
    settled: Settled
    dropped_ms: int = 0
    """When it did."""
    names: dict[bytes, str] = field(default_factory=dict)
    """Names of nodes by their ids."""

    @property
    def dropper_id(self) -> bytes:
        """Id of the node that drops data."""
        return next(node for node, name in self.names.items() if name == self.dropper)

    def meet(self) -> None:
        """Learn the nodes' names."""
        self.names = {one.node_id: self.demo.name_of(one) for one in self.demo.status().nodes}

    def published(self) -> list[EpochFacts]:
        """Return published epochs, oldest first."""
        found = [one for one in self.settled.epochs() if one.state == State.PUBLISHED.value]
        return found[::-1]

    def atoll(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Run a command as anybody would; return its exit status and its answer."""
        cloud = self.demo.cloud
        door = {
            "AWS_ENDPOINT_URL": cloud.endpoint,
            "AWS_ACCESS_KEY_ID": cloud.access_key,
            "AWS_SECRET_ACCESS_KEY": cloud.secret,
        }
        ended = subprocess.run(
            [sys.executable, "-m", "atoll", *words, "--json"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **door},
        )
        return ended.returncode, json.loads(ended.stdout or "{}")

    def wait(self, look: Callable[[], Found | None], what: str) -> Found | None:
        """Look again and again; a failed check where it takes too long."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = look()
            if found is not None:
                return found
            time.sleep(POLL_S)
        self.demo.check(False, f"{what}: not within {PATIENCE_S:.0f} s")
        for facts in self.settled.epochs()[:STATES_TOLD]:
            problem = facts.settlement.problem if facts.settlement is not None else ""
            self.demo.teller.note(f"epoch {facts.epoch}: {settlement_state(facts)} {problem}")
        return None


def begin(money: Money) -> None:
    """Tell on which terms the demo charges and pays."""
    note = money.demo.teller.note
    note(
        "so that amounts can be seen, a second of storage costs as much as a year "
        f"(time factor {TIME_FACTOR:,})",
        time_factor=TIME_FACTOR,
    )
    note(f"{money.dropper} is run by somebody who will throw data away", dropper=money.dropper)


def drop_data(money: Money) -> None:
    """Have the dishonest provider throw a fifth of his data away."""
    number = money.dropper.removeprefix("node-")
    (money.demo.folder / "nodes" / number / DROP_FILE).touch()
    money.dropped_ms = time.time_ns() // 1_000_000
    money.demo.teller.note(f"{money.dropper} throws a fifth of its data away and says nothing")


def watch_pay(money: Money) -> None:
    """Follow epochs until those in which the dropper lost are paid on the chain."""
    money.meet()
    slashed = money.wait(lambda: _first(money, _slashed), f"{money.dropper} is slashed")
    if slashed is None:
        return
    check_slash(money, slashed)
    fallen = money.wait(lambda: _first(money, _failed), f"{money.dropper} is paid less")
    if fallen is None:
        return
    check_fall(money, fallen)
    last = max(slashed, fallen, key=lambda one: one.epoch)
    tell_epochs(money, last)
    tell_bill(money)
    if money.wait(lambda: _claimed(money, last), f"epoch {last.epoch} is settled") is not None:
        compare_balances(money, last)


def _first(money: Money, holds: Callable[[Document, bytes], bool]) -> EpochFacts | None:
    """Return the first epoch that ended after the drop and of which something holds."""
    for facts in money.published():
        if facts.until_ms > money.dropped_ms and holds(
            money.settled.document(facts), money.dropper_id
        ):
            return facts
    return None


def _failed(document: Document, node: bytes) -> bool:
    return any(one.node == node and one.failed for one in document.content.inputs.proofs)


def _slashed(document: Document, node: bytes) -> bool:
    return slash_of(document, node) is not None


def _claimed(money: Money, wanted: EpochFacts) -> EpochFacts | None:
    """Return the newest epoch that is paid in full, if it is that one or a later one."""
    for facts in money.settled.epochs():
        if settlement_state(facts) == CLAIMED:
            return facts if facts.epoch >= wanted.epoch else None
    return None


def check_fall(money: Money, fallen: EpochFacts) -> None:
    """See that the dropper earned only what it proved, and that the customer has the rest."""
    demo, node = money.demo, money.dropper_id
    content = money.settled.document(fallen).content
    lines = list(line_amounts(content.inputs, content.tariff, content.parameters))
    own = [line for line in lines if line.node == node]
    charged, back = sum(line.charge_pico for line in own), sum(line.refund_pico for line in own)
    earned = sum(line.earned_pico for line in own)
    proven = next(one for one in content.inputs.proofs if one.node == node)
    returned = sum(one.refund_pico for one in content.result.customers)
    demo.figures["fall"] = {
        "epoch": fallen.epoch,
        "node": node.hex(),
        "samples": proven.samples,
        "failed": proven.failed,
        "charged_pico": charged,
        "returned_pico": back,
        "earned_pico": earned,
    }
    # Its pieces are given up as soon as they fail: perhaps there is nothing left to charge.
    outcome = "nothing is charged for it any more"
    if charged:
        outcome = f"of {euro(charged)} it earns {euro(earned)}, the customer has {euro(back)} back"
    demo.check(
        (0 < back <= charged if charged else not earned)
        and returned == sum(line.refund_pico for line in lines),
        f"epoch {fallen.epoch}: {proven.failed:,} of {proven.samples:,} samples of "
        f"{money.dropper} failed: {outcome}",
    )


def check_slash(money: Money, slashed: EpochFacts) -> None:
    """See that what was held of the dropper went to those it harmed, in their order."""
    demo = money.demo
    document = money.settled.document(slashed)
    parts = slash_of(document, money.dropper_id)
    assert parts is not None
    demo.figures["slash"] = {"epoch": slashed.epoch, **asdict(parts)}
    demo.check(
        parts.whole and parts.taken_pico > 0 and parts.customers_pico > 0,
        f"epoch {slashed.epoch}: {money.dropper} was found out; {euro(parts.taken_pico)} "
        "held of its pay are gone, in this order:",
    )
    rows = [
        ["1. repair of what it lost", euro(parts.repair_pico)],
        ["2. the customer", euro(parts.customers_pico)],
        ["3. who reported it", euro(parts.reporter_pico)],
        ["4. insurance", euro(parts.insurance_pico)],
    ]
    demo.teller.table(rows, right=frozenset((1,)), head=False)


def tell_epochs(money: Money, until: EpochFacts) -> None:
    """Show epochs in which somebody earned, one a row."""
    head = ["epoch", "customer paid", "had back", f"{money.dropper} earned", "others, each"]
    rows, figures = [head], []
    for facts in money.published():
        if facts.epoch > until.epoch:
            break
        document = money.settled.document(facts)
        earned = dict(earned_of(document))
        own = earned.pop(money.dropper_id, 0)
        others = [amount for amount in earned.values() if amount]
        if not others:
            continue
        customers = document.content.result.customers
        back = sum(one.refund_pico + one.credit_pico for one in customers)
        paid = sum(one.charge_pico - one.refund_pico for one in customers)
        each = sum(others) // len(others)
        rows.append([str(facts.epoch), *(euro(x, unit=False) for x in (paid, back, own, each))])
        figures.append(
            {
                "epoch": facts.epoch,
                "paid_pico": paid,
                "back_pico": back,
                "dropper_pico": own,
                "others_pico": each,
            }
        )
    demo = money.demo
    demo.figures["epochs"] = figures
    demo.teller.table(rows, right=frozenset(range(5)), epochs=figures)
    demo.teller.note("EUR. What lies there before its first proof costs nothing")
    best, last = max(one["dropper_pico"] for one in figures), figures[-1]
    demo.check(
        2 * last["dropper_pico"] < min(best, last["others_pico"]),
        f"the pay of {money.dropper} fell from {euro(best)} to {euro(last['dropper_pico'])} "
        "an epoch; the others earn on",
    )


def compare_balances(money: Money, wanted: EpochFacts) -> None:
    """Compare what the published epoch says with what the chain has, account by account."""
    demo = money.demo
    found = money.wait(lambda: _at_rest(money, wanted), "balances at rest")
    if found is None:
        return
    facts, chain = found
    document = money.settled.document(facts)
    owners = {one.account: money.names.get(one.node, "") for one in document.content.inputs.nodes}
    rows = [["", "account", f"epoch {facts.epoch} says", "on the chain", "held back"]]
    figures = []
    for leaf in sorted(document.content.leaves, key=lambda one: _order(owners, one.account)):
        said, has, account = leaf.released_micro, chain[leaf.account], leaf.account.hex()
        name = owners.get(leaf.account, "reporter")
        amounts = (micro(amount, unit=False) for amount in (said, has, leaf.held_micro))
        rows.append([name, f"0x{account[:6]}…{account[-6:]}", *amounts])
        figures.append(
            {
                "node": name,
                "account": "0x" + account,
                "published_micro": said,
                "chain_micro": has,
                "held_micro": leaf.held_micro,
            }
        )
    demo.teller.table(rows, right=frozenset((2, 3, 4)))
    equal = sum(one["published_micro"] == one["chain_micro"] for one in figures)
    total = sum(chain.values())
    demo.figures["settled"] = {
        "epoch": facts.epoch,
        "content": facts.content,
        "root": facts.root,
        "released_micro": document.index.released_micro,
        "held_micro": document.index.held_micro,
        "balances": figures,
    }
    demo.check(
        equal == len(figures) and total == document.index.released_micro > 0,
        f"{equal} of {len(figures)} accounts have on the chain what the published epoch says, "
        f"to 0.000001 EUR: {micro(total)} together",
    )
    recompute(money, facts)
    compare_books(money)


def _at_rest(money: Money, wanted: EpochFacts) -> tuple[EpochFacts, dict[bytes, int]] | None:
    """Return the newest settled epoch and the balances, read while no other one was settled."""
    before = _claimed(money, wanted)
    if before is None:
        return None
    leaves = money.settled.document(before).content.leaves
    balances = money.settled.balances([leaf.account for leaf in leaves])
    moving = [
        one.epoch
        for one in money.settled.epochs()
        if one.epoch > before.epoch and settlement_state(one) in PAYING
    ]
    return None if moving else (before, balances)


def _order(owners: dict[bytes, str], account: bytes) -> tuple[int, bytes]:
    number = owners.get(account, "").removeprefix("node-")
    return (int(number) if number.isdigit() else 1 << 10, account)


def recompute(money: Money, facts: EpochFacts) -> None:
    """Let the program that anybody has compute the epoch again: as it is told, and as settled."""
    demo = money.demo
    demo.figures["recompute"] = []
    for flags in ((), ("--from-chain-only",)):
        words = ("epoch", "recompute", str(facts.epoch), *flags)
        status, said = money.atoll(*words, "--data", str(demo.folder))
        demo.figures["recompute"].append(said)
        demo.check(
            status == 0 and bool(said.get("agrees")) and said.get("content") == facts.content,
            f"`atoll {' '.join(words)}` agrees: {facts.content[:16]}…",
        )


def compare_books(money: Money) -> None:
    """See that the operator's books and the chain have the same euros, sum by sum."""
    demo = money.demo
    told = money.wait(lambda: _agreeing(money), "books and chain agree")
    if told is None:
        return
    demo.figures["books"] = told["sums"]
    held = sum(one["chain_micro"] for one in told["sums"] if "," not in one["name"])
    demo.check(
        all(one["chain_micro"] == one["books_micro"] for one in told["sums"]),
        "`atoll chain status`: escrow, distributor and treasury have what the books say, "
        f"{micro(held)} together",
    )


def _agreeing(money: Money) -> dict[str, Any] | None:
    """Return the sums once they are equal; while something is under way they may differ."""
    _, told = money.atoll("chain", "status", "--data", str(money.demo.folder))
    found: dict[str, Any] | None = told.get("money")
    return found if found and found["agrees"] else None


def tell_bill(money: Money) -> None:
    """Show what the customer sees of all this."""
    status, bill = money.atoll("bill")
    if status:
        return
    spent, left = parse_euro(bill["to_date_eur"]), parse_euro(bill["balance_eur"])
    factor = {"time_factor": bill["time_factor"]}
    money.demo.teller.note(
        f"`atoll bill`: {euro(spent)} for this month so far, {euro(left)} of play money left",
        to_date_pico=spent,
        balance_pico=left,
        **factor,
    )


def euro(amount_pico: int, *, unit: bool = True) -> str:
    """Show an amount of the ledger as far as the chain has decimals."""
    return micro(amount_pico // PICO_PER_MICRO, unit=unit)


def micro(amount_micro: int, *, unit: bool = True) -> str:
    """Show an amount of the chain, exactly."""
    text = f"{amount_micro // MICRO_PER_EUR}.{amount_micro % MICRO_PER_EUR:06d}"
    return f"{text} EUR" if unit else text
