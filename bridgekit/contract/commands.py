"""Commands that a connector brings along: `bridgekit <its name> ...`.

An entry point of the group `bridgekit.commands` names an object of this kind; its name is the word that people type.
"""

from __future__ import annotations

import argparse
from typing import Protocol

GROUP = "bridgekit.commands"


class Commands(Protocol):
    """What one connector adds to the command line. Its module is loaded for every `--help`: import little."""

    @property
    def about(self) -> str:
        """One sentence."""
        ...

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add options and sub-commands.

        Each sets the default `command` to a function from the parsed `argparse.Namespace` to an exit status (0 done, 1
        not done, 2 wrong usage). It may raise ConfigError and BridgeError, whose sentences are shown.
        """
        ...
