"""Training jobs to an MLflow server, through MLflow's own client where it is installed (mlflow or mlflow-skinny)."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from modelyard.cli.asking import wrong
from modelyard.client import FailedPrecondition

if TYPE_CHECKING:
    from modelyard.trainer.v1 import trainer_pb2

AT_ONCE: Final = 500
"""Metrics in one call; MLflow takes at most 1000."""
LONGEST_PARAMETER: Final = 500


class Tracking:
    """An MLflow server, by its tracking URI."""

    def __init__(self, uri: str) -> None:
        try:
            self._mlflow: Any = importlib.import_module("mlflow")
        except ImportError:
            message = f"to is {uri!r}, which wants MLflow's client, and that is not installed: pip install mlflow-skinny"
            raise FailedPrecondition(message, reason="NO_MLFLOW", values={"to": uri}) from None
        self._uri = uri
        self._client = self._mlflow.MlflowClient(tracking_uri=uri)

    def experiment(self, name: str) -> str:
        """The id of an experiment, made where there is none."""
        try:
            found = self._client.get_experiment_by_name(name)
            return str(found.experiment_id if found is not None else self._client.create_experiment(name))
        except self._mlflow.exceptions.MlflowException as error:
            raise wrong("to", self._uri, f"to is {self._uri!r}, which does not answer as MLflow: {str(error)[:200]}") from None

    def log(
        self,
        experiment: str,
        job: str,
        times: tuple[int, int | None],
        status: str,
        said: tuple[str, Mapping[str, str], Mapping[str, Any]],
        points: Sequence[trainer_pb2.TrainingPoint],
    ) -> bool:
        """Makes a run of a job, unless it is there. times: start and end in ms; said: its name, tags and parameters."""
        name, tags, parameters = said
        if self._client.search_runs([experiment], f"tags.`modelyard.job` = '{job}'", max_results=1):
            return False
        run = self._client.create_run(experiment, start_time=times[0], tags=dict(tags), run_name=name)
        entities = self._mlflow.entities
        params = [entities.Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in parameters.items()]
        self._client.log_batch(run.info.run_id, params=params)
        metrics = iter(self._metrics(points))
        while batch := list(islice(metrics, AT_ONCE)):
            self._client.log_batch(run.info.run_id, metrics=batch)
        self._client.set_terminated(run.info.run_id, status, times[1])
        return True

    def _metrics(self, points: Sequence[trainer_pb2.TrainingPoint]) -> Iterator[Any]:
        for point in points:
            values = {"loss": point.loss, "learning_rate": point.learning_rate, **dict(point.metrics)}
            for name, value in values.items():
                yield self._mlflow.entities.Metric(name, value, point.time.ToMilliseconds(), point.step)
