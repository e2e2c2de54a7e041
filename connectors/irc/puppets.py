"""What a Matrix user looks like on IRC: nick, user name, real name, host and address, each from the Matrix id."""

from __future__ import annotations

import hashlib
import ipaddress

from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import Login
from connectors.irc.config import Idle, IrcConfig, Mechanism, Puppets, WebIrc, read_secret
from connectors.irc.ident import ident_of
from connectors.irc.registering import Papers
from connectors.irc.signing_in import Credentials

__all__ = ["Idle", "address_of", "papers_of", "relay_papers"]


def _words(mxid: str) -> dict[str, str]:
    localpart, _, domain = mxid.removeprefix("@").partition(":")
    return {"mxid": mxid, "localpart": localpart, "domain": domain, "displayname": localpart}


def _fill(template: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def realname_of(template: str, mxid: str, displayname: str = "") -> str:
    """The real name; the Matrix id always stands in it, so that a network's operators know whom they see."""
    words = _words(mxid)
    filled = _fill(template, {**words, "displayname": displayname or words["displayname"]})
    return filled if mxid in filled else f"{mxid} {filled}".rstrip()


def address_of(prefix: str, mxid: str) -> str:
    """The user's own IPv6 address in `prefix`: always the same one, so that a ban hits one person."""
    network = ipaddress.IPv6Network(prefix, strict=False)
    digest = int.from_bytes(hashlib.sha256(mxid.encode()).digest()[:16], "big")
    return str(network[digest % network.num_addresses])


def host_of(webirc: WebIrc, mxid: str) -> str:
    """A host name for WEBIRC: letters, digits, dots and dashes, at most 63 bytes."""
    filled = _fill(webirc.host, _words(mxid)).lower()
    clean = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in filled).strip(".-")
    if len(clean) > 63 or not clean:
        clean = f"{hashlib.sha256(mxid.encode()).hexdigest()[:16]}.{clean[-40:].strip('.-') or 'matrix'}"
    return clean


def relay_papers(config: IrcConfig) -> Papers:
    """How the relay signs on."""
    sasl = config.sasl
    credentials = None
    if sasl is not None:
        credentials = Credentials(
            mechanism=sasl.mechanism,
            account=sasl.account,
            password=read_secret(sasl.password),
            certificate=any(server.tls_cert_file for server in config.servers),
            required=sasl.required,
        )
    return Papers(
        nick=config.nick,
        username=config.username,
        realname=config.realname,
        password=read_secret(config.password),
        sasl=credentials,
    )


def papers_of(login: Login, config: Puppets, server_password: str = "", *, services: bool = True) -> Papers:
    """How `login` signs on; `services`: NickServ is told where the server offers no SASL."""
    mxid, fields = str(login.owner), login.fields
    words = {**_words(mxid), "displayname": fields.get("displayname") or _words(mxid)["displayname"]}
    chosen = fields.get("nick", "").strip()
    stem, brace, suffix = config.nick.rpartition("}")  # what stands behind the name is no part of it
    nick = chosen or _fill(stem + brace or suffix, words)
    password = fields.get("password", "")
    credentials = None
    if password:
        account = fields.get("account") or nick
        credentials = Credentials(
            mechanism=Mechanism.AUTO, account=account, password=password, services=services
        )
    webirc = None
    if config.webirc is not None:
        gateway = config.webirc
        # Without an address of their own, one that is routed nowhere (RFC 4193): a ban hits one person
        address = address_of(config.ipv6_prefix or "fd62:6b69:7463::/48", mxid)
        webirc = (
            read_secret(gateway.password),
            gateway.gateway,
            host_of(gateway, mxid),
            address,
        )
    return Papers(
        nick=nick,
        username=ident_of(mxid),
        realname=realname_of(config.realname, mxid, words["displayname"]),
        suffix="" if chosen or not brace else suffix,
        password=fields.get("server_password") or server_password,
        sasl=credentials,
        webirc=webirc,
    )


def own_address(config: Puppets, owner: PersonId) -> str | None:
    """The local address that the user's connection comes from; None is the machine's."""
    return address_of(config.ipv6_prefix, str(owner)) if config.ipv6_prefix else None
