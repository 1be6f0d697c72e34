"""Hostile texts in everything that a site can configure: they are shown, they never run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from playwright.sync_api import Page
from starlette.responses import Response

from consentkit import catalogue
from consentkit.render import Renderer
from consentkit.service import Duration, Item
from tests.front.harness import TODAY, School, exempt_counter, make_policy, make_view

pytestmark = pytest.mark.browser

MARK = "window.owned=(window.owned||0)+1"
PAYLOADS = [
    f"<script>{MARK}</script>",
    f"</script><script>{MARK}</script>",
    f"<img src=x onerror={MARK}>",
    f"<img src=x onerror='{MARK}'//",
    f"<svg onload={MARK}>",
    f"<svg><script>{MARK}</script></svg>",
    f"<svg/onload={MARK}>",
    f"<body onload={MARK}>",
    f"<iframe srcdoc='<script>parent.{MARK}</script>'>",
    f"<iframe src=javascript:parent.{MARK}>",
    f"<details open ontoggle={MARK}>",
    f"<input autofocus onfocus={MARK}>",
    f"<select autofocus onfocus={MARK}>",
    f"<video><source onerror={MARK}>",
    f"<audio src=x onerror={MARK}>",
    f"<marquee onstart={MARK}>",
    f"<object data=javascript:{MARK}>",
    f"<embed src=javascript:{MARK}>",
    f"<a href=javascript:{MARK}>click</a>",
    f"<form action=javascript:{MARK}><button>x",
    f"<button formaction=javascript:{MARK}>x",
    f"<math><mtext><script>{MARK}</script>",
    f"<template><script>{MARK}</script></template>",
    f"<noscript><p title='</noscript><img src=x onerror={MARK}>'>",
    f"<style>@import 'javascript:{MARK}'</style>",
    f"</style><script>{MARK}</script>",
    f"</title><script>{MARK}</script>",
    f"</textarea><script>{MARK}</script>",
    f"</section></form><script>{MARK}</script>",
    f"--><script>{MARK}</script>",
    f"]]><script>{MARK}</script>",
    f"'><script>{MARK}</script>",
    f'"><script>{MARK}</script>',
    f'" onmouseover="{MARK}" x="',
    f"' onmouseover='{MARK}' x='",
    f'" autofocus onfocus="{MARK}',
    f"` onmouseover={MARK} `",
    f"x onload={MARK}",
    f"javascript:{MARK}",
    f"data:text/html,<script>{MARK}</script>",
    f"&lt;script&gt;{MARK}&lt;/script&gt;",
    f"&#60;script&#62;{MARK}&#60;/script&#62;",
    f"&quot;&gt;<img src=x onerror={MARK}>",
    f"<scr<script>ipt>{MARK}</scr</script>ipt>",
    f"<SCRIPT>{MARK}</SCRIPT>",
    f"<script\x0c>{MARK}</script>",
    f"\x00<script>{MARK}</script>",
    f"+ADw-script+AD4-{MARK}+ADw-/script+AD4-",
    f"¼script¾{MARK}¼/script¾",
    f"{{{{ ''.__class__ }}}}{{% for x in [] %}}<script>{MARK}</script>",
    f"{{controller}} {{0}} %s ${{{MARK}}}",
    f"@@TOKEN@@@@NONCE@@<script>{MARK}</script>",
]


def hostile_school(payload: str, mode: str = "private") -> School:
    """A site that carries the payload in everything it can say about itself and its services."""
    both = {"nl": payload, "en": payload}
    item = Item("x" + payload, Duration(1, "year"), both)
    known = catalogue.load()
    services = [
        replace(
            known["google-analytics"], title=payload, provider=payload, country=payload, purpose=both, items=(item,)
        ),
        replace(known["youtube"], title=payload, provider=payload, purpose=both, items=(item,), privacy_url=payload),
        replace(exempt_counter(), title=payload, exempt=both, purpose=both),
    ]
    view = make_view(
        make_policy(services, site=payload, controller=payload),
        name=payload,
        controller=payload,
        address=payload,
        email=payload,
        privacy_statement=payload,
        version=payload,
        mode=mode,
        texts={lang: {"title": payload, "intro": payload} for lang in ("nl", "en")},
    )
    frame = '<iframe id="film" title="Film" srcdoc="@@EMBED youtube@@"></iframe>'
    host = (
        '<!DOCTYPE html><html lang="nl"><head><meta charset="utf-8"><title>t</title>@@HEAD@@</head>'
        f"<body>@@BANNER@@<h1>Host</h1>{frame}@@FOOTER@@</body></html>"
    )
    return School(view=view, pages={"/": host})


def test_there_are_at_least_fifty_payloads() -> None:
    assert len(set(PAYLOADS)) >= 50


SHOW_ALL = """async documents => {
  const frames = Object.entries(documents).map(([name, text]) => {
    const frame = document.createElement('iframe');
    const loaded = new Promise(done => frame.onload = done);
    frame.srcdoc = text;
    return {name, frame, loaded};
  });
  document.body.replaceChildren(...frames.map(one => one.frame));
  await Promise.all(frames.map(one => one.loaded));
  return Object.fromEntries(frames.map(({name, frame}) => {
    const inside = frame.contentDocument;
    for (const link of inside.querySelectorAll('a, button, summary')) {
      link.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
      link.focus();
    }
    for (const one of inside.querySelectorAll('details')) one.open = true;
    const alive = [...inside.querySelectorAll('*')].flatMap(one => one.getAttributeNames()
      .filter(attr => /^on/.test(attr) || /^(javascript|data):/i.test(one.getAttribute(attr).trim())
        && /^(href|src|action|formaction|data)$/.test(attr)).map(attr => one.localName + ' ' + attr));
    const script = [...inside.scripts].filter(one => !one.src).map(one => one.text);
    const text = inside.documentElement.textContent.replaceAll('\ufffd', '').replace(/\\s+/g, ' ');
    return [name, {owned: (frame.contentWindow.owned ?? 0) + (window.owned ?? 0), alive, script, text}];
  }));
}"""


@pytest.mark.checklist("SEC-02")
def test_no_payload_runs_anywhere_and_each_is_shown_as_text(
    serve: Callable[..., str], new_page: Callable[..., Page]
) -> None:
    page = new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(serve(Response("", media_type="text/html", headers={"Cache-Control": "max-age=600"})))
    for payload in PAYLOADS:
        school = hostile_school(payload)
        renderer, lang = school.renderer, "nl"
        state = school.choices.state(None, signal=None, today=TODAY)
        service = school.view.policy.asked[-1].services[0]
        host = (
            f"<!DOCTYPE html><html lang=nl><head><title>t</title></head><body>{renderer.banner(lang)}"
            f"{renderer.footer(lang, granted=True, own_settings=False, signal='gpc')}</body></html>"
        )
        documents = {
            "banner": host,
            "placeholder": renderer.placeholder(lang, service, True),
            "closed": renderer.placeholder(lang, service, False),
            "settings": renderer.page("settings", lang, state=state, token=payload, next=payload).decode(),
            "cookies": renderer.page("cookies", lang, since=TODAY).decode(),
            "message": renderer.page(
                "message", lang, title=payload, sentence=payload, href=payload, label=payload
            ).decode(),
            "notice": renderer.show_notice(renderer.notice_body(lang)).decode(),
        }
        shown = " ".join(payload.replace("\x00", "").split())
        for name, found in page.evaluate(SHOW_ALL, documents).items():
            assert found["owned"] == 0, (name, payload)
            assert found["alive"] == [], (name, payload)
            assert found["script"] == [], (name, payload)
            assert shown in found["text"], (name, payload)
    assert dialogs == []


@pytest.mark.checklist("SEC-02")
@pytest.mark.parametrize("payload", [PAYLOADS[2], PAYLOADS[32], PAYLOADS[33], PAYLOADS[-1]])
@pytest.mark.parametrize("mode", ["private", "shared"])
def test_a_hostile_site_still_gets_a_banner_that_works(
    serve: Callable[..., str], new_page: Callable[..., Page], payload: str, mode: str
) -> None:
    school = hostile_school(payload, mode)
    page = new_page(base_url=serve(school.app))
    page.goto("/")

    page.locator("#consentkit [value=refuse]").click()

    page.locator("#consentkit").wait_for(state="hidden")
    assert page.evaluate("window.owned") is None
    assert [dict(post)["decision"] for post in school.posts] == ["refuse"]


@pytest.mark.checklist("SEC-02")
def test_a_notice_that_somebody_changed_in_the_database_can_run_nothing(new_page: Callable[..., Page]) -> None:
    renderer = Renderer(make_view())
    body = renderer.notice_body("nl")
    evil = f"<script>parent.{MARK};{MARK}</script><img src=x onerror=parent.{MARK}>"
    body |= {"banner": evil, "css": f"</style>{evil}", "pages_css": f"</style>{evil}", "site": evil, "language": evil}
    page = new_page()
    page.set_content(renderer.show_notice(body).decode())
    page.wait_for_timeout(300)

    assert all(frame.evaluate("window.owned") is None for frame in page.frames)
