"""Recipes of the library and of files, and changes of their options."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from gradood._io.records import decode
from gradood.errors import ConfigError, UnknownNameError, suggest
from gradood.training.recipe import Recipe

__all__ = ["METHODS", "load_recipe", "recipes", "with_changes"]

METHODS = (
    "energy",
    "greg",
    "greg+",
    "ish",
    "logit-norm",
    "mixoe",
    "oe",
    "oe+gradient",
    "pixmix",
    "plain",
    "vos",
)
"""What `gradood train --method` takes; each is the name of a recipe, with ``-plus`` for ``+``."""


def recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the library, sorted."""
    folder = resources.files("gradood.training") / "recipes"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


def load_recipe(source: str | Path, changes: Iterable[str] = ()) -> Recipe:
    """A recipe by name, by method, or from a file.

    Args:
        source: the name of a recipe or method; a ``.toml`` file, whose ``base`` may name a recipe
            that it changes; or the ``recipe.json`` of an earlier run.
        changes: such as ``optimizer.lr=0.001``, with values as in TOML.

    Raises:
        UnknownNameError: no such recipe.
        ConfigError: the file or a change cannot be read, or an option is unknown or wrong.

    >>> load_recipe("cifar10-greg", ["schedule.epochs=2"]).schedule.epochs
    2
    """
    table = _table(source, ())
    return decode(Recipe, with_changes(table, changes), f"recipe {str(source)!r}")


def with_changes(table: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """A table with single options changed.

    Args:
        table: nested.
        changes: ``key.key=value``, with values as in TOML; a text needs no quotes.

    Raises:
        ConfigError: no ``=``, or a path through something that is no table.
    """
    changed = dict(table)
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path.strip():
            raise ConfigError(
                f"{change!r} changes nothing; expected key=value, such as optimizer.lr=0.001."
            )
        value: Any = _parsed(text.strip())
        for key in reversed(path.strip().split(".")):
            value = {key: value}
        changed = _merged(changed, value)
    return changed


def _parsed(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _table(source: str | Path, seen: tuple[str, ...]) -> dict[str, Any]:
    name = str(source)
    if name in seen:
        raise ConfigError(f"recipe {name!r} is its own base: {' → '.join((*seen, name))}.")
    path = Path(source)
    if path.suffix == ".json":
        return dict(_json(path))
    table = _toml(_text(path) if path.suffix == ".toml" else _packaged(name), name)
    base = table.pop("base", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ConfigError(f"the base of recipe {name!r} is {base!r}; expected a recipe's name.")
    return _merged(_table(base, (*seen, name)), table)


def _packaged(name: str) -> str:
    plain = name.replace("+gradient", "-gradient").replace("+", "-plus")
    if plain not in recipes():
        raise UnknownNameError(
            f"no recipe {name!r}; {suggest(name, (*recipes(), *METHODS))} "
            "A file of your own ends in .toml."
        )
    return (resources.files("gradood.training") / "recipes" / f"{plain}.toml").read_text("utf-8")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"recipe {str(path)!r} cannot be read ({error}); expected a text file in TOML."
        ) from error


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe {name!r} is no TOML: {error}; correct the file.") from error


def _json(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(_text(path))
    except ValueError as error:
        raise ConfigError(f"{str(path)!r} is no JSON: {error}; expected a recipe.json.") from error
    recipe = record.get("recipe") if isinstance(record, dict) else None
    if not isinstance(recipe, dict):
        raise ConfigError(
            f"{str(path)!r} holds no recipe; expected the recipe.json of an earlier run."
        )
    return recipe


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, nested tables merged likewise."""
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        nested = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(before, value) if nested else value  # type: ignore[arg-type]
    return merged
