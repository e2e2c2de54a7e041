"""The tables, as the newest migration leaves them; a test compares them with both databases."""

from __future__ import annotations

from bridgekit.store.statements import table

META = table("meta", 1, name="text", value="bytea")

INBOX = table(
    "inbox",
    1,
    id="bigint",
    side="text",
    chat="text",
    receiver="text",
    body="bytea",
    at="bigint",
    error="text",
)
OUTBOX = table("outbox", 2, inbox="bigint", step="bigint", state="text")
TRANSACTIONS = table("transactions", 1, txn="text", at="bigint", events="text")
OVERDUE = table("overdue", 1, event="text", at="bigint")
AMENDMENTS = table("amendments", 1, number="bigint", target="text")
COPIES = table(
    "copies",
    5,
    message="bigint",
    side="text",
    chat="text",
    id="text",
    part="bigint",
    room="text",
    sender="text",
    at="bigint",
    origin="bigint",
    kind="text",
    parent="bigint",
    key="text",
    protection="bigint",
)
NEWEST = table("newest", 2, side="text", chat="text", message="bigint")

PORTALS = table(
    "portals", 1, room="text", network="text", made="bigint", kind="text", creator="text", encrypted="bigint"
)
LINKS = table(
    "links",
    3,
    network="text",
    chat="text",
    receiver="text",
    room="text",
    name="text",
    reader="text",
    creator="text",
    static="bigint",
    state="text",
    reason="text",
    since="bigint",
)
GHOSTS = table(
    "ghosts", 1, mxid="text", network="text", person="text", name="text", avatar="text", avatar_source="text"
)
MEMBERS = table("members", 2, room="text", mxid="text", state="text", seen="bigint")
LOGINS = table(
    "logins", 1, id="text", network="text", owner="text", fields="bytea", state="text", reason="text"
)
KV = table("kv", 2, namespace="text", key="text", value="bytea")

CONSENTS = table(
    "consents",
    1,
    id="bigint",
    network="text",
    chat="text",
    scopes="text",
    person="text",
    name="text",
    account="text",
    at="bigint",
    wording="text",
    lost="bigint",
    until="bigint",
    ended="bigint",
    ended_by="text",
    granted="bigint",
    by_matrix="bigint",
)
ASKS = table(
    "asks",
    1,
    id="bigint",
    network="text",
    chat="text",
    person="text",
    name="text",
    account="text",
    scopes="text",
    digest="text",
    wording="text",
    at="bigint",
    expires="bigint",
)
OPTOUTS = table("optouts", 3, network="text", person="text", account="text", at="bigint")
BLOCKS = table("blocks", 3, network="text", person="text", owner="text", account="text", at="bigint")
HELD = table(
    "held",
    1,
    number="bigint",
    network="text",
    chat="text",
    receiver="text",
    person="text",
    cause="text",
    why="text",
    since="bigint",
)

NODS = table(
    "nods",
    3,
    network="text",
    chat="text",
    person="text",
    name="text",
    accepted="bigint",
    by_whom="text",
    at="bigint",
)

AGREEMENTS = table(
    "agreements",
    1,
    id="bigint",
    room="text",
    network="text",
    chat="text",
    receiver="text",
    person="text",
    at="bigint",
    wording="text",
    ended="bigint",
    ended_by="text",
    toward="text",
    least="bigint",
    scope="text",
)

OUR_DEVICES = table("our_devices", 1, mxid="text", device="text", secrets="bytea", published="bigint")
OLM = table("olm", 3, ours="text", theirs="text", id="text", pickle="bytea", used="bigint")
MEGOLM_OUT = table(
    "megolm_out",
    2,
    room="text",
    sender="text",
    session="text",
    pickle="bytea",
    made="bigint",
    sent="bigint",
    before="text",
)
MEGOLM_SHARED = table(
    "megolm_shared", 3, session="text", mxid="text", device="text", key="text", position="bigint"
)
MEGOLM_IN = table(
    "megolm_in",
    3,
    session="text",
    room="text",
    sender="text",
    sender_key="text",
    signing_key="text",
    pickle="bytea",
    device="bytea",
)
MEGOLM_SEEN = table("megolm_seen", 2, place="bytea", position="bigint", event="bytea")
THEIR_KEYS = table("their_keys", 1, mxid="text", keys="bytea")
TO_DEVICE = table("to_device", 1, id="bigint", body="bytea")
ENCRYPTED_ROOMS = table("encrypted_rooms", 1, room="text", settings="bytea")

TABLES = (
    INBOX,
    OUTBOX,
    TRANSACTIONS,
    OVERDUE,
    AMENDMENTS,
    COPIES,
    NEWEST,
    PORTALS,
    LINKS,
    GHOSTS,
    MEMBERS,
    LOGINS,
    KV,
    CONSENTS,
    AGREEMENTS,
    ASKS,
    OPTOUTS,
    BLOCKS,
    HELD,
    NODS,
    OUR_DEVICES,
    OLM,
    MEGOLM_OUT,
    MEGOLM_SHARED,
    MEGOLM_IN,
    MEGOLM_SEEN,
    THEIR_KEYS,
    TO_DEVICE,
    ENCRYPTED_ROOMS,
)
"""What `copy` copies; META belongs to one database file."""
