"""Small models with a place that a port refuses; the comment ``# here`` stands in its line."""

import contextlib
import ctypes
import dataclasses
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclasses.dataclass(frozen=True)
class Refused:
    """A model that is refused.

    Attributes:
        model: makes the model; its source has the places.
        cause: words of the cause.
        fix: words of what to do.
        inputs: makes the arguments of a call; a tensor ``(4, 3)`` if there are none.
    """

    model: Callable[[], nn.Module]
    cause: str
    fix: str
    inputs: Callable[[], tuple[Any, ...]] = lambda: (torch.randn(4, 3),)

    def __str__(self) -> str:
        return self.model.__name__


REFUSED: list[Refused] = []


def refused(cause: str, fix: str, inputs: Any = None) -> Callable[[Any], Any]:
    """Add a class to the table."""

    def add(model: Any) -> Any:
        REFUSED.append(Refused(model, cause, fix, inputs or Refused.inputs))
        return model

    return add


# Control flow by values.


@refused("branches on the value of a tensor", "x = torch.where(x.sum() > 0, x * 2, x - 1)")
class IfOnSum(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # here
            x = x * 2
        else:
            x = x - 1
        return x


@refused("branches on the value of a tensor", "torch.where(x.max() > y.max(), x, y)")
class ConditionalExpression(nn.Module):
    def forward(self, x):
        y = x.flip(0) * 2
        return x if x.max() > y.max() else y  # here


@refused("branches on the value of a tensor", "jax.lax.cond")
class ReturnsEarly(nn.Module):
    def forward(self, x):
        if (x > 0).all() and x.shape[0] > 1:  # here
            return x
        return -x


@refused("branches on the value of a tensor", "jax.lax.while_loop")
class WhileOnNorm(nn.Module):
    def forward(self, x):
        while x.norm() > 1:  # here
            x = x / 2
        return x


@refused("branches on the value of a tensor", "torch.where")
class NotOnTensor(nn.Module):
    def forward(self, x):
        if not x.any():  # here
            return x + 1
        return x


@refused("branches on the value of a tensor", "torch.where")
class FilteredRows(nn.Module):
    def forward(self, x):
        return torch.stack([row for row in x if row.sum() > -100])  # here


@refused("of a tensor needs its value", "(x == y).all()")
class ComparesInBranch(nn.Module):
    def forward(self, x):
        y = x.abs()
        if torch.equal(x, y):  # here
            return x
        if torch.allclose(x, y):  # here
            return -y
        return x + y


@refused("whether a collection contains the value of a tensor", "(x == y).any()")
class MembershipOfTensor(nn.Module):
    def forward(self, x):
        return x + 1 if x[0, 0] in [1.0, 2.0] else x  # here


@refused("compares three values in one chain", "(a < x) & (x < b)")
class ChainedComparison(nn.Module):
    def forward(self, x):
        s = x.sum()
        inside = 0 < s < 1  # here
        return x * float(inside is True)


@refused("branches on the value of a tensor", "torch.where")
class MatchOnTensor(nn.Module):
    def forward(self, x):
        match x.shape[0]:
            case 4 if x.sum() > 100:  # here
                return x
            case _:
                return -x


# Values of tensors in Python.


@refused("value of a tensor is read by item()", "keep the tensor")
class Item(nn.Module):
    def forward(self, x):
        return x * x.max().item()  # here


@refused("value of a tensor is read by tolist()", "keep the tensor")
class ToList(nn.Module):
    def forward(self, x):
        return x * sum(x[0].tolist())  # here


@refused("value of a tensor is read by numpy()", "keep the tensor")
class NumpyRoundTrip(nn.Module):
    def forward(self, x):
        return torch.from_numpy(np.tanh(x.detach().numpy()))  # here


@refused("of a tensor needs its value", "tensor")
class IntOfTensor(nn.Module):
    def forward(self, x):
        return x[: int(x.abs().max())] if x.shape[0] == 1 else x[: 1 + int(x[0, 0] * 0)]  # here


@refused("of a tensor needs its value", "tensor")
class FloatOfTensor(nn.Module):
    def forward(self, x):
        return x * float(x.mean())  # here


@refused("of a tensor needs its value", "tensor")
class BoolOfTensor(nn.Module):
    def forward(self, x):
        flag = bool(x.mean() > 0)  # here
        return x + flag


@refused("of a tensor needs its value", "tensor")
class MaxOfTensors(nn.Module):
    def forward(self, x):
        return x * max(x[0, 0], x[0, 1])  # here


@refused("of a tensor needs its value", "tensor")
class SortedTensors(nn.Module):
    def forward(self, x):
        return torch.stack(sorted([x[0, 0], x[1, 0]]))  # here


@refused("of a tensor needs its value", "tensor")
class LoopToMaximum(nn.Module):
    def forward(self, x):
        for i in range(int(x.abs().max()) + 1):  # here
            x = x + i
        return x


@refused("of a tensor needs its value", "tensor")
class RangeOfTensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x):
        for i in range(self.steps):  # here
            x = x + i
        return x


