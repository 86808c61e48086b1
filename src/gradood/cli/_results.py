"""What a benchmark prints and writes, as options and done."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradood.cli._exits import Exit, Unavailable
from gradood.cli._groups import option
from gradood.cli._options import RUN, Json
from gradood.cli._output import aligned, data, document, say, writing
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.bench import Outcome, Settings, Suite
    from gradood.bench._gate import ExpectedFigures

__all__ = ["RECORD", "ResultOptions", "SCORES"]

RECORD, SCORES = "arena.json", "scores.safetensors"


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """Where the results of a run go.

    Raises:
        ConfigError: a file has another ending, or lies in no folder; a folder is made.
    """

    context: typer.Context
    out: Annotated[
        list[Path],
        option(
            "FILE|DIR",
            "Write the record to FILE.json or FILE.md, or with all scores to a folder, which is "
            "made; may be given several times.",
            panel=RUN,
        ),
    ] = field(default_factory=list)
    report: Annotated[
        Path | None,
        option(
            "FILE.html",
            "Write one self-contained page of the whole: which method to use, and why.",
            panel=RUN,
        ),
    ] = None
    openood_csv: Annotated[
        Path | None,
        option(
            "DIR",
            "Write the figures in the form of OpenOOD's leaderboard: ood/METHOD.csv in a folder, "
            "and fsood/METHOD.csv where there is shifted ID.",
            panel=RUN,
        ),
    ] = None
    expect: Annotated[
        Path | None,
        option("FILE.json", "Write the figures as what later runs must reproduce.", panel=RUN),
    ] = None
    check: Annotated[
        Path | None,
        option(
            "FILE.json",
            "End with exit code 1 if a figure leaves the interval that this file gives it.",
            panel=RUN,
        ),
    ] = None
    json: Json = False

    def __post_init__(self) -> None:
        # Before hours of work rather than after.
        for file in self.out:
            _check_out(file)
        for name, file, ending in (
            ("--report", self.report, ".html"),
            ("--expect", self.expect, ".json"),
        ):
            if file is not None and file.suffix.lower() != ending:
                raise ConfigError(f"{name} {str(file)!r}; expected a name ending in {ending}.")
        if self.openood_csv is not None and self.openood_csv.is_file():
            raise ConfigError(f"--openood-csv {str(self.openood_csv)!r} is a file; give a folder.")
        named = [("--out", file) for file in self.out]
        self._check_twin([*named, ("--expect", self.expect), ("--check", self.check)])
        made = {each for file in self.out if _is_folder(file) for each in (file, *file.parents)}
        for name, file in (*named, ("--report", self.report), ("--expect", self.expect)):
            if file is None or file in made or file.parent in made:
                continue
            if not file.parent.is_dir():
                raise ConfigError(
                    f"{name} {str(file)!r}: its folder does not exist; make it first."
                )

    def _check_twin(self, files: Sequence[tuple[str, Path | None]]) -> None:
        """The page's JSON twin would take the place of a file of the same name."""
        if self.report is None:
            return
        twin = self.report.with_suffix(".json")
        for name, file in files:
            if file is None:
                continue
            if twin.resolve() in (file.resolve(), (file / RECORD).resolve()):
                raise ConfigError(
                    f"--report {str(self.report)!r} also writes {str(twin)!r}, where {name} "
                    f"{str(file)!r} is; expected two names: choose another for one of them."
                )

    def expected(self, suite: "Suite") -> "ExpectedFigures | None":
        """The figures to reproduce, which are of this suite; None if there are none.

        Raises:
            ConfigError: they cannot be read, or are of another suite.
        """
        from gradood.bench._gate import read_expected

        if self.check is None:
            return None
        expected = read_expected(self.check)
        expected.check_suite(suite.name, suite.version)
        return expected

    def write(self, outcome: "Outcome", settings: "Settings") -> None:
        """Write the files, then print.

        Args:
            outcome: of a run.
            settings: it was made with.

        Raises:
            Unavailable: a file cannot be written; the record was printed instead.
        """
        from gradood.bench import write_openood_csv, write_results

        # Folders first: the files may go into them.
        for file in sorted(self.out, key=lambda file: not _is_folder(file)):
            try:
                with writing(file):
                    write_results(file, outcome.record, outcome.scores)
            except Unavailable:
                document(outcome.record.to_dict())  # Hours of work are not lost for want of a file.
                raise
            say(f"wrote {file}")
        if self.openood_csv is not None:
            with writing(self.openood_csv):
                files = write_openood_csv(self.openood_csv, outcome.record)
            say(f"wrote {len(files)} tables below {self.openood_csv}")
        self._print(outcome)
        if self.expect is not None:
            _write_expected(self.expect, outcome)
        if self.report is not None:
            _write_report(self.report, outcome, settings)

    def gate(self, outcome: "Outcome", expected: "ExpectedFigures | None") -> None:
        """End with exit code 1 if a figure left its interval; each is told on stderr.

        Raises:
            ConfigError: the run was of another suite, or of other sizes.
        """
        if expected is None:
            return
        misses = expected.check(outcome.record)
        for miss in misses:
            say(f"missed: {miss}")
        say(f"{len(misses)} of the figures expected in {self.check} were missed")
        if misses:
            raise typer.Exit(Exit.GATE_FAILED)

    def _print(self, outcome: "Outcome") -> None:
        from gradood.bench._tables import CAPTION, full_spectrum_parts, left_out_lines

        record = outcome.record
        several = len(record.runs) > 1
        for run in record.runs:
            if run.id_accuracy is not None:
                published = run.subject.published_accuracy
                before = (
                    f" (measured before with these weights: {published:.2%})" if published else ""
                )
                name = f"{run.run}: " if several else ""
                say(f"{name}accuracy on the ID data: {run.id_accuracy:.2%}{before}")
        if self.json:
            document(record.to_dict())
            return
        lines = [CAPTION, ""]
        for run in record.runs:
            lines += [run.run, ""] if several else []
            lines += [aligned(record.table(run)), ""]
            for title, own in full_spectrum_parts(run.full_spectrum):
                lines += [title, "", aligned(own), ""]
            lines += left_out_lines(run.left_out)
        data("\n".join(lines).rstrip())


