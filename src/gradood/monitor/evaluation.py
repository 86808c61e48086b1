"""How well a monitor's scores separate in-distribution from out-of-distribution data."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gradood._engine.batches import Data
from gradood._io.arguments import plain, real, type_named
from gradood.calibration._rule import DecisionRule
from gradood.calibration.results import BatchScores
from gradood.errors import ConfigError, DataError
from gradood.monitor._shifted import ShiftedRow, check_names, shifted_rows
from gradood.monitor._table import Row, Table, rows_of, table_of
from gradood.monitor.monitor import Monitor

__all__ = ["Row", "ShiftedRow", "Table", "evaluate", "rows_of", "table_of"]


def evaluate(
    monitor: Monitor,
    *,
    id: Data,
    ood: Mapping[str, Data],
    shifted: Mapping[str, Data] | None = None,
    level: float | None = 0.95,
) -> Table:
    """Score each data set once with all detectors and compare.

    The last row is ``"combined"``, by the statistic of all detectors, where the monitor has
    ``combine=`` and was calibrated, which is what makes scores of different scales comparable.

    Args:
        monitor: fitted where needed, and calibrated to have the row ``"combined"``.
        id: in-distribution test data, not used in the fit.
        ood: out-of-distribution sets by name.
        shifted: in-distribution sets under covariate shift by name: known classes in another style,
            light or device. With them the table also has `Table.full_spectrum`, where they count as
            known, and `Table.shifted`, how many of them are flagged, by the calibrated decisions of
            a monitor that has such.
        level: coverage of the confidence intervals (`gradood.metrics.intervals`); None for none.

    Raises:
        DataError: no set, an empty one, or two roles for one name.
        ConfigError: `monitor` is none, or `level` no share.

    Warns:
        CoverageWarning: `id` lacks classes that the fit data has, by what the model predicts.

    Cost:
        One pass per data set; the intervals about a second per method and 20,000 samples, three
        times that with shifted sets.
    """
    level = plain(level)
    _check(monitor, ood, shifted, level)
    rule = monitor._session.state.rule
    batch = monitor._session.score(id, covered=True)
    known = _with_combined(batch, rule)
    decided = None if rule is None else rule.results(batch)
    moved: dict[str, dict[str, Tensor]] = {}
    rates: list[ShiftedRow] = []
    for name, data in (shifted or {}).items():
        if decided is None:
            moved[name], flags = _scores(monitor, data, rule), None
        else:
            found = monitor._session.predict(data, ())
            moved[name] = {method: found[method].score for method in known}
            flags = {method: (decided[method].is_ood, found[method].is_ood) for method in known}
        rates += shifted_rows(name, known, moved[name], flags=flags, level=level)
    unknown = {name: _scores(monitor, data, rule) for name, data in ood.items()}
    return table_of(known, unknown, moved, rates, level=level)


def _check(monitor: Any, ood: Any, shifted: Any, level: Any) -> None:
    """Refuse what `evaluate` cannot work with."""
    if not isinstance(monitor, Monitor):
        raise ConfigError(
            f"{type_named(monitor)} was given as the monitor; give gradood.Monitor(model, "
            "detectors), fitted where needed, or the `monitor` of a guard."
        )
    for name, given in (("ood", ood), ("shifted", {} if shifted is None else shifted)):
        if not isinstance(given, Mapping):
            raise DataError(
                f"{name} is {type_named(given)}; expected sets by name: {{'name': loader}}."
            )
        odd = [key for key in given if not isinstance(key, str)]
        if odd:
            raise DataError(
                f"{name} names a set {odd[0]!r}; expected text, such as {str(odd[0])!r}."
            )
    if not ood:
        raise DataError("no out-of-distribution set was given; give ood={'name': loader}.")
    check_names(shifted or {}, ood)
    number = real(level)
    if level is not None and (number is None or not 0 < number < 1):
        raise ConfigError(f"level={level!r}; expected a number between 0 and 1, or None.")


def _scores(monitor: Monitor, data: Data, rule: DecisionRule | None) -> dict[str, Tensor]:
    """Scores of every detector, and of their combination if the rule has one."""
    return _with_combined(monitor._session.score(data), rule)


def _with_combined(batch: BatchScores, rule: DecisionRule | None) -> dict[str, Tensor]:
    scores = dict(batch.scores)
    if rule is None or rule.fusion is None:
        return scores
    return scores | {"combined": rule.fusion.statistic(scores)}
