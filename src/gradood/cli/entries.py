"""Networks and sets of outliers as they are named on the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.bench import Contender

__all__ = ["contenders", "named_sets"]


def contenders(
    model: str | None, weights: Sequence[Path], runs: Sequence[str]
) -> tuple["Contender", ...]:
    """The networks of a run; several weights of one are its seeds.

    Args:
        model: of ``--model``.
        weights: of ``--weights``.
        runs: of ``--run``: ``LABEL=SPEC@FILE,FILE``.

    Raises:
        ConfigError: none, or one that cannot be told from the text.
    """
    from gradood.bench import Contender

    given: list[tuple[str, str, Sequence[Path]]] = []
    if model is not None:
        given.append((model, model, weights))
    elif weights:
        raise ConfigError("--weights was given without --model; name the network they are of.")
    for text in runs:
        label, equals, rest = text.partition("=")
        spec, at, files = rest.rpartition("@")
        spec, files = (spec, files) if at else (rest, "")
        if not (equals and label and spec) or (at and not all(files.split(","))):
            raise ConfigError(
                f"--run {text!r}; expected LABEL=SPEC@FILE, such as "
                "net=resnet20@seed0.safetensors,seed1.safetensors."
            )
        given.append((label, spec, [Path(file) for file in files.split(",") if file]))
    if not given:
        raise ConfigError("no network was given; name one with --model, or several with --run.")
    return tuple(
        Contender(
            label=label,
            model=spec,
            weights=file,
            seed=seed if len(files) > 1 else None,
        )
        for label, spec, files in given
        for seed, file in enumerate(files or [None])
    )


def named_sets(given: Sequence[str]) -> dict[str, tuple[Literal["near", "far"], str]]:
    """Name → group and path, of ``--ood``.

    Raises:
        ConfigError: a text is no such thing, or a name comes twice.
    """
    found: dict[str, tuple[Literal["near", "far"], str]] = {}
    for text in given:
        name, equals, path = text.partition("=")
        group: Literal["near", "far"] = "near" if name.startswith("near:") else "far"
        name = name.removeprefix(f"{group}:")
        if not (equals and name and path):
            raise ConfigError(
                f"--ood {text!r}; expected NAME=PATH, such as svhn=svhn.parquet, or near:NAME=PATH."
            )
        if name in found:
            raise ConfigError(f"--ood {name!r} was given twice; give each set its own name.")
        found[name] = group, path
    return found
