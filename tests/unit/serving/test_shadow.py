"""The shadow: asked beside, compared, and never felt."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable
from modelyard.serving.domain.shadow import Comparison
from modelyard.serving.domain.version_statistics import Timing
from modelyard.serving.handlers.deployments import delete_deployment
from modelyard.serving.handlers.router import Route, route
from modelyard.serving.handlers.shadow import MOST_WAITING, mirror, shadow_report
from modelyard.serving.handlers.traffic import Update, update_endpoint
from modelyard.serving.ports import Answer, Tensor
from tests.support.serving_models import ENDPOINT, FakeServed, World, a_world

INPUT = (Tensor("x", "FP32", (1, 2), bytes(8)),)


def answer(value: float = 0.0, rows: int = 1) -> Answer:
    data = np.full((rows, 1), value, np.float32).tobytes()
    return Answer((Tensor("prediction", "FP32", (rows, 1), memoryview(data)),), Timing(compute_infer_ns=2_000_000))


def shadowed() -> tuple[World, FakeServed]:
    """V001 answers, V002 is asked beside for everything."""
    world = a_world()
    world.deploy(1)
    shadow = world.deploy(2, percent=0)
    update_endpoint(world.deployer, ENDPOINT, Update(shadow=("V002", 100)))
    return world, shadow


def seen(world: World) -> Comparison:
    return shadow_report(world.store, world.registry, ENDPOINT).comparison


def ask(world: World, value: float = 0.0, rows: int = 1) -> None:
    mirror(route(world.registry, "flowers", "", ""), INPUT, rows, answer(value, rows))


def test_what_agrees_and_what_differs_is_counted() -> None:
    world, shadow = shadowed()
    ask(world, 0.0, rows=3)
    shadow.value = 0.5
    ask(world, 0.0)
    found = seen(world)
    assert (found.requests, found.failures, found.skipped, found.examples, found.agreed) == (2, 0, 0, 4, 3)
    assert found.max_difference == 0.5
    assert found.mean_difference == 0.125
    assert sum(found.latencies) == sum(found.answering_latencies) == 2


def test_a_busy_shadow_is_left_out() -> None:
    world, shadow = shadowed()
    shadow.kept = []
    for _ in range(MOST_WAITING + 5):
        ask(world)
    assert shadow.asked == MOST_WAITING
    assert seen(world).skipped == 5
    for done in shadow.kept:
        done()
    ask(world)
    assert shadow.asked == MOST_WAITING + 1
    assert seen(world).requests == MOST_WAITING


@pytest.mark.parametrize(
    ("refusal", "skipped", "failures"),
    [
        (ResourceExhausted("QUEUE_FULL", "full"), 1, 0),
        (DeadlineExceeded("DEADLINE_TOO_NEAR", "no"), 1, 0),
        (Unavailable("MODEL_UNHEALTHY", "no"), 0, 1),
        (RuntimeError("a bug"), 0, 1),
    ],
)
def test_a_shadow_that_refuses_harms_nobody(refusal: Exception, skipped: int, failures: int) -> None:
    world, shadow = shadowed()
    shadow.refusal = refusal
    ask(world)
    assert (seen(world).skipped, seen(world).failures, seen(world).waiting) == (skipped, failures, 0)


def test_a_shadow_that_fails_or_is_ill_harms_nobody() -> None:
    world, shadow = shadowed()
    shadow.trouble = Unavailable("MODEL_CRASHED", "signal 11")
    ask(world)
    shadow.fall_ill()
    ask(world)
    assert (seen(world).failures, seen(world).skipped, seen(world).waiting, shadow.asked) == (1, 1, 0, 1)


def test_an_answer_that_cannot_be_read_harms_nobody() -> None:
    world, _ = shadowed()
    spoilt = Answer((Tensor("prediction", "FP32", (5, 5), b"1"),), Timing())
    mirror(route(world.registry, "flowers", "", ""), INPUT, 1, spoilt)
    assert (seen(world).requests, seen(world).examples) == (1, 0)


def test_a_route_without_a_shadow_asks_nobody() -> None:
    world, shadow = shadowed()
    entry, model, *_ = route(world.registry, "flowers", "", "")
    mirror(Route(entry, model), INPUT, 1, answer())
    assert shadow.asked == 0


def test_set_anew_it_begins_anew_and_other_changes_do_not_touch_it() -> None:
    world, _ = shadowed()
    ask(world)
    update_endpoint(world.deployer, ENDPOINT, Update(display_name="Roses", shadow=("V002", 100)))
    world.deploy(3, percent=10)
    assert seen(world).requests == 1
    update_endpoint(world.deployer, ENDPOINT, Update(shadow=("V002", 50)))
    assert seen(world).requests == 0


def test_without_a_shadow_there_is_no_report() -> None:
    world, _ = shadowed()
    update_endpoint(world.deployer, ENDPOINT, Update(shadow=("", 0)))
    with pytest.raises(FailedPrecondition, match="modelyard endpoint shadow flowers VERSION") as refused:
        seen(world)
    assert refused.value.reason == "NO_SHADOW"


@pytest.mark.parametrize(
    ("version", "percent", "field"), [("V009", 50, "deployment"), ("V002", 0, "percent"), ("V002", 101, "percent")]
)
def test_a_shadow_that_cannot_be_is_refused(version: str, percent: int, field: str) -> None:
    world, _ = shadowed()
    with pytest.raises(InvalidArgument) as refused:
        update_endpoint(world.deployer, ENDPOINT, Update(shadow=(version, percent)))
    assert refused.value.violations[0].field == f"endpoint.shadow.{field}"


def test_taken_off_the_endpoint_it_is_no_shadow_any_more() -> None:
    world, _ = shadowed()
    delete_deployment(world.deployer, f"{ENDPOINT}/deployments/V002")
    assert world.store.get(ENDPOINT).shadow is None
    assert route(world.registry, "flowers", "", "").shadow is None


def compared(given: dict[str, Any], said: dict[str, Any], precision: str = "fp32") -> Comparison:
    comparison = Comparison(datetime.now(UTC))
    arrays = [{name: np.asarray(values) for name, values in one.items()} for one in (given, said)]
    comparison.compared(arrays[0], arrays[1], precision)
    return comparison


def test_models_with_labels_agree_by_their_labels() -> None:
    given = {"label": np.array([b"rose", b"tulip"], object), "probabilities": np.array([[0.9, 0.1], [0.4, 0.6]])}
    said = {"label": np.array([b"rose", b"rose"], object), "probabilities": np.array([[0.6, 0.4], [0.6, 0.4]])}
    found = compared(given, said)
    assert (found.examples, found.agreed) == (2, 1)
    assert found.max_difference == pytest.approx(0.3)


@pytest.mark.parametrize(("precision", "agreed"), [("fp32", 1), ("fp16", 2), ("int8", 3)])
def test_values_agree_within_the_tolerance_of_their_precision(precision: str, agreed: int) -> None:
    found = compared({"y": [[1.0], [1.0], [1.0], [1.0]]}, {"y": [[1.0], [1.009], [1.04], [2.0]]}, precision)
    assert (found.examples, found.agreed) == (4, agreed)


def test_nan_agrees_with_nan_and_spoils_no_mean() -> None:
    found = compared({"y": [[np.nan], [1.0]]}, {"y": [[np.nan], [np.inf]]})
    assert (found.agreed, found.mean_difference, found.max_difference) == (1, 0.0, 0.0)


def test_other_outputs_or_shapes_agree_with_nothing() -> None:
    for said in ({"z": [[1.0]]}, {"y": [[1.0, 2.0]]}, {"y": [[1.0]], "z": [[1.0]]}):
        found = compared({"y": [[1.0]]}, said)
        assert (found.examples, found.agreed) == (1, 0)


def test_a_large_answer_is_compared_all_the_same() -> None:
    world, _ = shadowed()

    async def both() -> None:
        rows = 20_000
        mirror(route(world.registry, "flowers", "", ""), INPUT, rows, answer(0.0, rows))
        for _ in range(200):
            if seen(world).examples:
                return
            await asyncio.sleep(0.01)

    asyncio.run(both())
    assert (seen(world).examples, seen(world).agreed) == (20_000, 20_000)
