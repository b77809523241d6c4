"""What holders' commands share: who acts, on which chain, and how it is sent and told."""

import hashlib
import os
import re
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit, paint, say
from atoll.core.errors import AtollError, Kind
from atoll.core.money import MICRO_PER_EUR

if TYPE_CHECKING:
    from atoll.core.ports import Chain
    from atoll.economy.chain.holding import Entry, HolderBook, Holding, Risk
    from atoll.economy.chain.model import ChainProfile, IntentStatus
    from atoll.economy.chain.signer import Signer
    from atoll.runtime.database import SqlDatabase

DECIMALS: Final = 18
KEY_BYTES_MAX: Final = 200
HOLDER: Final = "holder"
"""Role of the account that an embedded chain's genesis gives free tokens."""
WAIT_S: Final = 0.3
STEPS_MAX: Final = 4_000
"""Some twenty minutes: then the command ends, and the next one goes on."""
DAY_S: Final = 86_400
_DATABASES: Final = "holders"
_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")
Function = TypeVar("Function", bound=Callable[..., Any])


def holder_options(function: Function) -> Function:
    """Add the options that all commands of holders have."""
    for add in (
        json_option,
        click.option("--yes", is_flag=True, help="Do not ask whether the risk is understood."),
        click.option(
            "--dry-run", is_flag=True, help="Say what it would do and cost; send nothing."
        ),
        click.option("--owner", metavar="0x…", help="The node's owner, where an id is not enough."),
        click.option(
            "--contracts",
            "contracts_file",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Address book. Default: the cloud's own.",
        ),
        click.option("--chain", "chain_url", metavar="URL", help="Default: the cloud's chain."),
        click.option(
            "--key",
            "key_file",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="The account's key: 64 hexadecimal digits in a file that only you can read.",
        ),
        click.option(
            "--node-folder",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="Act as the owner of the node in this folder.",
        ),
        config_option,
        data_option("Folder of the cloud or coordinator. Default: that of `atoll up`."),
    ):
        function = add(function)
    return function


@dataclass(frozen=True, slots=True)
class Choices:
    """The options, as given."""

    data: Path | None
    config_file: Path | None
    node_folder: Path | None
    key_file: Path | None
    chain_url: str | None
    contracts_file: Path | None
    owner: str | None
    dry_run: bool
    yes: bool
    as_json: bool


def choices_of(given: dict[str, Any]) -> Choices:
    """Return what click found."""
    return Choices(**given)


@dataclass(frozen=True, slots=True)
class Act:
    """One transaction that a command wants."""

    does: str
    """In words."""
    to: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Holder:
    """Who acts, and where."""

    choices: Choices
    signer: "Signer"
    chain: "Chain"
    chain_id: int
    profile: "ChainProfile"
    book: "HolderBook"
    database: "SqlDatabase"

    async def entry(self, node: str) -> "Entry":
        """Find a node; ``.`` is the one of ``--node-folder``. Raises as ``HolderBook.entry``."""
        from atoll.economy.chain.signer import parse_address

        owner = parse_address(self.choices.owner) if self.choices.owner else b""
        if node == ".":
            if self.choices.node_folder is None:
                raise AtollError(
                    Kind.BAD_REQUEST, "find node", "`.` is the node of --node-folder: name one"
                )
            from atoll.cli.places import NODE_SEED
            from atoll.cli.wire import identity_of

            identity = identity_of(self.choices.node_folder, NODE_SEED)
            node, owner = identity.node_id.hex(), owner or self.signer.address
        return await self.book.entry(node, owner)

    async def gas_of(self, act: Act) -> int:
        """Return what a transaction would need now.

        Raises ``PRECONDITION_FAILED`` with the contract's reason where it would be refused.
        """
        from atoll.core.ports import ChainCall

        return await self.chain.estimate_gas(ChainCall(act.to, act.data, self.signer.address))

    async def send(self, acts: Sequence[Act]) -> list["IntentStatus"]:
        """Send transactions, one after the other; wait until each stands under enough blocks.

        What an earlier command left unfinished is finished first. Raises
        ``PRECONDITION_FAILED`` with the contract's reason, ``TIMEOUT``.
        """
        import asyncio

        from atoll.economy.chain.anvil import fund
        from atoll.economy.chain.model import ENDED, Intent, IntentState
        from atoll.economy.chain.outbox import Outbox
        from atoll.runtime.clock import SystemClock

        await fund(self.chain, self.signer.address)
        outbox = Outbox(SystemClock(), self.database, self.chain_id, [self.signer], self.profile)
        for _ in range(STEPS_MAX):
            await outbox.step(self.chain)
            if not (await outbox.state()).pending:
                break
            say("an earlier transaction of this account is still on its way")
            await asyncio.sleep(WAIT_S)
        done: list[IntentStatus] = []
        for act in acts:
            await self.gas_of(act)  # what would be refused is not kept, nor tried again and again
            key = f"{act.does[:60]}/{os.urandom(8).hex()}"
            await outbox.submit(Intent(key, self.signer.address, act.to, act.data))
            for _ in range(STEPS_MAX):
                await outbox.step(self.chain)
                status = await outbox.status(key)
                if status is not None and status.state in ENDED:
                    break
                await asyncio.sleep(WAIT_S)
            else:
                raise AtollError(
                    Kind.TIMEOUT,
                    act.does,
                    "the transaction is still under too few blocks",
                    hint="it is kept: the next command of this account goes on with it",
                )
            if status.state is not IntentState.FINAL:
                raise AtollError(Kind.PRECONDITION_FAILED, act.does, status.problem or "refused")
            say(f"{act.does}: 0x{status.transaction.hex()}")
            done.append(status)
        return done


