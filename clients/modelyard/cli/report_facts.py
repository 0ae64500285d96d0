"""What a report tells of a run, asked for through the client. What somebody may not see, or is gone, is named, not fatal."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modelyard.client import ModelyardClientError
from modelyard.client.drawing.report import Facts, worst_of
from modelyard.type.v1 import job_pb2

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.evaluator.v1 import evaluator_pb2

T = TypeVar("T")
PICTURE_SIDE = 240
"""Largest side of a picture in a report, in pixels."""


class Gatherer:
    """Asks for the parts of a report one after the other, and notes what could not be had."""

    def __init__(self, here: Session, examples: bool) -> None:
        self._client, self._examples = here.client, examples
        self._missing: list[str] = []

    def of_run(self, run: Any) -> Facts:
        """A pipeline run, and all it made."""
        result = run.result
        job = (
            self._try("the training", lambda: self._client.training.get_training_job(result.training_job))
            if result.training_job
            else None
        )
        return self._facts(run, job, result.dataset_version, result.model_version, result.evaluation)

    def of_job(self, job: Any) -> Facts:
        """A training job, and what was made of its model."""
        return self._facts(None, job, job.dataset_version, job.model_version, "")

    def _facts(self, run: Any, job: Any, version: str, model: str, evaluation: str) -> Facts:
        client = self._client
        facts = Facts(run=run, job=job)
        if job is not None:
            compared = self._try("the curves", lambda: client.training.compare_training_jobs([job.name]))
            facts.points = list(compared.jobs[0].points) if compared is not None else ()
        if version:
            facts.version = self._try("the dataset version", lambda: client.datasets.get_dataset_version(version))
        if model:
            facts.model = self._try("the model version", lambda: client.models.get_model_version(model))
            found = self._try("the exports", lambda: [one for one in client.exports.list_exports() if one.model_version == model])
            facts.exports = found or ()
        self._scores(facts, evaluation)
        if facts.chosen is not None and self._examples:
            facts.views = self._views(facts.chosen, version)
        facts.passport = self._passport(facts)
        facts.missing = self._missing
        return facts

    def _scores(self, facts: Facts, evaluation: str) -> None:
        names = {one.name for one in facts.exports}
        listed = self._try("the evaluations", lambda: list(self._client.evaluations.list_evaluations())) or []
        done = [one for one in listed if one.export in names and one.status.state == job_pb2.JOB_STATE_SUCCEEDED]
        facts.evaluations = {one.export: one for one in reversed(done)}
        decided = self._try("the decisions", lambda: list(self._client.gate.list_gate_decisions())) or []
        facts.decisions = {one.evaluation: one for one in reversed(decided)}
        chosen = evaluation or next((one.name for one in done), "")
        if chosen:
            facts.chosen = self._try("the evaluation", lambda: self._client.evaluations.get_evaluation(chosen))

    def _views(self, evaluation: evaluator_pb2.Evaluation, version: str) -> Any:
        ids = [one.example_id for one in worst_of(evaluation)]
        parent = evaluation.dataset_version or version
        if not ids or not parent:
            return None
        view = self._client.examples.view
        return self._try("the examples", lambda: view(parent, ids, content="preview", max_size=PICTURE_SIDE, max_points=200))

    def _passport(self, facts: Facts) -> Any:
        decision = facts.decisions.get(facts.chosen.name) if facts.chosen is not None else None
        if decision is None or not decision.passport.uri:
            return None

        def read() -> Any:
            from modelyard.formats.passport import read

            with tempfile.TemporaryDirectory() as folder:
                path = self._client.artifacts.download(decision.passport, Path(folder) / "passport.json")
                found = read(path.read_bytes())
            return found.content, found.artifact_sha256, found.key_id

        return self._try("the passport", read)

    def _try(self, what: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except ModelyardClientError as error:
            self._missing.append(f"{what}: {error}")
        except ImportError as error:
            self._missing.append(f"{what}: this installation cannot read it ({error.name} is missing)")
        return None
