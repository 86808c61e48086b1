"""Option groups: dataclasses whose fields are the options of a command."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

__all__ = ["Declaration", "argument", "flag", "option", "spread"]


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """An option or an argument of a command, for a field ``Annotated[type, declaration]``.

    Attributes:
        help: what the help says of it.
        metavar: what its value is; empty for a flag.
        names: such as ``--id``; none for that of the field.
        panel: title in the help; None for that of its group.
        least: the smallest number it takes, or None.
        most: the largest number it takes, or None.
        positional: an argument, without a name.
    """

    help: str
    metavar: str = ""
    names: tuple[str, ...] = ()
    panel: str | None = None
    least: float | None = None
    most: float | None = None
    positional: bool = False

    def to_typer(self, field: str, panel: str | None) -> Any:
        """The same for Typer.

        Args:
            field: name of the parameter.
            panel: of its group.
        """
        if self.positional:
            return typer.Argument(metavar=self.metavar, help=self.help)
        names = self.names
        if not names and not self.metavar:
            names = (f"--{field.replace('_', '-')}",)  # Else Typer adds --no-….
        return typer.Option(
            *names,
            metavar=self.metavar or None,
            help=self.help,
            min=self.least,
            max=self.most,
            rich_help_panel=self.panel or panel,
        )


def option(
    metavar: str,
    help: str,
    *names: str,
    panel: str | None = None,
    least: float | None = None,
    most: float | None = None,
) -> Declaration:
    """An option with a value; see `Declaration`."""
    return Declaration(help=help, metavar=metavar, names=names, panel=panel, least=least, most=most)


def flag(help: str, *names: str, panel: str | None = None) -> Declaration:
    """An option without a value; see `Declaration`."""
    return Declaration(help=help, names=names, panel=panel)


def argument(metavar: str, help: str) -> Declaration:
    """A value without a name; see `Declaration`."""
    return Declaration(help=help, metavar=metavar, positional=True)


def spread(function: Callable[..., None]) -> Callable[..., None]:
    """A command with one parameter for every field of its option groups.

    Typer reads the parameters of a function and knows no dataclasses; this turns
    ``fit(model: ModelOptions, json: Json)`` into ``fit(*, model, weights, …, json)`` for it, and
    the values it parsed back into the groups. A group's class variable ``PANEL`` is the title
    that its options have in the help.

    Args:
        function: parameters that are annotated with a dataclass are its groups.

    Raises:
        TypeError: two options have one name.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            parameters += _fields(groups[name])
        else:
            parameters.append(_parameter(name, hints[name], parameter.default, None))
    names = [parameter.name for parameter in parameters]
    if len(set(names)) < len(names):
        raise TypeError(f"{function.__name__} has two options of one name: {names}")

    def command(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        function(**values)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command


@cache  # Several commands have the same groups.
def _fields(group: type[Any]) -> list[inspect.Parameter]:
    hints: Mapping[str, Any] = get_type_hints(group, include_extras=True)
    panel = getattr(group, "PANEL", None)
    return [_parameter(f.name, hints[f.name], _default(f), panel) for f in fields(group)]


def _default(field: "Field[Any]") -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _parameter(name: str, hint: Any, default: Any, panel: str | None) -> inspect.Parameter:
    if get_origin(hint) is Annotated:
        kind, declaration = get_args(hint)
        hint = Annotated[kind, declaration.to_typer(name, panel)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=hint)
