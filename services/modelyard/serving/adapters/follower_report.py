"""What a follower tells the centre: counts and states, never a request's contents."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from modelyard.serving.adapters.inventory import inventory
from modelyard.serving.domain.drift import DriftScore
from modelyard.serving.domain.following import FollowedState, Progress
from modelyard.serving.domain.names import endpoint_model
from modelyard.serving.domain.version_statistics import VersionStatistics, percentile_ms
from modelyard.serving.handlers.staging import Staging
from modelyard.serving.ports import ServedModel
from modelyard.serving.v1 import fleet_pb2, serving_pb2

STATES: Final = {state: fleet_pb2.FollowedVersion.State.Value(f"STATE_{state.value}") for state in FollowedState}
SUMMED: Final = ("successes", "failures", "examples", "executions", "crashes")
INVENTORY_EVERY: Final = 20
"""The inventory goes with each so manieth report, and with the first."""


class FollowerReport:
    """`wake`: set when there is something to tell at once. `earlier`: `totals` of before the start."""

    def __init__(self, staging: Staging, cache: Path, earlier: Mapping[str, Any] | None = None) -> None:
        self._staging, self._cache, self._earlier = staging, cache, dict(earlier or {})
        self._began = time.monotonic()
        self._sequence = self._missed = self._told = 0
        self.message = ""
        self.wake = threading.Event()

    def made(self, number: int) -> fleet_pb2.StateReport:
        """The report for now."""
        self._sequence += 1
        return fleet_pb2.StateReport(
            sequence=self._sequence,
            number=number,
            versions=[self._version(key, progress) for key, progress in self._staging.progress.items()],
            inventory=inventory(self._cache) if self._told % INVENTORY_EVERY == 0 else None,
            uptime_s=time.monotonic() - self._began,
            message=self.message[:500],
            missed=self._missed,
        )

    def sent(self) -> None:
        """The centre has it."""
        self._told += 1
        self._missed = 0

    def not_sent(self) -> None:
        """It was lost: counts are totals, so that the next one has them too."""
        self._missed += 1

    def totals(self) -> dict[str, Any]:
        """Counts of each version that is known, restarts included: plain JSON, by endpoint, version and bytes."""
        found = {}
        for (endpoint, version), progress in self._staging.progress.items():
            loaded = self._loaded(endpoint, version)
            key = f"{endpoint} {version} {progress.sha256}"
            earlier = self._earlier.get(key, {})
            counts = loaded.statistics if loaded is not None else VersionStatistics(0.0)
            found[key] = {name: earlier.get(name, 0) + getattr(counts, name) for name in SUMMED}
            found[key]["start_time"] = earlier.get("start_time") or counts.start_time
        return found

    def _loaded(self, endpoint: str, version: str) -> ServedModel | None:
        entry = self._staging.registry.entry(endpoint_model(endpoint), version)
        return entry.loaded if entry is not None else None

    def _version(self, key: tuple[str, str], progress: Progress) -> fleet_pb2.FollowedVersion:
        endpoint, version = key
        loaded = self._loaded(endpoint, version)
        earlier = self._earlier.get(f"{endpoint} {version} {progress.sha256}", {})
        return fleet_pb2.FollowedVersion(
            endpoint=endpoint,
            version=version,
            bundle_sha256=progress.sha256,
            attempt=progress.attempt,
            state=STATES[progress.state],
            message=progress.message[:500],
            downloaded_bytes=progress.downloaded_bytes,
            statistics=_statistics(loaded, earlier) if loaded is not None else None,
        )


def _statistics(loaded: ServedModel, earlier: Mapping[str, Any]) -> serving_pb2.DeploymentStatistics:
    counts = loaded.statistics
    start = Timestamp()
    start.FromMilliseconds(int((earlier.get("start_time") or counts.start_time) * 1000))
    return serving_pb2.DeploymentStatistics(
        successes=earlier.get("successes", 0) + counts.successes,
        failures=earlier.get("failures", 0) + counts.failures,
        examples=earlier.get("examples", 0) + counts.examples,
        executions=earlier.get("executions", 0) + counts.executions,
        p50_ms=percentile_ms(counts.latencies, 0.5),
        p99_ms=percentile_ms(counts.latencies, 0.99),
        drift=[_drift(score) for score in loaded.drift()],
        start_time=start,
        crashes=earlier.get("crashes", 0) + counts.crashes,
        memory_bytes=loaded.memory_bytes(),
    )


def _drift(score: DriftScore) -> serving_pb2.Drift:
    return serving_pb2.Drift(
        feature=score.feature,
        direction=serving_pb2.Drift.Direction.Value(f"DIRECTION_{score.direction.value}"),
        score=score.score,
        examples=score.examples,
        level=serving_pb2.Drift.Level.Value(f"LEVEL_{score.level.value}"),
        note=score.note,
    )
