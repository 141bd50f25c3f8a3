"""The page `/docs`: every endpoint with its fields, made of the OpenAPI document.

It has no script and asks nobody else for anything, so it works offline, and a strict policy holds for it.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; color: #1c2024;
  background: #fff }
h2 { margin-top: 2.5rem; text-transform: capitalize } h1 small { font-weight: normal; color: #60646c }
details { border: 1px solid #d9d9e0; border-radius: 6px; margin: .5rem 0; padding: .5rem .75rem }
summary { cursor: pointer; overflow-wrap: anywhere } code, pre { font: 13px/1.5 ui-monospace, monospace }
pre { background: #f4f4f6; padding: .75rem; overflow-x: auto; border-radius: 6px } summary code b { color: #0b68cb }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #e8e8ec }
td:first-child code { white-space: nowrap } .note { color: #60646c }
@media (prefers-color-scheme: dark) { body { background: #111113; color: #edeef0 } pre { background: #212225 }
  summary code b { color: #70b8ff } .note, h1 small { color: #b0b4ba } details, td, th { border-color: #363a3f } }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'".encode()

Json = Mapping[str, Any]


def page(document: Json) -> str:
    """The whole page."""
    info, groups = document["info"], dict[str, list[str]]()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(document, method, path, operation))
    parts = [f"<h2>{escape(tag)}</h2>{''.join(found)}" for tag, found in groups.items()]
    schemas = "".join(_schema_section(document, name, schema)
                      for name, schema in sorted(document["components"]["schemas"].items()))
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])} API</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
            f'<h1>{escape(info["title"])} <small>{escape(info["version"])}</small></h1>'
            f'<p>{escape(info["description"])}</p><p><a href="openapi.json">openapi.json</a></p>'
            f'{"".join(parts)}<h2>Schemas</h2>{schemas}</body></html>')


def _operation(document: Json, method: str, path: str, operation: Json) -> str:
    role = operation["x-role"]
    needs = "no key" if role == "none" else f"role {role}"
    parameters = [(f"{escape(one['name'])} <span class='note'>{one['in']}</span>", one["schema"],
                   one.get("description", ""), one.get("required", False)) for one in operation.get("parameters", ())]
    schemas = [one["schema"] for one in operation.get("requestBody", {}).get("content", {}).values()]
    answers = [(f"<code>{escape(str(status))}</code>", escape(answer.get("description", "")) + _kinds(answer))
               for status, answer in sorted(operation["responses"].items())]
    head = (f'<summary><code><b>{method.upper()}</b> {escape(path)}</code> {escape(operation["summary"])} '
            f'<span class="note">({needs})</span></summary>')
    bodies = "".join(f"<p>Body: {_kind(schema)}</p>{_examples(document, schema)}" for schema in schemas)
    return (f'<details>{head}<p id="{escape(operation["operationId"])}">{escape(operation.get("description", ""))}</p>'
            f'{_fields("Parameters", parameters) if parameters else ""}{bodies}{_table("Answers", answers)}</details>')


def _schema_section(document: Json, name: str, schema: Json) -> str:
    required = schema.get("required", ())
    fields = [(escape(field), one, one.get("description", ""), field in required)
              for field, one in schema.get("properties", {}).items()]
    values = f"<p>{', '.join(f'<code>{escape(str(one))}</code>' for one in schema.get('enum', ()))}</p>"
    return (f'<details><summary><code>{escape(name)}</code></summary>'
            f'<p id="schema-{escape(name)}">{escape(schema.get("description", ""))}</p>'  # a link opens what is around
            f'{_fields("Fields", fields) if fields else values}</details>')


def _fields(title: str, fields: Iterable[tuple[str, Json, str, bool]]) -> str:
    return _table(title, [(f"<code>{name}</code>{' *' if required else ''}",
                           f"{_kind(schema)} <span class='note'>{escape(description)}</span>")
                          for name, schema, description, required in fields])


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{left}</td><td>{right}</td></tr>" for left, right in rows)
    return f'<div class="scroll"><table><tr><th>{title}</th><th></th></tr>{cells}</table></div>'


def _kinds(answer: Json) -> str:
    found = [(kind, one["schema"]) for kind, one in answer.get("content", {}).items() if one.get("schema")]
    return "".join(f" {_kind(schema)}" for kind, schema in found if kind == "application/json")


def _kind(schema: Json) -> str:
    """What a value has to be, in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[name]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"<code>{escape(str(one))}</code>" for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    limits = [f"{sign} {escape(str(schema[name]))}" for name, sign in (
        ("minimum", "≥"), ("exclusiveMinimum", "&gt;"), ("maximum", "≤"), ("maxLength", "length ≤"),
        ("pattern", "matches")) if name in schema]
    return " ".join([escape(str(schema.get("format") or schema.get("type") or "anything")), *limits])


def _examples(document: Json, schema: Json) -> str:
    named = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
    return "".join(f"<pre>{escape(json.dumps(one, indent=2, ensure_ascii=False))}</pre>"
                   for one in named.get("examples", ())[:1])
