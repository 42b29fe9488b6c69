"""Pruning: weights that are multiplied by masks of zeros and ones, under the names of ``torch.nn.utils.prune``."""

import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets import state
from flaxnets.nn.module import Buffer
from flaxnets.nn.utils._computed import Masked, check_parameter, computations_of, compute, stop_computing
from flaxnets.nn.utils.convert_parameters import parameters_to_vector

M = TypeVar("M", bound=nnx.Module)


def _is_masked(module: nnx.Module, name: str) -> bool:
    return any(type(c) is Masked and c.name == name for c in computations_of(module))


def _array(module: Any, name: str) -> jax.Array:
    value = getattr(module, name, None)
    if not isinstance(value, (nnx.Param, jax.Array)):
        raise AttributeError(f"{type(module).__name__} has no parameter {name!r} to prune")
    return value[...]


class BasePruningMethod:
    """Base class of pruning methods; subclasses set ``PRUNING_TYPE`` and define ``compute_mask``.

    The type is ``"unstructured"``, ``"structured"`` (then the method has an attribute ``dim``) or ``"global"``. If the
    weight is already pruned, the method receives the remaining elements, the remaining slices of ``dim``, or the whole
    weight, respectively. The parameter becomes ``weight_orig``, and ``weight_mask`` is a new buffer.

    See `torch.nn.utils.prune.BasePruningMethod
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.BasePruningMethod.html>`_.

    >>> from flaxnets import nn
    >>> class Negative(BasePruningMethod):
    ...     PRUNING_TYPE = "unstructured"
    ...     def compute_mask(self, t, default_mask):
    ...         return default_mask * (t > 0)
    >>> layer = nn.Linear(3, 2, rngs=nnx.Rngs(0))
    >>> _ = Negative.apply(layer, "weight")
    >>> bool((layer.weight >= 0).all()), list(layer.state_dict())
    (True, ['bias', 'weight_orig', 'weight_mask'])
    """

    PRUNING_TYPE: str
    _tensor_name: str | None = None

    def compute_mask(self, t: jax.Array, default_mask: jax.Array) -> jax.Array:
        """Return the new mask for importance scores ``t`` and the current mask."""
        raise NotImplementedError(f"{type(self).__name__} lacks compute_mask. Fix: define the method")

    @classmethod
    def apply(
        cls, module: nnx.Module, name: str, *args: Any, importance_scores: jax.Array | None = None, **kwargs: Any
    ) -> "BasePruningMethod":
        """Prune the parameter ``name`` with a method that the other arguments construct, and return the method.

        Raises:
            AttributeError: for an unknown parameter.
            AssertionError: if the scores have the wrong shape.
            RuntimeError: if a weight or spectral norm computes the parameter.
            ValueError: if parametrizations compute the parameter.
        """
        method = cls(*args, **kwargs)
        method._tensor_name = name
        value = _array(module, name)
        scores = _checked_scores(value, importance_scores)
        if _is_masked(module, name):
            mask: Any = getattr(module, f"{name}_mask")
            mask.set_value(_combined(method, scores, mask[...]))
        else:
            parameter = check_parameter(module, name, "prune")
            mask = method.compute_mask(scores, jnp.ones_like(value))
            compute(module, Masked(name), {"_orig": parameter, "_mask": Buffer(mask)})
        return method

    def apply_mask(self, module: nnx.Module) -> jax.Array:
        """Return the pruned parameter."""
        if self._tensor_name is None:
            raise AssertionError(f"{type(module).__name__} must first be pruned by {type(self).__name__}")
        return Masked(self._tensor_name)(module)

    def prune(
        self, t: jax.Array, default_mask: jax.Array | None = None, importance_scores: jax.Array | None = None
    ) -> jax.Array:
        """Return an array with its unimportant elements set to zero, independent of any module."""
        scores = _checked_scores(t, importance_scores)
        return t * self.compute_mask(scores, jnp.ones_like(t) if default_mask is None else default_mask)

    def remove(self, module: nnx.Module) -> None:
        """Turn the parameter into an ordinary parameter, with its zeros."""
        if self._tensor_name is None:
            raise AssertionError(f"{type(module).__name__} must first be pruned by {type(self).__name__}")
        remove(module, self._tensor_name)


