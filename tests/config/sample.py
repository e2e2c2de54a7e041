"""A connector that has one of everything that a config can have, and a config that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from bridgekit.contract.connector import Manifest


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Server(Strict):
    """Where to connect to."""

    host: str
    """Its name."""
    port: int = Field(default=6697, ge=1, le=65535)
    """Its port."""
    password: SecretStr | None = None
    """What it asks for first."""
    certificate: Path | None = None
    """A client certificate."""


class Plain(Strict):
    type: Literal["plain"]
    user: str
    password: SecretStr


class External(Strict):
    type: Literal["external"]
    certificate: Path


class Keys(Strict):
    """A network of servers."""

    servers: list[Server] = Field(min_length=1)
    """Tried one after the other."""
    nick: str = "bridge"
    """What the relay is called."""
    login: Plain | External | None = None
    """How the relay proves who it is."""
    colors: dict[str, Server] = {}


class Careless(BaseModel):
    """A stranger's model that forbids nothing."""

    token: SecretStr


class Greedy(Strict):
    """A stranger's model that wants a key of the bridge's."""

    links: list[str] = []


class Sample:
    """As much of a connector as the config looks at."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.manifest = Manifest(id="sample", name="Sample", config=model)

    def network(self, config: Any, host: Any) -> Any:
        return SampleNetwork()


class SampleNetwork:
    """`#anything` is a chat, whatever the case of its letters; everything else is somebody."""

    def chat_id(self, name: str) -> tuple[str, bool] | None:
        return None if " " in name else (name.lower(), name[0] != "#")


CONNECTORS: dict[str, Any] = {"sample": Sample(Keys), "careless": Sample(Careless), "greedy": Sample(Greedy)}

WHOLE = """\
homeserver: {url: "http://127.0.0.1:8008/", server_name: example.org}
appservice:
  as_token: as-secret-as-it-gets
  hs_token: heavily-guarded
permissions: {"@admin:example.org": admin, "example.org": user, "*": relay}
networks:
  one:
    connector: sample
    servers: [{host: irc.example.org, password: open-sesame, certificate: me.pem}]
    links: [{chat: "#chan", room: "#room:example.org"}]
"""
