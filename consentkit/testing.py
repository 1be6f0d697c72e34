"""For the tests of an app that stands behind consentkit: does anything get past the gate?

    from consentkit.testing import assert_no_leaks

    def test_nothing_leaks():
        assert_no_leaks(app, "/", "/contact")

No server is needed: the app is called as a server calls it. Each page is looked at before a choice, after a refusal and
with everything granted, with choices that are signed by the app's own keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consentkit.kit import ConsentKit
from consentkit.probe import Finding, source_of
from consentkit.probe.examine import examine, get_to_know, kit_of

__all__ = ["Finding", "assert_no_leaks", "leaks"]


def leaks(app_or_url: Any, *paths: str, kit: ConsentKit | None = None) -> list[Finding]:
    """What is wrong with these pages: what loads or is stored without consent, what nobody declared, and what is held
    back and can never be released.

    Args:
        app_or_url: an ASGI app, wrapped by consentkit; or the address of a running site.
        paths: of the pages, with their queries; default `/`. Redirects within the site are followed, links are not.
        kit: whose site it is: needed for several sites, and for a URL of one's own. An app that is wrapped has its own.

    Raises:
        PageUnreachable: a page can't be fetched, or the app does not start.
    """
    start = paths or ("/",)
    kit = kit or kit_of(app_or_url)
    with source_of(app_or_url, kit.settings.all_sites[0].base_url if kit else "http://127.0.0.1") as source:
        subject = get_to_know(source, kit, path=start[0])
        return examine(source, subject, start=start, most=len(start), follow=False).findings


def assert_no_leaks(app_or_url: Any, *paths: str, kit: ConsentKit | None = None) -> None:
    """Fail where `leaks` finds anything, and say what, where and what to do.

    Args:
        app_or_url, paths, kit: as for `leaks`.

    Raises:
        AssertionError: something was found. PageUnreachable: a page can't be fetched.
    """
    __tracebackhide__ = True
    found = leaks(app_or_url, *paths, kit=kit)
    if found:
        raise AssertionError(_told(found))


def _told(found: Sequence[Finding]) -> str:
    head = "one finding" if len(found) == 1 else f"{len(found)} findings"
    return f"{head} of consentkit:\n" + "\n".join(map(str, found))
