"""Who speaks on Matrix, with which devices, and who may do what there."""

from __future__ import annotations

from bridgekit.matrix.addressee import Addressee
from bridgekit.matrix.crypto.engine import Engine
from bridgekit.matrix.files import Files
from bridgekit.matrix.speakers import Speakers
from bridgekit.runtime.consequences import Consequences
from bridgekit.runtime.encryption.ownwords import OwnWords
from bridgekit.runtime.encryption.readying import Readying
from bridgekit.runtime.encryption.standins import StandIns
from bridgekit.runtime.gates.policing import PolicyLists
from bridgekit.runtime.parts import Parts
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.people.joins import Joins
from bridgekit.runtime.people.members import Members
from bridgekit.runtime.people.pictures import Pictures
from bridgekit.runtime.people.powers import Powers
from bridgekit.runtime.traffic.echoes import Echoes
from bridgekit.runtime.traffic.matrix_side import MatrixSide


def assemble(parts: Parts, consequences: Consequences) -> None:
    parts.speakers = Speakers()
    parts.ghosts = Ghosts(
        parts.client,
        parts.store,
        parts.namespace,
        template=parts.config.messages.display_name,
        network_name=parts.label,
        speakers=parts.speakers,
    )
    parts.joins = Joins(parts.client, parts.ghosts, speakers=parts.speakers, spawn=parts.spawn)
    parts.policies = PolicyLists(
        parts.client,
        parts.registry,
        parts.ghosts,
        lambda: parts.accounts,
        parts.namespace,
        permission=parts.permission,
        label=parts.label,
        spawn=parts.spawn,
    )
    parts.permission = parts.policies.permission
    parts.members = Members(
        parts.registry,
        parts.ghosts,
        parts.namespace,
        emit=lambda network, login, fact: parts.rooms.remote(network, login, fact),
        spawn=parts.spawn,
    )
    own = OwnWords(parts.client, is_encrypted=lambda room, user: parts.engine.is_encrypted(room, user))
    parts.addressee = Addressee(lambda txn: parts.client.ping(parts.config.appservice.id, txn=txn))
    parts.engine = Engine(
        parts.store,
        parts.client.homeserver,
        bot=parts.me,
        is_ours=parts.is_ours,
        is_ours_alone=parts.addressee.ask,
        trust=parts.config.encryption.trust,
        reset=lambda user: parts.secrecy.identity_reset(user),
        encrypted=consequences.encrypted,
        say=own.say,
        show=own.show,
        tell=lambda owner, words: parts.management.tell(owner, words),
        speakers=parts.speakers,
        spawn=parts.spawn,
    )
    parts.client.cipher = parts.engine
    parts.readying = Readying(parts.engine, parts.ghosts, speakers=parts.speakers, spawn=parts.spawn)
    parts.files = Files(parts.client, parts.fetch, parts.openers)
    parts.powers = Powers(
        parts.client, parts.registry, parts.store, parts.namespace, bot=parts.me, spawn=parts.spawn
    )
    stand_ins = StandIns(
        parts.store,
        is_encrypted=parts.engine.knows_encrypted,
        tell=lambda owner, words: parts.management.tell(owner, words),
        spawn=parts.spawn,
    )
    parts.engine.puppets.lost = stand_ins.signed_out
    parts.echoes = Echoes(parts.store)
    parts.matrix = MatrixSide(
        parts.client,
        parts.ghosts,
        bot=parts.me,
        files=parts.files,
        pictures=Pictures(parts.client, parts.ghosts, parts.files, spawn=parts.spawn),
        powers=parts.powers,
        joins=parts.joins,
        speakers=parts.speakers,
        label=parts.label,
        mode=parts.rules.mode,
        likely=parts.readying.likely,
        cleared=lambda side: side in parts.exposures.cleared and not parts.readers.blocked(side),
        is_replaced=lambda room: parts.upgrades.is_replaced(room),
        stood_in=stand_ins.spoke,
        echoes=parts.echoes,
    )
