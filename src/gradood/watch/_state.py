"""State of a watch, and the sealed file that it is kept in."""

import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np

from gradood._io.atomic import replace
from gradood._io.canonical import encode, parse
from gradood._io.records import Expect, Rules, decode, to_plain
from gradood.errors import ArtifactError, ConfigError, DataError
from gradood.watch._evidence import Evidence
from gradood.watch._reference import Counts

__all__ = [
    "Acknowledgment",
    "Track",
    "WatchOptions",
    "WatchState",
    "acknowledged",
    "read_state",
    "write_state",
]

_FORMAT = 1
_RULES = Rules(error=ArtifactError, defaults=False)
_LARGEST = 64 * 2**20

Count = Annotated[int, Expect(lambda value: value >= 0, "a whole number from 0")]
Number = Annotated[float, Expect(lambda value: value >= 0, "a number from 0")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledgment:
    """An alarm or warning that was looked into.

    Attributes:
        what: ``"alarm"`` or ``"warning"``.
        raised: items seen when it was raised.
        seen: items seen when it was acknowledged.
        reason: what was found, in words.
    """

    what: Literal["alarm", "warning"]
    raised: Count
    seen: Count
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchOptions:
    """What a watch was made with.

    Attributes:
        statistic: name of the detector, or ``"combined"``.
        calibration: SHA-256 of its calibration.
        alpha: probability of a false alarm, however long the stream.
        rate: items per false warning.
        mode: ``"marginal"`` or ``"pac"``.
        seed: of ties and of places within cells.
    """

    statistic: str
    calibration: str
    alpha: Annotated[float, Expect(lambda value: 0 < value < 1, "a number between 0 and 1")]
    rate: Annotated[float, Expect(lambda value: value > 1, "a number above 1")]
    mode: Literal["marginal", "pac"]
    seed: Annotated[int, Expect(lambda value: 0 <= value < 2**64, "a number of 64 bits")]


@dataclass(frozen=True, eq=False, slots=True)
class Track:
    """What one rule knows of the stream.

    Attributes:
        counts: items in each cell; see `Reference`.
        evidence: capital of the bets.
    """

    counts: Counts
    evidence: Evidence


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class WatchState:
    """All that changes in a watch: one value, which is replaced as a whole.

    Attributes:
        tracks: of each rule.
        seen: items so far.
        steps: bets so far: items, or groups of them.
        begun: steps before the test began, or began anew.
        passed: items of a class or a group that says nothing.
        alarm: items seen when the alarm was raised; None while it is not.
        warning: likewise.
        warnings: how many warnings were raised so far.
        highest: the most evidence so far since the test began.
        recent: keys of the contents or groups seen last, in order.
        repeats: items whose content was among the recent, or whose group was.
        acknowledged: in order.
        sources: names of the files that were taken in.
    """

    tracks: tuple[Track, ...]
    seen: int = 0
    steps: int = 0
    begun: int = 0
    passed: int = 0
    alarm: int | None = None
    warning: int | None = None
    warnings: int = 0
    highest: float = 1.0
    recent: tuple[int, ...] = ()
    repeats: int = 0
    acknowledged: tuple[Acknowledgment, ...] = ()
    sources: tuple[str, ...] = ()


def acknowledged(state: WatchState, reason: str) -> WatchState:
    """The state after its alarm and warning were looked into; after an alarm the test begins anew.

    Args:
        state: with an alarm or a warning.
        reason: what was found.

    Raises:
        ConfigError: there is neither.
    """
    notes: list[Acknowledgment] = []
    if state.alarm is not None:
        notes.append(
            Acknowledgment(what="alarm", raised=state.alarm, seen=state.seen, reason=reason)
        )
    if state.warning is not None:
        notes.append(
            Acknowledgment(what="warning", raised=state.warning, seen=state.seen, reason=reason)
        )
    if not notes:
        raise ConfigError("there is no alarm and no warning to acknowledge.")
    after = changed(state, alarm=None, warning=None, acknowledged=(*state.acknowledged, *notes))
    if state.alarm is None:
        return after
    tracks = tuple(Track(t.counts, t.evidence.restarted(state.seen)) for t in state.tracks)
    return changed(after, tracks=tracks, begun=state.steps, highest=1.0)


# -- file ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _TrackRecord:
    counts: Mapping[str, tuple[Count, ...]]
    ever: tuple[Number, ...]
    rate: tuple[Number, ...]
    gains: tuple[Number, ...]
    began: tuple[Count, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    format: Literal[1]
    options: WatchOptions
    tracks: tuple[_TrackRecord, ...]
    seen: Count
    steps: Count
    begun: Count
    passed: Count
    alarm: Count | None
    warning: Count | None
    warnings: Count
    highest: Number
    recent: tuple[int, ...]
    repeats: Count
    acknowledged: tuple[Acknowledgment, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sealed:
    sha256: str
    watch: Mapping[str, Any]


def write_state(path: Path, options: WatchOptions, state: WatchState) -> None:
    """Write a state atomically.

    Raises:
        OSError: it cannot be written; what was there is unchanged.
    """
    others = {name: getattr(state, name) for name in WatchState.__slots__ if name != "tracks"}
    tracks = tuple(_track_record(track) for track in state.tracks)
    watch = to_plain(_Record(format=_FORMAT, options=options, tracks=tracks, **others))
    text = encode({"sha256": _seal(watch), "watch": watch}) + "\n"
    content = text.encode("ascii")

    def verify(file: BinaryIO) -> None:
        if file.read() != content:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    replace(path, [content], verify)


def read_state(path: Path) -> tuple[WatchOptions, WatchState]:
    """A state as it was written, to the last bit.

    Raises:
        DataError: there is no file.
        ArtifactError: it was cut short, changed, or is no such file.
    """
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= _LARGEST else b""
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(
            f"no state of a watch at {str(path)!r}; expected a file written by Watch.save."
        ) from error
    try:
        record = _parsed(raw)
    except ArtifactError as error:
        raise ArtifactError(
            f"{str(path)!r} is refused: {error} Restore a copy, or begin a new watch, whose "
            "promise begins anew."
        ) from error
    tracks = tuple(map(_track, record.tracks))
    others = {name: getattr(record, name) for name in WatchState.__slots__ if name != "tracks"}
    return record.options, WatchState(tracks=tracks, **others)


def _parsed(raw: bytes) -> _Record:
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise ArtifactError("it is no text of a watch.") from error
    if not text.endswith("\n"):
        raise ArtifactError("it was cut short, or is too large or empty.")
    sealed = decode(_Sealed, parse(text[:-1], "the state of a watch"), "", _RULES)
    if sealed.sha256 != _seal(sealed.watch):
        raise ArtifactError("it does not match its SHA-256; it was changed or damaged.")
    return decode(_Record, sealed.watch, "watch", _RULES)


def _seal(watch: Mapping[str, Any]) -> str:
    return hashlib.sha256(encode(watch).encode("ascii")).hexdigest()


def _track_record(track: Track) -> _TrackRecord:
    ever, rate = track.evidence.capital.tolist()
    return _TrackRecord(
        counts={str(number): tuple(row.tolist()) for number, row in track.counts.items()},
        ever=tuple(ever),
        rate=tuple(rate),
        gains=tuple(track.evidence.gains.tolist()),
        began=tuple(track.evidence.began.tolist()),
    )


def _track(record: _TrackRecord) -> Track:
    if not (len(record.ever) == len(record.rate) == len(record.gains) == len(record.began)):
        raise ArtifactError("the bets of the state are not complete; begin a new watch.")
    try:
        counts = {int(key): np.array(row, np.int64) for key, row in record.counts.items()}
    except ValueError as error:
        raise ArtifactError("a class of the state is no number; begin a new watch.") from error
    capital = np.array([record.ever, record.rate], np.float64)
    gains, began = np.array(record.gains, np.float64), np.array(record.began, np.int64)
    return Track(counts, Evidence(capital, gains, began))
