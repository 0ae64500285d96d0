"""A quality report as one HTML file: nothing in it refers to anything outside it, and it needs no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from modelyard.dataset.domain.records import Finding

SHOWN = 24
"""Examples of a finding that are drawn."""

CLASSES_SHOWN = 60
"""Classes in the chart, the largest first; the others are told in a line."""

_LONGEST = 34
_ORDER = ("error", "warning", "info")
_WORDS = {"error": "error", "warning": "warning", "info": "good to know"}


@dataclass(frozen=True)
class Shown:
    """An example of a finding as drawn: a fragment of HTML (an image or a drawing; "" for none) and what it is labelled."""

    drawing: str = ""
    label: str = ""


@dataclass(frozen=True)
class Page:
    """What the page says. `what`: the kind of examples ("pictures"); `of`: the import or version that was checked; `made`: when.

    shown: examples by id; counts: examples of each class."""

    dataset: str
    of: str
    made: str
    what: str
    example_count: int
    classes: Sequence[str]
    counts: Sequence[int]
    findings: Sequence[Finding]
    notes: Sequence[str]
    shown: Mapping[str, Shown]


def page_html(page: Page) -> str:
    """The file's text."""
    tally = [(severity, sum(finding.severity == severity for finding in page.findings)) for severity in _ORDER]
    tiles = "".join(f'<div class="tile {name}"><b>{count}</b>{_WORDS[name]}</div>' for name, count in tally)
    classes = f", {len(page.classes)} classes" if page.classes else ""
    facts = f"{page.example_count:,} {escape(page.what)}{classes} · {escape(page.of)} · {escape(page.made)}"
    body = [f"<header><h1>{escape(page.dataset)}</h1><p>{facts}</p></header>", f'<div class="tiles">{tiles}</div>']
    if page.classes:
        body.append(f"<section><h2>Examples of each class</h2>{class_chart(page.classes, page.counts)}</section>")
    body += [_finding(finding, page) for finding in page.findings]
    if not page.findings:
        body.append("<section><h2>Nothing found</h2><p>None of the checks had anything to say.</p></section>")
    if page.notes:
        body.append(f"<section><h2>What was looked at</h2><ul>{_each('li', page.notes)}</ul></section>")
    title = escape(f"Quality of {page.dataset}")
    return _HEAD.format(title=title, style=_STYLE) + "\n".join(body) + "\n</main></body></html>\n"


