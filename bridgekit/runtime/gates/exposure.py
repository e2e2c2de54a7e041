"""Exposure at work: each room is compared with what its chats allow, brought down to it, opened as far as it may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import structlog

from bridgekit.contract.errors import BridgeError, MatrixRefused, WouldExpose
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.policy import Exposure, Visibility
from bridgekit.core import wording
from bridgekit.core.corrections import (
    WATCHED,
    Change,
    Pause,
    Room,
    SetState,
    corrections,
    exceeds,
    may_open,
    openings,
)
from bridgekit.core.exposure import (
    OPEN,
    SECRET,
    Allowed,
    Bound,
    JoinRule,
    LinkView,
    allowed,
    limits,
    until_heard,
    why_closed,
)
from bridgekit.core.scopes import Consent, Policy, Scope, in_force
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.clock import now
from bridgekit.runtime.gates.looking import look
from bridgekit.runtime.gates.surveying import Surveying
from bridgekit.runtime.gates.takingback import TakingBack
from bridgekit.runtime.gates.underway import UnderWay
from bridgekit.runtime.gates.visibilities import Visibilities
from bridgekit.runtime.gates.wishes import Wishes
from bridgekit.runtime.registry import CLOSED, PAUSED, WAITING, Registry
from bridgekit.runtime.registry import OPEN as LINK_OPEN
from bridgekit.store import Store
from bridgekit.store.rows import Link
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

PATIENCE = 10.0
"""Seconds that words under way wait for a room to be closed that somebody has opened too far."""
GRACE = 60.0
"""Seconds after a start in which a room that was opened meanwhile may stay so, until its networks are heard."""
TRY_AGAIN = 5.0
"""Seconds until a room is looked at again that could not be."""

LOOK_AGAIN = 10.0
"""Seconds until it is looked again whether a room is in the public directory, of which no event tells."""
LOOKS_A_SECOND = 10
"""Rooms that are looked for in the directory in a second, at most: many rooms are looked for less often."""

DIRECTORY = ""
"""What stands for the room directory among the types of state that were refused."""


class Doorkeeper(Protocol):
    """What is done to a room and its chats besides their settings."""

    async def say(self, room: ChatId, words: str) -> None: ...
    async def announce(self, side: PortalKey, words: str) -> None: ...
    async def placed(self, link: Link, allowed: Allowed) -> None: ...


class Exposures:
    """Every room's exposure. `cleared` are the links whose words may go into their rooms as those are now.

    A link is cleared only after its room was compared with what the chat allows, since the start of this process:
    what was set last week proves nothing. `changed` is told of each link that has been cleared or no longer is.
    """

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        store: Store,
        *,
        bot: PersonId,
        network_of: Callable[[PersonId], NetworkId],
        label: Callable[[NetworkId], str],
        policy: Callable[[NetworkId], Policy],
        consents: Callable[[PortalKey], tuple[Consent, ...]],
        ceiling: Callable[[Link], Bound],
        doorkeeper: Doorkeeper,
        changed: Callable[[PortalKey], None],
        under_way: UnderWay,
        spawn: Spawn,
    ) -> None:
        self.cleared: set[PortalKey] = set()
        self.media: set[PortalKey] = set()  # links whose files may be passed on
        self.wishes = Wishes(store)
        self._client = client.patient
        self._registry = registry
        self._bot = bot
        self._label = label
        self._policy = policy
        self._consents = consents
        self._ceiling = ceiling
        self._doorkeeper = doorkeeper
        self._changed = changed
        self._under_way = under_way
        self._spawn = spawn
        self._stops: dict[PortalKey, int] = {}  # how often a link was stopped, for comparisons under way
        self._unclaimed: dict[ChatId, list[str]] = {}  # what was put back, and nobody was told of yet
        self._weighing: dict[ChatId, bool] = {}  # True: look once more when done
        self._surveying = Surveying()
        self._locks: dict[ChatId, asyncio.Lock] = {}
        self._raised: dict[
            ChatId, PersonId
        ] = {}  # who changed a room's settings since they were last compared
        self._bounds: dict[ChatId, Bound] = {}  # how open a room was allowed to be when it was compared last
        self._taking_back = TakingBack(self._client, store, network_of=network_of)
        self.visibilities = Visibilities(
            registry,
            lowered=self._stop,
            changed=self._weigh_of,
            flickered=lambda side, times: spawn(self._tell_flickered(side, times)),
        )
        self._calmed: dict[PortalKey, asyncio.Event] = {}
        self._starting = True  # the start was a moment ago
        self._stirred: set[ChatId] = set()  # rooms that were seen being opened since
        self._told_kept: set[ChatId] = set()  # rooms that know that they stay as they were until all is heard
        self._told: dict[PortalKey, Visibility] = {}  # what both sides know of who may read a chat
        self._pauses: dict[PortalKey, tuple[ChatId, str]] = {}  # what was told: in which room, and why

    def may_be_linked(self, side: PortalKey) -> bool:
        """Whether nobody of the chat has to be asked before it is linked."""
        return Scope.BRIDGE in in_force(self._policy(side.network), self._consents(side), now())

    def forget(self, side: PortalKey) -> None:
        """The bridge is not in the chat any more."""
        self.visibilities.forget(side)
        self._pauses.pop(side, None)
        self._told.pop(side, None)
        self._stop(side)

    def doubt(self, side: PortalKey) -> None:
        """Nothing passes from the link until its room was compared again."""
        self._stop(side)

    def _awaiting(self, side: PortalKey) -> asyncio.Event:
        return self._calmed.setdefault(side, asyncio.Event())

    async def passes(self, side: PortalKey) -> None:
        """Return when the link's words may go into its room. Raises WouldExpose, with why, where that takes long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while side not in self.cleared:
                    link = self._registry.links.get(side)
                    if link is None or link.state == WAITING or side in self._pauses:
                        break
                    moved = self._awaiting(side)
                    moved.clear()
                    await moved.wait()
        if side not in self.cleared:
            link = self._registry.links.get(side)
            raise WouldExpose((link.reason if link is not None else "") or wording.UNSETTLED)

    # What the room's people do --------------------------------------------------------------------------------

    def glimpsed(self, room: ChatId, type: str, content: Mapping[str, Any]) -> None:
        """Somebody's piece of state has come in, and is not even on disk: what opens the room too far stops all words
        this moment."""
        if type not in WATCHED:
            return
        links = self._registry.links_of(room)
        if links and exceeds(type, content, self._bounds.get(room, SECRET)):
            log.warning("room_opened_too_far", setting=type)
            self._stirred.add(room)
            for link in links:
                self._stop(link.key)
            self.weigh(room)

    def room_changed(self, room: ChatId, type: str, by: PersonId) -> None:
        """Somebody set a piece of the room's state."""
        if type in WATCHED and self._registry.links_of(room):
            self._raised[room] = by
            self.weigh(room)

    async def replaces(self, old: ChatId, new: ChatId) -> None:
        """A room is about to be replaced: what its people wanted is what they want there, until they change it."""
        if await self.wishes.inherit(old, new):
            self._raised[new] = PersonId(wording.SOMEBODY)  # no event tells how the new room began

    # Weighing -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Compare every room anew; each link is cleared when its network has said who may read the chat."""
        self._weigh_all()
        self._spawn(self._end_grace())

    def _weigh_all(self) -> None:
        for room in {link.room for link in self._registry.links.values()}:
            self._in_turn(room)

    async def _end_grace(self) -> None:
        await asyncio.sleep(GRACE)
        self._starting = False
        self._weigh_all()

    async def watch_directory(self) -> None:
        """Look in turn whether each room stands in the public directory as it was left there, until cancelled: the
        first time as soon as may be, since nothing has told what was done while the bridge was down."""
        least = 0.0
        while True:
            rooms = list({link.room for link in self._registry.links.values()})
            for room in rooms:
                await asyncio.sleep(max(least / len(rooms), 1 / LOOKS_A_SECOND))
                await self._look_in_directory(room)
            least = LOOK_AGAIN
            if not rooms:
                await asyncio.sleep(LOOK_AGAIN)

    async def _look_in_directory(self, room: ChatId) -> None:
        await self.wishes.load(room)
        left = self.wishes.left(room)
        if left is None:
            return  # it has yet to be compared
        try:
            listed = await self._client.directory_visibility(room)
        except BridgeError as error:
            log.info("directory_not_read", reason=error.notice)
            return
        bound = self._bounds.get(room, SECRET)
        if listed and not left.listed:
            # The whole world reads its name: that does not wait until its chats are heard.
            self._stirred.add(room)
        if listed != left.listed or left.join is bound.join is JoinRule.RESTRICTED:
            self.weigh(room)  # no event tells either that a room which it names lets everybody in now

    def shut(self, side: PortalKey) -> None:
        """The chat's consent is gone: nothing passes from this moment on."""
        link = self._registry.links.get(side)
        if link is not None:
            reason = why_closed(link.name, self._label(side.network), self._consents(side))
            self._registry.set_state(side, WAITING, reason, now())
        self._stop(side)

    def recheck(self, ceilings: Mapping[PortalKey, Bound]) -> None:
        """The config was read anew: rooms of links that had another ceiling until now are compared with it."""
        for link in self._registry.links.values():
            if link.key in ceilings and self._ceiling(link) != ceilings[link.key]:
                self.doubt(link.key)
                self.weigh(link.room)

    def ceilings(self) -> dict[PortalKey, Bound]:
        """How open the config lets the room of each link be."""
        return {key: self._ceiling(link) for key, link in self._registry.links.items()}

    def weigh(self, room: ChatId) -> None:
        """Compare a room with what its chats allow, soon; many calls in a moment are one."""
        self._in_turn(room)
        self.hurry(room)

    def hurry(self, room: ChatId) -> None:
        """Somebody waits for a room that is to be compared: it goes before those for which nobody does."""
        if room in self._weighing:
            self._surveying.hurry(room)

    def _in_turn(self, room: ChatId) -> None:
        if room in self._weighing:
            self._weighing[room] = True
            return
        self._weighing[room] = False
        self._spawn(self._weigh_until_done(room))

    def _weigh_of(self, side: PortalKey) -> None:
        link = self._registry.links.get(side)
        if link is not None:
            self._in_turn(link.room)

    async def _weigh_until_done(self, room: ChatId) -> None:
        told = ""
        try:
            while True:
                self._weighing[room] = False
                try:
                    async with self._surveying.turn(room):
                        await self.weighed(room)
                except BridgeError as error:
                    if error.notice != told:  # and not every five seconds for a room that is gone
                        told = error.notice
                        log.warning("room_not_compared", room=room, reason=told)
                    self._clear_none(room)
                    await asyncio.sleep(TRY_AGAIN)
                    if self._registry.links_of(room):
                        continue
                except Exception:  # a bug: what was cleared before proves nothing of the room as it is now
                    self._clear_none(room)
                    raise
                if not self._weighing[room]:
                    return
        finally:
            del self._weighing[room]

    async def weighed(self, room: ChatId) -> None:
        """Compare a room with what its chats allow, and return when it is as it should be. Raises MatrixError."""
        async with self._locks.setdefault(room, asyncio.Lock()):
            await self._weigh(room)

    async def _weigh(self, room: ChatId) -> None:
        links = self._registry.links_of(room)
        if not links:
            await self.wishes.forget(room)
        portal = self._registry.portals.get(room)
        if portal is None:
            return
        heard = [link for link in links if link.key.receiver is not None or link.key in self.visibilities]
        unheard = [link for link in links if link not in heard and self.may_be_linked(link.key)]
        keeps = bool(unheard) and (not self._starting or room in self._stirred)
        if not heard and not keeps:
            return  # nothing passes yet, and the room is left as it is
        by: str | None = self._raised.pop(room, None)  # before the look: it sees what they did
        stops = {link.key: self._stops.get(link.key, 0) for link in links}
        seen, power = await look(self._client, room, self._bot)
        views = [self._view(link) for link in heard]
        wish = await self.wishes.of(room, seen, views, made=portal.made)
        decided = allowed(wish, views, now(), made=portal.made and bool(heard))
        left = self.wishes.left(room)
        within = limits(decided.standing) if decided.standing else OPEN
        early = False  # it is more open than it was left, and only those who are unheard could forbid that
        if keeps and left is not None:
            through = self.wishes.left_through(room)
            early = not left.allows(seen.shown) or seen.exposed.join > through
            early = early and within.allows(seen.exposed)
            self.wishes.ask(room, seen)
            decided = until_heard(decided, left, through)
        if left is not None and seen.history > max(left.history, decided.bound.history, Exposure.JOINED):
            self._clear_none(room)
            await self._taking_back.mark(room, left.history)
        for link in heard:
            if not may_open(seen, decided, link.key):
                self._clear(link.key, False)  # before anything is said or put back
        self._bounds[room] = within.meet(left) if unheard and left is not None else within
        shown = seen.exposed if self._bounds[room].join is JoinRule.RESTRICTED else seen.shown
        raised = left is not None and not left.allows(shown)
        unlisted = left is not None and seen.listed and not left.listed
        undone: list[str] = []
        refused: set[str] = set()
        while True:
            plan = corrections(seen, decided, power, refused=frozenset(refused))
            changes: list[Change] = [c for c in plan if not isinstance(c, Pause)]
            if not changes:
                break
            undone += [_in_words(change) for change in changes if await self._set(room, change, refused)]
            seen, power = await look(self._client, room, self._bot)
        pauses = {p.link: p for p in plan if isinstance(p, Pause)}
        if len(heard) == len(links):  # the others may be more secret
            stale = any(self._is_stale(key, stops) for key in stops)  # and so may one that was stopped
            wider = () if stale else openings(seen, decided, power, refused=frozenset(refused))
            for change in wider:
                await self._set(room, change, refused)
            if wider:
                seen, power = await look(self._client, room, self._bot)
            self.wishes.leave(room, wish, seen)
            self._told_kept.discard(room)
            await self._take_back(room, decided)
        elif early:
            await self._tell_kept(room, unheard, undone)
        if unlisted and by is None:
            by = wording.SOMEBODY  # nothing tells who it was
        await self._tell(room, decided, undone if raised and not early else [], by)
        await self._judge(heard, seen, decided, pauses, stops)

    def _is_stale(self, side: PortalKey, stops: Mapping[PortalKey, int]) -> bool:
        """Whether a link was stopped since a comparison began: what it found does not open the link again."""
        return self._stops.get(side, 0) != stops[side]

    def _view(self, link: Link) -> LinkView:
        return LinkView(
            key=link.key,
            name=link.name,
            label=self._label(link.key.network),
            visibility=self.visibilities.of(link.key) or Visibility(),
            policy=self._policy(link.key.network),
            consents=self._consents(link.key),
            ceiling=self._ceiling(link),
        )

    async def _take_back(self, room: ChatId, decided: Allowed) -> None:
        if await self._taking_back.is_marked(room):
            await self._under_way.over(room, PATIENCE)  # what had set out before the link was stopped
        if count := await self._taking_back.look(room, decided):
            await self._doorkeeper.say(room, f"⚠ {wording.taken_back(count)}")

    async def _set(self, room: ChatId, change: Change, refused: set[str]) -> bool:
        """Make one change; False where the homeserver does not let the bot."""
        setting = _type(change) or "directory"
        try:
            if isinstance(change, SetState):
                await self._client.put_state(room, change.type, change.content)
            else:
                await self._client.set_directory_visibility(room, change.public)
        except MatrixRefused as error:
            log.info("exposure_refused", room=room, setting=setting, reason=error.notice)
            refused.add(_type(change))
            return False
        log.info("exposure_set", room=room, setting=setting, value=_in_words(change))
        return True

    async def _judge(
        self,
        links: list[Link],
        seen: Room,
        decided: Allowed,
        pauses: Mapping[PortalKey, Pause],
        stops: Mapping[PortalKey, int],
    ) -> None:
        """Say of each link whether its words may go into the room as it is."""
        closed = {c.link: c.reason for c in decided.closed}
        self.media -= {link.key for link in links}
        self.media |= {s.link.key for s in decided.standing if s.bound.media}
        for link in links:
            key = link.key
            if key not in self._registry.links or self._registry.links[key].room != link.room:
                continue  # it is gone, or in another room by now
            if self._is_stale(key, stops):
                self.weigh(link.room)
                continue
            state = self._registry.links[key].state
            if key in closed:
                self._registry.set_state(key, WAITING, closed[key], now())
                self._clear(key, False)
                await self._doorkeeper.placed(link, decided)
            elif key in pauses or not may_open(seen, decided, key):
                pause = pauses.get(key)
                reason = pause.reason if pause is not None else wording.UNSETTLED
                if state != CLOSED:
                    self._registry.set_state(key, PAUSED, reason, now())
                self._clear(key, False)
                if pause is None:
                    self.weigh(link.room)
                else:
                    self._changed(key)  # it has a reason now
                    await self._tell_pause(link, pause)
            else:
                if state != CLOSED:
                    self._registry.set_state(key, LINK_OPEN, "", now())
                await self._doorkeeper.placed(link, decided)
                if self._is_stale(key, stops):
                    self.weigh(link.room)
                    continue
                self._clear(key, True)
                if self._pauses.pop(key, None) is not None:
                    words = wording.passes_again(link.name, self._label(key.network))
                    await self._doorkeeper.say(link.room, words)
                    await self._doorkeeper.announce(key, words)

    def _stop(self, side: PortalKey) -> None:
        """Nothing passes from this moment on, and no comparison that has begun opens the link again."""
        self._stops[side] = self._stops.get(side, 0) + 1
        self._clear(side, False)

    def _clear_none(self, room: ChatId) -> None:
        for link in self._registry.links_of(room):
            self._clear(link.key, False)

    def _clear(self, side: PortalKey, yes: bool) -> None:
        if yes != (side in self.cleared):
            (self.cleared.add if yes else self.cleared.discard)(side)
            self._changed(side)
        if (waiting := self._calmed.pop(side, None)) is not None:
            waiting.set()

    # What people are told -------------------------------------------------------------------------------------

    async def _tell_pause(self, link: Link, pause: Pause) -> None:
        told, self._pauses[link.key] = self._pauses.get(link.key), (link.room, pause.reason)
        if told == (link.room, pause.reason):
            return
        log.warning("link_paused", network=link.key.network)
        await self._doorkeeper.say(link.room, f"⚠ {pause.reason} {pause.mend}")
        if told is None or told[1] != pause.reason:  # the chat need not know that its room was replaced
            await self._doorkeeper.announce(link.key, pause.reason)

    async def _tell_flickered(self, side: PortalKey, times: int) -> None:
        """Tell both sides why the room was more secret than the chat's last word."""
        link = self._registry.links.get(side)
        if link is not None:
            words = wording.flickered(link.name, self._label(side.network), times)
            await self._doorkeeper.say(link.room, f"⚠ {words}")
            await self._doorkeeper.announce(side, words)

    async def _tell_kept(self, room: ChatId, unheard: list[Link], undone: list[str]) -> None:
        if room in self._told_kept:
            return
        self._told_kept.add(room)
        chats = [link.name for link in unheard]
        labels = sorted({self._label(link.key.network) for link in unheard})
        await self._doorkeeper.say(room, f"⚠ {wording.kept_until_heard(chats, labels, undone)}")

    async def _tell(self, room: ChatId, decided: Allowed, undone: list[str], by: str | None) -> None:
        """Tell what was put back, and both sides where a chat's own change made the difference."""
        told = False
        for standing in decided.standing:
            link = standing.link
            shown = msgspec.structs.replace(link.visibility, detail="", moderated=False)
            before, self._told[link.key] = self._told.get(link.key), shown
            if before is None or before == shown:
                continue
            told = True
            history = max(decided.bound.history, Exposure.JOINED)
            words = wording.became(link.name, link.label, history, link.visibility.detail)
            await self._doorkeeper.say(room, words)
            await self._doorkeeper.announce(link.key, words)
        # Sometimes it is put back before the news of who did it is here.
        undone = list(dict.fromkeys([*self._unclaimed.pop(room, ()), *undone]))
        if undone and by is not None:
            await self._doorkeeper.say(room, wording.undone(", ".join(undone), by))
        elif undone and not told:
            self._unclaimed[room] = undone


def _type(change: Change) -> str:
    return change.type if isinstance(change, SetState) else DIRECTORY


def _in_words(change: Change) -> str:
    if isinstance(change, SetState):
        value = next((v for v in change.content.values() if isinstance(v, str)), "none")
        return f"{change.type.removeprefix('m.room.')} is {value}"
    return "it is in the public room directory" if change.public else "it is not in the public room directory"
