"""What an import leaves: its files in the store, all or none, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.core.words import several
from modelyard.dataset.domain.records import Finding, ImportResult, ImportSummary
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.content import Content, Rejections, all_or_none
from modelyard.dataset.worker.sources import SOURCE
from modelyard.formats import dataset as files
from modelyard.formats.dataset_tar import Archive

_AT_ONCE: Final = 2
"""Files that are stored at once: while the disk writes one the next is hashed."""


def keep(unfinished: files.DatasetDescriptor, content: Content, store: ArtifactStore, work: Work) -> files.DatasetDescriptor:
    """Stores manifest and packs; the descriptor with their names and the digest of the content."""
    manifest, packs = content.finish()
    work.stage("store", 0, len(packs), "packs", 0.92, 1.0)
    with all_or_none(store) as put, ThreadPoolExecutor(1 + _AT_ONCE) as beside:
        digested = beside.submit(
            files.digest,
            content.digested(),
            task=unfinished.task,
            classes=unfinished.classes,
            columns=(),
            target="",
            names=files.digest_names(unfinished),
        )
        manifest_blob, *pack_blobs = beside.map(put, (manifest, *packs))  # the disk is what takes long here
        digest = digested.result()
    return replace(unfinished, manifest=manifest_blob, packs=tuple(pack_blobs), digest=digest)


def result(
    descriptor: files.DatasetDescriptor,
    used: str,
    content: Content,
    rejected: Rejections,
    assumptions: Sequence[str],
    findings: Sequence[Finding] = (),
) -> ImportResult:
    """The import's result."""
    summary = ImportSummary(
        example_count=content.count,
        rejected=tuple(rejected.listed),
        rejected_count=rejected.count,
        classes=descriptor.classes,
        class_counts=tuple(content.class_counts[name] for name in descriptor.classes),
        columns=(),
        assumptions=tuple(assumptions),
        digest=descriptor.digest,
        examples_with_usage=content.with_usage,
    )
    return ImportResult(summary, descriptor, used, tuple(findings))


RIGHT: Final = "give a folder of pictures or sounds for each class, a table, or one of the formats of docs/data.md"


def nothing_in(archive: Archive, rejected: Rejections) -> InvalidArgument:
    """The error of an archive in which nothing could be used."""
    left_out = several(rejected.count, "file was", "files were")
    why = f"; {left_out} left out, the first: {rejected.listed[0].message}" if rejected.count else f"; {RIGHT}"
    count = len(archive.entries)
    found = f"{several(count, 'file')} without an example that could be read" if count else "no file that is read"
    if any(each.reason == "NO_LABEL" for each in rejected.listed):
        why += (
            ". Put each file into a folder named after its class, such as cat/1.jpg; or, if people are to label them here, say "
        )
        why += "that they have no labels yet (--unlabelled)"
    return InvalidArgument("NO_EXAMPLES", f"{archive.name} holds {found}{why}", field=SOURCE, file=archive.name)
