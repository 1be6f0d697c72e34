"""The battery: does anything reach a tracker before consent? In real browsers, with and without JavaScript.

    python -m battery --target consentkit --browser chromium
    python -m battery --target url --url https://delinde.example
    python -m battery compare

It knows nothing of how a consent tool works: it serves pages full of ways to reach a tracker, visits them as a
visitor who was not asked yet, who refused, and who agreed, and counts what arrives. See README.md.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
VERSION = (HERE / "VERSION").read_text("utf-8").strip()
