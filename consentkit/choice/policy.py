"""What a site asks: its purposes, the services behind each, and the fingerprint that notices any change.

A purpose is one switch (GDPR recital 43: separate consent for separate operations). It is a category with all
its services, or a single embed (a video, a map), or an exempt measurement that can be objected to. Each
purpose has a fingerprint over everything the visitor is told about it, so that what changes asks again by
itself and what stays the same stays answered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from consentkit.service import NECESSARY, Service, Text

FINGERPRINT_BYTES = 3


def canonical(value: Any) -> bytes:
    """One spelling for one value: JSON with sorted keys and no spaces, in UTF-8."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _told(service: Service) -> dict[str, Any]:
    """What a visitor is told about a service; its hosts and markers may change without asking again."""
    return {
        "id": service.id,
        "title": service.title,
        "provider": service.provider,
        "country": service.country,
        "transfer": str(service.transfer),
        "purpose": dict(service.purpose),
        "exempt": dict(service.exempt) if service.exempt else None,
        "items": [
            [item.kind, item.name, str(item.duration), item.party, dict(item.purpose)]
            for item in sorted(service.items, key=lambda item: (item.kind, item.name))
        ],
    }


@dataclass(frozen=True, slots=True)
class Purpose:
    """One switch. `kind` is `consent` (off until granted) or `opt_out` (exempt from consent, on until objected)."""

    id: str
    category: str
    kind: Literal["consent", "opt_out"]
    title: Text
    about: Text
    services: tuple[Service, ...]
    fingerprint: bytes

    @property
    def embed(self) -> bool:
        """Whether it is a single embedded provider, asked apart from its category."""
        return self.kind == "consent" and self.id != self.category


@dataclass(frozen=True, slots=True)
class Policy:
    """All that one site asks and tells. `days` is how long an answer holds."""

    site: str
    controller: str
    days: int
    purposes: tuple[Purpose, ...]
    necessary: tuple[Service, ...]
    fingerprint: str

    @classmethod
    def build(
        cls,
        *,
        site: str,
        controller: str,
        days: int,
        services: Iterable[Service],
        categories: Mapping[str, tuple[Text, Text]],
        wording: Mapping[str, Any],
    ) -> Policy:
        """Put the configured services into purposes.

        Args:
            site: the name of the site; controller: who asks.
            days: how long an answer holds.
            services: the services that the site names.
            categories: title and explanation per category, in the order in which they are asked.
            wording: the texts of the first layer; any change of them asks again.
        """
        named = sorted(services, key=lambda service: (service.title.lower(), service.id))
        told = {"site": site, "controller": controller, "wording": wording}
        purposes: list[Purpose] = []
        for category, (title, about) in categories.items():
            members = [service for service in named if service.category == category and service.category != NECESSARY]
            shared = tuple(service for service in members if service.purpose_id == category)
            if shared:
                purposes.append(
                    _purpose(category, category, "consent", title=title, about=about, services=shared, told=told)
                )
            for service in members:
                if service.purpose_id == category:
                    continue
                same = dict.fromkeys(service.purpose, service.title)
                kind: Literal["consent", "opt_out"] = "consent" if service.asks else "opt_out"
                purposes.append(
                    _purpose(
                        service.id, category, kind, title=same, about=service.purpose, services=(service,), told=told
                    )
                )
        purposes.sort(key=lambda purpose: (purpose.kind == "opt_out", purpose.embed))
        necessary = tuple(service for service in named if service.category == NECESSARY)
        whole = [told, [[p.id, p.kind, p.fingerprint.hex()] for p in purposes], [_told(s) for s in necessary]]
        return cls(site, controller, days, tuple(purposes), necessary, hashlib.sha256(canonical(whole)).hexdigest())

    @property
    def asked(self) -> tuple[Purpose, ...]:
        """The purposes that need consent; empty means that no banner is shown (BAN-14)."""
        return tuple(purpose for purpose in self.purposes if purpose.kind == "consent")

    @property
    def services(self) -> tuple[Service, ...]:
        """Every service that the site names, the necessary ones first."""
        return self.necessary + tuple(service for purpose in self.purposes for service in purpose.services)

    def purpose(self, name: str) -> Purpose | None:
        """The purpose called `name`, or the one that releases the service called `name`."""
        for purpose in self.purposes:
            if purpose.id == name or any(service.id == name for service in purpose.services):
                return purpose
        return None

    def switches(self, name: str) -> frozenset[str]:
        """The switches that an answer may name: a purpose, or a category that has none of its own but embeds."""
        if any(purpose.id == name for purpose in self.purposes):
            return frozenset({name})
        return frozenset(purpose.id for purpose in self.asked if purpose.category == name and purpose.embed)

    def resolve(self, name: str) -> frozenset[str]:
        """The purpose ids that a purpose, service or category is released by; empty for an unknown name.

        A category that has no switch of its own stands for all the embeds in it.
        """
        if found := self.purpose(name):
            return frozenset({found.id})
        return frozenset(purpose.id for purpose in self.asked if purpose.category == name)


def _purpose(
    id: str,
    category: str,
    kind: Literal["consent", "opt_out"],
    *,
    title: Text,
    about: Text,
    services: tuple[Service, ...],
    told: Mapping[str, Any],
) -> Purpose:
    everything = [told, id, kind, dict(title), dict(about), [_told(service) for service in services]]
    fingerprint = hashlib.sha256(canonical(everything)).digest()[:FINGERPRINT_BYTES]
    return Purpose(id, category, kind, title, about, services, fingerprint)
