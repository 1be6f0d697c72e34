"""What a user installs has everything in it, and nothing that belongs to the repository."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, the dependencies of this one, and no way to the repository."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", "--no-deps", built[1])
    (there,) = folder.glob("lib/python*/site-packages")
    (there / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(*command: str | Path, cwd: Path | None = None, status: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("name", ["static", "templates"])
def test_the_wheel_has_every_asset_as_it_is_in_the_tree(built: tuple[Path, Path], name: str) -> None:
    prefix = f"consentkit/{name}/"
    with zipfile.ZipFile(built[1]) as wheel:
        shipped = {path.removeprefix(prefix): wheel.read(path) for path in wheel.namelist() if path.startswith(prefix)}

    assert shipped
    assert shipped == files(ROOT / name)


def test_the_wheel_has_the_whole_package_with_catalogue_migrations_and_types(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        shipped = set(wheel.namelist())

    assert {f"consentkit/{path}" for path in files(ROOT / "consentkit")} <= shipped
    assert {"consentkit/py.typed", "consentkit/gate/services/youtube.toml"} <= shipped
    assert any(path.startswith("consentkit/store/migrations/versions/") for path in shipped)


def test_the_wheel_has_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        tops = {path.partition("/")[0] for path in wheel.namelist()}

    assert sorted(top for top in tops if not top.endswith(".dist-info")) == ["consentkit"]


def test_the_source_archive_has_what_the_tests_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        tops = {"/".join(name.split("/")[1:2]) for name in sdist.getnames()}

    assert {"consentkit", "static", "templates", "tests", "demo_site", "docs", "CHANGELOG.md", "pyproject.toml"} <= tops


def test_the_installed_package_serves_a_gated_page_and_its_assets(installed: Path, tmp_path: Path) -> None:
    script = tmp_path / "try.py"
    script.write_text(SERVES, "utf-8")

    assert run(installed / "bin" / "python", script, cwd=tmp_path) == f"{next(installed.glob('lib/*/site-packages'))}\n"


def test_the_installed_command_says_where_the_demo_is(installed: Path, tmp_path: Path) -> None:
    told = run(installed / "bin" / "consentkit", "demo", cwd=tmp_path, status=2)

    assert "make demo" in told
    assert "Traceback" not in told


SERVES = """
import re
from pathlib import Path
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient
import consentkit
from consentkit import ConsentKit, Settings

TAG = '<script src="https://www.googletagmanager.com/gtag/js?id=G-1"></script>'
PAGE = '<!doctype html><html lang=nl><head></head><body>' + TAG + '</body></html>'
site = {"name": "De Linde", "base_url": "http://127.0.0.1", "privacy_statement": "/over-privacy"}
site["controller"] = {"name": "De Linde"}
kit = ConsentKit(Settings(site=site, services={"google-analytics": {}}))
app = kit.wrap(Starlette(routes=[Route("/", lambda request: HTMLResponse(PAGE))]))
with TestClient(app, base_url="http://127.0.0.1") as client:
    page = client.get("/").text
    assert "Weigeren" in page and 'type="text/plain"' in page, page
    assets = re.findall(r'(?:href|src)="(/privacy/static/[^"]+)"', page)
    assert assets, page
    assert {client.get(path).status_code for path in assets} == {200}
print(Path(consentkit.__file__).parents[1])
"""
