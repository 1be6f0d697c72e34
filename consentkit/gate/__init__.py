"""The gate: holds back what has no consent, in the HTML and the headers that leave the server. Pure.

`Gate` is built once per site from the services; it gives a `Rewriter` per response. `consentkit.gate.headers` does the
same for response headers.
"""

from consentkit.gate.decide import Gate
from consentkit.gate.fallback import fallback
from consentkit.gate.rewrite import MAX_HOLD, Rewriter
from consentkit.gate.vectors import UNANSWERABLE, Hold, Needs, Seen, Slot

__all__ = ["MAX_HOLD", "UNANSWERABLE", "Gate", "Hold", "Needs", "Rewriter", "Seen", "Slot", "fallback"]
