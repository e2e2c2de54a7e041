"""What a connector says of itself, and how its chats are called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from bridgekit.contract.connector import API_VERSION, Connector, Network, OwnAccounts
from bridgekit.contract.ids import MATRIX, PersonId
from bridgekit.testing.contract.peer import Peer
from bridgekit.testing.contract.samples import HOSTILE, SURROGATES

_ID = re.compile(r"[a-z][a-z0-9-]{0,31}")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SECRET = re.compile(r"password|secret|token|passphrase")


class NamingContract:
    """The manifest, the config, and the names of chats. No connection is made."""

    def test_the_manifest_names_the_connector_as_config_files_may(self, connector: Connector) -> None:
        manifest = connector.manifest
        assert _ID.fullmatch(manifest.id)
        assert manifest.id != MATRIX
        assert manifest.name.strip() == manifest.name != ""

    def test_it_is_written_for_this_version_of_the_contract(self, connector: Connector) -> None:
        assert connector.manifest.api_version == API_VERSION

    def test_the_config_is_a_model_that_forbids_what_it_does_not_know(self, connector: Connector) -> None:
        for model in _models(connector.manifest.config):
            assert model.model_config.get("extra") == "forbid", f"{model.__name__} takes unknown keys"

    def test_every_key_of_the_config_is_described(self, connector: Connector) -> None:
        for model in _models(connector.manifest.config):
            for name, field in model.model_fields.items():
                assert field.description, f"{model.__name__}.{name} has no description"

    def test_a_login_asks_for_each_thing_once_and_hides_secrets(self, connector: Connector) -> None:
        fields = connector.manifest.login_fields
        assert len({field.name for field in fields}) == len(fields)
        for field in fields:
            assert _FIELD.fullmatch(field.name)
            assert field.title.strip()
            assert field.password or not _SECRET.search(field.name), f"{field.name} must be a password field"

    def test_the_network_is_made_without_io_and_knows_who_may_have_accounts(self, network: Network) -> None:
        """`connector.network` is not awaited, and is called for every network of the config at the start."""
        assert network.own_accounts in OwnAccounts

    def test_the_example_is_a_chat(self, connector: Connector, network: Network) -> None:
        example = connector.manifest.example_chat
        if not example:
            pytest.skip("the manifest gives no example of a chat")
        assert network.chat_id(example) is not None

    def test_a_chat_is_found_again_by_its_name(self, network: Network, peer: Peer) -> None:
        for name in filter(None, (peer.shared, peer.somebody, peer.nowhere)):
            found = network.chat_id(name)
            assert found is not None, f"{name!r} is no chat"
            assert network.chat_id(network.chat_name(found[0])) == found

    def test_shared_and_private_chats_are_told_apart(self, network: Network, peer: Peer) -> None:
        shared = network.chat_id(peer.shared)
        assert shared is not None
        assert shared[1] is False
        if peer.somebody:
            private = network.chat_id(peer.somebody)
            assert private is not None
            assert private[1] is True

    @pytest.mark.parametrize(
        "name",
        ["", " ", "\n", SURROGATES, *HOSTILE.values()],
        ids=["empty", "space", "newline", "surrogates", *HOSTILE],
    )
    def test_anything_may_be_asked_for_by_name(self, network: Network, name: str) -> None:
        found = network.chat_id(name)
        if found is not None:
            chat, private = found
            assert chat
            assert isinstance(private, bool)
            assert not set(chat) & set("\r\n\0"), "the id of a chat must fit into one line"
            assert network.chat_name(chat)

    def test_a_network_says_how_to_reach_a_person_alone(self, network: Network, peer: Peer) -> None:
        if not peer.somebody:
            pytest.skip("nobody can be written to alone")
        assert not inspect.iscoroutinefunction(network.direct)

    def test_it_is_known_whether_people_are_asked_first(self, network: Network) -> None:
        assert network.asks_first in (True, False)
        assert network.retells in (True, False)

    @pytest.mark.parametrize("who", ["", "somebody", *HOSTILE])
    def test_anybody_may_be_asked_about_whether_they_are_a_service(self, network: Network, who: str) -> None:
        assert network.is_service(PersonId(who)) in (True, False)


def _models(model: Any) -> Iterator[type[BaseModel]]:
    """The config and every model in it."""
    assert isinstance(model, type)
    assert issubclass(model, BaseModel), "the manifest's config must be a pydantic model"
    seen: set[type[BaseModel]] = set()
    waiting: list[Any] = [model]
    while waiting:
        found = waiting.pop()
        if isinstance(found, type) and issubclass(found, BaseModel):
            if found not in seen:
                seen.add(found)
                waiting += [field.annotation for field in found.model_fields.values()]
                yield found
        else:
            waiting += getattr(found, "__args__", ())