@asynccontextmanager
async def open_holder(choices: Choices) -> AsyncGenerator[Holder, None]:
    """Open chain, contracts and key. Raises ``CONFIG``, ``UNREACHABLE`` and what these raise."""
    from atoll.cli.settling import link_config
    from atoll.economy.chain.holding import BOND, HolderBook
    from atoll.economy.chain.outbox import check_chain
    from atoll.economy.chain.rpc import RpcChain
    from atoll.runtime.compute import ThreadCompute

    folder, config = _settings(choices)
    settings = config.chain
    link = link_config(settings)
    async with AsyncExitStack() as stack:
        compute = ThreadCompute(1)
        stack.callback(compute.close)
        chain = await RpcChain.open(_url(choices, folder, config), compute)
        stack.push_async_callback(chain.close)
        await check_chain(chain, settings.id)
        signer = _signer(choices, folder, embedded=link.embedded)
        book = HolderBook(chain, _contracts(choices, folder, settings.id))
        database = open_database(signer.address, book.address_of(BOND))
        stack.push_async_callback(database.close)
        yield Holder(choices, signer, chain, settings.id, link.profile, book, database)


def _settings(choices: Choices) -> tuple[Path, Any]:
    from atoll.cli.places import cloud_folder
    from atoll.runtime.config import load_here

    folder = cloud_folder(choices.data)
    return folder, load_here(folder, choices.config_file, {}).config


def _url(choices: Choices, folder: Path, config: Any) -> str:
    from atoll.cli.places import read_running
    from atoll.cli.settling import chain_url

    running = read_running(folder)
    url = choices.chain_url or chain_url(folder, config.chain)
    if not url and running is not None:
        url = running.chain
    if not url:
        raise AtollError(
            Kind.CONFIG,
            "open chain",
            f"no chain is known for {folder}",
            hint="start a cloud with `atoll up`, or give --chain URL and --contracts FILE",
        )
    return str(url)


def _contracts(choices: Choices, folder: Path, chain_id: int) -> Any:
    from atoll.cli.settling import book_name
    from atoll.economy.chain.book import read_book

    path = choices.contracts_file or folder / book_name(chain_id)
    try:
        return read_book(path.read_bytes(), chain_id)
    except OSError as cause:
        raise AtollError(
            Kind.CONFIG,
            "read address book",
            f"{path} cannot be read: {cause}",
            hint="give it with --contracts; a coordinator keeps it as contracts-CHAIN.json",
        ) from cause


