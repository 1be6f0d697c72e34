"""The headers that set the choice and expire what was withdrawn; names of request cookies without a parser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from consentkit.choice.policy import Policy

MAX_EXPIRING_BYTES = 2048
"""Proxies refuse large response headers (nginx: 4 or 8 KB). What does not fit is expired at the next page."""


def cookie_name(*, secure: bool, shared_domain: bool) -> str:
    """`__Host-consentkit` over https (RFC 6265bis section 4.1.3.2), unless subdomains are to share the cookie."""
    return "__Host-consentkit" if secure and not shared_domain else "consentkit"


def choice_header(
    name: str, value: str, *, days: int, secure: bool, readable: bool, domain: str | None = None
) -> bytes:
    """The `Set-Cookie` value of a choice: set by the server, so that no browser cuts its life short (STO-04)."""
    parts = [f"{name}={value}", "Path=/", f"Max-Age={days * 86400}", "SameSite=Lax"]
    parts += [f"Domain={domain}"] if domain else []
    parts += ["Secure"] if secure else []
    parts += [] if readable else ["HttpOnly"]
    return "; ".join(parts).encode("ascii")


def find(header: str, name: str) -> str | None:
    """The value of the first cookie called `name` in a `Cookie` header."""
    wanted = name + "="
    at = header.find(wanted)
    while at != -1:
        if at == 0 or header[at - 1] in "; ":
            end = header.find(";", at)
            return header[at + len(wanted) : end if end != -1 else None].strip().strip('"')
        at = header.find(wanted, at + 1)
    return None


def names(header: str) -> Iterator[str]:
    """The names of all cookies in a `Cookie` header."""
    for part in header.split(";"):
        name = part.partition("=")[0].strip()
        if name:
            yield name


def refused(header: str, policy: Policy, granted: frozenset[str]) -> tuple[str, ...]:
    """The cookies in a `Cookie` header that belong to a purpose which is not granted."""
    held_back = [service for purpose in policy.purposes if purpose.id not in granted for service in purpose.services]
    allowed = [service for service in policy.services if service not in held_back]
    return tuple(
        name
        for name in dict.fromkeys(names(header))
        if any(service.cookie(name) for service in held_back) and not any(service.cookie(name) for service in allowed)
    )


def _domains(host: str) -> list[str | None]:
    labels = host.rstrip(".").lower().split(".")
    if ":" in host or len(labels) < 2 or labels[-1].isdigit():
        return [None]
    return [None, *(".".join(labels[at:]) for at in range(len(labels) - 1))]


def _paths(path: str) -> list[str]:
    found = ["/"]
    for part in path.split("?", maxsplit=1)[0].strip("/").split("/")[:3]:
        if part and part.isascii() and part.isprintable() and ";" not in part:
            found.append(found[-1].rstrip("/") + "/" + part)
    return found


def expiring(cookie_names: Iterable[str], *, host: str, path: str) -> list[bytes]:
    """`Set-Cookie` values that end these cookies on every domain and path they can have been set for (WDR-03).

    Args:
        host: the request's host name without port. path: the path of the page they were seen on.
    """
    headers: list[bytes] = []
    size = 0
    for name in cookie_names:
        if not name.isascii() or not name.isprintable():
            continue
        for domain in [None] if name.startswith("__Host-") else _domains(host):
            for at in ["/"] if name.startswith("__Host-") else _paths(path):
                value = f"{name}=; Path={at}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
                value += f"; Domain={domain}" if domain else ""
                value += "; Secure" if name.startswith(("__Host-", "__Secure-")) else ""
                size += len(value)
                if size > MAX_EXPIRING_BYTES:
                    return headers
                headers.append(value.encode("ascii"))
    return headers
