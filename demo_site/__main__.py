"""`python -m demo_site`, `make demo`, `consentkit demo`: serve the school and everything it talks to."""

from __future__ import annotations

import argparse
import asyncio
import errno
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from demo_site.site import build

if TYPE_CHECKING:
    from starlette.types import ASGIApp

WELCOME = """
  Basisschool De Linde, {how}

    http://127.0.0.1:{port}                 the site, with the trackers its templates came with
    http://127.0.0.1:{port}/teller          what reached the trackers, before and after each choice
{more}
  The hosts that play Google Analytics, Meta, YouTube and Google Maps run on port {next}, on this machine:
  everything here can be seen with the network cut. Ctrl-C stops it.
"""
GUARDED = """
  Try
    1  walk around, or choose Weigeren: /teller stays at 0. JavaScript off makes no difference.
    2  choose Accepteren: the trackers run, without a reload. /film and /contact offer a single video or map.
    3  "Toestemming intrekken" at the foot of a page: the cookies are gone, the trackers stand still.
    4  see also /archief (broken HTML), /resultaten (a streamed page), /nieuws (fetched pieces), /en (English),
       /storing (a 500), /privacy/cookies (the statement), /privacy/settings, /privacy/receipt

  The evidence, in a second terminal
    {consentkit} --config demo_site/consentkit.toml records verify
    {consentkit} --config demo_site/consentkit.toml records export
"""
BARE = """
  Compare /teller with what the site sends behind consentkit.
"""


class _Server(uvicorn.Server):
    """One of two servers in a loop: the signals are for both, so neither takes them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(port: int = 8000, *, bare: bool = False) -> int:
    """Serve until Ctrl-C.

    Args:
        port: of the site; the stand-in hosts take the next one.
        bare: serve the site without consentkit.

    Returns:
        The exit code: 0, or 2 when a port can't be had.
    """
    try:
        sockets = [_listen(port), _listen(port + 1)]
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "is taken" if taken else f"can't be had ({error})"
        print(
            f"The demo needs the ports {port} and {port + 1} of this machine, and one of them {why}.\n"
            f"Choose another: make demo PORT={port + 1000 if port < 60000 else 8000}",
            file=sys.stderr,
        )
        return 2
    with closing(sockets[0]), closing(sockets[1]):
        apps = build(port=port, bare=bare)
        command = "consentkit" if sys.prefix == sys.base_prefix else f"{_near(sys.prefix)}/bin/consentkit"
        more = BARE if bare else GUARDED.format(consentkit=command)
        how = "without consentkit" if bare else "behind consentkit"
        print(WELCOME.format(how=how, port=port, next=port + 1, more=more), flush=True)
        asyncio.run(_serve(apps, sockets))
    print("\n  Stopped.")
    return 0


async def _serve(apps: tuple[ASGIApp, ...], sockets: list[socket.socket]) -> None:
    servers = [
        _Server(uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=1)) for app in apps
    ]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await asyncio.gather(*(server.serve([own]) for server, own in zip(servers, sockets, strict=True)))


def _listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=128)


def _near(path: str) -> str:
    """A path as one would type it here."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m demo_site", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="the site's port; the stand-in hosts take the next")
    parser.add_argument("--bare", action="store_true", help="leave consentkit out, to see what it holds back")
    options = parser.parse_args()
    sys.exit(main(options.port, bare=options.bare))
