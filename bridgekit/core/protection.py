"""The lattice of protection: who can read the words on their way, as the meet over a room's Matrix side and its links.

The Matrix side is BRIDGE where the room is encrypted (Megolm, opened at the bridge) and TRANSPORT where it is not:
homeservers read it, and TLS keeps it from everybody else. What a link gives, its session says of each chat; of a chat
that no session has spoken of it is CLEAR.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from bridgekit.contract.ids import ChatId, PersonId, PortalKey
from bridgekit.contract.policy import Protection
from bridgekit.core.model import Downgrade, SideView, Toward, matrix_side
from bridgekit.core.wording import ERASED

SEALED = Protection.BRIDGE
"""From here on nobody between the people and the bridge can read along."""
STATE_TYPE = "org.bridgekit.protection"
"""The room state that holds `Label.content`: docs/protection.md."""
FILES_QUESTION = (
    "Files and long messages of this room, encrypted up to the bridge, may be put under addresses of the bridge, for "
    "the chats that get this room's words and cannot take them otherwise: everybody who has such an address can open "
    "it, until it ends."
)
"""What somebody agrees to with `!bridge agree files`; kept word for word."""


class AgreementScope(StrEnum):
    """What an agreement is about."""

    WORDS = "words"  # what is said goes to a link, or comes from it
    FILES = "files"  # files and long messages are put under addresses of the bridge; `side` is the room's own


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """That a room's admin knows and wants that what is sealed on one side goes to one that is not.

    `wording` is the very text that was agreed to, and `to` what that comes down to: it covers no more. `at` and `ended`
    are milliseconds since the epoch (0: it holds).
    """

    id: int
    room: str
    side: PortalKey
    person: PersonId
    at: int
    wording: str
    to: Downgrade
    ended: int = 0
    ended_by: str = ""
    scope: AgreementScope = AgreementScope.WORDS


def without_agreed(agreement: Agreement, person: PersonId) -> Agreement:
    """The agreement without a Matrix user who is erased: that the room has agreed, when and to what, stays."""
    return msgspec.structs.replace(
        agreement,
        person=PersonId("") if agreement.person == person else agreement.person,
        ended_by=ERASED if agreement.ended_by == person else agreement.ended_by,
    )


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One link as the label sees it. `agreed`: a room's admin has agreed to what is lost on it."""

    key: PortalKey
    name: str
    label: str  # what people call the network
    protection: Protection = Protection.CLEAR
    agreed: bool = False


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a room now. `files`: files and long messages of the encrypted room are put under addresses."""

    matrix: Protection
    parts: tuple[Part, ...]
    files: bool = False

    @property
    def protection(self) -> Protection:
        """The meet: what can be said of every word in the room."""
        readers = [part.protection for part in self.parts]
        return min([self.matrix, *readers, *([Protection.TRANSPORT] if self.files else [])])

    @property
    def content(self) -> dict[str, Any]:
        """The state event's content, in the order in which the links were made."""
        return {
            "protection": _word(self.protection),
            "matrix": _word(self.matrix),
            "links": [
                {
                    "network": part.key.network,
                    "chat": part.key.chat,
                    "protection": _word(part.protection),
                    **({"agreed": part.agreed} if needs_agreement(self.matrix, part.protection) else {}),
                }
                for part in self.parts
            ],
            **({"files": "linked"} if self.files else {}),
        }

    @property
    def words(self) -> str:
        """The label in plain words, for people."""
        under_address = [_UNDER_ADDRESS] if self.files else []
        return " ".join([_MATRIX[self.matrix], *_links(self.parts), *under_address])


def matrix_protection(*, encrypted: bool) -> Protection:
    """What the Matrix side of a room gives."""
    return Protection.BRIDGE if encrypted else Protection.TRANSPORT


def given(sides: Sequence[SideView], origin: PortalKey) -> Protection:
    """What protects the words that are said on `origin`; what the Matrix side gives, where that is no side any more."""
    return speaking(sides, origin).protection


def speaking(sides: Sequence[SideView], origin: PortalKey) -> SideView:
    """The side where something is said; the Matrix side, where that is no side any more."""
    for side in sides:
        if side.key == origin:
            return side
    return sides[0]


def falls(origin: Protection, side: Protection) -> bool:
    """Whether what is sealed on its way to the bridge could be read on its way on."""
    return origin >= SEALED > side


def needs_agreement(matrix: Protection, link: Protection) -> bool:
    """Whether somebody has to agree before anything crosses: one of the two is sealed, and the other is not."""
    return falls(matrix, link) or falls(link, matrix)


