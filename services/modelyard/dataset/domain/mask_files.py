"""Pictures with a mask picture each: which belongs to which, and what its values or colours mean."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.picture_names import stem
from modelyard.formats.annotations import IGNORED

_MASK_WORDS = (
    "masks",
    "mask",
    "segmentationclass",
    "ann_dir",
    "annotations",
    "labels",
    "label",
    "gt",
    "groundtruth",
    "segmentation",
)
_PICTURE_WORDS = ("images", "image", "imgs", "img", "jpegimages", "img_dir", "pictures", "data")
_MASK_SUFFIX = re.compile(r"^(.+?)[-_ ]?(annot|annotations?|masks?|labels?|gt)$", re.IGNORECASE)
_MASK_ENDS = tuple(f"{word}.png" for word in ("annot", "annotation", "annotations", "mask", "masks", "label", "labels", "gt"))
_NUMBERED = re.compile(r"^(.+?)\s*\(\s*(\d+)\s*(,\s*ignored?)?\s*\)$")
_IGNORED_NAMES = ("void", "ignore", "ignored", "unlabeled", "unlabelled", "unknown")
_VOID = (224, 224, 192)
"""Pascal VOC's colour of pixels that are not judged."""

_UNKNOWN = 256

Colour = tuple[int, int, int]
FILES = ("labelmap.txt", "classes.txt", "class_dict.csv", "labels.txt", "classes.csv")
"""Names (lower case) of files that list classes."""


@dataclass(frozen=True)
class Legend:
    """What masks mean: classes in the order of their index, and the index (255: ignored) of values and of colours."""

    classes: tuple[str, ...]
    by_value: Mapping[int, int]
    by_colour: Mapping[Colour, int]

    @cached_property
    def table(self) -> npt.NDArray[np.uint16]:
        """The index of every colour as a number of 24 bits, uint16 [2^24]; 256 for colours that nobody named."""
        out = np.full(1 << 24, _UNKNOWN, np.uint16)
        for (red, green, blue), index in {_VOID: IGNORED, **self.by_colour}.items():
            out[red << 16 | green << 8 | blue] = index
        return out

    @property
    def palette(self) -> tuple[str, ...]:
        """The colour of each class, "#rrggbb"; empty where not all have one."""
        found = {index: colour for colour, index in self.by_colour.items() if index != IGNORED}
        return (
            tuple("#{:02x}{:02x}{:02x}".format(*found[i]) for i in range(len(self.classes)))
            if len(found) == len(self.classes)
            else ()
        )


