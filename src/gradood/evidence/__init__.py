"""What is read of one batch: requests, the single pass that serves them, and the result."""

from gradood.evidence.gather import Evidence, Linear, gather
from gradood.evidence.keys import content_keys
from gradood.evidence.plain import read_from_plain, read_to_plain
from gradood.evidence.reads import (
    FEATURE_SUM,
    FEATURES,
    INPUT_RANGE,
    KEYS,
    LOG_SOFTMAX_SUM,
    LOGITS,
    MAX_LOGIT,
    Activation,
    Basic,
    Gradient,
    Objective,
    ParameterNorm,
    Read,
)
from gradood.evidence.summaries import (
    MAP,
    MEAN,
    NONZERO_SHARE,
    POSITIONS,
    POSITIVE_SHARE,
    Summary,
    max_pooled_share,
)

__all__ = [
    "Activation",
    "Basic",
    "Evidence",
    "FEATURES",
    "FEATURE_SUM",
    "Gradient",
    "INPUT_RANGE",
    "KEYS",
    "LOGITS",
    "LOG_SOFTMAX_SUM",
    "Linear",
    "MAP",
    "MAX_LOGIT",
    "MEAN",
    "NONZERO_SHARE",
    "Objective",
    "POSITIONS",
    "POSITIVE_SHARE",
    "ParameterNorm",
    "Read",
    "Summary",
    "content_keys",
    "gather",
    "max_pooled_share",
    "read_from_plain",
    "read_to_plain",
]
