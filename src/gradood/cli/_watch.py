"""``gradood watch``."""

import json as json_format
import math
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer

from gradood.cli._exits import Exit
from gradood.cli._groups import argument, flag, option
from gradood.cli._options import Json
from gradood.cli._output import data, document_text, pairs, say, writing
from gradood.errors import ConfigError, DataError, ModelMismatchError

if TYPE_CHECKING:
    from gradood.artifact import Artifact
    from gradood.watch import Watch

__all__ = ["watch"]

_PIECE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class WatchFiles:
    """What a watch is of, and where it is kept."""

    detector: Annotated[Path, option("FILE", "The calibrated detector that scored the stream.")]
    state: Annotated[
        Path,
        option("FILE", "Where the watch is kept; begun if it does not exist, else gone on with."),
    ]


@dataclass(frozen=True, kw_only=True)
class WatchPromise:
    """What a new watch promises; one that is gone on with keeps its own."""

    PANEL: ClassVar[str] = "Promise (of a new watch)"

    alpha: Annotated[
        float | None,
        option("SHARE", "Probability that the alarm is ever false; 0.01 if not given."),
    ] = None
    rate: Annotated[
        float | None,
        option("N", "Items to a false warning, on average; 1,000,000 if not given."),
    ] = None
    mode: Annotated[
        str | None,
        option(
            "MODE",
            "marginal (if not given): soonest, over calibration and stream together; pac: of this "
            "very calibration, and nothing is learned from the stream.",
        ),
    ] = None
    statistic: Annotated[
        str | None,
        option("NAME", "The detector to watch, where several are not combined."),
    ] = None

    def given(self) -> dict[str, Any]:
        """The options that were given, by their names in `gradood.Watch`."""
        named = {
            "alpha": self.alpha,
            "rate": self.rate,
            "mode": self.mode,
            "detector": self.statistic,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class WatchActions:
    """What else is done with it."""

    group: Annotated[
        str | None,
        option(
            "COLUMN",
            "Column, or key, that names what an item belongs to, such as its request or video; "
            "items of one may be alike.",
        ),
    ] = None
    acknowledge: Annotated[
        str | None,
        option("REASON", "Take note of an alarm or a warning first; kept in the state."),
    ] = None
    restart: Annotated[
        bool, flag("Set the state that is there aside, under another name, and begin anew.")
    ] = False
    foresight: Annotated[
        float | None,
        option("SHARE", "Say how soon such a share of out-of-distribution items would be told."),
    ] = None


def watch(
    files: WatchFiles,
    promise: WatchPromise,
    actions: WatchActions,
    scores: Annotated[
        str | None,
        argument(
            "[SCORES]",
            "Folder that gradood score wrote, or JSON lines with a score (and a label) each: a "
            "file, or - for standard input. Left out, nothing is taken in.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Tell when a stream of scores is no longer like the calibration data.

    Exit code 1 while the alarm is raised: for a stream like the calibration data that ever happens
    with a probability of at most --alpha, however long it is. What was taken in is kept in --state
    after every file of results, or piece of the input; a run that was killed goes on from there,
    and no file of results counts twice. The model is not needed.
    """
    from gradood._io.lock import exclusive
    from gradood.artifact import read

    artifact = read(files.detector)
    folder = files.state.resolve().parent
    if not folder.is_dir():
        raise ConfigError(f"--state {str(files.state)!r} is in no folder; make the folder first.")
    # Who only looks waits for nobody, such as for a server that keeps the state.
    looks = scores is None and actions.acknowledge is None and not actions.restart
    looks = looks and files.state.exists()
    held = exclusive(folder, f".{files.state.resolve().name}.lock", of=files.state)
    with nullcontext() if looks else held:
        found = _opened(artifact, files, promise, restart=actions.restart)
        if actions.acknowledge is not None:
            found.acknowledge(actions.acknowledge)
        if not looks:
            _save(found, files.state)
        for message in _taken_in(found, scores, artifact, actions.group):
            _save(found, files.state)
            if message:
                say(message)
    foresight = None if actions.foresight is None else found.foresight(actions.foresight)
    if json:
        plain = {**found.to_dict(), "foresight": None if foresight is None else str(foresight)}
        data(document_text(plain))
    else:
        data(_lines(found, files.state, None if foresight is None else str(foresight)))
    if found.alarm:
        raise typer.Exit(Exit.GATE_FAILED)


def _opened(
    artifact: "Artifact", files: WatchFiles, promise: WatchPromise, *, restart: bool
) -> "Watch":
    """The watch that is there, or a new one."""
    import gradood
    from gradood._io.hashing import files_digest

    given = promise.given()
    if files.state.exists() and restart:
        old = files.state
        aside = old.with_name(f"{old.name}.{files_digest([old])[:12]}")
        with writing(aside):
            os.replace(old, aside)
        say(f"the state before is in {aside}")
    if not files.state.exists():
        return gradood.Watch(artifact, **given)
    found = gradood.Watch.load(files.state, artifact)
    names = {"detector": "statistic"}
    for name, value in given.items():
        kept = getattr(found.options, names.get(name, name))
        if kept != value:
            raise ConfigError(
                f"--{names.get(name, name)} is {value!r}, but {str(files.state)!r} was begun with "
                f"{kept!r}, and a promise is not changed on the way; leave it out, or --restart."
            )
    return found


def _taken_in(
    found: "Watch", scores: str | None, artifact: "Artifact", group: str | None
) -> Iterator[str]:
    """Take in all that is there; after each part, what happened in it, which may be nothing."""
    if scores is None:
        return
    parts = _lines_taken_in if scores == "-" or Path(scores).is_file() else _shards_taken_in
    before = (found.alarm, found.warnings)
    for _ in parts(found, scores, artifact, group):
        after = (found.alarm, found.warnings)
        what = "alarm" if after[0] > before[0] else "warning" if after[1] > before[1] else ""
        where = f" after {found.seen:,} items; the evidence began after {found.since:,}"
        yield f"{what}: scores are {found.direction} than before{where}" if what else ""
        before = after


def _shards_taken_in(
    found: "Watch", scores: str, artifact: "Artifact", group: str | None
) -> Iterator[None]:
    from gradood.batch import finished_shards

    expected = artifact.verified.sha256
    for shard in finished_shards(Path(scores)):
        others = shard.artifacts - {expected}
        if others:
            raise ModelMismatchError(
                f"{shard.name} was scored by another detector ({sorted(others)[0][:12]}…) than "
                f"--detector ({expected[:12]}…); give the one that scored it."
            )
        groups = None if group is None else [str(name) for name in shard.column(group)]
        found.update(shard.results(), groups=groups, source=shard.sha256[:16])
        yield


def _lines_taken_in(
    found: "Watch", scores: str, artifact: "Artifact", group: str | None
) -> Iterator[None]:
    """Whatever of the input has come, at once: a live stream is not waited for."""
    rest, number = b"", 0
    handle = sys.stdin.fileno() if scores == "-" else os.open(scores, os.O_RDONLY)
    try:
        while piece := os.read(handle, _PIECE):
            *lines, rest = (rest + piece).split(b"\n")
            if lines:
                _update(found, lines, number, group)
                number += len(lines)
                yield
        if rest.strip():
            _update(found, [rest], number, group)
            yield
    finally:
        if scores != "-":
            os.close(handle)


def _update(found: "Watch", lines: list[bytes], before: int, group: str | None) -> None:
    """Take in some lines of JSON, or none of them."""
    items = [
        _parsed(line, number, group)
        for number, line in enumerate(lines, start=before + 1)
        if line.strip()
    ]
    if not items:
        return
    labels = [item.get("label") for item in items]
    found.update(
        [item["score"] for item in items],
        labels=None if None in labels else labels,
        groups=None if group is None else [str(item[group]) for item in items],
    )


def _parsed(line: bytes, number: int, group: str | None) -> dict[str, Any]:
    try:
        item = json_format.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"line {number} is no JSON ({error}); expected one object each.") from error
    score = item.get("score", "") if isinstance(item, dict) else ""
    if not (score is None or type(score) in (int, float)):
        raise DataError(
            f"line {number} has no score; expected an object such as "
            '{"score": 1.5, "label": 3}, with null for a score that is not finite.'
        )
    label = item.get("label")
    if label is not None and type(label) is not int:
        raise DataError(f"line {number} has the label {label!r}; expected a whole number.")
    if group is not None and group not in item:
        raise DataError(f"line {number} has no {group!r}, which --group names.")
    if score is None:  # Nor is there a class then, as in what monitor.predict gives.
        return {**item, "score": math.inf, "label": -1 if label is None else label}
    try:
        return {**item, "score": float(score)}
    except OverflowError as error:
        raise DataError(f"line {number} has a score beyond any float; write null.") from error


def _save(found: "Watch", state: Path) -> None:
    with writing(state):
        found.save(state)


def _lines(found: "Watch", state: Path, foresight: str | None) -> str:
    options = found.options
    kept: Literal["alarm", "warning", "nothing"]
    kept = "alarm" if found.alarm else "warning" if found.warning else "nothing"
    what = {
        "alarm": "ALARM: the stream is not like the calibration data",
        "warning": "warning: the stream may have changed",
        "nothing": "no alarm",
    }[kept]
    lines = {
        "watch": what,
        "evidence": f"{found.evidence:.4g}, alarm at {found.level:.4g}",
        "promise": f"a false alarm ever with at most {100 * options.alpha:g} % ({options.mode}), "
        f"a false warning once in {options.rate:,.0f} items or less often",
        "statistic": options.statistic,
        "items": f"{found.seen:,}",
        "state": str(state),
    }
    if kept != "nothing":
        lines["since"] = f"item {found.since:,}, scores {found.direction} than before"
    if found.warnings:
        lines["warnings"] = f"{found.warnings:,}"
    if foresight is not None:
        lines["foresight"] = foresight
    return pairs(lines)
