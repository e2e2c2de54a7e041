"""What the play of IRC's demo uses: a picture, a long text, and looks at what arrived."""

import re
import struct
import zlib

import aiohttp

from bridgekit.contract.text import Text
from bridgekit.testing.stage import NotAsExpected, same


def styled(text: Text) -> set[tuple[str, str]]:
    """Each style and the words under it."""
    return {(str(s.style), text.body[s.start : s.end]) for s in text.spans}


async def downloaded(words: str) -> bytes:
    """What is behind the link in somebody's words. Raises NotAsExpected."""
    found = re.search(r"https?://\S+", words)
    if found is None:
        raise NotAsExpected(f"there is no link in: {words}")
    async with aiohttp.ClientSession() as session, session.get(found[0]) as response:
        same(response.status, 200, found[0])
        return await response.read()


def long_text(size: int) -> str:
    """`size` bytes of words in many alphabets, with single spaces."""
    words = "voilà naïve Übermut Ελλάδα Привет мир שלום 日本語 한국어 🦊🌉 नमस्ते fjord żółć ₿1,000".split()
    text = ""
    number = 0
    while True:
        more = f"{words[number % len(words)]}{number}"
        if len(f"{text} {more}".encode()) > size - 1:
            break
        text = f"{text} {more}".strip()
        number += 1
    return text + " " + "." * (size - 1 - len(text.encode()))


def pieces(text: str, size: int) -> list[str]:
    """The text cut at spaces into pieces of at most `size` bytes."""
    found = [""]
    for word in text.split(" "):
        if len(f"{found[-1]} {word}".encode()) > size:
            found.append("")
        found[-1] = f"{found[-1]} {word}".strip()
    return found


def png(side: int, colour: tuple[int, int, int]) -> bytes:
    """A square of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes(colour) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(row * side)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
