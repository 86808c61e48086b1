"""Known inputs and auxiliary outliers of a training run, as options."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from gradood.cli._groups import option
from gradood.cli._options import ColumnOptions
from gradood.errors import DataError

if TYPE_CHECKING:
    from gradood.data import ColumnInput, Preprocess, RowDataset
    from gradood.taps import Link
    from gradood.training import TrainingData

__all__ = ["TrainingDataOptions"]

DATA = "Data (PATH: folder, Parquet or a table, with a slice such as [:2000])"


@dataclass(frozen=True, kw_only=True)
class TrainingDataOptions:
    """The known images and the auxiliary outliers."""

    PANEL: ClassVar[str] = DATA

    id_data: Annotated[
        list[str],
        option(
            "PATH", "In-distribution training images with labels; several are put together.", "--id"
        ),
    ]
    aux: Annotated[
        list[str],
        option("PATH", "Auxiliary outliers; never a test set."),
    ] = field(default_factory=list)
    mixing_set: Annotated[
        str | None,
        option("PATH", "Pictures that PixMix mixes in, such as fractals; drawn where none are."),
    ] = None
    id_classes: Annotated[
        Path | None,
        option("FILE", "Names of the known classes, one a line, where the data has none."),
    ] = None
    aux_classes: Annotated[
        Path | None,
        option(
            "FILE", "Names of the outliers' classes, one a line, to warn of known ones among them."
        ),
    ] = None

    def open(
        self,
        preprocess: "Preprocess | ColumnInput",
        columns: ColumnOptions,
        link: "Link | None" = None,
    ) -> "TrainingData":
        """The images, and what they are called.

        Args:
            preprocess: from what a row holds to the model's input.
            columns: of tables.
            link: what makes probabilities of the model's outputs.
        """
        from gradood.data import Preprocess
        from gradood.training import TrainingData

        known = _images("ID", self.id_data, preprocess, columns, labeled=True)
        preprocess = _opened(known)
        outliers = _images("auxiliary", self.aux, preprocess, columns) if self.aux else None
        shown = preprocess if isinstance(preprocess, Preprocess) else None
        return TrainingData(
            id=known,
            aux=outliers,
            black=None if shown is None else shown.black,
            white=None if shown is None else shown.white,
            mixing_set=self._pictures(Preprocess(mode="RGB" if shown is None else shown.mode)),
            id_classes=_class_names("--id-classes", self.id_classes),
            aux_classes=_class_names("--aux-classes", self.aux_classes),
            link=link,
        )

    def _pictures(self, preprocess: "Preprocess") -> Any:
        """The mixing set, or None."""
        if self.mixing_set is None:
            return None
        return _images("mixing", [self.mixing_set], preprocess, ColumnOptions())


def _images(
    what: str,
    paths: Sequence[str],
    preprocess: "Preprocess | ColumnInput",
    columns: ColumnOptions,
    *,
    labeled: bool | None = None,
) -> Any:
    from torch.utils.data import ConcatDataset

    sets: list[RowDataset] = []
    try:
        for path in paths:
            # What the first table says, as its columns of numbers, holds for all.
            found = sets[0].preprocess if sets else preprocess
            sets.append(columns.open(path, found, labeled=labeled))
    except DataError as error:
        raise DataError(f"the {what} data: {error}") from error
    return sets[0] if len(sets) == 1 else ConcatDataset(sets)


def _opened(dataset: Any) -> "Preprocess | ColumnInput":
    """The preprocessing of a data set, or of the first of several."""
    first = getattr(dataset, "datasets", [dataset])[0]
    return first.preprocess


def _class_names(option: str, file: Path | None) -> Sequence[str] | None:
    from gradood.training._class_overlap import read_class_names

    try:
        return None if file is None else read_class_names(file)
    except DataError as error:
        raise DataError(f"{option} {error}") from error
