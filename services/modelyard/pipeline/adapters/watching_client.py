"""ports.Watching through modelyard.client; predictions of single examples come as Parquet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.core import names
from modelyard.core.client_errors import named_errors
from modelyard.core.errors import FailedPrecondition
from modelyard.pipeline.domain.reevaluation import Answers
from modelyard.pipeline.ports import Champion, EvaluationFacts

if TYPE_CHECKING:
    from modelyard.client import Client

CHAMPION = "champion"
COLUMNS = ["example_id", "usage", "label", "prediction"]
SCORE = "score"
"""Column of tasks whose answers are neither classes nor numbers."""


class ClientWatching:
    """ports.Watching."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def check(self, endpoint: str, dataset: str, dataset_version: str) -> None:
        """See ports.Watching."""
        with named_errors():
            self._client.endpoints.get_endpoint(endpoint)
            if dataset:
                self._client.datasets.get_dataset(dataset)
            if dataset_version:
                self._client.datasets.get_dataset_version(dataset_version)

    def champion(self, endpoint: str) -> Champion:
        """See ports.Watching."""
        with named_errors():
            found = self._client.endpoints.get_endpoint(endpoint)
            labels = {label.label: label.deployment for label in found.labels}
            version = labels.get(CHAMPION) or found.default_version
            deployments = {names.id_of(each.name): each for each in found.deployments}
            if version not in deployments:
                message = f"{endpoint} answers nobody: no version of it is READY or called {CHAMPION}"
                raise FailedPrecondition("NO_CHAMPION", message, field="reevaluation.endpoint", endpoint=endpoint)
            deployment = deployments[version]
            decision = self._client.gate.get_gate_decision(deployment.gate_decision)
        return Champion(deployment.export, decision.evaluation)

    def newest_version(self, dataset: str) -> str:
        """See ports.Watching."""
        with named_errors():
            return self._client.datasets.get_dataset_version(f"{dataset}/versions/{names.LATEST}").name

    def facts(self, evaluation: str) -> EvaluationFacts:
        """See ports.Watching."""
        with named_errors():
            found = self._client.evaluations.get_evaluation(evaluation)
            return EvaluationFacts(found.dataset_version, any(score.classes for score in found.scores))

    def start(self, export: str, dataset_version: str, usage: str, request_id: str) -> str:
        """See ports.Watching."""
        with named_errors():
            made = self._client.evaluations.create_evaluation(
                export, dataset_version=dataset_version, usages=[usage], request_id=request_id
            )
        return made.name

    def answers(self, evaluation: str, usage: str) -> Answers:
        """See ports.Watching."""
        with tempfile.TemporaryDirectory() as folder, named_errors():
            found = self._client.evaluations.get_evaluation(evaluation)
            path = self._client.artifacts.download(found.predictions, Path(folder) / "predictions.parquet")
            return read_answers(path, usage)


def read_answers(path: Path, usage: str) -> Answers:
    """The answers in a file of predictions, as the evaluator writes it."""
    import pyarrow.parquet as pq

    more = [name for name in pq.read_schema(path).names if name == SCORE]
    table: dict[str, list[Any]] = pq.read_table(path, columns=[*COLUMNS, *more]).to_pydict()
    rows = zip(*(table[column] for column in COLUMNS), strict=True)
    of_usage = {example: (label, answer) for example, used, label, answer in rows if used == usage}
    figures = dict(zip(table["example_id"], table[SCORE], strict=True)) if more else {}
    return Answers(of_usage, frozenset(table["example_id"]), figures)
