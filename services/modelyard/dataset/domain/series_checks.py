"""What is wrong with series and recordings: times with gaps or that go back, dead and stuck channels, spikes, missing stretches,
lengths, steps and scales unlike the others'."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelyard.core.words import several
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.listing import Text, of_column, of_examples, quoted
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.series_facts import SeriesFacts

STUCK = 20
"""A value is stuck when it stands for at least so many steps..."""

STUCK_TIMES = 10.0
"""...and this many times longer than the channel's values usually do (the 99th percentile of all runs, over all series)..."""

FEW_VALUES = 10
"""...in a channel that takes more than so many different values: switches stand still by nature."""

MISSING_RUN = 10
"""Steps in a row without a value, from which it is a stretch."""

MISSING_SHARE = 0.05

LENGTH_TIMES = 2.0
"""A series is of odd length when it is this many times longer or shorter than the median, in a set of different lengths."""

ODD_STEP = 1.2
"""A series whose usual step of time is this many times longer or shorter than the others' was sampled otherwise."""

ODD_SCALE = 12.0
"""A channel's median is off when it is this many robust deviations from its median in the other series..."""

USUAL_SPIKES = 0.2
"""Where so large a share of a class's series spike, spikes are what it is like (heartbeats)."""

EVERYWHERE = 0.9
"""Share of all steps from which a label says nothing any more."""

_COMPARED = 8
_TINY = 1e-9

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def series_findings(
    facts: Sequence[SeriesFacts], channels: Sequence[str], names: Names, *, one_length: bool, strata: Ints | None = None
) -> list[Finding]:
    """Findings of N series with C channels. `one_length`: the task wants series of one length (classification). strata int64 [N]:
    the class of each; what one class does by nature is no fault."""
    if not facts:
        return []
    return [
        *_times(facts, names),
        *_odd_step(facts, names),
        *_lengths(facts, names, one_length=one_length),
        *_constant(facts, channels, names),
        *_stuck(facts, channels, names),
        *_spikes(facts, channels, names, np.zeros(len(facts), np.int64) if strata is None else strata),
        *_missing(facts, channels, names),
        *_scales(facts, channels, names),
    ]


def _times(facts: Sequence[SeriesFacts], names: Names) -> list[Finding]:
    found = []
    gaps = np.array([each.gaps for each in facts])
    if len(members := np.flatnonzero(gaps)):
        worst = max(members.tolist(), key=lambda place: facts[place].longest_gap)
        longest, at = facts[worst].longest_gap, facts[worst].gap_at
        text = Text(
            "TIME_GAPS",
            "warning",
            f"{several(len(members), 'series', 'series')} have {several(int(gaps.sum()), 'gap')} in time; the longest, "
            f"in {names.paths[worst]} after step {at}, lasts {longest:.0f} usual steps.",
            "Windows over a gap join moments that do not belong together, and changes look faster than they are.",
            "Cut the recording at its gaps, or fill them in at the source.",
        )
        scores = np.minimum(1.0, np.array([facts[place].longest_gap for place in members.tolist()]) / 100)
        found.append(of_examples(text, names, members, scores))
    back = np.array([each.backwards for each in facts])
    if len(members := np.flatnonzero(back)):
        text = Text(
            "TIME_BACKWARDS",
            "error",
            f"{several(len(members), 'series', 'series')} have times that are before the one above them, "
            f"{several(int(back.sum()), 'time')} in all.",
            "The order of the steps is not the order of what happened; everything learned from it is wrong.",
            "Sort the rows by time at the source, or correct the clock.",
        )
        found.append(of_examples(text, names, members, np.minimum(1.0, back[members] / 10)))
    still = np.array([each.still for each in facts])
    if len(members := np.flatnonzero(still)):
        text = Text(
            "TIME_REPEATED",
            "warning",
            f"{several(len(members), 'series', 'series')} have several rows of one time, "
            f"{several(int(still.sum()), 'row')} in all.",
            "One moment counts several times, or two recordings were mixed.",
            "Keep one row a time, or divide the recordings.",
        )
        found.append(of_examples(text, names, members, np.minimum(1.0, still[members] / 100)))
    return found


