"""Transactions taken apart: neighbours spared, names old and new, JSON untouched."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.matrix.transactions import Encryption, NotATransaction, RawEvent, parse

EVENT = (
    b'{"type":"m.room.message", "room_id":"!r:x","sender":"@a:x","event_id":"$1",'
    b'"origin_server_ts":5,"content":{"body":"\\u00e9  "}}'
)
STATE = (
    b'{"type":"m.room.topic","room_id":"!r:x","sender":"@a:x","event_id":"$2",'
    b'"origin_server_ts":6,"state_key":"","content":{}}'
)


def test_events_keep_their_order_and_every_byte_of_their_json():
    got = parse(b'{"events": [' + EVENT + b" ,\n" + STATE + b"]}")
    assert [event.raw for event in got.events] == [EVENT, STATE]
    assert got.events[0] == RawEvent(
        raw=EVENT,
        room_id="!r:x",  # type: ignore[arg-type]
        type="m.room.message",
        sender="@a:x",  # type: ignore[arg-type]
        event_id="$1",  # type: ignore[arg-type]
        origin_server_ts=5,
    )
    assert [event.state_key for event in got.events] == [None, ""]
    assert not got.encryption.lasts
    assert (got.malformed, got.ephemeral) == ([], [])


@pytest.mark.parametrize(
    "bad",
    [
        b"1",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        EVENT.replace(b'"room_id":"!r:x",', b""),
        EVENT.replace(b'"!r:x"', b"7"),
        EVENT.replace(b'"@a:x"', b"null"),
        EVENT.replace(b":5,", b':"5",'),
        EVENT.replace(b":5,", b":99999999999999999999999,"),
        STATE.replace(b'"state_key":""', b'"state_key":[]'),
        EVENT.replace(b"{}", b"{}")
        .replace(b'{"body"', b"[" * 20000 + b'{"body"')
        .replace(b"}}", b"}" + b"]" * 20000 + b"}"),
    ],
)
def test_one_event_that_is_none_spoils_nothing_for_its_neighbours(bad):
    got = parse(b'{"events":[' + b",".join([EVENT, bad, STATE]) + b"]}")
    assert [event.raw for event in got.events] == [EVENT, STATE]
    ((raw, why),) = got.malformed
    assert raw == bad
    assert why


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (b"", "M_NOT_JSON"),
        (b"{", "M_NOT_JSON"),
        (b'{"events":[', "M_NOT_JSON"),
        (b'{"events":[{"a":[NaN]]}', "M_NOT_JSON"),
        (b'{"events":[NaN]}{', "M_NOT_JSON"),
        (b'{"events":[NaN],7}', "M_NOT_JSON"),
        (b"\xff", "M_NOT_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b'{"events":{}}', "M_BAD_JSON"),
        (b'{"events":null}', "M_BAD_JSON"),
    ],
)
def test_what_is_no_transaction_is_called_by_its_name(body, errcode):
    with pytest.raises(NotATransaction) as caught:
        parse(body)
    assert caught.value.errcode == errcode


KEYS = {"@a:x": {"DEV": {"signed_curve25519": 3}}}
FALLBACK = {"@a:x": {"DEV": ["signed_curve25519"]}}


@pytest.mark.parametrize(
    ("ephemeral", "to_device", "lists", "keys", "fallback"),
    [
        (
            "ephemeral",
            "to_device",
            "device_lists",
            "device_one_time_keys_count",
            "device_unused_fallback_key_types",
        ),
        (
            "de.sorunome.msc2409.ephemeral",
            "de.sorunome.msc2409.to_device",
            "org.matrix.msc3202.device_lists",
            "org.matrix.msc3202.device_one_time_keys_count",
            "org.matrix.msc3202.device_unused_fallback_key_types",
        ),
        (
            "ephemeral",
            "to_device",
            "device_lists",
            "org.matrix.msc3202.device_one_time_key_counts",
            "org.matrix.msc3202.device_unused_fallback_key_types",
        ),
    ],
)
def test_ephemeral_events_and_encryption_come_under_stable_and_unstable_names(
    ephemeral, to_device, lists, keys, fallback
):
    got = parse(
        msgspec.json.encode(
            {
                "events": [],
                ephemeral: [{"type": "m.typing"}],
                to_device: [{"type": "m.room_key"}],
                lists: {"changed": ["@a:x"], "left": ["@b:x"]},
                keys: KEYS,
                fallback: FALLBACK,
            }
        )
    )
    assert got.ephemeral == [b'{"type":"m.typing"}']
    assert got.encryption == Encryption(
        to_device=(b'{"type":"m.room_key"}',),
        changed=("@a:x",),  # type: ignore[arg-type]
        left=("@b:x",),  # type: ignore[arg-type]
        one_time_keys=KEYS,  # type: ignore[arg-type]
        fallback_keys=FALLBACK,  # type: ignore[arg-type]
    )


def test_both_names_at_once_are_one_thing():
    got = parse(
        b'{"events":[],"ephemeral":[{"a":1}],"de.sorunome.msc2409.ephemeral":[{"a":1}],"to_device":null}'
    )
    assert got.ephemeral == [b'{"a":1}']
    assert not got.encryption.lasts


def test_a_malformed_part_spoils_nothing_for_the_events():
    got = parse(b'{"events":[' + EVENT + b'],"to_device":7,"device_lists":{"changed":1}}')
    assert len(got.events) == 1
    assert [raw for raw, _ in got.malformed] == [b"7", b'{"changed":1}']


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\ events1', max_size=200).map(str.encode))
def test_parsing_raises_nothing_but_not_a_transaction(body):
    for text in (body, b'{"events":[' + body + b"]}"):
        with contextlib.suppress(NotATransaction):
            parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=5), JSON)
def test_beside_an_event_too_deep_for_the_decoder_the_others_are_told_apart_just_so(others, more):
    encoded = [msgspec.json.encode(other) for other in others]
    deep = b"[" * 20000 + b"]" * 20000
    body = b'{"more":%s,"events":[%s],"x":1}' % (msgspec.json.encode(more), b",".join([*encoded, deep]))
    got = parse(body)
    assert sorted(raw for raw, _ in got.malformed) == sorted([*encoded, deep])


def test_who_changed_devices_and_how_many_keys_are_left_needs_no_disk():
    got = parse(
        b'{"events":[],"device_one_time_keys_count":{"@bot:x":{"BK":{"signed_curve25519":3}}},'
        b'"device_lists":{"changed":["@ann:x"]}}'
    )
    assert got.encryption.changed == ("@ann:x",)
    assert got.encryption.one_time_keys == {"@bot:x": {"BK": {"signed_curve25519": 3}}}
    assert not got.encryption.lasts


@pytest.mark.parametrize(
    ("poison", "mended"),
    [
        (rb'"a \ud800 b"', '"a \ufffd b"'),
        (rb'"\ude00\ud83d"', '"\ufffd\ufffd"'),
        (rb'"\ud83d\ude00"', '"😀"'),  # this one is well: it is a pair
        (b"NaN", "null"),
        (b"[1,-Infinity]", "[1,null]"),
        (b'"a\nb"', r'"a\nb"'),
        (b'"caf\xe9"', '"caf\ufffd"'),  # RFC 8259 8.1: JSON is UTF-8
    ],
)
def test_an_event_that_is_nearly_json_is_mended_and_its_neighbours_are_not_touched(poison, mended):
    """RFC 8259 8.2 foresees that receivers differ over lone surrogates; numbers like NaN are none by section 6."""
    event = EVENT.replace(rb'"\u00e9  "', rb"%s" % poison)
    got = parse(b'{"events":[' + b",".join([EVENT, event, STATE]) + b"]}")
    assert [got.events[0].raw, got.events[2].raw] == [EVENT, STATE]
    assert msgspec.json.decode(got.events[1].raw)["content"] == {"body": msgspec.json.decode(mended.encode())}
    assert got.malformed == []


@pytest.mark.parametrize("poison", [b"01", b'{"a":tru}', b"'x'", b'{"a" 1}', b"9" * 5000 + b"x"])
def test_an_event_that_is_no_json_at_all_is_set_aside_alone(poison):
    event = EVENT.replace(rb'"\u00e9  "', poison)
    got = parse(b'{"events":[' + b",".join([EVENT, event, STATE]) + b"]}")
    assert [event.raw for event in got.events] == [EVENT, STATE]
    assert [raw for raw, _ in got.malformed] == [event]


@pytest.mark.parametrize("field", ["room_id", "type", "sender", "event_id", "state_key"])
def test_a_field_that_is_not_utf_8_spoils_nothing_for_its_neighbours(field):
    """It was a bug's 500, for which a homeserver sends the transaction again, and nothing else."""
    event = msgspec.json.encode({**msgspec.json.decode(EVENT), field: "$caf@"}).replace(b"@", b"\xe9")
    got = parse(b'{"events":[' + b",".join([EVENT, event, STATE]) + b"]}")
    assert [got.events[0].raw, got.events[-1].raw] == [EVENT, STATE]


def test_what_is_for_devices_is_mended_as_well():
    got = parse(
        b'{"events":[' + EVENT + rb'],"to_device":[{"type":"a\ud800"},{"type":"b"}],"device_lists":NaN,'
        rb'"ephemeral":[{"type":"m.typing","x":tru}]}'
    )
    assert got.encryption.to_device == ('{"type":"a\ufffd"}'.encode(), b'{"type":"b"}')
    assert [event.raw for event in got.events] == [EVENT]
    assert got.ephemeral == []
    assert [raw for raw, _ in got.malformed] == [b'{"type":"m.typing","x":tru}']
