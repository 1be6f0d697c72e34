"""The guard for a host app that keeps a mailer of its own: what it sends passes here, or does not leave.

`consentkit.guard.django` is a mail backend for Django; nothing imports it but who names it.
"""

from consentkit.afgemeld import POLICY
from consentkit.guard.guard import Guard
from consentkit.guard.headers import LIST_HEADER, PURPOSE_HEADER
from consentkit.guard.watch import Watch

__all__ = ["LIST_HEADER", "POLICY", "PURPOSE_HEADER", "Guard", "Watch"]
