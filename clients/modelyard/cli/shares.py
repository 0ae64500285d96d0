"""What users say of traffic, and how it is shown: shares as bars, the record as lines."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from modelyard.cli.asking import wrong
from modelyard.cli.output import enum_name
from modelyard.client import last_part
from modelyard.client.history import Answering
from modelyard.serving.v1 import serving_pb2

WIDTH: Final = 20
"""Characters of a bar of 100 %."""


def shares_of(assignments: Sequence[str]) -> dict[str, int]:
    """`VERSION=PERCENT` arguments. InvalidArgument unless they are that, each version once, and sum to 100."""
    shares: dict[str, int] = {}
    for given in assignments:
        version, separator, percent = given.partition("=")
        number = percent.removesuffix("%")
        if not (separator and version and number.isascii() and number.isdigit()):
            raise wrong("traffic", given, f"traffic has {given!r}; give VERSION=PERCENT, such as V003=90 V004=10")
        if version in shares:
            raise wrong("traffic", given, f"traffic names {version} twice; give each version one share")
        shares[version] = int(number)
    total = sum(shares.values())
    if total != 100:
        raise wrong("traffic", total, f"traffic sums to {total} %; the shares must sum to 100")
    return shares


def labels_of(assignments: Sequence[str]) -> dict[str, str]:
    """`LABEL=VERSION` arguments; `LABEL=` takes a label away. InvalidArgument unless they are that."""
    labels: dict[str, str] = {}
    for given in assignments:
        label, separator, version = given.partition("=")
        if not (separator and label):
            raise wrong(
                "labels", given, f"labels has {given!r}; give LABEL=VERSION, such as canary=V004, or LABEL= to take it away"
            )
        labels[label] = version
    return labels


def moment(text: str) -> datetime.datetime:
    """A time as ISO 8601 says it, local where no zone is given. InvalidArgument for anything else."""
    try:
        return datetime.datetime.fromisoformat(text).astimezone()
    except ValueError:
        message = f"at is {text!r}; give a time like 2026-11-21T14:30, or with its zone 2026-11-21T14:30:00+00:00"
        raise wrong("at", text, message) from None


def bar(percent: int) -> str:
    """A share as a bar; a share above 0 shows."""
    filled = max(round(WIDTH * percent / 100), 1 if percent else 0)
    return "█" * filled + "░" * (WIDTH - filled)


def share_rows(endpoint: serving_pb2.Endpoint) -> list[tuple[str, ...]]:
    """A row for each version: its name, a bar, its share, its state, its labels and whether it is the shadow."""
    shares = effective(endpoint)
    named = _named(endpoint)
    states = serving_pb2.Deployment.State.DESCRIPTOR
    rows: list[tuple[str, ...]] = []
    for one in endpoint.deployments:
        version = last_part(one.name)
        percent = shares.get(version, 0)
        rows.append((version, bar(percent), f"{percent} %", enum_name(states, one.state), ", ".join(named.get(version, []))))
    return rows


def effective(endpoint: serving_pb2.Endpoint) -> dict[str, int]:
    """Percent by version; where no shares are set one version answers all."""
    set_ = {share.deployment: share.percent for share in endpoint.traffic}
    return set_ or ({endpoint.default_version: 100} if endpoint.default_version else {})


def _named(endpoint: serving_pb2.Endpoint) -> dict[str, list[str]]:
    """By version, its labels, and "shadow 10 %" where it is that."""
    named: dict[str, list[str]] = {}
    for label in endpoint.labels:
        named.setdefault(label.deployment, []).append(label.label)
    if endpoint.HasField("shadow"):
        named.setdefault(endpoint.shadow.deployment, []).append(f"shadow {endpoint.shadow.percent} %")
    return named


def share_text(traffic: Iterable[serving_pb2.TrafficShare]) -> str:
    """ "V003 90 %, V004 10 %"."""
    return ", ".join(f"{share.deployment} {share.percent} %" for share in traffic)


def answering_rows(found: Mapping[str, Answering]) -> list[tuple[str, ...]]:
    """A row for each version that was there."""
    return [
        (
            one.version,
            bar(one.percent),
            f"{one.percent} %",
            "UNHEALTHY" if one.unhealthy else "READY",
            one.artifact_sha256,
        )
        for one in found.values()
    ]
