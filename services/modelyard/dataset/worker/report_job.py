"""A quality report: everything worth knowing of a dataset's content before anyone trains on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain import checks, label_checks, picture_checks, target_noise
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.giveaways import giveaway_findings
from modelyard.dataset.domain.label_noise import LabelNoise
from modelyard.dataset.domain.near import merge_groups, turned_pairs
from modelyard.dataset.domain.neighbours import CLOSE, Neighbours, close_pairs, nearest, principal_axes
from modelyard.dataset.domain.out_of_sample import OutOfSample
from modelyard.dataset.domain.picture_facts import FACTS
from modelyard.dataset.domain.records import QUICK, Finding, ReportResult, ReportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import (
    kind_checks,
    label_models,
    picture_pass,
    report_box_classes,
    report_marks,
    report_missing_boxes,
    report_page,
)
from modelyard.dataset.worker.picture_pass import Looks
from modelyard.dataset.worker.report_drift import check_drift
from modelyard.dataset.worker.stored import Stored, load, near_groups_of
from modelyard.formats.dataset import (
    AUDIO,
    FEATURE,
    IMAGE,
    MARKED_TASKS,
    SEMANTIC_SEGMENTATION,
    TABLE,
    TABULAR_REGRESSION,
    DatasetDescriptor,
    read_parquet,
)

READ, LOOKED, LABELLED, COMPARED, DRAWN = 0.05, 0.6, 0.85, 0.95, 1.0
"""Shares of a full report of pictures that are done after its stages."""

KIND_CHECKED = 0.3
"""The same after the checks of tables, sounds and series."""

_LEAST_NEIGHBOURS = 50
_FEW = 5_000
_SAMPLE = 4096
_LEAST_ROWS = 200
_MANY = 4096
"""Of so many examples, what took long is kept for an attempt that follows one that was killed."""


def run(spec: ReportSpec, store: ArtifactStore, folder: Path, work: Work) -> ReportResult:
    """Checks the content. `folder` is for files that do not outlive the job. Raises Cancelled."""
    from threadpoolctl import threadpool_limits

    # Of few examples, threads wait for each other longer than they compute, much longer where others use the cores.
    with threadpool_limits(1 if _few(spec) else None):
        return _run(spec, store, folder, work)


def _few(spec: ReportSpec) -> bool:
    return spec.imported.summary.example_count < _FEW


def _run(spec: ReportSpec, store: ArtifactStore, folder: Path, work: Work) -> ReportResult:
    content, full = spec.content, spec.depth != QUICK
    if spec.base_descriptor is not None:
        return _compared(spec, spec.base_descriptor, store, work)
    stored = load(store, content, work, compare=not spec.version, end=READ if full else 0.9)
    looks = None
    if full and content.kind == IMAGE and stored.manifest.num_rows:
        looks = picture_pass.look_at(store, content, stored.manifest, folder, work, (READ, LOOKED))
        if spec.version:  # its manifest has no thumbnails to compare by
            near_groups = near_groups_of(stored.groups, looks.thumbnails)
            stored = replace(stored, thumbnails=looks.thumbnails, near_groups=near_groups)
    names = Names(stored.manifest["path"].to_pylist(), stored.manifest["example_id"].to_pylist())
    classes = _classes(spec, stored)
    findings = [*_of_import(spec), *checks.class_findings(*classes)]
    checked = kind_checks.check_kind(store, content, stored, names, work, (READ, KIND_CHECKED), full=full)
    stored = replace(stored, near_groups=checked.near_groups)
    findings += [*checked.findings, *(_of_pictures(stored, looks, names) if content.kind == IMAGE else [])]
    findings += checks.duplicate_findings(
        stored.groups, stored.near_groups, _said(stored, content), stored.usages, names, sounds=content.kind == AUDIO
    )
    notes: list[str] = []
    if full:
        found, notes = _of_models(store, content, stored, looks, names, folder, work)
        findings += found
    ranked = checks.ranked(findings)
    page = report_page.write(spec, ranked, notes, classes, stored, store, folder, work, (COMPARED, DRAWN))
    return ReportResult(ranked, tuple(notes), store.put_file(page), stored.manifest.num_rows)


def _compared(spec: ReportSpec, base: DatasetDescriptor, store: ArtifactStore, work: Work) -> ReportResult:
    """How the content differs from the base version."""
    findings, notes, count = check_drift(store, base, spec.content, spec.base, spec.version or "the present content", work)
    return ReportResult(checks.ranked(findings), notes, None, count)


def _of_import(spec: ReportSpec) -> list[Finding]:
    """What only the import could see. A version is not judged by it: what it left out, or an edit mended, is not in it."""
    if spec.version:
        return []
    summary = spec.imported.summary
    kept = [finding for finding in spec.imported.findings if finding.kind not in report_marks.REPLACED]
    return [*kept, *checks.rejected_findings(summary.rejected, summary.rejected_count)]


def _classes(spec: ReportSpec, stored: Stored) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The classes and how many examples (marked objects, ranges) each has; () of a version's masks, whose pixels are counted."""
    if spec.descriptor is None:
        return spec.imported.summary.classes, spec.imported.summary.class_counts
    content = spec.descriptor
    marked = report_marks.class_counts(stored.manifest, len(content.classes))
    if marked is not None:
        return content.classes, tuple(marked.tolist())
    if content.task == SEMANTIC_SEGMENTATION or not content.classes:
        return (), ()
    counts = np.sum([count.classes for count in content.counts.values()], axis=0, dtype=np.int64)
    return content.classes, tuple(np.atleast_1d(counts).tolist())


