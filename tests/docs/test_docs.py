"""The documents are true: every key, metric and command is in them, and what they quote is in the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from pydantic import BaseModel

from bridgekit.admin.metrics import Encryption, Metrics, Queue
from bridgekit.cli import parser
from bridgekit.cli.registering import document
from bridgekit.cli.template import head
from bridgekit.config import Config, Installed, load
from bridgekit.config.model import NetworkSection
from bridgekit.config.reference import reference
from bridgekit.config.shape import fields, models
from bridgekit.contract.ids import NetworkId
from bridgekit.matrix import registration

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def text(name: str) -> str:
    return (ROOT / name).read_text()


def example() -> Config:
    return load(ROOT / "config.example.yaml", {})


def test_the_example_config_is_valid():
    config = example()
    assert {network.connector for network in config.networks.values()} == {"irc", "echo"}


def test_the_example_config_is_what_init_writes_but_for_its_networks():
    service = example().appservice
    top = head(
        url="http://127.0.0.1:8008",
        server_name="example.org",
        admin="@admin:example.org",
        as_token=service.as_token.get_secret_value(),
        hs_token=service.hs_token.get_secret_value(),
    )
    assert text("config.example.yaml").startswith(top)


def test_the_example_config_shows_every_key_of_the_bridge():
    shown = text("config.example.yaml")

    def missing(model: type[BaseModel]) -> list[str]:
        names: list[str] = []
        for key, info in fields(model).items():
            if not re.search(rf"^[ #-]*\{{?{key}:", shown, re.MULTILINE):
                names.append(f"{model.__name__}.{key}")
            for inner in models(info.annotation):
                names += missing(inner)
        return names

    assert missing(Config) + missing(NetworkSection) == []


def test_the_example_registration_belongs_to_the_example_config():
    written = registration.read(ROOT / "registration.yaml.example")
    assert written == document(example())


def test_the_configuration_reference_is_what_the_code_says():
    """When this fails: bridgekit config reference > docs/configuration.md"""
    assert text("docs/configuration.md") == reference(Installed())


def encryption() -> Encryption:
    counts = {"why": 1}
    return Encryption(devices=1, rooms=1, one_time_keys=1, unread=counts, missing=counts, withheld=counts)


async def rows() -> int:
    return 1


def test_every_metric_is_documented_and_every_documented_metric_exists():
    metrics = Metrics()
    network = NetworkId("n")
    metrics.declare([network])
    metrics.watch_sessions(lambda: {(network, "ready"): 1})
    metrics.watch_encryption(encryption, rows, rows)
    metrics.watch_held(lambda: {(network, "gate"): 1})
    metrics.watch_store(lambda: True)
    for queue in Queue:
        metrics.watch_queue(queue, lambda: (0, 0.0))
    there = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.registry.collect()
        if family.name.startswith("bridgekit_")
    }
    documented = set(re.findall(r"^\| `(bridgekit_\w+)` \|", text("docs/operating.md"), re.MULTILINE))
    assert documented == there
    named = {
        name
        for path in DOCUMENTS
        for name in re.findall(r"\b(bridgekit_[a-z_]+(?:_total|_seconds|_rows|_depth))\b", path.read_text())
    }
    assert named <= there


def test_every_event_that_the_log_section_names_is_logged_somewhere():
    table = text("docs/operating.md").partition("## Logs")[2]
    named = {
        event
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for event in re.findall(r"`(\w+)`", row)
    }
    code = "".join(
        path.read_text() for room in ("bridgekit", "connectors") for path in (ROOT / room).rglob("*.py")
    )
    assert len(named) > 8
    assert [event for event in sorted(named) if f'"{event}"' not in code] == []


def test_every_queue_is_documented():
    for queue in Queue:
        assert f"`{queue.value}`" in text("docs/operating.md")


def commands(each: object, path: str = "bridgekit") -> list[str]:
    found: list[str] = []
    for action in each._actions:  # type: ignore[attr-defined]
        if isinstance(action.choices, dict):
            for name, sub in action.choices.items():
                below = commands(sub, f"{path} {name}")
                found += below or [f"{path} {name}"]
    return found


def test_every_command_is_documented():
    assert [each for each in commands(parser()) if f"| `{each}` |" not in text("docs/operating.md")] == []


def shell_lines() -> list[tuple[str, str]]:
    """Every command line in a shell block of a document."""
    found = []
    for path in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.split(" && "):
                    words = part.partition("  #")[0].strip().removeprefix("$ ")
                    if words and not words.startswith("#"):
                        found.append((str(path.relative_to(ROOT)), words))
    return found


def test_what_the_documents_tell_people_to_type_is_understood():
    known = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    for where, line in shell_lines():
        words = shlex.split(re.sub(r"\$\(.*?\)", "x", line))
        while words and ("=" in words[0] or words[0] == "sudo"):
            words.pop(0)
        program = words[0].rpartition("/")[2] if words else ""
        if program == "make":
            targets = [word for word in words[1:] if "=" not in word]
            assert targets, f"{where}: {line}"
            assert set(targets) <= known, f"{where}: {line}"
        elif program == "bridgekit":
            try:
                parser().parse_args(words[1:])
            except SystemExit as ended:
                pytest.fail(f"{where}: {line!r} is not understood ({ended.code})")


def test_every_quoted_make_target_exists():
    known = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    for path in DOCUMENTS:
        for target in re.findall(r"`make ([a-z]+)", path.read_text()):
            assert target in known, f"{path.name}: make {target}"


def test_every_link_between_documents_leads_somewhere():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_path_in_the_picture_of_the_house_exists():
    for path in re.findall(
        r"`((?:bridgekit|connectors|tests|docs)/[\w./-]*\w/?)`", text("docs/ARCHITECTURE.md")
    ):
        assert (ROOT / path).exists(), path


def test_the_tutorial_quotes_the_echo_connector_and_its_test_word_for_word():
    source = text("connectors/echo/connector.py") + text("tests/connectors/echo/test_contract.py")
    quoted = re.findall(
        r"^```python\n(.*?)^```", text("docs/writing-a-connector.md"), re.MULTILINE | re.DOTALL
    )
    assert len(quoted) >= 8
    assert [block for block in quoted if block not in source] == []
    entries = re.findall(
        r"^```toml\n(.*?)^```", text("docs/writing-a-connector.md"), re.MULTILINE | re.DOTALL
    )
    assert len(entries) == 2
    assert all(line in text("pyproject.toml") for entry in entries for line in entry.splitlines())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_starts_with_its_title_and_names_nobodys_machine(path: Path):
    words = path.read_text()
    assert words.startswith("# ")
    assert not re.search(r"(?<![\w.])/(?:work|root|home|tmp)/", words)
    assert not re.search(
        r"^(<{7} |={7}$|>{7} )", words, re.MULTILINE
    )  # what a merge leaves where it needs help
