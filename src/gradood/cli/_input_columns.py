"""Columns of tables as a model's input, as options."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from gradood.cli._groups import flag, option
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.models._columns import ColumnChoice

__all__ = ["InputColumnOptions"]


@dataclass(frozen=True, kw_only=True)
class InputColumnOptions:
    """What the rows of Parquet, CSV or JSON Lines are, where they are no images."""

    PANEL: ClassVar[str] = "Rows of tables (default: images; a saved detector knows its own)"

    text_column: Annotated[
        str | None,
        option("NAME", "Texts, for hf:FOLDER with its tokenizer. [default: text]"),
    ] = None
    audio_column: Annotated[
        str | None,
        option("NAME", "Sound: encoded, or paths of files. [default with hf:FOLDER: audio]"),
    ] = None
    feature_columns: Annotated[
        str | None,
        option("A,B,C|all", "Numbers, one feature a column; all takes every column of numbers."),
    ] = None
    category_columns: Annotated[
        str | None,
        option("A,B", "Categories: whole numbers are codes, other values are coded as they sort."),
    ] = None
    input_column: Annotated[
        str | None,
        option("NAME", "Lists of token ids; with --shape, of the values of a tensor."),
    ] = None
    shape: Annotated[
        str | None,
        option("A,B,C", "Of the tensor in --input-column, without the batch, such as 1,49,10."),
    ] = None
    padding_id: Annotated[
        int | None,
        option("N", "Token id that stands for nothing: masked, and what rows are padded with."),
    ] = None
    max_length: Annotated[
        int | None,
        option("N", "Most tokens, or samples of sound; longer rows are too_long.", least=1),
    ] = None
    truncate: Annotated[bool, flag("Cut longer rows instead.")] = False
    sampling_rate: Annotated[
        int | None,
        option("HZ", "Of the model's sound, where it does not say.", least=1),
    ] = None
    input_name: Annotated[
        list[str],
        option(
            "ROLE=ARGUMENT",
            "The model's name for ids, mask (or none), input, features, categories or audio; may "
            "be given several times. [default: as its forward names them]",
        ),
    ] = field(default_factory=list)

    def choice(self) -> "ColumnChoice":
        """The same for the library.

        Raises:
            ConfigError: a text cannot be read, or options do not go together.
        """
        from gradood.models._columns import ColumnChoice

        names: dict[str, str] = {}
        for text in self.input_name:
            role, _, argument = text.partition("=")
            if not (role and argument):
                raise ConfigError(
                    f"--input-name {text!r}; expected ROLE=ARGUMENT, as ids=input_ids."
                )
            names[role] = argument
        return ColumnChoice(
            text=self.text_column,
            audio=self.audio_column,
            features=_listed(self.feature_columns, str),
            categories=_listed(self.category_columns, str),
            column=self.input_column,
            shape=_sizes(self.shape),
            padding=self.padding_id,
            max_length=self.max_length,
            truncate=self.truncate,
            sampling_rate=self.sampling_rate,
            names=names,
        )


def _listed(text: str | None, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    return () if text is None else tuple(kind(part.strip()) for part in text.split(","))


def _sizes(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        sizes = _listed(text, int)
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"--shape {text!r}; expected sizes such as 1,49,10.")
    return sizes
