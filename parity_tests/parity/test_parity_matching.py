"""Test the matching of names and nesting: suggestions, ambiguities, mappings of users, saved matchings and weights."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from matching_models import MODELS, Flax, Model, Torch

from flaxnets.parity import Entry, FunctionModule, Matching, check, load_torch_weights, match, randomize
from flaxnets.parity.layouts import closest_order, suggest_inputs
from flaxnets.parity.matching import named_modules, named_variables
from flaxnets.parity.matching.ordering import call_torch
from flaxnets.parity.run import Call, call_flax

Rngs = nnx.Rngs


@pytest.fixture(autouse=True)
def _rank_promotion() -> Iterator[None]:
    """Allow implicit rank promotion: models of users add (features,) to (batch, features)."""
    with jax.numpy_rank_promotion("allow"):
        yield


def lin(size: int = 4, out: int | None = None, **options: Any) -> nnx.Linear:
    return nnx.Linear(size, out or size, rngs=Rngs(0), **options)


def tlin(size: int = 4, out: int | None = None, **options: Any) -> torch.nn.Linear:
    return torch.nn.Linear(size, out or size, **options)


def pairs(matching: Matching) -> dict[str, str]:
    """Return the torch module of each Flax module that has a kernel or a scale."""
    return {
        e.flax.rpartition(".")[0]: e.torch[0].rpartition(".")[0]
        for e in matching.entries
        if not e.flax.endswith("bias")
    }


X = np.random.default_rng(0).normal(size=(3, 4))


def chain(*names: str) -> Callable[..., Any]:
    def run(m: Any, x: Any) -> Any:
        for name in names:
            layer: Any = m
            for part in name.split("."):
                layer = layer[int(part)] if part.isdigit() else getattr(layer, part)
            x = layer(x) * 1.5
        return x

    return run


# Names, nesting and order: torch's model, Flax's model, and the partner of each Flax layer.
SUGGESTED = {
    "names that differ in style": (
        lambda: Torch(chain("layers_0.fcOne", "layers_1.fcTwo"), layers_0=Torch(None, fcOne=tlin()),
                      layers_1=Torch(None, fcTwo=tlin())),
        lambda: Flax(chain("layers.0.fc_one", "layers.1.fc_two"),
                     layers=nnx.List([Flax(None, fc_one=lin()), Flax(None, fc_two=lin())])),
        {"layers.0.fc_one": "layers_0.fcOne", "layers.1.fc_two": "layers_1.fcTwo"},
    ),
    "numbers that count activations": (
        lambda: Torch(chain("net"), net=torch.nn.Sequential(tlin(), torch.nn.ReLU(), tlin(), torch.nn.ReLU(), tlin())),
        lambda: Flax(chain("net.0", "net.1", "net.2"), net=nnx.List([lin(), lin(), lin()])),
        {"net.0": "net.0", "net.1": "net.2", "net.2": "net.4"},
    ),
    "defined in another order": (
        lambda: Torch(chain("a", "b", "c"), a=tlin(), b=tlin(), c=tlin()),
        lambda: Flax(chain("one", "two", "three"), three=lin(), one=lin(), two=lin()),
        {"one": "a", "two": "b", "three": "c"},
    ),
    "a shortcut of equal shape that runs first": (
        lambda: Torch(lambda m, x: m.conv2(m.conv1(x)) + m.downsample(x), conv1=tlin(), conv2=tlin(),
                      downsample=tlin()),
        lambda: Flax(lambda m, x: m.shortcut(x) + m.second(m.first(x)), shortcut=lin(), first=lin(), second=lin()),
        {"first": "conv1", "second": "conv2", "shortcut": "downsample"},
    ),
    "query and key in another order": (
        lambda: Torch(lambda m, x: m.q(x).softmax(-1) * m.k(x) + m.v(x).tanh(), q=tlin(), k=tlin(), v=tlin()),
        lambda: Flax(lambda m, x: m.key(x) * jax.nn.softmax(m.query(x)) + jnp.tanh(m.value(x)), key=lin(), query=lin(),
                     value=lin()),
        {"query": "q", "key": "k", "value": "v"},
    ),
    "parallel layers whose names say nothing": (
        lambda: Torch(lambda m, x: m.q(x).softmax(-1) * m.k(x) + m.v(x).tanh(), q=tlin(), k=tlin(), v=tlin()),
        lambda: Flax(lambda m, x: m.a(x) * jax.nn.softmax(m.b(x)) + jnp.tanh(m.c(x)), c=lin(), a=lin(), b=lin()),
        {"b": "q", "a": "k", "c": "v"},
    ),
    "nesting on one side only": (
        lambda: Torch(chain("encoder", "head"), encoder=torch.nn.Sequential(tlin(4, 5), torch.nn.LayerNorm(5)),
                      head=tlin(5, 2)),
        lambda: Flax(chain("dense", "norm", "out"), dense=lin(4, 5), norm=nnx.LayerNorm(5, rngs=Rngs(0)),
                     out=lin(5, 2)),
        {"dense": "encoder.0", "norm": "encoder.1", "out": "head"},
    ),
    "dicts and lists of modules": (
        lambda: Torch(chain("a", "b"), a=tlin(4, 4), b=tlin(4, 4)),
        lambda: Flax(lambda m, x: m.parts["two"][0](m.parts["one"][0](x) * 1.5) * 1.5,
                     parts=nnx.data({"one": [lin()], "two": [lin()]})),
        {"parts.one.0": "a", "parts.two.0": "b"},
    ),
    "a module that runs twice": (
        lambda: Torch(chain("a", "b", "a"), a=tlin(), b=tlin()),
        lambda: Flax(chain("x", "y", "x"), y=lin(), x=lin()),
        {"x": "a", "y": "b"},
    ),
    "a normalisation after its layer, where torch's is before": (
        lambda: Torch(lambda m, x: m.fc2(m.norm2(m.fc1(m.norm1(x)))), norm1=torch.nn.LayerNorm(4), fc1=tlin(),
                      norm2=torch.nn.LayerNorm(4), fc2=tlin()),
        lambda: Flax(lambda m, x: m.ln_out(m.out(m.ln_in(m.into(x)))), ln_in=nnx.LayerNorm(4, rngs=Rngs(0)),
                     into=lin(), ln_out=nnx.LayerNorm(4, rngs=Rngs(0)), out=lin()),
        {"ln_in": "norm1", "into": "fc1", "ln_out": "norm2", "out": "fc2"},
    ),
    "embeddings of tokens and of positions": (
        lambda: Torch(lambda m, x: m.wte(x) + m.pos_embed, wte=torch.nn.Embedding(4, 6),
                      pos_embed=torch.nn.Parameter(torch.ones(1, 4, 6))),
        lambda: Flax(lambda m, x: m.words(x) + m.places(jnp.arange(4)), words=nnx.Embed(4, 6, rngs=Rngs(0)),
                     places=nnx.Embed(4, 6, rngs=Rngs(0))),
        {"words": "wte", "places": ""},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SUGGESTED)
def test_suggested_partners(case: str) -> None:
    make_torch, make_flax, expected = SUGGESTED[case]
    x = np.array([[0, 1, 2, 3]]) if "tokens" in case else X
    matching = match(make_torch(), make_flax(), x)
    assert matching.problems() == []
    assert pairs(matching) == expected


def test_modules_that_hold_the_same_parameters_are_pairs() -> None:
    theirs = Torch(
        chain("encoder", "rnn"),
        encoder=torch.nn.Sequential(torch.nn.Sequential(tlin(), torch.nn.Dropout(0.1)), torch.nn.LayerNorm(4)),
        rnn=Torch(lambda m, x: m.lstm(x)[0], lstm=torch.nn.LSTM(4, 4)),
    )
    cell = nnx.RNN(nnx.OptimizedLSTMCell(4, 4, rngs=Rngs(0)), time_major=True)
    body = Flax(
        chain("fc", "drop", "norm"), fc=lin(), drop=nnx.Dropout(0.1, rngs=Rngs(0)), norm=nnx.LayerNorm(4, rngs=Rngs(0))
    )
    matching = match(theirs, Flax(chain("body", "cell"), body=body, cell=cell), X[:, None])
    assert dict(matching.modules) == {
        "": "", "encoder": "body", "encoder.0.0": "body.fc", "encoder.0.1": "body.drop", "encoder.1": "body.norm",
        "rnn.lstm": "cell",
    }  # fmt: skip


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_whole_models(make: Callable[[], Model]) -> None:
    theirs, ours, inputs = make()
    matching = match(theirs, ours, *inputs)
    assert matching.problems() == []
    theirs = theirs.eval()
    randomize(theirs, np.random.default_rng(1))
    load_torch_weights(ours, theirs.state_dict(), matching)
    call = Call(inputs, {}, training=False, dtype="float32")
    expected = call_torch(theirs, call)
    call = suggest_inputs(ours, call, [output.shape for output in expected])[0].to_flax(call)
    graphdef, state = nnx.split(ours)
    run = jax.jit(lambda state: jax.tree.leaves(call_flax(nnx.merge(graphdef, state, copy=True), call)))
    for output, found in zip(expected, run(state), strict=True):
        assert closest_order(output, np.asarray(found))[1] < 1e-5


class TestOpen:
    """Ambiguous variables are listed with their candidates, and no weights are loaded into them."""

    def test_parallel_layers_in_a_model_that_differs(self) -> None:
        theirs = Torch(lambda m, x: m.q(x) * 2 - m.k(x), q=tlin(), k=tlin())
        ours = Flax(lambda m, x: m.a(x) * 3 - m.b(x), a=lin(), b=lin())
        matching = match(theirs, ours, X)
        assert {each.flax for each in matching.ambiguous} == {"a.kernel", "a.bias", "b.kernel", "b.bias"}
        candidates = {each.flax: each.candidates for each in matching.ambiguous}
        assert candidates["a.bias"] == ("q.bias", "k.bias")
        assert not matching.is_complete()
        assert any(
            "a.bias may be any of q.bias, k.bias. Fix: pass matching={'q.bias': 'a.bias'}" in p
            for p in matching.problems()
        )
        with pytest.raises(ValueError, match=r"a\.kernel: the matching has no entry"):
            load_torch_weights(ours, theirs.state_dict(), matching)

    def test_parallel_layers_without_inputs(self) -> None:
        theirs, ours = Torch(None, q=tlin(), k=tlin()), Flax(None, a=lin(), b=lin())
        assert {each.flax for each in match(theirs, ours).ambiguous} == {"a.kernel", "a.bias", "b.kernel", "b.bias"}

    def test_names_settle_it(self) -> None:
        theirs, ours = Torch(None, q=tlin(), k=tlin()), Flax(None, a=lin(), b=lin())
        assert pairs(match(theirs, ours, names={"q": "b"})) == {"b": "q", "a": "k"}

    def test_a_square_matrix_of_a_users_own_layer(self) -> None:
        theirs = Torch(lambda m, x: x @ m.w, w=torch.nn.Parameter(torch.randn(4, 4)))
        same = Flax(lambda m, x: x @ m.w[...], w=nnx.Param(jnp.zeros((4, 4))))
        turned = Flax(lambda m, x: x @ m.w[...].T, w=nnx.Param(jnp.zeros((4, 4))))
        assert match(theirs, same, X).entries == (Entry("w", ("w",), "same"),)
        assert match(theirs, turned, X).entries == (Entry("w", ("w",), "transpose"),)
        assert match(theirs, same).ambiguous[0].candidates == ("w", "w (transpose)")


@pytest.mark.parametrize(
    ("make_torch", "make_flax", "torch_names", "flax_names", "message"),
    [
        (lambda: tlin(), lambda: lin(use_bias=False), ("bias",), (), "torch parameters without a Flax variable: bias"),
        (lambda: tlin(bias=False), lambda: lin(), (), ("bias",), "Flax variables without a torch parameter: bias"),
        (lambda: torch.nn.Sequential(tlin(4, 5), tlin(5, 2)), lambda: nnx.Sequential(lin(4, 5), lin(6, 2)),
         ("1.weight", "1.bias"), ("layers.1.kernel", "layers.1.bias"),
         r"1 has weight \[2, 5\], bias \[2\]; layers.1 has weight \[2, 6\], bias \[2\] in torch's axis order"),
        (lambda: torch.nn.Sequential(tlin(), tlin(), tlin()), lambda: nnx.Sequential(lin(), lin()),
         ("2.weight", "2.bias"), (), "2.weight, 2.bias"),
        (lambda: torch.nn.Conv2d(3, 4, 3), lambda: lin(), ("weight", "bias"), ("kernel", "bias"), "weight, bias"),
    ],
    ids=["missing bias", "extra bias", "other size", "missing layer", "nothing in common"],
)  # fmt: skip
def test_what_has_no_partner(
    make_torch: Any, make_flax: Any, torch_names: tuple, flax_names: tuple, message: str
) -> None:
    matching = match(make_torch(), make_flax())
    assert (matching.unmatched_torch, matching.unmatched_flax) == (torch_names, flax_names)
    assert not matching.is_complete()
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(matching.problems()))


def test_buffers_need_no_partner() -> None:
    theirs = Torch(lambda m, x: m.fc(x) * m.mask, fc=tlin())
    theirs.register_buffer("mask", torch.ones(4))
    theirs.register_buffer("steps", torch.tensor(3))
    assert match(theirs, Flax(None, dense=lin())).is_complete()


class TestTied:
    def tied(self) -> torch.nn.Module:
        model = Torch(lambda m, x: m.head(m.wte(x)), wte=torch.nn.Embedding(7, 4), head=tlin(4, 7, bias=False))
        model.head.weight = model.wte.weight
        return model

    def test_tied_on_both_sides(self) -> None:
        ours = Flax(lambda m, x: m.embed.attend(m.embed(x)), embed=nnx.Embed(7, 4, rngs=Rngs(0)))
        matching = match(self.tied(), ours, np.arange(3))
        assert matching.entries == (Entry("embed.embedding", ("wte.weight",)),)
        assert (matching.problems(), matching.untied()) == ([], [])
        assert matching.expected_gradients({"wte.weight": np.ones((7, 4))})["embed.embedding"].shape == (7, 4)

    def test_separate_in_flax(self) -> None:
        ours = Flax(lambda m, x: m.out(m.embed(x)), embed=nnx.Embed(7, 4, rngs=Rngs(0)), out=lin(4, 7, use_bias=False))
        matching = match(self.tied(), ours, np.arange(3))
        assert matching.problems() == []
        assert matching.untied() == [(("wte.weight", "head.weight"), ("embed.embedding", "out.kernel"))]
        gradients = matching.expected_gradients({"wte.weight": np.ones((7, 4))})
        assert {name: g.shape for name, g in gradients.items()} == {"embed.embedding": (7, 4), "out.kernel": (4, 7)}

    def test_one_variable_in_two_places(self) -> None:
        ours = Flax(lambda m, x: m.b(m.a(x)), a=lin(), b=lin())
        ours.b.kernel = ours.a.kernel
        theirs = Torch(lambda m, x: m.b(m.a(x)), a=tlin(), b=tlin())
        theirs.b.weight = theirs.a.weight
        matching = match(theirs, ours, X)
        assert matching.problems() == []
        assert [entry.flax for entry in matching.entries] == ["a.kernel", "a.bias", "b.bias"]


def mapped_models() -> tuple[torch.nn.Module, nnx.Module]:
    blocks = torch.nn.ModuleList([torch.nn.Sequential(tlin(), torch.nn.ReLU(), tlin()) for _ in range(2)])
    stages = nnx.List([Flax(None, second=lin(), first=lin()) for _ in range(2)])
    return Torch(None, stem=tlin(), blocks=blocks, head=tlin()), Flax(None, last=lin(), stages=stages, entry=lin())


RIGHT = {
    "entry": "stem", "stages.0.first": "blocks.0.0", "stages.0.second": "blocks.0.2", "stages.1.first": "blocks.1.0",
    "stages.1.second": "blocks.1.2", "last": "head",
}  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        {torch_name: flax for flax, torch_name in RIGHT.items()},
        {"stem": "entry", "head": "last", r"blocks\.(\d)\.0": r"stages.\1.first",
         r"blocks\.(\d)\.2": r"stages.\1.second"},
        {"stem.weight": "entry.kernel", "stem.bias": "entry.bias", "head": "last", "blocks.0.0": "stages.0.first",
         "blocks.0.2": "stages.0.second", "blocks.1.0": "stages.1.first", "blocks.1.2": "stages.1.second"},
        lambda name: {torch_name: flax for flax, torch_name in RIGHT.items()}.get(name),
    ],
    ids=["dict", "regular expressions", "variables", "function"],
)  # fmt: skip
def test_a_mapping_of_the_user(names: Any) -> None:
    matching = match(*mapped_models(), names=names)
    assert matching.problems() == []
    assert pairs(matching) == RIGHT


def test_several_tensors_for_one_variable() -> None:
    theirs = Torch(None, q=tlin(), k=tlin(), rnn=torch.nn.RNNCell(2, 3))
    ours = Flax(
        None, qk=lin(4, 8), w=nnx.Param(jnp.zeros((2, 3))), u=nnx.Param(jnp.zeros((3, 3))), b=nnx.Param(jnp.zeros(3))
    )
    names = {
        "q.weight": "qk.kernel", "k.weight": "qk.kernel", "q.bias": "qk.bias", "k.bias": "qk.bias",
        "rnn.bias_ih": "b", "rnn.bias_hh": "b", "rnn.weight_ih": "w", "rnn.weight_hh": "u",
    }  # fmt: skip
    entries = {entry.flax: (entry.torch, entry.transform) for entry in match(theirs, ours, names=names).entries}
    assert entries["qk.kernel"] == (("q.weight", "k.weight"), "concat | transpose")
    assert entries["b"] == (("rnn.bias_ih", "rnn.bias_hh"), "sum")
    assert entries["w"] == (("rnn.weight_ih",), "transpose")


def test_one_module_for_several() -> None:
    theirs = Torch(None, qkv=tlin(4, 12))
    ours = Flax(None, z=lin(), y=lin(), x=lin())
    matching = match(theirs, ours, names={"qkv": ("x", "y", "z")})
    assert {e.flax: e.transform for e in matching.entries if e.flax.endswith("bias")} == {
        "x.bias": "rows(0:4)", "y.bias": "rows(4:8)", "z.bias": "rows(8:12)"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"stm": "entry"}, "'stm' matches no torch module or tensor"),
        ({"stem": "entri"}, "'stem': the Flax module has no 'entri'"),
        ({"stem": "stages.0.first", "(": "x"}, r"'\(': 'x' is not a valid regular expression"),
        ({"stem.weight": "entry.bias"}, r"stem.weight of the shapes \[\[4, 4\]\] cannot be converted to 'entry.bias'"),
        ({"stm": "entry", "haed": "last"}, "(?s)'stm' matches no.*'haed' matches no"),
        ({"stem": "last", "head": "last"}, "the Flax module has no 'last' with unmatched parameters"),
    ],
)
def test_a_mapping_that_does_not_fit(names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match(*mapped_models(), names=names)


class TestSaved:
    def test_a_saved_matching_loads_weights(self, tmp_path: Path) -> None:
        theirs, ours = mapped_models()
        match(theirs, ours, names={name: flax for flax, name in RIGHT.items()}).save(tmp_path / "names.json")
        loaded = Matching.load(tmp_path / "names.json")
        load_torch_weights(ours, theirs.state_dict(), loaded)
        np.testing.assert_array_equal(ours.last.kernel[...], theirs.head.weight.detach().numpy().T)
        assert loaded.expected_gradients({"head.weight": np.ones((4, 4))})["last.kernel"].shape == (4, 4)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "names.json is not a saved matching"),
            ("[]", "names.json is not a saved matching"),
            ('{"format": "flaxnets parity matching", "version": 9}', "names.json has version 9. Expected version 1"),
            ('{"format": "flaxnets parity matching", "version": 1}', "names.json is a damaged matching: KeyError"),
        ],
    )
    def test_other_files(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "names.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            Matching.load(tmp_path / "names.json")

    def test_an_unknown_transform(self, tmp_path: Path) -> None:
        path = tmp_path / "names.json"
        Matching((Entry("kernel", ("weight",), "transpose"),)).save(path)
        document = json.loads(path.read_text())
        document["entries"][0]["transform"] = "twist"
        path.write_text(json.dumps(document))
        with pytest.raises(ValueError, match="unknown transform: 'twist'"):
            Matching.load(path)


class TestLoading:
    def test_all_problems_at_once_and_nothing_assigned(self) -> None:
        theirs, ours = torch.nn.Sequential(tlin(4, 5), tlin(5, 2)), nnx.Sequential(lin(4, 5), lin(5, 2))
        matching = match(theirs, ours)
        state = dict(theirs.state_dict())
        before = {name: np.asarray(v[...]) for name, v in named_variables(ours).items()}
        del state["0.bias"]
        state["1.weight"] = torch.zeros(3, 5)
        state["1.bias"] = torch.zeros(2, dtype=torch.int32)
        message = (
            r"(?s)cannot load the weights into Sequential:\n  layers.0.bias: the state dict has no 0.bias"
            r".*layers.1.kernel: 1.weight: .*\[3, 5\].*layers.1.bias: 1.bias is int32. Expected float32"
        )
        with pytest.raises(ValueError, match=message):
            load_torch_weights(ours, state, matching)
        assert all((before[name] == v[...]).all() for name, v in named_variables(ours).items())

    @pytest.mark.parametrize(
        "convert", [lambda t: t, lambda t: t.numpy(), lambda t: t.to(torch.bfloat16), lambda t: t.double()]
    )
    def test_dtypes_and_kinds_of_arrays(self, convert: Callable[[Any], Any]) -> None:
        theirs, ours = tlin(4, 2), nnx.Linear(4, 2, param_dtype=jnp.bfloat16, rngs=Rngs(0))
        state = {name: convert(value.detach()) for name, value in theirs.state_dict().items()}
        load_torch_weights(ours, state, match(theirs, ours))
        assert ours.kernel.dtype == jnp.bfloat16
        expected = theirs.weight.detach().to(torch.bfloat16).float().numpy().T
        np.testing.assert_array_equal(ours.kernel[...].astype(jnp.float32), expected)

    def test_names_of_a_tied_tensor_that_the_state_dict_leaves_out(self) -> None:
        theirs = TestTied().tied()
        ours = Flax(lambda m, x: m.out(m.embed(x)), embed=nnx.Embed(7, 4, rngs=Rngs(0)), out=lin(4, 7, use_bias=False))
        matching = match(theirs, ours, np.arange(3))
        load_torch_weights(ours, {"wte.weight": theirs.wte.weight}, matching)
        np.testing.assert_array_equal(ours.out.kernel[...], theirs.wte.weight.detach().numpy().T)


class Net(linen.Module):
    """A model with many layer types of Flax Linen."""

    @linen.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = linen.Conv(6, (3, 3), padding=1, name="stem")(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train)(x))
        x = linen.ConvTranspose(6, (2, 2), (2, 2), padding="VALID")(x)
        x = linen.GroupNorm(3, epsilon=1e-5)(x).reshape(x.shape[0], -1, 6)
        x = x + linen.MultiHeadDotProductAttention(2)(linen.LayerNorm(epsilon=1e-5)(x))
        x = linen.RNN(linen.OptimizedLSTMCell(5))(linen.RMSNorm()(x))
        x = linen.RNN(linen.GRUCell(4))(x)
        return linen.DenseGeneral(3)(linen.RNN(linen.SimpleCell(4))(x))


def torch_net() -> torch.nn.Module:
    def run(m: Any, x: Any) -> Any:
        x = m.up(torch.relu(m.bn(m.conv(x))))
        x = m.gn(x).permute(0, 2, 3, 1).flatten(1, 2)
        y = m.ln(x)
        x = x + m.attn(y, y, y, need_weights=False)[0]
        for layer in (m.lstm, m.gru, m.rnn):
            x = layer(m.rms(x) if layer is m.lstm else x)[0]
        return m.fc(x)

    return Torch(
        run, conv=torch.nn.Conv2d(3, 6, 3, padding=1), bn=torch.nn.BatchNorm2d(6),
        up=torch.nn.ConvTranspose2d(6, 6, 2, 2), gn=torch.nn.GroupNorm(3, 6), ln=torch.nn.LayerNorm(6),
        attn=torch.nn.MultiheadAttention(6, 2, batch_first=True),
        rms=torch.nn.RMSNorm(6, eps=1e-6), lstm=torch.nn.LSTM(6, 5, batch_first=True),
        gru=torch.nn.GRU(5, 4, batch_first=True), rnn=torch.nn.RNN(4, 4, batch_first=True), fc=tlin(4, 3),
    )  # fmt: skip


@pytest.mark.parametrize(("wrapped", "with_inputs"), [(False, False), (True, True)])
def test_flax_linen(wrapped: bool, with_inputs: bool) -> None:
    theirs, images = torch_net().eval(), np.random.default_rng(0).normal(size=(2, 3, 3, 2)).astype(np.float32)
    randomize(theirs, np.random.default_rng(1))
    bridged = nnx.bridge.ToNNX(Net(), rngs=Rngs(0)).lazy_init(jnp.ones((1, 3, 2, 3)))
    ours = Flax(lambda m, x: m.net(x), net=bridged) if wrapped else bridged
    matching = match(theirs, ours, *([images] if with_inputs else []))
    assert matching.problems() == []
    load_torch_weights(ours, theirs.state_dict(), matching)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(ours(images.transpose(0, 2, 3, 1)), expected, rtol=0, atol=2e-6)


def test_a_function_with_a_state_mapping() -> None:
    theirs = torch.nn.Sequential(torch.nn.Conv1d(3, 4, 2), torch.nn.ReLU(), torch.nn.Flatten(), tlin(12, 2))
    # Equinox has torch's names and shapes, except that the bias of a convolution has the axes of its output.
    state = {
        "layers.0.weight": jnp.zeros((4, 3, 2)), "layers.0.bias": jnp.zeros((4, 1)),
        "layers.3.weight": jnp.zeros((2, 12)), "layers.3.bias": jnp.zeros(2), "seen": jnp.array(0),
    }  # fmt: skip

    def function(state: Any, x: Any) -> Any:
        x = jax.lax.conv(x, state["layers.0.weight"], (1,), "VALID") + state["layers.0.bias"]
        return jax.nn.relu(x).reshape(len(x), -1) @ state["layers.3.weight"].T + state["layers.3.bias"]

    ours, x = FunctionModule(function, state), np.ones((2, 3, 4), np.float32)
    matching = match(theirs, ours, x)
    assert matching.problems() == []
    load_torch_weights(ours, theirs.state_dict(), matching)
    np.testing.assert_allclose(ours(jnp.asarray(x)), theirs(torch.from_numpy(x)).detach(), rtol=0, atol=1e-6)


def test_a_state_with_something_that_is_no_array() -> None:
    with pytest.raises(TypeError, match=r"state\['fc'\]\['name'\] is str"):
        FunctionModule(lambda state: None, {"fc": {"name": "x"}})


def test_paths_of_variables_and_modules() -> None:
    model = Flax(None, parts=nnx.data({"a": [lin(use_bias=False)]}), drop=nnx.Dropout(0.5, rngs=Rngs(0)))
    assert list(named_variables(model)) == ["parts.a.0.kernel"]
    assert {"", "parts.a.0", "drop"} <= set(named_modules(model))


class ByHeads(torch.nn.Module):
    """Attention with one projection whose rows are query, key and value of the first head, then of the second head."""

    sizes, axes = (2, 3, 4), (3, 0, 2, 1, 4)

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = tlin(8, 24), tlin(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, self.sizes).permute(self.axes)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2))


class ByParts(nnx.Module):
    def __init__(self, scale: float) -> None:
        self.query, self.key, self.value, self.out = lin(8, 8), lin(8, 8), lin(8, 8), lin(8, 8)
        self.scale = scale

    def __call__(self, x: jax.Array) -> jax.Array:
        q, k, v = (each(x).reshape(*x.shape[:2], 2, 4) for each in (self.query, self.key, self.value))
        return self.out(nnx.dot_product_attention(q * self.scale, k, v).reshape(x.shape))


@pytest.mark.parametrize(
    "make",
    [lambda: ByParts(1.0), lambda: nnx.MultiHeadAttention(2, 8, decode=False, rngs=Rngs(0))],
    ids=["linear layers", "nnx.MultiHeadAttention"],
)
def test_rows_of_a_joint_projection_are_sorted_by_head_or_by_part(make: Callable[[], nnx.Module]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 8))
    report = check(ByHeads(), make(), x, dtypes=("float64",), runs=("eager",))
    assert report.passed, str(report)
    assert any("axes(1,0,2,3)" in entry.transform for entry in report.matching.entries)


def test_a_fault_in_an_attention_leaves_the_rows_of_a_joint_projection_as_they_are() -> None:
    class TorchByParts(ByHeads):
        sizes, axes = (3, 2, 4), (2, 0, 3, 1, 4)

    matching = match(TorchByParts(), ByParts(0.5), np.random.default_rng(0).normal(size=(2, 5, 8)))
    assert matching.problems() == []
    transforms = {entry.flax: entry.transform for entry in matching.entries}
    assert transforms["key.kernel"] == "rows(8:16) | transpose"
