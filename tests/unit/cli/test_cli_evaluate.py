"""`modelyard evaluate` tells what was found beside the figures."""

from __future__ import annotations

from typing import Any

from modelyard.cli.findings import print_findings
from modelyard.evaluator.v1 import evaluator_pb2 as pb
from modelyard.type.v1 import learning_pb2
from tests.support.cli_fakes import Yard


def _metric(name: str, value: float, lower: float) -> learning_pb2.Metric:
    return learning_pb2.Metric(name=name, value=value, lower=lower, upper=value + 0.1)


def test_slices_are_asked_for(run: Any, yard: Yard) -> None:
    assert run("evaluate", "x1", "--slice", "site", "--slice", "age").status == 0
    assert list(yard.evaluator.evaluations[-1].slice_columns) == ["site", "age"]


def test_findings_are_tables_of_at_most_ten(capsys: Any) -> None:
    suspect = pb.ExampleScore(example_id="e1", usage=learning_pb2.USAGE_TEST, label="cat", prediction="dog", probability=0.98)
    found = pb.Evaluation(
        slices=[pb.SliceScore(column="site", value="north", example_count=40, metrics=[_metric("accuracy", 0.5, 0.4)])],
        train_gaps=[_metric("accuracy", 0.2, 0.1), _metric("f1_macro", 0.02, -0.01)],
        label_suspects=[suspect] * 12,
        suggested_threshold=0.37,
    )
    print_findings(found)
    out = capsys.readouterr().out
    assert "north" in out
    assert out.count("overfits") == 1
    assert "Labels that are probably wrong (10 of 12; --json has all)" in out
    assert out.count("dog") == 10
    assert "0.37" in out


def test_nothing_found_says_nothing(capsys: Any) -> None:
    print_findings(pb.Evaluation())
    assert capsys.readouterr().out == ""
