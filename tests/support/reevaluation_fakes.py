"""A pipeline service over a fake world, for re-evaluations: versions of one dataset with answers that are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modelyard.client import Addresses, Client
from modelyard.core import errors
from modelyard.core.platform import Platform, open_platform
from modelyard.pipeline import bootstrap
from modelyard.pipeline.domain.reevaluation import Answer, Answers
from modelyard.pipeline.ports import Champion, EvaluationFacts
from modelyard.pipeline.settings import PipelineSettings
from modelyard.pipeline.v1 import reevaluation_pb2 as pb
from tests.support.hosted import hosted
from tests.support.pipeline_fakes import PARENT, World, services

ENDPOINT, DATASET = f"{PARENT}/endpoints/digits", f"{PARENT}/datasets/digits"
GATE = f"{PARENT}/evaluations/gate"


def examples(right: int, wrong: int, prefix: str) -> dict[str, Answer]:
    rows: list[Answer] = [("a", "a")] * right + [("a", "b")] * wrong
    return {f"{prefix}{at}": row for at, row in enumerate(rows)}


@dataclass
class FakeWatching:
    """ports.Watching over a world: versions of one dataset, each with the share of right answers to its new examples."""

    world: World
    versions: dict[str, tuple[int, int]] = field(default_factory=dict)
    scored: dict[str, str] = field(default_factory=dict)
    champion_error: errors.ModelyardError | None = None

    def publish(self, version: str, right: int, wrong: int) -> None:
        self.versions[f"{DATASET}/versions/{version}"] = (right, wrong)

    def check(self, endpoint: str, dataset: str, dataset_version: str) -> None:
        if endpoint != ENDPOINT:
            raise errors.NotFound("RESOURCE_NOT_FOUND", f"{endpoint} does not exist", name=endpoint)

    def champion(self, endpoint: str) -> Champion:
        if self.champion_error:
            raise self.champion_error
        return Champion(f"{PARENT}/exports/x1", GATE)

    def newest_version(self, dataset: str) -> str:
        return max(self.versions)

    def facts(self, evaluation: str) -> EvaluationFacts:
        return EvaluationFacts(f"{DATASET}/versions/V001", True)

    def start(self, export: str, dataset_version: str, usage: str, request_id: str) -> str:
        name = self.world.make(request_id, PARENT, "evaluations", export=export, usage=usage)
        self.scored[name] = dataset_version
        return name

    def answers(self, evaluation: str, usage: str) -> Answers:
        gate = examples(180, 20, "gate")
        if evaluation == GATE:
            return Answers(gate, frozenset(gate))
        found = {**gate, **examples(*self.versions[self.scored[evaluation]], "new")}
        return Answers(found, frozenset(found))


@contextmanager
def running(folder: Path, watching: FakeWatching) -> Iterator[tuple[Client, Platform]]:
    platform = open_platform(PipelineSettings(data_dir=folder, reevaluation_check_s=0.05), "pipeline")
    service = bootstrap.build(platform, services_of=lambda _: services(watching.world), watching_of=lambda _: watching)
    with hosted(platform, [service]) as address:
        yield Client(Addresses.same(address)), platform


def wanted(**fields: object) -> pb.Reevaluation:
    return pb.Reevaluation(**{"endpoint": ENDPOINT, "dataset": DATASET, **fields})  # type: ignore[arg-type]


def until(client: Client, name: str, done: Callable[[pb.Reevaluation], bool], timeout_s: float = 30) -> pb.Reevaluation:
    deadline = time.monotonic() + timeout_s
    while not done(found := client.reevaluations.get_reevaluation(name)):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def ended(count: int) -> Callable[[pb.Reevaluation], bool]:
    return lambda found: len(found.results) >= count and all(each.status.state > 2 for each in found.results)


def make_due(platform: Platform, name: str) -> None:
    """As if the interval had passed."""
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    platform.resources.update(name, lambda document: {**document, "next_time": past})