# Shapes that depend on values.


@refused("A mask as an index", "torch.where(x > 0, x, 0)")
class MaskIndex(nn.Module):
    def forward(self, x):
        return x[x > 0].sum()  # here


@refused("depends on values", "torch.where")
class Nonzero(nn.Module):
    def forward(self, x):
        return x[torch.nonzero(x[:, 0] > -100).squeeze(1)]  # here


@refused("no row takes these arguments", "depends on values")
class WhereOfOneArgument(nn.Module):
    def forward(self, x):
        rows, columns = torch.where(x > 0)  # here
        return x[rows, columns].sum()


@refused("depends on values", "torch.where")
class Unique(nn.Module):
    def forward(self, x):
        return torch.unique(x.round())  # here


@refused("depends on values", "torch.where")
class MaskedSelect(nn.Module):
    def forward(self, x):
        return x.masked_select(x > 0).mean()  # here


# The memory of tensors.


@refused("memory of a tensor", "index or reshape")
class AsStrided(nn.Module):
    def forward(self, x):
        return x.as_strided((2, 2), (1, 2))  # here


@refused("memory of a tensor", "index or reshape")
class SetStorage(nn.Module):
    def forward(self, x):
        y = torch.empty(0)
        y.set_(x)  # here
        return y * 2


@refused("memory of a tensor", "index or reshape")
class DataPointer(nn.Module):
    def forward(self, x):
        return x + (x.data_ptr() == 0)  # here


@refused("memory of a tensor", "index or reshape")
class UntypedStorage(nn.Module):
    def forward(self, x):
        return x * x.untyped_storage().nbytes()  # here


@refused("ctypes", "tensor operations")
class Ctypes(nn.Module):
    def forward(self, x):
        return x * ctypes.sizeof(ctypes.c_int)  # here


# Tensors that are no plain arrays.


class _Unit(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return super().__torch_function__(func, types, args, kwargs or {})


@refused("subclass _Unit of torch.Tensor", "plain tensor")
class TensorSubclass(nn.Module):
    def forward(self, x):
        unit = x.as_subclass(_Unit)  # here
        return unit * 2  # here


@refused("sparse", "dense")
class Sparse(nn.Module):
    def forward(self, x):
        return torch.sparse.mm(x.t().to_sparse(), x)  # here


@refused("sparse", "dense")
class SparseBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.adjacency = torch.eye(4).to_sparse()

    def forward(self, x):
        return self.adjacency @ x  # here


@refused("quantized", "before it is quantized")
class Quantized(nn.Module):
    def forward(self, x):
        return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8).dequantize()  # here


@refused("has no counterpart", "assign a new tensor")
class AttributeOfTensor(nn.Module):
    def forward(self, x):
        x.scale = 2  # here
        return x * x.scale  # here


# Autograd inside of the model.


@refused("autograd", "jax.grad")
class Backward(nn.Module):
    def forward(self, x):
        x = x.detach().requires_grad_()
        x.square().sum().backward()  # here
        return x.grad  # here


@refused("autograd", "jax.grad")
class GradientInForward(nn.Module):
    def forward(self, x):
        x = x.detach().requires_grad_()
        (g,) = torch.autograd.grad(x.square().sum(), x)  # here
        return g


@refused("autograd", "jax.grad")
class HookOnTensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        y = self.fc(x)
        y.register_hook(lambda g: g * 2)  # here
        return y.sum()


class _NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()


@refused("has no backward", "backward")
class FunctionWithoutBackward(nn.Module):
    def forward(self, x):
        return _NoBackward.apply(x)  # here


