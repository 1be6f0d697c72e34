"""What a page gets of ours: rendered once at the start, cut at the few places that differ per request.

A page view fills those places by joining bytes; no template runs, nothing is looked up.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

from consentkit.choice import State, Status
from consentkit.gate import UNANSWERABLE, Hold, Slot
from consentkit.render import Renderer
from consentkit.web.flow import View

_SENTINEL = re.compile(rb"@@([A-Z]+)@@")
Values = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rendered HTML with places to fill: literal bytes and the name of the value that follows each."""

    parts: tuple[tuple[bytes, bytes], ...]
    last: bytes

    @classmethod
    def cut(cls, rendered: str) -> Piece:
        """Cut at the `@@NAME@@` marks.

        Raises:
            UnicodeEncodeError: the HTML is not ASCII and would break on pages in another encoding.
        """
        pieces = _SENTINEL.split(rendered.encode("ascii"))
        return cls(tuple(zip(pieces[:-1:2], pieces[1::2], strict=True)), pieces[-1])

    def fill(self, values: Values) -> bytes:
        """The HTML with its places filled."""
        return b"".join([part for literal, name in self.parts for part in (literal, values[name])]) + self.last


def safe_next(path: str) -> str | None:
    """`path` when it is a path on this origin, else None: `//host`, `\\host` and control characters go elsewhere."""
    if not path.startswith("/") or path[1:2] in ("/", "\\") or "\\" in path or len(path) > 2048:
        return None
    return path if path.isprintable() and " " not in path else None


class Inserts:
    """Fills the slots of one site's pages.

    Args:
        renderer: makes the HTML, once. languages: of the site, the default first.
        notice_token: a fresh signed token for the notice in a language (private mode).
        script_deletes: whether a visitor who granted this needs the script, because a granted service keeps
            something that only a script can delete.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        languages: tuple[str, ...],
        shared: bool,
        notice_token: Callable[[str], str],
        script_deletes: Callable[[frozenset[str]], bool],
    ) -> None:
        self._renderer = renderer
        self._languages = languages
        self._shared = shared
        self._notice_token = notice_token
        self._script_deletes = script_deletes
        self._frames: dict[tuple[str, bool, str], Piece] = {}
        self._head = {banner: Piece.cut(renderer.head(banner=banner)) for banner in (False, True)}
        self._banner = {lang: Piece.cut(renderer.banner(lang)) for lang in languages}
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

        def fill(slot: Slot) -> bytes:
            lang = self.language(slot.lang)
            piece = self._piece(slot, lang, view.state)
            return piece.fill(self._values(view, slot, lang)) if piece else b""

        return fill

    def _placeholder(self, hold: Hold | None, lang: str) -> Piece | None:
        """What stands in for a frame that is held back, escaped for its `srcdoc`; made when first met."""
        if hold is None or hold.service is None:
            return None
        key = (hold.service.id, UNANSWERABLE not in hold.needs, lang)
        found = self._frames.get(key)
        if found is None:
            document = self._renderer.placeholder(lang, hold.service, key[1])
            found = self._frames[key] = Piece.cut(html.escape(document))
        return found

    def _piece(self, slot: Slot, lang: str, state: State) -> Piece | None:
        asks = self._shared or state.asks
        match slot.kind:
            case "frame":
                return self._placeholder(slot.hold, lang)
            case "head":
                return self._head[asks] if asks or self._script_deletes(state.granted) else None
            case "banner":
                return self._banner[lang] if asks else None
            case _:
                active = state.status is Status.GIVEN and not self._shared
                sent = None if self._shared else state.signal
                return self._footer[lang, active, asks, slot.own_settings, sent]

    def _values(self, view: View, slot: Slot, lang: str) -> Values:
        root = html.escape(f"//{view.host}{view.root_path}" if slot.based else view.root_path)
        nonce = f' nonce="{html.escape(view.nonce)}"' if view.nonce else ""
        here = html.escape(safe_next(view.path) or "/")
        if slot.kind == "frame":  # a document within an attribute is escaped once more
            root, nonce, here = html.escape(root), html.escape(nonce), html.escape(here)
        return {
            b"ROOT": root.encode("ascii", "xmlcharrefreplace"),
            b"TOKEN": b"" if self._shared or slot.kind == "head" else self._notice_token(lang).encode("ascii"),
            b"NEXT": here.encode("ascii", "xmlcharrefreplace"),
            b"NONCE": nonce.encode("ascii", "xmlcharrefreplace"),
            b"WAKE": view.wake.encode("ascii"),
        }
