"""Weight files: what one side saves the other loads, shared arrays included."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.torch
import torch
from flax import nnx
from safetensors.numpy import load_file

import flaxnets
import torchref
from flaxnets.training import Batch, TrainState, make_train_step
from flaxnets.weights import load_weights, save_weights

SHARING = ["shared_linear", "shared_mlp", "naming_cnn", "naming_cnn_parallel"]


@pytest.mark.parametrize("name", [*SHARING, "lenet_batchnorm", "lstm_lm", "dict_dense"])
def test_weights_go_to_torch_and_back(name, tmp_path):
    torch.manual_seed(1)
    source, twin = flaxnets.create_model(name, rngs=nnx.Rngs(5)), torchref.create_model(name)
    save_weights(source, tmp_path / "flax.safetensors")
    # Not strict: torch fills in counters by itself, and load_model then calls an alias of a counter unexpected.
    missing, _ = safetensors.torch.load_model(twin, tmp_path / "flax.safetensors", strict=False)
    assert missing == set()
    for key, array in source.state_dict().items():
        np.testing.assert_array_equal(twin.state_dict()[key], array)

    torch.nn.init.normal_(next(twin.parameters()))
    safetensors.torch.save_model(twin, str(tmp_path / "torch.safetensors"))
    target = flaxnets.create_model(name)
    assert load_weights(target, tmp_path / "torch.safetensors") == ([], [])
    for key, array in target.state_dict().items():
        np.testing.assert_array_equal(array, twin.state_dict()[key])
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["flax.safetensors", "torch.safetensors"]


@pytest.mark.parametrize("name", SHARING)
def test_a_shared_array_is_stored_once_and_stays_shared(name, tmp_path):
    model = flaxnets.create_model(name)
    save_weights(model, tmp_path / "model.safetensors")
    stored = load_file(tmp_path / "model.safetensors")
    unique = {id(variable) for _, variable in flaxnets.state.named_variables(model)}
    assert len(stored) == len(unique) < len(model.state_dict())
    load_weights(model, tmp_path / "model.safetensors")
    assert len({id(variable) for _, variable in flaxnets.state.named_variables(model)}) == len(unique)
    merged = nnx.merge(*nnx.split(model))
    assert len(list(merged.named_parameters())) == len(list(torchref.create_model(name).named_parameters()))


def test_an_optimizer_moves_a_shared_parameter_once_by_the_sum_of_its_gradients():
    model, optimizer = flaxnets.create_model("shared_linear"), optax.sgd(0.1)
    model.load_state_dict({name: np.full((1, 1), 3.0) for name in model.state_dict()})

    def objective(outputs, targets, weights):
        return {"loss": outputs.sum(), "count": weights.sum()}

    step = make_train_step(model, optimizer, objective)
    state, _ = step(TrainState.create(model, optimizer), Batch(jnp.ones((1, 1)), None, jnp.ones(1)))
    state.update_model(model)
    assert {name: float(array.item()) for name, array in model.state_dict().items()} == {
        "0.weight": pytest.approx(2.4),
        "1.weight": pytest.approx(2.4),
    }


def test_a_failed_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    model, path = flaxnets.create_model("shared_linear"), tmp_path / "model.safetensors"
    save_weights(model, path)
    before = path.read_bytes()

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flaxnets.weights.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_weights(model, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
