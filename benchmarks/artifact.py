"""What happens to saved detectors: damage, malice, kills and a full disk.

    python benchmarks/artifact.py [--flips N] [--mutants N] [--kills N] [--folder F] [--json]

- truncated: a small artifact, cut at every length; none may be read
- flipped: one random bit each, all bits equally likely; none may be read
- mutants: random changes, most of them sealed again with right hashes; each is read, and turned
  into tensors if that succeeds, under an audit hook that reports all but opening files to read. A
  mutant may be refused with a typed error or be harmless, nothing else
- killed: a process is killed (-9) at a random point of a save over a good file; afterwards the file
  must be whole, old or new
- full disk: a save that does not fit on a small tmpfs; the old file must stay (needs root to mount)

Exit code 1 if anything is not as it must be. Needs no torch, except for the mutants.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradood.artifact import (
    CanaryRecord,
    DetectorRecord,
    Fingerprint,
    FitSummary,
    Manifest,
    ModelRecord,
    Override,
    Spec,
    Stored,
    check,
    read,
    write,
)
from gradood.errors import ArtifactError

PICKLE = b"cos\nsystem\n(S'touch owned'\ntR."
EVIL: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**63, -(2**63), 0.5, "", "\u0000", "a", [], {}, [[]], [None]),
    *("os.system", "__import__('os').system('true')", "torch.nn.Linear", "../../x", "$(id)"),
    *("F32", "I64", "F4", "BOOL", [1], [-1], [2**62, 4], [0], [True], {"a": 1}, {"__class__": "x"}),
    *(
        {"py/object": "os.system"},
        {"$tensor": "nothing"},
        {"$float": "inf"},
        "é\U0001f600",
        "0" * 64,
    ),
    PICKLE.decode("ascii"),
]


def sample(seed: int = 0, size: int = 64) -> tuple[Manifest, dict[str, Stored]]:
    """A manifest with every record in it, and tensors for it.

    Args:
        seed: of the tensors' bytes.
        size: numbers in the largest tensor.
    """
    random_bytes = random.Random(seed).randbytes
    arrays = {
        "detectors/knn/unit": Stored(Spec("F32", (size, 1)), random_bytes(4 * size)),
        "detectors/knn/seen": Stored(Spec("BOOL", (3,)), b"\0\1\0"),
        "detectors/knn/empty": Stored(Spec("BF16", (0, 2)), b""),
        "calibration/scores": Stored(Spec("F64", (4,)), bytes(32)),
        "canary/inputs": Stored(Spec("F32", (8, 2)), random_bytes(64)),
        "canary/logits": Stored(Spec("F32", (8, 2)), bytes(64)),
        "canary/scores/knn": Stored(Spec("F64", (8,)), bytes(64)),
    }
    manifest = Manifest(
        torch="2.13.0",
        created="2026-11-21T13:00:00Z",
        bare=False,
        detectors=(
            DetectorRecord(
                name="knn",
                method="knn",
                options={"k": 1, "share": 0.5, "layers": ["a", {"b": None}]},
                reads=("features", {"site": "fc", "part": "input"}),
                state={
                    "unit": "detectors/knn/unit",
                    "seen": "detectors/knn/seen",
                    "empty": "detectors/knn/empty",
                },
                title="Distance to the k-th nearest fit feature.",
                paper="Sun et al. 2022. Out-of-Distribution Detection with Deep Nearest Neighbors.",
                fails_when="The features are few.",
            ),
        ),
        combine="fisher",
        model=ModelRecord(
            kind="MLP",
            layers=("fc",),
            head="fc",
            classes=2,
            input_shape=(2,),
            input_dtype="float32",
            fingerprint=Fingerprint(
                digest=hashlib.sha256(b"model").hexdigest(),
                tensors={"fc.weight": f"float32[2,2] {'0f' * 16}"},
                modules={"": {"class": "MLP"}, "fc": {"class": "Linear", "in_features": 2}},
            ),
        ),
        preprocess={"mode": "RGB", "resize": 32, "crop": None, "mean": [0.5, 0.25, 0.125]},
        calibration={
            "knn": {
                "promise": {"fpr": 0.05, "mode": "pac", "confidence": 0.95},
                "samples": 59,
                "per_class": False,
            }
        },
        fit=FitSummary(samples=60, class_counts=(29, 31)),
        seeds={"canary": 0},
        overrides=(Override(what="model mismatch", reason="a test", details=("fc differs",)),),
        notes=("made up",),
        canary=CanaryRecord(
            seed=0,
            inputs="canary/inputs",
            logits="canary/logits",
            scores={"knn": "canary/scores/knn"},
            torch="2.13.0",
            device="cpu",
            precision="float32",
        ),
        arrays=("calibration/scores",),
    )
    return manifest, arrays


# -- damage ----------------------------------------------------------------------------------------


def refused(file: Path, content: bytes) -> bool:
    """Whether these bytes are refused with the error for it."""
    file.write_bytes(content)
    try:
        read(file)
    except ArtifactError:
        return True
    return False


def truncations(folder: Path) -> dict[str, int]:
    """Every shorter length of a small artifact."""
    file = folder / "truncated.safetensors"
    write(file, *sample())
    whole = file.read_bytes()
    accepted = sum(not refused(file, whole[:length]) for length in range(len(whole)))
    return {"tried": len(whole), "accepted": accepted}


def flips(folder: Path, count: int) -> dict[str, int]:
    """Single-bit flips, all different."""
    file = folder / "flipped.safetensors"
    write(file, *sample())
    whole = file.read_bytes()
    accepted = 0
    chosen = random.Random(1).sample(range(8 * len(whole)), min(count, 8 * len(whole)))
    for bit in chosen:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        accepted += not refused(file, bytes(content))
    return {"tried": len(chosen), "accepted": accepted}


# -- malice ----------------------------------------------------------------------------------------


def sealed(document: dict[str, Any], payload: bytes, *, spaces: int | None = None) -> bytes:
    """A file with right hashes around any header: what an attacker can make.

    Args:
        document: the header; its hashes are filled in, if it has room for them.
        payload: what follows.
        spaces: after the header; None for as many as belong there.
    """
    metadata = document.get("__metadata__")
    if isinstance(metadata, dict):
        metadata = {**metadata, "sha256": "0" * 64}
        if "payload_sha256" in metadata:
            metadata["payload_sha256"] = hashlib.sha256(payload).hexdigest()
        document = {**document, "__metadata__": metadata}
    text = canonical(document).encode("ascii")
    text += b" " * (-len(text) % 8 if spaces is None else spaces)
    raw = len(text).to_bytes(8, "little") + text
    seal = hashlib.sha256(raw).hexdigest()
    return raw.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + seal.encode("ascii")) + payload


def opened(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, manifest and payload of an artifact."""
    end = 8 + int.from_bytes(content[:8], "little")
    document = json.loads(content[8:end])
    return document, json.loads(document["__metadata__"]["gradood"]), content[end:]


