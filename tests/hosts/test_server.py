"""The same over a socket: a real server, a client that speaks plain HTTP/1.1."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from consentkit import ConsentKit
from tests.hosts import content
from tests.hosts.test_hosts import SETTINGS_LINK, load
from tests.web.minikit import leaks

pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")  # Django, of its own serve

PAGE = {"Host": "delinde.test", "Accept": "text/html", "Accept-Encoding": "gzip", "Sec-Fetch-Dest": "document"}


@pytest.fixture(scope="module", params=["starlette", "quart", "flask", "django"])
def port(request: pytest.FixtureRequest, static: Path, kit: ConsentKit) -> Iterator[int]:
    host = load(request.param, static)
    app = host.ways["wrap_wsgi" if request.param == "flask" else "wrap"](kit)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    yield made
    made.close()


def ask(
    connection: http.client.HTTPConnection, url: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request(method, url, headers={**PAGE, **{key.replace("_", "-"): text for key, text in headers.items()}})
    response = connection.getresponse()
    return response, response.read()


def test_one_connection_serves_pages_of_every_framing_one_after_another(
    connection: http.client.HTTPConnection,
) -> None:
    connection.connect()
    kept = connection.sock
    for url in ("/", "/stream", "/json", "/static/pagina.html", "/missing", "/privacy/settings", "/fragment", "/"):
        response, body = ask(connection, url)
        assert response.status == (404 if url == "/missing" else 200)
        assert leaks(body) == []
        if url in ("/", "/stream", "/missing"):
            assert body.endswith(content.END.encode())
            assert SETTINGS_LINK in body
            assert (response.getheader("transfer-encoding") == "chunked") == (
                response.getheader("content-length") is None
            )
    assert connection.sock is kept


def test_head_leaves_the_connection_in_step(connection: http.client.HTTPConnection) -> None:
    for _ in range(3):
        response, body = ask(connection, "/", "HEAD")
        assert (response.status, body) == (200, b"")
        assert response.getheader("vary", "").lower().count("cookie") in (0, 1)
        assert ask(connection, "/")[1].endswith(content.END.encode())


def test_a_range_of_a_file_is_served_and_one_of_a_page_keeps_to_the_host(
    connection: http.client.HTTPConnection, static: Path
) -> None:
    whole = (static / "foto.png").read_bytes()
    response, body = ask(connection, "/static/foto.png", Accept="image/*", Range="bytes=5-14", Sec_Fetch_Dest="image")
    assert (response.status, body) in ((206, whole[5:15]), (200, whole))
    response, body = ask(connection, "/static/pagina.html")
    assert response.getheader("accept-ranges") is None
    assert leaks(body) == []


def test_a_visitor_who_leaves_in_the_middle_harms_nobody(port: int, connection: http.client.HTTPConnection) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as gone:
            gone.sendall(b"GET /static/groot.html HTTP/1.1\r\nHost: delinde.test\r\nAccept: text/html\r\n\r\n")
            gone.recv(100)
    assert ask(connection, "/")[0].status == 200
