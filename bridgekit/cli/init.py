"""`bridgekit init`: a config, a registration and a key, ready to be looked over; nothing is overwritten."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from pydantic.fields import FieldInfo

from bridgekit.cli import template
from bridgekit.cli.registering import document
from bridgekit.config import Config, Installed, load
from bridgekit.config.shape import closest
from bridgekit.contract.errors import ConfigError

Ask = Callable[[str], str]

FILES = ("config.yaml", "registration.yaml", "bridgekit.key")


def init(
    folder: Path,
    *,
    server_name: str | None,
    homeserver_url: str | None,
    admin: str | None,
    networks: list[str],
    settings: list[str],
    ask: Ask | None,
) -> int:
    """Write the three files into `folder`, mode 0600. `ask` puts a question to the person; None: nobody is there.

    Raises ConfigError with everything that is missing, or where one of the files is there already.
    """
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise ConfigError(
            [("", f"{folder / name} is there already; nothing is overwritten") for name in there]
        )
    text = _Interview(ask).text(server_name, homeserver_url, admin, networks, settings)
    _create(folder, text)
    print(f"wrote {', '.join(str(folder / name) for name in FILES)}")
    print(
        "Next: look over config.yaml, install registration.yaml on the homeserver, then run `bridgekit check`."
    )
    return 0


class _Interview:
    """Takes answers from the command line, or from the person where there is one."""

    def __init__(self, ask: Ask | None) -> None:
        self.ask = ask
        self.missing: list[tuple[str, str]] = []

    def text(
        self,
        server_name: str | None,
        url: str | None,
        admin: str | None,
        networks: list[str],
        settings: list[str],
    ) -> str:
        server = self._one(
            server_name, "--server-name", "The homeserver's name, as in user ids (example.org): "
        )
        url = url or self._default("Where the bridge reaches it", "http://127.0.0.1:8008")
        admin = admin or (self._default("Your Matrix user id", f"@admin:{server}") if server else "")
        if server and not admin.startswith("@"):
            admin = f"@{admin}:{server}"
        named = networks or self._networks()
        if not named:
            self.missing.append(("--network", "name at least one network, such as --network NAME=CONNECTOR"))
        try:
            given = template.settings(settings)
        except ValueError as error:
            raise ConfigError([("--set", f"{error} is not KEY=VALUE")]) from None
        sections = [self._network(word, dict(given)) for word in named]
        if self.missing:
            raise ConfigError(self.missing)
        top = template.head(
            url=url,
            server_name=server,
            admin=admin,
            as_token=secrets.token_hex(32),
            hs_token=secrets.token_hex(32),
        )
        return top + "networks:\n" + "\n".join(sections)

    def _one(self, given: str | None, flag: str, question: str) -> str:
        answer = given or self._required(question)
        if not answer:
            self.missing.append((flag, "is required"))
        return answer

    def _required(self, question: str) -> str:
        """What the person answers, asked again until there is something; "" where nobody is there."""
        while self.ask is not None:
            if answer := self.ask(question).strip():
                return answer
        return ""

    def _default(self, question: str, usual: str) -> str:
        return (self.ask(f"{question} [{usual}]: ").strip() if self.ask else "") or usual

    def _networks(self) -> list[str]:
        named: list[str] = []
        known = ", ".join(Installed())
        while self.ask is not None:
            word = self.ask(f"A network as NAME=CONNECTOR ({known}); empty to finish: ").strip()
            if not word and named:
                break
            if word and not (wrong := _wrong(word)):
                named.append(word)
            else:
                print(wrong if word else "Name at least one.")
        return named

    def _network(self, word: str, given: dict[str, str]) -> str:
        if wrong := _wrong(word):
            self.missing.append(("--network", wrong))
            return ""
        name, _, connector = word.partition("=")
        installed = Installed()
        used = {f"{name}.consent"}
        consent = given.get(f"{name}.consent", "required")

        def answer(path: str, info: FieldInfo) -> str | None:
            key = f"{name}.{path}"
            used.add(key)
            if key in given:
                return given[key]
            if not info.is_required():
                return None
            usual = str(info.examples[0]) if info.examples else ""
            if self.ask is None:
                return usual or None
            question = f"{key}: {info.description or path}{f' [{usual}]' if usual else ''} "
            return self.ask(question).strip() or usual if usual else self._required(question)

        try:
            model = installed[connector].manifest.config
            section = template.network(name, connector, model, answer, consent)
        except KeyError as error:
            self.missing.append((f"networks.{name}", f"--set {name}.{error.args[0]}=VALUE is required"))
            return ""
        mine = {key for key in given if key.startswith(f"{name}.")}
        for key in sorted(mine - used):
            self.missing.append(("--set", f"there is no key {key}{closest(key, sorted(used))}"))
        return section


def _wrong(word: str) -> str:
    """What is wrong with NAME=CONNECTOR; "" where nothing is."""
    name, sign, connector = word.partition("=")
    if not sign or not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
        return f"{word} is not NAME=CONNECTOR with a lower case name"
    installed = Installed()
    if connector in installed:
        return ""
    near = closest(connector, list(installed)) or f"; there is {', '.join(installed)}"
    return f"no connector called `{connector}` is installed{near}"


def _create(folder: Path, text: str) -> None:
    """Write the files; on any problem take back what was written."""
    from bridgekit.matrix import registration
    from bridgekit.store import SealingKey

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        path = folder / "config.yaml"
        _write(path, text)
        written.append(path)
        config: Config = load(path)
        written += [folder / "registration.yaml", folder / "bridgekit.key"]
        registration.write(document(config), config.appservice.registration)
        SealingKey.load_or_create(config.store.key_file, environ={})
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(
            [("", f"{path} cannot be written: {(error.strerror or 'error').lower()}")]
        ) from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
