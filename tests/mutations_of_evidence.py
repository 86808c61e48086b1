"""Planted faults in how a model is read: hooks, evidence, batches and the monitor."""

from faults import Mutation, contract, golden

__all__ = ["MUTATIONS"]

RESTORED = "taps/test_isolation.py::test_modes_flags_and_generator_are_restored"
VIEWED = "taps/test_view.py::test_a_view_runs_in_evaluation_mode_and_the_model_sees_nothing"
DIRECT = "taps/test_view.py::test_calls_through_a_global_variable_need_evaluation_mode"
SECOND = "evidence/test_perturbed.py::test_it_reads_what_the_model_makes_of_the_moved_inputs"
IN_PLACE = "taps/test_tap.py::test_gradients_equal_autograd_without_in_place_layers"

MUTATIONS = (
    Mutation(
        "GAIA-A reads the gradient after the in-place ReLU",
        "taps/tap.py",
        {
            "hook = tensor.register_hook(lambda gradient: self._receive(site, gradient))": (
                "self._late = [*getattr(self, '_late', ()), (site, tensor)]"
            ),
            "        self._handles.append(hook)\n": "",
            "        missed = self._sites() - self._reached\n": (
                "        for place, late in getattr(self, '_late', ()):\n"
                "            late.register_hook(lambda g, place=place: self._receive(place, g))\n"
                "            self._marks[place].edge = get_gradient_edge(late)\n"
                "        missed = self._sites() - self._reached\n"
            ),
        },
        (golden("gaia_a.gaia_a_with_layers_named", name="pre_activation_densenet"),),
    ),
    Mutation(
        "gradients are read after the layer that follows",
        "taps/tap.py",
        {
            "hook = tensor.register_hook(lambda gradient: self._receive(site, gradient))": (
                "hook = (tensor := tensor.relu()).register_hook(lambda g: self._receive(site, g))"
            )
        },
        (IN_PLACE,),
    ),
    Mutation(
        "a leaf is handed to in-place layers",
        "taps/tap.py",
        {
            "tensor = tensor.detach().requires_grad_().clone()": (
                "tensor = tensor.detach().requires_grad_()"
            )
        },
        (IN_PLACE,),
    ),
    Mutation(
        "gradients need a model that is not frozen",
        "taps/tap.py",
        {"        if not upstream:\n": "        if not upstream and tensor.requires_grad:\n"},
        (contract("gaia-a", "dict-output", "score-has-its-form"),),
    ),
    Mutation(
        "a graph outlives its look",
        "taps/tap.py",
        {
            "hook = tensor.register_hook(lambda gradient: self._receive(site, gradient))\n"
            "        self._handles.append(hook)\n": (
                "kept = dict(self._values)\n"
                "        tensor.register_hook(lambda g: self._receive(site, g) or kept and None)\n"
            )
        },
        ("taps/test_tap.py::test_no_graph_survives_readings_that_keep_their_tensor",),
    ),
    Mutation(
        "hooks stay on a model that is run itself",
        "taps/tap.py",
        {
            "            handle.remove()\n": "            pass\n",
            "(self._handles, self._marks,": "(self._marks,",
        },
        (DIRECT,),
    ),
    Mutation(
        "hooks of the observation stay on a model that is run itself",
        "taps/_recording.py",
        {"                handle.remove()\n": "                pass\n"},
        (DIRECT,),
    ),
    Mutation(
        "the observed forward stays in memory",
        "taps/_head_search.py",
        {"why = str(error)": "why = str(error)\n            self.views.model._kept = error"},
        ("taps/test_observation.py::test_a_network_without_a_head_keeps_nothing_of_the_forward",),
    ),
    Mutation(
        "the model's own modules are switched and hooked",
        "taps/_shell.py",
        {"made = None if script else _made(kind)": "made = None if script else original"},
        (contract("energy", "resnet", "model-left-as-found"), VIEWED, RESTORED),
    ),
    Mutation(
        "the model is read in the mode it is in",
        "taps/_shell.py",
        {'            "training": False,\n': ""},
        (contract("energy", "densenet", "training-thread-keeps-its-mode"), VIEWED),
    ),
    Mutation(
        "references to other modules are not followed",
        "taps/view.py",
        {"            if places or deep:\n": "            if False:\n"},
        (VIEWED,),
    ),
    Mutation(
        "two threads are given one view",
        "taps/view.py",
        {"tree = self._idle.pop()": "tree = self._idle[-1]"},
        ("taps/test_view.py::test_views_of_several_threads_are_apart",),
    ),
    Mutation(
        "a view does not follow what was replaced in the model",
        "taps/_shell.py",
        {"if not self._knows(held):": "if False:"},
        ("taps/test_view.py::test_whatever_is_replaced_is_seen_by_the_next_view",),
    ),
    Mutation(
        "equal tensors are taken for one another",
        "taps/_shell.py",
        {" and self._identities(held, *inner) == self._ids": ""},
        ("taps/test_view.py::test_equal_parameters_of_one_value_are_not_taken_for_one_another",),
    ),
    Mutation(
        "a view keeps what its forward left",
        "taps/view.py",
        {"            tree.restore()\n": "            pass\n"},
        ("taps/test_view.py::test_a_view_lets_go_of_what_its_forward_held",),
    ),
    Mutation(
        "calls past a view are not noticed",
        "taps/_escape.py",
        {"    sys.setprofile(profile)\n": "    pass\n"},
        (DIRECT,),
    ),
    Mutation(
        "a buffer that the forward changes in place is the model's",
        "taps/view.py",
        {"for module, name in self.written:\n": "for module, name in ():\n"},
        ("taps/test_isolation.py::test_what_a_forward_writes_stays_with_the_view",),
    ),
    Mutation(
        "the random state is not restored",
        "taps/isolation.py",
        {"            before.restore()\n": "            pass\n"},
        (RESTORED,),
    ),
    Mutation(
        "the random state is set back beside other threads",
        "taps/isolation.py",
        {"    if running == 1:\n": "    if True:\n"},
        ("taps/test_isolation.py::test_no_draw_is_repeated_beside_a_score",),
    ),
    Mutation(
        "a thread that binds later takes the place of the first",
        "monitor/_state.py",
        {
            "if bound is None or self.learning is not None:": "if bound is None:",
            "if self.bound is None:\n            return": "if True:\n            return",
        },
        ("test_threads.py::test_of_threads_that_bind_one_monitor_the_first_is_kept",),
    ),
    Mutation(
        "a calibration outlives the fit that it was made for",
        "monitor/_session.py",
        {"if before.bound is not None and self.state.bound is not before.bound:": "if False:"},
        ("test_threads.py::test_a_calibration_of_what_another_thread_replaced_is_refused",),
    ),
    Mutation(
        "ties are decided to the last bit",
        "calibration/_mondrian.py",
        {"values - tolerance": "values"},
        (
            "test_calibration_copies.py"
            "::test_p_values_and_decisions_are_the_definition_with_a_tolerance",
        ),
    ),
    Mutation(
        "a combination is decided by scores as they came",
        "calibration/_rule.py",
        {"batch.scores[name] - part.tolerance": "batch.scores[name]"},
        (
            "test_calibration_copies.py"
            "::test_a_combination_is_decided_by_the_least_that_its_scores_may_be",
        ),
    ),
    Mutation(
        "copies are counted as samples alone",
        "calibration/_copies.py",
        {"if self.distinct == len(self.order):": "if True:"},
        ("test_calibration_copies.py::test_a_set_repeated_decides_as_the_set",),
    ),
    Mutation(
        "what another thread runs is captured too",
        "taps/_capture.py",
        {"if threading.get_ident() != thread:": "if False:"},
        ("test_threads.py::test_what_a_trainer_captures_is_of_its_own_thread",),
    ),
    Mutation(
        "inference mode stays on",
        "taps/isolation.py",
        {"torch.inference_mode(False) if modes.inference else nullcontext()": "nullcontext()"},
        (contract("gaia-a", "one-logit", "grad-modes"),),
    ),
    Mutation(
        "the ReLU after a residual sum is not seen",
        "taps/graph.py",
        {'taker.name().startswith("AddBackward")': 'taker.name().startswith("MulBackward")'},
        ("taps/test_observation.py::test_a_residual_sum_is_read_after_its_relu",),
    ),
    Mutation(
        "a head is believed without proof",
        "taps/_head_candidates.py",
        {"if error <= rounding(logits, seen):": "if error <= 1e9:"},
        ("taps/test_head.py::test_logits_changed_after_the_head_are_refused_with_what_was_tried",),
    ),
    Mutation(
        "a content key depends on the batch",
        "evidence/content_keys.py",
        {"known(count)).to(x.device)": "known(count)).to(x.device) + 2 * len(x)"},
        ("evidence/test_content_keys.py::test_the_same_in_any_batch_order_and_layout",),
    ),
    Mutation(
        "a detector sees what others asked for",
        "evidence/evidence.py",
        {"readings = {read: self._read[read] for read in own}": "readings = self._read"},
        ("evidence/test_gather.py::test_only_hides_the_rest",),
    ),
    Mutation(
        "the model may change the images it is given",
        "evidence/gather.py",
        {"tap.run(x.clone() if network.overwrites else x)": "tap.run(x)"},
        ("evidence/test_gather.py::test_what_a_model_changes_in_place_is_read_before",),
    ),
    Mutation(
        "the model may change the features it gave",
        "taps/head_reading.py",
        {"else self.head.features(seen).clone()": "else self.head.features(seen)"},
        ("evidence/test_gather.py::test_what_a_model_changes_in_place_is_read_before",),
    ),
    Mutation(
        "the second look is at the inputs as they were",
        "evidence/_perturbed.py",
        {"tap.run(moved)": "tap.run(x.clone())"},
        (SECOND, golden("odin.odin_is_its_formula", name="mlp_bn", temperature=1.0, noise=0.05)),
    ),
    Mutation(
        "inputs are moved away from their class",
        "evidence/_perturbed.py",
        {"return x + moved": "return x - moved"},
        (SECOND, golden("odin.odin_raises_the_probability_of_the_predicted_class")),
    ),
    Mutation(
        "the least salient values are taken for the most salient",
        "evidence/_perturbed.py",
        {'step.pixels == "least"': 'step.pixels == "most"'},
        (SECOND, golden("adascale.adascale_is_its_formula", name="plain_cnn", options="most")),
    ),
    Mutation(
        "a hidden gradient of NaN",
        "evidence/_perturbed.py",
        {"moved.masked_fill(gradient.isnan(), torch.nan)": "moved"},
        ("evidence/test_perturbed.py::test_a_gradient_of_nan_is_not_hidden",),
    ),
    Mutation(
        "each perturbation runs the model again for every other",
        "evidence/_perturbed.py",
        {
            "for step, gradient in gradients.items():": (
                "for step, gradient in list(gradients.items()) * len(gradients):"
            )
        },
        ("evidence/test_perturbed.py::test_each_perturbation_is_one_more_forward",),
    ),
    Mutation(
        "the step is taken from what a hook of the user's gives",
        "taps/tap.py",
        {
            "            x = self._see_input(x)\n        self._attach()\n": (
                "            pass\n        self._attach()\n"
            ),
            "sites = self._sites() - {INPUT}": "sites = self._sites()",
        },
        ("evidence/test_perturbed.py::test_the_step_is_taken_from_what_the_user_gave",),
    ),
    Mutation(
        "labels of any shape are let in",
        "_engine/batches.py",
        {"if labels.shape != (size,) or": "if labels.shape[:1] != (size,) or"},
        ("test_batches.py::test_labels_that_do_not_fit_are_refused_only_if_wanted",),
    ),
    Mutation(
        "a pair of images and labels is two batches",
        "_engine/batches.py",
        {"    _refuse_pair(data)\n": ""},
        ("test_batches.py::test_a_pair_given_as_data_says_how_to_write_it",),
    ),
    Mutation(
        "a fit keeps its last batch only",
        "_engine/fitting.py",
        {"return part if total is None else learner.merge(total, part)": "return part"},
        (contract("knn:euclidean", "frozen", "fit-batches-do-not-matter"),),
    ),
    Mutation(
        "rows with NaN score as zeros do",
        "_engine/scoring.py",
        {"score.masked_fill(lost, torch.inf)": "score"},
        (
            contract("energy", "zero-shot", "nonfinite-rows"),
            "test_monitor.py::test_a_row_that_is_not_finite_scores_infinity_and_disturbs_no_other",
        ),
    ),
    Mutation(
        "what the model cannot answer has an ordinary score",
        "_engine/readings.py",
        {"self.nonfinite.cpu() | (~self.evidence.sound).cpu()": "self.nonfinite.cpu()"},
        ("test_decision.py::test_no_answer_of_the_model_is_no_ordinary_score",),
    ),
    Mutation(
        "every detector looks for itself",
        "_engine/scoring.py",
        {
            "            score = detectors.measure(name, requests, reading.evidence)\n": (
                "            alone = detectors.reader.read(batch, wanted)\n"
                "            score = detectors.measure(name, requests, alone.evidence)\n"
            )
        },
        (contract("energy", "groupnorm", "one-look"),),
    ),
)
