"""What the training data looked like, as it travels in a bundle (`statistics.json`): counts by bins, and no example.

A server compares with it what callers send (modelyard.serving.domain.drift). Numbers are cut at quantiles; of text the most
frequent values are named, and no value that fewer than LEAST_SEEN examples of the sample have: a rare one may be a person.
No id, no row and no smallest or largest value is kept, unless many examples share it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle_files import STATISTICS
from modelyard.formats.observed_features import INPUT, MISSING_TEXT, OUTPUT, FeatureKey

FORMAT_VERSION: Final = 1
NUMBER: Final = "number"
CATEGORY: Final = "category"

BINS: Final = 10
"""Most bins of a number, without those beyond what training saw."""
LEAST_SEEN: Final = 5
"""A bin, or a value of text, that fewer examples of the sample have is not told apart from others."""
MOST_VALUES: Final = 50
MOST_FEATURES: Final = 200
LONGEST_VALUE: Final = 200
ATOM_SHARE: Final = 0.05
"""From this share on a smallest or largest value is no single example's: what lies beyond it gets a bin."""

Array = NDArray[Any]


@dataclass(frozen=True)
class FeatureStatistics:
    """How the examples of a sample spread over the bins of one feature.

    `number`: bins (-inf, edges[0]], (edges[0], edges[1]], ... (edges[-1], inf), so one count more than edges. `category`: one
    count for each of `values`, and a last one for all other values. `missing`: NaN or empty text.
    """

    name: str
    direction: str
    kind: str
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    missing: int = 0

    @property
    def key(self) -> FeatureKey:
        """What tells it from others."""
        return (self.direction, self.name)

    @property
    def reference(self) -> NDArray[np.int64]:
        """The counts, with the missing ones as a last bin."""
        return np.array((*self.counts, self.missing), np.int64)

    def count(self, values: Array) -> NDArray[np.int64]:
        """Values [N] (numbers, or text) by bin, as `reference` is laid out."""
        return _count_numbers(self, values) if self.kind == NUMBER else _count_text(self, values)

    def bin_text(self, index: int) -> str:
        """A bin of `reference` for people: "age 60 to 75"."""
        if index == len(self.counts):
            return f"{self.name} missing"
        return _range_text(self, index) if self.kind == NUMBER else _value_text(self, index)


@dataclass(frozen=True)
class TrainingStatistics:
    """The features of a model: inputs of `examples` of training, outputs for `answered` examples (held out, if there are)."""

    examples: int
    answered: int
    features: tuple[FeatureStatistics, ...]
    format_version: int = FORMAT_VERSION


def statistics_of(observed: Mapping[FeatureKey, Array]) -> tuple[FeatureStatistics, ...]:
    """The statistics of a sample's features; those that cannot show a change (all values rare) are left out."""
    made = [_feature(key, values) for key, values in list(observed.items())[:MOST_FEATURES]]
    return tuple(each for each in made if each is not None)


def statistics_json(statistics: TrainingStatistics) -> bytes:
    """As it stands in the bundle: equal statistics give equal bytes."""
    document = dataclasses.asdict(statistics)
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def parse_statistics(data: bytes) -> TrainingStatistics:
    """Reads `statistics.json`. Raises InvalidArgument INVALID_STATISTICS saying what is wrong."""
    try:
        document = json.loads(data)
        if document["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version is {document['format_version']!r}, this program reads {FORMAT_VERSION}")
        features = tuple(_parsed(each) for each in document["features"])
        if len(features) > MOST_FEATURES or len({each.key for each in features}) != len(features):
            raise ValueError(f"there must be at most {MOST_FEATURES} features, each once")
        return TrainingStatistics(_whole(document["examples"]), _whole(document["answered"]), features)
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
        message = f"{STATISTICS} cannot be read: {str(error)[:200]}"
        raise InvalidArgument("INVALID_STATISTICS", message, file=STATISTICS) from error


# Making


def _feature(key: FeatureKey, values: Array) -> FeatureStatistics | None:
    direction, name = key
    if values.dtype.kind in "OUS":
        return _category(name, direction, values)
    return _number(name, direction, np.asarray(values, np.float64))


def _number(name: str, direction: str, values: NDArray[np.float64]) -> FeatureStatistics | None:
    known = values[np.isfinite(values)]
    if len(known) < LEAST_SEEN:
        return None
    edges = _merged(known, _edges(known))
    if not len(edges):
        return None
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    missing = len(values) - len(known)
    return FeatureStatistics(name, direction, NUMBER, tuple(counts.tolist()), edges=tuple(edges.tolist()), missing=missing)


