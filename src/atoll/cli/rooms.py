"""What settings mean for the rooms of a coordinator: configurations from ``atoll.toml``.

Each is asked for where it is wanted; rooms are imported then, not before.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from atoll.cli.carried import carried
from atoll.cli.places import COORDINATOR_PARTY, EPOCHS, ROOT_KEY
from atoll.core.crypto import first_account
from atoll.core.errors import AtollError, Kind
from atoll.runtime.config import BankSettings, Config, CoordinatorSettings
from atoll.runtime.folder import read_secret

if TYPE_CHECKING:
    from atoll.coordinator.billing.model import Allowance, BillingConfig
    from atoll.coordinator.customers.model import CustomersConfig, InvoiceConfig
    from atoll.coordinator.packing.rules import PackingProfile
    from atoll.coordinator.policy.model import OwnPlace
    from atoll.coordinator.repair.rules import Profile as RepairProfile
    from atoll.coordinator.sets.rules import SetTimers
    from atoll.coordinator.upgrade.rules import UpgradeProfile

CUSTOMERS_PAUSE_S = {"local": 2.0, "demo": 2.0, "wan": 60.0}
"""Between two judgements of customers, by profile."""


def root_key(folder: Path) -> bytes:
    """Return the 32-byte root key of a folder."""
    return bytes.fromhex(read_secret(folder, ROOT_KEY).decode())


def coordinator_place(folder: Path, settings: CoordinatorSettings) -> "OwnPlace":
    """Return what a coordinator's operator states about it."""
    from atoll.coordinator.policy.model import OwnPlace

    return OwnPlace(
        operator=settings.operator,
        country=settings.country.upper(),
        parent_country=settings.parent_country.upper(),
        database_country=settings.database_country.upper(),
        certificates=carried(folder / COORDINATOR_PARTY),
    )


def repair_profile(settings: CoordinatorSettings) -> "RepairProfile":
    """Return the repair profile, within the budget that its operator set."""
    from atoll.coordinator.repair.rules import PROFILES

    profile = PROFILES[settings.profile]
    return replace(
        profile,
        bytes_per_second=settings.repair_bytes_per_s or profile.bytes_per_second,
        workers=settings.repair_workers or profile.workers,
    )


def packing_of(settings: CoordinatorSettings) -> "PackingProfile | None":
    """Return how eagerly small objects are packed, where the settings say it."""
    from atoll.coordinator.packing.rules import PROFILES

    if not settings.packing_age_s:
        return None
    return replace(PROFILES[settings.profile], age_ms=settings.packing_age_s * 1000)


def upgrades_of(settings: CoordinatorSettings) -> "UpgradeProfile":
    """Return how eagerly segments are copied into wider schemes, as far as the settings say it."""
    from atoll.coordinator.upgrade.rules import PROFILES

    profile = PROFILES[settings.profile]
    return replace(
        profile,
        hold_ms=settings.upgrade_hold_s * 1000 or profile.hold_ms,
        bytes_per_hour_max=settings.upgrade_bytes_per_hour or profile.bytes_per_hour_max,
    )


def billing_of(folder: Path, config: Config) -> "BillingConfig | None":
    """Return how epochs are made, where the settings ask for them. Raises ``CONFIG``."""
    from atoll.coordinator.audit.model import PROFILES
    from atoll.coordinator.billing.model import EPOCH_SLOTS_MIN, BillingConfig
    from atoll.economy.chain.model import EMBEDDED_CHAIN_ID
    from atoll.economy.settlement.model import REAL_TIME
    from atoll.runtime.disk import FolderDisk

    settings = config.coordinator
    if not settings.epoch_s:
        return None
    if settings.time_factor != REAL_TIME and config.chain.id != EMBEDDED_CHAIN_ID:
        raise AtollError(
            Kind.CONFIG,
            "start coordinator",
            f"coordinator.time_factor is {settings.time_factor}: customers would pay for time "
            "that did not pass",
            hint="leave it out; it is for demonstrations on a chain of one's own",
        )
    least_s = EPOCH_SLOTS_MIN * PROFILES[settings.profile].slot_ms // 1000
    if settings.epoch_s < least_s:
        raise AtollError(
            Kind.CONFIG,
            "start coordinator",
            f"coordinator.epoch_s is {settings.epoch_s}: too short for a proof in each epoch",
            hint=f"at least {least_s} with the profile {settings.profile}",
        )
    return BillingConfig(
        settings.epoch_s * 1000,
        FolderDisk(folder / EPOCHS),
        length_max_ms=settings.epoch_max_s * 1000,
        time_factor=settings.time_factor,
        mirror=FolderDisk(Path(settings.mirror).expanduser()) if settings.mirror else None,
    )


