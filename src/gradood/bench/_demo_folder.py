"""What the demo leaves behind: a model, its images in folders, and a detector that decides."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from gradood._io.atomic import write
from gradood.bench._demo import Digits
from gradood.calibration.results import Result
from gradood.data import Preprocess
from gradood.errors import ConfigError
from gradood.models import REFERENCES, DigitsNet
from gradood.monitor import Monitor

__all__ = ["DECIDING", "FPR", "DemoImages", "Decisions", "check_folder", "decide", "write_folder"]

DECIDING = ("energy", "knn", "mahalanobis++", "nci", "gradpca")
"""The detectors that are saved: those that did well on every network measured, one by gradients."""

FPR = 0.05
WEIGHTS, DETECTOR, SETTINGS = "weights.safetensors", "detector.safetensors", "demo.json"
_FORMAT = 1
_INBOX = (24, 8, 8)
"""Images of the inbox: known digits, digits held out, patches."""


@dataclass(frozen=True, eq=False, slots=True)
class DemoImages:
    """Images (n, 1, 8, 8) as they are read back from files of 8 bits, by folder.

    Attributes:
        labeled: folder → images and digits.
        plain: folder → images.
    """

    labeled: Mapping[str, tuple[Tensor, Tensor]]
    plain: Mapping[str, Tensor]

    @staticmethod
    def of(digits: Digits) -> "DemoImages":
        """Half of the digits that were not trained on to calibrate, half to test.

        Args:
            digits: of the demo.
        """
        half = len(digits.test_x) // 2
        val, test = slice(half), slice(half, None)
        near, far = _eight_bits(digits.ood["near"]), _eight_bits(digits.ood["far"])
        middle = len(far) // 2  # Each half is of one photograph.
        labeled = {
            "train": (_eight_bits(digits.train_x), digits.train_y),
            "val": (_eight_bits(digits.test_x[val]), digits.test_y[val]),
            "test": (_eight_bits(digits.test_x[test]), digits.test_y[test]),
        }
        parts = [labeled["test"][0], near, far[:middle]]
        inbox = torch.cat([part[:count] for part, count in zip(parts, _INBOX, strict=True)])
        plain = {"near": near, "far": far[:middle], "other": far[middle:], "inbox": inbox}
        return DemoImages(labeled, plain)


@dataclass(frozen=True, eq=False, slots=True)
class Decisions:
    """A calibrated monitor, and what it flags of new images.

    Attributes:
        monitor: fitted, calibrated, its detectors combined by Fisher's method.
        samples: images that it was calibrated on.
        flagged: detector, or ``"combined"`` → set → share flagged; the first set is known.
    """

    monitor: "Monitor[Any]"
    samples: int
    flagged: Mapping[str, Mapping[str, float]]


def decide(model: DigitsNet, images: DemoImages) -> Decisions:
    """Fit, calibrate, and decide about images that were used for neither.

    Args:
        model: trained.
        images: of the demo.
    """
    reference = REFERENCES["digits_net"]
    preprocess = asdict(Preprocess(**reference.preprocess))
    monitor = Monitor(
        model, list(DECIDING), combine="fisher", preprocess=preprocess, progress=False
    )
    (train_x, train_y), (val_x, _) = images.labeled["train"], images.labeled["val"]
    monitor.fit(list(zip(train_x.split(128), train_y.split(128), strict=True)))
    monitor.calibrate(val_x.split(128), fpr=FPR)
    far = torch.cat([images.plain["far"], images.plain["other"]])
    sets = {"new digits": images.labeled["test"][0], "near": images.plain["near"], "far": far}
    flagged: dict[str, dict[str, float]] = {}
    for name, x in sets.items():
        results = monitor.predict(x.split(128), keep=())
        assert results.combined is not None
        for detector, result in {**results, "combined": results.combined}.items():
            flagged.setdefault(detector, {})[name] = _rate(result)
    return Decisions(monitor, len(val_x), flagged)


def check_folder(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the demo was there before; nothing of anyone else's is replaced.

    Args:
        folder: where it is to go.
        settings: of the demo: seed and epochs.

    Raises:
        ConfigError: something else is there, or a demo of other settings.
    """
    if not folder.parent.is_dir():
        raise ConfigError(f"--out {str(folder)!r}: its folder does not exist; make it first.")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(
            f"--out {str(folder)!r} is there already and is no demo; name a folder that is not."
        ) from None
    if found != _settings(settings):
        raise ConfigError(
            f"--out {str(folder)!r} is a demo made with other settings ({found}); name another "
            "folder, or delete this one."
        )
    return True


def write_folder(
    folder: Path,
    model: DigitsNet,
    images: DemoImages,
    monitor: "Monitor[Any]",
    settings: Mapping[str, Any],
) -> None:
    """Write model, detector and images; where the same demo was before, the first two anew.

    Args:
        folder: checked by `check_folder`.
        model: trained.
        images: of the demo.
        monitor: calibrated.
        settings: as `check_folder` took them.

    Raises:
        OSError: it cannot be written.
    """
    if check_folder(folder, settings):
        _write_models(folder, model, monitor)
        return
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
        made = Path(name) / folder.name
        made.mkdir()
        for kind, (x, y) in images.labeled.items():
            for digit in y.unique().tolist():
                _write_images(made / kind / str(digit), x[y == digit])
        for kind, x in images.plain.items():
            _write_images(made / kind, x)
        _write_models(made, model, monitor)
        write(made / SETTINGS, json.dumps(_settings(settings)) + "\n")
        if folder.exists():
            folder.rmdir()  # Empty, or this raises.
        shutil.move(made, folder)


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"gradood-demo": _FORMAT, **settings}


def _write_models(folder: Path, model: DigitsNet, monitor: "Monitor[Any]") -> None:
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write(folder / WEIGHTS, save(state))
    monitor.save(folder / DETECTOR)


def _write_images(folder: Path, x: Tensor) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    for number, image in enumerate((x[:, 0] * 255).round().to(torch.uint8).numpy()):
        Image.fromarray(image).save(folder / f"{number:03}.png")


def _eight_bits(x: Tensor) -> Tensor:
    """As `Preprocess` makes it of the file, to the bit."""
    return (x * 255).round().div_(255)


def _rate(result: Result) -> float:
    return float(result.is_ood.double().mean())
