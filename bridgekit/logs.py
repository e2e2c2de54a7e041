"""Logging: events with values on standard error, ours and other libraries' alike, and no secret among them."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from bridgekit.contract.errors import BridgeError

HIDDEN = frozenset(
    "body token key password content secret formatted_body access_token as_token hs_token authorization cookie "
    "text words message msgtext passphrase sasl headers".split()
)
"""Values under these names are never written, whoever logs them, at whatever depth."""

_HIDDEN_TAILS = ("_token", "_password", "_key", "_secret", "_body", "_content")
_IN_TEXT = re.compile(
    r"(?i)(access_token=|(?:proxy-)?authorization['\"]?: *['\"]?(?:bearer|basic) +|bearer +)[^\s&'\"]+"
)
_ASTERISKS = "********"


class Concealment:
    """A processor that takes out what must not be written: by its name, and by being a known secret."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        longest_first = sorted({s for s in secrets if s}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        return {key: self._shown(value) for key, value in event.items() if not _is_hidden(key)}

    def _shown(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"{len(value)} bytes"
        if isinstance(value, BaseException):
            return self._text(describe(value))
        if isinstance(value, Mapping):
            return {self._text(str(k)): self._shown(v) for k, v in value.items() if not _is_hidden(k)}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._shown(part) for part in value]
        return self._text(str(value))

    def _text(self, text: str) -> str:
        if self._secrets is not None:
            text = self._secrets.sub(_ASTERISKS, text)
        return _IN_TEXT.sub(rf"\1{_ASTERISKS}", text)


def _is_hidden(key: object) -> bool:
    name = str(key).lower().replace("-", "_")
    return name in HIDDEN or name.endswith(_HIDDEN_TAILS)


def describe(error: BaseException) -> str:
    """The exception's type, and its words where they are ours or the system's: others may quote what people said."""
    if isinstance(error, BridgeError | OSError):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__


def _frames(error: BaseException) -> Iterator[str]:
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}"


def trace(error: BaseException) -> str:
    """The traceback, outermost cause first, without the words of exceptions that may quote what people said."""
    chain: list[BaseException] = []
    now: BaseException | None = error
    while now is not None and now not in chain:
        chain.append(now)
        now = now.__cause__ or (None if now.__suppress_context__ else now.__context__)
    lines: list[str] = []
    for each in reversed(chain):
        lines += [*_frames(each), describe(each)]
        if isinstance(each, BaseExceptionGroup):
            for inner in each.exceptions:
                lines += [f"  | {line}" for line in trace(inner).splitlines()]
    return "\n".join(lines)


def _trace_errors(_logger: Any, _method: str, event: EventDict) -> EventDict:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["trace"] = trace(error)
    return event


def _as_json(_logger: Any, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return msgspec.json.encode({**first, **event}, enc_hook=str).decode()


class _Foreign(logging.Handler):
    """Takes what other libraries say through `logging` into the same stream, in the same form."""

    def __init__(self, chain: list[Processor], stream: TextIO) -> None:
        super().__init__()
        self._chain = chain
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = record.levelname.lower()
            event: Any = {"event": record.getMessage(), "level": level, "logger": record.name}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            for processor in self._chain:
                event = processor(None, level, event)
            self._stream.write(f"{event}\n")
        except Exception:
            self.handleError(record)


def setup(
    level: str = "info",
    form: str = "console",
    *,
    secrets: Collection[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send all events from `level` up to `stream` (standard error), as `console` or `json`; `secrets` never.

    May be called again, with a new level or new secrets. Other libraries are heard from `warning` up, or from
    `level` where that is higher.
    """
    stream = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer: Processor
    if form == "json":
        renderer = _as_json
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    chain: list[Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace_errors,
        Concealment(secrets),
        renderer,
    ]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, *chain],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # its complaint would print the record as it came
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _Foreign)]:
        root.removeHandler(handler)
    root.addHandler(_Foreign(chain, stream))
    root.setLevel(max(threshold, logging.WARNING))
