"""Signed values: bytes in, URL-safe text out, one salt per purpose, a list of keys of which the newest signs.

The signature is itsdangerous' HMAC-SHA-256 with a key derived per salt, so that a value made for one purpose
can never be spent for another. The clock stays outside: what expires carries its own time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from enum import StrEnum

from itsdangerous import BadSignature, Signer
from itsdangerous.encoding import base64_decode, base64_encode, want_bytes

from consentkit.errors import TokenError

MIN_KEY_BYTES = 32
"""A shorter secret can be searched (the hash gives 32 bytes; RFC 2104 section 3 asks at least as many)."""


SHORT_MAC_BYTES = 11
"""88 bits of HMAC-SHA-256 where a token must be short: a forger needs 2^87 tries at a server (RFC 2104 section 5)."""


class Use(StrEnum):
    """What a signed value is for; it becomes part of the salt."""

    CHOICE = "choice"
    NOTICE = "notice"
    UNSUBSCRIBE = "unsubscribe"
    CONFIRM = "confirm"
    PREFERENCES = "preferences"
    OWN_DATA = "own-data"
    PARENT = "parent"
    BOUNCE = "bounce"
    OPEN = "open"
    CLICK = "click"
    QUIET = "quiet"
    OWNER = "owner"
    ONCE = "once"
    SESSION = "session"
    STEP = "step"
    ONE_TIME = "one-time"
    FORM = "form"
    READER = "reader"


class _Signer(Signer):
    """Derives the key of each secret once, not at every signature."""

    def __init__(self, secrets: Sequence[bytes], use: Use) -> None:
        super().__init__(
            secrets, salt=f"consentkit.{use}.v1", key_derivation="hmac", digest_method=hashlib.sha256, sep="."
        )
        self._derived = {secret: super(_Signer, self).derive_key(secret) for secret in secrets}

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        return self._derived[want_bytes(secret_key or self.secret_keys[-1])]


class Tokens:
    """Signs and reads values.

    Args:
        keys: the secrets, newest first, each of at least 32 bytes. The first signs, all of them verify.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) < MIN_KEY_BYTES for key in keys):
            raise ValueError(f"a signing key must have at least {MIN_KEY_BYTES} bytes")
        oldest_first = list(reversed(keys))
        self._signers = {use: _Signer(oldest_first, use) for use in Use}

    def sign(self, use: Use, payload: bytes) -> str:
        """`payload` as text that is safe in a cookie, a URL and an HTML attribute."""
        return self._signers[use].sign(base64_encode(payload)).decode("ascii")

    def read(self, use: Use, token: str) -> bytes:
        """The payload of a token made by `sign` for the same use.

        Raises:
            TokenError: the text is not ours, was changed in any character, or was made for another use.
        """
        try:
            value = self._signers[use].unsign(token)
            payload = base64_decode(value)
            signature = token.rpartition(".")[2].encode("ascii")
            canonical = base64_encode(payload) == value and base64_encode(base64_decode(signature)) == signature
        except (BadSignature, UnicodeError, ValueError) as error:
            raise TokenError("not a signed value of ours") from error
        if not canonical:  # base64 lets the last character vary; a token has one spelling
            raise TokenError("not a signed value of ours")
        return payload

    def sign_short(self, use: Use, payload: bytes) -> str:
        """`payload` in base32, lower case, with a shorter signature: for a place that folds case and is narrow, such
        as the local part of a mail address (RFC 5321 section 4.5.3.1.1: 64 octets).
        """
        signed = payload + self._short_mac(use, self._signers[use].secret_keys[-1], payload)
        return base64.b32encode(signed).decode("ascii").rstrip("=").lower()

    def read_short(self, use: Use, token: str) -> bytes:
        """The payload of a token made by `sign_short` for the same use, in whichever case it comes back.

        Raises:
            TokenError: the text is not ours, was changed in any character, or was made for another use.
        """
        try:
            signed = base64.b32decode(token.upper() + "=" * (-len(token) % 8))
        except (binascii.Error, ValueError) as error:
            raise TokenError("not a signed value of ours") from error
        payload, mac = signed[:-SHORT_MAC_BYTES], signed[-SHORT_MAC_BYTES:]
        spelled = base64.b32encode(signed).decode("ascii").rstrip("=").lower()
        genuine = [
            hmac.compare_digest(mac, self._short_mac(use, key, payload)) for key in self._signers[use].secret_keys
        ]
        if not payload or not any(genuine) or spelled != token.lower():
            raise TokenError("not a signed value of ours")
        return payload

    def _short_mac(self, use: Use, key: bytes, payload: bytes) -> bytes:
        derived = self._signers[use].derive_key(key)
        return hmac.digest(derived, b"short." + payload, "sha256")[:SHORT_MAC_BYTES]
