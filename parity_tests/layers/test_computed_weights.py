"""Tests of weights that nn.utils computes: orthogonal, pruned, and torch's older weight and spectral norms."""

import copy
import warnings
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch.nn.utils import prune as torch_prune

from flaxnets import nn
from flaxnets.parity import assert_parity, transfer

prune = nn.utils.prune


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def make(kind, *args, **kwargs):
    torch.manual_seed(0)
    return getattr(torch.nn, kind)(*args, **kwargs), getattr(nn, kind)(*args, **kwargs, rngs=nnx.Rngs(0))


def normalized(utility, pair, **options):
    torch_layer, layer = pair
    rngs = {"rngs": nnx.Rngs(1)} if utility == "spectral_norm" else {}
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch recommends the newer weight_norm
        getattr(torch.nn.utils, utility)(torch_layer, **options)
    return torch_layer, getattr(nn.utils, utility)(layer, **options, **rngs)


OLDER = [
    ("weight_norm", "Linear", (3, 5), (4, 3), {}),
    ("weight_norm", "Linear", (3, 5, False), (3,), {"dim": 1}),
    ("weight_norm", "Linear", (3, 5), (4, 3), {"dim": None}),
    ("weight_norm", "Linear", (3, 5), (4, 3), {"name": "bias"}),
    ("weight_norm", "Conv2d", (2, 3, 2), (2, 2, 5, 4), {"dim": 1}),
    ("weight_norm", "ConvTranspose1d", (2, 3, 2), (2, 2, 4), {}),
    ("spectral_norm", "Linear", (3, 5), (4, 3), {}),
    ("spectral_norm", "Linear", (3, 5), (4, 3), {"dim": 1, "eps": 1e-3}),
    ("spectral_norm", "Linear", (3, 5, False), (3,), {"n_power_iterations": 3}),
    ("spectral_norm", "Linear", (3, 5), (4, 3), {"name": "bias"}),
    ("spectral_norm", "Conv2d", (2, 3, 2), (2, 2, 5, 4), {"n_power_iterations": 2}),
    ("spectral_norm", "ConvTranspose2d", (2, 3, 2), (2, 2, 4, 3), {}),
    ("spectral_norm", "Bilinear", (2, 3, 4), ((5, 2), (5, 3)), {}),
]


@pytest.mark.parametrize(("utility", "kind", "args", "shape", "options"), OLDER)
def test_older_norms_have_torchs_names_outputs_gradients_and_buffers(utility, kind, args, shape, options, rng):
    torch_layer, layer = normalized(utility, make(kind, *args), **options)
    assert list(layer.state_dict()) == list(torch_layer.state_dict())
    torch_layer.double()
    layer.double()
    shapes = shape if isinstance(shape[0], tuple) else (shape,)
    inputs = [rng.normal(size=shape) for shape in shapes]
    for training in (True, False, True):
        for module in (torch_layer, layer):
            module.train(training)
        layer.load_state_dict(torch_layer.state_dict())
        assert_same_call(torch_layer, layer, inputs)


