"""Policies over time: facts and policies change, repair moves what lies outside, all of it."""

from dataclasses import replace

import pytest
from tests.unit.coordinator.repair.world import BUCKET, Cloud

from atoll.coordinator.placement.drift import violations
from atoll.coordinator.placement.model import POLICY_EVERYWHERE, Policy
from atoll.core.policy.model import Evidence, Subject
from atoll.core.policy.text import parse

KIB = 1 << 10
SEGMENTS = 1000


class Book:
    """The policies of one bucket, in the test's hands. A ``PolicySource``."""

    def __init__(self, text: str) -> None:
        self.policy = Policy(2, text, parse(text))

    @property
    def newest(self) -> int:
        return self.policy.policy

    def of_bucket(self, bucket: bytes) -> Policy:
        return self.policy if bucket == BUCKET else POLICY_EVERYWHERE

    def by_id(self, policy: int) -> Policy | None:
        return self.policy if policy > 1 else POLICY_EVERYWHERE

    def change(self, text: str) -> None:
        self.policy = Policy(self.policy.policy + 1, text, parse(text))


def cloud_of(text: str, nodes: int) -> tuple[Cloud, Book]:
    book = Book(text)
    return Cloud("sovereignty", nodes, policies=book), book


def move(cloud: Cloud, alias: int, **facts: object) -> None:
    """Let other facts be known of a node."""
    row = cloud.table.rows[alias]
    subject = Subject(country=row.country, region=row.region, tier=row.tier, operator=row.operator)
    cloud.table.change(alias, subject=replace(subject, **facts))


def outside(cloud: Cloud, book: Book) -> int:
    """Count the recorded pieces that the policy does not let lie where they do."""
    return sum(
        len([v for v in violations(s.pieces, cloud.table.rows, book.policy) if v.hard])
        for s in cloud.segments()
    )


@pytest.mark.slow
def test_a_thousand_segments_follow_three_nodes_that_moved_abroad() -> None:
    cloud, book = cloud_of("country in DE", 14)

    async def main() -> None:
        for _ in range(SEGMENTS):
            await cloud.upload(9 * KIB)
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        await cloud.until(lambda: cloud.at_full_strength() and not cloud.queued(), 60)
        assert outside(cloud, book) == 0
        for alias in (2, 5, 9):
            move(cloud, alias, country="US")
        misplaced = outside(cloud, book)
        assert misplaced > SEGMENTS
        before = cloud.counters().get("repair_pieces", 0)
        took_s = await cloud.until(lambda: outside(cloud, book) == 0 and not cloud.queued(), 900)
        assert cloud.counters()["repair_pieces"] - before == misplaced, "nothing moves twice"
        assert cloud.at_full_strength()
        assert await cloud.wrong_pieces() == []
        print(f"{misplaced} pieces of {SEGMENTS} segments moved in {took_s:.1f} virtual s")
        assert not cloud.loop.unhandled

    try:
        cloud.main(main)
    finally:
        cloud.close()


def test_a_new_policy_and_a_lost_certificate_move_what_was_stored_before() -> None:
    cloud, book = cloud_of("anywhere", 14)

    async def main() -> None:
        for _ in range(6):
            await cloud.upload(9 * KIB)
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        await cloud.until(lambda: cloud.at_full_strength() and not cloud.queued(), 60)
        for alias in range(1, 11):
            move(cloud, alias, evidence=Evidence.CERTIFICATE, certificates=frozenset({"iso27001"}))
        book.change('certificate "ISO27001"')
        assert outside(cloud, book) > 0
        await cloud.until(lambda: outside(cloud, book) == 0 and not cloud.queued(), 120)
        # It is revoked for one of them; nine are enough for eight pieces.
        move(cloud, 3)
        assert outside(cloud, book) > 0
        await cloud.until(lambda: outside(cloud, book) == 0 and not cloud.queued(), 120)
        assert cloud.at_full_strength()
        assert not cloud.loop.unhandled

    try:
        cloud.main(main)
    finally:
        cloud.close()
