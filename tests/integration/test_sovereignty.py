"""Policies with real processes: a node says it is elsewhere, its pieces move, the list verifies."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from atoll.cli.local_cloud import LocalCloud
from atoll.cli.places import COORDINATOR_SEED, GATEWAY_SEED
from atoll.cli.wire import identity_of
from atoll.runtime.config import FILE_NAME

OBJECTS = 12
WAIT_S_MAX = 60
HOME = "country in DE, FR, SE, IT, SG; gateway: country in EU"
pytestmark = pytest.mark.xdist_group("heavy")


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    environment = {"ATOLL_GATEWAY_COUNTRY": "DE", "ATOLL_COORDINATOR_COUNTRY": "DE"}
    with LocalCloud("--ephemeral", "--nodes", "12", "--port", "0", environment=environment) as up:
        yield up


def folder(cloud: LocalCloud) -> Path:
    return Path(str(cloud.facts["data"]))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "atoll", *words], capture_output=True, text=True, check=False
    )


def atoll(cloud: LocalCloud, *words: str, status: int = 0) -> Any:
    """Run a command against the cloud; return its JSON."""
    done = run(*words, "--data", str(folder(cloud)), "--json")
    assert done.returncode == status, (done.stdout, done.stderr)
    return json.loads(done.stdout if done.stdout else done.stderr)


def attested(cloud: LocalCloud, bucket: str, out: Path) -> dict[str, Any]:
    atoll(cloud, "residency", "attest", f"s3://{bucket}", "--out", str(out))
    done = run("residency", "verify", str(out), "--data", str(folder(cloud)), "--json")
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def holders(cloud: LocalCloud, place: str) -> dict[str, list[dict[str, Any]]]:
    """By operator: the pieces of an object."""
    explained = atoll(cloud, "object", "explain", place)
    found: dict[str, list[dict[str, Any]]] = {}
    for segment in explained["segments"]:
        for piece in segment["places"]:
            found.setdefault(piece["operator"], []).append(piece)
    return found


def restart_elsewhere(cloud: LocalCloud, number: int, country: str) -> None:
    """Correct what a node says about itself, as its provider would, and let it start again."""
    settings = folder(cloud) / "nodes" / str(number) / FILE_NAME
    lines = settings.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("country")]
    settings.write_text("\n".join([*kept, f'country = "{country}"']) + "\n")
    word = f"nodes/{number}"
    (process,) = [p for p in cloud.processes("node") if p.cmdline()[-1].endswith(word)]
    process.kill()


def test_a_changed_claim_moves_the_pieces_and_the_list_verifies(
    cloud: LocalCloud, tmp_path: Path
) -> None:
    s3 = cloud.boto3_client()
    s3.create_bucket(Bucket="reef")
    atoll(cloud, "policy", "set", "s3://reef", HOME)
    bodies = {f"{i}.bin": os.urandom(60_000 + 40_000 * i) for i in range(OBJECTS)}
    bodies["tiny"] = b"tiny"
    for key, body in bodies.items():
        s3.put_object(Bucket="reef", Key=key, Body=body)
    before = attested(cloud, "reef", tmp_path / "before")
    assert (before["verdict"], before["witnessed"]) == ("within", True)
    assert before["sums"]["objects"] == OBJECTS + 1
    assert before["sums"]["declared"] == before["sums"]["pieces"] > OBJECTS * 6
    held = holders(cloud, "s3://reef/3.bin")
    assert not {"operator-5", "operator-11"} & held.keys()
    number = min(int(name.removeprefix("operator-")) for name in held)
    restart_elsewhere(cloud, number, "US")
    name = f"operator-{number}"
    deadline = time.monotonic() + WAIT_S_MAX
    while any(name in holders(cloud, f"s3://reef/{key}") for key in bodies):
        assert time.monotonic() < deadline, f"{name} still holds pieces after {WAIT_S_MAX} s"
        time.sleep(0.5)
    after = attested(cloud, "reef", tmp_path / "after")
    assert (after["verdict"], after["sums"]["outside"]) == ("within", 0)
    assert after["sums"]["segments"] == before["sums"]["segments"]
    for key, body in bodies.items():
        assert s3.get_object(Bucket="reef", Key=key)["Body"].read() == body


def test_the_list_verifies_elsewhere_with_keys_alone_and_not_when_altered(
    cloud: LocalCloud, tmp_path: Path
) -> None:
    file = tmp_path / "list"
    s3 = cloud.boto3_client()
    s3.create_bucket(Bucket="lagoon")
    atoll(cloud, "policy", "set", "s3://lagoon", HOME)
    s3.put_object(Bucket="lagoon", Key="a", Body=os.urandom(100_000))
    attested(cloud, "lagoon", file)
    key = identity_of(folder(cloud), COORDINATOR_SEED).public_key.hex()
    gateway = identity_of(folder(cloud), GATEWAY_SEED).public_key.hex()
    trusting = ("--trust", key, "--trust-gateway", gateway, "--json")
    done = run("residency", "verify", str(file), *trusting)
    assert json.loads(done.stdout)["witnessed"] is True
    assert run("residency", "verify", str(file), "--trust", gateway).returncode == 77
    raw = file.read_bytes()
    place = raw.index(b'"line":"segment"') + 100
    file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    altered = run("residency", "verify", str(file), *trusting)
    assert altered.returncode == 65
    line = raw[:place].count(b"\n") + 1
    assert json.loads(altered.stderr)["error"]["message"].startswith(f"line {line} (byte ")


def test_a_policy_that_excludes_this_gateway_or_all_nodes_is_refused(cloud: LocalCloud) -> None:
    s3 = cloud.boto3_client()
    s3.create_bucket(Bucket="far")
    refused = atoll(cloud, "policy", "set", "s3://far", "gateway: country in US", status=65)
    assert "country is DE" in refused["error"]["message"]
    refused = atoll(cloud, "policy", "set", "s3://far", 'certificate "ISO27001"', status=65)
    assert "keeps out 12" in refused["error"]["message"]
    atoll(cloud, "policy", "set", "s3://far", "gateway: country in US", "--force")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="far", Key="a", Body=b"a")
    assert caught.value.response["Error"]["Code"] == "AccessDenied"
    atoll(cloud, "policy", "set", "s3://far", 'certificate "ISO27001"', "--force")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="far", Key="a", Body=b"a")
    assert caught.value.response["Error"]["Code"] == "ServiceUnavailable"
    atoll(cloud, "policy", "set", "s3://far", "--clear")
    s3.put_object(Bucket="far", Key="a", Body=b"a")


def test_certificates_are_issued_trusted_carried_and_taken_back(
    cloud: LocalCloud, tmp_path: Path
) -> None:
    issuer, data = str(tmp_path / "issuer"), str(folder(cloud))
    node = folder(cloud) / "nodes" / "2"
    file = tmp_path / "node-2.cert"
    issue = run(
        "cert", "issue", str(node), "--say", "ISO27001", "--say", "country:FR", "--out", str(file),
        "--data", issuer, "--json",
    )  # fmt: skip
    made = json.loads(issue.stdout)
    trust = run(
        "cert", "trust", made["issuer"], "--name", "Inspector", "--for", "country:*", "--for",
        "ISO27001", "--data", data,
    )  # fmt: skip
    assert trust.returncode == 0, trust.stderr
    assert run("cert", "install", str(file), "--data", str(node)).returncode == 0
    restart_elsewhere(cloud, 2, "FR")

    def admitted(text: str) -> int:
        done = run("policy", "check", text, "--data", data, "--json")
        return int(json.loads(done.stdout)["nodes_admitted"])

    deadline = time.monotonic() + WAIT_S_MAX
    while admitted('certificate "ISO27001" and evidence >= certificate') != 1:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert run("cert", "revoke", made["certificate"], "--data", issuer).returncode == 0
    published = atoll(cloud, "cert", "publish", str(tmp_path / "issuer" / "revocations.atoll"))
    assert published == {"sequence": 1, "revoked": 1}
    assert admitted('certificate "ISO27001"') == 0
