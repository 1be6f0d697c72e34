"""Drives an app as a server does, one message at a time, so that tests see each message that leaves."""

from __future__ import annotations

import asyncio
import gzip
import re
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.web.minikit import DOCUMENT, Answer

HOST = b"delinde.test"
ORIGIN = b"http://delinde.test"
_HIDDEN = re.compile(rb'name="?(notice|csrfmiddlewaretoken)"? value="([^"]+)"')


def scope_of(url: str, method: str, headers: list[tuple[bytes, bytes]], **more: Any) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(b"host", HOST), *headers],
        "client": ("127.0.0.1", 4000),
        "server": ("delinde.test", 80),
        "extensions": {},
        "state": {},
        **more,
    }


async def exchange(app: Any, scope: dict[str, Any], body: bytes = b"") -> Answer:
    """One request. An error that the app raises after it answered (Starlette does) is between app and server."""
    sent: list[dict[str, Any]] = []
    asked = [{"type": "http.request", "body": body, "more_body": False}]
    done = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if asked:
            return asked.pop()
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            done.set()

    try:
        await app(scope, receive, send)
    except RuntimeError as error:
        if not sent or "boom" not in str(error):
            raise
    return Answer(sent, scope)


def plain(answer: Answer) -> bytes:
    """The body as it reads, whether or not it left compressed."""
    return gzip.decompress(answer.body) if answer.header(b"content-encoding") == b"gzip" else answer.body


class Browser:
    """A visitor of one app: keeps cookies, asks for pages as browsers do."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.cookies: dict[str, str] = {}

    def ask(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: list[tuple[bytes, bytes]] | None = None,
        body: bytes = b"",
        page: bool = True,
    ) -> Answer:
        sent = [*(DOCUMENT if page else []), *(headers or [])]
        if self.cookies:
            sent.append((b"cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()).encode()))
        if body:
            sent.append((b"content-length", str(len(body)).encode()))
        answer = asyncio.run(exchange(self.app, scope_of(url, method, sent), body))
        for header in answer.all(b"set-cookie"):
            name, _, value = header.decode().partition(";")[0].partition("=")
            if "max-age=0" in header.decode().lower():
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    def post(self, url: str, fields: list[tuple[str, str]]) -> Answer:
        headers = [
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"origin", ORIGIN),
            (b"referer", ORIGIN + b"/"),
            (b"sec-fetch-site", b"same-origin"),
        ]
        return self.ask(url, method="POST", headers=headers, body=urlencode(fields).encode())

    def hidden(self, url: str, name: str) -> str:
        """The value of a hidden field on a page."""
        found = {key.decode(): value.decode() for key, value in _HIDDEN.findall(plain(self.ask(url)))}
        return found[name]

    def decide(self, decision: str) -> Answer:
        """Answer the question as the buttons do, on the page of its own, which is there in both modes."""
        token = self.hidden("/privacy/settings", "notice")
        return self.post("/privacy/choice", [("decision", decision), ("notice", token), ("next", "/")])

    def decide_again(self, decision: str) -> Answer:
        """Take it back, which needs no question."""
        return self.post("/privacy/choice", [("decision", decision), ("next", "/")])


async def socket_exchange(app: Any, text: str, cookie: bytes = b"") -> list[dict[str, Any]]:
    """Open a WebSocket, say `text`, and give back what the app sent."""
    sent: list[dict[str, Any]] = []
    done = asyncio.Event()
    asked = [{"type": "websocket.receive", "text": text}, {"type": "websocket.connect"}]

    async def receive() -> dict[str, Any]:
        if asked:
            return asked.pop()
        await done.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "websocket.send":
            done.set()

    headers = [(b"cookie", cookie)] if cookie else []
    scope = scope_of("/ws", "GET", headers, type="websocket", scheme="ws", subprotocols=[])
    del scope["method"]
    await app(scope, receive, send)
    return sent
