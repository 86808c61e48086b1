"""``gradood score --onnx``: a graph in place of detector and model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradood.cli._input_columns import InputColumnOptions
from gradood.cli._score_options import JobOptions, ScoredModelOptions, ScoreFiles, cores
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.batch import Summary
    from gradood.data import Preprocess

__all__ = ["check_alone", "check_options", "scored_by_graph"]


def check_alone(
    files: ScoreFiles, model: ScoredModelOptions, columns: InputColumnOptions, job: JobOptions
) -> None:
    """Refuse what a graph has no use for.

    Raises:
        ConfigError: names the option.
    """
    given = {
        "--detector": files.detector,
        "--model": model.model or None,
        "--weights": model.weights,
        "--num-classes": model.num_classes,
        "--pretrained": model.pretrained or None,
        "--override": model.override,
        "--device": None if model.device == "cpu" else model.device,
        "--on": job.on,
        "--devices": job.devices,
        "the columns of a table": columns.choice().given or None,
    }
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"--onnx runs a whole graph in this process: leave out {name}.")


def scored_by_graph(
    graph: Path, source: str, changes: Mapping[str, Any], out: str, job: JobOptions
) -> "Summary":
    """The job, with a graph in place of detector and model."""
    from gradood.batch import GraphPredictor, list_images, score_images
    from gradood.data import Preprocess

    predictor = GraphPredictor(graph, threads=job.threads)
    stored = predictor.judge.preprocess
    if stored is None and not changes:
        raise ConfigError(
            f"{graph} does not say how images become its inputs; give --resize, --mean and the "
            "others, or export it again of a detector that was fitted with them."
        )
    if "kind" in (stored or {}):
        raise ConfigError(f"{graph} takes rows of a table, and score --onnx takes images alone.")
    preprocess = Preprocess.from_dict(changes if stored is None else stored)
    check_options(preprocess, changes)
    return score_images(
        predictor,
        list_images(source, image_column=job.image_column),
        out,
        preprocess=preprocess.pixels if predictor.judge.record.part == "pixels" else preprocess,
        identity=predictor.identity(preprocess.to_dict()),
        settings=job.settings(cores()),
    )


def check_options(fitted: "Preprocess", options: Mapping[str, Any]) -> None:
    """Refuse options that differ from what was fitted.

    Raises:
        ConfigError: names the option.
    """
    for name, value in options.items():
        asked = getattr(replace(fitted, **{name: value}), name)
        if asked != getattr(fitted, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is {asked!r}, but the detector was fitted with "
                f"{getattr(fitted, name)!r}; leave it out, or fit again."
            )
