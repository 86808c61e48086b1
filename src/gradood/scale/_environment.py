"""What a worker's machine must share with the driver's, so that scores are the same bytes."""

import importlib.metadata
import platform
import socket
from collections.abc import Mapping
from typing import Any

import torch

from gradood import __version__

__all__ = ["differences", "environment", "hardware", "host"]

_PACKAGES = ("numpy", "pillow", "pyarrow")


def environment() -> dict[str, str]:
    """Versions of what makes scores and files, by name."""
    return {
        "gradood": __version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "torch": torch.__version__,
        **{name: _version(name) for name in _PACKAGES},
    }


def differences(driver: Mapping[str, str], worker: Mapping[str, str]) -> list[str]:
    """In what a worker's environment differs, in words.

    Args:
        driver: `environment` of the driver.
        worker: that of the worker.

    >>> differences({"torch": "2.13.0"}, {"torch": "2.12.0"})
    ['torch is 2.13.0 here and 2.12.0 there']
    """
    return [
        f"{name} is {driver.get(name, 'missing')} here and {worker.get(name, 'missing')} there"
        for name in sorted(driver.keys() | worker.keys())
        if driver.get(name) != worker.get(name)
    ]


def hardware(device: str) -> dict[str, Any]:
    """What scores may depend on in their last bits, to be noted with them.

    Args:
        device: of the model.
    """
    kind = torch.device(device)
    gpu = torch.cuda.get_device_name(kind) if kind.type == "cuda" else None
    return {
        "host": host(),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **({} if gpu is None else {"gpu": gpu}),
    }


def host() -> str:
    """Name of this machine."""
    return socket.gethostname()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
