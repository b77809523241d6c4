from atoll.sim.trace import LINES_KEPT, Trace


def test_order_and_content_decide_the_digest():
    def digest(*events):
        trace = Trace(lambda: 1.5)
        for event in events:
            trace.note("kind", event)
        return trace.digest()

    assert digest("a", "b") == digest("a", "b")
    assert digest("a", "b") != digest("b", "a")
    assert digest("ab") != digest("a", "b")


def test_the_last_lines_are_kept_and_all_are_counted_and_shown():
    shown = []
    trace = Trace(lambda: 0.0, shown.append)
    for number in range(LINES_KEPT + 5):
        trace.note("event", str(number))
    assert len(trace.recent) == LINES_KEPT
    assert trace.recent[0].endswith(" 5")
    assert trace.counts["event"] == len(shown) == LINES_KEPT + 5
