"""Draws the diagrams of the architecture pages as SVG: `python docs/site/diagrams.py` writes docs/pictures/NAME.svg.

A diagram is boxes at places and arrows between them. Colours suit light and dark pages: each picture brings its own ground.
"""

from __future__ import annotations

import html
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PICTURES: Final = Path(__file__).resolve().parents[1] / "pictures"
FILLS: Final = {"ours": "#e8f0fd", "store": "#eaf6ee", "outside": "#f4f1ea", "gate": "#fdf0dc", "no": "#fbe9e7"}
STROKES: Final = {"ours": "#1f5fd0", "store": "#0b7a57", "outside": "#77705f", "gate": "#b26a00", "no": "#b3261e"}
INK: Final = "#1c2430"
GREY: Final = "#525d6e"
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


@dataclass(frozen=True)
class Box:
    """A box: its left upper corner and size in pixels, a title, and lines of text below it."""

    name: str
    x: int
    y: int
    width: int
    height: int
    title: str
    lines: tuple[str, ...] = ()
    kind: str = "ours"

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class Arrow:
    """An arrow from a box to another. `both`: with a head at both ends; `shift`: pixels by which its label is moved (x, y)."""

    start: str
    end: str
    label: str = ""
    both: bool = False
    dashed: bool = False
    shift: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Diagram:
    """A picture: its name, what it shows (read out), its size, and what is in it."""

    name: str
    says: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def svg(diagram: Diagram) -> str:
    """The picture as SVG text; the same diagram gives the same text."""
    by_name = {box.name: box for box in diagram.boxes}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {diagram.width} {diagram.height}" role="img" '
        f'aria-label="{html.escape(diagram.says)}" font-family="{html.escape(FONT)}">',
        f"<title>{html.escape(diagram.says)}</title>",
        f'<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse">'
        f'<path d="M0 0L10 5L0 10z" fill="{GREY}"/></marker></defs>',
        f'<rect x="0.5" y="0.5" width="{diagram.width - 1}" height="{diagram.height - 1}" rx="12" '
        f'fill="#ffffff" stroke="#d6dbe3"/>',
    ]
    parts += [_arrow(arrow, by_name[arrow.start], by_name[arrow.end]) for arrow in diagram.arrows]
    parts += [_box(box) for box in diagram.boxes]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(box: Box) -> str:
    x, _ = box.middle
    top = box.y + (box.height - 17 * len(box.lines)) / 2 + 5
    words = [
        f'<text x="{x:g}" y="{top:g}" font-size="14" font-weight="650" fill="{INK}" '
        f'text-anchor="middle">{html.escape(box.title)}</text>'
    ]
    words += [
        f'<text x="{x:g}" y="{top + 17 * (at + 1):g}" font-size="12" fill="{GREY}" '
        f'text-anchor="middle">{html.escape(line)}</text>'
        for at, line in enumerate(box.lines)
    ]
    shape = (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="9" fill="{FILLS[box.kind]}" '
        f'stroke="{STROKES[box.kind]}" stroke-width="1.4"/>'
    )
    return shape + "".join(words)


def _arrow(arrow: Arrow, start: Box, end: Box) -> str:
    (x1, y1), (x2, y2) = _ends(start, end)
    heads = ' marker-end="url(#head)"' + (' marker-start="url(#head)"' if arrow.both else "")
    dash = ' stroke-dasharray="5 4"' if arrow.dashed else ""
    line = f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" fill="none" stroke="{GREY}" stroke-width="1.5"{dash}{heads}/>'
    if not arrow.label:
        return line
    x, y = (x1 + x2) / 2 + arrow.shift[0], (y1 + y2) / 2 + arrow.shift[1]
    upright = abs(x1 - x2) < abs(y1 - y2)
    place = f'x="{x + 7:g}" y="{y + 4:g}"' if upright else f'x="{x:g}" y="{y - 7:g}" text-anchor="middle"'
    return line + f'<text {place} font-size="12" fill="{GREY}">{html.escape(arrow.label)}</text>'


