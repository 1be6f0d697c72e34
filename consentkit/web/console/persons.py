"""One person: where they stand and why, what proves it, word for word, and what they may ask of us.

A person is found by address, which is sent in a form and stands in no URL, and is named by the number of the
subscriber from then on. Each look, and each act, is in the log before it is shown or done (checklist SEC-06).
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Final

from starlette.responses import Response

from consentkit.afgemeld import MARKETING, Leaving, Suppression
from consentkit.errors import AddressError
from consentkit.evidence import Notice
from consentkit.mailing import Received, received
from consentkit.mailing.report import reason_said as skipped_said
from consentkit.newsletter import Happening, Membership, Person
from consentkit.render import Texts
from consentkit.service import Duration
from consentkit.staff import Right
from consentkit.web.console.afgemeld import HOW
from consentkit.web.console.ask import Ask, Route
from consentkit.web.console.download import attachment
from consentkit.web.console.lists import paper_of, title_of
from consentkit.web.console.scopes import how_said, reason_said, scope_said
from consentkit.web.visit import HEADERS

_GREATEST: Final = 2**63 - 1
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that was agreed to, as it was shown."""

    hash: str
    language: str
    form: Sequence[str]
    confirm: Sequence[str]
    mail: str


class Persons:
    """What staff see of one person."""

    name = "lists"

    def __init__(self) -> None:
        people = Right.PEOPLE
        self.routes = (
            Route("persons", people, get=self._ask, post=self._find, once=False),
            Route("persons/notices/{hash}", people, get=self._notice),
            Route("persons/{id:int}", people, get=self._show),
            Route("persons/{id:int}/data", people, get=self._data),
            Route("persons/{id:int}/erase", people, get=self._ask_to_erase, post=self._erase),
            Route("persons/{id:int}/leave", Right.AFGEMELD, get=self._ask_to_leave, post=self._leave),
        )

    # -- finding ------------------------------------------------------------------------------------------------

    async def _ask(self, ask: Ask) -> Response:
        return ask.page("persons", typed="", error="")

    async def _find(self, ask: Ask) -> Response:
        typed = ask.sent.text("address")
        try:
            digest, id = await ask.run(ask.kit.newsletter.overview.find, typed)
        except AddressError:
            return ask.page("persons", status=422, typed=typed, error=ask.t("persons.error_address"))
        if id is not None:
            await ask.note("person.search", person=digest)
            return ask.back(f"persons/{id}")
        await ask.note("person.read", person=digest)
        found = await ask.run(ask.kit.afgemeld.all_of, typed)
        rows = [_suppression(ask, one) for one in found if not one.is_exception]
        return ask.page("person_unknown", address=typed, suppressed=rows)

    # -- showing ------------------------------------------------------------------------------------------------

    async def _show(self, ask: Ask) -> Response:
        person = await _person(ask)
        if person is None:
            return _nobody(ask)
        await ask.note("person.read", f"person {person.id}", person=person.digest)
        texts = await ask.run(_texts, ask, person)
        mails = await ask.run(received, ask.kit.store, person.id)
        return ask.page(
            "person",
            person=person,
            who=_who(ask.t, person),
            lists=[_membership(ask, one, texts) for one in person.lists],
            texts=texts.values(),
            suppressed=[_suppression(ask, one) for one in person.suppressed],
            history=[_happening(ask, one) for one in person.history],
            mails=[_mail(ask, one) for one in mails],
        )

    async def _notice(self, ask: Ask) -> Response:
        """A text that was agreed to, as it looked, for a frame: nothing in it runs, and its own styles are let in."""
        hash = ask.params["hash"]
        notice = await ask.run(ask.kit.evidence.notice, hash) if _HASH.match(hash) else None
        if notice is None or notice.content.get("kind") != "newsletter":
            return ask.wrong(ask.t("persons.no_text"), status=404, title=ask.t("base.not_found_title"))
        page = await ask.run(paper_of(ask).renderer.show_notice, notice.content)
        styles = {b64encode(sha256(style.encode()).digest()).decode() for style in _STYLE.findall(page.decode())}
        allowed = " ".join(f"'sha256-{style}'" for style in sorted(styles))
        policy = f"default-src 'none'; style-src {allowed}; frame-ancestors 'self'; form-action 'none'; sandbox"
        headers = HEADERS | {"Content-Security-Policy": policy, "X-Frame-Options": "SAMEORIGIN"}
        return Response(page, 200, headers, "text/html; charset=utf-8")

    async def _data(self, ask: Ask) -> Response:
        """All that is kept, as a file to hand over (GDPR art. 15)."""
        id, digest = ask.params["id"], await _digest(ask)
        if digest is None:
            return _nobody(ask)
        await ask.note("person.export", f"person {id}", person=digest)
        data = await ask.run(ask.kit.newsletter.data_of, digest)
        body = json.dumps(data, ensure_ascii=False, indent=1)
        return Response(body, 200, attachment(ask.t("persons.data_name", id=id)), "application/json")

    # -- acts ---------------------------------------------------------------------------------------------------

    async def _ask_to_erase(self, ask: Ask) -> Response:
        person = await _person(ask)
        if person is None:
            return _nobody(ask)
        await ask.note("person.read", f"person {person.id}", person=person.digest)
        period = ask.t.duration(Duration.parse(ask.kit.settings.retention.newsletter))
        return ask.page("person_erase", person=person, who=_who(ask.t, person), period=period)

    async def _erase(self, ask: Ask) -> Response:
        id, digest = ask.params["id"], await _digest(ask)
        if digest is None:
            return _nobody(ask)
        await ask.note("person.erase", f"person {id}", person=digest)
        erased = await ask.run(ask.kit.newsletter.erase_digest, digest)
        return ask.back(f"persons/{id}", told="persons.told_erased" if erased else "persons.told_erased_before")

    async def _ask_to_leave(self, ask: Ask) -> Response:
        person = await _person(ask)
        if person is None:
            return _nobody(ask)
        await ask.note("person.read", f"person {person.id}", person=person.digest)
        return _leaving(ask, person)

    async def _leave(self, ask: Ask) -> Response:
        """Take up in afgemeld what somebody asked by phone or letter (checklist UNS-08)."""
        person = await _person(ask)
        if person is None:
            return _nobody(ask)
        what, how = ask.sent.text("what"), ask.sent.text("how")
        errors = {}
        if what not in dict(_leavable(ask, person)):
            errors["what"] = ask.t("persons.error_what")
        if how not in HOW:
            errors["how"] = ask.t("persons.error_how")
        if errors:
            await ask.note("person.read", f"person {person.id}", person=person.digest)
            return _leaving(ask, person, errors)
        await ask.note("afgemeld.add", f"person {person.id}, {what}", person=person.digest)
        leaving = Leaving(person.digest, person.key_id, None if what == MARKETING else what)
        new = await ask.run(partial(ask.kit.newsletter.leave, leaving, reason=HOW[how], channel=how))
        return ask.back(f"persons/{person.id}", told="persons.told_left" if new else "persons.told_left_before")


