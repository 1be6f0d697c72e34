"""Telling another organisation's server something, once: it answers 2xx, or it is tried again by whoever asked."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from consentkit.errors import ConsentKitError

SECONDS: Final = 15


class PartnerUnreachable(ConsentKitError):
    """A partner could not be told that somebody withdrew; it is tried again."""


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the POST would become a GET that tells nothing, and be taken for done."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_Straight)


def post_json(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """POST `body` as JSON.

    Args:
        url: https, or this machine: the configuration takes no other.

    Raises:
        PartnerUnreachable: it did not answer 2xx within 15 seconds.
    """
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})  # noqa: S310  # see `url`
    try:
        with _opener.open(request, timeout=SECONDS):
            return
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise PartnerUnreachable(f"a partner's webhook failed ({type(error).__name__})") from None
