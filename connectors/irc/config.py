"""What an operator may set for one IRC network; every option says in one line what it does."""

from __future__ import annotations

import codecs
import ssl
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from connectors.irc.flood import Limits


class Section(BaseModel):
    """A part of the configuration: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    """One server of the network."""

    host: str = Field(min_length=1, description="Host name or address of the server.")
    port: int = Field(default=6697, ge=1, le=65535, description="Port; 6697 is the usual one for TLS.")
    tls: bool = Field(default=True, description="Encrypt the connection.")
    tls_verify: bool = Field(default=True, description="Check the server's certificate and host name.")
    tls_ca_file: Path | None = Field(
        default=None, description="PEM file of the CA to trust instead of the system's."
    )
    tls_cert_file: Path | None = Field(
        default=None, description="PEM file of our client certificate (CertFP, EXTERNAL)."
    )
    tls_key_file: Path | None = Field(
        default=None, description="PEM file of its key, where it is not in the same file."
    )

    @property
    def address(self) -> str:
        """For people and logs."""
        return f"{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """What to connect with; None is plain text. Raises OSError (with ssl.SSLError) where a file is no use."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.tls_ca_file)
        if not self.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.tls_cert_file:
            context.load_cert_chain(self.tls_cert_file, self.tls_key_file)
        return context


class Mechanism(StrEnum):
    """How to sign in with SASL."""

    AUTO = "auto"
    EXTERNAL = "external"
    SCRAM = "scram-sha-256"
    PLAIN = "plain"


def _one_secret(section: Section) -> Section:
    if getattr(section, "password", None) is not None and getattr(section, "password_file", None) is not None:
        raise ValueError("set password or password_file, not both")
    return section


def read_secret(value: SecretStr | None, file: Path | None) -> str:
    """The secret itself, "" where none is set. Raises OSError if its file cannot be read."""
    if file is not None:
        return file.read_text().strip()
    return value.get_secret_value() if value is not None else ""


class Sasl(Section):
    """Signing in while connecting; the best way to have an account."""

    mechanism: Mechanism = Field(
        default=Mechanism.AUTO, description="auto takes the strongest one that both sides know."
    )
    account: str = Field(
        default="", description="Account name; empty with EXTERNAL means the certificate's own."
    )
    password: SecretStr | None = Field(default=None, description="Account password.")
    password_file: Path | None = Field(default=None, description="File that holds the account password.")
    required: bool = Field(default=True, description="Without a successful sign-in, join nothing and stop.")

    @model_validator(mode="after")
    def _check(self) -> Sasl:
        _one_secret(self)
        return self


class NickServ(Section):
    """Signing in with a message to the services, where there is no SASL."""

    service: str = Field(default="NickServ", description="Who to send the IDENTIFY command to.")
    password: SecretStr | None = Field(default=None, description="NickServ password.")
    password_file: Path | None = Field(default=None, description="File that holds the NickServ password.")

    @model_validator(mode="after")
    def _check(self) -> NickServ:
        _one_secret(self)
        return self


class Flood(Section):
    """How fast we may talk; the defaults are what RFC 1459 8.10 allows everybody."""

    burst: int = Field(default=5, ge=1, description="Lines that may go at once.")
    refill: float = Field(
        default=2.0, ge=0, description="Seconds for one more line after that; 0 is no limit (own servers)."
    )
    lead_max: float = Field(
        default=10.0, ge=0, description="Seconds ahead of RFC 1459's penalty timer at most; 0 ignores it."
    )

    def limits(self) -> Limits:
        """For the queue."""
        return Limits(burst=self.burst, refill=self.refill, lead_max=self.lead_max)


class WebIrc(Section):
    """Tell the server our people's own host names (it must trust us as a gateway)."""

    password: SecretStr | None = Field(
        default=None, description="The gateway password that the server knows."
    )
    password_file: Path | None = Field(default=None, description="File that holds the gateway password.")
    gateway: str = Field(default="bridgekit", description="The gateway name that the server knows.")
    host: str = Field(
        default="{localpart}.{domain}",
        description="Host name to show for a Matrix user: {localpart}, {domain}.",
    )

    @model_validator(mode="after")
    def _check(self) -> WebIrc:
        _one_secret(self)
        return self


class PuppetMode(StrEnum):
    """Whether Matrix users may have IRC connections of their own."""

    OFF = "off"
    ON_REQUEST = "on_request"
    AUTO = "auto"


class Idle(StrEnum):
    """What becomes of a puppet whose Matrix user says nothing for `idle_days`."""

    KEEP = "keep"
    PART = "part"


class Puppets(Section):
    """IRC connections of Matrix users' own, beside the relay."""

    mode: PuppetMode = Field(
        default=PuppetMode.ON_REQUEST,
        description="off, on_request (a user logs in) or auto (on the first message).",
    )
    max_connections: int = Field(default=100, ge=0, description="Puppets connected at the same time at most.")
    connects_per_second: float = Field(
        default=1.0, gt=0, description="New connections per second at most, the relay's first."
    )
    nick: str = Field(
        default="{displayname}[m]", description="Wanted nick: {displayname}, {localpart}, {domain}."
    )
    realname: str = Field(
        default="{mxid}", description="Real name: {displayname}, {mxid}; the Matrix id always stands in it."
    )
    idle: Idle = Field(default=Idle.KEEP, description="keep a silent user's puppet, or part and say so.")
    idle_days: int = Field(default=30, ge=1, description="Days of silence after which `idle` applies.")
    ipv6_prefix: str | None = Field(
        default=None,
        description="A /64 or wider routed to this machine: each puppet connects from its own address.",
    )
    webirc: WebIrc | None = Field(default=None, description="Announce each puppet's own host name by WEBIRC.")


class IrcConfig(Section):
    """One IRC network."""

    servers: Annotated[list[Server], Field(min_length=1)] = Field(
        description="Servers to try, one after the other."
    )
    nick: str = Field(default="bridge", min_length=1, description="The relay's nick.")
    username: str = Field(default="bridge", min_length=1, description="The relay's user name (ident).")
    realname: str = Field(default="A bridge to Matrix", description="The relay's real name.")
    password: SecretStr | None = Field(default=None, description="Server password (PASS).")
    password_file: Path | None = Field(default=None, description="File that holds the server password.")
    sasl: Sasl | None = Field(default=None, description="SASL sign-in of the relay.")
    nickserv: NickServ | None = Field(default=None, description="NickServ sign-in of the relay.")
    puppets: Puppets = Field(default_factory=Puppets, description="Matrix users' own connections.")
    flood: Flood = Field(default_factory=Flood, description="How fast each connection may talk.")
    max_lines: int = Field(
        default=6,
        ge=1,
        le=100,
        description="Lines of one message that are sent; a longer one becomes a link.",
    )
    encoding: str = Field(
        default="cp1252",
        description="How to read lines that are not UTF-8 (CP1252 is what old clients speak).",
    )
    history_limit: int = Field(
        default=5000,
        ge=0,
        description="Messages fetched per channel after a gap, where the server keeps them; where there are more, "
        "the room is told so.",
    )
    quit_message: str = Field(
        default="The bridge is shutting down", description="What the channels see when the bridge stops."
    )
    ident_listen: str | None = Field(
        default=None,
        pattern=r"^(\[[0-9a-fA-F:]+\]|[^:]*):\d{1,5}$",
        description='Address of the ident server, such as "0.0.0.0:113".',
    )

    @model_validator(mode="after")
    def _check(self) -> IrcConfig:
        _one_secret(self)
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            raise ValueError(f"encoding: Python knows no {self.encoding!r}") from error
        return self
