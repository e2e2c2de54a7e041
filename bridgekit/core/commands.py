"""Words that are meant for the bot and not for the other side."""

from __future__ import annotations

import shlex

from bridgekit.contract.people import Content, Kind

MARK = "!bridge"


def command_in(content: Content) -> str | None:
    """What follows `!bridge` in a message that is a command; None if it is not one."""
    if not content.text.body.startswith("!"):
        return None
    mark, rest = content.text.body[: len(MARK)], content.text.body[len(MARK) :]
    if content.kind is not Kind.TEXT or mark.lower() != MARK:
        return None
    return rest.strip() if not rest or rest[0].isspace() else None


def split_words(command: str) -> list[str]:
    """The words of a command; quotes group, an unclosed quote is an ordinary character, and so is a backslash: names
    and passwords may have one."""
    words = shlex.shlex(command, posix=True)
    words.whitespace_split, words.escape, words.commenters = True, "", ""
    try:
        return list(words)
    except ValueError:
        return command.split()
