"""Packages on disk: opened, verified, and loaded as a monitor on its model."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final
from weakref import WeakKeyDictionary

from gradood._io.arguments import described, file_path
from gradood.artifact import check
from gradood.data import ColumnInput, Preprocess
from gradood.errors import ArtifactError, ConfigError, DataError, ModelMismatchError
from gradood.hub._spec import (
    DETECTOR,
    WEIGHTS,
    FileRecord,
    PackageSpec,
    file_record,
    is_factory,
    read_spec,
)
from gradood.models._load import LoadedModel, load_model
from gradood.rejection import load as load_detector

__all__ = ["Package", "Trust", "load", "open_package", "package_of"]

Trust = Literal["package"]
"""What a caller may trust a package with: to name a Python module, whose import runs its code."""

_ORIGINS: "WeakKeyDictionary[Any, Package]" = WeakKeyDictionary()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A folder with a detector and the weights of its model, every file as its spec says.

    Attributes:
        folder: where it is.
        spec: what it says of itself.
        repo: of the Hugging Face Hub that it was taken from, or None.
        revision: SHA of the commit of that repository, or None.
    """

    folder: Path
    spec: PackageSpec
    repo: str | None = None
    revision: str | None = None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, in the order of the model's outputs, or None."""
        return self.spec.classes

    def model(
        self,
        *,
        trust: Trust | None = None,
        device: str = "cpu",
        model_folder: str | os.PathLike[str] | None = None,
    ) -> LoadedModel:
        """The model with its weights, and how its inputs are made.

        Args:
            trust: as for `load`.
            device: where it goes.
            model_folder: as for `load`.

        Raises:
            ConfigError: it may not, or cannot, be made.
            ModelMismatchError: the files of `model_folder` are others.
            ImportError: the library that the model comes from is not installed.
        """
        if trust not in (None, "package"):
            raise ConfigError(f"trust is {trust!r}; expected None or 'package'.")
        if is_factory(self.spec.model) and trust is None:
            raise ConfigError(
                f"the package names the factory {self.spec.model!r}: importing it would run code "
                "of that module. If you would run it, load with trust='package'."
            )
        name, weights = self.spec.model, None
        if self.spec.elsewhere is not None:
            name = f"hf:{self._model_folder(model_folder, self.spec.elsewhere)}"
        elif model_folder is not None:
            raise ConfigError(
                f"model_folder is of a model hf:NAME, and this one is {name!r}; leave it out."
            )
        elif WEIGHTS in self.spec.files:
            weights = self.folder / WEIGHTS
        return load_model(name, weights, num_classes=self.spec.num_classes, device=device)

    def load(
        self,
        *,
        trust: Trust | None = None,
        device: str = "cpu",
        override: str | None = None,
        model_folder: str | os.PathLike[str] | None = None,
    ) -> Any:
        """The monitor, or the guard; see `gradood.hub.load`."""
        loaded = self.model(trust=trust, device=device, model_folder=model_folder)
        found = load_detector(self.folder / DETECTOR, loaded.model, override=override)
        _ORIGINS[found] = self
        return found

    def preprocess(self) -> Preprocess | ColumnInput | None:
        """From an image to the model's input; None if nobody said, or for other inputs."""
        stored = self.spec.preprocess
        return None if stored is None or "kind" in stored else Preprocess.from_dict(stored)

    def _model_folder(
        self, given: str | os.PathLike[str] | None, files: Mapping[str, FileRecord]
    ) -> Path:
        """The folder of the model, verified."""
        listed = ", ".join(f"{name} (SHA-256 {one.sha256})" for name, one in files.items())
        if given is None:
            raise ConfigError(
                f"the package holds no model: it is {self.spec.model!r}, a folder with {listed}. "
                "Give that folder as model_folder."
            )
        place = file_path(given, "model_folder", "the name of a folder")
        for name, record in files.items():
            _verify(place / name, record, ModelMismatchError)
        return place


def open_package(folder: str | os.PathLike[str]) -> Package:
    """A package, every file of it verified; no model is made, and nothing in it is run.

    Args:
        folder: that `gradood.hub.pack` wrote.

    Raises:
        ConfigError: it is no package.
        ArtifactError: its spec is refused, or a file is damaged.
        ModelMismatchError: the weights are not those that were packed.

    Cost: every file is read once.
    """
    place = file_path(folder, "folder", "the folder that gradood.hub.pack wrote")
    spec = read_spec(place)
    for name, record in spec.files.items():
        _verify(place / name, record, ModelMismatchError if name == WEIGHTS else ArtifactError)
    if WEIGHTS in spec.files and not _is_safetensors(place / WEIGHTS):
        raise ArtifactError(f"{WEIGHTS} is no safetensors file; packages hold no other weights.")
    spec.check_against(check(place / DETECTOR))
    return Package(folder=place, spec=spec)


def load(
    folder: str | os.PathLike[str],
    *,
    trust: Trust | None = None,
    device: str = "cpu",
    override: str | None = None,
    model_folder: str | os.PathLike[str] | None = None,
) -> Any:
    """The monitor or guard of a package, on its model.

    Nothing is unpickled, and nothing imported but what makes the model: gradood, timm, torchvision
    or Transformers. The detector is loaded by `gradood.load`, so that the model must have the
    fingerprint that it was fitted with, and eight stored inputs must give the stored scores.

    Args:
        folder: that `gradood.hub.pack` wrote.
        trust: ``"package"`` lets the package name a module of yours to import
            (``package.module:factory``), whose code then runs.
        device: where the model goes.
        override: why a differing model is right, if it is; stamped on every result.
        model_folder: of the model, for a package of ``hf:NAME``, which does not hold it.

    Returns:
        A `gradood.Guard` if a guard was packed, else a `gradood.Monitor`.

    Raises:
        ConfigError: it is no package, or may not import what it names.
        ArtifactError: the package is damaged or refused.
        ModelMismatchError: the model is another one than the detector's.
        ImportError: the library that the model comes from is not installed.

    Cost: every file is read twice, and one forward pass of eight inputs.
    """
    package = open_package(folder)
    return package.load(trust=trust, device=device, override=override, model_folder=model_folder)


def package_of(monitor: Any) -> Package:
    """The package that a monitor or a guard was loaded from, with the revision that was taken.

    Raises:
        ConfigError: it was not loaded by `gradood.hub`.
    """
    try:
        found = _ORIGINS.get(monitor)
    except TypeError:  # No weak reference to a text or a number.
        found = None
    if found is None:
        raise ConfigError(
            f"{described(monitor)} was not loaded from a package by gradood.hub; give what "
            "gradood.hub.load or from_hub returned."
        )
    return found


def _is_safetensors(file: Path) -> bool:
    """Whether a file begins as safetensors do, with a length and a JSON object; no pickle does."""
    with file.open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def _verify(file: Path, record: FileRecord, error: type[Exception]) -> None:
    if not file.is_file():
        raise DataError(f"the package lacks {file.name!r}; fetch or copy it as a whole.")
    found = file_record(file)
    if found != record:
        raise error(
            f"{file.name} is not the file that was packed (SHA-256 {record.sha256[:12]}…, here "
            f"{found.sha256[:12]}…); it is damaged or another. Fetch it again, or pack again."
        )
