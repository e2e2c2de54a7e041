"""A fast fake homeserver: the client-server calls of an appservice bridge, transactions to it, faults on purpose.

In this process::

    async with FakeHomeserver(registration) as hs:            # Registration, dict, or path of the YAML
        alice = hs.user("alice")
        room = await alice.create_room(preset="public_chat", invite=["@bot:hs.test"])
        said = await alice.send(room, "hello")                 # the bridge gets a transaction
        echo = await hs.wait_for(lambda event: event.sender.startswith("@_bk_") and event.body == "hi")
        hs.fault("PUT */send/*", Drop(after_effect=True), times=1)    # it happened, the answer is lost
        await hs.restart(redeliver=1)                          # forgets transaction ids, repeats itself
        assert hs.unknown_calls == []

In another process, for benchmarks: `RemoteFakeHomeserver.spawn(registration)` has the same methods, all of them
coroutines; or `python -m bridgekit.testing.homeserver --registration FILE --port P --control Q` by hand.

What is enforced: tokens, namespaces, registration of ghosts, membership, power levels, join rules, aliases,
sizes, idempotent transaction ids with Synapse's weak memory. What is not: rate limits (ask for them with a
fault), federation, signatures of keys, sync. Anything not known is 404 M_UNRECOGNIZED and stands in `unknown_calls`.

The marker of a message for `bridgekit.testing.ledger` goes into its text; `arrivals()` gives events with times.
"""

from bridgekit.testing.homeserver.api.app import Refusal
from bridgekit.testing.homeserver.events import Event
from bridgekit.testing.homeserver.faults import Delay, Drop, Fail, Fault, RateLimit, Repeat, Rule
from bridgekit.testing.homeserver.people import Human
from bridgekit.testing.homeserver.refusals import Refused
from bridgekit.testing.homeserver.registration import Namespace, Namespaces, Registration
from bridgekit.testing.homeserver.remote import ControlFailed, RemoteFakeHomeserver
from bridgekit.testing.homeserver.server import FakeHomeserver
from bridgekit.testing.homeserver.traffic import Said

__all__ = [
    "ControlFailed",
    "Delay",
    "Drop",
    "Event",
    "Fail",
    "FakeHomeserver",
    "Fault",
    "Human",
    "Namespace",
    "Namespaces",
    "RateLimit",
    "Refusal",
    "Refused",
    "Registration",
    "RemoteFakeHomeserver",
    "Repeat",
    "Rule",
    "Said",
]
