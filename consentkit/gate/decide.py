"""The decisions: what a tag, a cookie or a URL needs, and the markup that goes out without consent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from consentkit.gate import css, scanner, vectors
from consentkit.gate.dialects import LOADERS, Dialects, Mark
from consentkit.gate.memo import Bodies, Memo
from consentkit.gate.registry import Registry
from consentkit.gate.rewrite import STRUCTURAL, Rewriter
from consentkit.gate.scanner import Attribute, attributes
from consentkit.gate.urls import Target, opaque_text, parents, plain_host, target
from consentkit.gate.vectors import OFF, UNANSWERABLE, Context, Hold, Needs, Seen, Sight, Slot, Tag
from consentkit.service import NECESSARY, Service

_MEMO_BYTES: Final = 2 * 1024 * 1024
_PAGES_BYTES: Final = 16 * 1024 * 1024
_CONTEXTS: Final = 16
_DEEPEST_SRCDOC: Final = 4
_OURS: Final = b"data-consentkit-"
_UNKNOWN: Final = "unknown"
_PLAYER: Final = re.compile(rb"(?<=//)(?:www\.|m\.)?youtube\.com(?=/embed/)", re.IGNORECASE)


class Gate:
    """What the site's services may do on a page, for given purposes. Built once per site.

    Args:
        services: all known services, the catalogue's and the site's own.
        configured: the ids of those the site names. One that is known but not configured never opens.
        categories: the purpose ids that the words of `data-consent` may name.
        own_hosts: the site's own host names; they and their subdomains are never a third party.
        strict: whether an unknown third party is held back too.
        dialects: how to read the marks of other consent tools; None reads none of them.
        remove_old_tool: whether another consent tool's own script is never let through.
        unasked: ids of services whose tags load without being asked for; what they store still needs consent.
    """

    def __init__(
        self,
        services: Iterable[Service],
        *,
        configured: Collection[str],
        categories: Collection[str],
        own_hosts: Collection[str] = (),
        strict: bool = False,
        dialects: Dialects | None = None,
        remove_old_tool: bool = False,
        unasked: Collection[str] = (),
    ) -> None:
        self._registry = Registry(services)
        self._configured = frozenset(configured)
        self._categories = frozenset(categories)
        self._own_hosts = frozenset(map(plain_host, own_hosts))
        self._strict = strict
        self._dialects = dialects
        self._remove_old_tool = remove_old_tool
        self._unasked = frozenset(unasked)
        self._needs = {service.id: self._needs_of(service) for service in self._registry.services.values()}
        self._nocookie = any(service.nocookie for service in self._registry.services.values())
        self._everything = frozenset().union(*self._needs.values())
        self._places = {
            name: service
            for service in self._registry.services.values()
            if service.id in self._configured
            for name in service.places
        }
        self.places = re.compile("|".join(map(re.escape, self._places)).encode()).search if self._places else None
        """Finds where a page may have an element that a script of a service fills; None where no service does so."""
        self._tags: dict[Context, Memo[Tag]] = {}
        self._codes = Memo[tuple[Service, ...]](_MEMO_BYTES)
        self._sheets = Memo[tuple[tuple[Sight, Needs], ...]](_MEMO_BYTES)
        self._pages = Bodies[list[bytes | Slot]](_PAGES_BYTES)

    def _needs_of(self, service: Service) -> Needs:
        if service.category == NECESSARY or service.id in self._unasked:
            return frozenset()
        if service.id not in self._configured:
            return frozenset({UNANSWERABLE})
        return frozenset({service.purpose_id})

    # -- what others ask

    def service_of_url(self, url: str) -> Service | None:
        """The known service that this absolute URL loads from."""
        return self._registry.of_url(url)

    def service(self, id: str) -> Service:
        """The known service of this id."""
        return self._registry.services[id]

    def cookie(self, name: str) -> Service | None:
        """The known service that registers a cookie of this name; one that the site names goes before the others."""
        return self._registry.of_cookie(name, self._configured)

    def needs(self, service: Service) -> Needs:
        """The purposes that must be granted before this service may load; holds "-" if it never may."""
        found = self._needs.get(service.id)
        return self._needs_of(service) if found is None else found

    def allows(self, service: Service, granted: Collection[str]) -> bool:
        """Whether this service may load for a visitor who granted these purposes."""
        return self.needs(service) <= frozenset(granted) - {UNANSWERABLE}

    def stores(self, service: Service, granted: Collection[str]) -> bool:
        """Whether this service may keep something on the device of a visitor who granted these purposes."""
        if service.id in self._unasked and service.purpose_id not in granted:
            return False
        return self.allows(service, granted)

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
        return not self._own_hosts.isdisjoint(parents(host))

    def services_in(self, code: bytes, *, markup: bool = True) -> tuple[Service, ...]:
        """The services that an inline script gives away, remembered. In `markup` character references may hide them."""
        if markup:
            return tuple(self._registry.of_code(code))
        found = self._codes.get(code)
        if found is None:
            found = tuple(self._registry.of_code(code, markup=False))
            self._codes.put(code, found, size=len(code) + 100)
        return found

    def rules_in(self, text: bytes) -> tuple[tuple[Service, ...], Needs, tuple[Sight, ...]]:
        """What an import map or speculation rules lead to: services, what else is needed, and what was seen."""
        found = _Found(marked=False)
        for service in self.services_in(text, markup=True):
            found.services[service.id] = service
        try:
            rules = json.loads(scanner.text(text))
        except ValueError:
            rules = None  # no browser heeds it either
        except RecursionError:
            found.extra.add(UNANSWERABLE)
            rules = None
        for url in _strings(rules):
            self._look("script", url, Context(), found)
        if not vectors.stays(rules):
            found.extra |= {UNANSWERABLE} & self._everything or self._everything
        return tuple(found.services.values()), frozenset(found.extra), tuple(found.sights)

    def imports_in(self, code: bytes) -> tuple[Needs, tuple[Sight, ...]]:
        """What a script imports by name from third parties that aren't known, where those are held back."""
        found = _Found(marked=False)
        for url in vectors.imported(scanner.text(code)) if self._strict else ():
            self._look("script", url, Context(), found)
        return frozenset(found.extra), tuple(found.sights)

    def sheet(self, text: bytes, context: Context, *, foreign: bool) -> tuple[tuple[Sight, Needs], ...]:
        """What a style sheet in the page loads from others: what was seen, and what each needs. Remembered."""
        if not vectors.leaves(scanner.text(text), context):
            return ()
        known = self._sheets.get(text) if not (context.bases or foreign) else None
        if known is None:
            urls = css.anywhere if foreign else css.urls
            loads = [self.load(url, "style", context) for url in urls(scanner.text(text))]
            known = tuple(one for one in loads if one)
            if not (context.bases or foreign):
                self._sheets.put(text, known, size=len(text) + 200 * len(known) + 100)
        return known

    def load(self, url: str, name: str, context: Context) -> tuple[Sight, Needs] | None:
        """What it takes to load this URL for an element called `name`; None where it is the site's own affair."""
        found = _Found(marked=False)
        self._look(name, url, context, found)
        if not found.sights:
            return None
        return next(iter(found.sights)), self.together((), found.services.values()) | found.extra

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
        name = scanner.name_of(raw)
        opened, every, first, found = self._open(raw, name)
        settings = (
            first.get("data-consentkit") == "settings"
            and name == "a"
            and first.get("href", "#")[:1] not in ("", "#")
            and "hidden" not in first
        )
        script = name == "script"
        runs = script and vectors.runs(first)
        code = (runs and ("src" not in first or context.foreign)) or (script and vectors.rules(first))
        sheet = name == "style" and vectors.applies(first)
        loads = runs or code if script else sheet or not vectors.moved(name, context).isdisjoint(first)
        if "style" in first or context.foreign or name == "svg":
            loads = self._look_at_style(name, first, context, found) or loads
        handlers = vectors.handlers(first)
        for key, handler in handlers.items():
            for service in self._registry.of_code(handler.encode(), markup=False):
                found.services[service.id] = service
                found.sights[Sight(name, "", service.id)] = None
                found.moved.add(key)
                loads = True
        if found.mark is not None and found.mark.parked and not loads:
            found.mark = None
        if loads:
            for url in vectors.urls(name, first, foreign=context.foreign):
                self._look(name, url, context, found)
            if found.marked:
                self._mark(first, found)
            if self._remove_old_tool and self._dialects and self._dialects.loader(name, first):
                found.extra.add(UNANSWERABLE)
            if name == "iframe" and "srcdoc" in first:
                self._look_inside(first["srcdoc"], context, found)
        services = tuple(found.services.values())
        needs = (self.together(found.words, services) | found.extra) if loads else frozenset()
        if loads and UNANSWERABLE in found.words:
            found.sights[Sight(name, "", None, _UNKNOWN)] = None
        place = self._place(first) if self._places else None
        policy = first.get("content") if name == "meta" and vectors.sets_policy(first) else None
        rare = bool(settings or place or policy or found.dialect)
        acts = runs or bool(handlers) or vectors.acts(first)
        return Tag(
            name,
            scanner.self_closing(raw),
            frozenset(first),
            needs=needs or None,
            held=(
                self.held(opened, name, needs, every, context=context, services=services, also=found.moved)
                if needs and not (code or sheet)
                else ()
            ),
            sights=tuple(found.sights),
            code=code,
            css=sheet,
            runs=runs,
            acts=acts,
            moved=frozenset(found.moved),
            opened=opened if opened is not raw else None,
            place=place,
            policy=policy,
            marked=found.dialect,
            rare=rare,
            words=found.words,
            services=services,
            extra=frozenset(found.extra),
            settings=settings,
            base=first.get("href") if name == "base" else None,
            lang=first.get("lang", "").strip().lower() or None if name == "html" else None,
            plain=not (needs or found.sights or rare or acts or opened is not raw or name in STRUCTURAL),
        )

    def _place(self, first: Mapping[str, str]) -> Service | None:
        return next(filter(None, map(self._places.get, first.get("class", "").split())), None)

    def _look_at_style(self, name: str, first: Mapping[str, str], context: Context, found: _Found) -> bool:
        for key, urls in vectors.style_urls(name, first, context).items():
            for url in urls:
                self._look(name, url, context, found)
            if found.services or found.extra:
                found.moved.add(key)
        return bool(found.moved)

    def _open(self, raw: bytes, name: str) -> tuple[bytes, list[Attribute], dict[str, str], _Found]:
        """The tag as it would leave with consent: unparked, and asked for from where less is kept."""
        every, first = _attributes(raw)
        opened = raw
        if _OURS in raw.lower():
            # What only we may say: it would be put back as if the page's author had written it.
            opened = b"".join(_disowned(raw, every))
            every, first = _attributes(opened)
        found = _Found(marked="data-consent" in first or "data-consent-service" in first)
        if self._dialects and (mark := self._dialects.read(name, first)):
            said = not mark.ignored or bool(mark.words or mark.services)
            found.mark, found.marked, found.dialect = mark, found.marked or said, True
            opened = self._dialects.open(opened, name, every, mark)
            if opened is not raw:
                every, first = _attributes(opened)
        elif self._dialects and (off := self._dialects.off(name, first)):
            found.sights[Sight(name, "", None, off + OFF)] = None
        if name == "iframe" and self._nocookie and "youtube" in first.get("src", ""):
            rewritten = _PLAYER.sub(b"www.youtube-nocookie.com", opened)
            if rewritten != opened:
                opened = rewritten
                every, first = _attributes(opened)
        return opened, every, first, found

    def _mark(self, first: Mapping[str, str], found: _Found) -> None:
        """What the page's author says: `data-consent` and `data-consent-service`, or the marks of another tool."""
        found.words = tuple(first.get("data-consent", "").replace(",", " ").lower().split())
        if not found.words and "data-consent" in first:
            found.words = (UNANSWERABLE,)  # a word was meant
        if found.mark is not None:
            for id in found.mark.services:
                self._mark_service(id, found)
            found.words += self._said(found.mark, found.services.values())
        named = first.get("data-consent-service")
        if named is not None:
            self._mark_service(named.strip().lower(), found)

    def _said(self, mark: Mark, services: Collection[Service]) -> tuple[str, ...]:
        """The words of another tool that count beside the services that are known.

        An embed is a choice of its own, whatever category another tool had it in; and what the site asks for by name
        waits for no category that it never asks for.
        """
        if not services or not {service.id for service in services} <= self._configured:
            return mark.words
        if mark.silent:
            return ()
        if any(service.embed for service in services):
            return tuple(word for word in mark.words if word == UNANSWERABLE)
        return tuple(word for word in mark.words if word == UNANSWERABLE or word in self._categories)

    def _mark_service(self, id: str, found: _Found) -> None:
        service = self._registry.services.get(id)
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
                        found.sights[Sight(name, "", service.id)] = None
                continue
            known = self._registry.of_target(place)
            if known:
                found.services[known.id] = known
                found.sights[Sight(name, place.host, known.id)] = None
                if place.host in LOADERS and self._dialects:
                    found.dialect = True
                    if self._remove_old_tool:
                        found.extra.add(UNANSWERABLE)
            elif not self._own(place.host):
                found.sights[Sight(name, place.host, None)] = None
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
            found.sights[Sight(seen.tag, seen.host, seen.service_id, seen.parked)] = None
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
        also: Collection[str] = (),
    ) -> tuple[bytes | Hold, ...]:
        """The start tag as it goes out without consent; in a frame with a place for what stands in for it."""
        at = scanner.name_end(raw)
        front: tuple[bytes | Hold, ...] = ()
        out = [raw[:at], b' data-consentkit-needs="', escape(" ".join(sorted(needs))).encode(), b'"']
        if name in ("script", "style"):
            out.insert(1, b' type="text/plain"')
        elif name == "iframe":
            service = services[0] if services else None
            front = (b"".join([*out, b' srcdoc="']), Hold(service, needs))
            out = [b'"']
            if service is not None and not any(item.name == "title" for item in every):
                out += [b' title="', escape(service.title).encode("ascii", "xmlcharrefreplace"), b'"']
        moved = vectors.moved(name, context).union(also) if also else vectors.moved(name, context)
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
    moved: set[str] = field(default_factory=set)
    """Attributes that load besides those that always do."""
    mark: Mark | None = None
    dialect: bool = False


def _attributes(raw: bytes) -> tuple[list[Attribute], dict[str, str]]:
    every = attributes(raw)
    first: dict[str, str] = {}
    for item in every:
        first.setdefault(item.name, item.value)
    return every, first


def _disowned(raw: bytes, every: Iterable[Attribute]) -> Iterator[bytes]:
    """The tag with those attributes under other names that only we put in."""
    at = 0
    for item in every:
        if item.name.startswith(_OURS.decode()):
            yield raw[at : item.at] + b"data-not-"
            at = item.at
    yield raw[at:]


def _strings(value: object) -> Iterator[str]:
    """All texts within a JSON value, keys too, for a key of an import map may be a URL."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one


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
