"""The middleware, end to end: what a page view costs, beside the app alone and beside compressing the page.

    python -m benchmarks.middleware

In process an app is driven with a `send` that does nothing, so that only app and middleware are timed. Through
uvicorn every variant runs in one server process, which tells its own CPU time, so that the load generator and the
neighbours on the machine don't count. All variants take turns within each round; figures are medians of the rounds.
"""

from __future__ import annotations

import asyncio
import gc
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from starlette.middleware.gzip import GZipMiddleware

from consentkit import ConsentKit, Settings
from consentkit.web.consent import Consent
from consentkit.web.middleware import ConsentMiddleware

Row = tuple[str, float, str, bool | None]
App = Callable[[Any, Any, Any], Awaitable[None]]

ROUNDS = 5
IN_PROCESS = 150
CONNECTIONS = 8
PER_ROUND = 200
FIRST_BYTES = 30
PAUSE = 0.02

_LETTERS, _WORDS = "aeiounrstdlgkmvpbhz", random.Random(4)
_VOCABULARY = ["".join(_WORDS.choices(_LETTERS, k=_WORDS.randint(2, 9))) for _ in range(700)]


def _words(number: int) -> str:
    return " ".join(_WORDS.choices(_VOCABULARY, k=number))


_ITEMS = "".join(
    f'<li class="nieuws"><a href="/nieuws/{_words(1)}-{n}">'
    f'<img src="/media/{_WORDS.randbytes(6).hex()}.jpg" alt="{_words(2)}"><span>{_words(3)}</span></a>'
    f"<p>{_words(6)} <em>{_words(1)}</em> {_words(4)}.</p></li>\n"
    for n in range(85)
)
PAGE = (
    '<!doctype html>\n<html lang="nl"><head><meta charset="utf-8"><title>De Linde</title>\n'
    '<script async src="https://www.googletagmanager.com/gtag/js?id=G-1"></script>\n'
    "<script>window.dataLayer=window.dataLayer||[];function gtag(){dataLayer.push(arguments)}gtag('js',new Date());"
    f"gtag('config','G-1')</script>\n</head><body><h1>Basisschool De Linde</h1><ul>\n{_ITEMS}"
    '</ul><iframe src="https://www.youtube.com/embed/x" width="560" height="315" title="Film"></iframe>\n'
    '<img height="1" width="1" alt="" src="https://www.facebook.com/tr?id=1&amp;ev=PageView&amp;noscript=1">\n'
    "</body></html>\n"
)
PLAIN = PAGE.replace("https://www.googletagmanager.com", "").replace("gtag", "tg").replace("dataLayer", "dl")
PLAIN = PLAIN.replace("https://www.youtube.com/embed", "/film").replace("https://www.facebook.com", "")
BROWSER = [
    (b"host", b"delinde.test"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"nl,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"sec-fetch-dest", b"document"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-site", b"same-origin"),
]
SCRIPT = [*BROWSER[:2], (b"accept", b"*/*"), *BROWSER[3:5], (b"sec-fetch-dest", b"empty")]


