"""`modelyard predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.pointed_answers import Scale
    from modelyard.cli.session import Session
    from modelyard.client import Prediction

app = new_app()

# Most of each in one request; a request also ends before it is larger than this.
PICTURES: Final = 64
ROWS: Final = 256
REQUEST_BYTES: Final = 32 << 20


@app.command(name="predict")
@with_common
def predict(
    common: Common,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's name.")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="JPEG or PNG pictures, or WAV or FLAC sounds.")
    ] = None,
    row: Annotated[
        list[str], typer.Option(metavar="JSON", help="A row of a table: column to value, null where missing; may be given again.")
    ] = [],  # noqa: B006
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="A table with a header line.")] = None,
    series: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="Readings: CSV of numbers, a row a step, a column a channel; may be given again."),
    ] = [],  # noqa: B006
    version: Annotated[str, typer.Option(help="Version that answers. Default: the endpoint's own choice.")] = "",
    draw: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write the pictures with the boxes, masks or points found in them."),
    ] = None,
    min_score: Annotated[float, typer.Option(help="Boxes: least score that is told, 0 to 1.")] = 0.3,
    scale: Annotated[
        str, typer.Option(metavar="FROM:TO[:UNIT]", help="Meters: the values at the ends of the scale, 0:1.6:bar.")
    ] = "",
) -> None:
    """Ask an endpoint about pictures, sounds, series or rows.

    \b
    Example: modelyard predict flowers some-flower.jpg

    \b
    Example: modelyard predict cells blood.jpg --draw found

    \b
    Example: modelyard predict meter photo.jpg --scale 0:1.6:bar

    \b
    Example: modelyard predict titanic --row '{"age": 22, "sex": "female", "pclass": 3}'
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.marked_answers import check_drawing
    from modelyard.cli.output import print_json
    from modelyard.cli.pointed_answers import scale_from
    from modelyard.cli.session import session

    pictures = list(files or [])
    if sum(map(bool, (pictures, row, csv, series))) != 1:
        raise wrong("files", "", "give pictures or sounds, or --row, or --csv, or --series: one of the four")
    if not 0 <= min_score <= 1:
        raise wrong("min_score", min_score, f"min_score is {min_score:g}; it must be 0 to 1")
    if draw is not None:
        check_drawing()
    shown = Shown(draw, min_score, scale=scale_from(scale) if scale else None)
    rows = [_row(text) for text in row] or (list(_table(csv)) if csv else [])
    with session(common) as here:
        if series:
            parts = _series(here, endpoint, series, version)
        else:
            parts = _pictures(here, endpoint, pictures, version, shown) if pictures else _rows(here, endpoint, rows, version)
        found = [answer for part in parts for answer in part]
    if common.json:
        print_json({"endpoint": endpoint, "model_version": found[0]["model_version"] if found else "", "predictions": found})
        return
    for answer in found:
        print(_line(answer))


