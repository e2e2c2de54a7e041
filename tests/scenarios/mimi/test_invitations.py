"""On two Synapses: people are found, asked into closed groups, and come in by codes that are passed on by hand."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from tests.scenarios.mimi.lab import NETWORK, Lab, uri


@pytest.mark.timeout(600)
async def test_somebody_is_found_asked_into_a_closed_group_and_talks_there(lab: Lab):
    """draft-ietf-mimi-protocol-06 5.8 and 5.7: the search of a Matrix client, an invitation on Matrix, and the link of
    who was asked, which is the grant; then a Welcome."""
    chat = lab.closed_chat()
    async with lab.a.somebody("ann") as ann, lab.b.somebody("ben") as ben:
        management = await lab.a.alone(ann)
        await ann.say(management, f"login {NETWORK} findable=handle")
        await lab.a.answer(ann, management, "is being signed in")
        at_b = await lab.b.linked(ben, chat)
        handle = f"{ann.name}@{lab.a.domain}"
        found = await ben.call("GET", f"/thirdparty/user/{NETWORK}?name={quote(handle)}")
        assert [each["userid"] for each in found] == [lab.b.ghost(ann)]
        await lab.b.command(ben, at_b, f"find {NETWORK} {handle}", f"!bridge chat {NETWORK} {uri(ann)}")

        await ben.invite(at_b, lab.b.ghost(ann))
        asked = await lab.a.answer(ann, management, "asks you into")
        assert asked.body.startswith(f"{uri(ben)} asks you into {chat}"), "in the name of who did"
        at_a = await lab.a.linked(ann, chat)
        await ben.say(at_b, "welcome")
        heard = await ann.reads(at_a, "welcome")
        assert heard.sender == lab.a.ghost(ben)
        await ann.say(at_a, "thank you")
        assert (await ben.reads(at_b, "thank you")).sender == lab.b.ghost(ann)


@pytest.mark.timeout(600)
async def test_a_code_lets_somebody_into_a_closed_room_until_it_is_taken_back(lab: Lab):
    """room-policy 6.2: the code is told to one person alone, who passes it on by hand."""
    chat = lab.closed_chat()
    async with lab.a.somebody("cora") as cora, lab.b.somebody("dan") as dan:
        at_b = await lab.b.linked(dan, chat)
        alone = await lab.b.alone(dan)
        await dan.say(alone, f"code {NETWORK} {chat}")
        made = await lab.b.answer(dan, alone, "Whoever has this code")
        (code,) = re.findall(r"password=([\w-]+)", made.body)
        at_a = await lab.a.room(cora)
        await lab.a.command(cora, at_a, f"link {NETWORK} {chat}", "by invitation or with its join code")
        await lab.a.command(
            cora, at_a, f"link {NETWORK} {chat} password=guessed", "by invitation or with its"
        )
        await lab.a.command(cora, at_a, f"link {NETWORK} {chat} password={code}", "is now linked")
        await lab.a.command(cora, at_a, f"agree {NETWORK} {chat}", "has agreed")
        await cora.say(at_a, "the door was open")
        # The code let the bridge in, which speaks for its people: they were not asked.
        heard = await dan.reads(at_b, f"<{cora.name}> the door was open")
        assert heard.sender == lab.b.bridge.ghost(NETWORK, f"mimi://{lab.a.domain}/u/bridge")
        await dan.say(at_b, "come in")
        assert (await cora.reads(at_a, "come in")).sender == lab.a.ghost(dan)
        await dan.say(alone, f"code {NETWORK} {chat} off")
        await lab.b.answer(dan, alone, "there was 1")
        await lab.a.command(cora, at_a, f"unlink {NETWORK} {chat}", "no longer linked")
        other = await lab.a.room(cora)
        refused = "by invitation or with its join code"
        await lab.a.command(cora, other, f"link {NETWORK} {chat} password={code}", refused)
