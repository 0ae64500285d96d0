"""Builds the docs site: `python docs/site/build.py` (or `make docs`) writes .build/docs/site, for a web server or the disk.

The sources are docs/*.md as they stand, plus reference pages made of the contracts, the commands, the settings and the client.
Links and anchors that lead nowhere fail the build, and so does a page that would load anything from another address.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "services"), str(ROOT / "clients")]
BUILD = ROOT / ".build" / "docs"
LEFT_OUT = {"site"}


def stage(build: Path) -> Path:
    """Copies the sources, makes the reference pages and the configuration; gives the configuration's path."""
    source = build / "source"
    shutil.rmtree(build, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source, ignore=lambda folder, names: [n for n in names if n in LEFT_OUT or n.endswith(".py")])
    shutil.copy(ROOT / "CHANGELOG.md", source / "CHANGELOG.md")
    for path in source.rglob("*.md"):
        path.write_text(spaced(path.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.copy(HERE / "site.css", source / "site.css")
    reference = write_reference(source / "reference")
    settings = yaml.safe_load((HERE / "site.yml").read_text())
    settings |= {"docs_dir": "source", "site_dir": "site"}
    _section(settings["nav"], "Reference").extend(reference)
    _section(settings["nav"], "Decisions").extend(decisions(source))
    _tasks(settings["nav"], source)
    if others := orphans(settings, source):
        settings["nav"].append({"More": others})
    path = build / "mkdocs.yml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    return path


_ITEM = re.compile(r"(?:[-*+]|\d+\.) +\S")


def spaced(text: str) -> str:
    """Markdown as CommonMark reads it, for Python-Markdown: a blank line before lists and tables that follow a paragraph."""
    out: list[str] = []
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        before = out[-1] if out else ""
        if not fenced and before.strip() and not before.startswith(("#", " ")):
            begins_list = bool(_ITEM.match(line)) and not _ITEM.match(before)
            begins_table = line.startswith("|") and not before.startswith("|")
            ends_table = before.startswith("|") and bool(line.strip()) and not line.startswith("|")
            if begins_list or begins_table or ends_table:
                out.append("")
        out.append(line)
    return "\n".join(out) + "\n"


def write_reference(folder: Path) -> list[dict[str, str]]:
    """Writes the reference pages; gives their entries of the navigation."""
    import reference_cli
    import reference_client
    import reference_protos
    import reference_settings

    folder.mkdir(parents=True)
    (folder / "cli.md").write_text(reference_cli.page())
    (folder / "settings.md").write_text(reference_settings.page())
    (folder / "client.md").write_text(reference_client.page())
    entries = [
        {"Command line": "reference/cli.md"},
        {"Python client": "reference/client.md"},
        {"Settings": "reference/settings.md"},
    ]
    for package, page in reference_protos.pages(reference_protos.descriptors()).items():
        (folder / f"{package}.md").write_text(page)
        entries.append({package: f"reference/{package}.md"})
    return entries


def decisions(source: Path) -> list[dict[str, str]]:
    """Every decision record by its number."""
    found = sorted((source / "decisions").glob("*.md"))
    return [{f"{path.name[:4]} {_title(path)}": f"decisions/{path.name}"} for path in found]


def _title(path: Path) -> str:
    first = path.read_text().lstrip().splitlines()[0]
    title = re.sub(r"^#\s*(\d+)?[.:]?\s*", "", first).strip()
    return title[:1].upper() + title[1:]


def _tasks(nav: list[Any], source: Path) -> None:
    """The page of each task, whoever added it."""
    section = next(part["Tasks"] for part in _section(nav, "Subjects") if "Tasks" in part)
    section.extend(f"tasks/{path.name}" for path in sorted((source / "tasks").glob("*.md")) if path.name != "README.md")


def _section(nav: list[Any], name: str) -> list[Any]:
    return next(part[name] for part in nav if name in part)


def orphans(settings: dict[str, Any], source: Path) -> list[str]:
    """Pages that the navigation does not lead to."""
    return sorted({str(path.relative_to(source)) for path in source.rglob("*.md")} - set(_pages(settings["nav"])))


def _pages(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        for held in part.values():
            yield from _pages(held)
    else:
        for held in part:
            yield from _pages(held)


class _Page(HTMLParser):
    """What a page loads by itself, what it links to, and the places in it that links can name."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.raw: list[str] = []
        self._code = 0

    def handle_data(self, data: str) -> None:
        """Marks of Markdown that came through as text: a table or a list that was not read as one."""
        if not self._code and re.search(r"\|-{3,}|\n(?:[-*+]|\d+\.) \S|(?:^|\n)#{1,6}(?:\s|$)", data):
            self.raw.append(" ".join(data.split())[:80])

    def handle_endtag(self, tag: str) -> None:
        if tag in ("code", "pre", "script", "style"):
            self._code -= 1

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self._code += tag in ("code", "pre", "script", "style")
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        loading = {
            "link": "href",
            "script": "src",
            "img": "src",
            "iframe": "src",
            "source": "src",
            "object": "data",
            "use": "href",
        }.get(tag)
        if loading and given.get(loading) and given.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.loads.append(given[loading])


def faults(site: Path) -> list[str]:
    """Links and anchors that lead nowhere, and what is loaded from elsewhere, of every page of a built site."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name} loads {what}" for what in page.loads if urlsplit(what).netloc]
        found += [f"{name} shows Markdown as text: {what}" for what in page.raw]
        if name.name == "404.html":
            continue
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{name} links to {link}, which is not there")
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].places | {"__top", "__codelineno"}
            ):
                found.append(f"{name} links to {link}, but there is no such place in it")
    for path in sorted(site.rglob("*.css")):
        found += [
            f"{path.relative_to(site)} loads {what}"
            for what in re.findall(r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)", path.read_text())
        ]
        found += [
            f"{path.relative_to(site)} imports {what}" for what in re.findall(r"@import\s+['\"]([^'\"]+)", path.read_text())
        ]
    return found


def main() -> int:
    config = stage(BUILD)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", str(config)], cwd=BUILD, check=False
    )
    wrong = faults(BUILD / "site") if built.returncode == 0 else []
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    if built.returncode or wrong:
        return 1
    pages = sum(1 for _ in (BUILD / "site").rglob("*.html"))
    print(f"==> {pages} pages in {(BUILD / 'site').relative_to(ROOT)}: open index.html; for the search: python -m http.server -d")
    return 0


if __name__ == "__main__":
    sys.exit(main())
