"""Statements that verifiers are asked to sign, and their signatures: durable, each checked.

Any room wants a statement by ``ask``; verifiers fetch what is wanted, judge it from what they know
themselves, and post signatures. What counts is what the court on the chain knows: a signature of
anybody else is refused, whoever delivers it.
"""

import logging
from collections.abc import Collection
from functools import partial
from typing import Final

from sqlalchemy.engine import Connection

from atoll.coordinator.part import NodeHandler
from atoll.coordinator.settlement import store
from atoll.coordinator.settlement.model import WantedStatement
from atoll.coordinator.settlement.views import Views
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Message
from atoll.core.messages.settlement import (
    STATEMENT_BODY_BYTES_MAX,
    STATEMENTS_MAX,
    AskedStatement,
    GetStatements,
    PostSignature,
    SignatureTaken,
    StatementList,
)
from atoll.core.ports import Clock, Database
from atoll.economy.chain.signer import ADDRESS_BYTES, recover_account
from atoll.economy.settlement.statement import Statement, split_signature, statement_digest

PAUSE_MS: Final = 1_000
"""Verifiers ask again after so long."""
PUBLIC_PAUSE_MS: Final = 10_000
log = logging.getLogger("atoll.coordinator.settlement")


class StatementDesk:
    """Collects signatures of verifiers."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        views: Views,
        trusted: Collection[bytes],
        *,
        embedded: bool,
    ) -> None:
        """``trusted``: Ed25519 keys of the verifiers that may ask and post."""
        self._clock = clock
        self._database = database
        self._views = views
        self._trusted = frozenset(trusted)
        self._pause_ms = PAUSE_MS if embedded else PUBLIC_PAUSE_MS
        self.node_handlers: dict[type[Message], NodeHandler] = {
            GetStatements: self._list,
            PostSignature: self._take,
        }

    # --- for other rooms ------------------------------------------------------------------------

    async def ask(self, wanted: WantedStatement) -> None:
        """Want signatures of a statement: durable on return, the same again does nothing.

        Raises ``BAD_REQUEST`` for what cannot be a statement.
        """
        self.check(wanted)
        await self._database.write(partial(self.ask_in, wanted=wanted))

    def ask_in(self, connection: Connection, wanted: WantedStatement) -> None:
        """As ``ask``, within a transaction of the caller's."""
        store.ask(connection, wanted, self._clock.now_ms())

    @staticmethod
    def check(wanted: WantedStatement) -> None:
        """Raise ``BAD_REQUEST`` for what cannot be a statement, or has too long a body."""
        Statement(wanted.kind, wanted.subject, wanted.epoch, wanted.stated).check()
        if len(wanted.body) > STATEMENT_BODY_BYTES_MAX:
            raise AtollError(Kind.BAD_REQUEST, "ask for signatures", "its body is too long")

    async def close(self, wanted: WantedStatement) -> None:
        """Want no more signatures of a statement; what was signed stays."""
        await self._database.write(partial(store.close, wanted=wanted))

    async def signatures(self, wanted: WantedStatement) -> list[tuple[int, int, int]]:
        """Return signatures (v, r, s) by accounts that the court knows now, accounts ascending.

        As the contracts take them. Raises what the chain raises.
        """
        found = await self._found(wanted)
        return [split_signature(signature) for _, signature in found]

    async def _found(self, wanted: WantedStatement) -> list[tuple[bytes, bytes]]:
        kept = await self._database.read(
            partial(
                store.signatures,
                kind=wanted.kind,
                subject=wanted.subject,
                epoch=wanted.epoch,
                stated=wanted.stated,
            )
        )
        return [one for one in kept if await self._views.stands(one[0])]

    async def is_agreed(self, wanted: WantedStatement) -> bool:
        """Say whether two thirds of the verifiers signed. Raises what the chain raises."""
        return len(await self._found(wanted)) >= await self._views.quorum()

    async def count(self, wanted: WantedStatement) -> int:
        """Return how many signatures are kept of a statement, whoever stands now."""
        kept = await self._database.read(
            partial(
                store.signatures,
                kind=wanted.kind,
                subject=wanted.subject,
                epoch=wanted.epoch,
                stated=wanted.stated,
            )
        )
        return len(kept)

    async def accounts(self) -> dict[bytes, bytes]:
        """Return the accounts that verifiers said they sign with, by Ed25519 key."""
        return await self._database.read(store.verifiers)

    # --- verifiers ------------------------------------------------------------------------------

    async def _list(self, request: GetStatements, prover: bytes, _: int) -> Message:
        self._admit(prover)
        if len(request.account) not in (0, ADDRESS_BYTES):
            raise AtollError(Kind.BAD_REQUEST, "list statements", "an account has 20 bytes")
        found, known = await self._database.read(
            partial(_unsigned, key=prover, account=request.account)
        )
        if request.account and not known:
            now_ms = self._clock.now_ms()
            await self._database.write(
                partial(store.meet, key=prover, account=request.account, now_ms=now_ms)
            )
        try:
            court = await self._views.court()
            # Who has nothing to sign needs no answer of the chain.
            asks = bool(request.account and found)
            standing = asks and await self._views.stands(request.account)
        except AtollError as error:
            # Nothing can be signed for a chain that is away; verifiers come again.
            log.debug("verifiers wait: %s", error)
            return StatementList(0, b"", b"", False, [], self._pause_ms)
        return StatementList(
            chain_id=court.chain_id,
            court=court.address,
            distributor=court.distributor,
            standing=standing,
            statements=[
                AskedStatement(one.kind, one.subject, one.epoch, one.stated, one.body)
                for one in found
            ],
            pause_ms=self._pause_ms,
        )

    async def _take(self, request: PostSignature, prover: bytes, _: int) -> Message:
        self._admit(prover)
        wanted = await self._database.read(
            partial(
                store.asked_one,
                kind=request.kind,
                subject=request.subject,
                epoch=request.epoch,
                stated=request.stated,
            )
        )
        if wanted is None:
            raise AtollError(
                Kind.NOT_FOUND,
                "take signature",
                "nobody asks for signatures of this statement",
                hint="ask again what there is to sign: another attempt may be due",
            )
        account = await self._signer(wanted, request.signature)
        now_ms = self._clock.now_ms()
        await self._database.write(
            partial(
                store.sign,
                wanted=wanted,
                account=account,
                signature=request.signature,
                now_ms=now_ms,
            )
        )
        found, quorum = await self._found(wanted), await self._views.quorum()
        return SignatureTaken(account, len(found), quorum)

    async def _signer(self, wanted: WantedStatement, signature: bytes) -> bytes:
        """Return whose signature it is. Raises ``BAD_REQUEST``, ``FORBIDDEN``."""
        split_signature(signature)
        statement = Statement(wanted.kind, wanted.subject, wanted.epoch, wanted.stated)
        digest = statement_digest(await self._views.court(), statement)
        account = recover_account(digest, signature)
        if not await self._views.stands(account):
            raise AtollError(
                Kind.FORBIDDEN,
                "take signature",
                "the court knows no verifier with the account that signed",
                hint="is it this statement, this court, and a key that stands there?",
                about="0x" + account.hex(),
            )
        return account

    def _admit(self, prover: bytes) -> None:
        if prover not in self._trusted:
            raise AtollError(
                Kind.FORBIDDEN,
                "ask for statements",
                "this coordinator does not trust this verifier's key",
                hint="add the key: atoll coordinator trust-verifier KEY",
                about=prover.hex(),
            )


def _unsigned(
    connection: Connection, key: bytes, account: bytes
) -> tuple[list[WantedStatement], bool]:
    """Return what an account is to sign yet, and whether it is known as this verifier's."""
    signed = store.signed_by(connection, account)
    found = [
        one
        for one in store.asked(connection, STATEMENTS_MAX)
        if (one.kind, one.subject, one.epoch, one.stated) not in signed
    ]
    return found, store.verifiers(connection).get(key) == account
