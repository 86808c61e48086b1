"""``gradood pack``."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from gradood.cli._class_names import names_of
from gradood.cli._groups import option
from gradood.cli._options import Force, Json, ModelOptions
from gradood.cli._output import data, document, pairs, writing

__all__ = ["pack"]


@dataclass(frozen=True, kw_only=True)
class PackFiles:
    """What a package is made of, beside the model."""

    detector: Annotated[Path, option("FILE", "A saved detector.")]
    out: Annotated[Path, option("DIR", "Folder for the package.")]
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class PackDetails:
    """What else a package holds."""

    PANEL: ClassVar[str] = "Package"

    class_names: Annotated[
        str | None,
        option("A,B|FILE", "Names of the classes in the order of the outputs, or a file of lines."),
    ] = None
    license: Annotated[str | None, option("ID", "For the model card, such as apache-2.0.")] = None
    onnx: Annotated[
        Path | None, option("FILE", "A graph that gradood export made of the detector.")
    ] = None

    def names(self) -> Sequence[str] | None:
        """Names of the classes.

        Raises:
            ConfigError: the file cannot be read.
        """
        if self.class_names is None:
            return None
        if not os.path.isfile(self.class_names):
            return [name.strip() for name in self.class_names.split(",")]
        return names_of(Path(self.class_names), "--class-names")


def pack(files: PackFiles, model: ModelOptions, details: PackDetails, json: Json = False) -> None:
    """Pack a detector and its model as one folder for Hugging Face Hub and MLflow.

    detector.safetensors, model.safetensors, spec.json and README.md, the model card; nothing is
    pickled. A README.md that somebody wrote or edited is kept. gradood.hub loads, pushes and pulls
    such folders.
    """
    from gradood.artifact import check
    from gradood.hub import Details
    from gradood.hub import pack as write

    check(files.detector)  # Before the model is built, as that may take long.
    loaded = model.load()
    with writing(files.out):
        package = write(
            files.out,
            files.detector,
            loaded,
            num_classes=model.num_classes,
            details=Details(
                classes=details.names(),
                license=details.license,
                onnx=details.onnx,
                force=files.force,
            ),
        )
    spec = package.spec
    if json:
        document(
            {
                "folder": str(files.out),
                "model": spec.model,
                "files": {name: one.sha256 for name, one in spec.files.items()},
            }
        )
        return
    lines = {name: f"{one.sha256}  {one.bytes:,} bytes" for name, one in spec.files.items()}
    if spec.elsewhere is not None:
        lines |= {f"not in it: {name}": one.sha256 for name, one in spec.elsewhere.items()}
    data(pairs({"wrote": str(files.out), "model": spec.model, **lines}))
