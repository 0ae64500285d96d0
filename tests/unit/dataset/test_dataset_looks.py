"""Examples as people look at them, and chosen by class, over a real artifact store."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.dataset.adapters.examples_parquet import ParquetExamples
from modelyard.dataset.domain.colours import class_colours
from modelyard.dataset.domain.traces import envelope
from modelyard.dataset.handlers import examples
from modelyard.dataset.ports import Look, Selection
from modelyard.dataset.rpc.convert_views import view_message
from tests.unit.dataset.fakes import FakeExamples
from tests.unit.dataset.test_dataset_handlers import World
from tests.unit.dataset.test_dataset_report_publish import Bench, digits


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_pictures_are_made_small_and_left_as_they_came(bench: Bench) -> None:
    made = bench.publish(bench.imported(digits(), "d.zip"))
    kept = ParquetExamples(bench.store)
    page, total = kept.rows(made.descriptor, Selection(label="3"), 0, 5)
    assert {row.label for row in page} == {"3"}
    assert total == sum(row.label == "3" for row in kept.rows(made.descriptor, Selection(), 0, 1000)[0])
    ids = [row.example_id for row in reversed(page)]
    small = kept.looks(made.descriptor, [*ids, "f" * 20], Look("preview", 16))
    assert [look.row.example_id for look in small] == ids
    assert max(Image.open(io.BytesIO(small[0].content)).size) <= 16
    assert small[0].media_type == "image/png"
    (own,) = kept.looks(made.descriptor, ids[:1], Look("original"))
    assert Image.open(io.BytesIO(own.content)).size == (own.width, own.height)
    (bare,) = kept.looks(made.descriptor, ids[:1], Look())
    assert (bare.content, bare.width) == (b"", own.width)


def test_what_was_imported_can_be_looked_at_before_anybody_splits_it(bench: Bench) -> None:
    imported = bench.imported(digits(), "d.zip")
    kept = ParquetExamples(bench.store)
    (row,), total = kept.rows(imported.content, Selection(), 0, 1)
    assert (row.usage, total) == ("", imported.summary.example_count)
    message = view_message(kept.looks(imported.content, [row.example_id], Look("preview")), imported.content)
    assert message.examples[0].example.usage == 0
    assert len(message.class_colours) == len(message.classes) == len(imported.content.classes)


def test_rows_come_with_their_values_and_what_is_missing(bench: Bench) -> None:
    text = "age,town,target\n1,ulm,a\n,bonn,b\n3.5,,a\n" + "".join(f"{i},ulm,{'ab'[i % 2]}\n" for i in range(40))
    imported = bench.imported(text.encode(), "t.csv")
    kept = ParquetExamples(bench.store)
    found, _ = kept.rows(imported.content, Selection(), 0, 100)
    looks = {look.row.path: dict(look.cells) for look in kept.looks(imported.content, [row.example_id for row in found], Look())}
    rows = [cells for _, cells in sorted(looks.items(), key=lambda item: int(item[0].split()[-1]))]
    assert rows[1] == {"age": None, "town": "bonn", "target": "b"}
    assert rows[2] == {"age": "3.5", "town": None, "target": "a"}


def test_an_envelope_loses_no_peak() -> None:
    values = np.sin(np.linspace(0, 60, 50_000))
    values[31_313], values[7] = 9.0, np.nan
    low, high = envelope(values, 300)
    assert (len(low), high.max(), low.min() <= -0.999) == (300, 9.0, True)
    assert (low <= high).all()
    short, same = envelope(np.array([1.0, np.nan, 3.0]), 300)
    np.testing.assert_array_equal(short, [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(short, same)


def test_colours_lie_apart_and_the_sources_own_are_kept() -> None:
    assert len(set(class_colours(40))) == 40
    assert class_colours(2, ("#000000", "#ffffff", "#ff0000")) == ["#000000", "#ffffff"]


@pytest.mark.parametrize(
    ("ids", "look", "reason"),
    [
        ([], Look(), "NO_EXAMPLES"),
        (["a"] * 201, Look(), "TOO_MANY_EXAMPLES"),
        (["a", "b"], Look("original"), "TOO_MANY_EXAMPLES"),
        (["a"], Look("preview", 4), "BAD_SIZE"),
        (["a"], Look("preview", 4000), "BAD_SIZE"),
        (["a"], Look(points=1), "BAD_SIZE"),
    ],
)
def test_wrong_wishes_name_the_field(ids: list[str], look: Look, reason: str) -> None:
    world = World()
    world.fill()
    name = world.publish().name
    with pytest.raises(InvalidArgument) as caught:
        examples.view_examples(world.jobs, world.resources, FakeExamples(), name, ids, look)
    assert caught.value.reason == reason
    assert caught.value.violations[0].field


def test_an_import_that_runs_cannot_be_looked_at() -> None:
    world = World()
    running = world.start_import()
    with pytest.raises(FailedPrecondition) as caught:
        examples.content_of(world.jobs, world.resources, running.name)
    assert caught.value.reason == "IMPORT_NOT_READY"


def test_a_page_may_begin_anywhere() -> None:
    world = World()
    world.fill()
    name = world.publish().name
    rows, token, total = examples.list_examples(world.jobs, world.resources, FakeExamples(), name, Selection(), 3, "", 5)
    assert (rows[0].example_id, total) == (f"{5:020x}", 10)
    rows, token, _ = examples.list_examples(world.jobs, world.resources, FakeExamples(), name, Selection(), 3, token)
    assert (rows[0].example_id, token) == (f"{8:020x}", "")
    with pytest.raises(InvalidArgument):
        examples.list_examples(world.jobs, world.resources, FakeExamples(), name, Selection(), 3, "", -1)
