"""How model versions were made: what the trainer service knows of them, through modelyard.client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from modelyard.core.client_errors import named_errors
from modelyard.core.errors import FailedPrecondition, NotFound
from modelyard.evaluator.domain.experiment import Experiment
from modelyard.recipes.catalogue import licence_of

if TYPE_CHECKING:
    from modelyard.client import Client


class ClientExperiments:
    """ports.Experiments. The client is made at the first call: embedded, the address is known only then."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    def get(self, model_version: str) -> Experiment | str:
        """See ports.Experiments."""
        try:
            with named_errors("trainer"):
                found = self._client().models.get_model_version(model_version)
        except NotFound:
            return f"{model_version} does not exist any more"
        except FailedPrecondition as error:  # no trainer service is known here
            return error.message
        recipe: dict[str, Any] = json_format.MessageToDict(found.recipe, preserving_proto_field_name=True)
        return Experiment(
            model_version=found.name,
            dataset_version=found.dataset_version,
            dataset_digest=found.dataset_digest,
            training_job=found.training_job,
            parent_version=found.parent_version,
            recipe=recipe,
            licence=licence_of(found.recipe.architecture, found.recipe.weights),
            create_time=found.create_time.ToJsonString(),
        )