def assert_same_call(torch_layer, layer, inputs):
    """Compare outputs, gradients and state directly: torch's hooks prevent the copies that the parity harness makes."""
    cotangent = np.random.default_rng(0).normal(size=torch_layer(*map(torch.tensor, inputs)).shape)
    layer(*map(jnp.asarray, inputs))
    torch_layer.zero_grad()
    output = torch_layer(*map(torch.tensor, inputs))
    (output * torch.tensor(cotangent)).sum().backward()
    graphdef, parameters, others = nnx.split(nnx.clone(layer), nnx.Param, ...)

    @jax.jit
    def gradients(parameters, others):
        def loss(parameters):
            module = nnx.merge(graphdef, parameters, others, copy=True)
            result = module(*map(jnp.asarray, inputs))
            return (result * cotangent).sum(), (result, nnx.state(module))

        return jax.grad(loss, has_aux=True)(parameters)

    grads, (result, state) = gradients(parameters, others)
    nnx.update(layer, state)
    np.testing.assert_allclose(result, output.detach().numpy(), rtol=1e-11, atol=1e-12)
    for name, expected in torch_layer.named_parameters():
        np.testing.assert_allclose(grads[name][...], expected.grad.numpy(), rtol=1e-9, atol=1e-11)
    for name, expected in torch_layer.state_dict().items():
        np.testing.assert_allclose(layer.state_dict()[name], expected.numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("utility", ["weight_norm", "spectral_norm"])
def test_removing_an_older_norm_leaves_what_torch_leaves(utility):
    torch_layer, layer = normalized(utility, make("Conv2d", 2, 3, 2))
    layer.load_state_dict(torch_layer.state_dict())
    for utilities, module in ((torch.nn.utils, torch_layer), (nn.utils, layer)):
        assert getattr(utilities, f"remove_{utility}")(module) is module
    assert type(layer) is nn.Conv2d
    assert list(layer.state_dict()) == list(torch_layer.state_dict()) == ["bias", "weight"]
    for name, expected in torch_layer.state_dict().items():
        np.testing.assert_allclose(layer.state_dict()[name], expected.numpy(), rtol=1e-6)
    for utilities, module in ((torch.nn.utils, torch_layer), (nn.utils, layer)):
        with pytest.raises(ValueError, match="'weight'"):
            getattr(utilities, f"remove_{utility}")(module)


OLDER_FAULTS = [
    ("weight_norm", lambda: nn.Linear(2, 2, rngs=nnx.Rngs(0)), {"name": "scale"}, ValueError, "no parameter 'scale'"),
    ("weight_norm", lambda: nn.Linear(2, 2, rngs=nnx.Rngs(0)), {"dim": 2}, IndexError, "got 2"),
    ("weight_norm", lambda: nn.LazyLinear(2, rngs=nnx.Rngs(0)), {}, ValueError, "'weight' is uninitialized"),
    ("spectral_norm", lambda: nn.LazyLinear(2, rngs=nnx.Rngs(0)), {}, ValueError, "'weight' is uninitialized"),
    ("spectral_norm", lambda: nn.Linear(2, 2, False, rngs=nnx.Rngs(0)), {"name": "bias"}, ValueError, "no .* 'bias'"),
    ("spectral_norm", lambda: nn.Linear(2, 2, rngs=nnx.Rngs(0)), {"n_power_iterations": 0}, ValueError, "got 0"),
]


@pytest.mark.parametrize(("utility", "layer", "options", "error", "words"), OLDER_FAULTS)
def test_older_norms_refuse_what_torch_refuses(utility, layer, options, error, words):
    rngs = {"rngs": nnx.Rngs(1)} if utility == "spectral_norm" else {}
    with pytest.raises(error, match=words):
        getattr(nn.utils, utility)(layer(), **options, **rngs)


def test_a_weight_is_normalised_once_and_cannot_be_assigned():
    layer = nn.utils.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(RuntimeError, match="'weight' of Linear is already computed"):
        nn.utils.weight_norm(layer)
    with pytest.raises(AttributeError, match="assign its parameters weight_g, weight_v"):
        layer.weight = jnp.ones((2, 3))


def test_computed_layers_pass_through_what_nnx_does_and_share_programs():
    layers = [nn.utils.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(seed))) for seed in range(2)]
    x = jnp.ones((1, 3), jnp.float32)
    assert nnx.graphdef(layers[0]) == nnx.graphdef(layers[1])
    traces = []
    step = nnx.jit(lambda module, x: traces.append(1) or module(x))
    for layer in layers:
        expected = layer(x)
        for copied in (nnx.clone(layer), copy.deepcopy(layer)):
            np.testing.assert_allclose(copied(x), expected, rtol=1e-6)
        np.testing.assert_allclose(step(layer, x), expected, rtol=1e-6)
    assert len(traces) == 1
    assert isinstance(layer, nn.Linear)
    assert not nn.utils.parametrize.is_parametrized(layer)
    assert nn.utils.parametrize.type_before_parametrizations(layer) is nn.Linear


def test_a_pruned_layer_can_be_parametrised_too_and_taken_apart_in_any_order():
    for order in ("prune first", "parametrisation first"):
        layer = nn.Linear(3, 2, rngs=nnx.Rngs(0))
        prune.l1_unstructured(layer, "weight", 2)
        nn.utils.parametrizations.weight_norm(layer, "bias")
        expected = layer(jnp.ones(3, jnp.float32))
        removals = [
            lambda layer=layer: prune.remove(layer, "weight"),
            lambda layer=layer: nn.utils.remove_parametrizations(layer, "bias"),
        ]
        for remove in removals if order == "prune first" else removals[::-1]:
            remove()
            np.testing.assert_allclose(layer(jnp.ones(3, jnp.float32)), expected, rtol=1e-6)
        assert type(layer) is nn.Linear
        assert sorted(layer.state_dict()) == ["bias", "weight"]


