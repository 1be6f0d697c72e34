"""The site that is visited: one page with all cases that can share it, one for each that can't, and its own files."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from battery.cases import Case
from battery.trackers import GIF

HOME: Final = "/"

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_TYPES = {
    "css": "text/css; charset=utf-8",
    "gif": "image/gif",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mp4": "video/mp4",
    "svg": "image/svg+xml",
}
_FRAME = '<!doctype html><html lang="nl"><title>Folder</title><p>Folder</p></html>'
_PLAIN = {
    "frame.html": _FRAME,
    "plain.css": ".plain { color: #222 }",
    "plain.js": "window.plain = 1;",
    "video.mp4": "",
    "beacon": "",
    "ping": "",
}


def region(name: str, text: str) -> str:
    """A case's markup between the comments that tell where it begins and ends."""
    return f"<!--[{name}]-->{text}<!--[/{name}]-->"


def inside(body: str, name: str) -> str | None:
    """What stands in the region of a case in a delivered page."""
    begin, end = f"<!--[{name}]-->", f"<!--[/{name}]-->"
    if body.count(begin) != 1 or body.count(end) != 1:
        return None
    return body.partition(begin)[2].partition(end)[0]


@dataclass
class Delivered:
    """A page as it left the server."""

    headers: list[tuple[str, str]]
    body: str


@dataclass
class Site:
    """The pages of some cases; `write` gives each case's markup, `file` its files, `tags` what a tool wants in heads.

    `delivered` has the last answer per path; `asked` the paths of its own files that were requested.
    """

    cases: Iterable[Case]
    write: Callable[[Case], str]
    file: Callable[[Case, str, str], str]
    tags: str = ""
    delivered: dict[str, Delivered] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        cases = list(self.cases)
        self.pages: dict[str, str] = {HOME: self._page([])}
        self.extra: dict[str, list[tuple[str, str]]] = {}
        self.of: dict[str, list[Case]] = {}
        for case in cases:
            self.of.setdefault(case.page, []).append(case)
        for path, those in self.of.items():
            self.pages[path] = self.write(those[0]) if those[0].document else self._page(those)
            self.extra[path] = [header for case in those for header in case.headers]
        self.files = dict(_PLAIN)
        for case in cases:
            self.files |= {f"{case.name}.{end}": self.file(case, end, text) for end, text in case.files.items()}

    @property
    def paths(self) -> list[str]:
        """The pages that hold cases."""
        return list(self.of)

    def _page(self, cases: list[Case]) -> str:
        def part(place: str) -> str:
            return "\n".join(region(case.name, self.write(case)) for case in cases if case.place == place)

        title = html.escape(cases[0].what if len(cases) == 1 else "De Linde", quote=False)
        return (
            f'<!doctype html>\n<html lang="nl"><head><meta charset="utf-8"><title>{title}</title>\n'
            '<link rel="icon" href="data:,">\n'
            f"{self.tags}<script>window.site = 1</script>\n{part('head')}\n</head>\n"
            f"<body>\n<h1>De Linde</h1>\n<p>Welkom op school.</p>\n{part('body')}\n"
            "<p>Tot ziens.</p>\n</body></html>\n"
        )

    async def app(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """The site as an ASGI app, before any tool."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        status, headers, body = 200, [], b""
        if path in self.pages:
            headers = [("Content-Type", _TYPES["html"]), *self.extra.get(path, ())]
            body = self.pages[path].encode()
        elif path.startswith("/own/"):
            name = path.removeprefix("/own/")
            query = scope["query_string"].decode()
            self.asked |= {path, f"{path}?{query}"}
            kind = _TYPES.get(name.rpartition(".")[2], "text/plain")
            headers = [("Content-Type", kind), ("Cache-Control", "no-store")]
            body = GIF if name.endswith(".gif") else self.files.get(name, "").encode()
        else:
            status, headers, body = 404, [("Content-Type", "text/plain")], b"not here"
        raw = [(key.lower().encode(), value.encode("latin-1")) for key, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def recorded(self, app: App) -> App:
        """`app`, with what it delivers of the pages kept."""

        async def outer(scope: Message, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["path"] not in self.of:
                await app(scope, receive, send)
                return
            headers: list[tuple[str, str]] = []
            parts: list[bytes] = []

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers.extend(
                        (key.decode("latin-1"), value.decode("latin-1")) for key, value in message["headers"]
                    )
                elif message["type"] == "http.response.body":
                    parts.append(message.get("body", b""))
                await send(message)

            # As it stands, so that it can be read.
            plain = [(key, value) for key, value in scope["headers"] if key != b"accept-encoding"]
            await app({**scope, "headers": plain}, receive, sending)
            self.delivered[scope["path"]] = Delivered(headers, b"".join(parts).decode("utf-8", "replace"))

        return outer
