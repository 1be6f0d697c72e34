"""What a message says of itself: by a header that never leaves, else by what mailings carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from consentkit.errors import UnguardedMail

LIST_HEADER: Final = "X-Consentkit-List"
"""Says that a message is marketing, for this list. It never leaves."""

PURPOSE_HEADER: Final = "X-Consentkit-Purpose"
"""Says `service` or `marketing`. It never leaves."""

OWN: Final = (LIST_HEADER, PURPOSE_HEADER)

_MARKS = frozenset({"list-unsubscribe", "list-unsubscribe-post", "list-id", "feedback-id"})


@dataclass(frozen=True, slots=True)
class Stated:
    """What a message says of itself.

    Args:
        marketing: it is marketing. list: for this list.
        declared: by a header of ours; else it was told by what mailings carry, or by nothing.
    """

    marketing: bool
    list: str | None = None
    declared: bool = False

    @classmethod
    def read(cls, headers: Iterable[tuple[str, object]]) -> Stated:
        """Read it from the headers of a message.

        Raises:
            UnguardedMail: what it says can't be meant.
        """
        found = [(name.lower(), str(value).strip()) for name, value in headers]
        lists = [value for name, value in found if name == LIST_HEADER.lower()]
        purposes = [value.lower() for name, value in found if name == PURPOSE_HEADER.lower()]
        if len(lists) > 1 or len(purposes) > 1:
            raise UnguardedMail(f"a message has one {LIST_HEADER} or {PURPOSE_HEADER}, not several")
        if purposes and purposes[0] not in ("service", "marketing"):
            raise UnguardedMail(f"{PURPOSE_HEADER} is neither service nor marketing: write one of these")
        service = purposes == ["service"]
        if service and (lists or any(name == "list-unsubscribe" for name, _ in found)):
            raise UnguardedMail(
                "a message that goes to a list or carries List-Unsubscribe is no service message: "
                f"take {PURPOSE_HEADER} off, or what makes it a mailing"
            )
        if lists or purposes:
            return cls(not service, lists[0] if lists else None, declared=True)
        return cls(any(_marks(name, value) for name, value in found))


def _marks(name: str, value: str) -> bool:
    return name in _MARKS or (name == "precedence" and value.lower() in ("bulk", "list"))