COMPUTED = {
    "weight_norm": (nn.utils.weight_norm, RuntimeError, "'weight' of Linear is already computed"),
    "parametrizations": (nn.utils.parametrizations.weight_norm, ValueError, "no parameter 'weight'"),
}


@pytest.mark.parametrize(("normalize", "error", "words"), COMPUTED.values(), ids=COMPUTED)
def test_a_weight_that_is_computed_is_not_pruned(normalize, error, words):
    layer = normalize(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    before = list(layer.state_dict())
    with pytest.raises(error, match=f"prune: .*{words}"):
        prune.l1_unstructured(layer, "weight", 1)
    assert list(layer.state_dict()) == before


@pytest.mark.parametrize("utility", ["weight_norm", "spectral_norm"])
def test_older_norms_are_trained_as_torch_trains_them(utility, rng):
    torch_layer, layer = normalized(utility, make("Linear", 3, 4))
    torch_layer.double()
    layer.double()
    layer.load_state_dict(torch_layer.state_dict())
    x = rng.normal(size=(5, 3))
    optimizer = nnx.Optimizer(layer, optax.sgd(0.1), wrt=nnx.Param)
    torch_optimizer = torch.optim.SGD(torch_layer.parameters(), 0.1)
    for _ in range(3):
        optimizer.update(layer, nnx.grad(lambda layer: (layer(jnp.asarray(x)) ** 2).sum())(layer))
        torch_optimizer.zero_grad()
        (torch_layer(torch.tensor(x)) ** 2).sum().backward()
        torch_optimizer.step()
    for name, expected in torch_layer.state_dict().items():
        np.testing.assert_allclose(layer.state_dict()[name], expected.numpy(), rtol=1e-9)


def _as_before_1_0(arrays, layer):
    """Return the state dict of spectral norms before they stored ``v``: with the normalized weight instead."""
    with torch.no_grad():
        layer(torch.ones(1, 3).double())
    arrays = {name: array for name, array in arrays.items() if name != "weight_v"}
    return {**arrays, "weight": layer.weight.detach().clone()}


SPECTRAL_STATES = {
    "of today": lambda arrays, layer: arrays,
    "before 1.0": _as_before_1_0,
    "before 1.0, without u": lambda arrays, layer: {
        k: v for k, v in arrays.items() if k not in ("weight_u", "weight_v")
    },
    "without v": lambda arrays, layer: {k: v for k, v in arrays.items() if k != "weight_v"},
    "of a plain layer": lambda arrays, layer: {"weight": arrays["weight_orig"], "bias": arrays["bias"]},
    "before 1.0, of text": lambda arrays, layer: {**_as_before_1_0(arrays, layer), "weight_u": "u"},
}


@pytest.mark.parametrize("version", [None, 0, 1])
@pytest.mark.parametrize("edit", SPECTRAL_STATES.values(), ids=SPECTRAL_STATES)
def test_older_spectral_norms_load_what_torch_loads(edit, version):
    torch_layer, layer = normalized("spectral_norm", make("Linear", 3, 5))
    torch_layer.double().eval()
    layer.double().eval()
    arrays = OrderedDict(edit(torch_layer.state_dict(), torch_layer))
    if version is not None:
        arrays._metadata = {"": {"version": 1, "spectral_norm": {"weight.version": version}}}
    target, _ = normalized("spectral_norm", make("Linear", 3, 5))
    target.double().eval()
    outcomes = []
    for module in (target, layer):
        try:
            outcomes.append(tuple(map(set, module.load_state_dict(arrays))))
        except (RuntimeError, AttributeError, TypeError) as error:
            outcomes.append(type(error).__name__)
    if isinstance(outcomes[0], str):
        assert outcomes[1] == "RuntimeError"
    else:
        assert outcomes[0] == outcomes[1]
        for name, expected in target.state_dict().items():
            np.testing.assert_allclose(layer.state_dict()[name], expected.numpy(), rtol=1e-9)


def test_state_dicts_of_either_weight_norm_load_into_the_other():
    old = nn.utils.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    new = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(1)))
    x = jnp.ones((1, 3), jnp.float32)
    new.load_state_dict(old.state_dict())
    np.testing.assert_allclose(new(x), old(x), rtol=1e-6)
    old = nn.utils.weight_norm(nn.Linear(3, 2, rngs=nnx.Rngs(2)))
    old.load_state_dict(new.state_dict())
    np.testing.assert_allclose(old(x), new(x), rtol=1e-6)


