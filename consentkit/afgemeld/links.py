"""Links and headers with which people leave: signed, without a row in any database, without a readable address.

A token says whose (the keyed digest), which list, and, in a mailing, which delivery. It is signed under the afgemeld
key, which is never dropped, so it works for as long as the mail exists: after keys were rotated and after subscriber,
list, mailing and statistics were deleted (RFC 8058 section 3.1; checklist UNS-05). It opens nothing but leaving.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote

from consentkit.address import DIGEST_BYTES, HALF_BYTES, AddressKeys
from consentkit.afgemeld.entries import MARKETING, list_scope
from consentkit.errors import TokenError
from consentkit.tokens import Tokens, Use

_DELIVERY = 8
_BOUNCED = 5
_LIST_MARK = 3


@dataclass(frozen=True, slots=True, repr=False)
class Leaving:
    """What a token says: who wants to leave what.

    Args:
        digest: whole, or its first half where the token was a short one. key_id: the key it was made with.
        list: the list; None for all marketing. delivery: of a mailing, where the token names one.
    """

    digest: bytes
    key_id: str
    list: str | None
    delivery: int | None = None

    @property
    def scope(self) -> str:
        """The scope that it asks for."""
        return MARKETING if self.list is None else list_scope(self.list)

    def __repr__(self) -> str:
        return f"<Leaving {self.scope}>"


@dataclass(frozen=True, slots=True, repr=False)
class Bounced:
    """What a bounce's address says: `digest` is the first half, `key_id` the key it was made with."""

    digest: bytes
    key_id: str
    delivery: int


class Links:
    """Makes and reads the tokens.

    Args:
        keys: the afgemeld keys.
    """

    def __init__(self, keys: AddressKeys) -> None:
        self._keys = keys
        self._tokens = {key.id: Tokens([key.secret]) for key in keys.keys}

    def token(self, address: str, list: str | None, *, delivery: int | None = None) -> str:
        """A token for a link.

        Raises:
            AddressError: `address` is none. ValueError: `list` can't be the id of a list.
        """
        if list is not None:
            list_scope(list)
        head = bytes([delivery is not None]) + self._keys.digest(address)
        middle = b"" if delivery is None else delivery.to_bytes(_DELIVERY, "big")
        return self._tokens[self._keys.newest.id].sign(Use.UNSUBSCRIBE, head + middle + (list or "").encode("ascii"))

    def read(self, token: str) -> Leaving:
        """What a token says.

        Raises:
            TokenError: it is not ours, was changed in any character, or was made for another purpose.
        """
        for key_id, tokens in self._tokens.items():
            try:
                payload = tokens.read(Use.UNSUBSCRIBE, token)
            except TokenError:
                continue
            digest, rest = payload[1 : 1 + DIGEST_BYTES], payload[1 + DIGEST_BYTES :]
            delivery = None
            if payload[0]:
                delivery, rest = int.from_bytes(rest[:_DELIVERY], "big"), rest[_DELIVERY:]
            return Leaving(digest, key_id, rest.decode("ascii") or None, delivery)
        raise TokenError("not a signed value of ours")

    def short_token(self, address: str, list: str | None) -> str:
        """48 letters and digits that survive a mail address: half the digest, a mark of the list, a signature."""
        payload = self._keys.digest(address)[:HALF_BYTES] + _mark(list)
        return self._tokens[self._keys.newest.id].sign_short(Use.UNSUBSCRIBE, payload)

    def read_short(self, token: str, lists: tuple[str, ...]) -> Leaving:
        """What a short token says.

        Args:
            lists: the lists there are. For one that is gone the answer is all marketing.

        Raises:
            TokenError: as `read`.
        """
        for key_id, tokens in self._tokens.items():
            try:
                payload = tokens.read_short(Use.UNSUBSCRIBE, token)
            except TokenError:
                continue
            marked = {_mark(list): list for list in lists}
            return Leaving(payload[:HALF_BYTES], key_id, marked.get(payload[HALF_BYTES:]))
        raise TokenError("not a signed value of ours")

    def sign(self, use: Use, payload: bytes) -> str:
        """`payload` as a link's token that lasts as long as the mail it stands in."""
        return self._tokens[self._keys.newest.id].sign(use, payload)

    def unsign(self, use: Use, token: str) -> bytes:
        """The payload of a token made by `sign` for the same use.

        Raises:
            TokenError: as `read`.
        """
        for tokens in self._tokens.values():
            try:
                return tokens.read(use, token)
            except TokenError:
                continue
        raise TokenError("not a signed value of ours")

    def bounce_token(self, digest: bytes, delivery: int) -> str:
        """52 letters and digits that name a mailbox and a delivery in the address that bounces come back to."""
        payload = digest[:HALF_BYTES] + delivery.to_bytes(_BOUNCED, "big")
        return self._tokens[self._keys.newest.id].sign_short(Use.BOUNCE, payload)

    def read_bounce(self, token: str) -> Bounced:
        """Whose mail came back, and which.

        Raises:
            TokenError: as `read`.
        """
        for key_id, tokens in self._tokens.items():
            try:
                payload = tokens.read_short(Use.BOUNCE, token)
            except TokenError:
                continue
            return Bounced(payload[:HALF_BYTES], key_id, int.from_bytes(payload[HALF_BYTES:], "big"))
        raise TokenError("not a signed value of ours")

    def mailto(self, mailbox: str, address: str, list: str | None) -> str:
        """A `mailto:` that leaves: the token stands in the address, after the plus, and needs nothing else."""
        local, _, domain = mailbox.rpartition("@")
        return f"mailto:{quote(local)}+{self.short_token(address, list)}@{domain}?subject=unsubscribe"


BOUNCE_TOKEN = re.compile(r"\+([a-z2-7]{52})@", re.IGNORECASE)
"""Finds the token of a bounce in a mail address."""

SHORT_TOKEN = re.compile(r"\+([a-z2-7]{48})@", re.IGNORECASE)
"""Finds a short token in a mail address."""


def _mark(list: str | None) -> bytes:
    return sha256(b"list:" + (list or "").encode()).digest()[:_LIST_MARK]
