"""``atoll chain install``: the program of the embedded chain, by npm and by its package's name."""

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import click

from atoll.cli.chain.embedded import find_engine
from atoll.cli.options import json_option
from atoll.cli.output import emit, say
from atoll.core.errors import AtollError, Kind
from atoll.economy.chain.anvil import PROGRAM, VERSION, Package, install_folder, package_here

NPM_S = 600.0
ARCHIVE_BYTES_MAX = 200 << 20
PROGRAM_BYTES_MAX = 400 << 20
MEMBER = f"package/bin/{PROGRAM}"
_INTEGRITY = "sha512-"


@click.command()
@click.option("--if-missing", is_flag=True, help="Do nothing where a chain can run already.")
@click.option("--soft", is_flag=True, help="Only say it where it cannot be got.")
@json_option
def install(if_missing: bool, soft: bool, as_json: bool) -> None:
    """Get the program of the embedded chain (anvil) from npm, check it and put it in place.

    It takes 19 MB and needs npm; to run it takes neither npm nor Node.
    """
    if if_missing and find_engine().name == "anvil":
        if as_json:
            emit({"installed": False, "folder": str(install_folder())})
        return
    try:
        place = _install()
    except AtollError as error:
        if not soft:
            raise
        say(f"no embedded chain: {error.message}. Storing works without. Next: {error.hint}")
        return
    if as_json:
        emit({"installed": True, "program": str(place)})
    else:
        say(f"installed {place}")


def _install() -> Path:
    package = package_here()
    if package is None:
        raise AtollError(
            Kind.NOT_IMPLEMENTED,
            "install chain",
            "there is no anvil for this kind of machine",
            hint="pip install 'atoll[chain,pychain]' for a slower chain in Python",
        )
    npm = shutil.which("npm")
    if npm is None:
        raise AtollError(
            Kind.CONFIG,
            "install chain",
            "npm is not installed",
            hint="install it (Debian: apt install npm), then run `atoll chain install`",
        )
    say(f"getting {package.name} {VERSION} …")
    with tempfile.TemporaryDirectory(prefix="atoll-anvil-") as folder:
        archive = _pack(npm, package, Path(folder))
        check_integrity(archive, package.integrity)
        return _put(archive)


def _pack(npm: str, package: Package, folder: Path) -> bytes:
    """Let npm fetch a package's archive; it knows where from."""
    try:
        ran = subprocess.run(
            [npm, "pack", "--silent", "--ignore-scripts", f"{package.name}@{VERSION}"],
            cwd=folder,
            capture_output=True,
            timeout=NPM_S,
            check=False,
        )
    except subprocess.TimeoutExpired as cause:
        raise AtollError(Kind.TIMEOUT, "install chain", "npm did not end in time") from cause
    found = sorted(folder.glob("*.tgz"))
    if ran.returncode or len(found) != 1 or found[0].stat().st_size > ARCHIVE_BYTES_MAX:
        words = ran.stderr.decode(errors="replace").strip().splitlines()
        raise AtollError(
            Kind.UNREACHABLE,
            "install chain",
            f"npm could not get {package.name}: {(words or ['it said nothing'])[-1][:200]}",
            hint="see whether npm reaches its registry: npm ping",
        )
    return found[0].read_bytes()


def check_integrity(archive: bytes, integrity: str) -> None:
    """Raise ``CORRUPT`` unless an archive is the one we know (W3C Subresource Integrity)."""
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if integrity and integrity != _INTEGRITY + digest:
        raise AtollError(
            Kind.CORRUPT,
            "install chain",
            "the package is not the one that this version of Atoll knows",
            hint="do not use it; report where npm got it from",
        )


def _put(archive: bytes) -> Path:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
            member = packed.getmember(MEMBER)
            file = packed.extractfile(member)
            if file is None or member.size > PROGRAM_BYTES_MAX:
                raise KeyError(MEMBER)
            content = file.read(PROGRAM_BYTES_MAX)
    except (tarfile.TarError, KeyError, EOFError, OSError) as cause:
        raise AtollError(Kind.CORRUPT, "install chain", f"the package has no {MEMBER}") from cause
    folder = install_folder()
    folder.mkdir(parents=True, exist_ok=True)
    place, new = folder / PROGRAM, folder / f"{PROGRAM}.new"
    new.write_bytes(content)
    new.chmod(0o755)
    os.replace(new, place)
    return place
