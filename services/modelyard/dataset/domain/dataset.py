"""A dataset as kept: its words for people, its present content, and its versions' numbers."""

from __future__ import annotations

from dataclasses import dataclass

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.records import FrozenTest

LONGEST_NAME = 200
LONGEST_DESCRIPTION = 10_000
LONGEST_FILE_NAME = 255


@dataclass(frozen=True)
class Dataset:
    """The document of a dataset. `last_number` is the highest V number a version ever succeeded under: it is not given again."""

    display_name: str = ""
    description: str = ""
    task: str = ""
    current_import: str = ""
    latest_version: str = ""
    last_number: int = 0
    claimed_import: str = ""  # the import that may be running
    frozen: FrozenTest | None = None  # the test set in force
    frozen_evaluations: int = 0  # that have read it


@dataclass(frozen=True)
class Tag:
    """The document of a tag: the version it names."""

    dataset_version: str


@dataclass(frozen=True)
class VersionMarks:
    """What may change of a version: its notes, and how many evaluations have read its test examples (of a frozen test set: the
    dataset counts)."""

    description: str = ""
    evaluations: int = 0


def check_words(display_name: str, description: str, of: str = "dataset") -> None:
    """Raises InvalidArgument TEXT_TOO_LONG."""
    for field, text, longest in (
        (f"{of}.display_name", display_name, LONGEST_NAME),
        (f"{of}.description", description, LONGEST_DESCRIPTION),
    ):
        if len(text) > longest:
            message = f"{field} has {len(text)} characters; at most {longest} are kept"
            raise InvalidArgument("TEXT_TOO_LONG", message, field=field, length=len(text), limit=longest)


def clean_file_name(name: str) -> str:
    """The last part of a file name. Raises InvalidArgument BAD_FILE_NAME above 255 characters or with control characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if len(last) > LONGEST_FILE_NAME or any(ord(character) < 32 for character in last):
        shown = last[:80]
        message = f"dataset_import.file_name is {shown!r}; it is the name of a file, at most {LONGEST_FILE_NAME} characters"
        raise InvalidArgument("BAD_FILE_NAME", message, field="dataset_import.file_name", value=shown)
    return last
