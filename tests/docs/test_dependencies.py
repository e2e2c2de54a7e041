"""docs/dependencies.md says what every dependency is for, and names none that is gone."""

import re
import tomllib
from pathlib import Path


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return found[0]


def test_every_dependency_is_explained_and_nothing_else_is(repository: Path):
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    declared = [
        *project["project"]["dependencies"],
        *(name for extra in project["project"]["optional-dependencies"].values() for name in extra),
        *(name for group in project["dependency-groups"].values() for name in group),
    ]
    text = (repository / "docs" / "dependencies.md").read_text().partition("## Servers")[0]
    explained = re.findall(r"^\| (?!Package)([a-z][\w.-]*) \|", text, re.MULTILINE)
    assert sorted(explained) == sorted({_name(requirement) for requirement in declared})


def test_no_lock_file_names_an_index(repository: Path):
    locks = list(repository.glob("requirements*.lock"))
    assert len(locks) == 4
    assert [lock.name for lock in locks if "://" in lock.read_text()] == []


def test_whoever_lacks_a_package_is_told_of_the_very_one_and_never_to_fetch_bridgekit(repository: Path):
    """On PyPI `bridgekit` is somebody else's: pip takes it instead of ours, in search of an extra of that name."""
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    declared = {requirement for extra in extras.values() for requirement in extra}
    told = set()
    for pattern in (
        "README.md",
        "bridgekit/**/*.py",
        "connectors/**/*.py",
        "connectors/**/*.md",
        "docs/**/*.md",
    ):
        for file in repository.glob(pattern):
            for words in re.findall(r"pip install ((?:['\"][^'\"]+['\"] ?)+)", file.read_text()):
                told |= set(re.findall(r"['\"]([^'\"]+)['\"]", words))
    assert told
    assert told <= declared