def _odd_step(facts: Sequence[SeriesFacts], names: Names) -> list[Finding]:
    steps = np.array([each.step for each in facts])
    known = np.flatnonzero(~np.isnan(steps))
    if len(known) < 2:
        return []
    usual = float(np.median(steps[known]))
    ratio = np.maximum(steps[known] / usual, usual / steps[known])
    members = known[ratio >= ODD_STEP]
    if not len(members):
        return []
    text = Text(
        "ODD_SAMPLE_RATE",
        "warning",
        f"{several(len(members), 'series', 'series')} have another step of time ({steps[members].min():g} to "
        f"{steps[members].max():g}) than most ({usual:g}).",
        "The same change takes another number of steps in them; to the model it is another change.",
        "Bring all to one step at the source.",
    )
    return [of_examples(text, names, members, np.minimum(1.0, ratio[ratio >= ODD_STEP] / 10))]


def _lengths(facts: Sequence[SeriesFacts], names: Names, *, one_length: bool) -> list[Finding]:
    lengths = np.array([each.steps for each in facts], dtype=np.float64)
    shortest, middle, longest = float(lengths.min()), float(np.median(lengths)), float(lengths.max())
    if shortest == longest:
        return []
    ratio = np.maximum(lengths / middle, middle / np.maximum(lengths, 1))
    odd = np.flatnonzero(ratio >= LENGTH_TIMES)
    if not one_length and not len(odd):
        return []
    members = odd if len(odd) else np.flatnonzero(lengths != middle)
    text = Text(
        "DIFFERENT_LENGTHS",
        "warning" if one_length else "info",
        f"The series have {shortest:.0f} to {longest:.0f} steps (median {middle:.0f}); {len(members)} of them "
        + ("differ from it by a factor of two or more." if len(odd) else "have another length."),
        "Series are cut or filled up to one length: of long ones a part is lost, short ones are mostly filling.",
        "Cut long ones into pieces of the length of the others, and look whether short ones are whole.",
    )
    return [of_examples(text, names, members, np.minimum(1.0, ratio[members] / 10))]


def _constant(facts: Sequence[SeriesFacts], channels: Sequence[str], names: Names) -> list[Finding]:
    low, high = _stacked(facts, "low"), _stacked(facts, "high")
    found = []
    for place, channel in enumerate(channels):
        known = ~np.isnan(low[:, place])
        flat = known & (low[:, place] == high[:, place]) & (np.array([each.steps for each in facts]) > 1)
        if known.any() and np.nanmin(low[:, place]) == np.nanmax(high[:, place]):
            message = f'Channel "{channel}" is {float(np.nanmin(low[:, place])):g} in every step of every series.'
            text = Text("CONSTANT_CHANNEL", "warning", message, "It carries nothing and costs time.", "Leave the channel out.")
            found.append(of_column(text, channel, int(known.sum())))
        elif flat.any() and flat.sum() <= 0.5 * known.sum():
            members = np.flatnonzero(flat)
            text = Text(
                "DEAD_CHANNEL",
                "warning",
                f'Channel "{channel}" never changes in {several(len(members), "series", "series")}, but does in others.',
                "A sensor that failed looks like a state of the machine.",
                "Look at the sensor; drop the series if it was broken.",
            )
            found.append(of_examples(text, names, members, drop=True, column=channel))
    return found


def _stuck(facts: Sequence[SeriesFacts], channels: Sequence[str], names: Names) -> list[Finding]:
    equal, usual, distinct = (_stacked(facts, name) for name in ("equal_run", "usual_run", "distinct"))
    varied = _stacked(facts, "low") != _stacked(facts, "high")
    found = []
    for place, channel in enumerate(channels):
        judged = varied[:, place] & (distinct[:, place] > FEW_VALUES)
        if not judged.any():
            continue
        limit = max(STUCK, STUCK_TIMES * float(np.median(usual[judged, place])))
        members = np.flatnonzero(judged & (equal[:, place] >= limit))
        if len(members):
            longest = float(equal[members, place].max())
            text = Text(
                "STUCK_VALUES",
                "warning",
                f'Channel "{channel}" stands at one value for up to {longest:.0f} steps in '
                f"{several(len(members), 'series', 'series')}.",
                "The sensor, or the line to it, stopped; the model learns the silence as a calm machine.",
                "Look at these stretches; leave them empty at the source if nothing was measured.",
            )
            scores = np.minimum(1.0, equal[members, place] / np.array([facts[m].steps for m in members.tolist()]) + 0.2)
            found.append(of_examples(text, names, members, scores, column=channel))
    return found