def canonical(value: Any) -> str:
    """JSON as artifacts spell it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def mutant(whole: bytes, draw: random.Random) -> bytes:
    """A changed artifact; three of four have right hashes."""
    if draw.random() < 0.25:
        return spliced(whole, draw)
    document, manifest, payload = opened(whole)
    if draw.random() < 0.6:
        for _ in range(draw.randint(1, 3)):
            manifest = altered(manifest, draw)
        document["__metadata__"]["gradood"] = canonical(manifest)
    elif draw.random() < 0.7:
        document = altered(document, draw)
    else:
        payload = draw.choice([PICKLE + payload[len(PICKLE) :], draw.randbytes(len(payload)), b""])
    if not isinstance(document, dict):
        document = {"__metadata__": document}
    return sealed(document, payload, spaces=draw.choice([None, None, None, 0, 8]))


def spliced(whole: bytes, draw: random.Random) -> bytes:
    """Bytes cut out, put in, written over or repeated."""
    begin = draw.randrange(len(whole))
    end = min(len(whole), begin + draw.choice([1, 2, 8, 64, 512]))
    between = draw.choice([b"", PICKLE, draw.randbytes(end - begin), whole[begin:end] * 2])
    return whole[:begin] + between + whole[end:]


def altered(value: Any, draw: random.Random) -> Any:
    """Plain JSON with one place in it replaced, removed, added or moved."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        out = dict(value)
        if draw.random() < 0.12:
            del out[key]
        elif draw.random() < 0.12:
            out[draw.choice(["__reduce__", "class", "module", "x", "__metadata__", ""])] = out[key]
        else:
            out[key] = altered(out[key], draw)
        return out
    if isinstance(value, list) and value and draw.random() < 0.85:
        place = draw.randrange(len(value))
        return [*value[:place], altered(value[place], draw), *value[place + 1 :]]
    deep: Any = []
    for _ in range(draw.choice([3, 30, 300])):
        deep = [deep]
    return draw.choice([*EVIL, *EVIL, deep, "x" * 10_000, list(range(3000))])


def mutants(folder: Path, count: int) -> dict[str, Any]:
    """Read mutants under an audit hook, in a process of its own as a hook stays for good."""
    command = [sys.executable, __file__, "--child-mutants", str(count), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the process with the mutants failed: {done.stderr}")
    return json.loads(done.stdout)


def read_mutants(folder: Path, count: int) -> dict[str, Any]:
    """Read `count` mutants; what the audit hook saw, and how each read ended."""
    from gradood.artifact.tensors import to_torch

    file = folder / "mutant.safetensors"
    write(file, *sample())
    whole = file.read_bytes()
    armed = False
    seen: Counter[str] = Counter()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if armed and not harmless(event, arguments):
            seen[f"{event} {arguments!r:.100}"] += 1

    def load() -> str:
        try:
            for stored in read(file).arrays.values():
                to_torch(stored)
        except ArtifactError:
            return "refused"
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:200]
        return "harmless"

    assert load() == "harmless"  # Whatever is imported on first use has been, now.
    sys.addaudithook(hook)
    draw = random.Random(2)
    ends: Counter[str] = Counter()
    for _ in range(count):
        file.write_bytes(mutant(whole, draw))
        armed = True
        end = load()
        armed = False
        ends[end] += 1
    file.unlink()
    expected = {key: ends.pop(key, 0) for key in ("refused", "harmless")}
    return {"tried": count, **expected, "other errors": dict(ends), "events": dict(seen)}


