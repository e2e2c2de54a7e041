"""Turns what pydantic found into sentences that help, without ever quoting a value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridgekit.config.source import Place

_NOUNS = {
    "string": "a text (numbers and yes/no need quotes)",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "dict": "keys and values",
    "model": "keys and values",
    "model_attributes": "keys and values",
    "path": "a path",
    "none": "nothing",
}


def explain(error: ValidationError, place: Place) -> list[tuple[Place, str]]:
    """Each thing that is wrong, with its place below `place`."""
    problems = [
        (_place(place, detail["loc"]), _sentence(detail)) for detail in error.errors(include_url=False)
    ]
    return list(dict.fromkeys(problems))


def _place(place: Place, loc: Iterable[str | int]) -> Place:
    # pydantic names the members of a union (`function-after[...]`, `tls`) and of a dict (`[key]`) in a place
    return (*place, *(part for part in loc if isinstance(part, int) or not part.endswith("]")))


def _sentence(detail: ErrorDetails) -> str:
    kind = detail["type"]
    ctx: dict[str, Any] = detail.get("ctx", {})
    what, _, fault = kind.rpartition("_")
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "there is no such key"
        case "value_error" | "assertion_error":
            return str(ctx.get("error", "")) or "is not right"
        case "literal_error" | "enum":
            return f"must be {ctx['expected']}"
        case "greater_than_equal":
            return f"must be {ctx['ge']} or more"
        case "less_than_equal":
            return f"must be {ctx['le']} or less"
        case "greater_than":
            return f"must be more than {ctx['gt']}"
        case "less_than":
            return f"must be less than {ctx['lt']}"
        case "string_too_short" if ctx.get("min_length") == 1:
            return "must not be empty"
        case "string_pattern_mismatch":
            return f"must match {ctx['pattern']}"
        case "finite_number":
            return "must be a finite number"
        case "path_not_file":
            return "there is no such file"
        case "too_short":
            return f"needs at least {ctx['min_length']} of them"
        case _ if fault in ("type", "parsing") and what in _NOUNS:
            return f"must be {_NOUNS[what]}"
    return detail["msg"][:1].lower() + detail["msg"][1:]