def page(html: str, *, unique: bool = False, type: bytes = b"text/html; charset=utf-8") -> App:
    """An app that answers with a page, encoded anew for each request as a template engine does."""
    number = count()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (f"<!-- {next(number)} -->{html}" if unique else html).encode()
        headers = [(b"content-type", type), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def streamed(scope: Any, receive: Any, send: Any) -> None:
    """A page of which the first half is ready at once and the rest a little later."""
    body = PAGE.encode()
    headers = [(b"content-type", b"text/html; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[:4096], "more_body": True})
    await asyncio.sleep(PAUSE)
    await send({"type": "http.response.body", "body": body[4096:]})


class Through:
    """A middleware that does nothing but be there."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def passing(message: Any) -> None:
            await send(message)

        await self.app(scope, receive, passing)


def make_kit(folder: Path) -> ConsentKit:
    """The real kit, on a database that no page view ever asks."""
    settings = Settings.model_validate(
        {
            "site": {
                "name": "De Linde",
                "base_url": "http://delinde.test",
                "privacy_statement": "/privacyverklaring",
                "controller": {"name": "De Linde", "address": "Lindelaan 1, Utrecht", "email": "p@delinde.test"},
            },
            "services": {"google-analytics": {}, "youtube": {}, "meta-pixel": {}},
            "database": {"url": f"sqlite:///{folder / 'bench.db'}"},
            # the server process has to know the cookie that this one signs
            "secret_keys": ["k8Jq2vX0Zr5Tn1Lw7Yb3Pd6Gc9Sf4HmA"],
        }
    )
    return ConsentKit(settings)


def variants(kit: ConsentKit) -> dict[str, App]:
    """Every app that is measured, by the path under which the server has it."""
    json = '{"ok": true, "items": [' + ", ".join(map(str, range(200))) + "]}"
    return {
        "bare": page(PAGE),
        "bare-unique": page(PAGE, unique=True),
        "noop": Through(page(PAGE)),
        "gzip5": GZipMiddleware(page(PAGE), compresslevel=5),
        "first": ConsentMiddleware(page(PAGE, unique=True), kit=kit),
        "again": ConsentMiddleware(page(PAGE), kit=kit),
        "again-decided": ConsentMiddleware(page(PAGE), kit=kit),
        "plain": page(PLAIN),
        "decided": ConsentMiddleware(page(PLAIN), kit=kit),
        "json": page(json, type=b"application/json"),
        "json-gate": ConsentMiddleware(page(json, type=b"application/json"), kit=kit),
        "stream": streamed,
        "stream-gate": ConsentMiddleware(streamed, kit=kit),
    }


def refusal(kit: ConsentKit) -> bytes:
    """The cookies of a visitor who decided: the choice, and what an app keeps itself."""
    from consentkit.choice import Choice

    flow = kit.sites[0].flow
    answered = {purpose.fingerprint: False for purpose in flow.policy.purposes}
    value = flow.choices.write(Choice(kit.today(), True, answered, None))
    return f"sessionid=q8w7e6r5t4y3u2i1o0; {flow.cookie}={value}; csrftoken=a1b2c3d4e5f6".encode()


# In process


async def drive(app: App, path: str, headers: list[tuple[bytes, bytes]], times: int) -> float:
    """CPU µs of one request."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        pass

    scopes = [
        {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": list(headers),
        }
        for _ in range(times)
    ]
    began = time.process_time_ns()
    for scope in scopes:
        await app(scope, receive, send)
    return (time.process_time_ns() - began) / 1000 / times


def in_process(kit: ConsentKit) -> dict[str, float]:
    """CPU µs a request, per variant."""
    apps = variants(kit)
    names = [name for name in apps if not name.startswith("stream")]
    cookie = (b"cookie", refusal(kit))
    samples: dict[str, list[float]] = {name: [] for name in names}

    async def measure() -> None:
        for round_ in range(ROUNDS + 1):
            for name in names:
                headers = SCRIPT if name.startswith("json") else BROWSER
                headers = (
                    [*headers, cookie]
                    if name in ("plain", "decided", "again-decided", "json", "json-gate")
                    else headers
                )
                gc.collect()
                taken = await drive(apps[name], f"/{name}", headers, IN_PROCESS)
                if round_:
                    samples[name].append(taken)

    asyncio.run(measure())
    return {name: median(values) for name, values in samples.items()}


def cookie_work(kit: ConsentKit) -> float:
    """µs to know the state of a visitor whose cookies were seen before; the header is new bytes each time."""
    flow, cookie = kit.sites[0].flow, refusal(kit)
    raws = [[*BROWSER, (b"cookie", bytes(bytearray(cookie)))] for _ in range(5000)]
    best = []
    for _ in range(5):
        began = time.process_time_ns()
        for raw in raws:
            Consent(flow, dict(raw), raw, kit.today).visitor  # noqa: B018
        best.append((time.process_time_ns() - began) / 1000 / len(raws))
    return median(best)


# Through uvicorn


def serve(descriptor: int, folder: Path) -> None:
    """The server process: every variant under a path of its own, and its CPU time under /cpu."""
    import uvicorn

    kit = make_kit(folder)
    apps = variants(kit)

    async def router(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        name = scope["path"][1:]
        if name == "cpu":
            await page(str(time.process_time_ns()), type=b"text/plain")(scope, receive, send)
        else:
            await apps[name](scope, receive, send)

    config = uvicorn.Config(router, lifespan="off", log_level="error", access_log=False, http="h11", loop="asyncio")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


class Client:
    """A few kept connections, each with one request under way."""

    def __init__(self, port: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
        for each in self._sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    @staticmethod
    def _request(path: str, headers: list[tuple[bytes, bytes]]) -> bytes:
        lines = [b"GET /%b HTTP/1.1" % path.encode(), *(b"%b: %b" % header for header in headers), b"", b""]
        return b"\r\n".join(lines)

    @staticmethod
    def _read(connection: socket.socket) -> tuple[bytes, float]:
        """One whole response, and when the first byte of its body came."""
        data = connection.recv(65536)
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while not body:
            body = connection.recv(65536)
        first = time.perf_counter()
        if b"content-length" in fields:
            parts, missing = [body], int(fields[b"content-length"]) - len(body)
            while missing > 0:
                parts.append(connection.recv(65536))
                missing -= len(parts[-1])
            return b"".join(parts), first
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(65536)
        return body, first

    def many(self, path: str, headers: list[tuple[bytes, bytes]], times: int) -> float:
        """Requests per second over all connections."""
        request = self._request(path, headers)
        began = time.perf_counter()
        for connection in self._sockets:
            connection.sendall(request)
        left = times - len(self._sockets)
        done = 0
        while done < times:
            for connection in self._sockets:
                if done >= times:
                    break
                self._read(connection)
                done += 1
                if left > 0:
                    connection.sendall(request)
                    left -= 1
        return times / (time.perf_counter() - began)

    def cpu(self) -> float:
        """CPU µs that the server used so far."""
        connection = self._sockets[0]
        connection.sendall(self._request("cpu", BROWSER))
        return int(self._read(connection)[0]) / 1000

    def first_byte(self, path: str) -> float:
        """Seconds from connecting until the first byte of the body."""
        began = time.perf_counter()
        with socket.create_connection(self._sockets[0].getpeername()) as connection:
            connection.sendall(self._request(path, BROWSER))
            return self._read(connection)[1] - began


def through_server(kit: ConsentKit, folder: Path) -> tuple[dict[str, float], dict[str, float], float]:
    """Requests per second and CPU µs a request per variant, and how much later a streamed page begins."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    listening.set_inheritable(True)
    command = [sys.executable, "-m", "benchmarks.middleware", "--serve", str(listening.fileno()), str(folder)]
    process = subprocess.Popen(command, pass_fds=[listening.fileno()], cwd=Path(__file__).parent.parent)
    port = listening.getsockname()[1]
    listening.close()
    names = [name for name in variants(kit) if not name.startswith("stream")]
    rates: dict[str, list[float]] = {name: [] for name in names}
    costs: dict[str, list[float]] = {name: [] for name in names}
    firsts: dict[str, list[float]] = {"stream": [], "stream-gate": []}
    client = Client(port)
    try:
        cookie = (b"cookie", refusal(kit))
        for round_ in range(ROUNDS + 1):
            for name in names if round_ % 2 else reversed(names):
                headers = SCRIPT if name.startswith("json") else BROWSER
                headers = (
                    [*headers, cookie]
                    if name in ("plain", "decided", "again-decided", "json", "json-gate")
                    else headers
                )
                before = client.cpu()
                rate = client.many(name, headers, PER_ROUND)
                cost = (client.cpu() - before) / PER_ROUND
                if round_:
                    rates[name].append(rate)
                    costs[name].append(cost)
        for _ in range(FIRST_BYTES):
            for name, seen in firsts.items():
                seen.append(client.first_byte(name))
    finally:
        client.close()
        process.kill()
        process.wait(10)
    later = median(firsts["stream-gate"]) / median(firsts["stream"])
    return {n: median(v) for n, v in rates.items()}, {n: median(v) for n, v in costs.items()}, later


def main() -> list[Row]:
    """Measure; each row is what, the figure, the goal, and whether it is met (`None`: for information)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kit = make_kit(folder)
        cpu = in_process(kit)
        cookies = cookie_work(kit)
        rates, costs, first_byte = through_server(kit, folder)
        kit.close()
    gzip = cpu["gzip5"] - cpu["bare"]
    first, again = (cpu["first"] - cpu["bare-unique"]) / gzip, (cpu["again"] - cpu["bare"]) / gzip
    decided, json = costs["decided"] / costs["plain"], costs["json-gate"] / costs["json"]
    fast, faster = rates["first"] / rates["bare-unique"], rates["again"] / rates["bare"]
    starts = len(re.findall("<[a-z]", PAGE))
    print(f"# a page of {len(PAGE.encode()) / 1000:.1f} KB with {starts} start tags; uvicorn with h11 and asyncio")
    print("# a visitor who is asked: with banner and a fresh notice token, unless the row says decided")
    rows: list[Row] = [
        ("(gate - bare) / (GZip level 5 - bare), first sight of a page", first, "<= 0.8", first <= 0.8),
        ("(gate - bare) / (GZip level 5 - bare), pages repeating", again, "<= 0.15", again <= 0.15),
        ("requests/s / bare, first sight of a page", fast, ">= 0.25", fast >= 0.25),
        ("requests/s / bare, pages repeating", faster, ">= 0.6", faster >= 0.6),
        ("visitor decided and nothing to gate, CPU / bare", decided, "<= 1.10", decided <= 1.10),
        ("JSON, CPU / bare", json, "<= 1.03", json <= 1.03),
        ("first byte of a streamed page / bare", first_byte, "<= 1.5", first_byte <= 1.5),
        ("a page view's cookie work, warm (µs)", cookies, "<= 3", cookies <= 3),
    ]
    rows += [(f"CPU µs over bare, in process: {name}", cpu[name] - cpu[bare], "", None) for name, bare in OVER]
    rows.append(("CPU µs a request through uvicorn: bare", costs["bare"], "", None))
    rows += [(f"CPU µs over bare, through uvicorn: {name}", costs[name] - costs[bare], "", None) for name, bare in OVER]
    return rows


OVER = (
    ("noop", "bare"),
    ("gzip5", "bare"),
    ("first", "bare-unique"),
    ("again", "bare"),
    ("again-decided", "plain"),
    ("decided", "plain"),
    ("json-gate", "json"),
)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        for what, figure, goal, ok in main():
            print(f"{what:70} {figure:9.3f}  {goal:8} {'' if ok is None else 'ok' if ok else 'short'}")
