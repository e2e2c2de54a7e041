"""The Matrix side of every room: performs verbs as ghosts, as double puppets, or as the bot."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from bridgekit.contract import verbs
from bridgekit.contract.errors import MatrixForbidden, MatrixRefused, SendRejected
from bridgekit.contract.ids import ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, File, Person, Role
from bridgekit.contract.text import join, plain
from bridgekit.contract.verbs import Sent, Verb
from bridgekit.core.membership import Mode
from bridgekit.core.roles import speaks
from bridgekit.core.roomnames import room_name
from bridgekit.matrix import translate
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.contents import SOURCE, avatar_content
from bridgekit.matrix.fetch import FetchRefused
from bridgekit.matrix.files import Files
from bridgekit.matrix.sending import PUPPET
from bridgekit.matrix.speakers import Speakers
from bridgekit.runtime.clock import now
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.people.joins import Joins
from bridgekit.runtime.people.pictures import LIMIT as PICTURE_LIMIT
from bridgekit.runtime.people.pictures import Pictures
from bridgekit.runtime.people.powers import Powers
from bridgekit.runtime.traffic.echoes import Echoes
from bridgekit.runtime.traffic.recall import Ids
from bridgekit.runtime.traffic.steps import Overtaken, Step, source_of

log = structlog.get_logger(__name__)

NEW_MS = 60_000
"""For so long after it was let in, a ghost is one whom the homeserver may overlook."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 4.0
"""Seconds between two tries of such a ghost."""
FRESH = 0.1
"""Seconds for which what is ready to go may wait for the disk as it is."""
_UNSPOKEN = (verbs.Leave, verbs.ShowProfile, verbs.SetRole)
"""What is about somebody who need not be in the room for it."""
_MESSAGE = "m.room.message"
AVATAR_TYPE = "m.room.avatar"
_NOT_THEM = frozenset(
    "M_EXCLUSIVE M_USER_DEACTIVATED M_USER_LOCKED M_USER_SUSPENDED M_CONSENT_NOT_GIVEN".split()
)
"""Refusals that are about the user who would act (Client-Server API, "Standard error response")."""
_SAID_AS: dict[type[Verb], str] = {
    verbs.PostMessage: _MESSAGE,
    verbs.EditMessage: _MESSAGE,
    verbs.React: "m.reaction",
}
"""The event types whose power levels say who may do it."""


