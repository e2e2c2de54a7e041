"""Which client a leaf says to be, and by whose word it comes into a group (draft-ietf-mimi-protocol-06 4.2, 5.2, 5.3).

A basic credential proves nothing: anybody can make a key package that names anybody. So a client is its own provider's
who brings it, or who gave out the key package by which it comes. Pure.
"""

from __future__ import annotations

import msgspec

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi import uris
from connectors.mimi.uris import Thing
from connectors.mimi.wire.mls import (
    Add,
    BasicCredential,
    ByValue,
    Commit,
    KeyPackage,
    LeafNode,
    PublicMessage,
    Update,
)
from connectors.mimi.wire.users import ClientMaterial, KeyMaterialResponse

MAX_CLIENTS = 100
"""Of one user."""


class Entering(msgspec.Struct, frozen=True):
    """A leaf that a handshake brings: by a key package, or with fresh keys of who sends it (a member, or who joins)."""

    leaf: LeafNode
    package: KeyPackage | None = None

    @property
    def client(self) -> bytes:
        """The URI in its credential. Raises PeerMisbehaved where there is none."""
        return client_of(self.leaf)


def entering(message: PublicMessage) -> list[Entering]:
    """The leaves that this very message brings; there is no other way into a tree (RFC 9420 12.1, 12.4).

    What a commit covers by reference came by messages of its own.
    """
    match message.content:
        case Add(key_package=package):
            return [Entering(package.leaf_node, package)]
        case Update(leaf_node=leaf):
            return [Entering(leaf)]
        case Commit(proposals=proposals, path=path):
            added = [
                Entering(each.proposal.key_package.leaf_node, each.proposal.key_package)
                for each in proposals
                if isinstance(each, ByValue) and isinstance(each.proposal, Add)
            ]
            return added if path is None else [*added, Entering(path.leaf_node)]
        case _:
            return []


def client_of(leaf: LeafNode) -> bytes:
    """The URI in a leaf's credential. Raises PeerMisbehaved where there is none."""
    if not isinstance(leaf.credential, BasicCredential):
        raise PeerMisbehaved("The other side's credential names no client.")
    return leaf.credential.identity


def check_material(response: KeyMaterialResponse, user: str) -> None:
    """An answer to a claim is of that user, and each key package of the client beside which it stands.

    Raises PeerMisbehaved.
    """
    if response.user != user:
        raise PeerMisbehaved("The other side gave the key packages of another user.")
    if len(response.clients) > MAX_CLIENTS:
        raise PeerMisbehaved("The other side says that a user has more clients than anybody has.")
    domain = uris.parse(user, Thing.USER).domain
    for client in response.clients:
        if uris.parse(client.client_uri, Thing.CLIENT).domain != domain:
            raise PeerMisbehaved("The other side says that a user has clients at another provider.")
        if (
            isinstance(client, ClientMaterial)
            and client_of(client.key_package.leaf_node) != client.client_uri.encode()
        ):
            raise PeerMisbehaved("The other side gave a key package that names another client.")
