"""``atoll sim scale``: a year of very many nodes, in figures and in a picture."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll.cli.output import emit, say, table
from atoll.core.errors import AtollError, Kind
from atoll.core.scheme import RS_2_4, RS_4_8, RS_10_20, RS_20_40

if TYPE_CHECKING:
    from atoll.sim.scale import Outage, ScaleConfig, ScaleResult

SCHEMES = {scheme.name: scheme for scheme in (RS_2_4, RS_4_8, RS_10_20, RS_20_40)}


@click.command()
@click.option("--nodes", type=int, default=100_000, show_default=True)
@click.option("--segments", type=int, default=50_000, show_default=True, help="A sample of them.")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--scheme", type=click.Choice(list(SCHEMES)), default="20/40", show_default=True)
@click.option("--churn", type=float, default=2.0, show_default=True, help="% lost a month.")
@click.option("--pauses", type=float, default=1.0, show_default=True, help="Silences a month.")
@click.option("--pause-hours", type=float, default=6.0, show_default=True, help="Their mean.")
@click.option("--repair-hours", type=float, default=24.0, show_default=True)
@click.option("--budget", type=float, default=5.0, show_default=True, help="% of segments an hour.")
@click.option(
    "--outage",
    "outages",
    multiple=True,
    metavar="DAY:PERCENT:HOURS",
    help="So many nodes fall silent at once on that day and return after the hours. Repeatable.",
)
@click.option("--fill-at", type=int, help="Pieces at which idle repair fills. Default: the rule.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write a picture (SVG)."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every day.")
def scale(plot: Path | None, as_json: bool, **options: object) -> None:
    """Run a year of very many nodes: who is there, how healthy segments are, what repair moves.

    Timers, thresholds, urgency and freezing are the product's own rules. Needs numpy.
    """
    result = _run(options)
    if plot is not None:
        from atoll.sim.plot import picture

        plot.write_text(picture(result))
    if as_json:
        emit(_facts(result))
    else:
        for line in _lines(result):
            click.echo(line)
        if plot is not None:
            say(f"picture: {plot}")


def _run(options: dict[str, object]) -> "ScaleResult":
    try:
        from atoll.sim.scale import ScaleSimulation
    except ModuleNotFoundError as cause:
        raise AtollError(
            Kind.CONFIG,
            "simulate",
            "numpy is not installed",
            hint="pip install 'atoll[scale]'",
        ) from cause
    return ScaleSimulation(_config(options)).run()


def _config(options: dict[str, object]) -> "ScaleConfig":
    from atoll.sim.scale import ScaleConfig

    given = options.copy()
    outages = given.pop("outages")
    assert isinstance(outages, tuple)
    try:
        return ScaleConfig(
            nodes=_whole(given["nodes"]),
            segments=_whole(given["segments"]),
            days=_whole(given["days"]),
            seed=_whole(given["seed"]),
            scheme=SCHEMES[str(given["scheme"])],
            churn_month=_real(given["churn"]) / 100,
            pauses_month=_real(given["pauses"]),
            pause_hours=_real(given["pause_hours"]),
            repair_hours=_real(given["repair_hours"]),
            repair_share_hour=_real(given["budget"]) / 100,
            fill_at=None if given["fill_at"] is None else _whole(given["fill_at"]),
            outages=tuple(_outage(text) for text in outages),
        )
    except ValueError as cause:
        raise AtollError(Kind.BAD_REQUEST, "simulate", str(cause)) from cause


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value


def _real(value: object) -> float:
    assert isinstance(value, float)
    return value


def _outage(text: str) -> "Outage":
    from atoll.sim.scale import HOURS_PER_DAY, Outage

    try:
        day, percent, hours = text.split(":")
        found = Outage(int(day) * HOURS_PER_DAY, float(percent) / 100, int(hours))
    except ValueError:
        raise ValueError(f"--outage is DAY:PERCENT:HOURS, not {text!r}") from None
    if found.hour < 0 or not 0 < found.share <= 1 or found.hours < 1:
        raise ValueError(f"no such outage: {text!r}")
    return found


def _facts(result: "ScaleResult") -> dict[str, object]:
    config = result.config
    model = result.model
    assert model is not None
    return {
        "nodes": config.nodes,
        "segments": config.segments,
        "scheme": config.scheme.name,
        "seed": config.seed,
        "churn_month": config.churn_month,
        "lost_segments": result.lost,
        "traffic_month": result.traffic_month,
        "healthy_min": min(day.healthy_min for day in result.days),
        "model": {
            "loss_per_year": model.loss_per_year,
            "nines": model.nines,
            "traffic_month": model.traffic_month,
        },
        "days": [asdict(day) for day in result.days],
    }


def _lines(result: "ScaleResult") -> list[str]:
    config, days, model = result.config, result.days, result.model
    assert model is not None
    frozen = sum(day.frozen_hours for day in days)
    rows = [
        ("nodes", f"{config.nodes:,}", f"{100 * config.churn_month:g} % lost a month"),
        ("segments", f"{config.segments:,}", f"{config.scheme.name}, {config.days} days"),
        ("lost segments", f"{result.lost:,}", f"model: {model.nines:.1f} nines a year"),
        ("fewest pieces", str(min(day.healthy_min for day in days)), f"k = {config.scheme.k}"),
        ("pieces rebuilt", f"{sum(day.rebuilt for day in days):,}", ""),
        ("came back in time", f"{sum(day.returned for day in days):,}", "pieces not rebuilt"),
        (
            "repair traffic",
            f"{100 * result.traffic_month:.1f} % a month",
            f"of user data; model, repair at the threshold only: {100 * model.traffic_month:.1f} %",
        ),
        ("frozen", f"{frozen} h", "many nodes vanished at once"),
    ]
    return table(rows, right=frozenset({1}))
