"""What is wrong with sounds: silent, clipped, off centre, cut short, of another rate, length or number of channels; near
copies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelyard.core.words import several
from modelyard.dataset.domain import near
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.listing import Text, of_examples
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.sound_facts import SoundFacts

SILENT = 0.001
"""Level (-60 dB of full scale) below which a sound is silent."""

CLIPPED = 0.002
"""Share of samples in flat tops, from which a sound is clipped..."""

LOUD = 0.1
"""...if its peak is this high: quiet sounds have few steps, and equal samples by chance."""

OFFSET = 0.02
"""Mean of the samples, from which a sound is off centre (of full scale)..."""

OFFSET_SHARE = 0.1
"""...and this share of its level."""

CUT = 0.5
"""Level of the last (or first) 10 ms to the level of the whole, from which a sound may be cut off in the middle..."""

CUT_USUAL = 0.08
"""...unless so large a share of all sounds ends like this: then it is how they are."""

ODD_LENGTH = 3.0
"""A sound is of odd length when it is this many times longer or shorter than the median..."""

ALIKE = 3.5
"""Spectra (0 to 255) of nearly equal sounds differ by this much on average: those of different ones by twice as much and more."""

HASH_BITS = 16
"""Hashes of nearly equal sounds differ in up to so many of 64 bits: spectra are rougher than pictures."""

SAME_SIDES = 1e-4
"""Level of the difference of two channels to their own, below which they are the same."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def sound_findings(facts: SoundFacts, rates: Ints, frames: Ints, channels: Ints, names: Names) -> list[Finding]:
    """Findings of N sounds. rates int64 [N] in Hz, frames of each channel, channels."""
    silent = facts.level < SILENT
    found = [
        *_broken(facts, names),
        *_silent(facts, silent, names),
        *_clipped(facts, silent, names),
        *_offset(facts, silent, names),
        *_cut(facts, silent, names),
        *_odd_rate(rates, names),
        *_odd_length(frames / np.maximum(rates, 1), names),
        *_channels(facts, channels, silent, names),
    ]
    return found


def near_groups(groups: Ints, facts: SoundFacts) -> Ints:
    """Groups int64 [N] of equal sounds, joined where sounds are nearly equal: the same spectrum over (nearly) the same time."""
    heard = np.flatnonzero(facts.level >= SILENT)
    different = heard[np.unique(groups[heard], return_index=True)[1]]
    left, right = near.near_pairs(facts.spectra[different], most=ALIKE, bits=HASH_BITS)
    one, other = facts.active[different[left]], facts.active[different[right]]
    alike = np.abs(one - other) <= 0.05 * np.maximum(one, other) + 0.03
    return near.merge_groups(groups, groups[different[left[alike]]], groups[different[right[alike]]])


def _broken(facts: SoundFacts, names: Names) -> list[Finding]:
    members = np.flatnonzero(facts.broken > 0)
    if not len(members):
        return []
    text = Text(
        "BROKEN_AUDIO",
        "error",
        f"{several(len(members), 'sound')} hold samples that are no numbers (NaN or infinite), up to "
        f"{float(facts.broken[members].max()):.1%} of them.",
        "One such sample makes a loss, and then all weights of a model, NaN.",
        "Drop them, or write the files again.",
    )
    return [of_examples(text, names, members, np.minimum(1.0, 0.5 + facts.broken[members]), drop=True)]


def _silent(facts: SoundFacts, silent: npt.NDArray[np.bool_], names: Names) -> list[Finding]:
    members = np.flatnonzero(silent)
    if not len(members):
        return []
    text = Text(
        "SILENT_AUDIO",
        "error",
        f"{several(len(members), 'sound')} hold nothing to hear: they stay below {SILENT:g} of full scale (-60 dB).",
        "Silence under a label teaches the model to answer with that class when it hears nothing.",
        "Drop them, or record them again.",
    )
    return [of_examples(text, names, members, 1 - facts.level[members] / SILENT / 2, drop=True)]


def _clipped(facts: SoundFacts, silent: npt.NDArray[np.bool_], names: Names) -> list[Finding]:
    members = np.flatnonzero((facts.clipped >= CLIPPED) & (facts.peak >= LOUD) & ~silent)
    if not len(members):
        return []
    worst = float(facts.clipped[members].max())
    text = Text(
        "CLIPPED_AUDIO",
        "warning",
        f"{several(len(members), 'sound')} are clipped: flat tops hold up to {worst:.1%} of their samples.",
        "Clipping adds overtones that the true sound does not have; a model may learn the recorder's gain instead of the sound.",
        "Record them again with less gain; keep them only if the sounds to come are clipped too.",
    )
    return [of_examples(text, names, members, np.minimum(1.0, facts.clipped[members] / 0.1))]


