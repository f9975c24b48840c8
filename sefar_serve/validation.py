"""Explains pydantic's validation errors in plain words: the same over HTTP, in Python and on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_UNION_MEMBERS = frozenset({"str", "int", "float", "bool"})
"""Pydantic appends the tried member of a union of plain types to the location, which no user wrote."""

_LONGEST = 60
"""Characters of an invalid value that a message repeats."""

_SENTENCES = {
    "missing": "is required",
    "extra_forbidden": "unknown parameter",
    "int_parsing": "{input} is not a whole number",
    "int_type": "{input} is not a whole number",
    "int_from_float": "{input} is not a whole number",
    "int_parsing_size": "the number has too many digits",
    "float_parsing": "{input} is not a number",
    "float_type": "{input} is not a number",
    "finite_number": "{input} is not a finite number",
    "bool_parsing": "{input} is not a boolean; use true or false",
    "bool_type": "{input} is not a boolean; use true or false",
    # Without the value: it may be a secret that was written without quotes.
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode text",
    "path_type": "must be a path",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object with named fields",
    "model_type": "must be an object with named fields",
    "model_attributes_type": "must be an object with named fields",
    "greater_than": "must be greater than {gt}, not {input}",
    "greater_than_equal": "must be at least {ge}, not {input}",
    "less_than": "must be less than {lt}, not {input}",
    "less_than_equal": "must be at most {le}, not {input}",
    "too_long": "send at most {max_length}, not {actual_length}",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "{input} is not supported; use {expected}",
    "union_tag_invalid": "part type {tag!r} is not supported; use {expected_tags}",
    "union_tag_not_found": "the part has no type; add the field {discriminator}",
    "value_error": "{error}",
    "assertion_error": "{error}",
}


def explain(error: Mapping[str, Any]) -> str:
    """Say in plain words which input is invalid, and why.

    Args:
        error: one of the errors that `pydantic.ValidationError.errors()` returns.

    Returns:
        E.g. ``top_k: 'abc' is not a whole number``.
    """
    name, reason = location(error), _reason(error)
    return f"{name}: {reason}" if name else reason


def location(error: Mapping[str, Any]) -> str:
    """The dotted path of the invalid input; empty if the error concerns all of it.

    Args:
        error: as for `explain`.
    """
    parts = [str(part) for part in error.get("loc", ())]
    if len(parts) > 1 and parts[-1] in _UNION_MEMBERS:
        parts.pop()
    # The tag of a content part precedes its field of the same name: `content.0.text.text` is the field `text`.
    return ".".join(part for i, part in enumerate(parts) if i == 0 or part != parts[i - 1])


def _reason(error: Mapping[str, Any]) -> str:
    kind = error.get("type", "")
    context = {name: _whole(value) for name, value in error.get("ctx", {}).items()}
    for listed in ("expected", "expected_tags"):
        if listed in context:
            context[listed] = _alternatives(str(context[listed]))
    match kind:
        case "too_short":
            return "send at least one" if context["min_length"] == 1 else _at_least(context)
        case "string_too_short":
            least = context["min_length"]
            return "must not be empty" if least == 1 else f"must have at least {least} characters"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            # Without quotes, because in a query, a flag or a variable every number is text.
            return _SENTENCES[kind].format(**context | {"input": _shown(error.get("input")).strip("'")})
        case _ if kind in _SENTENCES:
            return _SENTENCES[kind].format(**context | {"input": _shown(error.get("input"))})
        case _:
            return str(error.get("msg", "is invalid")).replace("Input should be", "must be")


def _at_least(context: Mapping[str, Any]) -> str:
    return f"send at least {context['min_length']}, not {context['actual_length']}"


def _whole(value: object) -> object:
    """A limit without a needless `.0`."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _alternatives(listed: str) -> str:
    """Pydantic's list of allowed values as a phrase, e.g. ``text or video_url``."""
    names = listed.replace("'", "").replace(" or ", ", ").split(", ")
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _shown(value: object) -> str:
    """An invalid value as its sender would recognise it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return repr(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…")
        case int() | float():
            return f"{value}"[:_LONGEST]
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
        case _:
            return f"a {type(value).__name__} value"
