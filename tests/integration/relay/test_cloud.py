"""A whole cloud on one machine, some of whose nodes are reached through relays."""

import os
from pathlib import Path

import pytest

from atoll.cli.local_cloud import LocalCloud
from atoll.cli.status import fetch_status


@pytest.mark.xdist_group("heavy")
def test_a_cloud_with_nodes_behind_relays() -> None:
    settings = {"ATOLL_CLOUD_RELAYED_NODES": "2"}
    flags = ("--ephemeral", "--nodes", "6", "--port", "0")
    with LocalCloud(*flags, environment=settings) as cloud:
        s3 = cloud.boto3_client()
        s3.create_bucket(Bucket="attic")
        bodies = {f"k{number}": os.urandom(60_000 * number) for number in range(1, 9)}
        for key, body in bodies.items():
            s3.put_object(Bucket="attic", Key=key, Body=body)
        for key, body in bodies.items():
            assert s3.get_object(Bucket="attic", Key=key)["Body"].read() == body
        nodes = fetch_status(Path(str(cloud.facts["data"]))).nodes
        hidden = [node for node in nodes if "//127.1." in node.address]
        assert len(hidden) == 2
        assert all(node.state == "alive" for node in nodes)