def _checked_scores(value: jax.Array, scores: jax.Array | None) -> jax.Array:
    if scores is not None and scores.shape != value.shape:
        raise AssertionError(
            f"importance_scores must have the shape {value.shape} of the pruned array, got {scores.shape}"
        )
    return value if scores is None else jnp.asarray(scores)


def _check_dim(t: jax.Array, dim: int) -> None:
    if not -t.ndim <= dim < t.ndim:
        raise IndexError(f"dim must be from {-t.ndim} to {t.ndim - 1} for a parameter of shape {t.shape}, got {dim}")


def _combined(method: Any, t: jax.Array, mask: jax.Array) -> jax.Array:
    """Combine the mask with that of ``method`` for the remaining elements."""
    pruning_type = method.PRUNING_TYPE
    if pruning_type == "unstructured":
        part: Any = np.asarray(mask == 1)
    elif pruning_type == "structured":
        dim = getattr(method, "dim", None)
        if dim is None:
            raise AttributeError(f"{type(method).__name__} is structured and must have the attribute dim, got None")
        if not -t.ndim <= dim < t.ndim:
            raise IndexError(
                f"dim must be from {-t.ndim} to {t.ndim - 1} for a parameter of shape {t.shape}, got {dim}"
            )
        others = tuple(axis for axis in range(t.ndim) if axis != dim % t.ndim)
        part = (*(slice(None),) * (dim % t.ndim), np.asarray(mask.sum(others) != 0))
    elif pruning_type == "global":
        part = ...
    else:
        raise ValueError(f"PRUNING_TYPE must be 'unstructured', 'structured' or 'global', got {pruning_type!r}")
    return mask.astype(t.dtype).at[part].set(method.compute_mask(t[part], mask[part]).astype(t.dtype))


