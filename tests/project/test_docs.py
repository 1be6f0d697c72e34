"""What can be set, run or caught is documented, and what the documentation shows works."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
from pydantic import BaseModel
from starlette.applications import Starlette
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from consentkit import cli, errors, settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NOT_IN_A_FILE = {"folder", "source", "development", "secret_keys", "afgemeld_keys", "smtp_user", "smtp_password"}
NOT_IN_A_FILE |= {"webhook_secrets"}


def text(*names: str) -> str:
    return "\n".join((ROOT / name).read_text("utf-8") for name in names)


def keys(model: type[BaseModel]) -> Iterator[str]:
    """Every key of a table and of the tables in it."""
    for name, field in model.model_fields.items():
        if name not in NOT_IN_A_FILE:
            yield name
        for part in re.findall(r"consentkit\.settings\.(\w+)", str(field.annotation)):
            nested = getattr(settings, part)
            if inspect.isclass(nested) and issubclass(nested, BaseModel):
                yield from keys(nested)


def commands(command: click.Command, path: str = "consentkit") -> Iterator[str]:
    """Every command that does something, as it is typed."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        yield path


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_every_setting_is_documented() -> None:
    page = text("docs/settings.md")

    assert [key for key in dict.fromkeys(keys(settings.Settings)) if not re.search(rf"`[^`\n]*\b{key}\b", page)] == []


def test_every_variable_of_the_environment_is_documented() -> None:
    read = {
        name
        for path in (ROOT / "consentkit").rglob("*.py")
        for name in re.findall(r"\bCONSENTKIT_[A-Z_]+\b", path.read_text("utf-8"))
    }

    assert sorted(name for name in read if f"`{name}`" not in text("docs/settings.md")) == []


def test_every_command_is_documented() -> None:
    page = text("docs/commands.md")

    assert [path for path in commands(typer.main.get_command(cli.app)) if path not in page] == []


def test_every_option_is_documented() -> None:
    page = text("docs/commands.md")
    options = {
        option
        for path in commands(typer.main.get_command(cli.app))
        for parameter in find(path).params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    }

    assert sorted(option for option in options if f"{option}" not in page) == []


def find(path: str) -> click.Command:
    command = typer.main.get_command(cli.app)
    for name in path.split()[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


def test_every_error_is_documented() -> None:
    pages = text(*(path.relative_to(ROOT).as_posix() for path in PAGES))
    names = [name for name, item in vars(errors).items() if inspect.isclass(item) and issubclass(item, Exception)]

    assert [name for name in names if f"`{name}`" not in pages] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]

    assert [link for link in local if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_configuration_that_is_shown_is_toml_and_every_program_is_python(page: Path) -> None:
    for block in blocks(page, "toml"):
        tomllib.loads(block)
    for block in blocks(page, "python"):
        compile(block, str(page), "exec", flags=0x2000)  # top-level await is fine in an example


def test_the_readme_s_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (configuration,) = blocks(ROOT / "README.md", "toml")
    (tmp_path / "consentkit.toml").write_text(configuration, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONSENTKIT_SECRET_KEYS", "k7Jw0uZ4sXq9Bv2Lr8Yt5Hn3Gm6Fd1Ca-and-32-more")
    document = Sybil([PythonCodeBlockParser()]).parse(ROOT / "README.md")
    document.namespace["app"] = Starlette()

    for example in document.examples():
        example.evaluate()

    document.namespace["kit"].close()


def test_the_readme_shows_it_all_on_the_first_screen() -> None:
    first = text("README.md").split("\n## ")[0]

    assert (ROOT / "docs" / "banner.png").is_file()
    assert "](docs/banner.png)" in first
    assert [block.count("\n") for block in blocks(ROOT / "README.md", "python")[:1]] == [4]
    assert "make demo" in first
    assert "make test" in first


def test_every_reason_for_a_refusal_is_documented_with_its_status() -> None:
    raised = {
        found
        for path in (ROOT / "consentkit").rglob("*.py")
        for found in re.findall(r'ChoiceRefused\("(\w+)", status=(\d+)\)', path.read_text("utf-8"))
    }
    rows = re.findall(r"^\| `(\w+)` \| ([\d, ]+) \|", text("docs/errors.md"), re.MULTILINE)
    documented = {(reason, status) for reason, statuses in rows for status in statuses.split(", ")}

    assert raised
    assert raised <= documented
