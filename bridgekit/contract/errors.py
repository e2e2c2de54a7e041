"""What may go wrong, and the sentence that people read.

BridgeError -- ConfigError
            +- MatrixError:     HomeserverUnavailable (retry) . MatrixRateLimited (retry after) . MatrixForbidden
            |                   . MatrixRefused
            +- RemoteError:     Disconnected (retry) . RateLimited . LoginRejected (tell, stay away) - LoginBanned
            |                   . SendRejected . SendUncertain . PeerMisbehaved
            +- EncryptionError: Undecryptable
            +- PolicyError:     WouldExpose . NotAllowed
Anything else is a bug: its traceback is logged, it is counted, and the one fact it struck is parked.
"""

from __future__ import annotations


class BridgeError(Exception):
    """An expected failure.

    `notice` is a whole sentence for the person concerned: what happened and what to do. `certain` is False
    where the thing may have happened all the same. `retry_after` is seconds, None where a retry is no use.
    """

    certain: bool = True

    def __init__(self, notice: str, *, retry_after: float | None = None) -> None:
        super().__init__(notice)
        self.notice = notice
        self.retry_after = retry_after


class ConfigError(BridgeError):
    """The configuration cannot be used; `problems` are (path, sentence), all of them at once.

    `passing`: not now; the same configuration may be of use later.
    """

    def __init__(self, problems: list[tuple[str, str]], *, passing: bool = False) -> None:
        super().__init__("\n".join(f"{path}: {why}" if path else why for path, why in problems))
        self.problems = problems
        self.passing = passing


class MatrixError(BridgeError):
    """The homeserver did not do it."""


class HomeserverUnavailable(MatrixError):
    """No answer, or an answer that asks for another try; the request may have taken effect."""

    certain = False

    def __init__(self, notice: str, *, retry_after: float = 1.0) -> None:
        super().__init__(notice, retry_after=retry_after)


class MatrixRateLimited(MatrixError):
    """M_LIMIT_EXCEEDED: it did nothing, and says when to come back."""


class MatrixRefused(MatrixError):
    """Any other error answer. `errcode` and `status` are the homeserver's."""

    def __init__(self, notice: str, *, errcode: str = "M_UNKNOWN", status: int = 400) -> None:
        super().__init__(notice)
        self.errcode = errcode
        self.status = status


class MatrixForbidden(MatrixRefused):
    """M_FORBIDDEN: the acting user is not in the room or lacks the power."""


class RemoteError(BridgeError):
    """The network did not do it."""


class Disconnected(RemoteError):
    """The connection is gone or cannot be made; the session is restarted with backoff."""

    def __init__(self, notice: str, *, retry_after: float = 0.0) -> None:
        super().__init__(notice, retry_after=retry_after)


class RateLimited(RemoteError):
    """The network asks to slow down."""


class LoginRejected(RemoteError):
    """The account cannot be used: its owner is told, and nobody waits for it.

    `retry_after`: seconds after which the network may say otherwise, and is asked once more, ever more seldom;
    None where nothing but a change on our own side can mend it.
    """


class LoginBanned(LoginRejected):
    """The network has banned the account or its person: others may want to know."""


class SendRejected(RemoteError):
    """This one verb was refused; the session goes on."""


class SendUncertain(RemoteError):
    """It may or may not have arrived: reported, never repeated."""

    certain = False


class PeerMisbehaved(RemoteError):
    """The peer sent what its protocol forbids; the only thing that a parser may raise."""


class EncryptionError(BridgeError):
    """Encryption stands in the way."""


class Undecryptable(EncryptionError):
    """There is no key for it, yet."""


class PolicyError(BridgeError):
    """A rule of a chat, a room or the admin stands in the way."""


class WouldExpose(PolicyError):
    """More people would read it than its network allows."""


class NotAllowed(PolicyError):
    """This person may not do this."""
