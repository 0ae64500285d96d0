"""What serving needs of the outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from modelyard.core.artifacts import Blob
from modelyard.core.errors import ModelyardError
from modelyard.formats.bundle import BundleCard
from modelyard.serving.domain.admission import Export, GateDecision
from modelyard.serving.domain.changes import Changed
from modelyard.serving.domain.drift import DriftScore, of_several
from modelyard.serving.domain.endpoint import Condition, Deployment, DeploymentEvent, Endpoint, PlacementView
from modelyard.serving.domain.placement import Held, Placement, Pod
from modelyard.serving.domain.rollback import RollbackPolicy
from modelyard.serving.domain.version_statistics import Timing, VersionStatistics

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """What makes a repeated call recognizable: the caller's request_id (may be empty) and the fingerprint of the rest."""

    request_id: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Listed(Generic[T]):
    """A page of a list; `next_page_token` is empty at the end."""

    items: tuple[T, ...]
    next_page_token: str


class Tensor(NamedTuple):
    """A tensor as it travels: little-endian bytes, row-major; BYTES elements each with a 4-byte length. The batch comes first.

    Made for every request, as Answer and Timing are: a frozen dataclass would take twice as long.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


class Answer(NamedTuple):
    """All outputs of the card for one request, and where its time went."""

    tensors: tuple[Tensor, ...]
    timing: Timing


Done = Callable[[Answer | ModelyardError], None]


class ServedModel(Protocol):
    """A version in this server: loaded, and it has answered its test vectors as it should. Answers come on the event loop.

    The model itself computes elsewhere (its own process; docs/decisions/0016-isolation.md), requests together while it is busy.
    """

    @property
    def card(self) -> BundleCard:
        """What it takes and gives."""

    @property
    def condition(self) -> Condition:
        """READY, or UNHEALTHY with how its process ended."""

    @property
    def statistics(self) -> VersionStatistics:
        """What it has done; executions and crashes are counted by the model, requests by whoever asked it."""

    @property
    def batching(self) -> Batching:
        """Whether requests are answered together, and if not, why."""

    @property
    def threads(self) -> int:
        """Threads that one call of the model uses."""

    def memory_bytes(self) -> int:
        """What its process holds now."""

    def submit(self, inputs: Sequence[Tensor], rows: int, deadline: float | None, done: Done) -> Callable[[], None]:
        """Asks for an answer to `rows` examples; on the event loop only, never waits. Gives what takes the request back.

        `inputs` are checked against the card already (datatypes, shapes, sizes). `deadline` is a time.monotonic(). `done` is
        called once, on the event loop, unless the request was taken back before it was begun. Raised at once, without `done`:
        ResourceExhausted QUEUE_FULL; DeadlineExceeded DEADLINE_EXCEEDED or DEADLINE_TOO_NEAR (it cannot be met by what calls
        take now; with RetryInfo); Unavailable MODEL_UNHEALTHY. `done` may get Unavailable MODEL_CRASHED, InvalidArgument for
        contents that the model cannot take (a picture file that is none), DeadlineExceeded.
        """

    def drift(self) -> tuple[DriftScore, ...]:
        """How far what it saw lately is from the training data; empty where the bundle brings no statistics."""

    def close(self) -> None:
        """Ends after what has begun was answered; its memory goes back to the system. From any thread; fine more than once."""


@dataclass(frozen=True)
class Batching:
    """`together`: requests are answered in one call while the model is busy. `note`: why not."""

    together: bool
    note: str = ""


class ServedModelLoader(Protocol):
    """Brings a bundle into memory."""

    def load(self, bundle: Path, *, model: str, version: str) -> ServedModel:
        """The model, after its test vectors were replayed, singly and batched. Blocks: never on the event loop.

        `model` and `version` are for logs and metrics. Raises InvalidArgument INVALID_BUNDLE (and the like), FailedPrecondition
        TEST_VECTORS_DIFFER, RUNTIME_NOT_INSTALLED, ResourceExhausted NOT_ENOUGH_MEMORY, Unavailable MODEL_CRASHED (in loading).
        """


class Exports(Protocol):
    """The exports that exist and their bytes."""

    def get(self, name: str) -> Export:
        """Raises NotFound."""

    def fetch(self, artifact: Blob) -> Blob:
        """Copies an export's bytes, verified, into serving's own keeping; gives the copy. Fine when it is there already."""

    def path(self, artifact: Blob) -> Path:
        """A local, verified file with the bytes of such a copy."""


class Gates(Protocol):
    """The decisions about artifacts."""

    def get(self, name: str) -> GateDecision:
        """Raises NotFound."""


class Passports(Protocol):
    """Passports of artifacts, and the keys that may sign them."""

    def fetch(self, passport: Blob) -> Blob:
        """Copies a passport's bytes, verified, into serving's own keeping; gives the copy. Fine when it is there already."""

    def check(self, artifact: Blob, path: Path, passport: Blob | None) -> None:
        """Whether the file at `path` is the artifact, and its passport lets it be served.

        Raises DataLoss ARTIFACT_CORRUPT, FailedPrecondition PASSPORT_MISSING, PASSPORT_BAD_SIGNATURE, PASSPORT_UNTRUSTED_KEY,
        PASSPORT_OF_ANOTHER_ARTIFACT or PASSPORT_NOT_DEPLOYABLE.
        """


Change = Callable[[Endpoint, Sequence[Deployment]], Changed]
"""What becomes of an endpoint, given it and its deployments, oldest first. Quick and free of effects: others wait for it."""


@dataclass(frozen=True)
class NewEndpoint:
    """What a caller says of an endpoint that is to be made."""

    display_name: str = ""
    policy: RollbackPolicy = field(default_factory=RollbackPolicy)
    sticky_header: str = ""
    placements: tuple[Placement, ...] = ()


class EndpointStore(Protocol):
    """Endpoints, deployments and events, as they are written down. A change and its lines of the record are written at once."""

    def create(self, name: str, wanted: NewEndpoint, request: Request) -> Endpoint:
        """Raises AlreadyExists; the same request again gives the same answer."""

    def get(self, name: str) -> Endpoint:
        """Raises NotFound."""

    def list(self, parent: str, page_size: int, page_token: str) -> Listed[Endpoint]:
        """Newest first."""

    def all(self) -> Iterable[tuple[Endpoint, Sequence[Deployment]]]:
        """Every endpoint with its deployments, oldest first, as of one moment."""

    def delete(self, name: str) -> None:
        """Deletes an endpoint with its deployments; its events stay, with one more for each deployment. Raises NotFound."""

    def change(self, name: str, change: Change, etag: str = "") -> Endpoint:
        """Writes what `change` makes of an endpoint. Raises NotFound, Aborted ETAG_MISMATCH, and what `change` raises."""

    def deploy(self, deployment: Deployment, request: Request, change: Change) -> tuple[Deployment, Endpoint]:
        """Writes a deployment and what it makes of its endpoint (`change` is given those before). Raises AlreadyExists, NotFound.

        The same request again writes nothing and gives what there is.
        """

    def repeated(self, request: Request) -> Deployment | None:
        """What this same request made before, if it did. Raises InvalidArgument for the same id with another body."""

    def deployment(self, name: str) -> Deployment:
        """Raises NotFound."""

    def deployments(self, endpoint: str = "") -> Iterable[Deployment]:
        """All of an endpoint; without a name, of all endpoints."""

    def renew(self, deployment: Deployment) -> Deployment:
        """Writes down another gate decision and passport for a deployment that stays as it is. Raises NotFound."""

    def undeploy(self, name: str, change: Change) -> Endpoint:
        """Deletes a deployment and writes what that makes of its endpoint (`change` is given it too). Raises NotFound."""

    def note_health(self, name: str, healthy: bool, detail: str) -> bool:
        """Writes UNHEALTHY or RECOVERED where the record says otherwise so far; whether it did. Raises NotFound."""

    def stage(self, deployment: Deployment, until: datetime) -> None:
        """Has pods hold a version that is not deployed yet, until it is, or until then. Raises NotFound."""

    def unstage(self, name: str) -> None:
        """Takes that back. Fine when there is nothing."""

    def staged(self, endpoint: str = "") -> Iterable[Deployment]:
        """What is staged: of an endpoint; without a name, of all."""

    def unstage_expired(self, time: datetime) -> None:
        """Takes back what has lapsed: whoever staged it is gone."""

    def events(self, endpoint: str, page_size: int, page_token: str) -> Listed[DeploymentEvent]:
        """Newest first. Of an endpoint that was deleted too; raises NotFound where there never was one."""


class PodVersions(Protocol):
    """Versions that live in pods instead of in this process."""

    def load(self, deployment: Deployment, bundle: Path) -> ServedModel:
        """The version in its pods. One that is deployed already at once, ready when they are; a new one once every pod answers
        for it and its golden requests passed there.

        Raises InvalidArgument INVALID_BUNDLE, FailedPrecondition VERSION_FAILED_IN_POD, PODS_NOT_READY, CLUSTER_REFUSES,
        Unavailable CLUSTER_UNAVAILABLE; then nothing has changed.
        """

    def place(self, endpoint: Endpoint) -> None:
        """Has an endpoint's pods be what its placements say. Raises FailedPrecondition CLUSTER_REFUSES, Unavailable."""

    def give_up(self, endpoint: str) -> None:
        """Whoever waits for a version of it to be ready need not any more."""

    def forget(self, deployment: Deployment) -> None:
        """A version is not served any more."""

    def drop(self, endpoint: str) -> None:
        """Takes an endpoint's pods away. Fine when it has none. Raises as `place`."""

    def view(self, endpoint: Endpoint) -> tuple[tuple[Pod, ...], tuple[PlacementView, ...]]:
        """The pods there are and should be; quick."""

    def start(self) -> None:
        """Begins to look after the pods; does not wait."""

    def close(self) -> None:
        """Ends that. The pods stay."""


