"""What every test shares: the fixtures of other files, the checklist's ids, and no silent skips in CI."""

from __future__ import annotations

import os

import pytest

from tests.project import coverage_table

collect_ignore = ["post"]  # needs root and a mail server: `make test-post` names it, which collects it after all
pytest_plugins = ["tests.fixtures_postgres", "tests.fixtures_smtp", "tests.browser_fixtures"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An id that the checklist doesn't have would count for nothing: refuse it."""
    known = {item.id for item in coverage_table.requirements()}
    for item in items:
        for marker in item.iter_markers("checklist"):
            if unknown := sorted(set(marker.args) - known):
                raise pytest.UsageError(f"{item.nodeid}: the checklist has no {', '.join(unknown)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Where CI is set, a skipped test fails and says what was missing."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI allows no gaps: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """The same for a whole module that skips itself."""
    report = yield
    if os.environ.get("CI") and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and CI allows no gaps: {reason}"
    return report