async def _digest(ask: Ask) -> bytes | None:
    """The keyed digest of the person whose number stands in the path."""
    id = ask.params["id"]
    return await ask.run(ask.kit.newsletter.overview.digest, id) if id <= _GREATEST else None


async def _person(ask: Ask) -> Person | None:
    id = ask.params["id"]
    return await ask.run(ask.kit.newsletter.overview.person, id) if id <= _GREATEST else None


def _nobody(ask: Ask) -> Response:
    return ask.wrong(ask.t("persons.nobody"), status=404, title=ask.t("base.not_found_title"))


def _leaving(ask: Ask, person: Person, errors: Mapping[str, str] | None = None) -> Response:
    return ask.page(
        "person_leave",
        status=422 if errors else 200,
        person=person,
        who=_who(ask.t, person),
        whats=_leavable(ask, person),
        hows=[("", ask.t("persons.how_choose")), *((how, ask.t(f"afgemeld.how_{how}")) for how in HOW)],
        what=ask.sent.text("what") or MARKETING,
        how=ask.sent.text("how"),
        errors=errors or {},
    )


def _leavable(ask: Ask, person: Person) -> Sequence[tuple[str, str]]:
    """What somebody can leave: all marketing, or one of the lists on which they stand."""
    on = [one.list for one in person.lists if one.kind in ("confirmed", "proven", "waiting", "unproven")]
    return [(MARKETING, scope_said(ask, MARKETING)), *((id, title_of(ask, id)) for id in on)]


