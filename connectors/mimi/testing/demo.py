"""`bridgekit mimi demo`: two providers on this machine that talk to each other, with certificates made on the spot.

Everything between them is as it would be on the Internet: HTTPS with certificates on both sides, MLS groups, MIMI
content. What they store is in memory, and there is no Matrix in it.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from bridgekit.contract import facts, verbs
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Content, Quote
from bridgekit.contract.text import Style, Text, join, styled
from connectors.mimi.clients.seat import Seat
from connectors.mimi.compose import Envelope, Said, to_content
from connectors.mimi.messages.parts import MimiContent
from connectors.mimi.messages.status import Report, Status
from connectors.mimi.mls import MemberEngine, installed
from connectors.mimi.service.peers import Endpoint
from connectors.mimi.service.people import People
from connectors.mimi.service.presets import MEMBER
from connectors.mimi.testing.cast import ROOM, Client, create
from connectors.mimi.testing.household import Household, framed, framed_report, id_of
from connectors.mimi.testing.houses import House, Town, running
from connectors.mimi.translate import name
from connectors.mimi.wire import rooms, users
from connectors.mimi.wire.mls import AES128_X25519, CREDENTIAL, MLS_MESSAGE, RequiredCapabilities
from connectors.mimi.wire.signing import to_be_signed
from connectors.mimi.wire.users import ClientMaterial, ConsentEntry, ConsentOperation

A, B = "a.example", "b.example"
CHAT = ChatId(ROOM)


def main(*, once: bool) -> int:
    """Play; with `once` end after it, else stay up until Ctrl-C. 0 where every check passed."""
    engine = installed()
    with tempfile.TemporaryDirectory(prefix="bridgekit-mimi-") as folder:
        try:
            return asyncio.run(_demo(Path(folder), engine, once=once))
        except KeyboardInterrupt:
            print("Stopped.")
            return 1 if once else 0


async def _demo(folder: Path, engine: MemberEngine, *, once: bool) -> int:
    people = People()
    households = {domain: Household(engine, people) for domain in (A, B)}
    town = Town(folder, engine, A, B, local=households.__getitem__)
    async with AsyncExitStack() as stack, AsyncExitStack() as second:
        await stack.enter_async_context(running(town[A], engine))
        await second.enter_async_context(running(town[B], engine))
        play = Play(town, households, engine, second)
        print(f"Two providers: {A} (the hub) at {town[A].addresses[A]}, {B} at {town[B].addresses[B]}")
        await play.whole()
        print(f"{play.passed} checks passed" + (f", {play.failed} FAILED" if play.failed else ""))
        if not once:
            credentials = town[B].credentials
            print("\nThey stay up until Ctrl-C. Ask one of them as the other:")
            print(
                f"  bridgekit mimi conformance {A} --address {town[A].addresses[A]} --as {B} "
                f"--certificate {credentials.certificate} --key {credentials.key} "
                f"--authorities {credentials.authorities}"
            )
            await asyncio.Event().wait()
        return 1 if play.failed else 0


class Play:
    """The script: what alice at A and bob at B do, and whether the other end saw it."""

    def __init__(
        self, town: Town, households: dict[str, Household], engine: MemberEngine, b_runs: AsyncExitStack
    ) -> None:
        self.passed = self.failed = 0
        self._town = town
        self._engine = engine
        self._b_runs = b_runs
        self._at_a, self._at_b = households[A], households[B]
        self.alice, self.bob = Client("alice", A), Client("bob", B)

    def check(self, what: str, fine: bool) -> None:
        """Count, and say."""
        print(f"  {'ok  ' if fine else 'FAIL'} {what}", flush=True)
        if fine:
            self.passed += 1
        else:
            self.failed += 1

    async def whole(self) -> None:
        """Everything, in order."""
        await self._begin()
        await self._talk()
        await self._second_device()
        await self._away()
        await self._policy()
        await self._leave()

    @property
    def _a(self) -> House:
        return self._town[A]

    @property
    def _b(self) -> House:
        return self._town[B]

    # Getting together ---------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        print("A room, and somebody from the other provider in it")
        self._at_a.move_in(self.alice)
        self._at_b.move_in(self.bob)
        seat = create(self.alice, self._a.signer)
        self._at_a.sit(self.alice, seat)
        await self._a.provider.make_room(ROOM, seat.group.group_info(), seat.group.ratchet_tree())
        packages = [self.bob.package() for _ in range(3)]
        for package in packages:
            self._at_b.published(self.bob, package.reference)
        await self._b.provider.publish(self.bob.user, self.bob.uri, packages)

        entry = ConsentEntry(ConsentOperation.REQUEST, self.alice.user, self.bob.user)
        asked = await self._a.peers.post(
            B, Endpoint.REQUEST_CONSENT, self.bob.user, users.CONSENT_ENTRY.encode(entry)
        )
        self.check("alice asks bob for his consent", asked.status == 201)
        self.check("without it there are no key packages", not (await self._claim(self.alice)).clients)
        await self._b.provider.agree(msgspec.structs.replace(entry, operation=ConsentOperation.GRANT))
        response = await self._claim(self.alice)
        found = [c.key_package for c in response.clients if isinstance(c, ClientMaterial)]
        self.check("with it there is one, fetched through the hub", len(found) == 1)
        bundle = seat.add(self.bob.user, found, MEMBER)
        answer = await self._a.provider.update(ROOM, bundle, A)
        self.check("the hub accepts the commit that adds bob", isinstance(answer, rooms.Updated))
        seat.accepted()
        came = await self._at_b.until(lambda: (self.bob.uri, ROOM) in self._at_b.seats)
        self.check("bob's client gets its Welcome and joins", came)

    async def _claim(self, by: Client) -> users.KeyMaterialResponse:
        request = users.KeyMaterialRequest(
            by.user,
            self.bob.user,
            ROOM,
            (AES128_X25519,),
            RequiredCapabilities((), (), ()),
            by.identity.signature_key,
            CREDENTIAL.decode(by.identity.credential),
        )
        signature = by.identity.sign("KeyMaterialRequestTBS", to_be_signed(request))
        return await self._a.provider.key_material(msgspec.structs.replace(request, signature=signature), A)

    # Talking ------------------------------------------------------------------------------------------------

    async def _say(self, client: Client, verb: Said) -> MimiContent:
        """Say it, to the hub, and tell what it was."""
        envelope = Envelope(salt=secrets.token_bytes(16), sender_uri=client.user, room_uri=ROOM)
        message = to_content(verb, envelope)
        await self._submit(client, framed(message), message.salt)
        return message

    async def _submit(self, client: Client, data: bytes, salt: bytes) -> bool:
        household = self._at_a if client.domain == A else self._at_b
        request = household.seats[client.uri, ROOM].say(data, salt)
        if client.domain == A:
            response = await self._a.provider.submit(ROOM, request, A)
        else:
            body = rooms.SUBMIT_REQUEST.encode(request)
            answer = await self._b.peers.post(A, Endpoint.SUBMIT_MESSAGE, ROOM, body)
            response = rooms.SUBMIT_RESPONSE.decode(answer.body)
        return isinstance(response, rooms.Accepted)

    async def _seen(self, what: str, by: Client, wanted: type[facts.Fact], **fields: object) -> None:
        """Check that `by` came to know a fact with these fields."""
        household = self._at_a if by.domain == A else self._at_b

        def there() -> bool:
            return any(
                isinstance(fact, wanted) and all(getattr(fact, k) == v for k, v in fields.items())
                for fact in household.facts[by.uri]
            )

        self.check(what, await household.until(there))

    async def _talk(self) -> None:
        print("Words, both ways")
        words = join(
            "hello ", styled("bob", Style.BOLD), ", see ", styled("this", Style.LINK, "https://a.example/")
        )
        hello = await self._say(self.alice, verbs.PostMessage(chat=CHAT, content=Content(text=words)))
        said = name(id_of(hello))
        await self._seen(
            "bob reads alice's words with their styles", self.bob, facts.Message, content=Content(text=words)
        )
        answer = verbs.PostMessage(chat=CHAT, content=Content(text=Text("hello alise")), reply=Quote(id=said))
        reply = name(id_of(await self._say(self.bob, answer)))
        await self._seen("alice reads the answer as one", self.alice, facts.Message, reply_to=said)
        better = Content(text=Text("hello alice"))
        await self._say(self.bob, verbs.EditMessage(chat=CHAT, target=reply, content=better))
        await self._seen("and its correction", self.alice, facts.Edit, target=reply, content=better)
        heart = await self._say(self.alice, verbs.React(chat=CHAT, target=reply, reaction="❤"))
        await self._seen("bob sees the reaction", self.bob, facts.Reaction, target=reply, key="❤")
        liked = name(id_of(heart))
        await self._say(self.alice, verbs.Unreact(chat=CHAT, target=reply, reaction="❤", id=liked))
        await self._seen("and that it was taken back", self.bob, facts.Retraction, target=liked)
        await self._say(self.bob, verbs.Retract(chat=CHAT, target=reply))
        await self._seen(
            "alice sees that the answer was taken back", self.alice, facts.Retraction, target=reply
        )
        await self._submit(
            self.bob, framed_report([Report(id_of(hello), Status.READ)]), secrets.token_bytes(16)
        )
        await self._seen("and that bob has read her words", self.alice, facts.Receipt, target=said)

    # Another device, an outage, the rules ------------------------------------------------------------------

    async def _second_device(self) -> None:
        print("Bob's second device joins by itself")
        phone = Client("bob", B, "2")
        private, public = self._engine.sealing_key()
        request = rooms.GroupInfoRequest(
            AES128_X25519,
            phone.identity.signature_key,
            CREDENTIAL.decode(phone.identity.credential),
            public,
            None,
        )
        signature = phone.identity.sign("GroupInfoRequestTBS", to_be_signed(request))
        body = rooms.GROUP_INFO_REQUEST.encode(msgspec.structs.replace(request, signature=signature))
        answer = await self._b.peers.post(A, Endpoint.GROUP_INFO, ROOM, body)
        given = rooms.GROUP_INFO_RESPONSE.decode(answer.body)
        self.check("the hub gives it the GroupInfo, sealed", isinstance(given, rooms.GivenGroupInfo))
        if not isinstance(given, rooms.GivenGroupInfo):
            return
        opened = self._engine.unseal(
            given.cipher_suite,
            private,
            "GroupInfo and ratchet_tree encryption",
            given.room_id,
            given.encrypted,
        )
        seat, commit = Seat.join_external(
            phone.engine,
            phone.identity,
            rooms.GROUP_INFO_AND_TREE.decode(opened),
            user=phone.user,
            room_uri=ROOM,
        )
        answer = await self._b.peers.post(A, Endpoint.UPDATE, ROOM, rooms.UPDATE_REQUEST.encode(commit))
        accepted = isinstance(rooms.UPDATE_RESPONSE.decode(answer.body), rooms.Updated)
        self.check("and accepts its commit", accepted)
        # Our own provider is not told by the hub of what it sent itself: it tells its other clients.
        await self._at_b.heard(ROOM, [rooms.CommitFanout(0, commit.message)])
        self._at_b.move_in(phone)
        self._at_b.sit(phone, seat)
        await self._at_a.until(lambda: bool(self._at_a.changes[self.alice.uri]))
        await self._say(self.alice, verbs.PostMessage(chat=CHAT, content=Content(text=Text("to both"))))
        both = Content(text=Text("to both"))
        await self._seen("bob's first device reads what comes next", self.bob, facts.Message, content=both)
        await self._seen("and so does the second", phone, facts.Message, content=both)

    async def _away(self) -> None:
        print("The other provider goes away for a while")
        await self._b_runs.aclose()
        for number in range(3):
            text = Content(text=Text(f"while you were away {number}"))
            await self._say(self.alice, verbs.PostMessage(chat=CHAT, content=text))
        waiting = self._a.provider.outbox.waiting
        self.check("what is said waits in the hub's outbox", waiting == 3)
        await self._b_runs.enter_async_context(running(self._b, self._engine))
        for number in range(3):
            text = Content(text=Text(f"while you were away {number}"))
            await self._seen(f"bob catches up ({number + 1} of 3)", self.bob, facts.Message, content=text)

    async def _policy(self) -> None:
        print("The room's rules")
        seat = self._at_b.seats[self.bob.uri, ROOM]
        bundle = seat.remove(self.alice.user, People())
        answer = await self._b.peers.post(A, Endpoint.UPDATE, ROOM, rooms.UPDATE_REQUEST.encode(bundle))
        refused = rooms.UPDATE_RESPONSE.decode(answer.body)
        seat.refused()
        self.check("bob, a member, cannot put alice out", isinstance(refused, rooms.NotAllowed))

    async def _leave(self) -> None:
        print("Bob is put out")
        alice = self._at_a.seats[self.alice.uri, ROOM]
        bundle = alice.remove(self.bob.user, People())
        answer = await self._a.provider.update(ROOM, bundle, A)
        alice.accepted()
        self.check("the hub accepts it from alice", isinstance(answer, rooms.Updated))
        seat = self._at_b.seats[self.bob.uri, ROOM]
        gone = await self._at_b.until(lambda: not seat.group.active)
        self.check("bob's client learns that it is out", gone)
        secret = alice.say(b"secret", secrets.token_bytes(16))
        try:
            seat.group.process(MLS_MESSAGE.encode(secret.message))
            opened = True
        except self._engine.MlsError:
            opened = False
        self.check("and cannot read what is said from then on", not opened)