ORTHOGONAL = [
    (kind, args, shape, orthogonal_map, trivialization)
    for kind, args, shape in [
        ("Linear", (4, 4), (2, 4)),
        ("Linear", (3, 5), (2, 3)),
        ("Linear", (5, 3), (2, 5)),
        ("Linear", (1, 3), (2, 1)),
        ("Conv1d", (3, 2, 3), (1, 3, 5)),
    ]
    for orthogonal_map in (None, "matrix_exp", "cayley", "householder")
    for trivialization in (True, False)
]


def _orthogonal_pair(kind, args, orthogonal_map, trivialization):
    torch_layer, layer = make(kind, *args)
    options = {"orthogonal_map": orthogonal_map, "use_trivialization": trivialization}
    torch.nn.utils.parametrizations.orthogonal(torch_layer, **options)
    return torch_layer, nn.utils.parametrizations.orthogonal(layer, **options)


@pytest.mark.parametrize(("kind", "args", "shape", "orthogonal_map", "trivialization"), ORTHOGONAL)
def test_orthogonal_weights_are_torchs_with_their_gradients(kind, args, shape, orthogonal_map, trivialization, rng):
    torch_layer, layer = _orthogonal_pair(kind, args, orthogonal_map, trivialization)
    options = {"dtypes": ("float64",), "modes": ("train",), "runs": ("eager",)}
    if orthogonal_map == "householder" or (orthogonal_map is None and args[0] != args[1]):
        options["weights"] = "torch"  # the diagonal contains signs, which must stay exactly 1 or -1
    assert_parity(torch_layer, layer, rng.normal(size=shape), **options)
    _assert_orthogonal(layer.weight)


def _assert_orthogonal(weight):
    tall = weight.mT if weight.shape[-2] < weight.shape[-1] else weight
    gram = tall.conj().mT @ tall
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(gram.shape[-1]), gram.shape), atol=1e-5)


@pytest.mark.parametrize("orthogonal_map", ["matrix_exp", "cayley"])
def test_unitary_weights_are_torchs(orthogonal_map, rng):
    torch_layer = torch.nn.Linear(3, 5, False, dtype=torch.complex128)
    layer = nn.Linear(3, 5, False, dtype=jnp.complex128, rngs=nnx.Rngs(0))
    torch.nn.utils.parametrizations.orthogonal(torch_layer, orthogonal_map=orthogonal_map)
    nn.utils.parametrizations.orthogonal(layer, orthogonal_map=orthogonal_map)
    noise = torch.tensor(rng.normal(size=(5, 3)) + 1j * rng.normal(size=(5, 3)))
    torch_layer.parametrizations.weight.original.data.add_(noise)
    transfer(torch_layer, layer)
    np.testing.assert_allclose(layer.weight, torch_layer.weight.detach().numpy(), rtol=1e-10, atol=1e-12)
    _assert_orthogonal(layer.weight)


@pytest.mark.parametrize(("orthogonal_map", "trivialization"), [("householder", False), ("cayley", True), (None, True)])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_an_orthogonal_weight_is_assigned_as_in_torch(shape, orthogonal_map, trivialization, rng):
    pair = _orthogonal_pair("Linear", shape, orthogonal_map, trivialization)
    pair[0].double()
    pair[1].double()
    value = rng.normal(size=shape[::-1])
    q = np.linalg.qr(value if value.shape[0] >= value.shape[1] else value.T)[0]
    for matrix in (value, q.reshape(shape[::-1]) if q.shape == shape[::-1] else q.T):
        pair[0].weight, pair[1].weight = torch.tensor(matrix), jnp.asarray(matrix)
        np.testing.assert_allclose(pair[1].weight, pair[0].weight.detach().numpy(), atol=1e-10)
        _assert_orthogonal(pair[1].weight)


ORTHOGONAL_FAULTS = {
    "no such weight": (lambda layer: {"name": "scale"}, ValueError, "no parameter or buffer 'scale'"),
    "a vector": (lambda layer: {"name": "bias"}, ValueError, r"a weight of shape \(2,\)"),
    "no such map": (lambda layer: {"orthogonal_map": "qr"}, ValueError, "got 'qr'"),
}


