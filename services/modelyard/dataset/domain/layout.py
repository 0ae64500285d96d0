"""What the names of a folder of pictures say: which class each picture is of, and what it is to be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelyard.formats.dataset import TEST, TRAIN, VALIDATION

USAGE_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
"""Names of folders, and values of usage columns, in lower case."""


@dataclass(frozen=True)
class Place:
    """What a picture's path says of it."""

    label: str
    usage: str | None


@dataclass(frozen=True)
class Layout:
    """What the paths of a folder of pictures say; `unlabelled` lie in no class folder. It is kept by folder: there are few of
    those, however many files lie in them."""

    paths: Sequence[str]
    by_folder: Mapping[str, Place]
    unlabelled: tuple[str, ...]
    assumptions: tuple[str, ...]

    def place_of(self, path: str) -> Place | None:
        """What a path says; None where it lies in no class folder."""
        return self.by_folder.get(path.rpartition("/")[0])

    def places_of(self, paths: Sequence[str]) -> list[Place]:
        """What paths say that all lie in class folders."""
        known = self.by_folder
        return [known[path.rpartition("/")[0]] for path in paths]

    @property
    def places(self) -> dict[str, Place]:
        """The same for all paths."""
        return {path: place for path in self.paths if (place := self.place_of(path)) is not None}


def find_layout(paths: Sequence[str]) -> Layout:
    """Reads class and usage of each picture off its path ("class/file", "train/class/file", all perhaps in one outer folder).

    Folders below a class folder belong to the class. A top folder named like a usage is one only when it holds class folders:
    pictures that lie straight in "train" are of a class called train.
    """
    folders = dict.fromkeys(path.rpartition("/")[0] for path in paths)
    parts = {folder: (*folder.split("/"), "") if folder else ("",) for folder in folders}
    wrapper = _wrapper(list(parts.values()))
    assumptions = [f'The outer folder "{"/".join(wrapper)}" was taken as a wrapping, not as a class.'] if wrapper else []
    inner = {folder: each[len(wrapper) :] for folder, each in parts.items()}
    with_usage = _has_usage_folders(list(inner.values()))
    if with_usage:
        assumptions.append("The top folders were taken as usages (train, validation, test), the folders in them as classes.")
    elif any(len(each) > 1 for each in inner.values()):
        assumptions.append("Each top folder was taken as a class.")
    if any(len(each) > 2 + with_usage for each in inner.values()):
        assumptions.append("Pictures in deeper folders were given the class of the class folder above them.")
    placed = {folder: place for folder, each in inner.items() if (place := _place(each, with_usage)) is not None}
    unlabelled = tuple(path for path in paths if path.rpartition("/")[0] not in placed) if len(placed) < len(inner) else ()
    return Layout(paths, placed, unlabelled, tuple(assumptions))


def _wrapper(parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The outer folders that hold everything and say nothing."""
    depth = 0
    while parts:
        first = parts[0][depth]
        shared = all(len(each) >= depth + 3 and each[depth] == first for each in parts)
        if not shared or first.lower() in USAGE_NAMES:
            break
        depth += 1
    return parts[0][:depth] if parts else ()


def _has_usage_folders(parts: Sequence[tuple[str, ...]]) -> bool:
    tops = {each[0].lower() for each in parts if len(each) >= 3}
    usages = {USAGE_NAMES[top] for top in tops if top in USAGE_NAMES}
    others = {each[0].lower() for each in parts if len(each) >= 2} - set(USAGE_NAMES)
    return TRAIN in usages and (len(usages) > 1 or not others)


def _place(parts: tuple[str, ...], with_usage: bool) -> Place | None:
    if not with_usage:
        return Place(parts[0], None) if len(parts) >= 2 else None
    usage = USAGE_NAMES.get(parts[0].lower())
    return Place(parts[1], usage) if usage and len(parts) >= 3 else None
