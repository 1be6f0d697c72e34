from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consentkit.errors import TokenError
from consentkit.tokens import Tokens, Use

OLD, NEW = b"o" * 16 + b"0123456789abcdef", b"n" * 16 + b"0123456789abcdef"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.binary(max_size=200))
def test_what_was_signed_can_be_read(payload: bytes) -> None:
    tokens = Tokens([NEW])

    assert tokens.read(Use.CHOICE, tokens.sign(Use.CHOICE, payload)) == payload


@given(st.binary(max_size=40), st.data())
def test_no_character_of_a_token_can_be_changed(payload: bytes, data: st.DataObject) -> None:
    tokens = Tokens([NEW])
    token = tokens.sign(Use.NOTICE, payload)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(ALPHABET + ".=é").filter(lambda character: character != token[at]))

    with pytest.raises(TokenError):
        tokens.read(Use.NOTICE, token[:at] + other + token[at + 1 :])


def test_a_token_for_one_use_is_refused_for_another() -> None:
    tokens = Tokens([NEW])

    with pytest.raises(TokenError):
        tokens.read(Use.CHOICE, tokens.sign(Use.NOTICE, b"payload"))


@pytest.mark.checklist("SEC-04")
def test_an_old_key_still_verifies_and_the_newest_signs() -> None:
    before, after = Tokens([OLD]), Tokens([NEW, OLD])

    assert after.read(Use.CHOICE, before.sign(Use.CHOICE, b"x")) == b"x"
    with pytest.raises(TokenError):
        before.read(Use.CHOICE, after.sign(Use.CHOICE, b"x"))


@pytest.mark.checklist("SEC-04")
@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b"short"]])
def test_a_missing_or_short_key_is_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Tokens(keys)


@pytest.mark.parametrize("text", ["", ".", "a.b", "💥", "a" * 5000, "=" * 40 + "." + "=" * 40])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        Tokens([NEW]).read(Use.CHOICE, text)
