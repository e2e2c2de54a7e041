"""The description of the admin API says what the API answers, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

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


@pytest.mark.parametrize("value", [b'"\xff"}', b"[" * 100_000, b""], ids=["not UTF-8", "too deep", "cut off"])
@pytest.mark.parametrize("known", [True, False], ids=["a field that it has", "another"])
async def test_a_body_that_is_no_json_is_400_and_no_fault_of_ours(value, known):
    app = api.application("token", object(), CALLS, DOCUMENT)  # type: ignore[arg-type]
    async with TestClient(TestServer(app)) as http:
        for call in CALLS:
            if call.body is None:
                continue
            path = call.path.replace("{", "").replace("}", "")
            field = msgspec.structs.fields(call.body)[0].name if known else "more\udcff"
            body = b'{"%s":' % field.encode("utf-8", "surrogateescape") + value
            async with http.request(
                call.method, path, data=body, headers={"Authorization": "Bearer token"}
            ) as response:
                assert (response.status, list(await response.json())) == (400, ["error"]), call.path


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
