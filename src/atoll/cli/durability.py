"""``atoll durability``: how likely data is lost, under measured facts or stated assumptions."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click
import msgspec

from atoll.cli.output import emit, paint, table
from atoll.cli.s3 import Door, door_options
from atoll.core.durability import (
    NINES_MAX,
    Assumptions,
    Durability,
    compare,
    durability_of,
    nines_of,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.repairs import RepairFigures
from atoll.core.messages.upgrades import UpgradeStatus
from atoll.core.scheme import RS_2_4, RS_4_8, RS_10_20, RS_20_40, TINY, Scheme, scheme_of
from atoll.core.units import show_bytes

if TYPE_CHECKING:
    from atoll.client import AsyncClient

OURS = (TINY, RS_2_4, RS_4_8, RS_10_20, RS_20_40)
NO_LOSS_BOUND = 3.0
"""Losses that none seen cannot rule out at 95 %: -ln 0.05, the rule of three."""
ONE_MACHINE = (
    "one machine: no protection against its loss. All nodes die with it, whatever the scheme; "
    "nines would promise what nobody keeps"
)


@dataclass(frozen=True, slots=True)
class Basis:
    """What the figures stand on: assumptions, and where each came from."""

    assumptions: Assumptions
    churn: str
    repair: str
    domain: str


@click.command()
@click.option("--churn", type=float, metavar="PERCENT", help="Nodes lost for good in a month.")
@click.option("--repair-hours", type=float, help="Mean time from the threshold to full strength.")
@click.option(
    "--repair-hours-min",
    type=float,
    help="The same two pieces above k: the weakest come first. Default: 1, or less.",
)
@click.option("--domain-loss", type=int, metavar="PIECES", help="Pieces that go with one operator.")
@click.option("--domain-losses-year", type=float, default=1.0, show_default=True)
@click.option("--shock", type=float, default=0.0, help="% of all nodes that vanish at once a year.")
@click.option("--online", type=float, help="% of the time a node is up, for availability.")
@click.option(
    "--scheme", "schemes", multiple=True, metavar="K/N[/R]", help="Compare this one. Repeatable."
)
@click.option("--days", type=click.IntRange(1, 365), default=30, show_default=True)
@door_options
def durability(
    churn: float | None,
    repair_hours: float | None,
    repair_hours_min: float | None,
    domain_loss: int | None,
    domain_losses_year: float,
    shock: float,
    online: float | None,
    schemes: tuple[str, ...],
    days: int,
    as_json: bool,
    **door: object,
) -> None:
    """Compute how likely data is lost in a year, and what other schemes would give and cost.

    Churn, repair time and domain cap are those measured in the running cloud over the last --days;
    what is given by options is an assumption and is called so. With --churn and --repair-hours no
    cloud is asked.
    """
    asked = [_scheme(text) for text in schemes]
    figures = None
    if churn is None or repair_hours is None:
        figures = Door(**door).run(lambda client: _ask(client, days))  # type: ignore[arg-type]
    if figures is not None and figures.one_machine:
        _refuse(figures, as_json=as_json)
        return
    try:
        basis = _basis(figures, churn, repair_hours, repair_hours_min, domain_loss)
        assumptions = replace(
            basis.assumptions, domain_losses_year=domain_losses_year, shock_share=shock / 100
        )
    except ValueError as cause:
        raise AtollError(Kind.BAD_REQUEST, "compute durability", str(cause)) from cause
    basis = replace(basis, assumptions=assumptions)
    rows = compare([*OURS, *asked], assumptions)
    if as_json:
        emit(_facts(figures, basis, rows, online))
        return
    lines = [*_basis_lines(basis), *_cloud_lines(figures), *_scheme_lines(rows, figures, online)]
    click.echo("\n".join(lines))


async def _ask(client: "AsyncClient", days: int) -> RepairFigures:
    answer = await client.ask("durability", {"days": days})
    return msgspec.convert(answer, RepairFigures)


def _scheme(text: str) -> Scheme:
    """Read ``k/n`` (ours, or repair halfway) or ``k/n/r``."""
    try:
        numbers = [int(part) for part in text.split("/")]
        if len(numbers) == 2:
            k, n = numbers
            known = {(one.k, one.n): one for one in OURS}.get((k, n))
            return known or Scheme(k, k, k, (k + n + 1) // 2, n, n)
        k, n, repair = numbers
        if not k <= repair < n:
            raise ValueError("the threshold lies between k and n")
        return Scheme(k, k, k, repair, n, n)
    except ValueError as cause:
        raise AtollError(
            Kind.BAD_REQUEST,
            "read scheme",
            f"{text!r} is no scheme: {cause}",
            hint="write K/N or K/N/R, for example 20/40/30",
        ) from cause


def _refuse(figures: RepairFigures, *, as_json: bool) -> None:
    """Show what is there, and why no nines are computed from it."""
    if as_json:
        cloud = msgspec.to_builtins(figures)
        emit({"refused": ONE_MACHINE, "assumptions": None, "cloud": cloud, "schemes": []})
        return
    hint = "To compute with assumptions of your own: --churn PERCENT --repair-hours HOURS."
    click.echo("\n".join([*_cloud_lines(figures), paint(ONE_MACHINE, fg="yellow"), hint]))


def _basis(
    figures: RepairFigures | None,
    churn: float | None,
    hours: float | None,
    hours_min: float | None,
    domain: int | None,
) -> Basis:
    churn_said = repair_said = domain_said = "assumed"
    if churn is not None:
        share = churn / 100
    else:
        assert figures is not None
        share, churn_said = _measured_churn(figures)
    if hours is None:
        assert figures is not None
        hours = figures.noticed_hours + figures.healed_hours_mean
        repair_said = (
            f"measured: noticed after {figures.noticed_hours:.2g} h, {figures.healed:,} segments "
            f"healed in {figures.healed_hours_mean:.2g} h (longest {figures.healed_hours_max:.2g})"
        )
        hours = max(hours, 1 / 3600)
    if domain is None:
        domain, domain_said = 0, "not considered"
        if figures is not None and figures.holds:
            domain = max(hold.shared_pieces_max for hold in figures.holds)
            domain_said = "measured: most pieces of a segment in one operator, network or site"
    least = min(1.0, hours) if hours_min is None else hours_min
    return Basis(Assumptions(share, hours, least, domain), churn_said, repair_said, domain_said)


def _measured_churn(figures: RepairFigures) -> tuple[float, str]:
    """Return the monthly churn that was measured, or that none seen cannot rule out."""
    if not figures.node_days:
        raise AtollError(
            Kind.CONFIG,
            "compute durability",
            "nothing was measured yet: the cloud has run for less than a minute or two",
            hint="try again later, or state assumptions with --churn and --repair-hours",
        )
    lost = figures.nodes_lost or NO_LOSS_BOUND
    share = -math.expm1(-lost / figures.node_days * 30)
    seen = f"{figures.node_days:,.1f} node-days"
    if figures.nodes_lost:
        return min(share, 0.99), f"measured: {figures.nodes_lost} nodes lost in {seen}"
    return min(share, 0.99), f"no node lost in {seen}; a bound at 95 %, it falls with time"


def _basis_lines(basis: Basis) -> list[str]:
    held = basis.assumptions
    rows = [
        ("churn", f"{100 * held.churn_month:.3g} % a month", basis.churn),
        ("repair", f"{held.repair_hours:.3g} h", basis.repair),
    ]
    if held.domain_pieces:
        often = f"{held.domain_losses_year:g} a year"
        rows.append(("domain loss", f"{held.domain_pieces} pieces", f"{often}; {basis.domain}"))
    if held.shock_share:
        rows.append(("shock", f"{100 * held.shock_share:g} % at once", "1 a year; assumed"))
    return [*table(rows), ""]


def _cloud_lines(figures: RepairFigures | None) -> list[str]:
    if figures is None:
        return []
    rows = [
        tuple(paint(title, dim=True) for title in ("SCHEME", "SEGMENTS", "DATA", "SURVIVES", "")),
    ]
    for hold in figures.holds:
        name = f"{hold.k}/{hold.n}"
        for margin, count in hold.survives:
            says = f"any {margin} more losses" if margin >= 0 else "unreadable until nodes return"
            bar = "█" * max(1, round(20 * count / max(1, hold.segments)))
            rows.append((name, f"{count:,}", show_bytes(hold.plain_bytes), says, bar))
            name = ""
    workers = [one for one in figures.workers if one.tasks or one.failed]
    lines = [f"{figures.nodes} nodes of {figures.operators} operators", *table(rows)]
    lines += _upgrade_lines(figures.upgrades)
    if workers:
        moved = sum(one.downloaded_bytes + one.uploaded_bytes for one in workers)
        lines.append(
            f"{len(workers)} nodes took over repair work: "
            f"{sum(one.pieces for one in workers):,} pieces, {show_bytes(moved)} moved"
        )
    return [*lines, ""]


def _upgrade_lines(upgrades: UpgradeStatus) -> list[str]:
    """Say what is narrower than the network could have it, and how far that is."""
    lines = []
    if upgrades.below_segments:
        widest = " or ".join(_class_name(k) for k in upgrades.offered)
        lines.append(
            f"{upgrades.below_segments:,} segments ({show_bytes(upgrades.below_bytes)}) are below "
            f"{widest}, which so many operators allow: they are copied, the narrowest first"
        )
    if upgrades.locked_segments:
        lines.append(f"{upgrades.locked_segments:,} more are locked and stay as they are")
    if upgrades.upgraded_segments:
        lines.append(
            f"{upgrades.upgraded_segments:,} segments ({show_bytes(upgrades.upgraded_bytes)}) "
            "were copied into wider schemes so far"
        )
    return lines


def _class_name(k: int) -> str:
    return next((one.name for one in OURS if one.k == k), f"k={k}")


def _scheme_lines(
    rows: list[Durability], figures: RepairFigures | None, online: float | None
) -> list[str]:
    titles = ["SCHEME", "REPAIR AT", "STORED", "LOST A YEAR", "NINES", "REPAIR A MONTH"]
    titles += ["UNREADABLE"] if online is not None else []
    lines = [[paint(title, dim=True) for title in titles]]
    used = {(hold.k, hold.n) for hold in figures.holds} if figures is not None else set()
    for one in rows:
        scheme = one.scheme
        shape = (scheme.k, scheme.n)
        name = paint(scheme.name, bold=shape in used) + (" *" if shape in used else "")
        cells = [
            name,
            str(scheme.repair),
            f"{one.expansion:.2f}x",
            f"{one.loss_per_year:.1e}",
            _nines(one.nines),
            f"{100 * one.traffic_month:.1f} %",
        ]
        cells += [f"{one.unavailable(online / 100):.0e}"] if online is not None else []
        lines.append(cells)
    text = table(lines, right=frozenset(range(1, len(titles))))
    note = "For one segment of up to 64 MiB; an object of s segments loses s times as often."
    marked = ["* in use. " + note] if used else [note]
    return [*text, *marked, *_whole_lines(rows, figures)]


def _whole_lines(rows: list[Durability], figures: RepairFigures | None) -> list[str]:
    """Say what it means for all that is stored."""
    if figures is None or not figures.holds:
        return []
    held = rows[0].assumptions
    whole = sum(
        hold.segments * durability_of(scheme_of(hold.k, hold.n), held).loss_per_year
        for hold in figures.holds
    )
    count = sum(hold.segments for hold in figures.holds)
    return [f"All {count:,} segments: {min(1.0, whole):.1e} expected losses a year."]


def _nines(nines: float) -> str:
    return f"> {NINES_MAX:.0f}" if nines >= NINES_MAX else f"{nines:.1f}"


def _facts(
    figures: RepairFigures | None,
    basis: Basis,
    rows: list[Durability],
    online: float | None,
) -> dict[str, object]:
    held = basis.assumptions
    return {
        "refused": "",
        "assumptions": {
            "churn_month": held.churn_month,
            "churn_from": basis.churn,
            "repair_hours": held.repair_hours,
            "repair_hours_min": held.repair_hours_min,
            "repair_from": basis.repair,
            "domain_pieces": held.domain_pieces,
            "domain_losses_year": held.domain_losses_year,
            "domain_from": basis.domain,
            "shock_share": held.shock_share,
        },
        "cloud": None if figures is None else msgspec.to_builtins(figures),
        "schemes": [
            {
                "scheme": one.scheme.name,
                "repair_at": one.scheme.repair,
                "expansion": one.expansion,
                "loss_per_year": one.loss_per_year,
                "nines": nines_of(one.loss_per_year),
                "traffic_month": one.traffic_month,
                "unavailable": None if online is None else one.unavailable(online / 100),
            }
            for one in rows
        ],
    }
