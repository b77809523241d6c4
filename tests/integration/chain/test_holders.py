"""Holders' commands on a real chain: stake, delegate, unbond, claim, and what can be lost."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.fixtures.chain import LocalChain, open_chain, open_database, start_anvil

from atoll.cli.main import root
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ports import Chain
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.chain.anvil import fund
from atoll.economy.chain.book import write_book
from atoll.economy.chain.holding import HolderBook
from atoll.economy.chain.link import ChainLink, LinkConfig
from atoll.economy.chain.model import EMBEDDED_CHAIN_ID, Intent, IntentState
from atoll.economy.chain.registry import Entry, describe, description_hash
from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer
from atoll.economy.settlement.slashes import LossStated, entry_key, loss_statement
from atoll.economy.settlement.statement import Court, split_signature, statement_digest
from atoll.runtime.clock import SystemClock

SEED = b"holders' tests: a seed of a cloud"[:32]
DIVISOR = 3_600
"""Unbonding takes 336 s of the chain's time."""
UNBONDING_S = 336
ATOLL = 10**18
NODE = Identity(b"n" * 32)
OWNER = Signer.derived(b"o" * 32, "payout")
HOLDER = Signer.derived(SEED, "holder")
VERIFIER = Signer.derived(b"v" * 32, "verifier")


class Stage:
    """A chain with all contracts, a node in the registry, and files of keys."""

    def __init__(self, folder: Path, server: LocalChain) -> None:
        self.folder = folder
        self.server = server
        self.book = folder / "contracts.json"

    def run(self, work: Callable[[ChainLink], Awaitable[Any]]) -> Any:
        async def inside() -> Any:
            database = open_database(self.folder)
            values = {"SlashCourt.keys": [VERIFIER.address], "SlashCourt.nodes": [b"v" * 32]}
            link = ChainLink(
                SystemClock(),
                database,
                SEED,
                LinkConfig(time_divisor=DIVISOR, values=values),
                self._open,
            )
            try:
                return await work(link)
            finally:
                await link.close()
                await database.close()

        return asyncio.run(inside())

    async def _open(self) -> Chain:
        return await open_chain(self.server.url)

    def key_file(self, name: str, signer: Signer) -> Path:
        path = self.folder / f"{name}.key"
        path.touch(mode=0o600)
        path.write_text(signer._secret.hex())
        return path

    def atoll(self, *arguments: str, key: str = "holder") -> Result:
        """Run a command as the holder of a key."""
        where = ["--chain", self.server.url, "--contracts", str(self.book)]
        who = ["--key", str(self.folder / f"{key}.key"), "--data", str(self.folder / "none")]
        return CliRunner().invoke(root, [*arguments, *where, *who], standalone_mode=False)

    def facts(self, *arguments: str, key: str = "holder") -> dict[str, Any]:
        result = self.atoll(*arguments, "--json", "--yes", key=key)
        if result.exception is not None:
            raise result.exception
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def refused(self, *arguments: str, key: str = "holder") -> AtollError:
        result = self.atoll(*arguments, "--json", "--yes", key=key)
        assert isinstance(result.exception, AtollError), result.output
        return result.exception

    def pass_time(self, seconds: int) -> None:
        async def pass_it() -> None:
            chain = await open_chain(self.server.url)
            await chain.ask("evm_increaseTime", seconds)
            await chain.ask("evm_mine")
            await chain.close()

        asyncio.run(pass_it())

    def send(self, contract: str, function: str, *values: Any) -> None:
        """Send a call as the operator and wait until it stands."""

        async def work(link: ChainLink) -> None:
            chain = await link.chain()
            await fund(chain, link.operator.address)
            address = (await link.contracts())[contract].address
            call = abi.call_data(load(contract), function, *values)
            key = f"{function}/{call.hex()[-40:]}"
            await link.outbox.submit(Intent(key, link.operator.address, address, call))
            for _ in range(100):
                await link.outbox.step(chain)
                status = await link.outbox.status(key)
                if status is not None and status.state is IntentState.FINAL:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError(status)

        self.run(work)


