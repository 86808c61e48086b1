"""pandas, imported when first used: columns as a data frame."""

from collections.abc import Mapping, Sequence
from typing import Any

from gradood._io.optional import optional_module

__all__ = ["data_frame"]


def data_frame(columns: Mapping[str, Any], index: Sequence[str] | None = None) -> Any:
    """A ``pandas.DataFrame``.

    Args:
        columns: title → values, all of one length.
        index: titles of the columns that become its index, or None for row numbers.

    Raises:
        ModuleNotFoundError: pandas is not installed.
    """
    install = "pip install pandas, or gradood with the extra 'pandas'"
    pandas = optional_module("pandas", "pandas", "makes data frames", install)
    frame = pandas.DataFrame(dict(columns))
    return frame if index is None else frame.set_index(list(index))
