"""What an evaluation found beside its figures, for people: slices, the gap to training, examples to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelyard.cli.output import number, print_table
from modelyard.cli.results import usage
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.type.v1 import learning_pb2

SHOWN: Final = 10
"""Rows of each table; `--json` has them all."""


def print_findings(evaluation: evaluator_pb2.Evaluation) -> None:
    """Each in a table, where there is any."""
    _print_slices(evaluation.slices)
    _print_gaps(evaluation.train_gaps)
    _print_suspects(evaluation.label_suspects)
    if evaluation.suggested_threshold:
        print(f"\nbest threshold on validation (F1 of the second class): {number(evaluation.suggested_threshold)}")


def _print_slices(slices: Sequence[evaluator_pb2.SliceScore]) -> None:
    rows = [
        (entry.column, entry.value, entry.example_count, metric.name, number(metric.value), _interval(metric))
        for entry in slices[:SHOWN]
        for metric in entry.metrics[:1]
    ]
    _titled(
        "Slices of the test usage, the worst first", slices, ("column", "value", "examples", "metric", "", "95% interval"), rows
    )


def _print_gaps(gaps: Sequence[learning_pb2.Metric]) -> None:
    rows = [(gap.name, number(gap.value), _interval(gap), "overfits" if gap.lower > 0 else "") for gap in gaps]
    _titled("Better on train than on validation by", rows, ("metric", "gap", "95% interval", ""), rows)


def _print_suspects(suspects: Sequence[evaluator_pb2.ExampleScore]) -> None:
    rows = [(one.example_id, usage(one.usage), one.label, one.prediction, number(one.probability)) for one in suspects[:SHOWN]]
    _titled("Labels that are probably wrong", suspects, ("example", "usage", "label", "the model says", "probability"), rows)


def _titled(title: str, found: Sequence[object], columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if not rows:
        return
    more = f" ({SHOWN} of {len(found)}; --json has all)" if len(found) > len(rows) else ""
    print(f"\n{title}{more}")
    print_table(columns, rows)


def _interval(metric: learning_pb2.Metric) -> str:
    return f"{number(metric.lower)} to {number(metric.upper)}"
