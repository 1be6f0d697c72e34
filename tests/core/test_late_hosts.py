"""The hosts that the guard in the browser knows: two lists, and between them what the gate would say."""

from __future__ import annotations

import json

from consentkit import catalogue
from consentkit.gate import Gate
from consentkit.render import Hosts, Renderer
from consentkit.service import NECESSARY, Service
from tests.front.harness import make_view

NAMED = {"google-analytics", "youtube"}


def service(id: str, *hosts: str, category: str = "analytics") -> Service:
    return Service(id=id, title=id, provider=id, country="NL", category=category, purpose={"nl": id}, hosts=hosts)


def hosts(*services: Service, named: set[str], own: tuple[str, ...] = ("school.test",), strict: bool = False) -> Hosts:
    gate = Gate(services, configured=named, categories={"analytics"})
    return Hosts.of(services, gate.needs, own_hosts=own, strict=strict)


def test_what_shares_a_host_with_a_named_service_goes_with_the_guard_longest_path_first() -> None:
    found = hosts(
        service("teller", "teller.example", "groot.example/teller"),
        service("ander", "groot.example", "groot.example/teller/diep", "api.groot.example", "x.example/js?id=A"),
        service("chat", "chat.example", category=NECESSARY),
        named={"teller"},
    )

    assert found == Hosts(
        near=(
            "groot.example/teller/diep",
            "groot.example/teller analytics",
            "api.groot.example",
            "chat.example ",
            "groot.example",
            "school.test ",
            "teller.example analytics",
        ),
        far=("x.example/js?id=A",),
    )


def test_a_path_and_its_parameter_are_compared_as_the_gate_does() -> None:
    found = hosts(service("teller", "Groot.Example./Pad/%41?id=X", "groot.example/pad/a"), named={"teller"}, own=())

    assert found.near == ("groot.example/pad/a?id=X analytics", "groot.example/pad/a analytics")


def test_every_known_host_is_in_one_list_and_only_the_first_goes_with_the_guard() -> None:
    services = list(catalogue.load().values())

    found = hosts(*services, named=NAMED)
    renderer = Renderer(make_view(hosts=found))

    known = {host.replace("_US/", "_us/").replace("_NL/", "_nl/") for one in services for host in one.hosts}
    assert {line.partition(" ")[0] for line in (*found.near, *found.far)} == known | {"school.test"}
    assert not set(found.near) & set(found.far)
    name = next(one for one in renderer.guard(asks=True).split("/") if one.startswith("consentkit-guard")).partition(
        '"'
    )[0]
    script, media_type = renderer.asset(name) or (b"", "")
    told = json.loads(script.decode().split("others } = ")[1].split(";\n")[0])
    assert media_type == "text/javascript; charset=utf-8"
    assert told | {"others": ""} == {"registry": list(found.near), "strict": False, "others": ""}
    assert renderer.asset(told["others"]) == (json.dumps(found.far, separators=(",", ":")).encode(), "application/json")
