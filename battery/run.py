"""Visits the cases with a tool in place, in every state, and tells what reached a tracker."""

from __future__ import annotations

import http.client
import re
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser
from typing import Any, Literal
from urllib.parse import unquote, urlencode

import uvicorn

from battery import VERSION
from battery.browsers import ORIGIN, UNDRIVEN, Driver, Stuck, Visitor, driver
from battery.cases import STATES, Case, State
from battery.site import HOME, App, Site, inside
from battery.targets import Target
from battery.trackers import SITE, Certificates, World, world

_CASE = re.compile(r"case=([a-z0-9-]+)")
_HOST = re.compile(r"(?:https?:|wss?:)?[/\\]{2}((?:[a-z0-9-]+\.)+[a-z]{2,})", re.IGNORECASE)

Kind = Literal["leaked", "stored", "missing", "changed"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that should not be: a tracker was reached or something kept too early, a granted tracker was not
    reached, or bytes were changed that are nobody's to change. `needs` is its excuse: "csp" when only a policy in the
    browser could have held it back and none is enforced, "mode" when the tool says that this mode never opens it."""

    case: str
    kind: Kind
    detail: str
    needs: str = ""


@dataclass(slots=True)
class Run:
    """One state, with or without JavaScript. `reaches` is how many cases reach a tracker there on a bare page."""

    state: State
    js: bool
    reaches: int
    answered: bool = True
    findings: list[Finding] = field(default_factory=list)

    @property
    def leaked(self) -> list[str]:
        """The cases that reached a tracker too early."""
        return sorted({one.case for one in self.findings if one.kind in ("leaked", "stored")})


@dataclass(slots=True)
class Report:
    """All states of one tool in one browser."""

    target: str
    version: str
    mode: str
    browser: str
    cases: int
    runs: list[Run] = field(default_factory=list)
    seconds: float = 0.0
    battery: str = VERSION

    def findings(self, *, excused: bool) -> list[tuple[Run, Finding]]:
        """What was found, with what has an excuse or without."""
        return [(run, one) for run in self.runs for one in run.findings if excused or not one.needs]

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def reaches(case: Case, browser: str, *, js: bool) -> bool:
    """Whether a case tells a tracker of the visit on a bare page, as far as this browser can."""
    if case.innocent:
        return False
    armed = any("case=" in value for _, value in case.headers) and case.loads == "never"
    kept = bool(case.stores) and case.loads == "never"
    return case.expected(browser, js=js) or bool(case.live) or armed or kept


@contextmanager
def serving(app: App, certificates: Certificates) -> Iterator[int]:
    """The site on a free loopback port over TLS, in a thread; gives the port."""
    key, chain = certificates.site_files
    config = uvicorn.Config(
        app,
        interface="asgi3",
        host="127.0.0.1",
        port=0,
        log_level="error",
        lifespan="off",
        ssl_keyfile=key,
        ssl_certfile=chain,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the site did not start")
            time.sleep(0.01)
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)


@dataclass
class Battery:
    """The cases, the world they would reach, and a browser."""

    cases: Sequence[Case]
    browser: str
    world: World
    certificates: Certificates
    driver: Driver

    def run(
        self,
        target: Target,
        mode: str,
        *,
        scripts: Sequence[bool] = (True, False),
        states: Sequence[State] = STATES,
    ) -> Report:
        """Visit a tool in one of its modes."""
        began = time.monotonic()
        report = Report(target.name, target.version(), mode, self.browser, len(self.cases))
        site = Site(self.cases, target.write, target.file, target.tags(self.cases))
        with target.around(site, mode) as app, serving(site.recorded(app), self.certificates) as port:
            self.world.site = port
            for js in scripts:
                try:
                    runs = self._visits(target, mode, site, states, js=js)
                except Stuck:
                    runs = self._visits(target, mode, site, states, js=js)
                report.runs += runs
        report.seconds = round(time.monotonic() - began, 1)
        return report

    def _visits(self, target: Target, mode: str, site: Site, states: Sequence[State], *, js: bool) -> list[Run]:
        """One visitor who is not asked and then refuses, and another who agrees."""
        runs = []
        with self.driver.open(js=js) as fresh:
            visitor = fresh()
            if "before" in states:
                runs.append(self._visit(visitor, target, mode, site, "before", js=js))
            if "refused" in states:
                answered = self._answer(visitor, target, target.refuse, "refuse", js=js)
                runs.append(self._visit(visitor, target, mode, site, "refused", js=js, answered=answered))
            if "granted" in states:
                visitor = fresh()
                answered = self._answer(visitor, target, target.accept, "accept", js=js)
                runs.append(self._visit(visitor, target, mode, site, "granted", js=js, answered=answered))
        return runs

    def _answer(self, visitor: Visitor, target: Target, button: str, decision: str, *, js: bool) -> bool:
        """Press a button of the banner, or where a browser without scripts can't be driven, post its form."""
        if not button:
            return False
        if js or visitor.keep is None:
            return visitor.press(HOME, button)
        cookies = target.by_hand(self._ask, decision)
        if not cookies:
            return False
        visitor.keep(cookies)
        return True

    def _ask(self, method: str, path: str, form: dict[str, str]) -> tuple[list[str], str]:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.world.site, context=context, timeout=10)
        headers = {"Host": SITE, "Accept": "text/html", "Origin": ORIGIN, "Sec-Fetch-Dest": "document"}
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, urlencode(form) if form else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.headers.get_all("Set-Cookie") or [], text

    def _visit(
        self, visitor: Visitor, target: Target, mode: str, site: Site, state: State, *, js: bool, answered: bool = True
    ) -> Run:
        run = Run(state, js, sum(reaches(case, self.browser, js=js) for case in self.cases), answered)
        clicks = {path: [case.click for case in cases if case.click] for path, cases in site.of.items()}
        site.delivered.clear()
        site.asked.clear()
        self.world.clear()
        visitor.visit(site.paths, clicks)
        if unseen := set(site.paths) - set(site.delivered):
            raise RuntimeError(f"{self.browser} did not come to {', '.join(sorted(unseen))}")
        if state != "granted":
            run.findings = self._too_early(target, mode, site, self._arrived(), visitor.stored())
        elif answered or not target.accept:
            run.findings = self._granted(target, mode, self._arrived(), visitor.stored(), js=js)
            names = {one.case for one in run.findings if not one.needs}
            if lost := [case.page for case in self.cases if case.name in names]:
                # A browser may leave out what is only a hint when it is busy: it is asked again.
                visitor.visit(list(dict.fromkeys(lost)), clicks)
                run.findings = self._granted(target, mode, self._arrived(), visitor.stored(), js=js)
        if target.exact:
            run.findings += self._bytes(site, every=state == "granted" and answered and mode.startswith("private"))
        for case in self.cases:
            if case.innocent and js:
                run.findings += self._innocent(case, site, "" if target.opens(case, mode, js=js) else "mode")
        run.findings.sort()
        return run

    def _arrived(self) -> dict[str, str]:
        """What reached the world, by case; under "" what can't be told apart but came to a tracker of some case."""
        claimed = {host: case.name for case in self.cases for host in case.hosts}
        trackers = {
            host.lower() for case in self.cases if not case.innocent for host in _HOST.findall(case.html)
        } - set(claimed)
        found: dict[str, str] = {}
        asked = set()
        for one in list(self.world.requests):
            asked.add(one.host.partition(":")[0].rstrip(".").lower())
            named = _CASE.search(unquote(one.path))
            if named:
                found.setdefault(named[1], one.url)
            elif one.host in trackers and one.path != "/favicon.ico":
                found.setdefault("", one.url)
        for host in list(self.world.connections):
            if host in claimed:
                found.setdefault(claimed[host], f"a connection to {host}")
            elif host in trackers and host not in asked:
                found.setdefault("", f"a connection to {host}")
        return found

    def _too_early(
        self, target: Target, mode: str, site: Site, arrived: dict[str, str], kept: set[str]
    ) -> list[Finding]:
        findings = []
        for case in self.cases:
            needs = "" if target.enforces(mode) else case.needs
            if case.innocent and any("case=" in own for own in case.own):
                continue
            if case.name in arrived:
                findings.append(Finding(case.name, "leaked", arrived[case.name], needs))
            findings += [Finding(case.name, "stored", name, needs) for name in case.stores if name in kept]
        findings += [Finding(name, "leaked", how) for name, how in self._armed(site) if name not in arrived]
        known = {case.name for case in self.cases}
        findings += [Finding(name or "(any)", "leaked", url) for name, url in arrived.items() if name not in known]
        return findings

    def _armed(self, site: Site) -> Iterator[tuple[str, str]]:
        """What left the server so that a browser would reach a tracker by it, sooner or later."""
        for path, cases in site.of.items():
            page = site.delivered.get(path)
            if page is None:
                continue
            tags = _tags(page.body)
            for case in cases:
                if case.live and any(_matches(tag, case.live) for tag in tags):
                    yield case.name, "a live tag in the page"
                for key, value in page.headers:
                    if (
                        f"case={case.name}" in value
                        and case.loads == "never"
                        and not key.lower().startswith("content-s")
                    ):
                        yield case.name, f"the header {key}"

    def _granted(
        self, target: Target, mode: str, arrived: dict[str, str], kept: set[str], *, js: bool
    ) -> list[Finding]:
        findings = []
        for case in self.cases:
            excuse = "" if target.opens(case, mode, js=js) else "mode"
            expected = case.expected(self.browser, js=js)
            if expected and case.name not in arrived and (target.accept or not case.parked):
                findings.append(Finding(case.name, "missing", "nothing arrived", excuse))
            wanted = case.stores if expected or case.loads == "never" else ()
            findings += [
                Finding(case.name, "missing", f"{name} is not kept", excuse) for name in wanted if name not in kept
            ]
        return findings

    def _bytes(self, site: Site, *, every: bool) -> list[Finding]:
        """Innocent cases leave as they are written, and after consent all do."""
        findings = []
        for path, cases in site.of.items():
            page = site.delivered.get(path)
            for case in cases:
                if page is None:
                    findings.append(Finding(case.name, "changed", "the page was not delivered"))
                elif case.document:
                    continue
                elif (now := inside(page.body, case.name)) is None:
                    findings.append(Finding(case.name, "changed", "its comments are gone"))
                elif (case.innocent or (every and case.exact and not case.parked)) and now != case.html:
                    findings.append(Finding(case.name, "changed", now[:300]))
        return findings

    def _innocent(self, case: Case, site: Site, excuse: str) -> list[Finding]:
        there = {one.url for one in self.world.requests}
        return [
            Finding(case.name, "missing", f"{own} was not requested", excuse)
            for own in case.own
            if own not in (site.asked if own.startswith("/") else there)
        ]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append({"tag": tag, **{key: value or "" for key, value in reversed(attrs)}})


def _tags(body: str) -> list[dict[str, str]]:
    parser = _Tags()
    parser.feed(body)
    return parser.found


def _matches(tag: dict[str, str], wanted: dict[str, str]) -> bool:
    return all(part in tag.get(key, "") for key, part in wanted.items())


@contextmanager
def battery(cases: Sequence[Case], browser: str) -> Iterator[Battery]:
    """Everything that a run needs, while the block runs."""
    with (
        tempfile.TemporaryDirectory() as folder,
        world(folder) as (seen, certificates),
        driver(browser, seen) as running,
    ):
        driven = [case for case in cases if case.name not in UNDRIVEN.get(browser, ())]
        yield Battery(driven, browser, seen, certificates, running)


__all__ = ["STATES", "Battery", "Finding", "Report", "Run", "battery", "reaches"]
