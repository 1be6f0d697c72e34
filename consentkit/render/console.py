"""What the staff read: the pages of the console, in Dutch and English whatever languages the site speaks.

Its words stand in `templates/console/texts/<language>/<area>.toml`, complete in both or refused, and are asked for as
`area.key`. Its stylesheet and script are one file each, with the site's theme in front.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode

from consentkit import assets
from consentkit.errors import ConsentKitError
from consentkit.render.markup import hashed_asset, make_environment, strip_script, strip_style
from consentkit.render.texts import Texts, _flat, load_texts, parity
from consentkit.theme import Theme

LANGUAGES: Final = ("nl", "en")


class ConsoleRenderer:
    """Renders the console of one site.

    Args:
        site: its name. theme: its colours. prefix: of the kit's routes.
    """

    def __init__(self, *, site: str, theme: Theme, prefix: str) -> None:
        self._site = site
        self._prefix = prefix
        self._jinja = make_environment()
        folder = assets.directory("static")
        css = theme.css() + strip_style((folder / "consentkit-console.css").read_text("utf-8"))
        css += strip_style((folder / "consentkit-report.css").read_text("utf-8"))
        self.css = hashed_asset("consentkit-console", "css", css)
        self.js = hashed_asset(
            "consentkit-console", "js", strip_script((folder / "consentkit-console.js").read_text("utf-8"))
        )

    def asset(self, name: str) -> tuple[bytes, str] | None:
        """The bytes and the media type of an asset by its content-hashed name."""
        for (known, body), kind in ((self.css, "text/css; charset=utf-8"), (self.js, "text/javascript; charset=utf-8")):
            if known == name:
                return body, kind
        return None

    def page(self, name: str, lang: str, *, root: str, **context: Any) -> bytes:
        """A page or a piece of one, from `templates/console/<name>.html`.

        Args:
            root: the path that the app is mounted under.
        """
        t = texts(lang)
        here = f"{root}{self._prefix}"
        values: dict[str, Any] = {
            "t": t,
            "site": self._site,
            "root": root,
            "prefix": here,
            "console": f"{here}/console",
            "css": f"{here}/static/{self.css[0]}",
            "js": f"{here}/static/{self.js[0]}",
            "number": lambda value: number(value, lang),
            "percent": lambda share: percent(share, lang),
            "moment": lambda at: moment(at, t),
            "day": lambda at: t.date(at.astimezone().date() if isinstance(at, datetime) else at),
            "query": query,
        }
        return self._jinja.get_template(f"console/{name}.html").render(**values | context).encode()


@cache
def _all_texts() -> Mapping[str, Texts]:
    folder = assets.directory("templates") / "console" / "texts"
    read: dict[str, dict[str, str]] = {}
    for lang in LANGUAGES:
        entries: dict[str, str] = {}
        for path in sorted((folder / lang).glob("*.toml")):
            entries |= dict(_flat(tomllib.loads(path.read_text("utf-8")), f"{path.stem}."))
        read[lang] = entries
    if problems := parity(read):
        raise ConsentKitError("; ".join(problems))
    common = {lang: load_texts(lang) for lang in LANGUAGES}
    return MappingProxyType({lang: _ConsoleTexts(lang, read[lang], common[lang]) for lang in LANGUAGES})


class _ConsoleTexts(Texts):
    """The console's own words, and behind them the site's: reasons, states, dates."""

    def __init__(self, lang: str, own: Mapping[str, str], common: Texts) -> None:
        super().__init__(lang, {**common._entries, **own})


def texts(lang: str) -> Texts:
    """All words of the console in one of its languages.

    Raises:
        ConsentKitError: one language misses a text that the other has.
    """
    return _all_texts()[lang if lang in LANGUAGES else LANGUAGES[0]]


def number(value: int, lang: str) -> str:
    """A count with its thousands apart: 12.345 in Dutch."""
    told = f"{value:,}"
    return told.replace(",", ".") if lang == "nl" else told


def percent(share: float, lang: str) -> str:
    """A share of 0 to 1, in per cent with one decimal."""
    told = f"{share:.1%}"
    return told.replace(".", ",") if lang == "nl" else told


def moment(at: datetime, t: Texts) -> str:
    """A moment in the server's own time: "22 november 2026, 09:30"."""
    local = at.astimezone()
    return f"{t.date(local.date())}, {local:%H:%M}"


def query(path: str, **values: object) -> str:
    """A path with a query, without what is empty."""
    kept = {name: str(value) for name, value in values.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(kept)}" if kept else path


def days_back(today: date, count: int) -> list[date]:
    """The last `count` days up to and including today, the oldest first."""
    return [today - timedelta(days=back) for back in range(count - 1, -1, -1)]


def utc_day(at: datetime) -> date:
    """The day of a moment in UTC, by which everything is counted."""
    return at.astimezone(UTC).date()
