"""Where a latency comes from: here, the agent on the device, or nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.core.latency import Latency
from modelyard.exporter.domain.targets import Target, predefined
from modelyard.exporter.worker.measuring import AGENT_TOKEN, Measurement, facts_of, measured
from modelyard.runtime import agent

TOKEN = "a token that is long enough"
BY_ID = {target.id: target for target in predefined(gpu_is_here=False)}
CAMERA = Target("camera", format="litert", agent="127.0.0.1:1", threads=2)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "m.bundle"
    path.write_bytes(b"bundle")
    return path


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A target whose agent says what it was asked instead of measuring."""
    monkeypatch.setenv(AGENT_TOKEN, TOKEN)

    def said(path: Path, target: str, seconds: float, threads: int) -> Latency:
        assert path.read_bytes() == b"bundle"
        return Latency(10.0 / threads, 11.0, 12.0, 50, threads, target, "a camera", 1000)

    server, port = agent.start("127.0.0.1:0", TOKEN, measure=said)
    yield Target("camera", format="litert", agent=f"127.0.0.1:{port}", threads=2)
    server.stop(0)


@pytest.mark.parametrize("target", ["gpu", "edge-arm64", "mcu"])
def test_what_is_not_here_is_not_measured(target: str, bundle: Path) -> None:
    found = measured(BY_ID[target], bundle, 0.1)
    assert found == Measurement(unmeasured_reason=BY_ID[target].unmeasured_reason)
    assert target in found.unmeasured_reason


def test_the_agent_on_the_device_measures_with_the_targets_threads_and_with_one(device: Target, bundle: Path) -> None:
    found = measured(device, bundle, 0.5)
    assert found.latency == Latency(5.0, 11.0, 12.0, 50, 2, "camera", "a camera", 1000)
    assert found.single_thread is not None
    assert (found.single_thread.threads, found.single_thread.p50_ms) == (1, 10.0)
    assert found.unmeasured_reason == ""
    assert measured(device, bundle, 0.5, alone=False).single_thread is None


def test_an_agent_that_is_away_or_does_not_know_us_is_a_reason_and_no_error(
    device: Target, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "does not answer" in measured(CAMERA, bundle, 0.1).unmeasured_reason
    monkeypatch.setenv(AGENT_TOKEN, "another token, just as long")
    found = measured(device, bundle, 0.1)
    assert found.latency is None
    assert "token" in found.unmeasured_reason


def test_jobs_of_earlier_versions_name_their_target_only() -> None:
    assert facts_of(None, "cpu-1core") == Target("cpu-1core", threads=1, local=True)
    assert facts_of(None, "cpu").local
    assert facts_of(CAMERA, "camera") is CAMERA
