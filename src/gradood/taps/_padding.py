"""Models whose answers depend on padding that their mask leaves out."""

from collections.abc import Mapping

from torch import Tensor, nn

from gradood.taps._failures import is_model_failure
from gradood.taps._mixing import rounding_of
from gradood.taps.arguments import Arguments, Inputs, called
from gradood.taps.attended import attended, padded, padding_of, unpadded
from gradood.taps.isolation import left_as_found
from gradood.taps.view import Views
from gradood.taps.wrap import Output, logits_of

__all__ = ["padding_caution"]

_MORE = 3
"""Positions that are added to try."""
_IDS = ("input_ids", "ids", "tokens", "token_ids")


def padding_caution(views: Views, rows: Inputs, output: Output | None) -> str | None:
    """A caution where padding changes what the model answers, with the measured difference.

    The first row is run without padding, and with some positions more that its mask leaves out. Of
    token ids without a mask, whether the padding that they hold changes the answer.

    Args:
        views: of the model.
        rows: on the model's device.
        output: which item of what the model returns holds the logits, or None for the usual ones.

    Returns:
        None where nothing is padded, or padding changes nothing.

    Cost:
        Two forwards of one row.
    """
    if isinstance(rows, Tensor):
        return None
    module = views.model
    fill = {**_padding_token(module, rows), **padding_of(rows)}
    if attended(rows) is not None:
        short = unpadded(rows[:1])
        assert isinstance(short, Arguments)
        long = padded(short, _MORE, fill)
        what = f"{_MORE} positions more, which its mask leaves out,"
    else:
        found = _without_padding(rows, fill)
        if found is None:
            return None
        short, long = found
        what = "padding in the ids, of which no mask tells the model,"
    gap = _difference(views, short, long, output)
    if gap is None:
        return None
    return (
        f"{what} move the logits of an input by {gap:.1e} of the largest, so that a score depends "
        "on the batch that an input is in. Let the model leave padded positions out, give it an "
        "attention_mask, or score batches of one length."
    )


def _difference(
    views: Views, short: Arguments, long: Arguments, output: Output | None
) -> float | None:
    """Of the logits, relative to the largest; None if it is rounding, or the model cannot run."""
    try:
        with left_as_found(views) as view:
            alone, other = (
                logits_of(called(view.module, each.clone()), output).detach()
                for each in (short, long)
            )
    except Exception as error:  # More positions than the model knows, for one.
        if not is_model_failure(error):
            raise
        return None
    gap = float((alone - other).abs().max() / alone.abs().max().clamp_min(1e-6))
    return gap if gap > rounding_of(alone) or gap != gap else None


def _padding_token(module: nn.Module, rows: Arguments) -> dict[str, int | float]:
    """The token that pads ids, as a model of Hugging Face says in its configuration."""
    token = getattr(getattr(module, "config", None), "pad_token_id", None)
    if not isinstance(token, int):
        return {}
    leaves = rows.leaves
    return {n: token for n in _IDS if n in leaves and not leaves[n].is_floating_point()}


def _without_padding(
    rows: Arguments, fill: Mapping[str, int | float]
) -> tuple[Arguments, Arguments] | None:
    """A row without the padding at its end, and as it is; None where none is padded."""
    for name, token in fill.items():
        ids = rows.leaves[name]
        if ids.ndim != 2:
            continue
        counts = (ids != token).int().flip(1).cummax(1).values.sum(1)
        usable = ((counts < ids.shape[1]) & (counts > 0)).nonzero()[:, 0].tolist()
        if usable:
            row, length = rows[usable[0] : usable[0] + 1], int(counts[usable[0]])
            alike = {
                n: leaf[:, :length]
                for n, leaf in row.leaves.items()
                if leaf.ndim > 1 and leaf.shape[1] == ids.shape[1]
            }
            return row.replaced(alike), row
    return None