@dataclass(frozen=True)
class PodFacts:
    """What pods say of a version: of one, or of all together. `executions`: calls of the model since they were started."""

    memory_bytes: int = 0
    executions: int = 0
    batched: bool = False
    threads: int = 0
    drift: tuple[DriftScore, ...] = ()

    def with_more(self, other: PodFacts) -> PodFacts:
        """Of two pods together."""
        return PodFacts(
            self.memory_bytes + other.memory_bytes,
            self.executions + other.executions,
            self.batched or other.batched,
            max(self.threads, other.threads),
            of_several((self.drift, other.drift)),
        )


@dataclass(frozen=True)
class PodAnswer:
    """What a pod says of itself: its versions and, by version, their facts. `last_used`: its last request, seconds since 1970."""

    versions: Mapping[str, Held]
    facts: Mapping[str, PodFacts]
    last_used: float = 0.0


class PodProbe(Protocol):
    """Asks pods what they hold."""

    def ask(self, address: str, endpoint: str) -> PodAnswer | None:
        """Of an endpoint's versions; None where it does not answer. Blocks for at most a few seconds; from several threads."""

    def close(self) -> None:
        """Ends its connections."""


class PodFleet(Protocol):
    """What runs the pods of endpoints. All block for at most a few seconds but `pods` and `wanted`, which look at what is known.

    Those that block raise Unavailable CLUSTER_UNAVAILABLE, FailedPrecondition CLUSTER_REFUSES (rights, quotas, admission).
    """

    def apply(self, endpoint: str, placements: Sequence[Placement]) -> None:
        """Has the objects of an endpoint be what the placements say; quick where they are. A target not named goes."""

    def remove(self, endpoint: str) -> None:
        """Takes all objects of an endpoint away. Fine when there are none."""

    def endpoints(self) -> set[str]:
        """The endpoints that have objects."""

    def pods(self, endpoint: str) -> Sequence[Pod]:
        """The pods that there are, as last heard, in the order of their names; without what they hold."""

    def wanted(self, endpoint: str, target: str) -> int:
        """How many pods there should be now."""

    def scale(self, endpoint: str, target: str, replicas: int) -> None:
        """How many there should be, where nothing else decides it: down to none, and up from none."""

    def address(self, endpoint: str, target: str) -> str:
        """Where callers inside the cluster reach the pods without the way over the serving service; empty: not known."""

    def close(self) -> None:
        """Ends its threads; pods that should outlive this process stay."""
