"""`bridgekit mimi conformance`: the checks as lines, and as a report in JSON and HTML."""

from __future__ import annotations

import asyncio
import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bridgekit.contract.errors import BridgeError
from connectors.mimi import uris
from connectors.mimi.kit.calling import Caller
from connectors.mimi.kit.conformance import Outcome, Result, examine
from connectors.mimi.kit.page import page
from connectors.mimi.service.peers import Credentials

_MARKS = {Outcome.PASSED: "ok  ", Outcome.FAILED: "FAIL", Outcome.SKIPPED: "skip"}


class Report(msgspec.Struct, frozen=True):
    """All of one examination. `at` is in ISO 8601, UTC."""

    peer: str
    asked_as: str
    at: str
    draft: str
    results: Sequence[Result]


def conformance(caller: Caller, *, user: str | None, folder: Path | None) -> int:
    """Examine a peer, print each check, write the report. 0 where none failed. Raises BridgeError."""
    if user is not None and not (uris.is_user(user) and uris.parse(user).domain == caller.peer):
        raise BridgeError(f"{user} is no user of {caller.peer}: say mimi://{caller.peer}/u/name")
    if folder is not None:  # before anything is asked
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BridgeError(f"Nothing can be written to {folder} ({Credentials.why(error)}).") from None
    results = asyncio.run(examine(caller, user, lambda result: print(line(result), flush=True)))
    counted = Counter(result.outcome for result in results)
    print(
        f"{counted[Outcome.PASSED]} passed, {counted[Outcome.FAILED]} failed, {counted[Outcome.SKIPPED]} skipped"
    )
    if folder is not None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        report = Report(caller.peer, caller.domain, now, "draft-ietf-mimi-protocol-06", results)
        (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
        (folder / "report.html").write_text(to_html(report))
        print(f"wrote {folder / 'report.json'} and {folder / 'report.html'}")
    return 1 if counted[Outcome.FAILED] else 0


def line(result: Result) -> str:
    """One check on the terminal."""
    detail = f": {result.detail}" if result.detail else ""
    return f"{result.number:2} {_MARKS[result.outcome]} {result.title} ({result.section}){detail}"


def to_html(report: Report) -> str:
    """One page, without anything from elsewhere."""
    at = report.at.replace("T", " ").replace("+00:00", " UTC")
    return page(report.results, peer=report.peer, asked_as=report.asked_as, at=at, draft=report.draft)
