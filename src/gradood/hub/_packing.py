"""Packages written: a detector and its model as one folder, for hubs and for people."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save
from torch import Tensor

from gradood._io.arguments import file_path, instance, whole
from gradood._io.atomic import write
from gradood.artifact import Verified, check
from gradood.errors import ArtifactError, ConfigError
from gradood.hub._card import card_of, is_ours
from gradood.hub._package import Package, open_package
from gradood.hub._spec import (
    CARD,
    DETECTOR,
    GRAPH,
    SPEC,
    WEIGHTS,
    FileRecord,
    PackageSpec,
    check_model_name,
    file_record,
    is_factory,
    record_of,
)
from gradood.models._load import LoadedModel, load_model
from gradood.rejection import load as load_detector

__all__ = ["Details", "pack"]

_OF_PACKAGES = frozenset((SPEC, CARD, DETECTOR, WEIGHTS, GRAPH))
_TRIAL = ".gradood-"
_BY_NAME = (
    "A package names its model, so that others can make it: give such as 'resnet20' or "
    "'package.module:factory', and the file of its weights as weights=."
)
_OF_HUBS = frozenset((".git", ".gitattributes", ".cache"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a package holds beside a detector and its model.

    Attributes:
        classes: names of the classes, in the order of the model's outputs.
        license: for the card's front matter, such as ``apache-2.0``.
        onnx: a graph of `gradood.export`, made of the same detector.
        force: replace a package that is there already.
    """

    classes: Sequence[str] | None = None
    license: str | None = None
    onnx: str | os.PathLike[str] | None = None
    force: bool = False


def pack(
    out: str | os.PathLike[str],
    detector: str | os.PathLike[str],
    model: str | LoadedModel,
    weights: str | os.PathLike[str] | None = None,
    *,
    num_classes: int | None = None,
    details: Details | None = None,
) -> Package:
    """Write a detector and its model into a folder that Hugging Face Hub and MLflow take as it is.

    ``detector.safetensors``, ``model.safetensors``, ``spec.json``, ``README.md``, the model card,
    and ``net.onnx`` if there is a graph. Nothing is pickled. A ``README.md`` that is there and that
    somebody wrote or edited is kept. The package is loaded before it counts as written.

    Args:
        out: the folder; new or empty, or with a package that ``details.force`` replaces.
        detector: file of a saved monitor or guard.
        model: as `gradood.models.open_model` takes it. Of ``hf:FOLDER`` the files are not copied
            but named with their hashes.
        weights: of the model; safetensors or state dict.
        num_classes: passed to what makes the model.
        details: classes, license and the like.

    Raises:
        ModelMismatchError: the detector is of another model.
        ArtifactError: the detector, or the graph, is damaged or does not fit.
        ConfigError: the folder holds other files, or the model cannot be packed.
        OSError: the folder cannot be written.

    Cost: the model is made twice, and one forward pass of eight inputs.
    """
    details = Details() if details is None else details
    instance(details, Details, "details", "gradood.hub.Details(…)")
    folder = file_path(out, "out", "the name of a folder")
    file = file_path(detector, "detector", "the file of a saved monitor or guard")
    instance(model, (str, LoadedModel), "model", "the name that it is made by", _BY_NAME)
    _check_folder(folder, details.force)
    verified = check(file)
    if isinstance(model, str):
        model = _loaded(model, weights, num_classes)
    _check_classes(details.classes)
    load_detector(file, model.model)  # Refuses a model that it is not of.
    name, elsewhere = _named(model)
    contents = _contents(file, verified, model if elsewhere is None else None, details)
    spec = PackageSpec(
        torch=verified.manifest.torch,
        model=name,
        num_classes=num_classes,
        classes=None if details.classes is None else tuple(details.classes),
        preprocess=verified.manifest.preprocess,
        files={name: record_of(content) for name, content in contents.items()},
        elsewhere=elsewhere,
    )
    spec.check_against(verified)
    _write(folder, contents, spec, model)
    if _may_write_card(folder / CARD):
        write(folder / CARD, card_of(spec, verified, details.license))
    write(folder / SPEC, spec.to_json())
    return open_package(folder)


def _loaded(
    model: str, weights: str | os.PathLike[str] | None, num_classes: int | None
) -> LoadedModel:
    file = None if weights is None else file_path(weights, "weights")
    count = None if num_classes is None else whole(num_classes, "num_classes", least=1)
    return load_model(model, file, num_classes=count)


