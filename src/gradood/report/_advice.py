"""Which method to use on this model, in plain words, and what to mind."""

from typing import Any

from gradood.report._views import Figure, RecordView, RunView, percent

__all__ = ["advice"]

_GOAL = "auroc"
_MISSED = "fpr_ood_at_tpr_id95"
_CHANCE = 0.5
_SHOWN = 6


def advice(view: RecordView, run: RunView) -> dict[str, Any]:
    """What a newcomer should take from the table of a run.

    The best and the cheapest are chosen by the mean AUROC over all sets among methods that share
    one pass; "not significantly worse" is what the record's paired comparisons say. Of two costs
    none is the lower if they differ by less than the noise of the timing.

    Returns:
        ``picks``: each a label, a method or None, and a text. ``mind``: each a kind, a method or
        None, and a text.
    """
    void = _void(run)
    order = [pair for pair in run.ordered(_GOAL, shared_only=True) if pair[0] not in void]
    if not order:
        none = "No method shares the pass over the images; see the table."
        if void:
            none = "None is recommended: the data lacks classes; see the warnings below."
        return {"picks": [_pick("Best overall", None, none)], "mind": _mind(view, run, None)}
    best = order[0][0]
    picks = [_pick("Best overall", best, _best_text(view, run, best)), _cheapest(run, best)]
    for group, label in (("near", "Outliers close to the known"), ("far", "Outliers far off")):
        ranked = [p for p in run.ordered(_GOAL, group, shared_only=True) if p[0] not in void]
        if ranked:
            picks.append(_pick(label, ranked[0][0], _group_text(view, run, group, best)))
    return {"picks": picks, "mind": _mind(view, run, best)}


def _void(run: RunView) -> set[str]:
    """Methods whose figures say nothing, as they rest on data that lacks classes."""
    stages = {given.stage for given in run.record.warnings or () if given.void}
    if stages - {"fit"}:
        return set(run.methods)
    return {name for name, method in run.methods.items() if method.fits} if stages else set()


def _pick(label: str, method: str | None, text: str) -> dict[str, Any]:
    return {"label": label, "method": method, "text": text}


def _best_text(view: RecordView, run: RunView, best: str) -> str:
    figures = run.means[best, "all"]
    count = len(view.sets)
    over = f"the mean over {count} sets" if count > 1 else f"on {view.sets[0].name}"
    text = f"AUROC {_with_interval(figures[_GOAL])}, {over}."
    if _MISSED in figures:
        text += (
            f" Where 95\N{NO-BREAK SPACE}% of the known images are kept, "
            f"{percent(figures[_MISSED][0])} of the outliers get through."
        )
    return text


def _cheapest(run: RunView, best: str) -> dict[str, Any]:
    """The cheapest of those that the comparisons do not tell from the best."""
    label, price, noise = "Cheapest that is as good", run.price(best), run.timing_noise()
    passed_over = {best, *_void(run)}
    ranked = run.ordered(_GOAL, shared_only=True)
    order = [method for method, _ in ranked if method not in passed_over]
    pairs = {m: run.pairs[_GOAL, "all", m, best] for m in order if _compared(run, m, best)}
    if not pairs and order:
        return _pick(label, None, "Not told: the record compares nothing with the best method.")
    prices = {m: cost for m in pairs if (cost := run.price(m)) is not None}
    if price is None or (order and not prices):
        return _pick(label, None, "Not told: the cost was not measured.")
    cheaper = [method for method, cost in prices.items() if cost * noise < price]
    equal = [method for method in cheaper if not pairs[method].significant]
    if equal:
        least = min(prices[method] for method in equal)
        chosen = next(method for method in equal if prices[method] <= least * noise)
        return _pick(label, chosen, _equal_text(run, chosen, best))
    text = f"It is the cheapest already, at {_times(price, noise)}."
    if any(cost < price for cost in prices.values()):
        text += f" Times that differ by less than a factor of {noise:.1f} are not told apart."
    if cheaper:
        near = cheaper[0]
        text = (
            f"Whatever costs less than its {_times(price, noise)} is significantly worse; the best "
            f"of those, {near}, by {_points(pairs[near].difference)} at "
            f"{_times(prices[near], noise)}."
        )
    return _pick(label, best, text)


def _compared(run: RunView, method: str, best: str) -> bool:
    return (_GOAL, "all", method, best) in run.pairs


def _equal_text(run: RunView, chosen: str, best: str) -> str:
    pair = run.pairs[_GOAL, "all", chosen, best]
    mine, its, noise = run.price(chosen), run.price(best), run.timing_noise()
    assert mine is not None and its is not None
    test = "paired test" if pair.p is None else f"paired test, Holm: p = {pair.p:.2g}"
    return (
        f"Costs {_times(mine, noise)} instead of {_times(its, noise)}. Its AUROC is "
        f"{_points(pair.difference)} below that of {best}, which is not significant ({test})."
    )


def _group_text(view: RecordView, run: RunView, group: str, best: str) -> str:
    ranked, void = run.ordered(_GOAL, group, shared_only=True), _void(run)
    chosen, value = next(pair for pair in ranked if pair[0] not in void)
    names = _listed([s.name for s in view.sets if s.group == group])
    text = f"AUROC {_with_interval(run.means[chosen, group][_GOAL])} ({names})."
    other = run.mean(best, _GOAL, group)
    if chosen == best:
        return f"{text} The best overall is the best here too."
    if other is None:
        return text
    pair = run.pairs.get((_GOAL, group, best, chosen))
    told = "" if pair is None else ", significantly" if pair.significant else ", not significantly"
    return f"{text} {best} is {_points(value - other)} below{told}."


