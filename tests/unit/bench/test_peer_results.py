"""The figures of the comparison: medians, the best peer, ratios of the same round, what a process holds."""

from __future__ import annotations

import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.bench.peers.memory import Memory, memory_of, open_files, processor_s, tree
from tests.bench.peers.picture import picture
from tests.bench.peers.results import IN_PROCESS, Results
from tests.bench.peers.speed import Speed, middle

SVG = "{http://www.w3.org/2000/svg}"


def speed(per_second: float, p99: float = 10.0, errors: int = 0) -> Speed:
    return Speed(per_second, p99 / 2, p99, errors, 1.0)


@pytest.fixture
def results() -> Results:
    """Three rounds in which the machine is first quick, then slow; KServe is quicker than Triton in two of them."""
    made = Results("a machine", 3, 1.0, 8, ["MLP"])
    for ours, kserve, triton, alone in ((4000, 900, 800, 20_000), (2000, 500, 600, 10_000), (1000, 300, 250, 5000)):
        made.add("ours", "mlp", speed(ours, 5))
        made.add("kserve", "mlp", speed(kserve, 20))
        made.add("triton", "mlp", speed(triton, 10))
        made.add(IN_PROCESS, "mlp", speed(alone))
    made.memory["ours"] = Memory(200 << 20, 100 << 20, 5)
    return made


def test_the_median_of_each_figure_and_all_errors() -> None:
    rounds = [speed(1, 30, 1), speed(3, 10), speed(2, 20, 2)]
    assert middle(rounds) == Speed(2, 10, 20, 3, 1.0)


def test_percentiles_of_times_in_seconds() -> None:
    found = Speed.of([each / 1000 for each in range(1, 101)], 2.0, 0.5)
    assert (found.per_second, found.p50_ms, found.p99_ms, found.cpu_ms) == (50, 51, 100, 5)
    assert Speed.of([], 2.0, 0.5).per_second == 0


def test_ratios_are_those_of_the_same_round_over_the_best_peer(results: Results) -> None:
    assert results.best_peer("mlp") == "triton"
    assert results.ratio("mlp", "triton") == pytest.approx(4)
    assert results.ratio("mlp", "triton", "p99_ms") == 0.5
    assert results.ratio("mlp", IN_PROCESS) == 0.2
    assert "mlp: 4.00 times the best peer's requests/s (triton), p99 0.50" in results.markdown()


def test_a_peer_that_is_missing_is_named_in_the_table(results: Results) -> None:
    results.missing["mlserver"] = "not installed"
    assert "mlserver is missing: not installed" in results.markdown()


def test_the_picture_has_a_bar_for_each_figure_and_none_leaves_it(results: Results) -> None:
    root = ElementTree.fromstring(picture(results))
    bars = root.findall(f"{SVG}rect")
    assert [bar.get("class") for bar in bars] == ["ours", "peer", "peer", "alone", "ours"]
    widths = [float(bar.get("width", 0)) for bar in bars]
    assert widths[0] == max(widths)
    assert widths[1] == pytest.approx(widths[0] / 4, abs=0.1)
    assert widths[3] == widths[0]


def test_memory_and_processor_time_count_what_a_process_started() -> None:
    below_it = "print(os.getpid(), flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os; {below_it}'])"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        below = int(child.stdout.readline())
        assert list(tree(child.pid)) == [child.pid, below]
        both, one = memory_of([child.pid]), memory_of([below])
        assert (both.processes, one.processes) == (2, 1)
        assert both.rss > one.rss > 0
        assert both.rss > both.pss > 0
        assert open_files(child.pid) >= 3
        assert processor_s([os.getpid()]) > 0
    finally:
        child.kill()
        child.communicate()
    assert memory_of([child.pid]).processes == 0
