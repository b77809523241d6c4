"""Settlement: what verifiers are asked to sign with their keys of the chain, and what they signed.

A verifier asks what there is to sign (and says its account by that), judges each statement from
what it knows itself, and posts its signature. Statements: ``docs/spec/contracts.md``.
"""

from atoll.core.messages.base import Message

STATEMENTS_MAX = 64
"""Statements of one answer, the newest."""
STATEMENT_BODY_BYTES_MAX = 64 << 10


class AskedStatement(Message, frozen=True):
    """A statement that signatures are wanted of."""

    kind: int
    """1: the root of an epoch; 2: a verdict."""
    subject: bytes
    """32 bytes."""
    epoch: int
    stated: bytes
    """32 bytes."""
    body: bytes
    """What subject and stated are made of; for kind 1 an ``economy…statement.RootStated``.

    A verifier makes both itself from it, and signs nothing else."""


class GetStatements(Message, frozen=True):
    """A verifier says its account of the chain, and asks what there is to sign.

    Errors: ``FORBIDDEN`` for others than the coordinator's verifiers.
    """

    account: bytes
    """20 bytes; empty where the libraries of the chain are not installed."""


class StatementList(Message, frozen=True):
    """What there is to sign, and the court in which it counts."""

    chain_id: int
    court: bytes
    """Address of ``SlashCourt``; empty while there is none."""
    distributor: bytes
    """Address of ``EpochDistributor``."""
    standing: bool
    """Whether the court knows the account that asks; false where it has nothing to sign."""
    statements: list[AskedStatement]
    """Without those that this account has signed."""
    pause_ms: int
    """Ask again after so long."""


class PostSignature(Message, frozen=True):
    """A verifier signed a statement.

    Errors: ``FORBIDDEN`` for others than the coordinator's verifiers and for accounts that the
    court does not know, ``NOT_FOUND`` for a statement that nobody asks for (any more),
    ``BAD_REQUEST`` for what is no signature.
    """

    kind: int
    subject: bytes
    epoch: int
    stated: bytes
    signature: bytes
    """r, s and v: 65 bytes."""


class SignatureTaken(Message, frozen=True):
    """A signature is durable here; the same one again gives the same answer."""

    account: bytes
    """Whose it is."""
    signatures: int
    """Of accounts that the court knows, this one included."""
    quorum: int
    """So many are needed."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {
    GetStatements: StatementList,
    PostSignature: SignatureTaken,
}
"""Requests of verifiers of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of gateways of this family and their answers."""
