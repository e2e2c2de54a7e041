"""Ghost registration, profiles, devices, account data, presence, media, and what the homeserver says of itself."""

import aiohttp

from bridgekit.testing.homeserver import FakeHomeserver, Registration
from tests.testing.homeserver.conftest import ANN, Client

KIND = "m.login.application_service"


async def test_versions_are_public(api: Client) -> None:
    answer = await api("GET", "/_matrix/client/versions", token=None)
    assert "v1.12" in answer["versions"]


async def test_a_ghost_is_registered_once_and_only_in_the_namespace(api: Client) -> None:
    body = {"type": KIND, "username": "_bk_ann", "inhibit_login": True}
    assert await api("POST", "register", body) == {"user_id": ANN, "home_server": "hs.test"}
    await api.refused("M_USER_IN_USE", "POST", "register", body, expect=400)
    await api.refused("M_EXCLUSIVE", "POST", "register", body | {"username": "carol"}, expect=400)
    await api.refused("M_INVALID_USERNAME", "POST", "register", body | {"username": "_bk_Ann!"}, expect=400)
    await api.refused("M_FORBIDDEN", "POST", "register", {"username": "_bk_x"}, expect=403)
    await api.refused("M_UNKNOWN_TOKEN", "POST", "register", body, token="wrong", expect=401)
    assert (await api("POST", "register", body | {"username": "bridgebot"}))[
        "user_id"
    ] == "@bridgebot:hs.test"


async def test_a_new_name_shows_in_every_joined_room(hs: FakeHomeserver, api: Client, room: str) -> None:
    path = f"profile/{ANN}"
    before = hs.position
    await api("PUT", f"{path}/displayname", {"displayname": "Ann"}, user=ANN)
    await api("PUT", f"{path}/displayname", {"displayname": "Ann"}, user=ANN)
    await api("PUT", f"{path}/avatar_url", {"avatar_url": "mxc://hs.test/a"}, user=ANN)
    assert hs.position == before + 2
    member = {"membership": "join", "displayname": "Ann", "avatar_url": "mxc://hs.test/a"}
    assert hs.state(room, "m.room.member", ANN) == member
    assert await api("GET", path) == {"displayname": "Ann", "avatar_url": "mxc://hs.test/a"}
    assert await api("GET", f"{path}/displayname") == {"displayname": "Ann"}
    await api("PUT", f"{path}/displayname", {"displayname": ""}, user=ANN)
    assert await api("GET", f"{path}/displayname") == {}
    await api.refused("M_FORBIDDEN", "PUT", f"{path}/displayname", {"displayname": "no"}, expect=403)
    await api.refused("M_NOT_FOUND", "GET", "profile/@nobody:hs.test", expect=404)


async def test_devices_are_made_without_login(registration: Registration) -> None:
    """MSC4190: PUT /devices makes a device; and a send with a device id is deduplicated for good (lab notes)."""
    plain = registration.as_dict() | {"io.element.msc4190": True, "url": None}
    async with FakeHomeserver(plain) as hs, aiohttp.ClientSession() as session:
        api = Client(session, hs.url)
        await api.refused("M_APPSERVICE_LOGIN_UNSUPPORTED", "POST", "register", _no_inhibit(), expect=400)
        ann = await api.ghost("ann")
        await api.refused("M_UNKNOWN_DEVICE", "GET", "account/whoami", user=ann, device_id="DEV", expect=400)
        await api("PUT", "devices/DEV", {"display_name": "bridge"}, user=ann, expect=201)
        await api("PUT", "devices/DEV", {"display_name": "bridge"}, user=ann)
        assert await api("GET", "devices/DEV", user=ann) == {"device_id": "DEV", "display_name": "bridge"}
        assert (await api("GET", "account/whoami", user=ann, device_id="DEV"))["device_id"] == "DEV"
        room = (await api("POST", "createRoom", {}, user=ann))["room_id"]
        first = await api.send(room, "kept", "1", user=ann, device_id="DEV")
        hs.forget_txns()
        assert await api.send(room, "kept", "1", user=ann, device_id="DEV") == first
        assert hs.unknown_calls == []