def _offset(facts: SoundFacts, silent: npt.NDArray[np.bool_], names: Names) -> list[Finding]:
    size = np.abs(facts.offset)
    members = np.flatnonzero((size >= OFFSET) & (size >= OFFSET_SHARE * facts.level))
    if not len(members):
        return []
    text = Text(
        "DC_OFFSET",
        "info",
        f"{several(len(members), 'sound')} are off centre: their samples' mean is up to "
        f"{float(size[members].max()):.3f} of full scale.",
        "The offset shows as energy at the lowest frequencies and tells recorders apart, not classes.",
        "Subtract the mean at the source, or look at the recorder.",
    )
    return [of_examples(text, names, members, np.minimum(1.0, size[members] / 0.2))]


def _cut(facts: SoundFacts, silent: npt.NDArray[np.bool_], names: Names) -> list[Finding]:
    found = []
    for what, edge in (("end", facts.end), ("begin", facts.beginning)):
        cut = (edge >= CUT) & ~silent
        members = np.flatnonzero(cut)
        if not len(members) or len(members) > CUT_USUAL * len(edge):
            continue
        text = Text(
            "CUT_SHORT",
            "warning",
            f"{several(len(members), 'sound')} {what} in the middle: their {'last' if what == 'end' else 'first'} "
            "10 ms are as loud as the rest.",
            "What was cut off may be what tells the classes apart.",
            "Listen to them; record them again, or drop those that lack something.",
        )
        found.append(of_examples(text, names, members, np.minimum(1.0, edge[members] / 2)))
    return found


def _odd_rate(rates: Ints, names: Names) -> list[Finding]:
    usual, members = _minority(rates)
    if not len(members):
        return []
    others = sorted(set(rates[members].tolist()))
    text = Text(
        "ODD_SAMPLE_RATE",
        "warning",
        f"{several(len(members), 'sound')} have another rate ({', '.join(map(str, others[:5]))} Hz) than most ({usual} Hz).",
        "Read at one rate they sound higher or lower; resampled they lack what the lower rate could not hold.",
        f"Resample all to one rate, such as {usual} Hz, and look whether one class or device has the odd ones.",
    )
    return [of_examples(text, names, members)]


def _odd_length(seconds: Floats, names: Names) -> list[Finding]:
    logs = np.log(np.maximum(seconds, 1e-6))
    middle = float(np.median(logs)) if len(logs) else 0.0
    spread = float(np.subtract(*np.quantile(logs, [0.75, 0.25]))) if len(logs) else 0.0
    away = np.abs(logs - middle)
    members = np.flatnonzero(away > max(float(np.log(ODD_LENGTH)), 3 * spread))
    if not len(members):
        return []
    shortest, longest = float(seconds[members].min()), float(seconds[members].max())
    text = Text(
        "ODD_LENGTH",
        "info",
        f"{several(len(members), 'sound')} last {shortest:.2f} to {longest:.2f} s, far from the median of "
        f"{float(np.exp(middle)):.2f} s.",
        "Sounds are cut or filled up to one length: of long ones a part is lost, short ones are mostly silence.",
        "Cut long ones into pieces; look whether short ones hold all they should.",
    )
    return [of_examples(text, names, members, np.minimum(1.0, away[members] / np.log(20)))]


def _channels(facts: SoundFacts, channels: Ints, silent: npt.NDArray[np.bool_], names: Names) -> list[Finding]:
    found = []
    usual, members = _minority(channels)
    if len(members):
        text = Text(
            "MIXED_CHANNELS",
            "info",
            f"{several(len(members), 'sound')} have another number of channels than the others ({usual}).",
            "Channels are mixed to one; what is mixed can sound unlike what was recorded with one microphone.",
            "Mix all to one channel at the source, and look whether one class or device has the odd ones.",
        )
        found.append(of_examples(text, names, members))
    same = np.flatnonzero((facts.side < SAME_SIDES) & ~silent)
    if len(same):
        text = Text(
            "EQUAL_CHANNELS",
            "info",
            f"{several(len(same), 'sound')} have two channels that are the same.",
            "Nothing is lost; they take twice the space.",
            "Keep one channel at the source.",
        )
        found.append(of_examples(text, names, same, np.full(len(same), 0.1)))
    return found


def _minority(values: Ints) -> tuple[int, Ints]:
    """The commonest value, and the positions of the others."""
    if not len(values):
        return 0, np.empty(0, np.int64)
    distinct, counts = np.unique(values, return_counts=True)
    usual = int(distinct[counts.argmax()])
    return usual, np.flatnonzero(values != usual).astype(np.int64)
