"""The page of a quality report: whole in itself, and safe whatever names the data has."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from modelyard.dataset.domain.records import Edit, Finding
from modelyard.dataset.domain.report_html import CLASSES_SHOWN, SHOWN, Page, Shown, class_chart, line_drawing, page_html

EVIL = "<script>alert(1)</script>\"'&"


class Tags(HTMLParser):
    """Collects tags and attributes, and checks that what is opened is closed."""

    VOID = frozenset({"meta", "img", "rect", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def page(findings: list[Finding], shown: dict[str, Shown] | None = None, classes: tuple[str, ...] = ("rose", EVIL)) -> str:
    counts = tuple(range(1, len(classes) + 1))
    return page_html(Page(EVIL, "import i", "today", "pictures", 1234, classes, counts, findings, (EVIL,), shown or {}))


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    return tags


def test_names_of_the_data_are_text_and_nothing_else() -> None:
    finding = Finding(
        EVIL, "error", EVIL, (EVIL,), 1, EVIL, EVIL, Edit("relabel", (EVIL,), labels=(EVIL,)), EVIL, (EVIL,), (0.5,)
    )
    tags = parsed(page([finding], {EVIL: Shown("", EVIL)}))
    assert "script" not in tags.tags


def test_nothing_outside_is_referred_to() -> None:
    text = page(
        [Finding("A", "info", "m", ("p",), 1, example_ids=("e",))], {"e": Shown('<img alt="" src="data:image/png;base64,AA">')}
    )
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link|<iframe", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme:dark" in text


def test_a_finding_says_everything_it_knows() -> None:
    fix = Edit("relabel", ("e1", "e2"), labels=("tulip", "rose"))
    finding = Finding(
        "LABEL_ERRORS", "warning", "two labels", ("a.png", "b.png"), 40, "", "do", fix, "costs", ("e1", "e2"), (0.91, 0.5)
    )
    text = page([finding], {"e1": Shown("<svg></svg>", "rose"), "e2": Shown("<svg></svg>", "tulip")}, ("rose", "tulip"))
    for said in (
        "two labels",
        "costs",
        "a.png",
        "0.91",
        "→ <b>tulip</b>",
        "and 38 more",
        "--kind LABEL_ERRORS",
        "1,234 pictures, 2 classes",
    ):
        assert said in text


def test_only_the_worst_are_drawn_and_the_rest_is_counted() -> None:
    paths = tuple(f"{i}.png" for i in range(100))
    text = page([Finding("A", "info", "m", paths, 5000)])
    assert text.count("<figure>") == SHOWN
    assert f"and {5000 - SHOWN:,} more" in text


def test_many_classes_are_told_in_a_line() -> None:
    chart = class_chart([f"c{i}" for i in range(CLASSES_SHOWN + 5)], list(range(CLASSES_SHOWN + 5)))
    parsed(chart)
    assert chart.count("<rect") == CLASSES_SHOWN
    assert "5 more classes with 10 examples" in chart


def test_a_page_without_findings_says_so() -> None:
    assert "Nothing found" in page([])


def test_curves_bear_gaps_and_flat_lines() -> None:
    drawn = line_drawing([[1.0, float("nan"), 3.0], [2.0, 2.0, 2.0], [float("nan")] * 3])
    parsed(drawn)
    assert "nan" not in drawn
