"""The steps of a fitted feature pipeline: what each reads, what it makes, and how; float32 as a graph computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from cattrs import Converter
from numpy.typing import NDArray

from modelyard.formats.text_numbers import DateNumbers, HashedText

Values = NDArray[Any]
Env = Mapping[str, Values]


@dataclass(frozen=True)
class Fill:
    """Missing values become `number` (a column of numbers) or `text`. indicator: a column that says where they were missing."""

    name: str
    number: float | None = None
    text: str = ""
    indicator: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (self.name,)

    @property
    def made(self) -> tuple[str, ...]:
        """Columns that are made or replaced."""
        return (self.name, self.indicator) if self.indicator else (self.name,)

    def apply(self, env: Env) -> dict[str, Values]:
        """What is made, by name."""
        values = env[self.name]
        missing = np.isnan(values) if self.number is not None else values == ""
        filled = np.where(missing, np.float32(self.number) if self.number is not None else self.text, values)
        out = {self.name: filled.astype(values.dtype)}
        return {**out, self.indicator: missing.astype(np.float32)} if self.indicator else out


@dataclass(frozen=True)
class Scale:
    """(x - center) / scale; clip: held within 0 and 1."""

    name: str
    center: float
    scale: float
    clip: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (self.name,)

    @property
    def made(self) -> tuple[str, ...]:
        """Columns that are made or replaced."""
        return (self.name,)

    def apply(self, env: Env) -> dict[str, Values]:
        """What is made, by name."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (env[self.name] - np.float32(self.center)) / np.float32(self.scale)
        return {self.name: np.clip(scaled, np.float32(0), np.float32(1)) if self.clip else scaled}


@dataclass(frozen=True)
class Log:
    """sign(x) log(1 + |x|), in float64 and rounded."""

    name: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (self.name,)

    @property
    def made(self) -> tuple[str, ...]:
        """Columns that are made or replaced."""
        return (self.name,)

    def apply(self, env: Env) -> dict[str, Values]:
        """What is made, by name."""
        wide = env[self.name].astype(np.float64)
        return {self.name: (np.sign(wide) * np.log(np.abs(wide) + 1.0)).astype(np.float32)}


