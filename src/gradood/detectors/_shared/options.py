"""Constructors that answer wrong options in words."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from gradood.errors import ConfigError, GradoodError, suggest

__all__ = ["answering"]


class _OptionError(ConfigError, TypeError):
    """An option that a constructor does not have: to Python, also a wrong call."""


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
        try:
            signature.bind(self, *args, **options)
        except TypeError:
            raise _misfit(self, list(signature.parameters)[1:], args, options) from None
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


def _misfit(
    detector: Any, names: list[str], args: tuple[Any, ...], options: dict[str, Any]
) -> ConfigError:
    kind, name = type(detector).__name__, detector.name
    unknown = next((option for option in options if option not in names), None)
    if not names:
        return _OptionError(f"{name} takes no arguments; give {kind}().")
    if unknown is not None:
        return _OptionError(f"{name} has no option {unknown!r}; {suggest(unknown, names)}")
    if args:
        return _OptionError(
            f"{name} takes its options by name, such as {kind}({names[0]}={args[0]!r:.40})."
        )
    missing = ", ".join(option for option in names if option not in options)
    return _OptionError(f"{name} lacks options; give {missing}.")