def enter(stage: Stage) -> None:
    """Enter the node as its coordinator does: the owner signs, somebody else sends."""

    async def terms(link: ChainLink) -> tuple[bytes, int]:
        registry = (await link.contracts())["NodeRegistry"].address
        chain = await link.chain()
        assert isinstance(chain, RpcChain)
        head = await chain.block()
        assert head is not None
        return registry, head.time_s + 3_600

    registry, deadline_s = stage.run(terms)
    description = describe(NODE, OWNER.address, EMBEDDED_CHAIN_ID, registry)
    hash_ = description_hash(description)
    entry = Entry(
        EMBEDDED_CHAIN_ID,
        registry,
        NODE.node_id,
        OWNER.address,
        OWNER.address,
        hash_,
        0,
        deadline_s,
    )
    v, r, s = split_signature(OWNER.sign_digest(entry.digest()))
    stage.send(
        "NodeRegistry",
        "register_for",
        NODE.node_id,
        OWNER.address,
        OWNER.address,
        hash_,
        deadline_s,
        v,
        r,
        s,
    )


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    server = start_anvil(tmp_path)
    try:
        made = Stage(tmp_path, server)

        async def deploy(link: ChainLink) -> None:
            await link.deploy(lambda _: None)
            made.book.write_bytes(write_book(EMBEDDED_CHAIN_ID, await link.contracts()))

        made.run(deploy)
        enter(made)
        made.key_file("holder", HOLDER)
        made.key_file("owner", OWNER)
        yield made
    finally:
        server.kill()


