"""Training jobs as files: CSV, and the folders that MLflow keeps (its file store), so that its tools show them.

The folders are those of MLflow's FileStore: mlruns/EXPERIMENT/RUN/{meta.yaml, params/NAME, metrics/NAME, tags/NAME}. A metric's
file has a line "milliseconds value step" for each point. They are written without MLflow.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelyard.cli.asking import wrong
from modelyard.cli.ledger import best_metrics
from modelyard.cli.live import state_name
from modelyard.cli.output import plain
from modelyard.cli.tensorboard import write_curves
from modelyard.client import last_part, short

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.trainer.v1 import trainer_pb2

STATUS: Final = {"SUCCEEDED": 3, "FAILED": 4, "CANCELLED": 5, "RUNNING": 1, "QUEUED": 2}
"""MLflow's numbers of a run's status: RUNNING, SCHEDULED, FINISHED, FAILED, KILLED."""
ENDED: Final = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}
"""Its names of them."""


def saved(here: Session, jobs: Sequence[trainer_pb2.TrainingJob], to: str, curves: bool, tensorboard: bool = False) -> int:
    """Writes the jobs; gives how many. InvalidArgument when the place cannot be written to."""
    if tensorboard and ("://" in to or to.lower().endswith(".csv")):
        raise wrong("to", to, f"to is {to!r}; with --tensorboard give a folder")
    if "://" in to:
        return _send_mlflow(here, jobs, to)
    path = Path(to).expanduser()
    try:
        if tensorboard:
            for job in jobs:
                write_curves(path, last_part(job.name), _curve(here, job))
        elif path.suffix.lower() == ".csv":
            _write_csv(here, jobs, path, curves)
        else:
            _write_mlflow(here, jobs, path)
    except OSError as error:
        raise wrong("to", to, f"to is {to!r}, which cannot be written: {error.strerror}") from None
    return len(jobs)


def _send_mlflow(here: Session, jobs: Sequence[trainer_pb2.TrainingJob], uri: str) -> int:
    """Makes a run of every job that has ended and is not there yet; gives how many."""
    from modelyard.cli.send_mlflow import Tracking

    tracking, sent = Tracking(uri), 0
    for job in jobs:
        state = state_name(job.status.state)
        if state not in ENDED:
            continue
        experiment = tracking.experiment(f"modelyard/{last_part(job.model)}")
        times = (_start_ms(job), job.status.end_time.ToMilliseconds())
        said = (job.display_name or last_part(job.name), _tags(job), _parameters(job))
        sent += tracking.log(experiment, job.name, times, ENDED[state], said, _curve(here, job))
    return sent


def _start_ms(job: trainer_pb2.TrainingJob) -> int:
    status = job.status
    return status.start_time.ToMilliseconds() if status.HasField("start_time") else status.create_time.ToMilliseconds()


def _tags(job: trainer_pb2.TrainingJob) -> dict[str, str]:
    row = _row(job)
    tags = {"mlflow.runName": job.display_name or last_part(job.name), "modelyard.job": job.name}
    tags |= {f"modelyard.{name}": str(row[name]) for name in ("dataset_version", "experiment", "model_version", "tags", "reason")}
    return tags | ({"mlflow.note.content": str(row["remarks"])} if row["remarks"] else {})


def _write_csv(here: Session, jobs: Sequence[trainer_pb2.TrainingJob], path: Path, curves: bool) -> None:
    rows = [row for job in jobs for row in _points(here, job)] if curves else [_row(job) for job in jobs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """A cell that a spreadsheet will not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _row(job: trainer_pb2.TrainingJob) -> dict[str, Any]:
    return {
        "job": last_part(job.name),
        "display_name": job.display_name,
        "state": state_name(job.status.state),
        "reason": job.status.reason,
        "dataset_version": short(job.dataset_version),
        "model": last_part(job.model),
        "model_version": short(job.model_version),
        "experiment": job.experiment,
        "repeat_of": last_part(job.repeat_of),
        "repeat_reason": job.repeat_reason,
        "part_of": last_part(job.part_of),
        "tags": " ".join(job.tags),
        "remarks": " | ".join(remark.text for remark in job.remarks),
        "created": job.status.create_time.ToJsonString() if job.status.HasField("create_time") else "",
        "train_seconds": job.train_duration.ToNanoseconds() / 1e9,
        **_parameters(job),
        **best_metrics(job),
    }


