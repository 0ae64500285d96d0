"""Latency in the contracts."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from modelyard.core.latency import Latency
from modelyard.type.v1 import learning_pb2


def latency_message(latency: Latency) -> learning_pb2.Latency:
    """The message of a latency."""
    return learning_pb2.Latency(**asdict(latency))


def latency_of(message: Any) -> Latency:
    """What a message says that has the fields of a latency: learning_pb2.Latency, or the answer of an agent."""
    return Latency(**{field.name: getattr(message, field.name) for field in fields(Latency)})
