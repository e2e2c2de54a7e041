"""The play of IRC's demo: each act crosses the bridge, and each check looks at the far end."""

from typing import Any

from bridgekit.testing.person import Event, Person, rich
from bridgekit.testing.stage import NotAsExpected, Stage, eventually, same, true
from connectors.irc.testing.person import Heard, IrcPerson
from connectors.irc.testing.props import downloaded, long_text, pieces, png, styled
from connectors.irc.words.format import decode

CHANNEL = "#lounge"
LABEL = "Messages in this room are not end-to-end encrypted. Lab sends them in clear over the network."
SECRET = "#secret"
NETWORK = "lab"
STATUS = "com.beeper.message_send_status"
PICTURE_NAME = "square.png"


class Play:
    """The script. alice is on Matrix, bob and carol are on IRC; carol is not in the channel."""

    def __init__(self, stage: Stage, alice: Person, bob: IrcPerson, carol: IrcPerson) -> None:
        self.stage = stage
        self.alice = alice
        self.bob = bob
        self.carol = carol
        self.room = ""
        self.ghost = stage.bridge.ghost(NETWORK, "bob")
        for person in (bob, carol):
            person.seen.watch = lambda heard, who=person: self._watch(who, heard)

    def _watch(self, person: IrcPerson, heard: Heard) -> None:
        if heard.kind == "line" or "." in heard.nick:  # a server's own words are no news
            return
        shape = {"emote": "* {} ", "notice": "-{}- "}.get(heard.kind, "<{}> ").format(heard.nick)
        self.stage.printer.spoken("IRC", person.nick, shape, heard.text)

    async def all(self) -> None:
        """Every act, in order."""
        act = self.stage.act
        await act("A room and a channel are linked", self.linking())
        await act("Text", self.words())
        await act("Formatting", self.formatting())
        await act("/me and notices", self.deeds_and_notices())
        await act("3,000 bytes of many alphabets", self.long_text())
        await act("Edit, reply, reaction, redaction: what IRC has no words for", self.fallbacks())
        await act("A picture", self.picture())
        await act("alice takes another name", self.another_name())
        await act("A message that IRC refuses", self.refusal())
        await act("Direct messages, with alice's own name on IRC", self.direct())
        await act("bob takes another nick", self.rename())
        await act("Nothing missing, nothing twice", self.nothing_else())

    async def encrypted_room(self) -> None:
        """The last act, with another device of alice's."""
        await self.stage.act("An encrypted room", self.encrypted())

    # Small steps ---------------------------------------------------------------------------------------------

    async def alice_says(self, body: str, *, html: str = "", kind: str = "m.text") -> str:
        self.stage.says("Matrix", "alice", rich(body, html))
        return await self.alice.say(self.room, body, html=html, kind=kind)

    async def bob_says(self, words: str) -> None:
        self.stage.says("IRC", self.bob.nick, decode(words))
        await self.bob.say(CHANNEL, words)

    async def bob_reads(self, words: str, kind: str = "text") -> Heard:
        """bob sees it in the channel, from the bridge."""
        heard = await self.bob.reads(words, target=CHANNEL, kind=kind)
        same(heard.nick, "bridge", "who said it on IRC")
        return heard

    async def alice_reads(self, body: str, kind: str = "m.text") -> Event:
        """alice sees it in the room, from bob's ghost."""
        event = await self.alice.reads(self.room, body)
        same((event.sender, event.kind), (self.ghost, kind), "sender and kind")
        return event

    async def status(self, event: str) -> dict[str, Any]:
        """What alice's client is told about the fate of her message."""
        found = await self.alice.sees(
            self.room,
            lambda e: (
                e.type == STATUS
                and e.relates.get("event_id") == event
                and e.content["status"] != "PENDING"  # no fate yet
            ),
            what="the fate of a message",
        )
        return found.content

    async def label(self, room: str) -> None:
        """alice reads in a room how it is protected."""
        await self.alice.sees(
            room, lambda e: e.sender == self.stage.bridge.bot and e.body == LABEL, what=LABEL
        )

    # Acts ----------------------------------------------------------------------------------------------------

    async def linking(self) -> None:
        stage, alice, bob, bot = self.stage, self.alice, self.bob, self.stage.bridge.bot
        await bob.join(CHANNEL)
        stage.says("Matrix", "alice", "makes a room and invites the bridge", deed="does")
        self.room = await alice.create_room(
            preset="public_chat",
            name="The lounge",
            room_alias_name=CHANNEL[1:],
            invite=[bot],
            power_level_content_override={"users": {bot: 100}},
        )
        hello = await alice.sees(
            self.room, lambda e: e.sender == bot and e.kind == "m.notice", what="a greeting"
        )
        true("!bridge help" in hello.body, "the bot explains itself")
        await self.alice_says(f"!bridge link {NETWORK} {CHANNEL}")

        async def told() -> None:
            answer = await alice.sees(
                self.room, lambda e: e.sender == bot and e.kind == "m.notice", what="an answer"
            )
            true("now linked to #lounge on Lab" in answer.body, f"the bot said: {answer.body}")
            true(LABEL in answer.body, f"the bot said: {answer.body}")
            notice = await bob.sees(lambda h: h.kind == "notice" and h.target == CHANNEL, what="a notice")
            true(
                "is linked to the Matrix room" in notice.words and alice.id in notice.words,
                f"it said: {notice.words}",
            )

        async def labelled() -> None:
            for type in ("m.bridge", "uk.half-shot.bridge"):
                content = await alice.state(self.room, type, f"org.bridgekit://{NETWORK}/{CHANNEL}")
                same(content["network"], {"id": NETWORK, "displayname": "Lab"}, type)
                same(content["channel"]["id"], CHANNEL, type)

        async def bob_is_there() -> bool:
            return (await alice.members(self.room)).get(self.ghost) == "bob (Lab)"

        await stage.check("link: both sides are told, and how the room is protected", told())
        await stage.check("link: the room is labelled (m.bridge)", labelled())
        await stage.check(
            "link: who is in the channel is in the room", eventually(bob_is_there, "bob's ghost")
        )

    async def words(self) -> None:
        event = await self.alice_says("Good morning, bob! ☕ Grüße aus Matrix")
        await self.stage.check(
            "text, Matrix to IRC", self.bob_reads("<alice> Good morning, bob! ☕ Grüße aus Matrix")
        )

        async def delivered() -> None:
            found = await self.status(event)
            same((found["status"], found["network"]), ("SUCCESS", NETWORK), "the fate")

        await self.stage.check("text: alice's client is told that it was delivered", delivered())
        await self.bob_says("Good morning, alice — all fine here 🙂")
        await self.stage.check(
            "text, IRC to Matrix", self.alice_reads("Good morning, alice — all fine here 🙂")
        )

    async def formatting(self) -> None:
        html = 'this is <strong>bold</strong> and <font data-mx-color="#ff0000">red</font>'
        await self.alice_says("this is bold and red", html=html)

        async def codes() -> None:
            heard = await self.bob_reads("<alice> this is bold and red")
            same(styled(heard.text), {("bold", "bold"), ("color", "red")}, "the styles")

        await self.stage.check("formatting, Matrix to IRC: bold and colour", codes())
        await self.bob_says("\x02bold\x02, \x1ditalic\x1d and \x0302blue\x03")

        async def tags() -> None:
            event = await self.alice_reads("bold, italic and blue")
            wanted = {("bold", "bold"), ("italic", "italic"), ("color", "blue")}
            same(styled(event.text), wanted, "the styles")

        await self.stage.check("formatting, IRC to Matrix: bold, italic and colour", tags())

    async def deeds_and_notices(self) -> None:
        await self.alice_says("waves", kind="m.emote")
        await self.stage.check("/me, Matrix to IRC", self.bob_reads("* alice waves"))
        self.stage.says("IRC", "bob", "/me waves back")
        await self.bob.me(CHANNEL, "waves back")
        await self.stage.check("/me, IRC to Matrix", self.alice_reads("waves back", kind="m.emote"))
        await self.alice_says("the build is green", kind="m.notice")
        await self.stage.check(
            "notice, Matrix to IRC", self.bob_reads("<alice> the build is green", kind="notice")
        )
        self.stage.says("IRC", "bob", "/notice the tests as well")
        await self.bob.notice(CHANNEL, "the tests as well")
        await self.stage.check(
            "notice, IRC to Matrix", self.alice_reads("the tests as well", kind="m.notice")
        )

    async def long_text(self) -> None:
        with self.stage.printer.brief():
            await self.paragraphs()
        await self.paste()

    async def paragraphs(self) -> None:
        text = long_text(3000)
        await self.alice_says(text)

        async def joined() -> None:
            parts: list[str] = []
            while len(" ".join(parts)) < len(text):
                heard = await self.bob.sees(lambda h: h.target == CHANNEL and h.words.startswith("<alice> "))
                true(len(heard.raw.encode()) <= 500, "a line is too long for IRC")
                parts.append(heard.words.removeprefix("<alice> "))
            same(" ".join(parts), text, f"{len(parts)} lines joined")
            true(len(parts) > 5, "it came as one line")

        await self.stage.check("long text, Matrix to IRC: the lines joined are the original", joined())
        cut = pieces(text, 400)
        for piece in cut:
            await self.bob_says(piece)

        async def read() -> None:
            said = [
                (
                    await self.alice.sees(self.room, lambda e: e.sender == self.ghost and e.kind == "m.text")
                ).body
                for _ in cut
            ]
            same(" ".join(said), text, "the messages joined")

        await self.stage.check("long text, IRC to Matrix: every line, in order", read())

    async def paste(self) -> None:
        paste = "\n".join(f"line {n} of a paste" for n in range(1, 41))
        await self.alice_says(paste)

        async def linked() -> None:
            heard = await self.bob.sees(
                lambda h: h.target == CHANNEL and "40 lines" in h.words, what="a link"
            )
            same(await downloaded(heard.words), paste.encode(), "what is behind the link")

        await self.stage.check("a paste of 40 lines, Matrix to IRC: one link to all of it", linked())

    async def fallbacks(self) -> None:
        first = await self.alice_says("the meating is at five")
        await self.bob_reads("<alice> the meating is at five")
        self.stage.says("Matrix", "alice", "the meeting is at five", deed="edits it to")
        await self.alice.edit(self.room, first, "the meeting is at five")
        await self.stage.check(
            "edit, Matrix to IRC: s/wrong/right/", self.bob_reads("<alice> s/meating/meeting/")
        )
        self.stage.says(
            "Matrix", "alice", "come at noon, and bring your own chair please", deed="edits it to"
        )
        await self.alice.edit(self.room, first, "come at noon, and bring your own chair please")
        await self.stage.check(
            "edit, Matrix to IRC: * the new words",
            self.bob_reads("<alice> * come at noon, and bring your own chair please"),
        )
        await self.bob_says("shall I bring cake?")
        cake = await self.alice_reads("shall I bring cake?")
        self.stage.says("Matrix", "alice", "yes please", deed="replies")
        await self.alice.reply(self.room, cake.id, "yes please")
        await self.stage.check(
            "reply, Matrix to IRC: bob is addressed", self.bob_reads("<alice> bob: yes please")
        )
        self.stage.says("Matrix", "alice", "👍", deed="reacts")
        await self.alice.react(self.room, cake.id, "👍")
        await self.stage.check(
            "reaction, Matrix to IRC: a line of words",
            self.bob_reads("* alice reacted 👍 to “shall I bring cake?”"),
        )
        await self.bob_says("alice: then I will bring two")
        await self.stage.check("reply, IRC to Matrix: by name", self.addressed())
        secret = await self.alice_says("my password is hunter2")
        await self.bob_reads("<alice> my password is hunter2")
        self.stage.says("Matrix", "alice", "the message", deed="takes back")
        await self.alice.redact(self.room, secret)

        async def told() -> None:
            notice = await self.alice.sees(
                self.room, lambda e: e.sender == self.stage.bridge.bot and e.kind == "m.notice", what="a word"
            )
            true("can still be read there" in notice.body, f"the bot said: {notice.body}")

        await self.stage.check("redaction, Matrix to IRC: this server cannot, and alice is told", told())
        self.stage.note(
            "reactions and deletions, IRC to Matrix: this server has none; two others follow below"
        )
        self.stage.note("edits, IRC to Matrix: no IRC server has them; who mistypes says so in words")
        await self.bob_says("s/two/three/")
        await self.stage.check(
            "a correction, IRC to Matrix: as bob wrote it", self.alice_reads("s/two/three/")
        )

    async def addressed(self) -> None:
        await self.alice_reads("alice: then I will bring two")

    async def picture(self) -> None:
        data = png(48, (200, 30, 60))
        self.stage.says("Matrix", "alice", f"{PICTURE_NAME}, {len(data)} bytes", deed="sends")
        await self.alice.send_file(self.room, data, PICTURE_NAME, "image/png", kind="m.image")

        async def fetched() -> None:
            heard = await self.bob.sees(
                lambda h: h.target == CHANNEL and PICTURE_NAME in h.words, what="a link"
            )
            same(await downloaded(heard.words), data, "what bob downloads")

        await self.stage.check(
            "image, Matrix to IRC: a signed link, and bob downloads the same bytes", fetched()
        )
        self.stage.note("images, IRC to Matrix: IRC carries none; what people paste is a link, and stays one")
        link = "look: https://example.org/cat.png"
        await self.bob_says(link)
        await self.stage.check("a link to a picture, IRC to Matrix: as bob wrote it", self.alice_reads(link))

    async def another_name(self) -> None:
        await self.alice_is("Alice the Great")
        await self.alice_says("who am I?")
        await self.stage.check(
            "name, Matrix to IRC: her next words carry it", self.bob_reads("<Alice the Great> who am I?")
        )
        await self.alice_is("alice")

    async def alice_is(self, name: str) -> None:
        """alice is called so from now on."""
        self.stage.says("Matrix", "alice", name, deed="is now called")
        await self.alice.set_name(name)

        async def known() -> bool:
            return (await self.alice.members(self.room)).get(self.alice.id) == name

        await eventually(known, f"the name {name}")  # Synapse tells its rooms by and by

    async def refusal(self) -> None:
        self.stage.says("IRC", "bob", f"/mode {CHANNEL} +m (only the voiced may speak)", deed="does")
        await self.bob.send("MODE", CHANNEL, "+m")
        await self.bob.sees(lambda h: h.line.command == "MODE" and h.line.param(1) == "+m", what="the mode")
        event = await self.alice_says("can you hear me?")

        async def refused() -> None:
            found = await self.status(event)
            same(found["status"], "FAIL_PERMANENT", "the fate")
            notice = await self.alice.sees(
                self.room, lambda e: e.sender == self.stage.bridge.bot and e.kind == "m.notice", what="a word"
            )
            true(notice.body.startswith("⚠ Not delivered"), f"the bot said: {notice.body}")

        await self.stage.check("refused: alice's client is told so, and alice why", refused())
        await self.bob.send("MODE", CHANNEL, "-m")
        await self.bob.sees(lambda h: h.line.command == "MODE" and h.line.param(1) == "-m", what="the mode")

    async def direct(self) -> None:
        stage, alice = self.stage, self.alice
        stage.says("Matrix", "alice", f"invites {self.ghost} into a room of their own", deed="does")
        private = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[self.ghost])

        async def enters() -> bool:
            return self.ghost in await alice.members(private)

        await stage.check("DM: bob's ghost comes when it is invited", eventually(enters, "the ghost", 30))
        stage.says("Matrix", "alice", "only for you, bob")
        await alice.say(private, "only for you, bob")
        puppet: list[str] = []

        async def heard() -> None:
            line = await self.bob.reads("only for you, bob", target="bob", seconds=30)
            true(line.nick.startswith("alice"), f"it came from {line.nick}")
            puppet.append(line.nick)

        await stage.check("DM, Matrix to IRC: from alice's own nick", heard())
        nick = puppet[0] if puppet else "alice[m]"
        stage.says("IRC", "bob", f"/msg {nick} and only for you")
        await self.bob.say(nick, "and only for you")

        async def answered() -> None:
            event = await alice.reads(private, "and only for you")
            same(event.sender, self.ghost, "the sender")

        await stage.check("DM, IRC to Matrix: in the same room", answered())
        stage.says("IRC", "carol", f"/msg {nick} hello stranger")
        await self.carol.say(nick, "hello stranger")

        async def asked_in() -> None:
            room, _ = await alice.invitation()
            await alice.join(room)
            event = await alice.reads(room, "hello stranger")
            same(event.sender, stage.bridge.ghost(NETWORK, "carol"), "the sender")
            await alice.say(room, "hello carol")
            line = await self.carol.reads("hello carol", target="carol")
            same(line.nick, nick, "who said it")

        await stage.check("DM, begun on IRC: alice is invited, and answers", asked_in())

    async def rename(self) -> None:
        self.stage.says("IRC", "bob", "/nick bobby", deed="does")
        await self.bob.rename("bobby")

        async def renamed() -> bool:
            return (await self.alice.members(self.room)).get(self.ghost) == "bobby (Lab)"

        await self.stage.check(
            "nick: the same user has another name", eventually(renamed, "the name bobby (Lab)")
        )
        await self.bob_says("it is still me")
        await self.stage.check("nick: and speaks as the same user", self.alice_reads("it is still me"))

    async def nothing_else(self) -> None:
        """A last message each way, and then all that came has been taken: nothing came twice, nothing too much."""
        await self.alice_says("that was all from here")
        await self.bob_says("and from here")

        async def rest() -> None:
            await self.alice_reads("and from here")
            # Since alice has a nick of her own, her words come from it in the channel as well.
            await self.bob.sees(lambda h: h.words.endswith("that was all from here"), what="the last words")
            for room in {e.room for e in self.alice.seen.left() if e.room != self.room and _is_label(e)}:
                await self.label(room)  # once in each room of two
            extra = [str(e) for e in self.alice.seen.left(_is_said) if e.sender != self.alice.id]
            extra += [str(h) for person in (self.bob, self.carol) for h in person.seen.left(_is_from_people)]
            if extra:
                raise NotAsExpected("came too much:\n" + "\n".join(extra))

        await self.stage.check("each side received exactly what it should", rest())

    async def encrypted(self) -> None:
        """alice on another device of hers: what is encrypted in her room is clear on IRC, and she agrees to that."""
        stage, bot, bob = self.stage, self.stage.bridge.bot, self.bob
        alice = await stage.with_encryption(self.alice)
        if alice is None:
            return
        await bob.join(SECRET)
        stage.says("Matrix", "alice", "makes an encrypted room and invites the bridge", deed="does")
        room = await alice.encrypted_room(bot)
        await alice.call("PUT", f"/rooms/{room}/state/m.room.power_levels/", {"users": {bot: 100}})

        async def told(words: str, seconds: float = 60) -> None:
            async def said() -> bool:
                return any(words in body for body in alice.said_by(room, bot))

            await eventually(said, f"“{words}” of the bridge", seconds)

        async def asks(words: str) -> None:
            stage.says("Matrix", "alice", words)
            await alice.say(room, words)

        await told("I am a bridge")
        await asks(f"!bridge link {NETWORK} {SECRET}")
        await stage.check("encrypted: alice is told that nothing crosses yet", told("nothing crosses until"))
        await asks(f"!bridge agree {NETWORK} {SECRET}")
        await stage.check("encrypted: alice agrees to what is weaker there", told("has agreed"))

        async def labelled() -> None:
            label = await self.alice.state(room, "org.bridgekit.protection")
            (link,) = label["links"]
            same((label["protection"], label["matrix"]), ("clear", "bridge"), "the label")
            same(
                (link["chat"], link["protection"], link["agreed"]),
                (SECRET, "clear", True),
                "the link's label",
            )

        await stage.check("encrypted: the room's label says what is true", labelled())
        await asks("under four eyes")
        await stage.check(
            "encrypted, Matrix to IRC",
            bob.sees(lambda h: h.target == SECRET and h.words.endswith("under four eyes"), what="her words"),
        )
        stage.says("IRC", bob.nick, "and four ears")
        await bob.say(SECRET, "and four ears")

        async def read() -> None:
            async def came() -> bool:
                return "and four ears" in alice.said_by(room, self.ghost)

            await eventually(came, "bob's words in the encrypted room")
            event = next(e for e in alice.events if e.body == "and four ears")
            true(event.decrypted, "it was not encrypted")
            true(
                await alice.is_vouched_for(event), "the ghost's device is not signed by the ghost's identity"
            )
            same([who for where, who in alice.unread if where == room], [], "whom alice could not read")

        await stage.check("encrypted, IRC to Matrix: from a device that its owner's identity signed", read())


def _is_label(event: Event) -> bool:
    return event.type == "m.room.message" and event.body == LABEL


def _is_said(event: Event) -> bool:
    return event.type in ("m.room.message", "m.sticker", "m.reaction")


def _is_from_people(heard: Heard) -> bool:
    return heard.kind != "line" and "." not in heard.nick
