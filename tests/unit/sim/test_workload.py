import random

import pytest

from atoll.sim.workload import ABSENT, Content, Ledger, Violation, size_of

OLD, NEW = Content("old", 100), Content("new", 50)


def ledger(*steps):
    made = Ledger()
    for step in steps:
        step(made)
    return made


def test_what_was_acknowledged_must_be_read():
    made = Ledger()
    made.begin("k", OLD)
    made.acknowledge("k", OLD)
    made.check_read("k", OLD.data(), 0, None)
    made.check_read("k", OLD.data()[10:20], 10, 20)
    for wrong in (None, b"", NEW.data(), OLD.data()[:-1] + b"\0"):
        with pytest.raises(Violation):
            made.check_read("k", wrong, 0, None)


def test_an_unheard_outcome_leaves_old_or_new_and_nothing_between():
    made = Ledger()
    made.begin("k", OLD)
    made.acknowledge("k", OLD)
    made.begin("k", NEW)
    made.check_read("k", OLD.data(), 0, None)
    made.check_read("k", NEW.data(), 0, None)
    for wrong in (None, OLD.data()[:50], NEW.data() + OLD.data()[50:]):
        with pytest.raises(Violation):
            made.check_read("k", wrong, 0, None)


def test_an_unheard_delete_leaves_the_object_or_nothing():
    made = Ledger()
    made.begin("k", OLD)
    made.acknowledge("k", OLD)
    made.begin("k", ABSENT)
    made.check_read("k", None, 0, None)
    made.check_read("k", OLD.data(), 0, None)
    made.acknowledge("k", ABSENT)
    with pytest.raises(Violation):
        made.check_read("k", OLD.data(), 0, None)


def test_listings():
    made = Ledger()
    made.begin("sure", OLD)
    made.acknowledge("sure", OLD)
    made.begin("unsure", NEW)
    made.check_listing({"sure": 100})
    made.check_listing({"sure": 100, "unsure": 50})
    for wrong in ({}, {"sure": 99}, {"sure": 100, "unsure": 51}, {"sure": 100, "ghost": 1}):
        with pytest.raises(Violation):
            made.check_listing(wrong)


def test_sizes_meet_the_edges_of_the_schemes():
    chance = random.Random("sizes")
    sizes = [size_of(chance, 300_000) for _ in range(3000)]
    assert {0, 1, 8192, 8193} <= set(sizes)
    assert max(sizes) <= 300_000
    assert sum(size < 10_000 for size in sizes) > 1500
