"""What a report tells of a run, asked for through the client. What somebody may not see, or is gone, is named, not fatal."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from modelyard.client.drawing.report import Facts, worst_of
from modelyard.client.errors import DataLoss, ModelyardClientError
from modelyard.type.v1 import job_pb2

if TYPE_CHECKING:
    from modelyard.client._async.client import AsyncClient
    from modelyard.evaluator.v1 import evaluator_pb2

T = TypeVar("T")
PICTURE_SIDE: Final = 240
"""Largest side of a picture in a report, in pixels."""


class AsyncGatherer:
    """Asks for the parts of a report one after the other, and notes what could not be had. examples: show some of the data."""

    def __init__(self, client: AsyncClient, *, examples: bool = True) -> None:
        self._client, self._examples = client, examples
        self._missing: list[str] = []

    async def of_run(self, run: Any) -> Facts:
        """A pipeline run, and all it made."""
        result = run.result
        job = None
        if result.training_job:
            job = await self._try("the training", lambda: self._client.training.get_training_job(result.training_job))
        return await self._facts(run, job, result.dataset_version, result.model_version, result.evaluation)

    async def of_job(self, job: Any) -> Facts:
        """A training job, and what was made of its model."""
        return await self._facts(None, job, job.dataset_version, job.model_version, "")

    async def _facts(self, run: Any, job: Any, version: str, model: str, evaluation: str) -> Facts:
        client = self._client
        facts = Facts(run=run, job=job)
        if job is not None:
            compared = await self._try("the curves", lambda: client.training.compare_training_jobs([job.name]))
            facts.points = list(compared.jobs[0].points) if compared is not None else ()
        if version:
            facts.version = await self._try("the dataset version", lambda: client.datasets.get_dataset_version(version))
        if model:
            facts.model = await self._try("the model version", lambda: client.models.get_model_version(model))
            facts.exports = await self._try("the exports", lambda: self._exports(model)) or ()
        await self._scores(facts, evaluation)
        if facts.chosen is not None and self._examples:
            facts.views = await self._views(facts.chosen, version)
        facts.passport = await self._passport(facts)
        facts.missing = self._missing
        return facts

    async def _exports(self, model: str) -> list[Any]:
        listed = self._client.exports.list_exports(model_version=model, page_size=1000)
        return [one async for one in listed if one.model_version == model]

    async def _scores(self, facts: Facts, evaluation: str) -> None:
        names = [one.name for one in facts.exports]
        done = await self._try("the evaluations", lambda: self._evaluations(names)) or []
        facts.evaluations = {one.export: one for one in reversed(done)}
        about = list(dict.fromkeys([*([evaluation] if evaluation else []), *(one.name for one in done)]))
        decided = await self._try("the decisions", lambda: self._decisions(about)) or []
        facts.decisions = {one.evaluation: one for one in reversed(decided)}
        chosen = evaluation or next((one.name for one in done), "")
        if chosen:
            facts.chosen = await self._try("the evaluation", lambda: self._client.evaluations.get_evaluation(chosen))

    async def _evaluations(self, exports: list[str]) -> list[Any]:
        if not exports:
            return []
        listed = self._client.evaluations.list_evaluations(exports=exports, page_size=1000)
        return [one async for one in listed if one.export in exports and one.status.state == job_pb2.JOB_STATE_SUCCEEDED]

    async def _decisions(self, evaluations: list[str]) -> list[Any]:
        if not evaluations:
            return []
        listed = self._client.gate.list_gate_decisions(evaluations=evaluations, page_size=1000)
        return [one async for one in listed if one.evaluation in evaluations]

    async def _views(self, evaluation: evaluator_pb2.Evaluation, version: str) -> Any:
        ids = [one.example_id for one in worst_of(evaluation)]
        parent = evaluation.dataset_version or version
        if not ids or not parent:
            return None
        view = self._client.examples.view
        return await self._try(
            "the examples", lambda: view(parent, ids, content="preview", max_size=PICTURE_SIDE, max_points=200)
        )

    async def _passport(self, facts: Facts) -> Any:
        decision = facts.decisions.get(facts.chosen.name) if facts.chosen is not None else None
        if decision is None or not decision.passport.uri:
            return None

        async def read() -> tuple[Mapping[str, Any], str, str]:
            with tempfile.TemporaryDirectory() as folder:
                path = await self._client.artifacts.download(decision.passport, Path(folder) / "passport.json")
                return passport_said(path.read_bytes())

        return await self._try("the passport", read)

    async def _try(self, what: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await ask()
        except ModelyardClientError as error:
            self._missing.append(f"{what}: {error}")
        return None


def passport_said(data: bytes) -> tuple[Mapping[str, Any], str, str]:
    """Content, sha256 of the artifact and key of a passport, as it says them: to be shown, verified by nobody here.

    Raises DataLoss where it is no signed statement about one artifact.
    """
    try:
        envelope = json.loads(data)["dsseEnvelope"]
        (signature,), (subject,) = envelope["signatures"], (said := json.loads(base64.b64decode(envelope["payload"])))["subject"]
        return dict(said["predicate"]), str(subject["digest"]["sha256"]), str(signature["keyid"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        message = f"it is no signed statement about one artifact ({type(error).__name__})"
        raise DataLoss(message, reason="PASSPORT_UNREADABLE") from error
