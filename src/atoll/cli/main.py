"""The ``atoll`` command: finds the command's module only when it is called for.

Data goes to standard output, talk to standard error. Every failure is one line that says what, and
one that says what to do; exit codes come from the table in ``core.errors``.
"""

import json
import os
import sys
from typing import Any, NoReturn

import click

import atoll
from atoll.cli.lazy import Entry, LazyGroup
from atoll.core.errors import AtollError, Kind, meaning_of

USAGE_STATUS = 64
TRACE_VARIABLE = "ATOLL_TRACE"

_SECTIONS: dict[str, dict[str, Entry]] = {
    "A cloud on this machine": {
        "up": ("atoll.cli.up:up", "Start a whole cloud and keep it running."),
        "status": ("atoll.cli.status:status", "Show nodes, objects, repair and what may die."),
        "demo": ("atoll.cli.demo.command:demo", "Store real data, kill nodes, heal, pay."),
        "drill": ("atoll.cli.drill:drill", "Break a cloud on purpose and report."),
    },
    "Objects": {
        "cp": ("atoll.cli.cp:cp", "Copy files and objects, either way."),
        "ls": ("atoll.cli.ls:ls", "List buckets or objects."),
        "cat": ("atoll.cli.cat:cat", "Write an object to standard output."),
        "rm": ("atoll.cli.rm:rm", "Remove objects."),
        "lock": ("atoll.cli.lock:lock", "Keep objects from being removed until a time."),
        "policy": (
            "atoll.cli.policy:policy",
            "Say where the data of a bucket may lie, and what that costs.",
        ),
        "object": ("atoll.cli.object:object_", "Look into objects."),
        "bill": ("atoll.cli.bill:bill", "Show what this month costs, and set a budget."),
        "invoice": ("atoll.cli.invoice:invoice", "Invoices of past months, and how to pay in."),
        "receipt": ("atoll.cli.receipt:receipt", "See what stands behind a line of an epoch."),
        "residency": (
            "atoll.cli.residency:residency",
            "Prove where data lies, as far as that can be proven.",
        ),
        "mb": ("atoll.cli.buckets:mb", "Make a bucket."),
        "rb": ("atoll.cli.buckets:rb", "Remove an empty bucket."),
        "bucket": ("atoll.cli.bucket:bucket", "Manifests of a bucket; another coordinator for it."),
        "recover": ("atoll.cli.recover:recover", "Bring buckets back from nodes alone."),
    },
    "Parts, one by one": {
        "join": ("atoll.cli.join:join", "Offer this machine's disk to a coordinator."),
        "node": ("atoll.cli.node:node", "Run a storage node."),
        "earnings": ("atoll.cli.earnings:earnings", "Show what nodes have earned."),
        "payout": ("atoll.cli.payout:payout", "Say how nodes are paid; pay them by bank."),
        "gateway": ("atoll.cli.gateway:gateway", "Run an S3 gateway."),
        "coordinator": ("atoll.cli.coordinator:coordinator", "Run a coordinator."),
        "proof": ("atoll.cli.proof:proof", "Show, take home and check what nodes prove."),
        "verifier": ("atoll.cli.verifier:verifier", "Run a verifier of what nodes prove."),
        "relay": ("atoll.cli.relay:relay", "Carry connections to nodes behind a NAT."),
        "watcher": (
            "atoll.cli.watcher:watcher",
            "Watch what is settled, and strike down what is wrong.",
        ),
        "epoch": ("atoll.cli.epoch:epoch", "See what was settled, and compute it again."),
        "slash": ("atoll.cli.slash:slash", "See who lost data, and check what shows it."),
        "bank": ("atoll.cli.bank:bank", "Take over bank statements: customers are credited."),
        "chain": ("atoll.cli.chain:chain", "See and set up the chain that is settled on."),
        "genesis": ("atoll.cli.genesis:genesis", "Check who got the tokens, by file and chain."),
    },
    "For holders": {
        "stake": ("atoll.cli.holder.stake:stake", "Put ATOLL behind a node as its own tranche."),
        "delegate": ("atoll.cli.holder.delegate:delegate", "Put ATOLL behind somebody's node."),
        "unbond": ("atoll.cli.holder.unbond:unbond", "Begin to take ATOLL back."),
        "claim": ("atoll.cli.holder.claim:claim", "Take rewards, and what is liable no more."),
    },
    "What if": {
        "price": (
            "atoll.cli.price:price",
            "Show what storage costs, and what a price would earn.",
        ),
        "durability": (
            "atoll.cli.durability:durability",
            "Compute how likely data is lost, and what other schemes would give.",
        ),
        "sim": ("atoll.cli.sim:sim", "Simulate clouds: every run follows from its seed."),
    },
    "Settings": {
        "cert": (
            "atoll.cli.cert:cert",
            "Issue, revoke and trust certificates about nodes and operators.",
        ),
        "config": ("atoll.cli.configuration:config", "Show settings and where each came from."),
    },
}
_COMMANDS = {name: entry for section in _SECTIONS.values() for name, entry in section.items()}


@click.group(
    cls=LazyGroup,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command has --help; most have --json. NO_COLOR switches colours off.",
)
@click.version_option(atoll.__version__, prog_name="atoll")
def root() -> None:
    """Atoll: an S3 cloud on independent disks, encrypted, erasure coded, repaired."""


def fail(error: AtollError, *, as_json: bool) -> NoReturn:
    """Print an error on standard error and leave with its exit code."""
    if as_json:
        facts = {
            "kind": error.kind.value,
            "operation": error.operation,
            "message": error.message,
            "hint": error.hint,
            "about": error.about,
        }
        print(json.dumps({"error": facts}), file=sys.stderr)
    else:
        about = f" ({error.about})" if error.about and error.about not in error.message else ""
        print(f"error: {_line(error.message)}{_line(about)}", file=sys.stderr)
        if error.hint:
            print(f"hint:  {_line(error.hint)}", file=sys.stderr)
    sys.exit(error.meaning.exit_code)


def _line(text: str) -> str:
    """Keep one line one line, whatever an outsider put into it."""
    return "".join(c if c.isprintable() else " " for c in text)


def _usage(error: click.ClickException) -> AtollError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "atoll"
    message = error.format_message().rstrip(".")
    kind = Kind.BAD_REQUEST
    return AtollError(kind, "read command", message, hint=f"see `{path} --help`")


def _unexpected(bug: Exception) -> AtollError:
    return AtollError(
        Kind.INTERNAL,
        "run command",
        f"unexpected {type(bug).__name__}: {bug}",
        hint=f"{TRACE_VARIABLE}=1 shows where; please report it",
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends by ``sys.exit``."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in given
    try:
        result: Any = root.main(args=given, prog_name="atoll", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as shown:
        click.echo(shown.format_message())
        sys.exit(USAGE_STATUS)
    except click.ClickException as error:
        fail(_usage(error), as_json=as_json)
    except AtollError as error:
        fail(error, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(meaning_of(Kind.CANCELLED).exit_code)
    except BrokenPipeError:
        # The reader (head, less) has had enough. Nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as bug:
        if os.environ.get(TRACE_VARIABLE):
            raise
        # Nobody can act on a trace he did not ask for.
        fail(_unexpected(bug), as_json=as_json)
    sys.exit(result if isinstance(result, int) else 0)
