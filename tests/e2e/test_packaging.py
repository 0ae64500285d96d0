"""What is installed without the repository: the distribution's content, and that it works from an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.e2e.console.browsing import console, visitor
from tests.support.sources import breast_cancer_csv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT / "services", ROOT / "clients")
PACKAGES = ("services/modelyard", "services/inference", "clients/modelyard")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "uv", "build", "--quiet", "-o", str(folder), str(ROOT)], check=True)
    return folder


def test_the_wheel_has_every_file_of_the_packages_and_no_other(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(source).as_posix()
        for source in SOURCES
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_relative_to(source) and path.is_file() and "__pycache__" not in path.parts
    }
    assert {"modelyard/console/static/console.js", "modelyard/core/migrations/script.py.mako"} <= files
    assert names == files


def test_the_source_distribution_has_what_make_needs(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "protos/generate.py", "docs/tutorials/quickstart.py"} <= names
    assert "deploy/helm/modelyard/Chart.yaml" in names


def test_an_installed_wheel_imports_data_and_shows_them_in_its_console(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dependencies are those of this environment; of Modelyard there is the wheel alone."""
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
    subprocess.run([*install, str(next(built.glob("*.whl")))], check=True)
    # .pth files there, such as that of this checkout, are not read.
    monkeypatch.setenv("PYTHONPATH", sysconfig.get_path("purelib"))
    monkeypatch.chdir(tmp_path)
    where = subprocess.run(
        [python, "-c", "import modelyard.console.server as one; print(one.__file__)"], capture_output=True, text=True, check=True
    )
    assert where.stdout.startswith(str(tmp_path))
    with console(tmp_path, python=str(python)) as opened:
        source = breast_cancer_csv(tmp_path / "cancer.csv")
        command = [python.with_name("modelyard"), "dataset", "import", str(source), "--name", "cancer"]
        environment = {**os.environ, "MODELYARD_DATA_DIR": str(opened.data_dir)}
        subprocess.run(command, check=True, env=environment)
        with visitor(opened, tmp_path / "shots") as seen:
            seen.go("/p/default/datasets")
            seen.page.wait_for_selector("main >> text=cancer")


@pytest.mark.parametrize("python", ["3.11.2", "3.12.0"])
def test_the_pinned_versions_install_on_the_oldest_pythons(python: str, tmp_path: Path) -> None:
    """3.11.2 is what Debian 12 has. Resolves only; of what `make` installs nothing is fetched."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--python-version", python, "--extra", "dev"]
    command += ["-c", str(ROOT / "constraints.txt"), "-o", str(tmp_path / "resolved.txt"), str(ROOT / "pyproject.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
