"""Reports as pages of their own: of a run or a training what `modelyard report` writes, of a check of data the service's.

They are one file each, to be kept or sent on, and hold no script; a browser is told to allow them none, since what they show came
from data.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response

from modelyard.client import AsyncClient, ModelyardClientError, NotFound
from modelyard.client._async.report_facts import AsyncGatherer
from modelyard.client.drawing.report import report_page
from modelyard.console.connection import connection
from modelyard.console.content import project_of, status_of
from modelyard.console.parts.trouble import message_of
from modelyard.console.replies import plain_page

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; sandbox"


def report_address(name: str) -> str:
    """Where the report of a pipeline run, a training job or a check of data is."""
    return f"/report?{urlencode({'of': name})}"


def add_reports(app: FastAPI) -> None:
    """The route."""

    @app.get("/report")
    async def report(of: str) -> Response:
        try:
            text, status = await _report(connection().client(project_of(of)), of), 200
        except ModelyardClientError as error:
            text, status = plain_page("There is no report", message_of(error)[0]), status_of(error)
        return HTMLResponse(text, status, {"content-security-policy": POLICY, "cache-control": "no-store"})


async def _report(client: AsyncClient, name: str) -> str:
    written = f"Written by the console on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    kind = name.rpartition("/")[0].rpartition("/")[2]
    if kind == "pipelineRuns":
        run = await client.pipelines.get_pipeline_run(name)
        return report_page(await AsyncGatherer(client).of_run(run), written)
    if kind == "trainingJobs":
        job = await client.training.get_training_job(name)
        return report_page(await AsyncGatherer(client).of_job(job), written)
    if kind == "qualityReports":
        return await _of_data(client, name)
    raise NotFound(f"{name[:200]!r} is no pipeline run, training job or quality report", reason="NO_REPORT")


async def _of_data(client: AsyncClient, name: str) -> str:
    found = await client.datasets.get_quality_report(name)
    if not found.page.uri:
        raise NotFound(f"{name} has no page: it has not come to its end", reason="NO_REPORT")
    with tempfile.TemporaryDirectory(prefix="modelyard-console-") as folder:
        path = await client.artifacts.download(found.page, Path(folder) / "page.html")
        return path.read_text(encoding="utf-8")