class PruningContainer(BasePruningMethod):
    """Several pruning methods of one parameter; each prunes the elements that the previous methods left.

    See `torch.nn.utils.prune.PruningContainer
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.PruningContainer.html>`_.

    >>> container = PruningContainer(L1Unstructured(amount=1))
    >>> container.compute_mask(jnp.array([3.0, 1.0, 2.0]), jnp.array([1.0, 0.0, 1.0])).tolist()
    [1.0, 0.0, 0.0]
    """

    def __init__(self, *args: BasePruningMethod):
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        for method in args:
            if len(args) == 1 and isinstance(method, BasePruningMethod):
                self._tensor_name = method._tensor_name
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Add a method for the same parameter.

        Raises:
            TypeError: if ``method`` is not a pruning method.
            ValueError: if the method belongs to another parameter.
        """
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"expected a BasePruningMethod, got {type(method).__name__}")
        if method._tensor_name != self._tensor_name:
            raise ValueError(f"expected a method of the parameter {self._tensor_name!r}, got {method._tensor_name!r}")
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: int) -> BasePruningMethod:
        return self._pruning_methods[idx]

    def compute_mask(self, t: jax.Array, default_mask: jax.Array) -> jax.Array:
        """Return the mask after the last method, applied to the elements that ``default_mask`` keeps."""
        return _combined(self._pruning_methods[-1], t, default_mask)


class Identity(BasePruningMethod):
    """Prune nothing, and create a mask of ones.

    >>> from flaxnets import nn
    >>> layer = nn.Linear(1, 1, rngs=nnx.Rngs(0))
    >>> type(Identity.apply(layer, "bias")).__name__, layer.bias_mask[...].tolist()
    ('Identity', [1.0])
    """

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: jax.Array, default_mask: jax.Array) -> jax.Array:
        """Return the current mask."""
        return default_mask


class _Amount(BasePruningMethod):
    """Method that prunes a number or a fraction of elements."""

    def __init__(self, amount: float):
        if not isinstance(amount, numbers.Real):
            raise TypeError(f"amount must be an int or a float, got {amount!r}")
        if amount < 0 or (not isinstance(amount, numbers.Integral) and amount > 1):
            raise ValueError(f"amount must be a float from 0 to 1 or a non-negative int, got {amount}")
        self.amount = amount

    def _count(self, size: int) -> int:
        if not isinstance(self.amount, numbers.Integral):
            return round(float(self.amount) * size)
        if self.amount > size:
            raise ValueError(
                f"amount must be at most {size}, the number of prunable elements or slices, got {self.amount}"
            )
        return int(self.amount)


class _Unstructured(_Amount):
    """Method that prunes the elements with the smallest scores."""

    PRUNING_TYPE = "unstructured"

    def _scores(self, t: jax.Array) -> jax.Array:
        raise NotImplementedError

    def compute_mask(self, t: jax.Array, default_mask: jax.Array) -> jax.Array:
        """Return the mask without the elements to prune."""
        smallest = jnp.argsort(self._scores(t).reshape(-1))[: self._count(t.size)]
        return default_mask.reshape(-1).at[smallest].set(0).reshape(default_mask.shape)


class RandomUnstructured(_Unstructured):
    """Prune elements at random.

    Args:
        amount: number of elements, or, as a float, fraction of elements.
        rngs: random number generators for the choice.

    >>> method = RandomUnstructured(amount=0.5, rngs=nnx.Rngs(0))
    >>> float(method.prune(jnp.ones(8)).sum())
    4.0
    """

    def __init__(self, amount: float, *, rngs: nnx.Rngs):
        super().__init__(amount)
        self._key = rngs.params()

    def _scores(self, t: jax.Array) -> jax.Array:
        return jax.random.uniform(self._key, (t.size,))


class L1Unstructured(_Unstructured):
    """Prune the elements of smallest magnitude.

    Args:
        amount: number of elements, or, as a float, fraction of elements.

    >>> L1Unstructured(amount=1).prune(jnp.array([3.0, -1.0, 2.0])).tolist()
    [3.0, -0.0, 2.0]
    """

    def _scores(self, t: jax.Array) -> jax.Array:
        return jnp.abs(t)


class _Structured(_Amount):
    """Method that prunes the slices of an axis with the smallest scores."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: float, dim: int = -1):
        super().__init__(amount)
        self.dim = dim

    def _scores(self, t: jax.Array) -> jax.Array:
        raise NotImplementedError

    def compute_mask(self, t: jax.Array, default_mask: jax.Array) -> jax.Array:
        """Return the mask without the slices to prune."""
        if t.ndim <= 1:
            raise ValueError(f"structured pruning requires at least two axes, got a parameter of shape {t.shape}")
        if not -t.ndim <= self.dim < t.ndim:
            raise IndexError(
                f"dim must be from {-t.ndim} to {t.ndim - 1} for a parameter of shape {t.shape}, got {self.dim}"
            )
        smallest = jnp.argsort(self._scores(t))[: self._count(t.shape[self.dim])]
        return jnp.moveaxis(jnp.moveaxis(default_mask, self.dim, 0).at[smallest].set(0), 0, self.dim)


class RandomStructured(_Structured):
    """Prune slices of an axis at random.

    Args:
        amount: number of slices, or, as a float, fraction of slices.
        dim: the axis.
        rngs: random number generators for the choice.

    >>> RandomStructured(amount=1, dim=1, rngs=nnx.Rngs(0)).prune(jnp.ones((2, 3))).sum(0).sort().tolist()
    [0.0, 2.0, 2.0]
    """

    def __init__(self, amount: float, dim: int = -1, *, rngs: nnx.Rngs):
        super().__init__(amount, dim)
        self._key = rngs.params()

    def _scores(self, t: jax.Array) -> jax.Array:
        return jax.random.uniform(self._key, (t.shape[self.dim],))


class LnStructured(_Structured):
    """Prune the slices of an axis with the smallest norm.

    Args:
        amount: number of slices, or, as a float, fraction of slices.
        n: the order of the norm: a number, ``inf``, ``-inf``, ``"fro"`` or, for three axes, ``"nuc"``.
        dim: the axis.

    >>> LnStructured(amount=1, n=2, dim=0).prune(jnp.array([[1.0, 2.0], [2.0, 2.0]])).tolist()
    [[0.0, 0.0], [2.0, 2.0]]
    """

    def __init__(self, amount: float, n: float | str, dim: int = -1):
        super().__init__(amount, dim)
        self.n = n

    def _scores(self, t: jax.Array) -> jax.Array:
        slices = jnp.moveaxis(t, self.dim, 0)
        if self.n == "nuc":
            return jnp.linalg.norm(slices, "nuc", axis=(1, 2))
        order: Any = 2 if self.n == "fro" else self.n
        return jnp.linalg.vector_norm(slices.reshape(len(slices), -1), axis=1, ord=order)


