"""A port is the function that the torch module is, with its names, and the torch module stays as it was."""

import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases import NETWORKS
from flax import nnx
from port_models import MODELS
from port_models.common import Model

import torchref
from flaxnets import nn as flax_nn
from flaxnets import state, training, weights
from flaxnets.port import PortError, from_torch
from flaxnets.port.checking import check_port
from flaxnets.port.outcomes import Arguments, Setting

# Both modes compiled with gradients, and both operation by operation.
SETTINGS = [Setting(is_training, gradients=jit, jit=jit) for is_training in (True, False) for jit in (True, False)]

# The functions of these models draw random numbers in training mode, other ones than torch's.
RANDOM = {"convnext", "denoiser", "style_generator", "vae", "vit", "vit_interpolated"}

# What decides about their control flow is known only when the program runs.
REFUSED = {"fancy_mlp": r"mlp.py:94: x.norm\(\) > 1(.|\n)*jax.lax.cond\(x.norm\(\) > 1, f, g, x\)(.|\n)*mlp.py:96"}


def _of_network(case) -> Model:
    def inputs():
        arrays = jax.tree.map(np.asarray, case.inputs(np.random.default_rng(0)))
        return jax.tree.map(
            lambda a: torch.from_numpy(a.astype(np.float32 if a.dtype.kind == "f" else a.dtype)), arrays
        )

    return Model(case.name, lambda: torchref.create_model(case.name, **case.options), inputs)


NAMES = {model.name: model for model in [*map(_of_network, NETWORKS), *MODELS]}


def built(model: Model) -> tuple[torch.nn.Module, Arguments]:
    """The module, with parameters and statistics off their initial values, and the arguments of a call."""
    torch.manual_seed(zlib.crc32(model.name.encode()))
    module = model.build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for each in module.modules():
            if isinstance(each, torch.nn.modules.batchnorm._BatchNorm) and each.running_var is not None:
                each.running_mean.normal_()
                each.running_var.uniform_(0.5, 2)
    return module, Arguments(model.inputs(), model.kwargs())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_outputs_gradients_and_buffers_are_torchs(name: str):
    module, arguments = built(NAMES[name])
    port = from_torch(module, arguments.args, arguments.kwargs, check=False)
    expected = module.state_dict()
    assert [*expected] == [*port.state_dict()]
    for key, value in port.state_dict().items():
        np.testing.assert_array_equal(value, expected[key].numpy())
    settings = [setting for setting in SETTINGS if not (setting.training and name in RANDOM)]
    check_port(module, port, arguments, settings)


@pytest.mark.parametrize("name", REFUSED)
def test_what_depends_on_values_is_refused(name: str):
    module, arguments = built(NAMES[name])
    with pytest.raises(PortError, match=REFUSED[name]):
        from_torch(module, arguments.args, arguments.kwargs)