def _ends(start: Box, end: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where an arrow leaves and arrives: straight where the boxes face each other, else from edge to edge."""
    left, right = max(start.x, end.x), min(start.x + start.width, end.x + end.width)
    top, bottom = max(start.y, end.y), min(start.y + start.height, end.y + end.height)
    if left + 12 < right:
        x = (left + right) / 2
        down = end.y > start.y
        return (x, start.y + start.height if down else start.y), (x, end.y if down else end.y + end.height)
    to_right = end.x > start.x
    edge = start.x + start.width if to_right else start.x
    other = end.x if to_right else end.x + end.width
    if top + 8 < bottom:
        y = (top + bottom) / 2
        return (edge, y), (other, y)
    return (edge, start.middle[1]), (other, end.middle[1])


def _row(
    names: list[tuple[str, str, tuple[str, ...]]], y: int, *, x: int, width: int, height: int, gap: int, kind: str
) -> tuple[Box, ...]:
    return tuple(
        Box(name, x + at * (width + gap), y, width, height, title, lines, kind) for at, (name, title, lines) in enumerate(names)
    )


OVERVIEW: Final = Diagram(
    "overview",
    "Command line, Python client, console and programs in any language call six services over gRPC; the "
    "services keep documents in a "
    "database and bytes in an artifact store, and start workers for what takes long.",
    920,
    452,
    (
        *_row(
            [
                ("cli", "Command line", ("modelyard ...",)),
                ("python", "Python client", ("sync and asyncio",)),
                ("console", "Console", ("in the browser",)),
                ("any", "Any language", ("gRPC, REST for predictions",)),
            ],
            24,
            x=40,
            width=195,
            height=58,
            gap=20,
            kind="outside",
        ),
        Box("port", 40, 132, 840, 40, "One port: modelyard up, or the gateway of a cluster"),
        *_row(
            [
                ("dataset", "dataset", ("import, check,", "split, annotate")),
                ("trainer", "trainer", ("train, advise,", "ledger")),
                ("exporter", "exporter", ("ONNX, LiteRT,", "int8, edge")),
                ("evaluator", "evaluator", ("scores, gate,", "passport")),
                ("serving", "serving", ("endpoints, traffic,", "devices")),
                ("pipeline", "pipeline", ("drives the", "others")),
            ],
            206,
            x=40,
            width=130,
            height=78,
            gap=12,
            kind="ours",
        ),
        Box("platform", 40, 308, 840, 32, "Each service: documents, bytes and jobs of its own"),
        Box("database", 40, 368, 250, 64, "Database", ("SQLite, or PostgreSQL",), "store"),
        Box("artifacts", 335, 368, 250, 64, "Artifact store", ("files, or any S3; by sha256",), "store"),
        Box("workers", 630, 368, 250, 64, "Workers", ("processes, or Kubernetes Jobs",), "store"),
    ),
    (
        Arrow("cli", "port"),
        Arrow("python", "port"),
        Arrow("console", "port"),
        Arrow("any", "port"),
        Arrow("port", "dataset"),
        Arrow("port", "trainer"),
        Arrow("port", "exporter"),
        Arrow("port", "evaluator"),
        Arrow("port", "serving"),
        Arrow("port", "pipeline"),
        *(Arrow(name, "platform") for name in ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")),
        Arrow("platform", "database"),
        Arrow("platform", "artifacts"),
        Arrow("platform", "workers"),
    ),
)

JOURNEY: Final = Diagram(
    "journey",
    "From a source to predictions: import, check and split give a dataset version; a recipe is chosen by "
    "measured latency and trained; the export is "
    "scored through the runtime that will serve it; the gate lets it through, asks for "
    "quantization-aware training once, or sends back to the data.",
    920,
    300,
    (
        Box("source", 20, 104, 132, 64, "Source", ("folder, CSV, COCO",), "outside"),
        Box("version", 180, 104, 140, 64, "Dataset version", ("V001, immutable",), "store"),
        Box("train", 348, 104, 114, 64, "Training", ("within its time",)),
        Box("export", 490, 104, 120, 64, "Export", ("fp32 to int8",)),
        Box("score", 642, 104, 120, 64, "Evaluation", ("of the bytes",)),
        Box("gate", 794, 104, 102, 64, "Gate", ("paired",), "gate"),
        Box("deploy", 794, 24, 102, 44, "Endpoint", (), "store"),
        Box("qat", 490, 24, 272, 44, "Training with rounding, once", (), "gate"),
        Box("back", 176, 218, 720, 50, "Back to the data: the reasons, and the examples to look at", (), "no"),
    ),
    (
        Arrow("source", "version"),
        Arrow("version", "train"),
        Arrow("train", "export"),
        Arrow("export", "score"),
        Arrow("score", "gate"),
        Arrow("gate", "deploy", "DEPLOY"),
        Arrow("qat", "export"),
        Arrow("gate", "back", "BACK_TO_DATA", shift=(-110, 0)),
        Arrow("back", "version"),
        Arrow("gate", "qat", dashed=True),
    ),
)

JOB: Final = Diagram(
    "job",
    "A job's life: created in the table, QUEUED; a durable workflow starts a worker for an attempt; the "
    "worker reports with a token of its attempt; "
    "a lost worker is started again; the end is SUCCEEDED, FAILED or CANCELLED.",
    920,
    310,
    (
        Box("create", 30, 40, 150, 60, "Create call", ("request_id",), "outside"),
        Box("row", 240, 40, 180, 60, "Job row, QUEUED", ("the truth that users see",), "store"),
        Box("flow", 490, 40, 190, 60, "Durable workflow", ("its id is the job's name",)),
        Box("worker", 740, 40, 150, 60, "Worker", ("process or pod",)),
        Box(
            "report",
            490,
            150,
            400,
            56,
            "Reports: progress, heartbeat, checkpoint",
            ("each with job, attempt and token; an older attempt is refused",),
            "store",
        ),
        Box(
            "watch",
            30,
            150,
            390,
            56,
            "Watch: snapshot, then changes",
            ("resumes after a sequence; Get always suffices",),
            "outside",
        ),
        Box("end", 490, 248, 400, 44, "SUCCEEDED, FAILED or CANCELLED", (), "gate"),
        Box("again", 240, 248, 180, 44, "Started again", (), "no"),
    ),
    (
        Arrow("create", "row"),
        Arrow("row", "flow"),
        Arrow("flow", "worker"),
        Arrow("worker", "report"),
        Arrow("report", "watch"),
        Arrow("report", "end"),
        Arrow("report", "again", "lost", dashed=True, shift=(10, -6)),
    ),
)

CLUSTER: Final = Diagram(
    "cluster",
    "In a Kubernetes cluster: a gateway in front of six Deployments; jobs as Kubernetes Jobs on nodes "
    "with or without GPUs; versions in serving pods on "
    "CPU, GPU and edge nodes; PostgreSQL and S3; devices outside pull what they serve.",
    920,
    376,
    (
        Box("callers", 30, 30, 190, 56, "Callers", ("TLS, token or OIDC",), "outside"),
        Box("gateway", 290, 30, 190, 56, "Gateway", ("one address",)),
        Box("services", 550, 30, 340, 56, "Six Deployments", ("mutual TLS between them",)),
        Box("jobs", 550, 150, 340, 66, "Kubernetes Jobs", ("one pod an attempt; several nodes", "under torchrun; GPU flavors")),
        Box("pods", 290, 150, 190, 66, "Serving pods", ("cpu, gpu, edge", "2 to N by load")),
        Box("postgres", 290, 290, 190, 56, "PostgreSQL", ("a schema a service",), "store"),
        Box("s3", 550, 290, 340, 56, "S3 (MinIO is tested)", ("content by sha256",), "store"),
        Box("devices", 30, 150, 190, 66, "Devices outside", ("pull a signed state,", "go back by themselves"), "outside"),
        Box("watching", 30, 290, 190, 56, "Prometheus, OTLP", ("metrics, traces",), "outside"),
    ),
    (
        Arrow("callers", "gateway"),
        Arrow("gateway", "services"),
        Arrow("services", "jobs", "starts, follows"),
        Arrow("gateway", "pods"),
        Arrow("jobs", "s3"),
        Arrow("pods", "postgres"),
        Arrow("devices", "gateway", "pull"),
        Arrow("watching", "pods", dashed=True),
    ),
)

PREDICTION: Final = Diagram(
    "prediction",
    "A prediction: the front end takes a request over gRPC or HTTP, checks its bytes, the router says "
    "which version answers, a queue forms batches while "
    "the model is busy, and the version's own process computes over shared memory.",
    920,
    210,
    (
        Box("caller", 24, 60, 120, 64, "Caller", ("gRPC or HTTP",), "outside"),
        Box("front", 176, 60, 150, 64, "Front end", ("one port, access,", "limits, deadline")),
        Box("router", 358, 60, 150, 64, "Router", ("shares, labels,", "sticky callers")),
        Box("queue", 540, 60, 150, 64, "Queue", ("batches only", "while busy")),
        Box("model", 722, 60, 174, 64, "Version's process", ("shared memory,", "its own crash"), "store"),
        Box("shadow", 358, 152, 150, 40, "Shadow version", (), "gate"),
        Box("drift", 722, 152, 174, 40, "Drift counts", (), "gate"),
    ),
    (
        Arrow("caller", "front", both=True),
        Arrow("front", "router"),
        Arrow("router", "queue"),
        Arrow("queue", "model"),
        Arrow("router", "shadow", dashed=True),
        Arrow("model", "drift", dashed=True),
    ),
)

DIAGRAMS: Final = (OVERVIEW, JOURNEY, JOB, CLUSTER, PREDICTION)


def main() -> int:
    """Writes all pictures; with --check says which ones are not as they would be written."""
    stale = [one.name for one in DIAGRAMS if not _same(one)]
    if "--check" in sys.argv:
        print("stale: " + ", ".join(stale) if stale else "the diagrams are up to date")
        return 1 if stale else 0
    for one in DIAGRAMS:
        (PICTURES / f"{one.name}.svg").write_text(svg(one), encoding="utf-8")
    return 0


def _same(one: Diagram) -> bool:
    path = PICTURES / f"{one.name}.svg"
    return path.exists() and path.read_text(encoding="utf-8") == svg(one)


if __name__ == "__main__":
    sys.exit(main())
