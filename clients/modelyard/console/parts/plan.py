"""What the training dialog asks, checked, and the pipeline run that it becomes. Knows nothing of pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from modelyard.client import Names, last_part
from modelyard.client._messages import duration
from modelyard.client.enums import enum_number, short_name
from modelyard.exporter.v1 import exporter_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.type.v1 import learning_pb2

LONGEST_MS: Final = 20_000
MOST_HOURS: Final = 24 * 365
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_VERSION: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?) *(d|h|min|m|s)")
_HOURS: Final = {"d": 24.0, "h": 1.0, "m": 1 / 60, "s": 1 / 3600}
_RATIO: Final = re.compile(r"0\.\d{1,5}")


@dataclass(frozen=True)
class Plan:
    """The dialog's answers, as text as they were given. `version`: "new", or that of the dataset. `base`: a model version."""

    dataset: str = ""
    version: str = "new"
    version_name: str = ""
    ratio: str = "0.8"
    base: str = ""
    target: str = "cpu"
    max_ms: str = "500"
    hours: str = "1"
    flavor: str = ""
    model: str = ""
    endpoint: str = ""
    no_deploy: bool = False
    accuracy: str = ""
    max_loss: str = ""
    recipe: str = ""
    format: str = ""
    precision: str = ""
    epochs: str = ""
    learning_rate: str = ""
    batch_size: str = ""
    seed: str = ""
    group_by: str = ""

    @property
    def train_share(self) -> float:
        """The ratio as a number; 0 where it is none."""
        return float(self.ratio) if _RATIO.fullmatch(self.ratio) and 0 < float(self.ratio) < 1 else 0.0

    @classmethod
    def from_run(cls, run: pipeline_pb2.PipelineRun, before: Plan) -> Plan:
        """The answers that a run stands for; what the dialog does not ask stays as it was."""
        hyperparameters = run.recipe.hyperparameters
        dataset = run.dataset or run.dataset_version.rpartition("/versions/")[0] or run.source.dataset
        seconds = run.max_training_time.seconds
        return replace(
            before,
            dataset=last_part(dataset) or before.dataset,
            version=last_part(run.dataset_version) if run.dataset_version else "new",
            version_name=run.dataset_version_id,
            ratio=run.split.train_ratio or "0.8",
            group_by=run.split.group_by,
            base=run.incremental_model_version,
            target=run.target or "cpu",
            max_ms=str(run.max_inference_duration_ms or 500),
            hours=f"{seconds / 3600:.6g}" if seconds else "",
            flavor=run.instance_flavor,
            model=last_part(run.model) or before.model,
            endpoint=last_part(run.endpoint) or before.endpoint,
            no_deploy=run.skip_deployment,
            accuracy=next((f"{floor.value:g}" for floor in run.floors if floor.metric == "accuracy"), ""),
            max_loss=f"{run.max_loss:g}" if run.max_loss else "",
            recipe=run.recipe.recipe_id,
            format=short_name(exporter_pb2.Format, run.format),
            precision=short_name(exporter_pb2.Precision, run.precision),
            epochs=str(hyperparameters.max_epochs) if hyperparameters.HasField("max_epochs") else "",
            learning_rate=f"{hyperparameters.base_lr:g}" if hyperparameters.HasField("base_lr") else "",
            batch_size=str(hyperparameters.batch_size) if hyperparameters.HasField("batch_size") else "",
            seed=str(hyperparameters.seed) if hyperparameters.HasField("seed") else "",
        )


def plan_of(form: Mapping[str, Any], before: Plan) -> Plan:
    """The answers of a form; what it does not ask stays as it was."""
    texts = {field.name for field in fields(Plan)} - {"no_deploy"}
    said = {name: str(form[name]).strip() for name in texts if name in form}
    if "hours" in said:
        said["hours"] = hours_of(said["hours"])
    no_deploy = "no_deploy" in form if "model" in form else before.no_deploy
    return replace(before, **said, no_deploy=no_deploy)


def hours_of(said: str) -> str:
    """Hours, of a time as people write it: 3m, 90 s, 1h 30min. What is none stays as it is."""
    found = _TIME.findall(said)
    if not found or "".join(number + unit for number, unit in found) != said.replace(" ", ""):
        return said
    return f"{sum(float(number) * _HOURS[unit[0]] for number, unit in found):.6g}"