def _spikes(facts: Sequence[SeriesFacts], channels: Sequence[str], names: Names, strata: Ints) -> list[Finding]:
    sizes = np.bincount(strata)
    counts = _stacked(facts, "spikes")
    found = []
    for place, channel in enumerate(channels):
        members = np.flatnonzero(counts[:, place] > 0)
        if not len(members):
            continue
        shares = np.bincount(strata[members], minlength=len(sizes)) / np.maximum(sizes, 1)
        if (shares[sizes >= _COMPARED] > USUAL_SPIKES).any():
            continue
        total = int(counts[members, place].sum())
        text = Text(
            "SPIKES",
            "info",
            f'Channel "{channel}" jumps away and back at once {several(total, "time")}, in '
            f"{several(len(members), 'series', 'series')}.",
            "Single wrong readings pull means and scales, and look like what an anomaly detector is to find.",
            "Look whether they are real; take out readings that cannot be.",
        )
        found.append(of_examples(text, names, members, np.minimum(1.0, counts[members, place] / 10), column=channel))
    return found


def _missing(facts: Sequence[SeriesFacts], channels: Sequence[str], names: Names) -> list[Finding]:
    share, run = _stacked(facts, "missing"), _stacked(facts, "missing_run")
    found = []
    for place, channel in enumerate(channels):
        members = np.flatnonzero(share[:, place] > 0)
        if not len(members):
            continue
        longest = float(run[members, place].max())
        long = longest >= MISSING_RUN or bool((share[members, place] >= MISSING_SHARE).any())
        text = Text(
            "MISSING_STEPS",
            "warning" if long else "info",
            f'Channel "{channel}" has no value in up to {longest:.0f} steps in a row, in '
            f"{several(len(members), 'series', 'series')} "
            f"({float(share[members, place].max()):.1%} of the steps of the worst).",
            "Steps without a value are filled in before training; over long stretches the filling is what is learned.",
            "Get the values, or cut the series there.",
        )
        found.append(of_examples(text, names, members, share[members, place], column=channel))
    return found


def _scales(facts: Sequence[SeriesFacts], channels: Sequence[str], names: Names) -> list[Finding]:
    """Series in which a channel lies where it never does in the others, by its median and by the range around it."""
    if len(facts) < _COMPARED:
        return []
    middle, spread = _stacked(facts, "middle"), _stacked(facts, "spread")
    found = []
    for place, channel in enumerate(channels):
        known = ~np.isnan(middle[:, place])
        if known.sum() < _COMPARED:
            continue
        centre = float(np.median(middle[known, place]))
        deviation = 1.4826 * float(np.median(np.abs(middle[known, place] - centre)))
        away = np.abs(middle[:, place] - centre)
        inner = known & (away <= ODD_SCALE * deviation)
        low, high = middle[:, place] - 2 * spread[:, place], middle[:, place] + 2 * spread[:, place]
        apart = (low > np.max(high[inner], initial=-np.inf)) | (high < np.min(low[inner], initial=np.inf))
        members = np.flatnonzero(known & ~inner & apart & (deviation > _TINY))
        if len(members):
            text = Text(
                "ODD_SCALE",
                "warning",
                f'Channel "{channel}" lies elsewhere in {several(len(members), "series", "series")} (median '
                f"{float(middle[members[0], place]):g}) "
                f"than in the others (median {centre:g}).",
                "Another unit or another sensor looks like another state.",
                "Look whether the unit or the calibration differs; convert at the source.",
            )
            found.append(of_examples(text, names, members, column=channel))
    return found


def label_findings(labelled: Ints, steps: Ints, classes: Sequence[str], names: Names) -> list[Finding]:
    """Findings of ranges. labelled int64 [N, classes]: for how many steps each class holds; steps int64 [N]."""
    found: list[Finding] = []
    shares = labelled.sum(axis=0) / max(int(steps.sum()), 1)
    whole = [name for name, share in zip(classes, shares, strict=True) if share > EVERYWHERE]
    if whole:
        text = Text(
            "LABEL_EVERYWHERE",
            "warning",
            f"{quoted(whole)} holds for more than {EVERYWHERE:.0%} of all steps.",
            "What is nearly always the matter cannot be told from what is normal.",
            "Look whether the ranges were meant the other way round, or add normal recordings.",
        )
        found.append(of_column(text, "", int((labelled > 0).any(axis=1).sum())))
    return found


def _stacked(facts: Sequence[SeriesFacts], name: str) -> Floats:
    """A measurement of all series: float64 [N, C]."""
    return np.stack([getattr(each, name) for each in facts])
