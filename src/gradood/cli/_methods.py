"""Commands that show methods: ``gradood methods``, and on a model ``gradood inspect``."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from gradood.cli._groups import argument, option
from gradood.cli._input_columns import InputColumnOptions
from gradood.cli._model_output import NewModelOptions
from gradood.cli._options import ImageColumn, Json, PreprocessOptions
from gradood.cli._output import data, document
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradood.models._load import LoadedModel
    from gradood.registry import Method

__all__ = ["inspect", "methods"]

_BATCH = 32

_BEGIN = """\
All methods asked for at once share one forward pass, and one backward pass per objective; "own
passes" are on top. Begin with knn, mahalanobis++, gradpca and energy, which need no more than the
forward pass: the first three were at most 3.1, 6.5 and 8.5 points of AUROC behind the best of each
kind of network measured (docs/results/kinds.md), energy learns nothing. gradood methods --kind text
sorts by what was measured on texts; then let gradood bench compare all on your model. gradood
methods NAME says more of one."""


def methods(
    name: Annotated[str | None, argument("[NAME]", "A method, for its page.")] = None,
    kind: Annotated[
        str | None,
        option("KIND", "Those measured on networks of one kind, the best first.", "--kind"),
    ] = None,
    json: Json = False,
) -> None:
    """List the methods; or with a name: what it computes, needs and costs, and when it fails."""
    from gradood.bench._page import method_page
    from gradood.registry import methods as known

    if name is not None and kind is not None:
        raise ConfigError("a method and --kind were both given; give one.")
    if kind is not None:
        _by_kind(kind, json)
        return
    if name is not None:
        page = method_page(name)
        if json:
            document(page.to_dict())
        else:
            data(page.markdown())
        return
    pages = [method_page(method.name) for method in known()]
    if json:
        document({"methods": [page.to_dict() for page in pages]})
        return
    rows = [("METHOD", "COST", "LEARNS FROM", "LINKS", "GRAPH", "MEASURES")]
    rows += [
        (m.name, _cost(m), p.fit, _links(m), _graph(m), m.title) for p in pages for m in [p.method]
    ]
    data("\n".join([*_columns(rows), "", _BEGIN]))


def _by_kind(kind: str, json: bool) -> None:
    """Methods that were measured on a kind of network."""
    from gradood.bench._measured import measured

    found = measured(kind)
    if json:
        document({"kind": found.kind, "networks": found.networks, "auroc": dict(found.auroc)})
        return
    from gradood.registry import methods as known

    by_name = {method.name: method for method in known()}
    rows = [("METHOD", "AUROC", "COST", "MEASURES")]
    rows += [
        (name, f"{value:.1f}", _cost(by_name[name]), by_name[name].title)
        for name, value in found.auroc.items()
    ]
    told = f"AUROC in percent on {found.networks} (docs/results/kinds.md): where to begin, no more."
    data("\n".join([*_columns(rows), "", told]))


def _columns(rows: "Sequence[tuple[str, ...]]") -> list[str]:
    """Lines of cells, all but the last padded."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join((*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]))
        for row in rows
    ]


def _links(method: "Method") -> str:
    """Which outputs of a model its score is defined for."""
    return "any" if len(method.links) == 3 else ", ".join(method.links)


def _graph(method: "Method") -> str:
    """Whether it can be exported, and whether from the features on as well."""
    return "head, model" if "head" in method.exportable else "model" if method.exportable else "no"


def _cost(method: "Method") -> str:
    """The passes that one batch takes, in a word or two; the method's page has the rest."""
    passes = method.cost.partition(";")[0]
    if passes.startswith("a pass of its own"):
        return "own passes"
    if "else one backward" in passes:
        return "forward, or + backward"
    return "forward + backward" if "backward" in passes else "forward"


def inspect(
    model: NewModelOptions,
    preprocessing: PreprocessOptions,
    columns: InputColumnOptions,
    images: Annotated[
        str | None,
        option("PATH", "Inputs to look at: a folder of images, Parquet or a table.", "--input"),
    ] = None,
    image_column: ImageColumn = "image",
    json: Json = False,
) -> None:
    """Show what is found in a model: its layers, the verified head, what each method would use.

    Only a model of your own needs --input, or --shape for noise of that shape, such as 3,32,32.
    """
    shape = columns.shape
    if images is not None and shape is not None and columns.input_column is None:
        raise ConfigError("--input and --shape were both given; give one.")
    choice = columns.choice() if images is not None else replace(columns, shape=None).choice()
    from gradood.monitor.inspection import inspect as inspection_of

    loaded = model.load(preprocessing.values(), choice, untrained=True)
    example = _noise(loaded, shape) if images is None else _images(loaded, images, image_column)
    stated = loaded.to_dict()
    options = {**model.readings(), "preprocess": stated["preprocess"]}
    inspection = inspection_of(loaded.model, example, **options)
    if json:
        document({"subject": stated, **inspection.to_dict()})
    else:
        data(str(inspection))


def _noise(loaded: "LoadedModel", shape: str | None) -> "Tensor":
    """(batch, channels, height, width) inputs of the shape asked for, or the model's own."""
    import torch

    known = loaded.opened.shape
    if shape is not None:
        try:
            sides = [int(side) for side in shape.split(",")]
        except ValueError:
            sides = []
        if not sides or min(sides) < 1:
            raise ConfigError(f"--shape {shape!r}; expected sizes such as 3,32,32.")
    elif known is not None:
        sides = known
    else:
        raise ConfigError(
            "this model's input is unknown; give --shape such as 3,32,32, or --input."
        )
    return torch.randn(_BATCH, *sides, generator=torch.Generator().manual_seed(0))


def _images(loaded: "LoadedModel", path: str, image_column: str) -> Any:
    from gradood.bench import example_of
    from gradood.data.sources import open_inputs

    found = open_inputs(path, loaded.preprocess, labeled=False, image_column=image_column)
    return example_of(found)
