"""The registration: what is written, how two differ, and what the running homeserver says."""

import copy
import re
import stat
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridgekit.contract.errors import ConfigError
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.check import check_homeserver
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.registration import build, compare, read, write
from bridgekit.testing.homeserver import FakeHomeserver
from tests.matrix.homeservers import BOT, answer, client_of, read_request, registration, scripted


def test_the_document_is_what_the_specification_and_the_mscs_ask_for():
    assert build(
        id="bk",
        url="http://127.0.0.1:29300",
        as_token="a",
        hs_token="h",
        sender_localpart="bk_bot",
        server_name="matrix.example-site.org",
        protocols=("net",),
    ) == {
        "id": "bk",
        "url": "http://127.0.0.1:29300",
        "as_token": "a",
        "hs_token": "h",
        "sender_localpart": "bk_bot",
        "rate_limited": False,
        "receive_ephemeral": True,
        "de.sorunome.msc2409.push_ephemeral": True,
        "org.matrix.msc3202": True,
        "io.element.msc4190": True,
        "protocols": ["net"],
        "namespaces": {
            "users": [{"exclusive": True, "regex": r"@_bk_.*:matrix\.example-site\.org"}],
            "aliases": [{"exclusive": True, "regex": r"#_bk_.*:matrix\.example-site\.org"}],
            "rooms": [],
        },
    }


@pytest.mark.parametrize("server", ["hs.test", "hs.test:8448", "[::1]:8448", "a-b.c"])
def test_the_namespace_holds_our_ghosts_and_nobody_elses(server):
    document = build(
        id="b",
        url=None,
        as_token="a",
        hs_token="h",
        sender_localpart="bot",
        server_name=server,
        prefix="_b.k_",
    )
    regex = document["namespaces"]["users"][0]["regex"]
    assert re.fullmatch(regex, f"@_b.k_anna:{server}")
    for other in (
        f"@anna:{server}",
        f"@_bxk_anna:{server}",
        f"@_b.k_anna:x{server}",
        "@_b.k_anna:" + server.replace(".", "x").replace(":", ";"),
    ):
        assert not re.fullmatch(regex, other)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"sender_localpart": "Bot"}, "sender_localpart"),
        ({"prefix": "_bk é"}, "prefix"),
        ({"as_token": ""}, "as_token"),
        ({"hs_token": "a"}, "hs_token"),
    ],
)
def test_values_that_no_homeserver_takes_are_refused(change, path):
    good = {
        "id": "b",
        "url": None,
        "as_token": "a",
        "hs_token": "h",
        "sender_localpart": "bot",
        "server_name": "x",
    }
    with pytest.raises(ConfigError) as caught:
        build(**{**good, **change})
    assert [where for where, _ in caught.value.problems] == [path]


def test_it_is_written_for_its_owner_only_and_read_back(tmp_path: Path):
    path = tmp_path / "registration.yaml"
    path.write_text("old")
    path.chmod(0o644)
    write(registration("http://x"), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(path) == registration("http://x")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text().index("id:") < path.read_text().index("namespaces:")


@pytest.mark.parametrize("text", [None, "", "[]", "id: x", "a: [", "\tx: 1"])
def test_a_file_that_is_no_registration_is_a_config_error(tmp_path: Path, text):
    path = tmp_path / "registration.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError):
        read(path)


def test_two_that_agree_have_no_differences():
    assert compare(registration("http://x"), {**registration("http://x"), "push_ephemeral": True}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "http://other"}, "`url` is 'http://other'; the bridge has 'http://x'."),
        (
            {"as_token": "installed"},
            "`as_token` differs from the bridge's.",
        ),
        (
            {"hs_token": "installed"},
            "`hs_token` differs from the bridge's.",
        ),
        ({"io.element.msc4190": False}, "`io.element.msc4190` is not true: encrypted rooms"),
        ({"receive_ephemeral": None}, "`receive_ephemeral` is not true: typing"),
        ({"rate_limited": True}, "`rate_limited` is not false"),
        ({"protocols": []}, "`protocols` differs"),
        ({"namespaces": None}, "The namespace of the ghosts"),
    ],
)
def test_every_difference_is_a_sentence_that_shows_no_token(change, said):
    differences = compare(registration("http://x"), {**registration("http://x"), **change})
    assert differences[0].startswith(said)
    assert not any(
        secret in text for text in differences for secret in ("as-secret", "hs-secret", "installed'")
    )


