"""Dates and hashed text: what they become, whatever is given, and that the hash is the documented one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.formats.text_numbers import PARTS, DateNumbers, HashedText, bucket_of, check_format, date_of, earliest


def texts(*values: str) -> Any:
    return np.array(values, object)


def test_parts_of_a_date() -> None:
    reading = DateNumbers(PARTS, reference="2024-02-01")
    assert reading.numbers(texts("2024-02-29T18:30:00"))[0].tolist() == [2024, 2, 29, 3, 18, 30, 60, 28.770833969116211]


@pytest.mark.parametrize("text", ["2024-02-29", "20240229", " 2024-02-29 ", "2024-02-29 00:00", "2024-02-29T00:00:00.123456789Z"])
def test_forms_of_iso(text: str) -> None:
    assert DateNumbers(("year", "month", "day")).numbers(texts(text))[0].tolist() == [2024, 2, 29]


@pytest.mark.parametrize("text", ["", "2023-02-29", "29.02.2024", "soon", "2024-13-01", "99999999999", "0", "2024-02-29T25:00"])
def test_no_date_is_missing_and_said(text: str) -> None:
    found = DateNumbers(("year", "elapsed_days"), unread=True).numbers(texts(text, "2024-01-01"))
    assert np.isnan(found[0, :2]).all()
    assert found[:, 2].tolist() == [1, 0]


def test_a_stated_format() -> None:
    reading = DateNumbers(("year", "month", "day"), format="%d.%m.%Y")
    assert reading.numbers(texts("29.02.2024", "2024-02-29"))[0].tolist() == [2024, 2, 29]
    assert np.isnan(reading.numbers(texts("2024-02-29"))).all()


def test_offsets_count_for_elapsed_time_and_not_for_the_hour() -> None:
    reading = DateNumbers(("hour", "elapsed_days"), reference="2024-01-01")
    found = reading.numbers(texts("2024-01-01T06:00:00+06:00", "2024-01-01T06:00:00"))
    assert found[:, 0].tolist() == [6, 6]
    assert found[:, 1].tolist() == [0, 0.25]


def test_what_comes_round_again_is_near_its_beginning() -> None:
    reading = DateNumbers(("month", "hour"), cyclic=True)
    assert reading.names == ("month sine", "month cosine", "hour sine", "hour cosine")
    december, january, june = reading.numbers(texts("2024-12-31T23:59", "2024-01-01T00:00", "2024-06-01T12:00"))
    assert np.linalg.norm(december - january) < np.linalg.norm(june - january) / 2


def test_the_first_and_the_last_day_there_are() -> None:
    found = DateNumbers(("year", "elapsed_days")).numbers(texts("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"))
    assert found[:, 0].tolist() == [1, 9999]
    assert np.isfinite(found).all()


def test_the_earliest_date() -> None:
    assert earliest(["2024-01-02", "2023-05-06T10:00:00+02:00", "never", ""], "iso") == "2023-05-06T08:00:00+00:00"
    assert earliest(["never"], "iso") == ""


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%Y/%m/%d %H:%M", "iso"])
def test_formats_that_can_be_read_with(form: str) -> None:
    assert check_format(form) == ""


@pytest.mark.parametrize("form", ["%Q", "yyyy-mm-dd", "%"])
def test_formats_that_cannot(form: str) -> None:
    assert check_format(form)


def test_the_hash_is_the_documented_one() -> None:
    """CRC-32 of "123456789" is 0xCBF43926, its published check value."""
    assert bucket_of("123456789", 1 << 24) == ((0xCBF43926 * 2654435761) % (1 << 32)) >> 8
    assert [bucket_of(word, 256) for word in ("", "a", "école")] == [0, 55, 152]


def test_words_and_characters() -> None:
    words = HashedText("word", 1, 2, buckets=64)
    assert words.grams("The cat, the CAT!") == ["the", "cat", "the", "cat", "the cat", "cat the", "the cat"]
    assert HashedText("character", 2, 2).grams("a  bc") == [" a", "a ", " b", "bc", "c "]
    counted = words.numbers(texts("The cat, the CAT!", "", "..."))
    assert counted.sum(axis=1).tolist() == [7, 0, 0]
    assert HashedText("word", 1, 2, buckets=64, binary=True).numbers(texts("cat cat cat")).max() == 1


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=5), st.sampled_from(["word", "character"]), st.integers(2, 300), st.booleans())
def test_any_text_is_counted(values: list[str], by: str, buckets: int, lower: bool) -> None:
    reading = HashedText(by, 1, 3, buckets, lower)
    found = reading.numbers(texts(*values))
    assert found.shape == (len(values), buckets)
    for text, row in zip(values, found, strict=True):
        assert row.sum() == (len(reading.grams(text)) if text else 0)
    np.testing.assert_array_equal(found[:1], reading.numbers(texts(values[0])), "a row does not depend on its neighbours")


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_date_or_none(text: str) -> None:
    date_of(text)
    assert DateNumbers(PARTS, cyclic=True, unread=True).numbers(texts(text)).shape == (1, 15)
