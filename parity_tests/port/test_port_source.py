"""Tests of written source: it runs without torch, computes the same, has the same initial values, and is readable."""

import ast
import functools
import importlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import scipy.stats
import source_runner
import torch
from cases import NETWORKS
from flax import nnx
from port_models import MODELS, features
from port_models.common import Model
from source_models import MODELS as CONSTRUCTIONS
from source_models import followed

from flaxnets import state
from flaxnets.port import PortError, from_torch, to_source
from flaxnets.port.outcomes import Arguments
from flaxnets.port.source.layout import laid_out
from flaxnets.port.source.proving import execute, prove

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning",
    "ignore:.*requires_grad=True.*:UserWarning",  # torch warns of a reentrant checkpoint without gradients
)

ROOT = Path(__file__).parents[2]
# Models whose forward cannot be ported, neither by from_torch.
REFUSED = {
    "fancy_mlp": "Python branches on the value of a tensor",
    "drop": "The value of a tensor is read by item()",
}
COMPUTED = {"pruned"}  # the initial mask depends on values
SINGLE = {"denoiser", "fourier_operator", "rotary"}  # models that always compute some parts in float32


def network(case: Any) -> Model:
    builder = vars(importlib.import_module("torchref.registry"))["_BUILDERS"][case.name]
    builder = functools.partial(builder, **case.options) if case.options else builder

    def inputs() -> tuple[Any, ...]:
        arrays = map(np.asarray, case.inputs(np.random.default_rng(0)))
        return tuple(torch.as_tensor(a).float() if a.dtype.kind == "f" else torch.as_tensor(a) for a in arrays)

    return Model(case.name, builder, inputs)


# Models with autograd functions, checkpoints, einops, packed sequences, and classes that are not modules.
FOLLOWED = {
    "ExpModel", "ScaledProductModel", "MinMaxModel", "CubeModel", "StraightThroughModel", "DomainAdversarial",
    "BroadcastsModel", "ComplexFunction", "CheckpointedModule", "CheckpointedMethod", "CheckpointedClosure",
    "CheckpointedSequence", "EinopsFunctions", "EinopsPacks", "EinopsLayers", "PackedLengths", "PackedUnsorted",
    "PackedList", "PlainObjects",
}  # fmt: skip
FEATURES = [model for model in features.MODELS if model.name in FOLLOWED]
EVERY = [*map(network, NETWORKS), *MODELS, *CONSTRUCTIONS, *FEATURES]
ACCEPTED = [model for model in EVERY if model.name not in REFUSED]
BY_NAME = {model.name: model for model in EVERY}


@functools.cache
def written(name: str) -> str:
    model = BY_NAME[name]
    torch.manual_seed(0)
    return to_source(model.build, model.inputs(), model.kwargs(), check=False)


