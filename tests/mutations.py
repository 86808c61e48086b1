"""Planted faults: small changes of the source, each of which every check it names must catch.

``python tests/mutations.py [words of a name]`` plants them, or those of that name, and prints one
line of JSON per fault; the first line is of the source without a fault, which must pass every
check. `test_mutations` runs it. A fault whose text is no longer in the source is an error: change
it along.
"""

import json
import sys
from dataclasses import asdict

import mutations_of_looks
import mutations_of_scores
from planting import Mutation, results

__all__ = ["MUTATIONS"]

MUTATIONS: tuple[Mutation, ...] = (*mutations_of_scores.MUTATIONS, *mutations_of_looks.MUTATIONS)

if __name__ == "__main__":
    wanted = " ".join(sys.argv[1:])
    for result in results([mutation for mutation in MUTATIONS if wanted in mutation.name]):
        print(json.dumps(asdict(result)), flush=True)
