"""The SQL that processes share while they audit, on both databases."""

from tests.unit.core.proofs.world import VERIFIERS, chain_of, reveal_of

from atoll.coordinator.audit import store
from atoll.coordinator.audit.model import EXCLUDED, GOOD, VerifierRow
from atoll.core.messages.proofs import VerifierPlace
from atoll.core.proofs.signed import Signed
from atoll.runtime.database import SqlDatabase

ONE = VERIFIERS[0]
KEY = ONE.public_key


def row_of(status: str, port: int = 1, chains: list[Signed] | None = None) -> VerifierRow:
    place = VerifierPlace(key=KEY, host="127.0.0.1", port=port, fingerprint=b"", operator="reef")
    return VerifierRow(place, [chain_of(ONE)] if chains is None else chains, status)


async def test_a_verifier_is_heard_once_a_slot_and_its_first_value_stays(
    database: SqlDatabase,
) -> None:
    first, other = reveal_of(ONE, 9), reveal_of(ONE, 10)
    for reveal, now_ms in ((None, 100), (first, 110), (None, 120), (other, 130)):
        await database.write(lambda c, r=reveal, at=now_ms: store.hear(c, 9, KEY, r, at))
    await database.write(lambda c: store.hear(c, 8, KEY, None, 50))
    assert await database.read(lambda c: store.words(c, 9)) == [store.Word(9, KEY, 130, first)]
    assert len(await database.read(lambda c: store.words(c, 0))) == 2
    await database.write(lambda c: store.forget(c, 9))
    assert [one.slot for one in await database.read(lambda c: store.words(c, 0))] == [9]


async def test_an_excluded_verifier_moves_and_stays_excluded(database: SqlDatabase) -> None:
    for row in (row_of(GOOD), row_of(EXCLUDED), row_of(GOOD, port=2)):
        await database.write(lambda c, r=row: store.put_verifier(c, r, 1))
    assert await database.read(store.all_verifiers) == [row_of(EXCLUDED, port=2)]


async def test_a_lease_is_one_processs_until_it_ends(database: SqlDatabase) -> None:
    async def take(owner: bytes, now_ms: int) -> bool:
        return await database.write(
            lambda c: store.take_lease(c, "reads", owner, now_ms + 60, now_ms)
        )

    assert await take(b"a", 1_000)
    assert not await take(b"b", 1_059)
    assert await take(b"a", 1_059)
    assert not await take(b"b", 1_060)
    assert await take(b"b", 1_119)
    assert not await take(b"a", 1_120)


async def test_heads_that_another_process_agreed_on_are_found(database: SqlDatabase) -> None:
    for alias, epoch in ((1, 6), (1, 12), (2, 6)):
        body = b"%d/%d" % (alias, epoch)
        await database.write(lambda c, a=alias, e=epoch, b=body: store.keep_head(c, a, e, b))
    assert await database.read(lambda c: store.newer_head(c, 1, 6)) == b"1/12"
    assert await database.read(lambda c: store.newer_head(c, 1, 12)) is None
    assert await database.read(lambda c: store.heads_since(c, 12)) == [(1, 12, b"1/12")]
