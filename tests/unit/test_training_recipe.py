import json

import pytest

from gradood._bibliography import bibliography
from gradood._io.records import decode, to_plain
from gradood.errors import ConfigError, UnknownNameError
from gradood.training import METHODS, load_recipe, recipes
from gradood.training.recipe import Recipe


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_complete(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.method in METHODS
    assert recipe.summary
    assert recipe.version >= 1
    if recipe.paper is not None:
        assert recipe.paper in bibliography()
        assert recipe.deviations
    assert decode(Recipe, json.loads(json.dumps(to_plain(recipe))), "again") == recipe


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_recipe_of_its_name(method):
    assert load_recipe(method).method == method


def test_the_published_settings_of_greg():
    recipe = load_recipe("cifar10-greg")
    assert recipe.loss.margin is not None and recipe.loss.gradient is not None
    assert (recipe.loss.margin.weight, recipe.loss.gradient.weight) == (0.1, 1.0)
    assert (recipe.loss.margin.m_in, recipe.loss.margin.m_out) == (-25.0, -7.0)
    assert (recipe.loss.gradient.m_in, recipe.loss.gradient.m_out) == (-25.0, -7.0)
    assert recipe.loss.gradient.reduction == "released"
    assert (recipe.batch.id, recipe.batch.aux_per_id, recipe.schedule.epochs) == (64, 1, 20)
    assert (recipe.optimizer.lr, recipe.schedule.lr_min) == (0.01, 1e-6)
    assert recipe.optimizer.nesterov and recipe.optimizer.weight_decay == 1e-4


def test_the_published_settings_of_greg_plus():
    recipe = load_recipe("cifar10-greg-plus")
    assert recipe.start == "scratch"
    assert (recipe.batch.id, recipe.batch.aux_per_id) == (64, 2)
    assert recipe.sampling.kind == "cluster-energy" and recipe.sampling.candidates_per_id == 6
    assert (recipe.schedule.epochs, recipe.schedule.milestones) == (60, (50,))
    assert recipe.optimizer.lr == 0.1
    imagenet = load_recipe("imagenet-greg-plus")
    assert (imagenet.optimizer.kind, imagenet.optimizer.lr) == ("adam", 1e-4)
    assert (imagenet.batch.id, imagenet.sampling.candidates_per_id) == (32, 46)
    assert (imagenet.schedule.epochs, imagenet.schedule.milestones) == (15, (10,))


def test_a_file_changes_its_base(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('base = "greg"\nname = "own"\n[loss.gradient]\nweight = 0.25\n')
    recipe = load_recipe(file)
    assert recipe.loss.gradient is not None and recipe.loss.gradient.weight == 0.25
    assert recipe.loss.margin is not None and recipe.loss.margin.weight == 0.1
    assert (recipe.name, recipe.method) == ("own", "greg")


def test_changes_are_values_of_toml():
    recipe = load_recipe(
        "greg",
        [
            "schedule.kind=multi-step",
            "schedule.milestones=[2, 4]",
            "batch.statistics='frozen'",
            "ema.decay=0.9",
            "checkpoint.every=none",
            "optimizer.lr=1",
        ],
    )
    assert recipe.schedule.kind == "multi-step" and recipe.schedule.milestones == (2, 4)
    assert recipe.batch.statistics == "frozen"
    assert recipe.ema is not None and recipe.ema.decay == 0.9
    assert recipe.checkpoint.every is None
    assert recipe.optimizer.lr == 1.0


def test_an_earlier_run_is_a_recipe(tmp_path):
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps({"recipe": to_plain(load_recipe("small-greg"))}))
    assert load_recipe(file) == load_recipe("small-greg")
    file.write_text("{}")
    with pytest.raises(ConfigError, match=r"holds no recipe"):
        load_recipe(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optimiser.lr=0.1", r"has no option 'optimiser'; did you mean 'optimizer'\?"),
        ("optimizer.learning=0.1", r"recipe 'greg'\.optimizer has no option 'learning'"),
        ("loss.gradient.reduction=mean", r"loss\.gradient\.reduction is 'mean'; choose from"),
        ("loss.gradient.m_in=no", r"is 'no'; expected a number or 'auto'"),
        ("loss.gradient.m_in=-3.0", r"expected two numbers, or 'auto' twice"),
        ("batch.id=0", r"recipe 'greg'\.batch: id=0; expected a whole number ≥ 1"),
        ("batch.id=true", r"batch\.id is True; expected a whole number"),
        ("batch.id=1.5", r"batch\.id is 1\.5; expected a whole number"),
        ("batch=3", r"batch is 3; expected a table of options"),
        ("schedule.milestones=[4, 2]", r"expected epochs in increasing order"),
        ("schedule.milestones=3", r"milestones is 3; expected a list"),
        ("sampling.kind=cluster-energy", r"set batch\.aux_per_id = 2"),
        ("optimizer.momentum=0", r"nesterov=True with momentum=0"),
        ("loss.mixing.weight=1", r"mixing puts mixtures in the place of outliers"),
        ("format=2", r"format is 2; choose from 1"),
        ("optimizer.lr", r"changes nothing; expected key=value"),
    ],
)
def test_wrong_options_are_told(change, said):
    with pytest.raises(ConfigError, match=said):
        load_recipe("greg", [change])


def test_unknown_recipes_and_files_are_told(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no recipe 'gregg'; did you mean"):
        load_recipe("gregg")
    with pytest.raises(ConfigError, match=r"cannot be read"):
        load_recipe(tmp_path / "absent.toml")
    file = tmp_path / "broken.toml"
    file.write_text("name = ")
    with pytest.raises(ConfigError, match=r"is no TOML"):
        load_recipe(file)
    file.write_text(f'base = "{file}"\nname = "loop"\n')
    with pytest.raises(ConfigError, match=r"is its own base"):
        load_recipe(str(file))
    file.write_text('name = "x"\n')
    with pytest.raises(ConfigError, match=r"lacks the option 'method'"):
        load_recipe(file)
