"""Who drops one piece in a hundred is disqualified within a day; who rots a little is not.

The true draws (seed chain, sum tree) meet the true tests; only the bytes are left out: what a leaf
contributes to the next draw is the hash of its number.
"""

import hashlib
import random

from atoll.coordinator.audit.model import PROFILES
from atoll.coordinator.audit.rules import followed, samples_due
from atoll.coordinator.reputation import axes
from atoll.coordinator.reputation.model import LIMITS, Score
from atoll.core.identity import Identity
from atoll.core.proofs.heads import head_of
from atoll.core.proofs.samples import first_seed, next_seed, position_of
from atoll.core.proofs.sums import Entry, RangeTree, TopTree

RUNS = 100
DAY_SLOTS = 24
PIECES = 20_000
TIMES = PROFILES["wan"]
TEST = LIMITS["wan"].possession
NODE, COORDINATOR = Identity(b"n" * 32), Identity(b"c" * 32)


def holdings() -> RangeTree:
    chance = random.Random("sizes")
    sizes = [chance.choice([1, 1, 13, 104, 416, 832]) for _ in range(PIECES)]
    return RangeTree(
        0, [Entry(n + 1, bytes(16), 0, bytes(32), leaves, 0) for n, leaves in enumerate(sizes)]
    )


TREE = holdings()
TOP = TopTree([TREE.top])
HEAD = head_of(TOP, NODE.public_key, COORDINATOR.public_key, 0, 0)


def day(run: int, kind: str) -> tuple[bool, int, int]:
    """Live through a day; return (disqualified, samples drawn, samples failed)."""
    chance = random.Random(f"{kind}/{run}")
    dropped = set(chance.sample(range(PIECES), PIECES // 100)) if kind == "dropper" else set()
    score, suspicion = Score(), None
    drawn = lost = 0
    for slot in range(DAY_SLOTS):
        beacon = hashlib.sha256(f"{kind}/{run}/{slot}".encode()).digest()
        seed = first_seed(HEAD, beacon, slot)
        count = samples_due(suspicion, TIMES)
        failed = excused = 0
        for _ in range(count):
            position = position_of(seed, HEAD.leaves)
            leaf = hashlib.sha256(position.to_bytes(8, "big")).digest()
            if kind == "dropper":
                bad = TREE.find(position)[0] in dropped
            else:
                rot = int.from_bytes(hashlib.sha256(leaf + bytes([run])).digest()[:8], "big")
                bad = rot < 0.0005 * 2**64
            if bad and kind == "honest, reports" and chance.random() < 0.5:
                # Its own check was there first: what it told does not count.
                bad, excused = False, excused + 1
            failed += bad
            seed = next_seed(seed, leaf)
        drawn += count
        lost += failed
        passed = count - failed - excused
        score = axes.tested(score, TEST, passed, failed, slot)
        suspicion = followed(suspicion, passed, failed, slot)
        if score.score >= TEST.out:
            return True, drawn, lost
    return False, drawn, lost


def test_one_piece_in_a_hundred_costs_the_name_within_a_day() -> None:
    days = [day(run, "dropper") for run in range(RUNS)]
    assert sum(out for out, _, _ in days) >= 99


def test_honest_disks_that_rot_a_little_keep_their_name() -> None:
    for kind in ("honest", "honest, reports"):
        days = [day(run, kind) for run in range(RUNS)]
        assert sum(out for out, _, _ in days) == 0
        # The test would be worth nothing if nothing ever failed.
        assert sum(failed for _, _, failed in days) > 20


def test_a_whole_node_is_asked_for_its_usual_samples_only() -> None:
    assert samples_due(None, TIMES) * DAY_SLOTS == 768
    assert followed(None, 32, 0, 0) is None


def test_a_follow_up_ends_when_the_test_is_decided() -> None:
    score = followed(None, 31, 1, 0)
    slots = 0
    while score is not None:
        score = followed(score, samples_due(score, TIMES), 0, 0)
        slots += 1
    assert slots == 2
