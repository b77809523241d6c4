"""What a cloud on one machine tells its coordinator about money."""

from pathlib import Path

import pytest

from atoll.cli.cloud import billing_settings, make_secrets
from atoll.cli.rooms import allowance_of
from atoll.core.errors import AtollError
from atoll.runtime.config import ChainSettings, CloudSettings, Config, CoordinatorSettings
from atoll.runtime.rng import SystemRng


def test_a_cloud_with_its_own_chain_has_epochs_and_an_allowance() -> None:
    found = billing_settings(Config(), own_chain=True)
    assert found == {
        "epoch_s": 30,
        "epoch_max_s": 3_600,
        "allowance_euro": 100,
        "time_factor": 1,
    }
    off = Config(cloud=CloudSettings(epochs="off"))
    assert billing_settings(off, own_chain=True) == {"epoch_s": 0}


def test_without_its_own_chain_nobody_is_charged_unless_asked() -> None:
    """Nobody could pay in: what lies there would be deleted for want of money."""
    assert billing_settings(Config(), own_chain=False)["epoch_s"] == 0
    asked = Config(coordinator=CoordinatorSettings(epoch_s=86_400))
    found = billing_settings(asked, own_chain=False)
    assert (found["epoch_s"], found["allowance_euro"]) == (86_400, 0)


def test_what_was_set_holds() -> None:
    given = CoordinatorSettings(epoch_s=20, time_factor=60, allowance_euro=7)
    found = billing_settings(Config(coordinator=given), own_chain=True)
    assert found == {"epoch_s": 20, "epoch_max_s": 0, "allowance_euro": 7, "time_factor": 60}
    none = Config(cloud=CloudSettings(allowance_euro=0))
    assert billing_settings(none, own_chain=True)["allowance_euro"] == 0


def test_nobody_makes_euros_on_a_public_chain(tmp_path: Path) -> None:
    make_secrets(tmp_path, SystemRng())
    given = CoordinatorSettings(allowance_euro=5)
    made = allowance_of(tmp_path, Config(coordinator=given))
    assert made is not None
    assert made.amount_pico == 5 * 10**12
    assert allowance_of(tmp_path, Config()) is None
    with pytest.raises(AtollError, match="public chain"):
        allowance_of(tmp_path, Config(coordinator=given, chain=ChainSettings(id=8453)))
