"""What the checks of sounds find of faults planted in generated sounds: precision and recall as docs/quality.md states them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.edits import DROP
from modelyard.dataset.domain.sound_checks import near_groups, sound_findings
from modelyard.dataset.domain.sound_facts import SoundFacts, gathered, measure
from tests.support.planted import Tally, examples, names, of_kind

RATE = 8000
Samples = npt.NDArray[np.float32]


def word(rng: np.random.Generator, seconds: float | None = None, rate: int = RATE) -> Samples:
    """Something like a spoken word: a few overtones that glide, under an envelope, with a little noise; float32 [frames, 1]."""
    length = seconds or float(rng.uniform(0.4, 0.7))
    t = np.arange(int(length * rate)) / rate
    pitch = rng.uniform(90, 250) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    weights = rng.uniform(0, 1, 10) / np.arange(1, 11)
    tone = sum(weight * np.sin(k * phase) for k, weight in enumerate(weights, start=1))
    bumps = sum(np.exp(-(((t - centre) / 0.06) ** 2)) for centre in rng.uniform(0.12 * length, 0.85 * length, 4))
    shape = bumps * np.sin(np.pi * t / length)
    values = tone * shape
    values *= rng.uniform(0.2, 0.7) / np.abs(values).max()
    return (values + rng.normal(0, 0.0005, len(t))).astype(np.float32)[:, None]


def facts_of(sounds: list[Samples], rates: list[int] | None = None) -> SoundFacts:
    chosen = rates or [RATE] * len(sounds)
    return gathered([measure(sound, rate) for sound, rate in zip(sounds, chosen, strict=True)])


def found(sounds: list[Samples], rates: list[int] | None = None):  # type: ignore[no-untyped-def]
    chosen = np.array(rates or [RATE] * len(sounds))
    frames, channels = np.array([len(sound) for sound in sounds]), np.array([sound.shape[1] for sound in sounds])
    return sound_findings(facts_of(sounds, rates), chosen, frames, channels, names(len(sounds)))


def strings(places: object) -> set[str]:
    return {str(place) for place in places}  # type: ignore[attr-defined]


def test_silent_clipped_off_centre_and_cut_short() -> None:
    tallies = {kind: Tally() for kind in ("SILENT_AUDIO", "CLIPPED_AUDIO", "DC_OFFSET", "CUT_SHORT")}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sounds = [word(rng) for _ in range(120)]
        places = rng.permutation(120)
        silent, clipped, offset, cut = places[:5], places[5:13], places[13:18], places[18:25]
        for number, place in enumerate(silent):
            sounds[place] = (rng.normal(0, 0.0001 * number, sounds[place].shape)).astype(np.float32)
        for place in clipped:
            gain = rng.uniform(1.05, 6) / np.abs(sounds[place]).max()
            sounds[place] = np.clip(sounds[place] * gain, -1, 1) * np.float32(rng.choice([1.0, 0.5]))
        for place in offset:
            sounds[place] = sounds[place] + np.float32(rng.choice([-1, 1]) * rng.uniform(0.02, 0.2))
        for place in cut:
            sounds[place] = sounds[place][: int(len(sounds[place]) * rng.uniform(0.3, 0.7))]
        findings = found(sounds)
        for kind, planted in zip(tallies, (silent, clipped, offset, cut), strict=True):
            tallies[kind].add(strings(planted), examples(findings, kind))
    for kind, tally in tallies.items():
        tally.is_as_stated(kind)


def test_silent_sounds_bring_the_edit_that_drops_them() -> None:
    rng = np.random.default_rng(0)
    findings = found([*(word(rng) for _ in range(10)), np.zeros((4000, 1), np.float32)])
    finding = of_kind(findings, "SILENT_AUDIO")[0]
    assert finding.severity == "error"
    assert finding.fix is not None
    assert (finding.fix.action, finding.fix.examples) == (DROP, ("id10",))


def test_samples_that_are_no_numbers() -> None:
    tally = Tally()
    for seed in range(2):
        rng = np.random.default_rng(seed)
        sounds = [word(rng) for _ in range(40)]
        places = rng.permutation(40)[:6]
        for place in places:
            where = rng.integers(0, len(sounds[place]), int(rng.integers(1, 200)))
            sounds[place][where, 0] = rng.choice(np.array([np.nan, np.inf, -np.inf], np.float32))
        findings = found(sounds)
        tally.add(strings(places), examples(findings, "BROKEN_AUDIO"))
        assert np.isfinite(facts_of(sounds).level).all()
    tally.is_as_stated("BROKEN_AUDIO")


def test_a_low_tone_is_not_clipped() -> None:
    t = np.arange(RATE) / RATE
    sounds = [(0.5 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)[:, None] for hertz in (30, 60, 110, 440, 2000)]
    as_written = [np.round(sound * 32767).astype(np.int16).astype(np.float32) / 32768 for sound in sounds]
    assert examples(found(as_written), "CLIPPED_AUDIO") == set()


def test_odd_rates_lengths_and_channels() -> None:
    tallies = {kind: Tally() for kind in ("ODD_SAMPLE_RATE", "ODD_LENGTH", "MIXED_CHANNELS", "EQUAL_CHANNELS")}
    for seed in range(2):
        rng = np.random.default_rng(seed)
        rates = [RATE] * 100
        sounds = [word(rng) for _ in range(100)]
        places = rng.permutation(100)
        for place in places[:6]:
            rates[place] = 16_000
            sounds[place] = word(rng, rate=16_000)
        for place in places[6:12]:
            sounds[place] = word(rng, seconds=float(rng.choice([0.05, 6.0])))
        for place in places[12:18]:
            sounds[place] = np.repeat(sounds[place], 2, axis=1)
        sounds[places[18]] = np.concatenate(
            [sounds[places[18]], word(rng, len(sounds[places[18]]) / RATE)[: len(sounds[places[18]])]], axis=1
        )
        findings = found(sounds, rates)
        expected = (places[:6], places[6:12], places[12:19], places[12:18])
        for kind, planted in zip(tallies, expected, strict=True):
            tallies[kind].add(strings(planted), examples(findings, kind))
    for kind, tally in tallies.items():
        tally.is_as_stated(kind)


def test_near_copies_of_sounds() -> None:
    """Copies that are louder, lie between silence, are resampled, of fewer bits, or with a little noise; others of one
    speaker."""
    tally = Tally()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sounds = [word(rng) for _ in range(80)]
        rates, planted = [RATE] * 80, set()
        for number, place in enumerate(rng.permutation(80)[:20]):
            original = sounds[place]
            copies = (
                original * np.float32(0.4),
                np.concatenate([np.zeros((900, 1), np.float32), original, np.zeros((400, 1), np.float32)]),
                np.interp(np.arange(0, len(original), 0.5), np.arange(len(original)), original[:, 0]).astype(np.float32)[:, None],
                (np.round(original * 128) / 128).astype(np.float32),
                original + rng.normal(0, rng.uniform(0.0003, 0.003), original.shape).astype(np.float32),
            )
            rates.append(RATE * 2 if number % 5 == 2 else RATE)
            planted.add((int(place), len(sounds)))
            sounds.append(copies[number % 5])
        groups = near_groups(np.arange(len(sounds)), facts_of(sounds, rates))
        pairs = {(a, b) for a in range(len(sounds)) for b in range(a + 1, len(sounds)) if groups[a] == groups[b]}
        tally.add(planted, pairs)
    tally.is_as_stated("NEAR_DUPLICATES_OF_SOUNDS")


def test_clean_sounds_have_no_finding() -> None:
    rng = np.random.default_rng(9)
    assert found([word(rng) for _ in range(150)]) == []


def test_the_shortest_sounds_can_be_measured() -> None:
    for frames in (1, 2, 7, 100):
        facts = facts_of([np.full((frames, 2), 0.3, np.float32)])
        assert facts.spectra.shape == (1, 16, 16)
        assert np.isfinite(facts.level).all()
