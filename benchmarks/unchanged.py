"""Proof that two source trees give the same numbers to the last bit, and read the same files.

```console
$ python benchmarks/unchanged.py record --source ../base --out base.safetensors
$ python benchmarks/unchanged.py record --source . --out here.safetensors
$ python benchmarks/unchanged.py compare base.safetensors here.safetensors
$ python benchmarks/unchanged.py artifact --source ../base --out all.safetensors
$ python benchmarks/unchanged.py load --source . --artifact all.safetensors
```
``record`` runs a tree in a process of its own, with one thread, on fixed inputs: every detector on
ResNet-20 and DenseNet-101 (`GRADOOD_SHARED`), every variant of the contract suite on its networks,
and the records of ``gradood demo`` and ``gradood bench``. ``--parts`` picks some of these.
``compare`` says which values differ and by how much, and ends with exit code 1 if one does.
``artifact`` saves a calibrated monitor of every detector; ``load`` reads it with another tree and
holds its scores, p-values, decisions and states to those that were computed before it was saved.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

PARTS = ("resnet20", "densenet101", "promises", "contract", "demo", "bench")
HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run one command.

    Returns:
        Exit code: 1 if anything differs.
    """
    arguments = _parsed()
    if arguments.command == "compare":
        return report(differences(arguments.a, arguments.b, arguments.parts.split(",")))
    source = arguments.source.resolve()
    assert (source / "src" / "gradood").is_dir(), f"{source} holds no src/gradood"
    if arguments.command == "record":
        for part in arguments.parts.split(","):
            _measure(source, f"record:{part}", _part_file(arguments.out, part), arguments.methods)
        _gather(arguments.out, arguments.parts.split(","))
        return 0
    if arguments.command == "artifact":
        _measure(source, "artifact", arguments.out, arguments.methods)
        return 0
    again = arguments.artifact.with_suffix(".again.safetensors")
    _measure(source, f"load:{arguments.artifact.resolve()}", again)
    return report(differences(_expected_file(arguments.artifact), again))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="write what a tree computes")
    artifact = commands.add_parser("artifact", help="save a monitor of every detector")
    load = commands.add_parser("load", help="read what another tree saved, and compare")
    load.add_argument("--artifact", type=Path, required=True)
    for command in (record, artifact, load):
        command.add_argument("--source", type=Path, required=True, help="a checkout")
    for command in (record, artifact):
        command.add_argument("--methods", default="", help="separated by commas; else all")
        command.add_argument("--out", type=Path, required=True, help="a safetensors file")
    compare = commands.add_parser("compare", help="hold one recording against another")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)
    for command in (record, compare):
        command.add_argument("--parts", default=",".join(PARTS), help="separated by commas")
    return parser.parse_args()


def _measure(source: Path, what: str, out: Path, methods: str = "") -> None:
    """Run `unchanged_measures` on a tree, in a process that finds no other."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(source / "src"),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "GRADOOD_SOURCE": str(source),
        "GRADOOD_METHODS": methods,
    }
    program = str(HERE / "unchanged_measures.py")
    subprocess.run([sys.executable, program, what, str(out)], check=True, env=environment)


def _part_file(out: Path, part: str) -> Path:
    return out.with_suffix(f".{part}.safetensors")


def _expected_file(artifact: Path) -> Path:
    return artifact.with_suffix(".expected.safetensors")


def _gather(out: Path, parts: list[str]) -> None:
    """The recordings of the parts in one pair of files."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, object] = {}
    for part in parts:
        file = _part_file(out, part)
        tensors |= load_file(file)
        values |= _values(file)
        file.unlink()
        file.with_suffix(".json").unlink()
    save_file(tensors, out)
    out.with_suffix(".json").write_text(json.dumps(values, sort_keys=True, indent=0))


def _values(file: Path) -> dict[str, object]:
    beside = file.with_suffix(".json")
    return json.loads(beside.read_text()) if beside.exists() else {}


def _of(parts: list[str] | None, named: dict[str, Any]) -> dict[str, Any]:
    """What belongs to these parts of a recording; None for everything."""
    return {k: v for k, v in named.items() if parts is None or k.split("/")[0] in parts}


def differences(a: Path, b: Path, parts: list[str] | None = None) -> tuple[int, list[str]]:
    """How many values two recordings share, and a line for each that differs.

    Floating-point values are compared bit by bit, so that NaNs and signs of zero count too.
    """
    first, second = (_of(parts, load_file(file)) for file in (a, b))
    lines = [f"{name}: only in {a}" for name in sorted(first.keys() - second.keys())]
    lines += [f"{name}: only in {b}" for name in sorted(second.keys() - first.keys())]
    shared = sorted(first.keys() & second.keys())
    lines += [line for name in shared if (line := _difference(name, first[name], second[name]))]
    here, there = (_of(parts, _values(file)) for file in (a, b))
    for name in sorted(here.keys() | there.keys()):
        left, right = (json.dumps(values.get(name, "absent")) for values in (here, there))
        if left != right:
            lines.append(f"{name}: {left[:80]} against {right[:80]}")
    return len(shared) + len(here.keys() & there.keys()), lines


def _difference(name: str, a: Tensor, b: Tensor) -> str | None:
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{name}: {a.dtype} {tuple(a.shape)} against {b.dtype} {tuple(b.shape)}"
    if torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)):
        return None
    other = ~((a == b) | (a.isnan() & b.isnan()) if a.is_floating_point() else a == b)
    most = float((a.double() - b.double()).abs().nan_to_num(torch.inf).max())
    return f"{name}: {int(other.sum())} of {a.numel()} differ, by {most:.3g} at most"


def report(found: tuple[int, list[str]]) -> int:
    """Print the differences; 1 if there are any."""
    shared, lines = found
    for line in lines:
        print(line)
    print(f"{shared:,} values compared, {len(lines)} differences")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
