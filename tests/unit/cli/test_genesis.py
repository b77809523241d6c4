"""``atoll genesis verify`` without a chain."""

import json
from pathlib import Path

from click.testing import CliRunner

from atoll.cli.genesis import genesis
from atoll.core.errors import AtollError
from atoll.economy import genesis as rules


def test_it_says_who_gets_what_and_when():
    result = CliRunner().invoke(genesis, ["verify"])
    assert result.exit_code == 0, result.output
    assert "1,000,000,000 ATOLL, all of it allocated" in result.output
    assert "not compared with a chain" in result.output
    assert rules.digest(rules.read()[0]) in result.output


def test_json_has_all_it_takes_to_deploy():
    result = CliRunner().invoke(genesis, ["verify", "--json"])
    facts = json.loads(result.output)
    assert facts["supply_wei"] == str(10**27)
    assert facts["chain_compared"] is False
    assert sum(int(one) for one in facts["arguments"]["Token.amounts"]) == 10**27
    assert facts["arguments"]["Token.holders"][0] == "@Vesting"
    free = [int(one) for one in facts["free_wei_by_date"].values()]
    assert free == sorted(free)
    assert free[-1] == 10**27


def test_another_file_that_does_not_add_up_is_refused(tmp_path: Path):
    _, raw = rules.read()
    path = tmp_path / "genesis.toml"
    path.write_bytes(raw.replace(b'supply = "1000000000"', b'supply = "1000000001"'))
    result = CliRunner().invoke(genesis, ["verify", "--file", str(path)])
    assert isinstance(result.exception, AtollError)
    assert "1,000,000,001" in str(result.exception)
