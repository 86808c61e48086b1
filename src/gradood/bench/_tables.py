"""Tables of a benchmark record, in Markdown."""

from collections.abc import Mapping, Sequence

from gradood._io.markdown import table
from gradood.bench._record_figures import FigureRow, FullSpectrum, MeanRow, SetRow
from gradood.monitor._shifted import FULL_SPECTRUM, SHIFTED, shifted_cells

__all__ = ["CAPTION", "figure_table", "full_spectrum_parts", "left_out_lines"]

CAPTION = (
    "FPR95 (share of the outliers taken for known where 95 % of the known are kept, lower is "
    "better) / AUROC (higher is better), in percent."
)


def figure_table(rows: Sequence[SetRow], means: Sequence[MeanRow]) -> str:
    """Methods against sets of outliers, with the means over several.

    Args:
        rows: per method and set.
        means: per method and group.
    """
    sets = list(dict.fromkeys(row.ood for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(row.method, {})[row.ood] = _pair(row)
    groups = _groups(means) if len(sets) > 1 else []
    for mean in means:
        if mean.group in groups:
            cells[mean.method][f"({mean.group})"] = _pair(mean)
    columns = [*sets, *(f"({group})" for group in groups)]
    titles = [*sets, *("mean" if group == "all" else f"{group} mean" for group in groups)]
    lines = [[name, *(own.get(c, "—") for c in columns)] for name, own in cells.items()]
    return table(["method", *titles], lines)


def full_spectrum_parts(found: FullSpectrum | None) -> list[tuple[str, str]]:
    """Title and table of the figures over the full spectrum, and of the flag rates; or none.

    Args:
        found: of a run, or None.
    """
    if found is None:
        return []
    rates = [(SHIFTED, table(*shifted_cells(found.shifted)))] if found.shifted else []
    return [(FULL_SPECTRUM, figure_table(found.rows, found.means)), *rates]


def left_out_lines(left_out: Mapping[str, str]) -> list[str]:
    """One line of Markdown per method that did not run, then an empty one; none if all ran."""
    lines = [f"- `{name}` was left out: {why}" for name, why in left_out.items()]
    return [*lines, ""] if lines else []


def _groups(means: Sequence[MeanRow]) -> list[str]:
    """Groups to show: near and far if there are both, and all."""
    present = {row.group for row in means}
    both = ["near", "far"] if {"near", "far"} <= present else []
    return [*both, *(["all"] if "all" in present else [])]


def _pair(row: FigureRow) -> str:
    return f"{100 * row.fpr_ood_at_tpr_id95:.2f} / {100 * row.auroc:.2f}"
