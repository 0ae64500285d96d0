"""Examples in memory and streamed ones are the same to a training: order, parts of ranks, positions, and the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from modelyard.core.errors import InvalidArgument
from modelyard.formats.checkpoint import Checkpoint, read_checkpoint
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.decoders import Decoders
from modelyard.formats.model import PictureInput
from modelyard.formats.streaming import PictureStream, Shape
from modelyard.trainer.worker.data import open_examples
from modelyard.trainer.worker.examples import Examples, HeldExamples, places_of, with_balance
from modelyard.trainer.worker.loop import train
from modelyard.trainer.worker.order import Order, order_of
from modelyard.trainer.worker.run import Outcome
from modelyard.trainer.worker.streamed import StreamedExamples, available_memory, memory_for_data
from tests.support.datasets import file_store, open_reader, publish_pictures
from tests.support.small_training import KeptHooks, small_setup, stripes

SIDE, COUNT = 16, 120


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    """96 stripes to train on and 24 to validate, sorted by class, in packs of about ten."""
    pictures, labels = stripes(COUNT)
    by_class = np.argsort(labels, kind="stable")
    usage = ["validation" if row % 5 == 0 else "train" for row in range(COUNT)]
    store = file_store(tmp_path_factory.mktemp("store"))
    names = ["across", "along", "aslant"]
    labelled = [names[label] for label in labels[by_class]]
    return open_reader(store, publish_pictures(store, pictures[by_class], labelled, usage=usage, pack_bytes=3500))


@pytest.fixture(scope="module", params=["all", "window"])
def pair(request: pytest.FixtureRequest, reader: DatasetReader) -> Iterator[tuple[HeldExamples, StreamedExamples]]:
    """The same examples in memory and streamed, drawn from all or from a window of them."""
    decoders = Decoders(0)
    stream = PictureStream(reader, Shape(SIDE, SIDE, 1), decoders, block_bytes=1000, ahead_bytes=5000)
    positions = reader.indices("train")
    window_bytes = 1 << 30 if request.param == "all" else 30 * SIDE * SIDE
    order = order_of(stream.blocks.of[positions], SIDE * SIDE, window_bytes)
    assert (order.blocks is None) == (request.param == "all")
    labels = torch.from_numpy(reader.labels("train"))
    held = torch.from_numpy(reader.decode(positions, SIDE, SIDE, 1))
    yield HeldExamples(held, labels, order), StreamedExamples(stream, positions, labels, order)
    stream.close()


def batches(examples: Examples, number: int, **options: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(examples.epoch(7, number, **{"batch_size": 10} | options))


def test_held_and_streamed_examples_come_in_the_same_batches(pair: tuple[HeldExamples, StreamedExamples]) -> None:
    for number in (0, 1):
        held, streamed = (batches(each, number) for each in pair)
        assert len(held) == len(streamed) == 9
        for one, other in zip(held, streamed, strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])
    for one, other in zip(*(each.in_order(7) for each in pair), strict=True):
        assert torch.equal(one.pictures, other.pictures)
        assert torch.equal(one.labels, other.labels)
    one, other = (each.sample(40) for each in pair)
    assert torch.equal(one.pictures, other.pictures)
    assert 40 <= len(one.labels) < 80


def test_an_epoch_goes_on_at_any_position(pair: tuple[HeldExamples, StreamedExamples]) -> None:
    for examples in pair:
        whole = batches(examples, 3)
        for position in (10, 50, 80, 90):
            rest = batches(examples, 3, position=position)
            assert len(rest) == len(whole) - position // 10
            assert all(torch.equal(one[0], other[0]) for one, other in zip(rest, whole[position // 10 :], strict=True))


def test_the_parts_of_all_ranks_are_the_global_batches(pair: tuple[HeldExamples, StreamedExamples]) -> None:
    for examples in pair:
        whole = batches(examples, 1)
        for world in (2, 3):
            parts = [batches(examples, 1, rank=rank, world_size=world) for rank in range(world)]
            for number, batch in enumerate(whole):
                together = torch.empty_like(batch[0])
                for rank in range(world):
                    together[places_of(len(together), rank, world)] = parts[rank][number][0]
                assert torch.equal(together, batch[0])


def test_an_epoch_shorter_than_a_batch_is_one_batch(pair: tuple[HeldExamples, StreamedExamples]) -> None:
    for examples in pair:
        assert [len(labels) for _, labels in examples.epoch(0, 0, batch_size=500)] == [96]
        few = examples.subset(torch.arange(1), Order(1))
        assert [len(labels) for _, labels in few.epoch(0, 0, batch_size=4, rank=1, world_size=2)] == [0]


def test_a_window_mixes_what_is_sorted_and_differs_each_epoch() -> None:
    """Of 100,000 examples in 1,000 blocks, sorted into 100 classes, with a window of a tenth."""
    blocks = np.repeat(np.arange(1000), 100)
    order = Order(100_000, blocks, window=100)
    first, second = (order.epoch(3, number).numpy() for number in (0, 1))
    assert np.array_equal(np.sort(first), np.arange(100_000))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, order.epoch(3, 0).numpy())
    classes = first // 1000
    per_batch = [len(np.unique(classes[start : start + 100])) for start in range(1000, 99_000, 100)]
    assert np.mean(per_batch) > 0.7 * 63  # 63 of 100 classes are in a batch of 100 that is drawn from all
    at = np.empty(100_000)
    at[first] = np.arange(100_000)
    live = max(np.ptp(at[block * 100 : block * 100 + 100]) for block in range(0, 1000, 50))
    assert live < 101 * 100


def trained(
    workdir: Path, reader: DatasetReader, memory_bytes: int, *, stop_at: int = 0, resume: Checkpoint | None = None
) -> Outcome:
    workdir.mkdir()
    hooks = KeptHooks(instruct=lambda asked: "stop" if stop_at and asked > stop_at else "continue")
    picture = PictureInput(SIDE, SIDE, 1)
    with open_examples(reader, picture, 0, memory_bytes=memory_bytes, should_stop=lambda: False) as examples:
        kind = StreamedExamples if memory_bytes == 1 else HeldExamples
        assert all(isinstance(each, kind) for each in examples)
        setup = replace(small_setup(workdir), train=examples[0], validation=examples[1])
        return train(setup, hooks, resume)


def test_a_streamed_run_gives_the_model_of_one_in_memory_also_when_stopped(tmp_path: Path, reader: DatasetReader) -> None:
    held = trained(tmp_path / "held", reader, 1 << 30)
    streamed = trained(tmp_path / "streamed", reader, 1)
    stopped = trained(tmp_path / "stopped", reader, 1, stop_at=9)
    assert stopped.reason == "STOPPED"
    resumed = trained(tmp_path / "resumed", reader, 1, resume=read_checkpoint(tmp_path / "stopped" / "last.checkpoint"))
    assert held.metrics["val_accuracy"] > 0.5
    for outcome in (streamed, resumed):
        assert outcome.metrics == held.metrics
        assert all(np.array_equal(outcome.weights[name], value) for name, value in held.weights.items())


def test_memory_is_what_the_container_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("3000000\n")
    assert available_memory(tmp_path) == 3_000_000
    assert memory_for_data(0, tmp_path) == 1_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory_for_data(0, tmp_path) == 250_000
    assert memory_for_data(7, tmp_path) == 7
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > 1 << 28


@pytest.mark.parametrize("blocks", [None, np.repeat(np.arange(20), 5)])
def test_a_balanced_epoch_draws_each_class_equally_often(blocks: np.ndarray | None) -> None:
    classes = np.array([0] * 90 + [1] * 7 + [2] * 3)
    order = Order(100, blocks, 4.0 if blocks is not None else 0.0, classes)
    first, again, other = order.epoch(1, 0), order.epoch(1, 0), order.epoch(1, 1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first) == 100
    assert sorted(np.bincount(classes[first.numpy()])) == [33, 33, 34]
    often = np.bincount(first.numpy(), minlength=100)
    assert set(often[:90]) == {0, 1}, "a third of the frequent ones, none twice"
    assert set(often[90:97]) <= {4, 5}
    assert set(often[97:]) <= {11, 12}
    assert len(np.unique(torch.cat([first, other]).numpy()[:200])) > 60, "others of the frequent class come in the next epoch"


def test_targets_that_are_no_classes_cannot_be_balanced() -> None:
    pictures = torch.zeros(4, 8, 8, 1, dtype=torch.uint8)
    with pytest.raises(InvalidArgument) as caught:
        with_balance(HeldExamples(pictures, torch.zeros(4, 3)))
    assert caught.value.reason == "HYPERPARAMETER_NOT_USED"
    made = with_balance(HeldExamples(pictures, torch.tensor([0, 0, 0, 1])))
    assert sorted(np.concatenate([batch.labels.numpy() for batch in made.epoch(0, 0, batch_size=2)])) == [0, 0, 1, 1]
