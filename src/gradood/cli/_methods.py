"""Commands that show methods: ``gradood methods``, and on a model ``gradood inspect``."""

from typing import TYPE_CHECKING, Annotated

from gradood.cli._groups import argument, option
from gradood.cli._model_output import NewModelOptions, output_item
from gradood.cli._options import ImageColumn, Json, PreprocessOptions
from gradood.cli._output import data, document
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from gradood.models._load import LoadedModel

__all__ = ["inspect", "methods"]

_BATCH = 32


def methods(
    name: Annotated[str | None, argument("[NAME]", "A method, for its page.")] = None,
    json: Json = False,
) -> None:
    """List the methods; or with a name: what it computes, needs and costs, and when it fails."""
    from gradood.bench._page import method_page
    from gradood.registry import methods as known

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
    rows = [("METHOD", "LEARNS FROM", "MEASURES")]
    rows += [(page.method.name, page.fit, page.method.title) for page in pages]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    data("\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows))


def inspect(
    model: NewModelOptions,
    preprocessing: PreprocessOptions,
    images: Annotated[
        str | None,
        option("PATH", "Images to look at: a folder or Parquet.", "--input"),
    ] = None,
    shape: Annotated[
        str | None,
        option("C,H,W", "Look at noise of this shape, such as 3,32,32."),
    ] = None,
    image_column: ImageColumn = "image",
    json: Json = False,
) -> None:
    """Show what is found in a model: its layers, the verified head, what each method would use.

    Only a model of your own needs --input or --shape.
    """
    if images is not None and shape is not None:
        raise ConfigError("--input and --shape were both given; give one.")
    from gradood.monitor.inspection import inspect as inspection_of

    loaded = model.load(preprocessing.values(), untrained=True)
    example = _noise(loaded, shape) if images is None else _images(loaded, images, image_column)
    inspection = inspection_of(loaded.model, example, output=output_item(model.output))
    if json:
        document({"subject": loaded.to_dict(), **inspection.to_dict()})
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


def _images(loaded: "LoadedModel", path: str, image_column: str) -> "Tensor":
    from gradood.bench import example_of
    from gradood.data import open_images

    return example_of(
        open_images(path, loaded.preprocess, labeled=False, image_column=image_column)
    )
