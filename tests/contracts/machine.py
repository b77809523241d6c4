"""State machines whose rules are counted: a rule that never succeeded proves nothing."""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.contracts.world import RefusedError, isolated

# `make contracts` looks longer than `make test`; it alone shrinks what it finds.
FULL = os.environ.get("ATOLL_CONTRACTS_FULL") == "1"
RULE_MARKER = "hypothesis_stateful_rule"
# Shrinking takes minutes: where somebody looks at what was found.
PHASES = (Phase.generate, Phase.shrink) if FULL else (Phase.generate,)


class Machine(RuleBasedStateMachine):
    """A state machine on a chain of its own that compares each call with a model's prediction."""

    accepted_calls: ClassVar[Counter[str]]
    refused_calls: ClassVar[Counter[str]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.accepted_calls = Counter()
        cls.refused_calls = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._chain = isolated()
        self._chain.__enter__()

    def teardown(self) -> None:
        self._chain.__exit__(None, None, None)

    def attempt(self, rule: str, allowed: bool, call: Callable[[], Any]) -> Any:
        """Make a call that must be accepted if the model allows it, and refused if not.

        Returns the call's result, None if it was refused. ``rule`` is the name it is counted by.
        """
        said, result = "", None
        try:
            result = call()
        except RefusedError as error:
            said = str(error) or "without a reason"
        if said:
            assert not allowed, f"{rule}: refused ({said}), the model allows it"
            self.refused_calls[rule] += 1
            return None
        assert allowed, f"{rule}: accepted, the model refuses it"
        self.accepted_calls[rule] += 1
        return result

    def done(self, rule: str) -> None:
        """Count a rule whose success is judged by the rule itself."""
        self.accepted_calls[rule] += 1


def examples(count: int) -> settings:
    """Settings of a property test: ``count`` examples, in `make contracts` eight times as many."""
    return settings(
        max_examples=count * (8 if FULL else 1),
        deadline=None,
        database=None,
        derandomize=not FULL,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )


def run_machine(machine: type[Machine], *, runs: int, steps: int) -> None:
    """Run a machine; fails if one of its rules was never accepted, too.

    ``runs`` and ``steps`` are those of `make test`; `make contracts` runs eight times as many
    examples. Prints accepted and refused calls per rule.
    """
    machine.accepted_calls.clear()
    machine.refused_calls.clear()
    run_state_machine_as_test(
        machine,
        settings=settings(examples(runs), stateful_step_count=steps),
    )
    rules = [name for name in dir(machine) if hasattr(getattr(machine, name), RULE_MARKER)]
    assert rules
    for rule in sorted({*rules, *machine.accepted_calls, *machine.refused_calls}):
        print(f"{rule}: {machine.accepted_calls[rule]} ok, {machine.refused_calls[rule]} refused")
    never = [rule for rule in rules if not machine.accepted_calls[rule]]
    assert not never, f"rules that never succeeded: {', '.join(never)}"
