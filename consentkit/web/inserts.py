"""What a page gets of ours: rendered once at the start, cut at the few places that differ per request.

A page view fills those places by joining bytes; no template runs, nothing is looked up.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from consentkit.choice import State, Status
from consentkit.gate import UNANSWERABLE, Hold, Needs, Slot
from consentkit.render import Renderer
from consentkit.web.flow import View

_SENTINEL = re.compile(rb"@@([A-Z]+)@@")
_MOST_FRAMES = 1024
Values = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rendered HTML with places to fill: `parts` has something to replace at each position that `places` names."""

    parts: tuple[bytes, ...]
    places: tuple[tuple[int, bytes], ...]
    tokens: bool
    states: bool

    @classmethod
    def cut(cls, rendered: str) -> Piece:
        """Cut at the `@@NAME@@` marks.

        Raises:
            UnicodeEncodeError: the HTML is not ASCII and would break on pages in another encoding.
        """
        parts = tuple(_SENTINEL.split(rendered.encode("ascii")))
        places = tuple((at, parts[at]) for at in range(1, len(parts), 2))
        names = {name for _, name in places}
        return cls(parts, places, b"TOKEN" in names, not names.isdisjoint((b"GRANTED", b"DECIDED")))

    def fill(self, values: Values) -> bytes:
        """The HTML with its places filled."""
        parts = list(self.parts)
        for at, name in self.places:
            parts[at] = values[name]
        return b"".join(parts)


def safe_next(path: str) -> str | None:
    """`path` when it is a path on this origin, else None: `//host`, `\\host` and control characters go elsewhere."""
    if not path.startswith("/") or path[1:2] in ("/", "\\") or "\\" in path or len(path) > 2048:
        return None
    return path if path.isprintable() and " " not in path else None


@lru_cache(maxsize=256)
def _values(root: str, path: str, nonce: str | None, wake: str, *, framed: bool) -> Values:
    """What the places get, but for the notice token. A document within an attribute (`framed`) is escaped once more."""
    texts = {b"ROOT": root, b"NEXT": path, b"NONCE": "", b"WAKE": wake}
    values = {name: html.escape(text) for name, text in texts.items()}
    if nonce:
        values[b"NONCE"] = f' nonce="{html.escape(nonce)}"'
    if framed:
        values = {name: html.escape(value) for name, value in values.items()}
    return {name: value.encode("ascii", "xmlcharrefreplace") for name, value in values.items()}


@lru_cache(maxsize=256)
def _standing(granted: frozenset[str], *, decided: bool) -> Values:
    """What the places get that say where a visitor stands."""
    names = html.escape(" ".join(sorted(granted))).encode("ascii", "xmlcharrefreplace")
    return {b"GRANTED": names, b"DECIDED": b" data-decided" if decided else b""}


