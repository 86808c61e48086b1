"""Flagged items for a person to look at: grouped, marked, exported, and what marks may be used for.

Needs ``gradood[report]``.
"""

from gradood.triage._feed_back import FeedBack, feed_back, selection_of
from gradood.triage._items import Details, Items, read_details, read_items
from gradood.triage._marks import Mark, read_marks
from gradood.triage._page import PageOptions, write_page
from gradood.triage._procedure import Step, steps
from gradood.triage._sample import ReviewSample, review_sample
from gradood.triage._table_rows import open_rows

__all__ = [
    "Details",
    "FeedBack",
    "Items",
    "Mark",
    "PageOptions",
    "ReviewSample",
    "Step",
    "feed_back",
    "open_rows",
    "read_details",
    "read_items",
    "read_marks",
    "review_sample",
    "selection_of",
    "steps",
    "write_page",
]
