"""Who is found by what (draft-ietf-mimi-protocol-06 5.8)."""

from __future__ import annotations

import pytest

from bridgekit.contract.errors import SendRejected
from connectors.mimi.service.searching import MOST, Findable, Listed, answer, asked
from connectors.mimi.wire import users
from connectors.mimi.wire.users import IdentifierRequest, IdentifierResponse, Query, QueryCode, UserProfile

XAVIER, YOLANDA, ZACH = (
    f"mimi://b.example/u/{name}:hs.test" for name in ("xavier.dupont", "yolanda", "zach")
)
PEOPLE = [
    Listed(XAVIER, Findable.NAME),
    Listed(YOLANDA, Findable.HANDLE),
    Listed(ZACH, Findable.NO),
]
NOBODY = IdentifierResponse(QueryCode.NOT_FOUND)


def found(*queries: Query) -> IdentifierResponse:
    return answer(IdentifierRequest(queries), PEOPLE)


def only(user: str) -> IdentifierResponse:
    return IdentifierResponse(QueryCode.SUCCESS, (user,), (UserProfile(user),))


@pytest.mark.parametrize("query", [users.PartialName("Dup"), users.WholeProfile("xavier")])
def test_who_says_so_is_found_by_a_part_of_the_name(query: Query):
    assert found(query) == only(XAVIER)


@pytest.mark.parametrize(
    "query",
    [
        users.Nick("yolanda"),
        users.Nick("yolanda:hs.test"),
        users.Handle(YOLANDA),
        users.Handle("@yolanda:hs.test"),
    ],
)
def test_who_says_so_is_found_by_the_exact_handle(query: Query):
    assert found(query) == only(YOLANDA)


@pytest.mark.parametrize("query", [users.PartialName("yolan"), users.Nick("yolan"), users.Handle("yolanda")])
def test_and_by_nothing_less(query: Query):
    assert found(query) == NOBODY


@pytest.mark.parametrize("query", [users.Nick("zach"), users.Handle(ZACH), users.PartialName("zach")])
def test_who_does_not_say_so_is_found_by_nothing(query: Query):
    assert found(query) == NOBODY


def test_all_elements_must_match():
    assert found(users.PartialName("xavier"), users.Nick("xavier.dupont")) == only(XAVIER)
    assert found(users.PartialName("xavier"), users.Nick("yolanda")) == NOBODY


def test_nobody_is_read_out_letter_by_letter():
    assert found(users.PartialName("xa ")).code is QueryCode.AMBIGUOUS
    many = [Listed(f"mimi://b.example/u/xaver{n}:hs.test", Findable.NAME) for n in range(MOST + 1)]
    request = IdentifierRequest((users.PartialName("xaver"),))
    assert answer(request, many) == IdentifierResponse(QueryCode.AMBIGUOUS)
    assert len(answer(request, many[1:]).uris) == MOST


@pytest.mark.parametrize(
    "query", [users.Email("y@b.example"), users.Phone("+1"), users.OidcClaim("name", "x")]
)
def test_what_nobody_is_known_by_is_no_field_here(query: Query):
    assert found(query, users.Nick("yolanda")) == IdentifierResponse(QueryCode.UNSUPPORTED_FIELD)


@pytest.mark.parametrize("words", ["bob@b.example", "b.example bob", " @bob@B.example "])
def test_people_say_whom_they_look_for_and_where(words: str):
    assert asked(words) == (
        "b.example",
        [IdentifierRequest((users.Nick("bob"),)), IdentifierRequest((users.PartialName("bob"),))],
    )


def test_an_address_is_asked_for_as_it_is():
    assert asked(YOLANDA) == ("b.example", [IdentifierRequest((users.Handle(YOLANDA),))])


@pytest.mark.parametrize("words", ["bob", "", "@b.example", "mimi://b.example/r/club", "bob@nowhere at all"])
def test_words_that_name_no_provider_are_refused(words: str):
    with pytest.raises(SendRejected):
        asked(words)
