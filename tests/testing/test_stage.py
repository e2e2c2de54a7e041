"""The demo's stage: checks that fail are told and counted, and the play goes on."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import pytest

from bridgekit.contract.text import Span, Style, Text
from bridgekit.testing.sightings import NotSeen
from bridgekit.testing.stage import NotAsExpected, Printer, Stage, eventually, same, true


def stage() -> Stage:
    return Stage(Printer(), cast(Any, None), cast(Any, None), contextlib.AsyncExitStack())


async def test_a_check_is_ok_or_failed_with_its_reason(capsys: pytest.CaptureFixture[str]):
    async def good() -> None:
        same(1, 1, "the number")
        true(1, "it holds")

    async def bad() -> None:
        same(2, 1, "the number")

    async def absent() -> None:
        raise NotSeen("bob: nothing came\nin time")

    scene = stage()
    await scene.check("first", good())
    await scene.check("second", bad())
    await scene.act("A part", absent())
    said = capsys.readouterr().out
    assert "ok     first (0.0 s)" in said
    assert "FAILED second\n         the number: expected 1, and it is 2\n" in said
    assert "FAILED A part\n         bob: nothing came\n         in time\n" in said
    assert (scene.passed, scene.failed) == (1, ["second", "A part"])


async def test_a_fault_in_the_script_is_no_failed_check():
    async def broken() -> None:
        raise KeyError("a mistake")

    with pytest.raises(KeyError):
        await stage().check("broken", broken())


async def test_what_becomes_true_in_time_is_true():
    answers = iter([False, False, True])

    async def ask() -> bool:
        return next(answers)

    await eventually(ask, "it", 5)

    async def never() -> bool:
        return False

    with pytest.raises(NotAsExpected, match=r"it did not come true in 0\.05 s"):
        await eventually(never, "it", 0.05)


def test_many_deeds_of_one_kind_are_counted(capsys: pytest.CaptureFixture[str]):
    printer = Printer()
    with printer.brief():
        for number in range(4):
            printer.deed("IRC", "bob", "sees", f"line {number}")
        printer.deed("IRC", "bob", "says", "something else")
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "  [IRC]     bob sees: line 0",
        "            … and 3 more",
        "  [IRC]     bob says: something else",
    ]


def test_words_are_shown_on_one_line_with_their_styles():
    printer = Printer()
    printer.colours = True
    text = Text("bold red\nplain", (Span(0, 4, Style.BOLD), Span(5, 8, Style.COLOR, "#ff0000")))
    assert printer.rich(text) == "\x1b[1mbold\x1b[0m \x1b[38;2;255;0;0mred\x1b[0m ⏎ plain"
    printer.colours = False
    assert printer.rich(Text("ä" * 200)) == "ä" * 100 + "… (400 bytes)"