# -- in words -------------------------------------------------------------------------------------------------------


def _who(t: Texts, person: Person) -> str:
    return person.address or t("persons.without_address", id=person.id)


def _texts(ask: Ask, person: Person) -> Mapping[str, _Text]:
    """The texts that stand behind the consents of a person, by their hash."""
    wanted = dict.fromkeys(one.agreed.notice_hash for one in person.lists if one.agreed is not None)
    found = {hash: ask.kit.evidence.notice(hash) for hash in wanted}
    return {hash: _text(notice) for hash, notice in found.items() if notice is not None}


def _text(notice: Notice) -> _Text:
    content = notice.content
    return _Text(
        notice.hash, notice.language, content.get("texts", ()), content.get("confirm", ()), content.get("mail", "")
    )


def _membership(ask: Ask, one: Membership, texts: Mapping[str, _Text]) -> Mapping[str, Any]:
    """One list of a person: what a page says of it."""
    t = ask.t
    hidden = {"imported_at", "form", *(["how"] if one.record else [])}  # which the record says better
    proof = [(_word(t, "proof", name), value) for name, value in one.proof.items() if name not in hidden]
    return {
        "it": one,
        "title": title_of(ask, one.list),
        "kind": t(f"lists.kind_{one.kind}"),
        "may": t("persons.may") if one.why_not is None else _word(t, "why", one.why_not),
        "route": t(f"lists.ground_{one.route}"),
        "proof": proof,
        "how": "" if one.agreed is None else _method(ask, one.agreed.method),
        "text": texts.get(one.agreed.notice_hash) if one.agreed else None,
        "only_asked": one.agreed is not None and one.agreed.state == "requested",
    }


def _suppression(ask: Ask, one: Suppression) -> Mapping[str, Any]:
    return {
        "scope": scope_said(ask, one.scope),
        "reason": reason_said(ask, one.reason),
        "channel": how_said(ask, one.channel),
        "at": one.at,
    }


def _happening(ask: Ask, one: Happening) -> Mapping[str, Any]:
    """One line of the history."""
    t = ask.t
    if one.what == "afgemeld":
        list, how = scope_said(ask, one.list), how_said(ask, one.how)
    else:
        list = title_of(ask, one.list)
        how = t(f"lists.ground_{one.how}") if one.what == "imported" else _method(ask, one.how)
    measuring = one.event is not None and one.event.purposes.get(f"measuring.{one.list}")
    what = _word(t, "what", one.what)
    return {
        "at": one.at,
        "what": f"{what} {t('persons.with_measuring')}" if measuring else what,
        "list": list,
        "how": how,
        "record": one.event.record_id if one.event else "",
    }


def _method(ask: Ask, method: str) -> str:
    """The control that was used, in words; one that nobody named stays as the evidence has it."""
    if method.startswith("leave."):
        return how_said(ask, method.removeprefix("leave."))
    return _word(ask.t, "method", method)


def _word(t: Texts, kind: str, name: str) -> str:
    key = f"persons.{kind}_{re.sub(r'[^a-z0-9]+', '_', name)}"
    return t(key) if t.has(key) else name


def _mail(ask: Ask, one: Received) -> Mapping[str, Any]:
    reason = skipped_said(one.reason, ask.t) if one.reason else ""
    return {"it": one, "list": title_of(ask, one.list), "state": ask.t(f"persons.mail_{one.state}"), "reason": reason}
