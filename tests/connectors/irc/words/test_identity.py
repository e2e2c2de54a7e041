"""Who is who: nicks and persons are one to one, whatever happens."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from bridgekit.contract.ids import PersonId
from connectors.irc.words.identity import Identity, View

NICKS = st.sampled_from(["alice", "Alice", "bob", "bob~2", "carol[]", "CAROL{}", "d"])
HOSTS = st.sampled_from(["", "one.example", "two.example"])
ACCOUNTS = st.sampled_from([None, "", "al", "bo"])
MAPPINGS = st.sampled_from(["rfc1459", "ascii"])


class People(RuleBasedStateMachine):
    """Any order of events on two connections, with losses of a connection and of the whole process."""

    views = Bundle("views")

    @initialize()
    def start(self) -> None:
        self.whole = Identity()
        self.now: dict[str, View] = {}

    @rule(name=st.sampled_from(["relay", "puppet"]))
    def connect(self, name: str) -> None:
        self.now[name] = self.whole.view(name)

    @rule(name=st.sampled_from(["relay", "puppet"]))
    def lose(self, name: str) -> None:
        self.whole.drop(name)
        self.now.pop(name, None)

    @rule(
        name=st.sampled_from(["relay", "puppet"]),
        nick=NICKS,
        host=HOSTS,
        account=ACCOUNTS,
        stranger=st.booleans(),
    )
    def see(self, name: str, nick: str, host: str, account: str | None, stranger: bool) -> None:
        if view := self.now.get(name):
            before = view.peek(nick)
            person = view.person(
                nick, user="u" if host else "", host=host, account=account, stranger=stranger
            )
            assert before in (None, person)
            assert view.peek(nick) == person

    @rule(name=st.sampled_from(["relay", "puppet"]), old=NICKS, new=NICKS)
    def rename(self, name: str, old: str, new: str) -> None:
        if view := self.now.get(name):
            before = view.peek(old)
            assert view.rename(old, new) == view.peek(new)
            assert before in (None, view.peek(new))

    @rule(name=st.sampled_from(["relay", "puppet"]), nick=NICKS)
    def forget(self, name: str, nick: str) -> None:
        if view := self.now.get(name):
            view.forget(nick)
            assert view.peek(nick) is None

    @rule(name=st.sampled_from(["relay", "puppet"]), nick=NICKS, host=HOSTS)
    def history(self, name: str, nick: str, host: str) -> None:
        if view := self.now.get(name):
            before = dict(view._persons)
            assert view.past(nick, user="u", host=host)
            assert view._persons == before

    @rule(mapping=MAPPINGS)
    def casemapping(self, mapping: str) -> None:
        self.whole.set_casemapping(mapping)

    @rule()
    def restart(self) -> None:
        data = self.whole.export()
        mapping = self.whole.mapping
        self.whole, self.now = Identity(), {}
        self.whole.set_casemapping(mapping)
        self.whole.restore(data)

    @rule()
    def settle(self) -> None:
        for view in self.now.values():
            view.settle()

    @invariant()
    def nicks_and_persons_are_one_to_one(self) -> None:
        for view in getattr(self, "now", {}).values():
            assert {person: key for key, person in view._persons.items()} == view._nicks
            for person in view._nicks:
                nick = view.nick(person)
                assert nick is not None

    @invariant()
    def a_use_is_counted_once_for_each_connection(self) -> None:
        uses: dict[PersonId, int] = {}
        for view in getattr(self, "now", {}).values():
            for person in view._nicks:
                uses[person] = uses.get(person, 0) + 1
        whole = getattr(self, "whole", None)
        if whole is not None:
            assert whole._uses == uses
            assert whole._traces.keys() == uses.keys()
            assert not whole._lost.keys() & uses.keys()
            assert whole._lost_by.keys() == whole._lost.keys()


TestPeople = People.TestCase
TestPeople.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def one_view() -> tuple[Identity, View]:
    whole = Identity()
    return whole, whole.view("relay")


def test_a_person_is_the_folded_nick_at_first_sight() -> None:
    _, view = one_view()
    assert view.person("Alice[]") == "alice{}"


def test_a_nick_change_is_a_rename_of_the_same_person() -> None:
    _, view = one_view()
    alice = view.person("alice")
    assert view.rename("alice", "Alice_away") == alice
    assert view.person("alice_away") == alice
    assert view.nick(alice) == "alice_away"


def test_a_newcomer_under_a_name_in_use_is_somebody_else() -> None:
    _, view = one_view()
    alice = view.person("alice")
    view.rename("alice", "bob")
    assert view.person("alice") == "alice~2"
    assert view.person("bob") == alice
    view.rename("alice", "carol")
    assert view.person("alice") == "alice~3"


def test_the_name_is_free_again_once_its_person_has_gone() -> None:
    _, view = one_view()
    view.person("alice")
    view.rename("alice", "bob")
    view.forget("bob")
    assert view.person("alice") == "alice"
    assert view.person("bob") == "bob"


def test_nothing_passes_to_a_stranger_who_took_the_name() -> None:
    _, view = one_view()
    alice = view.person("alice", host="one.example")
    view.rename("alice", "bob")
    view.person("alice", host="two.example")
    view.forget("bob")
    assert view.nick(alice) is None


def test_somebody_never_seen_is_called_by_their_id() -> None:
    _, view = one_view()
    assert view.nick(PersonId("nickserv")) == "nickserv"
    assert view.nick(PersonId("NickServ")) is None
    assert view.nick(PersonId("alice~2")) is None


def test_two_connections_agree_who_somebody_is() -> None:
    whole, relay = one_view()
    alice = relay.person("alice")
    relay.rename("alice", "bob")
    puppet = whole.view("puppet")
    assert puppet.person("bob") == alice
    assert puppet.person("alice") == "alice~2" == relay.person("alice")


def test_a_connection_knows_by_another_what_somebody_is_called() -> None:
    whole, relay = one_view()
    alice = relay.person("Alice")
    puppet = whole.view("puppet")
    assert puppet.nick(alice) == "Alice"
    relay.rename("Alice", "bob")
    assert puppet.nick(alice) == "bob"
    puppet.person("alice")
    assert puppet.nick(alice) == "bob"
    relay.forget("bob")
    assert puppet.nick(alice) is None


def test_a_connection_that_lags_behind_keeps_what_it_has_seen() -> None:
    whole, relay = one_view()
    puppet = whole.view("puppet")
    alice = relay.person("alice")
    assert puppet.person("alice") == alice
    relay.rename("alice", "bob")
    assert puppet.person("alice") == alice
    assert puppet.rename("alice", "bob") == alice


def test_after_a_reconnect_a_rename_holds_only_with_the_same_host_or_account() -> None:
    whole, view = one_view()
    view.person("alice", user="a", host="one.example")
    view.rename("alice", "bob")
    view = whole.view("relay")
    assert view.doubtful("bob")
    assert view.person("bob", user="b", host="two.example") == "bob"

    whole, view = one_view()
    view.person("alice", user="a", host="one.example")
    view.rename("alice", "bob")
    view = whole.view("relay")
    assert view.person("bob", user="a", host="one.example") == "alice"


def test_a_restart_keeps_renames_and_accounts() -> None:
    whole, view = one_view()
    view.person("alice", user="a", host="one.example", account="al")
    view.rename("alice", "bob")
    again = Identity()
    again.restore(whole.export())
    view = again.view("relay")
    assert view.person("alice", user="x", host="evil.example") == "alice~2"
    assert view.person("carol", account="al") == "alice"


def test_while_proof_is_awaited_the_name_is_not_given_away_and_then_it_is() -> None:
    whole, view = one_view()
    view.person("alice", user="a", host="one.example")
    view.rename("alice", "bob")
    view = whole.view("relay")
    assert view.nick(PersonId("alice")) is None
    view.settle()
    assert view.person("alice") == "alice"


def test_one_connection_does_not_settle_what_another_lost() -> None:
    whole, relay = one_view()
    relay.person("alice", user="a", host="one.example")
    relay.rename("alice", "bob")
    whole.drop("relay")
    whole.view("puppet").settle()
    assert whole.view("relay").person("bob", user="a", host="one.example") == "alice"


def test_history_is_told_of_whoever_had_the_nick_then() -> None:
    _, view = one_view()
    view.person("alice", user="a", host="one.example")
    view.rename("alice", "bob")
    assert view.past("alice", user="a", host="one.example") == "alice"
    assert view.past("alice", user="x", host="two.example") == "alice~2"
    assert view.past("bob") == "alice"
    assert view.peek("alice") is None


def test_strangers_are_forgotten_in_the_end() -> None:
    _, view = one_view()
    for number in range(1500):
        view.person(f"s{number}", stranger=True)
    assert len(view._persons) == 1000


def test_an_export_that_cannot_be_read_is_nothing() -> None:
    whole = Identity()
    whole.restore(b"\xc1nonsense")
    assert whole.view("relay").person("alice") == "alice"


def test_whoever_is_proved_is_the_same_person_where_names_fold_in_another_way():
    """And whoever is not gets none of what is said to them."""
    whole = Identity()
    person = whole.view("relay").person("Dan[x]", user="dan", host="dans.host")
    later = Identity()
    later.restore(whole.export())
    later.set_casemapping("ascii")
    view = later.view("relay")
    assert view.nick(person) is None
    assert view.person("dan[x]", user="eve", host="eves.host") != person
    view.forget("dan[x]")
    assert view.person("Dan[x]", user="dan", host="dans.host") == person


def test_a_channel_whose_name_is_anothers_id_is_a_chat_of_its_own():
    identity = Identity()
    identity.learn("#a[")
    assert (identity.chat("#A["), identity.chat("#a{")) == ("#a{", "#a{")
    identity.set_casemapping("ascii")
    assert (identity.chat("#A["), identity.channel(identity.chat("#a["))) == ("#a{", "#a[")
    identity.learn("#a{")
    other = identity.chat("#a{")
    assert (other == "#a{", identity.channel(other), identity.chat("#a[")) == (False, "#a{", "#a{")


def test_a_chat_whose_channel_the_network_folds_otherwise_now_stays_that_chat():
    """A bridge that knew no rfc8265 linked #Ünï by that name."""
    identity = Identity()
    identity.set_casemapping("ascii")
    identity.set_casemapping("rfc8265")
    assert identity.chat("#Neü") == "#neü"
    identity.keep("#Ünï")
    identity.learn("#ÜNÏ")
    later = Identity()
    later.restore(identity.export())
    assert (later.chat("#ünï"), later.channel("#Ünï")) == ("#Ünï", "#ÜNÏ")
    later.set_casemapping("ascii")  # the first lines of the next connection
    assert later.chat("#ünï") == "#Ünï"
