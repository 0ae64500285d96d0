"""What a server must bear for long: python tests/bench/soak.py [loads] [switches] [steady] [leavers] [--short] [--json FILE]

    loads     10,000 unloads and loads of a model while two others stay: RSS and PSS grow less than 5 percent
    switches  versions take an endpoint over, one after another, at half of the peak rate: nothing fails, p99 at most 1.5 times
    steady    30 minutes at 80 percent of the peak rate: nothing fails, nothing grows
    leavers   10,000 connections opened and dropped, 2,000 streams and calls cancelled half-way: nothing grows

Each on real servers of their own, as they start by default. --short: the same in a minute or so each (CI). The exit status is 1
where something is worse than it may be; what was found is printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    sys.path[0:1] = [str(Path(__file__).resolve().parents[2] / part) for part in ("", "services", "clients")]

from tests.bench.soaks.leavers import leavers
from tests.bench.soaks.loads import loads
from tests.bench.soaks.outcome import Outcome
from tests.bench.soaks.steady import steady
from tests.bench.soaks.switches import switches

NAMES = ("loads", "switches", "steady", "leavers")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    given = _parser().parse_args(arguments)
    outcomes = [_soak(name, given) for name in given.names or NAMES]
    text = json.dumps([asdict(outcome) for outcome in outcomes], indent=1)
    if given.json:
        given.json.write_text(text + "\n")
    for outcome in outcomes:
        sys.stdout.write(json.dumps({"soak": outcome.name, **outcome.figures, "problems": outcome.problems}) + "\n")
    return int(any(outcome.problems for outcome in outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python tests/bench/soak.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--short", action="store_true", help="a minute or so each")
    parser.add_argument("--loads", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=30.0, help="of the steady load")
    parser.add_argument("--model", default="mlp", help="of the steady load: mlp, net96, net224")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.5, help="of the peak rate that is asked during switches")
    parser.add_argument("--json", type=Path, help="figures, and those over time")
    return parser


def _soak(name: str, given: argparse.Namespace) -> Outcome:
    short = given.short
    with tempfile.TemporaryDirectory(prefix="modelyard-soak-") as temporary:
        folder = Path(temporary)
        if name == "loads":
            return loads(100 if short else given.loads, folder)
        if name == "switches":
            return switches(3 if short else 8, 4 if short else 15, given.share, folder)
        if name == "steady":
            return steady(0.5 if short else given.minutes, given.model, folder, windows=6 if short else 30)
        return leavers(1000 if short else given.connections, 200 if short else 2000, folder)


if __name__ == "__main__":
    sys.exit(main())
