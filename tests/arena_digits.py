"""A small arena: a network for the demo's digits, and its data as Parquet files and a suite."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from gradood.bench import ModelEntry, Settings, load_suite
from gradood.bench._demo import CLASSES, load_digits, one_thread, train

__all__ = ["FEW", "settings", "write"]

FEW = "energy,knn,grood,gaia-z"
"""Methods that read logits, features, sums of maps, and, in the fit, whole maps."""

SUITE = """
name = "digits"
version = 1
title = "Digits"

[preprocess]
mode = "L"

[id]
test = "test.parquet"
fit = ["fit_a.parquet", "fit_b.parquet"]
classes = 8

[[ood]]
name = "near"
group = "near"
path = "near.parquet"

[[ood]]
name = "far"
group = "far"
path = "far.parquet"

[rows]
"test.parquet" = 80
"""


def write(root: Path) -> Path:
    """The files; returns `root`."""
    digits = load_digits()
    with one_thread():
        for seed in (0, 1):
            model = train(digits, epochs=3, seed=seed)
            save_file(model.state_dict(), root / f"net{seed}.safetensors")
    _table(root / "fit_a.parquet", digits.train_x[:150], digits.train_y[:150])
    _table(root / "fit_b.parquet", digits.train_x[150:250], digits.train_y[150:250])
    _table(root / "test.parquet", digits.test_x[:80], digits.test_y[:80])
    for name, x in digits.ood.items():
        _table(root / f"{name}.parquet", x[:50], None)
    (root / "digits.toml").write_text(SUITE, encoding="utf-8")
    return root


def settings(root: Path, *seeds: int, **options) -> Settings:
    """Of a run on these files."""
    found = [
        ModelEntry(
            label="net",
            model="digits_net",
            weights=root / f"net{seed}.safetensors",
            seed=seed if len(seeds) > 1 else None,
        )
        for seed in seeds or (0,)
    ]
    given = {"methods": FEW, "batch_size": 16, "costs": False, "num_classes": CLASSES, **options}
    suite = load_suite(root / "digits.toml")
    return Settings(contenders=tuple(found), suite=suite, root=root, **given)


def _table(path: Path, x: Tensor, y: Tensor | None) -> None:
    images = []
    for image in x:
        stream = io.BytesIO()
        pixels = (image[0] * 255).round().numpy().astype("uint8")
        Image.fromarray(pixels).save(stream, "PNG")
        images.append(stream.getvalue())
    columns = {"image": images} | ({} if y is None else {"label": y.tolist()})
    pq.write_table(pa.table(columns), path)
