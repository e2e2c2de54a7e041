"""Endpoints of users and appservices: versions, whoami, registration, profiles, devices, account data, ping."""

import re
from typing import Any

import msgspec

from bridgekit.testing.homeserver.api.routes import Call, Response, routes
from bridgekit.testing.homeserver.refusals import Json, Refused, bad_json, forbidden, not_found

_VERSIONS = [f"v1.{minor}" for minor in range(1, 16)]
_LOCALPART = re.compile(r"[a-z0-9._=/+\-]+")


@routes.add("GET", "client/versions", public=True)
def versions(call: Call) -> Json:
    """GET /_matrix/client/versions."""
    return {"versions": _VERSIONS, "unstable_features": {"fi.mau.msc2659.stable": True}}


@routes.add("GET", "client/capabilities")
def capabilities(call: Call) -> Json:
    """GET /capabilities: the room versions that createRoom takes."""
    available = {str(number): "stable" for number in range(1, 13)}
    return {"capabilities": {"m.room_versions": {"default": "10", "available": available}}}


@routes.add("GET", "client/account/whoami")
def whoami(call: Call) -> Json:
    """GET /account/whoami."""
    device = {} if call.caller.device is None else {"device_id": call.caller.device}
    return {"user_id": call.user, "is_guest": False, **device}


@routes.add("POST", "client/register", public=True)
def register(call: Call) -> Json:
    """POST /register, for appservices only (type m.login.application_service)."""
    body = call.json()
    if body.get("type") != "m.login.application_service":
        raise forbidden("Registration is for application services here")
    # Synapse does not read user_id here: the appservice itself registers.
    owner = call.app.owner_of_token(call.request)
    if isinstance(owner, str):
        raise forbidden("Registration is for application services here")
    localpart = body.get("username")
    if not isinstance(localpart, str):
        raise bad_json("'username' must be a string")
    user = f"@{localpart}:{call.world.server}"
    if not owner.owns_user(user, call.world.server):
        raise Refused(400, "M_EXCLUSIVE", "Invalid user localpart for this application service.")
    if not _LOCALPART.fullmatch(localpart):
        text = "User ID can only contain characters a-z, 0-9, or '=_-./+'"
        raise Refused(400, "M_INVALID_USERNAME", text)
    if len(user) > 255:
        raise Refused(400, "M_INVALID_USERNAME", "User ID may not be longer than 255 characters")
    inhibited = body.get("inhibit_login", False)
    if owner.msc4190 and not inhibited:
        # MSC4190: such an appservice makes devices without login.
        raise Refused(400, "M_APPSERVICE_LOGIN_UNSUPPORTED", "This application service may not log in")
    call.world.register(user)
    answer: Json = {"user_id": user, "home_server": call.world.server}
    if not inhibited:
        token, device = f"syt_{localpart}", str(body.get("device_id") or "FAKEDEVICE")
        call.app.give_token(user, token)
        call.app.devices.setdefault(user, {})[device] = {"device_id": device}
        answer |= {"access_token": token, "device_id": device}
    return answer


@routes.add("POST", "client/account/deactivate")
def deactivate(call: Call) -> Json:
    """POST /account/deactivate: an appservice ends one of its own users without a password, as in Synapse."""
    call.world.deactivate(call.user)
    return {"id_server_unbind_result": "success"}


@routes.add("GET", "client/profile/*")
def get_profile(call: Call) -> Json:
    """GET /profile/{userId}."""
    return _profile(call, call.args[0])


@routes.add("GET", "client/profile/*/*")
def get_profile_field(call: Call) -> Json:
    """GET /profile/{userId}/{field}: {} where a name or an avatar is not set, as in Synapse."""
    user, field = call.args
    profile = _profile(call, user)
    if field in profile:
        return {field: profile[field]}
    if field in ("displayname", "avatar_url"):
        return {}
    raise not_found("Profile field not set")


@routes.add("PUT", "client/profile/*/*")
def put_profile_field(call: Call) -> Json:
    """PUT /profile/{userId}/{field}; an empty name or avatar takes it away."""
    user, field = call.args
    _check_own(call, user)
    body = call.json()
    if field not in body:
        raise Refused(400, "M_MISSING_PARAM", f"Missing key '{field}'")
    value: Any = body[field]
    if field in ("displayname", "avatar_url"):
        if value is not None and not isinstance(value, str):
            raise bad_json(f"'{field}' must be a string")
        value = value or None
    if len(msgspec.json.encode(value)) > (258 if field == "displayname" else 65_536):
        raise Refused(
            400, "M_TOO_LARGE" if field != "displayname" else "M_INVALID_PARAM", f"{field} is too long"
        )
    call.world.set_profile(user, field, value)
    return {}


