"""The probe: looks at the pages of a site as visitors get them, in each state of consent, and says what would leak.

`pages` reads what the server sends; `browser` opens it in Chromium and counts what really leaves and what is kept.
"""

from consentkit.probe.inspect import Viewer, inspect
from consentkit.probe.pages import Page, look
from consentkit.probe.report import Finding, Report, annotation, as_github, as_text, merged, visible
from consentkit.probe.source import App, PageUnreachable, Source, Web, source_of
from consentkit.probe.states import State, states

__all__ = [
    "App",
    "Finding",
    "Page",
    "PageUnreachable",
    "Report",
    "Source",
    "State",
    "Viewer",
    "Web",
    "annotation",
    "as_github",
    "as_text",
    "inspect",
    "look",
    "merged",
    "source_of",
    "states",
    "visible",
]
