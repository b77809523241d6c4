"""Runs scenarios from seeds: ``python -m atoll.sim.vopr --seed 7 --scenario churn``.

A seed decides everything. One in twenty is run twice and the hashes of the two traces compared:
an unseeded choice anywhere in the product would make them differ. A seed that finds a violation
prints the command that replays it, and the last events before.
"""

import argparse
import gc
import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from atoll.core.errors import AtollError
from atoll.sim.deliberate import DELIBERATE, deliberately
from atoll.sim.faults import run_faults
from atoll.sim.incarnation import close_tasks
from atoll.sim.loop import Deadlock, SimLoop
from atoll.sim.scenario import Scenario, load_scenarios
from atoll.sim.trace import Trace
from atoll.sim.world import World

SCENARIOS = Path(__file__).parents[3] / "tests" / "simulation"
REPLAYED_OF = 20
"""One seed of so many is run twice."""
LINES_SHOWN = 40
COLLECT_EVERY_S = 10.0


TRACEBACK_LINES_SHOWN = 12


@dataclass(slots=True)
class Outcome:
    """What one run of one seed came to."""

    scenario: str
    seed: int
    digest: str
    violations: list[str]
    virtual_s: float
    cpu_s: float
    events: int
    counts: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    uncertain: int = 0
    recent: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every invariant held."""
        return not self.violations


@contextmanager
def _collector_off() -> Iterator[None]:
    """Keep the moments of garbage collection, which differ from run to run, out of the world."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    # What is there already need not be looked at by the collections within the world.
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def run_seed(
    scenario: Scenario,
    seed: int,
    *,
    fault: str = "",
    show: Callable[[str], None] | None = None,
) -> Outcome:
    """Run one seed of a scenario once, with a deliberate fault if one is named."""
    label = f"{scenario.name}/{seed}"
    began = time.process_time()
    loop = SimLoop(label)
    trace = Trace(loop.time, show)
    world: World | None = None
    with _collector_off(), deliberately(fault), _quiet():
        try:
            world = World(scenario.draw(label), label, loop, trace, run_faults)
            _collect_now_and_then(loop)
            loop.run_until_complete(loop.start(world.run(), None))
        except Deadlock as stuck:
            assert world is not None
            world.violated(f"the world stands still: {stuck}")
        except Exception as broken:  # noqa: BLE001 — a seed that breaks off is a finding as well
            assert world is not None
            text = "".join(traceback.format_exception(broken)[-TRACEBACK_LINES_SHOWN:])
            world.violated(f"the run broke off: {text}")
        finally:
            _end(world, loop)
    assert world is not None
    return Outcome(
        scenario=scenario.name,
        seed=seed,
        digest=trace.digest(),
        violations=world.violations,
        virtual_s=loop.time(),
        cpu_s=time.process_time() - began,
        events=sum(trace.counts.values()),
        counts=dict(sorted(trace.counts.items())),
        acknowledged=world.ledger.acknowledged,
        uncertain=world.ledger.uncertain,
        recent=list(trace.recent)[-LINES_SHOWN:] if world.violations else [],
    )


def _collect_now_and_then(loop: SimLoop) -> None:
    """Free what hangs in reference cycles, at moments that belong to the seed."""
    gc.collect()
    loop.call_later(COLLECT_EVERY_S, _collect_now_and_then, loop)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let nobody hear what the buried say when their coroutines are closed, or never ran."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        sys.unraisablehook = before


