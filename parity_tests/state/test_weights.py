"""Tests of weight files: flaxnets and torch load each other's files, including shared arrays."""

import argparse
import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.torch
import torch
from flax import nnx
from safetensors.numpy import load_file, save_file

import flaxnets
import torchref
from flaxnets import nn
from flaxnets.training import Batch, TrainState, make_train_step
from flaxnets.weights import WeightsError, digest, load_weights, read_weights, save_weights

SHARING = ["shared_linear", "shared_mlp", "naming_cnn", "naming_cnn_parallel"]


@pytest.mark.parametrize("name", [*SHARING, "lenet_batchnorm", "lstm_lm", "dict_dense"])
def test_weights_go_to_torch_and_back(name, tmp_path):
    torch.manual_seed(1)
    source, twin = flaxnets.create_model(name, rngs=nnx.Rngs(5)), torchref.create_model(name)
    save_weights(source, tmp_path / "flax.safetensors")
    # strict=False: torch creates counters that are missing, and load_model reports an alias of a counter as unexpected.
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


TORCH_FILES = {
    "a state dict": lambda twin: twin.state_dict(),
    "under state_dict": lambda twin: {"state_dict": twin.state_dict(), "epoch": 3},
    "under model": lambda twin: {"model": twin.state_dict()},
    "parameters that are no plain tensors": lambda twin: twin.state_dict(keep_vars=True),
}


@pytest.mark.parametrize("content", TORCH_FILES.values(), ids=TORCH_FILES)
@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "pytorch_model.bin", "weights"])
def test_a_file_of_torch_save_is_loaded_whatever_its_name(content, name, tmp_path, caplog):
    twin, model = torchref.create_model("naming_cnn"), flaxnets.create_model("naming_cnn")
    torch.save(content(twin), tmp_path / name)
    assert load_weights(model, tmp_path / name) == ([], [])
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, twin.state_dict()[key])
    assert not caplog.records


