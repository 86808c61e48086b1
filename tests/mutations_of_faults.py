"""Planted faults that reviewers found once: docs/results/faults.md, whose tests are the checks."""

from faults import Mutation

__all__ = ["MUTATIONS"]

BATCHES, CONDITION = "test_batches.py::test_", "data/test_condition.py::test_"
COPIES, SETTINGS = "test_calibration_copies.py::test_", "detectors/test_settings.py::test_"
MODEL, MONITOR = "test_model_binding.py::test_", "test_monitor.py::test_"
NAMES, TRAINING = "engine/test_engine_names.py::test_", "test_training_faults.py::test_"

MUTATIONS = (
    Mutation(
        "a slice takes the first rows of a listing",
        "data/_sampling.py",
        {"random.Random(seed)\n    if count <": "0\n    return [*range(count)]\n    if count <"},
        ("data/test_sampling.py::test_every_class_has_its_share",),
    ),
    Mutation(
        "a method is advised from data that lacks classes",
        "report/_advice.py",
        {'    if stages - {"fit"}:\n': "    if False:\n"},
        ("report/test_report_advice.py::test_nothing_is_advised_from_data_that_lacks_classes",),
    ),
    Mutation(
        "the last operation of an output is not looked at",
        "taps/_output.py",
        {"        if kind in _ENDS:\n            return _ENDS[kind]\n": ""},
        ("taps/test_output.py::test_outputs_that_are_no_logits_are_told",),
    ),
    Mutation(
        "the first matrix of several is the logits",
        "taps/_output.py",
        {"    if first not in heads:\n": "    if True:\n"},
        ("taps/test_output.py::test_several_items_are_told_with_the_choice",),
    ),
    Mutation(
        "labels are not held against the model",
        "monitor/_session.py",
        {"None if agreement is None else agreement.doubt()": "None"},
        ("engine/test_agreement.py::test_a_fit_warns_once_where_it_was_called",),
    ),
    Mutation(
        "an image that was replaced keeps its scores",
        "batch/_update.py",
        {
            'found["changed"] += now is not None and not keep[-1]': "keep[-1] = now is not None",
        },
        ("test_scoring_update.py::test_only_what_is_new_or_changed_is_scored",),
    ),
    Mutation(
        "a clip that flattens most features is in order",
        "detectors/line.py",
        {"if active > 0 and (clipped == 0 or clipped > active / 2):": "if False:"},
        (f"{SETTINGS}settings_beyond_the_fit_data_warn",),
    ),
    Mutation(
        "a changed attribute of a module is not seen",
        "monitor/_model_snapshot.py",
        {"self._content_changes() or self._setting_changes()": "self._content_changes()"},
        (f"{MODEL}a_changed_attribute_is_named_when_it_is_used",),
    ),
    Mutation(
        "an attribute that changes nothing is looked at for ever",
        "monitor/_model_snapshot.py",
        {"                self._settings.accept(now)\n": "                pass\n"},
        (f"{MODEL}an_attribute_that_changes_nothing_costs_a_few_looks",),
    ),
    Mutation(
        "a value without effect hides every later one",
        "monitor/_plain_settings.py",
        {"self._counts[key] < _COUNTS": "False"},
        (f"{MODEL}a_value_without_effect_does_not_hide_a_later_one",),
    ),
    Mutation(
        "writes past the counter are looked for in four layers",
        "monitor/_tensor_versions.py",
        {'if any(tensor.device.type != "cpu" for tensor in plain):': "if True:"},
        (f"{MODEL}a_write_past_the_counter_to_any_layer_is_seen",),
    ),
    Mutation(
        "what is no tensor gets no hint",
        "_engine/mistakes.py",
        {"    if _is_image(data):\n": "    if False:\n"},
        (f"{BATCHES}what_stands_for_data_or_a_batch_says_what_to_type",),
    ),
    Mutation(
        "the second of two views is dropped",
        "_engine/batches.py",
        {"    if views is not None:\n": "    if False:\n"},
        (f"{BATCHES}the_second_of_two_views_is_not_dropped",),
    ),
    Mutation(
        "a key of data sets is not known",
        "_engine/forms.py",
        {'"img", "images"': '"images"'},
        (f"{BATCHES}keys_that_data_sets_use",),
    ),
    Mutation(
        "one image is not told to need an axis",
        "_engine/misfits.py",
        {"            hint = _axes(inputs, rank, first.in_channels)\n": ""},
        ("test_binding.py::test_inputs_that_do_not_fit_are_refused",),
    ),
    Mutation(
        "every other shape is laid to a changed model",
        "_engine/misfits.py",
        {"misfit(module, example) is not None and misfit(module, inputs) is None": "True"},
        (f"{MONITOR}other_inputs_than_before_are_refused",),
    ),
    Mutation(
        "dropout is laid to rows that depend on each other",
        "taps/_mixing.py",
        {"    if _differ(first, second, tolerance):\n": "    if False:\n"},
        ("taps/test_output.py::test_dropout_that_stays_on_is_called_random",),
    ),
    Mutation(
        "of what a model raises, only a RuntimeError is the model's",
        "taps/_failures.py",
        {"return not (isinstance": "return isinstance(error, RuntimeError) and not (isinstance"},
        ("taps/test_output.py::test_what_the_model_raises_names_the_input",),
    ),
    Mutation(
        "all is a name that no method has",
        "_engine/roster.py",
        {'if isinstance(detectors, str) and detectors == "all":': "if False:"},
        (f"{MONITOR}all_stands_for_every_method",),
    ),
    Mutation(
        "a prefix of Lightning's is another model",
        "models/weights.py",
        {"return inner if prefix and len(inner) == len(given)": "return inner if False"},
        ("models/test_weights.py::test_a_lightning_checkpoint_is_read_without_its_prefix",),
    ),
    Mutation(
        "default layers include what the logits do not depend on",
        "taps/_recording.py",
        {"connected=unknown or any(n is result or n in consumers for n in own)": "connected=True"},
        (f"{SETTINGS}default_layers_leave_out_what_the_logits_do_not_depend_on",),
    ),
    Mutation(
        "signed features are in order for LINe",
        "detectors/line.py",
        {"        if bool((features < 0).any()):\n": "        if False:\n"},
        (f"{SETTINGS}line_on_signed_features_warns",),
    ),
    Mutation(
        "copies count as distinct samples of a calibration",
        "calibration/_rule.py",
        {"if contents.distinct < need:": "if len(batch) < need:"},
        (f"{COPIES}fewer_distinct_contents_than_the_promise_needs_are_refused",),
    ),
    Mutation(
        "rounding is not measured",
        "monitor/_session.py",
        {"tolerances(bound, measured.sample, scores)": "{}"},
        (f"{COPIES}copies_of_one_image_keep_the_rate_in_batches_of_any_size",),
    ),
    Mutation(
        "so many scores may be infinite that the promise is void",
        "calibration/conformal.py",
        {"    if broken:\n": "    if False:\n"},
        ("test_calibration_decision.py::test_too_many_scores_that_are_not_finite_are_counted",),
    ),
    Mutation(
        "every row of a job was decided by its class",
        "batch/_columns.py",
        {"np.asarray(self._of(head, answer).class_conditional, bool)": "True"},
        ("test_scoring_job.py::test_a_promise_per_class_says_which_rows_their_class_decided",),
    ),
    Mutation(
        "an input on which the model raises ends the job",
        "batch/_shard_scorer.py",
        {"    except DataError as error:": "    except ZeroDivisionError as error:"},
        ("test_scoring_job.py::test_images_on_which_the_model_raises_are_rows_of_their_own",),
    ),
    Mutation(
        "names may hold a slash",
        "_engine/roster.py",
        {'not {"/", "|"} & set(name)': "True"},
        (f"{NAMES}a_name_that_files_cannot_hold_is_refused_everywhere",),
    ),
    Mutation(
        "a file is replaced by one that nobody tried to load",
        "monitor/_saving.py",
        {"manifest, stored, loadable)": "manifest, stored, lambda _: None)"},
        (f"{NAMES}what_could_not_be_loaded_does_not_replace_what_was_there",),
    ),
    Mutation(
        "pipes and devices are replaced",
        "_io/atomic.py",
        {"    if stat.S_ISREG(mode):": "    if True:"},
        ("test_artifact_atomic.py::test_only_a_file_is_replaced",),
    ),
    Mutation(
        "a training goes on with other data",
        "training/_checkpoint.py",
        {"    if other:\n": "    if False:\n"},
        (f"{TRAINING}a_run_is_not_resumed_on_other_data_of_equal_size",),
    ),
    Mutation(
        "random transforms are decoded once",
        "training/_samples.py",
        {"self._cacheable = decodes_alike(dataset)": "self._cacheable = True"},
        (f"{TRAINING}only_images_that_decode_alike_are_cached",),
    ),
    Mutation(
        "copies of outliers are not told",
        "training/_sound_images.py",
        {"    if copies:\n": "    if False:\n"},
        ("test_training_bad_images.py::test_copies_among_the_outliers_are_told",),
    ),
    Mutation(
        "AVIF goes to the decoder of HEIC",
        "data/_diagnosis.py",
        {' and b"avif" not in brands': ""},
        (f"{CONDITION}avif_is_not_given_to_the_decoder_of_heic",),
    ),
    Mutation(
        "a file of boxes is never cut short",
        "data/_diagnosis.py",
        {'    if head[4:8] == b"ftyp":\n': "    if False:\n"},
        (f"{CONDITION}faults",),
    ),
    Mutation(
        "what is fully transparent is broken",
        "data/_decode.py",
        {'            "transparent",': '            "broken",'},
        (f"{CONDITION}faults",),
    ),
)
