"""The command line: what people type, and the only place that ends the process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from bridgekit import __version__
from bridgekit.contract.commands import GROUP, Commands
from bridgekit.contract.errors import BridgeError, ConfigError

OK, FAILED, USAGE = 0, 1, 2
"""Exit statuses: done; it could not be done, or a check failed; wrong usage or a config that cannot be used."""

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words say; returns the exit status. Errors are sentences on standard error."""
    words = parser().parse_args(argv)
    command: Command = words.command
    try:
        return command(words)
    except ConfigError as error:
        for path, why in error.problems:
            print(f"{path}: {why}" if path else why, file=sys.stderr)
        return FAILED if error.passing else USAGE
    except BridgeError as error:
        print(error.notice, file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (whoever read us has gone; nothing is left to tell)
        return FAILED
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Every command and option."""
    top = argparse.ArgumentParser(
        prog="bridgekit", description="Bridges between Matrix and other chat networks.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"bridgekit {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-c",
        "--config",
        type=Path,
        default=Path(os.environ.get("BRIDGEKIT_CONFIG", "config.yaml")),
        metavar="FILE",
        help="the config file (default: $BRIDGEKIT_CONFIG, else config.yaml)",
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        name: str, command: Command, about: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=about, description=about, parents=list(parents), allow_abbrev=False
        )
        sub.set_defaults(command=command)
        return sub

    init = add("init", _init, "Make a config, a registration and a key; nothing is overwritten.")
    init.add_argument("--dir", type=Path, default=Path(), help="where to write them (default: here)")
    init.add_argument(
        "--server-name", metavar="NAME", help="the homeserver's name as in user ids: example.org"
    )
    init.add_argument(
        "--homeserver-url", metavar="URL", help="where the bridge reaches it: http://127.0.0.1:8008"
    )
    init.add_argument(
        "--admin", metavar="USER", help="your Matrix user id; it may do everything with the bridge"
    )
    init.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="ID=CONNECTOR",
        help="a network, by a name that you choose",
    )
    init.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a network's key: libera.servers.0.host=HOST",
    )

    add("check", _check, "Check config, registration, store and homeserver; one line each.", common)
    add("run", _run, "Run the bridge until SIGTERM or SIGINT; SIGHUP reads the config again.", common)

    erase = add(
        "erase",
        _erase,
        "Take back and forget what a person said, and what is kept of them; the bridge must run.",
        common,
    )
    erase.add_argument(
        "--user",
        required=True,
        metavar="USER",
        help="a ghost's user id for somebody of a network, or a Matrix user's",
    )

    api = add("api", _api, "Call the running bridge's API: rooms, networks ... (docs/operating.md).", common)
    api.add_argument("path", metavar="PATH", help="rooms, device?user=@bridgebot:example.org, openapi.json")
    api.add_argument("-X", "--method", default="GET", choices=["GET", "PUT", "POST", "DELETE"])
    api.add_argument(
        "--body", default="", metavar="JSON", help="what a PUT or POST takes; - reads it from stdin"
    )
    add("dashboard", _dashboard, "Print the address of the running bridge's page, with its token.", common)

    demo = add("demo", _demo, "Run a bridge between real servers on this machine, with people who talk.")
    demo.add_argument("--once", action="store_true", help="play the script, check what arrived, and end")

    db = add("db", _usage, "Look after the database.")
    dbs = db.add_subparsers(title="commands", required=True, metavar="COMMAND")
    migrate = dbs.add_parser(
        "migrate", help="bring the schema up to date (run does so as well)", parents=[common]
    )
    migrate.set_defaults(command=_db_migrate)
    copy = dbs.add_parser("copy", help="copy everything into another, empty database", parents=[common])
    copy.add_argument(
        "--to",
        required=True,
        metavar="URL",
        help="postgresql://user:password@host/database or sqlite:///file",
    )
    copy.set_defaults(command=_db_copy)
    backup = dbs.add_parser(
        "backup",
        help="write everything, as it is at one moment, to a new SQLite file; the bridge may be running",
        parents=[common],
    )
    backup.add_argument("path", type=Path, metavar="PATH")
    backup.set_defaults(command=_db_backup)

    config = add("config", _usage, "Look at the configuration.")
    configs = config.add_subparsers(title="commands", required=True, metavar="COMMAND")
    show = configs.add_parser("show", help="the config with its defaults, secrets masked", parents=[common])
    show.set_defaults(command=_config_show)
    schema = configs.add_parser("schema", help="the JSON Schema of the file, for editors")
    schema.set_defaults(command=_config_schema)
    reference = configs.add_parser("reference", help="every key and what it means, as Markdown")
    reference.set_defaults(command=_config_reference)

    registration = add(
        "registration", _registration, "Print the registration that belongs to the config.", common
    )
    registration.add_argument(
        "--write", action="store_true", help="write it to appservice.registration instead (replaces it)"
    )
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in commands.choices:
            continue  # a command of our own keeps its name
        try:
            brought: Commands = point.load()
            brought.arguments(add(point.name, _usage, brought.about))
        except Exception as error:
            # One connector's fault does not take the other commands away.
            add(point.name, _broken(point.value, error), "(cannot be loaded)")
    return top


# Each command imports what it needs when it is called: `--help` and `config show` do not wait for a database driver.


def _usage(_words: argparse.Namespace) -> int:
    return USAGE


def _broken(where: str, error: Exception) -> Command:
    def tell(_words: argparse.Namespace) -> int:
        print(f"The commands of {where} cannot be loaded: {type(error).__name__}: {error}", file=sys.stderr)
        return FAILED

    return tell


def _init(words: argparse.Namespace) -> int:
    from bridgekit.cli.init import init

    return init(
        words.dir,
        server_name=words.server_name,
        homeserver_url=words.homeserver_url,
        admin=words.admin,
        networks=words.network,
        settings=words.set,
        ask=input if sys.stdin.isatty() and sys.stdout.isatty() else None,
    )


def _check(words: argparse.Namespace) -> int:
    from bridgekit.cli.check import check

    return check(words.config)


def _run(words: argparse.Namespace) -> int:
    from bridgekit.cli.run import run

    return run(words.config)


def _erase(words: argparse.Namespace) -> int:
    from bridgekit.cli.erase import erase

    return erase(words.config, words.user)


def _api(words: argparse.Namespace) -> int:
    from bridgekit.cli.asking import ask

    body = sys.stdin.read() if words.body == "-" else words.body
    return ask(words.config, words.path, words.method, body)


def _dashboard(words: argparse.Namespace) -> int:
    from bridgekit.cli.asking import dashboard

    return dashboard(words.config)


def _demo(words: argparse.Namespace) -> int:
    from bridgekit import demo

    status: int = demo.main(once=words.once)
    return status


def _db_migrate(words: argparse.Namespace) -> int:
    from bridgekit.cli import db

    return db.migrate(words.config)


def _db_copy(words: argparse.Namespace) -> int:
    from bridgekit.cli import db

    return db.copy(words.config, words.to)


def _db_backup(words: argparse.Namespace) -> int:
    from bridgekit.cli import db

    return db.backup(words.config, words.path)


def _config_show(words: argparse.Namespace) -> int:
    from bridgekit.config import load, show

    print(show(load(words.config)), end="")
    return OK


def _config_schema(_words: argparse.Namespace) -> int:
    import json

    from bridgekit.config import Installed
    from bridgekit.config.reference import schema

    print(json.dumps(schema(Installed()), indent=2))
    return OK


def _config_reference(_words: argparse.Namespace) -> int:
    from bridgekit.config import Installed
    from bridgekit.config.reference import reference

    print(reference(Installed()), end="")
    return OK


def _registration(words: argparse.Namespace) -> int:
    from bridgekit.cli.registering import document
    from bridgekit.config import load, to_yaml
    from bridgekit.matrix import registration

    config = load(words.config)
    if words.write:
        registration.write(document(config), config.appservice.registration)
        print(f"wrote {config.appservice.registration}")
    else:
        print(to_yaml(document(config)), end="")
    return OK
