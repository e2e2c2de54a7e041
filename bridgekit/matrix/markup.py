"""Cuts HTML into tags and words in one pass, in time linear in its length whatever a stranger sends.

No tree is built: repairing misnested tags as the HTML standard asks costs a parser quadratic time and memory
(23 kB of tags take selectolax 1.8 s and a million nodes), and the standard library's scanner is quadratic on
unclosed tags. Styles lie over neutral text and may overlap, so a tree is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import msgspec


class Tag(msgspec.Struct, gc=False):
    """One start or end tag; `name` is lower case, `attributes` as written."""

    name: str
    closing: bool
    attributes: str


_BEGIN = re.compile(r"<(?=[a-zA-Z/!?])")
_CLOSERS = {"!": ">", "?": ">", "/": ">"}  # what no letter follows is a comment, up to here
# Possessive everywhere: nothing is looked at twice, except the last unclosed quote of the input.
_TAG = re.compile(
    r"<(/?)([a-zA-Z][^\s/>]*+)"
    r"""((?:[^>"'=]++|=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>"'][^\s>]*+)?+|["'])*+)>"""
)
_ATTRIBUTE = re.compile(r"""([^\s=>"'/]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>"'][^\s>]*+)))?+""")
_DIGITS = re.compile(r"&#([0-9]{8,}|[xX][0-9a-fA-F]{7,});?")

# What is inside is not words: scripts, styles, and the rich reply fallback (removed by MSC2781).
_SKIPPED = {name: re.compile(rf"</{name}\s*+>", re.IGNORECASE) for name in ("mx-reply", "script", "style")}


def scan(html: str) -> Iterator[Tag | str]:
    """Yield tags and the words between them (entities decoded, whitespace as it stands), in order.

    Comments, declarations and all that is inside of `mx-reply`, `script` and `style` are left out. What looks
    like the beginning of a tag and never ends is words.
    """
    at = 0
    unclosed: set[str] = set()
    while True:
        match = _TAG.match(html, at)
        if match is None:
            begun = _BEGIN.search(html, at)
            if begun is None:
                break
            begin = begun.start()
            if begin > at:
                yield words(html[at:begin])
                at = begin
                match = _TAG.match(html, at)
        if match is not None:
            at = match.end()
            name = match[2].lower()
            end = _SKIPPED.get(name)
            if end is None:
                yield Tag(name, match[1] == "/", match[3])
            elif match[1] == "" and name not in unclosed:
                if found := end.search(html, at):
                    at = found.end()
                else:
                    unclosed.add(name)
            continue
        closer = "-->" if html.startswith("<!--", at) else _CLOSERS.get(html[at + 1], "")
        close = html.find(closer, at + 2) if closer else -1
        if close < 0:  # a comment or a tag that never ends
            break
        at = close + len(closer)
    if at < len(html):
        yield words(html[at:])


def words(raw: str) -> str:
    """`raw` with its character references decoded."""
    if "&" not in raw:
        return raw
    # int() refuses what has thousands of digits; none of these is a character anyway.
    return unescape(_DIGITS.sub("\ufffd", raw))


def attributes(tag: Tag) -> dict[str, str]:
    """The tag's attributes: names in lower case, values decoded, "" where none is given; the first one counts."""
    found: dict[str, str] = {}
    for name, double, single, bare in _ATTRIBUTE.findall(tag.attributes):
        found.setdefault(name.lower(), words(double or single or bare))
    return found
