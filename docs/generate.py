"""Write docs/methods out of the code; with --check, only tell whether it is up to date.

python docs/generate.py [--check]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gradood.bench._page import site

__all__ = ["main", "outdated", "stale"]

METHODS = Path(__file__).resolve().parent / "methods"


def stale(folder: Path) -> list[str]:
    """Names of files in a folder that differ from what the code says, are missing or too many."""
    wanted = site()
    there = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.md")}
    return sorted(n for n in {*wanted, *there} if wanted.get(n) != there.get(n))


def outdated(folder: Path) -> list[str]:
    """Names of files in a folder that differ from what the code says of the methods there are.

    A method without a page yet is not looked for: `stale` and --check do.
    """
    there = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.md")}
    wanted = site({name.removesuffix(".md") for name in there})
    return sorted(name for name, text in there.items() if wanted.get(name) != text)


def main(arguments: Sequence[str] | None = None, folder: Path = METHODS) -> int:
    """Exit code: 1 if a check found files that are not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if stale")
    check = parser.parse_args(arguments).check
    names = stale(folder)
    if check:
        for name in names:
            print(f"stale: {name}; run python docs/generate.py", file=sys.stderr)
        return 1 if names else 0
    folder.mkdir(parents=True, exist_ok=True)
    wanted = site()
    for name in names:
        if name in wanted:
            (folder / name).write_text(wanted[name], encoding="utf-8")
        else:
            (folder / name).unlink()
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
