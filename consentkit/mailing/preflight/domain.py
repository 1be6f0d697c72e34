"""What the DNS says about who may send this mail: SPF, DMARC (RFC 9989), MX, and the keys of our signatures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from consentkit.errors import ConsentKitError
from consentkit.mailing.dkim import Key
from consentkit.mailing.preflight.finding import Note, Place, error, warning

SECONDS: Final = 3.0
"""So long the DNS gets to answer; all questions are asked at once."""

_MOST_AT_ONCE = 16

Lookup = Callable[[str, str], Sequence[str]]
"""Asks for the records of a name and type: none where there are none, `DNSUnavailable` where nobody could say."""

_Question = tuple[str, str]


class DNSUnavailable(ConsentKitError):
    """The DNS gave no answer, which says nothing about the domain."""


def lookup(name: str, kind: str) -> Sequence[str]:
    """Asks the resolver of this machine.

    Raises:
        DNSUnavailable: it gave no answer within three seconds.
    """
    import dns.exception  # noqa: PLC0415  # no page view and no sending needs it
    import dns.resolver  # noqa: PLC0415

    try:
        answer = dns.resolver.resolve(name, kind, lifetime=SECONDS, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return ()
    except (dns.exception.DNSException, OSError) as problem:
        raise DNSUnavailable(f"the DNS did not answer for {name}. Try again later") from problem
    if kind == "TXT":
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
    return [record.exchange.to_text(omit_final_dot=True) for record in answer]


def aligned(one: str, other: str) -> bool:
    """Whether two domains are one, or one lies under the other."""
    short, long = sorted((one.lower(), other.lower()), key=len)
    return one.lower() == other.lower() or ("." in short and long.endswith("." + short))


def related(one: str, other: str) -> bool:
    """Whether two domains share what people register, as far as can be told without a list of suffixes."""
    kept = 3 if re.search(r"(?:^|\.)(?:ac|co|com|edu|gov|net|org)\.[a-z]{2}\Z", one.lower()) else 2
    tail = one.lower().split(".")[-kept:]
    return len(tail) == kept and tail == other.lower().split(".")[-kept:]


def notes(sender: str, envelope: str, keys: Iterable[Key], ask: Lookup) -> Iterator[Note]:
    """What is wrong in the DNS of one sender.

    Args:
        sender: the domain of From. envelope: that of the address which bounces come back to.
        keys: ours. ask: see `Lookup`.
    """
    keys = tuple(keys)
    policies = [f"_dmarc.{domain}" for domain in _upwards(sender)]
    both = tuple(dict.fromkeys((sender, envelope)))
    questions = [(envelope, "TXT"), *((name, "TXT") for name in policies), *((domain, "MX") for domain in both)]
    questions += [(key.name, "TXT") for key in keys]
    answers = _asked(tuple(dict.fromkeys(questions)), ask)
    if None in answers.values():
        yield warning("dns-unreachable", _dns(sender))
    yield from _spf(envelope, answers)
    yield from _dmarc(sender, policies, answers)
    for domain in both:
        hosts = answers[domain, "MX"]
        if hosts is not None and not set(hosts) - {"", "."}:
            yield warning("mx-missing", _dns(domain), domain=domain)
    for key in keys:
        records = answers[key.name, "TXT"]
        if records is not None and not any(_holds(record, key) for record in records):
            yield error("dkim-record", _dns(key.name), record=key.record())


def _asked(questions: Sequence[_Question], ask: Lookup) -> Mapping[_Question, Sequence[str] | None]:
    """The answers, None for those that nobody could give."""

    def one(question: _Question) -> Sequence[str] | None:
        try:
            return ask(*question)
        except DNSUnavailable:
            return None

    with ThreadPoolExecutor(min(len(questions), _MOST_AT_ONCE), thread_name_prefix="consentkit-dns") as pool:
        return dict(zip(questions, pool.map(one, questions), strict=True))


def _spf(domain: str, answers: Mapping[_Question, Sequence[str] | None]) -> Iterator[Note]:
    records = answers[domain, "TXT"]
    if records is None:
        return
    count = sum(record.lower() == "v=spf1" or record.lower().startswith("v=spf1 ") for record in records)
    if count != 1:
        yield warning("spf", _dns(domain), domain=domain, count=count)


def _dmarc(sender: str, names: Sequence[str], answers: Mapping[_Question, Sequence[str] | None]) -> Iterator[Note]:
    """The record of the domain, else that of the nearest parent that has one (RFC 9989 section 4.10)."""
    for name in names:
        records = answers[name, "TXT"]
        if records is None:
            return
        found = [record for record in records if re.match(r"\s*v\s*=\s*DMARC1\s*(?:;|\Z)", record)]
        if found and not re.search(r";\s*p\s*=\s*(?:none|quarantine|reject)\s*(?:;|\Z)", found[0], re.IGNORECASE):
            yield warning("dmarc-policy", _dns(name))
        if found:
            return
    yield warning("dmarc-missing", _dns(names[0]), domain=sender)


def _upwards(domain: str) -> Iterator[str]:
    labels = domain.split(".")
    return (".".join(labels[start:]) for start in range(max(len(labels) - 1, 1)))


def _holds(record: str, key: Key) -> bool:
    """Whether a record has this key, however it is spaced (RFC 6376 section 3.6.1)."""
    tags = dict(re.findall(r"([a-z]+)\s*=([^;]*)", re.sub(r"\s+", "", record)))
    kind = key.algorithm.partition("-")[0]
    return tags.get("p") == key.public and tags.get("k", "rsa") == kind and tags.get("v", "DKIM1") == "DKIM1"


def _dns(name: str) -> Place:
    return Place("dns", name)
