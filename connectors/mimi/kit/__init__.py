"""`bridgekit mimi ...`: for vendors who build the other side. Each command imports what it needs when it is called."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from bridgekit.contract.errors import ConfigError


class _Kit:
    about = "Look at MIMI from outside: certificates, captured bodies, other providers."

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """keygen, directory, inspect, conformance, send, demo."""
        commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

        keygen = commands.add_parser("keygen", help="make an authority and certificates for test providers")
        keygen.add_argument("domains", nargs="+", metavar="DOMAIN", help="a provider's domain")
        keygen.add_argument("--dir", type=Path, default=Path(), help="where to write them (default: here)")
        keygen.set_defaults(command=_with_extra(_keygen))

        directory = commands.add_parser("directory", help="ask a provider where its endpoints are")
        _peer(directory)
        directory.set_defaults(command=_with_extra(_directory))

        inspect = commands.add_parser("inspect", help="decode a captured body to readable text")
        inspect.add_argument(
            "file", metavar="FILE", nargs="?", help="octets, hex or base64; - is standard input"
        )
        inspect.add_argument(
            "--as", dest="kind", metavar="KIND", help="what it is (default: all that it can be)"
        )
        inspect.add_argument("--kinds", action="store_true", help="list what can be decoded, and end")
        inspect.set_defaults(command=_with_extra(_inspect))

        conformance = commands.add_parser("conformance", help="check somebody's provider, point by point")
        _peer(conformance)
        conformance.add_argument(
            "--report", type=Path, metavar="DIR", help="write report.json and report.html there"
        )
        conformance.add_argument(
            "--user", metavar="URI", help="one of theirs who agrees to be asked for key packages"
        )
        conformance.set_defaults(command=_with_extra(_conformance))

        send = commands.add_parser("send", help="say something in an open room of theirs, and leave again")
        _peer(send)
        send.add_argument("room", metavar="ROOM", help="its URI: mimi://its.domain/r/name")
        send.add_argument("words", metavar="WORDS", help="what to say")
        send.add_argument("--user", default="kit", metavar="NAME", help="who says it (default: kit)")
        send.add_argument("--code", metavar="CODE", help="the room's join code, where it is closed")
        send.set_defaults(command=_with_extra(_send))

        demo = commands.add_parser("demo", help="two providers on this machine that talk to each other")
        demo.add_argument("--once", action="store_true", help="play the script, check both ends, and end")
        demo.set_defaults(command=_with_extra(_demo))


commands = _Kit()


def _with_extra(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def checked(words: argparse.Namespace) -> int:
        for module in ("cbor2", "markdown_it"):
            if find_spec(module) is None:
                why = "This needs what is not installed: pip install 'cbor2>=6.3' 'markdown-it-py>=4'."
                raise ConfigError([("", why)])
        return command(words)

    return checked


def _peer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="its domain, or https://its.domain[:port]")
    parser.add_argument("--address", metavar="URL", help="where to reach it, if not at its domain")
    parser.add_argument(
        "--as", dest="domain", required=True, metavar="DOMAIN", help="the domain that we speak for"
    )
    parser.add_argument("--certificate", type=Path, required=True, metavar="PEM", help="its certificate")
    parser.add_argument("--key", type=Path, required=True, metavar="PEM", help="the certificate's key")
    parser.add_argument(
        "--authorities", type=Path, metavar="PEM", help="whom to trust (default: the system's)"
    )


def _keygen(words: argparse.Namespace) -> int:
    from connectors.mimi.kit.calling import keygen

    return keygen(words.domains, words.dir)


def _directory(words: argparse.Namespace) -> int:
    from connectors.mimi.kit.calling import Caller, show_directory

    return show_directory(Caller.of(words))


def _inspect(words: argparse.Namespace) -> int:
    from connectors.mimi.kit.inspecting import inspect, kinds

    return kinds() if words.kinds else inspect(words.file, words.kind)


def _conformance(words: argparse.Namespace) -> int:
    from connectors.mimi.kit.calling import Caller
    from connectors.mimi.kit.report import conformance

    return conformance(Caller.of(words), user=words.user, folder=words.report)


def _send(words: argparse.Namespace) -> int:
    from connectors.mimi.kit.calling import Caller
    from connectors.mimi.kit.sending import send

    return send(Caller.of(words), words.room, words.words, user=words.user, code=words.code)


def _demo(words: argparse.Namespace) -> int:
    from connectors.mimi.testing.demo import main

    return main(once=words.once)