def _end(world: World | None, loop: SimLoop) -> None:
    """Close everything; what the rooms log while their coroutines are closed means nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        if world is not None:
            world.bury()
        close_tasks(loop)
        loop.close()
    finally:
        logging.disable(before)


def check_seed(
    scenario: Scenario, seed: int, *, fault: str = "", replay: bool | None = None
) -> Outcome:
    """Run a seed; one in ``REPLAYED_OF`` (or where ``replay`` says so) twice."""
    outcome = run_seed(scenario, seed, fault=fault)
    if replay if replay is not None else seed % REPLAYED_OF == 0:
        again = run_seed(scenario, seed, fault=fault)
        if again.digest != outcome.digest:
            outcome.violations.append(
                f"the same seed took two ways: {outcome.digest} and {again.digest}"
            )
    return outcome


def command_of(outcome: Outcome, fault: str = "") -> str:
    """Return the command that replays a seed."""
    extra = f" --fault {fault}" if fault else ""
    return f"python -m atoll.sim.vopr --scenario {outcome.scenario} --seed {outcome.seed}{extra}"


def _report(outcome: Outcome, fault: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(outcome)), flush=True)  # noqa: T201 - a command speaks
        return
    word = "ok" if outcome.passed else "VIOLATION"
    lines = [
        f"{word} {outcome.scenario} seed {outcome.seed} trace {outcome.digest}: "
        f"{outcome.acknowledged} changes acknowledged, {outcome.uncertain} uncertain, "
        f"{outcome.events} events, {outcome.virtual_s:.0f} virtual s, {outcome.cpu_s:.2f} CPU s"
    ]
    if not outcome.passed:
        lines += [f"  {line}" for line in outcome.recent]
        lines += [f"  violated {what}" for what in outcome.violations]
        lines += ["replay with:", f"  {command_of(outcome, fault)}"]
    print("\n".join(lines), flush=True)  # noqa: T201 - a command speaks


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m atoll.sim.vopr", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one seed")
    parser.add_argument("--seeds", type=int, default=20, help="run so many seeds (default 20)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--scenario", default="", help="only this one (default: all in turn)")
    parser.add_argument("--scenarios", type=Path, default=SCENARIOS, help="folder of the files")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--fault", default="", choices=["", *DELIBERATE], help="break the code")
    parser.add_argument("--stop", action="store_true", help="end at the first violation")
    parser.add_argument("--trace", action="store_true", help="print every event of --seed")
    parser.add_argument("--json", action="store_true", help="one JSON object per seed")
    return parser.parse_args(given)


def _plan(arguments: argparse.Namespace) -> list[tuple[Scenario, int]]:
    scenarios = load_scenarios(arguments.scenarios)
    if arguments.scenario and arguments.scenario not in scenarios:
        raise SystemExit(f"no scenario {arguments.scenario}; there are: {', '.join(scenarios)}")
    chosen = [scenarios[arguments.scenario]] if arguments.scenario else list(scenarios.values())
    if arguments.seed is not None:
        return [(scenario, arguments.seed) for scenario in chosen]
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    return [(chosen[seed % len(chosen)], seed) for seed in seeds]


def _check(job: tuple[Scenario, int, str]) -> Outcome:
    scenario, seed, fault = job
    return check_seed(scenario, seed, fault=fault)


def main(given: list[str] | None = None) -> int:
    """Run what the arguments say; the exit code is 0 only if every invariant held."""
    arguments = _arguments(given)
    try:
        plan = _plan(arguments)
    except AtollError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command speaks
        return error.meaning.exit_code
    fault = arguments.fault
    if arguments.trace:
        for scenario, seed in plan:
            _report(run_seed(scenario, seed, fault=fault, show=print), fault, as_json=False)
        return 0
    jobs = [(scenario, seed, fault) for scenario, seed in plan]
    began, failed = time.monotonic(), 0
    for outcome in _outcomes(jobs, arguments.jobs):
        failed += not outcome.passed
        _report(outcome, fault, as_json=arguments.json)
        if failed and arguments.stop:
            break
    if len(jobs) > 1 and not arguments.json:
        took = time.monotonic() - began
        print(f"{len(jobs)} seeds, {failed} with violations, {took:.0f} s")  # noqa: T201
    return 1 if failed else 0


def _outcomes(jobs: list[tuple[Scenario, int, str]], processes: int) -> Iterator[Outcome]:
    if processes <= 1 or len(jobs) == 1:
        yield from map(_check, jobs)
        return
    pool = ProcessPoolExecutor(processes)
    try:
        yield from pool.map(_check, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def _with_fixed_hashes() -> None:
    """Start again with a fixed hash seed: the order of sets of bytes would differ otherwise."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "atoll.sim.vopr", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    _with_fixed_hashes()
    sys.exit(main())