class Inserts:
    """Fills the slots of one site's pages.

    Args:
        renderer: makes the HTML, once. languages: of the site, the default first.
        notice_token: a fresh signed token for the notice in a language (private mode).
        script_deletes: whether a visitor who granted this needs the script, because a granted service keeps
            something that only a script can delete.
        old: whether answers to an earlier consent tool are taken over.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        languages: tuple[str, ...],
        shared: bool,
        notice_token: Callable[[str], str],
        script_deletes: Callable[[frozenset[str]], bool],
        old: bool = False,
    ) -> None:
        self._renderer = renderer
        self._languages = languages
        self._shared = shared
        self._old = old
        self._notice_token = notice_token
        self._script_deletes = lru_cache(maxsize=256)(script_deletes)
        guards: dict[bool | None, str] = {None: "", **{asks: renderer.guard(asks=asks) for asks in (False, True)}}
        self._early = {asks: Piece.cut(renderer.signals() + guard) for asks, guard in guards.items()}
        self._purposes = frozenset(purpose.id for purpose in renderer.view.policy.purposes)
        self._frames: dict[tuple[str, str | None, Needs, str], Piece] = {}
        self._head = {
            (banner, importing): Piece.cut(renderer.head(banner=banner, importing=importing))
            for banner, importing in product((False, True), repeat=2)
        }
        self._banner = {lang: Piece.cut(renderer.banner(lang)) for lang in languages}
        self._parts: dict[tuple[str, frozenset[str]], Piece] = {}
        kinds = product(languages, (False, True), (False, True), (False, True), (None, "gpc", "dnt"))
        self._footer = {
            (lang, granted, asks, own, signal): Piece.cut(
                renderer.footer(lang, granted=granted, asks=asks, own_settings=own, signal=signal)
            )
            for lang, granted, asks, own, signal in kinds
        }

    def language(self, lang: str | None) -> str:
        """The site's language for a page in `lang`: the same, its main language, or the default (BAN-12)."""
        if lang:
            for wanted in (lang, lang.partition("-")[0]):
                if wanted in self._languages:
                    return wanted
        return self._languages[0]

    def __call__(self, view: View) -> Callable[[Slot], bytes]:
        """The function that fills the slots of one page."""
        state = view.state
        asks = self._shared or state.asks
        path = safe_next(view.path) or "/"

        def fill(slot: Slot) -> bytes:
            if slot.kind == "banner" and not asks:
                return b""
            lang = self.language(slot.lang)
            piece = self._piece(slot, lang, state, asks=asks, scripted=view.importing)
            if piece is None:
                return b""
            root = f"//{view.host}{view.root_path}" if slot.based else view.root_path
            values = _values(root, path, view.nonce, view.wake, framed=slot.kind in ("frame", "place"))
            if piece.tokens:
                token = b"" if self._shared else self._notice_token(lang).encode("ascii")
                values = {**values, b"TOKEN": token}
            if piece.states:
                decided = state.day is not None and state.status is not Status.EXPIRED
                values = {**values, **_standing(state.granted, decided=decided)}
            return piece.fill(values)

        return fill

    def _placeholder(self, kind: str, hold: Hold, lang: str) -> Piece:
        """What stands in for a frame that is held back, escaped for its `srcdoc`, or a whole frame of ours before
        what a script that is held back would have filled; made when first met.
        """
        service, needs = hold.service, hold.needs
        key = (kind, service.id if service else None, needs, lang)
        found = self._frames.get(key)
        if found is None:
            own = service is not None and needs == {service.purpose_id}
            document = self._renderer.placeholder(lang, service, UNANSWERABLE not in needs, own=own)
            if kind == "frame":
                document = html.escape(document)
            elif service is not None:
                document = self._renderer.place(lang, service, needs, document)
            if len(self._frames) >= _MOST_FRAMES:
                self._frames.clear()
            found = self._frames[key] = Piece.cut(document)
        return found

    def _part(self, lang: str, settled: frozenset[str]) -> Piece:
        """The banner without what an earlier consent tool's cookie answered; made when first met."""
        key = (lang, settled)
        found = self._parts.get(key)
        if found is None:
            if len(self._parts) >= _MOST_FRAMES:
                self._parts.clear()
            found = self._parts[key] = Piece.cut(self._renderer.banner(lang, settled=settled))
        return found

    def _piece(self, slot: Slot, lang: str, state: State, *, asks: bool, scripted: bool) -> Piece | None:
        match slot.kind:
            case "frame" | "place":
                return self._placeholder(slot.kind, slot.hold, lang) if slot.hold else None
            case "head":
                if not (asks or scripted or self._script_deletes(state.granted)):
                    return None
                return self._head[asks, scripted or (self._shared and self._old)]
            case "early":
                guarded = self._shared or not self._purposes <= state.granted
                return self._early[asks if guarded else None]
            case "banner":
                return self._part(lang, state.settled) if state.settled and not self._shared else self._banner[lang]
            case _:
                active = state.status is Status.GIVEN and not self._shared
                sent = None if self._shared else state.signal
                return self._footer[lang, active, asks or scripted, slot.own_settings, sent]
