"""The description of the admin API says what the API answers, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from bridgekit.admin import api, openapi
from bridgekit.admin.views import Done

CALLS = api.calls(Done)
DOCUMENT = openapi.document(CALLS)


def references(part: Any) -> list[str]:
    """Every `$ref` below a part of the document."""
    if isinstance(part, dict):
        return [
            found
            for name, value in part.items()
            for found in ([value] if name == "$ref" else references(value))
        ]
    return [found for value in part for found in references(value)] if isinstance(part, list) else []


def test_every_call_is_described_with_its_body_its_query_and_its_refusals():
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(call.method, call.path) for call in CALLS}
    for call in CALLS:
        operation = DOCUMENT["paths"][call.path][call.method.lower()]
        assert ("requestBody" in operation) == (call.body is not None)
        assert [p["name"] for p in operation.get("parameters", [])] == list(call.query)
        assert set(operation["responses"]) == {str(call.status), "400", "401", "404", "502"}


def test_every_reference_leads_somewhere_and_every_operation_has_its_own_name():
    schemas = DOCUMENT["components"]["schemas"]
    found = references(DOCUMENT)
    assert found
    assert {ref.removeprefix("#/components/schemas/") for ref in found} <= set(schemas)
    ids = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids)) == len(CALLS)


def test_the_description_is_json():
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_every_call_of_the_table_is_served():
    class Nobody:
        pass

    app = api.application("token", Nobody(), CALLS, DOCUMENT)  # type: ignore[arg-type]
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.method != "HEAD" and isinstance(route.resource, web.Resource)
    }
    assert served == {*((call.method, call.path) for call in CALLS), ("GET", "/openapi.json")}