def customers_of(folder: Path, config: Config, *, loops: bool) -> "CustomersConfig":
    """Return how customers are billed. Raises ``CONFIG`` for an account that cannot be."""
    from atoll.coordinator.customers.model import PROFILES, CustomersConfig, Times
    from atoll.runtime.disk import FolderDisk

    settings = config.coordinator
    charged = settings.epoch_s > 0
    if settings.prepaid == "enforced" and not charged:
        raise AtollError(
            Kind.CONFIG,
            "start coordinator",
            "coordinator.prepaid is enforced, but nothing is charged",
            hint="set coordinator.epoch_s as well, or leave coordinator.prepaid open",
        )
    usual = PROFILES[settings.profile]
    times = Times(
        settings.prepaid_notice_s * 1000 or usual.notice_ms,
        settings.prepaid_read_only_s * 1000 or usual.read_only_ms,
        settings.prepaid_grace_s * 1000 or usual.grace_ms,
    )
    return CustomersConfig(
        times=times,
        enforced=settings.prepaid == "enforced",
        charged=charged,
        epochs=FolderDisk(folder / EPOCHS) if loops and charged else None,
        invoices=invoices_of(config.bank),
        time_factor=settings.time_factor,
        pause_s=CUSTOMERS_PAUSE_S[settings.profile],
    )


def invoices_of(settings: BankSettings) -> "InvoiceConfig | None":
    """Return the operator's bank account and invoices; None where he named no account.

    Raises ``CONFIG`` for settings that no invoice could be written with.
    """
    if not settings.iban:
        return None
    from atoll.coordinator.customers.model import InvoiceConfig
    from atoll.economy.payments.accounts import BankAccount, parse_bic, parse_iban
    from atoll.economy.payments.invoices.model import Party, Vat
    from atoll.economy.payments.invoices.rules import next_number

    try:
        account = BankAccount(settings.holder, parse_iban(settings.iban), parse_bic(settings.bic))
        next_number(settings.series, "2026-01-01", None)
    except AtollError as error:
        raise AtollError(
            Kind.CONFIG,
            "start coordinator",
            f"[bank]: {error.message}",
            hint="correct holder, iban, bic and series in the section bank of atoll.toml",
        ) from error
    if not settings.vat_bps and not settings.vat_note.strip():
        raise AtollError(
            Kind.CONFIG,
            "start coordinator",
            "[bank]: invoices without VAT say why",
            hint="set bank.vat_bps or bank.vat_note",
        )
    lines = tuple(one.strip() for one in settings.address.split(";") if one.strip())
    seller = Party(settings.holder, lines, settings.vat_number)
    note = "" if settings.vat_bps else settings.vat_note.strip()
    return InvoiceConfig(account, seller, settings.series, Vat(settings.vat_bps, note))


def allowance_of(folder: Path, config: Config) -> "Allowance | None":
    """Return what its own account is kept at, on an embedded chain only. Raises ``CONFIG``."""
    from atoll.coordinator.billing.model import Allowance
    from atoll.core.money import PICO_PER_EUR
    from atoll.economy.chain.model import EMBEDDED_CHAIN_ID

    euros = config.coordinator.allowance_euro
    if not euros:
        return None
    if config.chain.id != EMBEDDED_CHAIN_ID:
        raise AtollError(
            Kind.CONFIG,
            "start coordinator",
            "coordinator.allowance_euro is set: on a public chain nobody makes euros",
            hint="leave it out, and pay in",
        )
    return Allowance(first_account(root_key(folder)), euros * PICO_PER_EUR)


def set_timers(settings: CoordinatorSettings) -> "SetTimers | None":
    """Return when sets of pieces are compared, where the settings say it."""
    from atoll.coordinator.sets.rules import PROFILES

    if not settings.surplus_age_s:
        return None
    timers, age_ms = PROFILES[settings.profile], settings.surplus_age_s * 1000
    return replace(timers, surplus_age_ms=age_ms, again_ms=min(timers.again_ms, age_ms))
