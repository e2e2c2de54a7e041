"""The description of `/api/v1` for programs (OpenAPI 3.1), made from the table of its calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from bridgekit import __version__
from bridgekit.admin.api import Call
from bridgekit.admin.callers import PREFIX
from bridgekit.admin.views import Refusal

_REFUSALS = {
    400: "It cannot be read, or is not allowed.",
    401: "The token is missing or wrong.",
    404: "There is no such thing.",
    502: "The homeserver or a network refused it.",
}


def document(calls: Sequence[Call]) -> dict[str, Any]:
    """The whole document, ready for JSON."""
    types = [
        Refusal,
        *(call.answer for call in calls),
        *(call.body for call in calls if call.body is not None),
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = dict(_operation(call, schema))
    return {
        "openapi": "3.1.0",
        "info": {"title": "bridgekit", "version": __version__, "summary": "A running bridge, for its admin."},
        "servers": [{"url": PREFIX}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Made from the bridge's key: `bridgekit dashboard` shows it.",
                }
            },
        },
    }


def _operation(call: Call, schema: dict[type, Any]) -> Iterator[tuple[str, Any]]:
    yield "summary", call.summary
    yield "operationId", f"{call.method.lower()}{call.path.removeprefix('/').title()}"
    if call.query:
        yield (
            "parameters",
            [
                {
                    "name": name,
                    "in": "query",
                    "required": True,
                    "schema": {"type": "string"},
                }
                for name in call.query
            ],
        )
    if call.body is not None:
        yield "requestBody", {"required": True, "content": _json(schema[call.body])}
    refusal = _json(schema[Refusal])
    yield (
        "responses",
        {
            str(call.status): {"description": "So it is.", "content": _json(schema[call.answer])},
            **{str(status): {"description": why, "content": refusal} for status, why in _REFUSALS.items()},
        },
    )


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
