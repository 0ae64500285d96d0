"""Who answers requests that name no version: labels, shares, and the split that keeps callers where they are.

The callers of an endpoint are spread over SLOTS slots, one for each percent, by a hash of what they are known by. Which version
has which slots is written down with the shares, so that a change moves only as many slots as shares changed: a split that is a
function of the shares alone cannot do that (docs/decisions/0018-traffic.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from modelyard.core.errors import InvalidArgument

SLOTS: Final = 100
"""Slots that callers are spread over: shares are whole percents."""
FINE: Final = 10_000
"""What a caller's key is hashed to: 0 to 9999, one slot is 100 of them."""
CHAMPION: Final = "champion"
"""The label of the version that answers where nothing else is said."""
CANARY: Final = "canary"
"""The label of the version that was deployed last with less than all the traffic."""
MAX_LABELS: Final = 32
"""Labels of one endpoint."""

_LABEL = re.compile(r"[a-z][a-z0-9-]{0,31}")
_LIKE_A_VERSION = re.compile(r"v?[0-9]+(-.*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Routing:
    """Shares and labels, which change in one step. `slots`: SLOTS versions, or none where the champion answers all."""

    slots: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, int]:
        """Percent by version, those above 0; empty where the champion answers all."""
        return dict(sorted(Counter(self.slots).items()))

    def filled(self, newest: str) -> Routing:
        """The same with the shares spelled out; `newest` answers where there is not even a champion."""
        champion = self.labels.get(CHAMPION, newest)
        return self if self.slots or not champion else Routing((champion,) * SLOTS, self.labels)

    def without(self, version: str) -> Routing:
        """The same without a version that is gone; where it had a share, no shares at all."""
        labels = {label: named for label, named in self.labels.items() if named != version}
        return Routing(() if version in self.slots else self.slots, labels)


def check_shares(wanted: Sequence[tuple[str, int]], known: Iterable[str], field: str = "endpoint.traffic") -> dict[str, int]:
    """Percent by version. `known`: the versions there are. Nothing wanted is fine: the champion answers all.

    Raises InvalidArgument BAD_PERCENT, VERSION_TWICE, UNKNOWN_VERSION, BAD_TRAFFIC_SUM.
    """
    shares: dict[str, int] = {}
    for at, (version, percent) in enumerate(wanted):
        if not 0 <= percent <= 100:
            raise _bad("BAD_PERCENT", f"{field}[{at}].percent", percent, "it must be 0 to 100")
        if version in shares:
            raise _bad("VERSION_TWICE", f"{field}[{at}].deployment", version, "it is there already; give each version one share")
        check_version(version, known, f"{field}[{at}].deployment")
        shares[version] = percent
    total = sum(shares.values())
    if shares and total != 100:
        given = ", ".join(f"{version}={percent}" for version, percent in shares.items())
        message = f"{field} is {given}, which is {total} % in all; the shares must sum to 100"
        raise InvalidArgument("BAD_TRAFFIC_SUM", message, field=field, sum=total)
    return shares


def check_labels(wanted: Sequence[tuple[str, str]], known: Iterable[str], field: str = "endpoint.labels") -> dict[str, str]:
    """Version by label. Raises InvalidArgument BAD_LABEL, LABEL_TWICE, UNKNOWN_VERSION, TOO_MANY_LABELS."""
    if len(wanted) > MAX_LABELS:
        message = f"{field} has {len(wanted)} labels; at most {MAX_LABELS} are allowed"
        raise InvalidArgument("TOO_MANY_LABELS", message, field=field, count=len(wanted))
    labels: dict[str, str] = {}
    versions = list(known)
    for at, (label, version) in enumerate(wanted):
        check_label(label, versions, f"{field}[{at}].label")
        if label in labels:
            raise _bad("LABEL_TWICE", f"{field}[{at}].label", label, "it is there already; a label names one version")
        labels[label] = check_version(version, versions, f"{field}[{at}].deployment")
    return dict(sorted(labels.items()))


