"""The gate against its peers, as ratios from one run: `python benchmarks/gate.py`.

Each peer does the same work on the same generated pages: hold back the same trackers, by URL, by inline text.
Absolute figures depend on the machine; the ratios are what counts.
"""

# ruff: noqa: E501 - markup reads best in one line
from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Callable

from consentkit.gate import Gate, Slot
from consentkit.service import Service

Row = tuple[str, float, str, bool]
TEXT = {"nl": "x", "en": "x"}
HOSTS = {
    "google-analytics": ("google-analytics.com", "www.googletagmanager.com/gtag"),
    "google-tag-manager": ("www.googletagmanager.com",),
    "meta-pixel": ("connect.facebook.net", "www.facebook.com/tr"),
    "hotjar": ("hotjar.com",),
    "youtube": ("youtube.com", "youtube-nocookie.com"),
    "google-fonts": ("fonts.googleapis.com", "fonts.gstatic.com"),
}
MARKS = {
    "google-analytics": ("gtag(", "GoogleAnalyticsObject"),
    "google-tag-manager": ("gtm.start",),
    "meta-pixel": ("fbq(", "_fbq"),
    "hotjar": ("_hjSettings",),
}


def services() -> list[Service]:
    """Six real ones and sixty more, so that the tables have the size of a catalogue."""
    real = [
        Service(id=name, title=name, provider="P", country="US", category="marketing", purpose=TEXT, hosts=hosts,
                inline=MARKS.get(name, ()), embed=name == "youtube")
        for name, hosts in HOSTS.items()
    ]  # fmt: skip
    more = [
        Service(id=f"s{n}", title=f"s{n}", provider="P", country="US", category="marketing", purpose=TEXT,
                hosts=(f"cdn.tracker{n}.com", f"tracker{n}.io"), inline=(f"tracker{n}.init(", f"_trk{n}Queue"))
        for n in range(60)
    ]  # fmt: skip
    return real + more


def gate() -> Gate:
    """A new gate, so that nothing is remembered."""
    known = services()
    return Gate(
        known,
        configured=[service.id for service in known],
        categories=["marketing", "youtube"],
        own_hosts=["delinde.example"],
    )


_WORDS = [
    "de",
    "school",
    "leert",
    "kinderen",
    "samen",
    "werken",
    "aan",
    "een",
    "wereld",
    "die",
    "morgen",
    "weer",
    "anders",
    "is",
    "en",
    "vandaag",
    "begint",
    "op",
    "het",
    "plein",
]


