"""What every host serves: the same school, with the trackers its templates got from their vendors' documentation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SNIPPET = (
    "<!-- Google tag (gtag.js) -->\n"
    '<script async src="https://www.googletagmanager.com/gtag/js?id=G-TEST1"></script>\n'
    "<script>\n  window.dataLayer = window.dataLayer || [];\n  function gtag(){dataLayer.push(arguments);}\n"
    "  gtag('js', new Date());\n  gtag('config', 'G-TEST1');\n</script>\n"
)
HEAD = f'<!doctype html>\n<html lang="nl">\n<head>\n<meta charset="utf-8"><title>De Linde</title>\n{SNIPPET}</head>\n'
BODY = (
    "<body>\n<h1>Basisschool De Linde</h1>\n<p>Één café &amp; één tuin: alles is open.</p>\n"
    '<iframe width="560" height="315" src="https://www.youtube.com/embed/dQw4w9WgXcQ" title="Rondleiding"></iframe>\n'
    '<img height="1" width="1" alt="" src="https://www.facebook.com/tr?id=1&amp;ev=PageView&amp;noscript=1">\n'
    '<script>document.write("</body>")</script>\n'
)
END = "</body>\n</html>\n"
HOME = HEAD + BODY + END
PIECES = [HOME[at : at + 101] for at in range(0, len(HOME), 101)]
FRAGMENT = '<div id="film"><iframe src="https://www.youtube.com/embed/x"></iframe></div>'
EVENTS = ["data: een\n\n", "data: <script src=https://www.googletagmanager.com/gtag/js></script>\n\n"]
TRACKER_COOKIE = "_ga"
OWN_COOKIE = "voorkeur"
MISSING = HEAD + "<body><h1>Niet gevonden</h1>" + END
BROKEN = HEAD + "<body><h1>Er ging iets mis</h1>" + END


def form(token: str = "") -> str:
    """A form that posts to its own page; `token` is the host's own hidden field against forgery."""
    return (
        f'{HEAD}<body><form method="post" action="/form">{token}<input name="naam"><button>Stuur</button></form>{END}'
    )


async def stream() -> AsyncIterator[str]:
    """The page in pieces, as it becomes ready."""
    for piece in PIECES:
        yield piece
        await asyncio.sleep(0)


def stream_sync() -> Iterator[str]:
    """The same for a host that streams from a thread."""
    yield from PIECES


async def events() -> AsyncIterator[str]:
    """Server-sent events."""
    for event in EVENTS:
        yield event
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Host:
    """One app, bare, and the ways in which its framework takes a middleware.

    `ways` give the app behind the kit. What a host can't do is said here: `websocket`, `ranges` (206), `conditional`
    (304 for its static pages). `outside` names the ways in which the framework's own last error page stays outside.
    """

    app: Any
    ways: dict[str, Callable[[Any], Any]]
    websocket: bool = True
    ranges: bool = True
    conditional: bool = True
    outside: frozenset[str] = field(default_factory=frozenset)


def write_static(folder: Path) -> None:
    """The files that every host serves under /static/."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pagina.html").write_text(HOME, encoding="utf-8")
    (folder / "groot.html").write_text(HEAD + "<p>x</p>\n" * 30_000 + BODY + END, encoding="utf-8")
    (folder / "foto.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
