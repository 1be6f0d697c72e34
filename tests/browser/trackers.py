"""Stand-ins for the trackers' own hosts: one TLS server on loopback that answers for all of them and counts.

Chromium resolves every other name to it, so that a page may carry the vendors' real snippets with their real
hosts, and whatever would have left for the world arrives here. Connections count too: a preconnect sends nothing.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme

GTAG = """
// As the real one reads it: `arguments` objects in their order, and those that come later too.
(() => {
  const consent = {};
  let ready;
  const digit = signal => (consent[signal] == "denied" ? 0 : 1);
  const hit = () => {
    if (digit("analytics_storage")) {
      document.cookie = "_ga=GA1.1.1.1; path=/; domain=.school.test; max-age=63072000";
      document.cookie = "_ga_DELINDE=GS1.1.1; path=/; domain=.school.test; max-age=63072000";
    }
    const gcs = `G1${digit("ad_storage")}${digit("analytics_storage")}`;
    navigator.sendBeacon(`https://www.google-analytics.com/g/collect?v=2&tid=G-DELINDE&gcs=${gcs}`);
  };
  const read = entry => {
    if (Object.prototype.toString.call(entry) != "[object Arguments]") return;
    const [verb, what, values] = entry;
    if (verb == "consent") Object.assign(consent, values);
    if (verb == "config" || (verb == "consent" && what == "update" && ready)) {
      ready = true;
      hit();
    }
  };
  const layer = window.dataLayer = window.dataLayer || [];
  layer.forEach(read);
  const push = layer.push;
  layer.push = (...entries) => {
    entries.forEach(read);
    return push.apply(layer, entries);
  };
  setTimeout(() => ready || hit(), 50);
  window.gtagRan = (window.gtagRan || 0) + 1;
})();
"""
FBEVENTS = """
document.cookie = "_fbp=fb.1.1.1; path=/; max-age=7776000";
localStorage.setItem("lastExternalReferrer", "empty");
new Image().src = "https://www.facebook.com/tr?id=1&ev=PageView";
"""
BODIES = {
    "/gtag/js": ("text/javascript", GTAG),
    "/en_US/fbevents.js": ("text/javascript", FBEVENTS),
    "/css2": ("text/css", "@font-face { font-family: Test; src: url(https://fonts.gstatic.com/s/test.woff2) }"),
    "/embed/abc": ("text/html", "<!doctype html><title>video</title><h1>video</h1>"),
}


@dataclass
class Trackers:
    """What arrived: the requests as host and path, how many connections were opened, and when something last came."""

    port: int
    requests: list[str] = field(default_factory=list)
    connections: int = 0
    last: float = 0.0

    def clear(self) -> None:
        """Begin to count anew."""
        self.requests.clear()
        self.connections = 0

    @property
    def hosts(self) -> set[str]:
        """The hosts that were asked for something."""
        return {request.partition("/")[0] for request in self.requests}


@contextmanager
def trackers() -> Iterator[Trackers]:
    """Run the stand-ins while the block runs."""
    seen = Trackers(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.requests.append(self.headers.get("Host", "?") + self.path)
            seen.last = time.monotonic()
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            path = self.path.partition("?")[0]
            otherwise = ("text/javascript" if path.endswith(".js") else "image/gif", "")
            media_type, body = BODIES.get(path, otherwise)
            data = body.encode()
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Set-Cookie", "third=1; Secure; SameSite=None; Max-Age=1000")
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> Any:
            found = super().get_request()
            seen.connections += 1
            seen.last = time.monotonic()
            return found

        def handle_error(self, *_: Any) -> None:
            """A browser that hangs up in the middle is nothing to report."""

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    seen.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
