"""Planted faults of people who had not seen the covering array when they wrote them.

A fault is written without naming checks, and `python tests/mutations.py --search <words of its
name>` says what catches it: a row of the covering array, else a golden or unit test. That is then
written down as its check, so that `make test` holds it from then on:

    Mutation(
        "what is wrong, in a few words",
        "functional/logits.py",                               # inside the package
        {"text that occurs there once": "what replaces it"},  # one or several such texts
        (contract("msp", "mlp", "any-subset"),),              # () until the search has said
    ),
"""

from faults import Mutation

__all__ = ["MUTATIONS"]

MUTATIONS: tuple[Mutation, ...] = ()
