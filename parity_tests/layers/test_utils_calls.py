"""Tests of other functions of nn.utils against torch: padded sequences, stateless calls, uninitialized modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn.utils import rnn as torch_rnn

from flaxnets import nn
from flaxnets.parity import transfer

rnn = nn.utils.rnn

LENGTHS = {"sorted": (4, 2, 1), "unsorted": (1, 4, 2), "equal": (3, 3), "one": (2,), "with an empty one": (0, 2)}
SHAPES = {"vectors": (), "matrices": (3,), "images": (2, 3)}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("trailing", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_padded_sequences_are_torchs_with_their_gradients(lengths, trailing, batch_first, side, rng):
    arrays = [rng.normal(size=(length, *trailing)).astype(np.float32) for length in lengths]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = torch_rnn.pad_sequence(tensors, batch_first, -1.5, side)
    weights = rng.normal(size=expected.shape).astype(np.float32)
    (expected * torch.tensor(weights)).sum().backward()
    padded = rnn.pad_sequence(map(jnp.asarray, arrays), batch_first, -1.5, side)
    np.testing.assert_array_equal(padded, expected.detach().numpy())
    gradients = jax.grad(lambda arrays: (rnn.pad_sequence(arrays, batch_first, -1.5, side) * weights).sum())(arrays)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_array_equal(gradient, tensor.grad.numpy())
    if side == "right":
        rows = rnn.unpad_sequence(padded, jnp.array(lengths), batch_first)
        for row, array in zip(rows, arrays, strict=True):
            np.testing.assert_array_equal(row, array)


@pytest.mark.parametrize("dtypes", [("int32", "int32"), ("int32", "float32"), ("float32", "int32"), ("bool", "bool")])
@pytest.mark.parametrize("value", [0.0, 1.0, 2.7])
def test_padded_sequences_have_the_dtype_that_torch_gives_them(dtypes, value):
    arrays = [np.array([1, 0, 3][: 3 - i], dtype) for i, dtype in enumerate(dtypes)]
    expected = torch_rnn.pad_sequence(list(map(torch.tensor, arrays)), True, value)
    padded = rnn.pad_sequence(arrays, True, value)
    assert padded.dtype == str(expected.dtype).removeprefix("torch.")
    np.testing.assert_array_equal(padded, expected.numpy())


@pytest.mark.parametrize("lengths", [(3, 1), (0, 2), (9, 1)])
@pytest.mark.parametrize("batch_first", [True, False])
def test_unpadded_sequences_are_torchs(lengths, batch_first):
    padded = np.arange(12.0, dtype=np.float32).reshape(2, 3, 2)
    padded = padded if batch_first else padded.swapaxes(0, 1)
    expected = torch_rnn.unpad_sequence(torch.tensor(padded), torch.tensor(lengths), batch_first)
    for found in (
        rnn.unpad_sequence(jnp.asarray(padded), lengths, batch_first),
        rnn.unpad_sequence(jnp.asarray(padded), jnp.array(lengths), batch_first),
    ):
        for row, tensor in zip(found, expected, strict=True):
            np.testing.assert_array_equal(row, tensor.numpy())


@pytest.mark.parametrize("sort", [True, False], ids=["sorted", "as they are"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("trailing", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("lengths", [(4, 2, 1), (1, 4, 2), (3, 3), (2,)], ids=str)
def test_packed_sequences_come_back_as_from_torch(lengths, trailing, batch_first, sort, rng):
    lengths = tuple(sorted(lengths, reverse=True)) if sort else lengths
    arrays = [rng.normal(size=(length, *trailing)).astype(np.float32) for length in lengths]
    theirs = torch_rnn.pack_sequence(list(map(torch.tensor, arrays)), enforce_sorted=sort)
    ours = rnn.pack_sequence(list(map(jnp.asarray, arrays)), enforce_sorted=sort)
    for total in (None, 6):
        expected = torch_rnn.pad_packed_sequence(theirs, batch_first, -1.5, total)
        found = rnn.pad_packed_sequence(ours, batch_first, -1.5, total)
        np.testing.assert_array_equal(found[0], expected[0].numpy())
        np.testing.assert_array_equal(found[1], expected[1].numpy())
        padded, packed_lengths = expected[0].numpy(), expected[1].tolist()
        again = rnn.pack_padded_sequence(jnp.asarray(padded), packed_lengths, batch_first, enforce_sorted=sort)
        np.testing.assert_array_equal(rnn.pad_packed_sequence(again)[0], rnn.pad_packed_sequence(ours)[0])
    for row, array in zip(rnn.unpack_sequence(ours), arrays, strict=True):
        np.testing.assert_array_equal(row, array)


@pytest.mark.parametrize("traced", [False, True], ids=["numbers", "an array"])
@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}], ids=str)
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_take_sequences_of_several_lengths(name, arguments, traced, rng):
    lengths, steps = (2, 4, 1), 5
    batch_first = arguments.get("batch_first", False)
    values = rng.normal(size=(3, steps, 2) if batch_first else (steps, 3, 2))
    with jax.enable_x64(True):
        reference = getattr(torch.nn, name)(2, 4, **arguments).double()
        model = getattr(nn, name)(2, 4, **arguments, rngs=nnx.Rngs(0)).to("float64")
        transfer(reference, model)
        tensor = torch.tensor(values, requires_grad=True)
        packed = torch_rnn.pack_padded_sequence(tensor, torch.tensor(lengths), batch_first, enforce_sorted=False)
        outputs, state = reference(packed)
        expected = torch_rnn.pad_packed_sequence(outputs, batch_first, 0.5, steps)[0]
        finals = state if name == "LSTM" else (state,)
        weights = rng.normal(size=expected.shape)
        ((expected * torch.tensor(weights)).sum() + sum(s.sin().sum() for s in finals)).backward()

        @nnx.jit
        def loss(model, values, lengths):
            packed = rnn.pack_padded_sequence(values, lengths, batch_first, enforce_sorted=False)
            outputs, state = model(packed)
            padded = rnn.pad_packed_sequence(outputs, batch_first, 0.5, steps)[0]
            return (padded * weights).sum() + sum(jnp.sin(s).sum() for s in jax.tree.leaves(state)), (padded, state)

        given = jnp.array(lengths) if traced else lengths
        call = loss if traced else lambda model, values, _: loss.__wrapped__(model, values, lengths)
        (_, (padded, found)), gradients = nnx.value_and_grad(call, argnums=(0, 1), has_aux=True)(
            model, jnp.asarray(values), given
        )
        np.testing.assert_allclose(padded, expected.detach().numpy(), atol=1e-12)
        for ours, theirs in zip(jax.tree.leaves(found), finals, strict=True):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-12)
        np.testing.assert_allclose(gradients[1], tensor.grad.numpy(), atol=1e-10)
        for parameter in reference._flat_weights_names:
            expected_gradient = getattr(reference, parameter).grad.numpy()
            np.testing.assert_allclose(gradients[0][parameter][...], expected_gradient, atol=1e-10)


SEQUENCE_FAULTS = {
    "no iterable": (lambda r, a: r.pad_sequence(3), RuntimeError, "got int"),
    "no sequences": (lambda r, a: r.pad_sequence([]), RuntimeError, "got none"),
    "another side": (lambda r, a: r.pad_sequence([a([1.0])], padding_side="top"), RuntimeError, "got 'top'"),
    "other trailing axes": (
        lambda r, a: r.pad_sequence([a([[1.0]]), a([[1.0, 2.0]])]), RuntimeError, r"\(1, 1\), \(1, 2\)",
    ),
    "lengths that increase": (
        lambda r, a: r.pack_padded_sequence(a([[1.0, 2.0], [3.0, 4.0]]), [1, 2]), RuntimeError, r"got \[1, 2\]",
    ),
    "a length of zero": (
        lambda r, a: r.pack_padded_sequence(a([[1.0, 2.0], [3.0, 4.0]]), [2, 0]), RuntimeError, r"got \[2, 0\]",
    ),
    "too short a total": (
        lambda r, a: r.pad_packed_sequence(r.pack_sequence([a([1.0, 2.0])]), total_length=1), ValueError, "got 1",
    ),
    "too few lengths": (lambda r, a: r.unpad_sequence(a([[1.0], [2.0]]), a([1]), True), ValueError, "2 lengths, got 1"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), SEQUENCE_FAULTS.values(), ids=SEQUENCE_FAULTS)
def test_sequences_that_torch_refuses_are_refused(call, error, words):
    with pytest.raises(error):
        call(torch_rnn, torch.tensor)
    with pytest.raises(error, match=words):
        call(rnn, jnp.array)


def test_permutations_are_inverted_as_by_torch():
    permutation = np.array([2, 0, 3, 1])
    expected = torch_rnn.invert_permutation(torch.tensor(permutation)).numpy()
    np.testing.assert_array_equal(rnn.invert_permutation(jnp.asarray(permutation)), expected)
    assert rnn.invert_permutation(None) is torch_rnn.invert_permutation(None) is None


REFUSED = {
    rnn: ("PackedSequence",),
    nn.utils: ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_"),
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in REFUSED.items() for name in names])
def test_what_cannot_exist_says_why_and_what_to_write(module, name):
    with pytest.raises(NotImplementedError, match=f"^{name} does not exist in flaxnets: .*Fix: "):
        getattr(module, name)([1], 2)


@pytest.mark.parametrize("clip", [nn.utils.clip_grad_norm, nn.utils.clip_grad_value, nn.utils.get_total_norm])
def test_parameters_in_the_place_of_gradients_are_refused(clip):
    layer = nn.Linear(1, 1, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"got a generator, as from model\.parameters\(\)\. Fix: gradients = nnx\.grad"):
        clip(layer.parameters(), 1.0)


class Tied(nn.Module):
    def __init__(self, rngs):
        self.first = nn.Linear(3, 3, rngs=rngs)
        self.norm = nn.BatchNorm1d(3)
        self.last = nn.Linear(3, 3, rngs=rngs)
        self.last.weight = self.first.weight

    def __call__(self, x, scale=1.0):
        return scale * self.last(self.norm(self.first(x)))


class TorchTied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.last = torch.nn.Linear(3, 3)
        self.last.weight = self.first.weight

    def forward(self, x, scale=1.0):
        return scale * self.last(self.norm(self.first(x)))


def _tied(training=True):
    twin, module = TorchTied().train(training), Tied(nnx.Rngs(0)).train(training)
    transfer(twin, module)
    return twin, module


CALLS = {
    "nothing": {},
    "a bias": {"first.bias": (3,)},
    "one of two tied weights": {"last.weight": (3, 3)},
    "statistics": {"norm.running_mean": (3,), "norm.running_var": (3,)},
    "parameters and statistics": {"norm.weight": (3,), "norm.running_var": (3,), "first.weight": (3, 3)},
    "a name that the module lacks": {"first.scale": (3,), "first.bias": (3,)},
}


@pytest.mark.parametrize("tie_weights", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shapes", CALLS.values(), ids=CALLS)
def test_calls_with_other_arrays_are_torchs(shapes, training, tie_weights, rng):
    twin, module = _tied(training)
    arrays = {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}
    x = rng.normal(size=(4, 3)).astype(np.float32)
    tensors, values = {k: torch.tensor(v) for k, v in arrays.items()}, {k: jnp.asarray(v) for k, v in arrays.items()}
    expected = torch.func.functional_call(twin, tensors, torch.tensor(x), {"scale": 2.0}, tie_weights=tie_weights)
    call = nn.utils.stateless.functional_call
    outcome = call(module, values, jnp.asarray(x), {"scale": 2.0}, tie_weights=tie_weights)
    np.testing.assert_allclose(outcome, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert values.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(values[name], tensor.numpy(), rtol=1e-5)
    for name, tensor in twin.state_dict().items():
        np.testing.assert_allclose(module.state_dict()[name], tensor.numpy(), rtol=1e-5, atol=1e-6)


def test_calls_with_other_arrays_have_torchs_gradients_under_jit(rng):
    twin, module = _tied(training=False)
    x = rng.normal(size=(4, 3)).astype(np.float32)
    tensors = {name: p.detach().clone().requires_grad_() for name, p in twin.named_parameters()}
    (torch.func.functional_call(twin, tensors, (torch.tensor(x),)) ** 2).sum().backward()

    @jax.jit
    def gradients(values):
        return jax.grad(lambda v: (nn.utils.stateless.functional_call(module, v, (x,)) ** 2).sum())(values)

    for name, gradient in gradients({k: jnp.asarray(t.detach().numpy()) for k, t in tensors.items()}).items():
        np.testing.assert_allclose(gradient, tensors[name].grad.numpy(), rtol=2e-4, atol=1e-4)


def test_calls_with_arrays_that_do_not_fit_are_refused_as_by_torch():
    twin, module = _tied()
    for call, net, convert in (
        (torch.func.functional_call, twin, torch.tensor),
        (nn.utils.stateless.functional_call, module, jnp.asarray),
    ):
        one, two = convert(np.ones((3, 3), np.float32)), convert(np.zeros((3, 3), np.float32))
        x = convert(np.ones((2, 3), np.float32))
        with pytest.raises(AttributeError, match="nowhere"):
            call(net, {"nowhere.weight": one}, x)
        with pytest.raises(ValueError, match=r"first\.weight"):
            call(net, {"first.weight": one, "last.weight": two}, x)
        call(net, {"first.weight": one, "last.weight": one}, x)
        call(net, {"first.weight": one, "last.weight": two}, x, tie_weights=False)
        with pytest.raises(RuntimeError, match=r"(?s)nowhere.*first\.bias|first\.bias.*nowhere"):
            call(net, {"nowhere": one}, x, strict=True)
        values = {name: 1 * value for name, value in net.state_dict().items() if name != "last.weight"}
        call(net, values, x, strict=True)


def test_a_call_with_other_arrays_draws_new_masks_every_time():
    net = nn.Sequential(nn.Dropout(0.5, rngs=nnx.Rngs(0)))
    x = jnp.ones(64)
    outputs = [nn.utils.stateless.functional_call(net, {}, x) for _ in range(2)]
    assert (outputs[0] != outputs[1]).any()


SKIPPED = {
    "Linear": ((3, 2), {}),
    "Conv2d": ((3, 2, 3), {"padding": 1}),
    "BatchNorm2d": ((3,), {}),
    "LSTM": ((3, 2), {"dropout": 0.5, "num_layers": 2}),
    "MultiheadAttention": ((4, 2), {"dropout": 0.1}),
    "ReLU": ((), {}),
}


@pytest.mark.parametrize(("name", "arguments"), SKIPPED.items(), ids=SKIPPED)
def test_modules_without_initial_values_take_state_dicts_as_others_do(name, arguments):
    args, kwargs = arguments
    module = nn.utils.skip_init(getattr(nn, name), *args, **kwargs)
    twin = getattr(torch.nn, name)(*args, **kwargs)
    assert type(module) is getattr(nn, name)
    assert {k: v.shape for k, v in module.state_dict().items()} == {
        k: tuple(v.shape) for k, v in twin.state_dict().items()
    }
    assert not any(np.asarray(array).any() for array in module.state_dict().values())
    module.load_state_dict(twin.state_dict())
    nnx.jit(lambda module: None)(module)


def test_random_streams_are_no_part_of_what_is_skipped():
    layers = [nn.utils.skip_init(nn.Dropout, 0.5, rngs=rngs) for rngs in [nnx.Rngs(0)] * 2 + [nnx.Rngs(3)]]
    masks = {np.asarray(layer(jnp.ones(64))).tobytes() for layer in layers}
    assert len(masks) == 3


@pytest.mark.parametrize("value", [3, int, torch.nn.Linear])
def test_only_modules_are_made_without_initial_values(value):
    with pytest.raises(RuntimeError, match="expected a subclass of Module, got "):
        nn.utils.skip_init(value)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_memory_formats_change_no_value(dimensions):
    conv = getattr(nn, f"Conv{dimensions}d")(1, 2, 3, rngs=nnx.Rngs(0))
    before = conv.state_dict()
    convert = getattr(nn.utils, f"convert_conv{dimensions}d_weight_memory_format")
    assert convert(conv, torch.channels_last) is conv
    assert all(array is before[name] for name, array in conv.state_dict().items())