@pytest.mark.parametrize(("options", "error", "words"), ORTHOGONAL_FAULTS.values(), ids=ORTHOGONAL_FAULTS)
def test_orthogonal_refuses_what_torch_refuses(options, error, words):
    torch_layer, layer = make("Linear", 3, 2)
    with pytest.raises(error):
        torch.nn.utils.parametrizations.orthogonal(torch_layer, **options(torch_layer))
    with pytest.raises(error, match=words):
        nn.utils.parametrizations.orthogonal(layer, **options(layer))


def test_orthogonal_weights_that_cannot_be_assigned_or_made_are_refused():
    layer = nn.utils.parametrizations.orthogonal(nn.Linear(3, 2, rngs=nnx.Rngs(0)), use_trivialization=True)
    with pytest.raises(ValueError, match=r"of shape \(2, 3\), got \(3, 3\)"):
        layer.weight = jnp.ones((3, 3))
    layer = nn.Linear(3, 2, rngs=nnx.Rngs(0))
    nn.utils.parametrizations.orthogonal(layer, orthogonal_map="cayley", use_trivialization=False)
    with pytest.raises(NotImplementedError, match="map 'cayley' and use_trivialization=False cannot be assigned"):
        layer.weight = jnp.ones((2, 3))
    layer = nn.Linear(3, 3, dtype=jnp.complex64, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="dtype complex64"):
        nn.utils.parametrizations.orthogonal(layer, orthogonal_map="householder")


# Pruning methods without random numbers, on a weight of this shape. Several methods are applied one after the other.
PRUNINGS = {
    "identity": [("identity", (), {})],
    "l1 by number": [("l1_unstructured", (5,), {})],
    "l1 by fraction": [("l1_unstructured", (0.37,), {})],
    "l1 of nothing": [("l1_unstructured", (0,), {})],
    "l1 of all": [("l1_unstructured", (1.0,), {})],
    "l1 by scores": [("l1_unstructured", (0.5,), {"importance_scores": "scores"})],
    "l1 twice": [("l1_unstructured", (0.3,), {}), ("l1_unstructured", (0.5,), {})],
    "slices by the l2 norm": [("ln_structured", (0.5,), {"n": 2, "dim": 0})],
    "slices by the l1 norm": [("ln_structured", (1,), {"n": 1, "dim": 1})],
    "slices by the largest": [("ln_structured", (1,), {"n": float("inf"), "dim": -1})],
    "slices by the smallest": [("ln_structured", (1,), {"n": -float("inf"), "dim": 2})],
    "slices by Frobenius's norm": [("ln_structured", (0.5,), {"n": "fro", "dim": 0})],
    "slices by the nuclear norm": [("ln_structured", (0.5,), {"n": "nuc", "dim": 0})],
    "slices by scores": [("ln_structured", (2,), {"n": 2, "dim": 0, "importance_scores": "scores"})],
    "slices twice": [("ln_structured", (1,), {"n": 2, "dim": 0}), ("ln_structured", (1,), {"n": 1, "dim": 0})],
    "slices, then elements": [("ln_structured", (1,), {"n": 2, "dim": 0}), ("l1_unstructured", (3,), {})],
    "a mask": [("custom_from_mask", ("mask",), {})],
    "a mask on elements": [("l1_unstructured", (9,), {}), ("custom_from_mask", ("mask",), {})],
}


@pytest.mark.parametrize("steps", PRUNINGS.values(), ids=PRUNINGS)
def test_pruned_layers_have_torchs_masks_names_outputs_and_gradients(steps, rng):
    torch_layer, layer = make("Conv1d", 3, 4, 2)
    transfer(torch_layer, layer)
    arrays = {"scores": rng.normal(size=(4, 3, 2)), "mask": rng.integers(0, 2, (4, 3, 2))}

    def call(module, utilities, convert):
        for name, args, options in steps:
            args, options = (
                jax.tree.map(lambda leaf: convert(arrays[leaf]) if leaf in ("scores", "mask") else leaf, tree)
                for tree in (args, options)
            )
            assert getattr(utilities, name)(module, "weight", *args, **options) is module

    call(torch_layer, torch_prune, torch.tensor)
    call(layer, prune, jnp.asarray)
    assert list(layer.state_dict()) == list(torch_layer.state_dict()) == ["bias", "weight_orig", "weight_mask"]
    np.testing.assert_array_equal(layer.weight_mask[...], torch_layer.weight_mask.numpy())
    assert layer.weight_mask.dtype == jnp.float32
    torch_layer.double()
    layer.double()
    assert_same_call(torch_layer, layer, [rng.normal(size=(2, 3, 4))])
    assert prune.is_pruned(layer)
    assert prune.remove(layer, "weight") is layer
    torch_prune.remove(torch_layer, "weight")
    assert list(layer.state_dict()) == list(torch_layer.state_dict()) == ["bias", "weight"]
    np.testing.assert_allclose(layer.weight[...], torch_layer.weight.detach().numpy(), rtol=1e-12)
    assert not prune.is_pruned(layer)
    assert type(layer) is nn.Conv1d


