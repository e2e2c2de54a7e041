"""The play on servers that have more words: replies, reactions and deletions, each way, by the tags of IRCv3."""

from typing import Any

from bridgekit.testing.person import Event, Person
from bridgekit.testing.stage import Stage, same, true
from connectors.irc.testing.person import Heard, IrcPerson

CAPS = ("message-tags", "echo-message", "server-time")
"""With these somebody's client reads tags, and learns the ids of what it says itself."""
REDACTION = "draft/message-redaction"


class TagPlay:
    """alice, with a nick of her own, and dora, whose client on IRC speaks IRCv3, in one linked channel."""

    def __init__(self, stage: Stage, alice: Person, dora: IrcPerson, network: str, channel: str) -> None:
        self.stage = stage
        self.alice = alice
        self.dora = dora
        self.network = network
        self.channel = channel
        self.room = ""
        self.ghost = stage.bridge.ghost(network, dora.nick)

    async def link(self) -> None:
        """A room for the channel."""
        bot = self.stage.bridge.bot
        await self.dora.join(self.channel)
        self.room = await self.alice.create_room(
            preset="public_chat", invite=[bot], power_level_content_override={"users": {bot: 100}}
        )
        await self.alice.sees(
            self.room, lambda e: e.sender == bot and e.kind == "m.notice", what="a greeting"
        )
        await self.alice.say(self.room, f"!bridge link {self.network} {self.channel}")
        answer = await self.alice.sees(
            self.room, lambda e: e.sender == bot and e.kind == "m.notice", what="an answer"
        )
        true("now linked" in answer.body, f"the bot said: {answer.body}")

    async def alice_says(self, words: str) -> tuple[str, str]:
        """The ids of her words: the event's, and the one that the server gave them."""
        self.stage.says("Matrix", "alice", words)
        event = await self.alice.say(self.room, words)
        return event, _id(await self.dora.reads(words, target=self.channel, seconds=30))

    async def dora_says(self, words: str) -> tuple[Event, str]:
        """What alice reads, and the id that the server gave it."""
        self.stage.says("IRC", self.dora.nick, words)
        await self.dora.say(self.channel, words)
        echo = await self.dora.sees(lambda h: h.nick == self.dora.nick and h.words == words, what="her echo")
        return await self.alice_reads(words), _id(echo)

    async def alice_reads(self, words: str) -> Event:
        event = await self.alice.reads(self.room, words)
        same(event.sender, self.ghost, "the sender")
        return event

    async def replies_and_reactions(self) -> None:
        check, says = self.stage.check, self.stage.says
        await self.alice_says(
            "hello, dora"
        )  # with that she has a nick, which knows that this server names messages
        event, id = await self.dora_says("who brings the cake?")
        says("Matrix", "alice", "me", deed="replies")
        await self.alice.reply(self.room, event.id, "me")

        async def replied() -> None:
            heard = await self.dora.reads(f"{self.dora.nick}: me", target=self.channel)
            same(heard.line.tags.get("+draft/reply"), id, "what it answers")

        await check("reply, Matrix to IRC: by tag, to that very message", replied())
        says("Matrix", "alice", "🎂", deed="reacts")
        await self.alice.react(self.room, event.id, "🎂")

        async def reacted() -> None:
            heard = await self.dora.sees(lambda h: h.line.command == "TAGMSG", what="a reaction")
            tags = heard.line.tags
            same((tags.get("+draft/react"), tags.get("+draft/reply")), ("🎂", id), "the reaction")

        await check("reaction, Matrix to IRC: by tag, to that very message", reacted())
        mine, named = await self.alice_says("and who eats it?")
        says("IRC", self.dora.nick, "everybody", deed="replies")
        await self.dora.send("PRIVMSG", self.channel, "everybody", tags={"+draft/reply": named})

        async def answered() -> None:
            answer = await self.alice_reads("everybody")
            same(answer.relates.get("m.in_reply_to"), {"event_id": mine}, "what it answers")

        await check("reply, IRC to Matrix: to that very message", answered())
        says("IRC", self.dora.nick, "😋", deed="reacts")
        await self.dora.send("TAGMSG", self.channel, tags={"+draft/reply": named, "+draft/react": "😋"})

        async def shown() -> None:
            found = await self.alice.sees(self.room, lambda e: e.type == "m.reaction", what="a reaction")
            same(
                (found.sender, found.relates.get("event_id"), found.relates.get("key")),
                (self.ghost, mine, "😋"),
                "the reaction",
            )

        await check("reaction, IRC to Matrix: to that very message", shown())

    async def deletions(self) -> None:
        check, says = self.stage.check, self.stage.says
        mine, named = await self.alice_says("my password is hunter3")
        says("Matrix", "alice", "the message", deed="takes back")
        await self.alice.redact(self.room, mine)

        async def gone() -> None:
            heard = await self.dora.sees(lambda h: h.line.command == "REDACT", what="the deletion")
            same(heard.line.params[:2], (self.channel, named), "what is deleted")

        await check("redaction, Matrix to IRC: that very message", gone())
        event, id = await self.dora_says("and mine is hunter4")
        says("IRC", self.dora.nick, "the message", deed="takes back")
        await self.dora.send("REDACT", self.channel, id)

        async def emptied() -> None:
            found = await self.alice.sees(
                self.room, lambda e: e.type == "m.room.redaction", what="the deletion"
            )
            target: Any = found.redacts or found.content.get("redacts")
            same((found.sender, target), (self.ghost, event.id), "who deletes what")

        await check("redaction, IRC to Matrix: that very message", emptied())


def _id(heard: Heard) -> str:
    found = heard.line.tags.get("msgid", "")
    true(found, "the server gives no ids to messages")
    return found
