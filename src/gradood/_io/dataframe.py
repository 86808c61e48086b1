"""pandas, imported when first used: columns as a data frame."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["data_frame"]


def data_frame(columns: Mapping[str, Any], index: Sequence[str] | None = None) -> Any:
    """A ``pandas.DataFrame``.

    Args:
        columns: title → values, all of one length.
        index: titles of the columns that become its index, or None for row numbers.

    Raises:
        ModuleNotFoundError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pandas, which makes data frames, is not installed: pip install pandas, or gradood "
            "with the extra 'pandas'.",
            name=error.name,
        ) from error
    frame = pandas.DataFrame(dict(columns))
    return frame if index is None else frame.set_index(list(index))
