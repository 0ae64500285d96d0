"""The budget of cores: never more than there are, fair, and nobody starves."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving.domain.cpu_budget import MOST_PASSES, CpuBudget


@given(st.integers(1, 8), st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=60))
def test_never_more_than_there_are_and_all_are_served(tokens: int, steps: list[tuple[bool, int]]) -> None:
    budget, held, asked = CpuBudget(tokens), deque[int](), 0
    for asks, needed in steps:
        if asks:
            asked += 1
            budget.ask(needed, lambda needed=needed: held.append(needed))  # type: ignore[misc]
        elif held:
            budget.give_back(held.popleft())
        assert sum(min(each, tokens) for each in held) + budget.free == tokens
        assert budget.free >= 0
    served = len(held)
    while held:
        budget.give_back(held.popleft())
        served += 0
    assert budget.free == tokens, "all that asked were served, and gave back"


def test_a_round_over_those_that_wait() -> None:
    budget, turns = CpuBudget(1), Counter[str]()
    line: list[str] = []

    def run(name: str) -> None:
        line.append(name)

    for name in "abc":
        budget.ask(1, lambda name=name: run(name))  # type: ignore[misc]
    for _ in range(30):
        name = line.pop()
        turns[name] += 1
        budget.ask(1, lambda name=name: run(name))  # type: ignore[misc]
        budget.give_back(1)
    assert set(turns.values()) == {10}


def test_one_that_needs_all_is_passed_only_so_often() -> None:
    budget, order = CpuBudget(2), []
    budget.ask(1, lambda: order.append("first"))
    budget.ask(2, lambda: order.append("all"))
    for number in range(20):
        budget.ask(1, lambda number=number: order.append(number))  # type: ignore[misc]
        if "all" in order or len(order) > MOST_PASSES:
            break
        budget.give_back(1)
    assert "all" not in order
    assert len(order) == 1 + MOST_PASSES
    budget.give_back(1)
    budget.give_back(1)
    assert order[-1] == "all"


def test_more_than_there_are_count_as_all() -> None:
    budget, order = CpuBudget(2), []
    budget.ask(16, lambda: order.append("large"))
    assert (order, budget.free) == (["large"], 0)
    budget.give_back(16)
    assert budget.free == 2


def test_who_withdraws_is_not_waited_for() -> None:
    budget, order = CpuBudget(1), []
    budget.ask(1, lambda: order.append("a"))
    withdraw = budget.ask(1, lambda: order.append("b"))
    budget.ask(1, lambda: order.append("c"))
    withdraw()
    withdraw()
    budget.give_back(1)
    assert order == ["a", "c"]
