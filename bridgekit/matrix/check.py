"""What keeps the homeserver and the bridge from working together, each with what to do about it."""

from __future__ import annotations

from collections.abc import Callable

from bridgekit.contract.errors import BridgeError, HomeserverUnavailable, MatrixRateLimited, MatrixRefused
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.calls import NO_DEVICES, KeyCalls
from bridgekit.matrix.registration import Document

PROBE_DEVICE = "BKCHECK"
OLDEST = (1, 1)
"""The first homeservers with /v3 paths."""
_UNKNOWN = ("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN")
_UNKNOWN_TOKEN = (
    "The homeserver does not know this registration: add it to app_service_config_files (Synapse; other "
    "homeservers call it otherwise) and restart the homeserver. If it is there, its as_token is not the bridge's."
)


async def check_homeserver(client: MatrixClient, document: Document, *, ping: bool = True) -> list[str]:
    """Ask the running homeserver whether it knows the registration `document` and reaches its url.

    Returns whole sentences, none if all is well. `ping=False` where our own listener is not up.
    """
    try:
        versions = await client.versions()
    except BridgeError as error:
        if isinstance(error, MatrixRefused) and error.errcode in _UNKNOWN:  # Synapse looks at it even here
            return [_UNKNOWN_TOKEN]
        return [
            f"The homeserver cannot be reached: {error.notice} Check `homeserver.url` in the configuration."
        ]
    problems: list[str] = []
    if not versions.at_least(*OLDEST):
        said = ", ".join(versions.versions[-3:]) or "none"
        problems.append(
            f"The homeserver is too old (it names the versions {said}); it must know v1.1 or later."
        )
    wrong = await _bot(client)
    if wrong:
        return [*problems, wrong]  # without a token that works, nothing more can be learned
    if ping and document.get("url"):
        problems += await _ping(client, document)
    return problems


async def check_devices(client: MatrixClient) -> list[str]:
    """Ask the homeserver for a device without a login, which encryption needs, and give it back; sentences."""
    calls = KeyCalls(client.homeserver)
    try:
        await calls.put_device(client.bot, PROBE_DEVICE, "bridgekit check")
        await calls.remove_device(client.bot, PROBE_DEVICE)
    except BridgeError as error:
        if error.notice != NO_DEVICES:
            return [f"The homeserver does not let the bridge make a device: {error.notice}"]
        return [
            "The homeserver does not let the bridge make devices, so it cannot take part in encrypted rooms: it must "
            "know MSC4190, and the installed registration must have `io.element.msc4190: true`."
        ]
    return []


async def _bot(client: MatrixClient) -> str | None:
    try:
        me = await client.whoami()
    except MatrixRefused as error:
        if error.errcode in _UNKNOWN:
            return _UNKNOWN_TOKEN
        if error.errcode in ("M_EXCLUSIVE", "M_FORBIDDEN"):
            return f"The homeserver does not let the bridge act as {client.bot}: {error.notice}"
        return f"The homeserver refuses the bridge's bot {client.bot}: {error.notice}"
    except BridgeError as error:
        return f"The homeserver does not say whether it knows the bridge: {error.notice}"
    if me.user_id != client.bot:
        return (
            f"The homeserver takes the bridge's bot for {me.user_id} and not for {client.bot}: sender_localpart "
            "or the server's name differ between the configuration and the installed registration."
        )
    return None


async def _ping(client: MatrixClient, document: Document) -> list[str]:
    try:
        await client.ping(str(document["id"]), txn="bridgekit-check")
    except MatrixRefused as error:
        explain = _PING.get(error.errcode)
        if explain is not None:
            return [explain(document, error)]
        if error.errcode in ("M_UNRECOGNIZED", "M_NOT_FOUND"):
            return []  # a homeserver before v1.7 has no ping: nothing is known, nothing is wrong
        return [f"The homeserver did not ping the bridge: {error.notice}"]
    except (HomeserverUnavailable, MatrixRateLimited) as error:
        return [f"The homeserver did not ping the bridge: {error.notice}"]
    return []


def _unreachable(document: Document, error: MatrixRefused) -> str:
    return (
        f"The homeserver cannot reach the bridge at {document['url']}: the url in the registration must be an "
        "address that leads from the homeserver to the bridge's listener (localhost is the homeserver itself, "
        "also in a container)."
    )


# MSC2659 and Client-Server API, "POST /appservice/{appserviceId}/ping".
_PING: dict[str, Callable[[Document, MatrixRefused], str]] = {
    "M_CONNECTION_FAILED": _unreachable,
    "M_CONNECTION_TIMEOUT": _unreachable,
    "M_URL_NOT_SET": lambda document, error: (
        "The installed registration has no url, so the homeserver sends nothing to the bridge: install the "
        "bridge's registration again and restart the homeserver."
    ),
    "M_BAD_STATUS": lambda document, error: (
        f"Something answers the homeserver at {document['url']}, but refuses it: either that is not the bridge, or "
        "the hs_token in the installed registration is not the bridge's."
    ),
    "M_FORBIDDEN": lambda document, error: (
        f"The homeserver knows this as_token under another id than {document['id']!r}: install the bridge's "
        "registration again and restart the homeserver."
    ),
}
