"""A stream of scores, watched with a promise about false alarms however long it is."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from gradood.watch._bets import bet_weights
from gradood.watch._evidence import Evidence, totals
from gradood.watch._foresight import Foresight, foreseen
from gradood.watch._opening import (
    check_fits,
    check_options,
    check_text,
    rule_of,
    statistic_of,
    warn_of_repeats,
    warn_of_ties,
)
from gradood.watch._reference import Reference
from gradood.watch._state import (
    Track,
    WatchOptions,
    WatchState,
    acknowledged,
    read_state,
    write_state,
)
from gradood.watch._statistic import Statistic
from gradood.watch._steps import Alarms, follow, group_keys, one_at_a_time

__all__ = ["Watch"]

_LIVE = (
    *("alarm", "warning", "evidence", "level", "recent_evidence", "since", "direction"),
    *("seen", "warnings"),
)
_COUNTED = ("steps", "passed", "repeats", "highest")
_CHOSEN = ("statistic", "mode", "alpha", "rate", "calibration")


class Watch:
    """Tells when a stream of inputs is no longer like the calibration data.

    Two alarms are raised over the same bets on conformal p-values. `alarm`: the probability that it
    is ever raised for a stream like the calibration data is at most `alpha`, however long the
    stream is and whenever one looks. `warning`: sooner, and false once in `rate` items at most, on
    average. docs/adr/0046 proves both, for any distribution of scores, ties included, if items are
    exchangeable with the calibration samples, or if groups of them are independent.

    A stream has one statistic: the one detector's, or the combination's. Threads may share a watch.

    Args:
        monitor: calibrated: a `gradood.Monitor`, a `gradood.Guard`, or the file of one, saved or
            not. The model is not needed.
        alpha: probability of a false alarm.
        rate: mean number of items to a false warning, at least.
        mode: ``"marginal"``: exact over calibration data and stream together; items join the
            calibration samples, so that a small set suffices, and falling scores are told as well.
            ``"pac"``: given this very calibration set, with probability 1 − alpha/2 over it;
            nothing is learned, so that a slow change is never absorbed. Slower to tell.
        detector: the one to watch, where several are not combined.
        seed: of ties and of places within cells; a whole number from 0.

    Raises:
        CalibrationError: the monitor is not calibrated.
        ConfigError: an option is out of range, or several detectors are not combined.
        UnknownNameError: no detector of that name.

    Warns:
        UninformativeScoreWarning: more than half of all calibration scores are equal.

    Cost:
        Some 20 µs per item in updates of many, 100 µs in updates of one; a few kilobytes of state
        however long the stream.

    >>> import torch, gradood
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    >>> images = torch.randn(400, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    >>> monitor = gradood.Monitor(model, "max-logit").calibrate(images[:200])
    >>> watch = gradood.Watch(monitor)
    >>> watch.update(monitor.predict(images[200:])).alarm
    False
    """

    def __init__(
        self,
        monitor: Any,
        *,
        alpha: float = 0.01,
        rate: float = 1_000_000,
        mode: Literal["marginal", "pac"] = "marginal",
        detector: str | None = None,
        seed: int = 0,
    ) -> None:
        check_options(alpha, rate, mode, seed)
        statistic = Statistic.of(rule_of(monitor), detector)
        options = WatchOptions(
            statistic=statistic.name,
            calibration=statistic.digest(),
            alpha=float(alpha),
            rate=float(rate),
            mode=mode,
            seed=int(seed),
        )
        self._begin(statistic, options)
        falling = mode == "marginal"
        tracks = tuple(Track(r.begin(), Evidence.begin(falling)) for r in self._references)
        self._state = WatchState(tracks=tracks)
        warn_of_ties(statistic.calibrations[0])

    def _begin(self, statistic: Statistic, options: WatchOptions) -> None:
        self._statistic, self._options = statistic, options
        alpha, exact = options.alpha, options.mode == "marginal"
        risk = None if exact else alpha / 2
        self._references = tuple(
            Reference.of(calibration, options.seed, risk) for calibration in statistic.calibrations
        )
        level = 1 / alpha if exact else 1 / (alpha - alpha / 2)
        self._alarms = Alarms(level, options.rate, exact)
        self._warned = False

    def __repr__(self) -> str:
        state = "alarm" if self.alarm else "warning" if self.warning else "no alarm"
        return (
            f"Watch({self._options.statistic}, {self._options.mode}: {state} after {self.seen:,} "
            f"items; evidence {self.evidence:.3g}, alarm at {self.level:.3g})"
        )

    # -- what is known ------------------------------------------------------------------------

    @property
    def alarm(self) -> bool:
        """Whether evidence reached `level`; stays until `acknowledge`."""
        return self._state.alarm is not None

    @property
    def warning(self) -> bool:
        """Whether a warning was raised; stays until `acknowledge`."""
        return self._state.warning is not None

    @property
    def warnings(self) -> int:
        """How many warnings were raised so far, each with its evidence begun anew."""
        return self._state.warnings

    @property
    def evidence(self) -> float:
        """M, a martingale from 1 while the stream is like the calibration data."""
        return min(totals[0] for totals in self._totals())

    @property
    def level(self) -> float:
        """The evidence at which the alarm is raised."""
        return self._alarms.level

    @property
    def recent_evidence(self) -> float:
        """R, whose mean grows by 1 with each item; the warning is raised at `rate`."""
        return min(totals[1] for totals in self._totals())

    @property
    def since(self) -> int:
        """Items seen before the evidence began: when the leading bet last had lost."""
        return self._state.tracks[0].evidence.since

    @property
    def direction(self) -> Literal["higher", "lower"]:
        """Whether the leading bet is on higher scores than before, or on lower ones."""
        return "higher" if self._state.tracks[0].evidence.rising else "lower"

    @property
    def seen(self) -> int:
        """Items so far."""
        return self._state.seen

    @property
    def options(self) -> WatchOptions:
        """What the watch was made with."""
        return self._options

    def to_dict(self) -> dict[str, Any]:
        """All of this in plain values, and the acknowledgments with their reasons, in order."""
        options, state = self._options, self._state
        live = {name: getattr(self, name) for name in _LIVE}
        counted = {name: getattr(state, name) for name in _COUNTED}
        chosen = {name: getattr(options, name) for name in _CHOSEN}
        samples = self._statistic.calibrations[0].samples
        notes = [asdict(note) for note in state.acknowledged]
        return {**live, **counted, **chosen, "samples": samples, "acknowledged": notes}

    # -- what changes it ----------------------------------------------------------------------

    @one_at_a_time
    def update(
        self, given: Any, *, groups: Any = None, labels: Any = None, source: str | None = None
    ) -> "Watch":
        """Take in some items, in their order; the same whether at once or one after another.

        Args:
            given: the `Result` or `Results` of the monitor, or (N,) bare scores; NaN and +inf are
                the most extreme there are.
            groups: (N,) the request or video of each item, a text or a whole number that names
                nothing else; items of one may be alike. In marginal mode one of them, at random,
                stands for the group; in PAC mode their bets are averaged. What comes of one of the
                last 64 groups in a later call is passed over.
            labels: (N,) predicted classes of bare scores, where the calibration is per class. Items
                of a class without calibration samples are passed over.
            source: name of the file that all of this is from; one taken in before is not again.

        Returns:
            This watch; as it was before if an error is raised.

        Raises:
            DataError: of another monitor, statistic or calibration, or of a wrong shape.
            ConfigError: labels are missing.

        Warns:
            RepeatedContentWarning: many items repeat one another, and no groups were given.
        """
        source = None if source is None else check_text(source, "source", "the name of a file")
        if source is not None and source in self._state.sources:
            return self
        items = self._statistic.items(given, labels, least=self._options.mode == "pac")
        keys = None if groups is None else group_keys(groups, len(items))
        state = follow(self._state, self._references, items, keys, self._alarms)
        if source is not None:
            state = replace(state, sources=(*state.sources, source))
        self._warned = self._warned or warn_of_repeats(state, grouped=groups is not None)
        self._state = state
        return self

    @one_at_a_time
    def acknowledge(self, reason: str) -> "Watch":
        """Take note of an alarm or a warning, which the file keeps; an alarm's test begins anew.

        Args:
            reason: what was found, in words.

        Raises:
            ConfigError: there is no reason, or nothing to acknowledge.
        """
        words = check_text(reason, "reason", "what was found, in words")
        self._state = acknowledged(self._state, words)
        return self

    def foresight(
        self, share: float = 0.05, *, scores: Any = None, horizon: int = 20_000
    ) -> Foresight:
        """How many items a share of out-of-distribution ones would take to raise the alarm.

        Simulated from the first item on, with 200 calibration sets of this size; per class, as if
        classes were one.

        Args:
            share: of items, above 0 and at most 1.
            scores: (m,) of out-of-distribution examples; None for some that score above all others,
                which nothing can beat.
            horizon: items to simulate.

        Raises:
            ConfigError: an option is out of range.

        Cost:
            0.2 ms for each item simulated.
        """
        calibration = replace(self._statistic.calibrations[0], classes=None)
        reference = Reference.of(calibration, self._options.seed, self._references[0].risk)
        return foreseen(reference, self._alarms, share, scores, horizon)

    # -- file ---------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the state, sealed by its SHA-256 and bound to the calibration, atomically.

        Args:
            path: a JSON file; replaced if it exists.

        Raises:
            OSError: what was there is unchanged.
        """
        write_state(Path(path), self._options, self._state)

    @staticmethod
    def load(path: str | os.PathLike[str], monitor: Any) -> "Watch":
        """A saved watch, which goes on to the last bit as if it had never stopped.

        Args:
            path: written by `save`.
            monitor: the one that it was made of, with the same calibration, or its file.

        Raises:
            DataError: there is no file.
            ArtifactError: it was cut short or changed.
            ModelMismatchError: the monitor has another calibration.
        """
        options, state = read_state(Path(path))
        statistic = statistic_of(options, rule_of(monitor), str(path))
        made = object.__new__(Watch)
        made._begin(statistic, options)
        check_fits(state, made._references, len(bet_weights(made._alarms.falling)))
        made._state = state
        return made

    def _totals(self) -> list[tuple[float, float]]:
        step, weights = self._state.steps - self._state.begun, bet_weights(self._alarms.falling)
        found = [totals(t.evidence.capital, weights, step) for t in self._state.tracks]
        return [(float(ever), float(rate)) for ever, rate in found]
