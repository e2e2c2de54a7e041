"""Each real server of the lab: it starts, answers, keeps its data over a restart and goes."""

import base64
from pathlib import Path

import asyncpg
import msgspec
import pytest

from bridgekit.testing.servers.postgres import Postgres
from bridgekit.testing.servers.synapse import HomeserverRefused, Synapse
from connectors.irc.testing.certificate import write_certificate
from connectors.irc.testing.inspircd import Inspircd
from connectors.irc.testing.inspircd import inspircd as run_inspircd
from connectors.irc.testing.lines import line_client
from connectors.irc.testing.ngircd import Ngircd
from connectors.irc.testing.ngircd import ngircd as run_ngircd


async def test_synapse_registers_a_user_who_logs_in_and_makes_a_room(synapse: Synapse):
    made = await synapse.register("lab_alice", "correct horse")
    again = await synapse.login("lab_alice", "correct horse", device_id="LAB")
    assert made.user_id == again.user_id == "@lab_alice:hs.test"
    assert again.device_id == "LAB"
    room = await synapse.request("POST", "/_matrix/client/v3/createRoom", {}, token=again.access_token)
    assert room["room_id"].startswith("!")
    with pytest.raises(HomeserverRefused, match="M_USER_IN_USE"):
        await synapse.register("lab_alice", "correct horse")


async def test_synapse_keeps_users_and_takes_an_appservice_over_a_restart(synapse: Synapse, tmp_path: Path):
    user = await synapse.register("lab_bob")
    registration = tmp_path / "registration.yaml"
    registration.write_bytes(
        msgspec.json.encode(
            {
                "id": "lab",
                "url": None,
                "as_token": "as-token-of-the-lab",
                "hs_token": "hs-token-of-the-lab",
                "sender_localpart": "labbot",
                "rate_limited": False,
                "namespaces": {
                    "users": [{"exclusive": True, "regex": "@_lab_.*"}],
                    "aliases": [],
                    "rooms": [],
                },
            }
        )
    )
    await synapse.add_appservice(registration)
    whoami = "/_matrix/client/v3/account/whoami"
    assert (await synapse.request("GET", whoami, token=user.access_token))["user_id"] == user.user_id
    bot = await synapse.request("GET", whoami, token="as-token-of-the-lab")
    assert bot["user_id"] == "@labbot:hs.test"
    ghost = {"type": "m.login.application_service", "username": "_lab_ghost", "inhibit_login": True}
    made = await synapse.request("POST", "/_matrix/client/v3/register", ghost, token="as-token-of-the-lab")
    assert made["user_id"] == "@_lab_ghost:hs.test"


async def test_postgres_gives_empty_databases_and_keeps_them_over_a_crash(postgres: Postgres):
    first, second = await postgres.create_database(), await postgres.create_database()
    assert first != second
    connection = await asyncpg.connect(first)
    await connection.execute("CREATE TABLE kept (n integer)")
    await connection.execute("INSERT INTO kept VALUES (42)")
    await connection.close()
    postgres.kill()
    await postgres.start()
    connection = await asyncpg.connect(first)
    assert await connection.fetchval("SELECT n FROM kept") == 42
    await connection.close()
    with pytest.raises(ValueError, match="plain database name"):
        await postgres.create_database("Robert'); --")


async def test_ngircd_carries_a_line_from_one_client_to_another(ngircd: Ngircd):
    async with line_client(ngircd.port) as alice, line_client(ngircd.port) as bob:
        await alice.register("labalice", caps="multi-prefix")
        await bob.register("labbob")
        await alice.send("JOIN #lab")
        await alice.expect(" 366 ")
        await bob.send("JOIN #lab")
        await bob.expect(" 366 ")
        await bob.send("PRIVMSG #lab :grüß dich")
        found = await alice.expect(r"^:labbob!(\S+) PRIVMSG #lab :(.*)$")
        assert found[2] == "grüß dich"


