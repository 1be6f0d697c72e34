"""The catalogue against third-party-web, which counts what the web really loads (npm, MIT; a development tool)."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from consentkit import catalogue

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "node_modules" / "third-party-web" / "dist" / "entities.json"
KINDS = {"ad", "analytics", "social", "marketing", "tag-manager", "video", "customer-success"}
REASONS: dict[str, str] = tomllib.loads((HERE / "unmapped.toml").read_text("utf-8"))["reasons"]


@pytest.fixture(scope="module")
def most_used() -> list[dict[str, Any]]:
    """Those of the 300 most seen entities that follow, advertise, measure or show content."""
    if not DATA.exists():
        remedy = "third-party-web is not installed: run `npm install` in the root of the repository"
        if os.environ.get("CI"):
            pytest.fail(remedy)
        pytest.skip(remedy)
    entities: list[dict[str, Any]] = json.loads(DATA.read_text("utf-8"))
    entities.sort(key=lambda entity: -entity.get("totalOccurrences", 0))
    return [entity for entity in entities[:300] if entity["category"] in KINDS]


def test_it_is_the_version_that_package_json_names(most_used: list[dict[str, Any]]) -> None:
    wanted = json.loads((HERE.parents[1] / "package.json").read_text("utf-8"))["devDependencies"]["third-party-web"]
    assert json.loads((DATA.parents[1] / "package.json").read_text("utf-8"))["version"] == wanted
    assert len(most_used) > 150


def test_each_of_the_most_used_is_a_service_or_left_out_for_a_reason(most_used: list[dict[str, Any]]) -> None:
    missing = [entity["name"] for entity in most_used if not known(entity) and entity["name"] not in REASONS]
    assert missing == []


def test_only_what_is_really_left_out_has_a_reason(most_used: list[dict[str, Any]]) -> None:
    left_out = {entity["name"] for entity in most_used if not known(entity)}
    assert set(REASONS) - left_out == set()
    assert all(reason.endswith(".") and len(reason.split()) > 5 for reason in REASONS.values())


def known(entity: dict[str, Any]) -> bool:
    """Whether a service claims one of the entity's domains; `*.` stands for the domain and all below it."""
    return any(covered(domain) for domain in entity["domains"])


HOSTS = {host.partition("/")[0] for service in catalogue.load().values() for host in service.hosts}


def covered(domain: str) -> bool:
    name = domain.removeprefix("*.")
    above = any(name == host or name.endswith(f".{host}") for host in HOSTS)
    return above or (domain.startswith("*.") and any(host.endswith(f".{name}") for host in HOSTS))
