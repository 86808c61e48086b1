"""timm, torchvision and Transformers, imported when first used."""

import importlib
from typing import Any

__all__ = ["library"]


def library(name: str) -> Any:
    """A library of models, such as ``timm``.

    Args:
        name: of the package; its extra is called the same, that of Transformers ``hf``.

    Raises:
        ImportError: it is not installed, or does not fit the torch that is.
    """
    extra = "hf" if name == "transformers" else name
    try:
        return importlib.import_module(name)
    except Exception as error:  # A torchvision built for another torch raises RuntimeError.
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise ModuleNotFoundError(
                f"{name}, which makes the model, is not installed: pip install 'gradood[{extra}]'.",
                name=name,
            ) from error
        first = (str(error).strip().splitlines() or [""])[0]
        raise ImportError(
            f"{name} is installed but cannot be imported: {type(error).__name__}: {first}. "
            "timm and torchvision need a torchvision of the same build as torch; install them "
            f"together: pip install torch 'gradood[{extra}]'."
        ) from error
