"""A client's connection that breaks is taken up again, and nobody notices (XEP-0198, 5)."""

from __future__ import annotations

import asyncio

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Content
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Join, PostMessage, Sent
from bridgekit.testing.host import FakeHost
from connectors.xmpp.config import XmppConfig
from connectors.xmpp.connector import XmppConnector
from connectors.xmpp.session import XmppSession
from connectors.xmpp.testing.line import Line
from connectors.xmpp.testing.person import person
from connectors.xmpp.testing.prosody import ROOMS, Prosody

ROOM = ChatId(f"resumed@{ROOMS}")


async def test_what_both_sides_say_over_a_broken_line_arrives_once_and_in_order(prosody: Prosody) -> None:
    """XEP-0198, 5: "both parties MUST retransmit any stanzas that were not handled", and nothing else."""
    line = Line()
    jid, password = await prosody.register("resumer")
    config = XmppConfig.model_validate(
        {
            "mode": "client",
            "jid": jid,
            "password": password,
            "host": "127.0.0.1",
            "port": await line.open(prosody.port),
            "tls_ca_file": prosody.certificate,
        }
    )
    told: list[Fact] = []

    def heard() -> list[str]:
        said = [fact.content.text.body for fact in told if isinstance(fact, facts.Message)]
        return [words for words in said if words.startswith("carol")]

    try:
        carol_is = await prosody.register("carol-of-the-line")
        async with (
            person(*carol_is, port=prosody.port, certificate=prosody.certificate) as carol,
            XmppConnector().network(config, FakeHost()).connect(None) as session,
        ):
            assert isinstance(session, XmppSession)
            await carol.join(ROOM)
            reader = asyncio.create_task(session.run(told.append))
            await session.perform(Join(chat=ROOM))

            def say(i: int) -> asyncio.Task[Sent | None]:
                verb = PostMessage(chat=ROOM, content=Content(text=plain(f"bridge {i}")), key=f"{i}")
                return asyncio.create_task(session.perform(verb))

            sent = [say(i) for i in range(3)]
            carol.say(ROOM, "carol 0")
            line.dead = True
            line.cut()
            for i in range(1, 4):
                carol.say(ROOM, f"carol {i}")
            sent += [say(i) for i in range(3, 6)]
            await carol.reads("carol 3")
            await asyncio.sleep(0.5)
            line.dead = False
            sent.append(say(6))
            async with asyncio.timeout(30):
                results = await asyncio.gather(*sent)
                while len(heard()) < 4:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert all(isinstance(result, Sent) and result.id for result in results)
            assert heard() == [f"carol {i}" for i in range(4)]
            await carol.reads("bridge 6")
            received = [one.body for one in carol.seen.all if one.body.startswith("bridge")]
            assert received == [f"bridge {i}" for i in range(7)]
            assert session.stream.resumed == 1
            assert not reader.done()
            assert not [fact for fact in told if isinstance(fact, facts.ChatClosed | facts.Resync)]
            reader.cancel()
            await asyncio.wait([reader])
    finally:
        await line.close()
