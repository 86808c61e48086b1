"""The arena's page: which method to use on a model, why, and at what cost.

Needs ``gradood[report]`` when used, and ``gradood[data]`` for thumbnails.
"""

from gradood.report import page_policy
from gradood.report.pictures import Pictures
from gradood.report.report import Report

__all__ = ["Pictures", "Report", "page_policy"]