def test_stake_delegate_unbond_claim(stage: Stage) -> None:
    node = f"n-{NODE.node_id.hex()[:10]}"
    staked = stage.facts("stake", node, "100")
    assert [one["does"] for one in staked["transactions"]] == [
        "let the bond take 100 ATOLL",
        "stake 100 ATOLL",
    ]
    assert staked["after"]["own_wei"] == str(100 * ATOLL)
    assert staked["can_be_lost"] == {
        "by_one_verdict_wei": str(50 * ATOLL),
        "at_most_wei": str(100 * ATOLL),
        "liable_s": [UNBONDING_S, UNBONDING_S * 3 // 2],
    }
    delegated = stage.facts("delegate", NODE.node_id.hex(), "40.5")
    assert delegated["after"]["mine"]["worth_wei"] == str(81 * ATOLL // 2)
    assert delegated["can_be_lost"]["by_one_verdict_wei"] == "0", "the own tranche is enough"
    assert delegated["can_be_lost"]["at_most_wei"] == str(81 * ATOLL // 2)
    left = stage.facts("unbond", node, "10")
    (leaving,) = left["after"]["mine"]["leaving"]
    assert leaving["amount_wei"] == str(10 * ATOLL)
    assert not leaving["ready"]
    assert stage.facts("claim", node)["transactions"] == [], "it is liable still"
    stage.pass_time(UNBONDING_S * 3 // 2)
    claimed = stage.facts("claim", node)
    assert claimed["ready_wei"] == str(10 * ATOLL)
    assert claimed["after"]["mine"]["leaving"] == []
    rest = stage.facts("unbond", node, "all")
    assert rest["amount_wei"] == str(61 * ATOLL // 2)
    assert rest["after"]["mine"]["shares"] == "0"


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(stage: Stage) -> None:
    node = NODE.node_id.hex()
    told = stage.facts("stake", node, "7", "--dry-run")
    assert told["dry_run"]
    assert [one["does"] for one in told["transactions"]] == [
        "let the bond take 7 ATOLL",
        "stake 7 ATOLL",
    ]
    assert told["transactions"][0]["gas"] > 21_000
    words = stage.atoll("stake", node, "7", "--dry-run")
    assert "would send: let the bond take 7 ATOLL" in words.stdout
    assert "3.5 ATOLL by one verdict" in words.stderr
    assert told["before"]["own_wei"] == "0"
    assert stage.facts("claim", node)["before"]["own_wei"] == "0"


def test_what_is_refused_says_what_to_do(stage: Stage) -> None:
    node = NODE.node_id.hex()
    alone = stage.atoll("stake", node, "1", "--json")
    assert isinstance(alone.exception, AtollError)
    assert "--yes" in alone.exception.hint
    assert "room for 0 ATOLL" in stage.refused("delegate", node, "1").message
    assert stage.refused("stake", "n-000000", "1").kind is Kind.NOT_FOUND
    assert stage.refused("stake", "0x" + "00" * 32, "1").kind is Kind.NOT_FOUND
    assert stage.refused("stake", "../x", "1").kind is Kind.BAD_REQUEST
    assert stage.refused("stake", node, "1e-19").kind is Kind.BAD_REQUEST
    assert stage.refused("stake", node, "0").kind is Kind.BAD_REQUEST
    assert "has 0 ATOLL" in stage.refused("stake", node, "1", key="owner").message
    assert "0 ATOLL of this account" in stage.refused("unbond", node, "1").message
    assert stage.refused("unbond", node, "--own").kind is Kind.FORBIDDEN
    (stage.folder / "holder.key").chmod(0o644)
    assert "others can read" in stage.refused("claim", node).message


def test_who_retired_is_staked_for_no_more(stage: Stage) -> None:
    stage.facts("stake", NODE.node_id.hex(), "5")
    key = "0x" + entry_key(NODE.node_id, OWNER.address).hex()

    async def retire(link: ChainLink) -> None:
        chain = await link.chain()
        await fund(chain, OWNER.address)
        contracts = await link.contracts()
        book = HolderBook(chain, contracts)
        entry = await book.entry(key)
        assert entry.is_active
        assert entry.owner == OWNER.address
        from atoll.economy.chain.signer import Unsigned

        to, call = book.call("NodeRegistry", "retire", entry.key)
        fees = await chain.fees()
        limit = 3 * fees.base_wei + fees.tip_wei
        raw = OWNER.sign(Unsigned(EMBEDDED_CHAIN_ID, 0, to, call, 0, 200_000, limit, 0))
        await chain.send_raw(raw.raw)
        for _ in range(100):
            if await chain.receipt(raw.hash) is not None:
                break
            await asyncio.sleep(0.02)
        assert not (await book.entry(key)).is_active

    stage.run(retire)
    assert "no such node" in stage.refused("stake", key, "5").message
    left = stage.facts("unbond", key, "all", "--own", key="owner")
    assert left["after"]["mine"]["leaving"][0]["generation"] == -1


def test_a_verdict_of_the_verifiers_takes_half_of_what_answers(stage: Stage) -> None:
    node = NODE.node_id.hex()
    stage.facts("stake", node, "100")
    stage.facts("delegate", node, "60")
    stated = LossStated(NODE.node_id, OWNER.address, b"e" * 32, 7, b"", VERIFIER.address)

    async def court_of(link: ChainLink) -> Court:
        found = await link.contracts()
        return Court(
            EMBEDDED_CHAIN_ID, found["SlashCourt"].address, found["EpochDistributor"].address
        )

    digest = statement_digest(stage.run(court_of), loss_statement(stated))
    signature = split_signature(VERIFIER.sign_digest(digest))
    stage.send("SlashCourt", "carry_out", stated.values(), [signature])
    after = stage.facts("claim", node)["before"]
    assert after["own_wei"] == str(20 * ATOLL), "half of 160, from the own tranche"
    assert after["delegated_wei"] == str(60 * ATOLL)
    left = stage.facts("unbond", node, "all")
    assert left["amount_wei"] == str(60 * ATOLL)


def test_a_killed_command_is_finished_by_the_next_one(stage: Stage) -> None:
    """What was signed and never sent is sent before anything new."""
    from atoll.cli.holder import common
    from atoll.economy.chain.outbox import Outbox

    async def leave_one() -> None:
        chain = await open_chain(stage.server.url)
        await fund(chain, HOLDER.address)
        from atoll.economy.chain.book import read_book

        book = HolderBook(chain, read_book(stage.book.read_bytes(), EMBEDDED_CHAIN_ID))
        to, data = book.call("Token", "approve", book.address_of("Bond"), 3 * ATOLL)
        database = common.open_database(HOLDER.address, book.address_of("Bond"))
        from atoll.economy.chain.model import EMBEDDED

        outbox = Outbox(SystemClock(), database, EMBEDDED_CHAIN_ID, [HOLDER], EMBEDDED)
        await outbox.submit(Intent("approve/left", HOLDER.address, to, data))
        await chain.close()
        await database.close()

    asyncio.run(leave_one())
    staked = stage.facts("stake", NODE.node_id.hex(), "2")
    assert staked["after"]["own_wei"] == str(2 * ATOLL)
    again = stage.facts("stake", NODE.node_id.hex(), "1")
    assert again["after"]["own_wei"] == str(3 * ATOLL)
