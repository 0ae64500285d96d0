"""Who answered when, from records as they are and as they were before there were shares."""

from __future__ import annotations

from datetime import UTC, datetime

from modelyard.client.history import answering_at
from modelyard.serving.v1 import serving_pb2

KIND = serving_pb2.DeploymentEvent


def line(hour: int, kind: int, version: str, shares: dict[str, int] | None = None, **labels: str) -> KIND:
    event = KIND(
        sequence=hour,
        kind=kind,  # type: ignore[arg-type]
        deployment=f"projects/p/endpoints/e/deployments/{version}",
        artifact_sha256=version.lower() * 8,
        traffic=[serving_pb2.TrafficShare(deployment=name, percent=percent) for name, percent in (shares or {}).items()],
        labels=[serving_pb2.Label(label=label, deployment=name) for label, name in labels.items()],
    )
    event.time.FromDatetime(datetime(2026, 1, 1, hour, tzinfo=UTC))
    return event


def percents(events: list[KIND], hour: float) -> dict[str, int]:
    time = datetime(2026, 1, 1, int(hour), int(60 * (hour % 1)), tzinfo=UTC)
    return {version: one.percent for version, one in answering_at(events, time).items()}


def test_shares_are_those_of_the_last_line_before() -> None:
    record = [
        line(1, KIND.KIND_DEPLOYED, "V001", {"V001": 100}),
        line(2, KIND.KIND_DEPLOYED, "V002", {"V001": 90, "V002": 10}),
        line(3, KIND.KIND_ROLLED_BACK, "V002", {"V001": 100}),
        line(4, KIND.KIND_UNDEPLOYED, "V002", {"V001": 100}),
    ]
    assert percents(record[::-1], 0.5) == {}
    assert percents(record[::-1], 1.5) == {"V001": 100}
    assert percents(record, 2) == {"V001": 90, "V002": 10}
    assert percents(record, 3.5) == {"V001": 100, "V002": 0}
    assert percents(record, 5) == {"V001": 100}


def test_before_there_were_shares_the_newest_answered() -> None:
    record = [line(1, KIND.KIND_DEPLOYED, "V001"), line(2, KIND.KIND_DEPLOYED, "V002"), line(3, KIND.KIND_UNDEPLOYED, "V002")]
    assert percents(record, 1) == {"V001": 100}
    assert percents(record, 2) == {"V001": 0, "V002": 100}
    assert percents(record, 3) == {"V001": 100}


def test_without_shares_the_champion_answers() -> None:
    record = [
        line(1, KIND.KIND_DEPLOYED, "V001", {"V001": 100}),
        line(2, KIND.KIND_DEPLOYED, "V002", {"V001": 100}),
        line(3, KIND.KIND_TRAFFIC_CHANGED, "V001", None, champion="V001"),
    ]
    assert percents(record, 3) == {"V001": 100, "V002": 0}


def test_who_was_ill_is_told() -> None:
    record = [
        line(1, KIND.KIND_DEPLOYED, "V001", {"V001": 100}),
        line(2, KIND.KIND_UNHEALTHY, "V001", {"V001": 100}),
        line(3, KIND.KIND_RECOVERED, "V001", {"V001": 100}),
    ]
    ill = [answering_at(record, datetime(2026, 1, 1, hour, tzinfo=UTC))["V001"].unhealthy for hour in (1, 2, 3)]
    assert ill == [False, True, False]


def test_deployed_anew_the_bytes_are_the_new_ones() -> None:
    again = line(3, KIND.KIND_DEPLOYED, "V001", {"V001": 100})
    again.artifact_sha256 = "other"
    record = [line(1, KIND.KIND_DEPLOYED, "V001", {"V001": 100}), line(2, KIND.KIND_UNDEPLOYED, "V001"), again]
    assert answering_at(record)["V001"].artifact_sha256 == "other"
    assert answering_at(record, datetime(2026, 1, 1, 2, tzinfo=UTC)) == {}
