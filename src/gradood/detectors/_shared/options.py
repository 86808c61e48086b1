"""Constructors that answer wrong options in words."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from gradood._io.arguments import plain
from gradood.errors import ConfigError, GradoodError, OptionError, suggest

__all__ = ["answering"]

_WORD = re.compile(r"\w+")


def answering(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor whose every error is a `ConfigError` that names the options.

    Args:
        init: of a detector.
    """
    if hasattr(init, "answers"):
        return init
    signature = inspect.signature(init)

    @wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        options = {name: _plain(value) for name, value in options.items()}
        try:
            signature.bind(self, *args, **options)
        except TypeError:
            raise _misfit(self, signature, args, options) from None
        for name, value in options.items():
            if isinstance(value, bool) and _is_number(signature.parameters.get(name)):
                raise ConfigError(f"{name}={value!r}; expected a number, and no truth value.")
        try:
            init(self, *args, **options)
        except GradoodError:
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            given = ", ".join(f"{name}={value!r:.60}" for name, value in options.items())
            kind = type(self).__name__
            raise ConfigError(
                f"{self.name} was given {given}; expected values as its help says, see "
                f"help(gradood.{kind}) ({error})."
            ) from error

    checked.answers = True  # type: ignore[attr-defined]
    return checked


def _plain(option: Any) -> Any:
    """An option with Python's numbers, which a file can hold, for those of NumPy; else itself."""
    if type(option) not in (list, tuple):
        return plain(option)
    found = type(option)(map(plain, option))
    same = all(new is old for new, old in zip(found, option, strict=True))
    return option if same else found


def _is_number(option: inspect.Parameter | None) -> bool:
    """Whether an option is declared as a number and as no truth value, which Python takes for 1."""
    declared = set() if option is None else set(_WORD.findall(str(option.annotation)))
    return bool(declared & {"int", "float"}) and "bool" not in declared


def _misfit(
    detector: Any, signature: inspect.Signature, args: tuple[Any, ...], options: dict[str, Any]
) -> OptionError:
    defaults = {p.name: p.default for p in list(signature.parameters.values())[1:]}
    names = list(defaults)
    kind, name = type(detector).__name__, detector.name
    unknown = next((option for option in options if option not in names), None)
    if not names:
        return OptionError(f"{name} takes no arguments; give {kind}().")
    if unknown is not None:
        meant = _meant(unknown, options[unknown], defaults)
        return OptionError(f"{name} has no option {unknown!r}; {meant}")
    if args:
        return OptionError(
            f"{name} takes its options by name, such as {kind}({names[0]}={args[0]!r:.40})."
        )
    missing = ", ".join(option for option in names if option not in options)
    return OptionError(f"{name} lacks options; give {missing}.")


def _meant(unknown: str, value: object, defaults: Mapping[str, object]) -> str:
    """The option of a similar name, or else the only one with values of that type; or all."""
    said = suggest(unknown, defaults)
    alike = [name for name, default in defaults.items() if type(default) is type(value)]
    if said.startswith("did you mean") or len(alike) != 1 or len(defaults) == 1:
        return said
    return f"did you mean {alike[0]!r}? There are {', '.join(defaults)}."
