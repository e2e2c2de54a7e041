"""The connector as the hub of its own room, with people of another provider in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import Disconnected, SendRejected
from bridgekit.contract.facts import Change, Fact, Membership
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Content, Person, Quote, Role
from bridgekit.contract.policy import Protection
from bridgekit.contract.text import Style, Text, join, plain, styled
from bridgekit.contract.verbs import Sent
from bridgekit.testing.host import FakeHost
from bridgekit.testing.servers.process import free_port
from connectors.mimi.clients.inviting import Inviting
from connectors.mimi.config import MimiConfig
from connectors.mimi.connector import connector
from connectors.mimi.messages.parts import (
    PLAIN,
    Disposition,
    Expiry,
    MimiContent,
    NullPart,
    Part,
    SinglePart,
    origin,
)
from connectors.mimi.messages.status import Report, Status
from connectors.mimi.mls import installed
from connectors.mimi.service import presets
from connectors.mimi.service.peers import Endpoint
from connectors.mimi.service.people import People
from connectors.mimi.service.room import BANNED, NOBODY
from connectors.mimi.session import MimiSession
from connectors.mimi.testing.cast import Client
from connectors.mimi.testing.household import Household, framed, framed_report, id_of
from connectors.mimi.testing.houses import House, Town, running
from connectors.mimi.translate import name
from connectors.mimi.wire import rooms
from connectors.mimi.wire.users import CONSENT_ENTRY, ConsentEntry, ConsentOperation

ROOM = ChatId("mimi://b.example/r/lobby")
ANN = Person(id=PersonId("@ann:hs.example"), name="Ann")
ANN_URI = "mimi://b.example/u/ann:hs.example"
F = TypeVar("F", bound=Fact)


class Snapshots(FakeHost):
    """Remembers what was on disk each time that the hub had accepted something, and nobody knew of it yet."""

    def __init__(self, room: ChatId, kept: dict[str, bytes], snapshots: list[dict[str, bytes]]) -> None:
        super().__init__("mimi", linked=[room], kept=kept)
        self._snapshots = snapshots

    async def put_all(self, values: Mapping[str, bytes | None]) -> None:
        before = dict(self.kept)
        await super().put_all(values)
        if any(key.startswith("hub/") for key in values):
            self._snapshots += [before, dict(self.kept)]


class Scene:
    """The bridge at b.example; carl at a.example, who may be invited."""

    def __init__(self, town: Town, household: Household, config: MimiConfig) -> None:
        self.town = town
        self.household = household
        self.config = config
        self.kept: dict[str, bytes] = {}
        self.snapshots: list[dict[str, bytes]] = []
        self.carl = Client("carl", "a.example")
        self.heard: list[Fact] = []
        self.session: MimiSession
        self._came = asyncio.Event()

    @property
    def house(self) -> House:
        return self.town["a.example"]

    async def begin(self) -> None:
        """Carl moves in, publishes and agrees to be invited."""
        self.household.move_in(self.carl)
        packages = [self.carl.package() for _ in range(3)]
        for package in packages:
            self.household.published(self.carl, package.reference)
        await self.house.provider.publish(self.carl.user, self.carl.uri, packages)
        asks = "mimi://b.example/u/bridge"
        await self.house.provider.agree(ConsentEntry(ConsentOperation.GRANT, asks, self.carl.user))

    @asynccontextmanager
    async def bridge(self, *, at: float | None = None) -> AsyncIterator[MimiSession]:
        """The bridge, connected and reading, with the room linked; its clock stands at `at`, if that is given."""
        host = Snapshots(ROOM, self.kept, self.snapshots)
        if at is not None:
            host.set_clock(at)
        network = connector.network(self.config, host)
        async with network.connect(None) as session:
            assert isinstance(session, MimiSession)
            self.session = session
            reading = asyncio.create_task(session.run(self._emit))
            try:
                await self.hear(facts.ChatOpened)
                yield session
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    def _emit(self, fact: Fact) -> None:
        self.heard.append(fact)
        self._came.set()

    async def hear(self, kind: type[F], where: Callable[[F], bool] = lambda _: True) -> F:
        """The first fact of a kind."""
        async with asyncio.timeout(30):
            while True:
                for fact in self.heard:
                    if isinstance(fact, kind) and where(fact):
                        return fact
                self._came.clear()
                await self._came.wait()

    async def invite(self) -> None:
        """Carl comes in."""
        await self.session.perform(
            verbs.Invite(chat=ROOM, person=Person(id=PersonId(self.carl.user), name="carl"))
        )
        assert await self.household.until(lambda: (self.carl.uri, ROOM) in self.household.seats)

    async def carl_sends(self, data: bytes, salt: bytes) -> None:
        request = self.household.seats[self.carl.uri, ROOM].say(data, salt)
        answer = await self.house.peers.post(
            "b.example", Endpoint.SUBMIT_MESSAGE, ROOM, rooms.SUBMIT_REQUEST.encode(request)
        )
        assert isinstance(rooms.SUBMIT_RESPONSE.decode(answer.body), rooms.Accepted), answer

    async def carl_says(
        self,
        part: Part,
        *,
        replaces: bytes | None = None,
        reply: bytes | None = None,
        expires: Expiry | None = None,
        salt: bytes = b"1" * 16,
    ) -> bytes:
        """One message of Carl's; its id."""
        message = MimiContent(
            salt=salt,
            part=part,
            replaces=replaces,
            in_reply_to=reply,
            expires=expires,
            extensions=origin(self.carl.user, ROOM),
        )
        await self.carl_sends(framed(message), salt)
        return id_of(message)

    async def carl_reads(self, kind: type[F], where: Callable[[F], bool] = lambda _: True) -> F:
        """The first fact of a kind that came to Carl."""

        def found() -> list[F]:
            return [f for f in self.household.facts[self.carl.uri] if isinstance(f, kind) and where(f)]

        assert await self.household.until(lambda: bool(found())), self.household.facts
        return found()[0]

    async def post(self, words: Text, speaker: Person | None = ANN, reply: Quote | None = None) -> Sent:
        verb = verbs.PostMessage(chat=ROOM, content=Content(text=words), speaker=speaker, reply=reply)
        sent = await self.session.perform(verb)
        assert sent is not None
        assert sent.id is not None
        return sent


