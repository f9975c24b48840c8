"""reference/http.md: every route, parameter and answer, read from the gateway's OpenAPI document."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tables import code, prose, sentence, table

from sefar_serve.api.app import create_app
from sefar_serve.engine.fake import FakeEngine
from sefar_serve.language.fake import FakeGenerator
from sefar_serve.settings import Settings

INTRO = """# HTTP API

This page is made from the gateway's OpenAPI document. A running gateway serves the same document at `/openapi.json`
and a form to try each route at `/docs`. [Classify videos](../how-to/classify.md) and
[Caption videos and ask questions](../how-to/captions.md) show the routes in use.

Every GET route also answers HEAD, with the same headers and no body.

Errors have one shape, [ErrorResponse](#errorresponse); [Error codes](errors.md) lists them all.
"""

Schema = dict[str, Any]
_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def render() -> str:
    """The page as Markdown."""
    document = create_app(Settings(), FakeEngine(), FakeGenerator()).openapi()
    routes = [
        _route(method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    schemas = [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return "\n".join([INTRO, "## Routes\n", *routes, "## Schemas\n", *schemas])


def _route(method: str, path: str, operation: Schema) -> str:
    parts = [f"### {method} {path}", _paragraphs(operation.get("description", ""))]
    parameters = operation.get("parameters", [])
    rows = [
        [code(each["name"]), each["in"], _kind(each["schema"]), _meaning(each["schema"], each.get("required", False))]
        for each in parameters
    ]
    parts.append(table(["Parameter", "In", "Type", "Meaning"], rows))
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.extend(_body(media, content["schema"], {each["name"] for each in parameters}))
    refusals = []
    for status, answer in sorted(operation["responses"].items()):
        if status.startswith("2"):
            parts.append(f"Answer {status}: {' or '.join(_content(answer)) or 'no content'}")
        else:
            refusals.append(status)
    if refusals:
        parts.append(f"Errors: {', '.join(refusals)}; see [Error codes](errors.md).")
    return "\n\n".join(part for part in parts if part) + "\n"


def _body(media: str, schema: Schema, parameters: set[str]) -> list[str]:
    """One form of the request's body; fields that are query parameters too are not repeated."""
    repeated = parameters & set(schema.get("properties", {}))
    fields = _fields(schema, request=True, without=repeated)
    if not schema.get("properties"):
        return [f"Body {code(media)}: the bytes of one video."]
    also = " You can send the query parameters above as fields of this body." if repeated else ""
    nested = [f"#### {name}\n\n{_fields(each, request=True)}" for name, each in schema.get("$defs", {}).items()]
    return [f"Body {code(media)}:{also}", fields, *nested]


def _content(answer: Schema) -> list[str]:
    return [
        _kind(content["schema"]) if content.get("schema") else code(media)
        for media, content in answer.get("content", {}).items()
    ]


def _schema(name: str, schema: Schema) -> str:
    return f"### {name}\n\n{_paragraphs(schema.get('description', ''))}\n\n{_fields(schema)}"


def _fields(schema: Schema, *, request: bool = False, without: Collection[str] = ()) -> str:
    required = schema.get("required", []) if request else []
    return table(
        ["Field", "Type", "Meaning"],
        (
            [code(name), _kind(field), _meaning(field, name in required)]
            for name, field in schema.get("properties", {}).items()
            if name not in without
        ),
    )


def _meaning(schema: Schema, required: bool) -> str:
    parts = [sentence(schema.get("description", ""))]
    if schema.get("default") is not None:
        parts.append(f"Default: {code(_literal(schema['default']))}.")
    if required:
        parts.append("Required.")
    return " ".join(part for part in parts if part)


def _kind(schema: Schema) -> str:
    """A schema in a few words; one that has a name of its own is a link to it."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[choice]))
    if "const" in schema:
        return code(_literal(schema["const"]))
    if "enum" in schema:
        return " or ".join(code(_literal(each)) for each in schema["enum"])
    if schema.get("type") == "array":
        items = [_kind(each) for each in schema.get("prefixItems", [])] or [_kind(schema.get("items", {}))]
        return f"array of {', '.join(items)}"
    kind = "file" if schema.get("format") == "binary" else schema.get("type", "any JSON")
    limits = [f"{sign} {schema[key]}" for key, sign in _LIMITS.items() if key in schema]
    return prose(" ".join([kind, ", ".join(limits)]).strip())


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else repr(value)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
