"""The crude gate: for the rest of a response whose rewriter failed. Everything that could load is overruled."""

from __future__ import annotations

import re

_LOADING = re.compile(
    rb"<(?:(script|image|feimage|use|link|base)|iframe|frame|img|input|object|embed|video|audio|source|track|meta|a|area"
    rb"|body|style|set|animate|table|thead|tbody|tfoot|tr|td|th)(?=[\t\n\f\r />])",
    re.IGNORECASE,
)
_OVERRULED = (
    b" data-consentkit-needs=- type=text/plain src srcset srcdoc data codebase rel imagesrcset poster background ping"
    b" http-equiv xlink:href style to from by values"
)
_POINTING = b" href"
_CSS = re.compile(rb"(url|src|image|set|fade)\(|@import|\\", re.IGNORECASE)
_ASIDE = re.compile(
    rb"(?<=[\t\n\f\r /\"'])"
    rb"(?=(?:on[a-z]+|style|fill|filter|mask|stroke|cursor|clip-path|marker-(?:end|mid|start))[\t\n\f\r ]*=)",
    re.IGNORECASE,
)
_CUT = re.compile(rb"<(?=[a-zA-Z]{0,7}\Z)")


def fallback(data: bytes) -> bytes:
    """Put overruling attributes in front of those of every tag that could load something, wherever it stands.

    Knows nothing of what came before, so it also changes what only looks like a tag, in a text or a script. A tag name
    cut off at the end of `data` becomes text. The attributes hold no quotes: they can't break out of a value.
    """
    data = _CSS.sub(lambda found: b"x-" + found[0] if found[0][:1] != b"\\" else b" ", data)
    data = _ASIDE.sub(b"data-", data)  # handlers, and what can hold a URL in CSS, on whatever tag
    data = _LOADING.sub(lambda found: found[0] + _OVERRULED + (_POINTING if found[1] else b""), data)
    return _CUT.sub(b"&lt;", data)
