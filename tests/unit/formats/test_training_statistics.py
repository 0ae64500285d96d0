"""What travels of the training data: bins that say how it spreads, and nothing of a single example."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import Source, TestVectors, add_statistics, open_bundle
from modelyard.formats.bundle_card import BundleCard, ColumnInput, PictureInput, TensorSpec
from modelyard.formats.observed_features import (
    INPUT,
    OUTPUT,
    observed_files,
    observed_inputs,
    observed_outputs,
    picture_features,
)
from modelyard.formats.pictures import encode_png
from modelyard.formats.training_statistics import (
    CATEGORY,
    LEAST_SEEN,
    FeatureStatistics,
    TrainingStatistics,
    parse_statistics,
    statistics_json,
    statistics_of,
)
from tests.support.small_bundles import table_classifier


def only(values: Any, name: str = "x") -> FeatureStatistics:
    """The statistics of one feature."""
    (made,) = statistics_of({(INPUT, name): np.asarray(values)})
    return made


def text(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def test_a_number_is_cut_at_its_quantiles() -> None:
    made = only(np.arange(1000.0))
    assert len(made.counts) == 10
    assert set(made.counts) == {100}
    assert made.edges[0] == pytest.approx(99.9)


def test_no_bin_holds_only_a_few_examples_and_no_extreme_value_is_told() -> None:
    values = np.concatenate([np.zeros(500), np.arange(1.0, 20.0), [1e9]])
    made = only(values)
    assert all(count == 0 or count >= LEAST_SEEN for count in made.counts)
    assert 1e9 not in made.edges


def test_what_many_examples_share_has_a_bin_of_its_own() -> None:
    made = only(np.full(200, 28.0))
    assert made.counts == (0, 200, 0)
    assert made.count(np.array([27.9, 28.0, 28.1])).tolist() == [1, 1, 1, 0]
    assert made.bin_text(1) == "x = 28"


def test_a_discrete_number_keeps_its_values_apart() -> None:
    made = only(np.repeat([1.0, 2.0, 3.0], [50, 30, 20]))
    assert made.count(np.array([0.0, 1.0, 2.0, 3.0, 9.0])).tolist() == [1, 1, 1, 1, 1, 0]


def test_missing_numbers_are_counted() -> None:
    values = np.arange(100.0)
    values[:20] = np.nan
    made = only(values)
    assert made.missing == 20
    assert made.count(np.array([np.nan, 50.0]))[-1] == 1
    assert made.bin_text(len(made.counts)) == "x missing"


def test_a_rare_word_is_not_told() -> None:
    words = [*["car"] * 50, *["house"] * 20, *["Erika Mustermann"] * (LEAST_SEEN - 1), *[""] * 4]
    made = only(text(*words))
    assert made.kind == CATEGORY
    assert made.values == ("car", "house")
    assert sum(made.reference) == len(words) / 2
    assert made.missing == 2
    assert "Mustermann" not in statistics_json(TrainingStatistics(61, 61, (made,))).decode()


def test_where_no_word_is_rare_all_examples_count() -> None:
    made = only(text(*["car"] * 50, *["house"] * LEAST_SEEN, "", ""))
    assert made.counts == (50, LEAST_SEEN, 0)
    assert made.missing == 2


def test_a_column_of_names_is_left_out() -> None:
    assert statistics_of({(INPUT, "name"): text(*(f"person {number}" for number in range(500)))}) == ()


def test_only_the_most_frequent_words_are_told() -> None:
    made = only(text(*(f"w{number:02d}" for number in range(80) for _ in range(number + 5))))
    assert len(made.values) == 50
    assert made.values[0] == "w79"
    assert made.counts[-1] > 0


def test_new_words_are_counted_among_the_rare() -> None:
    made = only(text(*["car"] * 50, *["house"] * 20))
    assert made.reference.tolist() == [50, 20, 0, 0]
    assert made.count(text("house", "boat", "")).tolist() == [0, 1, 1, 1]
    assert "new or rare" in made.bin_text(2)


@settings(deadline=None)
@given(arrays.arrays(np.float64, st.integers(5, 300), elements=st.floats(-1e6, 1e6) | st.just(float("nan"))))
def test_every_example_is_in_one_bin(values: np.ndarray) -> None:
    for made in statistics_of({(INPUT, "x"): values}):
        assert made.count(values).tolist() == made.reference.tolist()
        assert made.reference.sum() == len(values)
        assert all(count == 0 or count >= LEAST_SEEN for count in made.counts)
        assert parse_statistics(statistics_json(TrainingStatistics(9, 9, (made,)))).features == (made,)


@settings(deadline=None)
@given(st.lists(st.text(max_size=3), min_size=5, max_size=200))
def test_every_word_is_in_one_bin(words: list[str]) -> None:
    values = text(*words)
    for made in statistics_of({(INPUT, "x"): values}):
        assert made.count(values).sum() == len(values)
        assert made.reference.tolist() in (made.count(values).tolist(), made.count(values[1::2]).tolist())
        assert all(words.count(word) >= LEAST_SEEN for word in made.values)


# Features


def test_a_darker_and_a_blurred_picture() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    dark = (sharp // 4).astype(np.uint8)
    blurred = sharp.astype(np.float32)
    blurred[:, 1:-1] = (blurred[:, :-2] + blurred[:, 1:-1] + blurred[:, 2:]) / 3
    of = [picture_features(each) for each in (sharp, dark, blurred.astype(np.uint8))]
    brightness, sharpness = ([each[INPUT, f"image.{name}"].mean() for each in of] for name in ("brightness", "sharpness"))
    assert brightness[1] < 0.3 * brightness[0]
    assert sharpness[2] < 0.6 * sharpness[0]
    assert brightness[2] == pytest.approx(brightness[0], abs=0.02)


def test_colour() -> None:
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    found = picture_features(red)
    assert found[INPUT, "image.red"][0] == pytest.approx(200 / 255)
    assert found[INPUT, "image.blue"][0] == 0
    assert found[INPUT, "image.saturation"][0] == pytest.approx(1.0)
    assert not any("saturation" in name for _, name in picture_features(red[..., :1]))


def test_picture_files_tell_their_size() -> None:
    found = observed_files([encode_png(np.zeros((20, 40), np.uint8)), encode_png(np.zeros((40, 20), np.uint8))])
    assert found[INPUT, "image.pixels"].tolist() == [800, 800]
    assert found[INPUT, "image.aspect"].tolist() == [2, 2]


def card(**more: Any) -> BundleCard:
    return BundleCard("t", more.pop("inputs"), more.pop("outputs"), Source(), **more)


def test_columns_have_their_own_names() -> None:
    made = card(
        inputs=(TensorSpec("c0", "FP32", (-1, 1)), TensorSpec("c1", "BYTES", (-1, 1))),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 2)),),
        columns=(ColumnInput("age", "c0", "numeric"), ColumnInput("sex", "c1", "categorical")),
        classes=("no", "yes"),
    )
    found = observed_inputs(made, {"c0": np.array([[30], [np.nan]], np.float32), "c1": np.array([["f"], ["m"]], object)})
    assert found[INPUT, "sex"].tolist() == ["f", "m"]
    assert found[INPUT, "age"][0] == 30
    answers = observed_outputs(made, {"probabilities": np.array([[0.5, 0.5], [0.0, 1.0]], np.float32)})
    assert answers[OUTPUT, "label"].tolist() == ["no", "yes"]
    assert answers[OUTPUT, "probabilities.entropy"].tolist() == [pytest.approx(np.log(2)), pytest.approx(0.0)]


def test_a_vector_and_a_series_and_a_number() -> None:
    made = card(
        inputs=(TensorSpec("v", "FP32", (-1, 2)), TensorSpec("s", "FP32", (-1, 100)), TensorSpec("w", "FP32", (-1, 3))),
        outputs=(TensorSpec("prediction", "FP32", (-1, 1)),),
        columns=(ColumnInput("a", "v", "numeric"), ColumnInput("b", "v", "numeric")),
    )
    inputs = {"v": np.ones((2, 2), np.float32), "s": np.ones((2, 100), np.float32), "w": np.ones((2, 3), np.float32)}
    names = [name for _, name in observed_inputs(made, inputs)]
    assert names == ["a", "b", "s.mean", "s.spread", "s.least", "s.most", "w[0]", "w[1]", "w[2]"]
    assert list(observed_outputs(made, {"prediction": np.ones((2, 1), np.float32)})) == [(OUTPUT, "prediction")]


# In the bundle


def some_statistics() -> TrainingStatistics:
    return TrainingStatistics(100, 50, statistics_of({(INPUT, "x"): np.arange(100.0), (INPUT, "word"): text(*["a", "b"] * 50)}))


def test_they_travel_in_the_bundle(tmp_path: Path) -> None:
    path = table_classifier(tmp_path / "m.bundle")
    before = open_bundle(path)
    assert before.statistics() is None
    vectors, model = before.test_vectors(), before.model_bytes()
    add_statistics(path, some_statistics())
    after = open_bundle(path)
    assert after.statistics() == some_statistics()
    assert after.model_bytes() == model
    assert isinstance(vectors, TestVectors)
    assert after.test_vectors().count == vectors.count
    assert dataclasses.replace(after.card, files={}) == dataclasses.replace(before.card, files={})
    first = path.read_bytes()
    add_statistics(path, some_statistics())
    assert path.read_bytes() == first


def broken(change: Any) -> bytes:
    document = json.loads(statistics_json(some_statistics()))
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        broken(lambda d: d.update(format_version=2)),
        broken(lambda d: d["features"][0]["counts"].pop()),
        broken(lambda d: d["features"][0]["counts"].__setitem__(0, -1)),
        broken(lambda d: d["features"][0]["edges"].__setitem__(0, 1e300)),
        broken(lambda d: d["features"][0]["edges"].__setitem__(0, "1")),
        broken(lambda d: d["features"][0].update(kind="pickle")),
        broken(lambda d: d["features"][0].update(name=3)),
        broken(lambda d: d["features"].append(d["features"][0])),
        broken(lambda d: d["features"][1].update(counts=[0, 0, 0], missing=0)),
    ],
)
def test_what_is_no_statistics_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"statistics\.json") as caught:
        parse_statistics(data)
    assert caught.value.reason == "INVALID_STATISTICS"


def test_a_picture_of_the_card_is_watched_as_a_picture() -> None:
    made = card(
        inputs=(TensorSpec("image", "UINT8", (-1, 8, 8, 1)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 2)),),
        picture=PictureInput(8, 8, 1),
        classes=("a", "b"),
    )
    found = observed_inputs(made, {"image": np.full((3, 8, 8, 1), 51, np.uint8)})
    assert found[INPUT, "image.brightness"].tolist() == pytest.approx([0.2] * 3)
    assert found[INPUT, "image.sharpness"].tolist() == [0, 0, 0]
