"""Suites as TOML files: those that come with the library, and files of one's own."""

import tomllib
from importlib import resources
from pathlib import Path

from gradood._io.records import decode
from gradood.bench.suite import Suite
from gradood.errors import ConfigError, UnknownNameError, suggest

__all__ = ["load_suite", "suites"]


def suites() -> tuple[str, ...]:
    """Names of the suites that come with the library, sorted."""
    folder = resources.files("gradood.bench") / "suites"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


def load_suite(source: str | Path) -> Suite:
    """A suite by name, or from a TOML file.

    Args:
        source: the name of a suite, or the path of a ``.toml`` file.

    Raises:
        UnknownNameError: no such suite; suggests the closest.
        ConfigError: the file cannot be read, or holds an option that is unknown or wrong.

    >>> [one.name for one in load_suite("cifar10-local").ood if one.group == "near"]
    ['cifar100', 'tinyimagenet']
    """
    name = str(source)
    if name.endswith(".toml"):
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ConfigError(
                f"the suite {name!r} cannot be read: {why}; expected TOML."
            ) from error
    elif name in suites():
        folder = resources.files("gradood.bench") / "suites"
        text = (folder / f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise UnknownNameError(
            f"no suite {name!r}; {suggest(name, suites())} A file of one's own ends in .toml."
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the suite {name!r} is no TOML: {error}.") from error
    return decode(Suite, table, f"suite {name!r}")
