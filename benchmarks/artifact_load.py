"""What `gradood.load` answers to files that were changed and sealed again.

    python benchmarks/artifact_load.py [--mutants N] [--seed S] [--json]

Files of monitors with all methods, calibrated in several ways, are changed with knowledge of their
structure: values of the manifest, options, reads, calibration records, shapes, types and values of
tensors, names; one to three changes each, then hashes and seal are made right. Whatever is loaded
may be harmless; what is refused must be `ArtifactError` or `ModelMismatchError`, each within two
seconds and one gigabyte above what the process held. Where `/proc` allows, memory is the peak
resident size during each load. Exit code 1 if anything is not so.
"""

import argparse
import hashlib
import json
import math
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gradood
from gradood.artifact import Spec, card, check
from gradood.artifact.container import ITEM_SIZES
from gradood.errors import ArtifactError, GradoodError, GradoodWarning, ModelMismatchError

SECONDS, BYTES = 2.0, 2**30
GIVE_UP = 30
NUMBERS: list[Any] = [
    *(0, -1, 1, 2, 7, 255, 10**6, 10**9, 2**31, 2**40, 10**18, 2**63 - 1, 2**63, 2**64 - 1),
    *(-(2**63), 2**200, 0.0, -0.0, 0.5, 1.0, -1.5, 1e-320, 1e-9, 1e9, 1e308, -1e308),
    *({"$float": "inf"}, {"$float": "nan"}, {"$float": "-inf"}),
]
OTHERS: list[Any] = [
    *(None, True, False, "", "x", "energy", "knn", "a/b", "a\nb", "é", "x" * 5000),
    *([], {}, [[]], [0], [1, 2], list(range(3000)), [2**40, 2**40], [0, 2**63], {"a": 1}),
    *({"$tensor": "nothing"}, {"$tuple": []}, {"$tuple": [1, 2]}, {"$x": 1}, {"$tuple": 3}),
]
Parts = tuple[dict[str, Any], dict[str, tuple[Spec, bytes]]]
"""A manifest, and name → type, shape and bytes of each tensor."""


class Net(nn.Module):
    """A network that every method can read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, 3)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))


def net() -> nn.Module:
    """The network that all files are of."""
    torch.manual_seed(1)
    model = Net().eval()
    with torch.no_grad():
        logits = model(torch.randn(200, 3, 8, 8))
        model.fc.bias -= logits.mean(0)  # So that it predicts every class.
    return model


def originals(folder: Path, names: list[str] | None = None) -> list[Parts]:
    """Intact files of three detectors each, whose parts are to be changed.

    Args:
        folder: for the files.
        names: methods; None for all.
    """
    model, draw = net(), torch.Generator().manual_seed(0)
    fit, held, labels = *(torch.randn(n, 3, 8, 8, generator=draw) for n in (90, 120)), None
    labels = model(fit).argmax(1)
    methods = [method.name for method in gradood.methods()] if names is None else names
    ways: list[dict[str, Any]] = [{}, {"mode": "pac"}, {"per_class": True}, {"fpr": 0.2}]
    found: list[Parts] = []
    for place in range(0, len(methods), 3):
        some = methods[place : place + 3]
        how = ("fisher", "stouffer", None)[place // 3 % 3] if len(some) > 2 else None
        monitor = gradood.Monitor(model, some, combine=how, skip_unusable=True, progress=False)
        monitor.fit([(fit, labels)]).calibrate(held, **{"fpr": 0.1} | ways[place // 3 % 4])
        monitor.save(folder / "original.safetensors")
        found.append(taken_apart((folder / "original.safetensors").read_bytes()))
    return found


def taken_apart(raw: bytes) -> Parts:
    """Manifest and tensors of a file."""
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    manifest = json.loads(header.pop("__metadata__")["gradood"])
    arrays = {}
    for name, entry in header.items():
        begin, stop = entry["data_offsets"]
        spec = Spec(entry["dtype"], tuple(entry["shape"]))
        arrays[name] = (spec, raw[end + begin : end + stop])
    return manifest, arrays


def sealed(parts: Parts) -> bytes:
    """A file with right hashes: what whoever can write it can make, whatever gradood would check.

    Args:
        parts: manifest and tensors.
    """
    manifest, arrays = parts
    order = sorted(arrays, key=lambda name: (-ITEM_SIZES[arrays[name][0].dtype], name))
    payload = b"".join(arrays[name][1] for name in order)
    metadata = {
        "gradood": canonical(manifest),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "sha256": "0" * 64,
    }
    document: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in order:
        spec, data = arrays[name]
        begin, end = end, end + len(data)
        document[name] = {
            "data_offsets": [begin, end],
            "dtype": spec.dtype,
            "shape": list(spec.shape),
        }
    text = canonical(document).encode("ascii")
    text += b" " * (-len(text) % 8)
    raw = len(text).to_bytes(8, "little") + text
    seal = hashlib.sha256(raw).hexdigest().encode("ascii")
    return raw.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + seal) + payload


def canonical(plain: Any) -> str:
    """JSON as artifacts spell it."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


