"""A seeded random sample of all items, to be reviewed whatever their scores are."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gradood._io.arguments import described, whole
from gradood.errors import ConfigError

__all__ = ["RANDOM", "ReviewSample", "review_sample"]

RANDOM = "random"
"""How a sample is said to be selected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewSample:
    """The items whose ids hash lowest with a seed: each set of that size is as likely.

    Attributes:
        seed: of the hash.
        ids: in the order of the hash, which says nothing of the scores.
        among: items that it was drawn from.
        job: digest of the job.
    """

    seed: int
    ids: tuple[str, ...]
    among: int
    job: str

    def rule(self) -> dict[str, Any]:
        """How it was selected, as plain values that a file keeps."""
        digest = hashlib.sha256("\0".join(self.ids).encode()).hexdigest()
        return {"selected": RANDOM, "size": len(self.ids), "ids_sha256": digest} | {
            key: value for key, value in asdict(self).items() if key != "ids"
        }


def review_sample(ids: Sequence[str], size: int, seed: int, job: str) -> ReviewSample:
    """The sample of a job.

    Args:
        ids: of every item that has a p-value, flagged or not.
        size: of the sample; all, if there are fewer.
        seed: of the hash.
        job: digest of the job.

    Raises:
        ConfigError: the ids are no list of texts, or the size is no number.
    """
    given: Any = ids
    listed = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    if not listed or not all(isinstance(one, str) for one in given):
        raise ConfigError(f"ids={described(ids)}; expected a list of texts, such as Items.ids.")
    size, seed = whole(size, "size"), whole(seed, "seed", least=-sys.maxsize)
    ordered = sorted(ids, key=lambda one: hashlib.sha256(f"{seed}\0{one}".encode()).digest())
    return ReviewSample(seed=seed, ids=tuple(ordered[:size]), among=len(ids), job=job)


def is_random(rule: Mapping[str, Any]) -> bool:
    """Whether a rule is that of a random sample."""
    return rule.get("selected") == RANDOM
