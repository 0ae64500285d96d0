"""`modelyard predict --series`: files of readings as a model of series takes them, and what it says in words.

A classifier gets each file once, cut or filled to its length; a detector of anomalies looks at every window of it and says which
readings are anomalous; a forecaster gets the latest readings and says what comes next.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from modelyard.client import Prediction

    Values = npt.NDArray[np.float64]

NAMES_OF_TIMES: Final = ("datetime", "timestamp", "time", "date", "t", "ts")
NAMES_OF_LABELS: Final = ("anomaly", "is_anomaly", "changepoint", "outlier", "fault", "label", "class", "state", "target")
NAMES_OF_ROWS: Final = ("", "rownames", "index", "row", "no")
"""Columns of files as they come that are no channels; left out where a file has more columns than the model takes."""
ALARM: Final = 1.0
"""A detector's score from which on a reading is anomalous."""
WINDOWS: Final = 128
SHOWN: Final = 6

Ask = Callable[[dict[str, Any]], "Prediction"]
"""Answers tensors."""


def series_answers(ask: Ask, inputs: dict[str, tuple[int, ...]], outputs: Sequence[str], paths: Sequence[Path]) -> Iterator[Any]:
    """Answers for files, several at once. inputs: shapes by name, as the model's metadata has them."""
    if "score" in outputs and "state" in outputs:
        yield from ([_watched(ask, inputs, path)] for path in paths)
    elif "forecast" in outputs:
        yield from ([_forecast(ask, inputs, path)] for path in paths)
    else:
        yield from _whole(ask, inputs, paths)


def _whole(ask: Ask, inputs: dict[str, tuple[int, ...]], paths: Sequence[Path]) -> Iterator[Any]:
    """Each cut to the model's length, or filled up with missing values at its end."""
    import numpy as np

    from modelyard.cli.commands.predict import PICTURES, answers

    name, (steps, channels) = next(iter((name, shape[1:] if len(shape) == 3 else (0, 0)) for name, shape in inputs.items()))
    batch = np.full((len(paths), steps, channels), np.nan, np.float32)
    for at, path in enumerate(paths):
        values = readings(path, channels)
        batch[at, : min(steps, len(values))] = values[:steps]
    for start in range(0, len(paths), PICTURES):
        part = slice(start, start + PICTURES)
        yield answers(ask({name: batch[part]}), [str(path) for path in paths[part]])