# -- changes ---------------------------------------------------------------------------------------


def mutant(parts: Parts, draw: random.Random) -> Parts:
    """A changed copy."""
    manifest, arrays = deepcopy(parts[0]), dict(parts[1])
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        # A change before may have left nothing that this one could change.
        with suppress(AttributeError, IndexError, KeyError, TypeError):
            draw.choice(CHANGES)(manifest, arrays, draw)
    return manifest, arrays


def value(draw: random.Random) -> Any:
    """Any plain value, mostly a number."""
    return deepcopy(draw.choice([*NUMBERS, *OTHERS]))


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in plain JSON."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(document, dict):
        pairs = list(document.items())
    elif isinstance(document, list):
        pairs = list(enumerate(document))
    for key, inner in pairs:
        yield document, key
        yield from places(inner)


def spoil(document: Any, draw: random.Random) -> None:
    """Change one place of plain JSON."""
    found = list(places(document))
    if not found:
        return
    owner, key = draw.choice(found)
    chance = draw.random()
    if chance < 0.1:
        del owner[key]
    elif chance < 0.2 and isinstance(owner, dict):
        owner[draw.choice(["x", "", "name", "k", "a/b", "a\nb"])] = owner.pop(key)
    elif chance < 0.3 and isinstance(owner, list):
        owner.append(deepcopy(owner[key]))
    elif chance < 0.35:
        deep: Any = []
        for _ in range(draw.choice([3, 20, 300])):
            deep = [deep]
        owner[key] = deep
    else:
        owner[key] = value(draw)


def change_options(manifest: dict[str, Any], arrays: Any, draw: random.Random) -> None:
    """An option of a detector."""
    options = draw.choice(manifest["detectors"])["options"]
    if options and draw.random() < 0.8:
        options[draw.choice(list(options))] = deepcopy(draw.choice(NUMBERS))
    else:
        spoil(options, draw)


def change_reads(manifest: dict[str, Any], arrays: Any, draw: random.Random) -> None:
    """What a detector reads."""
    one, other = (draw.choice(manifest["detectors"]) for _ in range(2))
    chance = draw.random()
    if chance < 0.2:
        one["reads"] = []
    elif chance < 0.4:
        one["reads"] = deepcopy(other["reads"])
    elif chance < 0.6 and one["reads"]:
        one["reads"].append(deepcopy(draw.choice(one["reads"])))
    else:
        spoil(one["reads"], draw)


def change_method(manifest: dict[str, Any], arrays: Any, draw: random.Random) -> None:
    """Another method under the same name, or its state given to another."""
    one, other = (draw.choice(manifest["detectors"]) for _ in range(2))
    key = draw.choice(["method", "state", "options", "name"])
    one[key], other[key] = other[key], one[key]


def change_state(manifest: dict[str, Any], arrays: Any, draw: random.Random) -> None:
    """The names of a state."""
    state = draw.choice(manifest["detectors"])["state"]
    if not state:
        return
    key = draw.choice(list(state))
    chance = draw.random()
    if chance < 0.4:
        arrays.pop(state.pop(key), None)
    elif chance < 0.6:
        state[key + "_x"] = state.pop(key)
    else:
        state[key] = draw.choice(sorted(arrays))


