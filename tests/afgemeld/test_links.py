"""Links that leave: signed for one purpose, without an address, for as long as the mail exists."""

from __future__ import annotations

import email.policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consentkit import ConsentKit
from consentkit.address import AddressKeys
from consentkit.afgemeld import SHORT_TOKEN, Links
from consentkit.errors import AfgemeldUnavailable, TokenError
from consentkit.tokens import Tokens, Use
from tests.newsletter.desk import settings

KEY = b"Qx7Lr8Yt5Hn3Gm6Fd1CaBv2k7Jw0uZ4s"
NEW = b"Zx9Bv2k7Jw0uZ4sQx7Lr8Yt5Hn3Gm6Fd"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.checklist("UNS-05")
@given(st.sampled_from([None, "nieuwsbrief", "a", "x" * 64]), st.sampled_from([None, 0, 1, 2**63]))
def test_a_token_gives_back_whose_it_is_for_which_list_and_delivery(list: str | None, delivery: int | None) -> None:
    keys = AddressKeys([KEY])
    found = Links(keys).read(Links(keys).token("Jan@voorbeeld.nl", list, delivery=delivery))

    assert found.digest == keys.digest("jan@voorbeeld.nl")
    assert (found.key_id, found.list, found.delivery) == (keys.newest.id, list, delivery)


@pytest.mark.checklist("UNS-05")
def test_any_changed_character_another_key_and_another_purpose_are_refused() -> None:
    links = Links(AddressKeys([KEY]))
    token = links.token("jan@voorbeeld.nl", "nieuwsbrief")

    for at in range(len(token)):
        changed = token[:at] + ALPHABET[(ALPHABET.find(token[at]) + 1) % 64] + token[at + 1 :]
        with pytest.raises(TokenError):
            links.read(changed)
    for last in ALPHABET.replace(token[-1], ""):
        with pytest.raises(TokenError):
            links.read(token[:-1] + last)
    payload = Tokens([KEY]).read(Use.UNSUBSCRIBE, token)
    for other in set(Use) - {Use.UNSUBSCRIBE}:
        with pytest.raises(TokenError):
            links.read(Tokens([KEY]).sign(other, payload))
    with pytest.raises(TokenError):
        Links(AddressKeys([NEW])).read(token)


@pytest.mark.checklist("UNS-05")
def test_a_link_outlives_a_new_key_in_front_of_the_old() -> None:
    token = Links(AddressKeys([KEY])).token("jan@voorbeeld.nl", "nieuwsbrief")

    found = Links(AddressKeys([NEW, KEY])).read(token)

    assert found.key_id == AddressKeys([KEY]).newest.id
    assert found.digest == AddressKeys([KEY]).digest("jan@voorbeeld.nl")


def test_the_short_token_survives_a_mail_address_in_any_case() -> None:
    links = Links(AddressKeys([NEW, KEY]))
    mailto = links.mailto("afmelden@delinde.example", "jan@voorbeeld.nl", "nieuwsbrief")
    local = mailto.removeprefix("mailto:").partition("@")[0]

    assert len(local) <= 64
    for spelled in (mailto, mailto.upper()):
        found = SHORT_TOKEN.search(spelled)
        assert found is not None
        left = links.read_short(found[1], ("agenda", "nieuwsbrief"))
        assert (left.list, len(left.digest)) == ("nieuwsbrief", 16)
        assert AddressKeys([NEW]).digest("jan@voorbeeld.nl").startswith(left.digest)
    assert links.read_short(links.short_token("a@b.nl", "weg"), ("agenda",)).list is None


def test_a_short_token_that_was_changed_cut_or_made_for_something_else_is_refused() -> None:
    links = Links(AddressKeys([KEY]))
    token = links.short_token("jan@voorbeeld.nl", "nieuwsbrief")

    letters = "abcdefghijklmnopqrstuvwxyz234567"
    wrong = [token[:at] + letters[(letters.index(token[at]) + 1) % 32] + token[at + 1 :] for at in range(len(token))]
    payload = Tokens([KEY]).read_short(Use.UNSUBSCRIBE, token)
    wrong += [token[:-1], token + "a", "", "a", "=" * 8, "é" * 48, Tokens([KEY]).sign_short(Use.CONFIRM, payload)]
    for one in wrong:
        with pytest.raises(TokenError):
            links.read_short(one, ("nieuwsbrief",))


@pytest.mark.parametrize("policy", [email.policy.default, email.policy.SMTP, email.policy.SMTPUTF8])
def test_the_headers_stay_whole_in_a_message_of_any_modern_policy(tmp_path: Path, policy: email.policy.Policy) -> None:
    kit = ConsentKit(settings(tmp_path))
    message = EmailMessage(policy)
    headers = kit.list_unsubscribe_headers("jan@voorbeeld.nl", list="nieuwsbrief")
    for name, value in headers.items():
        message[name] = value
    written = message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n ", b" ").decode("ascii").splitlines()

    url = kit.unsubscribe_url("jan@voorbeeld.nl", list="nieuwsbrief")
    assert len(url) > 75
    assert written[0].startswith(f"List-Unsubscribe: <{url}>, <mailto:afmelden+")
    assert written[1] == "List-Unsubscribe-Post: List-Unsubscribe=One-Click"
    assert [line for line in written if "=?" in line] == []
    kit.close()


def test_links_need_no_database_and_without_a_key_none_is_made(tmp_path: Path) -> None:
    kit = ConsentKit(settings(tmp_path, database={"url": f"sqlite:///{tmp_path}/nowhere/x.db"}))
    assert kit.unsubscribe_url("jan@voorbeeld.nl", list="nieuwsbrief").startswith(
        "http://school.test/privacy/afmelden/"
    )
    assert kit.unsubscribe_url("jan@voorbeeld.nl") != kit.unsubscribe_url("jan@voorbeeld.nl", list="nieuwsbrief")
    kit.close()

    without = ConsentKit(settings(tmp_path, afgemeld_keys=[]))
    with pytest.raises(AfgemeldUnavailable, match="CONSENTKIT_AFGEMELD_KEYS is missing"):
        without.unsubscribe_url("jan@voorbeeld.nl")
    without.close()
