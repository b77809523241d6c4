"""Compile the contracts: ``python -m atoll.economy.contracts.build [--check] [NAME …]``.

Writes ``atoll/economy/artifacts/NAME.json`` for each ``NAME.vy`` beside this file; a contract
whose sources did not change is not compiled again. ``--check`` compiles everything, writes
nothing, and exits with 1 if what is shipped differs. Needs the extra ``atoll[contracts]``.
"""

import argparse
import hashlib
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.economy.artifacts.load import FORMAT, Artifact, load

if TYPE_CHECKING:
    from vyper.compiler.phases import CompilerData

SOURCES = Path(__file__).parent
ARTIFACTS = SOURCES.parent / "artifacts"
COMPILER = "0.4.3"
# Cancun is what the reference chain and every embedded one can run; transient storage holds locks.
EVM_VERSION = "cancun"
OPTIMIZE = "gas"


def contract_names(sources: Path = SOURCES) -> tuple[str, ...]:
    """Names of the contracts in a folder of sources, sorted; folders in it are for imports."""
    return tuple(sorted(path.stem for path in sources.glob("*.vy")))


def _compiler_data(name: str, sources: Path) -> "CompilerData":
    try:
        import vyper
        from vyper.compiler.input_bundle import FilesystemInputBundle
        from vyper.compiler.phases import CompilerData
        from vyper.compiler.settings import OptimizationLevel, Settings
    except ImportError as error:
        raise AtollError(
            Kind.CONFIG,
            "contracts.build",
            "the contract compiler is not installed",
            hint="pip install 'atoll[contracts]'",
        ) from error
    if vyper.__version__ != COMPILER:
        raise AtollError(
            Kind.CONFIG,
            "contracts.build",
            f"the compiler is {vyper.__version__}, the contracts are built by {COMPILER}",
            hint="pip install 'atoll[contracts]'",
        )
    # The last path is searched first: our own modules come before installed ones.
    bundle = FilesystemInputBundle([*(Path(path) for path in _packages()), sources])
    file = bundle.load_file(Path(f"{name}.vy"))
    settings = Settings(evm_version=EVM_VERSION, optimize=OptimizationLevel.from_string(OPTIMIZE))
    return CompilerData(file, bundle, settings=settings)


def _packages() -> list[str]:
    found = [*site.getsitepackages(), site.getusersitepackages()]
    return [path for path in found if Path(path, "snekmate").is_dir()]


def _imported(data: "CompilerData", sources: Path) -> dict[str, str]:
    """SHA-256 of every file a contract is made of, by its path under its own root."""
    roots = [sources.resolve(), *(Path(path).resolve() for path in _packages())]
    # Interfaces built into the compiler are fixed by its version.
    inputs = [file for file in data.resolved_imports.compiler_inputs if not file.from_builtin]
    result = {}
    for file in (data.file_input, *inputs):
        path = Path(file.resolved_path).resolve()
        root = next(root for root in roots if path.is_relative_to(root))
        result[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return dict(sorted(result.items()))


def compile_contract(name: str, sources: Path = SOURCES) -> Artifact:
    """Compile ``name`` from a folder of sources.

    Raises:
        AtollError: ``CONFIG`` without the right compiler, ``BAD_REQUEST`` if the source is wrong.
    """
    data = _compiler_data(name, sources)
    from vyper.compiler import output
    from vyper.exceptions import VyperException

    try:
        abi = output.build_abi_output(data)
        return Artifact(
            name=name,
            abi=abi,
            bytecode=data.bytecode.hex(),
            runtime=data.bytecode_runtime.hex(),
            immutables_bytes=data.compilation_target._metadata["type"].immutable_section_bytes,
            compiler=f"vyper {COMPILER}",
            compiler_settings={"evm_version": EVM_VERSION, "optimize": OPTIMIZE},
            source_sha256=str(data.integrity_sum),
            sources=_imported(data, sources),
        )
    except VyperException as error:
        raise AtollError(
            Kind.BAD_REQUEST, "contracts.build", f"does not compile: {error}", about=name
        ) from error


def encode(artifact: Artifact) -> bytes:
    """The file of an artifact: JSON, one ABI entry per line, so that a change reads as one."""
    fields: dict[str, Any] = msgspec.to_builtins(artifact)
    lines = []
    for key, value in fields.items():
        if key == "abi":
            entries = ",\n".join("    " + msgspec.json.encode(item).decode() for item in value)
            lines.append(f'  "abi": [\n{entries}\n  ]')
        else:
            lines.append(f'  "{key}": {msgspec.json.encode(value).decode()}')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def is_unchanged(name: str, sources: Path = SOURCES, artifacts: Path = ARTIFACTS) -> bool:
    """Tell, without the slow half of the compiler, that the stored artifact is of these sources."""
    try:
        stored = load(name, artifacts)
    except AtollError:
        return False
    return stored.format == FORMAT and stored.source_sha256 == str(
        _compiler_data(name, sources).integrity_sum
    )


def build(name: str, sources: Path = SOURCES, artifacts: Path = ARTIFACTS) -> bool:
    """Compile a contract into a folder of artifacts; False if it was there already."""
    if is_unchanged(name, sources, artifacts):
        return False
    content = encode(compile_contract(name, sources))
    (artifacts / f"{name}.json").write_bytes(content)
    return True


def differs(name: str, sources: Path = SOURCES, artifacts: Path = ARTIFACTS) -> bool:
    """Compile a contract and tell whether the stored artifact is anything else."""
    path = artifacts / f"{name}.json"
    return not path.exists() or path.read_bytes() != encode(compile_contract(name, sources))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m atoll.economy.contracts.build")
    parser.add_argument(
        "--check", action="store_true", help="compile all and compare, write nothing"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="contracts (all if none is named)")
    options = parser.parse_args(arguments)
    wrong = 0
    try:
        for name in options.names or contract_names():
            if options.check:
                bad = differs(name)
                wrong += bad
                sys.stdout.write(f"{name}: {'DIFFERS' if bad else 'as shipped'}\n")
            else:
                sys.stdout.write(f"{name}: {'compiled' if build(name) else 'unchanged'}\n")
            sys.stdout.flush()
    except AtollError as error:
        sys.stderr.write(f"{error}\n")
        return error.meaning.exit_code
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