def pairs(pictures: Sequence[str]) -> dict[str, str]:
    """Mask by picture, from the names: folders that differ in one part that says which is which, or "x_mask.png" beside x."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in pictures:
        folders[path[: max(path.rfind("/"), 0)]].append(path)
    # There may be very many pictures and no mask: their stems are only made where something looks like one.
    stems = cache(lambda folder: {stem(path): path for path in folders[folder]})
    found: dict[str, str] = {}
    for folder in folders:
        for partner in _partners(folder):
            if partner != folder and partner in folders:
                others = stems(partner)
                found |= {others[each]: path for each, path in stems(folder).items() if each in others}
    if not found:
        for folder, paths in folders.items():
            joined = "\n".join([*paths, ""]).lower()
            if not any(f"{end}\n" in joined for end in _MASK_ENDS):
                continue
            for path in paths:
                if path.lower().endswith(_MASK_ENDS) and (match := _MASK_SUFFIX.match(stem(path))) and match[1] in stems(folder):
                    found[stems(folder)[match[1]]] = path
    return found


def _partners(folder: str) -> list[str]:
    """Folders that could hold the pictures of a folder of masks."""
    parts = folder.split("/")
    out = []
    for place, part in enumerate(parts):
        others = []
        if part.lower() in _MASK_WORDS:
            others = [word for each in _PICTURE_WORDS for word in (each, each.capitalize(), each.upper())] + ["JPEGImages"]
        elif match := _MASK_SUFFIX.match(part):
            others = [match[1], f"{match[1]}_images", f"{match[1]}images"]
        out += ["/".join([*parts[:place], other, *parts[place + 1 :]]) for other in others]
    return out


def legend(text: str, file: str) -> Legend:
    """From a list of classes: "name", "name,r,g,b", CVAT's "name:r,g,b::", or "name(value,ignore)" a line.

    Raises InvalidArgument BAD_CLASS_LIST.
    """
    names: list[str] = []
    by_value: dict[int, int] = {IGNORED: IGNORED}
    by_colour: dict[Colour, int] = {}
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for value, line in enumerate(_without_header(lines)):
        name, colour = _entry(line)
        match = _NUMBERED.match(name)
        if match:
            name, value = match[1], int(match[2])
        ignored = bool(match and match[3]) or name.lower() in _IGNORED_NAMES
        index = IGNORED if ignored else len(names)
        if not name or name in names:
            raise InvalidArgument("BAD_CLASS_LIST", f"{file} names the class {name!r} twice or not at all", file=file, value=name)
        if not ignored:
            names.append(name)
        by_value[value] = index
        if colour is not None:
            by_colour[colour] = index
    if not names or len(names) > IGNORED:
        raise InvalidArgument("BAD_CLASS_LIST", f"{file} lists {len(names)} classes; 1 to {IGNORED} are needed", file=file)
    return Legend(tuple(names), by_value, by_colour)


def _without_header(lines: Sequence[str]) -> Sequence[str]:
    if lines and re.match(r"^(name|class|label)\w*[,:;\t ]\s*(r|red|color|colour)", lines[0], re.IGNORECASE):
        return lines[1:]
    return lines


def _entry(line: str) -> tuple[str, Colour | None]:
    match = re.match(r"^(.*?)[:,;\t ]\s*(\d{1,3})\s*[,; \t]\s*(\d{1,3})\s*[,; \t]\s*(\d{1,3})\s*(::|:.*)?$", line)
    if match and all(int(match[i]) < 256 for i in (2, 3, 4)):
        return match[1].strip(), (int(match[2]), int(match[3]), int(match[4]))
    return line.removesuffix("::").strip(), None


def from_values(values: Sequence[int]) -> Legend:
    """Classes named by the values that masks hold; 255 is ignored, but in masks of black and white alone."""
    if set(values) == {0, IGNORED}:
        return Legend(("0", "255"), {0: 0, IGNORED: 1}, {})
    kept = sorted(value for value in values if value != IGNORED)
    by_value = {value: index for index, value in enumerate(kept)} | {IGNORED: IGNORED}
    return Legend(tuple(str(value) for value in kept), by_value, {})


def from_colours(colours: Sequence[Colour]) -> Legend:
    """Classes named by the colours that masks hold."""
    kept = sorted(colour for colour in colours if colour != _VOID)
    names = tuple("#{:02x}{:02x}{:02x}".format(*colour) for colour in kept)
    return Legend(names, {}, {colour: index for index, colour in enumerate(kept)})


def colours_of(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Each pixel of uint8 [H, W, 3] as one number, int32 [H, W]."""
    wide = pixels.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def indices(known: Legend, pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """A mask uint8 [H, W] (values) or [H, W, 3] (colours) as class indices, and the values or colours that nobody named."""
    if pixels.ndim == 2:
        table = np.full(256, IGNORED, np.uint8)
        for value, index in known.by_value.items():
            table[value] = index
        unknown = [str(value) for value in np.unique(pixels).tolist() if value not in known.by_value]
        return table[pixels], unknown
    numbers = colours_of(pixels)
    out = known.table[numbers]
    nobody = np.unique(numbers[out == _UNKNOWN]).tolist()
    out[out == _UNKNOWN] = IGNORED
    return out.astype(np.uint8), [f"#{number:06x}" for number in nobody]


def colour_of(index: int) -> Colour:
    """Pascal VOC's colour of an index: its bits dealt out to red, green and blue, the highest first."""
    red = green = blue = 0
    for bit in range(8):
        red |= (index & 1) << (7 - bit)
        green |= (index >> 1 & 1) << (7 - bit)
        blue |= (index >> 2 & 1) << (7 - bit)
        index >>= 3
    return red, green, blue
