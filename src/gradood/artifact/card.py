"""The model card of a saved detector, in Markdown, made from its manifest alone."""

from collections.abc import Iterator, Mapping
from typing import Any

from gradood.artifact.file import Verified
from gradood.artifact.manifest import DetectorRecord, Manifest
from gradood.artifact.rejection import described

__all__ = ["card"]

_CLASSES_SHOWN = 20


def card(verified: Verified, file: str = "detector.safetensors") -> str:
    """A model card: what the detector is, promises and assumes, and how to check it.

    Args:
        verified: of an intact artifact, from `check` or `read`.
        file: its name, for the commands shown.

    Returns:
        Markdown, ending in a newline.
    """
    manifest = verified.manifest
    sections = {
        "Model": _model(manifest),
        "Detectors": [line for d in manifest.detectors for line in _detector(d)],
        "Promise": _promise(manifest),
        "Guard": [f"- {_text(t)}" for t in described(manifest.guard)] if manifest.guard else [],
        "Data it was fitted on": _fit(manifest),
        "Preprocessing": _preprocess(manifest),
        "Limits": _limits(manifest),
        "Overrides": _overrides(manifest),
        "Notes": [f"- {_text(note)}" for note in manifest.notes],
        "How to verify and use it": _use(manifest, file),
        "Hashes": _hashes(verified),
    }
    lines = [f"# Out-of-distribution detector: {_text(file)}", "", *_summary(manifest)]
    for title, body in sections.items():
        if body:
            lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def _summary(manifest: Manifest) -> list[str]:
    names = ", ".join(f"`{_code(detector.name)}`" for detector in manifest.detectors)
    seeds = ", ".join(f"{_text(name)} {seed}" for name, seed in sorted(manifest.seeds.items()))
    return [
        f"Tells when the classifier below looks at an input unlike its training data, by {names}. "
        "Higher scores mean more out-of-distribution.",
        "",
        f"Made on {manifest.created} by gradood {_text(manifest.library)} with torch "
        f"{_text(manifest.torch)}; file format {manifest.format}"
        + (f"; seeds: {seeds}." if seeds else "."),
    ]


def _model(manifest: Manifest) -> list[str]:
    model = manifest.model
    shape = "×".join(map(str, model.input_shape)) or "scalar"
    layers = ", ".join(f"`{_code(name)}`" for name in model.layers)
    fingerprint = model.fingerprint
    lines = [
        f"- Class `{_code(model.kind)}`, {model.classes} classes",
        f"- Input: {shape}, {_text(model.input_dtype)}",
        f"- {len(fingerprint.tensors)} parameters and buffers, SHA-256 `{fingerprint.digest}`",
    ]
    if model.link is not None:
        lines.append(f"- Link of its outputs: {_text(model.link)}")
    if model.head is not None:
        lines.append(f"- Head: `{_code(model.head)}`")
    if layers:
        lines.append(f"- Layers read: {layers}")
    if (run := manifest.numerics) is not None:
        lines.append(
            f"- Run on {_text(run.device)}, autocast {run.autocast or 'off'}, float32 products "
            f"{_text(run.float32_matmul)}"
        )
    return [*lines, "", "The detector refuses any other model."]


def _detector(record: DetectorRecord) -> Iterator[str]:
    yield f"- **`{_code(record.name)}`** (method `{_code(record.method)}`): {_text(record.title)}"
    if record.options:
        options = ", ".join(f"{k} = {_value(v)}" for k, v in sorted(record.options.items()))
        yield f"  - Options: `{_code(options)}`"
    if record.paper:
        yield f"  - Paper: {_text(record.paper)}"


def _promise(manifest: Manifest) -> list[str]:
    if manifest.calibration is None:
        return [
            "**None.** The detector was not calibrated: it gives scores, but neither p-values nor "
            "decisions, and promises no false-alarm rate."
        ]
    found = dict(_records(manifest.calibration, ""))
    lines = [line for name, record in found.items() for line in _promised(name, record)]
    lines = lines or [f"- Calibrated: `{_code(_value(manifest.calibration))}`"]
    lines += _terms(manifest.calibration, found)
    if manifest.combine is not None:
        lines.append(_combined(manifest.combine, manifest.calibration))
    return [
        *lines,
        "",
        "It holds for inputs drawn as the calibration data were, and for no others: a shift that "
        "leaves inputs in-distribution still changes the false-alarm rate. It says nothing about "
        "how many out-of-distribution inputs are found.",
    ]


