"""How many stand in the table, by scope and reason: numbers, and nobody."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select

from consentkit.afgemeld.entries import OPT_IN, Reason
from consentkit.afgemeld.tables import afgemeld
from consentkit.store import Store


def counts(store: Store) -> Mapping[tuple[str, Reason], int]:
    """Rows that forbid something, by scope and reason. Reads the whole table.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    row = afgemeld.c
    query = select(row.scope, row.reason, func.count()).where(~row.scope.startswith(OPT_IN))
    with store.read() as connection:
        found = connection.execute(query.group_by(row.scope, row.reason)).all()
    return {(scope, Reason(reason)): int(count) for scope, reason, count in found}