def _row(text: str) -> dict[str, Any]:
    import json

    from modelyard.cli.asking import wrong

    try:
        row = json.loads(text)
    except ValueError as error:
        raise wrong("row", text, f"row is {text!r}, which is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise wrong("row", text, f'row is {text!r}; give an object such as {{"age": 22}}')
    return row


def _table(path: Path) -> Iterator[dict[str, Any]]:
    import csv

    from modelyard.cli.asking import wrong

    if not path.is_file():
        why = "it is a folder; give a file" if path.is_dir() else "there is no such file"
        raise wrong("csv", path, f"csv is {str(path)!r}: {why}")
    empty = True
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sample = file.read(65_536)
            file.seek(0)
            for row in csv.DictReader(file, delimiter=_delimiter(sample)):
                empty = False
                yield row
    except UnicodeDecodeError:
        raise wrong("csv", path, f"csv is {str(path)!r}: it is not UTF-8 text") from None
    if empty:
        raise wrong("csv", path, f"csv is {str(path)!r}: it has no rows; give a header line and a line for each row")


def _delimiter(sample: str) -> str:
    """Of comma, semicolon and tab the one the header line has most of."""
    header = sample.partition("\n")[0]
    return max(",;\t", key=header.count)


T = TypeVar("T")
LOADING_S: Final = 120.0
"""How long a model that is being loaded is waited for: a command without a server starts one, which loads it first."""


def _asked(here: Session, endpoint: str, **given: Any) -> Prediction:
    """The answer, once the model is loaded. Raises what the client raises."""
    return _once_loaded(lambda: here.client.predictions.predict(endpoint, **given))


def _once_loaded(call: Callable[[], T]) -> T:
    import time

    from modelyard.client.errors import Unavailable

    ends = time.monotonic() + LOADING_S
    while True:
        try:
            return call()
        except Unavailable as error:
            if error.reason != "MODEL_LOADING" or time.monotonic() > ends:
                raise
            time.sleep(1.0)


@dataclass
class Shown:
    """How boxes, masks and points are shown: where pictures of them are written (None: nowhere), from which score on boxes are
    told, and a meter's scale."""

    folder: Path | None
    least: float
    classes: list[str] | None = None
    scale: Scale | None = None


def _pictures(here: Session, endpoint: str, paths: Sequence[Path], version: str, shown: Shown) -> Iterator[list[dict[str, Any]]]:
    from modelyard.cli.marked_answers import is_mask
    from modelyard.cli.pointed_answers import is_pointed

    for part in _parts(paths):
        prediction = _asked(here, endpoint, image=part, version=version)
        if (is_mask(prediction) or is_pointed(prediction)) and shown.classes is None:
            shown.classes = here.client.predictions.classes(endpoint, version=version)
        marked = _marked(prediction, part, shown)
        yield marked if marked is not None else answers(prediction, [str(path) for path in part])


def _marked(prediction: Prediction, paths: Sequence[Path], shown: Shown) -> list[dict[str, Any]] | None:
    """Answers that say where things are, drawn where that is wanted; None for all others."""
    from modelyard.cli.marked_answers import draw_mask, draw_objects, finds_boxes, is_mask, objects, shares
    from modelyard.cli.pointed_answers import draw_points, is_pointed, points, reading

    answers = []
    for at, path in enumerate(paths):
        answer: dict[str, Any] = {"input": str(path), "model_version": prediction.model_version}
        if finds_boxes(prediction):
            answer["objects"] = objects(prediction, at, path, shown.least)
            if shown.folder is not None:
                answer["drawn"] = str(draw_objects(path, answer["objects"], shown.folder))
        elif is_mask(prediction):
            answer["shares"] = shares(prediction, at, shown.classes or [])
            if shown.folder is not None:
                answer["drawn"] = str(draw_mask(path, prediction, at, shown.folder))
        elif is_pointed(prediction):
            answer["points"] = points(prediction, at, shown.classes or [], path)
            answer |= _read(reading(answer["points"]), shown.scale)
            if shown.folder is not None:
                answer["drawn"] = str(draw_points(path, answer["points"], shown.folder))
        else:
            return None
        answers.append(answer)
    return answers


def _read(share: float | None, scale: Scale | None) -> dict[str, Any]:
    """What a meter shows: share of its scale and, where that is known, the value."""
    if share is None:
        return {}
    return {"share": share, **({"reading": scale.text(share)} if scale else {})}


def _parts(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Paths in groups that fit one request."""
    part: list[Path] = []
    size = 0
    for path in paths:
        length = path.stat().st_size if path.is_file() else 0
        if part and (len(part) == PICTURES or size + length > REQUEST_BYTES):
            yield part
            part, size = [], 0
        part.append(path)
        size += length
    yield part


def _rows(here: Session, endpoint: str, rows: Sequence[dict[str, Any]], version: str) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        prediction = _asked(here, endpoint, rows=part, version=version)
        yield answers(prediction, [f"row {start + at + 1}" for at in range(len(part))])


def _list(text: str) -> list[str]:
    import json

    return [str(name) for name in json.loads(text)]


def _series(here: Session, endpoint: str, paths: Sequence[Path], version: str) -> Iterator[list[dict[str, Any]]]:
    from modelyard.cli.asking import wrong
    from modelyard.cli.series_answers import series_answers

    metadata = _once_loaded(lambda: here.client.predictions.metadata(endpoint, version=version))
    inputs = {each.name: tuple(int(size) for size in each.shape) for each in metadata.inputs}
    outputs = [each.name for each in metadata.outputs]
    if not any(len(shape) == 3 for shape in inputs.values()):
        raise wrong("series", paths[0], f"{endpoint} takes no series, but {', '.join(inputs)}; see `modelyard predict --help`")

    def ask(tensors: dict[str, Any]) -> Prediction:
        return _asked(here, endpoint, tensors=tensors, version=version)

    yield from series_answers(ask, inputs, outputs, paths)


def answers(prediction: Prediction, inputs: Sequence[str]) -> list[dict[str, Any]]:
    """One object an example: its input, and each output's value for it."""
    columns = {name: prediction.rows(name) for name in prediction.outputs}
    found = []
    for at, given in enumerate(inputs):
        outputs = {name: values[at] for name, values in columns.items()}
        best = outputs.get("probabilities")
        sure = {"probability": max(best)} if isinstance(best, list) and best else {}
        found.append({"input": given, "model_version": prediction.model_version, **outputs, **sure})
    return found


def _line(answer: dict[str, Any]) -> str:
    from modelyard.cli.marked_answers import objects_line, shares_line
    from modelyard.cli.pointed_answers import points_line

    if "anomalies" in answer or "forecast" in answer:
        from modelyard.cli.series_answers import line

        return line(answer)
    drawn = f"  -> {answer['drawn']}" if "drawn" in answer else ""
    if "objects" in answer:
        return objects_line(answer["input"], answer["objects"]) + drawn
    if "points" in answer:
        return points_line(answer["input"], answer) + drawn
    if "shares" in answer:
        return shares_line(answer["input"], answer["shares"]) + drawn
    if "labels" in answer:
        return f"{answer['input']}: {', '.join(_list(answer['labels'])) or 'nothing'}"
    if "label" in answer:
        return f"{answer['input']}: {answer['label']} ({100 * answer.get('probability', 0):.1f}%)"
    values = {name: value for name, value in answer.items() if name not in ("input", "model_version")}
    return f"{answer['input']}: {'  '.join(f'{name} {value}' for name, value in values.items())}"