def harmless(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event is the opening of a file to read it."""
    if event != "open":
        return False
    _, mode, flags = arguments
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    return (mode is None or set(mode) <= set("rb")) and not flags & writing


# -- interruption ----------------------------------------------------------------------------------


def kills(folder: Path, count: int) -> dict[str, Any]:
    """Kill a process at a random point of a save over a good file, again and again."""
    target = folder / "killed.safetensors"
    saves = [sample(seed, 400_000) for seed in range(2)]
    seals = [write(folder / "other.safetensors", *save).sha256 for save in saves]
    begin = time.perf_counter()
    for save in saves * 3:
        write(target, *save)
    duration = (time.perf_counter() - begin) / 6
    (folder / "other.safetensors").unlink()
    draw = random.Random(3)
    current, ends, lost, midway = 1, Counter[str](), 0, 0
    for _ in range(count):
        new = 1 - current
        kill_during(lambda new=new: write(target, *saves[new]), 2 * duration * draw.random())
        midway += leftovers(folder)  # The next save removes them.
        try:
            found = seals.index(check(target).sha256)
        except (ArtifactError, OSError, ValueError):
            lost += 1
            write(target, *saves[current])
            continue
        ends["new" if found == new else "old"] += 1
        current = found
    write(target, *saves[0])
    return {
        "tried": count,
        "lost": lost,
        "old file found": ends["old"],
        "new file found": ends["new"],
        "killed while writing": midway,
        "temporary files after the next save": leftovers(folder),
    }


def kill_during(action: Callable[[], object], delay: float) -> None:
    """Run an action in a process of its own, and kill that `delay` seconds after it began."""
    started, start = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(start, b"!")
        try:
            action()
        finally:
            os._exit(0)
    os.read(started, 1)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(started)
    os.close(start)


def leftovers(folder: Path) -> int:
    """How many temporary files there are."""
    return len([name for name in os.listdir(folder) if name.endswith(".tmp")])


def full_disk(folder: Path) -> dict[str, Any]:
    """A save that does not fit, on a tmpfs of one megabyte."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        return {"skipped": "mounting a tmpfs needs root"}
    place = folder / "small"
    place.mkdir()
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if made.returncode:
        return {"skipped": f"a tmpfs cannot be mounted: {made.stderr.strip()}"}
    try:
        return fill(place / "full.safetensors")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(target: Path) -> dict[str, Any]:
    """Save what fits, then what does not, then again what fits."""
    last = write(target, *sample(0, 50_000)).sha256
    refusals: Counter[str] = Counter()
    lost = tried = 0
    for size in (150_000, 208_000, 212_000, 216_000, 240_000, 300_000, 2_000_000):
        tried += 1
        try:
            last = write(target, *sample(size, size)).sha256
        except OSError as error:
            refusals[str(error).replace(str(target), "…")] += 1
        lost += check(target).sha256 != last
    left = leftovers(target.parent)
    write(target, *sample(2, 50_000))
    return {"tried": tried, "refused": dict(refusals), "lost": lost, "temporary files": left}


# -- table -----------------------------------------------------------------------------------------


def good(results: dict[str, dict[str, Any]]) -> bool:
    """Whether all is as it must be."""
    harmful = [row.get(key) for row in results.values() for key in ("accepted", "lost")]
    mutated, killed, full = (results.get(k, {}) for k in ("mutants", "killed", "full disk"))
    return (
        not any(harmful)
        and not mutated.get("other errors")
        and not mutated.get("events")
        and not killed.get("temporary files after the next save")
        and ("skipped" in full or not full or 0 < sum(full["refused"].values()) < full["tried"])
        and not full.get("temporary files")
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where to save; a temporary one by default")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child-mutants", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child_mutants is not None:
        print(json.dumps(read_mutants(given.folder, given.child_mutants)))
        return 0
    runs: dict[str, Callable[[Path], dict[str, Any]]] = {
        "truncated": truncations,
        "flipped": lambda folder: flips(folder, given.flips),
        "mutants": lambda folder: mutants(folder, given.mutants),
        "killed": lambda folder: kills(folder, given.kills),
        "full disk": full_disk,
    }
    results: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            begin = time.perf_counter()
            results[name] = run(Path(folder))
            seconds = time.perf_counter() - begin
        if not given.json:
            shown = "; ".join(f"{key}: {value}" for key, value in results[name].items())
            print(f"| {name} | {shown} | {seconds:.0f} s |", flush=True)
    if given.json:
        print(json.dumps(results, indent=2))
    return 0 if good(results) else 1


if __name__ == "__main__":
    sys.exit(main())
