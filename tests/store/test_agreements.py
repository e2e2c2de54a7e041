"""What the repositories of consent keep and give back, on both engines."""

import msgspec
import pytest

from bridgekit.contract.ids import PersonId
from bridgekit.core.gate import Cause
from bridgekit.core.protection import AgreementScope
from bridgekit.core.scopes import Scope
from bridgekit.store import SealingKey, Store, new_id
from bridgekit.store.urls import connect
from tests.store.samples import agreement, ask, consent, held, inbox_row, nod, optout


async def test_a_consent_comes_back_as_it_was_given(store: Store):
    first, refusal = (
        consent(),
        msgspec.structs.replace(consent(9, "#other"), granted=False, by_matrix=True, scopes=frozenset(Scope)),
    )
    await store.commit(store.consents.put(refusal), store.consents.put(first))
    assert await store.consents.all() == [first, refusal]


async def test_a_consent_that_ends_is_still_on_record(store: Store):
    given = msgspec.structs.replace(consent(), ended=0, ended_by="")
    await store.commit(store.consents.put(given))
    ended = msgspec.structs.replace(given, ended=9, ended_by="Bob")
    await store.commit(store.consents.put(ended))
    assert await store.consents.all() == [ended]
    await store.commit(store.consents.erase(given.id))
    assert await store.consents.all() == []


async def test_names_that_no_database_takes_do_no_harm(store: Store):
    odd = msgspec.structs.replace(
        consent(), name="\0\ud800", account="\0", wording="\ud800", person=PersonId("\0")
    )
    await store.commit(store.consents.put(odd))
    (found,) = await store.consents.all()
    assert (found.name, found.wording) == ("\ufffd?", "?")


async def test_a_question_is_kept_until_it_is_answered(store: Store):
    await store.commit(store.asks.put(ask()), store.asks.put(ask(9)))
    assert await store.asks.all() == [ask(), ask(9)]
    await store.commit(store.asks.remove(8))
    assert await store.asks.all() == [ask(9)]


async def test_an_opt_out_is_kept_until_it_is_taken_back(store: Store):
    await store.commit(store.optouts.put(optout()), store.optouts.put(optout("bob", "")))
    await store.commit(store.optouts.put(optout()))
    assert await store.optouts.all() == [optout("bob", ""), optout()]
    await store.commit(store.optouts.remove(optout()))
    assert await store.optouts.all() == [optout("bob", "")]


async def test_a_nod_is_kept_until_it_is_taken_back(store: Store):
    await store.commit(store.nods.put(nod("bob")), store.nods.put(nod()))
    changed = msgspec.structs.replace(nod(), accepted=False)
    await store.commit(store.nods.put(changed))
    assert await store.nods.all() == [nod("bob"), changed]
    await store.commit(store.nods.remove(nod()))
    assert await store.nods.all() == [nod("bob")]


async def test_what_is_held_comes_back_in_order_and_leaves_with_its_fact(store: Store):
    rows = [inbox_row(receiver="me" if n % 2 else None) for n in range(3)]
    waiting = [held(row.id, row.receiver) for row in rows]
    await store.commit(
        *(store.inbox.add(row) for row in rows), *(store.held.put(w) for w in reversed(waiting))
    )
    assert await store.held.all() == waiting
    again = msgspec.structs.replace(waiting[1], cause=Cause.GATE, why="Bob is not there.")
    await store.commit(store.held.put(again))
    await store.commit(store.held.remove(rows[0].id), store.inbox.done(rows[0].id))
    assert await store.held.all() == [again, waiting[2]]
    assert await store.inbox.pending() == rows[1:]


async def test_what_is_held_survives_a_restart_unless_its_fact_is_done(url: str, key: SealingKey):
    store = await Store.open(url, key)
    stays, goes = inbox_row(), inbox_row()
    await store.commit(store.inbox.add(stays), store.inbox.add(goes))
    await store.commit(store.held.put(held(stays.id)), store.held.put(held(goes.id)))
    await store.commit(store.inbox.done(goes.id))
    await store.close()
    store = await Store.open(url, key)
    assert await store.held.all() == [held(stays.id)]
    await store.close()


@pytest.mark.parametrize("scope", AgreementScope)
async def test_an_agreement_ends_and_stays(store: Store, scope: AgreementScope):
    given = msgspec.structs.replace(agreement(), scope=scope)
    ended = msgspec.structs.replace(given, ended=given.at + 1, ended_by="@bob:example.org")
    await store.commit(store.agreements.put(given))
    assert await store.agreements.all() == [given]
    await store.commit(store.agreements.put(ended))
    assert await store.agreements.all() == [ended]


async def test_new_ids_are_never_those_of_consents(url: str, key: SealingKey):
    store = await Store.open(url, key)
    far = new_id() + 10**9
    await store.commit(store.consents.put(consent(far)), store.asks.put(ask(far + 1)))
    await store.close()
    store = await Store.open(url, key)
    assert new_id() > far + 1
    await store.close()


async def test_a_scope_of_a_newer_version_grants_nothing(url: str, key: SealingKey):
    store = await Store.open(url, key)
    await store.commit(store.consents.put(consent()))
    await store.close()
    driver = await connect(url)
    await driver.script([("UPDATE consents SET scopes = 'bridge everything'", ())])
    await driver.close()
    store = await Store.open(url, key)
    (found,) = await store.consents.all()
    assert found.scopes == {Scope.BRIDGE}
    await store.close()
