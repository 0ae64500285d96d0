"""What each follower is to serve, put together from what is written down about endpoints and devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import groupby

from modelyard.core.artifacts import Blob
from modelyard.core.errors import NotFound
from modelyard.core.names import DEVICE, ENDPOINT, ENDPOINT_TARGET
from modelyard.serving.domain.desired_state import REPORT_S, DesiredModel, DesiredState, DesiredVersion
from modelyard.serving.domain.device import Assignment, Device
from modelyard.serving.domain.endpoint import Deployment, Endpoint, oldest_first
from modelyard.serving.domain.names import endpoint_model
from modelyard.serving.domain.traffic import CHAMPION
from modelyard.serving.fleet_ports import DeviceStore, FleetBundles, StateNumbers
from modelyard.serving.ports import EndpointStore


@dataclass(frozen=True)
class FleetStates:
    """`digest`: what tells two states apart. `passport_keys`, `state_keys`: public keys as PEM, read at each call."""

    store: EndpointStore
    devices: DeviceStore
    bundles: FleetBundles
    numbers: StateNumbers
    digest: Callable[[DesiredState], str]
    passport_keys: Callable[[], tuple[bytes, ...]]
    state_keys: Callable[[], tuple[bytes, ...]]
    report_s: float = REPORT_S

    def current(self, subject: str) -> DesiredState:
        """The desired state of a subject, with its number. Raises NotFound, InvalidArgument.

        Reads again where another content was numbered meanwhile: what was read here may be the older one.
        """
        while True:
            held = self.numbers.held(subject)
            content = DesiredState(subject, 0, self._models(subject), self.passport_keys(), self.state_keys(), self.report_s)
            digest = self.digest(content)
            numbered = held if held.digest == digest else self.numbers.next(held, digest)
            if numbered is not None:
                return replace(content, number=numbered.number)

    def blob(self, subject: str, sha256: str) -> Blob:
        """The bundle of a subject's state with these bytes. Raises NotFound BUNDLE_NOT_WANTED."""
        found = next((blob for blob in self._blobs(subject) if blob.sha256 == sha256), None)
        if found is None:
            message = f"{subject} is to serve no bundle with the sha256 {sha256[:80]!r}"
            raise NotFound("BUNDLE_NOT_WANTED", message, field="sha256", sha256=sha256[:80])
        return found

    def _models(self, subject: str) -> tuple[DesiredModel, ...]:
        if DEVICE.matches(subject):
            assignments = self._device(subject).assignments
            return tuple(self._assigned(assignments[endpoint]) for endpoint in sorted(assignments))
        endpoint = self.store.get(_endpoint(subject))
        deployments = oldest_first(self._deployments(endpoint.name))
        return (endpoint_state(endpoint, [self._version(deployment) for deployment in deployments if deployment.passport]),)

    def _blobs(self, subject: str) -> Iterable[Blob]:
        if DEVICE.matches(subject):
            return [each.artifact for each in self._device(subject).assignments.values()]
        return [each.artifact for each in self._deployments(_endpoint(subject))]

    def _device(self, name: str) -> Device:
        device = self.devices.find(name)
        if device is None:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist", name=name)
        return device

    def _deployments(self, endpoint: str) -> list[Deployment]:
        """What is deployed, and what is staged: pods hold a version before anybody is sent to it."""
        staged = {each.name: each for each in self.store.staged(endpoint)}
        return list({**staged, **{each.name: each for each in self.store.deployments(endpoint)}}.values())

    def _assigned(self, assignment: Assignment) -> DesiredModel:
        version = DesiredVersion(
            version=assignment.version,
            sha256=assignment.artifact.sha256,
            size_bytes=assignment.artifact.size_bytes,
            passport=self.bundles.passport(assignment.passport),
            release=assignment.release,
            attempt=assignment.attempt,
            model_version=assignment.model_version,
        )
        return DesiredModel(
            endpoint=assignment.endpoint,
            model=endpoint_model(assignment.endpoint),
            versions=(version,),
            labels={CHAMPION: assignment.version},
            downgrade_allowed=assignment.downgrade_allowed,
            trial=assignment.trial,
        )

    def _version(self, deployment: Deployment) -> DesiredVersion:
        passport = self.bundles.passport(deployment.passport) if deployment.passport else b""
        return desired_version(deployment, passport)


def _endpoint(subject: str) -> str:
    ids = ENDPOINT_TARGET.parse(subject, "subject")
    return ENDPOINT.format(ids["project"], ids["endpoint"])


def endpoint_state(endpoint: Endpoint, versions: list[DesiredVersion]) -> DesiredModel:
    """An endpoint as its pods are to serve it: every version, with shares and labels."""
    known = {version.version for version in versions}
    slots = tuple((version, len(list(run))) for version, run in groupby(endpoint.routing.slots))
    return DesiredModel(
        endpoint=endpoint.name,
        model=endpoint_model(endpoint.name),
        versions=tuple(versions),
        slots=slots if {version for version, _ in slots} <= known else (),
        labels={label: version for label, version in endpoint.routing.labels.items() if version in known},
        sticky_header=endpoint.sticky_header,
    )


def desired_version(deployment: Deployment, passport: bytes, attempt: str = "") -> DesiredVersion:
    """A deployment as followers are to serve it."""
    return DesiredVersion(
        version=deployment.version,
        sha256=deployment.artifact.sha256,
        size_bytes=deployment.artifact.size_bytes,
        passport=passport,
        release=int(deployment.create_time.timestamp() * 1e6),
        attempt=attempt,
        model_version=deployment.model_version,
    )
