"""Addresses: taken apart, escaped (XEP-0106), and nicks that a room accepts."""

from __future__ import annotations

import hashlib
import re
import stringprep
import unicodedata

_ESCAPES = {" ": "20", '"': "22", "&": "26", "'": "27", "/": "2f", ":": "3a", "<": "3c", ">": "3e", "@": "40"}
_CHARACTERS = {code: character for character, code in _ESCAPES.items()} | {"5c": "\\"}
_ESCAPED = re.compile(r"\\(20|22|26|27|2f|3a|3c|3e|40|5c)")
_TO_ESCAPE = re.compile(r"[ \"&'/:<>@]|\\(?=(?:20|22|26|27|2f|3a|3c|3e|40|5c))")
_BARE = re.compile(
    r"(?:([^\s\"&'/:<>@\x00-\x20\x7f-\xa0]{1,512})@)?([^\s\"&'/:<>@\\\x00-\x20\x7f-\xa0]{1,512})"
)
_PROHIBITED = (
    stringprep.in_table_c12, stringprep.in_table_c21, stringprep.in_table_c22, stringprep.in_table_c3,
    stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7,
    stringprep.in_table_c8, stringprep.in_table_c9,
)  # fmt: skip
LONGEST_NICK = 60
"""Code points: a resource holds 1023 bytes, a list of names less."""


def bare(jid: str) -> str:
    """The address without its resource."""
    return jid.partition("/")[0]


def resource(jid: str) -> str:
    """What stands behind the first slash: a device, or a nick in a room."""
    return jid.partition("/")[2]


def domain(jid: str) -> str:
    """The server's part."""
    return bare(jid).rpartition("@")[2]


def node(jid: str) -> str:
    """The part before the @, "" where there is none."""
    return bare(jid).rpartition("@")[0]


def normal(jid: str) -> str | None:
    """A bare JID in lower case, None where it cannot be one (RFC 7622 in what chat addresses need of it)."""
    folded = unicodedata.normalize("NFKC", jid.strip()).lower()
    found = _BARE.fullmatch(folded)
    if found is None or not folded.isprintable() or any(stringprep.in_table_c8(c) for c in folded):
        return None
    labels = found[2].split(".")
    return folded if all(0 < len(label.encode()) <= 63 for label in labels) else None


def escape(words: str) -> str:
    """XEP-0106, 4.2: what a node cannot hold becomes a backslash and two digits."""
    return _TO_ESCAPE.sub(lambda found: f"\\{_ESCAPES.get(found[0], '5c')}", words)


def unescape(words: str) -> str:
    """XEP-0106, 4.3."""
    return _ESCAPED.sub(lambda found: _CHARACTERS[found[1]], words)


def local_of(person: str, name: str) -> str:
    """The node under which a person of another side is known here.

    A Matrix id is escaped whole; letters of old ids that a node would fold are told apart by a hash, and so is what
    is too long or says of no server where it is from (then the network's label behind the name tells networks apart).
    """
    words = person
    if person.startswith("@") and ":" in person:
        words = person[1:]
    elif "/" in name:
        words = f"{person}%{name.rpartition('/')[2]}"
    folded = "".join(c for c in unicodedata.normalize("NFKC", words).lower() if c.isprintable())
    made = escape(folded.strip())
    if folded != words or not made or len(made.encode()) > 200 or not _is_node(made):
        digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:10]
        kept = re.sub(r"[^a-z0-9.\\-]", "", made)[:80].rstrip("\\")
        return f"{kept}~{digest}"
    return made


def _is_node(words: str) -> bool:
    return _reads_one_way(words) and all(
        _is_shown(c) and not any(prohibited(c) for prohibited in (*_PROHIBITED, stringprep.in_table_c11))
        for c in words
    )


def nick(name: str) -> str:
    """A name as a nick that every room can hold (RFC 6122, appendix B), "" where nothing of it is left."""
    kept = "".join(
        " " if c.isspace() else c
        for c in unicodedata.normalize("NFKC", name)
        if c.isspace()
        # RFC 3454, 7: strict servers refuse what came after Unicode 3.2, emoji above all.
        or (_is_shown(c) and not stringprep.in_table_a1(c) and not any(test(c) for test in _PROHIBITED))
    )
    found = " ".join(kept.split())[:LONGEST_NICK].strip()
    # What NFKC made out of a cut word may differ once more; a nick is compared as the server prepared it.
    return found if _reads_one_way(found) else ""


def _is_shown(c: str) -> bool:
    """Neither a control, nor what joins and turns other characters, nor nothing: servers fold or refuse those."""
    return unicodedata.category(c) not in ("Cc", "Cf", "Cn", "Co", "Cs") and not stringprep.in_table_b1(c)


def _reads_one_way(words: str) -> bool:
    """RFC 3454, 6: right-to-left text stands alone and at both ends."""
    right = [stringprep.in_table_d1(c) for c in words]
    if not any(right):
        return True
    return right[0] and right[-1] and not any(stringprep.in_table_d2(c) for c in words)