def _check_out(file: Path) -> None:
    folder = _is_folder(file)
    if folder == (file.suffix in (".json", ".md")):
        raise ConfigError(
            f"--out {str(file)!r}; expected a name ending in .json or .md, or a folder."
        )
    if folder and file.exists() and not file.is_dir():
        raise ConfigError(
            f"--out {str(file)!r} is a file; expected a folder, or a name ending in .json or .md."
        )
    existing = next(each for each in (file, *file.parents) if each.exists())
    if folder and not existing.is_dir():
        raise ConfigError(
            f"--out {str(file)!r}: {str(existing)!r} is a file; expected a folder, which is made."
        )


def _is_folder(file: Path) -> bool:
    """Whether a target of results is a folder, which is made where there is none."""
    return file.is_dir() or not file.suffix


def _write_expected(file: Path, outcome: "Outcome") -> None:
    """The figures, as what later runs must reproduce."""
    from gradood.bench._gate import expected_of, write_expected

    with writing(file):
        write_expected(file, expected_of(outcome.record))
    say(f"wrote {file}")


def _write_report(file: Path, outcome: "Outcome", settings: "Settings") -> None:
    """The page, with images from where the sets are."""
    from gradood.report import Pictures, Report

    record = outcome.record
    suite = settings.suite
    images = Pictures.of(
        record, settings.root, folders=suite.image_folders, image_column=settings.image_column
    )
    for name, why in images.missing.items():
        say(f"no thumbnails of {name}: {why}")
    scores = {
        run: {
            name: {method: values.numpy() for method, values in methods.items()}
            for name, methods in sets.items()
        }
        for run, sets in outcome.scores.items()
    }
    with writing(file):
        twin = Report.of(record, scores, images).write(file)
    say(f"wrote {file} and {twin}")
