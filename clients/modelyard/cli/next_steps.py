"""What somebody does whose run ended without an endpoint because too few examples could be tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from modelyard.client import last_part, parent_of, short
from modelyard.client.errors import ModelyardClientError
from modelyard.client.ratios import TESTS_NEEDED, enough_ratio, examples_needed, shared_out, too_few_tested
from modelyard.dataset.v1 import dataset_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.type.v1 import learning_pb2

if TYPE_CHECKING:
    from modelyard.cli.session import Session

USUAL_RATIO: Final = "0.8"
FOLDS: Final = 5


@dataclass(frozen=True)
class NextStep:
    """What helps, in a sentence, and the command that does it; empty where it is not a command."""

    text: str
    command: str = ""


def next_steps(here: Session, run: pipeline_pb2.PipelineRun) -> list[NextStep]:
    """The ways on after too few tests, the surest first; none where the gate had another reason."""
    result = run.result
    if not too_few_tested(result.gate_decision):
        return []
    try:
        version = here.client.datasets.get_dataset_version(result.dataset_version)
        drawn = not run.dataset_version and _is_drawn(here, version)
    except ModelyardClientError:
        return []  # the version is gone
    return steps_of(run, version, drawn)


def _is_drawn(here: Session, version: dataset_pb2.DatasetVersion) -> bool:
    """Whether the ratio decides how many test: not where the data say it themselves, or the test set is frozen."""
    if (
        version.split.source == dataset_pb2.SplitPolicy.SOURCE_GIVEN
        or version.split.test_where
        or version.HasField("frozen_test")
    ):
        return False
    imported = here.client.datasets.get_dataset(parent_of(version.name)).current_import
    given = here.client.datasets.get_import(imported).summary.examples_with_usage if imported else 0
    return not given or version.split.source == dataset_pb2.SplitPolicy.SOURCE_RATIO


def steps_of(run: pipeline_pb2.PipelineRun, version: dataset_pb2.DatasetVersion, drawn: bool) -> list[NextStep]:
    """`drawn`: the ratio decides how many of the version test."""
    dataset, ratio = parent_of(version.name), version.split.train_ratio or USUAL_RATIO
    tests = sum(count.example_count for count in version.counts if count.usage == learning_pb2.USAGE_TEST)
    examples = sum(count.example_count for count in version.counts)
    steps = []
    if tests < TESTS_NEEDED and drawn and (better := enough_ratio(examples, ratio)):
        test = shared_out(examples, float(better))[2]
        command = f"modelyard auto {dataset} --name {last_part(run.model) or last_part(dataset)} --train-ratio {better}"
        steps.append(
            NextStep(f"Keep more of them for the test: with {better} to train on about {test} of {examples} test.", command)
        )
    steps.append(_more(examples, tests, drawn))
    command = f"modelyard train {short(version.name)} --folds {FOLDS}"
    steps.append(
        NextStep("Until then, a cross-validation tells from all of them how good such a model is, without serving one.", command)
    )
    return steps


def _more(examples: int, tests: int, drawn: bool) -> NextStep:
    if tests < TESTS_NEEDED and not drawn:
        return NextStep(
            f"Bring more test examples: there are {tests}, and {TESTS_NEEDED} are needed. Then run the same command again."
        )
    if examples < examples_needed():
        wanted = f"{examples_needed()} are needed in all, and there are {examples}"
        return NextStep(f"Bring more examples into the same folder or file: {wanted}. Then run the same command again.")
    return NextStep("Bring more examples into the same folder or file, and run the same command again.")


def print_next_steps(steps: Sequence[NextStep]) -> None:
    """For people."""
    if not steps:
        return
    print("\nWhat now?")
    for step in steps:
        print(f"- {step.text}" + (f"\n    {step.command}" if step.command else ""))