def problems(plan: Plan) -> dict[str, str]:
    """What is wrong, by the name of the field: the value, and what would be right."""
    found: dict[str, str] = {}
    if plan.version == "new":
        if not plan.train_share:
            found["ratio"] = f"ratio is {plan.ratio!r}; give a number above 0 and below 1 with one to five decimals, such as 0.8"
        if plan.version_name and not _VERSION.fullmatch(plan.version_name):
            found["version_name"] = (
                f"name is {plan.version_name!r}; give 1 to 63 letters, digits, '-', '_' or '.', beginning with a letter"
            )
    for name, value in (("model", plan.model), ("endpoint", plan.endpoint)):
        if not _NAME.fullmatch(value):
            found[name] = f"{name} is {value!r}; give 1 to 63 of a-z, 0-9 and '-', beginning with a letter"
    checks = (
        ("max_ms", plan.max_ms, 1, LONGEST_MS, True, "a whole number of milliseconds, 1 to 20000"),
        (
            "hours",
            plan.hours,
            Decimal(1) / 3600,
            MOST_HOURS,
            False,
            "hours, such as 0.5 or 2, or a time such as 3m",
        ),
        ("accuracy", plan.accuracy, 0, 1, False, "a number from 0 to 1"),
        ("max_loss", plan.max_loss, 0, 1, False, "a number from 0 to 1"),
        ("epochs", plan.epochs, 1, 10_000, True, "a whole number, 1 to 10000"),
        ("batch_size", plan.batch_size, 1, 65_536, True, "a whole number, 1 to 65536"),
        ("learning_rate", plan.learning_rate, Decimal("1e-12"), 100, False, "a number above 0, at most 100"),
        ("seed", plan.seed, -(2**53), 2**53, True, "a whole number"),
    )
    for name, value, low, high, whole, right in checks:
        if value and not _fits(value, low, high, whole):
            found[name] = f"{name} is {value!r}; give {right}"
    return found


def run_of(plan: Plan, names: Names) -> pipeline_pb2.PipelineRun:
    """The pipeline run. What does not fit (see `problems`) is left out."""
    wrong = problems(plan)
    run = pipeline_pb2.PipelineRun(target=plan.target, instance_flavor=plan.flavor, skip_deployment=plan.no_deploy)
    if plan.version == "new":
        run.dataset = names.dataset(plan.dataset)
        run.dataset_version_id = plan.version_name
        run.split.train_ratio = plan.ratio
        run.split.group_by = plan.group_by
    else:
        run.dataset_version = names.dataset_version(f"{plan.dataset}/{plan.version}")
    run.incremental_model_version = plan.base
    if "model" not in wrong:
        run.model = names.model(plan.model)
    if "endpoint" not in wrong:
        run.endpoint = names.endpoint(plan.endpoint)
    run.max_inference_duration_ms = int(plan.max_ms) if plan.max_ms and "max_ms" not in wrong else 0
    if plan.hours and "hours" not in wrong:
        run.max_training_time.CopyFrom(duration(3600 * float(plan.hours)))
    if plan.accuracy and "accuracy" not in wrong:
        run.floors.append(learning_pb2.Floor(metric="accuracy", value=float(plan.accuracy)))
    run.max_loss = float(plan.max_loss) if plan.max_loss and "max_loss" not in wrong else 0.0
    run.format = enum_number(exporter_pb2.Format, plan.format, "format")
    run.precision = enum_number(exporter_pb2.Precision, plan.precision, "precision")
    _set_recipe(run, plan, wrong)
    return run


def next_version(versions: Sequence[Any]) -> str:
    """The number that the next version gets, as far as is known here: V004."""
    numbers = [int(name[1:]) for name in (last_part(one.name) for one in versions) if re.fullmatch(r"V\d+", name)]
    return f"V{max(numbers, default=0) + 1:03d}"


def _set_recipe(run: pipeline_pb2.PipelineRun, plan: Plan, wrong: Mapping[str, str]) -> None:
    if plan.recipe:
        run.recipe.recipe_id = plan.recipe
    if plan.epochs and "epochs" not in wrong:
        run.recipe.hyperparameters.max_epochs = int(plan.epochs)
    if plan.learning_rate and "learning_rate" not in wrong:
        run.recipe.hyperparameters.base_lr = float(plan.learning_rate)
    if plan.batch_size and "batch_size" not in wrong:
        run.recipe.hyperparameters.batch_size = int(plan.batch_size)
    if plan.seed and "seed" not in wrong:
        run.recipe.hyperparameters.seed = int(plan.seed)


def _fits(value: str, low: int | Decimal, high: int | Decimal, whole: bool) -> bool:
    if whole and not re.fullmatch(r"-?\d+", value):
        return False
    try:
        return low <= Decimal(value) <= high
    except InvalidOperation:
        return False
