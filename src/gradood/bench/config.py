"""Settings of a benchmark run: networks, data, methods and limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gradood.bench.suite import Suite
from gradood.detectors.base import require
from gradood.models._columns import ColumnChoice

__all__ = ["ModelEntry", "Settings"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """One network of a run.

    Attributes:
        label: what several seeds of it share.
        model: as `gradood.models.open_model` takes it.
        weights: file of its weights, or None where the source brings its own.
        seed: which of several weights of the same architecture, or None if it is the only one.
        output: which item of what it returns holds the logits; None for the usual ones.
    """

    label: str
    model: str
    weights: Path | None = None
    seed: int | None = None
    output: str | int | None = None

    @property
    def run(self) -> str:
        """Its name in the record."""
        return self.label if self.seed is None else f"{self.label}#{self.seed}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What to compare on what.

    Attributes:
        contenders: the networks.
        suite: the data.
        root: that the suite's paths are relative to.
        check: hold the files against the suite first.
        methods: see `gradood.bench.select`.
        options: see `gradood.bench.select`.
        hyper_parameters: ``"fixed"``, as published or given; ``"id-only"``, those with a grid in
            `gradood.bench._tuning` chosen on in-distribution data and outliers made of it.
        num_classes: passed to the factories if given.
        pretrained: let timm or torchvision fetch weights.
        preprocess: options of `Preprocess` that differ from the models' own.
        columns: which columns of tables are the input; None for images, or as the models read.
        image_column: of Parquet files.
        label_column: of Parquet files.
        limit: images of each test set, drawn evenly (`gradood.data.ImageDataset.sample`); None for
            all.
        fit_limit: images to fit on, drawn evenly from all training images; None for all, 0 for
            none, and then the suite's training images need not be there.
        first_rows: take the first images instead of a draw, as gradood did before.
        batch_size: images at once.
        workers: processes that decode.
        max_bad_fraction: leave out rows that cannot be used, up to this share of each set; None
            ends the run at the first one.
        device: where the models run.
        cache: folder for what was read of the models, or None to keep nothing.
        costs: measure what each method costs.
    """

    contenders: tuple[ModelEntry, ...]
    suite: Suite
    root: Path = Path()
    check: bool = True
    methods: str = "all"
    options: tuple[str, ...] = ()
    hyper_parameters: Literal["fixed", "id-only"] = "fixed"
    num_classes: int | None = None
    pretrained: bool = False
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    columns: ColumnChoice | None = None
    image_column: str = "image"
    label_column: str = "label"
    limit: int | None = None
    fit_limit: int | None = None
    first_rows: bool = False
    batch_size: int = 128
    workers: int = 0
    max_bad_fraction: float | None = None
    device: str = "cpu"
    cache: Path | None = None
    costs: bool = True

    def __post_init__(self) -> None:
        runs = [one.run for one in self.contenders]
        require(len(runs) > 0, "contenders", runs, "at least one network")
        twice = sorted({run for run in runs if runs.count(run) > 1})
        require(not twice, "contenders", twice, "a label of its own for each network")
        for name, low in (("limit", 1), ("fit_limit", 0)):
            given = getattr(self, name)
            expected = f"a whole number ≥ {low}, or None"
            require(given is None or given >= low, name, given, expected)

    def to_dict(self) -> dict[str, Any]:
        """Those that a record tells beside the data and the networks."""
        names = ("batch_size", "workers", "device", "limit", "fit_limit")
        first_rows = True if self.first_rows else None
        rarely = {"first_rows": first_rows, "max_bad_fraction": self.max_bad_fraction}
        return {name: getattr(self, name) for name in names} | rarely