async def test_ngircd_comes_back_on_its_port():
    async with run_ngircd() as server:
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            async with line_client(server.port):
                pass
        await server.start()
        async with line_client(server.port) as client:
            await client.register("labback")


async def test_a_line_client_sends_nothing_with_a_line_break(ngircd: Ngircd):
    async with line_client(ngircd.port) as client:
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            await client.send("PRIVMSG #lab :one\r\nQUIT")


async def test_inspircd_tags_echoes_labels_and_names_the_account(inspircd: Inspircd):
    await inspircd.register_account("labcarol", "hunter2hunter2")
    caps = "sasl message-tags server-time account-tag echo-message labeled-response batch"
    async with (
        line_client(inspircd.tls_port, trust=inspircd.certificate) as carol,
        line_client(inspircd.port) as dave,
    ):
        await dave.register("labdave", caps="message-tags server-time account-tag")
        await dave.send("JOIN #lab")
        await dave.expect(" 366 ")
        await carol.send("CAP REQ :sasl")
        await carol.expect("ACK")
        await carol.send("AUTHENTICATE PLAIN")
        await carol.expect(r"^AUTHENTICATE :?\+$")
        await carol.send("AUTHENTICATE " + base64.b64encode(b"\0labcarol\0hunter2hunter2").decode())
        await carol.expect(r" 903 ")
        await carol.register("labcarol", caps=caps)
        await carol.send("JOIN #lab")
        await carol.expect(" 366 ")
        await carol.send("@label=xyzzy PRIVMSG #lab :hello")
        echo = await carol.expect(r"^@(\S+) :labcarol!\S+ PRIVMSG #lab :hello$")
        assert "label=xyzzy" in echo[1].split(";")
        heard = await dave.expect(r"^@(\S+) :labcarol!\S+ PRIVMSG #lab :hello$")
        tags = dict(tag.partition("=")[::2] for tag in heard[1].split(";"))
        assert tags["account"] == "labcarol"
        assert set(tags) >= {"account", "msgid", "time"}


async def test_inspircd_keeps_accounts_over_a_restart_and_logs_in_by_certificate(tmp_path: Path):
    show = write_certificate(tmp_path, "laberin")
    async with run_inspircd() as server:
        await server.register_account("laberin", "hunter2hunter2")
        await server.add_certificate("laberin", "hunter2hunter2", show)
        await server.stop()
        await server.start()
        async with line_client(server.tls_port, trust=server.certificate, show=show) as erin:
            await erin.send("CAP REQ :sasl")
            await erin.expect("ACK")
            await erin.send("AUTHENTICATE EXTERNAL")
            await erin.expect(r"^AUTHENTICATE :?\+$")
            await erin.send("AUTHENTICATE +")
            await erin.expect(r" 900 .* laberin ")
            await erin.expect(r" 903 ")


async def test_inspircd_replays_what_a_channel_said_with_the_ids_it_had(inspircd: Inspircd):
    async with line_client(inspircd.port) as frank, line_client(inspircd.port) as grace:
        await frank.register("labfrank", caps="message-tags echo-message")
        await frank.send("JOIN #labhistory")
        assert (await frank.expect(r" 353 labfrank = #labhistory :(\S+)"))[1] == "@labfrank"
        await frank.send("MODE #labhistory +H 10:1h")
        await frank.expect(r" MODE #labhistory \+H ")
        await frank.send("PRIVMSG #labhistory :earlier")
        echo = await frank.expect(r"msgid=([^; ]+).* PRIVMSG #labhistory :earlier$")
        await grace.register("labgrace", caps="batch message-tags server-time")
        await grace.send("JOIN #labhistory")
        await grace.expect(r" BATCH \+\S+ chathistory :?#labhistory$")
        replayed = await grace.expect(r"msgid=([^; ]+).* PRIVMSG #labhistory :earlier$")
        assert replayed[1] == echo[1]
