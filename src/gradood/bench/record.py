"""What an arena run leaves behind: every figure, and all that is needed to make them again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from gradood.bench.record_form import check_form
from gradood.errors import DataError
from gradood.io.atomic import replace
from gradood.io.json import cell, json_text, writable

__all__ = [
    "ArenaRecord",
    "CAPTION",
    "FILES",
    "ScoresByRun",
    "left_out_lines",
    "scores_of",
    "write_folder",
]

CAPTION = (
    "FPR95 (share of the outliers taken for known where 95 % of the known are kept, lower is "
    "better) / AUROC (higher is better), in percent."
)
FILES = ("arena.json", "arena.md", "scores.safetensors")
"""What a folder of results holds."""
_FORMAT, _VERSION = "gradood-arena", 1
_KEYS = (
    *("command", "suite", "settings", "hyper_parameters", "runs"),
    *("seeds", "comparisons", "ranking"),
)

ScoresByRun = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Run → set (``"id"`` for the known) → method → (n,) scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArenaRecord:
    """The result of one or more models on one suite, in plain values.

    Attributes:
        command: how to do the same again, or empty.
        provenance: see `gradood.bench.provenance`.
        suite: name, version, sets with their sizes and hashes, and whether the files were checked.
        settings: batch size, workers, device, limits.
        hyper_parameters: ``kind``, ``"fixed"`` or ``"id-only"``; ``how`` they were chosen.
        runs: per model: what it is, its methods, rows, means, costs, and what was left out.
        seeds: method → group → metric → mean, sd and n over the runs.
        comparisons: between methods, in pairs.
        ranking: of the methods, over runs and sets; empty where there are too few.
    """

    command: str
    provenance: Mapping[str, Any]
    suite: Mapping[str, Any]
    settings: Mapping[str, Any]
    hyper_parameters: Mapping[str, str]
    runs: Sequence[Mapping[str, Any]]
    seeds: Mapping[str, Any]
    comparisons: Sequence[Mapping[str, Any]]
    ranking: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Values for `gradood.bench.json_text`."""
        own = {key: getattr(self, key) for key in _KEYS}
        head = {"format": _FORMAT, "version": _VERSION, "command": self.command}
        return {**head, **self.provenance, **own}

    @staticmethod
    def from_dict(found: Mapping[str, Any]) -> "ArenaRecord":
        """The record that was written.

        Raises:
            DataError: it is none, or of another version, or lacks a part, or a part is not as it
                should be.
        """
        given = (found.get("format"), found.get("version")) if isinstance(found, Mapping) else None
        if given != (_FORMAT, _VERSION):
            told = "no table" if given is None else f"format {given[0]!r}, version {given[1]!r}"
            raise DataError(
                f"this is no arena record ({told}); expected {_FORMAT!r}, version {_VERSION}, as "
                "gradood bench --out FOLDER writes it in arena.json."
            )
        try:
            check_form(found)
        except DataError as error:
            raise DataError(f"the arena record is damaged: {error} Write it again.") from error
        rest = {k: v for k, v in found.items() if k not in (*_KEYS, "format", "version")}
        return ArenaRecord(provenance=rest, **{key: found[key] for key in _KEYS})

    def table(self, run: Mapping[str, Any]) -> str:
        """Methods against sets in Markdown, of one of the runs."""
        sets = [one["name"] for one in self.suite["ood"]]
        cells: dict[str, dict[str, str]] = {}
        for row in run["rows"]:
            cells.setdefault(row["method"], {})[row["ood"]] = _pair(row)
        groups = _groups(run["means"]) if len(sets) > 1 else []
        for row in run["means"]:
            if row["group"] in groups:
                cells[row["method"]][f"({row['group']})"] = _pair(row)
        columns = [*sets, *(f"({group})" for group in groups)]
        titles = [*sets, *("mean" if group == "all" else f"{group} mean" for group in groups)]
        lines = [["method", *titles], ["---", *["---:"] * len(titles)]]
        lines += [[name, *(own.get(c, "—") for c in columns)] for name, own in cells.items()]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def markdown(self) -> str:
        """A page: the tables, then what they were made with."""
        lines = [f"# Out-of-distribution detection: {self.suite['title']}", "", CAPTION, ""]
        for run in self.runs:
            lines += [f"## {run['run']}", "", self.table(run), "", *left_out_lines(run["left_out"])]
        lines += ["## Made with", "", "| | |", "| --- | --- |"]
        lines += [f"| {cell(name)} | {cell(value)} |" for name, value in self._facts()]
        lines += ["", "## Methods", "", *self._methods(), ""]
        return writable("\n".join(lines))

    def _facts(self) -> Iterator[tuple[str, str]]:
        suite, origin = self.suite, self.provenance
        yield "command", f"`{self.command}`" if self.command else "—"
        yield "date", str(origin["date"])
        yield "commit", str(origin["commit"] or "not a clone")
        yield "versions", _listed(origin["versions"])
        yield "machine", _listed(origin["machine"])
        checked = "files as the suite says" if suite["checked"] else "files not checked"
        yield "suite", f"{suite['name']}, version {suite['version']}; {checked}"
        yield "settings", _listed(self.settings)
        yield "hyper-parameters", f"{self.hyper_parameters['kind']}: {self.hyper_parameters['how']}"
        yield "fit", "; ".join(map(_sample, suite["id"]["fit"])) or "none"
        yield "ID", _sample(suite["id"])
        for one in suite["ood"]:
            yield f"OOD {one['name']} ({one['group']})", _sample(one)
        for run in self.runs:
            subject, accuracy = run["subject"], run["id_accuracy"]
            yield f"{run['run']}: model", f"{subject['model']}, {subject['weights'] or 'its own'}"
            yield f"{run['run']}: weights, SHA-256", str(subject["weights_sha256"] or "—")
            yield f"{run['run']}: preprocessing", _listed(subject["preprocess"] or {})
            told = "no labels" if accuracy is None else f"{accuracy:.2%}"
            yield f"{run['run']}: accuracy on ID", told
            seconds = ", ".join(f"{name} {value:.1f}" for name, value in run["seconds"].items())
            yield f"{run['run']}: seconds", seconds

    def _methods(self) -> list[str]:
        lines = []
        for name, found in self.runs[0]["methods"].items() if self.runs else ():
            options = ", ".join(f"{key}={value!r}" for key, value in found["options"].items())
            own = "; a pass of its own" if found["pass"] == "own" else ""
            lines.append(f"- `{name}`: `{found['method']}({options})`{own}")
            lines += [f"  - {note}" for note in found["notes"]]
            lines += [f"  - caution: {caveat}" for caveat in found["caveats"]]
        return lines