@routes.add("DELETE", "client/profile/*/*")
def delete_profile_field(call: Call) -> Json:
    """DELETE /profile/{userId}/{field} (MSC4133)."""
    user, field = call.args
    _check_own(call, user)
    call.world.set_profile(user, field, None)
    return {}


@routes.add("GET", "client/devices")
def get_devices(call: Call) -> Json:
    """GET /devices."""
    return {"devices": list(call.app.devices.get(call.user, {}).values())}


@routes.add("GET", "client/devices/*")
def get_device(call: Call) -> Json:
    """GET /devices/{deviceId}."""
    device = call.app.devices.get(call.user, {}).get(call.args[0])
    if device is None:
        raise not_found("No such device")
    return device


@routes.add("PUT", "client/devices/*")
def put_device(call: Call) -> Response | Json:
    """PUT /devices/{deviceId}: an appservice with MSC4190 makes a device this way, 201 the first time."""
    devices = call.app.devices.setdefault(call.user, {})
    device, name = call.args[0], call.json().get("display_name")
    if device in devices:
        devices[device]["display_name"] = name
        return {}
    if call.caller.registration is None or not call.caller.registration.msc4190:
        raise not_found("No such device")
    devices[device] = {"device_id": device, "display_name": name}
    return Response(201, b"{}")


@routes.add("DELETE", "client/devices/*")
def delete_device(call: Call) -> Json:
    """DELETE /devices/{deviceId}; an appservice needs no further authentication (MSC4190)."""
    call.app.devices.get(call.user, {}).pop(call.args[0], None)
    call.app.keys.forget(call.user, call.args[0])
    return {}


@routes.add("PUT", "client/presence/*/status")
def put_presence(call: Call) -> Json:
    """PUT /presence/{userId}/status."""
    _check_own(call, call.args[0])
    body = call.json()
    if body.get("presence") not in ("online", "offline", "unavailable", "busy"):
        raise bad_json("Invalid presence state")
    call.app.presence[call.user] = body
    return {}


@routes.add("GET", "client/presence/*/status")
def get_presence(call: Call) -> Json:
    """GET /presence/{userId}/status."""
    return call.app.presence.get(call.args[0], {"presence": "offline"})


@routes.add("PUT", "client/user/*/account_data/*", "client/user/*/rooms/*/account_data/*")
def put_account_data(call: Call) -> Json:
    """PUT account data, of the user or of a room."""
    _check_own(call, call.args[0])
    call.app.account_data[_data_key(call)] = call.json()
    return {}


@routes.add("GET", "client/user/*/account_data/*", "client/user/*/rooms/*/account_data/*")
def get_account_data(call: Call) -> Json:
    """GET account data; 404 where there is none."""
    _check_own(call, call.args[0])
    found = call.app.account_data.get(_data_key(call))
    if found is None:
        raise not_found("Account data not found")
    return found


@routes.add("POST", "client/appservice/*/ping", "client/fi.mau.msc2659/appservice/*/ping")
async def ping(call: Call) -> Json:
    """POST /_matrix/client/v1/appservice/{appserviceId}/ping (MSC2659)."""
    registration = call.caller.registration
    if registration is None or registration.id != call.args[0]:
        raise forbidden("Mismatching application service ID in path")
    transaction = call.json().get("transaction_id")
    if transaction is not None and not isinstance(transaction, str):
        raise bad_json("'transaction_id' must be a string")
    return {"duration_ms": await call.app.deliveries[registration.id].ping(transaction)}


def _profile(call: Call, user: str) -> Json:
    profile = call.world.profiles.get(user)
    if profile is None:
        raise not_found("Profile was not found")
    return profile


def _check_own(call: Call, user: str) -> None:
    if user != call.user:
        raise forbidden(f"{call.user} may not act for {user}")


def _data_key(call: Call) -> tuple[str, str, str]:
    user, *room, type = call.args
    return user, room[0] if room else "", type
