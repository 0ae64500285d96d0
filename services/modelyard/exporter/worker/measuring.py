"""Latency on a target: by running the artifact here, by the agent on the device, or not at all. Never guessed."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelyard.core.errors import ModelyardError
from modelyard.core.latency import Latency
from modelyard.exporter.domain.targets import CPU, CPU_1CORE, Target
from modelyard.runtime.latency import measure, usable_cores

log = logging.getLogger(__name__)

AGENT_TOKEN: Final = "MODELYARD_AGENT_TOKEN"  # noqa: S105  the name of the variable
"""Environment variable with what the agents' token files hold; empty: agents ask for none."""


@dataclass(frozen=True)
class Measurement:
    """What one answer takes; with one thread too, where that is something else. Without a latency, why there is none."""

    latency: Latency | None = None
    single_thread: Latency | None = None
    unmeasured_reason: str = ""


def facts_of(facts: Target | None, target: str) -> Target:
    """The target of a job; of an earlier version's job by its name alone."""
    return facts or Target(target, threads=1 if target == CPU_1CORE else 0, local=target in (CPU, CPU_1CORE))


def measured(target: Target, path: Path, seconds: float, *, alone: bool = True) -> Measurement:
    """Measures a bundle for about `seconds`; where more than one thread is used, and `alone`, for half of that with one.

    An agent that does not answer, or has no runtime for the format, is a reason and no error: the artifact is as good as before.
    Raises what runtime.latency.measure does, on targets that are here.
    """
    if not target.measurable:
        return Measurement(unmeasured_reason=target.unmeasured_reason)
    try:
        latency = _once(target, path, seconds, target.threads)
        single = _once(target, path, seconds / 2, 1) if alone and latency.threads > 1 else None
    except ModelyardError as error:
        if target.local:
            raise
        log.warning("%s was not measured: %s", target.id, error.message)
        return Measurement(unmeasured_reason=f"the agent of {target.id} did not measure: {error.message}")
    return Measurement(latency, single)


def _once(target: Target, path: Path, seconds: float, threads: int) -> Latency:
    if target.local:
        return measure(path, target.id, seconds=seconds, threads=threads or usable_cores())
    from modelyard.runtime.measure_remote import measure_on

    token = os.environ.get(AGENT_TOKEN, "")
    ca = os.environ.get("MODELYARD_TLS_CA", "")
    trusted = Path(ca) if ca else None
    return measure_on(target.agent, token, path, target=target.id, seconds=seconds, threads=threads, ca=trusted)
