"""The bytes of pictures that messages only name (XEP-0231): as they came along, or asked for at whoever said it."""

from __future__ import annotations

from collections import OrderedDict
from xml.etree.ElementTree import Element

from bridgekit.contract.errors import PeerMisbehaved, SendRejected
from bridgekit.contract.people import File
from connectors.xmpp.stanzas import bits, compose, wire
from connectors.xmpp.stanzas.wire import children, find, make
from connectors.xmpp.stream import Refused, Stream, new_id

MOST_KEPT = 100
"""Pictures that came with their message; each is there until it has been brought to Matrix, or so many came after."""


class Stickers:
    """Those of one network."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def took(self, message: Element) -> None:
        """Keep what a message brings along (XEP-0231, 2.2)."""
        for data in children(message, wire.BOB, "data")[:10]:
            cid = data.get("cid", "")
            try:
                self._kept[cid] = bits.decoded(cid, data)
            except PeerMisbehaved:
                continue
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)

    async def bytes_of(self, file: File, stream: Stream | None) -> bytes:
        """Raises SendRejected, PeerMisbehaved, Disconnected."""
        cid, sender, reader = bits.asked(file)
        if (kept := self._kept.get(cid)) is not None:
            return kept
        if stream is None or not sender:
            raise SendRejected("The picture cannot be had: the bridge is not connected to XMPP now.")
        question = compose.ask(sender, reader, new_id(), make("data", wire.BOB, cid=cid))
        try:
            answer = await stream.ask(question)
        except Refused:
            raise SendRejected("The picture cannot be had: its sender does not give it.") from None
        except TimeoutError:
            raise SendRejected("The picture cannot be had: its sender does not answer.") from None
        return bits.decoded(cid, find(answer, wire.BOB, "data"))