class MatrixSide:
    """One homeserver, all rooms."""

    def __init__(
        self,
        client: MatrixClient,
        ghosts: Ghosts,
        *,
        bot: PersonId,
        files: Files,
        pictures: Pictures,
        powers: Powers,
        joins: Joins,
        speakers: Speakers,
        label: Callable[[NetworkId], str],
        mode: Callable[[PortalKey], Mode],
        likely: Callable[[ChatId, PersonId], None],
        cleared: Callable[[PortalKey], bool],
        is_replaced: Callable[[ChatId], Awaitable[bool]],
        stood_in: Callable[[ChatId, PersonId], None],
        echoes: Echoes,
    ) -> None:
        """`likely` is told of who is about to speak; `cleared` says whether a link's words may go into their room;
        `stood_in` is told of somebody in whose place their ghost has spoken."""
        self._client = client
        self._ghosts = ghosts
        self._bot = bot
        self._files = files
        self._pictures = pictures
        self._powers = powers
        self._joins = joins
        self._speakers = speakers
        self._label = label
        self._mode = mode
        self._likely = likely
        self._cleared = cleared
        self._is_replaced = is_replaced
        self._stood_in = stood_in
        self._echoes = echoes

    async def perform(self, room: ChatId, step: Step, ids: Ids) -> Sent | None:
        """Do one verb in the room. Waits while the homeserver is away; raises MatrixError where it refuses, and
        Overtaken where the link was stopped meanwhile."""
        verb, network = step.action.verb, step.case.origin.network
        actor = PersonId(step.actor) if step.actor else self._bot
        speaker = verb.speaker
        if not step.case.durable and not self._ghosts.is_present(actor, room):
            return None  # nobody enters a room to be seen typing or reading in it
        with contextlib.ExitStack() as until_said:
            if speaker is not None and not isinstance(verb, _UNSPOKEN):
                if isinstance(verb, verbs.PostMessage):
                    if self._mode(step.case.origin) is Mode.FULL:
                        await self._joins.complete(room)
                    self._ghosts.spoke(actor, room, step.case.accepted)
                if not self._ghosts.is_ready(actor, network, speaker, room):
                    until_said.enter_context(self._speakers.one())
                    await self._ghosts.ready(actor, network, speaker, room)
                    self._check_way(step)
                if speaker.avatar is not None:
                    self._pictures.show(actor, speaker.avatar)
            return await self._say(room, step, actor, network, verb, ids)

    async def _say(
        self, room: ChatId, step: Step, actor: PersonId, network: NetworkId, verb: Verb, ids: Ids
    ) -> Sent | None:
        """Do it, and where that is refused, see what was in the way."""
        speaker = verb.speaker
        writes = self._powers.writes(room)
        is_puppet = speaker is None and actor != self._bot
        if is_puppet and await self._is_of_another(room, actor, verb, ids):
            return await self._stand_in(room, step, actor, network, verb, ids)
        try:
            return await self._do(room, step, actor, network, verb, ids)
        except MatrixRefused as error:
            if is_puppet and _is_about_user(error):
                return await self._without_puppet(room, step, actor, network, verb, ids)
            if not isinstance(error, MatrixForbidden):
                raise
            if speaker is None or isinstance(
                verb, verbs.Leave | verbs.SetTopic | verbs.SetName | verbs.SetAvatar
            ):
                raise
            if not await self._is_member(room, actor):
                # Somebody removed the ghost: it may have been let back in, or it may not come back.
                self._ghosts.left(actor, room)
                await self._ghosts.ready(actor, network, speaker, room)
            # Who may not yet is heard all the same, where the levels that let them are about to be written.
            if not await self._may(room, actor, verb) and not await self._powers.written(room, writes):
                raise
            return await self._once_known(room, step, actor, network, verb, ids)

    async def _is_member(self, room: ChatId, ghost: PersonId) -> bool:
        """Whether the homeserver says that the ghost is in the room."""
        try:
            member = await self._client.patient.state(room, "m.room.member", ghost, user=ghost)
        except MatrixForbidden:
            return False
        return (member or {}).get("membership") == "join"

    async def _may(self, room: ChatId, ghost: PersonId, verb: Verb) -> bool:
        """Whether the room's power levels let a ghost that is in the room say it. What is not said is not asked for."""
        type = _SAID_AS.get(verb.__class__)
        if type is None:
            return True
        if type == _MESSAGE and await self._client.is_encrypted(room, ghost):
            type = "m.room.encrypted"
        try:
            levels = await self._client.patient.state(room, "m.room.power_levels", user=ghost)
        except MatrixForbidden:
            return True  # overlooked here, too
        return speaks(levels or {}, ghost, type)

    async def _once_known(
        self, room: ChatId, step: Step, actor: PersonId, network: NetworkId, verb: Verb, ids: Ids
    ) -> Sent | None:
        """Do it as a ghost that is in the room. While it has not been there for long, a refusal is not the last word:
        a homeserver that has much to put in order in the room overlooks for a while who has come in
        (see `bridgekit.matrix.transport.AT_ONCE`; others may be in a hurry there, too). Nor is it while the room's
        levels are about to change: who was just given a voice says something before that is written."""
        entered = self._ghosts.last_seen(room).get(actor, 0)
        pause = FIRST_PAUSE
        while True:
            self._check_way(step)
            writes = self._powers.writes(room)
            try:
                return await self._do(room, step, actor, network, verb, ids)
            except MatrixForbidden:
                if await self._powers.written(room, writes):
                    continue
                if now() - entered > NEW_MS or await self._is_replaced(room):
                    raise
            log.info("ghost_overlooked", room=room, again_in=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _check_way(self, step: Step) -> None:
        """Raise Overtaken where nothing may pass any more from where it comes from: getting ready took a while."""
        if step.shows and not self._cleared(step.case.origin):
            raise Overtaken

    async def _without_puppet(
        self, room: ChatId, step: Step, actor: PersonId, network: NetworkId, verb: Verb, ids: Ids
    ) -> Sent | None:
        """Somebody's own user may not do it: they enter, if they have never been there, or are invited, or their
        ghost does it. Who left or was put out is not brought back by what they say elsewhere."""
        with contextlib.suppress(MatrixRefused):
            if await self._membership(room, actor) in (None, "invite"):
                await self._client.patient.join(room, user=actor)
                return await self._do(room, step, actor, network, verb, ids)
        return await self._stand_in(room, step, actor, network, verb, ids)

    async def _membership(self, room: ChatId, user: PersonId) -> str | None:
        member = await self._client.patient.state(room, "m.room.member", user)
        return (member or {}).get("membership")

    async def _stand_in(
        self, room: ChatId, step: Step, actor: PersonId, network: NetworkId, verb: Verb, ids: Ids
    ) -> Sent | None:
        """The ghost of somebody does it in place of their own user."""
        sender: Person | None = getattr(step.case.fact, "sender", None)
        if sender is None:
            raise SendRejected("The room does not let its owner in.")
        ghost = self._ghosts.of(network, sender.id)
        await self._ghosts.ready(ghost, network, sender, room)
        if isinstance(verb, verbs.EditMessage) and await self._is_of_another(room, ghost, verb, ids):
            verb = _anew(room, verb)
        sent = await self._do(room, step, ghost, network, verb, ids)
        self._stood_in(room, actor)
        return sent

    async def _is_of_another(self, room: ChatId, actor: PersonId, verb: Verb, ids: Ids) -> bool:
        """Whether an edit is of what another has said, which no client would show: somebody may have said the one by
        their ghost and the other by themselves."""
        if not isinstance(verb, verbs.EditMessage) or ids.target is None:
            return False
        event = await self._client.patient.event(room, ids.target)
        return event is not None and event.get("sender") != actor

    async def _do(
        self, room: ChatId, step: Step, actor: PersonId, network: NetworkId, verb: Verb, ids: Ids
    ) -> Sent | None:
        client = self._client.patient
        match verb:
            case verbs.PostMessage():
                return await self._post(room, step, actor, verb, ids)
            case verbs.EditMessage():
                if ids.target is None:
                    return await self._post(room, step, actor, _anew(room, verb), ids)
                edit = msgspec.structs.replace(verb, target=ids.target)
                return await self._send(room, step, actor, translate.contents(edit))
            case verbs.React():
                if ids.target is None:
                    raise SendRejected("The message is not in this room.")
                react = msgspec.structs.replace(verb, target=ids.target)
                return await self._send(room, step, actor, translate.contents(react))
            case verbs.Unreact() | verbs.Retract():
                if ids.target is None:
                    return None  # nothing of it is in the room
                reason = verb.reason if isinstance(verb, verbs.Retract) else ""
                await self._redact(room, step, actor, ids, reason)
            case verbs.SetTopic():
                current = await client.state(room, "m.room.topic")
                if (current or {}).get("topic", "") != verb.topic:
                    await client.put_state(room, "m.room.topic", {"topic": verb.topic})
            case verbs.SetName():
                current = (await client.state(room, "m.room.name") or {}).get("name")
                title = room_name(verb.name, self._label(network))
                if current not in (verb.name, title):  # the one is what somebody here has just called it
                    await client.put_state(room, "m.room.name", {"name": title})
            case verbs.SetAvatar():
                await self._set_avatar(room, step, verb.avatar)
            case verbs.SetTyping():
                if verb.active:
                    self._likely(room, actor)
                await self._client.typing(room, verb.active, user=actor)
            case verbs.MarkRead():
                if ids.target is not None:
                    await self._client.receipt(room, ids.target, user=actor)
            case verbs.Leave():
                await self._ghosts.leave(actor, room, verb.reason)
                self._powers.give(room, actor, Role.NONE)
            case verbs.ShowProfile():
                if verb.speaker is not None:
                    await self._ghosts.rename(actor, network, verb.speaker)
                    if verb.speaker.avatar is not None:
                        self._pictures.show(actor, verb.speaker.avatar)
            case verbs.SetRole():
                self._powers.give(room, actor, verb.role)
            case verbs.Invite():
                await client.invite(room, PersonId(verb.person.id), user=actor)
            case verbs.Kick():
                await client.kick(room, PersonId(verb.person.id), reason=verb.reason, user=actor)
            case verbs.Ban():
                await client.ban(room, PersonId(verb.person.id), reason=verb.reason, user=actor)
            case verbs.Unban():
                await client.unban(room, PersonId(verb.person.id), user=actor)
            case verbs.Join() | verbs.Depart() | verbs.FetchHistory():
                return (
                    None  # ghosts are let in by `Joins`; and nothing is asked of Matrix that it already has
                )
        return None

    async def _set_avatar(self, room: ChatId, step: Step, avatar: File | None) -> None:
        """Let the room show a picture; the one that it shows already, for which nothing is fetched, stays.

        Not sealed where the room is encrypted: clients show m.room.avatar from a plain address alone.
        """
        now = await self._client.patient.state(room, AVATAR_TYPE) or {}
        if avatar is None:
            if now.get("url"):
                await self._client.patient.put_state(room, AVATAR_TYPE, avatar_content(None))
            return
        source = hashlib.sha256(f"{avatar.via or ''} {avatar.uri}".encode()).hexdigest()
        if source == now.get(SOURCE) or avatar.uri == now.get("url"):
            return
        try:
            stored = await self._files.bring(avatar, None, limit=PICTURE_LIMIT, only="image/")
        except FetchRefused as error:
            raise SendRejected(error.notice) from error
        self._check_way(step)
        await self._client.patient.put_state(room, AVATAR_TYPE, avatar_content(stored, source))

    async def _post(
        self, room: ChatId, step: Step, actor: PersonId, verb: verbs.PostMessage, ids: Ids
    ) -> Sent | None:
        if verb.content.file is not None:
            verb = msgspec.structs.replace(verb, content=await self._with_file(room, verb.content, actor))
            self._check_way(step)
        if verb.reply is not None or ids.thread is not None:
            reply = msgspec.structs.replace(verb.reply, id=ids.reply) if verb.reply is not None else None
            verb = msgspec.structs.replace(verb, reply=reply, thread=ids.thread)
        return await self._send(room, step, actor, translate.contents(verb), at=verb.at)

    async def _with_file(self, room: ChatId, content: Content, actor: PersonId) -> Content:
        """The content with its file as a Matrix file; where that cannot be had, with a link and the reason."""
        file = content.file
        if file is None:
            return content
        try:
            sealed = await self._client.is_encrypted(room, actor)
            return msgspec.structs.replace(content, file=await self._files.bring(file, actor, sealed=sealed))
        except (FetchRefused, MatrixRefused) as error:
            where = file.uri if file.uri.startswith(("https://", "http://")) else ""
            words = plain(": ".join(filter(None, (file.name, where))) + f" ({error.notice.rstrip('.')})")
            caption = content.text if content.text.body != file.name else plain("")
            return Content(text=join(caption, "\n", words) if caption else words, kind=content.kind)

    async def _send(
        self,
        room: ChatId,
        step: Step,
        actor: PersonId,
        contents: list[tuple[str, dict[str, Any]]],
        *,
        at: int = 0,
    ) -> Sent | None:
        case = step.case
        sent: list[MessageId] = []
        after: Callable[[], Awaitable[None]] | None = None
        if case.written is not None and not case.written.done():
            after = functools.partial(self._kept, step)
        for part, (type, content) in enumerate(contents):
            # The txn id names message, side and part, and each message has one sender: it never serves two.
            source = f"{source_of(case.number, step.action.side)}.{part}"
            content[SOURCE] = source
            if self._is_puppet(actor):
                content[PUPPET] = room
            sent.append(
                await self._client.send(
                    room,
                    type,
                    content,
                    txn=f"bk.{source}",
                    user=actor,
                    at=at if getattr(case.fact, "replayed", False) else None,
                    source=source,
                    since=case.accepted,
                    recovering=case.recovering,
                    after=after if not part else None,
                )
            )
        return Sent(id=sent[0], more=tuple(sent[1:])) if sent else None

    async def _kept(self, step: Step) -> None:
        """Return when what is ready to go is on disk. Raises Overtaken where all has to be asked anew: the way was
        closed meanwhile, or that took so long that anything may have changed."""
        clock = asyncio.get_running_loop().time
        started = clock()
        await step.case.kept()
        if clock() - started > FRESH:
            raise Overtaken
        self._check_way(step)

    def _is_puppet(self, actor: PersonId) -> bool:
        return actor != self._bot and not self._ghosts.is_one(actor)

    async def _redact(self, room: ChatId, step: Step, actor: PersonId, ids: Ids, reason: str) -> None:
        """Every part of the message, by the ghost if it is its own and by the bot if it is not."""
        targets = ids.about.ids.get(step.action.side, ()) if ids.about is not None else ()
        for part, target in enumerate(targets):
            txn = f"bk.{step.case.number:x}.r{part}"
            if self._is_puppet(actor):
                await self._echoes.expect(target)
            client = self._client.patient
            try:
                await client.redact(room, target, txn=txn, reason=reason, user=actor)
            except MatrixRefused as error:
                if not _is_about_user(error):
                    raise
                await client.redact(room, target, txn=f"{txn}.bot", reason=reason)


def _is_about_user(error: MatrixRefused) -> bool:
    """Whether another user might do what was refused."""
    return isinstance(error, MatrixForbidden) or error.errcode in _NOT_THEM


def _anew(room: ChatId, edit: verbs.EditMessage) -> verbs.PostMessage:
    """What an edit says as a message of its own."""
    return verbs.PostMessage(chat=room, speaker=edit.speaker, content=edit.content, key=edit.key)
