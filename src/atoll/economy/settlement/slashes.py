"""What lost data costs a node: one slash of an epoch, and the verdict that strikes its bond.

Both follow from evidence (``core.proofs.loss``) and from what stands in the epoch's document, so
that anybody can compute them again. Normative text: ``docs/spec/slashes.md``.
"""

from collections import defaultdict
from typing import Final

import msgspec

from atoll.core.money import GB_BYTES, MONTH_MS, part_down
from atoll.economy.keccak import keccak_256
from atoll.economy.settlement.document import Content
from atoll.economy.settlement.lines import line_amounts
from atoll.economy.settlement.model import (
    REPORTER_BPS_MAX,
    Damage,
    EpochInputs,
    EpochTotals,
    Slash,
    TakeParameters,
    wrong,
)
from atoll.economy.settlement.statement import ADDRESS_BYTES, WORD_BYTES, Statement, StatementKind
from atoll.economy.tariff.model import Tariff

DAMAGE_MONTHS: Final = 5
"""A customer's damage: so many months' fees of what he had at the node."""
BOND_BPS: Final = 5_000
"""Of all that answers for the node on the chain; its own tranche goes first."""
BOND_REPAIR_BPS: Final = 5_000
"""Of what is taken from the bond, for repair."""
BOND_CUSTOMER_BPS: Final = 4_000
"""And for customers; what is left: the reporter (a tenth at most), then insurance."""
HELD_ALL_MICRO: Final = (1 << 64) - 1
"""All that is held, whatever it is."""
NOBODY: Final = bytes(ADDRESS_BYTES)


# --- the epoch ------------------------------------------------------------------------------------


