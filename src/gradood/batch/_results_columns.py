"""Columns of a table of results, as `gradood.calibration` has them."""

import json
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from gradood.calibration.results import Result, Results, Status
from gradood.errors import DataError

__all__ = ["KEY", "PARTS", "VECTORS", "column_name", "note_of", "results_of", "scored_rows"]

KEY = "gradood"
"""Of a table's metadata, and of the attributes of a data frame."""
PARTS = {"score": np.float64, "p_value": np.float64, "is_ood": np.bool_}
VECTORS = ("logits", "features")
_STATUSES = get_args(Status)


def column_name(detector: str, part: str) -> str:
    """Column of a part of a detector's result; of the decision, its detector is empty."""
    return f"{detector}.{part}" if detector else part


def note_of(table: Any) -> dict[str, Any]:
    """What the metadata of a table says; of one without, what its columns do."""
    note = (table.schema.metadata or {}).get(KEY.encode())
    if note is not None:
        return json.loads(note)
    if "overrides" not in table.column_names:
        return {"overrides": []}
    return {"overrides": [text for text in table.column("overrides").unique().to_pylist() if text]}


def scored_rows(table: Any, told: str) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """(rows,) whether each row was scored; those that could not be read were not.

    Args:
        table: a `pyarrow.Table`.
        told: what it is called in messages.

    Raises:
        DataError: it holds no results.
    """
    heads, held = _heads(table), table.column_names
    if not heads or not {"label", "status"} <= set(held):
        raise DataError(
            f"{told} holds no results, but the columns {', '.join(map(str, held[:8]))}; expected "
            "those of gradood score or of write_results: label, status, score, p_value, is_ood."
        )
    return ~np.asarray(table.column(column_name(heads[0], "p_value")).is_null())


def results_of(table: Any) -> Results | Result:
    """Results of the rows of a table, all of which were scored.

    Args:
        table: a `pyarrow.Table`, some of whose columns are those of results.

    Returns:
        Results by detector; the result of one where the columns name none.
    """
    overrides = tuple(note_of(table)["overrides"])
    each = {name: _result(table, name, overrides) for name in _heads(table)}
    combined = each.pop("", None)
    if each:
        return Results(each, combined if len(each) > 1 else None)
    assert combined is not None
    return combined


def _heads(table: Any) -> list[str]:
    """Detectors, and an empty name for the decision, of which all parts are there."""
    there = set(table.column_names)
    names = [name.removesuffix("p_value") for name in table.column_names if name[-7:] == "p_value"]
    heads = [name.removesuffix(".") for name in names if name[-1:] in ("", ".")]
    return [head for head in heads if all(column_name(head, part) in there for part in PARTS)]


def _result(table: Any, name: str, overrides: tuple[str, ...]) -> Result:
    there = set(table.column_names)
    status, conditional = column_name(name, "status"), column_name(name, "class_conditional")
    listed = table.column(status if status in there else "status").to_pylist()
    own = {part: _tensor(table, column_name(name, part), dtype) for part, dtype in PARTS.items()}
    return Result(
        **own,
        label=_tensor(table, "label", np.int64),
        # A remark on an image is no fault of its score.
        status=tuple(one if one in _STATUSES else "ok" for one in listed),
        class_conditional=_tensor(table, conditional, np.bool_)
        if conditional in there
        else torch.zeros(table.num_rows, dtype=torch.bool),
        overrides=overrides,
        content_key=_tensor(table, "content_key", np.int64) if "content_key" in there else None,
        **{vector: _matrix(table, vector) for vector in VECTORS if vector in there},
    )


def _tensor(table: Any, name: str, dtype: Any) -> Tensor:
    return torch.from_numpy(np.array(table.column(name).to_pylist(), dtype))


def _matrix(table: Any, name: str) -> Tensor:
    """(rows, width) of a column of lists of one length."""
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table.column(name).chunks]
    flat = np.concatenate(chunks) if chunks else np.empty(0)
    return torch.from_numpy(flat.reshape(table.num_rows, -1 if table.num_rows else 0).copy())
