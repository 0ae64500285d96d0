"""The versions of a dataset, and how two of them differ."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nicegui import background_tasks, ui

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import ago, count, usage_word
from modelyard.console.parts.badges import badge, progress_bar, state_badge
from modelyard.console.parts.forms import choice, number, text
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import card, empty, figure, figures, link, new_tab, table
from modelyard.console.parts.lists import first
from modelyard.console.parts.page import Here, stretch
from modelyard.console.parts.trouble import trouble_card
from modelyard.console.reports import report_address
from modelyard.dataset.v1 import dataset_pb2
from modelyard.type.v1 import job_pb2

CHANGES = 100


class Versions:
    """A table of them, a form for the next one, and the difference of two."""

    def __init__(
        self,
        here: Here,
        dataset: str,
        found: list[dataset_pb2.DatasetVersion],
        tags: list[dataset_pb2.Tag],
        checks: Mapping[str, str],
        version: str,
        base: str,
    ) -> None:
        self._here, self._dataset, self._tags, self._checks = here, dataset, tags, checks
        if not found:
            Fragment(
                empty(
                    "No version yet",
                    "A version freezes the data and splits it into train, validation and test. Training publishes one by itself.",
                    picture="data",
                )
            )
        else:
            Fragment(card("Versions", self._table(found), self._tag_form(found))).does(tag=self._tag)
        self._state = Fragment()
        Fragment(_publish_form()).does(publish=self._publish)
        ready = [last_part(one.name) for one in found if one.status.state == job_pb2.JOB_STATE_SUCCEEDED]
        if len(ready) > 1:
            self._difference(ready, version, base)

    def _table(self, found: list[dataset_pb2.DatasetVersion]) -> Markup:
        rows = []
        for one in found:
            name = last_part(one.name)
            counts = {usage_word(each.usage): count(each.example_count) for each in one.counts}
            made = f"from {last_part(one.base_version)}" if one.base_version else "split anew"
            reasons = ", ".join(dict.fromkeys(edit.reason.replace("_", " ").lower() for edit in one.edits if edit.reason))
            rows.append(
                [
                    h("span", link(name, self._here.path("datasets", self._dataset, version=name)), self._tags_of(one.name)),
                    state_badge(one.status.state),
                    counts.get("train", ""),
                    counts.get("validation", ""),
                    counts.get("test", ""),
                    f"{made}: {reasons}" if reasons else made,
                    new_tab("Report", report_address(self._checks[one.name]), "") if self._checks[one.name] else "",
                    ago(one.status.create_time),
                ]
            )
        return table(
            ["Version", "State", "Train", "Validation", "Test", "Made", "Quality", "When"],
            rows,
            caption="Versions",
            numeric=(2, 3, 4),
        )

    def _tags_of(self, version: str) -> list[Markup]:
        return [badge(last_part(one.name), "busy") for one in self._tags if one.dataset_version == version]

    def _tag_form(self, found: list[dataset_pb2.DatasetVersion]) -> Markup:
        ready = [last_part(one.name) for one in found if one.status.state == job_pb2.JOB_STATE_SUCCEEDED]
        return h(
            "form",
            text("tag", "Tag", placeholder="golden"),
            choice("tagged", "names", [(one, one) for one in ready]),
            h("button", "Set the tag", type_="submit", cls="button"),
            data_submit="tag",
            cls="filters",
        )

    async def _tag(self, act: Act) -> None:
        await self._here.client.datasets.set_tag(f"{self._dataset}/{act.text('tag')}", act.text("tagged"))
        ui.navigate.reload()

    async def _publish(self, act: Act) -> None:
        client = self._here.client
        made = await client.datasets.create_dataset_version(
            self._dataset,
            dataset_version_id=act.text("version_id"),
            train_ratio=act.text("ratio"),
            split_source=act.text("source"),
            group_by=act.text("group_by"),
        )
        background_tasks.create(self._follow(made.name), name="publish")

    async def _follow(self, name: str) -> None:
        try:
            async for change in self._here.client.datasets.watch_dataset_version(name):
                one = change.dataset_version
                if one.status.state == job_pb2.JOB_STATE_SUCCEEDED:
                    with self._state:
                        ui.navigate.to(self._here.path("datasets", self._dataset, version=last_part(name)))
                    return
                if one.status.state == job_pb2.JOB_STATE_FAILED:
                    self._state.show(
                        card("It could not be published", h("p", one.status.error.message, role="alert"), cls="state-error")
                    )
                    return
                self._state.show(card(f"Publishing {last_part(name)}", progress_bar(one.status, "Publication")))
        except Exception as error:
            self._state.show(trouble_card(error, again=False))

    def _difference(self, ready: list[str], version: str, base: str) -> None:
        wanted = version if version in ready else ready[0]
        others = [one for one in ready if one != wanted]
        against = base if base in others else others[0]

        def go(act: Act) -> None:
            ui.navigate.to(
                self._here.path("datasets", self._dataset, tab="versions", version=act.text("of"), base=act.text("against"))
            )

        options = [(one, one) for one in ready]
        form = h(
            "form",
            choice("of", "What changed in", options, wanted, data_change="go"),
            choice("against", "since", [(one, one) for one in others], against, data_change="go"),
            cls="filters",
        )
        Fragment(card("Differences", form)).does(go=go)
        task = stretch(lambda: self._compare(wanted, against), lambda found: self._show_difference(*found))
        background_tasks.create(task, name="difference")

    async def _compare(self, version: str, base: str) -> tuple[Any, ...]:
        client, of, against = self._here.client, f"{self._dataset}/{version}", f"{self._dataset}/{base}"
        return await asyncio.gather(
            client.datasets.diff_dataset_versions(of, against),
            first(client.datasets.list_example_changes(of, against, page_size=CHANGES), CHANGES),
        )

    def _show_difference(
        self, diff: dataset_pb2.DatasetVersionDiff, changes: tuple[list[dataset_pb2.ExampleChange], bool]
    ) -> None:
        top = figures(
            figure("Added", count(diff.added_count)),
            figure("Removed", count(diff.removed_count)),
            figure("Relabelled", count(diff.relabelled_count)),
            figure("Moved", count(diff.moved_count)),
            figure("Unchanged", count(diff.unchanged_count)),
        )
        kinds = dataset_pb2.ExampleChange.Kind
        rows = [
            [
                one.example.path or one.example.example_id,
                kinds.Name(one.kind).removeprefix("KIND_").replace("_", " ").lower(),
                f"{one.base_label} → {one.example.label}" if one.base_label != one.example.label else one.example.label,
                f"{usage_word(one.base_usage)} → {usage_word(one.example.usage)}"
                if one.base_usage != one.example.usage and one.base_usage
                else usage_word(one.example.usage),
            ]
            for one in changes[0]
        ]
        words = [
            *(f"class {name} is new" for name in diff.added_classes),
            *(f"class {name} is gone" for name in diff.removed_classes),
            *diff.column_changes,
        ]
        Fragment(
            card(
                "",
                top,
                h("ul", [h("li", each) for each in words]) if words else None,
                table(["Example", "Change", "Label", "Usage"], rows, caption="Changed examples")
                if rows
                else h("p", "No example differs.", cls="muted"),
                h("p", f"The first {CHANGES}.", cls="small muted") if changes[1] else None,
            )
        )


def _publish_form() -> Markup:
    return h(
        "form",
        card(
            "Publish the next version",
            h(
                "div",
                number(
                    "ratio",
                    "Share to train on",
                    "0.8",
                    help="Above 0 and below 1, one to five decimals; the rest is validation and test.",
                ),
                choice(
                    "source",
                    "Usage",
                    [("auto", "as it came, else by ratio"), ("ratio", "always by ratio"), ("given", "only as it came")],
                    "auto",
                ),
                text(
                    "group_by",
                    "Keep together",
                    help="A column, an attribute, or a pattern of file names such as {group}_{number}.",
                ),
                text("version_id", "Name", placeholder="the next V number"),
                cls="fields",
            ),
            h("button", "Publish", type_="submit", cls="button primary"),
        ),
        data_submit="publish",
    )
