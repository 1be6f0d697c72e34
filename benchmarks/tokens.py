"""Signing and reading the choice cookie, and the cookie work of a page view.

    python -m benchmarks.tokens

The same choice is signed as JSON by itsdangerous' `URLSafeSerializer` and packed by ours; both with SHA-256 and a key
derived by HMAC. Times are the best of several rounds, in microseconds.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import timeit
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from itertools import cycle
from pathlib import Path

from itsdangerous import URLSafeSerializer
from starlette.requests import cookie_parser

from consentkit import ConsentKit, Settings
from consentkit.choice import Choice, find
from consentkit.tokens import Use

Row = tuple[str, float, str, bool | None]

KEY = "k8Jq2vX0Zr5Tn1Lw7Yb3Pd6Gc9Sf4HmA"
ROUNDS = 15
CALLS = 1500
OTHERS = "sessionid=8f3b1c9d2e7a4f60b5d8; _ga=GA1.1.1234567890.1700000000; theme=light; lang=nl"


def main(*, rounds: int = ROUNDS, calls: int = CALLS) -> list[Row]:
    """Measure; each row is what, the figure, the goal, and whether it is met (`None`: for information)."""
    with tempfile.TemporaryDirectory() as folder:
        kit = ConsentKit(_settings(Path(folder)))
        try:
            return _measure(kit, lambda *works: _microseconds(works, rounds, calls))
        finally:
            kit.close()


def _settings(folder: Path) -> Settings:
    return Settings(
        site={
            "name": "Basisschool De Linde",
            "base_url": "http://127.0.0.1",
            "privacy_statement": "/privacyverklaring",
            "controller": {"name": "Stichting De Linde", "address": "Lindelaan 1", "email": "privacy@delinde.example"},
        },
        services={"google-analytics": {}, "youtube": {}, "google-maps": {}},
        secret_keys=[KEY],
        folder=folder,
        source="benchmark",
    )


def _microseconds(works: Sequence[Callable[[], object]], rounds: int, calls: int) -> list[float]:
    """The best of the rounds for each; they take turns, so that a busy moment harms all alike."""
    times = [[timeit.timeit(work, number=calls) for work in works] for _ in range(rounds)]
    return [min(one) / calls * 1e6 for one in zip(*times, strict=True)]


def _measure(kit: ConsentKit, time: Callable[..., list[float]]) -> list[Row]:
    site = kit.sites[0]
    flow, choices, today = site.flow, site.choices, datetime.now(UTC).date()
    answered = {purpose.fingerprint: True for purpose in site.policy.purposes}
    choice = Choice(today, True, answered, secrets.token_bytes(16))
    cookie = choices.write(choice)
    serializer = URLSafeSerializer(
        KEY, salt="choice", signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
    )
    table = {
        "v": 1,
        "day": today.isoformat(),
        "decided": True,
        "answered": {purpose.id: [purpose.fingerprint.hex(), True] for purpose in site.policy.purposes},
        "record": secrets.token_hex(16),
    }
    token = serializer.dumps(table)
    header = f"{OTHERS}; {flow.cookie}={cookie}"
    raw = header.encode()
    # More visitors than the memo of headers holds, each with cookies of their own beside a choice that was seen.
    strangers = cycle([f"{header}; visit={number}".encode() for number in range(4000)])
    packed = kit.tokens.read(Use.CHOICE, cookie)

    write, read, whole, dumps, loads, seen, found, unseen, simple, starlette = time(
        lambda: kit.tokens.sign(Use.CHOICE, packed),
        lambda: kit.tokens.read(Use.CHOICE, cookie),
        lambda: choices.read(cookie),
        lambda: serializer.dumps(table),
        lambda: serializer.loads(token),
        lambda: flow.visitor(raw, signal=None, today=today),
        lambda: choices.state(find(header, flow.cookie), signal=None, today=today),
        lambda: flow.visitor(next(strangers), signal=None, today=today),
        lambda: SimpleCookie(header),
        lambda: cookie_parser(header),
    )
    return [
        ("a page view's cookie work, warm, µs: header seen before", seen, "≤ 3", seen <= 3),
        ("a page view's cookie work, warm, µs: cookie found, choice seen before", found, "≤ 3", found <= 3),
        ("the same, µs: a header never seen, its refused cookies looked up too", unseen, "", None),
        ("URLSafeSerializer with JSON ÷ packed under Signer, signing", dumps / write, "", None),
        ("URLSafeSerializer with JSON ÷ packed under Signer, reading", loads / read, "", None),
        ("URLSafeSerializer's token ÷ ours, bytes", len(token) / len(cookie), "", None),
        ("packed under Signer, µs: signing", write, "", None),
        ("packed under Signer, µs: reading", read, "", None),
        ("a choice never seen, read whole, µs", whole, "", None),
        ("URLSafeSerializer with JSON, µs: signing", dumps, "", None),
        ("URLSafeSerializer with JSON, µs: reading", loads, "", None),
        ("all cookies parsed by SimpleCookie, µs", simple, "", None),
        ("all cookies parsed by Starlette, µs", starlette, "", None),
    ]


if __name__ == "__main__":
    for name, value, goal, ok in main():
        print(f"{name:72} {value:8,.2f}  {goal:6} {'' if ok is None else 'ok' if ok else 'short'}")
