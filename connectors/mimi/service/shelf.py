"""Key packages of our users' clients: each is given out once, a last-resort one when there is no other left.

draft-ietf-mimi-protocol-06 5.2; draft-ietf-mls-extensions 6.4 (last resort). Without IO: a change is a value to store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from connectors.mimi.wire.mls import KEY_PACKAGE, KeyPackage, Lifetime, RequiredCapabilities
from connectors.mimi.wire.users import (
    Client,
    ClientExhausted,
    ClientIncompatible,
    ClientMaterial,
    KeyMaterialResponse,
    UserCode,
)

LOW = 20
"""With fewer packages than this a client is to publish more."""

RENEW = 28 * 24 * 3600
"""A last-resort package is replaced so long (s) before its time is over."""


class Package(msgspec.Struct, frozen=True):
    """`octets` is the bare KeyPackage, `reference` its KeyPackageRef, `not_after` in seconds."""

    reference: bytes
    octets: bytes
    not_after: int
    last_resort: bool = False


class Shelf(msgspec.Struct, frozen=True):
    """What one user has published: packages by client URI. It never changes: taking one makes another shelf."""

    user: str
    clients: Mapping[str, tuple[Package, ...]]

    def publish(self, client: str, packages: Iterable[Package]) -> Shelf:
        """With further packages of a client; a new last resort replaces the old. Also one without any is known."""
        more = tuple(packages)
        renewed = any(package.last_resort for package in more)
        kept = tuple(p for p in self.clients.get(client, ()) if not (renewed and p.last_resort))
        return Shelf(self.user, {**self.clients, client: (*kept, *more)})

    def fresh(self, now: float) -> Shelf:
        """Without what is past its time."""
        return Shelf(
            self.user,
            {name: tuple(p for p in kept if p.not_after > now) for name, kept in self.clients.items()},
        )

    def withdraw(self, client: str) -> Shelf:
        """Without a client."""
        return Shelf(self.user, {name: kept for name, kept in self.clients.items() if name != client})

    def low(self, now: float) -> list[str]:
        """The clients that are to publish more."""
        return [
            client
            for client, kept in self.clients.items()
            if sum(not p.last_resort and p.not_after > now for p in kept) < LOW
        ]

    def lacks_last_resort(self, client: str, now: float) -> bool:
        """Whether the client is to publish one for when the others are used up."""
        return not any(p.last_resort and p.not_after > now + RENEW for p in self.clients.get(client, ()))

    def claim(
        self, suites: Iterable[int], required: RequiredCapabilities, now: float
    ) -> tuple[KeyMaterialResponse, Shelf, dict[bytes, str]]:
        """One package of each client: the answer, the shelf without them, and whose each of them is (by reference)."""
        acceptable = frozenset(suites)
        answers: list[Client] = []
        left: dict[str, tuple[Package, ...]] = {}
        given: dict[bytes, str] = {}
        for client, kept in sorted(self.clients.items()):
            fresh = [p for p in kept if p.not_after > now]
            opened = [(p, KEY_PACKAGE.decode(p.octets)) for p in fresh]
            fitting = [(p, key) for p, key in opened if _fits(key, acceptable, required)]
            # The oldest first, and the last resort only when it is that.
            fitting.sort(key=lambda found: (found[0].last_resort, found[0].not_after))
            left[client] = tuple(fresh)
            if fitting:
                taken, key = fitting[0]
                given[taken.reference] = client
                answers.append(ClientMaterial(client, key))
                if not taken.last_resort:
                    left[client] = tuple(p for p in fresh if p is not taken)
            elif opened:
                answers.append(ClientIncompatible(client, opened[0][1].leaf_node.capabilities))
            else:
                answers.append(ClientExhausted(client))
        return KeyMaterialResponse(_code(answers), self.user, tuple(answers)), Shelf(self.user, left), given


def _code(answers: list[Client]) -> UserCode:
    served = sum(isinstance(answer, ClientMaterial) for answer in answers)
    if served:
        return UserCode.SUCCESS if served == len(answers) else UserCode.PARTIAL_SUCCESS
    return UserCode.NO_COMPATIBLE_MATERIAL


def _fits(key: KeyPackage, suites: frozenset[int], required: RequiredCapabilities) -> bool:
    can = key.leaf_node.capabilities
    return (
        key.cipher_suite in suites
        and set(required.extensions) <= set(can.extensions)
        and set(required.proposals) <= set(can.proposals)
        and set(required.credentials) <= set(can.credentials)
    )


def lifetime(key: KeyPackage) -> Lifetime | None:
    """How long a package is good for, None where its leaf does not say (which RFC 9420 7.2 forbids)."""
    source = key.leaf_node.source
    return source if isinstance(source, Lifetime) else None
