"""Every area of the console, in the order of its menu."""

from __future__ import annotations

from consentkit.web.console.afgemeld import AfgemeldPages
from consentkit.web.console.area import Area
from consentkit.web.console.consent import Consent
from consentkit.web.console.drafts import DraftPages
from consentkit.web.console.home import Home
from consentkit.web.console.imports import Imports
from consentkit.web.console.jobs import JobPages
from consentkit.web.console.lists import Lists
from consentkit.web.console.log import Logbook
from consentkit.web.console.persons import Persons
from consentkit.web.console.proof import Proof
from consentkit.web.console.sending import Sending
from consentkit.web.console.staff import StaffPages

AREAS: tuple[Area, ...] = (
    Home(),
    Sending(),
    DraftPages(),
    Lists(),
    Imports(),
    Persons(),
    AfgemeldPages(),
    Consent(),
    Proof(),
    Logbook(),
    JobPages(),
    StaffPages(),
)