def words(text: str) -> SinglePart:
    return SinglePart(content_type=PLAIN, content=text.encode())


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    engine, port = installed(), free_port()
    household = Household(engine, People())
    town = Town(tmp_path, engine, "a.example", local=lambda domain: household)
    credentials = town.authority.issue("b.example")
    house = town["a.example"]
    house.addresses["b.example"] = f"https://127.0.0.1:{port}"
    async with running(house, engine):
        config = MimiConfig(
            domain="b.example",
            certificate=credentials.certificate,
            key=credentials.key,
            authorities=town.authority.path,
            listen="127.0.0.1",
            port=port,
            public_url=f"https://127.0.0.1:{port}",
            peers={"a.example": house.addresses["a.example"]},
        )
        made = Scene(town, household, config)
        await made.begin()
        yield made


async def test_a_linked_room_of_ours_is_made_and_told_of(scene: Scene):
    async with scene.bridge() as session:
        opened = await scene.hear(facts.ChatOpened)
        seen = await scene.hear(facts.ChatVisibility)
        roster = await scene.hear(facts.Roster)
        can = session.capabilities(ROOM)
    assert (opened.chat, opened.name) == (ROOM, "lobby")
    assert seen.visibility.known
    assert not seen.visibility.listed
    assert roster.members == ()
    assert can.speakers
    assert can.protection is Protection.BRIDGE


