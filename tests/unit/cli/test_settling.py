"""The verifiers that a court is made with: by a file of the coordinator's folder."""

from pathlib import Path

import pytest

from atoll.cli.places import VERIFIER_ACCOUNTS
from atoll.cli.settling import court_values, keep_account, keep_accounts, verifier_signer
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.economy.settlement.slashes import entry_key

VERIFIERS = [Identity(bytes([n]) * 32) for n in (1, 2, 3)]


def accounts() -> list[bytes]:
    return [signer.address for one in VERIFIERS if (signer := verifier_signer(one)) is not None]


def test_a_court_is_made_with_verifiers_and_their_own_bonds(tmp_path: Path) -> None:
    assert court_values(tmp_path) == {}
    for _ in range(2):
        keep_accounts(tmp_path, VERIFIERS)
    found = court_values(tmp_path)
    assert found["SlashCourt.keys"] == accounts()
    assert found["SlashCourt.nodes"] == [
        entry_key(one.node_id, account) for one, account in zip(VERIFIERS, accounts(), strict=True)
    ]


def test_a_verifier_has_the_account_that_was_named_last(tmp_path: Path) -> None:
    keep_accounts(tmp_path, VERIFIERS[:2])
    keep_account(tmp_path, VERIFIERS[0].public_key, b"n" * 20)
    assert court_values(tmp_path)["SlashCourt.keys"] == [accounts()[1], b"n" * 20]


@pytest.mark.parametrize("line", ["nonsense", "aa bb cc", "zz 00"])
def test_a_line_that_is_none_is_told(tmp_path: Path, line: str) -> None:
    (tmp_path / VERIFIER_ACCOUNTS).write_text(f"{line}\n")
    with pytest.raises(AtollError) as told:
        court_values(tmp_path)
    assert told.value.kind is Kind.CONFIG