def check_label(label: str, versions: Iterable[str], field: str) -> str:
    """The label. Raises InvalidArgument BAD_LABEL where it has the wrong form or could be taken for a version."""
    if not _LABEL.fullmatch(label):
        raise _bad("BAD_LABEL", field, label, "it must be 1 to 32 of a-z, 0-9 and '-', starting with a letter")
    if _LIKE_A_VERSION.fullmatch(label) or label in {version.lower() for version in versions}:
        raise _bad("BAD_LABEL", field, label, "it looks like a version; choose a word: champion, canary, stable...")
    return label


def check_version(version: str, known: Iterable[str], field: str) -> str:
    """The version. Raises InvalidArgument UNKNOWN_VERSION unless it is one of those there are."""
    versions = list(known)
    if version in versions:
        return version
    there = f"the endpoint has {', '.join(versions)}" if versions else "the endpoint has no version yet"
    raise _bad("UNKNOWN_VERSION", field, version, there)


def moved(slots: Sequence[str], shares: Mapping[str, int]) -> tuple[str, ...]:
    """The slots after a change of shares (percent by version, 100 in all; none: no slots).

    A version that loses gives up the last of its slots, one that gains takes of those, and nobody else moves.
    """
    if not shares:
        return ()
    after: list[str] = []
    left = dict(shares)
    for version in slots or ("",) * SLOTS:
        keeps = left.get(version, 0) > 0
        after.append(version if keeps else "")
        if keeps:
            left[version] -= 1
    free = iter([version for version in sorted(left) for _ in range(left[version])])
    return tuple(version or next(free) for version in after)


def with_share(shares: Mapping[str, int], version: str, percent: int) -> dict[str, int]:
    """The shares where one version gets `percent` (0 to 100) and those of the others shrink or grow in proportion.

    Where no other has any, or the version has all there is, the one version gets all.
    """
    others = {other: share for other, share in shares.items() if other != version and share > 0}
    if not others:
        return {version: 100}
    return {name: share for name, share in (divided(100 - percent, others) | {version: percent}).items() if share > 0}


def divided(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """A whole number in proportion to weights (one of them above 0): largest remainders, so the parts sum to it."""
    whole = sum(weights.values())
    parts = {name: total * weight // whole for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: (-(total * weights[name] % whole), name))
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return parts


def gained(before: Routing, after: Routing) -> tuple[str, ...]:
    """The versions that have more of the traffic than before."""
    had = before.shares
    return tuple(version for version, percent in after.shares.items() if percent > had.get(version, 0))


def described(before: Routing, after: Routing) -> str:
    """What changed, for people: "V002 100 % -> 90 %, V003 0 % -> 10 %; canary: V003"."""
    had, has = before.shares, after.shares
    versions = [version for version in sorted({*had, *has}) if had.get(version, 0) != has.get(version, 0)]
    shares = ", ".join(f"{version} {had.get(version, 0)} % -> {has.get(version, 0)} %" for version in versions)
    changed = [
        f"{label}: {after.labels.get(label, 'none')}"
        for label in sorted({*before.labels, *after.labels})
        if before.labels.get(label) != after.labels.get(label)
    ]
    return "; ".join([*([shares] if shares else []), *changed])


def hash_seed(model: str) -> int:
    """What an endpoint adds to the hash of its callers, so that two endpoints split them differently."""
    return crc32(model.encode() + b"\0")


def key_point(seed: int, key: str) -> int:
    """Where a caller is: 0 to FINE - 1, always the same for the same seed and key.

    CRC-32 (ISO 3309), then the finalizer of MurmurHash3 (Appleby), because the CRC alone is linear: two endpoints would split
    their callers alike. Cryptographic hashes cost three times as much, and this is for every request.
    """
    mixed = crc32(key.encode("utf-8", "surrogatepass"), seed)
    mixed = ((mixed ^ (mixed >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 16)) % FINE


def picked(weights: Sequence[tuple[str, int]], point: int) -> str:
    """One of the versions in proportion to their weights; `point` is 0 to FINE - 1."""
    left = point * sum(weight for _, weight in weights) // FINE
    for version, weight in weights:
        left -= weight
        if left < 0:
            return version
    return weights[-1][0]


def _bad(reason: str, field: str, value: object, right: str) -> InvalidArgument:
    shown = repr(value)[:100]
    return InvalidArgument(reason, f"{field} is {shown}: {right}", field=field, value=shown)