def _no_inhibit() -> dict[str, str]:
    return {"type": KIND, "username": "_bk_ann"}


async def test_account_data_and_presence_are_kept(api: Client) -> None:
    await api.ghost("ann")
    for path in (f"user/{ANN}/account_data/m.x", f"user/{ANN}/rooms/!r:hs.test/account_data/m.x"):
        await api.refused("M_NOT_FOUND", "GET", path, user=ANN, expect=404)
        await api("PUT", path, {"path": path}, user=ANN)
        assert await api("GET", path, user=ANN) == {"path": path}
    await api("PUT", f"presence/{ANN}/status", {"presence": "online"}, user=ANN)
    assert await api("GET", f"presence/{ANN}/status") == {"presence": "online"}


async def test_media_go_up_and_come_down_with_a_token_only(hs: FakeHomeserver, api: Client) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer as-token"}) as session:
        headers = {"Content-Type": "image/png"}
        url = f"{hs.url}/_matrix/media/v3/upload?filename=a%20b.png"
        async with session.post(url, data=b"\x89PNG", headers=headers) as response:
            uri = (await response.json())["content_uri"]
        place = uri.removeprefix("mxc://")
        async with session.get(f"{hs.url}/_matrix/client/v1/media/download/{place}") as response:
            assert (await response.read(), response.content_type) == (b"\x89PNG", "image/png")
            assert response.headers["Content-Disposition"] == "inline; filename*=utf-8''a%20b.png"
    place = "/_matrix/client/v1/media/download/" + place
    await api.refused("M_MISSING_TOKEN", "GET", place, token=None, expect=401)
    old = place.replace("client/v1/media", "media/v3")
    await api.refused("M_NOT_FOUND", "GET", old, token=None, expect=404)
    assert (await api("GET", "/_matrix/client/v1/media/config"))["m.upload.size"] == 50 * 1024 * 1024


async def test_a_medium_can_be_promised_first_and_filled_once(hs: FakeHomeserver, api: Client) -> None:
    """MSC2246: create, then upload."""
    uri = (await api("POST", "/_matrix/media/v1/create"))["content_uri"]
    place = uri.removeprefix("mxc://")
    download = f"/_matrix/client/v1/media/download/{place}"
    await api.refused("M_NOT_YET_UPLOADED", "GET", download, expect=504)
    upload = f"/_matrix/media/v3/upload/{place}"
    await api("PUT", upload, {"some": "bytes"})
    await api.refused("M_CANNOT_OVERWRITE_MEDIA", "PUT", upload, {"other": "bytes"}, expect=409)
    assert await api("GET", download) == {"some": "bytes"}
    await api.refused("M_NOT_FOUND", "PUT", upload + "0", {}, expect=404)


async def test_an_upload_past_the_limit_is_too_large(registration: Registration) -> None:
    async with FakeHomeserver(registration, max_upload=10) as hs, aiohttp.ClientSession() as session:
        api = Client(session, hs.url)
        await api.refused("M_TOO_LARGE", "POST", "/_matrix/media/v3/upload", "x" * 20, expect=413)


async def test_people_share_files_that_the_bridge_can_fetch(
    hs: FakeHomeserver, api: Client, room: str
) -> None:
    await hs.user("alice").send_file(
        room, b'{"a":1}', name="a.json", mimetype="application/json", msgtype="m.file"
    )
    event = hs.messages(room)[-1]
    assert event.content["info"] == {"mimetype": "application/json", "size": 7}
    place = event.content["url"].removeprefix("mxc://")
    assert await api("GET", f"/_matrix/client/v1/media/download/{place}/a.json") == {"a": 1}