@pytest.fixture(autouse=True)
def same_kernels():
    """Disable torch's fast path of transformers, which warns about nested tensors and computes the same."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


def as_arrays(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.detach().numpy() if isinstance(leaf, torch.Tensor) else leaf, tree)


def double(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.is_complex():
        return leaf.to(torch.complex128)
    return leaf.double() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf


def recorded(model: Model) -> dict[str, Any]:
    """Return everything that a process without torch needs to run the source of a model and check its outputs."""
    torch.manual_seed(0)
    reference = model.build()._apply(double).eval()
    args, kwargs = jax.tree.map(double, (tuple(model.inputs()), model.kwargs()))
    weights = {name: tensor.numpy().copy() for name, tensor in reference.state_dict().items()}
    buffers = {name: tensor.numpy().copy() for name, tensor in reference.named_buffers()}
    case = {"name": model.name, "weights": weights, "buffers": buffers, "args": as_arrays(args)}
    with torch.no_grad():
        outputs = [np.asarray(leaf) for leaf in source_runner.leaves(reference(*args, **kwargs))]
    source = written(model.name)  # after the model has run: caches of its class and file are full
    gate = 1e-5 if model.name in SINGLE else source_runner.GATE
    return case | {"kwargs": as_arrays(kwargs), "outputs": outputs, "source": source, "gate": gate}


@pytest.mark.parametrize("part", range(6))
def test_sources_run_without_torch(part, tmp_path):
    """Compare state dict keys and outputs in float64, in a process where torch cannot be imported."""
    models = ACCEPTED[part::6]
    path = tmp_path / "cases.pickle"
    path.write_bytes(pickle.dumps([recorded(model) for model in models]))
    line = [sys.executable, str(ROOT / "parity_tests" / "source_runner.py"), str(path)]
    run = subprocess.run(line, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    faults = json.loads(run.stdout.splitlines()[-1])
    assert not faults, "\n".join(f"{name}: {fault}" for name, fault in faults.items())


@pytest.mark.parametrize("model", [*CONSTRUCTIONS, *FEATURES], ids=str)
def test_sources_are_proved(model):
    """Check that ``to_source`` succeeds: it compares initial values, outputs and buffers in both modes."""
    torch.manual_seed(0)
    assert "def build(" in to_source(model.build, model.inputs(), model.kwargs())


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_no_port_can_follow(name):
    with pytest.raises(PortError, match=re.escape(REFUSED[name])):
        written(name)


@pytest.mark.parametrize("model", ACCEPTED, ids=str)
def test_reads_like_a_file_of_its_own(model):
    """Check that the source has no name of torch, a licence note, and lines that fit."""
    text = written(model.name)
    tree = ast.parse(text)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "torch" not in names
    assert laid_out(text) == text
    assert "The licence of the original applies." in (ast.get_docstring(tree) or "")
    code = [line for line in text.splitlines() if "#" not in line and '"""' not in line]
    assert max(map(len, code)) <= 120


@pytest.mark.skipif(shutil.which("ruff") is None, reason="ruff is a tool of developers")
def test_passes_ruff(tmp_path):
    """Check the format and the default rules of ruff, except E741: the authors of the models choose the names."""
    for model in ACCEPTED:
        (tmp_path / f"{model.name}_flax.py").write_text(written(model.name))
    rules = ["--select", "E4,E5,E7,E9,F,I,W", "--ignore", "E741"]
    for command in (["check", *rules], ["format", "--check"]):
        line = ["ruff", *command, "--isolated", "--line-length", "120", str(tmp_path)]
        # Here flaxnets is a third-party import.
        run = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout


@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is a tool of developers")
def test_passes_pyright(tmp_path):
    for model in ACCEPTED:
        (tmp_path / f"{model.name}_flax.py").write_text(written(model.name))
    settings = {"typeCheckingMode": "basic", "reportMissingModuleSource": False, "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    line = ["pyright", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    run = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


# Badly formatted source, and the same source as it is written.
CROOKED = """
import torch
from torch import nn
SIZES = [4,5,
       6]
NAMES = {'a':1,'b' : 2}
#a block
class Rough(nn.Module):
    width=4    # of layers
    def __init__(self,dim=4,*,depth = 2):
        super(Rough,self).__init__()
        self.l1=nn.Linear( dim,SIZES[0] )       #first



        self.l2 = nn.Linear(4,NAMES['a'] )
        self.l2.weight.data[:, :2].normal_(1, 0.02); self.l2.bias.data.zero_()

    def forward(self,x,mask = None) :
        x=self.l1(x)   ;  y = x
        if(mask is not None): raise ValueError(mask)
        return (self.l2( x )[ ...,0:1 ] + y.sum())
"""
STRAIGHT = """
SIZES = [4, 5, 6]
NAMES = {"a": 1, "b": 2}


# a block
class Rough(nn.Module):
    width = 4  # of layers

    def __init__(self, dim=4, *, depth=2, rngs: nnx.Rngs):
        self.l1 = nn.Linear(dim, SIZES[0], rngs=rngs)  # first

        self.l2 = nn.Linear(4, NAMES["a"], rngs=rngs)
        self.l2.weight[...] = (
            self.l2.weight[...]
            .at[:, :2]
            .set(
                1
                + 0.02
                * jax.random.normal(rngs.params(), self.l2.weight[...][:, :2].shape, self.l2.weight[...][:, :2].dtype)
            )
        )
        self.l2.bias[...] = jnp.zeros_like(self.l2.bias[...])

    def __call__(self, x, mask=None):
        x = self.l1(x)
        y = x
        if mask is not None:
            raise ValueError(mask)
        return self.l2(x)[..., 0:1] + y.sum()
"""


def test_lays_out_crooked_source(tmp_path, monkeypatch):
    (tmp_path / "crooked_source.py").write_text(CROOKED)
    monkeypatch.syspath_prepend(tmp_path)
    text = to_source(importlib.import_module("crooked_source").Rough, torch.ones(2, 4), check=False)
    assert text[text.index("\nSIZES") : text.index("\n\n\ndef build") + 1] == STRAIGHT


def test_proves_no_source_that_does_not_run():
    text = "def build(*, rngs):\n    raise ValueError('no model')\n"
    example = Arguments((torch.ones(1),), {})
    with pytest.raises(PortError, match="The written source raised an error: ValueError: no model"):
        prove(text, torch.nn.Identity(), torch.nn.Identity, example, [])


# Parts of the source that stay.


def test_keeps_comments_docstrings_and_loops():
    text = written("gpt")
    assert "# key, query, value projections for all heads, but in a batch" in text
    assert "# (B, nh, T, hs)" in text
    assert '"""LayerNorm but with an optional bias."""' in text
    assert "for i, block in enumerate(self.transformer.h):" in text
    assert "for _ in range(config.n_layer)" in text
    assert text.index("class LayerNorm(") < text.index("class CausalSelfAttention(") < text.index("class GPT(")


def test_densenet_reads_like_ours():
    """Compare with the file of flaxnets, without its imports, its registration and jaxtyping's annotations."""
    ours = (ROOT / "flaxnets/models/densenet.py").read_text()
    ours = re.sub(r'Float\[Array, "[^"]*"\]', "jax.Array", ours)
    ours = re.sub(r"@register\((?:[^()]|\([^()]*\))*\)\n", "", ours[ours.index("def conv_block") :])
    text = written("densenet")
    text = text[text.index("def conv_block") : text.index("def build")]
    assert [line for line in text.splitlines() if line] == [line for line in ours.splitlines() if line]


KEPT = [
    ("configured", 'REGISTRY = {"plain": Plain, "gated": Gated, "unused": Unused}'),
    ("configured", "REGISTRY[kind](config.dim, rngs=rngs)"),
    ("configured", "@dataclass\nclass Config:"),
    ("from_dict", "_make(getattr(nn, kind), **options, rngs=rngs)"),
    ("several_files", "class Block2(nn.Module):"),
    ("several_files", "self.apply(functools.partial(init_bert_weights, rngs=rngs))"),
    ("several_files", "super().__init__(*args, **kwargs, rngs=rngs)"),
    ("inherited", "class Inherited(WidthMixin, nn.Module):"),
    ("inherited", "def __init__(self, *stages: nn.Module, rngs: nnx.Rngs, **named: nn.Module):"),
    ("inherited", "@property\n    def width(self) -> int:"),
    ("initialised", "self.b.weight[...] = self.b.weight[...].at[:, :, 1].add(0.5)"),
    ("initialised", "weight[...] = nn.init.orthogonal(rngs.params(), weight.shape, weight.dtype)"),
    ("tied_clones", "self.head.weight = self.embed.weight"),
    ("normed", "nn.utils.spectral_norm(nn.Linear(4, 4, rngs=rngs), rngs=rngs)"),
    ("noisy", "self.rngs = rngs.dropout.fork()"),
    ("noisy", "x = drop(F.dropout("),
    ("mixed", "self.up = nn.ConvTranspose1d(dim, dim, 2, stride=2, rngs=rngs)"),
    ("mixed", "def last(self, x):"),
    ("tower", "        # one layer and what follows it\n"),
    ("tower", "def build(*, dropout: float = 0.2, rngs: nnx.Rngs) -> nn.Sequential:"),
    ("tables", 'TABLE = {"gelu": F.gelu, "sq": lambda t: t**2}'),
    ("decorated_methods", "@logged\n    def __call__(self, x):"),
    ("decorated_methods", "@checked(2)\n    def __call__(self, x):"),
    ("decorated_methods", "@staticmethod\n    @functools.lru_cache(maxsize=8)\n    def offsets(n):"),
    ("decorated_methods", "logger = logging.getLogger(__name__)"),
    ("biased_model", "@with_defaults(bias=True)\ndef biased_model(dim=4, bias=False, *, rngs: nnx.Rngs):"),
    ("timed_model", "\n\n\ndef timed_model(dim=4, *, rngs: nnx.Rngs):"),
    ("activated", "class Swish(ops.Function):"),
    ("activated", "x = x + ops.checkpoint(self.inner, x)"),
    ("rearranged", "from flaxnets.nn.rearrangement import Rearrange, Reduce"),
    ("plain_class", "class Normalizer:"),
    ("listed", "self.order = nnx.data([self.stages[1], self.stages[0]])"),
    ("closures", "self.scaled = Closure(lambda self: functools.partial(self.times, gain=self.gain), [self])"),
    ("rates", "dpr = [x.item() for x in np.linspace(0, rate, sum(depths), dtype=np.float32)]"),
    ("stages", "rates = np.linspace(0.1, rate, len(depths), dtype=np.float32).tolist()"),
    ("vit", 'raise NotImplementedError("the recorded model does not run this branch")'),
    ("my_linear", "nn.Parameter(jax.random.normal(rngs.params(), (in_units, units), jnp.float32))"),
]


@pytest.mark.parametrize(("name", "line"), KEPT)
def test_writes(name, line):
    assert line in written(name)


def test_configuration_stays_an_argument():
    port = execute(written("tower")).tower(dims=(4, 2), act="relu", rngs=nnx.Rngs(0))
    assert [type(layer).__name__ for layer in port] == ["Linear", "ReLU", "Dropout"]


@pytest.mark.parametrize("model", [m for m in ACCEPTED if m.name not in COMPUTED], ids=str)
def test_builds_without_values(model):
    """Check that ``nnx.eval_shape`` can trace the constructors, which compute Python numbers with NumPy."""
    with jax.numpy_rank_promotion("allow"):
        port = nnx.eval_shape(lambda: execute(written(model.name)).build(rngs=nnx.Rngs(0)))
    torch.manual_seed(0)
    expected = {name: tuple(tensor.shape) for name, tensor in model.build().state_dict().items()}
    assert {name: value.shape for name, value in port.state_dict().items()} == expected


def test_builds_the_same_model_again():
    build = execute(written("initialised")).build
    first, again, other = (build(rngs=nnx.Rngs(seed)).state_dict() for seed in (0, 0, 1))
    assert np.array_equal(first["c"], again["c"])
    assert not np.array_equal(first["c"], other["c"])


def test_leaves_the_generators_and_functions_of_torch_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    code = BY_NAME["tied_clones"].build.__init__.__code__
    to_source(BY_NAME["tied_clones"].build, torch.zeros(2, 3, dtype=torch.long), check=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert BY_NAME["tied_clones"].build.__init__.__code__ is code


# Refusals.


class Wrong(torch.nn.Module):
    """A model whose constructor uses a function of torch without a counterpart."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.linalg.lu_factor(torch.eye(3))[0])

    def forward(self, x):
        return x @ self.table


def test_refuses_untranslatable_construction_with_place():
    with pytest.raises(PortError, match=r"test_port_source.py:\d+: torch.linalg.lu_factor\(torch.eye\(3\)"):
        to_source(Wrong, torch.ones(2, 3))


def around(width):
    def build():
        return torch.nn.Linear(2, width)

    return build, lambda: torch.nn.Linear(2, width)


def test_a_lambda_that_reads_a_variable_around_it_takes_an_argument():
    source = to_source(around(3)[1], torch.ones(1, 2))
    assert "def build(*, width: int = 3, rngs: nnx.Rngs) -> nn.Linear:" in source


def test_refuses_a_function_that_reads_a_variable_around_it():
    with pytest.raises(PortError, match=r"around.<locals>.build reads width of the function around it"):
        to_source(around(3)[0], torch.ones(1, 2))


def made_inside():
    class Inner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.fc(x)

    return Inner()


def test_refuses_a_class_of_modules_inside_of_a_function():
    from_torch(made_inside(), torch.ones(1, 2))
    with pytest.raises(
        PortError, match=r"test_port_source.py:\d+: Inner\n    The class Inner of modules is defined inside"
    ):
        to_source(made_inside, torch.ones(1, 2))


ATTACHED = [
    (followed.Replaced, r"followed.py:\d+: def forward\(self, x\):\n    Replaced.forward is replaced by quartered."),
    (
        followed.Halved,
        r"followed.py:\d+: cls.forward = lambda .*\n    Halved.forward was assigned to the class after its",
    ),
]


@pytest.mark.parametrize(("builder", "text"), ATTACHED, ids=["replaced", "attached"])
def test_refuses_methods_from_elsewhere_with_place(builder, text):
    with pytest.raises(PortError, match=text):
        to_source(builder, torch.ones(2, 4))


@pytest.mark.parametrize("builder", [3, torch.nn.Linear(2, 2)], ids=["number", "module"])
def test_refuses_other_builders(builder):
    with pytest.raises(
        TypeError, match=re.escape(f"expected a class, a function, a class method or a partial, got {builder!r}")
    ):
        to_source(builder, torch.ones(1, 2))


# Initial distributions.

DISTRIBUTED = [
    "lenet", "resnet18", "gru_lm", "my_linear", "mobilenet", "vit", "gpt", "translation", "graph", "capsules",
    "fourier_operator", "generator", "super_resolution", "initialised", "tied_clones", "several_files", "normed",
]  # fmt: skip
DRAWS = 8


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_parameters_begin_with_torchs_distributions(name):
    """Compare mean, deviation and distribution (Kolmogorov-Smirnov test) of each parameter over several seeds."""
    model = BY_NAME[name]
    build = execute(written(name)).build
    with jax.numpy_rank_promotion("allow"):
        ours = [dict(state.named_parameters(build(rngs=nnx.Rngs(seed)))) for seed in range(DRAWS)]
    theirs = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        theirs.append(dict(model.build().named_parameters()))
    for parameter in theirs[0]:
        expected = _values([each[parameter].detach().numpy() for each in theirs])
        actual = _values([each[parameter].get_value() for each in ours])
        if np.ptp(expected) == 0:
            assert np.ptp(actual) == 0, parameter
            assert actual[0] == pytest.approx(expected[0], rel=1e-6), parameter
            continue
        scale = expected.std()
        error = 6 * scale / len(expected) ** 0.5
        assert abs(actual.mean() - expected.mean()) < 2 * error, parameter
        assert abs(actual.std() - scale) < 3 * error, parameter
        assert scipy.stats.ks_2samp(actual, expected).pvalue > 1e-6, parameter


def _values(arrays: list[Any]) -> np.ndarray:
    values = np.concatenate([np.asarray(array).reshape(-1) for array in arrays])
    values = values.view(values.real.dtype) if np.iscomplexobj(values) else values
    return values[np.random.default_rng(0).permutation(len(values))[:20_000]]


# The page that compares a written file with a file of flaxnets. ``python parity_tests/port/test_port_source.py`` writes
# the page.

PAGE = ROOT / "docs" / "porting_densenet.md"
TITLE = """# A DenseNet by `flaxnets port`, and by hand

`torchref/models/densenet.py` is a DenseNet in PyTorch. This command writes the first listing:

```bash
flaxnets port torchref.models.densenet:densenet --input 2,1,96,96 --out densenet_flax.py
```

The second listing is `flaxnets/models/densenet.py`, which was written by hand.

"""


def page() -> str:
    builder = vars(importlib.import_module("torchref.models.densenet"))["densenet"]
    text = to_source(builder, torch.zeros(2, 1, 96, 96), check=False)
    ours = (ROOT / "flaxnets/models/densenet.py").read_text()
    return f"{TITLE}## Written by `flaxnets port`\n\n```python\n{text}```\n\n## By hand\n\n```python\n{ours}```\n"


def test_the_page_shows_what_is_written():
    assert PAGE.read_text() == page()


if __name__ == "__main__":
    PAGE.write_text(page())