def test_pruning_at_random_prunes_as_many():
    layer = nn.Linear(8, 6, rngs=nnx.Rngs(0))
    prune.random_unstructured(layer, "weight", 0.25, rngs=nnx.Rngs(1))
    assert (layer.weight == 0).sum() == 12
    prune.random_structured(layer, "weight", 2, dim=0, rngs=nnx.Rngs(2))
    assert (layer.weight == 0).all(1).sum() == 2
    other = prune.random_unstructured(nn.Linear(8, 6, rngs=nnx.Rngs(0)), "weight", 0.25, rngs=nnx.Rngs(3))
    assert (
        other.weight_mask[...]
        != prune.random_unstructured(nn.Linear(8, 6, rngs=nnx.Rngs(0)), "weight", 0.25, rngs=nnx.Rngs(1)).weight_mask[
            ...
        ]
    ).any()


@pytest.mark.parametrize("with_scores", [True, False])
def test_pruning_several_layers_at_once_is_torchs(with_scores, rng):
    def nets():
        torch.manual_seed(0)
        torch_net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        net = nn.Sequential(nn.Linear(3, 4, rngs=nnx.Rngs(0)), nn.Linear(4, 2, rngs=nnx.Rngs(0)))
        transfer(torch_net, net)
        return torch_net, net

    torch_net, net = nets()
    scores = rng.normal(size=(2, 4))
    for amount in (0.4, 3):
        for module, utilities, convert in ((torch_net, torch_prune, torch.tensor), (net, prune, jnp.asarray)):
            parameters = [(module[0], "weight"), (module[1], "weight"), (module[0], "bias")]
            options = {"importance_scores": {parameters[1]: convert(scores)}} if with_scores else {}
            utilities.global_unstructured(parameters, utilities.L1Unstructured, amount=amount, **options)
        assert list(net.state_dict()) == list(torch_net.state_dict())
        for name, expected in torch_net.state_dict().items():
            np.testing.assert_array_equal(net.state_dict()[name], expected.numpy())


def _own_method(base):
    class Large(base):
        PRUNING_TYPE = "unstructured"

        def compute_mask(self, t, default_mask):
            return default_mask * (abs(t) > 0.2)

    return Large


def test_a_users_own_method_and_a_container_prune_as_in_torch():
    torch_layer, layer = make("Linear", 4, 3)
    transfer(torch_layer, layer)
    for module, utilities in ((torch_layer, torch_prune), (layer, prune)):
        utilities.l1_unstructured(module, "weight", 2)
        method = _own_method(utilities.BasePruningMethod)
        method.apply(module, "weight")
        methods = [utilities.L1Unstructured(1), method()]
        for one in methods:
            one._tensor_name = "weight"
        container = utilities.PruningContainer(methods[0])
        container.add_pruning_method(methods[1])
        assert len(container) == len(list(container)) == 2
        assert isinstance(container[1], method)
        with pytest.raises(TypeError, match="int"):
            container.add_pruning_method(3)
        other = method()
        other._tensor_name = "bias"
        with pytest.raises(ValueError, match="'bias'"):
            container.add_pruning_method(other)
    np.testing.assert_array_equal(layer.weight_mask[...], torch_layer.weight_mask.numpy())


