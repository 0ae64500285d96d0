"""`modelyard predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
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
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="JPEG or PNG pictures.")] = None,
    row: Annotated[
        list[str], typer.Option(metavar="JSON", help="A row of a table: column to value, null where missing; may be given again.")
    ] = [],  # noqa: B006
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="A table with a header line.")] = None,
    version: Annotated[str, typer.Option(help="Version that answers. Default: the endpoint's own choice.")] = "",
) -> None:
    """Ask an endpoint about pictures or rows.

    \b
    Example: modelyard predict flowers some-flower.jpg

    \b
    Example: modelyard predict titanic --row '{"age": 22, "sex": "female", "pclass": 3}'
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.output import print_json
    from modelyard.cli.session import session

    pictures = list(files or [])
    if sum(map(bool, (pictures, row, csv))) != 1:
        raise wrong("files", "", "give pictures, or --row, or --csv: one of the three")
    rows = [_row(text, at) for at, text in enumerate(row)] or (list(_table(csv)) if csv else [])
    with session(common) as here:
        answers = _pictures(here, endpoint, pictures, version) if pictures else _rows(here, endpoint, rows, version)
        found = [answer for part in answers for answer in part]
    if common.json:
        print_json({"endpoint": endpoint, "model_version": found[0]["model_version"] if found else "", "predictions": found})
        return
    for answer in found:
        print(_line(answer))


def _row(text: str, at: int) -> dict[str, Any]:
    import json

    from modelyard.cli.asking import wrong

    try:
        row = json.loads(text)
    except ValueError as error:
        raise wrong(f"row[{at}]", text, f"row {text!r} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise wrong(f"row[{at}]", text, f'row is {text!r}; give an object such as {{"age": 22}}')
    return row


def _table(path: Path) -> Iterator[dict[str, Any]]:
    import csv

    from modelyard.cli.asking import wrong

    if not path.is_file():
        raise wrong("csv", path, f"csv is {str(path)!r}: there is no such file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sample = file.read(65_536)
            file.seek(0)
            yield from csv.DictReader(file, delimiter=_delimiter(sample))
    except UnicodeDecodeError:
        raise wrong("csv", path, f"csv is {str(path)!r}: it is not UTF-8 text") from None


def _delimiter(sample: str) -> str:
    """Of comma, semicolon and tab the one the header line has most of."""
    header = sample.partition("\n")[0]
    return max(",;\t", key=header.count)


def _pictures(here: Session, endpoint: str, paths: Sequence[Path], version: str) -> Iterator[list[dict[str, Any]]]:
    for part in _parts(paths):
        prediction = here.client.predictions.predict(endpoint, image=part, version=version)
        yield _answers(prediction, [str(path) for path in part])


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
        prediction = here.client.predictions.predict(endpoint, rows=part, version=version)
        yield _answers(prediction, [f"row {start + at + 1}" for at in range(len(part))])


def _answers(prediction: Prediction, inputs: Sequence[str]) -> list[dict[str, Any]]:
    """One object an example: its input, and each output's value for it."""
    columns = {name: prediction.rows(name) for name in prediction.outputs}
    answers = []
    for at, given in enumerate(inputs):
        outputs = {name: values[at] for name, values in columns.items()}
        best = outputs.get("probabilities")
        sure = {"probability": max(best)} if isinstance(best, list) and best else {}
        answers.append({"input": given, "model_version": prediction.model_version, **outputs, **sure})
    return answers


def _line(answer: dict[str, Any]) -> str:
    if "label" in answer:
        return f"{answer['input']}: {answer['label']} ({100 * answer.get('probability', 0):.1f}%)"
    values = {name: value for name, value in answer.items() if name not in ("input", "model_version")}
    return f"{answer['input']}: {'  '.join(f'{name} {value}' for name, value in values.items())}"
