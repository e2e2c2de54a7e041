"""How people and chats of a network are called in Matrix: ghosts' user ids, portals' aliases, display names."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

from bridgekit.contract.ids import ChatId, NetworkId, PersonId

MAX_BYTES = 255
"""Of a user id or an alias, with sigil and server (Appendices, "Common Identifier Format")."""
MAX_NAME = 100
"""Code points in a display name."""

_NETWORK = re.compile(r"[a-z][a-z0-9-]*")
_ESCAPED = re.compile(r"=([0-9a-f]{2})|_([a-z_])|[a-z0-9./-]")
_IN_USER_ID = re.compile(rb"[^a-z0-9./-]")
# An alias is typed by people, so "#chan" stays "#chan"; what a room alias or a reader cannot bear is escaped.
_IN_ALIAS = re.compile(r"[=:\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ALIAS_ESCAPED = re.compile(r"(?:=[0-9a-f]{2})+")
# "=-" is what no escape begins with: it marks a hash where the whole id has no room.
_MARK = "=-"
_HASH_LENGTH = 26
_LONGEST_NETWORK = 32

# Controls, line and paragraph separators, bidi overrides and isolates, and what takes no room: all of them let a
# name look like another. Joiners (U+200C, U+200D) stay: emoji and several scripts need them.
_UNSHOWN = re.compile(
    "[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202f\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff]+"
)


class Namespace:
    """The user ids and aliases that are the bridge's alone.

    `@<prefix><network>_<escaped person>:<server>`, escaped as the specification maps other character sets
    (Appendices, "Mapping from other character sets"): UTF-8; A-Z as `_a`, `_` as `__`, all but `a-z0-9.-/` as
    `=xx`. A network's name has no underscore, so two networks never meet. Both directions are exact inverses;
    only an id too long for Matrix ends in a hash instead and cannot be parsed: the store knows whose it is.
    """

    def __init__(self, prefix: str, server: str) -> None:
        """Raise ValueError where prefix and server leave no room for an id."""
        self.prefix = prefix
        self.server = server
        self._user = f"@{prefix}"
        self._alias = f"#{prefix}"
        self._end = f":{server}"
        self._mxids = lru_cache(maxsize=4096)(self._mxid)  # every message asks for its sender's
        room = MAX_BYTES - len(f"@{prefix}_:{server}".encode()) - _LONGEST_NETWORK
        if room < len(_MARK) + _HASH_LENGTH:
            raise ValueError(f"the prefix {prefix!r} and the server name leave no room for user ids")

    def mxid(self, network: NetworkId, person: PersonId) -> PersonId:
        """The ghost of `person`. Raises ValueError for what is no network's name and for an empty id."""
        return self._mxids(network, person)

    def _mxid(self, network: NetworkId, person: PersonId) -> PersonId:
        escaped = _IN_USER_ID.sub(_escape, person.encode("utf-8", "surrogatepass")).decode()
        return PersonId(self._fitted(self._user, network, person, escaped))

    def parse(self, mxid: str) -> tuple[NetworkId, PersonId] | None:
        """Whose ghost it is; None where it is not ours, is a hash, or is written as `mxid` never writes it."""
        found = self._parts(self._user, mxid)
        if found is None:
            return None
        network, escaped = found
        person = _unescaped(escaped)
        if person is None or self.mxid(network, PersonId(person)) != mxid:
            return None
        return network, PersonId(person)

    def is_ours(self, mxid: str) -> bool:
        """Whether the user id is the bridge's to use, parsable or not."""
        return mxid.startswith(self._user) and mxid.endswith(self._end)

    def alias(self, network: NetworkId, name: str) -> str:
        """The alias of the chat that people call `name`: `#_bk_libera_#chan:example.org`. Raises ValueError."""
        escaped = _IN_ALIAS.sub(_escape_in_alias, name)
        return self._fitted(self._alias, network, name, escaped)

    def parse_alias(self, alias: str) -> tuple[NetworkId, ChatId] | None:
        """Network and chat name of an alias of ours, None where it is none."""
        found = self._parts(self._alias, alias)
        if found is None:
            return None
        network, escaped = found
        try:
            name = _ALIAS_ESCAPED.sub(_unescape_in_alias, escaped)
        except UnicodeDecodeError:
            return None
        if not name or self.alias(network, name) != alias:
            return None
        return network, ChatId(name)

    def _parts(self, start: str, whole: str) -> tuple[NetworkId, str] | None:
        if not whole.startswith(start) or not whole.endswith(self._end):
            return None
        network, separator, escaped = whole[len(start) : -len(self._end)].partition("_")
        if not separator or not escaped or not _is_network(network):
            return None
        return NetworkId(network), escaped

    def _fitted(self, start: str, network: str, original: str, escaped: str) -> str:
        if not original:
            raise ValueError("an empty id has no place in Matrix")
        if not _is_network(network):
            raise ValueError(f"{network!r} is not a network's name")
        whole = f"{start}{network}_{escaped}{self._end}"
        if len(whole) * 4 <= MAX_BYTES or len(whole.encode()) <= MAX_BYTES:
            return whole
        digest = hashlib.sha256(original.encode("utf-8", "surrogatepass")).digest()
        mark = _MARK + base64.b32encode(digest[:16]).decode().rstrip("=").lower()
        room = MAX_BYTES - len(f"{start}{network}_{mark}{self._end}".encode())
        kept = escaped.encode()[:room].decode("utf-8", "ignore")
        # Not inside an escape: what is left of one would read as something else to a person.
        kept = re.sub(r"(?:=[0-9a-f]?|(?<!_)(?:__)*_)$", "", kept)
        return f"{start}{network}_{kept}{mark}{self._end}"


