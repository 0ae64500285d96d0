"""Users (see ports) over a client: the services that train and evaluate say what still stands."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from modelyard.core.client_errors import named_errors
from modelyard.core.errors import NotFound
from modelyard.dataset.ports import Use
from modelyard.type.v1 import job_pb2

if TYPE_CHECKING:
    from modelyard.client import Client

_ENDED = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)


class ClientUsers:
    """Asks the trainer and the evaluator."""

    def __init__(self, client: Callable[[str], Client]) -> None:
        self._client = client

    def standing(self, use: Use) -> str:
        """What still stands of a use, in words; "" where nothing does. Raises Unavailable."""
        client = self._client(use.user.split("/")[1])
        try:
            return _evaluation(client, use) if "/evaluations/" in use.user else _training(client, use)
        finally:
            client.close()

    def models_of(self, versions: Collection[str]) -> tuple[str, ...]:
        """Model versions that were trained on one of these dataset versions, of one project. Raises Unavailable."""
        wanted = set(versions)
        if not wanted:
            return ()
        client = self._client(next(iter(wanted)).split("/")[1])
        try:
            with named_errors():
                models = [model.name for model in client.models.list_models(page_size=1000)]
                found = (one for name in models for one in client.models.list_model_versions(name, page_size=1000))
                return tuple(one.name for one in found if one.dataset_version in wanted)
        finally:
            client.close()


def _evaluation(client: Client, use: Use) -> str:
    try:
        with named_errors():
            status = client.evaluations.get_evaluation(use.user).status
    except NotFound:
        return ""
    return "" if status.state in _ENDED else f"{use.user} runs on it"


def _training(client: Client, use: Use) -> str:
    try:
        with named_errors():
            status = client.training.get_training_job(use.user).status
    except NotFound:
        return ""
    return "" if status.state in _ENDED else f"{use.user} runs on it"
