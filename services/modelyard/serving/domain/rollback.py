"""When a change of traffic is taken back by itself: the versions that gained are compared with those that answered before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import InvalidArgument
from modelyard.serving.domain.version_statistics import LATENCY_BOUNDS_MS, VersionStatistics, percentile_ms, since

LONGEST_WINDOW_S: Final = 86_400.0
CERTAINTY: Final = math.log(1000)
"""What is seen must be less than 1 in 1000 likely if the version kept to the policy: two bad requests of 60 prove nothing."""
SLOW: Final = 0.01
"""The share of requests that may be slower than the p99."""
EXCUSE: Final = 2.0
"""How many times slower than before a version may be because the others are slower now too."""


@dataclass(frozen=True)
class RollbackPolicy:
    """See the contract: `window_s` seconds, failures as a share (0 to 1), p99 as a multiple of that of before."""

    window_s: float = 600.0
    max_error_rate: float = 0.01
    max_latency_ratio: float = 2.0
    min_requests: int = 50
    disabled: bool = False


@dataclass(frozen=True)
class Counts:
    """What a version has done until a moment; `latencies` by the bins of LATENCY_BOUNDS_MS."""

    successes: int = 0
    failures: int = 0
    latencies: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_MS) + 1)

    @property
    def requests(self) -> int:
        """Answered or failed; what was refused as wrong is none."""
        return self.successes + self.failures

    @property
    def error_rate(self) -> float:
        """Share of the requests that failed; 0 without requests."""
        return self.failures / self.requests if self.requests else 0.0

    @property
    def p99_ms(self) -> float:
        """Upper bound of the bin of the 99th percentile of what was answered; 0 without answers."""
        return percentile_ms(list(self.latencies), 1 - SLOW)


def counts_of(statistics: VersionStatistics) -> Counts:
    """A snapshot."""
    return Counts(statistics.successes, statistics.failures, tuple(statistics.latencies))


def between(earlier: Counts, now: Counts) -> Counts:
    """What came between two snapshots; all of the later one where counting began anew meanwhile."""
    if now.successes < earlier.successes or now.failures < earlier.failures:
        return now
    latencies = since(list(earlier.latencies), list(now.latencies))
    return Counts(now.successes - earlier.successes, now.failures - earlier.failures, tuple(latencies))


def together(several: Iterable[Counts]) -> Counts:
    """The sum of what several versions did."""
    total = Counts()
    for each in several:
        latencies = tuple(a + b for a, b in zip(total.latencies, each.latencies, strict=True))
        total = Counts(total.successes + each.successes, total.failures + each.failures, latencies)
    return total


def failing(policy: RollbackPolicy, before: Counts, after: Counts) -> str:
    """Why a version that gained traffic must lose it again, for people; empty: nothing is known against it.

    `before`: what the versions that answered did in the window before the change; `after`: what the version did since. Failures
    count against it beyond the policy's share and beyond what failed before; they must be more than chance (`evident`), after the
    policy's number of requests.
    """
    if policy.disabled or after.requests < policy.min_requests:
        return ""
    usual = before.error_rate if before.requests >= policy.min_requests else 0.0
    if not evident(after.failures, after.requests, max(policy.max_error_rate, usual)):
        return ""
    rate, allowed = f"{100 * after.error_rate:.3g}", f"{100 * policy.max_error_rate:.3g}"
    return f"{after.failures} of {after.requests} requests failed ({rate} %; at most {allowed} % may)"


def slow(policy: RollbackPolicy, before: Counts, beside: Counts, after: Counts) -> str:
    """The same for latency: a p99 beyond the policy's multiple of that of before, where enough was answered then.

    `beside`: what those that answered before did since the change. Where they are slower now too, the machine is busier, which
    excuses up to EXCUSE times of before; no more, because a version that takes all cores slows the others as well.
    """
    if policy.disabled or after.successes < policy.min_requests or before.successes < policy.min_requests:
        return ""
    usual = before.p99_ms
    if beside.successes >= policy.min_requests:
        usual = min(max(usual, beside.p99_ms), EXCUSE * usual)
    limit = policy.max_latency_ratio * usual
    above = sum(count for bound, count in zip((*LATENCY_BOUNDS_MS, math.inf), after.latencies, strict=True) if bound > limit)
    if not evident(above, after.successes, SLOW):
        return ""
    return (
        f"p99 was {after.p99_ms:.3g} ms over {after.successes} requests; before it was {before.p99_ms:.3g} ms, and at most "
        f"{limit:.3g} ms is allowed"
    )


def evident(count: int, total: int, share: float) -> bool:
    """Whether `count` of `total` is more than chance when each has a probability of `share`.

    The Chernoff bound on the binomial's upper tail, exp(-total * KL(count/total || share)), is below 1 in 1000 (Hoeffding 1963).
    """
    if total <= 0 or count <= share * total:
        return False
    if share <= 0:
        return True
    seen = count / total
    divergence = seen * math.log(seen / share)
    if seen < 1:
        divergence += (1 - seen) * math.log((1 - seen) / (1 - share))
    return total * divergence > CERTAINTY


def check_policy(policy: RollbackPolicy, field: str = "endpoint.rollback_policy") -> RollbackPolicy:
    """The policy. Raises InvalidArgument BAD_ROLLBACK_POLICY, naming the field, the value and what would be right."""
    rules = (
        ("window", policy.window_s, 1 <= policy.window_s <= LONGEST_WINDOW_S, "1 s to 24 h"),
        ("max_error_rate", policy.max_error_rate, 0 <= policy.max_error_rate <= 1, "0 to 1"),
        ("max_latency_ratio", policy.max_latency_ratio, 1 <= policy.max_latency_ratio < math.inf, "1 or more"),
        ("min_requests", policy.min_requests, policy.min_requests >= 1, "1 or more"),
    )
    for name, value, right, allowed in rules:
        if not right:  # also for NaN, which compares with nothing
            message = f"{field}.{name} is {value}; it must be {allowed}"
            raise InvalidArgument("BAD_ROLLBACK_POLICY", message, field=f"{field}.{name}", value=value)
    return policy