def _parameters(job: trainer_pb2.TrainingJob) -> dict[str, Any]:
    recipe = job.resolved_recipe
    document: dict[str, Any] = plain(recipe)
    settings = document.pop("hyperparameters", {})
    kept = {name: document[name] for name in ("recipe_id", "architecture", "input_height", "input_width", "weights")}
    return {**kept, **{name: value for name, value in settings.items() if value not in ("", None, "UNSPECIFIED")}}


def _points(here: Session, job: trainer_pb2.TrainingJob) -> Iterable[dict[str, Any]]:
    for point in _curve(here, job):
        yield {
            "job": last_part(job.name),
            "step": point.step,
            "epoch": point.epoch,
            "loss": point.loss,
            "learning_rate": point.learning_rate,
            **dict(point.metrics),
        }


def _curve(here: Session, job: trainer_pb2.TrainingJob) -> list[trainer_pb2.TrainingPoint]:
    """The points of a job that has ended; of one that runs none, for its curve has no end yet."""
    if state_name(job.status.state) in ("RUNNING", "QUEUED"):
        return []
    return [point for change in here.client.training.watch_training_job(job.name) for point in change.points]


def _write_mlflow(here: Session, jobs: Sequence[trainer_pb2.TrainingJob], root: Path) -> None:
    for job in jobs:
        experiment = root / _number(f"{here.client.names.parent}/{last_part(job.model)}")
        _experiment(experiment, last_part(job.model))
        _run(here, job, experiment)


def _experiment(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "artifact_location": folder.absolute().as_uri(),
        "creation_time": 0,
        "experiment_id": folder.name,
        "last_update_time": 0,
        "lifecycle_stage": "active",
        "name": f"modelyard/{name}",
    }
    _yaml(folder / "meta.yaml", values)


def _run(here: Session, job: trainer_pb2.TrainingJob, experiment: Path) -> None:
    id_ = hashlib.sha256(job.name.encode()).hexdigest()[:32]
    folder = experiment / id_
    for part in ("metrics", "params", "tags", "artifacts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    status = job.status
    _yaml(
        folder / "meta.yaml",
        {
            "artifact_uri": (folder / "artifacts").absolute().as_uri(),
            "end_time": status.end_time.ToMilliseconds() if status.HasField("end_time") else None,
            "entry_point_name": "",
            "experiment_id": experiment.name,
            "lifecycle_stage": "active",
            "run_id": id_,
            "run_name": job.display_name or last_part(job.name),
            "run_uuid": id_,
            "source_name": "",
            "source_type": 4,
            "source_version": "",
            "start_time": _start_ms(job),
            "status": STATUS.get(state_name(status.state), 1),
            "tags": [],
            "user_id": "modelyard",
        },
    )
    for name, value in _parameters(job).items():
        (folder / "params" / name).write_text(str(value), encoding="utf-8")
    for name, value in _tags(job).items():
        (folder / "tags" / name).write_text(value, encoding="utf-8")
    for name, lines in _metrics(_curve(here, job)).items():
        (folder / "metrics" / name).write_text("".join(lines), encoding="utf-8")


def _metrics(points: Sequence[trainer_pb2.TrainingPoint]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for point in points:
        values = {"loss": point.loss, "learning_rate": point.learning_rate, **dict(point.metrics)}
        for name, value in values.items():
            found.setdefault(name, []).append(f"{point.time.ToMilliseconds()} {value!r} {point.step}\n")
    return found


def _number(text: str) -> str:
    """A number of 18 digits for an experiment, as MLflow gives them; the same for the same name."""
    return str(10**17 + int(hashlib.sha256(text.encode()).hexdigest(), 16) % (9 * 10**17))


def _yaml(path: Path, values: Mapping[str, Any]) -> None:
    """One field a line. JSON values are YAML, too."""
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items()]
    path.write_text("".join(lines), encoding="utf-8")
