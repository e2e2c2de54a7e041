"""Rows to write in tests."""

from bridgekit.contract.ids import MATRIX, ChatId, LoginId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Login
from bridgekit.contract.policy import Protection
from bridgekit.core.direct import Block
from bridgekit.core.gate import Cause, Held
from bridgekit.core.model import Downgrade, Toward
from bridgekit.core.optout import OptOut
from bridgekit.core.protection import Agreement
from bridgekit.core.questions import Ask
from bridgekit.core.scopes import Consent, Scope
from bridgekit.core.shield import Nod
from bridgekit.store import Copy, Ghost, InboxRow, Link, LoginRow, Portal, Store, Write, new_id
from bridgekit.store.keys import Inbound, OlmRow, OurDevice, Outbound, Secrets, SharedWith

NETWORK = NetworkId("example")
CHAT = ChatId("#lobby")
ROOM = ChatId("!room:example.org")
SECRET = "hunter2-is-not-in-the-file"


def inbox_row(body: bytes = b"body", *, id: int | None = None, receiver: str | None = None) -> InboxRow:
    return InboxRow(
        id=new_id() if id is None else id,
        side=NETWORK,
        chat=CHAT,
        receiver=LoginId(receiver) if receiver else None,
        body=body,
        at=1_700_000_000_000,
    )


def copies_of(message: int, name: str) -> tuple[Copy, Copy]:
    """What somebody wrote on the network, and its copy in the room."""
    here = Copy(
        message=message,
        room=ROOM,
        side=NETWORK,
        chat=CHAT,
        id=MessageId(name),
        sender=PersonId("ann"),
        at=message,
        origin=True,
        protection=Protection.BRIDGE,
    )
    there = Copy(
        message=message,
        room=ROOM,
        side=MATRIX,
        chat=ROOM,
        id=MessageId(f"${name}"),
        sender=PersonId("@_ann:example.org"),
        at=message,
        origin=False,
    )
    return here, there


def portal(room: str = ROOM) -> Portal:
    return Portal(
        room=ChatId(room), network=NETWORK, made=True, kind="channel", creator=PersonId("@bob:example.org")
    )


def agreement(id: int | None = None) -> Agreement:
    """What a room's admin agreed to lose."""
    return Agreement(
        id=new_id() if id is None else id,
        room=ROOM,
        side=PortalKey(NETWORK, CHAT),
        person=PersonId("@ann:example.org"),
        at=1_700_000_000_000,
        wording="What is said here may be passed on to #lobby.",
        to=Downgrade(toward=Toward.LINK, least=Protection.TRANSPORT),
    )


def link(chat: str = CHAT, receiver: str | None = None, state: str = "open") -> Link:
    return Link(
        key=PortalKey(NETWORK, ChatId(chat), LoginId(receiver) if receiver else None),
        room=ROOM,
        name=chat,
        reader=None,
        creator=PersonId("@bob:example.org"),
        static=False,
        state=state,
        reason="",
        since=5,
    )


def ghost(name: str = "ann", network: NetworkId = NETWORK) -> Ghost:
    return Ghost(
        mxid=PersonId(f"@_{network}_{name}:example.org"),
        network=network,
        person=PersonId(name),
        name=name.title(),
        avatar="",
        avatar_source="",
    )


def login(id: str = "login-1", password: str = SECRET) -> LoginRow:
    return LoginRow(
        login=Login(id=LoginId(id), owner=PersonId("@bob:example.org"), fields={"password": password}),
        network=NETWORK,
        state="connected",
        reason="",
    )


def consent(id: int = 7, chat: str = CHAT) -> Consent:
    return Consent(
        id=id,
        side=PortalKey(NETWORK, ChatId(chat)),
        scopes=frozenset({Scope.BRIDGE, Scope.MEDIA}),
        person=PersonId("olga"),
        name="Olga",
        account="olga",
        at=1_700_000_000_000,
        wording="Do you agree?\nAnswer … yes",
        lost=5,
        until=6,
        ended=7,
        ended_by="Bob",
    )


