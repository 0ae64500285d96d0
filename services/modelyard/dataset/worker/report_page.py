"""The page of a quality report: the examples of its findings drawn small, and everything in one file."""

from __future__ import annotations

import base64
import datetime
import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import report_html
from modelyard.dataset.domain.records import Finding, ReportSpec
from modelyard.dataset.domain.report_html import Page, Shown
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.packs import Packs
from modelyard.dataset.worker.stored import Stored
from modelyard.formats import dataset as files
from modelyard.formats.dataset_audio import samples
from modelyard.formats.pictures import decode

SIDE = 128
"""Longer side of a drawn picture, in pixels."""

MOST_DRAWN = 600
"""Examples drawn in one page: some 3 MB."""

MOST_BOXES = 100
"""Boxes drawn over one picture."""

_POINTS = 160
_CHANNELS = 4
_COLUMNS = 6
_QUALITY = 82
_WHAT = {files.IMAGE: "pictures", files.TABLE: "rows", files.AUDIO: "sounds", files.SERIES: "series"}

Draw = Callable[[dict[str, Any]], str]


def write(
    spec: ReportSpec,
    findings: Sequence[Finding],
    notes: Sequence[str],
    classes: tuple[Sequence[str], Sequence[int]],
    stored: Stored,
    store: ArtifactStore,
    folder: Path,
    work: Work,
    span: tuple[float, float],
) -> Path:
    """Writes the page to the folder. classes: their names and how many examples each has. Raises Cancelled."""
    wanted = list(dict.fromkeys(id_ for finding in findings for id_ in finding.example_ids[: report_html.SHOWN]))[:MOST_DRAWN]
    page = Page(
        dataset=spec.dataset.rpartition("/")[2],
        of=_checked(spec),
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        what=_WHAT[spec.content.kind],
        example_count=stored.manifest.num_rows,
        classes=classes[0],
        counts=classes[1],
        findings=findings,
        notes=notes,
        shown=_shown(spec.content, wanted, stored, store, work, span),
    )
    path = folder / "report.html"
    path.write_text(report_html.page_html(page), encoding="utf-8")
    return path


def _checked(spec: ReportSpec) -> str:
    what, _, id_ = (spec.version or spec.import_name).rpartition("/")
    return f"{'version' if what.endswith('versions') else 'import'} {id_}"


def _shown(
    content: files.DatasetDescriptor,
    wanted: Sequence[str],
    stored: Stored,
    store: ArtifactStore,
    work: Work,
    span: tuple[float, float],
) -> dict[str, Shown]:
    """The wanted examples, by id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = np.flatnonzero(pc.is_in(stored.manifest["example_id"], value_set=pa.array(wanted, pa.string())).to_numpy())
    draw = _drawer(content, store)
    shown = {}
    for number, row in enumerate(stored.manifest.take(pa.array(rows)).to_pylist()):
        work.stage("draw", number, len(rows), "examples", *span)
        shown[row["example_id"]] = Shown(draw(row), row["label"] or "")
    return shown


def _drawer(content: files.DatasetDescriptor, store: ArtifactStore) -> Draw:
    """What draws an example of this kind, given its row of the manifest."""
    packs = Packs([store.path(pack) for pack in content.packs])

    def data(row: dict[str, Any]) -> bytes:
        return packs.read(row["pack"], row["offset"], row["length"])

    if content.kind == files.IMAGE:
        return lambda row: _marked(_picture(data(row), row["width"], row["height"]), row)
    if content.kind == files.AUDIO:
        return lambda row: _sound(data(row))
    if content.kind == files.SERIES:
        return lambda row: _series(np.frombuffer(data(row), np.float64).reshape(-1, row["channels"]))
    if content.table is None:
        return lambda row: ""
    used = [column.name for column in content.columns if column.role == files.FEATURE][:_COLUMNS]
    table = files.read_parquet(store.path(content.table), used)
    return lambda row: _cells({name: table[name][row["row"]].as_py() for name in used})


def _picture(data: bytes, width: int, height: int) -> str:
    from PIL import Image

    longer = max(width, height)
    size = (max(1, round(width * SIDE / longer)), max(1, round(height * SIDE / longer))) if longer > SIDE else (width, height)
    try:
        pixels = decode(data, height=size[1], width=size[0], channels=3)
    except InvalidArgument:
        return ""
    out = io.BytesIO()
    if longer <= 64:  # JPEG would smear what little there is
        Image.fromarray(pixels).save(out, "PNG")
        kind = "png"
    else:
        Image.fromarray(pixels).save(out, "JPEG", quality=_QUALITY)
        kind = "jpeg"
    return f'<img alt="" src="data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}">'


def _marked(drawn: str, row: dict[str, Any]) -> str:
    """A picture with its boxes over it, where it has any."""
    marks = row.get("marks") or ()
    if not drawn or not marks:
        return drawn
    width, height = row["width"], row["height"]
    source = drawn.partition('src="')[2].partition('"')[0]
    boxes = ""
    for mark in marks[:MOST_BOXES]:
        left, top, right, bottom = mark["box"]
        size = f'width="{max(right - left, 1):g}" height="{max(bottom - top, 1):g}"'
        boxes += f'<rect class="box" x="{left:g}" y="{top:g}" {size}/>'
    image = f'<image href="{source}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="picture with boxes">{image}{boxes}</svg>'


def _sound(data: bytes) -> str:
    try:
        mono = samples(data)[0].mean(axis=1)
    except InvalidArgument:
        return ""
    parts = [part for part in np.array_split(mono, _POINTS) if len(part)]
    outline = [float(part.max()) for part in parts] + [float(part.min()) for part in reversed(parts)]
    return _outline(outline, len(parts))


def _outline(values: Sequence[float], half: int) -> str:
    """The loudest and the quietest of each moment, as a closed shape around the middle."""
    width, height = 180, 80
    points = [
        f"{width * (place if place < half else 2 * half - 1 - place) / max(half - 1, 1):.1f} {height / 2 * (1 - value):.1f}"
        for place, value in enumerate(values)
    ]
    return (
        f'<svg class="curve" viewBox="0 0 {width} {height}" role="img" aria-label="sound"><path d="M{"L".join(points)}Z"/></svg>'
    )


def _series(values: Any) -> str:
    places = np.unique(np.linspace(0, len(values) - 1, min(_POINTS, len(values))).astype(np.int64))
    return report_html.line_drawing([values[places, channel].tolist() for channel in range(min(values.shape[1], _CHANNELS))])


def _cells(values: dict[str, Any]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(_short(value))}</td></tr>" for name, value in values.items())
    return f'<table class="row">{rows}</table>'


def _short(value: Any) -> str:
    text = "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 30 else f"{text[:29]}…"
