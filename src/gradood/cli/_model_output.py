"""Where logits and features of a model are found, as options."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypedDict, cast

from gradood.cli._groups import option
from gradood.cli._options import MODEL, ModelOptions

if TYPE_CHECKING:
    from gradood.taps import Link

__all__ = ["LinkName", "NewModelOptions", "OutputItem", "link_named", "output_item"]

OutputItem = Annotated[
    str | None,
    option(
        "NAME|INDEX",
        "Which item of what the model returns holds the logits, where it returns several.",
        "--output",
        panel=MODEL,
    ),
]


LinkName = Annotated[
    str | None,
    option(
        "softmax|sigmoid|none",
        "What makes probabilities of the outputs: a softmax over classes, a sigmoid of each of "
        "several labels, or none, as in a regression.",
        "--link",
        panel=MODEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class NewModelOptions(ModelOptions):
    """The classifier that nothing was fitted on yet."""

    output: OutputItem = None
    link: LinkName = None
    head: Annotated[
        str | None,
        option("LAYER", "Name of the last linear layer, if it cannot be found.", panel=MODEL),
    ] = None
    features: Annotated[
        str | None,
        option(
            "LAYER",
            "Name of the layer whose output are the features, where no linear layer takes them.",
            panel=MODEL,
        ),
    ] = None

    def readings(self) -> "Readings":
        """What of the model is read, as `gradood.Monitor` takes it."""
        return {
            "output": output_item(self.output),
            "link": link_named(self.link),
            "head": self.head,
            "features": self.features,
        }


class Readings(TypedDict):
    """Keywords of `gradood.Monitor` and of what takes the same."""

    output: str | int | None
    link: "Link | None"
    head: str | None
    features: str | None


def link_named(text: str | None) -> "Link | None":
    """The link of that name.

    Raises:
        ConfigError: there is none.
    """
    from gradood.taps import check_link

    check_link(text)
    return cast("Link | None", text)


def output_item(text: str | None) -> str | int | None:
    """The item of a model's output, by index or by name."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return text
