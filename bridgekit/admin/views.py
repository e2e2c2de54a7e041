"""What `/api/v1` answers and takes, as values. Names of rooms, chats and users are in it, and what people
wrote who report abuse; nothing else that was said, and no secret. All times are milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an account of a network is made with; a `secret` one is sealed, and never told again."""

    name: str
    title: str
    secret: bool
    required: bool


class NetworkView(msgspec.Struct, frozen=True, kw_only=True):
    """One configured network: how its own connection does, and what goes over it.

    `fates` counts messages since the start, by direction (`to_matrix`, `to_network`) and fate; `turned_away` those of
    strangers, who may not begin a private conversation. `own_accounts` is `off`, `on_request` or `automatic`.
    """

    network: str
    name: str
    connector: str
    state: str
    reason: str
    links: int
    held: int
    turned_away: int
    accounts: int
    own_accounts: str
    fields: list[Field]
    fates: Mapping[str, Mapping[str, int]]


class ConsentView(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody who speaks for a chat has agreed to, and who that was when."""

    scopes: list[str]
    name: str
    account: str
    at: int


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """One chat that shares a room.

    `account` is whose own conversation it is ("" for a chat that everybody shares). `state` is `open`, `waiting`,
    `paused` or `closed`, and `reason` a sentence. `obstacle` is what is in its way besides. `exposure` is who may
    read the chat, as its network says now (`unknown` counts as the most secret). `agreed` is there where one of the
    two sides is encrypted and the other is not. `held` messages wait, the oldest since `held_since` (0: none).
    """

    network: str
    chat: str
    name: str
    account: str
    creator: str
    state: str
    reason: str
    obstacle: str
    since: int
    protection: str
    agreed: bool | None
    exposure: str
    modes: str
    consents: list[ConsentView]
    held: int
    held_since: int


class RoomView(msgspec.Struct, frozen=True, kw_only=True):
    """One linked room. `protection`, `matrix` and `words` are its label; `history` is who may read it, as left."""

    room: str
    kind: str
    protection: str
    matrix: str
    words: str
    history: str
    links: list[LinkView]


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """A Matrix user's own account on a network."""

    network: str
    user: str
    state: str
    reason: str


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """A device of one of the bridge's own users, or of somebody for whom it speaks; its public keys where it alone was
    asked for. `identity` is empty where that is in somebody's own clients."""

    user: str
    device: str
    device_key: str = ""
    identity: str = ""


class ReportView(msgspec.Struct, frozen=True, kw_only=True):
    """One open report of abuse. `room` is where the chat is bridged to ("": nowhere now), `reporter` is empty where
    they do not say who they are; of the `messages` that they showed, `proven` are surely the accused's. `note` are the
    reporter's own words; `told` is whether the admins were told of it in their rooms.
    """

    number: int
    network: str
    chat: str
    room: str
    at: int
    reporter: str
    accused: str
    note: str
    messages: int
    proven: int
    told: bool


class Networks(msgspec.Struct, frozen=True):
    """All networks."""

    networks: list[NetworkView]


class Rooms(msgspec.Struct, frozen=True):
    """All linked rooms."""

    rooms: list[RoomView]


class Accounts(msgspec.Struct, frozen=True):
    """All people's own accounts."""

    accounts: list[AccountView]


class Devices(msgspec.Struct, frozen=True):
    """All devices of the bridge's own users."""

    devices: list[DeviceView]


class Reports(msgspec.Struct, frozen=True):
    """All open reports of abuse, the oldest first."""

    reports: list[ReportView]


class Refusal(msgspec.Struct, frozen=True):
    """Why something was not done: a sentence."""

    error: str


class Done(msgspec.Struct, frozen=True):
    """It is done."""

    done: bool = True


class AccountWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keep an account for `user`; `fields` are those that the network names."""

    network: str
    user: str
    fields: dict[str, str] = {}


class LinkWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Link a room, in which the bot is, to a chat; `user` is who asks for it."""

    room: str
    network: str
    chat: str
    user: str


class CodeWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A linked chat whose network knows codes that let people in."""

    network: str
    chat: str


class Code(msgspec.Struct, frozen=True):
    """Whoever has it may come in."""

    code: str


class ErasureWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to erase."""

    user: str
