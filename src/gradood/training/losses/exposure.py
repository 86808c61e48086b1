"""Outlier exposure: outliers should belong to every class alike."""

from typing import final

import torch
from torch import Tensor

__all__ = ["OutlierExposure"]


@final
class OutlierExposure:
    """Cross-entropy from the uniform distribution on outliers [hendrycks2019oe].

    ``mean_aux (logsumexp(z) − mean_c z_c)``

    Cost: none beside the forward.

    >>> OutlierExposure()(torch.zeros(3, 4), n_id=1)
    tensor(1.3863)
    """

    def __call__(self, logits: Tensor, *, n_id: int) -> Tensor:
        """The loss, a scalar; 0 without outliers.

        Args:
            logits: (batch, classes), the first `n_id` rows in-distribution.
            n_id: in-distribution rows, which have no part in it.
        """
        outliers = logits[n_id:]
        if not len(outliers):
            return logits.new_zeros(())
        return (torch.logsumexp(outliers, 1) - outliers.mean(1)).mean()