def _edges(known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner quantiles, and the ends where many share the smallest or the largest value."""
    bins = max(2, min(BINS, len(known) // (2 * LEAST_SEEN)))
    edges = np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])
    least, most = known.min(), known.max()
    ends = [np.nextafter(least, -np.inf)] if np.mean(known == least) >= ATOM_SHARE else []
    ends += [most] if np.mean(known == most) >= ATOM_SHARE else []
    return np.unique(np.concatenate([edges[(edges >= least) & (edges < most)], ends]))


def _merged(known: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the edges of bins that only a few examples are in; nobody at all is fine at the ends."""
    while len(edges):
        counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
        inner = np.arange(len(counts))
        few = (counts < LEAST_SEEN) & ((counts > 0) | ((inner > 0) & (inner < len(counts) - 1)))
        if not few.any():
            break
        edges = np.delete(edges, min(int(np.argmax(few)), len(edges) - 1))
    return edges


def _category(name: str, direction: str, values: Array) -> FeatureStatistics | None:
    """Where rare words are pooled, half of the examples say which, and the other half how many there are of each: counted on the
    same examples, words that were frequent by chance would look as if they became rarer later.
    """
    words = values.tolist()
    named = _frequent(words)
    if set(words) - {MISSING_TEXT, *named}:
        named, words = _frequent(words[::2]), words[1::2]
    if not named:
        return None
    seen = Counter(words)
    missing = seen.pop(MISSING_TEXT, 0)
    counts = [seen[word] for word in named]
    rest = sum(seen.values()) - sum(counts)
    return FeatureStatistics(name, direction, CATEGORY, (*counts, rest), values=tuple(named), missing=missing)


def _frequent(words: list[str]) -> list[str]:
    """The words to name, the most frequent first."""
    seen = Counter(word for word in words if word != MISSING_TEXT and len(word) <= LONGEST_VALUE)
    frequent = [(word, count) for word, count in seen.items() if count >= LEAST_SEEN]
    return [word for word, _ in sorted(frequent, key=lambda pair: (-pair[1], pair[0]))[:MOST_VALUES]]


# Counting


def _count_numbers(feature: FeatureStatistics, values: Array) -> NDArray[np.int64]:
    numbers = np.asarray(values, np.float64)
    places = np.searchsorted(np.array(feature.edges), numbers, side="left")
    places[np.isnan(numbers)] = len(feature.counts)
    return np.bincount(places, minlength=len(feature.counts) + 1).astype(np.int64)


def _count_text(feature: FeatureStatistics, values: Array) -> NDArray[np.int64]:
    rest = len(feature.values)
    places = {value: index for index, value in enumerate(feature.values)} | {MISSING_TEXT: rest + 1}
    counts = np.zeros(rest + 2, np.int64)
    for value, count in Counter(values.tolist()).items():
        counts[places.get(value, rest)] += count
    return counts


# For people


def _range_text(feature: FeatureStatistics, index: int) -> str:
    edges, last = feature.edges, len(feature.edges)
    if index == 0:
        below = last > 1 and edges[1] == np.nextafter(edges[0], np.inf)
        return f"{feature.name} {'below' if below else 'up to'} {_number_text(edges[0])}"
    if index == last:
        return f"{feature.name} above {_number_text(edges[-1])}"
    if edges[index] == np.nextafter(edges[index - 1], np.inf):
        return f"{feature.name} = {_number_text(edges[index])}"
    return f"{feature.name} {_number_text(edges[index - 1])} to {_number_text(edges[index])}"


def _number_text(value: float) -> str:
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


def _value_text(feature: FeatureStatistics, index: int) -> str:
    if index < len(feature.values):
        return f"{feature.name} {feature.values[index]!r:.60}"
    return f"{feature.name} with values that were new or rare in training"


# Reading


def _parsed(entry: Any) -> FeatureStatistics:
    made = FeatureStatistics(
        name=_text(entry["name"]),
        direction=_text(entry["direction"]),
        kind=_text(entry["kind"]),
        counts=tuple(_whole(each) for each in entry["counts"]),
        edges=tuple(_finite(each) for each in entry["edges"]),
        values=tuple(_text(each) for each in entry["values"]),
        missing=_whole(entry["missing"]),
    )
    if made.direction not in (INPUT, OUTPUT) or made.kind not in (NUMBER, CATEGORY):
        raise ValueError(f"{made.name}: unknown direction {made.direction!r:.40} or kind {made.kind!r:.40}")
    bins = made.edges if made.kind == NUMBER else made.values
    if not bins or len(made.counts) != len(bins) + 1 or len(bins) > 2 * MOST_VALUES or len(set(bins)) != len(bins):
        raise ValueError(f"{made.name}: the counts do not fit the bins")
    if list(made.edges) != sorted(made.edges) or sum(made.counts) + made.missing < 1:
        raise ValueError(f"{made.name}: edges must rise, and something must have been counted")
    return made


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 2 * LONGEST_VALUE:
        raise TypeError(f"{value!r:.80} must be text of at most {2 * LONGEST_VALUE} characters")
    return value


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise TypeError(f"{value!r:.80} must be a whole number, 0 or more")
    return value


def _finite(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise TypeError(f"{value!r:.80} must be a finite number")
    return float(value)  # type: ignore[arg-type]