@refused("mark_dirty", "new tensor")
class FunctionInPlace(nn.Module):
    class MarksDirty(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)  # here
            return x.mul_(2)

        @staticmethod
        def backward(ctx, g):
            return g * 2

    def forward(self, x):
        return self.MarksDirty.apply(x + 0)


# Code that is no plain Python of one run.


@refused("text of a program", "write")
class Evaluates(nn.Module):
    def forward(self, x):
        return eval("x * 2")  # here


@refused("text of a program", "write")
class Executes(nn.Module):
    def forward(self, x):
        scope = {"x": x}
        exec("y = x * 2", scope)  # here
        return scope["y"]


@refused("thread", "call it")
class Threads(nn.Module):
    def forward(self, x):
        results = []
        worker = threading.Thread(target=lambda: results.append(x * 2))  # here
        worker.start()  # here
        worker.join()  # here
        return results[0]


@refused("exception", "shape")
class TryReshape(nn.Module):
    def forward(self, x):
        try:  # here
            y = x.view(3, 4).transpose(0, 1).view(12)
        except RuntimeError:
            y = x.reshape(12)
        return y


_calls = 0


@refused("global", "buffer")
class GlobalCounter(nn.Module):
    def forward(self, x):
        global _calls  # here
        _calls += 1
        return x * _calls


_seen: list[torch.Tensor] = []


@refused("outlives the call", "buffer")
class GlobalList(nn.Module):
    def forward(self, x):
        _seen.append(x.detach())  # here
        return x + len(_seen)


@refused("outlives the call", "buffer")
class AppendsState(nn.Module):
    def __init__(self):
        super().__init__()
        self.history = []

    def forward(self, x):
        self.history.append(x.detach().mean())  # here
        return x - sum(self.history)