def change_record(manifest: dict[str, Any], arrays: Any, draw: random.Random) -> None:
    """The calibration's record, the fit's, the model's or the canary's."""
    part = draw.choice(["calibration", "calibration", "fit", "model", "canary", "numerics"])
    if isinstance(manifest.get(part), dict):
        spoil(manifest[part], draw)


def change_combination(manifest: dict[str, Any], arrays: Any, draw: random.Random) -> None:
    """How detectors are said to be combined."""
    manifest["combine"] = draw.choice(["fisher", "stouffer", "cauchy", "min", None, "x"])


def change_anything(manifest: dict[str, Any], arrays: Any, draw: random.Random) -> None:
    """A place of the manifest."""
    spoil(manifest, draw)


def change_shape(manifest: dict[str, Any], arrays: Any, draw: random.Random) -> None:
    """Another shape or type of the same bytes, or of none."""
    name = draw.choice(sorted(arrays))
    spec, data = arrays[name]
    chance = draw.random()
    if chance < 0.3:
        shape = draw.choice(
            [(0,), (0, 2**63), (0, 2**40, 2**40), (2**62, 0), (0, 2**31), (0, 8), (0,) * 32]
        )
        arrays[name] = (Spec(spec.dtype, shape), b"")
    elif chance < 0.6:
        count = math.prod(spec.shape)
        shape = draw.choice(
            [(count,), (1, count), (count, 1), (*spec.shape, 1), (1, *spec.shape), (1,) * 31]
        )
        if math.prod(shape) == count:
            arrays[name] = (Spec(spec.dtype, shape), data)
    elif chance < 0.8:
        dtype = draw.choice(sorted(ITEM_SIZES))
        width, count = ITEM_SIZES[dtype], math.prod(spec.shape)
        arrays[name] = (Spec(dtype, spec.shape), (data * 8)[: width * count])
    else:
        rows = draw.choice([1, 2, 1000, 100_000])
        side = draw.choice([1, 8, 3])
        count = rows * side * ITEM_SIZES[spec.dtype]
        arrays[name] = (Spec(spec.dtype, (rows, side)), draw.randbytes(count))


def change_values(manifest: dict[str, Any], arrays: Any, draw: random.Random) -> None:
    """Other numbers in a tensor."""
    name = draw.choice(sorted(arrays))
    spec, data = arrays[name]
    kinds = [bytes(len(data)), b"\xff" * len(data), draw.randbytes(len(data))]
    kinds.append((b"\xff\xff\xff\x7f" * len(data))[: len(data)])
    arrays[name] = (spec, draw.choice(kinds))


def change_names(manifest: dict[str, Any], arrays: Any, draw: random.Random) -> None:
    """Tensors swapped, lost or added."""
    one, other = (draw.choice(sorted(arrays)) for _ in range(2))
    chance = draw.random()
    if chance < 0.6:
        arrays[one], arrays[other] = arrays[other], arrays[one]
    elif chance < 0.8:
        del arrays[one]
    else:
        arrays[one + "/x"] = arrays[one]
        manifest["arrays"] = [*manifest["arrays"], one + "/x"]


CHANGES: tuple[Callable[[dict[str, Any], Any, random.Random], None], ...] = (
    *(change_options, change_options, change_reads, change_method, change_state, change_state),
    *(change_record, change_record, change_combination, change_anything, change_shape),
    *(change_shape, change_shape, change_values, change_names),
)


# -- monsters --------------------------------------------------------------------------------------


def monsters(parts: Parts) -> Iterator[tuple[str, Parts]]:
    """Files that are as large as the format allows in one respect, by what that is."""
    names = ["notes", "class counts", "hashes", "layers", "reads", "detectors", "overrides"]
    for name in names:
        manifest = deepcopy(parts[0])
        detector = manifest["detectors"][0]
        if name == "notes":
            manifest["notes"] = ["x"] * 900_000
        elif name == "class counts":
            manifest["fit"] = {"samples": 1, "class_counts": [2**62] * 500_000}
        elif name == "hashes":
            manifest["model"]["fingerprint"]["tensors"] |= {f"{i:x}": "" for i in range(300_000)}
        elif name == "layers":
            manifest["model"]["layers"] = ["fc"] * 900_000
        elif name == "reads":
            detector["reads"] = [{"read": "logits"} for _ in range(200_000)]
        elif name == "detectors":
            copies = [{**detector, "name": f"d{i}"} for i in range(10_000)]
            manifest["detectors"] = [*manifest["detectors"], *copies]
        else:
            override = {"what": "x", "reason": "x", "details": ["x"] * 10}
            manifest["overrides"] = [override] * 60_000
        yield name, (manifest, parts[1])
    manifest, arrays = deepcopy(parts[0]), dict(parts[1])
    arrays |= {f"x{i}": (Spec("F32", (0,)), b"") for i in range(30_000)}
    manifest["arrays"] = [*manifest["arrays"], *(f"x{i}" for i in range(30_000))]
    yield "tensors", (manifest, arrays)


