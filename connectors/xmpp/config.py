"""What an operator may set for one XMPP network; every option says in one line what it does."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, FilePath, SecretStr, model_validator

from connectors.xmpp.stanzas.jids import normal


class Section(BaseModel):
    """A part of the configuration: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Mode(StrEnum):
    """How the bridge is on XMPP."""

    COMPONENT = "component"
    CLIENT = "client"


class Tls(StrEnum):
    """How a client's connection is encrypted."""

    STARTTLS = "starttls"
    DIRECT = "direct"


class XmppConfig(Section):
    """One network."""

    mode: Mode = Field(
        description="component: under a server's sub-domain, everybody has an address; client: an ordinary account."
    )
    jid: str = Field(
        description="component: the sub-domain (matrix.example.org); client: the bridge's address (bridge@example.org)."
    )
    secret: SecretStr | None = Field(
        default=None, description="component: the secret shared with the server."
    )
    password: SecretStr | None = Field(default=None, description="client: the account's password.")
    host: str = Field(
        default="",
        description="Where to connect; component: 127.0.0.1, client: what DNS says of the address.",
    )
    port: int = Field(
        default=0, ge=0, le=65535, description="Port; 0 is 5347 for a component, 5222 for a client."
    )
    tls: Tls = Field(
        default=Tls.STARTTLS, description="client: starttls, or direct (port 5223); never without."
    )
    tls_ca_file: FilePath | None = Field(
        default=None,
        description="PEM file of your server's CA: instead of the system's for a client's connection, for uploads too.",
    )
    nick: str = Field(default="bridge", min_length=1, description="The bridge's own nick in rooms.")
    rooms: str = Field(
        default="", description="The rooms' service (conference.example.org), for room names without one."
    )
    own_accounts: bool = Field(
        default=True, description="People may have 1:1 chats; client: with accounts of their own."
    )
    joins_per_second: float = Field(
        default=20.0,
        gt=0,
        description="How many rooms and occupants enter in a second, after a reconnect too.",
    )
    history: int = Field(
        default=10_000, ge=0, description="Messages of a room that are shown after a gap, at the most."
    )
    idle_hours: float = Field(
        default=72.0,
        gt=0,
        description="component: who was silent for so long leaves the room until they speak again.",
    )

    @model_validator(mode="after")
    def _check(self) -> XmppConfig:
        jid = normal(self.jid)
        if jid is None or ("@" in jid) is (self.mode is Mode.COMPONENT):
            wanted = "a domain" if self.mode is Mode.COMPONENT else "an address (name@server)"
            raise ValueError(f"jid must be {wanted} in mode {self.mode}")
        component = self.mode is Mode.COMPONENT
        if (self.secret is not None, self.password is not None) != (component, not component):
            raise ValueError("a component has a secret and a client has a password, and not both")
        return self

    def read_secret(self) -> str:
        """The secret or password."""
        given = self.secret if self.mode is Mode.COMPONENT else self.password
        return given.get_secret_value() if given is not None else ""
