"""Small tools for the HTML, CSS and JavaScript that leave here: escaped, compact, and where needed pure ASCII."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from html.parser import HTMLParser

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from consentkit import assets


def finalize(value: object) -> object:
    """Escape a value and break what looks like one of our marks, so that no text can ask for a token."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return Markup(str(escape(value)).replace("@@", "&#64;&#64;"))  # noqa: S704  escaped in the same line


@cache
def make_environment() -> Environment:
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(assets.directory("templates")),
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


@cache
def make_text_environment() -> Environment:
    """For plain text, where nothing is escaped since nothing is markup."""
    return make_environment().overlay(autoescape=False, finalize=None)


def compact(html: str) -> str:
    """One line, without space between tags. Templates write a space that matters as `{{ " " }}`."""
    return re.sub(r"\s*\n\s*", "", html)


def to_ascii(html: str) -> str:
    return html.encode("ascii", "xmlcharrefreplace").decode("ascii")


def safe_link(target: str) -> str:
    """A target that a browser follows to a page; anything else (`javascript:`) leads nowhere."""
    return target if re.match(r"/(?![/\\])|https?://[^/]", target) else ""


def one_line(text: str) -> str:
    return " ".join(text.split())


def sentence(text: str) -> str:
    text = one_line(text)
    return text if text.endswith((".", "!", "?")) else text + "."


def bare(text: str) -> str:
    return one_line(text).rstrip(".")


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        if words := one_line(data):
            self.found.append(words)


def words(html: str) -> list[str]:
    """Every text of a piece of HTML, in the order in which it is read."""
    parser = _Words()
    parser.feed(html)
    parser.close()
    return parser.found


def strip_style(css: str) -> str:
    """The stylesheet without comments and indentation."""
    lines = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL).splitlines()
    return re.sub(r" \{", "{", "".join(line.strip() for line in lines)).replace(": ", ":").replace(";}", "}")


def strip_script(source: str) -> str:
    """The script without indentation and without the lines that are only a comment; its line breaks stay."""
    lines = (line.strip() for line in source.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"


def hashed_asset(stem: str, suffix: str, text: str) -> tuple[str, bytes]:
    body = text.encode()
    return f"{stem}.{hashlib.sha256(body).hexdigest()[:12]}.{suffix}", body
