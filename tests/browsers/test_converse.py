"""The person at converse.js does what a person does there: checked against a bare Prosody, without a bridge.

Where a scenario with the bridge fails and this does not, the bridge is at fault and not the client or its driver.
"""

from __future__ import annotations

from connectors.xmpp.stanzas import wire
from connectors.xmpp.testing.person import person
from connectors.xmpp.testing.prosody import ROOMS, prosody
from tests.browsers.chromium import chromium
from tests.browsers.converse import converse, converse_person
from tests.browsers.picture import png


async def test_what_is_done_at_the_page_is_on_the_wire_and_what_is_on_the_wire_is_on_the_page():
    room = f"bare@{ROOMS}"
    async with prosody() as server, chromium() as browser, converse(server.websocket) as client:
        carol, bob = await server.register("carol"), await server.register("bob")
        async with (
            person(*carol, port=server.port, certificate=server.certificate) as there,
            converse_person(browser, client, bob, room) as here,
        ):
            await there.join(room)
            there.say(room, "hello Bob")
            await here.reads("hello Bob", who="carol")
            hello = await there.reads("hello Bob")

            await here.say("helo Carol")
            first = await there.reads("helo Carol", nick="bob")
            await here.edit("helo Carol", "hello Carol")
            correction = (await there.reads("hello Carol")).has(wire.CORRECT, "replace")
            assert correction is not None
            assert correction.get("id") == first.id
            assert (await here.reads("hello Carol")).edited

            await here.react("hello Bob", "👍")
            given = await there.sees(lambda s: s.has(wire.REACTIONS, "reactions"), "the reaction")
            reactions = given.has(wire.REACTIONS, "reactions")
            assert reactions is not None
            assert (reactions.get("id"), [r.text for r in reactions]) == (hello.stanza_id, ["👍"])
            assert (await here.sees(lambda line: line.reactions)).reactions == {"👍": 1}

            await here.reply("hello Bob", "nice to see you")
            answer = await there.sees(lambda s: s.body.endswith("nice to see you"), "the answer")
            reply = answer.has(wire.REPLY, "reply")
            assert reply is not None
            assert reply.get("id") == hello.stanza_id
            assert (await here.reads("nice to see you")).answers == "hello Bob"

            await here.upload("orange.png", "image/png", png(60, 40))
            shared = await there.sees(lambda s: s.has(wire.OOB, "x"), "the file")
            assert shared.body.endswith("/orange.png")
            picture = await here.sees(lambda line: line.pictures == [(60, 40)], "the picture")
            assert picture.links == [shared.body]

            await here.retract("nice to see you")
            await there.sees(lambda s: s.has(wire.RETRACT, "retract"), "the retraction")
            assert await here.sees(lambda line: line.retracted, "its place")