def test_namespaces_are_compared_one_by_one():
    theirs = copy.deepcopy(registration("http://x"))
    theirs["namespaces"]["users"][0]["exclusive"] = False
    theirs["namespaces"]["aliases"] = [{"exclusive": True, "regex": "#irc_.*"}]
    assert compare(registration("http://x"), theirs) == [
        r"The namespace '@_bk_.*:hs\\.test' is not exclusive: others could make users in it.",
        r"The namespace of the addresses of portals, '#_bk_.*:hs\\.test', is missing in `namespaces.aliases`.",
        "`namespaces.aliases` also claims '#irc_.*', which the bridge does not use.",
    ]


# The running homeserver


async def test_where_all_is_well_there_is_nothing_to_say():
    async def pong(request: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application()
    app.add_routes([web.post("/_matrix/app/v1/ping", pong)])
    async with TestServer(app) as server:
        document = registration(str(server.make_url("")).rstrip("/"))
        async with FakeHomeserver(document) as hs, client_of(hs.url) as client:
            assert await check_homeserver(client, document) == []


async def test_an_unknown_token_says_where_to_put_the_registration():
    async with FakeHomeserver() as hs, client_of(hs.url) as client:
        (problem,) = await check_homeserver(client, registration("http://x"))
        assert "app_service_config_files" in problem
        assert "restart" in problem


async def test_another_bot_is_named():
    async with (
        FakeHomeserver({**registration(), "sender_localpart": "other"}) as hs,
        client_of(hs.url) as client,
    ):
        (problem,) = await check_homeserver(client, registration())
        assert "@other:hs.test" in problem
        assert BOT in problem


async def test_an_address_that_does_not_lead_to_the_bridge_is_named():
    document = registration("http://127.0.0.1:9")
    async with FakeHomeserver(document) as hs, client_of(hs.url) as client:
        (problem,) = await check_homeserver(client, document)
        assert "http://127.0.0.1:9" in problem
        assert "cannot reach the bridge" in problem
        assert await check_homeserver(client, document, ping=False) == []


async def test_somebody_else_behind_the_address_is_named():
    async with TestServer(web.Application()) as server:
        document = registration(str(server.make_url("")).rstrip("/"))
        async with FakeHomeserver(document) as hs, client_of(hs.url) as client:
            (problem,) = await check_homeserver(client, document)
            assert "hs_token" in problem


async def test_a_homeserver_that_is_not_there_is_one_problem():
    async with MatrixClient("http://127.0.0.1:9", "t", bot=PersonId("@b:x"), backoff=(0.01, 0.02)) as client:
        (problem,) = await check_homeserver(client, registration())
        assert problem.startswith("The homeserver cannot be reached")


async def test_an_address_that_leads_elsewhere_says_where_to():
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(answer(b"", "301 Moved Permanently", "Location: https://hs.test/"))

    async with scripted(talk) as url, client_of(url) as client:
        (problem,) = await check_homeserver(client, registration())
        assert "https://hs.test/" in problem
        assert "correct the url" in problem


async def test_a_homeserver_that_is_too_old_is_named():
    async def talk(reader, writer):
        while True:
            path = (await read_request(reader)).split()[1]
            body = (
                b'{"versions":["r0.6.1"]}'
                if path.endswith(b"/versions")
                else b'{"user_id":"@bk_bot:hs.test"}'
            )
            writer.write(answer(body))

    async with scripted(talk) as url, client_of(url) as client:
        (problem,) = await check_homeserver(client, registration())
        assert "too old" in problem
        assert "r0.6.1" in problem
