"""The changelog tells the release that is here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_top_version_of_the_changelog_is_the_package_s_and_has_a_date() -> None:
    released = re.findall(r"^## \[(\d[^\]]*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    package = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

    version, date = released[0]
    assert version == package
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", date)


def test_what_is_not_released_yet_stands_on_top() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert "Unreleased" not in headings[1:]
