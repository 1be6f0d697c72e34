"""The post office, started once a run, and empty for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.post.office import Office
from tests.post.site import Site


@pytest.fixture(scope="session")
def servers() -> Iterator[Office]:
    with Office() as office:
        yield office


@pytest.fixture
def office(servers: Office) -> Office:
    """Postfix and Dovecot with nothing in them."""
    servers.empty()
    return servers


@pytest.fixture
def site(office: Office) -> Iterator[Callable[..., Site]]:
    """Makes the school's site, with these tables in its configuration; once a test."""
    opened: list[Site] = []

    def made(**tables: str) -> Site:
        opened.append(Site(office, **tables))
        return opened[0]

    yield made
    for one in opened:
        one.close()
