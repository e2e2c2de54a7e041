"""The whole configuration as one validated model; what each key means stands below it."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from bridgekit.config.types import (
    SERVER_NAME,
    Address,
    DatabaseUrl,
    Duration,
    HttpUrl,
    Listen,
    ServerName,
    WrittenRate,
)
from bridgekit.contract import ids
from bridgekit.core.direct import Direct
from bridgekit.core.gate import GateMode
from bridgekit.core.membership import Mode
from bridgekit.core.model import Permission
from bridgekit.core.optout import Omission
from bridgekit.core.scopes import Policy
from bridgekit.core.shield import Quarantine
from bridgekit.core.trust import Trust


class Section(BaseModel):
    """A part of the config: unknown keys are refused, values never change, secrets never show."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )


class Homeserver(Section):
    """The Matrix homeserver that the bridge belongs to."""

    url: HttpUrl
    """Where the bridge reaches the homeserver's client-server API."""
    server_name: ServerName
    """The homeserver's name as in user ids: `example.org` for `@admin:example.org`."""


def _localpart(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9._=/+-]+", value):
        raise ValueError("may only have the characters a-z 0-9 . _ = / + -")
    return value


Localpart = Annotated[str, AfterValidator(_localpart)]


def _token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
        raise ValueError("must be a token without spaces")
    return value


Token = Annotated[SecretStr, AfterValidator(_token)]


