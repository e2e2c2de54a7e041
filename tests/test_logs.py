"""Logging: events in one form, and a planted secret that is nowhere in them."""

from __future__ import annotations

import ast
import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import structlog
from pydantic import SecretStr

from bridgekit import logs
from bridgekit.contract.errors import ConfigError
from bridgekit.contract.ids import LoginId, PersonId
from bridgekit.contract.people import Login

PLANTED = "planted-8c1f"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    yield io.StringIO()
    structlog.configure(**before)
    logging.captureWarnings(False)
    logging.raiseExceptions = raising
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) for line in out.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_time_level_and_values(out: io.StringIO):
    logs.setup("info", "json", stream=out)
    structlog.get_logger().info("session_lost", network="libera", retry_in=5, at=(1, 2))
    [line] = lines(out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(line.pop("timestamp")))
    assert line == {
        "level": "info",
        "event": "session_lost",
        "network": "libera",
        "retry_in": 5,
        "at": [1, 2],
    }


def test_less_important_events_are_left_out(out: io.StringIO):
    logs.setup("warning", "json", stream=out)
    structlog.get_logger().info("session_ready")
    structlog.get_logger().warning("session_lost")
    assert [line["event"] for line in lines(out)] == ["session_lost"]


def test_other_libraries_speak_in_the_same_form(out: io.StringIO):
    logs.setup("info", "json", stream=out)
    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("asyncio").warning("slow callback %s", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old habits", stacklevel=1)
    first, second = lines(out)
    assert (first["logger"], first["level"], first["event"]) == ("asyncio", "warning", "slow callback 3")
    assert second["logger"] == "py.warnings"


def test_a_second_setup_replaces_the_first(out: io.StringIO):
    logs.setup("info", "json", stream=io.StringIO())
    logs.setup("error", "json", stream=out)
    logging.getLogger("asyncio").warning("quiet")
    logging.getLogger("asyncio").error("heard")
    assert [line["event"] for line in lines(out)] == ["heard"]


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_planted_secret_is_nowhere_in_the_output(out: io.StringIO, form: str):
    logs.setup("debug", form, secrets=["hunter22"], stream=out)
    log = structlog.get_logger()
    names = ["body", "token", "key", "password", "content", "as_token", "sasl_password", "Authorization"]
    log.info("by_name", **dict.fromkeys(names, PLANTED))
    log.info("nested", parts=[{"password": PLANTED, "deeper": {"body": PLANTED}}], raw=PLANTED.encode())
    log.info(
        "wrapped",
        login=Login(id=LoginId("l"), owner=PersonId("@a:b"), fields={"p": PLANTED}),
        s=SecretStr(PLANTED),
    )
    log.info(
        "known_hunter22", url="https://me:hunter22@example.org", list=["hunter22"], mapping={"hunter22": 1}
    )
    log.info("header", line=f"Authorization: Bearer {PLANTED}", url=f"/sync?access_token={PLANTED}&since=1")
    structlog.contextvars.bind_contextvars(token=PLANTED)
    try:
        password = PLANTED  # a renderer that shows local variables would show this one
        try:
            raise KeyError(password)
        except KeyError as inner:
            raise ValueError(f"cannot parse {password}") from inner
    except ValueError as error:
        log.exception("went_wrong", error=error)
        logging.getLogger("foreign").exception("went wrong")
    finally:
        structlog.contextvars.clear_contextvars()
    logging.getLogger("aiohttp").error("GET /_matrix?access_token=%s refused, hunter22", PLANTED)
    text = out.getvalue()
    assert PLANTED not in text
    assert "hunter22" not in text
    assert text.count("went_wrong") == 1
    assert "test_logs.py" in text  # the traceback is there all the same
    assert "ValueError" in text
    assert "KeyError" in text


def test_a_record_that_cannot_be_written_is_not_printed_as_it_came(
    out: io.StringIO, capsys: pytest.CaptureFixture[str]
):
    logs.setup("info", "json", stream=out)
    logging.getLogger("foreign").error("%d", PLANTED)
    assert PLANTED not in out.getvalue() + capsys.readouterr().err


def test_our_own_errors_keep_their_sentence():
    assert logs.describe(ConfigError([("a.b", "is required")])) == "ConfigError: a.b: is required"
    assert logs.describe(ValueError(PLANTED)) == "ValueError"


def test_groups_are_traced_to_their_members():
    group = ExceptionGroup("several", [ValueError(PLANTED), OSError(5, "no disk")])
    assert logs.trace(group).splitlines() == [
        "ExceptionGroup",
        "  | ValueError",
        "  | OSError: [Errno 5] no disk",
    ]


def _calls() -> Iterator[tuple[str, ast.Call]]:
    root = Path(__file__).parent.parent
    for folder in ("bridgekit", "connectors"):
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in ("debug", "info", "warning", "error", "exception", "critical")
                    and ast.unparse(node.func.value).rpartition(".")[2] in ("log", "_log")
                ):
                    yield f"{path.relative_to(root)}:{node.lineno}", node


def test_the_code_logs_events_and_no_prose_and_nothing_that_would_be_hidden():
    calls = list(_calls())
    assert len(calls) > 5
    prose = [
        where
        for where, call in calls
        if not call.args
        or not isinstance(call.args[0], ast.Constant)
        or not re.fullmatch(r"[a-z][a-z0-9_]*", str(call.args[0].value))
    ]
    assert prose == []
    hidden = [
        where for where, call in calls for word in call.keywords if word.arg and logs._is_hidden(word.arg)
    ]
    assert hidden == []
