"""A small catalogue, and gates built on it."""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

from html import escape
from typing import Any

from consentkit.gate import Gate, Slot
from consentkit.service import Duration, Item, Service

_TEXT = {"nl": "Iets meten", "en": "Measuring something"}
DENIED: frozenset[str] = frozenset()


def service(name: str, category: str, *hosts: str, inline: tuple[str, ...] = (), **more: Any) -> Service:
    return Service(
        id=name,
        title=name.replace("-", " ").title(),
        provider=f"{name} Inc",
        country="US",
        category=category,
        purpose=_TEXT,
        hosts=hosts,
        inline=inline,
        **more,
    )


def cookie(name: str) -> Item:
    return Item(name, Duration.parse("13 months"), _TEXT)


SERVICES = [
    service(
        "google-analytics",
        "analytics",
        "google-analytics.com",
        "www.googletagmanager.com/gtag",
        inline=("gtag(", "GoogleAnalyticsObject"),
        items=(cookie("_ga"), cookie("_ga_*")),
    ),
    service("google-tag-manager", "marketing", "www.googletagmanager.com", inline=("gtm.start",)),
    service("youtube", "marketing", "youtube.com", "youtube-nocookie.com", embed=True, items=(cookie("VISITOR_INFO1_LIVE"),)),
    service("google-maps", "preferences", "www.google.com/maps", "maps.googleapis.com", embed=True),
    service("meta-pixel", "marketing", "connect.facebook.net", "www.facebook.com/tr", inline=("fbq(",), items=(cookie("_fbp"),)),
    service("hotjar", "analytics", "hotjar.com", inline=("_hjSettings",)),
    service("google-fonts", "preferences", "fonts.googleapis.com", "fonts.gstatic.com"),
    service("unnamed", "marketing", "bad.example", inline=("badTracker(",), items=(cookie("bad"),)),
    service("captcha", "necessary", "captcha.example", items=(cookie("session"),)),
    service("counter", "analytics", "counter.example", exempt={"nl": "Beperkt", "en": "Limited"}, items=(cookie("count"),)),
]  # fmt: skip
EVERYTHING = frozenset({"analytics", "marketing", "preferences", "youtube", "google-maps", "counter"})


def gate(*, configured_too: tuple[str, ...] = (), **options: Any) -> Gate:
    """A gate on which everything is configured but `unnamed`."""
    ids = {one.id for one in SERVICES} - {"unnamed"} | set(configured_too)
    options = {"own_hosts": ("delinde.example",)} | options
    return Gate(SERVICES, configured=ids, categories=EVERYTHING, **options)


def stand_in(slot: Slot) -> bytes:
    """What a frame shows that is held back, escaped for an attribute."""
    assert slot.hold is not None
    name = slot.hold.service.id if slot.hold.service else "-"
    return escape(f'<p lang="{slot.lang}">{name}: {" ".join(sorted(slot.hold.needs))}</p>').encode()


def nothing(slot: Slot) -> bytes:
    return stand_in(slot) if slot.kind == "frame" else b""


def marks(slot: Slot) -> bytes:
    return stand_in(slot) if slot.kind == "frame" else f"[{slot.kind}]".encode()


def through(page: str, *granted: str, document: bool | None = False, on: Gate | None = None) -> str:
    """The page as it leaves the gate, for a visitor who granted these purposes."""
    return (on or gate()).rewrite(page.encode(), frozenset(granted), marks, document=document).decode()
