"""The item of a model's output that holds the logits, as an option."""

from dataclasses import dataclass
from typing import Annotated

from gradood.cli._groups import option
from gradood.cli._options import MODEL, ModelOptions

__all__ = ["NewModelOptions", "OutputItem", "output_item"]

OutputItem = Annotated[
    str | None,
    option(
        "NAME|INDEX",
        "Which item of what the model returns holds the logits, where it returns several.",
        "--output",
        panel=MODEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class NewModelOptions(ModelOptions):
    """The classifier that nothing was fitted on yet."""

    output: OutputItem = None


def output_item(text: str | None) -> str | int | None:
    """The item of a model's output, by index or by name."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return text