async def test_who_is_invited_is_told_of_and_both_hear_each_other(scene: Scene):
    async with scene.bridge():
        await scene.invite()
        came = await scene.hear(Membership)
        assert (came.person.id, came.person.name, came.change) == (scene.carl.user, "carl", Change.JOIN)
        role = await scene.hear(facts.RoleChange)
        assert role.role is Role.VOICE

        text = join("hello ", styled("carl", Style.BOLD))
        sent = await scene.post(text)
        read = await scene.carl_reads(facts.Message)
        assert (read.sender.id, read.content.text, read.id) == (ANN_URI, text, sent.id)

        said = await scene.carl_says(words("hello ann"))
        heard = await scene.hear(facts.Message)
        assert (heard.sender.id, heard.content.text, heard.id) == (
            scene.carl.user,
            plain("hello ann"),
            name(said),
        )


async def test_answers_edits_reactions_and_receipts_cross(scene: Scene):
    async with scene.bridge() as session:
        await scene.invite()
        said = name(await scene.carl_says(words("one")))
        await scene.hear(facts.Message)
        answer = await scene.post(plain("two"), reply=Quote(id=said))
        assert answer.id is not None
        assert (await scene.carl_reads(facts.Message)).reply_to == said
        better = Content(text=plain("two and a half"))
        await session.perform(verbs.EditMessage(chat=ROOM, target=answer.id, content=better, speaker=ANN))
        edit = await scene.carl_reads(facts.Edit)
        assert (edit.target, edit.content) == (answer.id, better)
        heart = await session.perform(verbs.React(chat=ROOM, target=said, reaction="❤", speaker=ANN))
        assert heart is not None
        assert (await scene.carl_reads(facts.Reaction)).target == said
        await session.perform(verbs.Unreact(chat=ROOM, target=said, reaction="❤", id=heart.id, speaker=ANN))
        assert (await scene.carl_reads(facts.Retraction)).target == heart.id

        liked = SinglePart(disposition=Disposition.REACTION, content_type=PLAIN, content="👍".encode())
        target = bytes.fromhex(answer.id)
        like = await scene.carl_says(liked, reply=target, salt=b"2" * 16)
        reaction = await scene.hear(facts.Reaction)
        assert (reaction.target, reaction.key) == (answer.id, "👍")
        await scene.carl_says(NullPart(disposition=Disposition.REACTION), replaces=like, salt=b"3" * 16)
        assert (await scene.hear(facts.Retraction)).target == name(like)
        await scene.carl_sends(framed_report([Report(target, Status.READ)]), b"4" * 16)
        assert (await scene.hear(facts.Receipt)).target == answer.id
        await session.perform(verbs.MarkRead(chat=ROOM, target=said, speaker=ANN))
        assert (await scene.carl_reads(facts.Receipt)).target == said


async def test_each_speaker_has_a_seat_of_their_own(scene: Scene):
    async with scene.bridge():
        await scene.invite()
        for number, who in enumerate(("@ann:hs.example", "@ben:hs.example", "@ann:hs.example")):
            await scene.post(plain(f"words {number}"), Person(id=PersonId(who), name=who))
        await scene.carl_reads(facts.Message, lambda m: m.content.text.body == "words 2")
        senders = [f.sender.id for f in scene.household.facts[scene.carl.uri] if isinstance(f, facts.Message)]
        assert senders == [ANN_URI, "mimi://b.example/u/ben:hs.example", ANN_URI]
        state = scene.household.seats[scene.carl.uri, ROOM].state
        assert state.takes_part == ["mimi://b.example/u/bridge", scene.carl.user, *senders[:2]]


async def test_who_speaks_as_another_is_not_heard(scene: Scene):
    async with scene.bridge():
        await scene.invite()
        forged = MimiContent(salt=b"5" * 16, part=words("I am ann"), extensions=origin(ANN_URI, ROOM))
        await scene.carl_sends(framed(forged), forged.salt)
        await scene.carl_says(words("sorry"), salt=b"6" * 16)
        await scene.hear(facts.Message, lambda m: m.content.text.body == "sorry")
        assert [f.content.text.body for f in scene.heard if isinstance(f, facts.Message)] == ["sorry"]


