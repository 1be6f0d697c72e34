"""The consent tools that work in the browser, each put in place as its own documentation says.

What a tool has no form for stays as an author writes it. The rules are in README.md; each class has its own.
"""

from __future__ import annotations

import html as entities
import json
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from battery import HERE
from battery.browsers import ORIGIN
from battery.cases import Case
from battery.site import App, Message, Site
from battery.targets import Target

PEERS: Final = HERE.parent / ".dev" / "battery"

_TAG = re.compile(r"""<([a-z][a-z0-9-]*)(?=[\s/>])((?:[^"'>]|"[^"]*"|'[^']*')*)>""", re.IGNORECASE)
_SCRIPT = re.compile(
    r"""<script(?=[\s/>])((?:[^"'>]|"[^"]*"|'[^']*')*)>(.*?)</script\s*>|<script(?=[\s/>])((?:[^"'>]|"[^"]*"|'[^']*')*)/>""",
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""(?<=[\s/"'])([a-z:-]+)\s*=\s*("[^"]*"|'[^']*'|[^\s>]+)""", re.IGNORECASE)
_PARKED = re.compile(r"""\b(?:data-cookieblock-src|data-src|data-cmplz-src|data-suppressedsrc|src)=("[^"]*")""")

# What no author of a site marks: a file of the site's own that the site needs, and what it does late.
_UNMARKED = ("late tag", "innocent")


def attributes(text: str) -> dict[str, str]:
    """The attributes of a start tag, the first of a name, read as HTML."""
    found: dict[str, str] = {}
    for one in _ATTRIBUTE.finditer(f" {text}"):
        found.setdefault(one[1].lower(), entities.unescape(one[2].strip("\"'")))
    return found


def renamed(text: str, name: str, to: str) -> str:
    """A start tag's attributes with one of them under another name."""
    return re.sub(rf"(?i)(?<=[\s/]){name}(?=\s*=)", to, f" {text}", count=1).removeprefix(" ")


def without(text: str, name: str) -> str:
    """A start tag's attributes without one of them."""
    return re.sub(rf"""(?i)(?<=[\s/]){name}\s*=\s*("[^"]*"|'[^']*'|[^\s>]+)""", "", f" {text}", count=1)


@dataclass(frozen=True)
class Peer(Target, ABC):
    """A tool from npm. `package` tells the version; `files` are URL paths under `/peers/` by file."""

    package: str = ""

    def version(self) -> str:
        where = PEERS / "node_modules" / self.package / "package.json"
        return str(json.loads(where.read_text("utf-8"))["version"])

    @contextmanager
    def around(self, site: Site, mode: str) -> Iterator[App]:
        install()

        async def app(scope: Message, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or not scope["path"].startswith("/peers/"):
                await site.app(scope, receive, send)
                return
            file = PEERS / "node_modules" / scope["path"].removeprefix("/peers/")
            kind = "text/css" if file.suffix == ".css" else "text/javascript"
            headers = [(b"content-type", kind.encode()), (b"cache-control", b"max-age=600")]
            await send({"type": "http.response.start", "status": 200 if file.is_file() else 404, "headers": headers})
            await send({"type": "http.response.body", "body": file.read_bytes() if file.is_file() else b""})

        yield app

    def write(self, case: Case) -> str:
        if case.group in _UNMARKED or (case.document and not case.parked):
            return case.html
        bare = case.html
        if case.marks and case.marks != self.name:
            url = _PARKED.search(bare)
            name = "iframe" if "<iframe" in bare else "img" if "<img" in bare else "script"
            bare = f"<{name} src={url[1] if url else ''}>" + ("" if name == "img" else f"</{name}>")
        elif case.marks:
            return bare
        return self.elements(case, self.scripts(case, bare))

    def file(self, case: Case, name: str, text: str) -> str:
        return self.elements(case, self.scripts(case, text)) if name.endswith(".html") else text

    def scripts(self, case: Case, text: str) -> str:
        """The case with its tracker's scripts as the tool wants them."""

        def one(found: re.Match[str]) -> str:
            given = found[1] if found[1] is not None else found[3]
            first = attributes(given)
            url = first.get("src") or first.get("href") or first.get("xlink:href") or ""
            inline = not url and (case.group == "inline snippet" or "hotjarCame" in found[0])
            data = first.get("type", "").lower().strip() in ("importmap", "speculationrules")
            if url.startswith("/own/") and case.name != "mark-own-script":
                return found[0]
            if data or not (url or inline):
                return found[0]
            return self.script(case, given, first, url, found[2] or "")

        return _SCRIPT.sub(one, text)

    def elements(self, case: Case, text: str) -> str:
        """The case with its tracker's other elements as the tool wants them."""

        def one(found: re.Match[str]) -> str:
            first = attributes(found[2])
            own = any(first.get(key, "").startswith("/own/") for key in ("src", "href", "data"))
            made = None if own else self.element(found[1].lower(), found[2], first)
            return found[0] if made is None else made

        return _TAG.sub(one, text)

    @abstractmethod
    def script(self, case: Case, given: str, first: dict[str, str], url: str, text: str) -> str:
        """A script of a tracker, `given` being its attributes as written and `url` where it comes from."""

    def element(self, name: str, given: str, first: dict[str, str]) -> str | None:
        """A start tag of a tracker's element that is no script; None when the tool has no form for it."""
        return None

    def enforces(self, mode: str) -> bool:
        return True


Script = tuple[Case, str, dict[str, str], str, str]


def gathered(cases: Sequence[Case]) -> list[Script]:
    """The trackers' scripts of the cases, for tools that want them out of the markup and in one place."""
    found: list[Script] = []

    @dataclass(frozen=True)
    class Gather(Peer):
        def script(self, case: Case, given: str, first: dict[str, str], url: str, text: str) -> str:
            found.append((case, given, first, url, text))
            return ""

    for case in cases:
        Gather().write(case)
        for name, text in case.files.items():
            Gather().file(case, name, text)
    return found


# -- vanilla-cookieconsent ---------------------------------------------------------------------------------------------

VANILLA = """
<link rel="stylesheet" href="/peers/vanilla-cookieconsent/dist/cookieconsent.css">
<link rel="stylesheet" href="/peers/@orestbida/iframemanager/dist/iframemanager.css">
<script defer src="/peers/@orestbida/iframemanager/dist/iframemanager.js"></script>
<script defer src="/peers/vanilla-cookieconsent/dist/cookieconsent.umd.js"></script>
<script>addEventListener('DOMContentLoaded', () => {
  const im = iframemanager();
  im.run({currLang: 'nl', services: {embed: {embedUrl: '{data-id}', languages: {nl: {
    notice: 'Van een ander', loadBtn: 'Toon', loadAllBtn: 'Toon altijd'}}}}});
  const sync = () => CookieConsent.acceptedCategory('embeds') ? im.acceptService('all') : im.rejectService('all');
  CookieConsent.run({
  categories: {necessary: {enabled: true, readOnly: true}, embeds: {},
    analytics: {services: {Teller: {label: 'Teller'}}}},
  onConsent: sync, onChange: sync,
  language: {default: 'nl', translations: {nl: {
    consentModal: {title: 'Mogen we cookies gebruiken?', description: 'De school vraagt je toestemming voor cookies.',
      acceptAllBtn: 'Accepteren', acceptNecessaryBtn: 'Weigeren', showPreferencesBtn: 'Zelf kiezen'},
    preferencesModal: {title: 'Zelf kiezen', acceptAllBtn: 'Accepteren', acceptNecessaryBtn: 'Weigeren',
      savePreferencesBtn: 'Opslaan', closeIconLabel: 'Sluiten', sections: [
      {title: 'Bezoek meten', description: 'Tellen.', linkedCategory: 'analytics'},
      {title: 'Inhoud', description: 'Tonen.', linkedCategory: 'embeds'}]}}}}})})</script>
"""


@dataclass(frozen=True)
class Vanilla(Peer):
    """vanilla-cookieconsent: scripts are parked by `type=text/plain data-category`; frames by IframeManager, the other
    library of its author, to which its documentation points."""

    name: str = "vanilla-cookieconsent"
    package: str = "vanilla-cookieconsent"
    accept: str = "#cc-main .cm [data-role=all]"
    refuse: str = "#cc-main .cm [data-role=necessary]"

    def tags(self, cases: Sequence[Case]) -> str:
        return VANILLA

    def script(self, case: Case, given: str, first: dict[str, str], url: str, text: str) -> str:
        kind = ' data-type="module"' if first.get("type") == "module" else ""
        moved = renamed(without(given, "type"), "src", "data-src")
        return f'<script type="text/plain" data-category="analytics"{kind} {moved.strip().strip("/")}>{text}</script>'

    def element(self, name: str, given: str, first: dict[str, str]) -> str | None:
        if name != "iframe" or "src" not in first:
            return None
        return f'<div data-service="embed" data-id="{entities.escape(first["src"])}"></div><iframe hidden>'


# -- Klaro -------------------------------------------------------------------------------------------------------------

KLARO = """
<script>window.klaroConfig = {lang: 'nl', acceptAll: true, privacyPolicy: '/privacy',
  translations: {nl: {consentNotice: {description: 'De school vraagt je toestemming voor cookies.'},
    purposes: {analytics: {title: 'Bezoek meten'}}}},
  services: [{name: 'tracker', purposes: ['analytics'], cookies: [/^_ga/]},
    {name: 'matomo', purposes: ['analytics'], cookies: [/^_pk/]}]}</script>
<script defer data-config="klaroConfig" src="/peers/klaro/dist/klaro.js"></script>
"""


@dataclass(frozen=True)
class Klaro(Peer):
    """Klaro: scripts are parked by `type=text/plain data-name data-src`; any other element with a `src` or `href` by
    `data-name` and `data-src` or `data-href`."""

    name: str = "klaro"
    package: str = "klaro"
    accept: str = ".klaro .cookie-notice .cm-btn-success"
    refuse: str = ".klaro .cookie-notice .cn-decline"

    def tags(self, cases: Sequence[Case]) -> str:
        return KLARO

    def script(self, case: Case, given: str, first: dict[str, str], url: str, text: str) -> str:
        kind = first.get("type") or "application/javascript"
        moved = renamed(without(given, "type"), "src", "data-src").strip().strip("/")
        return f'<script type="text/plain" data-type="{kind}" data-name="tracker" {moved}>{text}</script>'

    def element(self, name: str, given: str, first: dict[str, str]) -> str | None:
        if name == "script" or "srcdoc" in first:
            return None
        for key in ("src", "href"):
            if key in first and name not in ("a", "base", "use", "feimage") and (name, key) != ("image", "href"):
                kind = ' data-type="text/css"' if name == "link" else ""
                return f'<{name} data-name="tracker"{kind} {renamed(given, key, f"data-{key}").strip()}>'
        return None


# -- tarteaucitron -----------------------------------------------------------------------------------------------------

TARTEAUCITRON = """
<script src="/peers/tarteaucitronjs/tarteaucitron.min.js"></script>
<script>var tarteaucitronForceLanguage = 'nl';
tarteaucitron.init({privacyUrl: '', bodyPosition: 'top', hashtag: '#tarteaucitron', cookieName: 'tarteaucitron',
  orientation: 'middle', groupServices: false, showDetailsOnClick: true, serviceDefaultState: 'wait',
  showAlertSmall: false, cookieslist: false, showIcon: true, iconPosition: 'BottomRight', adblocker: false,
  DenyAllCta: true, AcceptAllCta: true, highPrivacy: true, alwaysNeedConsent: false, handleBrowserDNTRequest: false,
  removeCredit: false, moreInfoLink: true, useExternalCss: false, useExternalJs: false, readmoreLink: '',
  mandatory: true, mandatoryCta: false, googleConsentMode: true, bingConsentMode: true, partnersList: true});
(tarteaucitron.job = tarteaucitron.job || []).push('iframe')</script>
"""


@dataclass(frozen=True)
class Tarteaucitron(Peer):
    """tarteaucitron: no mark on a script; each becomes a service of one's own, as its documentation describes, which
    adds the script. Frames become `<div class="tac_iframe">`."""

    name: str = "tarteaucitron"
    package: str = "tarteaucitronjs"
    accept: str = "#tarteaucitronPersonalize2"
    refuse: str = "#tarteaucitronAllDenied2"

    def tags(self, cases: Sequence[Case]) -> str:
        services: list[str] = []
        for case, _, first, url, text in gathered(cases):
            code = f"tarteaucitron.addScript({json.dumps(url.strip())});" if url else text
            if first.get("type") == "module":
                how = f"src = {json.dumps(url)}" if url else f"textContent = {json.dumps(text)}"
                code = (
                    f"const s = document.createElement('script'); s.type = 'module'; s.{how}; document.head.append(s);"
                )
            key = json.dumps(f"{case.name}-{len(services)}")
            services.append(
                f"tarteaucitron.services[{key}] = {{key: {key}, type: 'analytic', name: {key}, needConsent: true,"
                f" cookies: [], js: function () {{ {code} }}}};\ntarteaucitron.job.push({key});".replace("</", "<\\/")
            )
        return TARTEAUCITRON + "<script>" + "\n".join(services) + "</script>\n"

    def script(self, case: Case, given: str, first: dict[str, str], url: str, text: str) -> str:
        return ""

    def element(self, name: str, given: str, first: dict[str, str]) -> str | None:
        if name != "iframe" or "src" not in first:
            return None
        url = entities.escape(first["src"])
        return f'<div class="tac_iframe" width="100" height="100" url="{url}"></div><iframe hidden>'


# -- c15t --------------------------------------------------------------------------------------------------------------

C15T = """
import { getOrCreateConsentRuntime, policyPackPresets } from 'c15t';
const { consentStore } = getOrCreateConsentRuntime({
  mode: 'offline', consentCategories: ['necessary', 'measurement', 'marketing'],
  offlinePolicy: { policyPacks: [policyPackPresets.europeOptIn()] }, overrides: { country: 'NL' },
  scripts: window.c15tScripts, networkBlocker: { enabled: true, rules: window.c15tRules, logBlockedRequests: false },
});
{
  consentStore.getState().initializeIframeBlocker();
  const banner = document.createElement('div');
  banner.id = 'c15t-battery';
  banner.style.cssText = 'position: fixed; z-index: 9; bottom: 0; left: 0; background: #fff';
  banner.innerHTML = '<p>Mogen we cookies gebruiken?</p>' +
    '<button id="c15t-all">Accepteren</button><button id="c15t-none">Weigeren</button>';
  document.body.append(banner);
  const show = state => { banner.style.display = state.activeUI === 'banner' ? 'block' : 'none'; };
  consentStore.subscribe(show);
  show(consentStore.getState());
  document.getElementById('c15t-all').onclick = () => consentStore.getState().saveConsents('all');
  document.getElementById('c15t-none').onclick = () => consentStore.getState().saveConsents('necessary');
}
"""


@dataclass(frozen=True)
class C15t(Peer):
    """c15t, headless, without its server: scripts leave the page and are registered with its script loader; frames
    carry `data-src data-category`; its network blocker knows every tracker's host. As the
    bundle of an app it is deferred."""

    name: str = "c15t"
    package: str = "c15t"
    accept: str = "#c15t-all"
    refuse: str = "#c15t-none"

    def tags(self, cases: Sequence[Case]) -> str:
        scripts: list[dict[str, str]] = []
        for case, _, _, url, text in gathered(cases):
            one = {"id": f"{case.name}-{len(scripts)}", "category": "measurement"}
            scripts.append(one | ({"src": url.strip()} if url else {"textContent": text}))
        hosts = {
            urlsplit("https:" + url).hostname
            for case in cases
            for url in re.findall(r"//[a-z0-9.-]+\.[a-z]+", case.html)
        }
        hosts |= {"google-analytics.com", "facebook.com", "googletagmanager.com", "hotjar.com", "youtube.com"}
        rules = [{"id": host, "domain": host, "category": "measurement"} for host in sorted(filter(None, hosts))]
        data = f"window.c15tScripts = {json.dumps(scripts)}; window.c15tRules = {json.dumps(rules)};".replace(
            "</", "<\\/"
        )
        return f'<script>{data}</script>\n<script defer src="{ORIGIN}/peers/c15t-battery.js"></script>\n'

    def script(self, case: Case, given: str, first: dict[str, str], url: str, text: str) -> str:
        return ""

    def element(self, name: str, given: str, first: dict[str, str]) -> str | None:
        if name != "iframe" or "src" not in first:
            return None
        return f'<iframe data-category="measurement" {renamed(given, "src", "data-src").strip()}>'


# -- bringing them in --------------------------------------------------------------------------------------------------


class NoPeers(Exception):
    """The peers could not be brought in; says why."""


def install() -> None:
    """Bring the peers in from npm, at the versions in `package.json`, once."""
    wanted = (HERE / "package.json").read_text("utf-8") + C15T
    stamp = PEERS / ".installed"
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return
    if shutil.which("npm") is None:
        raise NoPeers("there is no npm; `scripts/needs node` installs it")
    PEERS.mkdir(parents=True, exist_ok=True)
    (PEERS / "package.json").write_text((HERE / "package.json").read_text("utf-8"), "utf-8")
    (PEERS / "c15t.js").write_text(C15T, "utf-8")
    bundle = "node_modules/.bin/esbuild c15t.js --bundle --minify --outfile=node_modules/c15t-battery.js"
    try:
        for command in ("npm install --no-audit --no-fund --no-package-lock --loglevel=error", bundle):
            subprocess.run(command.split(), cwd=PEERS, check=True, capture_output=True, text=True, timeout=180)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoPeers((getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]) from error
    stamp.write_text(wanted, "utf-8")


PEER_TARGETS: tuple[Peer, ...] = (Vanilla(), Klaro(), Tarteaucitron(), C15t())
