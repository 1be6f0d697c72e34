"""Which test holds which requirement of the checklist: read from the tests' source, written as docs/checklist.md.

`python -m tests.project.coverage_table` (or `make checklist`) writes the table; test_checklist.py keeps it true.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "checklist.md"
WAITING = "waits for later work"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One row of docs/checklist.json."""

    id: str
    group: str
    text: str


@cache
def requirements() -> tuple[Requirement, ...]:
    """All of them, in the checklist's order."""
    items = json.loads((ROOT / "docs" / "checklist.json").read_text("utf-8"))["items"]
    return tuple(Requirement(item["id"], item["group"], item["text"]) for item in items)


def held() -> dict[str, list[str]]:
    """Per requirement the tests that carry its id, as `tests/gate/test_headers.py::test_name`.

    Raises:
        ValueError: for an id that the checklist doesn't have, or one that isn't written out.
    """
    found: dict[str, list[str]] = {requirement.id: [] for requirement in requirements()}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        for name, ids in _marked(ast.parse(path.read_text("utf-8"), where)):
            for id in ids:
                if id not in found:
                    raise ValueError(f"{where}::{name}: the checklist has no {id}")
                found[id].append(f"{where}::{name}" if name else where)
    return {id: list(dict.fromkeys(tests)) for id, tests in found.items()}


def _marked(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every `pytest.mark.checklist(…)` with the test function, or the class or module, that it stands on."""
    for node in ast.iter_child_nodes(tree):
        name = inside
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{inside}::{node.name}" if inside else node.name
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.checklist":
            yield inside, [_written_out(argument) for argument in node.args]
        yield from _marked(node, name)


def _written_out(argument: ast.expr) -> str:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value
    raise ValueError(f"line {argument.lineno}: write a checklist id out as a string, not {ast.unparse(argument)}")


def page(tests: Mapping[str, list[str]]) -> str:
    """The whole of docs/checklist.md."""
    covered = [requirement for requirement in requirements() if tests[requirement.id]]
    lines = [
        "# The checklist, and the tests that hold it",
        "",
        "Made by `make checklist` from the `checklist` marks in `tests/`; a test keeps it from going stale.",
        "The whole text of each requirement, with its source, is in [checklist.json](checklist.json).",
        "",
        f"**{len(covered)} of {len(requirements())} requirements are held by tests**; the others wait for later work.",
        "",
        *_counts(tests),
    ]
    for group, members in _groups():
        lines += ["", f"## {group}", "", "| id | requirement | held by |", "| --- | --- | --- |"]
        lines += [f"| {one.id} | {_short(one.text)} | {_links(tests[one.id])} |" for one in members]
    return "\n".join(lines) + "\n"


def _counts(tests: Mapping[str, list[str]]) -> Iterator[str]:
    yield from ("| group | held | of |", "| --- | ---: | ---: |")
    for group, members in _groups():
        yield f"| {group} | {sum(bool(tests[one.id]) for one in members)} | {len(members)} |"


def _groups() -> Iterable[tuple[str, list[Requirement]]]:
    grouped: dict[str, list[Requirement]] = {}
    for requirement in requirements():
        grouped.setdefault(requirement.group, []).append(requirement)
    return grouped.items()


def _short(text: str, most: int = 160) -> str:
    """The start of a requirement, cut at a word and safe inside a table's cell."""
    if len(text) > most:
        text = text[:most].rsplit(" ", 1)[0].rstrip(" ,;:(") + " …"
        text += "`" * (text.count("`") % 2)
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")


def _links(tests: list[str]) -> str:
    if not tests:
        return f"*{WAITING}*"
    return "<br>".join(f"[{test.rpartition('::')[2] or test}](../{test.partition('::')[0]})" for test in tests)


if __name__ == "__main__":
    TABLE.write_text(page(held()), "utf-8")
    print(f"{TABLE.relative_to(ROOT)}: {sum(map(bool, held().values()))} of {len(requirements())} held")
