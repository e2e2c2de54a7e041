"""What an operator may set for one IRC network; every option says in one line what it does."""

from __future__ import annotations

import codecs
import ipaddress
import re
import ssl
from collections.abc import Callable
from enum import StrEnum
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FilePath, SecretStr, model_validator

from connectors.irc.flood import Limits

NICK = re.compile(r"[^\s\x00-\x20!@,:#&*?.][^\s\x00-\x20!@,:*?]{0,63}")
_PRINTABLE = bytes(range(0x20, 0x7F))


class Section(BaseModel):
    """A part of the configuration: unknown keys are mistakes, and no number is endless."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# What stands in a line of IRC: RFC 1459 2.3.1 -----------------------------------------------------------------


def _line(value: str) -> str:
    if re.search(r"[\x00\r\n]", value):
        raise ValueError("must be one line")
    return value


def _word(value: str) -> str:
    if not re.fullmatch(r"[^\s\x00-\x20:][^\s\x00-\x20]*", value):
        raise ValueError("must be one word, and no colon may begin it")
    return value


def _nick(value: str) -> str:
    if not NICK.fullmatch(value) or value[0] in "-0123456789":
        raise ValueError("must be a nick: one word that begins with no digit and no dash")
    return value


def _user(value: str) -> str:
    if not re.fullmatch(r"[^\s\x00-\x20!@:]+", value):
        raise ValueError("must be one word without ! @ :")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"[^\s\x00-\x20/\\@\[\]]+", value) or (":" in value and not _is_address(value)):
        raise ValueError("must be a host name or an address, without port, brackets or scheme")
    return value


def _is_address(value: str) -> bool:
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return True


def _secret(check: Callable[[str], str]) -> Callable[[SecretStr], SecretStr]:
    def checked(value: SecretStr) -> SecretStr:
        check(value.get_secret_value())
        return value

    return checked


def _template(*names: str) -> Callable[[str], str]:
    def checked(value: str) -> str:
        known = " ".join(f"{{{name}}}" for name in names)
        _line(value)
        try:
            parts = list(Formatter().parse(value))
        except ValueError:
            raise ValueError(f"must have each brace closed; it may use {known}") from None
        if any(name is not None and (name not in names or form or how) for _, name, form, how in parts):
            raise ValueError(f"may use {known} and nothing else in braces")
        return value

    return checked


def _encoding(value: str) -> str:
    """Raise ValueError unless any bytes can be read in it, and ASCII as itself: IRC's own words are ASCII."""
    try:
        codec = codecs.lookup(value)
        if not codec._is_text_encoding:  # as bytes.decode asks: hex and rot13 are none
            raise LookupError
        if _PRINTABLE.decode(value) != _PRINTABLE.decode("ascii"):
            raise ValueError
        bytes(range(256)).decode(value, "replace")
    except LookupError:
        raise ValueError("Python knows no such text encoding") from None
    except ValueError:
        raise ValueError("must be an encoding in which ASCII is as it is") from None
    return value


def _prefix(value: str) -> str:
    try:
        network = ipaddress.IPv6Network(value, strict=False)
    except ValueError:
        raise ValueError("must be an IPv6 network, such as 2001:db8:1:2::/64") from None
    if network.prefixlen > 64:
        raise ValueError("must be a /64 or wider, or people would share addresses")
    return value


def _listen(value: str) -> str:
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|[^:\s\x00-\x20]*):(\d{1,5})", value)
    if found is None or int(found[2]) > 65535:
        raise ValueError("must be host:port, such as 0.0.0.0:113 or [::]:113")
    return value


Line = Annotated[str, AfterValidator(_line)]
Word = Annotated[str, AfterValidator(_word)]
SecretLine = Annotated[SecretStr, AfterValidator(_secret(_line))]
SecretWord = Annotated[SecretStr, AfterValidator(_secret(_word))]


class Server(Section):
    """One server of the network."""

    host: Annotated[str, AfterValidator(_host)] = Field(description="Host name or address of the server.")
    port: int = Field(default=6697, ge=1, le=65535, description="Port; 6697 is the usual one for TLS.")
    tls: bool = Field(default=True, description="Encrypt the connection.")
    tls_verify: bool = Field(default=True, description="Check the server's certificate and host name.")
    tls_ca_file: FilePath | None = Field(
        default=None, description="PEM file of the CA to trust instead of the system's."
    )
    tls_cert_file: FilePath | None = Field(
        default=None, description="PEM file of our client certificate (CertFP, EXTERNAL)."
    )
    tls_key_file: FilePath | None = Field(
        default=None, description="PEM file of its key, where it is not in the same file."
    )

    @model_validator(mode="after")
    def _check(self) -> Server:
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError("the tls_key_file must be the key of a tls_cert_file")
        if self.tls_ca_file or self.tls_cert_file:
            try:
                self.context()
            except OSError as error:  # with ssl.SSLError
                why = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else error.strerror
                words = why or "they hold no PEM certificate with its key"
                raise ValueError(f"the certificate files are no use: {words}") from None
        return self

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


