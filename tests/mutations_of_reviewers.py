"""Planted faults of reviewers who had not seen the covering array when they wrote them.

Each is silent: nothing raises, and only some inputs, shapes or orders of calls show it.
"""

from faults import Mutation, contract, golden

__all__ = ["MUTATIONS"]

NONFINITE = "test_rows_that_are_not_finite_score_alike_with_and_without_the_cache"
OWN_ROW = "test_a_statistic_is_compared_within_the_class_of_its_own_row"

MUTATIONS = (
    Mutation(
        "a class without a Weibull distribution counts as near",
        "detectors/open_max.py",
        {"weibull.cdf(distances), 1.0)": "weibull.cdf(distances), 0.0)"},
        (
            golden(
                "open_max.open_max_is_its_formula",
                name="plain_cnn",
                tailsize=20,
                alpha=10,
                distance="euclidean",
                samples="correct",
                translation=10_000,
            ),
        ),
    ),
    Mutation(
        "Gram sums are scaled by the largest activation of the batch",
        "evidence/summaries.py",
        {
            "largest = own.amax(1, keepdim=True)": (
                "largest = own.amax((0, 1), keepdim=True) if len(own) else own.amax(1, True)"
            )
        },
        (
            contract("gram", "one-logit", "overflow-is-out-of-distribution"),
            golden("gram.a_dim_sample_keeps_its_sums_beside_a_bright_one"),
        ),
    ),
    Mutation(
        "of two shards, only the samples of the first are remembered",
        "_engine/fitting.py",
        {"else a.seen.merge(b.seen)": "else a.seen.merge(a.seen)"},
        (
            contract("knn", "one-logit", "shards-merge-in-any-order"),
            "test_decision.py::test_samples_of_every_shard_are_remembered",
        ),
    ),
    Mutation(
        "rows that hold NaN are kept in the cache as rows of zeros",
        "_engine/reader.py",
        {
            "            if bool(reading.nonfinite.any()):\n                place = None\n": "",
        },
        (f"bench/test_cache_key.py::{NONFINITE}",),
    ),
    Mutation(
        "a buffer that two modules hold is copied once for each",
        "taps/view.py",
        {"            if id(tensor) not in copies:\n": "            if True:\n"},
        ("taps/test_isolation.py::test_a_tensor_that_two_modules_hold_is_one_in_a_view_too",),
    ),
    Mutation(
        "merged Gram ranges forget the larger of two smallest values",
        "functional/gram.py",
        {
            "torch.minimum(torch.maximum(a[0], b[0]), torch.minimum(a[1], b[1]))": (
                "torch.minimum(a[1], b[1])"
            )
        },
        (
            contract("gram:layers", "frozen", "fit-batches-do-not-matter"),
            golden("gram.ranges_of_any_shards_are_those_of_all"),
        ),
    ),
    Mutation(
        "an overlap takes the place of what was overridden before",
        "monitor/_session.py",
        {"overrides=(*others, *overlap),": "overrides=overlap or others,"},
        ("test_saving.py::test_two_overrides_are_both_stamped",),
    ),
    Mutation(
        "calibration scores are not rounded as new ones are",
        "calibration/_mondrian.py",
        {"self.scores.to(kind).double()": "self.scores.double()"},
        ("test_calibration_decision.py::test_a_tie_stays_a_tie_when_one_side_was_rounded",),
    ),
    Mutation(
        "combined statistics and predicted classes are in different orders",
        "calibration/fusion.py",
        {
            "classes = classes.detach().cpu()[decision]": (
                "classes = classes.detach().cpu()[decision.sort().values]"
            )
        },
        (f"test_calibration_fusion.py::{OWN_ROW}",),
    ),
    Mutation(
        "rows at which workers end are never decoded apart",
        "scale/_tasks.py",
        {"careful=count >= _TRIES": "careful=False"},
        (
            "scale/test_scale_tasks.py"
            "::test_a_task_at_which_workers_end_is_done_with_care_after_the_third",
        ),
    ),
    Mutation(
        "a line cut short stays in the manifest of a job",
        "batch/_store.py",
        {
            "if lost or len(whole) < len(content) or len(self.entries)": (
                "if lost or len(self.entries)"
            )
        },
        ("test_scoring_resume.py::test_a_torn_line_does_not_spoil_the_lines_after_it",),
    ),
    Mutation(
        "a package may import what it names without being trusted",
        "hub/_package.py",
        {"if is_factory(self.spec.model) and trust is None:": "if False:"},
        (
            "hub/test_hub_package.py::"
            "test_a_factory_is_imported_only_if_the_caller_trusts_the_package",
        ),
    ),
    Mutation(
        "weights of a package are not compared with those that were packed",
        "hub/_package.py",
        {"    if found != record:\n": "    if found.bytes != record.bytes:\n"},
        ("hub/test_hub_package.py::test_other_weights_are_another_model",),
    ),
)
