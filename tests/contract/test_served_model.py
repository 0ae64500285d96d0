"""What every served model must do, whether it computes in this process or in one of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable
from modelyard.formats.pictures import encode_png
from modelyard.serving.adapters.in_process_model import InProcessLoader
from modelyard.serving.adapters.model_process import ProcessLoader
from modelyard.serving.domain.endpoint import DeploymentState
from modelyard.serving.handlers.proven_model import LoadOptions
from modelyard.serving.ports import Answer, ServedModel, ServedModelLoader
from tests.support.bundles import mlp_bundle, picture_bundle, spoil_vectors, text_bundle
from tests.support.runtime_bundles import expected, pictures, runtime_bundle
from tests.support.served import ask, greedy_bundle, looking_up_bundle, mixing_bundle, read, rows, tensor

LOADERS: dict[str, Callable[..., Any]] = {
    "in-process": lambda **more: InProcessLoader(LoadOptions(2, 1), **more),
    "process": lambda **more: ProcessLoader(LoadOptions(2, 1), **more),
}


@pytest.fixture(params=LOADERS)
def make_loader(request: pytest.FixtureRequest) -> Iterator[Callable[..., ServedModelLoader]]:
    made: list[Any] = []

    def make(**more: Any) -> ServedModelLoader:
        loader: ServedModelLoader = LOADERS[request.param](**more)
        made.append(loader)
        return loader

    yield make
    for loader in made:
        loader.close()


@pytest.fixture
def load(make_loader: Callable[..., ServedModelLoader]) -> Iterator[Callable[..., ServedModel]]:
    loaded: list[ServedModel] = []

    def do(path: Path, **more: Any) -> ServedModel:
        loaded.append(make_loader(**more).load(path, model="m", version="V001"))
        return loaded[-1]

    yield do
    for model in loaded:
        model.close()


async def test_all_outputs_of_the_card_with_their_labels(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(mlp_bundle(tmp_path / "m.zip"))
    answer = await ask(model, tensor("x", "FP32", rows(5)))
    assert [(each.name, each.datatype, each.shape) for each in answer.tensors] == [
        ("probabilities", "FP32", (5, 3)),
        ("label", "BYTES", (5,)),
    ]
    probabilities, labels = (read(each) for each in answer.tensors)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert labels == [f"class {row.argmax()}" for row in probabilities]
    assert answer.timing.batch_rows == 5
    assert answer.timing.compute_infer_ns > 0
    assert model.condition.state == DeploymentState.READY


async def test_everybody_gets_the_answer_to_his_own_question(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    """Requests of different sizes, answered together, get what each gets alone."""
    model = load(mlp_bundle(tmp_path / "m.zip"))
    asked = [rows(1 + number % 5, seed=number) for number in range(150)]
    alone = [read((await ask(model, tensor("x", "FP32", each))).tensors[0]) for each in asked]
    before = model.statistics.executions
    together = await asyncio.gather(*[ask(model, tensor("x", "FP32", each)) for each in asked])
    assert model.batching.together
    assert model.statistics.executions - before < 75
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, read(other.tensors[0]), atol=1e-6)
        assert read(other.tensors[1]) == [f"class {row.argmax()}" for row in one]


async def test_pictures_as_files_and_as_pixels(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(picture_bundle(tmp_path / "m.zip"))
    images = np.random.default_rng(1).integers(0, 256, size=(3, 8, 8, 3)).astype(np.uint8)
    files = np.array([encode_png(image) for image in images], object)
    pixels, decoded = await asyncio.gather(
        ask(model, tensor("image", "UINT8", images)), ask(model, tensor("image", "BYTES", files))
    )
    assert bytes(pixels.tensors[0].data) == bytes(decoded.tensors[0].data)


async def test_a_file_that_is_no_picture_spoils_no_other_request(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(picture_bundle(tmp_path / "m.zip"))
    good = np.array([encode_png(np.zeros((8, 8, 3), np.uint8))], object)
    bad = np.array([b"no picture"], object)
    answers = await asyncio.gather(
        *[ask(model, tensor("image", "BYTES", bad if number == 3 else good)) for number in range(8)], return_exceptions=True
    )
    wrong = answers.pop(3)
    assert isinstance(wrong, InvalidArgument)
    assert wrong.reason == "NOT_A_PICTURE"
    assert "image[0]" in wrong.message
    assert all(isinstance(answer, Answer) and read(answer.tensors[1]) == ["dark"] for answer in answers)


async def test_text_and_several_inputs_in_any_order(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(text_bundle(tmp_path / "m.zip"))
    sex, age = np.array([["male"], ["female"]], object), np.array([[40.0], [41.0]], np.float32)
    answer = await ask(model, tensor("age", "FP32", age), tensor("sex", "BYTES", sex))
    assert read(answer.tensors[0]).tolist() == [[140.0], [41.0]]


@pytest.mark.parametrize("form", ["litert-int8", "litert-fp32", "openvino"])
async def test_other_formats(load: Callable[..., ServedModel], tmp_path: Path, form: str) -> None:
    model = load(runtime_bundle(tmp_path / "m.zip", form))
    batches = [pictures(1 + number % 3, seed=number) for number in range(20)]
    answers = await asyncio.gather(*[ask(model, tensor("image", "UINT8", batch)) for batch in batches])
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(read(answer.tensors[0]), expected(batch), atol=0.05)


async def test_large_and_small_in_turn(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    """A request larger than any batch is computed by itself; what it needed is no trouble to the next."""
    model = load(mlp_bundle(tmp_path / "m.zip"))
    for count in (1, 4096, 3, 2000, 1):
        asked = rows(count, seed=count)
        answer = await ask(model, tensor("x", "FP32", asked))
        assert answer.tensors[0].shape == (count, 3)
        last = await ask(model, tensor("x", "FP32", asked[-1:]))
        np.testing.assert_allclose(read(answer.tensors[0])[-1:], read(last.tensors[0]), atol=1e-6)


async def test_deadlines(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(mlp_bundle(tmp_path / "m.zip"))
    with pytest.raises(DeadlineExceeded) as past:
        await ask(model, tensor("x", "FP32", rows(1)), deadline=time.monotonic() - 0.01)
    assert past.value.reason == "DEADLINE_EXCEEDED"
    assert (await ask(model, tensor("x", "FP32", rows(1)), deadline=time.monotonic() + 5)).tensors


async def test_a_deadline_that_cannot_be_met_is_refused_at_once(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(greedy_bundle(tmp_path / "slow.zip"))
    await ask(model, tensor("x", "FP32", [[5e7]]))
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded) as refused:
        await ask(model, tensor("x", "FP32", [[1.0]]), deadline=start + 0.02)
    assert refused.value.reason == "DEADLINE_TOO_NEAR"
    assert refused.value.retry_after_s is not None
    assert time.monotonic() - start < 0.02
    assert model.statistics.executions == 1


async def test_a_full_queue(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(mlp_bundle(tmp_path / "m.zip"), queue=5)
    answers = await asyncio.gather(*[ask(model, tensor("x", "FP32", rows(1))) for _ in range(20)], return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, ResourceExhausted)]
    assert {each.reason for each in refused} == {"QUEUE_FULL"}
    assert all(each.retry_after_s for each in refused)
    assert len(refused) == 15
    assert sum(isinstance(answer, Answer) for answer in answers) == 5


async def test_what_was_taken_back_is_never_begun(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(mlp_bundle(tmp_path / "m.zip"))
    called: list[object] = []
    take_back = model.submit([tensor("x", "FP32", rows(1))], 1, None, called.append)
    take_back()
    take_back()
    assert (await ask(model, tensor("x", "FP32", rows(2)))).timing.batch_rows == 2
    assert called == []
    assert model.statistics.executions == 1


async def test_close_answers_what_has_begun_and_takes_nothing_more(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(mlp_bundle(tmp_path / "m.zip"))
    asked = [asyncio.ensure_future(ask(model, tensor("x", "FP32", rows(1, seed=number)))) for number in range(20)]
    await asyncio.sleep(0)
    await asyncio.to_thread(model.close)
    assert all(answer.tensors for answer in await asyncio.gather(*asked))
    with pytest.raises(Unavailable) as closed:
        await ask(model, tensor("x", "FP32", rows(1)))
    assert closed.value.reason == "MODEL_UNLOADED"
    model.close()


async def test_a_model_that_mixes_its_batch_is_served_one_by_one(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(mixing_bundle(tmp_path / "m.zip"))
    assert not model.batching.together
    assert "changes by up to" in model.batching.note
    values = [float(number) for number in range(20)]
    answers = await asyncio.gather(*[ask(model, tensor("x", "FP32", [[value]])) for value in values])
    assert [float(read(answer.tensors[0])[0, 0]) for answer in answers] == values
    assert model.statistics.executions == 20


async def test_values_that_the_runtime_refuses(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    """Only the request that is wrong fails; what the runtime said stays here."""
    model = load(looking_up_bundle(tmp_path / "m.zip"))
    asked = [0, 1, 7, 2, 1]
    answers = await asyncio.gather(*[ask(model, tensor("x", "INT64", [[each]])) for each in asked], return_exceptions=True)
    wrong = answers.pop(2)
    assert isinstance(wrong, InvalidArgument)
    assert (wrong.reason, wrong.message) == ("MODEL_REFUSED", "the model cannot compute an answer to these values")
    assert [float(read(answer.tensors[0])[0, 0]) for answer in answers if isinstance(answer, Answer)] == [10, 20, 30, 20]
    assert model.condition.state == DeploymentState.READY


async def test_executions_are_counted(load: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = load(mlp_bundle(tmp_path / "m.zip"))
    await ask(model, tensor("x", "FP32", rows(3)))
    await ask(model, tensor("x", "FP32", rows(3)))
    assert model.statistics.executions == 2
    assert model.statistics.batches[3][0] == 2
    assert model.statistics.successes == 0, "requests are counted by whoever asked"


def test_loading_says_what_is_wrong(make_loader: Callable[..., ServedModelLoader], tmp_path: Path) -> None:
    bundle = mlp_bundle(tmp_path / "m.zip")
    with pytest.raises(FailedPrecondition) as differ:
        make_loader().load(spoil_vectors(tmp_path / "bad.zip", bundle), model="m", version="V001")
    assert differ.value.reason == "TEST_VECTORS_DIFFER"
    assert "'probabilities' differs by up to 0.25" in differ.value.message
    data = bytearray(bundle.read_bytes())
    data[len(data) // 3] ^= 0xFF
    bundle.write_bytes(data)
    with pytest.raises(InvalidArgument) as damaged:
        make_loader().load(bundle, model="m", version="V001")
    assert damaged.value.reason == "INVALID_BUNDLE"
