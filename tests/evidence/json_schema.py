"""As much of JSON Schema as `event.schema.json` uses, so that no validator has to be installed for one file."""

from __future__ import annotations

import re
from typing import Any

_TYPES = {"object": dict, "string": str, "integer": int, "boolean": bool, "null": type(None)}
_KNOWN = {
    "$schema", "$id", "title", "description", "type", "required", "properties", "additionalProperties",
    "minProperties", "minLength", "minimum", "pattern", "const", "enum", "if", "then",
}  # fmt: skip


def problems(value: Any, schema: dict[str, Any], place: str = "event") -> list[str]:
    """What the schema has against the value."""
    assert set(schema) <= _KNOWN, f"this validator doesn't know {set(schema) - _KNOWN}"
    found: list[str] = []
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return [f"{place} is no {' or '.join(kinds)}"]
    if "const" in schema and value != schema["const"]:
        found.append(f"{place} is not {schema['const']}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{place} is none of {schema['enum']}")
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            found.append(f"{place} is too short")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{place} has another form")
    if _is(value, "integer") and value < schema.get("minimum", value):
        found.append(f"{place} is too small")
    if isinstance(value, dict):
        found += _object_problems(value, schema, place)
    if "if" in schema and not problems(value, schema["if"], place):
        found += problems(value, schema["then"], place)
    return found


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and not (kind == "integer" and isinstance(value, bool))


def _object_problems(value: dict[str, Any], schema: dict[str, Any], place: str) -> list[str]:
    found = [f"{place}.{name} is missing" for name in schema.get("required", []) if name not in value]
    if len(value) < schema.get("minProperties", 0):
        found.append(f"{place} is empty")
    others = schema.get("additionalProperties", {})
    for name, part in value.items():
        rule = schema.get("properties", {}).get(name, others)
        if rule is False:
            found.append(f"{place}.{name} is unknown")
        elif rule is not True:
            found += problems(part, rule, f"{place}.{name}")
    return found
