"""DKIM: our mailings signed, and signatures read back (RFC 6376, with the keys of RFC 8301 and RFC 8463).

Canonicalisation is `relaxed/relaxed` all through, since mail servers fold headers and trim spaces. No `l=`: whatever
is added to the body breaks the signature. The private-key work is `cryptography`'s, an extra.
"""

from __future__ import annotations

import binascii
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from consentkit.errors import SettingsError
from consentkit.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 4096
"""The sizes that every verifier takes and that are strong enough to sign with (RFC 8301 section 3.2)."""

LEAVING: Final = ("list-unsubscribe", "list-unsubscribe-post")
"""The headers that a signature must cover for one-click unsubscribing to count (RFC 8058 section 4)."""

_OVER_SIGNED = ("from", "to", "subject", "date")
_SIGNED = (
    *_OVER_SIGNED,
    "message-id",
    "reply-to",
    "sender",
    "cc",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-language",
    "auto-submitted",
    "list-id",
    *LEAVING,
    "list-help",
    "list-archive",
    "feedback-id",
    "cfbl-address",
    "cfbl-feedback-id",
)
_LINE = 78
_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=([^;]*)")
_SPACE = re.compile(r"\s+")
_OWN_VALUE = re.compile(rb"((?:^|;)\s*b\s*=)[^;]*")
_INSTALL = "mailing.dkim: signing needs a library of its own. Run `pip install 'consentkit[dkim]'`"

