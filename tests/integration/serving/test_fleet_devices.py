"""Devices outside the cluster: enrolment, roll-outs, broken lines, power cuts; real processes over loopback."""

from __future__ import annotations

from pathlib import Path

from tests.support.fleet import fleet, trial
from tests.support.followers import until


def test_a_device_enrols_takes_a_version_and_keeps_it_without_the_centre(tmp_path: Path) -> None:
    with fleet(tmp_path) as centre:
        first = centre.deploy("V001", 1)
        device = centre.start("d1")
        until(lambda: device.health() == "SERVING")
        centre.roll_out("r1", first, trial=trial(0.5))
        until(lambda: centre.state("r1") == "SUCCEEDED")
        assert device.version("net") == "V001"
        assert centre.progress("r1") == {"d1": "CONFIRMED"}
        seen = centre.device("d1")
        assert seen.inventory.cores >= 1
        assert [each.version for each in seen.assignments] == ["V001"]