def page(size: int, seed: int = 0) -> bytes:
    """A believable page of about `size` bytes: a head, a menu, cards, a table, icons, a form, scripts, trackers."""
    pick = random.Random(seed)

    def words(count: int) -> str:
        return " ".join(pick.choice(_WORDS) for _ in range(count))

    head = f"""<!DOCTYPE html>
<html lang="nl">
<head>
<meta charset="utf-8">
<title>Basisschool De Linde - {words(3)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="description" content="{words(20)}">
<meta property="og:image" content="https://delinde.example/og{seed}.jpg">
<link rel="canonical" href="https://delinde.example/pagina/{seed}">
<link rel="stylesheet" href="/static/site.css?v={seed}">
<link rel="preconnect" href="https://fonts.gstatic.com" crossorigin>
<link href="https://fonts.googleapis.com/css2?family=Inter" rel="stylesheet">
<script type="application/ld+json">{{"@context": "https://schema.org", "@type": "School", "name": "{words(4)}"}}</script>
<script async src="https://www.googletagmanager.com/gtag/js?id=G-DELINDE1"></script>
<script>window.dataLayer = window.dataLayer || []; function gtag(){{dataLayer.push(arguments);}} gtag('js', new Date()); gtag('config', 'G-DELINDE1');</script>
<style>.card{{padding:1rem;border:1px solid #ddd}}.card>h2{{margin:0}}</style>
<script src="/static/app.js" defer></script>
</head>
<body class="home page-{seed}">
<noscript><img height="1" width="1" style="display:none" src="https://www.facebook.com/tr?id=1&amp;ev=PageView&amp;noscript=1" alt=""></noscript>
<header><a class="logo" href="/"><svg width="24" height="24" viewBox="0 0 24 24"><path d="M3 12l9-9 9 9"/><path d="M5 10v10h14V10"/></svg> De Linde</a>
<nav aria-label="Hoofdmenu"><ul>{"".join(f'<li><a href="/{word}" class="menu__link">{word}</a></li>' for word in _WORDS[:9])}</ul></nav></header>
<main id="main">
<!-- begin content -->
"""
    foot = f"""</main>
<iframe width="560" height="315" src="https://www.youtube-nocookie.com/embed/{seed:011d}" title="Open dag" allowfullscreen></iframe>
<footer class="site-footer"><p>&copy; 2026 De Linde</p><a href="/privacy">Privacy</a></footer>
<script>!function(f,b,e,v,n,t,s){{if(f.fbq)return;n=f.fbq=function(){{n.callMethod?n.callMethod.apply(n,arguments):n.queue.push(arguments)}}}}(window,document,'script','https://connect.facebook.net/en_US/fbevents.js');fbq('init','1234567');</script>
<script>document.querySelectorAll('.card').forEach(function(card){{card.addEventListener('click', function(){{ if (card.dataset.n < 3) card.classList.toggle('open'); }});}});</script>
</body>
</html>
"""
    parts: list[str] = []
    length = len(head) + len(foot)
    number = 0
    while length < size:
        number += 1
        kind = number % 5
        if kind == 0:
            part = (
                '<table class="rooster"><tbody>'
                + "".join(
                    f'<tr><th scope="row">{words(1)}</th><td>{words(2)}</td><td>{words(2)}</td></tr>' for _ in range(4)
                )
                + "</tbody></table>\n"
            )
        elif kind == 3:
            part = (
                f'<form action="/zoek" method="get" class="form"><label for="q{number}">{words(2)}</label>'
                f'<input type="text" id="q{number}" name="q" placeholder="{words(2)}"><select name="groep">'
                + "".join(f'<option value="{n}">Groep {n}</option>' for n in range(1, 9))
                + '</select><button type="submit" class="btn btn--primary">Zoek</button></form>\n'
            )
        else:
            part = (
                f'<article class="card card--{kind}" id="c{number}" data-n="{number}"><h2 class="card__title"><a href="/nieuws/{seed}-{number}">{words(5)}</a></h2>\n'
                f'<img class="card__image" src="/media/{seed}/{number}.jpg" srcset="/media/{seed}/{number}-400.jpg 400w, /media/{seed}/{number}-800.jpg 800w" width="400" height="300" alt="{words(4)}" loading="lazy">\n'
                f'<p class="card__text">{words(35)} <strong>{words(2)}</strong> {words(20)} <em>{words(1)}</em>. <a href="https://www.rijksoverheid.nl/{number}">{words(2)}</a></p>\n'
                f'<ul class="tags"><li class="tag">{words(1)}</li><li class="tag">{words(1)}</li></ul>'
                '<span class="icon" aria-hidden="true"><svg viewBox="0 0 16 16" width="16" height="16"><title>datum</title><use href="#i-date"/></svg></span></article>\n'
            )
        parts.append(part)
        length += len(part)
    return (head + "".join(parts) + foot).encode()


# -- the peers, doing the same

_TABLE = {host: name for name, hosts in HOSTS.items() for host in hosts} | {
    host: service.id for service in services() for host in service.hosts
}
_HOST = re.compile(r"(?:https?:)?//([^/?#]*)([^?#]*)")


def known(url: str) -> bool:
    """A host lookup that is good enough for a peer: by suffix, then by path."""
    found = _HOST.match(url.strip())
    if not found:
        return False
    host, path = found[1].lower(), found[2]
    while host:
        if host in _TABLE or host + "/" + path.strip("/").partition("/")[0] in _TABLE:
            return True
        host = host.partition(".")[2]
    return False