@dataclass(frozen=True)
class Bin:
    """How many edges lie below x; missing stays missing."""

    name: str
    edges: tuple[float, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (self.name,)

    @property
    def made(self) -> tuple[str, ...]:
        """Columns that are made or replaced."""
        return (self.name,)

    def apply(self, env: Env) -> dict[str, Values]:
        """What is made, by name."""
        values = env[self.name]
        places = np.searchsorted(np.array(self.edges, np.float32), values, side="left").astype(np.float32)
        return {self.name: np.where(np.isnan(values), np.float32(np.nan), places)}


@dataclass(frozen=True)
class LookUp:
    """A row of numbers for each category of a text, `default` for any other. One column each, or (block) all under one name."""

    name: str
    categories: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    default: tuple[float, ...]
    out: tuple[str, ...]
    block: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (self.name,)

    @property
    def made(self) -> tuple[str, ...]:
        """Columns that are made or replaced."""
        return self.out

    @property
    def table(self) -> NDArray[np.float32]:
        """[categories + 1, width], the default last."""
        return np.array([*self.rows, self.default], np.float32)

    def apply(self, env: Env) -> dict[str, Values]:
        """What is made, by name."""
        known = {text: place for place, text in enumerate(self.categories)}
        places = np.array([known.get(text, len(known)) for text in env[self.name].tolist()], np.int64)
        found = self.table[places]
        return {self.out[0]: found} if self.block else {name: found[:, at] for at, name in enumerate(self.out)}


@dataclass(frozen=True)
class Interact:
    """Two columns of numbers as one. A ratio to 0 is missing."""

    first: str
    second: str
    by: str
    out: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (self.first, self.second)

    @property
    def made(self) -> tuple[str, ...]:
        """Columns that are made or replaced."""
        return (self.out,)

    def apply(self, env: Env) -> dict[str, Values]:
        """What is made, by name."""
        first, second = env[self.first], env[self.second]
        with np.errstate(all="ignore"):
            if self.by == "product":
                made = first * second
            elif self.by == "sum":
                made = first + second
            elif self.by == "difference":
                made = first - second
            else:
                made = np.where(second == 0, np.float32(np.nan), first / second)
        return {self.out: made}


@dataclass(frozen=True)
class Cross:
    """A row of numbers for each pair of categories of two texts, `default` for any other pair. pairs: places among `firsts` and
    `seconds`, one for each of the rows. One column, or (block) several numbers under one name."""

    first: str
    second: str
    firsts: tuple[str, ...]
    seconds: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    rows: tuple[tuple[float, ...], ...]
    default: tuple[float, ...]
    out: str
    block: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (self.first, self.second)

    @property
    def made(self) -> tuple[str, ...]:
        """Columns that are made or replaced."""
        return (self.out,)

    @property
    def table(self) -> NDArray[np.float32]:
        """[pairs + 1, width], the default last."""
        return np.array([*self.rows, self.default], np.float32)

    @property
    def cells(self) -> NDArray[np.int64]:
        """The row of the table of each pair of places, [firsts + 1, seconds + 1]; the last place of each is any other text."""
        cells = np.full((len(self.firsts) + 1, len(self.seconds) + 1), len(self.pairs), np.int64)
        for number, (first, second) in enumerate(self.pairs):
            cells[first, second] = number
        return cells

    def apply(self, env: Env) -> dict[str, Values]:
        """What is made, by name."""
        places = []
        for name, categories in ((self.first, self.firsts), (self.second, self.seconds)):
            known = {text: place for place, text in enumerate(categories)}
            places.append(np.array([known.get(text, len(known)) for text in env[name].tolist()], np.int64))
        found = self.table[self.cells[places[0], places[1]]]
        return {self.out: found if self.block else found[:, 0]}


@dataclass(frozen=True)
class Read:
    """A text as numbers (formats.text_numbers): a date, one column each, or hashed, all under one name."""

    name: str
    out: tuple[str, ...]
    date: DateNumbers | None = None
    hashed: HashedText | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (self.name,)

    @property
    def made(self) -> tuple[str, ...]:
        """Columns that are made or replaced."""
        return self.out

    @property
    def reading(self) -> DateNumbers | HashedText:
        """How the text is read."""
        found = self.date or self.hashed
        if found is None:
            raise AssertionError("a text is read as a date or hashed")
        return found

    def apply(self, env: Env) -> dict[str, Values]:
        """What is made, by name."""
        kept = env.get(reading_key(self.name, self.reading))
        numbers = self.reading.numbers(env[self.name]) if kept is None else kept
        return {self.out[0]: numbers} if self.hashed else {name: numbers[:, at] for at, name in enumerate(self.out)}


Op = Fill | Scale | Log | Bin | LookUp | Interact | Cross | Read
OPS: Final[Mapping[str, type[Any]]] = {
    "fill": Fill,
    "scale": Scale,
    "log": Log,
    "bin": Bin,
    "look_up": LookUp,
    "interact": Interact,
    "cross": Cross,
    "read": Read,
}
_NAMES: Final = {kind: name for name, kind in OPS.items()}
_CONVERTER: Final = Converter(forbid_extra_keys=True)


def reading_key(name: str, reading: DateNumbers | HashedText) -> str:
    """Under which name a text that was read already stands among the columns; no column of a table can have it."""
    return f"\x00{reading!r}\x00{name}"


def op_document(op: Op) -> dict[str, Any]:
    """A step as JSON values."""
    return {"op": _NAMES[type(op)], **asdict(op)}


def op_from(document: Mapping[str, Any]) -> Op:
    """A step as `op_document` wrote it. Raises what cattrs does, KeyError."""
    kind = OPS[document["op"]]
    found: Op = _CONVERTER.structure({name: value for name, value in document.items() if name != "op"}, kind)
    return found
