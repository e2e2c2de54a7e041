"""`bridgekit mimi ...`: what vendors use."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from bridgekit.cli import main
from bridgekit.testing.servers.process import free_port
from connectors.mimi.kit.conformance import Outcome, Result
from connectors.mimi.kit.report import Report, line, to_html
from connectors.mimi.wire import components, mls, policies
from tests.connectors.mimi.reading import examples

REPLY = examples()["reply"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["mimi", *words])
    out = capsys.readouterr()
    return status, out.out, out.err


@pytest.mark.parametrize("form", ["raw", "hex", "base64", "base64url"])
def test_a_captured_message_is_readable(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str):
    file = tmp_path / "captured"
    file.write_bytes(
        {
            "raw": REPLY.octets,
            "hex": REPLY.octets.hex(" ").encode(),
            "base64": base64.encodebytes(REPLY.octets),
            "base64url": base64.urlsafe_b64encode(REPLY.octets).rstrip(b"="),
        }[form]
    )
    status, out, _ = run(capsys, "inspect", str(file))
    assert status == 0
    assert out.startswith(f"content ({len(REPLY.octets)} octets)\n")
    assert f"id: {REPLY.id.hex()}" in out
    assert "content_type: 'text/markdown;variant=GFM-MIMI'" in out
    assert '"Right on! _Congratulations_ \'all!"' in out


def test_what_is_inside_of_components_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    update = components.ParticipantUpdate(added=(components.Participant("mimi://a.example/u/alice", 2),))
    policy = policies.BASE_ROOM_POLICY.encode(policies.BaseRoomPolicy(discoverable=True))
    proposals: tuple[mls.Proposal, ...] = (
        mls.AppDataUpdate(0x22, mls.ComponentUpdate(components.PARTICIPANT_UPDATE.encode(update))),
        mls.GroupContextExtensions(
            (
                mls.Extension(
                    6, components.APP_DATA_DICTIONARY.encode((components.ComponentData(0x27, policy),))
                ),
            )
        ),
    )
    for number, proposal in enumerate(proposals):
        message = mls.PublicMessage(b"g", 1, mls.MemberSender(0), b"", proposal, b"s", None, b"m")
        file = tmp_path / str(number)
        file.write_bytes(mls.MLS_MESSAGE.encode(message))
        status, out, _ = run(capsys, "inspect", "--as", "mls-message", str(file))
        assert status == 0
        wanted = ["participant_list update", "base_room_policy component"][number]
        assert wanted in out
        assert ["user: 'mimi://a.example/u/alice'", "discoverable: True"][number] in out


def test_what_is_nothing_is_said_to_be_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "captured"
    file.write_bytes(b"\xff" * 9)
    status, out, err = run(capsys, "inspect", str(file))
    assert (status, out) == (1, "")
    assert "none of the bodies" in err
    status, _, err = run(capsys, "inspect", "--as", "consent", str(file))
    assert status == 1
    assert "This is no consent" in err
    assert run(capsys, "inspect", "--as", "nonsense", str(file))[2].startswith("There is no kind 'nonsense'")
    assert "cannot be read" in run(capsys, "inspect", str(tmp_path / "gone"))[2]
    file.write_bytes(b"")
    assert run(capsys, "inspect", str(file)) == (1, "", f"There is nothing in {file}.\n")
    assert run(capsys, "inspect") == (1, "", "Say which file to look at; - is standard input.\n")
    assert "identifier-query" not in run(capsys, "inspect", "--kinds")[1]
    assert run(capsys, "inspect", "--kinds")[0] == 0


def test_certificates_are_made_and_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, out, _ = run(capsys, "keygen", "a.example", "b.example", "--dir", str(tmp_path))
    assert status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.example.key",
        "a.example.pem",
        "authority.pem",
        "b.example.key",
        "b.example.pem",
    ]
    assert (tmp_path / "a.example.key").stat().st_mode & 0o077 == 0
    assert out.count("\n") == 5
    assert run(capsys, "keygen", "c.example", "--dir", str(tmp_path))[0] == 1
    assert run(capsys, "keygen", "C.example", "--dir", str(tmp_path / "2"))[0] == 1
    status, out, _ = run(capsys, "keygen", "d.example", "d.example", "--dir", str(tmp_path / "3"))
    assert (status, out.count("\n")) == (0, 3)
    status, _, err = run(capsys, "keygen", "e.example", "--dir", str(tmp_path / "authority.pem" / "in"))
    assert (status, err) == (
        1,
        f"Nothing can be written to {tmp_path / 'authority.pem' / 'in'} (not a directory).\n",
    )


def test_a_peer_that_cannot_be_named_or_files_that_are_not_there_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--as", "b.example", "--certificate", "nowhere.pem", "--key", "nowhere.key"]
    assert "names no provider" in run(capsys, "directory", "http://a.example", *options)[2]
    assert "There is no file nowhere.pem" in run(capsys, "directory", "a.example", *options)[2]
    assert run(capsys, "keygen", "a.example", "b.example", "--dir", str(tmp_path))[0] == 0

    def asked(
        *words: str,
        certificate: str = "b.example.pem",
        domain: str = "b.example",
        trusted: str = "authority.pem",
    ) -> str:
        files = ["--certificate", str(tmp_path / certificate), "--key", str(tmp_path / "b.example.key")]
        shown = ["--as", domain, *files, "--authorities", str(tmp_path / trusted)]
        status, out, err = run(capsys, "directory", *words, *shown)
        assert (status, out, err.count("\n")) == (1, "", 1)
        return err

    assert "b.example.key do not belong together" in asked("a.example", certificate="a.example.pem")
    assert "cannot be used: " in asked("a.example", trusted="b.example.key")
    assert "b b is no domain" in asked("a.example", domain="b b")
    for address in ("ftp://a.example", "127.0.0.1:8443", "https://a.example:99999", "https://"):
        assert (
            asked("a.example", "--address", address) == f"{address} is no address: say https://host[:port]\n"
        )
    assert "a.example:99999 names no provider" in asked("https://a.example:99999")
    files = ["--certificate", str(tmp_path / "b.example.pem"), "--key", str(tmp_path / "b.example.key")]
    for word in ("nonsense", "mimi://b.example/u/bob", "mimi://a.example/r/bob"):
        asking = ("conformance", "a.example", "--as", "b.example", *files, "--user", word)
        assert f"{word} is no user of a.example" in run(capsys, *asking)[2]
    report = ("--report", str(tmp_path / "authority.pem" / "in"))
    wrote = run(capsys, "conformance", "a.example", "--as", "b.example", *files, *report)
    assert (wrote[0], wrote[1], "Nothing can be written to" in wrote[2]) == (1, "", True)
    sent = run(
        capsys, "send", "a.example", "--as", "b.example", *files, "mimi://a.example/r/x", "hi", "--user", ""
    )
    assert (sent[0], sent[2]) == (1, "'' is no name of a user.\n")
    port = free_port()
    assert asked("a.example", "--address", f"https://127.0.0.1:{port}") == (
        "a.example cannot be reached (connection refused).\n"
    )


def test_a_report_holds_every_check_and_no_markup_of_the_peer():
    results = [
        Result(1, "First", "One", "protocol 5.1", Outcome.PASSED),
        Result(2, "Second", "Two", "RFC 9420 2.1.2, protocol 5", Outcome.FAILED, "<script>"),
        Result(3, "Second", "Three", "the law", Outcome.SKIPPED, "no --user was named"),
    ]
    page = to_html(Report("a.example", "b.example", "2026-01-01", "draft", results))
    assert "<script>" not in page
    assert [page.count(f'class="title">{title}<') for title in ("One", "Two", "Three")] == [1, 2, 1], (
        "to mend first"
    )
    assert "1 of 2 checks failed" in page
    assert [line(result) for result in results] == [
        " 1 ok   One (protocol 5.1)",
        " 2 FAIL Two (RFC 9420 2.1.2, protocol 5): <script>",
        " 3 skip Three (the law): no --user was named",
    ]


def test_a_report_leads_to_what_the_drafts_say():
    results = [Result(1, "First", "One", "RFC 9420 2.1.2, protocol 5.10.2", Outcome.PASSED)]
    page = to_html(Report("a.example", "b.example", "2026-01-01", "draft", results))
    assert 'href="https://www.rfc-editor.org/rfc/rfc9420#section-2.1.2"' in page
    assert 'draft-ietf-mimi-protocol-06#section-5.10.2"' in page
    assert "All 1 checks passed" in page