_Fields = Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Key:
    """A private key, and where its public half stands in the DNS. Shown, it tells that place only.

    Args:
        domain: the one that answers for the mail (`d=`). selector: names the key within it (`s=`).
        algorithm: as it stands in `a=`.
        public: the public key as the DNS has it, in base64.
        sign: makes a signature over bytes. verify: whether a signature (first) belongs to these bytes.
    """

    domain: str
    selector: str
    algorithm: Literal["rsa-sha256", "ed25519-sha256"]
    public: str
    sign: Callable[[bytes], bytes]
    verify: Callable[[bytes, bytes], bool]

    @classmethod
    def load(cls, domain: str, selector: str, path: Path) -> Key:
        """The key in a PEM file: RSA of 2048 to 4096 bits, or Ed25519.

        Raises:
            SettingsError: there is no such file, others can read it, it holds no such key, or the library is missing.
        """
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise SettingsError([f"others can read the key. Run `chmod 600 {path.name}`"], source=str(path))
            pem = path.read_bytes()
        except OSError as error:
            raise SettingsError(
                [f"mailing.dkim.key_file can't be read ({error.strerror}). Put the key there, or correct the path"],
                source=str(path),
            ) from error
        try:
            return _key(domain, selector, _private(pem))
        except ValueError as error:
            raise SettingsError([f"mailing.dkim.key_file: {error}"], source=str(path)) from error
        except ModuleNotFoundError as error:
            raise SettingsError([_INSTALL], source=str(path)) from error

    @property
    def name(self) -> str:
        """Where the record stands in the DNS (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"

    def record(self) -> str:
        """The text of the DNS record."""
        return f"v=DKIM1; k={self.algorithm.partition('-')[0]}; p={self.public}"

    def __repr__(self) -> str:
        return f"<Key {self.name}>"


class Signer:
    """Signs messages, with each key in turn.

    Args:
        keys: one, or an RSA and an Ed25519 key, so that who knows no Ed25519 still finds a signature.
        clock: tells the time, aware.
    """

    def __init__(self, keys: Sequence[Key], *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.keys = tuple(keys)
        self._now = clock
        self._lists: dict[tuple[str, ...], str] = {}

    @classmethod
    def load(cls, settings: Settings) -> Signer | None:
        """The signer that is configured under `[[mailing.dkim]]`; None where the relay signs.

        Raises:
            SettingsError: a key can't be used; see `Key.load`.
        """
        wanted = settings.mailing.dkim
        keys = [Key.load(each.domain, each.selector, settings.path(str(each.key_file))) for each in wanted]
        return cls(keys) if keys else None

    def sign(self, payload: bytes) -> bytes:
        """The message with one DKIM-Signature a key in front, and ended by CRLF as SMTP would end it.

        From, To, Subject and Date are listed once more than they occur, so that a second one breaks the signature
        (RFC 6376 section 8.15).

        Raises:
            ValueError: it is no message: no empty line after its headers, or a bare CR or LF.
        """
        if not payload.endswith(b"\r\n"):
            payload += b"\r\n"
        if not payload.count(b"\r\n") == payload.count(b"\n") == payload.count(b"\r"):
            raise ValueError("a message that is signed has CRLF line ends only")
        head, gap, body = payload.partition(b"\r\n\r\n")
        if not gap:
            raise ValueError("a message that is signed has an empty line after its headers")
        fields = _fields(head)
        names = _covered(fields)
        listed = self._lists.get(names)
        if listed is None:
            listed = self._lists[names] = _folded_names(names)
        covered = _canonical(fields, names)
        bh, at = _body_hash(body), int(self._now().timestamp())
        return b"".join(_header(key, covered, listed=listed, bh=bh, at=at) for key in self.keys) + payload


@dataclass(frozen=True, slots=True)
class Seal:
    """A DKIM-Signature that stands on a message.

    Args:
        domain, selector: where its key is. names: the headers that it covers, in small letters.
    """

    domain: str
    selector: str
    names: tuple[str, ...]
    _tags: Mapping[str, str]
    _signed: bytes
    _body_hash: str

    @classmethod
    def all_of(cls, payload: bytes) -> list[Seal]:
        """Every signature on a message; what can't be read as one covers nothing and never holds."""
        head, _, body = payload.partition(b"\r\n\r\n")
        fields = _fields(head)
        bh = _body_hash(body)
        return [_seal(fields, value, bh) for value in fields.get("dkim-signature", ())]

    def holds(self, key: Key) -> bool:
        """Whether the signature is this key's, of exactly this message, in the one way that we sign."""
        wanted = {"v": "1", "a": key.algorithm, "c": "relaxed/relaxed", "d": key.domain, "s": key.selector}
        if any(self._tags.get(tag) != value for tag, value in wanted.items()) or "l" in self._tags:
            return False
        try:
            signature = b64decode(_SPACE.sub("", self._tags.get("b", "")), validate=True)
        except binascii.Error:
            return False
        return _SPACE.sub("", self._tags.get("bh", "")) == self._body_hash and key.verify(signature, self._signed)


# -- canonical forms (RFC 6376 sections 3.4.2 and 3.4.4) --


def _fields(head: bytes) -> dict[str, list[bytes]]:
    """Headers by name in small letters, unfolded and with single spaces, in the order in which they stand."""
    found: dict[str, list[bytes]] = {}
    for line in head.replace(b"\t", b" ").replace(b"\r\n ", b" ").split(b"\r\n"):
        name, _, value = line.partition(b":")
        found.setdefault(name.strip().lower().decode("latin-1"), []).append(_single_spaces(value).strip(b" "))
    return found


def _canonical(fields: _Fields, names: Sequence[str]) -> bytes:
    """What is signed of the headers: the last of a name first; one that is not there gives nothing (section 5.4.2)."""
    left = {name: list(fields.get(name, ())) for name in names}
    return b"".join(b"%s:%s\r\n" % (name.encode("latin-1"), left[name].pop()) for name in names if left[name])


def _body_hash(body: bytes) -> str:
    """SHA-256 of the canonical body, in base64. Whole-buffer operations only: mail is large and there is much of it."""
    body = _single_spaces(body.replace(b"\t", b" ")).replace(b" \r\n", b"\r\n").rstrip(b"\r\n")
    return b64encode(sha256(body + b"\r\n" if body else b"").digest()).decode("ascii")


