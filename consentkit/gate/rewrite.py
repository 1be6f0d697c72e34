"""The gate over a page: hold back what has no consent, put in what is ours, leave every other byte as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from consentkit.gate import css, scanner, vectors
from consentkit.gate.scanner import Foreign, RawEnd, TagEnd, attributes
from consentkit.gate.vectors import UNANSWERABLE, Context, Hold, Needs, Seen, Sight, Slot, Tag
from consentkit.service import NECESSARY, Service

if TYPE_CHECKING:
    from consentkit.gate.decide import Gate

MAX_HOLD: Final = 1024 * 1024
"""The most bytes of one tag, one inline script or one `<noscript>` that are held while deciding."""

MAX_SEEN: Final = 256
"""The most entries of `Rewriter.seen`."""

_PIECE: Final = 64 * 1024  # longer input is cut, so that nothing longer than MAX_HOLD is ever decided in one go

_HEADISH = scanner.words("html head base basefont bgsound link meta noframes noscript script style template title")
_ENDS_THAT_IMPLY = frozenset({"body", "html", "br"})
_RAW_NAMES = frozenset(scanner.RAW_TEXT.split())
_IN_SELECT = _RAW_NAMES - {"textarea"} | {"noscript", "plaintext", "svg", "math"}
STRUCTURAL = _RAW_NAMES | scanner.words(
    "script noscript plaintext svg math template select frameset col html body base"
)
_HEADS = (scanner.preamble, scanner.head, scanner.late_head, scanner.first_head)
_MOST_BASES = 8

_DATA, _TAG, _LONG, _COMMENT, _BOGUS, _CDATA, _RAW, _PLAIN = range(8)
_STREAM, _CODE, _BOTH, _DROP = range(4)
_HELD = (_CODE, _BOTH)
_HEAD, _BEFORE_BODY, _BODY = range(3)


class Rewriter:
    """One response on its way through the gate. `feed` it in pieces of any size, then `close` it, once.

    The output does not depend on how the input was cut.
    """

    # Where every page begins. They are the class's, for setting them one by one takes longer than a small page.
    _phase = _HEAD
    _fresh = True
    _lang: str | None = None
    _based = False
    _settings = False
    _frames = False
    _early = True  # the place before the first script is still to come
    _marked = False  # a mark of another tool, or of an element that a script fills, came by: look at every tag
    _policies: tuple[str, ...] = ()
    _pairs: frozenset[tuple[bytes, str, Needs]] = frozenset()  # calls that belong to a script which is held back
    _footer = True
    _templates = 0
    _select = 0
    _line = 1
    _counted = 0
    _fed = False
    _flushed = 0  # up to here the buffer has gone out
    _mode = _DATA
    _start = 0  # where the tag began that is being read or held
    _at = 0  # where to go on searching, in a comment, doctype or CDATA section
    _floor = 0  # a "--!>" before this does not end the comment
    _tag_end: TagEnd  # while in a tag
    _tag_name = ""
    _closing = False
    _raw: RawEnd  # while in raw text
    _doing = _STREAM
    _text = 0  # where the text of a held raw text element begins
    _held: tuple[bytes, Tag] | None = None
    _waiting = 0

    def __init__(
        self,
        gate: Gate,
        granted: frozenset[str],
        fill: Callable[[Slot], bytes],
        *,
        document: bool | None,
        context: Context = Context(),  # noqa: B008
        foreign: Foreign | None = None,
        nested: bool = False,
        look: bool = True,
    ) -> None:
        self.seen: list[Seen] = []
        """What was recognised, and what third parties were not; at most MAX_SEEN of them, none without `look`."""
        self.gated = False
        self.wanted: set[str] = set()
        """The needs of everything held back so far."""
        self._gate = gate
        self._granted = (granted | {NECESSARY}) - {UNANSWERABLE}
        self._denies = gate.denies(self._granted)
        self._fill = fill
        self._document = document
        self._nested = nested
        self._look = look
        self._context = context
        self._bases = context.bases
        if nested:
            self._phase = _BODY
            self._fresh = False
        self._foreign = foreign or Foreign()
        self._out: list[bytes | Slot] = []
        self._buffer = bytearray()
        self._memo = gate.tags(context)
        self._places = gate.places
        self._settle()

    # -- bytes in, bytes out

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; gives what can go out already."""
        self._push(data)
        return self._take()

    def close(self) -> bytes:
        """The input is at its end; gives what was still held."""
        self._end()
        return self._take()

    def parts(self, body: bytes) -> list[bytes | Slot]:
        """A whole body: the bytes that go out, with the places of ours between them."""
        self._push(body)
        self._end()
        return self._out

    def _take(self) -> bytes:
        out, self._out = self._out, []
        return b"".join([part if isinstance(part, bytes) else self._fill(part) for part in out])

    def _push(self, data: bytes) -> None:
        for at in range(0, len(data), _PIECE):
            self._run(data[at : at + _PIECE] if at or len(data) > _PIECE else data)

    def _run(self, data: bytes) -> None:
        self._fed = True
        if self._places is not None and not self._marked and self._places(data):
            self._look_closely()
        source: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            source = self._buffer
        keep = self._advance(source)
        self._emit(source, keep)
        if self._look and len(self.seen) < MAX_SEEN:
            self._line += source.count(b"\n", self._counted, keep)
        self._counted = 0
        if source is data:
            self._buffer = bytearray(data[keep:])
        else:
            del self._buffer[:keep]
        self._flushed = 0
        self._start -= keep
        self._text -= keep
        self._at -= keep
        self._floor -= keep
        if self._mode in (_TAG, _LONG):
            self._tag_end.at -= keep
        elif self._mode == _RAW:
            self._raw.at -= keep

    def _emit(self, source: bytes | bytearray, end: int) -> None:
        if end > self._flushed:
            self._out.append(bytes(source[self._flushed : end]))
            self._flushed = end

    def _put_held(self, source: bytes | bytearray, start: int, end: int, held: tuple[bytes | Hold, ...]) -> None:
        for part in held:
            if isinstance(part, Hold):
                self._put(source, end, end, Slot("frame", self._lang, self._based, gated=True, hold=part))
            else:
                self._put(source, start, end, part)
                start = end

    def _put(self, source: bytes | bytearray, start: int, end: int, instead: bytes | Slot) -> None:
        """Let `instead` go out in the place of what stands from `start` to `end`."""
        self._emit(source, start)
        self._out.append(instead)
        self._flushed = end

    # -- one state after another

    def _advance(self, source: bytes | bytearray) -> int:
        """Read as far as possible; gives the position from which the bytes must stay."""
        at = 0
        size = len(source)
        while True:
            mode = self._mode
            if mode == _DATA:
                at = self._data(source, at)
                if self._mode == _DATA:
                    return at
                continue
            if mode == _RAW:
                at, more = self._raw_text(source)
            elif mode == _TAG:
                at, more = self._tag(source)
            elif mode == _COMMENT:
                at, more = self._comment(source)
            elif mode == _BOGUS:
                at, more = self._until(source, b">")
            elif mode == _CDATA:
                at, more = self._until(source, b"]]>")
            elif mode == _LONG:
                at, more = self._long(source)
            else:
                return size
            if not more:
                return at

    def _settle(self) -> None:
        """Choose the expression for the state that the document is in."""
        if self._foreign.stack or self._foreign.unsure or self._bases or (self._marked and self._phase == _BODY):
            self._match = scanner.careful
        elif self._phase == _BODY or self._templates:
            self._match = scanner.first if self._early and self._document else scanner.fast
        elif not self._document:
            self._match = scanner.preamble
        else:
            late = scanner.first_head if self._early else scanner.late_head
            self._match = scanner.head if self._phase == _HEAD else late
        self._watchful = self._phase < _BODY or bool(self._foreign.stack)
        careful = bool(self._foreign.stack) or self._foreign.unsure
        context = self._context
        if context.foreign != careful or context.bases != self._bases:
            self._context = context._replace(foreign=careful, bases=self._bases)
            self._memo = self._gate.tags(self._context)

    def _look_closely(self) -> None:
        self._marked = True
        self._settle()

    def _data(self, source: bytes | bytearray, at: int) -> int:
        if self._fresh:
            at = self._byte_order_mark(source)
            if at < 0:
                return 0
        while self._mode == _DATA:
            found = self._match(source, at)
            at = found.end()
            if found[2] is not None:
                start = found.start(1) - 1
                if found[1]:
                    self._end_tag(source, start, scanner.text(found[2].lower()))
                else:
                    raw = bytes(source[start:at])
                    tag = self._memo.get(raw) or self._gate.tag(raw, self._context, self._memo)
                    if self._watchful or not tag.plain:
                        self._start_tag(source, start, raw, tag)
            elif at >= len(source) or (at := self._stop(source, at)) < 0:
                return self._waiting if at < 0 else at
        return at

    def _byte_order_mark(self, source: bytes | bytearray) -> int:
        mark = b"\xef\xbb\xbf"
        if len(source) < 3 and mark.startswith(source):
            return -1
        self._fresh = False
        return 3 if source.startswith(mark) else 0

    def _stop(self, source: bytes | bytearray, at: int) -> int:
        """Something that is no whole tag stopped the expression at `at`. Gives where to go on, or -1: it is to wait."""
        if self._match in _HEADS:
            whole = scanner.MARKUP.match(source, at)
            if self._document is None and scanner.DOCTYPE.match(source, at):
                self._document = True
                self._settle()
            if whole:
                return whole.end()
            if source[at] != 0x3C or scanner.LITERAL_LESS_THAN.match(source, at):
                self._imply(source, at)
                return at
        rest = bytes(source[at : at + 9])
        self._start = at
        if rest[1:2].isalpha() or (rest[1:2] == b"/" and rest[2:3].isalpha()):
            self._mode = _TAG
            self._closing = rest[1:2] == b"/"
            self._tag_end = TagEnd(at + 1 + self._closing)
        elif rest[:4] == b"<!--":
            self._mode = _COMMENT
            self._at, self._floor = at + 2, at + 4
        elif rest == b"<![CDATA[" and self._foreign.unsure:
            # Text up to "]]>", or a comment up to ">"? Without its "<" it is text in every reading.
            if self._denies:
                self._put(source, at, at + 1, b"&lt;")
            return at + 1
        elif rest == b"<![CDATA[" and self._foreign.character_data:
            self._mode = _CDATA
            self._at = at + 9
        elif len(rest) < 3 or (len(rest) < 9 and rest[:2] == b"<!"):
            self._waiting = at
            return -1
        else:
            self._mode = _BOGUS
            self._at = at + 2
        return at

    def _comment(self, source: bytes | bytearray) -> tuple[int, bool]:
        while found := scanner.COMMENT_END.search(source, self._at):
            if len(found[0]) == 3 or found.start() >= self._floor:
                self._mode = _DATA
                return found.end(), True
            self._at = found.start() + 1
        self._at = max(self._at, len(source) - 3)
        return self._at, False

    def _until(self, source: bytes | bytearray, mark: bytes) -> tuple[int, bool]:
        end = source.find(mark, self._at)
        if end >= 0:
            self._mode = _DATA
            return end + len(mark), True
        self._at = max(self._at, len(source) - len(mark) + 1)
        return self._at, False

    def _tag(self, source: bytes | bytearray) -> tuple[int, bool]:
        end = self._tag_end.find(source)
        start = self._start
        if (end if end >= 0 else len(source)) - start > MAX_HOLD:
            self._too_long(source, start)
            return start, True
        if end < 0:
            return start, False
        self._mode = _DATA
        raw = bytes(source[start:end])
        if self._closing:
            self._end_tag(source, start, scanner.name_of(raw))
        else:
            self._start_tag(source, start, raw, self._gate.tag(raw, self._context, self._memo))
        return end, True

    def _too_long(self, source: bytes | bytearray, start: int) -> None:
        """A tag past the bound: what could load is overruled by attributes in front, and the rest streams through."""
        found = scanner.TAG_NAME.match(source, start + 1 + self._closing)
        end = found.end() if found else start
        self._tag_name = scanner.text(bytes(source[start + 1 + self._closing : end]).lower())
        self._mode = _LONG
        self._tag_end = TagEnd(end)
        if end - start > MAX_HOLD:
            self._tag_name = "-"
        elif not self._closing:
            self._before(source, start, self._tag_name, closing=False)
            if self._denies:
                self._put(source, end, end, vectors.neutral(self._tag_name))
                self.gated = True

    def _long(self, source: bytes | bytearray) -> tuple[int, bool]:
        end = self._tag_end.find(source)
        if end < 0:
            return len(source), False
        self._mode = _DATA
        if self._closing:
            self._end_tag(source, end, self._tag_name)
        else:
            self._enter(source, end, Tag(self._tag_name, self._tag_end.slash, frozenset({"color"})))
            self._after(source, end, self._tag_name)
        return end, True

    def _raw_text(self, source: bytes | bytearray) -> tuple[int, bool]:
        raw, doing = self._raw, self._doing
        end = raw.find(source)
        if doing in _HELD:
            if (end if end >= 0 else len(source) - len(raw.name) - 3) - self._text > MAX_HOLD and self._denies:
                self._give_up_holding(source)
                return self._text, True
            if end < 0:
                return (self._start if self._held else self._text), False
            self._decide(source, bytes(source[self._text : end]))
        elif end < 0:
            if doing == _DROP:
                self._flushed = raw.at
            return raw.at, False
        elif doing == _DROP:
            self._flushed = end
        self._flushed = max(self._flushed, end) if doing in (_BOTH, _DROP) else self._flushed
        self._mode = _DATA
        return end, True

    def _give_up_holding(self, source: bytes | bytearray) -> None:
        """Past the bound the answer is no: a script is held back, a `<noscript>` loses its contents."""
        if self._held:
            raw, tag = self._held
            needs = self._gate.together(tag.words, tag.services) | tag.extra | {UNANSWERABLE}
            self._hold_back(source, raw, tag, needs)
            self._held = None
        self._emit(source, self._text)
        self._doing = _STREAM if self._doing == _CODE else _DROP
        self._flushed = self._text

    def _decide(self, source: bytes | bytearray, text: bytes, *, last: bool = False) -> None:
        """The text of an inline script or style, of a `<noscript>`, or of raw text that some parsers read as markup."""
        if self._held:
            raw, tag = self._held
            self._held = None
            if tag.css:
                self._decide_style(source, raw, tag, text)
            else:
                self._decide_code(source, raw, tag, text)
        if self._doing == _BOTH:
            self._emit(source, self._text)
            self._out += self._read_both_ways(source, text, last=last)

    def _decide_code(self, source: bytes | bytearray, raw: bytes, tag: Tag, text: bytes) -> None:
        extra, sights = tag.extra, tag.sights
        services = {service.id: service for service in tag.services}
        for reading in vectors.readings(text, foreign=self._doing == _BOTH):
            if tag.runs:
                inside = self._gate.services_in(reading, markup=self._doing == _BOTH)
                more, led = self._gate.imports_in(reading)
            else:
                inside, more, led = self._gate.rules_in(reading)
            extra, sights = extra | more, (*sights, *led)
            services.update((service.id, service) for service in inside)
        for call, service_id, needs in self._pairs:
            if call in text:
                services[service_id] = self._gate.service(service_id)
                extra |= needs
        needs = self._gate.together(tag.words, services.values()) | extra
        gated = not needs <= self._granted
        for sight in (*sights, *(Sight("script", "", service_id) for service_id in services)):
            self._see(source, self._start, sight, gated=gated)
        if gated:
            self._hold_back(source, raw, tag, needs)
        elif tag.opened is not None:
            self._put(source, self._start, self._start + len(raw), tag.opened)

    def _decide_style(self, source: bytes | bytearray, raw: bytes, tag: Tag, text: bytes) -> None:
        """Hold back what a style sheet loads, and only that where its text lets us: the page keeps its looks."""
        foreign = self._doing == _BOTH
        loads = tuple(
            load
            for reading in vectors.readings(text, foreign=foreign)
            for load in self._gate.sheet(reading, self._context, foreign=foreign)
        )
        own = self._gate.together(tag.words, tag.services) | tag.extra
        wanted = {need for _, needs in loads if not needs <= self._granted for need in needs}
        for sight, needs in (*((sight, own) for sight in tag.sights), *loads):
            self._see(source, self._start, sight, gated=not needs <= self._granted)
        edited = None
        if not own <= self._granted:
            wanted |= own
        elif not wanted:
            if tag.opened is not None:
                self._put(source, self._start, self._start + len(raw), tag.opened)
            return
        elif self._doing == _CODE:
            edited = css.held(text, self._denied)
        if edited is None:
            self._hold_back(source, raw, tag, frozenset(wanted))
            # A browser looks ahead for imports whatever the type says, but none may follow a rule.
            self._put(source, self._text, self._text, css.RULE)
            return
        at = self._start + scanner.name_end(raw)
        self._put(source, at, at, b' data-consentkit-needs="%b"' % " ".join(sorted(wanted)).encode())
        self._put(source, self._text, self._text + len(text), edited)
        self.gated = True
        self.wanted |= wanted

    def _denied(self, url: str) -> bool:
        load = self._gate.load(url, "style", self._context)
        return load is not None and not load[1] <= self._granted

    def _read_both_ways(self, source: bytes | bytearray, text: bytes, *, last: bool) -> list[bytes | Slot]:
        """Gate what is markup to one parser and plain text to another. It must end where both agree, or it goes."""
        foreign = self._foreign.copy()
        inner = Rewriter(
            self._gate,
            self._granted,
            self._fill,
            document=False,
            context=self._context,
            foreign=foreign,
            nested=True,
            look=self._look,
        )
        inner._early = False
        inner._marked = self._marked
        inner._templates = self._templates
        inner._lang = self._lang
        if self._look:
            inner._line = self._line_at(source, self._text)
        inner._push(text)
        at_rest = inner._at_rest(self)
        if last:
            inner._end()
        elif not at_rest:
            if self._denies:
                self.gated = True
                return []
            self._foreign.give_up()
            return [text]
        self._bases = inner._bases
        self._based |= inner._based
        self._settle()
        self.seen += inner.seen[: MAX_SEEN - len(self.seen)]
        self.gated |= inner.gated
        self.wanted |= inner.wanted
        return inner._out

    def _at_rest(self, outer: Rewriter) -> bool:
        """Whether this nested reading is where it began: in plain text, with nothing open that would be read apart."""
        return (
            self._mode == _DATA
            and not self._buffer
            and self._templates == outer._templates
            and not self._select
            and self._foreign.stack == outer._foreign.stack
            and self._foreign.unsure == outer._foreign.unsure
        )

    # -- tags

    def _start_tag(self, source: bytes | bytearray, start: int, raw: bytes, tag: Tag) -> None:
        end = start + len(raw)
        if self._phase != _BODY:
            self._before(source, start, tag.name, closing=False)
        if self._early and tag.acts:
            self._before_script(source, start)
        if tag.rare:
            self._note(source, start, tag)
        if tag.code or (tag.css and self._denies):
            self._start, self._text = start, end
            self._held = (raw, tag)
        else:
            gated = tag.needs is not None and not tag.needs <= self._granted
            for sight in tag.sights if self._look else ():
                self._see(source, start, sight, gated=gated)
            if gated:
                self._put_held(source, start, end, tag.held)
                self.gated = True
                self.wanted |= tag.needs or frozenset()
                if tag.runs:
                    self._pair(tag)
            elif tag.opened is not None:
                self._put(source, start, end, tag.opened)
        if self._foreign.stack or not tag.plain:
            self._enter(source, end, tag)
        if self._phase == _BEFORE_BODY:
            self._after(source, end, tag.name)

    def _note(self, source: bytes | bytearray, start: int, tag: Tag) -> None:
        """What few tags have and other places want to know of."""
        if tag.settings and not self._templates and not self._nested:
            self._settings = True
        if tag.policy is not None and self._phase != _BODY:
            self._policies += (tag.policy,)
        if tag.marked and not self._marked:
            self._look_closely()
        if tag.place is not None:
            self._put_place(source, start, tag.place)

    def _pair(self, tag: Tag) -> None:
        """An external script that is held back, and the inline calls to it that follow, are one."""
        needs = tag.needs or frozenset()
        calls = ((call, service.id) for service in tag.services for call in (*service.calls, *service.inline))
        self._pairs |= {(call.encode(), service_id, needs) for call, service_id in calls}

    def _before_script(self, source: bytes | bytearray, start: int) -> None:
        if self._document is False or self._nested:
            self._early = False
        elif self._document and not self._templates and not self._foreign.stack:
            self._early = False
            self._slot(source, start, "early")
            self._settle()

    def _put_place(self, source: bytes | bytearray, start: int, service: Service) -> None:
        needs = self._gate.needs(service)
        outside = self._nested or self._templates or self._foreign.stack or self._phase != _BODY
        if not outside and not needs <= self._granted:
            hold = Hold(service, needs)
            self._put(source, start, start, Slot("place", self._lang, self._based, gated=True, hold=hold))

    def _hold_back(self, source: bytes | bytearray, raw: bytes, tag: Tag, needs: Needs) -> None:
        opened = raw if tag.opened is None else tag.opened
        held = self._gate.held(opened, tag.name, needs, attributes(opened), context=self._context, also=tag.moved)
        self._put_held(source, self._start, self._start + len(raw), held)
        self.gated = True
        self.wanted |= needs

    def _enter(self, source: bytes | bytearray, end: int, tag: Tag) -> None:
        """How the bytes after this start tag are to be read."""
        name, foreign = tag.name, self._foreign
        within = False
        settled = True
        if name in ("svg", "math") or foreign.stack:
            within = foreign.start(name, self_closing=tag.self_closing, attributes=tag.attributes)
            settled = False
        if tag.lang or tag.base is not None:
            self._remember(tag)
            settled = tag.base is None and settled
        if name == "frameset" or (name == "col" and self._templates) or (name in _IN_SELECT and self._select):
            foreign.give_up()
            settled = False
        if not within:
            if name == "template":
                self._templates += 1
                settled = False
            elif name == "select":
                self._select = self._templates + 1
        if not settled:
            self._settle()
        if name == "script" or name in _RAW_NAMES or (name == "noscript" and not self._nested):
            self._enter_raw(source, end, tag, within=within)
        elif name == "plaintext" and not within and not foreign.unsure:
            self._mode = _PLAIN

    def _enter_raw(self, source: bytes | bytearray, end: int, tag: Tag, *, within: bool) -> None:
        name = tag.name
        unsure = self._foreign.unsure
        if within and not unsure and ((name != "script" and not (name == "style" and self._held)) or tag.self_closing):
            if self._held:
                self._doing = _CODE
                self._decide(source, b"")
            return
        self._mode = _RAW
        self._text = end
        self._raw = RawEnd(name, end, script_states=not within)
        if unsure or within or name == "noscript":
            self._doing = _BOTH
        else:
            self._doing = _CODE if self._held else _STREAM

    def _remember(self, tag: Tag) -> None:
        if tag.lang and self._lang is None:
            self._lang = tag.lang
        if tag.base is not None:
            self._based = True
            place = self._gate.suspicious(tag.base)
            if place and place not in self._bases and len(self._bases) < _MOST_BASES:
                self._bases = (*self._bases, place)

    def _end_tag(self, source: bytes | bytearray, start: int, name: str) -> None:
        if self._phase < _BODY:
            self._before(source, start, name, closing=True)
        within = bool(self._foreign.stack)
        if within:
            self._foreign.end(name)
            self._settle()
        if name == "template" and self._templates and not within:
            self._templates -= 1
            if self._select > self._templates + 1:
                self._select = 0
            self._settle()
        elif name == "select" and self._select == self._templates + 1:
            self._select = 0
        elif name == "body" and self._phase == _BODY and not within and not self._templates:
            self._foot(source, start)

    # -- what was seen

    def _line_at(self, source: bytes | bytearray, at: int) -> int:
        self._line += source.count(b"\n", self._counted, at)
        self._counted = max(at, self._counted)
        return self._line

    def _see(self, source: bytes | bytearray, at: int, sight: Sight, *, gated: bool) -> None:
        if self._look and len(self.seen) < MAX_SEEN:
            line = self._line_at(source, at)
            self.seen.append(Seen(sight.tag, sight.host, sight.service_id, line, gated, sight.parked))

    # -- places of ours

    def _slot(self, source: bytes | bytearray, at: int, kind: Literal["head", "early", "banner", "footer"]) -> None:
        slot = Slot(kind, self._lang, self._based, self.gated, self._settings, policies=self._policies)
        self._put(source, at, at, slot)

    def _imply(self, source: bytes | bytearray, at: int) -> None:
        """Something at `at` opens the body if it wasn't open."""
        if self._document is None:
            self._document = False
        if self._document:
            if self._phase == _HEAD:
                self._slot(source, at, "head")
            self._slot(source, at, "banner")
        self._phase = _BODY
        self._settle()

    def _before(self, source: bytes | bytearray, start: int, name: str, *, closing: bool) -> None:
        if self._phase == _BODY or self._templates or self._foreign.stack:
            return
        if self._document is None:
            self._document = name in ("html", "head", "body", "frameset") and not closing
            self._settle()
        if not self._document:
            self._phase = _BODY
            self._settle()
        elif closing:
            if name in _ENDS_THAT_IMPLY:
                self._imply(source, start)
            elif name == "head" and self._phase == _HEAD:
                self._open_head(source, start)
        elif name not in _HEADISH and name not in ("body", "frameset"):
            self._imply(source, start)
        elif self._phase == _HEAD and name not in ("html", "head", "meta", "title", "base"):
            self._open_head(source, start)

    def _open_head(self, source: bytes | bytearray, at: int) -> None:
        self._slot(source, at, "head")
        self._phase = _BEFORE_BODY
        self._settle()

    def _after(self, source: bytes | bytearray, end: int, name: str) -> None:
        if self._phase == _BEFORE_BODY and not self._templates:
            if name == "body":
                self._slot(source, end, "banner")
            elif name != "frameset":
                return
            self._frames = name == "frameset"
            self._phase = _BODY
            self._settle()

    def _foot(self, source: bytes | bytearray, at: int) -> None:
        if self._document and self._footer and not self._frames:
            self._slot(source, at, "footer")
        self._footer = False

    def _end(self) -> None:
        source, mode = self._buffer, self._mode
        if mode == _RAW and self._doing in _HELD:
            self._decide(source, bytes(source[self._text :]), last=True)
            if self._doing == _BOTH:
                self._flushed = len(source)
        elif mode in (_DATA, _TAG) and self._fed and not self._templates and not self._foreign.stack:
            if self._phase < _BODY and self._document:
                self._imply(source, 0)
            self._foot(source, 0)
        if not (mode == _RAW and self._doing == _DROP):
            self._emit(source, len(source))
        self._buffer = bytearray()
        self._mode = _PLAIN