def covered(matrix: Protection, agreed: Downgrade | None, weaker: Protection) -> bool:
    """Whether what was agreed to about a link allows what is lost between it and its room now.

    `weaker` is what the side gives that the words would go to.
    """
    toward = Toward.LINK if matrix >= SEALED else Toward.ROOM
    return agreed is not None and agreed.covers(toward, weaker)


def barred(matrix: SideView, origin: SideView, side: SideView) -> str:
    """Why nothing that is said on `origin` may go to `side`: a sentence; "" where it may.

    In an encrypted room the weaker link is agreed to; in another one the sealed link, whose words all others get.
    """
    if not falls(origin.protection, side.protection):
        return ""
    link = side if matrix.protection >= SEALED else origin
    if covered(matrix.protection, link.agreed, side.protection):
        return ""
    return reason(matrix.protection, link.key, link.name, link.label)


def may_not_reach(sides: Sequence[SideView], origin: PortalKey, said: Protection, side: SideView) -> str:
    """Why words that were said on `origin`, when it gave `said`, may not go to `side` now; "" where they may.

    What was sealed when it was said stays so. Of a chat that is no side any more the words are in the room.
    """
    source = next((view for view in sides if view.key == origin), None)
    if source is None:
        source = SideView(key=origin, label=origin.network, name=origin.chat, protection=sides[0].protection)
    if source.protection < said:
        source = msgspec.structs.replace(source, protection=said)
    return barred(sides[0], source, side)


def downgrade(matrix: Protection, link: Protection, others: Iterable[Protection]) -> Downgrade:
    """What `question` asks for now, of a link in a room with `others`."""
    if matrix >= SEALED:
        return Downgrade(toward=Toward.LINK, least=link)
    return Downgrade(toward=Toward.ROOM, least=min((matrix, *others)))


def reason(matrix: Protection, key: PortalKey, name: str, label: str) -> str:
    """Why nothing crosses between a room and a link, and what to do about it."""
    what = f"This room is encrypted, and {label} is not"
    if matrix < SEALED:
        what = f"{name} on {label} is encrypted, and this room is not"
    return f"{what}: nothing crosses until a moderator here agrees to that with `!bridge agree {key.network} {name}`."


def question(matrix: Protection, part: Part) -> str:
    """What somebody agrees to; kept word for word. `downgrade` is the same for the bridge."""
    if matrix < SEALED:
        return (
            f"What is said in {part.name} on {part.label}, encrypted up to the bridge, may be shown in this room, "
            "which is not encrypted, and in all chats that the room is linked to, as they are protected now."
        )
    return (
        f"What is said in this room, encrypted up to the bridge, may be passed on to {part.name} on {part.label}: "
        f"{_SEES[part.protection].format(label=part.label)}."
    )


def files_agreement(id: int, room: ChatId, person: PersonId, at: int) -> Agreement:
    """That the room's files and long messages may be put under addresses, for all of its chats that get the words."""
    return Agreement(
        id=id,
        room=room,
        side=matrix_side(room),
        person=person,
        at=at,
        wording=FILES_QUESTION,
        to=Downgrade(toward=Toward.LINK, least=Protection.CLEAR),
        scope=AgreementScope.FILES,
    )


def _links(parts: Sequence[Part]) -> Iterable[str]:
    for protection in Protection:
        labels = dict.fromkeys(part.label for part in parts if part.protection is protection)
        if labels:
            names = list(labels)
            who = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
            yield _SEEN[protection].format(label=who, s="s" if len(names) == 1 else "")


def _word(protection: Protection) -> str:
    return protection.name.lower()


_MATRIX = {
    Protection.CLEAR: "Messages in this room are not encrypted.",
    Protection.TRANSPORT: "Messages in this room are not end-to-end encrypted.",
    Protection.BRIDGE: "Messages in this room are encrypted up to the bridge.",
    Protection.END_TO_END: "Messages in this room are end-to-end encrypted.",
}
_SEEN = {
    Protection.CLEAR: "{label} send{s} them in clear over the network.",
    Protection.TRANSPORT: "{label} protect{s} them on the wire only: the servers there read them.",
    Protection.BRIDGE: "{label} get{s} them encrypted from the bridge on.",
    Protection.END_TO_END: "{label} get{s} them as they are: the bridge cannot read them.",
}
_UNDER_ADDRESS = "Whoever has the address of a file or a long message can open it, until it ends."
_SEES = {
    Protection.CLEAR: "{label} sends it in clear over the network",
    Protection.TRANSPORT: "the servers of {label} can read it",
    Protection.BRIDGE: "it is encrypted from the bridge on",
    Protection.END_TO_END: "the bridge cannot read it",
}