async def test_a_topic_is_set_and_who_is_kicked_is_out(scene: Scene):
    async with scene.bridge() as session:
        await scene.invite()
        await session.perform(verbs.SetTopic(chat=ROOM, topic="cats", speaker=ANN))
        assert (await scene.hear(facts.Topic)).topic == "cats"
        seat = scene.household.seats[scene.carl.uri, ROOM]
        assert await scene.household.until(
            lambda: seat.state.metadata is not None and seat.state.metadata.subject == "cats"
        )
        carl = Person(id=PersonId(scene.carl.user), name="carl")
        await session.perform(verbs.Kick(chat=ROOM, person=carl))
        await scene.hear(Membership, lambda m: m.change is Change.LEAVE)
        assert await scene.household.until(lambda: not seat.group.active)
        await session.perform(verbs.PostMessage(chat=ROOM, content=Content(text=plain("alone")), speaker=ANN))


async def test_who_is_banned_is_out_until_they_are_unbanned(scene: Scene):
    """room-policy 8.1.3: a ban is a role; who is unbanned is nobody there, and may be asked again."""
    async with scene.bridge() as session:
        await scene.invite()
        seat = scene.household.seats[scene.carl.uri, ROOM]
        carl = Person(id=PersonId(scene.carl.user), name="carl")
        await session.perform(verbs.Ban(chat=ROOM, person=carl))
        await scene.hear(Membership, lambda m: m.change is Change.BAN)
        assert await scene.household.until(lambda: not seat.group.active)
        assert session.tenants.role(ROOM, scene.carl.user) == BANNED
        for _ in range(2):  # the second changes nothing
            await session.perform(verbs.Unban(chat=ROOM, person=carl))
        await scene.hear(Membership, lambda m: m.change is Change.UNBAN)
        assert session.tenants.role(ROOM, scene.carl.user) == NOBODY
        await scene.invite()
        assert session.tenants.role(ROOM, scene.carl.user) == presets.MEMBER


async def test_a_power_level_of_matrix_is_the_nearest_role_of_the_room(scene: Scene):
    """room-policy 4: roles are the room's own. A level that means the present role changes nothing."""
    async with scene.bridge() as session:
        await scene.invite()
        carl = Person(id=PersonId(scene.carl.user), name="carl")
        for role, given in (
            (Role.VOICE, presets.MEMBER),
            (Role.MODERATOR, presets.MODERATOR),
            (Role.OWNER, presets.ADMIN),
            (Role.NONE, presets.MEMBER),
        ):
            await session.perform(verbs.SetRole(chat=ROOM, person=carl, role=role, speaker=ANN))
            assert session.tenants.role(ROOM, scene.carl.user) == given, role
        seen = [(f.person.id, f.role) for f in scene.heard if isinstance(f, facts.RoleChange)][-3:]
        assert seen == [(carl.id, Role.ADMIN), (carl.id, Role.OWNER), (carl.id, Role.VOICE)]
        with pytest.raises(SendRejected, match="no such role"):
            await session.perform(verbs.SetRole(chat=ROOM, person=carl, role=Role.MUTED, speaker=ANN))
        stranger = Person(id=PersonId("mimi://c.example/u/nobody"), name="nobody")
        await session.perform(verbs.SetRole(chat=ROOM, person=stranger, role=Role.OWNER, speaker=ANN))


async def test_somebody_who_leaves_is_let_go(scene: Scene):
    async with scene.bridge():
        await scene.invite()
        leaving = scene.household.seats[scene.carl.uri, ROOM].leave()
        answer = await scene.house.peers.post(
            "b.example", Endpoint.UPDATE, ROOM, rooms.UPDATE_REQUEST.encode(leaving)
        )
        assert isinstance(rooms.UPDATE_RESPONSE.decode(answer.body), rooms.Updated)
        left = await scene.hear(Membership, lambda m: m.change is Change.LEAVE)
        assert left.person.id == scene.carl.user


