"""Mutants: declared faults of the contracts, each of which the tests must notice.

``python -m tests.contracts.mutate [NAME …] [--jobs N]`` puts each fault into a copy of the
sources, compiles it, and runs the contract's tests against it. A fault that no test notices, or
that does not compile, fails the run. ``mutants/NAME.py`` declares ``TESTS`` (paths of test
files below tests/contracts) and ``MUTANTS``.
"""

import argparse
import importlib
import os
import pkgutil
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from atoll.core.errors import AtollError

MUTANTS_MIN = 5
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Mutant:
    """One fault: ``old``, which stands exactly once in the source, becomes ``new``.

    ``file`` is the source below the contracts' folder, the contract's own if empty.
    """

    name: str
    old: str
    new: str
    file: str = ""


@dataclass(frozen=True)
class Declared:
    """The mutants of one contract and the test files that must notice them."""

    contract: str
    tests: tuple[str, ...]
    mutants: tuple[Mutant, ...]


def declared() -> dict[str, Declared]:
    """All declared mutants by contract."""
    found = {}
    for info in pkgutil.iter_modules([str(_FOLDER / "mutants")]):
        module = importlib.import_module(f"tests.contracts.mutants.{info.name}")
        found[module.CONTRACT] = Declared(module.CONTRACT, module.TESTS, module.MUTANTS)
    return found


def mutated_sources(contract: str, mutant: Mutant, folder: Path) -> None:
    """Copy the contracts' sources to ``folder`` with one fault.

    Raises:
        ValueError: if the text to replace does not stand in the source exactly once.
    """
    from atoll.economy.contracts.build import SOURCES

    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    path = folder / (mutant.file or f"{contract}.vy")
    source = path.read_text()
    if source.count(mutant.old) != 1:
        raise ValueError(
            f"{contract} {mutant.name}: {source.count(mutant.old)} places instead of one"
        )
    path.write_text(source.replace(mutant.old, mutant.new))


def _child(contract: str, mutant: Mutant, tests: tuple[str, ...], folder: Path) -> int:
    """In a process of its own: compile and test. 0 noticed, 1 not noticed, 2 is no mutant."""
    from atoll.economy.contracts.build import compile_contract, encode

    log = (folder / "log").open("w")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    try:
        mutated_sources(contract, mutant, folder / "sources")
        compiled = compile_contract(contract, folder / "sources")
    except (AtollError, ValueError) as error:
        print(error)
        return 2
    (artifacts / f"{contract}.json").write_bytes(encode(compiled))
    os.environ["ATOLL_CONTRACTS_ARTIFACTS"] = str(artifacts)
    import pytest

    paths = [str(_FOLDER / test) for test in tests]
    # Any fault changes the gas: that alone is no test that noticed it.
    code = pytest.main(["-x", "-q", "--tb=line", "-k", "not gas", *paths])
    return {pytest.ExitCode.TESTS_FAILED: 0, pytest.ExitCode.OK: 1}.get(pytest.ExitCode(code), 2)


def _judge(contract: str, mutant: Mutant, tests: tuple[str, ...]) -> tuple[str, str]:
    """Run one mutant in a forked process; returns what became of it, and its log if that is bad."""
    with tempfile.TemporaryDirectory(prefix="atoll-mutant-") as name:
        folder = Path(name)
        process = os.fork()
        if process == 0:
            code = 2
            try:
                code = _child(contract, mutant, tests, folder)
            finally:
                os._exit(code)
        _, status = os.waitpid(process, 0)
        code = os.waitstatus_to_exitcode(status)
        log = (folder / "log").read_text() if (folder / "log").exists() else ""
        words = {0: "killed", 1: "SURVIVED"}.get(code, "BROKEN")
        return words, "" if code == 0 else log[-1500:]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 if a mutant survived, 2 if a declaration is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.contracts.mutate")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    everything = declared()
    unknown = [name for name in options.names if name not in everything]
    if unknown:
        print(f"no mutants are declared for {', '.join(unknown)}", file=sys.stderr)
        return 2
    wrong = 0
    # Loaded once, inherited by every fork.
    importlib.import_module("boa")
    importlib.import_module("vyper")
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = [
            (name, mutant, pool.submit(_judge, name, mutant, everything[name].tests))
            for name in options.names or sorted(everything)
            for mutant in everything[name].mutants
        ]
        for name, mutant, future in waiting:
            words, log = future.result()
            print(f"{name}: {mutant.name}: {words}", flush=True)
            if log:
                print(log, flush=True)
            wrong += words != "killed"
    for name in options.names or sorted(everything):
        if len(everything[name].mutants) < MUTANTS_MIN:
            print(f"{name}: {len(everything[name].mutants)} mutants, at least {MUTANTS_MIN} wanted")
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
