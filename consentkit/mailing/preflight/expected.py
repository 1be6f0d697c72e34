"""What the check is told; everything else it reads from the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parseaddr
from urllib.parse import urlsplit

from consentkit.mailing.dkim import Key
from consentkit.mailing.states import Purpose
from consentkit.settings import is_local

_RESERVED = (".example", ".invalid", "example.com", "example.net", "example.org")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Expected:
    """What one sample message should be.

    Args:
        purpose: marketing or service. list: the id of the list; empty where there is none.
        sender: who it comes from by the configuration, `De Linde <nieuws@delinde.example>`.
        envelope_sender: the address that bounces come back to.
        controller, address: the legal name and the postal address that each mail shows (Tw 11.7(7)).
        base_url, prefix: of the site, so that links with somebody's token can be told from others.
        unsubscribe_url, preferences_url: of this reader.
        list_unsubscribe: the whole value of the header; empty: a header with `unsubscribe_url` will do.
        measured: this reader agreed to be measured; quiet_url then is the link that ends only that.
        keys: ours to sign with; none where the mail server signs.
        size_limit: octets that the server takes; 0 where it does not say.
    """

    purpose: Purpose
    list: str
    sender: str
    envelope_sender: str
    controller: str
    address: str
    base_url: str
    prefix: str = "/privacy"
    unsubscribe_url: str = ""
    preferences_url: str = ""
    list_unsubscribe: str = ""
    measured: bool = False
    quiet_url: str = ""
    keys: Sequence[Key] = ()
    size_limit: int = 0

    @property
    def marketing(self) -> bool:
        """Whether it needs a way out."""
        return self.purpose == Purpose.MARKETING

    @property
    def domain(self) -> str:
        """Of the sender."""
        return domain_of(self.sender)

    @property
    def envelope_domain(self) -> str:
        """Of the address that bounces come back to."""
        return domain_of(self.envelope_sender)

    @property
    def own_urls(self) -> frozenset[str]:
        """The addresses that may differ from reader to reader."""
        return frozenset({self.unsubscribe_url, self.preferences_url, self.quiet_url} - {""})

    @property
    def live(self) -> bool:
        """Whether the site is a real one, not one on this machine or with a name made for examples."""
        return not is_reserved(urlsplit(self.base_url).hostname or "")


def domain_of(mailbox: str) -> str:
    """The domain of an address, with or without a name, in small letters."""
    return parseaddr(mailbox)[1].rpartition("@")[2].lower()


def is_reserved(host: str) -> bool:
    """Whether nobody can be reached under a name (RFC 2606, RFC 6761)."""
    return is_local(host) or any(
        host == name.lstrip(".") or host.endswith("." + name.lstrip(".")) for name in _RESERVED
    )
