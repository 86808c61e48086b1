"""Results as tables and back to the last bit: Parquet, pandas, and fields of samples elsewhere.

One row per sample, with the columns of the shards that `gradood.batch.score_images` writes, so that
whatever reads one reads the other.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gradood._io.atomic import write
from gradood.batch._results_columns import (
    KEY,
    PARTS,
    VECTORS,
    column_name,
    note_of,
    results_of,
    scored_rows,
)
from gradood.batch._store import encoded
from gradood.batch.finished import finished_shards
from gradood.calibration.results import Result, Results
from gradood.data._extras import arrow, table_of
from gradood.errors import DataError

__all__ = [
    "StoredResults",
    "read_results",
    "results_table",
    "sample_fields",
    "table_of_fields",
    "write_results",
]

_OF_DETECTORS = (*PARTS, "class_conditional", "status")
_DOT = "__"
"""What stands in names of fields for the dot between a detector and a part of its result, as stores
of documents refuse dots. A dot in the name of a detector itself is ``~1``, and ``~`` is ``~0``."""


@dataclass(frozen=True, eq=False, slots=True)
class StoredResults:
    """Results, and of which samples they are.

    Attributes:
        results: a `gradood.Results`, or the `gradood.Result` of a detector given bare.
        ids: of its samples; their numbers where none were kept.
        table: a `pyarrow.Table` of the same rows, with all columns that there were.
        left_out: of the rows that could not be scored, which are in no results.
    """

    results: Results | Result
    ids: tuple[str, ...]
    table: Any
    left_out: Any

    def to_pandas(self) -> Any:
        """The table as a ``pandas.DataFrame``, which `read_results` reads back.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        frame = self.table.to_pandas()
        frame.attrs[KEY] = note_of(self.table)
        return frame


def results_table(
    results: Results | Result, ids: Sequence[str] | None = None, *, vectors: bool = False
) -> Any:
    """Results as a `pyarrow.Table`, one row per sample.

    Args:
        results: of a monitor, a guard, or a file.
        ids: of the samples; None numbers them.
        vectors: keep logits and features too, where there are some.

    Returns:
        Columns id, NAME.score, NAME.p_value and NAME.is_ood of each detector, score, p_value and
        is_ood of the decision, label, status, and what else a `gradood.Result` holds.

    Raises:
        DataError: there are not as many ids as samples.
        ModuleNotFoundError: pyarrow is not installed.
    """
    pa = arrow()
    each = _each(results)
    first = next(iter(each.values()))
    count = len(first)
    names = [str(row) for row in range(count)] if ids is None else [str(one) for one in ids]
    if len(names) != count:
        raise DataError(f"there are {len(names)} ids for {count} samples; give one for each.")
    columns: dict[str, Any] = {"id": pa.array(names, pa.string())}
    for name, result in each.items():
        for part in (*PARTS, "class_conditional"):
            columns[column_name(name, part)] = pa.array(getattr(result, part).cpu().numpy())
    columns["label"] = pa.array(first.label.cpu().numpy())
    columns["status"] = pa.array(results.status, pa.string())
    for name, result in each.items():
        if result.status != results.status:
            columns[column_name(name, "status")] = pa.array(result.status, pa.string())
    if first.content_key is not None:
        columns["content_key"] = pa.array(first.content_key.cpu().numpy())
    for vector in VECTORS if vectors else ():
        columns |= _vectors(vector, getattr(first, vector))
    joined = "; ".join(results.overrides) or None
    columns["overrides"] = pa.array([joined] * count, pa.string())
    note = json.dumps({"overrides": list(results.overrides)})
    return pa.table(columns).replace_schema_metadata({KEY: note})


def write_results(
    results: Results | Result,
    file: str | os.PathLike[str],
    ids: Sequence[str] | None = None,
    *,
    vectors: bool = False,
) -> None:
    """Write results as a Parquet file; see `results_table`. Equal results become equal bytes.

    Raises:
        DataError: there are not as many ids as samples.
        OSError: it cannot be written.
    """
    write(Path(file), encoded(results_table(results, ids, vectors=vectors)))


def read_results(source: Any) -> StoredResults:
    """Results from a table, each number as it was.

    Args:
        source: a Parquet file of `write_results`; the folder of a finished or running
            ``gradood score``; a `pyarrow.Table`; or a ``pandas.DataFrame``, of this module or of
            `gradood.Results.to_pandas`.

    Raises:
        DataError: it holds no results.
        ModuleNotFoundError: pyarrow is not installed.
    """
    table, told = _table_of(source)
    scored = scored_rows(table, told)
    kept = table.filter(scored)
    return StoredResults(results_of(kept), tuple(_ids(kept)), kept, table.filter(~scored))