def _watched(ask: Ask, inputs: dict[str, tuple[int, ...]], path: Path) -> dict[str, Any]:
    """Every window of a recording: its ends are an eighth of its length apart, and what it is held against begins twice the
    reference's length before its end, or at the recording's beginning; as when the model was scored."""
    import numpy as np

    from modelyard.cli.asking import wrong

    window, channels = inputs["series"][1:]
    reference = inputs.get("reference", (0, 0))[1]
    values = readings(path, channels)
    steps, stride = len(values), max(1, window // 8)
    if steps < window or steps <= reference:
        needed = max(window, reference + 1)
        what = f"{reference} to be held against, and more to judge" if reference else "a window"
        raise wrong("series", path, f"series {str(path)!r} has {steps} rows; the model needs {needed} ({what})")
    ends = np.arange(reference + stride if reference else window, steps + 1, stride)
    ends = ends if len(ends) and ends[-1] == steps else np.append(ends, steps)
    scores, version = [], ""
    for at in range(0, len(ends), WINDOWS):
        some = ends[at : at + WINDOWS]
        tensors = {"series": _cut(values, some - window, window)}
        if reference:
            tensors["reference"] = _cut(values, np.maximum(0, some - 2 * reference), reference)
        said = ask(tensors)
        version = said.model_version
        scores += said.numpy("score").reshape(-1).tolist()
    by_reading = np.repeat(scores, np.diff(np.concatenate([[reference], ends])))
    found = [
        {"first": reference + first, "last": reference + last - 1, "peak": round(float(by_reading[first:last].max()), 4)}
        for first, last in _runs(by_reading >= ALARM)
    ]
    return {
        "input": str(path),
        "model_version": version,
        "readings": steps,
        "judged_from": int(reference),
        "state": "anomaly" if scores[-1] >= ALARM else "normal",
        "score": round(scores[-1], 4),
        "anomalies": found,
        "scores": [round(each, 4) for each in by_reading.tolist()],
    }


def _forecast(ask: Ask, inputs: dict[str, tuple[int, ...]], path: Path) -> dict[str, Any]:
    """What comes after the last reading of a file."""
    import numpy as np

    from modelyard.cli.asking import wrong

    context, channels = inputs["series"][1:]
    values = readings(path, channels)
    if len(values) < context:
        raise wrong("series", path, f"series {str(path)!r} has {len(values)} rows; the model looks back on {context}")
    said = ask({"series": np.asarray(values[None, -context:], np.float32)})
    rows: dict[str, Any] = {name: said.numpy(name)[0].tolist() for name in ("forecast", "lower", "upper")}
    return {"input": str(path), "model_version": said.model_version, "readings": len(values), **rows}


def _cut(values: Values, starts: Any, length: int) -> Any:
    import numpy as np

    return np.ascontiguousarray(values[starts[:, None] + np.arange(length)].astype(np.float32))


def _runs(marks: Any) -> list[tuple[int, int]]:
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def line(answer: dict[str, Any]) -> str:
    """An answer of a detector or forecaster in one line."""
    if "forecast" in answer:
        return "\n".join([f"{answer['input']}: after reading {answer['readings']}", *_forecast_lines(answer)])
    found = answer["anomalies"]
    shown = ", ".join(f"{each['first']} to {each['last']} (peak {each['peak']:g})" for each in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    where = f"anomalous: {shown}{more}" if found else "nothing anomalous"
    judged = f"{answer['judged_from']} to {answer['readings'] - 1}"
    return f"{answer['input']}: {answer['state']} now (score {answer['score']:g}); readings {judged}: {where}"


def _forecast_lines(answer: dict[str, Any]) -> Iterator[str]:
    for step, (middle, low, high) in enumerate(zip(answer["forecast"], answer["lower"], answer["upper"], strict=True)):
        each = (f"{m:.6g} ({a:.6g} to {b:.6g})" for m, a, b in zip(middle, low, high, strict=True))
        yield f"  +{step + 1}: {'  '.join(each)}"


def readings(path: Path, channels: int) -> Values:
    """The rows of a CSV of numbers, float64 [steps, channels]: an empty field is missing; a first line of names is passed over.

    Where a file with names has more columns than the model takes, those of times, labels and row numbers are left out by name.
    """
    import numpy as np

    from modelyard.cli.asking import wrong

    if not path.is_file():
        raise wrong("series", path, f"series is {str(path)!r}: there is no such file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sample = file.read(65_536)
            file.seek(0)
            delimiter = max(",;\t", key=sample.partition("\n")[0].count)
            lines = [line for line in csv.reader(file, delimiter=delimiter) if line]
    except UnicodeDecodeError:
        raise wrong("series", path, f"series is {str(path)!r}: it is not UTF-8 text") from None
    names = lines[0] if lines and _numbers(lines[0]) is None else []
    kept = _channels(names, channels)
    rows = []
    for at, fields in enumerate(lines[1 if names else 0 :]):
        found = _numbers([fields[place] for place in kept if place < len(fields)] if kept else fields)
        if found is None or len(found) != channels:
            message = f"series {str(path)!r}, row {at + 1}: {channels} numbers are right, one for each channel"
            raise wrong("series", path, message)
        rows.append(found)
    return np.array(rows, np.float64).reshape(len(rows), channels)


def _channels(names: Sequence[str], channels: int) -> list[int]:
    """Places of the columns that are channels; empty where all are."""
    if len(names) <= channels:
        return []
    others = (*NAMES_OF_TIMES, *NAMES_OF_LABELS, *NAMES_OF_ROWS)
    return [place for place, name in enumerate(names) if name.strip().lower() not in others]


def _numbers(fields: Sequence[str]) -> list[float] | None:
    try:
        return [float(field) if field.strip() else float("nan") for field in fields]
    except ValueError:
        return None
