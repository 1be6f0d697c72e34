"""The audit: which cookies, hosts, storage and tags a site turned out to have and did not declare (checklist GAT-04).

Names only, and days; nothing of a visitor. It costs no crawler: the pages that go out tell it.
"""

from consentkit.audit.ledger import Sighting
from consentkit.audit.log import KEEP, Audit

__all__ = ["KEEP", "Audit", "Sighting"]