def _said(stored: Stored, content: DatasetDescriptor) -> list[str | None]:
    """What is said of each example: its label, or the hash of its annotation."""
    annotated = "annotation" in stored.manifest.column_names and content.kind == IMAGE
    said: list[str | None] = stored.manifest["annotation" if annotated else "label"].to_pylist()
    return said


def _of_pictures(stored: Stored, looks: Looks | None, names: Names) -> list[Finding]:
    widths, heights = (stored.manifest[name].to_numpy().astype("int64") for name in ("width", "height"))
    findings = picture_checks.size_findings(widths, heights, names)
    if looks is None:
        return findings + picture_checks.thumbnail_findings(stored.thumbnails, names)
    return findings + picture_checks.fact_findings(looks.facts, looks.thumbnails, names)


def _of_models(
    store: ArtifactStore,
    content: DatasetDescriptor,
    stored: Stored,
    looks: Looks | None,
    names: Names,
    folder: Path,
    work: Work,
) -> tuple[list[Finding], list[str]]:
    """What models and neighbours say of the examples, and sentences about what was looked at."""
    span = (LOOKED, LABELLED) if looks else (KIND_CHECKED, COMPARED)
    findings, notes = _of_labels(store, content, stored, looks, names, folder, work, span)
    if looks is not None and _has_labels(content, stored):
        findings += giveaway_findings(_numbers(stored, looks), _codes(stored, content), content.classes)
    if looks is not None:
        what = "EfficientNet-Lite0, trained on ImageNet" if looks.pretrained else "edges and colours alone"
        notes.insert(0, f"Each of {len(names.paths)} pictures was decoded once; vectors were made by {what}.")
        if len(names.paths) >= _LEAST_NEIGHBOURS:
            neighbours = _neighbours(looks, stored, work)
            findings += picture_checks.outlier_findings(neighbours, names)
            findings += picture_checks.group_findings(neighbours, _codes(stored, content), names)
            findings += _of_pairs(neighbours, stored, names)
        else:
            notes.append(f"Outliers were not looked for: that needs {_LEAST_NEIGHBOURS} pictures or more.")
    return findings, notes


def _of_labels(
    store: ArtifactStore,
    content: DatasetDescriptor,
    stored: Stored,
    looks: Looks | None,
    names: Names,
    folder: Path,
    work: Work,
    span: tuple[float, float],
) -> tuple[list[Finding], list[str]]:
    if content.task in MARKED_TASKS:
        return _of_boxes(store, content, stored, names, folder, work, span)
    if content.task == TABULAR_REGRESSION:
        return _of_targets(store, content, stored, names, work, span)
    if not _has_labels(content, stored):
        return [], []
    every = _codes(stored, content)
    members = label_checks.judged(every, len(content.classes))
    labels = every[members]
    if len(np.unique(labels)) < 2 or len(members) < label_checks.LEAST_JUDGED:
        return [], [f"Labels were not checked: that needs two classes of {label_checks.LEAST_EXAMPLES} examples or more each."]
    found = _judged(store, content, stored, looks, labels, members, work, span)
    skill = label_checks.skill(found.balanced, len(np.unique(labels)))
    note = "Labels were compared with models trained on four fifths of the examples and asked about the rest, "
    note += f"which agree with {found.accuracy:.1%}"
    if skill < label_checks.LEAST_SKILL:
        return [], [f"{note}: too few to accuse a label, so none was."]
    findings = label_checks.label_findings(labels, found.noise, members, content.classes, names)
    left = len(every) - len(members)
    return findings, [f"{note}{f'; {left} examples of small classes were not judged' if left else ''}."]


def _of_boxes(
    store: ArtifactStore,
    content: DatasetDescriptor,
    stored: Stored,
    names: Names,
    folder: Path,
    work: Work,
    span: tuple[float, float],
) -> tuple[list[Finding], list[str]]:
    """What models say of the classes of boxes, and of boxes that are not there."""
    middle = (span[0] + span[1]) / 2
    findings, notes = report_box_classes.check_box_classes(store, content, stored.manifest, names, work, (span[0], middle))
    missing, said = report_missing_boxes.check_missing_boxes(
        store, content, stored.manifest, stored.near_groups, names, folder, work, (middle, span[1])
    )
    return findings + missing, notes + said