def display_name(template: str, *, name: str, network: str, id: str, limit: int = MAX_NAME) -> str:
    """What a ghost is called: `template` with `{name}`, `{network}` and `{id}`, fit to be shown.

    Control characters and everything that turns the direction of writing or takes no room is removed, spaces are
    single, and the name (never the rest of the template, which tells a ghost from a Matrix user) is cut between
    graphemes so that the whole has at most `limit` code points. An empty name is the id.
    """
    fixed = {"network": shown(network), "id": ""}
    words = shown(name) or shown(id) or "?"
    if "{id}" in template:
        fixed["id"] = clipped(shown(id), limit // 2)
    room = limit - len(template.format(name="", **fixed))
    return " ".join(template.format(name=clipped(words, max(1, room)), **fixed).split())[:limit]


def shown(name: str) -> str:
    """`name` without what cannot be seen, in single spaces."""
    return " ".join(_UNSHOWN.sub(_blank, name).split())


def _blank(match: re.Match[str]) -> str:
    return " " if any(c.isspace() for c in match[0]) else ""


def clipped(name: str, limit: int) -> str:
    """The first graphemes of `name` in at most `limit` code points, with an ellipsis where something was cut."""
    if len(name) <= limit:
        return name
    import regex  # 4 MB of memory that few names need

    end = 0
    for match in regex.finditer(r"\X", name):
        if match.end() > limit - 1:
            break
        end = match.end()
    return name[: end or limit - 1].rstrip() + "…"


def _is_network(name: str) -> bool:
    return len(name) <= _LONGEST_NETWORK and _NETWORK.fullmatch(name) is not None


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match[0]
    if byte == b"_":
        return b"__"
    return b"_" + byte.lower() if byte.isalpha() else b"=%02x" % byte[0]


def _unescaped(escaped: str) -> str | None:
    """The reverse of `_escape`; None where a character is left that it never writes."""
    out = bytearray()
    at = 0
    while at < len(escaped):
        match = _ESCAPED.match(escaped, at)
        if match is None:
            return None
        if match[1]:
            out.append(int(match[1], 16))
        elif match[2]:
            out += match[2].upper().encode()
        else:
            out += match[0].encode()
        at = match.end()
    try:
        return out.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _escape_in_alias(match: re.Match[str]) -> str:
    return "".join(f"={byte:02x}" for byte in match[0].encode("utf-8", "surrogatepass"))


def _unescape_in_alias(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("=", "")).decode("utf-8", "surrogatepass")
