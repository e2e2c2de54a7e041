"""What rooms are called that the bridge made, and what that says of their chats."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from bridgekit.core.ghosts import shown
from bridgekit.core.roomnames import LONGEST_NAME, chat_name, room_name


def test_a_room_is_called_as_its_chat_is_and_says_where_that_is():
    assert room_name("The Den", "XMPP") == "The Den (XMPP)"
    assert chat_name("The Den (XMPP)", "XMPP") == "The Den"
    assert chat_name("Our Den", "XMPP") == "Our Den"
    assert chat_name("The Den (XMPP)") == "The Den (XMPP)", "its people called it so"


def test_a_name_is_one_line_of_bearable_length():
    assert room_name("a\r\nb\0\u202ec", "X") == "a bc (X)"
    assert len(room_name("x" * 70_000, "X")) == LONGEST_NAME + len(" (X)")


@given(st.text())
@example("x" * 500)
def test_the_name_of_a_rooms_chat_is_read_from_it_again(name: str):
    named = chat_name(room_name(name, "XMPP"), "XMPP")
    assert len(named) <= LONGEST_NAME
    assert named == shown(name) or len(shown(name)) > LONGEST_NAME or not shown(name)