def _of_targets(
    store: ArtifactStore, content: DatasetDescriptor, stored: Stored, names: Names, work: Work, span: tuple[float, float]
) -> tuple[list[Finding], list[str]]:
    """What models say of the numbers to predict."""
    if content.table is None or stored.manifest.num_rows < _LEAST_ROWS or not any(c.role == FEATURE for c in content.columns):
        return [], []
    column = read_parquet(store.path(content.table), [content.target])[content.target]
    given = np.asarray(column.take(stored.manifest["row"]).to_numpy(), dtype=np.float64)
    if not np.isfinite(given).all() or not np.ptp(given):
        return [], []
    predicted = label_models.judge_targets(store, content, stored, given, work, span)
    noise = target_noise.fit(predicted, given)
    note = f'"{content.target}" was compared with what models say that did not learn from the row; they explain '
    note += f"{noise.explained:.0%} of its spread"
    if not label_checks.accuses(noise):
        little = noise.explained < label_checks.LEAST_EXPLAINED
        why = "too little" if little else f"but are far off in {noise.rate:.0%} of the rows, too many"
        return [], [f"{note}: {why} to call a number wrong, so none was."]
    return label_checks.target_findings(content.target, noise, predicted, given, names), [f"{note}."]


def _judged(
    store: ArtifactStore,
    content: DatasetDescriptor,
    stored: Stored,
    looks: Looks | None,
    labels: npt.NDArray[np.int64],
    members: npt.NDArray[np.int64],
    work: Work,
    span: tuple[float, float],
) -> OutOfSample:
    """What models say of the labels; an attempt before this one may have asked them."""

    def asked() -> dict[str, npt.NDArray[Any]]:
        found = label_models.judge(store, content, stored, looks, labels, members, work, span)
        figures = np.array([found.noise.rate, found.accuracy, found.balanced])
        return {"probabilities": found.noise.probabilities, "wrong": found.noise.wrong, "figures": figures}

    said = work.once("labels", asked) if len(labels) >= _MANY else asked()
    rate, accuracy, balanced = said["figures"].tolist()
    return OutOfSample(LabelNoise(said["probabilities"], said["wrong"], rate), accuracy, balanced)


def _has_labels(content: DatasetDescriptor, stored: Stored) -> bool:
    """Whether every example has one class, and something to tell it by."""
    features = content.kind != TABLE or any(column.role == FEATURE for column in content.columns)
    return bool(content.classes) and not stored.manifest["label"].null_count and features


def _of_pairs(neighbours: Neighbours, stored: Stored, names: Names) -> list[Finding]:
    """Pictures that repeat another one, changed: mirrored and turned ones, then those that an embedding sees through."""
    left, right = turned_pairs(stored.thumbnails)
    findings = checks.alike_findings(left, right, stored.near_groups, "are another one, mirrored or turned", names)
    told = merge_groups(stored.near_groups, stored.near_groups[left], stored.near_groups[right])
    if neighbours.complete:
        left, right = close_pairs(neighbours, CLOSE)
        findings += checks.alike_findings(left, right, told, "show the same as another one, cut, lit or edited", names)
    return findings


def _codes(stored: Stored, content: DatasetDescriptor) -> npt.NDArray[np.int64]:
    """The class of each example by its number, -1 where it is none of the dataset's: int64 [N]."""
    index = {name: number for number, name in enumerate(content.classes)}
    return np.asarray([index.get(label, -1) for label in stored.manifest["label"].to_pylist()], dtype=np.int64)


def _numbers(stored: Stored, looks: Looks) -> dict[str, npt.NDArray[np.floating]]:
    """What could give a picture's class away, by what it is called."""
    widths, heights = (stored.manifest[name].to_numpy().astype(np.float64) for name in ("width", "height"))
    facts = {fact: looks.facts[:, number] for number, fact in enumerate(FACTS)}
    measured = {
        "lightest part": "dark",
        "darkest part": "bright",
        "contrast": "contrast",
        "blur": "blur",
        "colourfulness": "colour",
    }
    return {"size": widths * heights, "shape": widths / heights, **{name: facts[fact] for name, fact in measured.items()}}


def _neighbours(looks: Looks, stored: Stored, work: Work) -> Neighbours:
    def found() -> dict[str, npt.NDArray[Any]]:
        made = _nearest(looks, stored, work)
        return {"distances": made.distances, "ids": made.ids, "complete": np.array(made.complete), "far": made.far}

    said = work.once("neighbours", found) if len(looks.features) >= _MANY else found()
    return Neighbours(said["distances"], said["ids"], bool(said["complete"]), said["far"])


def _nearest(looks: Looks, stored: Stored, work: Work) -> Neighbours:
    count = len(looks.features)
    rows = np.sort(np.random.default_rng(0).choice(count, min(_SAMPLE, count), replace=False))
    mean, axes = principal_axes(looks.at(rows))
    blocks = [(looks.at(np.arange(start, min(start + _SAMPLE, count))) - mean) @ axes for start in range(0, count, _SAMPLE)]
    return nearest(np.concatenate(blocks), stored.near_groups, work, (LABELLED, COMPARED))
