"""Signed values: bytes in, URL-safe text out, one salt per purpose, a list of keys of which the newest signs.

The signature is itsdangerous' HMAC-SHA-256 with a key derived per salt, so that a value made for one purpose
can never be spent for another. The clock stays outside: what expires carries its own time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum

from itsdangerous import BadSignature, Signer
from itsdangerous.encoding import base64_decode, base64_encode, want_bytes

from consentkit.errors import TokenError

MIN_KEY_BYTES = 32
"""A shorter secret can be searched (the hash gives 32 bytes; RFC 2104 section 3 asks at least as many)."""


class Use(StrEnum):
    """What a signed value is for; it becomes part of the salt."""

    CHOICE = "choice"
    NOTICE = "notice"


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
