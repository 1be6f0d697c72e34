"""The staff: who may be in the console, what they may do there, and what they did. Owns its tables."""

from consentkit.staff.accounts import COMMAND_LINE, Account, Accounts, Given, LogIn, Passage, StaffRefused, key_of
from consentkit.staff.jobs import Job, Jobs, JobsBusy, JobState, Lines, Outcome, Progress
from consentkit.staff.log import Entry, StaffLog
from consentkit.staff.posts import Posts
from consentkit.staff.roles import RIGHTS, Member, Right, Role, read_roles

__all__ = [
    "COMMAND_LINE",
    "RIGHTS",
    "Account",
    "Accounts",
    "Entry",
    "Given",
    "Job",
    "JobState",
    "Jobs",
    "JobsBusy",
    "Lines",
    "LogIn",
    "Member",
    "Outcome",
    "Passage",
    "Posts",
    "Progress",
    "Right",
    "Role",
    "StaffLog",
    "StaffRefused",
    "key_of",
    "read_roles",
]