FAULTS = {
    "an amount of text": (lambda p, m, a: p.l1_unstructured(m, "weight", "2"), TypeError, "got '2'"),
    "a negative amount": (lambda p, m, a: p.l1_unstructured(m, "weight", -1), ValueError, "got -1"),
    "a fraction over one": (lambda p, m, a: p.l1_unstructured(m, "weight", 1.5), ValueError, "got 1.5"),
    "too many elements": (lambda p, m, a: p.l1_unstructured(m, "weight", 7), ValueError, "at most 6, .* got 7"),
    "too many slices": (lambda p, m, a: p.ln_structured(m, "weight", 4, 2, 0), ValueError, "at most 2, .* got 4"),
    "slices of a vector": (lambda p, m, a: p.ln_structured(m, "bias", 1, 2, 0), ValueError, r"shape \(2,\)"),
    "no such axis": (lambda p, m, a: p.ln_structured(m, "weight", 1, 2, 2), IndexError, "got 2"),
    "no such parameter": (lambda p, m, a: p.identity(m, "scale"), AttributeError, "'scale'"),
    "scores of another shape": (
        lambda p, m, a: p.l1_unstructured(m, "weight", 1, a(np.ones((3, 3)))), AssertionError, r"got \(3, 3\)",
    ),
    "a mask of another shape": (
        lambda p, m, a: p.custom_from_mask(m, "weight", a(np.ones((3, 3)))), AssertionError, r"got \(3, 3\)",
    ),
    "not pruned": (lambda p, m, a: p.remove(m, "weight"), ValueError, "'weight'"),
    "no iterable": (lambda p, m, a: p.global_unstructured(3, p.L1Unstructured, amount=1), TypeError, "got int"),
    "scores that are no dict": (
        lambda p, m, a: p.global_unstructured([(m, "weight")], p.L1Unstructured, [1], amount=1), TypeError, "got list",
    ),
    "a structured method for all": (
        lambda p, m, a: p.global_unstructured([(m, "weight")], p.LnStructured, amount=1, n=2),
        TypeError,
        "got LnStructured, which is structured",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), FAULTS.values(), ids=FAULTS)
def test_pruning_refuses_what_torch_refuses_and_changes_nothing(call, error, words):
    torch_layer, layer = make("Linear", 3, 2)
    with pytest.raises(error):
        call(torch_prune, torch_layer, torch.tensor)
    with pytest.raises(error, match=words):
        call(prune, layer, jnp.asarray)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert type(layer) is nn.Linear


def test_pruned_weights_stay_zero_in_training():
    layer = prune.l1_unstructured(nn.Linear(3, 2, rngs=nnx.Rngs(0)), "weight", 3)
    zeros = layer.weight == 0
    optimizer = nnx.Optimizer(layer, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    x = jnp.ones((2, 3), jnp.float32)
    for _ in range(3):
        optimizer.update(layer, nnx.grad(lambda layer: (layer(x) ** 2).sum())(layer))
    assert (zeros == (layer.weight == 0)).all()
    assert zeros.sum() == 3


def test_cached_parametrisations_are_computed_once():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    torch_layer = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 2))
    layer.load_state_dict(torch_layer.state_dict())
    for module, utilities in ((torch_layer, torch.nn.utils.parametrize), (layer, nn.utils.parametrize)):
        with utilities.cached(), utilities.cached():
            assert module.weight is module.weight
            with utilities.cached():
                first = module.weight
            assert module.weight is first
        assert module.weight is not first
    for name, expected in torch_layer.state_dict().items():
        np.testing.assert_allclose(layer.state_dict()[name], expected.numpy(), rtol=1e-4)
    with nn.utils.parametrize.cached():
        value = layer.weight
        gradient = nnx.grad(lambda layer: layer.weight.sum())(layer)
        assert layer.weight is value
    assert jnp.isfinite(gradient["parametrizations"]["weight"]["original"][...]).all()


@pytest.mark.parametrize("tensor_name", [None, "weight"])
def test_parametrisations_are_transferred_as_in_torch(tensor_name):
    def transferred(utilities, layers, **rngs):
        utilities.parametrizations.weight_norm(layers[0], "weight")
        utilities.parametrizations.weight_norm(layers[0], "bias")
        utilities.parametrize.transfer_parametrizations_and_params(layers[0], layers[1], tensor_name)
        utilities.parametrize.transfer_parametrizations_and_params(layers[2], layers[1])
        return layers[1]

    torch_layers, layers = zip(*(make("Linear", 3, 2) for _ in range(3)), strict=True)
    transfer(torch_layers[0], layers[0])
    transfer(torch_layers[1], layers[1])
    expected = transferred(torch.nn.utils, torch_layers)
    found = transferred(nn.utils, layers)
    assert list(found.state_dict()) == list(expected.state_dict())
    for name, array in expected.state_dict().items():
        np.testing.assert_allclose(found.state_dict()[name], array.numpy(), rtol=1e-6)
