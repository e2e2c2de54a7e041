"""One device of ours: its Olm account, its user's identity unless that is in their own clients, and its sessions with
other devices.

Nothing here waits or writes: what changes comes back as rows, to be committed before what was made with them is used.
"""

from __future__ import annotations

import secrets
from typing import Any, cast

import msgspec
import structlog
from vodozemac import (
    Account,
    AnyOlmMessage,
    Curve25519PublicKey,
    Session,
)

from bridgekit.contract.errors import PeerMisbehaved, Undecryptable
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto import contents
from bridgekit.matrix.crypto.devices import MEGOLM, OLM, Device, Person
from bridgekit.matrix.crypto.identity import Identity
from bridgekit.matrix.crypto.signing import (
    SEED_BYTES,
    Json,
    canonical,
    from_base64,
    is_signed,
    signed,
    unpadded,
)
from bridgekit.store.keys import OlmRow, OurDevice, Secrets

log = structlog.get_logger(__name__)

SESSIONS = 5
"""Olm sessions that are kept with one device; mostly there is one, or two that were begun on both sides at once."""
MARK = "BK"
"""What the names of our devices begin with."""
BEGINS = 0
"""The type of an Olm message that begins a session."""


class Machine:
    """One device. `sessions` are by the other's Curve25519 key, the one to answer with first."""

    def __init__(self, row: OurDevice, sessions: list[OlmRow], pickle_key: bytes) -> None:
        self.user = row.mxid
        self.device = row.device
        self.published = row.published
        self._pickle_key = pickle_key
        self._account = Account.from_pickle(row.secrets.account, pickle_key)
        self.curve25519 = self._account.curve25519_key.to_base64()
        self.ed25519 = self._account.ed25519_key.to_base64()
        self._take_identity(row.secrets)
        self.sessions: dict[str, list[OlmRow]] = {}
        for session in sessions:
            self.sessions.setdefault(session.theirs, []).append(session)

    @staticmethod
    def new(user: PersonId, pickle_key: bytes, *, identity: bool = True) -> OurDevice:
        """A device that nobody knows yet; with an identity of its own unless the user has one elsewhere."""
        account = Account().pickle(pickle_key)
        return OurDevice(
            mxid=user,
            device=MARK + secrets.token_hex(4).upper(),
            secrets=_with_identity(account) if identity else _without_identity(account),
            published=False,
        )

    def renew_identity(self) -> None:
        """Take a new identity, which signs the same device; the old one is forgotten."""
        self._take_identity(_with_identity(self._secrets.account))

    def _take_identity(self, given: Secrets) -> None:
        self._secrets = given
        self._identity = Identity(self.user, given) if given.master else None
        self.master = self._identity.master if self._identity is not None else ""
        self.device_keys = self._device_keys()

    @property
    def only_sends(self) -> bool:
        """Whether it is a device of somebody's own user, whose identity is none of ours: it reads nothing for them."""
        return self._identity is None

    def row(self) -> OurDevice:
        """The device as it is now."""
        pickled = msgspec.structs.replace(self._secrets, account=self._account.pickle(self._pickle_key))
        return OurDevice(mxid=self.user, device=self.device, secrets=pickled, published=self.published)

    # What the homeserver is told ------------------------------------------------------------------------------

    def _sign(self, value: Json) -> Json:
        signature = self._account.sign(canonical(value)).to_base64()
        return signed(value, self.user, self.device, signature)

    def _device_keys(self) -> Json:
        """The device's keys, signed by itself and by its owner's identity where we have that."""
        keys = {
            "user_id": self.user,
            "device_id": self.device,
            "algorithms": [OLM, MEGOLM],
            "keys": {
                f"curve25519:{self.device}": self.curve25519,
                f"ed25519:{self.device}": self.ed25519,
            },
        }
        signed_by_itself = self._sign(keys)
        return self._identity.sign(signed_by_itself) if self._identity is not None else signed_by_itself

    def identity(self) -> Json:
        """The cross-signing keys, for device_signing/upload; {} where the identity is none of ours."""
        if self._identity is None:
            return {}
        keys = self._identity.keys()
        # The master key also bears the device's signature, as clients make it.
        return {**keys, "master_key": self._sign(keys["master_key"])}

    def shown(self, seen: Person) -> Device | None:
        """The device as the homeserver shows it; None where it does not, or with other keys."""
        device = seen.devices.get(self.device)
        ours = (self.curve25519, self.ed25519)
        return device if device is not None and (device.curve25519, device.ed25519) == ours else None

    def is_as_published(self, seen: Person) -> bool:
        """Whether the homeserver shows the device and the identity as they are."""
        device = self.shown(seen)
        return device is not None and device.cross_signed and seen.master == self.master

    def more_keys(self, count: int, *, fallback: bool) -> None:
        """Make `count` one-time keys, and a fallback key; those that were not uploaded yet count."""
        missing = count - len(self._account.one_time_keys)
        if missing > 0:
            self._account.generate_one_time_keys(missing)
        account = cast(Any, self._account)  # its stub lacks fallback keys
        if fallback and not account.fallback_key:
            account.generate_fallback_key()

    def unpublished(self) -> Json:
        """One-time and fallback keys that were made and not confirmed, signed, for keys/upload."""
        one_time = {
            f"signed_curve25519:{id}": self._sign({"key": key.to_base64()})
            for id, key in self._account.one_time_keys.items()
        }
        fallback = {
            f"signed_curve25519:{id}": self._sign({"key": key.to_base64(), "fallback": True})
            for id, key in cast(Any, self._account).fallback_key.items()
        }
        return {"one_time_keys": one_time} | ({"fallback_keys": fallback} if fallback else {})

    def confirm(self) -> None:
        """The homeserver has them."""
        self._account.mark_keys_as_published()

    # Olm -----------------------------------------------------------------------------------------------------

    def knows(self, curve25519: str) -> bool:
        """Whether there is a session with the device."""
        return curve25519 in self.sessions

    def begin(self, to: Device, one_time_key: Any, now: int) -> OlmRow | None:
        """Begin a session with a device whose (signed) one-time key was claimed; None where that is no good.

        The session stands first from now on. `now` is in ms.
        """
        key = one_time_key.get("key") if isinstance(one_time_key, dict) else None
        if not isinstance(key, str) or not is_signed(one_time_key, to.user, to.id, to.ed25519):
            return None
        try:
            theirs = Curve25519PublicKey.from_base64(to.curve25519)
            session = self._account.create_outbound_session(theirs, Curve25519PublicKey.from_base64(key))
        except ValueError:
            return None
        return self._keep(to.curve25519, session, now)

    def encrypt(self, to: Device, type: str, content: Json) -> tuple[Json, OlmRow]:
        """An event for a device that there is a session with: the content of m.room.encrypted, and the changed row."""
        row = self.sessions[to.curve25519][0]
        session = Session.from_pickle(row.pickle, self._pickle_key)
        payload = contents.olm_payload(
            type,
            content,
            sender=self.user,
            signing_key=self.ed25519,
            device_keys=self.device_keys,
            to=to,
        )
        kind, body = session.encrypt(payload).to_parts()
        row = self._keep(to.curve25519, session, row.used)
        return contents.olm_message(self.curve25519, to, kind, unpadded(body)), row

    def peek(self, sender: PersonId, content: contents.OlmContent) -> contents.Opened:
        """What an Olm message holds, while nothing has changed by it yet. Raises as `decrypt` does."""
        trial = Account.from_pickle(self._account.pickle(self._pickle_key), self._pickle_key)
        return self._opened(sender, content, trial)[0]

    def decrypt(
        self, sender: PersonId, content: contents.OlmContent, now: int
    ) -> tuple[contents.Opened, OlmRow, bool]:
        """What an Olm message holds, the changed session, and whether the account has changed as well.

        Raises Undecryptable where no session opens it, PeerMisbehaved where it is not what it should be. From here
        to the commit of what changed nothing may be waited for: a message to the same device would come between.
        """
        found, session, begun = self._opened(sender, content, self._account)
        return found, self._keep(content.sender_key, session, now), begun

    def _opened(
        self, sender: PersonId, content: contents.OlmContent, account: Account
    ) -> tuple[contents.Opened, Session, bool]:
        message = content.ciphertext.get(self.curve25519)
        if message is None or content.algorithm != OLM:
            raise PeerMisbehaved("an Olm message that is for another device")
        plain, session, begun = self._open(content.sender_key, message, account)
        try:
            found = contents.opened(plain)
        except (msgspec.MsgspecError, RecursionError):
            raise PeerMisbehaved("an Olm message with nothing readable in it") from None
        # Specification, "m.olm.v1.curve25519-aes-sha2": otherwise it could have been made for, or by, somebody else.
        if (found.sender, found.recipient, found.recipient_keys.ed25519) != (sender, self.user, self.ed25519):
            raise PeerMisbehaved("an Olm message that was made for, or by, somebody else")
        return found, session, begun

    def _open(
        self, theirs: str, message: contents.OlmMessage, account: Account
    ) -> tuple[bytes, Session, bool]:
        try:
            parsed = AnyOlmMessage.from_parts(message.type, from_base64(message.body))
            begins = parsed.to_pre_key() if message.type == BEGINS else None
        except ValueError:
            raise PeerMisbehaved("an Olm message that is none") from None
        for row in self.sessions.get(theirs, ()):
            session = Session.from_pickle(row.pickle, self._pickle_key)
            if begins is not None and not session.session_matches(begins):
                continue
            try:
                return session.decrypt(parsed), session, False
            except ValueError:
                if begins is not None:  # a fallback key would open it once more, and put the session back
                    raise Undecryptable("The session that this message begins is past it.") from None
        if begins is None:
            raise Undecryptable("No session opens this message.")
        try:
            key = Curve25519PublicKey.from_base64(theirs)
            session, plain = account.create_inbound_session(key, begins)
        except ValueError:
            raise Undecryptable("The one-time key of this message is gone.") from None
        return plain, session, True

    def _keep(self, theirs: str, session: Session, used: int) -> OlmRow:
        row = OlmRow(
            ours=self.user,
            theirs=theirs,
            id=session.session_id,
            pickle=session.pickle(self._pickle_key),
            used=used,
        )
        others = [other for other in self.sessions.get(theirs, ()) if other.id != row.id]
        self.sessions[theirs] = sorted([row, *others], key=lambda one: -one.used)
        return row

    def surplus(self, theirs: str) -> list[OlmRow]:
        """Take the sessions out that nobody will miss, to be forgotten on disk too."""
        kept = self.sessions.get(theirs, [])
        self.sessions[theirs] = kept[:SESSIONS]
        return kept[SESSIONS:]


def _with_identity(account: str) -> Secrets:
    """An Olm account's pickle, and an identity that there never was."""
    master, self_signing, user_signing = (secrets.token_bytes(SEED_BYTES) for _ in range(3))
    return Secrets(account=account, master=master, self_signing=self_signing, user_signing=user_signing)


def _without_identity(account: str) -> Secrets:
    return Secrets(account=account, master=b"", self_signing=b"", user_signing=b"")