class CustomFromMask(BasePruningMethod):
    """Prune with a predefined mask.

    Args:
        mask: zeros and ones, of the parameter's shape.

    >>> CustomFromMask(jnp.array([1, 0])).prune(jnp.array([3.0, 4.0])).tolist()
    [3.0, 0.0]
    """

    PRUNING_TYPE = "global"

    def __init__(self, mask: jax.Array):
        self.mask = jnp.asarray(mask)

    def compute_mask(self, t: jax.Array, default_mask: jax.Array) -> jax.Array:
        """Return the product of the current mask and the predefined mask."""
        if default_mask.shape != self.mask.shape:
            raise AssertionError(f"expected a mask of shape {default_mask.shape}, got {self.mask.shape}")
        return default_mask * self.mask.astype(default_mask.dtype)


def identity(module: M, name: str) -> M:
    """Make a parameter a pruned parameter without pruning any element; return the module, changed in place.

    See `torch.nn.utils.prune.identity
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.identity.html>`_.

    >>> from flaxnets import nn
    >>> list(identity(nn.Linear(3, 2, rngs=nnx.Rngs(0)), "bias").state_dict())
    ['weight', 'bias_orig', 'bias_mask']
    """
    Identity.apply(module, name)
    return module


def random_unstructured(module: M, name: str, amount: float, *, rngs: nnx.Rngs) -> M:
    """Prune elements of a parameter at random; arguments are those of :class:`RandomUnstructured`.

    Returns the module, changed in place.

    See `torch.nn.utils.prune.random_unstructured
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.random_unstructured.html>`_.

    >>> from flaxnets import nn
    >>> layer = random_unstructured(nn.Linear(3, 2, rngs=nnx.Rngs(0)), "weight", amount=2, rngs=nnx.Rngs(1))
    >>> int((layer.weight == 0).sum())
    2
    """
    RandomUnstructured.apply(module, name, amount, rngs=rngs)
    return module


