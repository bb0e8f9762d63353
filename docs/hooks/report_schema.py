"""The fields of report.json, made from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tables import table

SCHEMA = Path(__file__).parents[2] / "t2v_eval" / "report" / "report.schema.json"


def schema_section() -> str:
    """Return a heading and a table of fields for the report and each definition of the schema."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    parts = ["### report", schema["description"], _fields(schema)]
    for name, definition in schema["$defs"].items():
        if name == "number":
            continue
        parts += [f"### {name}", definition.get("description", "")]
        if "properties" in definition:
            parts.append(_fields(definition))
        else:
            parts.append(f"Type: {_type(definition)}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _fields(definition: Mapping[str, Any]) -> str:
    return table(("field", "type", "always", "description"), _rows(definition, ""))


def _rows(definition: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    required = definition.get("required", ())
    for name, field in definition["properties"].items():
        yield (
            f"`{prefix}{name}`",
            _type(field),
            "yes" if name in required else "",
            field.get("description", ""),
        )
        inner = field.get("items", field) if field.get("type") == "array" else field
        if isinstance(inner, dict) and "properties" in inner:
            yield from _rows(inner, f"{prefix}{name}.")


def _type(field: Mapping[str, Any]) -> str:
    """Return the type of a field; of another definition, a link to it."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return "number or null" if name == "number" else f"[{name}](#{name})"
    if "const" in field:
        return f"`{field['const']}`"
    kind = field.get("type", "any")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    if kind == "array" and isinstance(field.get("items"), dict):
        return f"list of {_type(field['items'])}"
    if kind == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"object of {_type(field['additionalProperties'])}"
    return kind