def class_chart(classes: Sequence[str], counts: Sequence[int]) -> str:
    """Bars of the examples of each class, the largest first, as SVG."""
    ordered = sorted(zip(classes, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))
    shown, rest = ordered[:CLASSES_SHOWN], ordered[CLASSES_SHOWN:]
    most = max([count for _, count in shown] or [1]) or 1
    rows = []
    for place, (name, count) in enumerate(shown):
        y, width = 22 * place, 420 * count / most
        text = escape(name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…")
        rows.append(
            f'<g transform="translate(0 {y})"><title>{escape(name)}: {count}</title>'
            f'<text class="name" x="232" y="15">{text}</text>'
            f'<rect x="240" y="3" width="{max(width, 1):.1f}" height="16" rx="2"/>'
            f'<text x="{246 + width:.1f}" y="15">{count:,}</text></g>'
        )
    more = f"<p>{len(rest)} more classes with {sum(count for _, count in rest):,} examples.</p>" if rest else ""
    height = 22 * len(shown)
    drawn = "".join(rows)
    return f'<svg class="bars" viewBox="0 0 740 {height}" role="img" aria-label="Examples of each class">{drawn}</svg>{more}'


def line_drawing(series: Sequence[Sequence[float]], width: int = 180, height: int = 80) -> str:
    """Curves over one another as SVG, each scaled to the height; values that are not finite leave a gap."""
    paths = []
    for number, values in enumerate(series):
        known = [value for value in values if value == value and abs(value) != float("inf")]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        scale = (height - 6) / ((high - low) or 1.0)
        steps, pen = [], "M"
        for place, value in enumerate(values):
            if value != value or abs(value) == float("inf"):
                pen = "M"
                continue
            x = width * place / max(len(values) - 1, 1)
            steps.append(f"{pen}{x:.1f} {height - 3 - (value - low) * scale:.1f}")
            pen = "L"
        paths.append(f'<path class="c{number % 4}" d="{"".join(steps)}"/>')
    return f'<svg class="curve" viewBox="0 0 {width} {height}" role="img" aria-label="curve">{"".join(paths)}</svg>'


def _finding(finding: Finding, page: Page) -> str:
    badge = f'<span class="badge">{_WORDS[finding.severity]}</span>'
    parts = [f'<section class="finding {finding.severity}"><h2>{badge}']
    parts.append(f"{escape(finding.kind)}</h2><p>{escape(finding.message)}</p>")
    if finding.cost:
        parts.append(f"<p><b>What it costs.</b> {escape(finding.cost)}</p>")
    if finding.action:
        parts.append(f"<p><b>What to do.</b> {escape(finding.action)}</p>")
    if finding.fix is not None:
        parts.append(f"<p><code>modelyard dataset fix {escape(page.dataset)} --kind {escape(finding.kind)}</code></p>")
    parts.append(_examples(finding, page))
    return "".join(parts) + "</section>"


def _examples(finding: Finding, page: Page) -> str:
    """Drawn where there is a drawing of them, else as a list."""
    suggested = {}
    if finding.fix is not None and finding.fix.labels:
        suggested = dict(zip(finding.fix.examples, finding.fix.labels, strict=True))
    ids = finding.example_ids or ("",) * len(finding.examples)
    scores = finding.scores or (None,) * len(finding.examples)
    cells, drawn = [], False
    for path, id_, score in list(zip(finding.examples, ids, scores, strict=True))[:SHOWN]:
        shown = page.shown.get(id_, Shown())
        drawn = drawn or bool(shown.drawing)
        words = [f"<b>{escape(shown.label)}</b>" if shown.label else ""]
        words.append(f"→ <b>{escape(suggested[id_])}</b>" if id_ in suggested else "")
        words.append(f'<span class="score">{score:.2f}</span>' if score is not None else "")
        caption = " ".join(word for word in words if word)
        name = f'<span class="path" title="{escape(id_)}">{escape(path)}</span>'
        cells.append(f"<figure>{shown.drawing}<figcaption>{caption}{name}</figcaption></figure>")
    if not cells:
        return ""
    more = finding.example_count - len(cells)
    rest = f'<p class="more">and {more:,} more</p>' if more > 0 else ""
    return f'<div class="{"grid" if drawn else "list"}">{"".join(cells)}</div>{rest}'


def _each(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{style}</style></head><body><main>
"""
_STYLE = """
:root{--paper:#fff;--ink:#1b1f24;--soft:#5b6570;--line:#d9dee4;--card:#f6f8fa;--bar:#2f6fdb;--error:#c3272b;--warning:#a86400;
--info:#2f6fdb}
@media (prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e6e9ed;--soft:#9aa4af;--line:#333a42;--card:#1c2126;
--bar:#6aa0ff;--error:#ff7b72;--warning:#e3a53a;--info:#6aa0ff}}*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1060px;margin:0 auto;padding:24px}h1{margin:0;font-size:28px}h2{margin:0 0 6px;font-size:17px}p{margin:4px 0}
header p,.more,.path{color:var(--soft)}section{border-top:1px solid var(--line);padding:18px 0}
.tiles{display:flex;gap:12px;margin:18px 0}
.tile{background:var(--card);border-left:4px solid var(--soft);padding:8px 16px;border-radius:4px}
.tile b{display:block;font-size:24px}.tile.error{border-color:var(--error)}.tile.warning{border-color:var(--warning)}
.tile.info{border-color:var(--info)}
.badge{font-size:12px;font-weight:600;border:1px solid;border-radius:10px;padding:1px 9px;margin-right:9px;vertical-align:2px}
.error .badge{color:var(--error)}.warning .badge{color:var(--warning)}.info .badge{color:var(--info)}
code{background:var(--card);border:1px solid var(--line);border-radius:4px;padding:2px 7px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(130px,1fr));gap:12px;margin-top:12px}.list{margin-top:10px}
.list figure{margin:0;padding:2px 0}.list .path{margin-left:8px}.grid .path{display:block}figure{margin:0}
figure img,figure svg{display:block;width:100%;height:110px;object-fit:contain;background:var(--card);border-radius:4px}
figcaption{font-size:12px;overflow-wrap:anywhere}.score{color:var(--soft)}
.bars{width:100%;max-width:740px;font:13px system-ui,sans-serif}.bars text{fill:var(--ink)}.bars .name{text-anchor:end}
.bars rect{fill:var(--bar)}.curve path{fill:none;stroke:var(--bar);stroke-width:1.2}.curve .c1{stroke:var(--warning)}
.curve .c2{stroke:var(--error)}.curve .c3{stroke:var(--soft)}
figure .box{fill:none;stroke:var(--error);stroke-width:2;vector-effect:non-scaling-stroke}
table.row{font-size:11px;border-collapse:collapse}table.row td{padding:0 6px 0 0;vertical-align:top}
"""