def _mind(view: RecordView, run: RunView, best: str | None) -> list[dict[str, Any]]:
    found = [
        _note("warning", None, f"Warning ({given.stage}): {given.text}")
        for given in run.record.warnings or ()
    ]
    if best is not None:
        found += [*_own_pass(run, best), *_weakest(view, run, best)]
    found += [*_below_chance(run), *_accuracy(run), *_scope(view, run, best)]
    for method, facts in run.methods.items():
        found += [_note("caveat", method, text) for text in facts.caveats]
    left_out = run.record.left_out.items()
    return found + [_note("left out", method, why) for method, why in left_out]


def _note(kind: str, method: str | None, text: str) -> dict[str, Any]:
    return {"kind": kind, "method": method, "text": text}


def _own_pass(run: RunView, best: str) -> list[dict[str, Any]]:
    """The best of those that share no pass, if it is better than the one advised."""
    void = _void(run)
    top = next(pair for pair in run.ordered(_GOAL) if pair[0] not in void)
    value = run.mean(best, _GOAL)
    if value is None or top[0] == best or not top[1] > value:
        return []
    pair = run.pairs.get((_GOAL, "all", top[0], best))
    told = "" if pair is None else " (significant)" if pair.significant else " (not significant)"
    price = run.price(top[0])
    cost = "" if price is None else f", at {_times(price, run.timing_noise())}"
    text = f"is {_points(top[1] - value)} better{told}, but needs a pass of its own{cost}."
    return [_note("choice", top[0], text)]


def _weakest(view: RecordView, run: RunView, best: str) -> list[dict[str, Any]]:
    cells = {s.name: run.cells.get((best, s.name), {}) for s in view.sets}
    known = {name: figures for name, figures in cells.items() if _GOAL in figures}
    if len(known) < 2:
        return []
    name = min(known, key=lambda name: known[name][_GOAL][0])
    text = f"is weakest on {name}: AUROC {percent(known[name][_GOAL][0])}"
    if _MISSED in known[name]:
        text += f", and {percent(known[name][_MISSED][0])} of these outliers get through"
    return [_note("choice", best, f"{text}.")]


def _below_chance(run: RunView) -> list[dict[str, Any]]:
    """Methods that rank outliers below known images, by how many sets."""
    found: dict[str, list[str]] = {}
    for (method, name), figures in run.cells.items():
        if _GOAL in figures and figures[_GOAL][0] < _CHANCE:
            found.setdefault(method, []).append(f"{name} {percent(figures[_GOAL][0])}")
    if not found:
        return []
    parts = [f"{method} ({', '.join(sets)})" for method, sets in found.items()]
    rest = f", and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    text = f"Worse than guessing on some set: {', '.join(parts[:_SHOWN])}{rest}."
    return [_note("chance", None, text)]


def _accuracy(run: RunView) -> list[dict[str, Any]]:
    accuracy = run.record.id_accuracy
    published = run.record.subject.published_accuracy
    if accuracy is None:
        text = "The known images have no labels, so the accuracy of the network was not checked."
        return [_note("scope", None, text)]
    if published is not None and abs(accuracy - published) > 0.01:
        text = (
            f"The network gets {percent(accuracy)} of the known images right, where "
            f"{percent(published)} was measured before: check weights and preprocessing."
        )
        return [_note("scope", None, text)]
    return []


def _scope(view: RecordView, run: RunView, best: str | None) -> list[dict[str, Any]]:
    """How far the figures reach."""
    record, found = view.record, []
    seeds = view.over_runs(run, best).get("all", {}).get(_GOAL) if best is not None else None
    if seeds is not None and seeds.sd is not None:
        text = (
            f"{percent(seeds.mean)} ± {100 * seeds.sd:.1f} over {seeds.n} runs "
            "(standard deviation)."
        )
        found.append(_note("choice", best, text))
    elif len(view.runs) == 1:
        text = (
            "One network was tested. The intervals are those of the images; another training "
            "seed may change the order."
        )
        found.append(_note("scope", None, text))
    if record.suite.checked is False:
        text = "The files were not checked against the hashes of the suite."
        found.append(_note("scope", None, text))
    text = (
        "These sets stand for outliers you may meet, not for all of them. Before use, calibrate "
        "the threshold on held-out known images of your own (gradood calibrate)."
    )
    return [*found, _note("scope", None, text)]


def _with_interval(figure: Figure) -> str:
    value, low, high = figure
    if low is None or high is None:
        return percent(value)
    return f"{percent(value)} ({100 * low:.1f}\N{EN DASH}{100 * high:.1f})"


def _points(difference: float) -> str:
    """The size of a difference."""
    size = f"{abs(100 * difference):.1f}"
    return "less than 0.1 points" if size == "0.0" else f"{size} points"


def _times(price: float, noise: float) -> str:
    told = "about 1" if price <= noise else f"{price:.2f}"
    return f"{told} times the plain forward pass"


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
