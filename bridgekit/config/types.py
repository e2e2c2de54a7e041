"""The kinds of values that a config key may have: addresses, durations, URLs."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import AfterValidator, PlainSerializer, PlainValidator, Secret, WithJsonSchema

from bridgekit.core.rates import Rate

SERVER_NAME = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
"""Matrix spec, appendices, "Server Name"."""


class Address(NamedTuple):
    """Where a server listens. `host` has no brackets; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Can only this machine reach it?"""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    found = isinstance(value, str) and re.fullmatch(
        r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/]+)):(\d{1,5})", value
    )
    if not found or int(found[3]) > 65535:
        raise ValueError("must be host:port, such as 127.0.0.1:29330 or [::1]:29330")
    return Address(found[1] or found[2], int(found[3]))


Listen = Annotated[
    Address,
    PlainValidator(_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "title": "host:port"}),
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = isinstance(value, str) and re.fullmatch(r"(\d{1,9}) ?([smhd]?)", value)
    if not found:
        raise ValueError("must be a time such as 90s, 10m, 12h or 7d")
    return int(found[1]) * _UNITS[found[2] or "s"]


def spell_duration(seconds: int) -> str:
    """The shortest way to write it: 86400 is `1d`."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


Duration = Annotated[
    int,
    PlainValidator(_duration),
    PlainSerializer(spell_duration, return_type=str),
    WithJsonSchema({"type": ["string", "integer"], "title": "time"}),
]
"""Seconds; written as a number of them or as `90s`, `10m`, `12h`, `7d`."""


def rate_of(written: str) -> Rate:
    """The rate that `20/10s` or `60/m` says. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,6})/(\d{0,6})([smhd])", written)
    if not found or not int(found[1]) or not int(found[2] or 1):
        raise ValueError("must be a number in a time, such as 20/10s or 60/m")
    return Rate(int(found[1]), int(found[2] or 1) * _UNITS[found[3]] * 1000)


def _rate(written: str) -> str:
    rate_of(written)
    return written


WrittenRate = Annotated[str, AfterValidator(_rate), WithJsonSchema({"type": "string", "title": "rate"})]
"""So many at once, and as many again in every time: `20/10s`, `60/m`."""


def _http_url(value: str) -> str:
    parts = _split(value)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// address")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be an address without user, password, ? or #")
    return value.rstrip("/")


def _split(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return None
    return parts


HttpUrl = Annotated[str, AfterValidator(_http_url), WithJsonSchema({"type": "string", "title": "URL"})]
"""An http(s) address without a slash at its end."""


def _server_name(value: str) -> str:
    if len(value) > 230 or not SERVER_NAME.fullmatch(value):
        raise ValueError("must be the server's name as in user ids: for @admin:example.org it is example.org")
    return value


ServerName = Annotated[str, AfterValidator(_server_name)]


class DatabaseUrl(Secret[str]):
    """`sqlite:///path` or `postgresql://user:password@host/database`; the password is never shown."""

    def _display(self) -> str:
        parts = _split(self.get_secret_value())
        if parts is None or "@" not in parts.netloc:
            return self.get_secret_value().partition("?")[0]
        user = (parts.username or "") + (":********" if parts.password is not None else "")
        return urlunsplit((parts.scheme, f"{user}@{parts.netloc.rpartition('@')[2]}", parts.path, "", ""))
