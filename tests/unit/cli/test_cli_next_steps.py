"""What `auto` proposes when too few examples could be tested on."""

from __future__ import annotations

import re
from typing import Any

import pytest

from modelyard.cli.next_steps import steps_of
from modelyard.client.ratios import TESTS_NEEDED, examples_needed, shared_out, too_few_tested
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.domain.pairing import MIN_TEST_EXAMPLES
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.pipeline.v1 import pipeline_pb2

RUN = pipeline_pb2.PipelineRun(model="projects/default/models/few")


def version_of(examples: int, ratio: str = "0.8") -> dataset_pb2.DatasetVersion:
    counts = [
        dataset_pb2.UsageCount(usage=number, example_count=count)
        for number, count in enumerate(shared_out(examples, float(ratio)), start=1)
    ]
    split = dataset_pb2.SplitPolicy(train_ratio=ratio)
    return dataset_pb2.DatasetVersion(name="projects/default/datasets/flowers/versions/V001", split=split, counts=counts)


def test_the_gate_needs_what_the_proposals_reckon_with() -> None:
    assert TESTS_NEEDED == MIN_TEST_EXAMPLES


@pytest.mark.parametrize("examples", [12, 30, 60, 110])
def test_too_few_whatever_the_ratio(examples: int) -> None:
    more, folds = steps_of(RUN, version_of(examples), drawn=True)
    assert f"{examples_needed()} are needed in all, and there are {examples}" in more.text
    assert more.command == ""
    assert folds.command == "modelyard train flowers/V001 --folds 5"


@pytest.mark.parametrize("examples", [132, 150, 200, 290])
def test_a_ratio_that_leaves_enough_is_proposed_with_its_command(examples: int) -> None:
    ratio, *_ = steps_of(RUN, version_of(examples), drawn=True)
    found = re.fullmatch(r"modelyard auto projects/default/datasets/flowers --name few --train-ratio (0\.\d+)", ratio.command)
    assert found is not None, ratio.command
    assert shared_out(examples, float(found[1]))[2] >= TESTS_NEEDED


def test_where_the_data_say_what_tests_no_ratio_helps() -> None:
    more, _ = steps_of(RUN, version_of(200), drawn=False)
    assert f"Bring more test examples: there are 20, and {TESTS_NEEDED} are needed" in more.text


def test_enough_for_the_test_but_not_to_tell() -> None:
    more, _ = steps_of(RUN, version_of(1000), drawn=True)
    assert more.text.startswith("Bring more examples into the same folder or file, and run")


@pytest.mark.parametrize(
    ("verdict", "enough", "few"),
    [
        (evaluator_pb2.VERDICT_NOT_ENOUGH_DATA, False, True),
        (evaluator_pb2.VERDICT_NOT_ENOUGH_DATA, True, True),
        (
            evaluator_pb2.VERDICT_BACK_TO_DATA,
            False,
            True,
        ),  # 12 pictures: one tests, and is no better than the baseline
        (evaluator_pb2.VERDICT_BACK_TO_DATA, True, False),
        (evaluator_pb2.VERDICT_DEPLOY, True, False),
        (evaluator_pb2.VERDICT_UNSPECIFIED, False, False),
    ],
)
def test_too_few_tests_are_the_reason_whatever_the_verdict(verdict: Any, enough: bool, few: bool) -> None:
    test = evaluator_pb2.GateTest(name="test_examples", passed=enough)
    assert too_few_tested(evaluator_pb2.GateDecision(verdict=verdict, tests=[test])) is few