# -- loading ---------------------------------------------------------------------------------------


def loaded(file: Path, model: nn.Module) -> str:
    """How a load ended, in a word."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GradoodWarning)
            gradood.load(file, model, progress=False)
    except (ArtifactError, ModelMismatchError) as error:
        return type(error).__name__
    except GradoodError as error:
        return f"other error: {type(error).__name__}: {error}"[:200]
    except Exception as error:
        return f"other error: {type(error).__name__}: {error}"[:200]
    return "harmless"


def shown(file: Path) -> str | None:
    """How the model card failed with another error than it may, or None."""
    try:
        card(check(file))
    except ArtifactError:
        return None
    except Exception as error:
        return f"other error: card: {type(error).__name__}: {error}"[:200]
    return None


def peak() -> int:
    """Bytes that were resident at most since the last call, or since the start of the process."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(
    count: int,
    seed: int,
    folder: Path,
    names: list[str] | None = None,
    *,
    large: bool = True,
) -> dict[str, Any]:
    """Load mutants; how they ended, the slowest, and the most memory above that before.

    Args:
        count: of mutants.
        seed: of the changes.
        folder: for files.
        names: methods; None for all.
        large: whether to load the `monsters` too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradoodWarning)
        whole = originals(folder, names)
    draw, model, file = random.Random(seed), net(), folder / "mutant.safetensors"
    for parts in whole:
        file.write_bytes(sealed(parts))
        assert loaded(file, model) == "harmless"
    found = Findings()
    for number in range(count):
        file.write_bytes(sealed(mutant(draw.choice(whole), draw)))
        found.note(f"mutant {number}", file, model)
    for name, parts in monsters(whole[0]) if large else ():
        file.write_bytes(sealed(parts))
        found.note(f"many {name}", file, model)
    return {"tried": count, **found.to_dict()}


class Findings:
    """How loads ended, the slowest, and the most memory above that before."""

    def __init__(self) -> None:
        self.ends = Counter[str]()
        self.slowest, self.largest = 0.0, 0
        self.beyond: list[str] = []

    def note(self, name: str, file: Path, model: nn.Module) -> None:
        """Load a file."""
        before = resident()
        peak()
        began = time.process_time()
        signal.alarm(GIVE_UP)
        end = loaded(file, model)
        signal.alarm(0)
        seconds, grown = time.process_time() - began, max(0, peak() - before)
        end = shown(file) or end
        self.slowest, self.largest = max(self.slowest, seconds), max(self.largest, grown)
        if seconds > SECONDS or grown > BYTES:
            self.beyond.append(f"{name}: {seconds:.1f} s, {grown / 2**20:.0f} MB, {end[:80]}")
        self.ends[end] += 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        others = {end: n for end, n in self.ends.items() if end.startswith("other error")}
        return {
            **{end: n for end, n in self.ends.items() if end not in others},
            "other errors": others,
            "slowest, seconds of the processor": round(self.slowest, 2),
            "most memory, MB": round(self.largest / 2**20),
            "beyond the limits": self.beyond,
        }


def resident() -> int:
    """Bytes resident now."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    except OSError:
        return 0


def main() -> int:
    """Print how the loads ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = fuzz(given.mutants, given.seed, Path(folder))
    if given.json:
        print(json.dumps(result, indent=2))
    else:
        for key, found in result.items():
            print(f"| {key} | {found} |")
    return 1 if result["other errors"] or result["beyond the limits"] else 0


if __name__ == "__main__":
    sys.exit(main())
