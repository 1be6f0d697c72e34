"""Stand-ins for the trackers' own hosts: one server on loopback that answers for the whole world, and counts.

It speaks TLS and plain HTTP on one port, and is a proxy too, for browsers that can't be told where a host lives.
Whatever a page asks of a real tracker's name arrives here and nowhere else. Connections count: a preconnect sends
nothing, and yet tells the tracker of the visit.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import trustme

SITE = "www.school.test"
"""The host of the pages; every other one is the world."""

GIF = bytes.fromhex("47494638396101000100800000ffffff00000021f90400000000002c00000000010001000002024401003b")
_BROWSERS_OWN = (".mozilla.com", ".mozilla.org", ".mozilla.net", "update.googleapis.com", "accounts.google.com")
"""What browsers ask for themselves, whatever the page."""

_TYPES = {
    "script": "text/javascript",
    "worker": "text/javascript",
    "style": "text/css",
    "image": "image/gif",
    "iframe": "text/html",
    "frame": "text/html",
    "document": "text/html",
    "track": "text/vtt",
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request: its host, and its path with the query."""

    host: str
    path: str

    @property
    def url(self) -> str:
        return self.host + self.path


@dataclass
class World:
    """What arrived since the last `clear`. `port` is where everything leads; `site` is the port of the pages."""

    port: int = 0
    site: int = 0
    requests: list[Arrival] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    last: float = 0.0
    lines: set[socket.socket] = field(default_factory=set)

    def clear(self) -> None:
        """Begin to count anew. What is still open is shut, or a connection made ahead would not be made again."""
        for line in list(self.lines):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        time.sleep(0.05)
        self.requests.clear()
        self.connections.clear()

    def quiet(self) -> float:
        """Seconds since something arrived."""
        return time.monotonic() - self.last


@dataclass(frozen=True, slots=True)
class Certificates:
    """For the stand-ins (any name will do: browsers are told not to look) and for the site."""

    context: ssl.SSLContext
    site_files: tuple[str, str]


class _Line:
    """One connection of a browser."""

    def __init__(self, world: World, context: ssl.SSLContext, raw: socket.socket) -> None:
        self.world = world
        self.context = context
        self.stream: socket.socket = raw
        self.host = ""
        raw.settimeout(30)

    def run(self) -> None:
        self.world.lines.add(self.stream)
        with suppress(OSError, ValueError):
            if self._tls() or not self._proxied():
                self._serve()
        self.world.lines.discard(self.stream)
        with suppress(OSError):
            self.stream.close()

    def _tls(self) -> bool:
        """Speak TLS when the other side begins to; the name it asks for is the host."""
        if self.stream.recv(1, socket.MSG_PEEK) != b"\x16":
            return False
        raw, self.stream = (
            self.stream,
            self.context.wrap_socket(self.stream, server_side=True, do_handshake_on_connect=False),
        )
        self.world.lines.discard(raw)
        self.world.lines.add(self.stream)
        try:
            self.stream.do_handshake()
        finally:
            self._note(getattr(self.stream, "asked", "") or self.host or "?")
        return True

    def _note(self, host: str) -> None:
        self.host = host
        if not host.endswith(_BROWSERS_OWN):
            self.world.connections.append(host.rstrip(".").lower())
            self.world.last = time.monotonic()

    def _proxied(self) -> bool:
        """Be a tunnel for CONNECT: to the site, or to ourselves."""
        if not self.stream.recv(8, socket.MSG_PEEK).startswith(b"CONNECT "):
            return False
        target = _head(self.stream)[0].split()[1]
        self.stream.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        host = target.rpartition(":")[0]
        if host == SITE:
            with socket.create_connection(("127.0.0.1", self.world.site)) as there:
                _pump(self.stream, there)
            return True
        self.host = host
        if not self._tls():
            self._note(host)
        self._serve()
        return True

    def _serve(self) -> None:
        """Answer requests until the browser hangs up."""
        while True:
            lines = _head(self.stream)
            if not lines:
                return
            method, path, _ = lines[0].split(" ", 2)
            headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
            _body(self.stream, int(headers.get("content-length", 0)), chunked="transfer-encoding" in headers)
            host = headers.get("host", self.host)
            if path.startswith("http://"):
                host, path = urlsplit(path).netloc, path.partition("//")[2].partition("/")[2].join(("/", ""))
            if not host.endswith(_BROWSERS_OWN):
                self.world.requests.append(Arrival(host, path))
                self.world.last = time.monotonic()
            kind, body = _answer(path, headers.get("sec-fetch-dest", ""), headers.get("accept", ""))
            allow = headers.get("origin", "*")
            more = "\r\nAccess-Control-Allow-Headers: *" if method == "OPTIONS" else ""
            self.stream.sendall(
                f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                f"Access-Control-Allow-Origin: {allow}\r\nAccess-Control-Allow-Credentials: true{more}\r\n"
                "Cache-Control: no-store\r\n"
                "Set-Cookie: third=1; Secure; SameSite=None; Max-Age=1000\r\n\r\n".encode()
                + (b"" if method == "HEAD" else body)
            )


def _head(stream: socket.socket) -> list[str]:
    """The lines of a request's head; nothing when the other side is gone."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        one = stream.recv(1)
        if not one:
            return []
        data += one
    return data.decode("latin-1").rstrip().split("\r\n")


def _body(stream: socket.socket, length: int, *, chunked: bool) -> None:
    if chunked:
        raise ValueError("no browser sends that")
    while length > 0:
        got = stream.recv(min(length, 65536))
        if not got:
            return
        length -= len(got)


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side is done."""
    while True:
        for ready in select.select([one, other], [], [], 60)[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)


def _answer(path: str, dest: str, accept: str) -> tuple[str, bytes]:
    """Something a browser can use in the place it asked for: a script that keeps things, a picture, a page."""
    query = parse_qs(urlsplit(path).query)
    kind = _TYPES.get(dest) or ("text/css" if accept.startswith("text/css") else "text/plain")
    if kind == "text/plain" and urlsplit(path).path.endswith(("/js", ".js")):
        kind = "text/javascript"
    if kind == "image/gif":
        return kind, GIF
    if kind == "text/html":
        return kind, b"<!doctype html><title>elsewhere</title><p>elsewhere</p>"
    if kind == "text/vtt":
        return kind, b"WEBVTT\n"
    if kind != "text/javascript":
        return kind, b""
    script = ""
    for name in query.get("cookie", ()):
        script += f"document.cookie = {json.dumps(f'{name}=1; path=/; max-age=63072000')};\n"
    for name in query.get("storage", ()):
        script += f"localStorage.setItem({json.dumps(name)}, '1');\n"
    return kind, script.encode()


@contextmanager
def world(folder: str) -> Iterator[tuple[World, Certificates]]:
    """The stand-ins, while the block runs; `folder` is where the site's certificate is kept."""
    seen = World()
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("*.example", "localhost").configure_cert(context)

    def named(stream: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        stream.asked = name or ""  # type: ignore[attr-defined]

    context.sni_callback = named
    own = authority.issue_cert(SITE)
    files = (f"{folder}/site.key", f"{folder}/site.pem")
    own.private_key_pem.write_to_path(files[0])
    for number, part in enumerate(own.cert_chain_pems):
        part.write_to_path(files[1], append=number > 0)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    seen.port = listener.getsockname()[1]

    def accept() -> None:
        with suppress(OSError):
            while True:
                raw, _ = listener.accept()
                threading.Thread(target=_Line(seen, context, raw).run, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield seen, Certificates(context, files)
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
