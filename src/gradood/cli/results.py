"""What a benchmark prints and writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gradood.cli.exits import Exit, Unavailable
from gradood.cli.output import aligned, data, document, say
from gradood.cli.records import RECORD
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.bench import Outcome, Settings
    from gradood.bench.gate import Expected

__all__ = ["Results"]


@dataclass(frozen=True, slots=True)
class Results:
    """Where the results of a run go.

    Attributes:
        files: each a .json or .md file, or else a folder.
        report: an .html file, or None.
        expect: a .json file to write the figures to, as what later runs must reproduce; or None.
        check: a file that an earlier run wrote so, or None.
        json: print one JSON document instead of the tables.

    Raises:
        ConfigError: a file has another ending, or lies in no folder.
    """

    files: tuple[Path, ...] = ()
    report: Path | None = None
    expect: Path | None = None
    check: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        # Before hours of work rather than after.
        for file in self.files:
            folder = file.is_dir() or not file.suffix
            if folder == (file.suffix in (".json", ".md")):
                raise ConfigError(
                    f"--out {str(file)!r}; expected a name ending in .json or .md, or a folder."
                )
            if folder and file.exists() and not file.is_dir():
                raise ConfigError(
                    f"--out {str(file)!r} is a file; expected a folder, or a name ending in .json "
                    "or .md."
                )
        for option, file, ending in (
            ("--report", self.report, ".html"),
            ("--expect", self.expect, ".json"),
        ):
            if file is not None and file.suffix.lower() != ending:
                raise ConfigError(f"{option} {str(file)!r}; expected a name ending in {ending}.")
        named = [("--out", file) for file in self.files]
        self._check_twin([*named, ("--expect", self.expect), ("--check", self.check)])
        for option, file in (*named, ("--report", self.report), ("--expect", self.expect)):
            if file is not None and not file.parent.is_dir():
                raise ConfigError(
                    f"{option} {str(file)!r}: its folder does not exist; make it first."
                )

    def _check_twin(self, given: Sequence[tuple[str, Path | None]]) -> None:
        """The page's JSON twin would take the place of a file of the same name."""
        if self.report is None:
            return
        twin = self.report.with_suffix(".json")
        for option, file in given:
            if file is None:
                continue
            if twin.resolve() in (file.resolve(), (file / RECORD).resolve()):
                raise ConfigError(
                    f"--report {str(self.report)!r} also writes {str(twin)!r}, where {option} "
                    f"{str(file)!r} is; expected two names: choose another for one of them."
                )

    def tell(self, outcome: "Outcome", settings: "Settings") -> None:
        """Write the files, then print.

        Args:
            outcome: of a run.
            settings: it was made with.

        Raises:
            Unavailable: a file cannot be written; the record was printed instead.
        """
        record = outcome.record
        for file in self.files:
            try:
                _write(file, outcome)
            except OSError as error:
                document(record.to_dict())  # Hours of work are not lost for want of a file.
                why = error.strerror or error
                raise Unavailable(f"{str(file)!r} cannot be written: {why}.") from error
            say(f"wrote {file}")
        self._show(outcome)
        if self.expect is not None:
            _expect(self.expect, outcome)
        if self.report is not None:
            _report(self.report, outcome, settings)

    def gate(self, outcome: "Outcome", expected: "Expected | None") -> None:
        """End with exit code 1 if a figure left its interval; each is told on stderr.

        Raises:
            ConfigError: the run was of another suite, or of other sizes.
        """
        if expected is None:
            return
        misses = expected.check(outcome.record.to_dict())
        for miss in misses:
            say(f"missed: {miss}")
        say(f"{len(misses)} of the figures expected in {self.check} were missed")
        if misses:
            raise typer.Exit(Exit.GATE_FAILED)

    def _show(self, outcome: "Outcome") -> None:
        from gradood.bench.record import CAPTION, left_out_lines

        record = outcome.record
        for run in record.runs:
            if run["id_accuracy"] is not None:
                published = run["subject"]["published_accuracy"]
                told = (
                    f" (measured before with these weights: {published:.2%})" if published else ""
                )
                name = f"{run['run']}: " if len(record.runs) > 1 else ""
                say(f"{name}accuracy on the ID data: {run['id_accuracy']:.2%}{told}")
        if self.json:
            document(record.to_dict())
            return
        lines = [CAPTION, ""]
        for run in record.runs:
            lines += [run["run"], ""] if len(record.runs) > 1 else []
            lines += [aligned(record.table(run)), "", *left_out_lines(run["left_out"])]
        data("\n".join(lines).rstrip())


def _write(file: Path, outcome: "Outcome") -> None:
    from gradood.bench import json_text, write_folder

    record = outcome.record
    if file.suffix == ".md":
        file.write_text(record.markdown(), encoding="utf-8")
    elif file.suffix == ".json":
        file.write_text(json_text(record.to_dict()), encoding="utf-8")
    else:
        write_folder(file, record, outcome.scores)


def _expect(file: Path, outcome: "Outcome") -> None:
    """The figures, as what later runs must reproduce."""
    from gradood.bench import json_text
    from gradood.bench.gate import expected_of

    text = json_text(expected_of(outcome.record.to_dict()).to_dict())
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unavailable(f"{str(file)!r} cannot be written: {error.strerror}.") from error
    say(f"wrote {file}")


def _report(file: Path, outcome: "Outcome", settings: "Settings") -> None:
    """The page, with images from where the sets are."""
    import json

    from gradood.bench import json_text
    from gradood.report import Pictures, Report

    record = json.loads(json_text(outcome.record.to_dict()))
    suite = settings.suite
    folders = {path: folder for path in suite.paths if (folder := suite.images(path))}
    images = Pictures.of(record, settings.root, folders=folders, image_column=settings.image_column)
    for name, why in images.missing.items():
        say(f"no thumbnails of {name}: {why}")
    scores = {
        run: {
            name: {method: values.numpy() for method, values in methods.items()}
            for name, methods in sets.items()
        }
        for run, sets in outcome.scores.items()
    }
    try:
        twin = Report.of(record, scores, images).write(file)
    except OSError as error:
        raise Unavailable(f"{str(file)!r} cannot be written: {error.strerror}.") from error
    say(f"wrote {file} and {twin}")
