"""What docs/check.md shows works, and says what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parents[2]


def test_the_example_for_an_app_s_own_tests_fails_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs" / "check.md"
    configuration = re.findall(r"^```toml\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)[0]
    (tmp_path / "consentkit.toml").write_text(configuration, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONSENTKIT_SECRET_KEYS", "k7Jw0uZ4sXq9Bv2Lr8Yt5Hn3Gm6Fd1Ca-and-32-more")
    document = Sybil([PythonCodeBlockParser()]).parse(page)

    for example in document.examples():
        example.evaluate()
    with pytest.raises(AssertionError) as failed:
        document.namespace["test_nothing_leaks"]()

    document.namespace["kit"].close()
    assert f"AssertionError: {failed.value}\n" in page.read_text("utf-8")
