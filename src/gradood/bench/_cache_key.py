"""Cache keys: the model's content and numerical settings, and the code that reads and scores.

What decides a reading is in its key by content. A model of which some part has no content is not
kept at all. As a key cannot see everything (a value that the forward looks up elsewhere, say), the
model's logits on fixed inputs are kept beside the readings and compared before these are used.
"""

import importlib.util
import secrets
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gradood
from gradood._io.cache import Cache, key_of
from gradood._io.content import NoContentError, content_digest, is_library
from gradood._io.hashing import files_digest, tensor_digest
from gradood.artifact.canary import Canary, compare, precision_of, synthesize, tolerance
from gradood.bench._model_content import model_version
from gradood.data._extras import pillow
from gradood.detectors.base import Detector, Plan, source_module
from gradood.errors import CacheWarning
from gradood.evidence import LOGITS, gather
from gradood.taps import Inputs, described, device_of, leaves_of, observe, unwrap

__all__ = [
    "detector_key",
    "detector_version",
    "model_key",
    "model_version",
    "numerics",
    "reading_version",
    "source_version",
]

_CANARY = "logits."


def model_key(
    model: nn.Module, example: Inputs, cache: Cache, *, output: str | int | None = None
) -> dict[str, Any] | None:
    """The part of a cache key that stands for a model; None if it cannot be told from others.

    Its content, the numerical settings of torch, the code that reads it, and the digest of its
    logits on fixed inputs: of those kept under the same content, the ones that it gives too, within
    what rounding allows, or else its own. Warns where the model has no key, or where another model
    had the same content.

    Args:
        model: in the state that it is read in.
        example: (batch ≥ 1, …), for the shape and type of the inputs.
        cache: where the logits are kept.
        output: which item of what it returns holds the logits; None for the usual ones.

    Cost: the model's tensors are hashed; about four forward passes of eight inputs.
    """
    module = unwrap(model)
    device = device_of(module)
    try:
        content = model_version(module)
        logits = _canary_logits(module, example, output)
    except Exception as error:  # Whatever a user's model raises on noise.
        if isinstance(error, NoContentError) or _runs(module, example.to(device), output):
            why = str(error).rstrip(".")
            warnings.warn(
                f"nothing that is read of {type(module).__name__} is taken from the cache or kept "
                f"in it, as the model cannot be told from others: {why}. Make that part of the "
                "model a buffer, or a plain value, to have readings kept.",
                CacheWarning,
                stacklevel=2,
            )
        return None
    key = {
        "model": content,
        "inputs": _inputs_key(example),
        "numerics": numerics(device),
        "device": device.type,
        **reading_version(),
        **({} if output is None else {"output": output}),
    }
    return {**key, "canary": _known_canary(module, logits, cache, key)}


def _inputs_key(example: Inputs) -> list[Any]:
    if isinstance(example, Tensor):
        return [list(example.shape[1:]), str(example.dtype)]
    return [[name, described(leaf)] for name, leaf in example.leaves.items()]


def _canary_logits(
    module: nn.Module, example: Inputs, output: str | int | None
) -> tuple[Inputs, Tensor]:
    """Eight fixed inputs, and the model's (8, classes) logits on them.

    Raises:
        ValueError: the logits differ from one time to the next.
    """
    floating = [leaf.is_floating_point() for leaf in leaves_of(example).values()]
    low = torch.tensor([-2.0 if each else 0.0 for each in floating])
    high = torch.tensor([2.0 if each else 1.0 for each in floating])
    inputs = synthesize(example, low, high)
    x = inputs.to(device_of(module))
    network = observe(module, x, output=output)
    first, second = (
        gather(network, x, (LOGITS,))[LOGITS].detach().cpu().nan_to_num() for _ in range(2)
    )
    if not torch.allclose(first.double(), second.double(), rtol=1e-3, atol=1e-6):
        raise ValueError("it gives other logits for the same inputs each time")
    return inputs, first


def _runs(module: nn.Module, x: Inputs, output: str | int | None) -> bool:
    """Whether the model can be read on its own inputs; if not, the run itself will say why."""
    try:
        observe(module, x, output=output)
    except Exception:
        return False
    return True


