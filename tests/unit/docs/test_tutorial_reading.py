"""How the commands of a tutorial are read, and when an output is what the page says."""

from __future__ import annotations

import pytest

from tests.support.tutorials import fits, pages, steps_of


def test_commands_outputs_and_statuses_are_read() -> None:
    steps = steps_of("$ cat > x <<'EOF'\na\nEOF\n$ modelyard no\nerror: ...\n[exit 2]\n", first_line=10)
    assert [(step.command, step.wanted, step.status, step.line) for step in steps] == [
        ("cat > x <<'EOF'\na\nEOF", (), 0, 10),
        ("modelyard no", ("error: ...",), 2, 13),
    ]


def test_output_without_a_command_is_refused() -> None:
    with pytest.raises(ValueError, match="line 5: output without a command"):
        steps_of("gate  DEPLOY\n", first_line=5)


@pytest.mark.parametrize(
    ("wanted", "printed", "missing"),
    [
        ((), "whatever", ""),
        (("gate DEPLOY",), "gate    DEPLOY\n", ""),
        (("gate DEPLOY",), "gate NOT_ENOUGH_DATA\n", "gate DEPLOY"),
        (("gate DEPLOY",), "first\ngate DEPLOY\n", "gate DEPLOY"),
        (("...", "gate DEPLOY", "..."), "first\ngate DEPLOY\nlast\n", ""),
        (("...", "gate DEPLOY"), "gate DEPLOY\nlast\n", "(the end; 'last' came)"),
        (("test ... accuracy...",), "test  178  accuracy  0.81\n", ""),
        (("...", "b", "...", "a", "..."), "a\nb\n", "a"),
    ],
)
def test_an_output_fits_or_the_missing_line_is_named(wanted: tuple[str, ...], printed: str, missing: str) -> None:
    assert fits(wanted, printed) == missing


def test_every_tutorial_has_commands_and_says_what_it_needs() -> None:
    assert len(pages()) >= 8
    for page in pages():
        assert len(page.steps) >= 2, page.path
        assert page.needs, f"{page.path}: name the data set it needs, <!-- needs NAME -->"
        assert any(step.wanted for step in page.steps), page.path
    assert [page.name for page in pages() if not page.slow] == ["tables"], (
        "what is not slow runs in `make test`: under a minute in all"
    )
