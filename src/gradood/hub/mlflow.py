"""MLflow's flavor ``gradood``: packages as models of MLflow, loaded without pickle.

A model of MLflow holds the package as its data folder and names this module as its loader, so that
``mlflow.pyfunc.load_model`` needs neither pickled objects nor a file of this machine. It is loaded
by `gradood.load`, with the fingerprint and the stored scores compared.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from gradood import __version__
from gradood._io.dataframe import data_frame
from gradood._io.optional import optional_module
from gradood.artifact import check
from gradood.calibration.results import Result, Results
from gradood.errors import ConfigError, DataError
from gradood.hub._package import Package, Trust, load, open_package
from gradood.hub._spec import DETECTOR, SPEC, is_factory

__all__ = ["FLAVOR", "PackagedDetector", "load_model", "log_model", "save_model"]

FLAVOR = "gradood"
"""Name of the flavor in ``MLmodel``."""
_DATA = "data"
_CONFIG = {"device": "cpu", "model_folder": None}
"""What a caller of ``mlflow.pyfunc.load_model`` may set. Not whether a package is trusted: its
author writes this into the file, and MLflow does not tell one from the other."""


def save_model(
    package: str | os.PathLike[str],
    path: str | os.PathLike[str],
    mlflow_model: Any = None,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a package as a model of MLflow.

    Args:
        package: the folder, from `gradood.hub.pack`.
        path: of the model; a new folder.
        mlflow_model: a ``mlflow.models.Model`` to add to, which `log_model` gives; else None.
        metadata: kept in ``MLmodel``.

    Raises:
        ConfigError: the folder is no package, or `path` is there already.
        ArtifactError: the package is damaged.
        ModuleNotFoundError: mlflow is not installed.
    """
    models, pyfunc = _mlflow("mlflow.models"), _mlflow("mlflow.pyfunc")
    found = open_package(package)
    place = Path(path)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(f"{str(path)!r} is there already; name a new folder.")
    place.mkdir(parents=True, exist_ok=True)
    data = place / _DATA
    data.mkdir()
    for name in (SPEC, "README.md", *found.spec.files):
        if (found.folder / name).is_file():
            shutil.copyfile(found.folder / name, data / name)
    model = models.Model() if mlflow_model is None else mlflow_model
    if metadata is not None:
        model.metadata = dict(metadata)
    model.signature = _signature(found)
    verified = check(data / DETECTOR)
    pyfunc.add_to_model(model, loader_module=__name__, data=_DATA, model_config=_CONFIG)
    model.add_flavor(FLAVOR, gradood_version=__version__, data=_DATA, sha256=verified.sha256)
    model.save(str(place / "MLmodel"))
    requirements = [f"gradood[data,mlflow]=={__version__}", f"torch=={_release(found.spec.torch)}"]
    library = found.spec.model.partition(":")[0]
    extra = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}.get(library)
    requirements += [] if extra is None else [extra]
    (place / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")


def log_model(package: str | os.PathLike[str], name: str = "detector", **details: Any) -> Any:
    """Log a package as a model of the active run of MLflow.

    Args:
        package: the folder, from `gradood.hub.pack`.
        name: of the model.
        details: of ``mlflow.models.Model.log``, such as ``registered_model_name``.

    Returns:
        ``mlflow.models.model.ModelInfo``.

    Raises:
        ConfigError: the folder is no package.
        ArtifactError: the package is damaged.
        ModuleNotFoundError: mlflow is not installed.
    """
    models = _mlflow("mlflow.models")
    from gradood.hub import mlflow as flavor

    options = {"artifact_path": None, "name": name, "package": package, **details}
    return models.Model.log(flavor=flavor, **options)


def load_model(
    model_uri: str, *, trust: Trust | None = None, device: str = "cpu", **options: Any
) -> Any:
    """The monitor or guard of a model of MLflow.

    Args:
        model_uri: such as ``models:/detector/3``, ``runs:/…`` or a path.
        trust: as for `gradood.hub.load`.
        device: as for `gradood.hub.load`.
        options: likewise.

    Raises:
        ConfigError: the model is no package, or may not import what it names.
        ArtifactError: the package is damaged.
        ModelMismatchError: the model is another one than the detector's.
        ModuleNotFoundError: mlflow is not installed.
    """
    artifacts = _mlflow("mlflow.artifacts")
    folder = Path(artifacts.download_artifacts(artifact_uri=model_uri))
    return load(folder / _DATA, trust=trust, device=device, **options)


@final
class PackagedDetector:
    """What ``mlflow.pyfunc`` asks: arrays in, a data frame out.

    Args:
        monitor: a calibrated monitor, or a guard.
        shape: of one input.
    """

    def __init__(self, monitor: Any, shape: tuple[int, ...]) -> None:
        self.monitor = monitor
        self._shape = shape

    def get_raw_model(self) -> Any:
        """The monitor or guard itself."""
        return self.monitor

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """The decision about each input.

        Args:
            data: (N, …) float32, as (N, channels, height, width); of a model of several tensors, a
                mapping of such.
            params: none are known.

        Returns:
            A ``pandas.DataFrame`` of N rows: label, is_ood, p_value, score, status. Of several
            detectors that are not combined, is_ood, p_value and score of each, as
            ``energy.score``.

        Raises:
            DataError: the model takes no such inputs.
        """
        if params:
            raise ConfigError(f"params {sorted(params)} are unknown; leave them out.")
        found = self.monitor.predict(self._inputs(data))
        parts = {"": found} if isinstance(found, Result) else _parts(found)
        columns: dict[str, Any] = {"label": found.label.cpu().numpy()}
        for name, result in parts.items():
            prefix = f"{name}." if name else ""
            for part in ("is_ood", "p_value", "score"):
                columns[f"{prefix}{part}"] = getattr(result, part).cpu().numpy()
        return data_frame(columns | {"status": list(found.status)})

    def _inputs(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            return {name: torch.from_numpy(np.array(one)) for name, one in data.items()}
        if hasattr(data, "iloc"):
            raise DataError(
                "a data frame was given; expected an array (N, …) of inputs as the model takes "
                "them, float32."
            )
        array = np.asarray(data)
        if array.dtype.kind not in "fiu" or array.ndim != len(self._shape) + 1 or not len(array):
            raise DataError(
                f"the input has shape {array.shape} and type {array.dtype}; expected "
                f"(N, {', '.join(map(str, self._shape))}) of float32, N at least 1."
            )
        # Numbers from JSON arrive in double precision.
        wide = array.dtype == np.float64
        return torch.from_numpy(np.array(array, np.float32 if wide else array.dtype))


def _parts(found: Results) -> Mapping[str, Result]:
    """The one decision under an empty name, or those of all detectors."""
    if found.combined is not None:
        return {"": found.combined}
    names = list(found)
    return {"": found[names[0]]} if len(names) == 1 else {name: found[name] for name in names}


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PackagedDetector:
    """What ``mlflow.pyfunc.load_model`` calls.

    Args:
        path: of the package.
        model_config: ``device`` and ``model_folder``, as for `gradood.hub.load`.

    Raises:
        ConfigError: there is another option; or the package names a factory, which
            `gradood.hub.mlflow.load_model` takes with ``trust="package"``.
    """
    options = dict(model_config or {})
    unknown = sorted(options.keys() - _CONFIG.keys())
    if unknown:
        raise ConfigError(f"model_config has {unknown[0]!r}; expected device or model_folder.")
    package = open_package(path)
    if is_factory(package.spec.model):
        raise ConfigError(
            f"the package names the factory {package.spec.model!r}, whose import would run code; "
            "mlflow.pyfunc cannot say that you trust it. Load it with "
            "gradood.hub.mlflow.load_model(uri, trust='package')."
        )
    shape = check(package.folder / DETECTOR).manifest.model.input_shape
    return PackagedDetector(package.load(**options), shape)


def _signature(package: Package) -> Any:
    """An array without a name: a named one would make the input a mapping."""
    manifest = check(package.folder / DETECTOR).manifest
    if manifest.model.inputs is not None or manifest.calibration is None:
        return None
    models, types = _mlflow("mlflow.models"), _mlflow("mlflow.types")
    given = types.TensorSpec(
        np.dtype(manifest.model.input_dtype), (-1, *manifest.model.input_shape)
    )
    return models.ModelSignature(inputs=types.Schema([given]))


def _release(version: str) -> str:
    """A version without what its build is called."""
    return version.partition("+")[0]


def _mlflow(module: str) -> Any:
    return optional_module(module, "mlflow", "keeps models", 'pip install "gradood[mlflow]"')