async def test_after_a_restart_everybody_is_where_they_were_and_nothing_is_lost(scene: Scene):
    async with scene.bridge():
        await scene.invite()
        await scene.post(plain("before"))
    scene.heard.clear()
    async with scene.bridge():
        assert [m.person.id for m in (await scene.hear(facts.Roster)).members] == [scene.carl.user]
        await scene.post(plain("after"))
        await scene.carl_reads(facts.Message, lambda m: m.content.text.body == "after")
        await scene.carl_says(words("still here"))
        await scene.hear(facts.Message, lambda m: m.content.text.body == "still here")
    said = [
        f.content.text.body for f in scene.household.facts[scene.carl.uri] if isinstance(f, facts.Message)
    ]
    assert said == ["before", "after"]


async def test_a_name_is_given_and_the_rest_of_what_describes_the_room_stays(scene: Scene):
    async with scene.bridge() as session:
        await scene.invite()
        seat = scene.household.seats[scene.carl.uri, ROOM]
        await session.perform(verbs.SetTopic(chat=ROOM, topic="cats", speaker=ANN))
        await session.perform(verbs.SetName(chat=ROOM, name="The\0 Den", speaker=ANN))
        assert (await scene.hear(facts.ChatName)).name == "The\ufffd Den"
        assert await scene.household.until(
            lambda: seat.state.metadata is not None and seat.state.metadata.name == "The\ufffd Den"
        )
        assert seat.state.metadata is not None
        assert seat.state.metadata.subject == "cats"
        commits = len(scene.snapshots)
        await session.perform(verbs.SetName(chat=ROOM, name="The\0 Den", speaker=ANN))
        assert len(scene.snapshots) == commits, "it is called so already"


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_crash_in_the_middle_of_a_commit_loses_nobody(scene: Scene, accepted: bool):
    """The process ends just before, or just after, the hub has stored the commit; its committer knows neither."""
    async with scene.bridge() as session:
        await scene.invite()
        await scene.post(plain("before"))
        await scene.carl_reads(facts.Message)
        await session.perform(verbs.SetTopic(chat=ROOM, topic="cats", speaker=ANN))
        on_disk = scene.snapshots[-1 if accepted else -2]
    scene.kept = dict(on_disk)
    scene.heard.clear()
    async with scene.bridge():
        opened = await scene.hear(facts.ChatOpened)
        assert opened.topic == ("cats" if accepted else "")
        sent = await scene.post(plain("after"))
        assert sent.id is not None
        if accepted:
            await scene.carl_reads(facts.Message, lambda m: m.content.text.body == "after")
            await scene.carl_says(words("still here"))
            await scene.hear(facts.Message, lambda m: m.content.text.body == "still here")


async def test_secrets_are_in_the_hosts_store_and_nowhere_in_the_hubs_part_of_it(scene: Scene):
    async with scene.bridge():
        await scene.invite()
        await scene.post(plain("planted words"))
    hub = {key: value for key, value in scene.kept.items() if key.startswith(("hub/", "outbox/", "route/"))}
    assert [key for key, value in hub.items() if b"planted" in value] == []
    assert any(key.startswith("seat/") for key in scene.kept)


@pytest.mark.parametrize("relative", [True, False])
async def test_a_message_that_expires_is_taken_back_when_its_time_has_come(scene: Scene, relative: bool):
    """draft-ietf-mimi-content-08, "Expiring": without anybody's doing; here after a restart, too."""
    async with scene.bridge():
        await scene.invite()
        expiry = Expiry(relative, 3600 if relative else int(time.time()) + 3600)
        id = await scene.carl_says(words("for a while"), expires=expiry, salt=b"2" * 16)
        said = await scene.hear(facts.Message)
        assert (said.id, said.sender.id) == (name(id), scene.carl.user)
        assert not any(isinstance(fact, facts.Retraction) for fact in scene.heard)
    async with scene.bridge(at=time.time() + 3700):
        gone = await scene.hear(facts.Retraction)
        assert (gone.target, gone.sender.id) == (name(id), scene.carl.user)
        await scene.carl_says(words("to stay"), salt=b"3" * 16)
        await scene.hear(facts.Message, lambda m: m.content.text.body == "to stay")
    assert [key for key in scene.kept if key.startswith("expiry/")] == []


