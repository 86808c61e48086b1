"""Run what README.md shows, as printed, in a fresh working copy; or check the types of its Python.

    python3 scripts/readme.py [--here] [--network]
    .venv/bin/python scripts/readme.py --types

Shell blocks run in order in one shell, as a reader would type them; the Python blocks are one
program, which runs where the last of them stands. A block after ``<!-- needs the network -->``
runs with ``--network`` alone. ``--here`` runs in this working copy, which must be fresh, such as
CI's clone: then nothing is installed twice. Needs Python alone, and git; ``--types`` needs
pyright, and runs mypy where it is installed.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
NETWORK = "<!-- needs the network -->"
_BLOCK = re.compile(
    rf"^(?P<mark>{NETWORK}\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """What a fence encloses, with the line it begins on."""

    line: int
    language: str
    text: str
    network: bool


def blocks(page: str) -> list[Block]:
    """The blocks of a page that has no other languages than sh and python."""
    found = [
        Block(page[: m.start("text")].count("\n") + 1, m["language"], m["text"], bool(m["mark"]))
        for m in _BLOCK.finditer(page)
    ]
    unknown = {block.language for block in found} - {"sh", "python"}
    if unknown or page.count("\n```") != 2 * len(found):
        sys.exit(f"readme: blocks of {unknown or 'no language'}; expected sh or python alone")
    return found


def program(found: list[Block]) -> str:
    """The Python blocks as one program, on the lines where the page has them."""
    lines: list[str] = []
    for block in found:
        if block.language == "python":
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n"


def script(found: list[Block], python: Path, *, network: bool) -> str:
    """One shell program: every block, each told on stderr before it runs."""
    last = max(block.line for block in found if block.language == "python")
    parts = ["set -euo pipefail"]
    for block in found:
        if block.language == "python" and block.line == last:
            parts.append(f"echo '=== README.md: its Python' >&2\npython -W error '{python}'")
        elif block.language == "sh" and (network or not block.network):
            parts.append(f"echo '=== README.md:{block.line}' >&2\n{block.text}")
    return "\n".join(parts) + "\n"


def copy_of_the_tree(folder: Path) -> None:
    """What is, or is about to be, in the repository; all but what git ignores."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        cwd=ROOT,
    ).stdout
    for name in filter(None, listing.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run(found: list[Block], *, here: bool, network: bool) -> int:
    """Run all of it; the exit code of what failed, or 0."""
    if here and (ROOT / "demo").exists():
        sys.exit("readme: demo/ is there already; leave out --here, or run make clean")
    with tempfile.TemporaryDirectory(prefix="gradood-readme-") as name:
        start, folder = time.monotonic(), ROOT if here else Path(name) / "gradood"
        if not here:
            folder.mkdir()
            copy_of_the_tree(folder)
        python = Path(name) / "README.py"
        python.write_text(program(found), encoding="utf-8")
        # What an outer environment, or make with ARGS of its own, would hand on.
        outer = (
            "PYTHONPATH",
            "VIRTUAL_ENV",
            "ARGS",
            "MAKEFLAGS",
            "MAKELEVEL",
            "MAKEOVERRIDES",
            "MFLAGS",
        )
        environment = {key: value for key, value in os.environ.items() if key not in outer}
        environment.setdefault("OMP_NUM_THREADS", "1")  # A second thread costs more than it brings.
        code = subprocess.run(
            ["bash", "-c", script(found, python, network=network)], cwd=folder, env=environment
        ).returncode
        ended = "ok" if code == 0 else f"FAILED with {code}"
        print(f"README.md: {ended} after {time.monotonic() - start:.0f} s", file=sys.stderr)
        return code


def types(found: list[Block]) -> int:
    """Check the Python blocks by pyright, strictly, and by mypy where it is installed."""
    with tempfile.TemporaryDirectory(prefix="gradood-readme-") as name:
        file = Path(name) / "README.py"
        file.write_text(program(found), encoding="utf-8")
        settings = {"include": [file.name], "typeCheckingMode": "strict"}
        settings |= {"reportUnknownVariableType": False, "reportUnknownMemberType": False}
        (Path(name) / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
        checks = [["pyright", "-p", name, "--pythonpath", sys.executable]]
        if importlib.util.find_spec("mypy"):
            checks.append(["mypy", "--strict", "--cache-dir", f"{ROOT}/.mypy_cache", str(file)])
        codes = [subprocess.run([sys.executable, "-m", *c], cwd=name).returncode for c in checks]
        return max(codes)


if __name__ == "__main__":
    options = set(sys.argv[1:])
    if not options <= {"--types", "--here", "--network"}:
        sys.exit(__doc__)
    shown = blocks(README.read_text(encoding="utf-8"))
    if "--types" in options:
        sys.exit(types(shown))
    sys.exit(run(shown, here="--here" in options, network="--network" in options))
