"""Files of readings as `predict --series` takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import grpc_service_pb2 as oip
from modelyard.cli.series_answers import line, readings, series_answers
from modelyard.client import Prediction
from modelyard.client.errors import InvalidArgument
from modelyard.formats.sensors import Watch


def said(**outputs: np.ndarray) -> Prediction:
    """What an endpoint answered, as the client gives it."""
    flat = {name: values.ravel().tolist() for name, values in outputs.items()}
    shapes = {name: values.shape for name, values in outputs.items()}
    return Prediction("m", "V001", flat, shapes, oip.ModelInferResponse())


def write(path: Path, values: np.ndarray, header: str = "", before: str = "", after: str = "") -> Path:
    rows = [before + ",".join(f"{value:.6f}" for value in row) + after for row in values]
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return path


@pytest.mark.parametrize("watch", [Watch(16), Watch(16, 50), Watch(8, 8)])
@pytest.mark.parametrize("steps", [51, 140, 149])
def test_a_recording_is_cut_as_evaluations_cut_it(watch: Watch, steps: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(steps, 2)).round(6)
    asked: list[dict[str, Any]] = []

    def ask(tensors: dict[str, Any]) -> Any:
        asked.append(tensors)
        return said(score=tensors["series"][:, -1:, 0])

    inputs = {"series": (-1, watch.window, 2)} | ({"reference": (-1, watch.reference, 2)} if watch.reference else {})
    ((answer,),) = series_answers(ask, inputs, ["score", "state"], [write(tmp_path / "a.csv", values)])
    ends = watch.ends(steps)
    expected = watch.inputs(values, ends)
    for name, wanted in expected.items():
        assert np.array_equal(np.concatenate([each[name] for each in asked]), wanted)
    scores = watch.by_reading(expected["series"][:, -1, 0], steps)
    assert answer["scores"] == pytest.approx(scores.tolist(), abs=1e-4)
    called = np.zeros(steps, bool)
    for each in answer["anomalies"]:
        called[each["first"] : each["last"] + 1] = True
    assert (called[watch.first :] == (scores >= 1)).all()
    assert not called[: watch.first].any()
    assert ("anomalous:" in line(answer)) == called.any()


def test_columns_that_are_no_channels_are_left_out_by_name(tmp_path: Path) -> None:
    values = np.arange(6.0).reshape(3, 2)
    plain = write(tmp_path / "plain.csv", values)
    named = write(tmp_path / "named.csv", values, "datetime,a,b,anomaly", "2020-01-01 00:00:00,", ",1")
    assert np.array_equal(readings(plain, 2), values)
    assert np.array_equal(readings(named, 2), values)
    (tmp_path / "gaps.csv").write_text("a;b\n1;\n;2\n")
    assert np.isnan(readings(tmp_path / "gaps.csv", 2)).sum() == 2


@pytest.mark.parametrize("text", ["1,2,3\n", "a,b\n1,x\n", "a,b,c\n1,2,3\n", "1,2\n1\n"])
def test_other_columns_are_refused_with_the_row(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InvalidArgument, match="2 numbers are right"):
        readings(tmp_path / "x.csv", 2)
    with pytest.raises(InvalidArgument, match="no such file"):
        readings(tmp_path / "none.csv", 2)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe1,2\n")
    with pytest.raises(InvalidArgument, match="UTF-8"):
        readings(tmp_path / "b.csv", 2)


def test_too_few_rows_are_refused_with_what_is_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "short.csv", np.zeros((20, 1)))
    for inputs, outputs, needed in (
        ({"series": (-1, 8, 1), "reference": (-1, 30, 1)}, ["score", "state"], "31"),
        ({"series": (-1, 24, 1)}, ["forecast", "lower", "upper"], "looks back on 24"),
    ):
        with pytest.raises(InvalidArgument, match=needed):
            list(series_answers(lambda _: None, inputs, outputs, [path]))  # type: ignore[arg-type, return-value]


def test_a_forecast_is_of_what_comes_after_the_last_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", np.arange(30.0)[:, None])

    def ask(tensors: dict[str, Any]) -> Any:
        assert tensors["series"][0, :, 0].tolist() == list(range(18, 30))
        return said(forecast=np.full((1, 2, 1), 5.0), lower=np.full((1, 2, 1), 4.0), upper=np.full((1, 2, 1), 6.0))

    ((answer,),) = series_answers(ask, {"series": (-1, 12, 1)}, ["forecast", "lower", "upper"], [path])
    assert line(answer).splitlines() == [f"{path}: after reading 30", "  +1: 5 (4 to 6)", "  +2: 5 (4 to 6)"]
