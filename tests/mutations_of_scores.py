"""Faults in the mathematics: functions, detectors and metrics."""

from faults import Mutation, contract, golden

__all__ = ["MUTATIONS"]

RESIDUAL = "post_activation_resnet"
PERCENTILES = {"weights": 90.0, "activations": 10.0}
GRADIENTS = "functional/test_gradients.py"
FORMULAS = "test_monitor.py::test_scores_of_gradients_are_the_formulas"

MUTATIONS = (
    Mutation(
        "GradNorm with the paper's sign",
        "detectors/gradnorm.py",
        {"return -last_layer_gradient_norm(": "return last_layer_gradient_norm("},
        (contract("gradnorm", "plain-cnn", "higher-means-out"), FORMULAS),
    ),
    Mutation(
        "GradNorm's softmax in float32",
        "functional/gradnorm.py",
        {"p = torch.softmax(logits / temperature, 1)": "p = torch.softmax(logits.float(), 1)"},
        (golden("gradnorm.gradnorm_of_random_heads", temperature=1.0, order=1.0, bias=False),),
    ),
    Mutation(
        "GradNorm forgets to divide by the temperature",
        "functional/gradnorm.py",
        {"order, dim=1) / temperature": "order, dim=1)"},
        (golden("gradnorm.gradnorm_of_random_heads", temperature=100.0, order=1.0, bias=False),),
    ),
    Mutation(
        "per-sample gradients ignore the temperature",
        "evidence/_per_sample.py",
        {"torch.float32)) / read.temperature": "torch.float32))"},
        ("evidence/test_gather.py::test_parameter_norms_equal_a_loop_of_autograd",),
    ),
    Mutation(
        "GAIA-Z averages shares instead of their squares",
        "functional/gaia.py",
        {"sum(share.double().square().sum(1) for": "sum(share.double().sum(1) for"},
        (
            golden(
                "gaia_z.gaia_z_is_the_share_of_nonzero_gradients", name="plain_cnn", path="auto"
            ),
            f"{GRADIENTS}::test_zero_abnormality_weighs_channels_alike",
        ),
    ),
    Mutation(
        "GAIA-Z counts zeros as active",
        "evidence/summaries.py",
        {"_share(tensor, channels, torch.gt)": "_share(tensor, channels, torch.ge)"},
        (golden("gaia_z.gaia_z_forward_is_the_share_of_nonzero_gradients", name=RESIDUAL),),
    ),
    Mutation(
        "max pooling also selects zeros",
        "evidence/summaries.py",
        {"(largest > 0).flatten(2)": "(largest >= 0).flatten(2)"},
        ("evidence/test_summaries.py::test_max_pooled_share_is_the_share_of_nonzero_gradients",),
    ),
    Mutation(
        "GAIA-A forgets the positions that the pool averages",
        "detectors/gaia_a.py",
        {'outer = outer / evidence["positions"][:, None]': "outer = outer * 1.0"},
        (golden("gaia_a.gaia_a_with_layers_named", name="plain_cnn"), FORMULAS),
    ),
    Mutation(
        "GAIA-A takes the absolute value of the mean",
        "functional/gaia.py",
        {"outer.double().abs().mean(1)": "outer.double().mean(1).abs()"},
        (golden("gaia_a.gaia_a_with_layers_named", name="mlp_bn"),),
    ),
    Mutation(
        "GAIA-A gives NaN at a uniform softmax",
        "functional/gaia.py",
        {"return torch.where(squared > 0, mean / squared, torch.inf)": "return mean / squared"},
        (f"{GRADIENTS}::test_abnormality_ratio_weighs_channels_alike_and_never_gives_nan",),
    ),
    Mutation(
        "LINe keeps the weights at the threshold",
        "functional/line.py",
        {
            "(part > threshold[units])": "(part >= threshold[units])",
            "weight, weight > threshold,": "weight, weight >= threshold,",
        },
        (golden("line.line_is_its_formula", name="mlp_bn", **PERCENTILES, contribution="signed"),),
    ),
    Mutation(
        "LINe keeps what equals the percentile",
        "functional/line.py",
        {"return values > float(": "return values >= float("},
        ("functional/test_line_pruning.py::test_ties_at_the_percentile_are_pruned",),
    ),
    Mutation(
        "LINe predicts from the unclipped features",
        "detectors/line.py",
        {
            "predicted = linear_logits(features, head": (
                "predicted = linear_logits(evidence.features, head"
            )
        },
        (golden("line.line_predicts_from_the_clipped_features"),),
    ),
    Mutation(
        "Mahalanobis divides by one sample less",
        "detectors/_shared/gaussians.py",
        {"weight = scatter / samples, 0.0": "weight = scatter / (samples - 1), 0.0"},
        (
            golden("mahalanobis.mahalanobis_is_its_formula", name="mlp_bn", size=40),
            "test_monitor.py::test_mahalanobis_is_the_formula",
        ),
    ),
    Mutation(
        "Mahalanobis takes the mean over classes",
        "detectors/_shared/gaussians.py",
        {'state["centers"]).amin(1)': 'state["centers"]).mean(1)'},
        (golden("mahalanobis.mahalanobis_is_its_formula", name="mlp_bn", size=40),),
    ),
    Mutation(
        "Mahalanobis++ leaves lengths in",
        "functional/directions.py",
        {"return scaled / length.clamp_min(1.0)": "return scaled"},
        (
            golden(
                "mahalanobis_plus_plus.mahalanobis_plus_plus_is_its_formula",
                name="mlp_bn",
                size=40,
            ),
        ),
    ),
    Mutation(
        "RMDS takes the scatter within classes for that of all samples",
        "functional/moments.py",
        {"self.scatter + (shift * self.count[:, None]).T @ shift": "self.scatter"},
        (golden("rmds.rmds_is_its_formula", name="mlp_bn", size=40),),
    ),
    Mutation(
        "equal eigenvalues count in the order they come",
        "functional/subspace.py",
        {"torch.where(equal, weights[equal].mean(), weights)": "weights"},
        (golden("residual.equal_eigenvalues_across_the_cut_count_by_their_share", dimension=2),),
    ),
    Mutation(
        "ViM turns the energy around",
        "detectors/vim.py",
        {"return virtual + energy(": "return virtual - energy("},
        (golden("vim.vim_is_its_formula", name="mlp_bn", dimension=2),),
    ),
    Mutation(
        "SHE learns from misclassified samples too",
        "detectors/she.py",
        {"evidence.logits.argmax(1) == labels": "labels >= 0"},
        (golden("she.she_is_its_formula", name="mlp_bn", similarity="inner"),),
    ),
    Mutation(
        "NCI does not center the features",
        "functional/nci.py",
        {"directions(features.double() - mean)": "directions(features)"},
        (golden("nci.nci_is_its_formula", name="mlp_bn", alpha=0.3), golden("nci.known_numbers")),
    ),
    Mutation(
        "NECO scales what varies by rounding alone",
        "functional/neco.py",
        {"deviation > _CONSTANT * mean.abs()": "deviation > 0"},
        (golden("neco.features_that_never_vary_are_not_scaled"),),
    ),
    Mutation(
        "merging forgets that the means shift",
        "functional/moments.py",
        {"self.mean + shift * share[:, None]": "self.mean"},
        (contract("mahalanobis", "mlp", "shards-merge-in-any-order"),),
    ),
    Mutation(
        "merging forgets the scatter between the means",
        "functional/moments.py",
        {"self.scatter + other.scatter + weighted.T @ shift": "self.scatter + other.scatter"},
        (
            contract("mahalanobis", "resnet", "fit-batches-do-not-matter"),
            "functional/test_moments.py::test_equal_to_the_moments_of_all",
        ),
    ),
    Mutation(
        "merging in float32",
        "functional/moments.py",
        {"share = other.count.double() /": "share = other.count.float() /"},
        (contract("mahalanobis", "mlp", "shards-merge-in-any-order"),),
    ),
    Mutation(
        "kept samples depend on the order of the fit",
        "functional/samples.py",
        {
            'torch.argsort(columns["key"], stable=True)[:size]': (
                'torch.arange(len(columns["key"]))[:size]'
            )
        },
        (
            golden("grood.grood_synthetic_prototype", name="mlp_bn", mix=0.3, n=9),
            "functional/test_samples.py::test_a_selection_does_not_depend_on_sharding",
        ),
    ),
    Mutation(
        "quantiles are off by one rank",
        "functional/quantiles.py",
        {"rank = share * (int(below[-1]) - 1)": "rank = share * int(below[-1])"},
        ("functional/test_quantiles.py::test_equal_to_numpy",),
    ),
    Mutation(
        "GROOD's bank holds misclassified samples",
        "detectors/grood.py",
        {'chosen = right if self.bank == "correct" else': "chosen = right if False else"},
        (
            golden("grood.grood_with_the_class_mean", name="mlp_bn", bank="correct", k=1),
            "test_monitor.py::test_grood_keeps_the_gradients_of_correct_samples_or_of_all",
        ),
    ),
    Mutation(
        "GROOD's distances in float32",
        "functional/grood.py",
        {"away = features.double() - ood.double()": "away = features.float() - ood.float()"},
        (golden("grood.grood_norm_is_the_length_of_the_gradient", name="mlp_bn"),),
    ),
    Mutation(
        "GROOD's margins are turned",
        "functional/grood.py",
        {"distance[:, None] - others,": "others - distance[:, None],"},
        (f"{GRADIENTS}::test_grood_gradient_equals_autograd_for_any_label",),
    ),
    Mutation(
        "the search skips blocks that hold the nearest",
        "functional/neighbors.py",
        {"if bool((bound > ": "if bool((bound * 9 > "},
        (golden("knn.knn_of_a_bank_in_many_blocks", k=3),),
    ),
    Mutation(
        "the search takes the far end of a block for the near one",
        "functional/neighbors.py",
        {"torch.maximum(low - own, own - high)": "torch.maximum(high - own, own - low)"},
        ("functional/test_neighbors.py::test_random_vectors",),
    ),
    Mutation(
        "the neighbor before the k-th",
        "functional/neighbors.py",
        {"distances.topk(k, 1, largest=False)": "distances.topk(max(1, k - 1), 1, largest=False)"},
        ("functional/test_neighbors.py::test_random_vectors",),
    ),
    Mutation(
        "near-duplicates are told apart in float32",
        "functional/neighbors.py",
        {"        if not bool(doubt.any()):\n": "        if True:\n"},
        ("functional/test_neighbors.py::test_near_duplicates",),
    ),
    Mutation(
        "KNN compares lengths too",
        "detectors/knn.py",
        {"torch.where(zero, vectors.log_length, 0.0)": "vectors.log_length"},
        (golden("knn.knn_is_the_distance_to_the_kth_nearest", name="mlp_bn", k=4, normalize=True),),
    ),
    Mutation(
        "MSP over the batch",
        "functional/logits.py",
        {"-torch.softmax(logits, 1)": "-torch.softmax(logits, 0)"},
        (contract("msp", "conv-head", "any-subset"),),
    ),
    Mutation(
        "energy forgets its temperature outside",
        "functional/logits.py",
        {"return -temperature * torch": "return -1.0 * torch"},
        (
            golden("energy.energy_of_random_logits", scale=1.0, temperature=1000.0),
            f"{GRADIENTS}::test_energy_is_the_logarithm_of_a_sum",
        ),
    ),
    Mutation(
        "labels are not checked",
        "detectors/_shared/labels.py",
        {"(labels < 0) | (labels >= evidence.classes)": "labels < -1000"},
        (
            contract("mahalanobis", "conv-head", "labels-out-of-range"),
            "test_monitor.py::test_labels_beyond_the_classes_are_refused",
        ),
    ),
    Mutation(
        "FPR95 keeps more than 95 %",
        "metrics/counts.py",
        {"np.argmax(100 * kept >= 95 * kept[-1])": "np.argmax(100 * kept > 95 * kept[-1])"},
        ("test_metrics.py::test_at_least_95_percent_is_kept_where_the_float_0_95_would_be_off",),
    ),
    Mutation(
        "a perfect separation is certain",
        "metrics/confidence.py",
        {
            "if not 0 < area < 1 or variance <= 0:": (
                "if area in (0.0, 1.0):\n        return area, area\n    if variance <= 0:"
            )
        },
        ("test_confidence.py::test_sets_that_do_not_overlap_leave_room_for_doubt",),
    ),
    Mutation(
        "a bank within its bound drops one sample too many",
        "functional/kept_rows.py",
        {'kept = chunk["key"] <= bound': 'kept = chunk["key"] < bound'},
        ("functional/test_kept_rows.py::test_they_are_those_of_a_selection",),
    ),
    Mutation(
        "a coded bank is searched with queries that are not rotated",
        "detectors/_shared/banks.py",
        {"Polar(rotated(query.unit), query.log_length)": "query"},
        ("detectors/test_banks.py::test_codes_take_an_eighth_and_rank_alike",),
    ),
)
