"""A provider joins, earns and is paid by bank; a customer pays in by bank. Nobody sees a token.

Real processes, a real EVM, the files that banks take and give.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.fixtures.bank import CUSTOMER_IBAN, OURS, Row, Sheet, Tx, camt

from atoll.cli.local_cloud import LocalCloud

pytestmark = pytest.mark.xdist_group("heavy")
PATIENCE_S = 120.0
POLL_S = 1.5
COMMAND_TIMEOUT_S = 120
PICO_PER_CENT = 10**10
HOLDER = "Marta Jansen"
NODE_HOST = "127.0.77.1"
SETTINGS = f"""
[cloud]
allowance_euro = 0
profile = "demo"
[coordinator]
time_factor = 1000000000
[chain]
time_divisor = 14400
[bank]
holder = "Atoll Betrieb eG"
iban = "{OURS}"
address = "Hafen 1; 20095 Hamburg"
"""
OTHER_WORDS = re.compile(
    r"\b(tokens?|wallets?|gas|crypto\w*|blockchain|ether\w*|wei|stablecoins?|stake\w*)\b", re.I
)
"""What nobody needs to know to store, to lend a disk, to pay and to be paid."""


class Person:
    """Somebody at a terminal with one folder; what he was shown is kept."""

    def __init__(self, folder: Path, shown: list[str]) -> None:
        self.folder = folder
        self.shown = shown

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "atoll", *words, "--data", str(self.folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )

    def does(self, *words: str) -> str:
        """Run a command that must succeed, and read what it says."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        self.shown.append(done.stdout + done.stderr)
        return done.stdout

    def asks(self, *words: str) -> Any:
        """Run a command and return its answer."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def until(self, what: Callable[[Any], bool], *words: str) -> Any:
        """Ask again and again until there is an answer that says something."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = self.run(*words, "--json")
            if not done.returncode and what(answer := json.loads(done.stdout)):
                return answer
            assert time.monotonic() < deadline, done.stdout + done.stderr
            time.sleep(POLL_S)  # other processes have no event to wait for


def free_port() -> int:
    with socket.socket() as door:
        door.bind((NODE_HOST, 0))
        return int(door.getsockname()[1])


@contextmanager
def running_node(folder: Path) -> Iterator[None]:
    """The provider's node, as `atoll join` said to run it."""
    with (folder.parent / "node.log").open("wb") as log:
        node = subprocess.Popen(
            [sys.executable, "-m", "atoll", "node", "run", "--data", str(folder)],
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            node.terminate()
            node.wait(timeout=COMMAND_TIMEOUT_S)


def top_up(customer: Person, operator: Person, file: Path, cents: int) -> str:
    """The customer transfers to the account he was shown; the operator takes his statement over."""
    how = customer.asks("invoice", "pay")
    customer.does("invoice", "pay")
    row = Row((Tx(cents, structured=how["reference"]),), "BANK-1")
    file.write_bytes(camt(Sheet((row,), "S-1")))
    credited: str = operator.asks("bank", "import", str(file))["credited_eur"]
    assert operator.asks("bank", "import", str(file))["credited_eur"] == "0.00"
    return credited


def paid_by(file: Path) -> tuple[list[tuple[str, str, int, str]], str]:
    """Read a pain.001 as a bank does: holder, account, cents and reference of each; its batch."""
    tree = ElementTree.parse(file)  # our own file
    space = {"p": tree.getroot().tag[1:].split("}")[0]}
    assert space["p"].endswith("pain.001.001.09")

    def text(node: Any, path: str) -> str:
        found = node.find(path, space)
        assert found is not None
        return str(found.text)

    payments = [
        (
            text(one, "p:Cdtr/p:Nm"),
            text(one, "p:CdtrAcct/p:Id/p:IBAN"),
            round(float(text(one, "p:Amt/p:InstdAmt")) * 100),
            text(one, "p:PmtId/p:EndToEndId"),
        )
        for one in tree.iterfind(".//p:CdtTrfTxInf", space)
    ]
    assert text(tree, ".//p:DbtrAcct/p:Id/p:IBAN") == OURS
    return payments, text(tree, ".//p:PmtInfId")


@pytest.mark.slow
def test_a_provider_is_paid_what_a_customer_paid_in_and_neither_sees_a_token(
    tmp_path: Path,
) -> None:
    data, disk, shown = tmp_path / "cloud", tmp_path / "disk", []
    data.mkdir()
    (data / "atoll.toml").write_text(SETTINGS)
    file = tmp_path / "holiday.bin"
    file.write_bytes(os.urandom(24 << 20))
    operator, customer = Person(data, []), Person(data, shown)
    provider = Person(disk, shown)
    with LocalCloud("--data", str(data), "--nodes", "3", "--port", "0") as cloud:
        provider.does(
            "join", str(cloud.facts["coordinator"]), "--host", NODE_HOST, "--port",
            str(free_port()), "--capacity", "1GB", "--operator", "marta", "--site", "attic",
            "--region", "eu-central", "--country", "NL",
        )  # fmt: skip
        with running_node(disk):
            provider.until(lambda one: len(one["nodes"]) == 1, "earnings")
            provider.does("payout", "set", "euro", "--iban", CUSTOMER_IBAN, "--name", HOLDER)
            assert top_up(customer, operator, tmp_path / "in.xml", 50_000) == "500.00"
            customer.does("mb", "s3://photos")
            customer.does("cp", str(file), "s3://photos/holiday.bin")
            earned = provider.until(
                lambda one: one["nodes"][0]["due_pico"] >= PICO_PER_CENT, "earnings"
            )["nodes"][0]
            assert earned["held_pico"] > 0
            cents = check_cash_out(operator, provider, tmp_path)
            bill = customer.asks("bill")
            assert 0 < float(bill["balance_eur"]) < 500
            assert cents > 0
            for words in (("bill",), ("invoice", "list"), ("ls", "s3://photos/")):
                customer.does(*words)
            for words in (("earnings",), ("payout", "show"), ("earnings", "statement")):
                provider.does(*words)
    found = [(found[0], text) for text in shown for found in OTHER_WORDS.finditer(text)]
    assert not found, found[0]


def check_cash_out(operator: Person, provider: Person, folder: Path) -> int:
    """The operator writes a file, his bank pays it, and says so; return how many cents it was."""
    out = folder / "out.xml"
    # What is released is paid once the chain has sent it to the node's account.
    written = operator.until(lambda one: True, "payout", "file", "--out", str(out))
    payments, batch = paid_by(out)
    assert {(holder, iban) for holder, iban, _, _ in payments} == {(HOLDER, CUSTOMER_IBAN)}
    cents = sum(amount for _, _, amount, _ in payments)
    assert (written["payouts"], written["amount_cents"]) == (len(payments), cents)
    transfers = tuple(
        Tx(amount, end_to_end=reference, batch=batch, iban=CUSTOMER_IBAN)
        for _, _, amount, reference in payments
    )
    (folder / "told.xml").write_bytes(camt(Sheet((Row(transfers, "BANK-2", debit=True),), "S-2")))
    taken = operator.asks("payout", "import", str(folder / "told.xml"))
    assert [one["bank_state"] for one in taken["changed"]] == ["paid"] * len(payments)
    paid_pico = cents * PICO_PER_CENT
    provider.until(lambda one: one["nodes"][0]["paid_pico"] == paid_pico, "earnings")
    return cents
