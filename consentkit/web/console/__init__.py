"""The console for staff, behind a log-in: its pages call what the command line calls, and add no rule of their own."""

from consentkit.web.console.shell import Console

__all__ = ["Console"]
