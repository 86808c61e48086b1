"""A model by name and files, which each actor opens for itself."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gradood._io.arguments import file_path, instance, text
from gradood.artifact import read
from gradood.batch import LoadedPredictor, load_predictor
from gradood.errors import ConfigError, ModelMismatchError
from gradood.models._load import LoadedModel, load_model

__all__ = ["Subject", "check_same", "check_subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model, and perhaps a saved detector of it; every machine opens the same names.

    A model is not sent as an object, which would take pickle and its code. Files must be at the
    same paths on all machines.

    Attributes:
        model: as `gradood.models.open_model` takes it, such as ``package.module:factory``.
        weights: safetensors or state-dict file; None where the source brings its own.
        num_classes: passed to the factory if given.
        pretrained: let timm or torchvision fetch its weights, on every machine.
        device: where the model runs, such as ``cpu`` or ``cuda``.
        detector: file of a detector that `gradood.Monitor.save` wrote; None for a fit.
        override: why a model other than that of the detector is right.

    Raises:
        ConfigError: a name is no text.
    """

    model: str
    weights: str | None = None
    num_classes: int | None = None
    pretrained: bool = False
    device: str = "cpu"
    detector: str | None = None
    override: str | None = None

    def __post_init__(self) -> None:
        text(self.model, "model", "its name, such as resnet20 or package.module:factory")
        text(self.device, "device", "its name, such as cpu or cuda")
        for name in ("weights", "detector"):
            if getattr(self, name) is not None:
                file_path(getattr(self, name), name)

    def load(self, **options: Any) -> LoadedModel:
        """The model, opened here.

        Args:
            options: further ones of `gradood.models._load.load_model`.

        Raises:
            ConfigError: no such model, or weights of another one.
        """
        return load_model(
            self.model,
            None if self.weights is None else Path(self.weights),
            num_classes=self.num_classes,
            pretrained=self.pretrained,
            device=self.device,
            **options,
        )

    def opened(self) -> tuple[LoadedModel, LoadedPredictor]:
        """The model, and the detector on it.

        Raises:
            ConfigError: no such model, or no detector is named.
            ArtifactError: the detector's file is damaged.
            ModelMismatchError: it is of another model.
        """
        artifact, loaded = read(self.detector_file), self.load()
        predictor = load_predictor(
            artifact, loaded.model, override=self.override, source=str(self.detector)
        )
        return loaded, predictor

    def opened_as(self, model: str, artifact: str) -> LoadedPredictor:
        """The detector on the model, if both are those of the driver.

        Args:
            model: digest of the model's fingerprint.
            artifact: SHA-256 of the detector's file.

        Raises:
            ModelMismatchError: one is another.
        """
        predictor = self.opened()[1]
        check_same("detector's file", artifact, predictor.artifact)
        check_same("model", model, predictor.model)
        return predictor

    def absolute(self) -> "Subject":
        """The same with absolute paths, for processes in other folders."""
        weights, detector = (
            None if file is None else str(Path(file).absolute())
            for file in (self.weights, self.detector)
        )
        kind, colon, name = self.model.partition(":")
        local = kind == "hf" and Path(name).is_dir()
        model = f"{kind}{colon}{Path(name).absolute()}" if local else self.model
        return replace(self, model=model, weights=weights, detector=detector)

    @property
    def detector_file(self) -> Path:
        """The file of the detector.

        Raises:
            ConfigError: none is named.
        """
        if self.detector is None:
            raise ConfigError("the subject names no detector; give the file of a saved one.")
        return Path(self.detector)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for `Subject` in another process."""
        return asdict(self)


def check_subject(subject: object) -> None:
    """Refuse what names no model.

    Raises:
        ConfigError: it is no `Subject`.
    """
    hint = "Workers open the model by its name: Subject(model='package.module:factory', …)."
    instance(subject, Subject, "subject", "a gradood.scale.Subject", hint)


def check_same(what: str, driver: str, worker: str) -> None:
    """Refuse what a worker has otherwise than the driver.

    Args:
        what: that is.
        driver: its digest there.
        worker: here.

    Raises:
        ModelMismatchError: they differ.
    """
    if driver != worker:
        raise ModelMismatchError(
            f"the {what} of a worker is another: {worker[:16]}… there and {driver[:16]}… for the "
            "driver; give all machines the same files."
        )
