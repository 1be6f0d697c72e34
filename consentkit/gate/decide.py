"""The decisions: what a tag, a cookie or a URL needs, and the markup that goes out without consent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from consentkit.gate import scanner, vectors
from consentkit.gate.memo import Bodies, Memo
from consentkit.gate.registry import Registry
from consentkit.gate.rewrite import STRUCTURAL, Rewriter
from consentkit.gate.scanner import Attribute, attributes
from consentkit.gate.urls import Target, opaque_text, plain_host, target
from consentkit.gate.vectors import UNANSWERABLE, Context, Hold, Needs, Seen, Sight, Slot, Tag
from consentkit.service import NECESSARY, Service

_MEMO_BYTES: Final = 2 * 1024 * 1024
_PAGES_BYTES: Final = 16 * 1024 * 1024
_CONTEXTS: Final = 16
_DEEPEST_SRCDOC: Final = 4
_OURS: Final = b"data-consentkit-"


class Gate:
    """What the site's services may do on a page, for given purposes. Built once per site.

    Args:
        services: all known services, the catalogue's and the site's own.
        configured: the ids of those the site names. One that is known but not configured never opens.
        categories: the purpose ids that the words of `data-consent` may name.
        own_hosts: the site's own host names; they and their subdomains are never a third party.
        strict: whether an unknown third party is held back too.
    """

    def __init__(
        self,
        services: Iterable[Service],
        *,
        configured: Collection[str],
        categories: Collection[str],
        own_hosts: Collection[str] = (),
        strict: bool = False,
    ) -> None:
        self._registry = Registry(services)
        self._configured = frozenset(configured)
        self._categories = frozenset(categories)
        self._own_hosts = frozenset(map(plain_host, own_hosts))
        self._strict = strict
        self._needs = {service.id: self._needs_of(service) for service in self._registry.services.values()}
        self._everything = frozenset().union(*self._needs.values())
        self._tags: dict[Context, Memo[Tag]] = {}
        self._codes = Memo[tuple[Service, ...]](_MEMO_BYTES)
        self._pages = Bodies[list[bytes | Slot]](_PAGES_BYTES)

    def _needs_of(self, service: Service) -> Needs:
        if service.category == NECESSARY:
            return frozenset()
        if service.id not in self._configured:
            return frozenset({UNANSWERABLE})
        return frozenset({service.purpose_id})

    # -- what others ask

    def service_of_url(self, url: str) -> Service | None:
        """The known service that this absolute URL loads from."""
        return self._registry.of_url(url)

    def cookie(self, name: str) -> Service | None:
        """The known service that registers a cookie of this name."""
        return self._registry.of_cookie(name)

    def needs(self, service: Service) -> Needs:
        """The purposes that must be granted before this service may load; holds "-" if it never may."""
        found = self._needs.get(service.id)
        return self._needs_of(service) if found is None else found

    def allows(self, service: Service, granted: Collection[str]) -> bool:
        """Whether this service may load for a visitor who granted these purposes."""
        return self.needs(service) <= frozenset(granted) - {UNANSWERABLE}

    def holds_back(self, url: str, granted: Collection[str]) -> bool:
        """Whether a fetch of `url` that a response header asks for is to be held back."""
        place = target(url)
        if place is None:
            return False
        service = self._registry.of_target(place)
        if service:
            return not self.allows(service, granted)
        return self._strict and not self._own(place.host)

    def rewriter(
        self, granted: frozenset[str], fill: Callable[[Slot], bytes], *, document: bool | None, look: bool = True
    ) -> Rewriter:
        """A rewriter for one response.

        Args:
            granted: the purposes this visitor granted.
            fill: gives the bytes for a place of ours; ASCII, may be empty.
            document: True for a whole page, False for a fragment or a framed page (nothing is put in), None to see
                from how it begins.
            look: whether to keep in `seen` what was recognised and where.
        """
        return Rewriter(self, granted, fill, document=document, look=look)

    def rewrite(
        self,
        body: bytes,
        granted: frozenset[str],
        fill: Callable[[Slot], bytes],
        *,
        document: bool | None,
        on_seen: Callable[[Sequence[Seen]], None] | None = None,
    ) -> bytes:
        """A whole body at once. Bodies that come again byte for byte are remembered; the places are filled afresh.

        Args:
            on_seen: told what was seen, the first time that this body passes.
        """
        variant = (granted, document)
        parts = self._pages.get(body, variant)
        if parts is None:
            rewriter = Rewriter(self, granted, fill, document=document, look=on_seen is not None)
            parts = rewriter.parts(body)
            if self._pages.repeats(body, variant):
                parts = _merged(parts)
                size = len(body) + sum(len(part) for part in parts if isinstance(part, bytes))
                self._pages.put(body, variant, parts, size=size)
            elif on_seen is not None:
                on_seen(rewriter.seen)
        return b"".join([part if isinstance(part, bytes) else fill(part) for part in parts])

    # -- what the rewriter asks

    def _own(self, host: str) -> bool:
        while host:
            if host in self._own_hosts:
                return True
            host = host.partition(".")[2]
        return False

    def services_in(self, code: bytes, *, markup: bool = True) -> tuple[Service, ...]:
        """The services that an inline script gives away, remembered. In `markup` character references may hide them."""
        found = self._codes.get(code) if not markup else None
        if found is None:
            found = tuple(self._registry.of_code(code, markup=markup))
            self._codes.put(code, found, size=len(code) + 100)
        return found

    def suspicious(self, url: str) -> Target | None:
        """Where a `<base href>` leads, if relative URLs would then load from a party that may be held back."""
        place = target(url)
        if place is None or not (self._registry.of_target(place) or (self._strict and not self._own(place.host))):
            return None
        return place

    def denies(self, granted: Needs) -> bool:
        """Whether anything at all could be held back from a visitor who granted this."""
        return self._strict or not self._everything <= granted

    def tags(self, context: Context) -> Memo[Tag]:
        """What was decided before in this context, by the tag's bytes."""
        memo = self._tags.get(context)
        if memo is None:
            if len(self._tags) >= _CONTEXTS:
                self._tags.clear()
            memo = self._tags[context] = Memo(_MEMO_BYTES)
        return memo

    def together(self, words: Iterable[str], services: Collection[Service]) -> Needs:
        """The purposes that the words of `data-consent` and the recognised services ask for together."""
        needs: set[str] = set()
        embeds = set()
        for service in services:
            needs |= self.needs(service)
            if service.embed:
                embeds.add(service.category)
        for word in words:
            if word == NECESSARY or word in embeds:
                continue
            needs.add(word if word in self._categories else UNANSWERABLE)
        return frozenset(needs)

    def tag(self, raw: bytes, context: Context, memo: Memo[Tag]) -> Tag:
        """What this start tag means in this context, remembered by its bytes."""
        found = memo.get(raw)
        if found is None:
            found = self._read(raw, context)
            memo.put(raw, found, size=2 * len(raw) + 400)
        return found

    def _read(self, raw: bytes, context: Context) -> Tag:
        every = attributes(raw)
        first: dict[str, str] = {}
        for item in every:
            first.setdefault(item.name, item.value)
        name = scanner.name_of(raw)
        settings = (
            first.get("data-consentkit") == "settings"
            and name == "a"
            and first.get("href", "#")[:1] not in ("", "#")
            and "hidden" not in first
        )
        runs = name == "script" and vectors.runs(first)
        code = runs and ("src" not in first or context.foreign)
        found = _Found(marked="data-consent" in first or "data-consent-service" in first)
        loads = runs if name == "script" else not vectors.moved(name, context).isdisjoint(first)
        if loads:
            for url in vectors.urls(name, first, foreign=context.foreign):
                self._look(name, url, context, found)
            if found.marked:
                self._mark(first, found)
            if name == "iframe" and "srcdoc" in first:
                self._look_inside(first["srcdoc"], context, found)
        services = tuple(found.services.values())
        needs = (self.together(found.words, services) | found.extra) if loads else frozenset()
        return Tag(
            name,
            scanner.self_closing(raw),
            frozenset(first),
            needs=needs or None,
            held=self.held(raw, name, needs, every, context=context, services=services) if needs and not code else (),
            sights=tuple(found.sights),
            code=code,
            words=found.words,
            services=services,
            extra=frozenset(found.extra),
            settings=settings,
            base=first.get("href") if name == "base" else None,
            lang=first.get("lang", "").strip().lower() or None if name == "html" else None,
            plain=not (needs or found.sights or settings or name in STRUCTURAL),
        )

    def _mark(self, first: Mapping[str, str], found: _Found) -> None:
        """What the page's author says: `data-consent` and `data-consent-service`."""
        found.words = tuple(first.get("data-consent", "").replace(",", " ").lower().split())
        named = first.get("data-consent-service")
        if named is not None:
            service = self._registry.services.get(named.strip().lower())
            if service is None:
                found.extra.add(UNANSWERABLE)
            else:
                found.services[service.id] = service

    def _look(self, name: str, url: str, context: Context, found: _Found) -> None:
        for base in context.bases or (None,):
            place = target(url, base)
            if place is None:
                if inside := opaque_text(url):
                    for service in self.services_in(inside.encode()):
                        found.services[service.id] = service
                        found.sights[(name, "", service.id)] = None
                continue
            known = self._registry.of_target(place)
            if known:
                found.services[known.id] = known
                found.sights[(name, place.host, known.id)] = None
            elif not self._own(place.host):
                found.sights[(name, place.host, None)] = None
                if self._strict and not found.marked:
                    found.extra.add(UNANSWERABLE)

    def _look_inside(self, srcdoc: str, context: Context, found: _Found) -> None:
        """Scan a frame's `srcdoc` as the page that it is: what it would need, the frame needs."""
        if context.depth >= _DEEPEST_SRCDOC:
            found.extra.add(UNANSWERABLE)
            return
        deeper = context._replace(depth=context.depth + 1)
        inner = Rewriter(self, frozenset(), lambda slot: b"", document=False, context=deeper)
        inner.parts(srcdoc.encode())
        found.extra |= inner.wanted
        for seen in inner.seen:
            found.sights[(seen.tag, seen.host, seen.service_id)] = None
            if seen.service_id is not None:
                found.services[seen.service_id] = self._registry.services[seen.service_id]

    def held(
        self,
        raw: bytes,
        name: str,
        needs: Needs,
        every: list[Attribute],
        *,
        context: Context,
        services: tuple[Service, ...] = (),
    ) -> tuple[bytes | Hold, ...]:
        """The start tag as it goes out without consent; in a frame with a place for what stands in for it."""
        at = scanner.name_end(raw)
        front: tuple[bytes | Hold, ...] = ()
        out = [raw[:at], b' data-consentkit-needs="', escape(" ".join(sorted(needs))).encode(), b'"']
        if name == "script":
            out.insert(1, b' type="text/plain"')
        elif name == "iframe":
            service = services[0] if services else None
            front = (b"".join([*out, b' srcdoc="']), Hold(service, needs))
            out = [b'"']
            if service is not None and not any(item.name == "title" for item in every):
                out += [b' title="', escape(service.title).encode("ascii", "xmlcharrefreplace"), b'"']
        moved = vectors.moved(name, context)
        for item in every:
            if item.name in moved:
                out += [raw[at : item.at], _OURS]
                at = item.at
        return (*front, b"".join([*out, raw[at:]]))


@dataclass(slots=True)
class _Found:
    """What the reading of one tag brought up."""

    marked: bool
    words: tuple[str, ...] = ()
    services: dict[str, Service] = field(default_factory=dict)
    sights: dict[Sight, None] = field(default_factory=dict)
    extra: set[str] = field(default_factory=set)


def _merged(parts: Iterable[bytes | Slot]) -> list[bytes | Slot]:
    merged: list[bytes | Slot] = []
    run: list[bytes] = []
    for part in parts:
        if isinstance(part, Slot):
            merged += [b"".join(run), part]
            run = []
        else:
            run.append(part)
    return [*merged, b"".join(run)]
