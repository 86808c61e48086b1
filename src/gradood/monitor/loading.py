"""Saved monitors loaded from artifacts, bound to their model again."""

import os

from torch import nn

from gradood._engine.forms import ModelInput, check_model_input
from gradood._io.arguments import type_named
from gradood.artifact import Artifact, read
from gradood.artifact.fingerprint import Fingerprint, fingerprint
from gradood.errors import DataError
from gradood.monitor._saved import restore
from gradood.monitor._session import Session
from gradood.monitor.monitor import Monitor
from gradood.taps import Output, check_output, unwrap

__all__ = ["from_artifact", "load"]


def load(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    override: str | None = None,
    output: Output | None = None,
    model_input: ModelInput | None = None,
    progress: bool | None = None,
) -> Monitor:
    """A saved monitor, bound to its model again.

    The file is compared with its own hashes before anything in it is used. That tells damage; it is
    no signature, as whoever can write a file can hash it anew. Nothing in it is executed or
    imported. Parameters, buffers and structure of the model must be those it was saved with, and
    eight stored inputs must give the stored logits and scores.

    Args:
        path: written by `Monitor.save`.
        model: the classifier it was fitted on; wrapped, compiled or moved to another device as you
            like.
        override: why a differing model is right, if it is; stamped on every result.
        output: as for `Monitor`; None takes that of the file, which holds all but functions.
        model_input: as for `Monitor`, if it was saved with one; a function is in no file.
        progress: as for `Monitor`.

    Returns:
        The monitor, which gives the scores it gave before: on the same version of torch and kind
        of device to the last bit.

    Raises:
        ModelMismatchError: the model is another one; says what differs.
        ArtifactError: the file is damaged, too new, or names what this gradood does not have.
        DataError: there is no file.
        TapError: `model` is no `torch.nn.Module`.

    Cost:
        Reading the file and all parameters, and one forward pass of eight inputs.
    """
    if not isinstance(path, str | os.PathLike):
        first = " The file comes first, the model after it." if isinstance(path, nn.Module) else ""
        raise DataError(f"path is {type_named(path)}; expected the name of a file.{first}")
    unwrap(model)
    check_output(output)
    check_model_input(model_input)
    source = os.fspath(path)
    artifact = read(source)
    return from_artifact(
        artifact,
        model,
        fingerprint(model),
        source=source,
        override=override,
        output=output,
        model_input=model_input,
        progress=progress,
    )


def from_artifact(
    artifact: Artifact,
    model: nn.Module,
    known: Fingerprint,
    *,
    source: str,
    override: str | None = None,
    output: Output | None = None,
    model_input: ModelInput | None = None,
    progress: bool | None = None,
) -> Monitor:
    """`load` of a file that was read already, on a model whose fingerprint is known.

    Args:
        artifact: from `gradood.artifact.read`.
        model: as for `load`.
        known: the fingerprint of the model.
        source: the file, for messages.
        override: as for `load`.
        output: as for `load`.
        model_input: as for `load`.
        progress: as for `load`.

    Raises:
        ModelMismatchError: as for `load`.
        ArtifactError: as for `load`.

    Cost: one forward pass of eight inputs.
    """
    options, state = restore(
        artifact,
        model,
        known,
        source=source,
        override=override,
        output=output,
        model_input=model_input,
    )
    monitor = Monitor.__new__(Monitor)
    monitor._session = Session(options, state, progress)
    return monitor