def l1_unstructured(module: M, name: str, amount: float, importance_scores: jax.Array | None = None) -> M:
    """Prune the elements of a parameter with the smallest magnitude, or the smallest scores.

    Returns the module, changed in place. Raises TypeError or ValueError for an invalid ``amount``.

    See `torch.nn.utils.prune.l1_unstructured
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.l1_unstructured.html>`_.

    >>> from flaxnets import nn
    >>> layer = l1_unstructured(nn.Linear(3, 2, rngs=nnx.Rngs(0)), "weight", amount=0.5)
    >>> int((layer.weight == 0).sum())
    3
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: M, name: str, amount: float, dim: int, *, rngs: nnx.Rngs) -> M:
    """Prune slices of a parameter at random; arguments are those of :class:`RandomStructured`.

    Returns the module, changed in place.

    See `torch.nn.utils.prune.random_structured
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.random_structured.html>`_.

    >>> from flaxnets import nn
    >>> layer = random_structured(nn.Linear(3, 2, rngs=nnx.Rngs(0)), "weight", amount=1, dim=1, rngs=nnx.Rngs(1))
    >>> int((layer.weight == 0).sum())
    2
    """
    RandomStructured.apply(module, name, amount, dim, rngs=rngs)
    return module


def ln_structured(
    module: M, name: str, amount: float, n: float | str, dim: int, importance_scores: jax.Array | None = None
) -> M:
    """Prune the slices of a parameter with the smallest norm; arguments are those of :class:`LnStructured`.

    Returns the module, changed in place.

    See `torch.nn.utils.prune.ln_structured
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.ln_structured.html>`_.

    >>> from flaxnets import nn
    >>> layer = ln_structured(nn.Conv2d(2, 4, 3, rngs=nnx.Rngs(0)), "weight", amount=0.5, n=2, dim=0)
    >>> int((layer.weight == 0).all((1, 2, 3)).sum())
    2
    """
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def global_unstructured(
    parameters: Iterable[tuple[nnx.Module, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: Mapping[tuple[nnx.Module, str], jax.Array] | None = None,
    **kwargs: Any,
) -> None:
    """Prune several parameters together, as if they were one parameter.

    Args:
        parameters: pairs of a module and the name of its parameter.
        pruning_method: an unstructured method, for example :class:`L1Unstructured`.
        importance_scores: scores by module and name. Default: the parameters themselves.
        **kwargs: arguments of the method.

    Raises:
        TypeError: for non-iterable parameters, scores that are not a dict, or a method that is not unstructured.

    See `torch.nn.utils.prune.global_unstructured
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.global_unstructured.html>`_.

    >>> from flaxnets import nn
    >>> net = nn.Sequential(nn.Linear(3, 2, rngs=nnx.Rngs(0)), nn.Linear(2, 3, rngs=nnx.Rngs(1)))
    >>> global_unstructured([(layer, "weight") for layer in net], L1Unstructured, amount=0.5)
    >>> int(sum((layer.weight == 0).sum() for layer in net))
    6
    """
    if not isinstance(parameters, Iterable):
        raise TypeError(f"global_unstructured: expected an iterable of parameters, got {type(parameters).__name__}")
    if importance_scores is not None and not isinstance(importance_scores, dict):
        raise TypeError(f"global_unstructured: expected a dict of scores, got {type(importance_scores).__name__}")
    parameters, scores_by_parameter = list(parameters), importance_scores or {}
    arrays = [_array(module, name) for module, name in parameters]
    scores = [scores_by_parameter.get(key, array) for key, array in zip(parameters, arrays, strict=True)]
    masks = [
        getattr(module, f"{name}_mask")[...] if _is_masked(module, name) else jnp.ones_like(array)
        for (module, name), array in zip(parameters, arrays, strict=True)
    ]
    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            f"global_unstructured: expected an unstructured method, got {pruning_method.__name__}, which is "
            f"{method.PRUNING_TYPE}"
        )
    mask = _combined(method, parameters_to_vector(scores), parameters_to_vector(masks))
    ends = np.cumsum([array.size for array in arrays])[:-1]
    for (module, name), array, part in zip(parameters, arrays, jnp.split(mask, ends), strict=True):
        custom_from_mask(module, name, part.reshape(array.shape))


def custom_from_mask(module: M, name: str, mask: jax.Array) -> M:
    """Prune the elements of a parameter where a mask is zero; return the module, changed in place.

    Raises:
        AttributeError: for an unknown parameter.
        AssertionError: for a mask of the wrong shape.

    See `torch.nn.utils.prune.custom_from_mask
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.custom_from_mask.html>`_.

    >>> from flaxnets import nn
    >>> layer = custom_from_mask(nn.Linear(5, 3, rngs=nnx.Rngs(0)), "bias", jnp.array([0, 1, 0]))
    >>> layer.bias_mask[...].tolist()
    [0.0, 1.0, 0.0]
    """
    CustomFromMask.apply(module, name, mask)
    return module


def remove(module: M, name: str) -> M:
    """Turn a pruned parameter into an ordinary parameter, with its zeros; return the module, changed in place.

    Raises:
        ValueError: if the parameter is not pruned.

    See `torch.nn.utils.prune.remove <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.remove.html>`_.

    >>> from flaxnets import nn
    >>> layer = l1_unstructured(nn.Linear(3, 2, rngs=nnx.Rngs(0)), "weight", amount=2)
    >>> list(remove(layer, "weight").state_dict())
    ['bias', 'weight']
    """
    stop_computing(module, Masked, name, ("_orig", "_mask"))
    return module


def is_pruned(module: nnx.Module) -> bool:
    """Return whether any parameter of the module or of its submodules is pruned.

    See `torch.nn.utils.prune.is_pruned
    <https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.prune.is_pruned.html>`_.

    >>> from flaxnets import nn
    >>> net = nn.Sequential(nn.Linear(3, 2, rngs=nnx.Rngs(0)))
    >>> before = is_pruned(net)
    >>> _ = identity(net[0], "bias")
    >>> before, is_pruned(net)
    (False, True)
    """
    return any(type(c) is Masked for _, node in state.named_modules(module) for c in computations_of(node))
