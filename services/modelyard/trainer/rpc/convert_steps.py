"""Steps of feature pipelines and augmentation policies: contract messages to domain values and back.

The settings have the names of the contract's fields; a field that is not set is left to the step's default.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from modelyard.core.errors import InvalidArgument
from modelyard.recipes.features import REASON as INVALID_FEATURES
from modelyard.recipes.policy import REASON as INVALID_AUGMENTATION
from modelyard.recipes.steps import Step
from modelyard.trainer.v1 import transform_pb2 as pb


def feature_steps(messages: Iterable[pb.FeatureStep], path: str) -> tuple[Step, ...]:
    """What a request says of its features. Raises InvalidArgument for a step that says nothing."""
    return tuple(
        Step(*_done(message, f"{path}[{at}]", INVALID_FEATURES), tuple(message.columns), message.kind)
        for at, message in enumerate(messages)
    )


def augmentation_steps(messages: Iterable[pb.AugmentationStep], path: str) -> tuple[Step, ...]:
    """What a request says of its augmentation. Raises InvalidArgument for a step that says nothing."""
    return tuple(Step(*_done(message, f"{path}[{at}]", INVALID_AUGMENTATION)) for at, message in enumerate(messages))


def feature_message(step: Step) -> pb.FeatureStep:
    """A step of features as a message, every setting that it has in it."""
    message = pb.FeatureStep(columns=step.columns, kind=step.kind)
    _fill(message, step)
    return message


def augmentation_message(step: Step) -> pb.AugmentationStep:
    """A step of an augmentation as a message, every setting that it has in it."""
    message = pb.AugmentationStep()
    _fill(message, step)
    return message


def _fill(message: Message, step: Step) -> None:
    part: Message = getattr(message, step.do)
    part.SetInParent()
    for name, value in step.settings.items():
        if isinstance(value, list | tuple):
            getattr(part, name).extend(value)
        else:
            setattr(part, name, value)


def _done(message: Any, path: str, reason: str) -> tuple[str, dict[str, Any]]:
    """The name of the step and the settings that are given."""
    which = message.WhichOneof("step")
    if which is None:
        kinds = ", ".join(field.name for field in message.DESCRIPTOR.oneofs_by_name["step"].fields)
        raise InvalidArgument(reason, f"{path} says no step; one of {kinds} is right", field=path)
    return which, {
        field.name: list(value) if field.is_repeated else value for field, value in getattr(message, which).ListFields()
    }
