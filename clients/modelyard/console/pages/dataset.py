"""One dataset: its examples, versions, quality."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from modelyard.client import last_part
from modelyard.client.drawing.markup import Markup, h
from modelyard.client.drawing.words import count, task_word
from modelyard.console.pages.dataset_quality import Quality
from modelyard.console.pages.dataset_versions import Versions
from modelyard.console.parts.badges import progress_bar
from modelyard.console.parts.examples import gallery, look
from modelyard.console.parts.forms import choice
from modelyard.console.parts.fragment import Act, Fragment
from modelyard.console.parts.layout import card, empty, figure, figures, link, new_tab, tabs
from modelyard.console.parts.lists import first, pager
from modelyard.console.parts.live import follow
from modelyard.console.parts.page import Here, frame, route, stretch
from modelyard.console.reports import report_address
from modelyard.dataset.v1 import dataset_pb2
from modelyard.type.v1 import job_pb2

MOST = 60
_UNDER_WAY = (job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_QUEUED)
_USAGES = (("", "all"), ("train", "train"), ("validation", "validation"), ("test", "test"))


@dataclass(frozen=True)
class Chosen:
    """What the address says is to be seen."""

    version: str
    usage: str
    label: str
    finding: str
    skip: int
    example: str

    def query(self, **changed: object) -> dict[str, object]:
        said = {"version": self.version, "usage": self.usage, "label": self.label, "finding": self.finding, "skip": self.skip}
        return {**said, **changed}


@route("/p/{project}/datasets/{dataset}")
async def dataset(
    project: str,
    dataset: str,
    tab: str = "examples",
    version: str = "",
    usage: str = "",
    label: str = "",
    finding: str = "",
    skip: int = 0,
    example: str = "",
    base: str = "",
) -> None:
    actions = [
        link("New data", f"/p/{project}/datasets/new?dataset={dataset}", "button"),
        link("Label", f"/p/{project}/annotation?dataset={dataset}", "button"),
        link("Train a model", f"/p/{project}/train?dataset={dataset}", "button primary"),
    ]
    with frame(project, "datasets", dataset, crumbs=[("Datasets", f"/p/{project}/datasets")], actions=actions) as here:
        Fragment(_tabs(here, dataset, tab, version))
        if tab == "versions":
            await stretch(lambda: _versions_and_tags(here, dataset), lambda found: Versions(here, dataset, *found, version, base))
        elif tab == "quality":
            await stretch(lambda: _reports(here, dataset), lambda found: Quality(here, dataset, *found))
        else:
            chosen = Chosen(version, usage if usage in dict(_USAGES) else "", label, finding, max(skip, 0), example)
            await stretch(lambda: _fetch(here, dataset, chosen), lambda found: _build(here, dataset, chosen, found), bones=8)


def _tabs(here: Here, dataset: str, tab: str, version: str) -> Markup:
    each = (("examples", "Examples"), ("versions", "Versions"), ("quality", "Quality"))
    return tabs(
        tab,
        [
            (key, words, here.path("datasets", dataset, tab="" if key == "examples" else key, version=version))
            for key, words in each
        ],
        dataset,
    )


async def _versions(here: Here, dataset: str) -> list[dataset_pb2.DatasetVersion]:
    return (await first(here.client.datasets.list_dataset_versions(dataset, page_size=200), 200))[0]


async def _versions_and_tags(
    here: Here, dataset: str
) -> tuple[list[dataset_pb2.DatasetVersion], list[dataset_pb2.Tag], dict[str, str]]:
    """Versions, tags, and the newest check of each version."""
    tags = first(here.client.datasets.list_tags(dataset, page_size=200), 200)
    versions, (named, _), checks = await asyncio.gather(_versions(here, dataset), tags, _checks(here, dataset))
    return versions, named, {one.name: check_of(one, checks) for one in versions}


async def _checks(here: Here, dataset: str) -> list[dataset_pb2.QualityReport]:
    """The newest checks that came to their end; comparisons of versions are listed among them."""
    listed, _ = await first(here.client.datasets.list_quality_reports(dataset, page_size=50), 50)
    return [one for one in listed if not one.base_version and one.page.uri]


def check_of(version: dataset_pb2.DatasetVersion, checks: Sequence[dataset_pb2.QualityReport]) -> str:
    """The newest check of a version, or of the very content that it was published from; empty where there is none."""
    for one in checks:
        same = not version.base_version and not one.dataset_version and one.dataset_import == version.dataset_import
        if one.dataset_version == version.name or same:
            return one.name
    return ""


async def _reports(here: Here, dataset: str) -> tuple[Any, ...]:
    newest, versions, found = await asyncio.gather(
        _newest_check(here, dataset),
        _versions(here, dataset),
        here.client.datasets.get_dataset(dataset),
    )
    return found, newest, versions


async def _newest_check(here: Here, dataset: str) -> dataset_pb2.QualityReport | None:
    """The newest report that is a check; comparisons of versions are listed among them."""
    async for one in here.client.datasets.list_quality_reports(dataset, page_size=5):  # each comes with all it found
        if not one.base_version:
            return one
    return None


async def _fetch(here: Here, dataset: str, chosen: Chosen) -> dict[str, Any]:
    client = here.client
    found, versions = await asyncio.gather(client.datasets.get_dataset(dataset), _versions(here, dataset))
    ready = [one for one in versions if one.status.state == job_pb2.JOB_STATE_SUCCEEDED]
    version = next((one for one in ready if last_part(one.name) == chosen.version), None)
    if version is None and chosen.version not in ("", "present"):
        version = await client.datasets.get_dataset_version(f"{dataset}/{chosen.version}")  # tells that there is none
    if version is None and chosen.version == "":
        version = next((one for one in ready if one.name == found.latest_version), None)
    content = version.name if version is not None else found.current_import
    said: dict[str, Any] = {"dataset": found, "versions": ready, "version": version, "content": content}
    if not content:
        running, _ = await first(client.datasets.list_imports(dataset, page_size=1), 1)
        return {**said, "import": running[0] if running else None}
    shown, imported, looked, checks = await asyncio.gather(
        _shown(here, dataset, chosen, content),
        _import_of(here, found, version),
        _looked(here, chosen, content),
        _checks(here, dataset),
    )
    check = check_of(version, checks) if version is not None else ""
    return {**said, **shown, "imported": imported, "look": looked, "check": check}


async def _shown(here: Here, dataset: str, chosen: Chosen, content: str) -> dict[str, Any]:
    """A page of the examples that are chosen."""
    ids = await _ids_of_finding(here, dataset, chosen.finding) if chosen.finding else ()
    if chosen.finding and not ids:
        return {"total": 0, "views": None, "ids": []}
    page = await here.client.examples.page(
        content, usage=chosen.usage, label=chosen.label, example_ids=ids, skip=chosen.skip, page_size=MOST
    )
    listed = [one.example_id for one in page.examples]
    views = await here.client.examples.view(content, listed) if listed else None
    return {"total": page.total_size, "views": views, "ids": listed}


async def _looked(here: Here, chosen: Chosen, content: str) -> Any:
    """The example that is shown large, if there is one."""
    if not chosen.example:
        return None
    return await here.client.examples.view(content, [chosen.example], max_size=1024, max_points=1500)


async def _import_of(here: Here, found: dataset_pb2.Dataset, version: dataset_pb2.DatasetVersion | None) -> Any:
    """The import behind what is shown, for its classes where no version has them."""
    return None if version is not None else await here.client.datasets.get_import(found.current_import)


async def _ids_of_finding(here: Here, dataset: str, kind: str) -> tuple[str, ...]:
    newest = await _newest_check(here, dataset)
    if newest is None:
        return ()
    ids = [each for one in newest.findings if one.kind == kind for each in ids_of(one)]
    return tuple(dict.fromkeys(ids))[:1000]


def ids_of(finding: dataset_pb2.Finding) -> list[str]:
    """Ids of the examples that a finding is about: those it lists as such, or those that its fix changes."""
    said = list(finding.example_ids)
    return said or list(finding.fix.example_ids) or list(finding.examples)


def _build(here: Here, dataset: str, chosen: Chosen, found: dict[str, Any]) -> None:
    if not found["content"]:
        Arriving(here, dataset, found["import"])
        return
    version = found["version"]
    classes = (
        list(version.classes) if version is not None else list(found["imported"].summary.classes) if found.get("imported") else []
    )
    Fragment(_filters(chosen, found, classes)).does(filter=lambda act: _go(here, dataset, chosen, act))
    if version is not None:
        Fragment(_counts(version, here.path("datasets", dataset, tab="quality"), found["check"]))

    def address(example_id: str) -> str:
        return here.path("datasets", dataset, **chosen.query(example=example_id))

    if found["views"] is None:
        Fragment(
            empty(
                "No example fits",
                "Nothing here has this usage, label and finding together.",
                link("Show all", here.path("datasets", dataset, version=chosen.version), "button"),
                picture="search",
            )
        )
    else:
        shown = gallery(found["content"], found["views"], address)
        more = chosen.skip + len(found["ids"]) < found["total"]
        pages = pager(
            found["ids"],
            chosen.skip,
            MOST,
            more,
            lambda at: here.path("datasets", dataset, **chosen.query(skip=at)),
            found["total"],
        )
        task = f" of {task_word(version.task)}" if version is not None and version.task else ""
        Fragment(card(f"{count(found['total'])} examples{task}", shown, pages))
    if found.get("look") is not None:
        _lightbox(here, dataset, chosen, found)


def _filters(chosen: Chosen, found: dict[str, Any], classes: list[str]) -> Markup:
    versions = [(last_part(one.name), last_part(one.name)) for one in found["versions"]]
    current = last_part(found["version"].name) if found["version"] is not None else "present"
    options = [*versions, ("present", "what was imported last")] if found["dataset"].current_import else versions
    return h(
        "form",
        choice("version", "Version", options, current, data_change="filter"),
        choice("usage", "Usage", _USAGES, chosen.usage, data_change="filter", disabled=current == "present"),
        choice("label", "Label", [("", "all"), *((one, one) for one in classes[:1000])], chosen.label, data_change="filter")
        if classes
        else None,
        h("p", "Finding: ", h("strong", chosen.finding.replace("_", " ").lower()), cls="chips") if chosen.finding else None,
        cls="filters",
        aria_label="Filters",
        data_submit="filter",
    )


def _go(here: Here, dataset: str, chosen: Chosen, act: Act) -> None:
    said = chosen.query(version=act.text("version"), usage=act.text("usage"), label=act.text("label"), skip=0)
    ui.navigate.to(here.path("datasets", dataset, **said))


def _counts(version: dataset_pb2.DatasetVersion, quality: str, check: str) -> Markup:
    names = {1: "Train", 2: "Validation", 3: "Test"}
    each = [figure(names.get(one.usage, "?"), count(one.example_count)) for one in version.counts]
    report = new_tab("Report", report_address(check), "") if check else link("Check", quality)
    return figures(*each, figure("Quality", report))


class Arriving:
    """A dataset without content yet: follows its first import, and shows the page anew when there is something to see."""

    def __init__(self, here: Here, dataset: str, running: dataset_pb2.Import | None) -> None:
        self._here, self._dataset, self._import = here, dataset, running
        self._page = Fragment(self._markup())
        if running is not None and running.status.state in _UNDER_WAY:
            follow(self._page, lambda: here.client.datasets.watch_import(running.name), self._take, self._draw)

    def _take(self, change: Any) -> None:
        self._import = change.dataset_import

    def _draw(self) -> None:
        if self._import is not None and self._import.status.state == job_pb2.JOB_STATE_SUCCEEDED:
            with self._page:
                ui.navigate.reload()
        self._page.show(self._markup())

    def _markup(self) -> Markup:
        one = self._import
        if one is not None and one.status.state in (*_UNDER_WAY, job_pb2.JOB_STATE_SUCCEEDED):
            return card("Importing", progress_bar(one.status, "Import"))
        why = one.status.error.message if one is not None else "Nothing has been imported yet."
        bring = link("Bring data", self._here.path("datasets", "new", dataset=self._dataset), "button primary")
        return empty("This dataset is empty", why, bring, picture="data")


def _lightbox(here: Here, dataset: str, chosen: Chosen, found: dict[str, Any]) -> None:
    views, ids = found["look"], found["ids"]
    closing = here.path("datasets", dataset, **chosen.query())
    if not views.examples:
        Fragment(empty("No such example here", f"{chosen.example} is not in this version.", link("Back", closing, "button")))
        return
    at = ids.index(chosen.example) if chosen.example in ids else -1
    colours = dict(zip(views.classes, views.class_colours, strict=False))

    def step(words: str, to: int, key: str) -> Markup | None:
        if at < 0 or not 0 <= to < len(ids):
            return None
        return h(
            "a", words, href=here.path("datasets", dataset, **chosen.query(example=ids[to])), cls="button small", data_key=key
        )

    one = views.examples[0]
    head = h(
        "div",
        h("h2", one.example.path or one.example.example_id, id="look-title"),
        h(
            "div",
            step("← Before", at - 1, "prev"),
            step("Next →", at + 1, "next"),
            h("a", "Close", href=closing, cls="button small", data_key="close"),
            cls="actions",
        ),
        cls="card-head",
    )
    Fragment(h("section", head, look(found["content"], one, colours), cls="card", aria_labelledby="look-title", id="look")).move(
        target_index=0
    )
