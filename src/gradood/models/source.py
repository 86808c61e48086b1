"""Models named by one string: of a library, a folder, or made by a factory that is imported."""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import nn

from gradood.errors import ConfigError, suggest
from gradood.models._hugging_face import open_folder
from gradood.models._libraries import open_timm, open_torchvision
from gradood.models.convnet import convnet_mnist
from gradood.models.densenet import densenet101
from gradood.models.digits import digits_net
from gradood.models.opened import OpenedModel, reference_of
from gradood.models.resnet import resnet20, resnet56

__all__ = ["build", "open_model"]

_FACTORIES = {
    factory.__name__: factory
    for factory in (convnet_mnist, densenet101, digits_net, resnet20, resnet56)
}
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
    model = _made(spec, options)
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


def _made(spec: str, options: Mapping[str, Any]) -> nn.Module:
    """The model that a factory makes; with random weights, unless the factory loads some.

    Args:
        spec: ``package.module:factory``, or the bare name of a reference network.
        options: passed to the factory.

    Raises:
        ConfigError: there is no such module or factory, importing or calling it fails, or what it
            returns is no `nn.Module`.
    """
    module_name, colon, name = spec.partition(":")
    if not colon:
        if spec not in _FACTORIES:
            raise ConfigError(
                f"no reference network {spec!r}: {suggest(spec, _FACTORIES)} "
                "Name one of your own as 'package.module:factory', others as timm:NAME, "
                "torchvision:NAME or hf:FOLDER."
            )
        factory: Any = _FACTORIES[spec]
    else:
        factory = _factory(_module(module_name, spec), name, spec)
    try:
        model = factory(**options)
    except Exception as error:
        raise ConfigError(
            f"the factory {spec!r} called with {options or 'no options'} failed: "
            f"{type(error).__name__}: {error}. It must return a model when called so."
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"the factory {spec!r} returned {type(model).__name__}; expected a torch.nn.Module."
        )
    return model


def _module(name: str, spec: str) -> ModuleType:
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"{spec!r} names no module; expected 'package.module:factory', such as "
            "'gradood.models:resnet20'."
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        absent = error.name or ""
        if name != absent and not name.startswith(f"{absent}."):
            raise _failed(name, spec, error) from error
        near = get_close_matches(absent, _siblings(absent))
        hint = f"{suggest(absent, near)} " if near else ""
        raise ConfigError(
            f"no module {absent!r} for {spec!r}: {hint}"
            "A module of your own is found if its folder is on PYTHONPATH."
        ) from error
    except Exception as error:
        raise _failed(name, spec, error) from error


def _failed(name: str, spec: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"importing {name!r} for {spec!r} failed: {type(error).__name__}: {error}. "
        f"It must pass: python -c 'import {name}'."
    )


def _siblings(absent: str) -> Iterable[str]:
    """Modules next to where an absent one was looked for, by their full names."""
    parent = absent.rpartition(".")[0]
    if not parent:
        return {found.name for found in pkgutil.iter_modules()} | set(sys.stdlib_module_names)
    path = getattr(sys.modules.get(parent), "__path__", ())
    return {found.name for found in pkgutil.iter_modules(path, f"{parent}.")}


def _factory(module: ModuleType, name: str, spec: str) -> Any:
    found: Any = module
    for part in name.split("."):
        inside = [n for n in dir(found) if not n.startswith("_") and callable(getattr(found, n))]
        found = getattr(found, part, None)
        if found is None:
            raise ConfigError(f"no factory {name!r} in {spec!r}: {suggest(part, inside)}")
    if not callable(found):
        raise ConfigError(
            f"{spec!r} is {type(found).__name__}; expected something to call that returns a model."
        )
    return found
