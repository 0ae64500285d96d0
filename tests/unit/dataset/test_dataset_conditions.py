"""Splits by conditions that users write: on columns, attributes and parts of file names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.dataset.domain.conditions import Condition, parse_condition, parse_conditions
from modelyard.dataset.domain.records import FREEZE_TEST, ImportResult, SplitPolicy, VersionResult
from modelyard.formats import dataset as files
from modelyard.formats.dataset_audio import write_wav
from tests.unit.dataset.test_dataset_edited_versions import table, usage_by
from tests.unit.dataset.test_dataset_report_publish import Bench

INDEX = "{label}_{speaker}_{index}"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def spoken(bench: Bench) -> ImportResult:
    """Two words by three speakers, ten times each: low_anna_0.wav..."""
    import numpy as np

    rng = np.random.default_rng(0)
    sounds = {
        f"{label}_{speaker}_{index}.wav": write_wav(rng.integers(-9000, 9000, 800).astype(np.int16), 8000)
        for label in ("low", "high")
        for speaker in ("anna", "bert", "cora")
        for index in range(10)
    }
    return bench.imported(sounds, "spoken.zip", name_pattern=INDEX)


def said(bench: Bench, version: VersionResult) -> list[tuple[dict[str, str], str]]:
    """Attributes and usage of each example."""
    manifest = files.load_manifest(bench.store, version.descriptor)
    return [
        (json.loads(text), usage)
        for text, usage in zip(manifest["attributes"].to_pylist(), manifest["usage"].to_pylist(), strict=True)
    ]


def test_an_index_split_is_a_condition_on_an_attribute(bench: Bench) -> None:
    version = bench.publish(spoken(bench), SplitPolicy("0.75", test_where=("index < 3",)))
    found = said(bench, version)
    assert all((usage == "test") == (int(attributes["index"]) < 3) for attributes, usage in found)
    usages = [usage for _, usage in found]
    assert (usages.count("test"), usages.count("validation")) == (18, 11)
    assert 'meet "index < 3" are test' in " ".join(version.notes)


def test_a_name_pattern_serves_where_no_attribute_does(bench: Bench) -> None:
    version = bench.publish(
        spoken(bench), SplitPolicy(test_where=("{a}_{b}_{value} >= 8",), validation_where=("speaker = cora",))
    )
    for attributes, usage in said(bench, version):
        test, cora = int(attributes["index"]) >= 8, attributes["speaker"] == "cora"
        assert usage == ("test" if test else "validation" if cora else "train")


def test_the_rest_is_shared_out_by_the_other_fields(bench: Bench) -> None:
    """One speaker is the test, and of the others whole ones validate."""
    version = bench.publish(spoken(bench), SplitPolicy("0.5", test_where=("speaker = anna",), group_by="speaker"))
    by_speaker: dict[str, set[str]] = {}
    for attributes, usage in said(bench, version):
        by_speaker.setdefault(attributes["speaker"], set()).add(usage)
    assert by_speaker["anna"] == {"test"}
    assert sorted(map(tuple, (by_speaker["bert"], by_speaker["cora"]))) == [("train",), ("validation",)]


def test_validation_alone_leaves_the_draw_of_the_test(bench: Bench) -> None:
    version = bench.publish(spoken(bench), SplitPolicy("0.5", validation_where=("speaker = anna", "speaker = bert")))
    found = said(bench, version)
    assert {a["speaker"] for a, usage in found if usage == "validation"} == {"anna", "bert"}
    assert {usage for a, usage in found if a["speaker"] == "cora"} == {"train", "test"}


def test_a_column_of_a_table_serves_too(bench: Bench) -> None:
    imported = bench.imported(table(), label_column="y")
    by_device = usage_by(bench, bench.publish(imported, SplitPolicy(test_where=("device = d1", "device=d5"))), "device")
    assert {device for device, usages in by_device.items() if "test" in usages} == {"d1", "d5"}
    assert by_device["d1"] == {"test"}


@pytest.mark.parametrize(
    ("policy", "reason", "words"),
    [
        (SplitPolicy(test_where=("colour = red",)), "UNKNOWN_ATTRIBUTE", "the attributes are index"),
        (SplitPolicy(test_where=("speaker < 5",)), "BAD_CONDITION", "which is no number"),
        (SplitPolicy(test_where=("index > 50",)), "NOTHING_MEETS_CONDITION", "which no example meets"),
        (SplitPolicy(test_where=("index >= 0",)), "NO_TRAIN_EXAMPLES", "none is left to train on"),
        (SplitPolicy(test_where=("{label} < 5",)), "BAD_NAME_PATTERN", "value"),
    ],
)
def test_a_wrong_condition_is_named(bench: Bench, policy: SplitPolicy, reason: str, words: str) -> None:
    imported = spoken(bench)
    with pytest.raises(ModelyardError, match=words) as caught:
        bench.publish(imported, policy)
    assert caught.value.reason == reason


def test_a_frozen_test_set_stands(bench: Bench) -> None:
    imported = spoken(bench)
    first = bench.publish(imported, SplitPolicy(test_where=("index < 3",)), test_policy=FREEZE_TEST, version="v")
    assert first.frozen is not None
    with pytest.raises(FailedPrecondition) as caught:
        bench.publish(imported, SplitPolicy(test_where=("index < 2",)), frozen=first.frozen)
    assert caught.value.reason == "TEST_SET_FROZEN"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("index < 5", Condition("index", "<", "5", "index < 5", "f")),
        ("part_2=jackson", Condition("part_2", "=", "jackson", "part_2=jackson", "f")),
        (" a b  !=  c d ", Condition("a b", "!=", "c d", " a b  !=  c d ", "f")),
        ("{x}_{value} >= -1.5", Condition("{x}_{value}", ">=", "-1.5", "{x}_{value} >= -1.5", "f")),
    ],
)
def test_what_is_written_is_understood(text: str, right: Condition) -> None:
    assert parse_condition(text, "f") == right


@pytest.mark.parametrize("text", ["", "index", "index <", "< 5", "index < five", "x" * 500 + "=1", "a = b = c", "a < nan"])
def test_what_cannot_be_understood_is_named(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_condition(text, "split.test_where")
    assert (caught.value.reason, caught.value.violations[0].field) == ("BAD_CONDITION", "split.test_where")


def test_too_many_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="at most 20"):
        parse_conditions(["a = b"] * 21, "split.test_where")


@given(st.integers(-50, 50), st.integers(-50, 50))
def test_numbers_are_compared_as_numbers(said_number: int, limit: int) -> None:
    text = f"{said_number:+04d}"  # +005 is 5
    for comparison, holds in (("<", said_number < limit), (">=", said_number >= limit), ("=", said_number == limit)):
        assert parse_condition(f"n {comparison} {limit}", "f").holds(text) is holds
    assert parse_condition(f"n != {limit}", "f").holds(None) is False


@given(st.text(max_size=60))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    try:
        found = parse_condition(text, "f")
    except InvalidArgument:
        return
    assert found.name.strip()
    assert found.value.strip()
