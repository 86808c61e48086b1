"""Models named by one string, as on a command line."""

from collections.abc import Callable
from typing import Any

from torch import nn

from gradood.errors import ConfigError
from gradood.models.factory import made
from gradood.models.hugging_face import open_folder
from gradood.models.opened import OpenedModel
from gradood.models.timm import open_timm
from gradood.models.torchvision import open_torchvision
from gradood.models.zoo import reference_of

__all__ = ["build", "open_model"]

_LIBRARIES: dict[str, Callable[..., OpenedModel]] = {
    "hf": open_folder,
    "timm": open_timm,
    "torchvision": open_torchvision,
}


def open_model(spec: str, *, pretrained: bool = False, **options: Any) -> OpenedModel:
    """A model, and what its source says of how its inputs are made.

    Nothing is fetched unless `pretrained` asks for it, and no pickled weights are read. Importing
    a module of one's own runs its code: take it from no one you would not run code from.

    Args:
        spec: one of

            - the bare name of a reference network, such as ``resnet20``;
            - ``package.module:factory``;
            - ``timm:NAME``, such as ``timm:resnet18`` or ``timm:resnet18.a1_in1k``;
            - ``torchvision:NAME``, such as ``torchvision:resnet50.IMAGENET1K_V2``, which names the
              weights whose preprocessing is meant, where there are several;
            - ``hf:FOLDER``, a local folder with ``config.json``, and ``model.safetensors`` if it
              is trained.
        pretrained: let timm or torchvision fetch its own weights.
        options: ``num_classes=100``; to a factory, whatever it takes.

    Raises:
        ConfigError: there is no such model, or it cannot be made so.
        DataError: the folder is absent.
        ImportError: the library is not installed.
        OSError: its weights cannot be fetched.
    """
    prefix, colon, name = spec.partition(":")
    if colon and prefix in _LIBRARIES:
        classes = options.pop("num_classes", None)
        if options:
            raise ConfigError(
                f"{spec!r} was given {sorted(options)}; expected at most num_classes."
            )
        return _LIBRARIES[prefix](name, pretrained=pretrained, num_classes=classes)
    if pretrained:
        raise ConfigError(
            f"{spec!r} fetches no weights; leave out --pretrained, which is for timm:NAME and "
            "torchvision:NAME, and give the file of its weights."
        )
    model = made(spec, options)
    reference = reference_of(spec)
    if reference is None:
        return OpenedModel(model=model)
    channels = 1 if reference.preprocess["mode"] == "L" else 3
    return OpenedModel(
        model=model,
        inputs=lambda given: reference.preprocess,
        shape=(channels, reference.size, reference.size),
        trained=False,
        reference=reference,
    )


def build(spec: str, **options: Any) -> nn.Module:
    """The model alone; see `open_model`.

    Example:
        >>> type(build("resnet20", num_classes=100)).__name__
        'CifarResNet'
    """
    return open_model(spec, **options).model
