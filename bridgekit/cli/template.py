"""The text of a new config: every section with its meaning, what is usual as a comment."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bridgekit.config.shape import fields, is_a, is_secret, leaves, models

HEAD = """\
# The configuration of bridgekit. Every key: docs/configuration.md, or `bridgekit config reference`.
# Relative paths start at this file's folder. Any single value may come from the environment instead:
# BRIDGEKIT__APPSERVICE__AS_TOKEN is appservice.as_token. Each secret may be given as <key>_file, a file that holds it.
# `bridgekit check` tells everything that is wrong at once.

homeserver:
  url: {url}                     # where the bridge reaches the homeserver's client-server API
  server_name: {server_name}     # as in user ids: @admin:example.org

appservice:
  listen: 127.0.0.1:29330        # where the bridge waits for the homeserver
  # url: http://127.0.0.1:29330  # how the homeserver reaches it, where that is another address
  id: bridgekit                  # the registration's name, unique on the homeserver
  bot: bridgebot                 # the bridge's own user
  prefix: _bk_                   # what its ghosts and aliases start with
  as_token: {as_token}
  hs_token: {hs_token}
  # double_puppets: true         # what people say with their own account elsewhere carries their own name in Matrix
  registration: registration.yaml

store:
  url: sqlite:///bridgekit.db    # or postgresql://user:password@host/database
  key_file: bridgekit.key        # seals passwords and tokens in the database; keep a copy apart from its backups

admin:
  listen: 127.0.0.1:29331        # /health/live, /health/ready, /metrics; no password: keep it local

# A public https address that a reverse proxy passes on to appservice.listen (only /_bridgekit/ is needed).
# With it, people of networks without files get links to Matrix files and long messages; without it, none.
# public:
#   url: https://bridge.example.org
#   expires: 7d                  # how long a link works

permissions:                     # none < relay < user < admin; the most exact entry counts
  {admin}: admin
  {server_name}: user            # talks to the bot, opens private chats, may log in
  "*": relay                     # what they say in linked rooms crosses

messages:
  display_name: "{{name}} ({{network}})"  # how people of a network are called in Matrix: {{name}}, {{network}}, {{id}}
  omission: notice               # what stands for a message of somebody who opted out: notice or nothing
  status_events: all             # all: each sender's client learns each message's fate; problems: only what went wrong
  history: 25                    # messages from before the link, where the network shows them to whoever joins

# encryption:
#   trust: cross_signed          # all: also to and from Matrix devices that nobody has verified

# members:
#   retire_after: 90d            # ghosts silent for so long leave their rooms until they speak; 0: they all stay

# moderation:
#   policy_lists: ["#bans:example.org"]       # whom they bar is barred from this bridge, as user or as ghost
#   write_bans_to: "!abc:example.org"         # who is banned by a network is written down there

log:
  level: info                    # debug, info, warning, error
  format: console                # console for people, json for machines

"""

CONSENT = [
    "    consent: {consent}  # required: an operator of a chat agrees before it is linked; announced: the chat is told;"
    " off: the chats are yours",
    "    # ceiling: {{history: shared, join: public, listed: true, media: true}}  # how open its rooms may be at most",
    "    # direct: known  # private conversations: between people who share a linked chat; anyone; off",
    "    # gate: pause  # who has no account of their own in the chat: pause, kick or relay-allowed",
]
"""What every network's section says about who may read."""

Answer = Callable[[str, FieldInfo], str | None]
"""Gives the value for a key that must have one, by its path below the network; None where there is none."""


def head(*, url: str, server_name: str, admin: str, as_token: str, hs_token: str) -> str:
    """Everything but the networks, as YAML."""
    values = {
        "url": url,
        "server_name": server_name,
        "admin": admin,
        "as_token": as_token,
        "hs_token": hs_token,
    }
    text = HEAD.format(**{name: quoted(value) for name, value in values.items()})
    return re.sub(r"^(  [^#\n]*?) +# ", _aligned, text, flags=re.MULTILINE)


def _aligned(found: re.Match[str]) -> str:
    return f"{found[1]:<31}  # "


def quoted(value: str) -> str:
    """The text as a YAML scalar, in quotes where it needs them."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./:+-]*", value) and not value.endswith(":")
    words = value.lower() in ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
    return value if plain and not words else json.dumps(value, ensure_ascii=False)


def network(name: str, connector: str, model: type[BaseModel], answer: Answer, consent: str) -> str:
    """One network's section: what is required with its answer, everything else as a comment with its default.

    Raises KeyError with the path of a required key that has no answer.
    """
    lines = [f"  {name}:", f"    connector: {connector}", *_section(model, "", answer, 4)]
    lines += [line.format(consent=quoted(consent)) for line in CONSENT]
    lines += ["    # links:", '    #   - {chat: "...", room: "!room-id or #alias:example.org"}']
    return "\n".join(lines) + "\n"


def _section(model: type[BaseModel], path: str, answer: Answer, depth: int) -> Iterator[str]:
    pad = " " * depth
    for key, info in fields(model).items():
        where = f"{path}{key}"
        why = f"  # {' '.join(info.description.split())}" if info.description else ""
        inner = _inner(info)
        value = None if inner else answer(where, info)
        if value is not None:
            shown = quoted(value) if is_a(info.annotation, str) or is_secret(info.annotation) else value
            yield f"{pad}{key}: {shown}{why}"
        elif not info.is_required():
            if (default := _spelled(info)) is not None:
                yield f"{pad}# {key}: {default}{why}"
        elif inner is None:
            raise KeyError(where)
        else:
            yield f"{pad}{key}:{why}"
            kind, listed = inner
            below = list(_section(kind, f"{where}.0." if listed else f"{where}.", answer, 0))
            for number, line in enumerate(below):
                dash = ("- " if number == 0 else "  ") if listed else ""
                yield f"{pad}  {dash}{line}"


def _inner(info: FieldInfo) -> tuple[type[BaseModel], bool] | None:
    """The model inside a required section or list of sections, and whether it is a list."""
    if not info.is_required():
        return None
    for leaf in leaves(info.annotation):
        if get_origin(leaf) in (list, tuple) and (listed := models(get_args(leaf)[0])):
            return listed[0], True
        if direct := models(leaf):
            return direct[0], False
    return None


def _spelled(info: FieldInfo) -> str | None:
    """The default as it would be written; None where there is nothing short to write."""
    default: Any = info.default
    if isinstance(default, Enum):
        default = default.value
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float):
        return str(default)
    return quoted(default) if isinstance(default, str) and default else None


def settings(words: list[str]) -> Mapping[str, str]:
    """`libera.servers.0.host=HOST` as path and value. Raises ValueError with the word that is none."""
    found = {}
    for word in words:
        path, sign, value = word.partition("=")
        if not sign or not path or not value:
            raise ValueError(word)
        found[path] = value
    return found