def _known_canary(
    module: nn.Module, canary: tuple[Inputs, Tensor], cache: Cache, key: dict[str, Any]
) -> str:
    """Digest of the kept logits that the model gives, or of its own, which are kept then."""
    inputs, logits = canary
    place = cache.place(key_of(canary=key))
    known = place.load()
    for name in sorted(known):
        if name.startswith(_CANARY) and not _differ(module, inputs, known[name], logits):
            return name.removeprefix(_CANARY)
    if known:
        warnings.warn(
            f"the cache holds readings of another {type(module).__name__} with the same weights "
            "and code, which gives other logits: it depends on something that is no part of it. "
            "They are not used, and its own are kept apart.",
            CacheWarning,
            stacklevel=3,
        )
    digest = tensor_digest(logits)
    place.save({f"{_CANARY}{digest}": logits})
    return digest


def _differ(module: nn.Module, inputs: Inputs, kept: Tensor, logits: Tensor) -> bool:
    """Whether logits differ by more than what rounding in the model's precision allows."""
    device = device_of(module).type
    precision = precision_of(module, inputs)
    if torch.is_autocast_enabled(device):
        precision = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    version = str(torch.__version__)
    expected = Canary(
        inputs=inputs,
        logits=kept,
        scores={},
        seed=0,
        torch=version,
        device=device,
        precision=precision,
    )
    return bool(compare(expected, logits, {}, tolerance(expected, module)))


def numerics(device: torch.device) -> dict[str, Any]:
    """Settings of torch that change what a model computes on a device, in plain values.

    Args:
        device: where the model is.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    kind = device.type
    found = {
        "autocast": [torch.is_autocast_enabled(kind), str(torch.get_autocast_dtype(kind))],
        "default_dtype": str(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "mkldnn": torch.backends.mkldnn.enabled,
        "hooks": content_digest(_global_hooks(), "a global hook"),
    }
    if kind != "cpu":
        found |= {
            "tf32": [matmul.allow_tf32, cudnn.allow_tf32],
            "cudnn": [cudnn.enabled, cudnn.benchmark, cudnn.deterministic],
            "reduced": [
                matmul.allow_fp16_reduced_precision_reduction,
                matmul.allow_bf16_reduced_precision_reduction,
            ],
            "attention": [
                torch.backends.cuda.flash_sdp_enabled(),
                torch.backends.cuda.mem_efficient_sdp_enabled(),
                torch.backends.cuda.math_sdp_enabled(),
            ],
        }
    return found


def _global_hooks() -> list[Any]:
    """Hooks on all modules."""
    module = torch.nn.modules.module
    names = sorted(name for name in vars(module) if name.startswith("_global_"))
    hooks = (getattr(module, name) for name in names if name.endswith("_hooks"))
    return [hook for own in hooks for hook in own.values()]


@cache
def reading_version() -> dict[str, str]:
    """What readings depend on besides the model: the library's sources, and the libraries."""
    return {
        "sources": _package_digest("gradood"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": str(pillow().__version__),
    }


def detector_key(detector: Detector, plan: Plan) -> dict[str, str]:
    """The part of a cache key that stands for a detector: its code, options and plan.

    Args:
        detector: with its options.
        plan: what it reads of the model.
    """
    return {
        **detector_version(type(detector)),
        "options": _content(detector.options(), "an option"),
        "plan": _content(plan, "a plan"),
    }


@cache
def detector_version(kind: type[Detector]) -> dict[str, str]:
    """What a detector's state and scores depend on besides what it reads: its code.

    The library's sources, and those of the package that a detector of another one comes from.

    Args:
        kind: its class.
    """
    packages = {base.__module__.partition(".")[0] for base in kind.__mro__}
    foreign = sorted(packages - {"gradood", *sys.stdlib_module_names})
    return {
        "class": f"{source_module(kind)}.{kind.__qualname__}",
        "library": reading_version()["sources"],
        "sources": " ".join(map(_package_digest, foreign)),
        "code": "" if is_library(source_module(kind)) else _content(kind, kind.__qualname__),
        "numpy": np.__version__,
    }


def _content(value: Any, where: str) -> str:
    """Digest of the content; where there is none, a text that occurs once, so that no key meets."""
    try:
        return content_digest(value, where)
    except NoContentError:
        return secrets.token_hex(16)


@cache
def source_version(module: str) -> str:
    """SHA-256 of the source of one module, by its name."""
    spec = importlib.util.find_spec(module)
    return "" if spec is None or spec.origin is None else files_digest([Path(spec.origin)])


def _package_digest(name: str) -> str:
    """SHA-256 of the sources of a package, or of a module that is in none."""
    module = gradood if name == "gradood" else sys.modules.get(name)
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    file = getattr(module, "__file__", None)
    files = sorted({path for folder in folders for path in folder.rglob("*.py")})
    if not files and file is not None and Path(file).is_file():
        files = [Path(file)]
    return files_digest(files)
