"""docs/services.md: its examples are read, and its table is the catalogue's."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from consentkit import catalogue
from consentkit.service import Service

PAGE = Path(__file__).parents[2] / "docs" / "services.md"
HEADING = "## The services that are known\n"


def test_the_table_of_services_is_the_catalogues() -> None:
    page = PAGE.read_text("utf-8")
    above, heading, _ = page.partition(HEADING)
    wanted = f"{above}{heading}\n{table()}"
    if os.environ.get("CONSENTKIT_REWRITE"):
        PAGE.write_text(wanted, "utf-8")
    assert PAGE.read_text("utf-8") == wanted, "run CONSENTKIT_REWRITE=1 pytest tests/catalogue"


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
def test_each_example_is_accepted(example: str) -> None:
    for id, keys in tomllib.loads(example)["services"].items():
        catalogue.parse(id, keys, catalogue.load().get(id))


def test_each_key_is_explained() -> None:
    explained = set(re.findall(r"^\| (`.*?`) \|", PAGE.read_text("utf-8"), re.MULTILINE))
    named = {key for cell in explained for key in re.findall(r"`(\w+)`", cell)}
    assert set(catalogue.KEYS) <= named | {"cookies", "storage"}


def table() -> str:
    services = catalogue.load().values()
    count = f"{len(services)} services. *Keeps* counts the cookies and storage keys that are documented.\n\n"
    rows = "".join(map(row, sorted(services, key=lambda service: service.title.lower())))
    return f"{count}| service | id | category | provider | country, basis | keeps |\n|---|---|---|---|---|---|\n{rows}"


def row(service: Service) -> str:
    category = f"{service.category}, a choice of its own" if service.embed else service.category
    basis = f"{service.country}, {service.transfer}" if service.transfer != "none" else service.country
    return (
        f"| [{service.title}]({service.privacy_url}) | `{service.id}` | {category} | {service.provider} | {basis} | "
        f"{len(service.items) or '–'} |\n"
    )
