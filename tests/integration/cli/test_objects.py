"""cp, ls, cat, rm, mb, rb, status against a real cloud, as separate processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.cli.conftest import Shell

from atoll.client import AsyncClient, Client, Options, Progress
from atoll.core.errors import AtollError, Kind


def lines(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def client(shell: Shell) -> Client:
    cloud = shell.cloud
    return Client(
        cloud.endpoint,
        cloud.access_key,
        cloud.secret,
        # One part at a time, so that it is known which parts are whole after a break.
        options=Options(part_bytes=5 << 20, parallel=1),
    )


def test_a_file_goes_up_and_comes_back(shell: Shell, bucket: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(os.urandom(12 << 20))
    settings = {"ATOLL_CLIENT_PART_BYTES": "5 MiB"}
    up = lines(shell.ok("cp", str(source), f"s3://{bucket}/deep/", "--json", **settings))
    assert up[0]["target"] == f"s3://{bucket}/deep/source.bin"
    assert up[-1] == {**up[-1], "event": "done", "files": 1, "bytes": 12 << 20, "failures": 0}
    shell.ok("cp", f"s3://{bucket}/deep/source.bin", str(target), **settings)
    assert target.read_bytes() == source.read_bytes()
    assert [p.name for p in tmp_path.iterdir() if "atoll-part" in p.name] == []
    assert (
        shell.ok("cat", f"s3://{bucket}/deep/source.bin", "--start", "7", "--end", "1007")
        == (source.read_bytes()[7:1007])
    )


def test_a_tree_goes_up_over_and_comes_back(shell: Shell, bucket: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    names = ["a.txt", "sub/b.txt", "sub/deeper/c d.txt", "sub/ümlaut+%2F.txt", "empty"]
    for number, name in enumerate(names):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(name.encode() * number * 100)
    shell.ok("cp", "-r", str(tree), f"s3://{bucket}/one")
    shell.ok("cp", "-r", f"s3://{bucket}/one", f"s3://{bucket}/two")
    shell.ok("cp", "-r", f"s3://{bucket}/two", str(tmp_path / "back"))
    back = {
        p.relative_to(tmp_path / "back").as_posix(): p.read_bytes()
        for p in (tmp_path / "back").rglob("*")
        if p.is_file()
    }
    assert back == {name: (tree / name).read_bytes() for name in names}
    listed = lines(shell.ok("ls", f"s3://{bucket}/", "--json"))
    assert listed == [{"prefix": "one/"}, {"prefix": "two/"}]
    assert len(lines(shell.ok("ls", "-r", f"s3://{bucket}", "--json"))) == 2 * len(names)
    would = lines(shell.ok("rm", "-r", "--dry-run", f"s3://{bucket}/one/", "--json"))
    assert len(would) == len(names)
    assert len(lines(shell.ok("ls", "-r", f"s3://{bucket}/one/", "--json"))) == len(names)
    shell.ok("rm", "-r", f"s3://{bucket}/")
    assert shell.ok("ls", "-r", f"s3://{bucket}/") == b""
    shell.ok("rb", f"s3://{bucket}")


def test_a_key_that_leads_out_of_the_target_is_refused(
    shell: Shell, bucket: str, client: Client, tmp_path: Path
) -> None:
    for key in ("in/fine", "in/../../escape", "in//double"):
        client.put_bytes(bucket, key, b"x")
    done = shell.run("cp", "-r", f"s3://{bucket}/in", str(tmp_path / "a" / "b"), "--json")
    assert done.returncode == 1
    found = {str(line.get("source")): line["event"] for line in lines(done.stdout)}
    assert found[f"s3://{bucket}/in/fine"] == "copied"
    assert found[f"s3://{bucket}/in/../../escape"] == "failed"
    assert not (tmp_path / "escape").exists()
    assert not (tmp_path / "a" / "escape").exists()


def test_standard_input_and_output(shell: Shell, bucket: str) -> None:
    body = os.urandom(9 << 20)  # more than one part of a stream
    shell.ok("cp", "-", f"s3://{bucket}/piped", stdin=body)
    assert shell.ok("cp", f"s3://{bucket}/piped", "-") == body


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("cp", "a", "b"), 64, "neither"),
        (("cp", "/nonexistent", "s3://{bucket}/"), 66, "no such file"),
        (("cp", "/", "s3://{bucket}/"), 64, "is a folder"),
        (("cat", "s3://{bucket}/none"), 66, "does not exist"),
        (("cat", "s3://{bucket}"), 64, "names no object"),
        (("ls", "s3://never-made-bucket"), 66, "does not exist"),
        (("mb", "s3://NOT_a_bucket"), 64, "not valid"),
        (("ls", "--data", "/nonexistent"), 69, "no cloud runs"),
        (("ls", "--endpoint", "http://127.0.0.1:1"), 78, "no key is known"),
        (("frobnicate",), 64, "No such command"),
    ],
)
def test_every_failure_is_one_line_and_a_hint(
    shell: Shell, bucket: str, words: tuple[str, ...], status: int, text: str
) -> None:
    done = shell.run(*(word.format(bucket=bucket) for word in words))
    told = done.stderr.decode().splitlines()
    assert done.returncode == status, told
    assert told[0].startswith("error: ")
    assert text in told[0]
    assert len(told) <= 2
    assert done.stdout == b""


def test_errors_are_json_where_json_is_asked_for(shell: Shell) -> None:
    done = shell.run("cat", "s3://never-made-bucket/x", "--json")
    assert json.loads(done.stderr)["error"]["kind"] in ("bucket_not_found", "object_not_found")


def test_a_wrong_secret_is_said(shell: Shell) -> None:
    done = shell.run(
        "ls",
        "--endpoint",
        shell.cloud.endpoint,
        AWS_ACCESS_KEY_ID=shell.cloud.access_key,
        AWS_SECRET_ACCESS_KEY="wrong",
    )
    assert done.returncode == 77
    assert b"check the secret key" in done.stderr


def test_status_tells_the_same_as_the_page(shell: Shell) -> None:
    text = shell.ok("status").decode()
    assert "One machine: no protection against its loss." in text
    assert "5 of 5" in text
    assert "\x1b[" not in text
    facts = lines(shell.ok("status", "--json"))[0]
    assert len(facts["nodes"]) == 5  # type: ignore[arg-type]
    assert len(facts["nodes"][0]["node_id"]) == 64  # type: ignore[index]


def test_an_upload_goes_on_where_it_broke_off(
    shell: Shell, bucket: str, client: Client, tmp_path: Path
) -> None:
    source = tmp_path / "big"
    source.write_bytes(os.urandom(48 << 20))
    words = [sys.executable, "-m", "atoll", "cp", str(source), f"s3://{bucket}/big"]
    environment = {
        **os.environ,
        "HOME": str(shell.home),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "ATOLL_DATA": str(shell.cloud.facts["data"]),
        "ATOLL_CLIENT_PART_BYTES": "5 MiB",
        "ATOLL_CLIENT_PARALLEL": "1",
    }
    child = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    s3 = shell.cloud.boto3_client()
    deadline = time.monotonic() + 60
    parts: list[object] = []
    while len(parts) < 3 and child.poll() is None and time.monotonic() < deadline:
        uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        if uploads:
            upload = uploads[0]["UploadId"]
            parts = s3.list_parts(Bucket=bucket, Key="big", UploadId=upload).get("Parts", [])
    child.send_signal(signal.SIGKILL)
    child.wait()
    if child.returncode == 0:
        pytest.skip("the upload was done before it could be broken off")
    os.environ["XDG_STATE_HOME"] = str(tmp_path / "state")
    try:
        seen: list[Progress] = []
        head = client.put_file(source, bucket, "big", progress=seen.append)
    finally:
        del os.environ["XDG_STATE_HOME"]
    assert head.size == 48 << 20
    assert seen[-1].resumed_bytes >= 15 << 20
    assert seen[-1].done_bytes == seen[-1].total_bytes == 48 << 20
    assert not s3.list_multipart_uploads(Bucket=bucket).get("Uploads")
    assert client.get_bytes(bucket, "big") == source.read_bytes()


def test_a_download_goes_on_and_refuses_a_changed_object(
    bucket: str, client: Client, tmp_path: Path
) -> None:
    body = os.urandom(16 << 20)
    target = tmp_path / "target"
    client.put_bytes(bucket, "object", body)

    class EnoughError(Exception):
        pass

    def stop_half_way(progress: Progress) -> None:
        if progress.done_bytes > 11 << 20:
            raise EnoughError

    with pytest.raises(EnoughError):
        client.get_file(bucket, "object", target, progress=stop_half_way)
    assert not target.exists()
    seen: list[Progress] = []
    client.get_file(bucket, "object", target, progress=seen.append)
    assert target.read_bytes() == body
    assert seen[-1].resumed_bytes >= 5 << 20

    target.unlink()
    with pytest.raises(EnoughError):
        client.get_file(bucket, "object", target, progress=stop_half_way)
    fresh = os.urandom(16 << 20)
    client.put_bytes(bucket, "object", fresh)
    client.get_file(bucket, "object", target)
    assert target.read_bytes() == fresh, "parts of the old object are not taken for the new one's"


async def test_the_async_client_does_the_same(shell: Shell, bucket: str) -> None:
    cloud = shell.cloud
    async with AsyncClient(cloud.endpoint, cloud.access_key, cloud.secret) as client:
        for number in range(3):
            await client.put_bytes(bucket, f"k{number}", b"x" * number, metadata={"Colour": "red"})
        head = await client.head(bucket, "k2")
        assert (head.size, dict(head.metadata)) == (2, {"colour": "red"})
        found = [getattr(e, "key", "") async for e in client.list(bucket, after="k0")]
        assert found == ["k1", "k2"]
        assert await client.delete_many(bucket, ["k0", "k1", "none"]) == []
        with pytest.raises(AtollError) as absent:
            await client.get_bytes(bucket, "k0")
        assert absent.value.kind is Kind.OBJECT_NOT_FOUND
        assert bucket in [b.name for b in await client.list_buckets()]
        assert client.presign("GET", bucket, "k2").startswith(cloud.endpoint)


def test_a_presigned_url_opens_for_anybody(shell: Shell, bucket: str, client: Client) -> None:
    import urllib.request

    client.put_bytes(bucket, "a key/with ümlaut & more", b"for all")
    url = client.presign("GET", bucket, "a key/with ümlaut & more", expires_s=60)
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == b"for all"


def test_prices_are_shown_and_a_provider_sees_what_a_price_would_bring(shell: Shell) -> None:
    prices = json.loads(shell.ok("price", "--json"))
    home = next(one for one in prices["classes"] if one["tier"] == "home")
    assert home["nodes"] >= 1
    assert home["customer_pico"] < home["customer_max_pico"]
    assert b"you pay" in shell.ok("price")
    asked = ("--tier", "home", "--capacity", "4TB", "--json")
    dear = json.loads(shell.ok("price", "--ask", "1.30", *asked))
    cheap = json.loads(shell.ok("price", "--ask", "0.65", *asked))
    assert cheap["share_bps"] > dear["share_bps"]
    assert abs(2 * cheap["income_full_micro"] - dear["income_full_micro"]) <= 1
    node = Path(str(shell.cloud.facts["data"])) / "nodes" / "1"
    own = json.loads(shell.ok("price", "--node", str(node), "--ask", "1.00", "--json"))
    assert own["capacity_bytes"] > 0
    assert own["price_pico"] == 10**9
    assert b"income expected" in shell.ok("price", "--node", str(node))
    wrong = shell.run("price", "--ask", "cheap")
    assert wrong.returncode != 0
    assert b"is no amount of euros" in wrong.stderr