def _signer(choices: Choices, folder: Path, *, embedded: bool) -> "Signer":
    from atoll.cli.places import COORDINATOR_SEED, NODE_SEED
    from atoll.cli.settling import PAYOUT, chain_seed
    from atoll.cli.wire import identity_of
    from atoll.economy.chain.signer import Signer

    if choices.key_file is not None:
        return _key_of(choices.key_file)
    if choices.node_folder is not None:
        return Signer.derived(chain_seed(identity_of(choices.node_folder, NODE_SEED)), PAYOUT)
    if embedded and (folder / "secrets" / COORDINATOR_SEED).exists():
        return Signer.derived(chain_seed(identity_of(folder, COORDINATOR_SEED)), HOLDER)
    raise AtollError(
        Kind.CONFIG,
        "open key of the chain",
        "it is not said whose tokens these are",
        hint="give --key FILE or --node-folder DIR; on an embedded chain --data DIR acts for its "
        "first holder",
    )


def _key_of(path: Path) -> "Signer":
    from atoll.economy.chain.signer import Signer

    try:
        mode = path.stat().st_mode
        text = path.read_bytes()[: KEY_BYTES_MAX + 1].decode().strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise AtollError(Kind.CONFIG, "read key", f"{path} cannot be read: {cause}") from cause
    if mode & 0o077:
        raise AtollError(
            Kind.CONFIG, "read key", f"others can read {path}", hint=f"chmod 600 {path}"
        )
    if not _KEY.fullmatch(text):
        raise AtollError(
            Kind.CONFIG, "read key", f"{path} holds no key", hint="64 hexadecimal digits, no more"
        )
    return Signer(bytes.fromhex(text.removeprefix("0x")))


def open_database(account: bytes, bond: bytes) -> "SqlDatabase":
    """Open what an account's transactions are kept in, so that none is sent twice.

    One for each bond: local chains all have one number, and what was meant for one is sent to no
    other.
    """
    from sqlalchemy import create_engine

    from atoll.economy.chain import tables
    from atoll.runtime.database import SqlDatabase
    from atoll.runtime.folder import default_folder

    folder = default_folder(_DATABASES)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    url = f"sqlite:///{folder / hashlib.sha256(account + bond).hexdigest()[:16]}.db"
    engine = create_engine(url)
    try:
        tables.CHAIN_LINK.metadata.create_all(engine)
    finally:
        engine.dispose()
    return SqlDatabase(url)


# --- words ----------------------------------------------------------------------------------------


def wei_of(text: str) -> int:
    """Read an amount of ATOLL, exact to 1e-18. Raises ``BAD_REQUEST``."""
    from atoll.economy.genesis import wei

    return wei(text, "amount")


def show_wei(amount_wei: int) -> str:
    """Write an amount exactly."""
    exact = Decimal(amount_wei).scaleb(-DECIMALS)
    return f"{exact.normalize():f} ATOLL" if amount_wei else "0 ATOLL"


def show_micro(amount_micro: int) -> str:
    """Write an amount of euro."""
    return f"{amount_micro // MICRO_PER_EUR}.{amount_micro % MICRO_PER_EUR:06d} EUR"


def show_s(seconds: int) -> str:
    """Write a length of time."""
    if seconds >= DAY_S:
        return f"{seconds / DAY_S:.1f} days"
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds} s"


def risk_lines(risk: "Risk", *, is_own: bool) -> list[str]:
    """Return what can be lost, in words for people."""
    first = "It is lost first." if is_own else "The node's own tranche is lost before it."
    return [
        f"What can be lost: {show_wei(risk.at_once_wei)} by one verdict that the node lost data; "
        f"everything ({show_wei(risk.most_wei)}) by more, or where a verifier of the node "
        f"contradicts itself. {first}",
        f"It stays liable for {show_s(risk.liable_s_min)} to {show_s(risk.liable_s_max)} after it "
        "is unbonded. Nobody gives back what was lost.",
    ]


def risk_facts(risk: "Risk") -> dict[str, object]:
    """Return the same for programs; amounts as text, because JSON's numbers end at 2^53."""
    return {
        "by_one_verdict_wei": str(risk.at_once_wei),
        "at_most_wei": str(risk.most_wei),
        "liable_s": [risk.liable_s_min, risk.liable_s_max],
    }