def _check_classes(classes: object) -> None:
    """Refuse names of classes that a package cannot hold, before one is replaced.

    Raises:
        ConfigError: they are no list of texts.
    """
    if classes is None:
        return
    listed = list(classes) if isinstance(classes, Iterable) and not isinstance(classes, str) else []
    if not listed or not all(isinstance(name, str) and _is_unicode(name) for name in listed):
        raise ConfigError(f"classes={str(classes)[:80]!r}; expected a list of names, one a class.")


def _is_unicode(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _contents(
    detector: Path, verified: Verified, model: LoadedModel | None, details: Details
) -> dict[str, bytes]:
    """Files beside spec and card; the weights only of a model that is given."""
    contents = {DETECTOR: detector.read_bytes()}
    if model is not None:
        contents[WEIGHTS] = _weights(model)
    if details.onnx is not None:
        contents[GRAPH] = _graph(Path(details.onnx), verified)
    return contents


def _write(
    folder: Path, contents: Mapping[str, bytes], spec: PackageSpec, model: LoadedModel
) -> None:
    """Write the files, once a trial has loaded as others will load them."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=_TRIAL, dir=folder) as trial:
        for name, content in contents.items():
            write(Path(trial) / name, content)
        _try(Path(trial), spec, model)
        for stale in (SPEC, WEIGHTS, GRAPH):  # The spec first: without it, it is no package.
            (folder / stale).unlink(missing_ok=True)
        for name in contents:
            os.replace(Path(trial) / name, folder / name)


def _check_folder(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is a file; a package takes a folder: name another one.")
    held = set(os.listdir(folder)) if folder.exists() else set[str]()
    held = {name for name in held if not name.startswith(_TRIAL)}  # Of a run that was killed.
    strangers = sorted(held - _OF_PACKAGES - _OF_HUBS)
    if strangers:
        raise ConfigError(
            f"{str(folder)!r} holds other files, such as {strangers[0]!r}; name a new folder."
        )
    if held & (_OF_PACKAGES - {CARD}) and not force:
        raise ConfigError(
            f"{str(folder)!r} has a package already; name another, or give --force "
            "(Details(force=True))."
        )


def _named(model: LoadedModel) -> tuple[str, Mapping[str, FileRecord] | None]:
    """The model's name in a package, and the files that it is made of elsewhere, if it is."""
    if model.reference is not None:
        return model.reference.name, None
    prefix, _, rest = model.spec.partition(":")
    if prefix != "hf":
        _refuse_path(model.spec)
        return model.spec, None
    folder = Path(rest).expanduser()
    files = [folder / "config.json", *model.weights]
    name = f"hf:{folder.resolve().name}"
    _refuse_path(name)
    return name, {file.name: file_record(file) for file in files}


def _refuse_path(name: str) -> None:
    try:
        check_model_name(name)
    except ArtifactError as error:
        raise ConfigError(f"this model cannot be packed: {error}") from error


def _weights(model: LoadedModel) -> bytes:
    """Parameters and buffers as safetensors, under the model's own names."""
    state: Mapping[str, Any] = model.model.state_dict()
    odd = [name for name, value in state.items() if not _storable(value)]
    if odd:
        raise ConfigError(
            f"{odd[0]!r} of the model is no dense tensor, and safetensors hold no other; a model "
            "with quantized or sparse weights, or with extra state, cannot be packed."
        )
    # Each for itself: tensors that share their memory are refused.
    return save({name: value.detach().cpu().clone().contiguous() for name, value in state.items()})


def _storable(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and not value.is_quantized
        and value.layout.__str__() == ("torch.strided")
    )


def _graph(file: Path, verified: Verified) -> bytes:
    """The graph, which must be of that detector."""
    from gradood.onnx import OnnxJudge

    judge = OnnxJudge(file)
    if judge.record.artifact != verified.sha256:
        of = f"SHA-256 {judge.record.artifact[:12]}…" if judge.record.artifact else "no file"
        raise ArtifactError(
            f"{str(file)!r} is a graph of another detector ({of}; expected "
            f"{verified.sha256[:12]}…); export it from the detector that is packed."
        )
    return file.read_bytes()


def _try(folder: Path, spec: PackageSpec, model: LoadedModel) -> None:
    """Load the package as others will."""
    place = None if spec.elsewhere is None else model.spec.partition(":")[2]
    package = Package(folder=folder, spec=spec)
    package.load(trust="package" if is_factory(spec.model) else None, model_folder=place)


def _may_write_card(file: Path) -> bool:
    """Whether there is no card, or one that this program wrote and nobody changed."""
    return not file.exists() or is_ours(file.read_text(encoding="utf-8", errors="replace"))
