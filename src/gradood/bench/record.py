"""Benchmark record: all figures of a run, and all that is needed to make them again."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Annotated, Any

from gradood._io.json import writable
from gradood._io.markdown import cell
from gradood._io.records import OMIT, Expect, Rules, decode, to_plain
from gradood.bench._record_figures import (
    ComparisonRow,
    CostRow,
    FullSpectrum,
    MeanRow,
    Measured,
    Part,
    RankingRecord,
    SetRow,
    Share,
    Spread,
)
from gradood.bench._record_inputs import (
    HyperParameters,
    MethodRecord,
    ModelRecord,
    OutlierSetRecord,
    SetRecord,
    SettingsRecord,
    SuiteRecord,
    WarningRecord,
)
from gradood.bench._tables import CAPTION, figure_table, full_spectrum_parts, left_out_lines
from gradood.errors import DataError

__all__ = ["Record", "RunRecord"]

_FORMAT, _VERSION = "gradood-arena", 1
_RULES = Rules(error=DataError)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord(Part):
    """The result of one network.

    Attributes:
        run: unique name.
        label: what several seeds of the network share.
        seed: which of them, or None if it is the only one.
        subject: the network.
        classes: of the network.
        id_accuracy: share of the ID images classified correctly; None without labels.
        methods: that ran, by label.
        left_out: why a method did not run, by label.
        hyper_parameters: how they were chosen, in words.
        rows: per method and set.
        means: per method and group.
        cost: by label.
        seconds: spent, by what on.
        warnings: that were given; None if there were none.
        full_spectrum: the figures with shifted images counted as known; None without such.
    """

    run: str
    label: str | None = None
    seed: int | None = None
    subject: ModelRecord = field(default_factory=ModelRecord)
    classes: int | None = None
    id_accuracy: Share | None = None
    methods: Annotated[Mapping[str, MethodRecord], Expect(bool, "a table that is not empty")]
    left_out: Mapping[str, str] = field(default_factory=dict)
    hyper_parameters: str | None = None
    rows: tuple[SetRow, ...]
    means: tuple[MeanRow, ...]
    cost: Mapping[str, CostRow] = field(default_factory=dict)
    seconds: Mapping[str, Measured] = field(default_factory=dict)
    warnings: tuple[WarningRecord, ...] | None = field(default=None, metadata={OMIT: True})
    full_spectrum: FullSpectrum | None = field(default=None, metadata={OMIT: True})


@dataclass(frozen=True, kw_only=True, slots=True)
class Record(Part):
    """The result of one or more networks on one suite, in plain values.

    Attributes:
        format: of the file.
        version: of the format.
        command: that gives the same again, or empty.
        date: when, in ISO 8601.
        commit: of gradood; see `gradood.bench.folder`.
        versions: of libraries, by name.
        machine: system, processor, threads.
        suite: the data.
        settings: batch size, workers, device, limits.
        hyper_parameters: how they were chosen.
        runs: one per network.
        seeds: method → group → metric → spread over the runs.
        comparisons: between methods, in pairs.
        ranking: of the methods, over runs and sets; empty where there are too few.
    """

    format: str = _FORMAT
    version: int = _VERSION
    command: str
    date: str | None = None
    commit: str | None = None
    versions: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    suite: SuiteRecord
    settings: SettingsRecord
    hyper_parameters: HyperParameters | str
    runs: Annotated[tuple[RunRecord, ...], Expect(bool, "a list that is not empty")]
    seeds: Mapping[str, Mapping[str, Mapping[str, Spread]]]
    comparisons: tuple[ComparisonRow, ...]
    ranking: RankingRecord

    def to_dict(self) -> dict[str, Any]:
        """Values for `gradood.bench.json_text`."""
        return to_plain(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Record":
        """The record of what a JSON file holds.

        Raises:
            DataError: it is no record, or of another version, or lacks a part, or a part is not as
                it should be.
        """
        is_table = isinstance(values, Mapping)
        kind = (values.get("format"), values.get("version")) if is_table else None
        if kind != (_FORMAT, _VERSION):
            shown = "no table" if kind is None else f"format {kind[0]!r}, version {kind[1]!r}"
            raise DataError(
                f"this is no arena record ({shown}); expected {_FORMAT!r}, version {_VERSION}, as "
                "gradood bench --out FOLDER writes it in arena.json."
            )
        try:
            record = decode(Record, values, "", _RULES)
            _check_complete(record)
        except DataError as error:
            raise DataError(f"the arena record is damaged: {error} Write it again.") from error
        return record

    @staticmethod
    def of(record: "Record | Mapping[str, Any]") -> "Record":
        """A record as it is, or out of what a JSON file holds."""
        return record if isinstance(record, Record) else Record.from_dict(record)

    def table(self, run: RunRecord) -> str:
        """Methods against sets in Markdown, of one of the runs."""
        return figure_table(run.rows, run.means)

    def markdown(self) -> str:
        """A page: the tables, then what they were made with."""
        lines = [f"# Out-of-distribution detection: {self.suite.title}", "", CAPTION, ""]
        for run in self.runs:
            lines += [f"## {run.run}", "", *_warning_lines(run), self.table(run), ""]
            for title, own in full_spectrum_parts(run.full_spectrum):
                lines += [title, "", own, ""]
            lines += left_out_lines(run.left_out)
        lines += ["## Made with", "", "| | |", "| --- | --- |"]
        lines += [f"| {cell(name)} | {cell(value)} |" for name, value in self._facts()]
        lines += ["", "## Methods", "", *self._methods(), ""]
        return writable("\n".join(lines))

    def _facts(self) -> Iterator[tuple[str, str]]:
        suite = self.suite
        yield "command", f"`{self.command}`" if self.command else "—"
        yield "date", str(self.date)
        yield "commit", str(self.commit or "not a clone")
        yield "versions", _listed(self.versions)
        yield "machine", _listed(self.machine)
        checked = "files as the suite says" if suite.checked else "files not checked"
        yield "suite", f"{suite.name}, version {suite.version}; {checked}"
        yield "settings", _listed(to_plain(self.settings))
        chosen = self.hyper_parameters
        yield (
            "hyper-parameters",
            chosen if isinstance(chosen, str) else f"{chosen.kind}: {chosen.how}",
        )
        yield "fit", "; ".join(map(_sample, suite.id.fit)) or "none"
        if suite.id.val is not None:
            yield "held out", _sample(suite.id.val)
        yield "ID", _sample(suite.id)
        for own in suite.shifted or ():
            yield f"shifted ID {own.name}", _sample(own)
        for own in suite.ood:
            yield f"OOD {own.name} ({own.group})", _sample(own)
        for run in self.runs:
            subject, accuracy = run.subject, run.id_accuracy
            yield f"{run.run}: model", f"{subject.model}, {subject.weights or 'its own'}"
            yield f"{run.run}: weights, SHA-256", str(subject.weights_sha256 or "—")
            yield f"{run.run}: preprocessing", _listed(subject.preprocess or {})
            yield f"{run.run}: accuracy on ID", _percent(accuracy)
            for name, share in (run.full_spectrum.accuracy if run.full_spectrum else {}).items():
                yield f"{run.run}: accuracy on shifted ID {name}", _percent(share)
            seconds = ", ".join(f"{name} {value:.1f}" for name, value in run.seconds.items())
            yield f"{run.run}: seconds", seconds

    def _methods(self) -> list[str]:
        lines = []
        for name, method in self.runs[0].methods.items() if self.runs else ():
            options = ", ".join(f"{key}={value!r}" for key, value in method.options.items())
            own = "; a pass of its own" if method.pass_kind == "own" else ""
            lines.append(f"- `{name}`: `{method.method}({options})`{own}")
            lines += [f"  - {note}" for note in method.notes]
            lines += [f"  - caution: {caveat}" for caveat in method.caveats]
        return lines


def _check_complete(record: Record) -> None:
    """Refuse names that occur twice, and methods without a row for a set or group.

    Raises:
        DataError: says where.
    """
    sets = [own.name for own in record.suite.ood]
    _check_distinct(sets, "suite.ood", "name")
    _check_distinct([own.name for own in record.suite.shifted or ()], "suite.shifted", "name")
    _check_distinct([run.run for run in record.runs], "runs", "run")
    for number, run in enumerate(record.runs):
        for part, present, names in (
            ("rows", {(row.method, row.ood) for row in run.rows}, sets),
            ("means", {(row.method, row.group) for row in run.means}, record.suite.members()),
            *_full_spectrum_places(record, run),
        ):
            for method, name in product(run.methods, names):
                if (method, name) not in present:
                    raise DataError(f"runs[{number}].{part} lacks {method!r} on {name!r}.")


def _full_spectrum_places(
    record: Record, run: RunRecord
) -> Iterator[tuple[str, set[tuple[str, str]], Collection[str]]]:
    """Part of the full spectrum, method and place of its rows, and the places it must have."""
    found = run.full_spectrum
    if found is None:
        return
    sets = [own.name for own in record.suite.ood]
    shifted = [own.name for own in record.suite.shifted or ()]
    where, groups = "full_spectrum", record.suite.members()
    yield f"{where}.rows", {(row.method, row.ood) for row in found.rows}, sets
    yield f"{where}.means", {(row.method, row.group) for row in found.means}, groups
    yield f"{where}.shifted", {(row.method, row.shifted) for row in found.shifted}, shifted


def _check_distinct(names: Sequence[str], where: str, key: str) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise DataError(f"{where}[{number}].{key} is {name!r} once more; expected another.")


def _warning_lines(run: RunRecord) -> list[str]:
    """One line of Markdown per warning, then an empty one; none without warnings."""
    lines = [f"- warning ({cell(own.stage)}): {cell(own.text)}" for own in run.warnings or ()]
    return [*lines, ""] if lines else []


def _percent(accuracy: float | None) -> str:
    return f"{accuracy:.2%}" if accuracy is not None else "no labels"


def _sample(images: SetRecord | OutlierSetRecord) -> str:
    return f"`{images.path}`, {images.n:,} images"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
