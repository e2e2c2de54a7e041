"""Endpoints of end-to-end encryption: keys, identities, events for devices; and the login that makes a device."""

from bridgekit.testing.homeserver.api.routes import Call, routes
from bridgekit.testing.homeserver.keys import need_device
from bridgekit.testing.homeserver.refusals import Json, Refused, bad_json


@routes.add("POST", "client/keys/upload")
def upload(call: Call) -> Json:
    """POST /keys/upload, for the device that the call is made as (MSC4326 for appservices)."""
    return call.app.keys.upload(call.user, need_device(call.caller.device), call.json())


@routes.add("POST", "client/keys/device_signing/upload")
def upload_identity(call: Call) -> Json:
    """POST /keys/device_signing/upload; nobody is asked for a password here."""
    call.app.keys.upload_identity(call.user, call.json())
    return {}


@routes.add("POST", "client/keys/signatures/upload")
def upload_signatures(call: Call) -> Json:
    """POST /keys/signatures/upload."""
    call.app.keys.sign(call.json())
    return {"failures": {}}


@routes.add("POST", "client/keys/query")
def query(call: Call) -> Json:
    """POST /keys/query; users of other servers are failures."""
    wanted = call.json().get("device_keys")
    if not isinstance(wanted, dict):
        raise bad_json("'device_keys' must be an object")
    here = [user for user in wanted if call.world.is_local(user)]
    answer = call.app.keys.query(call.user, here, call.app.devices)
    away = {user.partition(":")[2] for user in wanted if not call.world.is_local(user)}
    answer["failures"] = {server: {"status": 503} for server in away}
    return answer


@routes.add("POST", "client/keys/claim")
def claim(call: Call) -> Json:
    """POST /keys/claim."""
    return call.app.keys.claim(call.json()["one_time_keys"])


@routes.add("PUT", "client/sendToDevice/*/*")
def send_to_device(call: Call) -> Json:
    """PUT /sendToDevice/{eventType}/{txnId}."""
    type, txn = call.args
    scope = (call.user, call.caller.device or "", txn)
    call.app.keys.send(scope, call.user, type, call.json()["messages"])
    return {}


@routes.add("GET", "client/sync")
def sync(call: Call) -> Json:
    """GET /sync, of which only what concerns a device is answered; as in Synapse, an appservice's own user has none."""
    owner = call.caller.registration
    if owner is not None and call.user == f"@{owner.sender_localpart}:{call.world.server}":
        raise Refused(500, "M_UNKNOWN", "Internal server error")
    since = call.request.query.get("since", "0")
    return call.app.keys.sync(call.user, need_device(call.caller.device), int(since))


@routes.add("POST", "client/login", public=True)
def login(call: Call) -> Json:
    """POST /login for people: every password is right, and the device is the one that is asked for."""
    body = call.json()
    user = call.world.user_id(str(body.get("identifier", {}).get("user", "")))
    if user not in call.world.profiles:
        raise bad_json(f"there is no {user}")
    device = str(body.get("device_id") or f"DEVICE{len(call.app.devices.get(user, {}))}")
    call.app.devices.setdefault(user, {})[device] = {"device_id": device}
    token = f"token_of_{user}_{device}"
    call.app.give_token(user, token, device)
    return {"user_id": user, "access_token": token, "device_id": device}