@refused("outlives the call", "buffer")
class DictState(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory = {}

    def forward(self, x):
        self.memory["last"] = x  # here
        return x


@refused("outlives the call", "buffer")
class KeepsFirstInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory = {}

    def forward(self, x):
        if "first" not in self.memory:
            self.memory["first"] = x * 2  # here
        return x + self.memory["first"]


@refused("another call", "buffer")
class CountsCalls(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1  # here
        return x * self.calls


@refused("another call", "buffer")
class RemembersTensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = None

    def forward(self, x):
        y = x if self.last is None else x + self.last
        self.last = y.detach()  # here
        return y


exec("def _without_source(x):\n    return x.max(0)[0]\n")
_made = eval("lambda x: x.max(0)[0]")


@refused("no source", "file")
class CallsFunctionOfExec(nn.Module):
    def forward(self, x):
        return _without_source(x)  # type: ignore[name-defined] # noqa: F821 # here


@refused("no source", "file")
class StoredLambdaOfEval(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = _made

    def forward(self, x):
        return self.f(x)  # here


# Random numbers that the model's streams do not draw.


@refused("generator", "generator")
class OwnGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = torch.Generator().manual_seed(0)

    def forward(self, x):
        return x + torch.rand(3, generator=self.g)  # here


@refused("Python's random numbers", "torch.rand")
class PythonsRandom(nn.Module):
    def forward(self, x):
        return x * random.random()  # here


@refused("NumPy's random numbers", "torch.rand")
class NumpysRandom(nn.Module):
    def forward(self, x):
        return x * np.random.rand()  # here


@refused("global generator", "pass rngs")
class Seeds(nn.Module):
    def forward(self, x):
        torch.manual_seed(0)  # here
        return x + torch.randn(3)


# Modules.


@refused("makes a layer with random parameters", "__init__")
class CreatesLayer(nn.Module):
    def forward(self, x):
        return nn.Linear(3, 2)(x)  # here


@refused("makes a layer with random parameters", "__init__")
class LazyLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = None

    def forward(self, x):
        if self.fc is None:
            self.fc = nn.Linear(x.shape[1], 2)  # here
        return self.fc(x)


@refused("replaces a module", "__init__")
class ReplacesModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.act = nn.ReLU(), nn.Tanh(), nn.Sigmoid()

    def forward(self, x):
        self.act = self.a if self.training else self.b  # here
        return self.act(x)


@refused("makes a parameter in forward", "__init__")
class NewParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = None

    def forward(self, x):
        if self.w is None:
            self.w = nn.Parameter(torch.ones(x.shape[1]))  # here
        return x * self.w


class _Scripted(nn.Module):
    def forward(self, x):
        return x * 2


@refused("ScriptModule", "before torch.jit")
class HoldsScript(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.jit.trace(_Scripted(), torch.ones(4, 3), check_trace=False)

    def forward(self, x):
        return self.inner(x)  # here


@refused("no layer of the class torch.ao.nn.qat.modules.linear.Linear (the module 'head.0')", "write")
class UnknownLayer(nn.Module):
    def __init__(self):
        super().__init__()
        layer = torch.ao.nn.qat.Linear(3, 2, qconfig=torch.ao.quantization.default_qconfig)
        self.head = nn.Sequential(layer, nn.ReLU())

    def forward(self, x):
        return self.head(x)  # here


# Hooks.


@refused("hook of the module 'act' changes", "forward")
class ForwardHook(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()

        def doubles(module, arguments, output):  # here
            return output * 2

        self.act.register_forward_hook(doubles)

    def forward(self, x):
        return self.act(x)


@refused("hook of the module 'act' changes", "forward")
class HookInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()

        def doubles(module, arguments, output):  # here
            output.mul_(2)

        self.act.register_forward_hook(doubles)

    def forward(self, x):
        return self.act(x)


@refused("hook of the module 'act' changes", "forward")
class ForwardPreHook(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()
        self.act.register_forward_pre_hook(lambda module, arguments: (arguments[0] + 1,))  # here

    def forward(self, x):
        return self.act(x)


@refused("hook of the module 'fc' changes", "custom_vjp")
class BackwardHook(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.fc.register_full_backward_pre_hook(lambda module, gradients: (gradients[0] * 2,))  # here

    def forward(self, x):
        return self.fc(x)


@refused("hook of the parameter 'fc.weight' changes", "custom_vjp")
class ParameterHook(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.fc.weight.register_hook(lambda g: g * 2)  # here

    def forward(self, x):
        return self.fc(x)


# Torch itself.


@refused("not in the operator table", "supported operations")
class AtenOperator(nn.Module):
    def forward(self, x):
        return torch.ops.aten.native_dropout(x, 0.0, False)[0]  # here


@refused("has no counterpart", "write it")
class OverloadOfAten(nn.Module):
    def forward(self, x):
        return torch.ops.aten.add.Tensor(x, x)  # here


@refused("autocast", "dtype")
class Autocast(nn.Module):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):  # here
            return x @ x.t()


@refused("text of a dtype", "x.dtype == torch.float32")
class TextOfDtype(nn.Module):
    def forward(self, x):
        return x * 2 if "float" in str(x.dtype) else x  # here


@refused("depends on the attributes of torch's tensors", "isinstance")
class AsksForAttribute(nn.Module):
    def forward(self, x):
        return x * 2 if hasattr(x, "data_ptr") else x  # here


@refused("exception", "shape")
class SuppressesErrors(nn.Module):
    def forward(self, x):
        with contextlib.suppress(RuntimeError):  # here
            x = x.view(5, 5)
        return x * 2


@refused("contains modules", "torch.nn.Module")
class HoldsModulesInObject(nn.Module):
    class Holder:  # here
        def __init__(self, layer):
            self.layer = layer

        def run(self, x):
            return self.layer(x).relu()

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.holder = self.Holder(self.fc)

    def forward(self, x):
        return self.holder.run(x)


@refused("type() of a Parameter", "isinstance")
class TypeOfParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.scale if type(self.scale) is nn.Parameter else x  # here


@refused("control flow or a transformation", "jax.vmap")
class Vmap(nn.Module):
    def forward(self, x):
        return torch.vmap(torch.sum)(x)  # here


@refused("not in the operator table", "supported operations")
class DataLoading(nn.Module):
    def forward(self, x):
        batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=2)  # here
        return sum(b.sum() for (b,) in batches)


@refused("outlives the call", "register a buffer")
class RemembersInput(nn.Module):
    """Keeps what depends on the first input."""

    def __init__(self):
        super().__init__()
        self.cache = {}

    def forward(self, x):
        first = self.cache.setdefault("mean", x.mean())  # here
        total = self.cache.get("total")
        if total is None:
            total = self.cache["total"] = x.sum()  # here
        return x * first + total


SEEN: dict[str, torch.Tensor] = {}


@refused("outlives the call", "register a buffer")
class RemembersInAFile(nn.Module):
    def forward(self, x):
        if "first" not in SEEN:
            SEEN["first"] = x.detach()  # here
        return x - SEEN["first"]
