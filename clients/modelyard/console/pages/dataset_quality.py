"""The quality report of a dataset: what was found, what it costs, and buttons that make the next version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import background_tasks, ui

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import ago, count, percent, reason_word
from modelyard.console.content import picture_address
from modelyard.console.parts.badges import progress_bar, severity_badge
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import button, card, empty, figure, figures, link, new_tab
from modelyard.console.parts.page import Here
from modelyard.console.parts.trouble import toast, trouble_card
from modelyard.console.reports import report_address
from modelyard.dataset.v1 import dataset_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

SHOWN = 12
SURE = 0.8
"""Of fixes that may be wrong, those with a score below this are left to people."""
_RUNNING = (job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_QUEUED)
_PICTURES = (
    learning_pb2.TASK_IMAGE_CLASSIFICATION,
    learning_pb2.TASK_IMAGE_MULTILABEL,
    learning_pb2.TASK_OBJECT_DETECTION,
    learning_pb2.TASK_SEMANTIC_SEGMENTATION,
    learning_pb2.TASK_INSTANCE_SEGMENTATION,
    learning_pb2.TASK_KEYPOINT_DETECTION,
)


class Quality:
    """Shows the newest report, follows one that runs, starts another one, and makes what a finding proposes."""

    def __init__(
        self,
        here: Here,
        dataset: str,
        found: dataset_pb2.Dataset,
        report: dataset_pb2.QualityReport | None,
        versions: list[dataset_pb2.DatasetVersion],
    ) -> None:
        self._here, self._dataset, self._found = here, dataset, found
        self._base = next((last_part(one.name) for one in versions if one.name == found.latest_version), "")
        self._report = report
        self._body = Fragment(self._markup()).does(check=self._check, fix=self._fix, fix_all=self._fix_all, cancel=self._cancel)
        if report is not None and report.status.state in _RUNNING:
            background_tasks.create(self._follow(report.name), name="report")

    def _markup(self) -> Markup:
        report = self._report
        if not self._found.current_import:
            return empty(
                "Nothing to check yet",
                "Bring data first.",
                link("Bring data", self._here.path("datasets", "new", dataset=self._dataset), "button primary"),
                picture="data",
            )
        start = [button("Check the data", "check", kind="primary"), button("Quick check", "check", "quick")]
        if report is None:
            return empty(
                "The data have not been checked yet",
                "Duplicates, labels that contradict each other, outliers, leaks, missing values, and what else costs quality.",
                *start,
                picture="search",
            )
        if report.status.state in _RUNNING:
            return card("Checking", progress_bar(report.status, "Check"), actions=button("Cancel", "cancel"))
        again = [button("Check again", "check"), button("Quick check", "check", "quick")]
        if report.status.state != job_pb2.JOB_STATE_SUCCEEDED:
            return card(
                "The check did not end well",
                h("p", report.status.error.message or report.status.reason, role="alert"),
                actions=again,
                cls="state-error",
            )
        if not report.findings:
            return empty("Nothing was found", f"Checked {ago(report.status.end_time)}.", *again, picture="check")
        return self._findings(report, again)

    def _findings(self, report: dataset_pb2.QualityReport, again: list[Markup]) -> Markup:
        severity = dataset_pb2.Finding
        counted = {
            level: sum(one.severity == level for one in report.findings)
            for level in (severity.SEVERITY_ERROR, severity.SEVERITY_WARNING, severity.SEVERITY_INFO)
        }
        fixes = sum(one.HasField("fix") for one in report.findings)
        top = figures(
            figure("Errors", counted[severity.SEVERITY_ERROR]),
            figure("Warnings", counted[severity.SEVERITY_WARNING]),
            figure("Good to know", counted[severity.SEVERITY_INFO]),
            figure("With a ready fix", fixes),
        )
        all_ = (
            button(
                f"Do all {fixes} fixes",
                "fix_all",
                kind="primary",
                confirm=f"Make the next version of {self._dataset} with all {fixes} fixes? The versions before stay.",
            )
            if fixes > 1 and self._base
            else None
        )
        where = (
            None if self._base or not fixes else h("p", "Publish a version first: a fix makes the next one from it.", cls="muted")
        )
        page = new_tab("Report", report_address(report.name)) if report.page.uri else None
        notes = h("ul", [h("li", note) for note in report.notes], cls="small muted") if report.notes else None
        return h(
            "div",
            top,
            card(
                "What was found",
                where,
                notes,
                *(self._finding(at, one) for at, one in enumerate(report.findings)),
                actions=[page, *again, all_],
            ),
        )

    def _finding(self, at: int, one: Any) -> Markup:
        cost = one.cost
        see = self._here.path("datasets", self._dataset, finding=one.kind, version="present")
        fix = None
        if one.HasField("fix") and self._base and (surest(one) or not one.fix.example_ids):
            sure, all_ = len(surest(one)), len(one.fix.example_ids)
            fix = button(
                "Fix it" if sure == all_ else f"Fix the {count(sure)} surest",
                "fix",
                str(at),
                kind="small primary",
                confirm=f"{one.action or 'Make this change.'} This makes the next version of {self._dataset}; those before stay.",
                data_yes="Make the version",
            )
        return h(
            "article",
            h(
                "div",
                severity_badge(one.severity),
                h("h3", reason_word(one.kind)),
                h("span", f"{count(one.example_count)} examples", cls="small muted") if one.example_count else None,
                h("span", f"column {one.column}", cls="small muted") if one.column else None,
                cls="finding-head",
            ),
            h("p", one.message),
            h("p", h("strong", "What it costs: "), cost) if cost else None,
            h("p", h("strong", "What to do: "), one.action) if one.action else None,
            self._examples(one),
            h(
                "div",
                fix,
                link("See the examples", see, "button small") if one.example_count and _ids(one) else None,
                cls="actions",
            ),
            cls="finding",
        )

    def _examples(self, one: Any) -> Markup | None:
        ids = _ids(one)[:SHOWN]
        scores = list(one.scores)
        if not ids or self._found.task not in _PICTURES:
            said = list(one.examples)[:SHOWN]
            return h("p", ", ".join(said), cls="small muted") if said else None
        content = self._found.current_import

        def tile(number: int, example_id: str) -> Markup:
            score = h("span", percent(scores[number], 0), cls="words muted") if number < len(scores) else None
            picture = h("img", src=picture_address(content, example_id, 128), alt=f"example {example_id}", loading="lazy")
            href = self._here.path("datasets", self._dataset, version="present", finding=one.kind, example=example_id)
            return h("a", h("span", picture, cls="frame"), score, href=href, cls="picture")

        return h("div", [tile(number, each) for number, each in enumerate(ids)], cls="grid-pictures")

    async def _check(self, act: Act) -> None:
        made = await self._here.client.datasets.create_quality_report(self._dataset, depth=act.arg or "full")
        self._report = made
        self._body.show(self._markup())
        background_tasks.create(self._follow(made.name), name="report")

    async def _cancel(self, act: Act) -> None:
        if self._report is not None:
            await self._here.client.datasets.cancel_quality_report(self._report.name)

    async def _follow(self, name: str) -> None:
        try:
            async for change in self._here.client.datasets.watch_quality_report(name):
                if self._body.is_deleted:
                    return
                self._report = change.quality_report
                self._body.show(self._markup())
        except Exception as error:
            self._body.show(trouble_card(error, again=False))

    async def _fix(self, act: Act) -> None:
        if self._report is not None:
            await self._edit([self._report.findings[int(act.arg)]])

    async def _fix_all(self, act: Act) -> None:
        if self._report is not None:
            await self._edit([one for one in self._report.findings if one.HasField("fix")])

    async def _edit(self, findings: list[dataset_pb2.Finding]) -> None:
        edits = edits_of(findings)
        made = await self._here.client.datasets.create_dataset_version(self._dataset, base_version=self._base, edits=edits)
        toast(f"{last_part(made.name)} is being made")
        await self._here.client.datasets.wait_dataset_version(made.name, timeout_s=600)
        ui.navigate.to(self._here.path("datasets", self._dataset, tab="versions", version=last_part(made.name), base=self._base))


def surest(finding: dataset_pb2.Finding) -> list[str]:
    """The examples of a finding's fix that it is sure enough of; all where it does not say how sure it is."""
    ids, scores = list(finding.fix.example_ids), list(finding.fix_scores)
    return [each for each, score in zip(ids, scores, strict=True) if score >= SURE] if len(scores) == len(ids) else ids


def edits_of(findings: Sequence[dataset_pb2.Finding]) -> list[dataset_pb2.Edit]:
    """The fixes of findings as edits of one version: what an earlier one drops is not there for a later one."""
    edits, dropped = [], set[str]()
    for one in findings:
        edit = dataset_pb2.Edit()
        edit.CopyFrom(one.fix)
        edit.reason = edit.reason or one.kind
        kept = [each for each in surest(one) if each not in dropped]
        if one.fix.example_ids and not kept:
            continue
        if len(kept) < len(one.fix.example_ids):
            if one.fix.labels:
                by_id = dict(zip(one.fix.example_ids, one.fix.labels, strict=True))
                edit.labels[:] = [by_id[each] for each in kept]
            edit.example_ids[:] = kept
        if edit.action == dataset_pb2.Edit.ACTION_DROP:
            dropped.update(kept)
        edits.append(edit)
    return edits


def _ids(one: Any) -> list[str]:
    said = list(one.example_ids) or list(one.fix.example_ids) or list(one.examples)
    return [each for each in said if _is_id(each)]


def _is_id(text: str) -> bool:
    return len(text) == 20 and all(letter in "0123456789abcdef" for letter in text)