async def test_a_message_that_has_expired_on_its_way_is_disregarded(scene: Scene):
    async with scene.bridge():
        await scene.invite()
        await scene.carl_says(words("too late"), expires=Expiry(False, int(time.time()) - 60), salt=b"2" * 16)
        await scene.carl_says(words("in time"), salt=b"3" * 16)
        said = await scene.hear(facts.Message)
    assert said.content.text.body == "in time"


class Cleo:
    """Somebody of the other provider who publishes key packages and has agreed to nothing."""

    def __init__(self, scene: Scene) -> None:
        self.client = Client("cleo", "a.example")
        self._scene = scene

    async def begin(self) -> None:
        self._scene.household.move_in(self.client)
        package = self.client.package()
        self._scene.household.published(self.client, package.reference)
        await self._scene.house.provider.publish(self.client.user, self.client.uri, [package])

    async def invited(self) -> None:
        """The bridge asks for her, and is told to wait for her answer."""
        person = Person(id=PersonId(self.client.user), name="cleo")
        with pytest.raises(SendRejected, match="were asked whether they agree"):
            await self._scene.session.perform(verbs.Invite(chat=ROOM, person=person))

    async def answers(self, operation: ConsentOperation, room: str | None = ROOM) -> None:
        entry = ConsentEntry(operation, "mimi://b.example/u/bridge", self.client.user, room)
        await self._scene.house.provider.agree(entry)
        answer = await self._scene.house.peers.post(
            "b.example", Endpoint.UPDATE_CONSENT, entry.requester, CONSENT_ENTRY.encode(entry)
        )
        assert answer.status == 201

    @property
    def is_in(self) -> bool:
        return (self.client.uri, ROOM) in self._scene.household.seats


@pytest.mark.parametrize("room", [ROOM, None])
async def test_who_is_invited_is_asked_and_comes_in_when_they_agree(scene: Scene, room: str | None):
    """draft-ietf-mimi-protocol-06 5.7: a request, and a grant for this room or for any."""
    async with scene.bridge():
        cleo = Cleo(scene)
        await cleo.begin()
        await cleo.invited()
        (entry,) = scene.household.asked_for
        assert entry == ConsentEntry(
            ConsentOperation.REQUEST, "mimi://b.example/u/bridge", cleo.client.user, ROOM
        )
        await cleo.answers(ConsentOperation.GRANT, room)
        assert await scene.household.until(lambda: cleo.is_in)
        joined = await scene.hear(Membership, lambda m: m.person.id == cleo.client.user)
        assert joined.change is Change.JOIN
    assert [key for key in scene.kept if key.startswith("wanted/")] == []


async def test_an_answer_that_is_no_is_taken_for_it(scene: Scene):
    async with scene.bridge():
        cleo = Cleo(scene)
        await cleo.begin()
        await cleo.invited()
        await cleo.answers(ConsentOperation.REVOKE)
        assert [key for key in scene.kept if key.startswith("wanted/")] == []
        await cleo.answers(ConsentOperation.GRANT)  # later, and nobody waits for it any more
        await scene.invite()
    assert not cleo.is_in


async def test_a_grant_outlives_the_process_that_heard_it(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    cleo = Cleo(scene)
    async with scene.bridge():
        await cleo.begin()
        await cleo.invited()
        with monkeypatch.context() as patch:
            patch.setattr(Inviting, "invite", _away)
            await cleo.answers(ConsentOperation.GRANT)
    assert not cleo.is_in
    async with scene.bridge():
        assert await scene.household.until(lambda: cleo.is_in)


async def _away(inviting: Inviting, room: str, person: str) -> None:
    raise Disconnected("The room's provider cannot be reached.")


async def test_somebody_who_has_not_agreed_cannot_be_invited(scene: Scene):
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(scene.bridge())
        for who, why in (
            ("mimi://a.example/u/stranger", "were asked whether they agree"),
            ("mimi://b.example/u/ann", "Nobody of this provider needs to be invited"),
            ("@matrix:user", "nobody who could be invited"),
        ):
            with pytest.raises(SendRejected, match=why):
                await session.perform(verbs.Invite(chat=ROOM, person=Person(id=PersonId(who), name="x")))
