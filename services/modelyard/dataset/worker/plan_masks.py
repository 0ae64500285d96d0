"""What pictures with masks say: which mask belongs to which picture, and what its values or colours mean."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.core.errors import InvalidArgument
from modelyard.core.words import several
from modelyard.dataset.domain import mask_files
from modelyard.dataset.domain.picture_names import usage_of
from modelyard.dataset.worker.annotation_index import Said
from modelyard.dataset.worker.plans import SOURCE, Sources, check_task
from modelyard.dataset.worker.read_annotated import legend_from, note_values, read_mask
from modelyard.formats import dataset as files
from modelyard.formats.archive import Entry
from modelyard.formats.pictures import is_picture_name


def plan_masks(source: Sources) -> None:
    """A mask for each picture; a list of classes names their values or colours."""
    plan = source.plan
    check_task(source.spec.task, [files.SEMANTIC_SEGMENTATION])
    plan.task = files.SEMANTIC_SEGMENTATION
    entries = {entry.path: entry for entry in source.archive.entries}
    found = mask_files.pairs([path for path in entries if is_picture_name(path)])
    if not found:
        message = f"{source.archive.name} holds no pictures with masks: folders such as images and masks, or train and trainannot"
        raise InvalidArgument("NO_EXAMPLES", message, field=SOURCE, file=source.archive.name)
    plan.legend = _legend(source) or _legend_of_masks(source, [entries[path] for path in found.values()])
    plan.classes, plan.palette = plan.legend.classes, plan.legend.palette
    for picture, mask in found.items():
        plan.used.add(mask)
        usage = usage_of(picture) or usage_of(mask)
        plan.index.add(picture, Said(usage, mask, raw=mask))
    plan.assumptions.append(
        f"{several(len(found), 'picture has', 'pictures have')} a mask of the same name in a folder beside; value 255 is ignored."
    )


def _legend(source: Sources) -> mask_files.Legend | None:
    if source.spec.classes:
        return mask_files.legend("\n".join(source.spec.classes), "dataset_import.classes")
    for entry in source.ending(*mask_files.FILES):
        if entry.path.rsplit("/", 1)[-1].lower() in mask_files.FILES:
            source.plan.assumptions.append(f"The classes and their order are those of {entry.path}.")
            return mask_files.legend(source.text_of(entry), entry.path)
    return None


def _legend_of_masks(source: Sources, masks: Sequence[Entry]) -> mask_files.Legend:
    values: set[int] = set()
    colours: set[mask_files.Colour] = set()
    for done, entry in enumerate(masks):
        if done % 200 == 0:
            source.work.stage("masks", done, len(masks), "files", 0.0, 0.1)
        try:
            note_values(read_mask(source.archive.read(entry), None, entry.path), values, colours)
        except InvalidArgument as error:
            if error.reason in ("ARCHIVE_BOMB", "TOO_MANY_CLASSES"):
                raise
    source.plan.assumptions.append("No list of classes names the masks' values; the classes are called by them.")
    return legend_from(values, colours)
