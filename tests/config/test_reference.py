"""The reference and the schema name every key."""

from __future__ import annotations

from bridgekit.config.reference import reference, schema
from tests.config.sample import CONNECTORS


def test_the_reference_has_every_key_with_type_default_and_meaning():
    text = reference(CONNECTORS)
    assert "| `listen` | host:port | `127.0.0.1:29330` | Where the bridge waits for the homeserver. |" in text
    assert "| `as_token` | secret | **required** | The bridge shows this token to the homeserver. |" in text
    assert "| `expires` | time | `7d` |" in text
    assert "| `level` | `debug`, `info`, `warning`, `error` | `info` |" in text
    assert "| `links[].room` | text | **required** | A room id or an alias. |" in text
    assert "| `servers[].port` | number | `6697` | Its port. |" in text
    assert "| `login.type` | `plain` | **required** |" in text
    assert "| `colors.&lt;key&gt;.host` | text | **required** | Its name. |" in text


def test_the_schema_lets_secrets_come_from_files_and_knows_the_connectors():
    document = schema({name: CONNECTORS[name] for name in ("sample", "careless")})
    appservice = document["$defs"]["Appservice"]
    assert appservice["properties"]["as_token_file"] == {
        "type": "string",
        "title": "A file that holds as_token",
    }
    assert "required" not in appservice or "as_token" not in appservice["required"]
    assert appservice["properties"]["listen"]["default"] == "127.0.0.1:29330"
    network = document["$defs"]["Network_sample"]
    assert network["properties"]["connector"]["const"] == "sample"
    assert network["additionalProperties"] is False
    assert {"servers", "nick", "links", "space"} <= set(network["properties"])
