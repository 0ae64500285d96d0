"""Asks pods over the Open Inference Protocol which versions they hold and how these fare."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import grpc

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from modelyard.serving.domain.drift import Direction, DriftScore, Level
from modelyard.serving.domain.names import endpoint_model, numbered_version
from modelyard.serving.domain.placement import Held, Holding
from modelyard.serving.ports import PodAnswer, PodFacts
from modelyard.serving.v1 import serving_pb2, serving_service_pb2
from modelyard.serving.v1.serving_service_pb2_grpc import ServingServiceStub

PATIENCE_S: Final = 2.0
MOST_CHANNELS: Final = 512
DRIFT_S: Final = 15.0
"""How often a version's drift is asked for."""
_STATES: Final = {"READY": Holding.READY, "LOADING": Holding.LOADING}

OpenChannel = Callable[[str], Any]
"""A grpc.Channel to host:port."""


class GrpcPodProbe:
    """See ports.PodProbe. `metadata`: what every call carries (a service's token). `stamp`: changes when channels must be new."""

    def __init__(
        self, open_channel: OpenChannel, metadata: Sequence[tuple[str, str]] = (), stamp: Callable[[], object] = lambda: None
    ) -> None:
        self._open, self._metadata, self._stamp = open_channel, metadata, stamp
        self._made_of = stamp()
        self._channels: dict[str, Any] = {}
        self._configs: dict[tuple[str, str, str], tuple[bool, int]] = {}
        self._drifts: dict[tuple[str, str, str], tuple[tuple[DriftScore, ...], float]] = {}
        self._guard = threading.Lock()

    def ask(self, address: str, endpoint: str) -> PodAnswer | None:
        """See ports.PodProbe."""
        model = endpoint_model(endpoint)
        stub = GRPCInferenceServiceStub(self._channel(address))
        call = {"timeout": PATIENCE_S, "metadata": self._metadata}
        try:
            index = stub.RepositoryIndex(oip.RepositoryIndexRequest(), **call)
        except grpc.RpcError:
            return None
        mine = [each for each in index.models if each.name == model]
        versions = {each.version: Held(_STATES.get(each.state, Holding.FAILED), each.reason[:500]) for each in mine}
        ready = [version for version, held in versions.items() if held.state is Holding.READY]
        if not ready:
            return PodAnswer(versions, {})
        try:
            counted = stub.ModelStatistics(oip.ModelStatisticsRequest(name=model), **call).model_stats
            facts = {version: self._facts(stub, (address, model, version), counted, call) for version in ready}
            facts = {version: replace(one, drift=self._drift(address, endpoint, version, call)) for version, one in facts.items()}
        except grpc.RpcError:  # one was unloaded meanwhile
            return PodAnswer(versions, {})
        last_ms = max((each.last_inference for each in counted), default=0)
        return PodAnswer(versions, facts, last_ms / 1000)

    def close(self) -> None:
        """See ports.PodProbe."""
        with self._guard:
            channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.close()

    def _facts(self, stub: Any, which: tuple[str, str, str], counted: Any, call: dict[str, Any]) -> PodFacts:
        _, model, version = which
        number = numbered_version(version)
        mine = next((each for each in counted if each.version == number), None)
        if which not in self._configs:
            config = stub.ModelConfig(oip.ModelConfigRequest(name=model, version=version), **call).config
            threads = config.parameters["threads"].string_value if "threads" in config.parameters else "0"
            if len(self._configs) >= MOST_CHANNELS:
                self._configs.clear()
            self._configs[which] = config.HasField("dynamic_batching"), int(threads) if threads.isdigit() else 0
        batched, threads_ = self._configs[which]
        if mine is None:
            return PodFacts(batched=batched, threads=threads_)
        memory = sum(each.byte_size for each in mine.memory_usage)
        return PodFacts(memory, mine.execution_count, batched, threads_)

    def _drift(self, address: str, endpoint: str, version: str, call: dict[str, Any]) -> tuple[DriftScore, ...]:
        """Looked at now and then only: it is worth most of what such an answer costs."""
        which, now = (address, endpoint, version), time.monotonic()
        known, until = self._drifts.get(which, ((), 0.0))
        if until > now:
            return known
        name = f"{endpoint}/deployments/{version}"
        stub = ServingServiceStub(self._channel(address))
        try:
            found = stub.GetDeploymentStatistics(serving_service_pb2.GetDeploymentStatisticsRequest(name=name), **call)
            known = tuple(map(_score, found.drift))
        except grpc.RpcError:  # a server of bundles has no statistics of deployments
            known = ()
        if len(self._drifts) >= MOST_CHANNELS:
            self._drifts.clear()
        self._drifts[which] = known, now + DRIFT_S
        return known

    def _channel(self, address: str) -> Any:
        with self._guard:
            if (stamp := self._stamp()) != self._made_of:  # what runs on the old ones goes on
                self._channels, self._made_of = {}, stamp
            channel = self._channels.get(address)
            if channel is None:
                if len(self._channels) >= MOST_CHANNELS:  # pods come and go: those of long ago are closed
                    self._channels.pop(next(iter(self._channels))).close()
                channel = self._channels[address] = self._open(address)
            return channel


def _score(message: serving_pb2.Drift) -> DriftScore:
    direction = Direction(serving_pb2.Drift.Direction.Name(message.direction).removeprefix("DIRECTION_"))
    level = Level(serving_pb2.Drift.Level.Name(message.level).removeprefix("LEVEL_"))
    return DriftScore(message.feature, direction, message.score, message.examples, level, message.note)