_MARKS = re.compile("|".join(re.escape(mark) for service in services() for mark in service.inline))
_WATCHED = "script, iframe, img, source, link, object, embed, video, audio, track, input"


def by_lolhtml(body: bytes) -> bytes:
    """The same gating with python-lolhtml (Rust)."""
    import lolhtml

    out = bytearray()
    rewriter = lolhtml.HTMLRewriter(out.extend)
    rewriter.on(_WATCHED, _Lol())
    rewriter.on("script:not([src]):not([type])", _LolText())
    rewriter.write(body)
    rewriter.end()
    return bytes(out)


class _Lol:
    def element(self, element) -> None:  # type: ignore[no-untyped-def]
        for key in ("src", "href", "srcset", "data", "poster"):
            value = element.get_attribute(key)
            if value and known(value):
                element.remove_attribute(key)
                element.set_attribute("data-consentkit-" + key, value)
                element.set_attribute("data-consentkit-needs", "marketing")
                if element.tag_name == "script":
                    element.set_attribute("type", "text/plain")


class _LolText:
    def text(self, chunk) -> None:  # type: ignore[no-untyped-def]
        if chunk.text and _MARKS.search(chunk.text):
            chunk.remove()


def by_turbohtml(body: bytes) -> bytes:
    """The same gating with turbohtml's rewriter (C; text in and out)."""
    from turbohtml.rewrite import rewrite

    def element(one) -> None:  # type: ignore[no-untyped-def]
        for key in ("src", "href", "srcset", "data", "poster"):
            value = one.get(key)
            if value and known(value):
                one.remove_attribute(key)
                one.set_attribute("data-consentkit-" + key, value)
                one.set_attribute("data-consentkit-needs", "marketing")
                if one.tag == "script":
                    one.set_attribute("type", "text/plain")

    return rewrite(body.decode(), elements=[(name, element) for name in _WATCHED.split(", ")]).encode()


