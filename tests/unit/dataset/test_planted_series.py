"""What the checks of series find of faults planted in generated recordings: precision and recall as docs/quality.md states
them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.series_checks import label_findings, series_findings
from modelyard.dataset.domain.series_facts import measure, runs, spikes
from tests.support.planted import Tally, examples, names, of_kind

CHANNELS = ("pressure", "current", "valve")
COUNT, STEPS = 40, 800
Floats = npt.NDArray[np.float64]


def recording(rng: np.random.Generator, steps: int = STEPS) -> Floats:
    """Pressure swings slowly with noise, current jumps between loads, a valve is open or shut; float64 [steps, 3]."""
    t = np.arange(steps)
    pressure = 5 + np.sin(2 * np.pi * t / rng.uniform(60, 200) + rng.uniform(0, 6)) + rng.normal(0, 0.1, steps)
    loads = np.repeat(rng.uniform(1, 4, steps // 40 + 1), 40)[:steps]
    current = np.round(loads + rng.normal(0, 0.05, steps), 2)  # a meter of two decimals
    valve = np.repeat(rng.integers(0, 2, steps // 100 + 1), 100)[:steps].astype(float)
    valve[:2] = (0, 1)
    return np.stack([pressure, current, valve], axis=1)


def times(rng: np.random.Generator, steps: int = STEPS) -> Floats:
    return np.cumsum(1 + rng.normal(0, 0.05, steps).clip(-0.4, 0.4)) + 1.6e9


def found(
    values: list[Floats],
    at: list[Floats] | None = None,
    labelled: list[npt.NDArray[np.bool_]] | None = None,
    one_length: bool = False,
) -> list[Finding]:
    facts = [measure(each, at[place] if at else None, labelled[place] if labelled else None) for place, each in enumerate(values)]
    return series_findings(facts, CHANNELS, names(len(values)), one_length=one_length)


def strings(places: npt.NDArray[np.int64]) -> set[str]:
    return {str(place) for place in places.tolist()}


def test_times() -> None:
    tallies = {kind: Tally() for kind in ("TIME_GAPS", "TIME_BACKWARDS", "TIME_REPEATED", "ODD_STEP")}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        values, at = [recording(rng) for _ in range(COUNT)], [times(rng) for _ in range(COUNT)]
        places = rng.permutation(COUNT)
        gaps, back, still, odd = places[:5], places[5:9], places[9:13], places[13:17]
        for place in gaps:
            at[place][int(rng.integers(50, 700)) :] += float(np.exp(rng.uniform(1, 8)))
        for place in back:
            where = int(rng.integers(50, 700))
            at[place][where : where + 3] = at[place][where : where + 3][::-1]
        for place in still:
            where = int(rng.integers(50, 700))
            at[place][where] = at[place][where + 1]
        for place in odd:
            at[place] = (at[place] - at[place][0]) * rng.choice([0.5, 2.0, 10.0]) + at[place][0]
        findings = found(values, at)
        for kind, planted in (("TIME_GAPS", gaps), ("TIME_BACKWARDS", back), ("TIME_REPEATED", still)):
            tallies[kind].add(strings(planted), examples(findings, kind))
        tallies["ODD_STEP"].add(strings(odd), examples(findings, "ODD_SAMPLE_RATE"))
    for kind, tally in tallies.items():
        tally.is_as_stated(kind)


def test_the_longest_gap_is_named() -> None:
    rng = np.random.default_rng(0)
    at = times(rng)
    at[300:] += 99
    finding = of_kind(found([recording(rng), recording(rng)], [times(rng), at]), "TIME_GAPS")[0]
    assert "in 1 after step 299, lasts 100 usual steps" in finding.message


def test_dead_stuck_spiky_and_missing_channels() -> None:
    tallies = {kind: Tally() for kind in ("DEAD_CHANNEL", "STUCK_VALUES", "SPIKES", "MISSING_STEPS", "ODD_SCALE")}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        values = [recording(rng) for _ in range(COUNT)]
        places = rng.permutation(COUNT)
        planted = {kind: places[5 * number : 5 * number + 5] for number, kind in enumerate(tallies)}
        for place in planted["DEAD_CHANNEL"]:
            values[place][:, 1] = values[place][0, 1]
        for place in planted["STUCK_VALUES"]:
            where = int(rng.integers(100, 500))
            values[place][where : where + int(rng.integers(12, 250)), 0] = values[place][where, 0]
        for place in planted["SPIKES"]:
            values[place][rng.integers(10, 790, 2), 0] += rng.choice([-1, 1], 2) * rng.uniform(2, 60, 2)
        for place in planted["MISSING_STEPS"]:
            where = int(rng.integers(100, 500))
            values[place][where : where + 30, 1] = np.nan
        for place in planted["ODD_SCALE"]:
            values[place][:, 0] = values[place][:, 0] * 14.5  # bar to psi
        findings = found(values)
        for kind, tally in tallies.items():
            tally.add(strings(planted[kind]), examples(findings, kind))
        assert {finding.column for finding in of_kind(findings, "STUCK_VALUES")} <= {"pressure"}
    for kind, tally in tallies.items():
        tally.is_as_stated(kind)


def test_what_people_marked_is_no_spike() -> None:
    rng = np.random.default_rng(0)
    values = [recording(rng) for _ in range(10)]
    values[0][400, 0] += 50
    values[1][400, 0] += 50
    labelled = [np.zeros(STEPS, np.bool_) for _ in range(10)]
    labelled[0][390:410] = True
    assert examples(found(values, labelled=labelled), "SPIKES") == {"1"}


def test_what_every_series_does_is_no_spike() -> None:
    rng = np.random.default_rng(0)
    values = [recording(rng) for _ in range(20)]
    for each in values:
        each[::80, 0] += 30  # a heartbeat
    assert examples(found(values), "SPIKES") == set()


def test_a_constant_channel_and_one_length() -> None:
    constant, lengths = Tally(), Tally()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        values = [recording(rng) for _ in range(COUNT)]
        for each in values:
            each[:, 2] = 1.0
        odd = rng.permutation(COUNT)[:4]
        for place in odd:
            values[place] = recording(rng, int(rng.choice([120, 2400])))
            values[place][:, 2] = 1.0
        findings = found(values, one_length=True)
        constant.add({"valve"}, {finding.column for finding in of_kind(findings, "CONSTANT_CHANNEL")})
        lengths.add(strings(odd), examples(findings, "DIFFERENT_LENGTHS"))
    constant.is_as_stated("CONSTANT_CHANNEL")
    lengths.is_as_stated("DIFFERENT_LENGTHS")


def test_labels_that_hold_everywhere() -> None:
    steps = np.array([100, 100])
    findings = label_findings(np.array([[95, 0, 10], [100, 0, 0]]), steps, ("fault", "leak", "stop"), names(2))
    assert [(finding.kind, finding.severity) for finding in findings] == [("LABEL_EVERYWHERE", "warning")]
    assert '"fault"' in findings[0].message
    assert '"stop"' not in findings[0].message


def test_clean_recordings_have_no_finding() -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        assert found([recording(rng) for _ in range(COUNT)], [times(rng) for _ in range(COUNT)]) == []


def test_series_that_are_hardly_there() -> None:
    nothing = measure(np.full((5, 2), np.nan), np.full(5, np.nan))
    assert (nothing.missing_run.tolist(), nothing.gaps) == ([5.0, 5.0], 0)
    assert measure(np.ones((1, 1)), np.zeros(1)).steps == 1
    assert series_findings([], CHANNELS, names(0), one_length=True) == []
    assert spikes(np.array([1.0, np.nan])).tolist() == [False, False]
    assert runs(np.array([True, True, False, True])).tolist() == [2, 1]
