"""Finding the picture that an annotation file names: tools write other folders, or none, into them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from modelyard.dataset.domain.layout import USAGE_NAMES

_JOINED = ("train", "val", "test", "valid")


class PictureNames:
    """The pictures of a source by their names."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self.paths = set()
        for path in paths:
            self.paths.add(path)
            self._by_name[path.rsplit("/", 1)[-1].lower()].append(path)
            self._by_stem[stem(path).lower()].append(path)

    def find(self, name: str, near: str = "") -> str | None:
        """The picture that `name` means in a file at path `near`: the one that shares most of its folders with both."""
        wanted = name.replace("\\", "/")
        beside = f"{near.rpartition('/')[0]}/{wanted}".lstrip("/")
        if beside in self.paths:
            return beside
        if wanted in self.paths:
            return wanted
        return _closest(self._by_name.get(wanted.rsplit("/", 1)[-1].lower(), []), wanted, near)

    def of_stem(self, path: str) -> str | None:
        """The picture whose name is that of an annotation file, but for the ending."""
        return _closest(self._by_stem.get(stem(path).lower(), []), path, path)


def stem(path: str) -> str:
    """The name of a file without folders and ending."""
    name = path.rsplit("/", 1)[-1]
    return name.rpartition(".")[0] or name


def usage_of(path: str) -> str | None:
    """The usage that a folder of a path says: "train/x.png", "images/train2017/x.jpg"."""
    parts = path.lower().split("/")
    for part in parts[:-1]:
        if part in USAGE_NAMES:
            return USAGE_NAMES[part]
    for part in parts[:-1]:
        if found := _year(part):
            return found
    return None


def usage_of_file(path: str) -> str | None:
    """The same, also from the name of the file itself: "instances_train2017.json"."""
    for word in stem(path).lower().replace("-", "_").replace(".", "_").split("_"):
        if found := USAGE_NAMES.get(word) or _year(word):
            return found
    return usage_of(path)


def _year(word: str) -> str | None:
    bare = word.rstrip("0123456789")
    return USAGE_NAMES.get(bare) if bare != word and bare in _JOINED else None


def _closest(found: list[str], wanted: str, near: str) -> str | None:
    """The candidate that ends most like `wanted`; among equals the one in the folders of `near`. None when two are as close."""
    if len(found) < 2:
        return found[0] if found else None
    scored = sorted(((_shared_end(path, wanted), _shared_words(path, near)), path) for path in found)
    best = [path for score, path in scored if score == scored[-1][0]]
    return best[0] if len(best) == 1 else None


def _shared_end(path: str, wanted: str) -> int:
    count = 0
    for one, other in zip(reversed(path.split("/")[:-1]), reversed(wanted.split("/")[:-1]), strict=False):
        if one.lower() != other.lower():
            break
        count += 1
    return count


def _shared_words(path: str, near: str) -> int:
    words = set(near.lower().replace("_", "/").replace(".", "/").split("/"))
    return sum(part in words for part in path.lower().split("/")[:-1])