def sample_fields(table: Any, prefix: str = "gradood_") -> dict[str, list[Any]]:
    """A table as fields of samples, for FiftyOne and other stores of documents.

    Plain values, one per sample, under names without a dot: ``gradood_energy__score`` for
    ``energy.score``. With FiftyOne, for samples whose path is the ``uri`` of a row::

        fields = gradood.batch.sample_fields(stored.table)
        for name, values in fields.items():
            keyed = dict(zip(fields["gradood_uri"], values))
            dataset.set_values(name, keyed, key_field="filepath")

    Args:
        table: a `pyarrow.Table` of `results_table`, or of `StoredResults`.
        prefix: of each name, so that samples keep what fields they have, such as their own id.
    """
    names = table.column_names
    return {prefix + _field(name): table.column(name).to_pylist() for name in names}


def table_of_fields(values: Mapping[str, Sequence[Any]], prefix: str = "gradood_") -> Any:
    """The table that `sample_fields` was given, for `read_results`.

    With FiftyOne::

        names = [name for name in dataset.get_field_schema() if name.startswith("gradood_")]
        table = gradood.batch.table_of_fields(dict(zip(names, dataset.values(names))))

    Args:
        values: by field, one per sample; a sample without results has None. Those without the
            prefix are left out.
        prefix: as it was given to `sample_fields`.

    Raises:
        DataError: the fields are not of one length.
    """
    own = {
        _named(name.removeprefix(prefix)): column
        for name, column in values.items()
        if name.startswith(prefix)
    }
    lengths = {len(column) for column in own.values()}
    if len(lengths) > 1:
        raise DataError(f"the fields have {sorted(lengths)} values; expected one per sample.")
    pa = arrow()
    there = [label is not None for label in own.get("label", ())]
    return pa.table(
        {
            name: pa.array([value for value, kept in zip(column, there, strict=True) if kept])
            for name, column in own.items()
            if there
        }
    )


def _field(column: str) -> str:
    head, dot, part = column.rpartition(".")
    return head.replace("~", "~0").replace(".", "~1") + (_DOT if dot else "") + part


def _named(field: str) -> str:
    head, dot, part = field.rpartition(_DOT)
    if not dot or part not in _OF_DETECTORS:
        return field
    return f"{head.replace('~1', '.').replace('~0', '~')}.{part}"


def _each(results: Results | Result) -> dict[str, Result]:
    """By detector, and the decision under an empty name."""
    if isinstance(results, Result):
        return {"": results}
    each = {name: results[name] for name in results}
    return each if results.combined is None else {**each, "": results.combined}


def _vectors(name: str, value: Tensor | None) -> dict[str, Any]:
    if value is None:
        return {}
    pa, (_, width) = arrow(), value.shape
    flat = pa.array(value.cpu().reshape(-1).numpy())
    return {name: pa.FixedSizeListArray.from_arrays(flat, width)}


def _table_of(source: Any) -> tuple[Any, str]:
    """The table, and what it is called in messages."""
    pa = arrow()
    if isinstance(source, pa.Table):
        return source, "the table"
    if hasattr(source, "iloc"):
        return _of_frame(source), "the data frame"
    place = Path(source)
    if place.is_dir():
        tables = [shard.table for shard in finished_shards(place)]
        if not tables:
            raise DataError(f"{str(place)!r} has no finished shard yet; wait for one.")
        return pa.concat_tables(tables), repr(str(place))
    if not place.is_file():
        raise DataError(f"no results at {str(place)!r}: it is absent.")
    try:
        return table_of(place), repr(str(place))
    except pa.ArrowInvalid as error:
        raise DataError(f"{str(place)!r} is no Parquet file: {error}") from error


def _of_frame(frame: Any) -> Any:
    """A data frame with one row per sample; of `Results.to_pandas` made so."""
    pa = arrow()
    if list(frame.index.names) == ["detector", "sample"]:
        columns: dict[str, Any] = {}
        for name in dict.fromkeys(frame.index.get_level_values("detector")):
            rows, prefix = frame.loc[name], "" if name == "combined" else name
            columns |= {column_name(prefix, p): rows[p].to_numpy() for p in (*PARTS, "status")}
            columns["label"] = rows["label"].to_numpy()
        own = [values for name, values in columns.items() if name.endswith("status")]
        columns["status"] = [
            next((s for s in row if s != "ok"), "ok") for row in zip(*own, strict=True)
        ]
        return pa.table({name: pa.array(list(values)) for name, values in columns.items()})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    note = frame.attrs.get(KEY)
    return table if note is None else table.replace_schema_metadata({KEY: json.dumps(note)})


def _ids(table: Any) -> Iterator[str]:
    there = "id" in table.column_names
    yield from map(str, table.column("id").to_pylist() if there else range(table.num_rows))
