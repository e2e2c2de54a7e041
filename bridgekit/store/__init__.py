"""Everything that the bridge must not forget: repositories over SQLite or PostgreSQL, sealed where it is secret."""

from bridgekit.store.canary import WrongKey
from bridgekit.store.driver import StoreError
from bridgekit.store.ids import new_id
from bridgekit.store.rows import Copy, Ghost, InboxRow, Link, LoginRow, ParkedRow, Portal
from bridgekit.store.sealing import SealBroken, SealingKey
from bridgekit.store.statements import Write
from bridgekit.store.store import Store

__all__ = [
    "Copy",
    "Ghost",
    "InboxRow",
    "Link",
    "LoginRow",
    "ParkedRow",
    "Portal",
    "SealBroken",
    "SealingKey",
    "Store",
    "StoreError",
    "Write",
    "WrongKey",
    "new_id",
]
