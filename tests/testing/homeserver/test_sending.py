"""What an appservice may send, under which name, and what a repeated transaction id does."""

from bridgekit.testing.homeserver import FakeHomeserver
from tests.testing.homeserver.conftest import ANN, Client


async def test_a_ghost_sends_and_the_event_bears_its_name(hs: FakeHomeserver, api: Client, room: str) -> None:
    answer = await api.send(room, "hello", "1", user=ANN)
    event = hs.timeline(room)[-1]
    assert (event.event_id, event.sender, event.body) == (answer["event_id"], ANN, "hello")
    assert (await api("GET", f"rooms/{room}/event/{event.event_id}"))["content"]["body"] == "hello"


async def test_without_a_user_id_the_bot_acts(hs: FakeHomeserver, api: Client, room: str) -> None:
    await api.send(room, "I am the bot", "1")
    assert hs.timeline(room)[-1].sender == "@bridgebot:hs.test"
    assert (await api("GET", "account/whoami"))["user_id"] == "@bridgebot:hs.test"


async def test_a_human_in_a_namespace_can_be_double_puppeted(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    await api.send(room, "as alice", "1", user="@alice:hs.test")
    assert hs.timeline(room)[-1].sender == "@alice:hs.test"


async def test_tokens_are_asked_for(api: Client, room: str) -> None:
    await api.refused("M_MISSING_TOKEN", "GET", "account/whoami", token=None, expect=401)
    await api.refused("M_UNKNOWN_TOKEN", "GET", "account/whoami", token="wrong", expect=401)


async def test_nobody_masquerades_outside_the_namespaces(hs: FakeHomeserver, api: Client) -> None:
    await hs.user("bob").ready()
    error = await api.refused("M_FORBIDDEN", "GET", "account/whoami", user="@bob:hs.test", expect=403)
    assert error["error"] == "Application service cannot masquerade as this user (@bob:hs.test)."


async def test_a_ghost_that_is_not_registered_may_do_nothing(api: Client, room: str) -> None:
    user = "@_bk_nobody:hs.test"
    error = await api.refused("M_FORBIDDEN", "POST", f"join/{room}", user=user, expect=403)
    assert error["error"] == f"Application service has not registered this user ({user})"


async def test_a_repeated_transaction_id_answers_with_the_old_event(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    first = await api.send(room, "once", "same", user=ANN)
    again = await api.send(room, "once", "same", user=ANN)
    assert first == again
    assert [event.body for event in hs.messages(room)] == ["once"]


async def test_one_transaction_id_serves_two_ghosts_only_once_as_in_synapse(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    """Synapse keys by (path, appservice), not by ghost: the second ghost's message vanishes."""
    await api("POST", f"join/{room}", user=await api.ghost("bea"))
    first = await api.send(room, "from ann", "same", user=ANN)
    assert await api.send(room, "from bea", "same", user="@_bk_bea:hs.test") == first
    assert [event.body for event in hs.messages(room)] == ["from ann"]


async def test_a_restart_forgets_transaction_ids(hs: FakeHomeserver, api: Client, room: str) -> None:
    await api.send(room, "twice", "same", user=ANN)
    hs.forget_txns()
    await api.send(room, "twice", "same", user=ANN)
    assert [event.body for event in hs.messages(room)] == ["twice", "twice"]


async def test_a_failed_send_leaves_its_transaction_id_free(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    bea = await api.ghost("bea")
    await api.send(room, "too early", "t", user=bea, expect=403)
    await api("POST", f"join/{room}", user=bea)
    await api.send(room, "now", "t", user=bea)
    assert [event.body for event in hs.messages(room)] == ["now"]


async def test_an_appservice_sets_the_timestamp(hs: FakeHomeserver, api: Client, room: str) -> None:
    """Application Service API, "Timestamp massaging" (MSC3316)."""
    await api.send(room, "long ago", "1", user=ANN, ts="1234567890123")
    assert hs.timeline(room)[-1].origin_server_ts == 1234567890123
    await api("PUT", f"rooms/{room}/state/m.x/k", {"a": 1}, ts="5", user="@alice:hs.test")
    assert hs.timeline(room)[-1].origin_server_ts == 5


async def test_who_is_not_in_the_room_may_not_send(api: Client, room: str) -> None:
    bea = await api.ghost("bea")
    error = await api.send(room, "hello?", "1", user=bea, expect=403)
    assert error == {"errcode": "M_FORBIDDEN", "error": f"User {bea} not in room {room}"}


async def test_an_unknown_room_is_not_found(api: Client) -> None:
    error = await api.send("!nowhere:hs.test", "hello?", "1", expect=404)
    assert error["errcode"] == "M_NOT_FOUND"


async def test_a_moderated_room_takes_power_to_speak(hs: FakeHomeserver, api: Client, room: str) -> None:
    levels = hs.state(room, "m.room.power_levels")
    assert levels is not None
    await hs.user("alice").set_state(room, "m.room.power_levels", {**levels, "events_default": 10})
    await api.send(room, "hush", "1", user=ANN, expect=403)
    await hs.user("alice").set_power(room, ANN, 10)
    await api.send(room, "voiced", "2", user=ANN)
    assert [event.body for event in hs.messages(room)] == ["voiced"]


async def test_an_event_past_64_kib_is_too_large(hs: FakeHomeserver, api: Client, room: str) -> None:
    """Client-Server API, "Size limits": the complete event must not be larger than 65536 bytes."""
    await api.send(room, "x" * 64_000, "1", user=ANN)
    error = await api.send(room, "x" * 65_536, "2", user=ANN, expect=413)
    assert error["errcode"] == "M_TOO_LARGE"
    long_key = f"rooms/{room}/state/m.x/{'k' * 256}"
    await api.refused("M_TOO_LARGE", "PUT", long_key, {}, user="@alice:hs.test", expect=413)


async def test_a_body_that_is_no_json_object_is_refused(api: Client, room: str) -> None:
    path = f"rooms/{room}/send/m.room.message/1"
    await api.refused("M_BAD_JSON", "PUT", path, ["a list"], user=ANN, expect=400)


async def test_a_redaction_empties_the_event_and_names_it_in_both_places(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    said = (await api.send(room, "oops", "1", user=ANN))["event_id"]
    await api("PUT", f"rooms/{room}/redact/{said}/r1", {"reason": "typo"}, user=ANN)
    redaction = hs.timeline(room)[-1]
    assert redaction.redacts == said
    assert redaction.content == {"reason": "typo", "redacts": said}
    left = hs.room(room).event(said)
    assert left.content == {}
    assert left.unsigned["redacted_because"]["event_id"] == redaction.event_id
    assert hs.events()[-2].body == "oops", "what was said first is still known to the test"


async def test_another_s_message_takes_power_to_redact(hs: FakeHomeserver, api: Client, room: str) -> None:
    said = await hs.user("alice").send(room, "mine")
    await api("PUT", f"rooms/{room}/redact/{said}/r1", {}, user=ANN, expect=403)
    await hs.user("alice").set_power(room, ANN, 50)
    await api("PUT", f"rooms/{room}/redact/{said}/r1", {}, user=ANN)
    assert hs.room(room).event(said).content == {}


async def test_what_no_endpoint_answers_is_recorded(hs: FakeHomeserver, api: Client) -> None:
    await api.refused("M_UNRECOGNIZED", "GET", "events", expect=404)
    await api.refused("M_UNRECOGNIZED", "PATCH", "account/whoami", expect=405)
    assert hs.unknown_calls == ["GET /_matrix/client/v3/events", "PATCH /_matrix/client/v3/account/whoami"]
    hs.unknown_calls.clear()


async def test_errors_and_calls_are_counted(hs: FakeHomeserver, api: Client, room: str) -> None:
    await api.send(room, "fine", "1", user=ANN)
    await api.send("!no:hs.test", "lost", "2", user=ANN, expect=404)
    assert hs.calls["PUT rooms/*/send/*/*"] == 2
    refusal = hs.refusals[-1]
    assert (refusal.user, refusal.status, refusal.errcode) == (ANN, 404, "M_NOT_FOUND")