def lost_data_slash(
    node: bytes,
    evidence: bytes,
    reporter: bytes,
    before: EpochTotals,
    inputs: EpochInputs,
    tariff: Tariff,
    parameters: TakeParameters,
) -> Slash:
    """Return what a node that lost data pays in an epoch.

    All that was held of it when the epoch began; from it the repair of all that it held in the
    epoch, its customers' damages, the reporter's tenth; the rest goes to the insurance. Rounded
    down. ``reporter``: an account, or empty. Raises ``BAD_REQUEST`` as ``compute``.
    """
    span_ms = inputs.until_ms - inputs.from_ms
    byte_ms = sum(line.byte_ms for line in inputs.storage if line.node == node)
    fees: defaultdict[bytes, int] = defaultdict(int)
    plain = msgspec.structs.replace(inputs, egress=[], slashes=[])
    for line in line_amounts(plain, tariff, parameters):
        if line.node == node:
            fees[line.payer] += line.fee_pico
    months_ms = DAMAGE_MONTHS * MONTH_MS
    damages = [
        Damage(payer, fee * months_ms // (span_ms * inputs.time_factor))
        for payer, fee in sorted(fees.items())
    ]
    return Slash(
        node=node,
        amount_pico=sum(one.held_pico for one in before.nodes if one.node == node),
        repair_pico=byte_ms // span_ms * tariff.repair_pico // GB_BYTES,
        customers=[one for one in damages if one.amount_pico],
        reporter=reporter,
        reporter_bps=min(REPORTER_BPS_MAX, parameters.reporter_bps_max) if reporter else 0,
        evidence=evidence,
    )


def check_slashes(content: Content) -> list[str]:
    """Return what is wrong with the slashes of a document, in words; empty where nothing is.

    Whether their evidence shows what it should is for ``core.proofs.loss.check_loss``.
    """
    problems: list[str] = []
    seen: set[bytes] = set()
    for slash in content.inputs.slashes:
        about = f"slash of node {slash.node.hex()[:10]}"
        if slash.node in seen:
            problems.append(f"{about}: it is slashed twice")
        seen.add(slash.node)
        expected = lost_data_slash(
            slash.node,
            slash.evidence,
            slash.reporter,
            content.before,
            content.inputs,
            content.tariff,
            content.parameters,
        )
        for name in ("amount_pico", "repair_pico", "customers", "reporter_bps"):
            found, right = getattr(slash, name), getattr(expected, name)
            if name == "customers":
                found = sorted(found, key=msgspec.structs.astuple)
            if found != right:
                problems.append(f"{about}: {name} is not what follows from the document's lines")
        if len(slash.evidence) != WORD_BYTES:
            problems.append(f"{about}: it names no evidence")
    return problems


def parts_of(content: Content, slash: Slash) -> tuple[int, int, int, int, int]:
    """Return what a slash took, and what of it went to repair, customers, reporter, insurance.

    Of a document that comes out. What held pay had paid for repair work before is not in it.
    """
    held = sum(one.held_pico for one in content.before.nodes if one.node == slash.node)
    worked = sum(
        min(line.byte_count * content.tariff.repair_pico // GB_BYTES, held)
        for line in content.inputs.repairs
        if line.failed == slash.node
    )
    taken = left = min(slash.amount_pico, max(0, held - worked))
    repair = min(left, slash.repair_pico)
    left -= repair
    customers = min(left, sum(one.amount_pico for one in slash.customers))
    left -= customers
    reporter = min(left, part_down(taken, slash.reporter_bps)) if slash.reporter else 0
    return taken, repair, customers, reporter, left - reporter


# --- the bond -------------------------------------------------------------------------------------


class LossStated(msgspec.Struct, frozen=True, array_like=True):
    """What a statement of kind ``VERDICT`` on lost data stands for: its ``body``."""

    node_id: bytes
    owner: bytes
    """Account under which the node is in the registry, 20 bytes."""
    evidence: bytes
    """SHA-256 of the loss file."""
    epoch: int
    """In which its held funds are taken."""
    customer_account: bytes
    """Gets the customers' share of the bond for them; empty: the insurance does."""
    reporter: bytes
    """Account of who brought the evidence; empty for nobody."""

    def check(self) -> None:
        """Raise ``BAD_REQUEST`` for what cannot be."""
        if len(self.node_id) != WORD_BYTES or len(self.evidence) != WORD_BYTES:
            raise wrong("a node and evidence are named by 32 bytes")
        if len(self.owner) != ADDRESS_BYTES or not 0 <= self.epoch < 1 << 40:
            raise wrong("a node's owner is an account, an epoch a small number")
        if any(
            len(one) not in (0, ADDRESS_BYTES) for one in (self.customer_account, self.reporter)
        ):
            raise wrong("an account has 20 bytes")

    @property
    def node_key(self) -> bytes:
        """The node's key in the registry on the chain."""
        return entry_key(self.node_id, self.owner)

    def values(self) -> tuple[bytes, bytes, int, int, int, int, bytes, bytes, int]:
        """Return the verdict as ``SlashCourt.carry_out`` takes it."""
        return (
            self.node_key,
            self.evidence,
            self.epoch,
            BOND_BPS,
            BOND_REPAIR_BPS,
            BOND_CUSTOMER_BPS,
            self.customer_account or NOBODY,
            self.reporter or NOBODY,
            HELD_ALL_MICRO,
        )


def entry_key(node_id: bytes, owner: bytes) -> bytes:
    """Return the key of a node of an owner, as ``NodeRegistry.key_of`` does."""
    return keccak_256(node_id + owner.rjust(WORD_BYTES, b"\0"))


def loss_statement(stated: LossStated) -> Statement:
    """Return what verifiers sign for a verdict on lost data. Raises ``BAD_REQUEST``."""
    stated.check()
    words = [
        value.rjust(WORD_BYTES, b"\0")
        if isinstance(value, bytes)
        else value.to_bytes(WORD_BYTES, "big")
        for value in stated.values()
    ]
    return Statement(
        kind=int(StatementKind.VERDICT),
        subject=keccak_256(stated.node_key + stated.evidence),
        epoch=stated.epoch,
        stated=keccak_256(b"".join(words)),
    )
