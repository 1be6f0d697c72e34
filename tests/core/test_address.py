"""One spelling per mailbox, and a digest that only the key's owner can make."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consentkit.address import Address, AddressKey, AddressKeys, canonical
from consentkit.errors import AddressError

KEY = b"a key of thirty-two bytes or more!"

# Two spellings, and whether they are one mailbox.
PAIRS = [
    ("jan@voorbeeld.nl", "JAN@voorbeeld.nl", True),
    ("jan@voorbeeld.nl", "jan@VOORBEELD.NL", True),
    ("jan@voorbeeld.nl", " jan@voorbeeld.nl ", True),
    ("jan@voorbeeld.nl", "\tjan@voorbeeld.nl\n", True),
    ("jan@voorbeeld.nl", "\u00a0jan@voorbeeld.nl", True),
    ("Jan.Jansen@Voorbeeld.nl", "jan.jansen@voorbeeld.NL", True),
    ("info@bücher.example", "info@xn--bcher-kva.example", True),
    ("info@BÜCHER.example", "info@bücher.example", True),
    ("info@bu\u0308cher.example", "info@bücher.example", True),
    ("info@XN--BCHER-KVA.example", "info@bücher.example", True),
    ("jörg@voorbeeld.nl", "JÖRG@voorbeeld.nl", True),
    ("jo\u0308rg@voorbeeld.nl", "jörg@voorbeeld.nl", True),
    ("a@straße.example", "A@straße.example", True),
    ("a@例え.example", "A@例え.example", True),
    ("o'brien@voorbeeld.nl", "O'Brien@voorbeeld.nl", True),
    ("a_b-c@voorbeeld.nl", "A_B-C@voorbeeld.nl", True),
    ("jan@sub.voorbeeld.nl", "jan@SUB.voorbeeld.nl", True),
    ("jan+nieuws@voorbeeld.nl", "JAN+Nieuws@voorbeeld.nl", True),
    ("jan+nieuws@voorbeeld.nl", "jan@voorbeeld.nl", False),
    ("jan+a@voorbeeld.nl", "jan+b@voorbeeld.nl", False),
    ("jan.jansen@voorbeeld.nl", "janjansen@voorbeeld.nl", False),
    ("j.a.n@gmail.com", "jan@gmail.com", False),
    ("jan@gmail.com", "jan@googlemail.com", False),
    ("jan@voorbeeld.nl", "jan@voorbeeld.be", False),
    ("jan@voorbeeld.nl", "jan@sub.voorbeeld.nl", False),
    ("jan@voorbeeld.nl", "jann@voorbeeld.nl", False),
    ("jan-jansen@voorbeeld.nl", "jan_jansen@voorbeeld.nl", False),
    ("jorg@voorbeeld.nl", "jörg@voorbeeld.nl", False),
    ("info@bucher.example", "info@bücher.example", False),
    ("a@strasse.example", "a@straße.example", False),
    ("а@voorbeeld.nl", "a@voorbeeld.nl", False),  # Cyrillic, Latin
    ("0@voorbeeld.nl", "o@voorbeeld.nl", False),
]
WRONG = [
    "", " ", "jan", "@voorbeeld.nl", "jan@", "jan@voorbeeld", "jan@@voorbeeld.nl", "jan@voor beeld.nl",
    "ja n@voorbeeld.nl",
    "jan@voorbeeld..nl", ".jan@voorbeeld.nl", "jan.@voorbeeld.nl", "ja..n@voorbeeld.nl", "jan@-voorbeeld.nl",
    '"jan"@voorbeeld.nl', '"a b"@voorbeeld.nl', "jan@[127.0.0.1]", "jan@localhost", "jan@voorbeeld.local",
    "jan@voorbeeld.invalid", "Jan <jan@voorbeeld.nl>", "jan@voorbeeld.nl, piet@voorbeeld.nl", "jan@voorbeeld.nl\x00",
    "jan@voorbeeld.nl\r\nBcc: piet@voorbeeld.nl", "jan\n@voorbeeld.nl", "jan\u200b@voorbeeld.nl",
    "jan\u202e@voorbeeld.nl",
    "x" * 65 + "@voorbeeld.nl", "jan@" + "x" * 64 + ".nl", "jan@" + "x." * 130 + "nl", "jan(x)@voorbeeld.nl",
    "mailto:jan@voorbeeld.nl", "jan@voorbeeld.nl.", "jan@a--b.nl" * 40,
]  # fmt: skip


@pytest.mark.checklist("SUP-01")
@pytest.mark.parametrize(("one", "other", "same"), PAIRS)
def test_spellings_of_one_mailbox_have_one_digest_and_others_have_not(one: str, other: str, same: bool) -> None:
    keys = AddressKeys([KEY])

    assert (canonical(one) == canonical(other)) is same
    assert (keys.digest(one) == keys.digest(other)) is same


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_address_is_refused_in_a_sentence_that_does_not_quote_it(text: str) -> None:
    for read in (canonical, Address.parse):
        with pytest.raises(AddressError) as refused:
            read(text)
        assert "voorbeeld" not in str(refused.value)
        assert str(refused.value)


LOCAL = st.text("abcXYZ019._+-!#$%&'*/=?^`{|}~éÖß", min_size=1, max_size=70)
LABEL = st.text("abcXYZ019-éü", min_size=1, max_size=20)


@given(LOCAL, st.lists(LABEL, min_size=1, max_size=3))
def test_the_short_way_for_plain_addresses_gives_what_the_whole_one_gives(local: str, labels: list[str]) -> None:
    text = f"{local}@{'.'.join(labels)}"
    try:
        whole = Address.parse(text).canonical
    except AddressError:
        whole = None
    try:
        short = canonical(text)
    except AddressError:
        short = None

    assert short == whole


@given(LOCAL, st.lists(LABEL, min_size=2, max_size=3))
def test_the_canonical_spelling_of_a_canonical_spelling_is_itself(local: str, labels: list[str]) -> None:
    try:
        once = canonical(f"{local}@{'.'.join(labels)}")
    except AddressError:
        return

    assert canonical(once) == once


def test_an_address_is_delivered_to_as_it_was_written_with_its_domain_in_ascii() -> None:
    address = Address.parse(" Jan.Jansen@Bücher.Example ")

    assert address.deliver_to == "Jan.Jansen@xn--bcher-kva.example"
    assert not address.needs_smtputf8
    assert Address.parse("jörg@voorbeeld.nl").needs_smtputf8
    assert "jan" not in repr(address).lower()


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=300))
def test_the_digest_is_hmac_sha256(secret: bytes, text: bytes) -> None:
    assert AddressKey.of(secret).digest(text) == hmac.digest(secret, text, "sha256")


def test_a_key_s_id_and_check_differ_per_key_and_give_nothing_away() -> None:
    one, other = AddressKey.of(KEY), AddressKey.of(KEY[::-1])

    assert len({one.id, other.id}) == len({one.check, other.check}) == 2
    assert KEY.hex() not in one.check
    assert "secret" not in repr(AddressKeys([KEY])).lower()


def test_a_look_up_asks_all_keys_whole_and_by_half() -> None:
    keys = AddressKeys([KEY, KEY[::-1]])

    digests = keys.digests("jan@voorbeeld.nl")

    assert [len(digest) for digest in digests] == [32, 32, 16, 16]
    assert digests[0] == keys.digest("JAN@voorbeeld.nl")
    assert digests[2:] == [digest[:16] for digest in digests[:2]]