class Appservice(Section):
    """How the homeserver and the bridge find and trust each other (Matrix Application Service API)."""

    listen: Listen = Address("127.0.0.1", 29330)
    """Where the bridge waits for the homeserver."""
    url: HttpUrl = ""
    """How the homeserver reaches `listen`; `http://` and `listen` where it is not given."""
    id: str = Field(default="bridgekit", pattern=r"^[A-Za-z0-9._-]+$")
    """The name of the registration, unique on the homeserver."""
    bot: Localpart = "bridgebot"
    """The localpart of the bridge's own user."""
    prefix: Localpart = "_bk_"
    """What the localparts of all ghosts and the names of all aliases of the bridge start with."""
    as_token: Token
    """The bridge shows this token to the homeserver."""
    hs_token: Token
    """The homeserver shows this token to the bridge."""
    double_puppets: bool = False
    """What people say on a network with their own account, from elsewhere, carries their own name in Matrix. The
    registration then covers every user of the homeserver, and the bridge is sent all that happens in their rooms."""
    registration: Path = Path("registration.yaml")
    """The registration file that the homeserver reads; `bridgekit check` compares it with this config."""

    @model_validator(mode="before")
    @classmethod
    def _url_from_listen(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("url") is None:
            data = {**data, "url": f"http://{data.get('listen') or '127.0.0.1:29330'}"}
        return data

    @model_validator(mode="after")
    def _two_tokens(self) -> Appservice:
        if self.as_token.get_secret_value() == self.hs_token.get_secret_value():
            raise ValueError("as_token and hs_token must differ")
        return self


def _database(value: DatabaseUrl) -> DatabaseUrl:
    if not re.match(r"sqlite:///.|postgres(ql)?://", value.get_secret_value()):
        raise ValueError("must be sqlite:///path/to/file.db or postgresql://user@host/database")
    return value


class Store(Section):
    """Where the bridge keeps what it must not forget."""

    url: Annotated[DatabaseUrl, AfterValidator(_database)] = Field(
        default=DatabaseUrl("sqlite:///bridgekit.db")
    )
    """`sqlite:///` and a path (relative to this file; `sqlite:////` starts an absolute one), or
    `postgresql://user:password@host/database`."""
    key_file: Path = Path("bridgekit.key")
    """The key under which passwords and tokens are sealed in the database; made at the first start. Keep a copy of
    it apart from the backups of the database."""


class Admin(Section):
    """What the people and machines that look after the bridge use: health and metrics."""

    listen: Listen = Address("127.0.0.1", 29331)
    """Where `/health/live`, `/health/ready` and `/metrics` are served. It asks for no password: keep it local."""


def _some(value: int) -> int:
    if not value:
        raise ValueError("must be longer than nothing")
    return value


class Public(Section):
    """The bridge's public address; it is served by the appservice listener under `/_bridgekit/`."""

    url: HttpUrl
    """The https address that a reverse proxy passes on to `appservice.listen`; links to files start with it."""
    expires: Annotated[Duration, AfterValidator(_some)] = 604800
    """How long a link to a Matrix file works; up to a 24th longer, and an hour at most: the same file keeps its link so
    long."""


class StatusEvents(StrEnum):
    """What senders are told about the fate of their messages."""

    ALL = "all"
    PROBLEMS = "problems"


def _display_name(value: str) -> str:
    try:
        fields = {field for _, field, _, _ in Formatter().parse(value) if field is not None}
        value.format(name="", network="", id="")
    except (ValueError, KeyError, IndexError, AttributeError):
        fields = {"?"}
    if not fields <= {"name", "network", "id"}:
        raise ValueError("may use {name}, {network} and {id}, and {{ or }} for a brace")
    if not fields & {"name", "id"}:
        raise ValueError("must use {name} or {id}, or nobody could be told apart")
    return value


class Encryption(Section):
    """Encrypted rooms."""

    trust: Trust = Trust.CROSS_SIGNED
    """`cross_signed`: the bridge encrypts to the Matrix devices that their owners have verified, and passes on what
    comes from those, as clients do that exclude insecure devices; what was said in clear in an encrypted room is
    refused. `all`: to and from every device, and in clear."""


class Messages(Section):
    """How messages cross."""

    display_name: Annotated[str, AfterValidator(_display_name)] = "{name} ({network})"
    """How people of a network are called in Matrix: `{name}`, `{network}` (the network's `name`), `{id}`."""
    status_events: StatusEvents = StatusEvents.ALL
    """`all`: each sender's client is told what became of each message. `problems`: only when something went wrong."""
    omission: Omission = Omission.NOTICE
    """What stands where somebody who opted out has said something: a `notice` of the bridge's, or `nothing`."""
    history: int = Field(default=25, ge=0, le=1000)
    """Messages from before a chat was linked that come into its room, where the network shows them to whoever joins."""


def _days(value: int) -> int:
    if value % 86_400:
        raise ValueError("must be whole days, as in `30d`; 0 is never")
    return value


class Members(Section):
    """How people of a network are shown in the member lists of rooms."""

    retire_after: Annotated[Duration, AfterValidator(_days)] = 0
    """Ghosts that have said nothing for so long leave their rooms, and come back when they speak. Moderators of the
    chat stay. `0`: they all stay."""


def _room(value: str) -> str:
    if re.fullmatch(r"![^\s:]{1,250}", value):  # room version 12: room ids have no server part
        return value
    sigil, _, server = value.partition(":")
    if not re.fullmatch(r"[!#]\S+", sigil) or not SERVER_NAME.fullmatch(server):
        raise ValueError("must be a room id (!abc:example.org) or an alias (#room:example.org)")
    return value


Room = Annotated[str, AfterValidator(_room)]


class Moderation(Section):
    """Policy lists (Matrix rooms with `m.policy.rule.*` state) that the bridge follows, and one that it writes to."""

    policy_lists: tuple[Room, ...] = ()
    """Rooms whose bans hold on this bridge: who is barred as a Matrix user may not use it, and their accounts are
    offline meanwhile; who is barred as a ghost is heard in no room. Admins are never barred."""
    write_bans_to: Room | None = None
    """A room in which the bridge may send `m.policy.rule.user`: a Matrix user whose account a network has banned
    (a K-line) is written down there."""


class LogLevel(StrEnum):
    """The least important events that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How events are written to standard error."""

    CONSOLE = "console"
    JSON = "json"


class Log(Section):
    """What is written to standard error. No message, password or token is ever in it."""

    level: LogLevel = LogLevel.INFO
    """The least important events that are written."""
    format: LogFormat = LogFormat.CONSOLE
    """`console` for people, `json` (one object per line) for machines."""


class History(StrEnum):
    """Who may read what was said before they came (m.room.history_visibility)."""

    JOINED = "joined"
    INVITED = "invited"
    SHARED = "shared"
    WORLD_READABLE = "world_readable"


class Join(StrEnum):
    """Who gets into a room without being asked in (m.room.join_rules)."""

    INVITE = "invite"
    KNOCK = "knock"
    RESTRICTED = "restricted"
    PUBLIC = "public"


class Ceiling(Section):
    """How open rooms may be at most, whatever their chats and their people allow."""

    history: History = History.SHARED
    """`joined`: nobody reads what was said before they came. `invited`. `shared`: who joins later reads it as well.
    `world_readable`: everybody in the world, without joining."""
    join: Join = Join.PUBLIC
    """Who may come in: `invite`, `knock`, `restricted` (members of other rooms, if the bot sees that not everybody
    enters those) or `public`."""
    listed: bool = True
    """Whether rooms may stand in a public room directory; their chats have to agree to that too."""
    media: bool = True
    """Whether files are passed on to Matrix, where the homeserver keeps them."""


class Shield(Section):
    """What keeps spam out of rooms. A burst passes, a flood comes slower, and beyond `patience` it ends; who waits and
    who moderates the room are told. Operators and moderators of the chat are never slowed down."""

    person: WrittenRate = "20/10s"
    """Messages of one person: so many at once, and as many again in that time."""
    link: WrittenRate = "200/10s"
    """Messages of everybody in one chat together."""
    joins: WrittenRate = "60/m"
    """People who come into one chat: the ghosts of more come later. Nobody's words wait for that."""
    patience: Duration = 60
    """How long a message may wait for its turn; what would have to wait longer is not passed on, and counted."""
    quarantine: Quarantine = Quarantine.OFF
    """Whose messages wait until a moderator of the room or an operator of the chat nods (`!bridge accept`).
    `strangers`: of who has no account, no voice and no nod yet. `everybody`: of who has no voice and no nod yet."""


class Link(Section):
    """One chat of the network and the Matrix room that it is linked to."""

    chat: str = Field(min_length=1)
    """The chat as people call it on its network."""
    room: Room
    """A room id or an alias."""
    ceiling: Ceiling | None = None
    """For this room, in addition to the network's own."""
    shield: Shield | None = None
    """For this room, instead of the network's own."""
    password: SecretStr | None = None
    """What lets the bridge into the chat, where its network asks for that (an IRC channel's key)."""
    members: Mode | None = None
    """Whose ghosts are in this room; as the network's `members` says where it is not given."""


class NetworkSection(Section):
    """One network. The other keys are the connector's own."""

    connector: str
    """Which connector speaks to it."""
    name: str = ""
    """What people call the network; its id where it is not given."""
    space: bool = False
    """Make a Matrix space that holds the network's rooms."""
    consent: Policy = Policy.REQUIRED
    """What it takes to link a chat. `required`: one of its operators agrees, in private, to what is asked. `announced`:
    the chat is told, and asked only for what goes beyond reading along. `off`: the chats are your own."""
    direct: Direct = Direct.KNOWN
    """Between whom private conversations may begin, from either side. `known`: who share a linked chat, or have talked
    before; with the network's own services; and where the network asks people first. `anyone`. `off`: nobody, and
    those that have begun are closed. Whoever has said `!block` is not written to."""
    ceiling: Ceiling = Ceiling()
    """How open the network's rooms may be at most."""
    gate: GateMode | None = None
    """What becomes of a Matrix user whose own account is not in the chat. `pause`: messages wait for them, some
    minutes, then they are taken out of the room. `kick`: they are taken out at once. `relay-allowed`: the bridge's
    own presence is enough. Where it is not given: `pause` if the connector gives everybody an account, else
    `relay-allowed`."""
    shield: Shield | None = None
    """What keeps spam out of the network's rooms; without it there are no limits. `shield: {}` takes the defaults."""
    members: Mode = Mode.GRADUAL
    """Whose ghosts are in the rooms of its chats. `active`: who has spoken. `gradual`: who speaks at once, then all
    others, operators first, at a rate that the homeserver bears. `full`: all, and what is said waits until they are
    in. `none`: who has spoken, and nobody's coming and going is shown."""
    grant_roles: bool = False
    """A power level that somebody gives in Matrix is asked of the network too, with the giver's own account or the
    bridge's. Who is muted in Matrix is muted there in any case."""
    links: tuple[Link, ...] = ()
    """Chats that are always linked; others are linked with `!bridge link`."""


class Network(NetworkSection):
    """One network, with what its connector made of its own keys."""

    config: Any = None
    """The connector's validated model."""


def _permissions(value: dict[str, Permission]) -> dict[str, Permission]:
    for who in value:
        user = re.fullmatch(r"@[^\s:]+:(.+)", who)
        if who != "*" and not SERVER_NAME.fullmatch(user[1] if user else who):
            raise ValueError(f"{who!r} is no user (@name:example.org), no server (example.org) and not *")
    if Permission.ADMIN not in value.values():
        raise ValueError("needs at least one user or server with the level admin")
    return value


class Config(Section):
    """The whole configuration."""

    homeserver: Homeserver
    appservice: Appservice
    store: Store = Store()
    admin: Admin = Admin()
    public: Public | None = None
    permissions: Annotated[dict[str, Permission], AfterValidator(_permissions)]
    """Who may do what: a user, a server or `*` (everybody), and a level: `admin`, `user`, `relay` or `none`. The
    most exact entry counts."""
    encryption: Encryption = Encryption()
    messages: Messages = Messages()
    members: Members = Members()
    moderation: Moderation = Moderation()
    log: Log = Log()
    networks: dict[ids.NetworkId, Network] = {}
    """The networks by their id: lower case letters, digits and hyphens."""

    _path: Path = PrivateAttr(default=Path("config.yaml"))

    @property
    def path(self) -> Path:
        """The file that this was read from."""
        return self._path

    def permission(self, user: str) -> Permission:
        """What the Matrix user may do: their own entry counts first, then their server's, then everybody's."""
        server = user.partition(":")[2]
        for who in (user, server, "*"):
            if who in self.permissions:
                return self.permissions[who]
        return Permission.NONE

    def admins(self) -> list[ids.PersonId]:
        """The admins who are named one by one."""
        named = (ids.PersonId(who) for who in self.permissions if who.startswith("@"))
        return [user for user in named if self.permission(user) is Permission.ADMIN]

    @model_validator(mode="after")
    def _listeners_differ(self) -> Config:
        if self.admin.listen == self.appservice.listen and self.admin.listen.port:
            raise ValueError("admin.listen and appservice.listen must be two different addresses")
        return self