def read_secret(value: SecretStr | None) -> str:
    """The secret itself, "" where none is set."""
    return value.get_secret_value() if value is not None else ""


class Sasl(Section):
    """Signing in while connecting; the best way to have an account."""

    mechanism: Mechanism = Field(
        default=Mechanism.AUTO, description="auto takes the strongest one that both sides know."
    )
    account: Line = Field(
        default="", description="Account name; empty with EXTERNAL means the certificate's own."
    )
    password: SecretLine | None = Field(default=None, description="Account password.")
    required: bool = Field(
        default=True,
        description="Without a successful sign-in, join nothing and stop; services that are only away are waited for.",
    )

    @model_validator(mode="after")
    def _check(self) -> Sasl:
        if self.mechanism in (Mechanism.SCRAM, Mechanism.PLAIN) and not read_secret(self.password):
            raise ValueError(f"mechanism {self.mechanism} needs a password")
        return self


class NickServ(Section):
    """Signing in with a message to the services, where there is no SASL."""

    service: Word = Field(default="NickServ", description="Who to send the IDENTIFY command to.")
    password: SecretLine = Field(description="NickServ password.")


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

    password: SecretWord = Field(description="The gateway password that the server knows.")
    gateway: Word = Field(default="bridgekit", description="The gateway name that the server knows.")
    host: Annotated[str, AfterValidator(_template("localpart", "domain"))] = Field(
        default="{localpart}.{domain}",
        description="Host name to show for a Matrix user: {localpart}, {domain}.",
    )


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
    nick: Annotated[str, AfterValidator(_template("displayname", "localpart", "domain", "mxid"))] = Field(
        default="{displayname}[m]", description="Wanted nick: {displayname}, {localpart}, {domain}."
    )
    realname: Annotated[str, AfterValidator(_template("displayname", "localpart", "domain", "mxid"))] = Field(
        default="{mxid}", description="Real name: {displayname}, {mxid}; the Matrix id always stands in it."
    )
    idle: Idle = Field(default=Idle.KEEP, description="keep a silent user's puppet, or part and say so.")
    idle_days: int = Field(default=30, ge=1, description="Days of silence after which `idle` applies.")
    ipv6_prefix: Annotated[str, AfterValidator(_prefix)] | None = Field(
        default=None,
        description="A /64 or wider routed to this machine: each puppet connects from its own address.",
    )
    webirc: WebIrc | None = Field(default=None, description="Announce each puppet's own host name by WEBIRC.")


class IrcConfig(Section):
    """One IRC network."""

    servers: Annotated[list[Server], Field(min_length=1)] = Field(
        description="Servers to try, one after the other."
    )
    nick: Annotated[str, AfterValidator(_nick)] = Field(default="bridge", description="The relay's nick.")
    username: Annotated[str, AfterValidator(_user)] = Field(
        default="bridge", description="The relay's user name (ident)."
    )
    realname: Line = Field(default="A bridge to Matrix", description="The relay's real name.")
    password: SecretLine | None = Field(default=None, description="Server password (PASS).")
    sasl: Sasl | None = Field(default=None, description="SASL sign-in of the relay.")
    nickserv: NickServ | None = Field(default=None, description="NickServ sign-in of the relay.")
    puppets: Puppets = Field(default_factory=Puppets, description="Matrix users' own connections.")
    flood: Flood = Field(default_factory=Flood, description="How fast each connection may talk.")
    max_lines: int = Field(
        default=6,
        ge=1,
        le=100,
        description="Lines of one message that are sent, as IRC counts them; a longer one becomes a link.",
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        default="cp1252",
        description="How to read lines that are not UTF-8 (CP1252 is what old clients speak).",
    )
    history_limit: int = Field(
        default=5000,
        ge=0,
        description="Messages fetched per channel after a gap, where the server keeps them; where there are more, "
        "the room is told so.",
    )
    quit_message: Line = Field(
        default="The bridge is shutting down", description="What the channels see when the bridge stops."
    )
    ident_listen: Annotated[str, AfterValidator(_listen)] | None = Field(
        default=None,
        description='Address of the ident server, such as "[::]:113" (IPv6 and IPv4) or "0.0.0.0:113".',
    )

    @model_validator(mode="after")
    def _can_sign_in(self) -> IrcConfig:
        if self.sasl is None:
            return self
        certificate = any(server.tls and server.tls_cert_file for server in self.servers)
        match self.sasl.mechanism:
            case Mechanism.EXTERNAL if not certificate:
                raise ValueError("sasl.mechanism external needs a server with a tls_cert_file")
            case Mechanism.PLAIN if not any(server.tls for server in self.servers):
                raise ValueError("sasl.mechanism plain needs a server with tls")
            case Mechanism.AUTO if not certificate and not read_secret(self.sasl.password):
                raise ValueError("sasl needs a password, or a server with a tls_cert_file")
            case _:
                return self
