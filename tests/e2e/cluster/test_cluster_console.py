"""The console as a pod, as somebody with a browser meets it; and every object that the chart makes only when asked."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.cluster.conftest import Installed
from tests.e2e.cluster.kube import CHART, program
from tests.e2e.console.browsing import chromium

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextmanager
def forwarded(installed: Installed, service: str, port: int) -> Iterator[int]:
    """A port of this machine that leads to a service, as NOTES.txt tells people."""
    command = [program("kubectl"), "-n", installed.kube.namespace, "port-forward", f"service/{service}", f":{port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", said)
        assert found, said
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(30)


def test_a_person_signs_in_to_the_console(installed: Installed) -> None:
    from playwright.sync_api import sync_playwright

    installed.upgrade("--set", "console.enabled=true")
    with installed.client() as client:
        client.datasets.create_dataset("seen-by-console")
    with forwarded(installed, f"{installed.name}-console", 8980) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.set_default_timeout(120_000)
        wanted = f"https://localhost:{port}/p/default/datasets"
        page.goto(wanted)
        assert "/sign-in?next=" in page.url
        page.fill("#token", "wrong" * 9)
        page.press("#token", "Enter")
        page.wait_for_selector("[role=alert]")
        page.fill("#token", installed.token)
        page.press("#token", "Enter")
        page.wait_for_url(wanted)
        page.wait_for_selector("text=seen-by-console")
        assert installed.token not in page.content()
        browser.close()


def test_the_api_server_takes_what_is_off_by_default(installed: Installed) -> None:
    wanted = {
        "serving.autoscaling.enabled": "true", "ingress.enabled": "true", "ingress.host": "models.example.org",
        "console.enabled": "true", "console.ingress.enabled": "true", "console.ingress.host": "console.example.org",
        "networkPolicy.enabled": "true",
    }  # fmt: skip
    options = [word for name, value in wanted.items() for word in ("--set", f"{name}={value}")]
    version = json.loads(installed.kube.run("version", "-o", "json"))["serverVersion"]["gitVersion"]
    made = installed.kube.helm(
        "template", "another", str(CHART), *installed.options, *options, "--no-hooks", "--kube-version", version
    )
    said = installed.kube.run("apply", "--dry-run=server", "--validate=strict", "-f", "-", given=made)
    for kind in ("horizontalpodautoscaler.autoscaling", "ingress.networking.k8s.io", "networkpolicy.networking.k8s.io"):
        assert kind in said, said
