"""Held against an independent tokenizer, against html5lib's own cases, and against the question that matters."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.gate.harm import live, page, readings
from tests.gate.oracle import Token, document, expected, ours
from tests.gate.samples import DENIED, gate, nothing

SEED = int(os.environ.get("CONSENTKIT_FUZZ_SEED", "20261101"))
RUNS = int(os.environ.get("CONSENTKIT_FUZZ_RUNS", "20000"))
CASES = Path(__file__).parent.parent / "cases" / "html5lib-tokenizer"


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _comparable(tokens: list[Token]) -> list[tuple[object, ...]]:
    """The parser turns CR and CRLF into LF before it begins, and drops the attributes of end tags."""
    return [
        (
            token.closing,
            token.name,
            () if token.closing else tuple((name, _newlines(value)) for name, value in token.attributes),
            _newlines(token.source),
        )
        for token in tokens
    ]


def test_every_tag_is_where_the_oracle_has_it() -> None:
    for number in range(RUNS):
        text = document(random.Random(f"{SEED}-{number}"))
        assert _comparable(ours(text)) == _comparable(expected(text)), text


@pytest.mark.checklist("GAT-06")
def test_no_parser_finds_a_live_tracker_in_what_leaves_the_gate() -> None:
    one = gate()
    for number in range(RUNS // 8):
        body = page(random.Random(f"{SEED}-{number}"))
        out = one.rewrite(body.encode(), DENIED, nothing, document=None).decode()
        for reader, elements in readings(out):
            assert live(elements) == [], (reader, body, out)


STATES = {
    "Data state": "",
    "RCDATA state": "textarea",
    "RAWTEXT state": "style",
    "Script data state": "script",
    "PLAINTEXT state": "plaintext",
}


def _unescaped(value: Any) -> Any:
    """The escapes that a "doubleEscaped" case keeps in its strings."""
    if isinstance(value, str):
        return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), value)
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    if isinstance(value, dict):
        return {_unescaped(key): _unescaped(item) for key, item in value.items()}
    return value


def _cases() -> list[tuple[str, str, str, list[tuple[object, ...]]]]:
    found = []
    for path in sorted(CASES.glob("*.test")):
        for case in json.loads(path.read_text(encoding="utf-8")).get("tests", []):
            text, output = (
                _unescaped([case["input"], case["output"]])
                if case.get("doubleEscaped")
                else (case["input"], case["output"])
            )
            if any(0xD800 <= ord(char) <= 0xDFFF for char in text):
                continue  # no lone surrogate survives in UTF-8 bytes
            tags = [
                (token[0] == "EndTag", token[1], tuple(token[2].items()) if token[0] == "StartTag" else ())
                for token in output
                if isinstance(token, list) and token[0] in ("StartTag", "EndTag")
            ]
            found += [
                (
                    f"{path.stem}: {case['description']}",
                    STATES[state] and case.get("lastStartTag", STATES[state]),
                    text,
                    tags,
                )
                for state in case.get("initialStates", ["Data state"])
                if state in STATES
            ]
    return found


def test_the_cases_of_html5lib() -> None:
    """All of them at once: there are thousands. The last start tag sets the state, so we begin after one of ours."""
    cases = _cases()
    assert len(cases) > 2000
    wrong = []
    for name, opening, text, tags in cases:
        found = [
            (
                token.closing,
                token.name,
                () if token.closing else tuple((key, _newlines(value)) for key, value in token.attributes),
            )
            for token in ours(f"<{opening}>" + text if opening else text)
        ]
        if found[1 if opening else 0 :] != tags:
            wrong.append((name, text, tags, found))
    assert wrong == [], len(wrong)
