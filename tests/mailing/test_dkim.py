"""Signatures are made right (another implementation takes them), break where they should, and need a good key."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from consentkit.errors import SettingsError
from consentkit.mailing.dkim import LEAVING, Key, Seal, Signer
from consentkit.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAIN = (
    b"From: De Linde <nieuws@delinde.example>\r\n"
    b"To: lezer@example.org\r\n"
    b"Subject: Nieuws uit de\r\n  tuin\r\n"
    b"Date: Sun, 01 Mar 2026 12:00:00 +0000\r\n"
    b"Message-ID: <7.1@delinde.example>\r\n"
    b"List-Id: Nieuwsbrief <nieuwsbrief.delinde.example>\r\n"
    b"List-Unsubscribe: <https://delinde.example/privacy/afmelden/abc>,\r\n <mailto:afmelden@delinde.example>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"X-Free: this one is not signed\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"\r\n"
    b"Hallo  lezer,\r\n\r\nDe tuin is open.\r\n"
)


def written(path: Path, key: PrivateKeyTypes, *, password: bytes | None = None) -> Path:
    """The key in a file that only its owner reads."""
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    folder = tmp_path_factory.mktemp("keys")
    strong = written(folder / "rsa.pem", rsa.generate_private_key(65537, 2048))
    small = written(folder / "ed25519.pem", ed25519.Ed25519PrivateKey.generate())
    return Key.load("delinde.example", "nieuws", strong), Key.load("delinde.example", "klein", small)


@pytest.fixture(scope="module")
def signer(keys: tuple[Key, Key]) -> Signer:
    return Signer(keys, clock=lambda: NOW)


def dns(signer: Signer) -> Callable[..., bytes]:
    """A DNS that has the records of these keys."""
    records = {f"{key.name}.".encode(): key.record().encode() for key in signer.keys}
    return lambda name, timeout=5: records[name]


def verdicts(payload: bytes, signer: Signer) -> list[bool]:
    """What another implementation says of each signature."""
    return [dkimpy.DKIM(payload).verify(idx=idx, dnsfunc=dns(signer)) for idx in range(len(signer.keys))]


def ours(payload: bytes, signer: Signer) -> list[bool]:
    """What we say of each ourselves."""
    return [seal.holds(key) for seal, key in zip(Seal.all_of(payload), signer.keys, strict=True)]


def test_a_message_is_signed_once_a_key_and_stays_as_it_was(signer: Signer) -> None:
    signed = signer.sign(PLAIN)

    assert signed.endswith(PLAIN)
    assert re.findall(rb"^DKIM-Signature: v=1; a=(\S+); c=relaxed/relaxed; t=1772366400;", signed, re.MULTILINE) == [
        b"rsa-sha256",
        b"ed25519-sha256",
    ]
    assert verdicts(signed, signer) == [True, True]
    assert ours(signed, signer) == [True, True]


@pytest.mark.checklist("UNS-01")
def test_a_signature_covers_what_a_reader_sees_and_both_headers_of_one_click(signer: Signer) -> None:
    seals = Seal.all_of(signer.sign(PLAIN))

    wanted = (
        *("from", "from", "to", "to", "subject", "subject", "date", "date", "message-id", "mime-version"),
        *("content-type", "list-id", "list-unsubscribe", "list-unsubscribe-post"),
    )
    assert [seal.names for seal in seals] == [wanted, wanted]
    assert set(LEAVING) <= set(wanted)
    assert [(seal.domain, seal.selector) for seal in seals] == [
        ("delinde.example", "nieuws"),
        ("delinde.example", "klein"),
    ]


def test_lines_of_a_signature_are_short_whatever_the_names(keys: tuple[Key, Key]) -> None:
    first, _ = keys
    long = Key("x" * 50 + ".delinde.example", "s" * 40, first.algorithm, first.public, first.sign, first.verify)

    header = Signer([long]).sign(PLAIN).removesuffix(PLAIN)

    assert max(map(len, header.split(b"\r\n"))) <= 78
    assert b"l=" not in re.sub(rb"b=.*", b"", header, flags=re.DOTALL)


WORDS = st.text(" \tabz.é\x0c=", max_size=12)
BODIES = st.lists(st.one_of(WORDS, st.just(""), st.just("a" * 990)), max_size=8).map("\r\n".join)
VALUES = st.lists(st.text("a bé<>:;,\t", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=4)


@given(body=BODIES, subject=VALUES, newline=st.sampled_from(["\r\n ", "\r\n\t", " ", " \r\n  "]))
def test_every_signature_verifies_elsewhere_and_here(
    signer: Signer, body: str, subject: list[str], newline: str
) -> None:
    head = PLAIN.partition(b"\r\n\r\n")[0].replace(b"Nieuws uit de\r\n  tuin", newline.join(subject).encode())

    signed = signer.sign(head + b"\r\n\r\n" + body.encode())

    assert verdicts(signed, signer) == [True, True]
    assert ours(signed, signer) == [True, True]


CHANGES: Mapping[str, tuple[bytes, bytes]] = {
    "another sender": (b"From: De Linde", b"From: De Lynde"),
    "a second sender": (b"From: De", b"From: boef@boef.example\r\nFrom: De"),
    "a second subject": (b"Subject: ", b"Subject: Gewonnen!\r\nSubject: "),
    "a second reader": (b"To: ", b"To: iemand@anders.example\r\nTo: "),
    "another subject": (b"Nieuws uit de", b"Nieuws over de"),
    "another day": (b"01 Mar 2026", b"02 Mar 2026"),
    "another id": (b"<7.1@", b"<7.2@"),
    "another list": (b"<nieuwsbrief.", b"<reclame."),
    "another way out": (b"/afmelden/abc", b"/afmelden/abd"),
    "no one-click": (b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", b""),
    "another kind": (b"text/plain", b"text/html"),
    "another body": (b"is open", b"is dicht"),
    "a longer body": (b"is open.\r\n", b"is open.\r\nMaar niet vandaag.\r\n"),
    "another key": (b"s=nieuws;", b"s=oud;"),
    "a length that was put in": (b"c=relaxed/relaxed;", b"c=relaxed/relaxed; l=1;"),
    "no base64": (b"\r\n b=", b"\r\n b=*"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_is_changed_after_signing_breaks_the_signature(signer: Signer, change: tuple[bytes, bytes]) -> None:
    signed = signer.sign(PLAIN)
    forged = signed.replace(*change)

    assert forged != signed
    assert not ours(forged, signer)[0]
    assert not dkimpy.verify(forged, dnsfunc=lambda name, timeout=5: dns(signer)(b"nieuws._domainkey.delinde.example."))


def test_what_no_signature_covers_and_what_relays_do_to_spaces_breaks_nothing(signer: Signer) -> None:
    changed = signer.sign(PLAIN).replace(b"is not signed", b"may change").replace(b"Hallo  lezer,", b"Hallo lezer, \t")

    assert verdicts(changed, signer) == [True, True]
    assert ours(changed, signer) == [True, True]


def test_a_message_without_its_last_line_end_is_signed_as_it_will_travel(signer: Signer) -> None:
    signed = signer.sign(PLAIN.removesuffix(b"\r\n"))

    assert signed.endswith(PLAIN)


@pytest.mark.parametrize("payload", [b"From: a@b.example\r\n", b"From: a@b.example\n\nx\r\n", PLAIN + b"x\ry\r\n"])
def test_what_is_no_message_is_not_signed(signer: Signer, payload: bytes) -> None:
    with pytest.raises(ValueError, match="a message that is signed has"):
        signer.sign(payload)


def test_the_record_is_what_the_dns_must_say_and_a_key_shows_its_place_only(keys: tuple[Key, Key]) -> None:
    strong, small = keys

    assert re.fullmatch(r"v=DKIM1; k=rsa; p=MII[A-Za-z0-9+/]+=*", strong.record())
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", small.record())
    assert repr(strong) == "<Key nieuws._domainkey.delinde.example>"


def test_the_keys_of_the_configuration_are_found_from_its_folder(tmp_path: Path) -> None:
    written(tmp_path / "dkim.pem", ed25519.Ed25519PrivateKey.generate())
    site = {
        "name": "De Linde",
        "base_url": "https://delinde.example",
        "privacy_statement": "/privacyverklaring",
        "controller": {"name": "Stichting De Linde"},
    }
    tables: dict[str, Any] = {
        "site": site,
        "secret_keys": ("test-key-of-32-bytes-or-more-0123456789",),
        "folder": tmp_path,
    }
    own = {"dkim": [{"domain": "delinde.example", "selector": "nieuws", "key_file": "dkim.pem"}]}

    signer = Signer.load(Settings(**tables, mailing=own))

    assert signer is not None
    assert [key.name for key in signer.keys] == ["nieuws._domainkey.delinde.example"]
    assert Signer.load(Settings(**tables)) is None


def _readable(path: Path) -> None:
    written(path, ed25519.Ed25519PrivateKey.generate()).chmod(0o640)


def _text(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_text("v=DKIM1; p=", "utf-8")


REFUSED: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (
        lambda path: None,
        "mailing.dkim.key_file can't be read (No such file or directory). Put the key there",
    ),
    "others read it": (_readable, "others can read the key. Run `chmod 600 dkim.pem`"),
    "no key": (_text, "mailing.dkim.key_file: this is no private key in PEM. Make one: `openssl genrsa"),
    "weak": (lambda path: written(path, rsa.generate_private_key(65537, 1024)), "the RSA key has 1024 bits; 2048 to"),
    "foreign": (
        lambda path: written(path, ec.generate_private_key(ec.SECP256R1())),
        "mail is signed with RSA or Ed25519 only",
    ),
    "locked": (
        lambda path: written(path, ed25519.Ed25519PrivateKey.generate(), password=b"x"),
        "the key has a password. Write it without",
    ),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_a_key_that_can_t_be_used_is_refused_with_its_file_and_the_remedy(
    tmp_path: Path, make: Callable[[Path], Any], said: str
) -> None:
    path = tmp_path / "dkim.pem"
    make(path)

    with pytest.raises(SettingsError, match=re.escape(said)) as refused:
        Key.load("delinde.example", "nieuws", path)

    assert refused.value.source == str(path)


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "dkim.pem", ed25519.Ed25519PrivateKey.generate())
    real = builtins.__import__

    def missing(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("cryptography"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="cryptography")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", missing)

    with pytest.raises(SettingsError, match=re.escape("pip install 'consentkit[dkim]'")):
        Key.load("delinde.example", "nieuws", path)
