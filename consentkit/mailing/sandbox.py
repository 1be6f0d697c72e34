"""What a mailing's template may say: values, `if`, `for` and a few filters, in Jinja's immutable sandbox.

A template is read before anything is queued: every name in it is known, nothing in it can run away, and it was rendered
with sample values. Its holes (`{{ … }}` and `{% … %}`) can be taken out and put back, so that tools that know HTML,
MJML or Markdown work on the rest.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from consentkit.errors import MailingError
from consentkit.mailing.problem import Problem

MOST_SOURCE: Final = 500_000
"""Characters of a template."""

MOST_OUTPUT: Final = 1_000_000
"""Characters of what comes out; Gmail shows the first 102 KB."""

MOST_ROUNDS: Final = 1_000
MOST_DEPTH: Final = 2
"""A loop within a loop; what is deeper is a program."""

_FILTERS: Final = (
    *("abs", "capitalize", "count", "d", "default", "e", "escape", "first", "float", "int", "last", "length", "lower"),
    *("round", "string", "striptags", "title", "trim", "truncate", "upper", "urlencode", "wordcount"),
)
"""None makes a text much longer, and none takes the escaping away."""

_GRAMMAR: Final = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Name, nodes.Const, nodes.Tuple),
    *(nodes.List, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or),
    *(nodes.Not, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos),
    *(nodes.Concat, nodes.Keyword),
)


_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Hole:
    """One `{{ … }}` or `{% … %}` of a template.

    Args:
        source: as it is written, without signs that eat space.
        line: where it stands, from 1. says: whether it puts a value there, and is no statement.
        names: what it reads.
        always: whether it stands outside of every `if` and `for`.
    """

    source: str
    line: int
    says: bool
    names: frozenset[str]
    always: bool = True

    def is_just(self, *names: str) -> bool:
        """Whether it is one of these values and nothing more."""
        return self.says and self.source[2:-2].strip() in names


class Holes:
    """The holes of one template, each taken out for a word that no tool changes and no author writes.

    Args:
        sources: every text that the words must not stand in.
    """

    def __init__(self, *sources: str) -> None:
        prefix = "jhole"
        while any(prefix in source.lower() for source in sources):
            prefix += "e"
        self._prefix = prefix
        self.pattern = re.compile(rf"{prefix}(\d+)z")
        self.comment = re.compile(rf"<!--({prefix}\d+z)-->")
        self._holes: list[Hole] = []

    def __getitem__(self, word: str) -> Hole:
        return self._holes[int(word[len(self._prefix) : -1])]

    def add(self, hole: Hole) -> str:
        """The word for a hole."""
        self._holes.append(hole)
        return f"{self._prefix}{len(self._holes) - 1}z"

    def link(self, name: str) -> str:
        """The word for a new hole that puts one value there."""
        return self.add(Hole(f"{{{{ {name} }}}}", 0, True, frozenset({name})))

    def words(self, text: str) -> list[str]:
        """Every word in a text."""
        return [found[0] for found in self.pattern.finditer(text)]

    def take_out(self, source: str) -> str:
        """A template with words in place of its holes. Comments are gone, `{% raw %}` is the text that stands in it."""
        return "".join(part if isinstance(part, str) else self.add(part) for part in _parts(source))

    def put_back(self, text: str) -> str:
        """The template again. What has become braces on the way stays text."""
        text = self.comment.sub(r"\1", text)
        pieces, at = [], 0
        for found in self.pattern.finditer(text):
            pieces += [_no_braces(text[at : found.start()]), self[found[0]].source]
            at = found.end()
        return "".join([*pieces, _no_braces(text[at:])])


def _no_braces(text: str) -> str:
    return re.sub(r"\{(?=[{%#]|\Z)", '{{ "{" }}', text)


def _parts(source: str) -> Iterator[str | Hole]:
    begun: list[str] = []
    depth = 0
    for line, kind, value in html_sandbox().lex(source):
        match kind:
            case "data":
                yield value
            case "variable_begin" | "block_begin":
                begun = []
            case "variable_end":
                inner = "".join(begun)
                yield Hole(f"{{{{{inner}}}}}", line, True, names_of(f"{{{{{inner}}}}}"), not depth)
            case "block_end":
                inner = "".join(begun)
                depth += {"if": 1, "for": 1, "endif": -1, "endfor": -1}.get(inner.split()[0], 0)
                yield Hole(f"{{%{inner}%}}", line, False, frozenset(_WORD.findall(inner)), not depth)
            case "comment_begin" | "comment" | "comment_end" | "raw_begin" | "raw_end":
                continue
            case _:
                begun.append(value)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "%"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return super().call_binop(context, operator, left, right)
        raise SecurityError(f"`{operator}` takes numbers: write `|int` behind a field that is one")


def _range(*numbers: int) -> range:
    found = range(*numbers)
    if len(found) > MOST_ROUNDS:
        raise SecurityError(f"range() gives {len(found)} rounds, and {MOST_ROUNDS} is the most")
    return found


@cache
def html_sandbox() -> ImmutableSandboxedEnvironment:
    """For HTML: every value is escaped."""
    return _sandbox(autoescape=True)


@cache
def text_sandbox() -> ImmutableSandboxedEnvironment:
    """For plain text, where nothing is markup."""
    return _sandbox(autoescape=False)


def _sandbox(*, autoescape: bool) -> ImmutableSandboxedEnvironment:
    made = _Sandbox(autoescape=autoescape, undefined=StrictUndefined)
    made.filters = {name: FILTERS[name] for name in _FILTERS}
    made.globals = {"range": _range}
    return made


def problems_of(
    source: str, file: str, names: Collection[str], *, whole: Collection[str] = (), elsewhere: Mapping[str, str]
) -> list[Problem]:
    """What is wrong with a template.

    Args:
        source: the template. file: what it is called in the sentences.
        names: what it may use.
        whole: names that may stand there once, alone, outside of every `if` and `for`.
        elsewhere: names that other mailings know, and the code of the problem with them in this one.
    """
    if len(source) > MOST_SOURCE:
        return [Problem(file, "source_long", size=f"{len(source):,}", most=f"{MOST_SOURCE:,}")]
    try:
        tree = html_sandbox().parse(source)
    except TemplateSyntaxError as error:
        return [Problem(file, "syntax", error.lineno, told=(error.message or "can't be read").rstrip("."))]
    found = _Reading(file, names, whole, elsewhere)
    found.read(tree)
    return found.problems


class _Reading:
    """One template being read; problems gather until the end."""

    def __init__(self, file: str, names: Collection[str], whole: Collection[str], elsewhere: Mapping[str, str]) -> None:
        self._elsewhere = elsewhere
        self.problems: list[Problem] = []
        self._file = file
        self._known = frozenset(names)
        self._whole = dict.fromkeys(whole, 0)

    def read(self, tree: nodes.Template) -> None:
        for node in tree.body:
            if isinstance(node, nodes.Output):
                for part in node.nodes:
                    if isinstance(part, nodes.Name) and part.name in self._whole:
                        self._once(part)
                    else:
                        self._visit(part, frozenset(), 0)
            else:
                self._visit(node, frozenset(), 0)

    def _once(self, node: nodes.Name) -> None:
        self._whole[node.name] += 1
        if self._whole[node.name] > 1:
            self._add(node, "name_twice", name=node.name)

    def _add(self, node: nodes.Node, code: str, **values: object) -> None:
        self.problems.append(Problem(self._file, code, node.lineno, **values))

    def _visit(self, node: nodes.Node, scope: frozenset[str], depth: int) -> None:
        match node:
            case nodes.For():
                self._loop(node, scope, depth)
                return
            case nodes.Getattr(node=nodes.Name(name="loop")) if "loop" in scope:
                return
            case nodes.Getattr() | nodes.Getitem():
                self._add(node, "parts")
                return
            case nodes.Call(node=nodes.Name(name="range")) if not node.kwargs and not node.dyn_args:
                for argument in node.args:
                    self._visit(argument, scope, depth)
                return
            case nodes.Call():
                self._add(node, "call")
                return
            case nodes.Name():
                self._name(node, scope)
                return
            case nodes.Filter() if node.name not in _FILTERS:
                close = get_close_matches(node.name, _FILTERS, 1)
                if close:
                    self._add(node, "filter_close", name=node.name, close=close[0])
                else:
                    self._add(node, "filter_unknown", name=node.name, known=", ".join(_FILTERS))
            case nodes.Test() if node.name not in html_sandbox().tests:
                self._add(node, "test_unknown", name=node.name)
            case _ if not isinstance(node, _GRAMMAR):
                self._add(node, "grammar", said=_said(node))
                return
        for child in node.iter_child_nodes():
            self._visit(child, scope, depth)

    def _loop(self, node: nodes.For, scope: frozenset[str], depth: int) -> None:
        if node.recursive:
            self._add(node, "loop_recursive")
        if depth == MOST_DEPTH:
            self._add(node, "loop_deep", most=MOST_DEPTH)
        self._visit(node.iter, scope, depth)
        targets = [*node.target.find_all(nodes.Name)]
        if isinstance(node.target, nodes.Name):
            targets.append(node.target)
        for target in targets:
            if target.name in self._known or target.name in self._whole:
                self._add(node, "loop_name", name=target.name)
        inner = scope | {target.name for target in targets} | {"loop"}
        for child in (*node.body, *([node.test] if node.test else [])):
            self._visit(child, inner, depth + 1)
        for child in node.else_:
            self._visit(child, scope, depth)

    def _name(self, node: nodes.Name, scope: frozenset[str]) -> None:
        if node.name in scope or node.name in self._known:
            return
        if node.name in self._whole:
            self._add(node, "name_inside", name=node.name)
            return
        if node.name in self._elsewhere:
            self._add(node, self._elsewhere[node.name], name=node.name)
            return
        close = get_close_matches(node.name, {*self._known, *self._whole}, 1, 0.75)
        if close:
            self._add(node, "name_close", name=node.name, close=close[0])
        else:
            self._add(node, "name_unknown", name=node.name)


def _said(node: nodes.Node) -> str:
    return {"Assign": "set", "AssignBlock": "set", "FromImport": "from"}.get(
        type(node).__name__, type(node).__name__
    ).lower()


def trial(source: str, file: str, values: Mapping[str, object], *, html: bool) -> list[Problem]:
    """What goes wrong when a template is filled with these values."""
    sandbox = html_sandbox() if html else text_sandbox()
    try:
        code = sandbox.compile(source, name=file, filename=file)
        render(Template.from_code(sandbox, code, sandbox.globals), values)
    except MailingError as error:
        return [problem.at(file) for problem in error.problems if isinstance(problem, Problem)]
    except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError) as error:
        told = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        return [Problem(file, "fails", _line(error, file), told=told.rstrip("."))]
    return []


def _line(error: BaseException, file: str) -> int:
    line, trace = getattr(error, "lineno", 0), error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def render(template: Template, values: Mapping[str, object]) -> str:
    """A template, filled in.

    Raises:
        MailingError: more comes out than a mail may hold.
        Exception: whatever the template comes upon.
    """
    pieces, size = [], 0
    for piece in template.generate(values):
        pieces.append(piece)
        size += len(piece)
        if size > MOST_OUTPUT:
            raise MailingError([Problem("", "output_long", most=f"{MOST_OUTPUT:,}")])
    return "".join(pieces)


def is_flat(source: str, individual: Collection[str]) -> bool:
    """Whether values that differ between readers only stand there, and decide nothing and are not worked on."""
    tree = html_sandbox().parse(source)
    every = sum(node.name in individual for node in tree.find_all(nodes.Name))
    plain = sum(
        isinstance(part, nodes.Name) and part.name in individual
        for output in tree.find_all(nodes.Output)
        for part in output.nodes
    )
    return every == plain


def names_of(source: str) -> frozenset[str]:
    """Every name in a template."""
    return frozenset(node.name for node in html_sandbox().parse(source).find_all(nodes.Name))
