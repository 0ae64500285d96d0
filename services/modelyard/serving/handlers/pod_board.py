"""What is known of the pods of every endpoint, brought up to date by asking; and when pods that nobody asks may go.

The data plane reads it for every request, so what it reads is replaced as a whole, never changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import structlog

from modelyard.core.errors import Aborted, FailedPrecondition, ModelyardError, Unavailable
from modelyard.serving.domain.drift import DriftScore
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.domain.names import endpoint_model
from modelyard.serving.domain.placement import USUAL, Holding, Outlook, Placement, Pod, PodState, outlook
from modelyard.serving.ports import Batching, PodFacts, PodFleet, PodProbe

log = structlog.get_logger()

STEADY_S: Final = 2.0
"""Seconds between looks at an endpoint where nothing is on its way; while something is, every look of the board is one."""
FAILED_S: Final = 2.0
"""A version must be told as failed for so long before it is given up: a follower may be about to try again."""
ASKERS: Final = 8


@dataclass(frozen=True)
class PodTimes:
    """Seconds. `hold`: a request waits for a pod. `cold`: it waits for one that is started for it. `ready`: a deployment does."""

    hold: float = 5.0
    cold: float = 60.0
    ready: float = 600.0


class EndpointPods:
    """The pods of one endpoint. What RemoteModel needs of them (adapters.remote_model.Live) comes from here."""

    def __init__(self, endpoint: str, times: PodTimes, wake: Callable[[EndpointPods], None]) -> None:
        self.endpoint = endpoint
        self.model = endpoint_model(endpoint)
        self.placements: tuple[Placement, ...] = (USUAL,)
        self.pods: tuple[Pod, ...] = ()
        self.facts: Mapping[str, PodFacts] = {}
        """By version, of all pods together."""
        self.listeners: list[Callable[[Sequence[Pod]], None]] = []
        self.cold_start_s = 0.0
        """How long the last start from no pod took; 0: there was none."""
        self.asleep = False
        self.last_used = time.time()
        self.looked = 0.0
        self.urgent = True
        self.given_up = 0.0
        self.waking_since: float | None = None
        self._times, self._wake = times, wake
        self._been_live: set[str] = set()
        self._failed_since: dict[str, float] = {}
        self._executions: dict[str, int] = {}
        self._last_executions: dict[tuple[str, str], int] = {}

    # --- Live

    def condition(self, version: str) -> Condition:
        """READY while a pod answers for it, or one would be started for it."""
        if self._answered(version):
            return Condition(DeploymentState.READY)
        if version in self._been_live and (self.asleep or self.waking_since is not None):
            return Condition(DeploymentState.READY, "no pod runs; the next request starts one")
        seen = self.outlook(version)
        if seen.failed:
            return Condition(DeploymentState.UNHEALTHY, seen.failed)
        state = DeploymentState.UNHEALTHY if version in self._been_live else DeploymentState.LOADING
        return Condition(state, seen.summary or "no pod answers for it yet")

    def wake(self, left_s: float | None) -> float:
        """See Live."""
        if not self.asleep and self.waking_since is None:
            return self._times.hold
        if self.waking_since is None:
            self._wake(self)
        waited = 0.0 if self.waking_since is None else time.monotonic() - self.waking_since
        expected = max(0.0, self.cold_start_s - waited)
        patience = self._times.cold - waited
        if patience <= 0 or (left_s is not None and left_s < expected):
            retry = round(max(1.0, expected or 5.0), 1)
            message = f"no pod runs, one is being started; the last start took {self.cold_start_s:.1f} s. Try again in {retry} s"
            raise Unavailable("COLD_START", message, retry_after_s=retry, cold_start_s=round(self.cold_start_s, 1))
        return patience

    def asked(self) -> None:
        """See Live."""
        self.last_used = time.time()

    def memory_bytes(self, version: str) -> int:
        """See Live."""
        found = self.facts.get(version)
        return found.memory_bytes if found else 0

    def drift(self, version: str) -> tuple[DriftScore, ...]:
        """See Live."""
        found = self.facts.get(version)
        return found.drift if found else ()

    def batching(self, version: str) -> Batching:
        """See Live."""
        found = self.facts.get(version)
        return Batching(found.batched) if found else Batching(False, "its pods have not said yet")

    def threads(self, version: str) -> int:
        """See Live."""
        found = self.facts.get(version)
        return found.threads if found else 0

    # --- what the board and deployments need

    def outlook(self, version: str) -> Outlook:
        """How far a version is."""
        return outlook(self.placements, self.pods, version)

    def take(self, pods: Sequence[Pod], facts: Mapping[str, Mapping[str, PodFacts]]) -> None:
        """What there is now; `facts` by pod and version."""
        self._count(facts)
        self.pods, self.facts, self.looked = tuple(pods), _together(facts.values()), time.monotonic()
        for pod in pods:
            self._been_live |= {version for version in pod.versions if pod.answers(version)}
        if self.waking_since is not None and any(pod.answers(version) for pod in pods for version in pod.versions):
            self.cold_start_s, self.waking_since = time.monotonic() - self.waking_since, None
            log.info("an endpoint has pods again", endpoint=self.endpoint, cold_start_s=round(self.cold_start_s, 2))
        failed = {version for pod in pods for version, held in pod.versions.items() if held.state is Holding.FAILED}
        self._failed_since = {version: self._failed_since.get(version, time.monotonic()) for version in failed}
        for listener in list(self.listeners):
            listener(self.pods)

    def executions(self, version: str) -> int:
        """See Live."""
        return self._executions.get(version, 0)

    def _count(self, facts: Mapping[str, Mapping[str, PodFacts]]) -> None:
        """Calls of the model, which go on counting when a pod goes and another comes."""
        last = {(pod, version): one.executions for pod, mine in facts.items() for version, one in mine.items()}
        for which, count in last.items():
            before = self._last_executions.get(which, 0)
            more = count - before if count >= before else count
            self._executions[which[1]] = self._executions.get(which[1], 0) + more
        self._last_executions |= last

    def lasting_failure(self, version: str) -> str:
        """Why a version is given up; empty while it is not."""
        since = self._failed_since.get(version)
        if since is None or time.monotonic() - since < FAILED_S:
            return ""
        return self.outlook(version).failed

    def forget(self, version: str) -> None:
        """A version is gone; another may come under its name."""
        self._been_live.discard(version)
        self._executions.pop(version, None)

    @property
    def is_steady(self) -> bool:
        """Whether nothing is on its way that is worth looking often for."""
        return not self.urgent and self.waking_since is None and all(pod.state is PodState.READY for pod in self.pods)

    def _answered(self, version: str) -> bool:
        return any(pod.answers(version) for pod in self.pods)


@dataclass
class PodBoard:
    """All endpoints. `look` is called by one thread, again and again; `wait_live` by those that deploy."""

    fleet: PodFleet
    probe: PodProbe
    times: PodTimes = field(default_factory=PodTimes)
    _known: dict[str, EndpointPods] = field(default_factory=dict)
    _wakes: set[str] = field(default_factory=set)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _askers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(ASKERS, thread_name_prefix="pod-probe"))

    def of(self, endpoint: str) -> EndpointPods:
        """The pods of an endpoint, made known where they are not."""
        with self._guard:
            if endpoint not in self._known:
                self._known[endpoint] = EndpointPods(endpoint, self.times, self._wake)
            return self._known[endpoint]

    def seen(self, endpoint: str) -> EndpointPods | None:
        """The pods of an endpoint, if it has any."""
        return self._known.get(endpoint)

    def known(self) -> list[EndpointPods]:
        """All endpoints with pods."""
        with self._guard:
            return list(self._known.values())

    def place(self, endpoint: str, placements: Sequence[Placement]) -> EndpointPods:
        """Has an endpoint's pods be what its placements say. Raises what PodFleet.apply raises."""
        pods = self.of(endpoint)
        pods.placements = tuple(placements) or (USUAL,)
        self.fleet.apply(endpoint, pods.placements)
        return pods

    def drop(self, endpoint: str) -> None:
        """Takes an endpoint's pods away."""
        with self._guard:
            gone = self._known.pop(endpoint, None)
        self.fleet.remove(endpoint)
        if gone is not None:
            gone.take((), {})

    def look(self) -> None:
        """Once at all endpoints: who is there, what they hold, whether they may sleep."""
        with self._guard:
            wakes, self._wakes = self._wakes, set()
        for pods in self.known():
            try:
                if pods.endpoint in wakes:
                    self._start(pods)
                if not pods.is_steady or time.monotonic() - pods.looked >= STEADY_S or self._news(pods):
                    self._look_at(pods)
                self._sleep(pods)
            except ModelyardError as error:
                log.warning("pods cannot be looked at", endpoint=pods.endpoint, reason=error.reason, error=error.message)
            except Exception:
                log.exception("pods cannot be looked at", endpoint=pods.endpoint)

    def wait_live(self, pods: EndpointPods, version: str, going: Callable[[], bool]) -> None:
        """Until a version can be given traffic.

        Raises FailedPrecondition VERSION_FAILED_IN_POD, PODS_NOT_READY after `times.ready`, Aborted ENDPOINT_DELETED, Unavailable
        SERVER_STOPPING.
        """
        begun = time.monotonic()
        end = begun + self.times.ready
        pods.urgent = True
        try:
            if pods.asleep:
                self._wake(pods)
            while going():
                self._look_at(pods)
                if pods.outlook(version).live:
                    return
                why = pods.lasting_failure(version)
                if why:
                    message = f"version {version} cannot be served in its pods: {why}"
                    raise FailedPrecondition("VERSION_FAILED_IN_POD", message, version=version, endpoint=pods.endpoint)
                if pods.given_up > begun:
                    raise Aborted("ENDPOINT_DELETED", f"{pods.endpoint} is being deleted", endpoint=pods.endpoint)
                if time.monotonic() > end:
                    raise _not_ready(pods, version, self.times.ready)
                time.sleep(0.2)
            raise Unavailable("SERVER_STOPPING", "the service is stopping; try again", retry_after_s=5.0)
        finally:
            pods.urgent = False

    def close(self) -> None:
        """Ends its threads; pods stay as they are."""
        self._askers.shutdown(wait=False, cancel_futures=True)
        self.probe.close()
        self.fleet.close()

    def _news(self, pods: EndpointPods) -> bool:
        told = [(pod.name, pod.address, pod.state) for pod in self.fleet.pods(pods.endpoint)]
        seen = [(pod.name, pod.address) for pod in pods.pods]
        return seen != [(name, address) for name, address, _ in told] or any(state is PodState.ENDING for *_, state in told)

    def _look_at(self, pods: EndpointPods) -> None:
        with self._looking:
            there = list(self.fleet.pods(pods.endpoint))
            answering = [pod for pod in there if pod.address and pod.state in (PodState.RUNNING, PodState.READY)]
            asked = list(self._askers.map(lambda pod: self.probe.ask(pod.address, pods.endpoint), answering))
            held = {pod.name: answer for pod, answer in zip(answering, asked, strict=True)}
            kept = {pod.name: pod for pod in pods.pods}
            seen = [_seen(pod, held.get(pod.name), kept.get(pod.name)) for pod in there]
            pods.take(seen, {name: answer.facts for name, answer in held.items() if answer is not None})
            pods.last_used = max([pods.last_used, *(answer.last_used for answer in asked if answer is not None)])
            wanted = [self.fleet.wanted(pods.endpoint, each.target) for each in pods.placements]
            pods.asleep = bool(wanted) and not any(wanted) and all(each.sleeps for each in pods.placements)

    def _wake(self, pods: EndpointPods) -> None:
        """From the event loop too: only noted here, done by the thread that looks."""
        with self._guard:
            if pods.waking_since is None:
                pods.waking_since = time.monotonic()
            self._wakes.add(pods.endpoint)

    def _start(self, pods: EndpointPods) -> None:
        for placement in pods.placements:
            if placement.sleeps:
                self.fleet.scale(pods.endpoint, placement.target, 1)
        pods.asleep = False
        pods.last_used = time.time()

    def _sleep(self, pods: EndpointPods) -> None:
        """Pods that nobody asked for as long as their placement says go."""
        if pods.urgent or pods.waking_since is not None or not pods.pods:
            return
        for placement in pods.placements:
            idle = time.time() - pods.last_used
            if placement.sleeps and idle >= placement.idle_s and self.fleet.wanted(pods.endpoint, placement.target):
                log.info("nobody asks; pods go", endpoint=pods.endpoint, target=placement.target, idle_s=round(idle))
                self.fleet.scale(pods.endpoint, placement.target, 0)


def _seen(pod: Pod, answer: object, before: Pod | None) -> Pod:
    """A pod with what it says; one that does not answer just now holds what it held, until its connection says otherwise."""
    versions = getattr(answer, "versions", None)
    if versions is not None:
        return pod.holding(versions)
    return pod.holding(before.versions) if before is not None and before.address == pod.address else pod


def _together(found: Iterable[Mapping[str, PodFacts]]) -> dict[str, PodFacts]:
    made: dict[str, PodFacts] = {}
    for facts in found:
        for version, one in facts.items():
            made[version] = made[version].with_more(one) if version in made else one
    return made


def _not_ready(pods: EndpointPods, version: str, seconds: float) -> FailedPrecondition:
    message = (
        f"after {seconds:g} s version {version} is not ready in all pods: {pods.outlook(version).summary}. Nothing has changed."
    )
    return FailedPrecondition("PODS_NOT_READY", message, version=version, endpoint=pods.endpoint)
