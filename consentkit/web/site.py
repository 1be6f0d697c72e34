"""One site at run time: everything that is made once at the start from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consentkit.choice import Choices, Policy
from consentkit.evidence import Notice
from consentkit.render import Renderer
from consentkit.settings import Site as SiteSettings
from consentkit.web.flow import PageFlow
from consentkit.web.inserts import Inserts


@dataclass(frozen=True, slots=True)
class Site:
    """What the page flow and the pages of one site share. `notices` are by language."""

    settings: SiteSettings
    policy: Policy
    choices: Choices
    renderer: Renderer
    inserts: Inserts
    notices: Mapping[str, Notice]
    flow: PageFlow
