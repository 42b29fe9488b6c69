"""Networks by name."""

import pytest

import flaxnets
from flaxnets import nn
from flaxnets.registry import register


def test_models_are_listed_by_pattern():
    assert "densenet" in flaxnets.list_models()
    assert flaxnets.list_models("res*") == ["resnet18"]
    assert flaxnets.list_models("nothing*") == []


@pytest.mark.parametrize(
    ("name", "near"), [("densnet", "densenet"), ("resnet-18", "resnet18"), ("LeNet", "lenet"), ("mpl", "mlp")]
)
def test_a_mistyped_name_suggests_the_near_ones(name, near):
    with pytest.raises(ValueError, match=f"unknown network '{name}'; did you mean .*'{near}'"):
        flaxnets.create_model(name)


def test_a_name_like_none_lists_all():
    with pytest.raises(ValueError, match=r"known: .*densenet"):
        flaxnets.create_model("zzzzzz")


def test_a_name_registered_twice_raises():
    with pytest.raises(ValueError, match=r"'mlp' is already registered by flaxnets\.models\.mlp\.mlp"):

        @register(input_shape=(1,))
        def mlp(*, rngs):
            return nn.Flatten()


def test_an_unknown_option_suggests_the_near_ones():
    with pytest.raises(TypeError, match="resnet18 has no option 'num_class'; did you mean 'num_classes'"):
        flaxnets.create_model("resnet18", num_class=3)


@pytest.mark.parametrize(
    ("name", "options"),
    [("lenet", {"num_classes": 0}), ("mlp", {"num_hiddens": -3}), ("resnet18", {"num_channels": (4, 0, 4, 4)})],
)
def test_a_size_that_is_not_positive_raises_with_its_value(name, options):
    (option,) = options
    with pytest.raises(ValueError, match=rf"{name}: {option}=.* must be positive"):
        flaxnets.create_model(name, **options)
