"""One message stanza, read once: what it says, what it refers to, and by which names it may be called."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element

import msgspec

from bridgekit.contract.people import Kind
from bridgekit.contract.text import Span, Style, Text
from connectors.xmpp.stanzas import bits, styling, wire, xhtml
from connectors.xmpp.stanzas import files as sharing
from connectors.xmpp.stanzas.files import Shared
from connectors.xmpp.stanzas.jids import bare, normal, resource
from connectors.xmpp.stanzas.wire import children, core, find, words

ENCRYPTED = (
    "An encrypted message (OMEMO) that the bridge cannot read was sent here: "
    "ask its sender to send it without encryption."
)
EXPOSED = "(not encrypted) "
"""Stands before what somebody says in clear in a chat that is encrypted."""
UNREAD = "A message was said here that the bridge cannot read."
LONGEST = 300_000
"""Characters of a body that are read; an ellipsis stands for the rest."""
LONGEST_SUBJECT = 5000
"""The same of a subject: a room's state on Matrix is small."""
LONGEST_HINT = 200
"""The same of why something is hidden."""
MOST_REACTIONS = 50
_STATES = frozenset({"active", "composing", "paused", "inactive", "gone"})


class Moderation(msgspec.Struct, frozen=True):
    """XEP-0425: the room says that `by` (an occupant's address) took a message back."""

    by: str
    reason: str


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a message. Addresses and ids are as the stanza has them; `stanza_ids` are by who gave them."""

    type: str
    sender: str
    to: str
    id: str = ""
    origin_id: str = ""
    stanza_ids: dict[str, str] = {}
    occupant: str = ""
    real: str = ""
    text: Text | None = None
    kind: Kind = Kind.TEXT
    files: tuple[Shared, ...] = ()
    spoiler: str | None = None  # the hint, where it is to be shown on request only (XEP-0382)
    subject: str | None = None
    replaces: str = ""
    reacts_to: str = ""
    reactions: tuple[str, ...] = ()
    answers: str = ""
    retracts: str = ""
    moderated: Moderation | None = None
    received: str = ""
    wants_receipt: bool = False
    displayed: str = ""
    state: str = ""
    stamp: int = 0  # when it was said (ms), where that is to be believed; 0 is now
    delays: dict[str, int] = {}  # who says that they held it back, by bare address, and since when (ms)
    encrypted: bool = False
    closed_why: str = ""  # why what is encrypted could not be opened
    invites_to: str = ""
    invited_by: str = ""
    codes: frozenset[int] = frozenset()
    in_clear: bool = False  # in a chat that is encrypted
    broken: str = ""  # what reading it broke in here, and where: for the log

    @property
    def nick(self) -> str:
        """Who spoke, in a room."""
        return resource(self.sender)

    @property
    def room(self) -> str:
        """Where it came from."""
        return bare(self.sender)


def read(stanza: Element, *, stamp: int = 0, sealed: bool = False, why: str = "") -> Heard:
    """All that a message may hold; `stamp` is the archive's time. Raises nothing, whatever it holds.

    `sealed`: it was encrypted, and has been opened; `why` it could not be.
    """
    try:
        return _read(stanza, stamp=stamp, sealed=sealed, why=why)
    except (
        Exception
    ) as error:  # strangers will find what nobody thought of, and an archive would tell it again
        return unread(stanza, stamp=stamp, broken=place(error))


def unread(stanza: Element, *, stamp: int = 0, broken: str) -> Heard:
    """What is left of a message that cannot be read: where it came from, and that something was said."""
    said = core(stanza, "body") is not None or _is_encrypted(stanza)
    return Heard(
        type=stanza.get("type", "normal"),
        sender=stanza.get("from", ""),
        to=stanza.get("to", ""),
        id=stanza.get("id", ""),
        stanza_ids=_stanza_ids(stanza),
        occupant=_attribute(find(stanza, wire.OCCUPANT, "occupant-id"), "id"),
        text=Text(UNREAD) if said else None,
        kind=Kind.NOTICE if said else Kind.TEXT,
        stamp=stamp,
        broken=broken,
    )


def _hint(spoiler: Element | None) -> str | None:
    return " ".join(words(spoiler).split())[:LONGEST_HINT] if spoiler is not None else None


def _read(stanza: Element, *, stamp: int, sealed: bool, why: str) -> Heard:
    body = core(stanza, "body")
    subject = core(stanza, "subject")
    muc = find(stanza, wire.MUC_USER, "x")
    encrypted = _is_encrypted(stanza)
    text, kind = (
        _said(stanza, _bounded(words(body))) if body is not None and not encrypted else (None, Kind.TEXT)
    )
    reactions = find(stanza, wire.REACTIONS, "reactions")
    retracts, moderated = _retracted(stanza)
    files: tuple[Shared, ...] = ()
    if not encrypted:
        files = (sharing.read_sealed(words(body)) if sealed else ()) or sharing.read(stanza)
    if text is not None and retracts:
        text = None  # a fallback for those who do not know retractions
    if text is not None and reactions is not None:
        text = None  # likewise
    if not files and not encrypted and (picture := bits.shown(stanza)) is not None:
        files, text = (Shared(picture),), Text("")  # its body is what clients show that know no pictures
    if text is not None and files and _only_shares(stanza, words(body), files):
        text = Text("")
    if subject is not None and text is None and core(stanza, "thread") is not None:
        subject = None  # XEP-0045, 8.1: only a message with a subject and neither body nor thread changes it
    invites_to, invited_by = _invited(stanza, muc)
    return Heard(
        type=stanza.get("type", "normal"),
        sender=stanza.get("from", ""),
        to=stanza.get("to", ""),
        id=stanza.get("id", ""),
        origin_id=_attribute(find(stanza, wire.SID, "origin-id"), "id"),
        stanza_ids=_stanza_ids(stanza),
        occupant=_attribute(find(stanza, wire.OCCUPANT, "occupant-id"), "id"),
        real=_real(stanza),
        text=text,
        kind=kind,
        files=files,
        spoiler=_hint(find(stanza, wire.SPOILER, "spoiler")),
        subject=_bounded(words(subject), LONGEST_SUBJECT) if subject is not None and body is None else None,
        replaces=_attribute(find(stanza, wire.CORRECT, "replace"), "id"),
        reacts_to=_attribute(reactions, "id"),
        reactions=_reactions(reactions),
        answers=_attribute(find(stanza, wire.REPLY, "reply"), "id"),
        retracts=retracts,
        moderated=moderated,
        received=_attribute(find(stanza, wire.RECEIPTS, "received"), "id"),
        wants_receipt=find(stanza, wire.RECEIPTS, "request") is not None,
        displayed=_attribute(find(stanza, wire.MARKERS, "displayed"), "id"),
        state=_state(stanza),
        stamp=stamp,
        delays=_delays(stanza),
        encrypted=encrypted,
        closed_why=why if encrypted else "",
        invites_to=invites_to,
        invited_by=invited_by,
        codes=codes(muc),
    )


def _delays(stanza: Element) -> dict[str, int]:
    """XEP-0203. Anybody may write one into a message; who holds it back adds theirs behind those."""
    found = {}
    for delay in children(stanza, wire.DELAY, "delay"):
        if at := wire.moment(delay.get("stamp", "")):
            found[bare(delay.get("from", ""))] = at
    return found


def _real(stanza: Element) -> str:
    """The sender's address, where an archive shows it (XEP-0313, 5.1.2): it adds its own behind what was there."""
    items = (find(muc, wire.MUC_USER, "item") for muc in children(stanza, wire.MUC_USER, "x"))
    return next((bare(_attribute(item, "jid")) for item in reversed(list(items)) if item is not None), "")


