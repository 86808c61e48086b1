"""A data set of rows whose inputs are made of columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from gradood.data._column_source import ColumnRows
from gradood.data.column_input import ColumnInput, Row
from gradood.data.row_dataset import RowDataset, stacked_labels

__all__ = ["ColumnDataset"]


@final
class ColumnDataset(RowDataset):
    """A map-style dataset: ``dataset[i]`` is the inputs of a row, or a pair of inputs and label.

    Inputs are a tensor, or a mapping of tensors by the names of the model's arguments. Batches of
    `gradood.data.loader` are padded where the inputs have an attention mask.

    Args:
        source: the rows.
        inputs: from the values of a row to the model's input.
    """

    preprocess: ColumnInput
    _source: ColumnRows

    def __init__(self, source: ColumnRows, inputs: ColumnInput) -> None:
        super().__init__(source)
        self.preprocess = inputs

    def collate(self, items: Sequence[Any]) -> Any:
        if not self.labeled:
            return self.preprocess.collate(items)
        rows, labels = zip(*items, strict=True)
        return self.preprocess.collate(rows), stacked_labels(labels)

    def _input(self, row: int) -> Row:
        return self.preprocess(self._source.values(row))

    def _encoded(self, row: int, fetch: bool) -> bytes | Path | None:
        return repr(sorted(self._source.values(row).items())).encode()
