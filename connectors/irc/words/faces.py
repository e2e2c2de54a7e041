"""Sources and users as persons of the contract."""

from __future__ import annotations

from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Person
from connectors.irc.protocol.roll import User
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import Line, parts
from connectors.irc.words.identity import View

_SERVICES = frozenset(
    "authserv botserv chanserv gameserv global groupserv helpserv histserv hostserv infoserv memoserv nickserv "
    "operserv saslserv statserv".split()
)


class Faces:
    """Turns what lines call people into who they are, for one connection."""

    def __init__(self, state: State, people: View) -> None:
        self.state = state
        self.people = people

    def speaker(self, line: Line) -> Person:
        """Who said `line`; account-tag and draft/relaymsg are heeded."""
        account = line.tags.get("account", "") if "account-tag" in self.state.caps else None
        return self.person(*parts(line.source), account, bot="draft/relaymsg" in line.tags)

    def past_speaker(self, line: Line) -> Person:
        """Who said `line` when it was said: it is told again now, and the nick may be somebody else's."""
        account = line.tags.get("account")
        id = self.people.past(line.nick, user=line.user, host=line.host, account=account or "")
        return Person(id=id, name=line.nick, account=account or None, bot=is_service(line.nick))

    def person(
        self, nick: str, user: str = "", host: str = "", account: str | None = None, *, bot: bool = False
    ) -> Person:
        """Who is called `nick` now; what is known of a channel's member is added."""
        member = self.state.known(nick)
        if member is not None:
            user, host = user or member.user, host or member.host
            account = member.account if account is None else account
            bot, nick = bot or member.bot, member.nick
        id = self.people.person(nick, user=user, host=host, account=account, stranger=member is None)
        return Person(id=id, name=nick, account=account or None, bot=bot or is_service(nick))

    def of(self, user: User) -> Person:
        """The person of a member, present or just gone."""
        id = self.people.person(user.nick, user=user.user, host=user.host, account=user.account)
        return Person(
            id=id, name=user.nick, account=user.account or None, bot=user.bot or is_service(user.nick)
        )

    def actor(self, source: str) -> Person | None:
        """Who did it, None for a server."""
        nick, bang, rest = source.partition("!")
        if not nick or (not bang and ("." in nick or self.state.known(nick) is None)):
            return None
        user, at, host = rest.rpartition("@")
        return self.person(nick, user, host if at else "")

    def channel(self, name: str) -> ChatId:
        """The chat of a channel."""
        return self.people.chat(name)


def is_service(nick: str) -> bool:
    """Whether that is what networks call their services."""
    return nick.lower() in _SERVICES