def dated(heard: Heard, by: Iterable[str], now: int) -> Heard:
    """The same message with the time that one of `by` gives it (ms), which is not in the future."""
    at = next((heard.delays[one] for one in by if one in heard.delays), 0)
    return msgspec.structs.replace(heard, stamp=clamped(at, now)) if at else heard


def clamped(at: int, now: int) -> int:
    """A time that somebody else gives (ms): not before the epoch, and not in the future."""
    return max(1, min(at, now))


def place(error: Exception) -> str:
    """The kind of an exception and the line that raised it: its own words may quote a body."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if at is None:
        return type(error).__name__
    return f"{type(error).__name__} at {at.tb_frame.f_code.co_filename.rpartition('/')[2]}:{at.tb_lineno}"


def _stanza_ids(stanza: Element) -> dict[str, str]:
    found = children(stanza, wire.SID, "stanza-id")
    return {one.get("by", ""): one.get("id", "") for one in found if one.get("id")}


def _bounded(body: str, most: int = LONGEST) -> str:
    return body if len(body) <= most else body[:most] + " …"


def _only_shares(stanza: Element, body: str, files: tuple[Shared, ...]) -> bool:
    """Whether the body says nothing else: it is the URL (XEP-0066), or a fallback for it (XEP-0447, 3.1)."""
    if find(stanza, wire.SFS, "file-sharing") is not None:
        return True  # "The fallback body MUST NOT include any information that is not also represented"
    return files[0].file.key is not None or body.strip() == files[0].file.uri


def codes(muc: Element | None) -> frozenset[int]:
    """The status codes of a MUC user element (XEP-0045, 15.6)."""
    found = (one.get("code", "") for one in children(muc, wire.MUC_USER, "status"))
    return frozenset(int(code) for code in found if code.isascii() and code.isdigit() and len(code) < 4)


def _attribute(element: Element | None, name: str) -> str:
    return element.get(name, "") if element is not None else ""


def _state(stanza: Element) -> str:
    return next(
        (
            name
            for child in stanza
            if wire.tag(child).startswith(f"{{{wire.STATES}}}") and (name := wire.local(child)) in _STATES
        ),
        "",
    )


def _reactions(element: Element | None) -> tuple[str, ...]:
    found = (words(one).strip() for one in children(element, wire.REACTIONS, "reaction"))
    return tuple(dict.fromkeys(one[:64] for one in found if one))[:MOST_REACTIONS]


def _is_encrypted(stanza: Element) -> bool:
    """XEP-0384 in any of its namespaces, or whatever XEP-0380 says: the body is then only a fallback."""
    if any(find(stanza, xmlns, "encrypted") is not None for xmlns in wire.OMEMO):
        return True
    return find(stanza, wire.EME, "encryption") is not None


def _retracted(stanza: Element) -> tuple[str, Moderation | None]:
    """XEP-0424 and XEP-0425, as they are and as they were."""
    retract = find(stanza, wire.RETRACT, "retract")
    if retract is not None:
        moderated = find(retract, wire.MODERATE, "moderated")
        by = Moderation(moderated.get("by", ""), _reason(retract)) if moderated is not None else None
        return retract.get("id", ""), by
    fastened = find(stanza, wire.FASTEN, "apply-to")
    if fastened is not None:
        moderated = find(fastened, wire.MODERATE_0, "moderated")
        if moderated is not None and find(moderated, wire.RETRACT_0, "retract") is not None:
            return fastened.get("id", ""), Moderation(moderated.get("by", ""), _reason(moderated))
        if find(fastened, wire.RETRACT_0, "retract") is not None:
            return fastened.get("id", ""), None
    return "", None


def _reason(element: Element) -> str:
    return next(
        (words(child) for child in element if wire.local(child) == "reason"),
        "",
    )


def _invited(stanza: Element, muc: Element | None) -> tuple[str, str]:
    """The room and who asks, of a mediated invitation (XEP-0045, 7.8.2) or a direct one (XEP-0249)."""
    invite = find(muc, wire.MUC_USER, "invite")
    if invite is not None:
        room = bare(stanza.get("from", ""))
        return room, normal(bare(invite.get("from", ""))) or room
    direct = find(stanza, wire.CONFERENCE, "x")
    if direct is not None and (named := normal(bare(direct.get("jid", "")))) and "@" in named:
        return named, bare(stanza.get("from", ""))
    return "", ""


def _said(stanza: Element, body: str) -> tuple[Text, Kind]:
    """The words without what stands there for clients that know no replies (XEP-0428), and how they are meant."""
    ranges = _fallbacks(stanza, wire.REPLY, len(body))
    if ranges:
        kept, last = [], 0
        for start, end in sorted(ranges):
            kept.append(body[last : max(last, start)])
            last = max(last, end)
        left = "".join(kept) + body[last:]
        # Where all of it is a fallback (XEP-0428) and nothing else was said, it is better than nothing.
        body = left if left.strip() or sharing.read(stanza) else body
    body = body.replace("\r\n", "\n").replace("\r", "\n")
    if body.startswith("/me "):
        return styling.read(body[4:]), Kind.EMOTE  # XEP-0245
    if not ranges and (formatted := xhtml.read(stanza)) is not None:
        return formatted, Kind.TEXT
    if find(stanza, "urn:xmpp:styling:0", "unstyled") is not None:
        return Text(body), Kind.TEXT
    return styling.read(body), Kind.TEXT


def _fallbacks(stanza: Element, purpose: str, length: int) -> list[tuple[int, int]]:
    found = []
    for fallback in children(stanza, wire.FALLBACK, "fallback"):
        if fallback.get("for") != purpose:
            continue
        for part in children(fallback, wire.FALLBACK, "body"):
            start, end = part.get("start", "0"), part.get("end", str(length))
            if all(n.isascii() and n.isdigit() and len(n) < 9 for n in (start, end)) and int(start) <= int(
                end
            ):
                found.append((min(int(start), length), min(int(end), length)))
    return found


def notice(heard: Heard) -> Heard:
    """The same message saying only that it cannot be read (XEP-0384: never its fallback body)."""
    said = heard.closed_why or ENCRYPTED
    span = Span(0, len(said), Style.ITALIC)
    return msgspec.structs.replace(heard, text=Text(said, (span,)), kind=Kind.NOTICE, files=())


def exposed(heard: Heard) -> Heard:
    """The same message as it is shown in a chat that is encrypted, where it was not."""
    if heard.encrypted or heard.broken:
        return heard
    return msgspec.structs.replace(heard, in_clear=True)