def test_bfloat16_stays_bfloat16(tmp_path):
    twin, source = torch.nn.Linear(3, 2).bfloat16(), nn.Linear(3, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    source.load_state_dict(twin.state_dict())
    torch.save(twin.state_dict(), tmp_path / "torch.pt")
    safetensors.torch.save_model(twin, str(tmp_path / "torch.safetensors"))
    save_weights(source, tmp_path / "flax.safetensors")
    for path in tmp_path.iterdir():
        target = nn.Linear(3, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(1))
        load_weights(target, path)
        for key, array in target.state_dict().items():
            np.testing.assert_array_equal(array.astype(jnp.float32), twin.state_dict()[key].float().numpy())


NOT_CONVERTED = {
    "quantised": (
        lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
        WeightsError,
        r"\['{}'\].*_rebuild_qtensor",
    ),
    "sparse": (lambda t: t.to_sparse(), WeightsError, r"\['{}'\] is made by [^;]*_rebuild_sparse_tensor"),
    "nested": (
        lambda t: torch.nested.nested_tensor([t]),
        WeightsError,
        r"\['{}'\] is made by .*_rebuild_nested_tensor",
    ),
    "nested by jags": (
        lambda t: torch.nested.nested_tensor([t], layout=torch.jagged),
        WeightsError,
        r"\['{}'\] is made by torch\.nested\._internal",
    ),
    "meta": (lambda t: t.to("meta"), RuntimeError, r"'{}': expected an array of shape .*torch's meta device"),
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:The PyTorch API of nested")
@pytest.mark.parametrize(("convert", "error", "words"), NOT_CONVERTED.values(), ids=NOT_CONVERTED)
def test_tensors_of_torch_that_cannot_be_read_are_all_named_with_their_keys(convert, error, words, tmp_path):
    path, model = tmp_path / "weights.pt", nn.Linear(3, 2, rngs=nnx.Rngs(0))
    before = model.state_dict()
    torch.save({"weight": convert(torch.ones(2, 3)), "bias": convert(torch.ones(1, 2))}, path)
    with pytest.raises(error, match=f"(?s)weights.pt: .*{words.format('weight')}.*{words.format('bias')}"):
        load_weights(model, path)
    assert all(array is before[name] for name, array in model.state_dict().items())


def test_what_keeps_a_checkpoint_from_being_read_is_named_with_its_place(tmp_path):
    path = tmp_path / "checkpoint.pt"
    arguments = argparse.Namespace(lr=0.1)
    torch.save({"state_dict": torch.nn.Linear(1, 1).state_dict(), "hyper_parameters": {"args": arguments}}, path)
    words = (
        r"\['hyper_parameters'\]\['args'\] is made by argparse\.Namespace\)\. Fix: .*torch\.save\(module\.state_dict"
    )
    with pytest.raises(WeightsError, match=words):
        load_weights(nn.Linear(1, 1, rngs=nnx.Rngs(0)), path)


CONVERTED = {
    "transposed": lambda t: t.t().contiguous().t(),
    "expanded": lambda t: t[:1].expand(2, 3),
    "a negative view": lambda t: torch.complex(t, -t).conj().imag,
    "a conjugate view": lambda t: torch.complex(t, -t).conj(),
    "bfloat16": lambda t: t.bfloat16(),
    "complex32": lambda t: torch.complex(t, t).to(torch.complex32),
    "uint32": lambda t: t.to(torch.uint32),
    "requires_grad": lambda t: t.clone().requires_grad_(),
    **{
        f"float8_{kind}": lambda t, kind=kind: t.to(getattr(torch, f"float8_{kind}"))
        for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")
    },
}


def _with_attribute(tensor):
    tensor.tag = 1
    return tensor


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize("convert", CONVERTED.values(), ids=CONVERTED)
def test_tensors_of_every_kind_are_read_from_a_file_as_torch_reads_them(convert, tmp_path):
    tensor = convert(torch.arange(6.0).reshape(2, 3))
    dtype = torch.complex64 if tensor.is_complex() else torch.float32
    model = nn.Linear(3, 2, dtype=str(dtype).removeprefix("torch."), rngs=nnx.Rngs(0))
    twin = torch.nn.Linear(3, 2, dtype=dtype)
    bias = _with_attribute(torch.nn.Parameter(torch.ones(2, dtype=dtype)))
    torch.save({"weight": _with_attribute(tensor), "bias": bias}, tmp_path / "weights.pt")
    load_weights(model, tmp_path / "weights.pt", cast=True)
    twin.load_state_dict(torch.load(tmp_path / "weights.pt"))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, twin.state_dict()[name].numpy())


def test_a_safetensors_file_with_dtypes_that_do_not_exist_here_names_all_of_their_keys(tmp_path):
    path = tmp_path / "weights.safetensors"
    entry = {"shape": [2], "data_offsets": [0, 1]}
    header = json.dumps({"a": {"dtype": "F4", **entry}, "b": {"dtype": "F6_E2M3", **entry}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(1))
    with pytest.raises(WeightsError, match="'a' has the dtype 'F4', 'b' has the dtype 'F6_E2M3'; expected one of"):
        load_weights(nn.Sequential(), path)


@pytest.mark.parametrize("kind", ["float8_e8m0fnu", "float8_e4m3fn", "float8_e5m2"])
def test_a_safetensors_file_of_float8_is_read(kind, tmp_path):
    tensor = torch.tensor([[1.0, 2.0, 4.0]]).to(getattr(torch, kind))
    safetensors.torch.save_file({"weight": tensor, "bias": torch.zeros(1)}, tmp_path / "weights.safetensors")
    model = nn.Linear(3, 1, rngs=nnx.Rngs(0))
    with pytest.raises(RuntimeError, match=f"'weight': expected float32, got {kind}"):
        load_weights(model, tmp_path / "weights.safetensors")
    load_weights(model, tmp_path / "weights.safetensors", cast=True)
    np.testing.assert_array_equal(model.weight, tensor.float().numpy())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_batch_norm_of_other_programs_has_no_counter(suffix, tmp_path):
    path, norm = tmp_path / f"weights{suffix}", nn.BatchNorm1d(2)
    _save({name: np.full(2, 3, np.float32) for name in ("weight", "bias", "running_mean", "running_var")}, path)
    assert load_weights(norm, path) == ([], [])
    assert norm.num_batches_tracked == 0
    assert (norm.running_var[...] == 3).all()


def test_the_versions_in_a_file_of_torch_are_honoured(tmp_path):
    arrays = torch.nn.BatchNorm1d(2).state_dict()
    del arrays["num_batches_tracked"]
    torch.save({"model": arrays}, tmp_path / "weights.pt")
    with pytest.raises(RuntimeError, match="missing keys: 'num_batches_tracked'"):
        load_weights(nn.BatchNorm1d(2), tmp_path / "weights.pt")
    arrays._metadata[""]["version"] = 1
    torch.save({"model": arrays}, tmp_path / "weights.pt")
    load_weights(nn.BatchNorm1d(2), tmp_path / "weights.pt")


CHECKPOINTS = {
    "state_dict": (lambda s: {"state_dict": s, "epoch": torch.tensor(3)}, None),
    "net": (lambda s: {"net": s, "acc": 0.5}, None),
    "nested": (lambda s: {"ema": {"module": s, "decay": 0.9}}, None),
    "beside an optimizer": (
        lambda s: {"model_state_dict": s, "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{}]}},
        None,
    ),
    "of lightning": (
        lambda s: {"state_dict": s, "loops": {"fit_loop": {"state_dict": {}}}, "optimizer_states": [{"state": {}}]},
        None,
    ),
    "beside metrics": (lambda s: {"model": s, "metrics": {"accuracy": torch.tensor(0.5)}}, None),
    "beside a step": (lambda s: {"checkpoint": {"model": s, "step": torch.ones(1)}}, None),
    "one of two": (lambda s: {"model": _halved(s), "model_ema": s}, "model_ema"),
    "one that is nested": (lambda s: {"model": _halved(s), "ema": {"module": s}}, "ema.module"),
}


def _halved(arrays):
    return {name: array / 2 for name, array in arrays.items()}


@pytest.mark.parametrize(("content", "entry"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_the_state_dict_of_a_checkpoint_is_found(content, entry, tmp_path):
    twin, model = torch.nn.Linear(3, 2), nn.Linear(3, 2, rngs=nnx.Rngs(0))
    torch.save(content(twin.state_dict()), tmp_path / "checkpoint.pt")
    load_weights(model, tmp_path / "checkpoint.pt", entry=entry)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, twin.state_dict()[name])


def test_a_checkpoint_of_several_state_dicts_must_be_told_which(tmp_path):
    arrays, model = torch.nn.Linear(3, 2).state_dict(), nn.Linear(3, 2, rngs=nnx.Rngs(0))
    torch.save({"model": arrays, "model_ema": arrays}, tmp_path / "checkpoint.pt")
    words = r"it has 2 state dicts: 'model' \(2 keys\), 'model_ema' \(2 keys\).*Fix: .*entry='model'"
    with pytest.raises(WeightsError, match=words):
        load_weights(model, tmp_path / "checkpoint.pt")
    with pytest.raises(WeightsError, match=r"no state dict under 'ema'\. Expected one of 'model', 'model_ema'"):
        load_weights(model, tmp_path / "checkpoint.pt", entry="ema")
    save_weights(model, tmp_path / "model.safetensors")
    with pytest.raises(
        WeightsError, match=r"no state dict under 'ema'\. Expected no entry: it contains no other state dict"
    ):
        load_weights(model, tmp_path / "model.safetensors", entry="ema")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_with_a_wrong_prefix_says_how_to_read_and_rename_it(suffix, tmp_path):
    path, model = tmp_path / f"weights{suffix}", nn.Linear(3, 2, rngs=nnx.Rngs(0))
    _save({"module.weight": np.ones((2, 3), np.float32), "module.bias": np.ones(2, np.float32)}, path)
    with pytest.raises(RuntimeError, match=r"2 of the 2 expected keys fit without the prefix 'module\.'") as caught:
        load_weights(model, path)
    assert f"state_dict = flaxnets.weights.read_weights({str(path)!r})" in str(caught.value)
    state_dict = read_weights(path)
    nn.utils.consume_prefix_in_state_dict_if_present(state_dict, "module.")
    model.load_state_dict(state_dict)
    assert (model.weight[...] == 1).all()


def test_extra_state_that_is_no_array_is_not_saved(tmp_path):
    class Counting(nn.Module):
        def get_extra_state(self):
            return {"steps": 3}

    with pytest.raises(RuntimeError, match="cannot save '_extra_state': expected an array, got an object of type dict"):
        save_weights(Counting(), tmp_path / "model.safetensors")


def _save(arrays, path):
    if path.suffix == ".pt":
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    else:
        save_file(arrays, path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "complex64"])
def test_another_dtype_is_refused_unless_a_cast_is_asked_for(dtype, suffix, tmp_path):
    path, model = tmp_path / f"weights{suffix}", nn.Linear(2, 1, rngs=nnx.Rngs(0))
    _save({"weight": np.array([[1, 2]], dtype), "bias": np.array([3], np.float32)}, path)
    before = model.state_dict()
    with pytest.raises(RuntimeError, match=f"dtype mismatch for 'weight': expected float32, got {dtype}; cast=True"):
        load_weights(model, path)
    assert all(array is before[name] for name, array in model.state_dict().items())
    if dtype != "complex64":
        load_weights(model, path, cast=True)
        np.testing.assert_array_equal(model.weight, np.float32([[1, 2]]))


def test_an_integer_is_taken_where_it_fits(tmp_path):
    path, norm = tmp_path / "weights.safetensors", nn.BatchNorm1d(2)
    arrays = {name: np.asarray(array) for name, array in norm.state_dict().items()}
    save_file(arrays | {"num_batches_tracked": np.array(2**31 - 1)}, path)
    load_weights(norm, path)
    assert norm.num_batches_tracked == 2**31 - 1
    save_file(arrays | {"num_batches_tracked": np.array(2**31)}, path)
    with pytest.raises(RuntimeError, match="'num_batches_tracked': expected int32, got int64"):
        load_weights(norm, path)


def test_all_that_does_not_fit_is_in_one_message_and_nothing_changes(tmp_path):
    path, model = (
        tmp_path / "weights.safetensors",
        nn.Sequential(*(nn.Linear(2, 2, rngs=nnx.Rngs(0)) for _ in range(2))),
    )
    save_file(
        {"0.weight": np.ones((2, 3)), "0.bias": np.ones(2, np.float16), "1.bias": np.ones(2), "x": np.ones(1)}, path
    )
    before = model.state_dict()
    with pytest.raises(RuntimeError) as caught:
        load_weights(model, path)
    start, *problems = str(caught.value).splitlines()
    assert start == f"{path}: cannot load the state dict into Sequential; nothing was assigned:"
    cast = "; cast=True casts it"
    assert sorted(problem.strip() for problem in problems) == [
        f"dtype mismatch for '0.bias': expected float32, got float16{cast}",
        f"dtype mismatch for '0.weight': expected float32, got float64{cast}",
        f"dtype mismatch for '1.bias': expected float32, got float64{cast}",
        "missing keys: '1.weight'",
        "size mismatch for '0.weight': expected (2, 2), got (2, 3)",
        "unexpected keys: 'x'",
    ]
    assert all(array is before[name] for name, array in model.state_dict().items())


def test_a_file_without_digests_is_loaded_with_a_line_in_the_log(tmp_path, caplog):
    model, path = flaxnets.create_model("shared_linear"), tmp_path / "model.safetensors"
    save_weights(model, path)
    load_weights(model, path)
    assert caplog.messages == []
    save_file({"0.weight": np.ones((1, 1), np.float32)}, path, metadata={"1.weight": "0.weight"})
    load_weights(model, path)
    assert caplog.messages == [f"{path} has no digests: damage to its numbers would not be noticed"]


def test_digest_depends_on_dtype_shape_and_values_and_not_on_the_layout():
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert digest(array) == digest(np.asfortranarray(array)) == digest(np.repeat(array, 2, axis=1)[:, ::2])
    others = [
        array.astype(np.uint32),
        array.reshape(3, 2),
        array + 1,
        array.astype("bfloat16"),
        np.zeros((0, 3), np.int32),
    ]
    assert len({digest(other) for other in [array, *others, np.array(0), np.zeros(1)]}) == 8


def test_a_lazy_layer_that_was_never_called_is_not_saved(tmp_path):
    with pytest.raises(RuntimeError, match="cannot save 'weight', 'bias': uninitialized"):
        save_weights(nn.LazyLinear(3, rngs=nnx.Rngs(0)), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_without_torch_a_file_of_torch_says_what_to_install(tmp_path, monkeypatch):
    torch.save({}, tmp_path / "model.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ImportError, match=r"model\.pt: a file of torch\.save needs torch; pip install 'flaxnets\[parity\]'"
    ):
        load_weights(nn.Sequential(), tmp_path / "model.pt")


def test_equal_weights_are_equal_files(tmp_path):
    """Compare files of two processes: safetensors may order the metadata differently in each process."""
    program = "import flaxnets, sys; flaxnets.weights.save_weights(flaxnets.create_model('mlp'), sys.argv[1])"
    paths = [tmp_path / f"{i}.safetensors" for i in range(2)]
    save_weights(flaxnets.create_model("mlp"), paths[0])
    subprocess.run([sys.executable, "-c", f"import flaxnets.weights; {program}", paths[1]], check=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()
