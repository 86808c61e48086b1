"""Planted faults: small changes of the source, each of which every check it names must catch.

``python tests/mutations.py [words of a name]`` plants them, or those of that name, and prints one
line of JSON per fault; the first line is of the source without a fault, which must pass every
check. `test_mutations` does the same. A fault whose text is no longer in the source is an error:
change it along.

``--search`` looks for what catches each fault in the covering array of the contract suite, and in
the other tests only if no row of the array does; it ends with exit code 1 if nothing does. So one
sees that the array loses nothing of the full product (`--contract`: only faults that name a check
of the contract suite). `mutations_of_others` says how a fault is added.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

import mutations_of_evidence
import mutations_of_faults
import mutations_of_others
import mutations_of_reviewers
import mutations_of_scores
from faults import Check, Mutation, Result
from planting import UNTOUCHED, results, searches, untouched

__all__ = ["MUTATIONS"]

MUTATIONS: tuple[Mutation, ...] = (
    *mutations_of_scores.MUTATIONS,
    *mutations_of_evidence.MUTATIONS,
    *mutations_of_others.MUTATIONS,
    *mutations_of_reviewers.MUTATIONS,
    *mutations_of_faults.MUTATIONS,
)


def main() -> int:
    """Plant the faults that the command line names.

    Returns:
        Exit code: 1 if a search found nothing for one.
    """
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("words", nargs="*", help="of a fault's name; all faults without")
    parser.add_argument("--search", action="store_true", help="look for what catches them")
    parser.add_argument("--contract", action="store_true", help="those with a contract check")
    parser.add_argument("--serve", action="store_true", help="names come on stdin, line by line")
    arguments = parser.parse_args()
    if arguments.serve:
        _print(result for line in sys.stdin for result in results([_by_name(line.strip())]))
        return 0
    chosen = [m for m in MUTATIONS if " ".join(arguments.words) in m.name]
    if arguments.contract:
        chosen = [m for m in chosen if any(isinstance(c, Check) and c.row for c in m.checks)]
    if arguments.search:
        return int(not all(found.caught for found in _print(searches(chosen))))
    _print(results([untouched(chosen), *chosen]))
    return 0


def _by_name(name: str) -> Mutation:
    if name == UNTOUCHED:
        return untouched(MUTATIONS)
    return next(mutation for mutation in MUTATIONS if mutation.name == name)


def _print(found: Iterator[Result]) -> list[Result]:
    kept = []
    for result in found:
        print(json.dumps(asdict(result)), flush=True)
        kept.append(result)
    return kept


if __name__ == "__main__":
    sys.exit(main())