def ask(id: int = 8) -> Ask:
    return Ask(
        id=id,
        side=PortalKey(NETWORK, CHAT),
        person=PersonId("olga"),
        name="Olga",
        account="",
        scopes=frozenset({Scope.BRIDGE}),
        digest="d" * 64,
        wording="Do you agree?",
        at=1,
        expires=2,
    )


def optout(person: str = "eve", account: str = "eve") -> OptOut:
    return OptOut(network=NETWORK, person=PersonId(person), account=account, at=1_700_000_000_000)


def block(person: str = "ian", owner: str = "@alice:hs.test") -> Block:
    return Block(
        network=NETWORK, person=PersonId(person), owner=PersonId(owner), account="ian", at=1_700_000_000_000
    )


def nod(person: str = "eve") -> Nod:
    return Nod(
        side=PortalKey(NETWORK, CHAT),
        person=PersonId(person),
        name="Eve",
        accepted=True,
        by="Olga",
        at=1_700_000_000_000,
    )


def held(number: int, receiver: str | None = None) -> Held:
    return Held(
        number=number,
        link=PortalKey(NETWORK, CHAT, LoginId(receiver) if receiver else None),
        person=PersonId("olga"),
        cause=Cause.QUARANTINE,
        why="She is new here.",
        since=1_700_000_000_000,
    )


def our_device(mxid: str = "@bot:example.org") -> OurDevice:
    seed = SECRET.encode().ljust(32, b".")
    secrets = Secrets(account=SECRET, master=seed, self_signing=seed, user_signing=seed)
    return OurDevice(mxid=PersonId(mxid), device="BK1", secrets=secrets, published=True)


def olm_row(theirs: str = "curve", id: str = "olm-1", used: int = 5) -> OlmRow:
    return OlmRow(ours=our_device().mxid, theirs=theirs, id=id, pickle=SECRET, used=used)


def outbound(sent: int = 3) -> Outbound:
    return Outbound(
        room=ROOM, sender=our_device().mxid, session="out-1", pickle=SECRET, made=1_700_000_000_000, sent=sent
    )


def shared_with(device: str = "PHONE", position: int = 0) -> SharedWith:
    user = PersonId("@bob:example.org")
    return SharedWith(session="out-1", user=user, device=device, key="curve", position=position)


def inbound(sender: str = "@bob:example.org") -> Inbound:
    return Inbound(
        room=ROOM,
        session="in-1",
        pickle=SECRET,
        sender=PersonId(sender),
        sender_key="curve",
        signing_key="ed",
        device=SECRET.encode(),
    )


def everything(store: Store) -> list[Write]:
    """One row at least in every table."""
    row = inbox_row(SECRET.encode(), receiver="login-1")
    parked = inbox_row(SECRET.encode())
    here, there = copies_of(new_id(), "one")
    return [
        store.inbox.add(row),
        store.inbox.add(parked),
        store.inbox.park(parked.id, "Traceback: ValueError"),
        store.outbox.sending(row.id, 0),
        store.transactions.record("txn-1", [MessageId("$event")]),
        store.overdue.add(MessageId("$late")),
        store.amendments.add(row.id, MessageId("$amended")),
        store.copies.add(here),
        store.copies.add(there),
        store.portals.put(portal()),
        store.links.put(link()),
        store.ghosts.put(ghost()),
        store.members.put(ROOM, ghost().mxid, "join"),
        store.logins.put(login()),
        store.kv.put("example", "state", SECRET.encode()),
        store.consents.put(consent()),
        store.agreements.put(agreement()),
        store.asks.put(ask()),
        store.optouts.put(optout()),
        store.blocks.put(block()),
        store.held.put(held(row.id)),
        store.nods.put(nod()),
        store.keys.put_device(our_device()),
        store.keys.put_olm(olm_row()),
        store.keys.put_outbound(outbound()),
        store.keys.put_shared(shared_with()),
        store.keys.put_inbound(inbound()),
        store.keys.saw(ROOM, "in-1", PersonId("@bob:example.org"), 0, MessageId("$event")),
        store.keys.put_theirs(PersonId("@bob:example.org"), b"{}"),
        store.keys.add_to_device(new_id(), SECRET.encode()),
        store.keys.put_room(ROOM, b"{}"),
    ]