def holding_facts(holding: "Holding") -> dict[str, object]:
    """Return what stands behind a node, and what is the account's."""
    return {
        "node": holding.entry.node_id.hex(),
        "entry": "0x" + holding.entry.key.hex(),
        "owner": "0x" + holding.entry.owner.hex(),
        "active": holding.entry.is_active,
        "own_wei": str(holding.own_wei),
        "delegated_wei": str(holding.delegated_wei),
        "held_micro": holding.held_micro,
        "commission_bps": holding.commission_bps,
        "mine": {
            "shares": str(holding.shares),
            "worth_wei": str(holding.worth_wei),
            "reward_micro": holding.reward_micro,
            "leaving": [
                {
                    "generation": one.generation,
                    "bucket": one.bucket,
                    "amount_wei": str(one.amount_wei),
                    "ready_s": one.ready_s,
                    "ready": one.ready_s <= holding.time_s,
                }
                for one in holding.leaving
            ],
        },
        "operator_micro": holding.operator_micro,
    }


def confirm(choices: Choices, lines: Sequence[str], question: str) -> None:
    """Say what can be lost and ask. Raises ``BAD_REQUEST`` where nobody can be asked."""
    for line in lines:
        say(paint(line, err=True, fg="yellow"))
    if choices.yes or choices.dry_run:
        return
    if choices.as_json or not sys.stdin.isatty():
        raise AtollError(
            Kind.BAD_REQUEST,
            "ask",
            "nobody is there to say whether the risk is understood",
            hint="give --yes, or --dry-run to see what it would do",
        )
    click.confirm(question, abort=True, err=True)


async def carry_out(
    holder: Holder, acts: Sequence[Act], facts: dict[str, object], lines: Sequence[str]
) -> dict[str, object]:
    """Do it, or say what it would do; return the facts with what came of it."""
    facts["account"] = "0x" + holder.signer.address.hex()
    facts["chain_id"] = holder.chain_id
    if holder.choices.dry_run:
        told = []
        for number, act in enumerate(acts):
            # What comes after an approval cannot be tried before it.
            gas = await holder.gas_of(act) if number == 0 else None
            told.append({"does": act.does, "to": "0x" + act.to.hex(), "gas": gas})
            if not holder.choices.as_json:
                cost = f"{gas:,} gas" if gas is not None else "after the one before it"
                click.echo(f"would send: {act.does} ({cost})")
        facts["dry_run"], facts["transactions"] = True, told
        return facts
    done = await holder.send(acts)
    facts["transactions"] = [
        {"does": act.does, "hash": "0x" + one.transaction.hex(), "gas": one.gas_used}
        for act, one in zip(acts, done, strict=True)
    ]
    if not holder.choices.as_json:
        for line in lines:
            click.echo(line)
    return facts


async def allow(holder: Holder, amount_wei: int) -> list[Act]:
    """Return the approval that the bond needs to take an amount, if it needs one.

    Raises ``PRECONDITION_FAILED`` where the account has less.
    """
    from atoll.economy.chain.holding import BOND, TOKEN

    account, bond = holder.signer.address, holder.book.address_of(BOND)
    balance = int(await holder.book.ask(TOKEN, "balanceOf", account))
    if balance < amount_wei:
        raise AtollError(
            Kind.PRECONDITION_FAILED,
            "bond",
            f"0x{account.hex()} has {show_wei(balance)}, {show_wei(amount_wei)} is wanted",
            hint="whose tokens are meant? --key FILE, --node-folder DIR",
        )
    allowed = int(await holder.book.ask(TOKEN, "allowance", account, bond))
    if allowed >= amount_wei:
        return []
    to, data = holder.book.call(TOKEN, "approve", bond, amount_wei)
    return [Act(f"let the bond take {show_wei(amount_wei)}", to, data)]


def finish(choices: Choices, facts: dict[str, object]) -> None:
    """Write the facts where a program asked for them."""
    if choices.as_json:
        emit(facts)
