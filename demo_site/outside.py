"""The rest of the internet, on this machine: hosts that stand in for the trackers and count what reaches them.

One small app answers to four names. What the scripts do in the browser is what the real ones do: set cookies,
send a hit, play a film. Nothing of it leaves the machine, so the count can be shown with the network cut.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Host, Route, Router

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

HERE = Path(__file__).parent / "stand_ins"
MOST_PHASES = 6
FRESH = {"Cache-Control": "no-store"}  # so that every use is a request, and is counted
FILMS = {
    "emmerorkest": "Een orkest van emmers en bezems",
    "archief": "De Linde in 2009",
    "welcome": "Welcome to De Linde",
}
_YEAR = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class StandIn:
    """A host of the demo and whom it plays."""

    host: str
    plays: str
    where: str


STAND_INS = (
    StandIn("analytics.localhost", "Google Analytics", "op elke pagina"),
    StandIn("pixel.localhost", "Meta Pixel", "op de pagina Ouders"),
    StandIn("video.localhost", "YouTube", "op de pagina Film"),
    StandIn("kaart.localhost", "Google Maps", "op de pagina Contact"),
)


class Ledger:
    """How many requests reached each host, told apart by the choices that were made in between."""

    def __init__(self) -> None:
        self.phases: list[Counter[str]] = [Counter()]
        self.recent: list[str] = []

    def hit(self, host: str, path: str) -> None:
        """One request arrived."""
        self.phases[-1][host] += 1
        self.recent = [*self.recent[-9:], f"{host}{path}"]

    def choice(self) -> None:
        """The visitor made a choice: from here on a new column."""
        self.phases = [*self.phases[-MOST_PHASES + 1 :], Counter()]

    def reset(self) -> None:
        """Start counting anew."""
        self.__init__()  # type: ignore[misc]


def outside(ledger: Ledger) -> ASGIApp:
    """The app that all stand-in hosts share; every request is counted before anything else happens."""
    hosts = Starlette(
        routes=[
            Host(
                "analytics.localhost", Router([Route("/gtag/js", gtag), Route("/g/collect", nothing, methods=["POST"])])
            ),
            Host("pixel.localhost", Router([Route("/en_US/fbevents.js", fbevents), Route("/tr", pixel)])),
            Host("video.localhost", Router([Route("/embed/{film}", player)])),
            Host("kaart.localhost", Router([Route("/maps/embed", city_map)])),
        ]
    )

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
            ledger.hit(host.partition(":")[0], scope["path"])
        await hosts(scope, receive, send)

    return counting


def gtag(request: Request) -> Response:
    """A small gtag.js: the two `_ga` cookies for two years, and a hit for the page view."""
    return FileResponse(HERE / "gtag.js", headers=FRESH)


def fbevents(request: Request) -> Response:
    """A small fbevents.js: the `_fbp` cookie, and an image for each event."""
    return FileResponse(HERE / "fbevents.js", headers=FRESH)


def nothing(request: Request) -> Response:
    """Where hits go."""
    return Response(status_code=204)


def pixel(request: Request) -> Response:
    """One transparent dot, and a cookie of the pixel's own."""
    return _third_party(Response(_DOT, media_type="image/gif"), "fr")


def player(request: Request) -> Response:
    """A film that needs no film: a drawing that moves, in a player that keeps an id of the visitor."""
    title = FILMS.get(request.path_params["film"], "Een dag op De Linde")
    page = (HERE / "player.html").read_text("utf-8").replace("TITLE", title)
    return _third_party(HTMLResponse(page), "VISITOR_INFO1_LIVE")


def city_map(request: Request) -> Response:
    """A map of the Lindelaan."""
    return _third_party(FileResponse(HERE / "map.html"), "NID")


def _third_party(response: Response, cookie: str) -> Response:
    response.headers.update(FRESH)
    response.set_cookie(cookie, "demo-5f2c81", max_age=_YEAR, secure=True, httponly=True, samesite="none")
    return response


_DOT = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
