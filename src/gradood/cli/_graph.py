"""The command that makes a graph of a saved detector, and how a graph is verified."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from gradood.cli._detector_file import check_target, say_passed_over
from gradood.cli._groups import option
from gradood.cli._options import (
    BoundModelOptions,
    Force,
    Json,
    LoadingOptions,
    NumClasses,
    Override,
    Pretrained,
    one_of,
)
from gradood.cli._output import data, document
from gradood.errors import ConfigError, ParityError

if TYPE_CHECKING:
    from torch import Tensor

    from gradood.data import RowDataset
    from gradood.models._load import LoadedModel
    from gradood.monitor import Monitor

__all__ = ["GraphOptions", "export", "verify_graph"]

_CHECK = "Images to compare on: a folder, Parquet or archive; [:300] draws so many."


@dataclass(frozen=True, kw_only=True)
class GraphFiles:
    """What an export reads and writes."""

    detector: Annotated[Path, option("FILE", "A calibrated detector.")]
    check: Annotated[str, option("PATH", _CHECK)]
    out: Annotated[Path, option("FILE", "Where the graph goes, such as net.onnx.")]
    only: Annotated[
        str | None, option("A,B", "Detectors to export, each with its own decision.")
    ] = None
    part: Annotated[
        str,
        option(
            "model|head|pixels",
            "From inputs on; from features and logits on; from uint8 pixels of the right size on.",
        ),
    ] = "model"
    force: Force = False

    def __post_init__(self) -> None:
        check_target(self.out, force=self.force)
        one_of("--part", self.part, ("model", "head", "pixels"))


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """What a graph is compared with."""

    PANEL: ClassVar[str] = "Graph"

    detector: Annotated[Path | None, option("FILE", "The detector it was made of.")] = None
    model: Annotated[str | None, option("SPEC", "The model, as of gradood export.")] = None
    weights: Annotated[Path | None, option("FILE", "Safetensors or state-dict file.")] = None
    num_classes: NumClasses = None
    pretrained: Pretrained = False
    override: Override = None
    check: Annotated[str | None, option("PATH", _CHECK)] = None
    runtime: Annotated[
        str, option("onnxruntime|openvino", "What runs the graph; openvino in float32.")
    ] = "onnxruntime"
    precision: Annotated[
        str, option("f32|default", "Of openvino; its default may be bfloat16, which fails.")
    ] = "f32"


def export(
    model: BoundModelOptions, files: GraphFiles, loading: LoadingOptions, json: Json = False
) -> None:
    """Write a detector and its model as one ONNX graph: inputs to scores, p-values, decisions.

    The graph is run before it is written, and compared with the detector on images. Exit code 1,
    and no file, if it does not decide alike.
    """
    from gradood import export as export_graph
    from gradood.artifact import check

    check(files.detector)  # Before the model is built, as that may take long.
    loaded = model.load()
    monitor = _monitor(files.detector, loaded, model.override)
    parity = export_graph(
        monitor,
        files.out,
        example=_images(monitor, loaded, files.check, loading, files.part),
        only=None if files.only is None else [name.strip() for name in files.only.split(",")],
        part=cast(Any, files.part),
        artifact=files.detector,
    )
    if json:
        document({"file": str(files.out), "bytes": files.out.stat().st_size, **parity.to_plain()})
    else:
        data(f"wrote {files.out} ({files.out.stat().st_size:,} bytes)\n{parity}")


def verify_graph(file: Path, options: GraphOptions, *, json: bool) -> None:
    """Say what a graph is, and compare it with its detector where there is one.

    Args:
        file: the graph.
        options: what it is compared with.
        json: print one JSON document.

    Raises:
        ParityError: it does not decide alike.
    """
    from gradood.onnx import OnnxJudge, verify

    judge = OnnxJudge(file)
    given = (options.detector, options.model, options.check)
    if all(value is None for value in given):
        facts: Mapping[str, Any] = {
            "file": str(file),
            "sha256": judge.sha256,
            "artifact_sha256": judge.record.artifact,
            "detectors": list(judge.detectors),
            "combine": judge.combine,
            "promise": judge.record.promise,
            "part": judge.record.part,
            "inputs": [[s.name, s.dtype, list(s.shape)] for s in judge.inputs],
            "compared": False,
        }
        lines = [f"{file}: {judge!r}, not compared: give --detector, --model and --check"]
        data("\n".join(lines)) if not json else document(facts)
        return
    if options.detector is None or options.model is None or options.check is None:
        raise ConfigError("a graph is compared with --detector, --model and --check together.")
    model = BoundModelOptions(
        model=options.model,
        weights=options.weights,
        num_classes=options.num_classes,
        pretrained=options.pretrained,
        override=options.override,
    )
    loaded = model.load()
    monitor = _monitor(options.detector, loaded, model.override)
    parity = verify(
        file,
        monitor,
        example=_images(monitor, loaded, options.check, LoadingOptions(), judge.record.part),
        runtime=one_of("--runtime", options.runtime, ("onnxruntime", "openvino")),
        precision=one_of("--precision", options.precision, ("f32", "default")),
    )
    if json:
        document({"file": str(file), "compared": True, "holds": parity.holds, **parity.to_plain()})
    else:
        data(str(parity))
    if not parity.holds:
        raise ParityError(f"{file} does not decide as {options.detector}; export it again.")


def _monitor(detector: Path, loaded: "LoadedModel", override: str | None) -> "Monitor[Any]":
    from gradood.monitor import load

    return load(detector, loaded.model, override=override)


def _images(
    monitor: "Monitor[Any]",
    loaded: "LoadedModel",
    path: str,
    loading: LoadingOptions,
    part: str,
) -> "Tensor":
    """Images as the model takes them, or as pixels."""
    import torch

    from gradood.data import Preprocess
    from gradood.data.sources import open_images

    preprocess = loaded.preprocess_like(monitor.preprocess)
    if part == "pixels" and isinstance(preprocess, Preprocess):
        pixels, column = preprocess.pixels, loading.image_column
        images: RowDataset = open_images(path, pixels, labeled=False, image_column=column)
    else:
        images = loading.open(path, preprocess, labeled=False)
    say_passed_over(images)
    batches = [b[0] if isinstance(b, tuple | list) else b for b in loading.loader(images)]
    if not all(isinstance(batch, torch.Tensor) for batch in batches):
        raise ConfigError(
            "a graph of the whole model takes one tensor, and its input is several. Where another "
            "runtime runs the model, gradood.export(…, part='head') makes one of the rest."
        )
    return torch.cat(batches)