def _combined(how: str, calibration: Mapping[str, Any]) -> str:
    """How the detectors make one decision, and on how many samples of its own."""
    fusion = calibration.get("fusion")
    ranked = _amount(fusion.get("samples")) if isinstance(fusion, Mapping) else 0
    scale = f"; {ranked:,} further samples bring their scores to one scale" if ranked else ""
    return f"- The detectors are combined into one decision by `{_code(how)}`{scale}."


def _records(value: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Calibration records with a promise, at any depth, and the keys that lead there."""
    if not isinstance(value, Mapping):
        return
    promise = value.get("promise", value)
    if isinstance(promise, Mapping) and "fpr" in promise:
        yield name, {**value, **promise}
        return
    for key, inner in value.items():
        yield from _records(inner, name if key == "detectors" else f"{name} {key}".strip())


def _promised(name: str, record: Mapping[str, Any]) -> Iterator[str]:
    rate = f"{100 * record['fpr']:g} %" if _number(record["fpr"]) else _text(str(record["fpr"]))
    subject = f"`{_code(name)}`: at" if name else "At"
    confidence = record.get("confidence")
    if record.get("mode") == "pac" and isinstance(confidence, float):
        how = f"with {100 * confidence:g} % confidence over the draw of the calibration data (PAC)"
    elif record.get("mode") == "marginal":
        how = "on average over the draw of the calibration data (marginal)"
    else:
        how = f"mode {_text(str(record.get('mode', 'not stated')))}"
    samples = record.get("samples")
    count = f", from {samples:,} calibration samples" if isinstance(samples, int) else ""
    classes = ", within each predicted class" if record.get("per_class") is True else ""
    tolerance, infinite = (_amount(record.get(key)) for key in ("tolerance", "infinite"))
    ties = f"; scores that differ by at most {tolerance:.2g} count as equal" if tolerance else ""
    lost = ""
    if infinite:
        lost = f" ({infinite:,} of them without a finite score, as inputs that are always flagged)"
    yield f"- {subject} most {rate} false alarms, {how}{count}{lost}{classes}{ties}."


def _terms(calibration: Any, records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the promise covers and what not, where the records say so."""
    sharing = {tuple(shared): name for name, r in records.items() if (shared := _sharing(r))}
    for shared, name in sharing.items():
        listed = ", ".join(map(str, shared[:_CLASSES_SHOWN]))
        more = len(shared) - _CLASSES_SHOWN
        yield (
            f"- **Not within each class:** {f'for `{_code(name)}` ' if len(sharing) > 1 else ''}"
            f"classes {listed}{f' and {more} more' if more > 0 else ''} have too few calibration "
            "samples and share a threshold with each other and with classes never seen. The "
            "promise is on them together, and may be broken within one of them."
        )
    if any(
        name != "combined" and not _amount(record.get("tolerance"))
        for name, record in records.items()
    ):
        yield (
            "- Rounding is not allowed for: copies of one input may be decided differently in "
            "batches of another size or on another machine. A new calibration allows for it."
        )
    contents = calibration.get("contents") if isinstance(calibration, Mapping) else None
    if type(contents) is int and calibration.get("fewer_copies"):
        yield (
            f"- The calibration samples have {contents:,} distinct contents. The promise holds "
            "whether the copies among them are in the nature of the data or came about by sampling."
        )


def _sharing(record: Mapping[str, Any]) -> list[int]:
    """The classes that have no threshold of their own, ascending."""
    groups = record.get("groups")
    listed = groups if isinstance(groups, list) else []
    classes = [g.get("classes") for g in listed if isinstance(g, Mapping)]
    known = [c for c in classes if isinstance(c, list) and all(type(k) is int for k in c)]
    alone = {c[0] for c in known if len(c) == 1}
    return sorted({k for c in known for k in c if k >= 0} - alone)


def _fit(manifest: Manifest) -> list[str]:
    if manifest.fit is None:
        return ["None: these detectors learn nothing from data."]
    lines = [f"- {manifest.fit.samples:,} in-distribution samples"]
    counts = manifest.fit.class_counts
    if counts is None:
        return [*lines, "- without class labels"]
    if len(counts) <= _CLASSES_SHOWN:
        return [*lines, f"- per class: {', '.join(f'{count:,}' for count in counts)}"]
    empty = sum(count == 0 for count in counts)
    return [
        *lines,
        f"- {len(counts)} classes with {min(counts):,} to {max(counts):,} samples each"
        + (f", {empty} of them without any" if empty else ""),
    ]


def _preprocess(manifest: Manifest) -> list[str]:
    if manifest.preprocess is None:
        return [
            "Not recorded: the detector was given tensors. Inputs must be prepared as those it was "
            "fitted on."
        ]
    return [
        f"- {_text(key)}: `{_code(_value(value))}`"
        for key, value in sorted(manifest.preprocess.items())
    ]


def _limits(manifest: Manifest) -> list[str]:
    return [
        *(f"- `{_code(d.name)}`: {_text(d.fails_when)}" for d in manifest.detectors),
        "- An input with a NaN or infinity always counts as out-of-distribution.",
        "- It does not tell whether a prediction is right, and is no defense against inputs made "
        "to deceive it.",
        "- The promise assumes calibration images that the network was not trained on, which this "
        "file cannot show. Its hashes tell damage, and are no signature.",
    ]


def _overrides(manifest: Manifest) -> list[str]:
    lines = []
    for override in manifest.overrides:
        lines.append(f"- **{_text(override.what)}**, overridden because: {_text(override.reason)}")
        lines += [f"  - {_text(detail)}" for detail in override.details]
    return lines or ["None: no check was overridden."]


def _use(manifest: Manifest, file: str) -> list[str]:
    loaded, use = "monitor", "monitor.score(images)"
    if manifest.guard is not None:
        loaded, use = "guard", "labels = guard(images)  # -1 where out-of-distribution"
    elif manifest.calibration:
        use = "result = monitor.predict(images)"
    return [
        "```console",
        f"gradood verify {_code(file)}",
        "```",
        "",
        "```python",
        f"{loaded} = gradood.load({_code(file)!r}, model)  # refuses any other model",
        use,
        "```",
    ]


def _hashes(verified: Verified) -> list[str]:
    return [
        f"- File: `{verified.sha256}` ({verified.size:,} bytes)",
        f"- Manifest: `{verified.manifest_sha256}`",
        f"- Tensors: `{verified.payload_sha256}` ({len(verified.specs)} of them)",
        "",
        "They show damage, and are no signature: whoever can write the file can make them anew. "
        "Compare the file's hash with one that you got another way.",
    ]


def _amount(value: Any) -> float:
    """A number above 0; 0 for anything else."""
    return value if _number(value) and value > 0 else 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(value: Any) -> str:
    """Plain JSON, with the tags of `gradood.artifact.tensors.pack`, for people."""
    if isinstance(value, Mapping):
        if len(value) == 1:
            tag, inner = next(iter(value.items()))
            if tag == "$tuple":
                return _value(inner)
            if tag in ("$tensor", "$float"):
                return f"tensor {inner}" if tag == "$tensor" else str(inner)
        pairs = (f"{key} = {_value(inner)}" for key, inner in value.items())
        return f"({', '.join(pairs)})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return "none" if value is None else str(value)


def _text(value: str) -> str:
    """Free text in one line that Markdown and HTML take as it is."""
    line = _line(value)
    for character in "\\`*_[]<>|":
        line = line.replace(character, f"\\{character}")
    return line


def _code(value: str) -> str:
    """Free text inside code marks."""
    return _line(value).replace("`", "'")


def _line(value: str) -> str:
    """One line without control characters, which could steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())
