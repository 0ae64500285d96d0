"""`modelyard report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

app = new_app()


@app.command(name="report")
@with_common
def report(
    common: Common,
    name: Annotated[str, typer.Argument(metavar="RUN", help="A pipeline run or a training job.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.html", help="Where to write the page.")] = Path("report.html"),
    no_examples: Annotated[bool, typer.Option("--no-examples", help="Without pictures, sounds and rows of the data.")] = False,
) -> None:
    """Write a run as one page: data, settings, curves, scores, confusion, worst examples, exports, verdict, notes, passport.

    The page is one file without scripts, and loads nothing from anywhere.

    \b
    Example: modelyard report RUN -o flowers.html
    """
    from datetime import UTC, datetime

    from modelyard.cli.asking import wrong
    from modelyard.cli.commands.runs import find
    from modelyard.cli.output import note, print_json
    from modelyard.cli.session import session
    from modelyard.client._sync.report_facts import Gatherer
    from modelyard.client.drawing.report import report_page

    if out.is_dir() or not out.parent.is_dir():
        why = "is a folder" if out.is_dir() else "lies in a folder that does not exist"
        raise wrong("out", out, f"out is {str(out)!r}, which {why}; give a file such as report.html")
    with session(common) as here:
        kind, found = find(here, name)
        if kind not in ("pipeline run", "training job"):
            raise wrong(
                "name", name, f"{name} is of the kind {kind}; give one of its training jobs, see `modelyard runs list --parts`"
            )
        gatherer = Gatherer(here.client, examples=not no_examples)
        facts = gatherer.of_run(found) if kind == "pipeline run" else gatherer.of_job(found)
    page = report_page(facts, f"Written by modelyard report on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.")
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise wrong("out", out, f"out is {str(out)!r}, which cannot be written: {error.strerror}") from None
    for each in facts.missing:
        note(f"not in the report: {each}")
    if common.json:
        print_json({"path": str(out), "bytes": len(page.encode()), "missing": list(facts.missing)})
    else:
        print(f"{out}: {len(page.encode()) / 1000:.0f} KB")