def left_out_lines(left_out: Mapping[str, str]) -> list[str]:
    """One line of Markdown per method that did not run, then an empty one; none if all ran."""
    lines = [f"- `{name}` was left out: {why}" for name, why in left_out.items()]
    return [*lines, ""] if lines else []


def write_folder(folder: Path, record: ArenaRecord, scores: ScoresByRun) -> None:
    """Write `FILES`; each is replaced as a whole, the scores first.

    Args:
        folder: made if it does not exist.
        record: what came out.
        scores: behind it.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flat = {
        f"{run}/{name}/{method}": values.numpy() if isinstance(values, Tensor) else values
        for run, sets in scores.items()
        for name, methods in sets.items()
        for method, values in methods.items()
    }
    texts = json_text(record.to_dict()), record.markdown()
    contents = (*(text.encode("utf-8") for text in texts), save(flat))
    for name, content in reversed(list(zip(FILES, contents, strict=True))):
        replace(folder / name, [content], lambda _: None)


def scores_of(folder: str | Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Run → set (``"id"`` for the known) → method → (n,) float64 array, of a folder of results.

    Args:
        folder: that `write_folder` wrote.

    Raises:
        DataError: there are none, or they are damaged.
    """
    path = Path(folder) / FILES[2]
    try:
        flat = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"no scores in {str(path)!r}: {error}; expected a folder that gradood bench --out "
            "FOLDER wrote."
        ) from error
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for key, values in flat.items():
        parts = key.rsplit("/", 2)
        if len(parts) != 3 or values.ndim != 1 or values.dtype.kind != "f":
            raise DataError(
                f"{str(path)!r} holds {key!r}, {values.dtype} {values.shape}; expected scores "
                "(n,) under run/set/method, as gradood bench --out FOLDER wrote them."
            )
        run, name, method = parts
        found.setdefault(run, {}).setdefault(name, {})[method] = values
    return found


def _groups(means: Sequence[Mapping[str, Any]]) -> list[str]:
    """Groups to show: near and far if there are both, and all."""
    found = {row["group"] for row in means}
    both = ["near", "far"] if {"near", "far"} <= found else []
    return [*both, *(["all"] if "all" in found else [])]


def _pair(row: Mapping[str, Any]) -> str:
    return f"{100 * float(row['fpr_ood_at_tpr_id95']):.2f} / {100 * float(row['auroc']):.2f}"


def _sample(sample: Mapping[str, Any]) -> str:
    return f"`{sample['path']}`, {sample['n']:,} images"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
