"""Input range: whether inputs were scaled or normalized otherwise than those of the fit."""

from collections.abc import Iterable, Iterator

import torch

from gradood._engine.batches import Batch
from gradood._engine.partials import DataSummary
from gradood._engine.rows import Inputs, row_count
from gradood.errors import InputRangeWarning, warn_caller
from gradood.taps import Arguments

__all__ = ["checked_range"]

_WIDTHS = 5
"""How far above the range of the fit, in widths of it, the mean of images is told."""
_LIMIT = 300
"""What lies further out is no image of 0 to 255 in place of 0 to 1."""
_ROWS = 8
_PLACES = 16
"""Of each axis of a map that the mean is taken over, at least."""


def checked_range(batches: Iterable[Batch], seen: DataSummary | None) -> Iterator[Batch]:
    """The batches; warns if images in the first were scaled otherwise than those seen.

    An unusual image does not move the mean of its values beyond the range of all that was seen by
    several widths of it, as another scale does. Other inputs than images (batch, channels, height,
    width) are not looked at, nor is a scale that is too small told, as dark images are alike.

    Args:
        batches: of any sizes.
        seen: of the fit or the calibration; None for neither.

    Warns:
        InputRangeWarning: their mean is far above that range.

    Cost:
        A mean over 16 × 16 places or somewhat more, of at most 8 images per call.
    """
    unchecked = seen is not None
    for batch in batches:
        if unchecked and seen is not None and row_count(batch.inputs):
            unchecked = False
            _warn_of_range(batch.inputs, seen)
        yield batch


def _warn_of_range(inputs: Inputs, seen: DataSummary) -> None:
    if isinstance(inputs, Arguments):
        return
    dense = inputs.layout == torch.strided and inputs.device.type != "meta"
    if inputs.ndim != 4 or not (dense and inputs.is_floating_point()):
        return
    low, high = min(seen.low.tolist()), max(seen.high.tolist())
    width = high - low
    step_y, step_x = (max(1, size // _PLACES) for size in inputs.shape[2:])
    rows = inputs.detach()[:_ROWS]
    mean = float(rows[:, :, ::step_y, ::step_x].mean())
    if not (high + _WIDTHS * width < mean <= high + _LIMIT * width) or not width:
        return
    if float(rows.min()) < low - width:
        return
    warn_caller(
        f"the inputs have a mean of {mean:.4g}, but those of the fit or the calibration lie from "
        f"{low:.4g} to {high:.4g}: 0..255 instead of 0..1, or another normalization? Their scores "
        "mean little. Prepare them as those were.",
        InputRangeWarning,
    )
