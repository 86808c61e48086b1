"""Saved guards and monitors loaded from their files."""

import os
from typing import Any

from torch import nn

from gradood._engine.forms import ModelInput
from gradood.monitor import load as load_monitor
from gradood.rejection._guard import Guard
from gradood.taps import Output

__all__ = ["load"]


def load(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    override: str | None = None,
    output: Output | None = None,
    model_input: ModelInput | None = None,
    progress: bool | None = None,
) -> Any:
    """What a file holds, bound to its model again: a guard, or a monitor.

    The file is compared with its own hashes before anything in it is used. That tells damage; it is
    no signature, as whoever can write a file can hash it anew. Nothing in it is executed or
    imported. Parameters, buffers and structure of the model must be those it was saved with, and
    eight stored inputs must give the stored logits and scores.

    Args:
        path: written by `Monitor.save` or `Guard.save`.
        model: the classifier it was fitted on; wrapped, compiled or moved to another device as you
            like.
        override: why a differing model is right, if it is; stamped on every result.
        output: as for `Monitor`; None takes that of the file, which holds all but functions.
        model_input: as for `Monitor`, if it was saved with one; a function is in no file.
        progress: as for `Monitor`.

    Returns:
        A `gradood.Guard` if a guard was saved, else a `gradood.Monitor`. It gives the scores it
        gave before: on the same version of torch and kind of device to the last bit.

    Raises:
        ModelMismatchError: the model is another one; says what differs.
        ArtifactError: the file is damaged, too new, or names what this gradood does not have.
        DataError: there is no file.
        TapError: `model` is no `torch.nn.Module`.

    Cost:
        Reading the file and all parameters, and one forward pass of eight inputs.
    """
    monitor = load_monitor(
        path, model, override=override, output=output, model_input=model_input, progress=progress
    )
    return monitor if monitor._session.state.guard is None else Guard(monitor)