def by_bs4(body: bytes) -> bytes:
    """The same gating with Beautiful Soup on lxml."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(body, "lxml")
    for element in soup.find_all(_WATCHED.split(", ")):
        for key in ("src", "href", "srcset", "data", "poster"):
            value = element.get(key)
            if value and known(value):
                del element[key]
                element["data-consentkit-" + key] = value
                element["data-consentkit-needs"] = "marketing"
                if element.name == "script":
                    element["type"] = "text/plain"
        if element.name == "script" and element.string and _MARKS.search(element.string):
            element["type"] = "text/plain"
    return str(soup).encode()


# -- measuring


def _nothing(slot: Slot) -> bytes:
    return b""


def _us(work: Callable[[], object], *, repeat: int) -> float:
    """The median of single runs, in microseconds."""
    work()
    times = []
    for _ in range(repeat):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return statistics.median(times) * 1e6


def _together(works: list[Callable[[], object]], *, repeat: int) -> list[float]:
    """Medians of several, taken in turns so that a busy moment of the machine hits all of them."""
    times: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    for _ in range(repeat):
        for work, spent in zip(works, times, strict=True):
            start = time.thread_time()
            work()
            spent.append(time.thread_time() - start)
    return [statistics.median(spent) * 1e6 for spent in times]


def _fresh(bodies: list[bytes]) -> Callable[[], object]:
    """Pages never seen before, each other than the last, on a gate that is warm with others of the site."""
    one = gate()
    for body in bodies[: len(bodies) // 2]:
        one.rewriter(frozenset(), _nothing, document=True, look=False).parts(body)
    rest = iter(bodies[len(bodies) // 2 :])

    def work() -> object:
        return one.rewriter(frozenset(), _nothing, document=True, look=False).parts(next(rest))

    return work


def _in_turn(work: Callable[[bytes], object], bodies: list[bytes]) -> Callable[[], object]:
    """A peer on the same pages, each another than the last."""
    rest = iter(bodies)
    return lambda: work(next(rest))


HOSTILE = {
    "unclosed comment": b"<p>x<!--" + b"a - b -- c " * 95_000,
    "unclosed attribute": b'<p title="' + b"a 'b' > c " * 104_000,
    "unclosed script": b"<script>" + b"if (a<b) x('<!--'); " * 52_000,
    "unclosed style": b"<style>" + b"a</styl b{} " * 87_000,
    "nested tags": b"<div><b>" * 131_000,
    "less-than signs": b"< <<< <" * 150_000,
    "one name": b"<" + b"a" * 1_048_000,
    "attributes": b"<p" + b" a=b" * 262_000,
    "unclosed noscript": b"<noscript>" + b"<img src=/a.png> " * 61_000,
    "svg": b"<svg>" + b"<g><path d=x></g>" * 61_000,
    "end tags": b"</p></" * 174_000,
}


def _fed(body: bytes, size: int) -> Callable[[], object]:
    one = gate()

    def work() -> None:
        rewriter = one.rewriter(frozenset(), _nothing, document=True, look=False)
        for at in range(0, len(body), size):
            rewriter.feed(body[at : at + size])
        rewriter.close()

    return work


def main(*, quick: bool = False) -> list[Row]:
    """Run it all; each row is a name, the measured ratio, its goal, and whether it is met."""
    repeat = 15 if quick else 60
    rows: list[Row] = []

    def row(name: str, value: float, goal: str) -> None:
        sign, number = goal[0], float(goal[2:])
        rows.append((name, value, goal, value <= number if sign == "≤" else value >= number))

    for size in (5_000, 20_000, 50_000, 200_000):
        bodies = [page(size, seed) for seed in range(2 * repeat + 4)]
        body = bodies[0]
        one = gate()

        def warm(one: Gate = one, body: bytes = body) -> object:
            return one.rewriter(frozenset(), _nothing, document=True, look=False).parts(body)

        def again(one: Gate = one, body: bytes = body) -> bytes:
            return one.rewrite(bytes(bytearray(body)), frozenset(), _nothing, document=True)

        fresh, known_tags, repeated, lol, turbo = _together(
            [_fresh(bodies), warm, again, _in_turn(by_lolhtml, bodies), _in_turn(by_turbohtml, bodies)],
            repeat=repeat,
        )
        soup = _us(lambda body=body: by_bs4(body), repeat=3)
        kilo = f"{size // 1000} KB page"
        print(
            f"# {kilo}: new {fresh:.0f} µs ({len(body) / fresh:.0f} MB/s), tags seen {known_tags:.0f}, body seen {repeated:.0f},"
            f" python-lolhtml {lol:.0f}, turbohtml {turbo:.0f}, bs4+lxml {soup:.0f}"
        )
        if size == 50_000:
            row(f"gate ÷ python-lolhtml, {kilo}, never seen", fresh / lol, "≤ 1.7")
            row(f"gate ÷ python-lolhtml, {kilo}, its tags seen", known_tags / lol, "≤ 1.7")
            row(f"bs4+lxml ÷ gate, {kilo}", soup / fresh, "≥ 100")
            row(f"repeated body ÷ new body, {kilo}", repeated / fresh, "≤ 0.2")
    for name, body in HOSTILE.items():
        whole, pieces = _together([_fed(body, len(body)), _fed(body, 4096)], repeat=3 if quick else 7)
        row(f"4 KB pieces ÷ one shot, 1 MB, {name}", pieces / whole, "≤ 2")
    for row_ in rows:
        print(f"{row_[0]:60} {row_[1]:8.2f}   goal {row_[2]:7} {'ok' if row_[3] else 'MISSED'}")
    return rows


if __name__ == "__main__":
    import sys

    sys.exit(0 if all(ok for *_, ok in main(quick="--quick" in sys.argv)) else 1)
