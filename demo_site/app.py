"""The school's site as any web agency could have built it: Starlette, templates, trackers. No word of consentkit."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from demo_site import content
from demo_site.outside import STAND_INS, Ledger

if TYPE_CHECKING:
    from starlette.requests import Request

HERE = Path(__file__).parent
PAUSE = "<!-- even wachten -->"
PAUSE_SECONDS = 0.6
NEWS_AT_ONCE = 3


def school(*, elsewhere: int, ledger: Ledger, newsletter_form: Callable[..., str] | None = None) -> Starlette:
    """The site.

    Args:
        elsewhere: the port of the hosts that play Google Analytics and the others.
        ledger: what those hosts counted, for the page that shows it.
        newsletter_form: for the templates: the sign-up form of a list, as HTML. None: there are no newsletters.
    """
    templates = Jinja2Templates(HERE / "templates")
    templates.env.globals["elsewhere"] = elsewhere
    templates.env.globals["newsletter_form"] = newsletter_form
    templates.env.trim_blocks = templates.env.lstrip_blocks = True

    def page(name: str, *, status: int = 200, **values: object):  # type: ignore[no-untyped-def]
        async def show(request: Request, error: Exception | None = None) -> Response:
            return templates.TemplateResponse(request, name, values, status_code=status)

        return show

    async def news(request: Request) -> Response:
        start = int(request.query_params.get("vanaf", "0")) if request.query_params.get("vanaf", "0").isdigit() else 0
        items = content.NEWS[start : start + NEWS_AT_ONCE]
        # The button on the home page asks for the next cards alone, as htmx would; without JavaScript it is a link.
        name = "_cards.html" if "hx-request" in request.headers else "news.html"
        return templates.TemplateResponse(request, name, {"items": items, "next": start + len(items), "films": True})

    async def article(request: Request) -> Response:
        item = content.article(request.path_params["slug"])
        if item is None:
            raise HTTPException(404)
        return templates.TemplateResponse(request, "article.html", {"item": item})

    async def contact(request: Request) -> Response:
        if request.method == "POST":
            form = await request.form()
            if not secrets.compare_digest(str(form.get("formulier", "")), request.session.get("form", "-")):
                raise HTTPException(403)
            request.session["thanks"] = True
            return RedirectResponse("/contact#bericht", 303)
        request.session.setdefault("form", secrets.token_urlsafe(16))
        values = {"form": request.session["form"], "thanks": request.session.pop("thanks", False)}
        return templates.TemplateResponse(request, "contact.html", values)

    async def report(request: Request) -> Response:
        whole = templates.get_template("report.html").render(request=request, results=content.RESULTS, pause=PAUSE)

        async def pieces() -> AsyncIterator[str]:
            for number, piece in enumerate(whole.split(PAUSE)):
                await asyncio.sleep(PAUSE_SECONDS if number else 0)
                yield piece

        return StreamingResponse(pieces(), media_type="text/html")

    async def counter(request: Request) -> Response:
        name = "_counts.html" if "hx-request" in request.headers else "counter.html"
        values = {"hosts": STAND_INS, "ledger": ledger, "cookies": sorted(request.cookies)}
        return templates.TemplateResponse(request, name, values, headers={"Cache-Control": "no-store"})

    async def wipe(request: Request) -> Response:
        ledger.reset()
        return RedirectResponse("/teller", 303)

    async def breaks(request: Request) -> Response:
        raise HTTPException(500)

    async def failed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return templates.TemplateResponse(request, "error.html", {"status": status}, status_code=status)

    return Starlette(
        routes=[
            Route("/", page("home.html", items=content.NEWS[:NEWS_AT_ONCE], next=NEWS_AT_ONCE, agenda=content.AGENDA)),
            Route("/over", page("about.html")),
            Route("/ouders", page("parents.html", agenda=content.AGENDA)),
            Route("/nieuws", news),
            Route("/nieuws/{slug}", article),
            Route("/film", page("film.html")),
            Route("/contact", contact, methods=["GET", "POST"]),
            Route("/resultaten", report),
            Route("/archief", page("archive.html")),
            Route("/privacyverklaring", page("privacy.html")),
            Route("/en", page("english.html")),
            Route("/teller", counter),
            Route("/teller/wissen", wipe, methods=["POST"]),
            Route("/storing", breaks),
            Route("/favicon.ico", lambda request: RedirectResponse("/static/leaf.svg", 301)),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        middleware=[
            Middleware(SessionMiddleware, secret_key=secrets.token_hex(), session_cookie="delinde_sessie", max_age=None)
        ],
        exception_handlers={HTTPException: failed, Exception: failed},
    )
