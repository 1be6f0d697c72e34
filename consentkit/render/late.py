"""What the guard in the browser knows: which host, at which path, needs which choice, as the gate would say.

Two lists of lines `host/path?parameter need`; without a need nobody can grant it, with an empty one nobody has to.
The first goes with the guard: what the site names, its own hosts, and whatever shares a host with those. The second
is for the first stranger that comes by: all other services that are known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from consentkit.gate import UNANSWERABLE, Needs
from consentkit.gate.registry import Place
from consentkit.gate.urls import plain_host
from consentkit.service import Service


@dataclass(frozen=True, slots=True)
class Hosts:
    """The two lists, and whether a third party that is in neither is held back (`strict`)."""

    near: tuple[str, ...] = ()
    far: tuple[str, ...] = ()
    strict: bool = False

    @classmethod
    def of(
        cls,
        services: Iterable[Service],
        needs: Callable[[Service], Needs],
        *,
        own_hosts: Collection[str],
        strict: bool,
    ) -> Hosts:
        """The lists of one site.

        Args:
            services: all that are known. needs: what must be granted before one may load.
            own_hosts: the site's host names. strict: whether an unknown third party is held back.
        """
        entries = [(*_read(host), _need(needs(service))) for service in services for host in service.hosts]
        entries += [(plain_host(host), "", "", "") for host in own_hosts]
        entries.sort(key=lambda entry: (-len(entry[1]), -len(entry[2]), entry))
        named = {host for host, _, _, need in entries if need != UNANSWERABLE}
        near = [entry for entry in entries if any(_within(entry[0], host) or _within(host, entry[0]) for host in named)]
        return cls(tuple(map(_line, near)), tuple(sorted(set(map(_line, entries)) - set(map(_line, near)))), strict)


def _read(entry: str) -> tuple[str, str, str]:
    """Host, path and parameter, as the gate compares them."""
    place = Place.of(entry)
    return place.host, place.path.lower(), place.parameter


def _need(needs: Needs) -> str:
    return "".join(needs)  # a service belongs to one choice


def _within(host: str, parent: str) -> bool:
    return host == parent or host.endswith("." + parent)


def _line(entry: tuple[str, str, str, str]) -> str:
    host, path, parameter, need = entry
    line = f"{host}{path}?{parameter}" if parameter else f"{host}{path}"
    return line if need == UNANSWERABLE else f"{line} {need}"