def _single_spaces(text: bytes) -> bytes:
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


# -- writing --


def _covered(fields: _Fields) -> tuple[str, ...]:
    """What stands in `h=`: each header as often as it occurs, the over-signed ones once more."""
    return tuple(name for name in _SIGNED for _ in range(len(fields.get(name, ())) + (name in _OVER_SIGNED)))


def _folded_names(names: Sequence[str]) -> str:
    line, lines = " h=", []
    for name in names:
        if len(line) + len(name) + 1 > _LINE:
            lines.append(line)
            line = " "
        line += f"{name}:"
    return "\r\n".join([*lines, line[:-1] + ";"])


def _header(key: Key, covered: bytes, *, listed: str, bh: str, at: int) -> bytes:
    place = f" d={key.domain}; s={key.selector};"
    if len(place) > _LINE:
        place = place.replace("; ", ";\r\n ")
    first = f"DKIM-Signature: v=1; a={key.algorithm}; c=relaxed/relaxed; t={at};"
    start = "\r\n".join((first, place, listed, f" bh={bh};", " b="))
    (own,) = _fields(start.encode("ascii"))["dkim-signature"]
    signature = b64encode(key.sign(covered + b"dkim-signature:" + own)).decode("ascii")
    pieces = [signature[: _LINE - 3], *_cut(signature[_LINE - 3 :], _LINE - 1)]
    return (start + "\r\n ".join(pieces) + "\r\n").encode("ascii")


def _cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


# -- reading --


def _seal(fields: _Fields, value: bytes, body_hash: str) -> Seal:
    tags = {name: text.strip() for name, text in _TAG.findall(value.decode("latin-1"))}
    names = tuple(name.strip().lower() for name in tags.get("h", "").split(":") if name.strip())
    own = _OWN_VALUE.sub(rb"\1", value).rstrip(b" ")
    signed = _canonical(fields, names) + b"dkim-signature:" + own
    return Seal(tags.get("d", "").lower(), tags.get("s", ""), names, tags, signed, body_hash)


# -- keys --


def _private(pem: bytes) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # an extra
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise ValueError("the key has a password. Write it without: `openssl pkey -in old.pem -out new.pem`") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("this is no private key in PEM. Make one: `openssl genrsa -out dkim.pem 2048`") from error


def _key(domain: str, selector: str, private: PrivateKeyTypes) -> Key:
    """Raises ValueError: this kind of key signs no mail, or is too weak."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # an extra
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa  # noqa: PLC0415

    def verified(check: Callable[[], None]) -> bool:
        try:
            check()
        except InvalidSignature:
            return False
        return True

    if isinstance(private, ed25519.Ed25519PrivateKey):
        known = private.public_key()
        return Key(
            domain,
            selector,
            "ed25519-sha256",
            b64encode(known.public_bytes_raw()).decode("ascii"),
            lambda data: private.sign(sha256(data).digest()),  # the hash is signed, not the text (RFC 8463 section 3)
            lambda signature, data: verified(lambda: known.verify(signature, sha256(data).digest())),
        )
    if not isinstance(private, rsa.RSAPrivateKey):
        raise ValueError("mail is signed with RSA or Ed25519 only. Make one: `openssl genrsa -out dkim.pem 2048`")
    if not MIN_RSA_BITS <= private.key_size <= MAX_RSA_BITS:
        raise ValueError(
            f"the RSA key has {private.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are strong enough and known "
            "to every mail server. Make one: `openssl genrsa -out dkim.pem 2048`"
        )
    scheme, hashed, public = padding.PKCS1v15(), hashes.SHA256(), private.public_key()
    written = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Key(
        domain,
        selector,
        "rsa-sha256",
        b64encode(written).decode("ascii"),
        lambda data: private.sign(data, scheme, hashed),
        lambda signature, data: verified(lambda: public.verify(signature, data, scheme, hashed)),
    )
