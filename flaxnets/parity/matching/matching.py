"""Match each variable of a Flax module with torch tensors: by the user's mapping of names, or automatically.

>>> from flaxnets.parity._torch import torch
>>> torch_module, flax_module = torch.nn.Linear(3, 2), nnx.Linear(3, 2, rngs=nnx.Rngs(0))
>>> matching = match(torch_module, flax_module)
>>> [entry.flax for entry in matching.entries], matching.is_complete()
(['kernel', 'bias'], True)
>>> load_torch_weights(flax_module, torch_module.state_dict(), matching)
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxnets.parity._torch import torch
from flaxnets.parity.matching.aligning import Alignment, align, likelier
from flaxnets.parity.matching.choosing import Choice, choices, choose
from flaxnets.parity.matching.composites import composites
from flaxnets.parity.matching.layers import composites_under_torch_names, flax_layers
from flaxnets.parity.matching.linen import bridged_layers
from flaxnets.parity.matching.linking import Link
from flaxnets.parity.matching.mappings import Names, mapped_alignment
from flaxnets.parity.matching.ordering import Order, flax_order, torch_order
from flaxnets.parity.matching.torch_layers import torch_layers
from flaxnets.parity.matching.transforms import Transform, joined
from flaxnets.parity.run import Call
from flaxnets.parity.trees import named_modules as named_modules
from flaxnets.parity.trees import named_variables as named_variables

_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Entry:
    """One Flax variable and the torch tensors that determine its value.

    Attributes:
        flax: path of the variable in the NNX module: ``"blocks.0.norm.scale"``.
        torch: state-dict names: ``("rnn.bias_ih_l0", "rnn.bias_hh_l0")``.
        transform: text of a :class:`flaxnets.parity.matching.transforms.Transform`: ``"rows(0:4) | transpose"``.
    """

    flax: str
    torch: tuple[str, ...]
    transform: str = "same"


@dataclasses.dataclass(frozen=True)
class Ambiguity:
    """A Flax variable that several torch tensors fit equally well. No weights are loaded into this variable."""

    flax: str
    candidates: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Matching:
    """The correspondence of a Flax module's variables and a torch module's state dict.

    Attributes:
        entries: one entry for each Flax variable with a partner.
        modules: pairs of torch module name and Flax module path that compute the same function.
        unmatched_torch: parameters and running statistics of torch without a Flax variable.
        unmatched_flax: parameters and batch statistics of Flax without a torch tensor.
        ambiguous: variables with several candidates.
        tied_torch: for each shared torch tensor, all of its names; ``named_parameters`` lists the first name.
        notes: pairs of unmatched layers of the same kind, with their shapes.
        shapes: shapes of the entries' Flax variables.
    """

    entries: tuple[Entry, ...] = ()
    modules: tuple[tuple[str, str], ...] = (("", ""),)
    unmatched_torch: tuple[str, ...] = ()
    unmatched_flax: tuple[str, ...] = ()
    ambiguous: tuple[Ambiguity, ...] = ()
    tied_torch: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict, compare=False)

    def is_complete(self) -> bool:
        """Return whether all parameters and statistics of both sides have a partner."""
        return not (self.unmatched_torch or self.unmatched_flax or self.ambiguous)

    def problems(self) -> list[str]:
        """Return a sentence for each group of tensors and variables without a partner.

        >>> Matching(unmatched_torch=("fc.bias",)).problems()[0].split(" Fix")[0]
        'torch parameters without a Flax variable: fc.bias.'
        """
        result = []
        if self.unmatched_torch:
            result.append(
                f"torch parameters without a Flax variable: {_listed(self.unmatched_torch)}. "
                "Fix: add them to the Flax module, or pass a mapping: matching={torch name: Flax path}."
            )
        if self.unmatched_flax:
            result.append(
                f"Flax variables without a torch parameter: {_listed(self.unmatched_flax)}. "
                "Fix: remove them from the Flax module, or pass a mapping: matching={torch name: Flax path}."
            )
        result += self.notes
        for each in self.ambiguous:
            result.append(
                f"{each.flax} may be any of {_listed(each.candidates)}. Fix: "
                f"pass matching={{{each.candidates[0].split(' (')[0]!r}: {each.flax!r}}}, or name another candidate."
            )
        return result

    def untied(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Return the names of each torch tensor that is tied in torch, and its separate Flax variables.

        A non-empty list means that some weights are tied in torch and separate parameters in Flax.

        >>> tied = (("wte.weight", "head.weight"),)
        >>> entries = (Entry("wte.embedding", ("wte.weight",)), Entry("head.kernel", ("head.weight",), "transpose"))
        >>> Matching(entries, tied_torch=tied).untied()
        [(('wte.weight', 'head.weight'), ('wte.embedding', 'head.kernel'))]
        """
        result = []
        for names in self.tied_torch:
            variables = tuple(entry.flax for entry in self.entries if len(entry.torch) == 1 and entry.torch[0] in names)
            if len(variables) > 1:
                result.append((names, variables))
        return result

    def flax_values(self, state_dict: Mapping[str, Any], like: nnx.Module) -> dict[str, np.ndarray]:
        """Compute the values of Flax's variables from torch's tensors, by path.

        Args:
            state_dict: torch's values, as tensors or arrays.
            like: a Flax module whose variables have the target shapes.

        Raises:
            KeyError: if the state dict lacks a tensor.
            ValueError: if a tensor has another shape than the matching expects.
        """
        variables = named_variables(like)
        result = {}
        for entry in self.entries:
            tensors = [to_numpy(state_dict[name]) for name in self.names_in(entry, state_dict)]
            result[entry.flax] = Transform(entry.transform).apply(tensors, variables[entry.flax].shape)
        return result

    def expected_gradients(self, gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Convert torch's gradients to the names and shapes of Flax's parameters.

        A Flax bias that equals the sum of two torch biases has the gradient of either bias. The gradient of a tied
        torch weight is the sum over all its uses. Separate Flax variables get different gradients.

        Args:
            gradients: torch's gradients, by the names of ``named_parameters``.
        """
        return self._in_flax(gradients, gradients=True)

    def flax_buffers(self, buffers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Convert torch's buffers to the names and shapes of Flax's variables. Omit buffers without a partner."""
        return self._in_flax(buffers, gradients=False)

    def _in_flax(self, arrays: Mapping[str, np.ndarray], *, gradients: bool) -> dict[str, np.ndarray]:
        result = {}
        for entry in self.entries:
            names = self.names_in(entry, arrays)
            if all(name in arrays for name in names):
                transform = Transform(entry.transform)
                map_ = transform.gradient if gradients else transform.apply
                result[entry.flax] = map_([arrays[name] for name in names], self.shapes[entry.flax])
        return result

    def names_in(self, entry: Entry, arrays: Mapping[str, Any]) -> list[str]:
        """Return the names of an entry's tensors; for a tied tensor, a name that ``arrays`` contains."""
        tied = {name: names for names in self.tied_torch for name in names}
        return [next((n for n in (name, *tied.get(name, ())) if n in arrays), name) for name in entry.torch]

    def save(self, path: str | Path) -> None:
        """Write the matching as JSON, with a format version.

        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "matching.json"
        >>> Matching((Entry("kernel", ("weight",), "transpose"),)).save(path)
        >>> Matching.load(path).entries
        (Entry(flax='kernel', torch=('weight',), transform='transpose'),)
        """
        document = {"format": "flaxnets parity matching", "version": _VERSION, **dataclasses.asdict(self)}
        Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Matching":
        """Read a matching that :meth:`save` wrote.

        Raises:
            ValueError: if the file is not a saved matching, or has another format version.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not a saved matching: {error}. Expected JSON of Matching.save.") from error
        if not isinstance(document, dict) or document.get("format") != "flaxnets parity matching":
            raise ValueError(f"{path} is not a saved matching. Expected JSON of Matching.save.")
        if document.get("version") != _VERSION:
            raise ValueError(
                f"{path} has version {document.get('version')}. Expected version {_VERSION}. Fix: match and save again."
            )
        try:
            entries = [Entry(each["flax"], tuple(each["torch"]), each["transform"]) for each in document["entries"]]
            for entry in entries:
                Transform(entry.transform)
            return cls(
                tuple(entries),
                tuple((a, b) for a, b in document["modules"]),
                tuple(document["unmatched_torch"]),
                tuple(document["unmatched_flax"]),
                tuple(Ambiguity(each["flax"], tuple(each["candidates"])) for each in document["ambiguous"]),
                tuple(map(tuple, document["tied_torch"])),
                tuple(document["notes"]),
                {name: tuple(shape) for name, shape in document["shapes"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is a damaged matching: {error!r}. Expected JSON of Matching.save. Fix: match and save again."
            ) from error


def match(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    *inputs: Any,
    names: Names | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Matching:
    """Match each Flax variable with torch tensors. Neither module is changed.

    Layers are paired by kind and shapes in the order of execution (in the order of definition if no inputs are passed),
    and by names. If several possibilities remain, the outputs of the smallest module that contains the variables
    decide. Variables that stay undecided are listed in ``ambiguous``.

    Args:
        torch_module: the reference.
        flax_module: any NNX module; names, nesting and axis orders may differ from torch's.
        *inputs: arguments of a call, as numpy arrays in torch's axis order.
        names: known pairs: a dict from torch module prefixes or tensor names to Flax paths, a dict from regular
            expressions to templates (``{r"layer(\\d+)": r"stages.\\1"}``), or a function from a torch name to a Flax
            path or None. All other names are matched automatically.
        kwargs: keyword arguments of the call.

    Returns:
        The matching; ``is_complete()`` returns whether all parameters and statistics have a partner.

    Raises:
        ValueError: if ``names`` contains a name that does not exist, or pairs shapes that do not fit. The message lists
            all problems.
    """
    call = Call(inputs, dict(kwargs or {}), training=False, dtype="float32")
    ours = torch_layers(torch_module, composites_under_torch_names(flax_module))
    orders = _orders(torch_module, flax_module, call) if inputs or kwargs else None
    theirs = flax_layers(flax_module, bridged_layers(flax_module, orders[1].linen if orders else {}))
    if orders is not None:
        # A fault, such as a normalisation after its layer, may change the order of execution. So the order of
        # definition is also a candidate.
        ours, theirs = likelier((orders[0].sorted(ours), orders[1].sorted(theirs)), (ours, theirs))
    fixed, ours, theirs = mapped_alignment(ours, theirs, names or {})
    rest = align(ours, theirs)
    alignment = Alignment([*fixed, *rest.pairings], rest.torch, rest.flax)
    variables = named_variables(flax_module)
    # A shared Flax variable gets the tensors of its first path.
    links = [link for pairing in alignment.pairings for link in pairing.links if link.target.path in variables]
    modules = composites(torch_module, flax_module, links)
    open_choices = choices(alignment.pairings, modules, orders, len(fixed))
    if orders is not None and open_choices:
        links, open_choices = choose(torch_module, flax_module, call, links, open_choices)
    open_choices = [choice for choice in open_choices if not choice.has_default]
    return _matching(torch_module, flax_module, alignment, links, open_choices)


def _orders(torch_module: torch.nn.Module, flax_module: nnx.Module, call: Call) -> tuple[Order, Order] | None:
    """Return the order of execution of both sides, None if the Flax module cannot be called on the inputs."""
    order = torch_order(torch_module, call)
    try:
        return order, flax_order(flax_module, call, order.shapes)
    except ValueError:
        return None  # The order of definition suffices here. The caller runs the module and reports its error.


def _matching(
    torch_module: torch.nn.Module,
    flax_module: nnx.Module,
    alignment: Alignment,
    links: Sequence[Link],
    open_choices: Sequence[Choice],
) -> Matching:
    variables = named_variables(flax_module)
    undecided = {path for choice in open_choices for path in choice.paths()}
    entries, broken = _entries([link for link in links if link.target.path not in undecided], variables)
    used = {name for link in links for name in link.names}
    tied = _tied(torch_module)
    used |= {name for names in tied if used & set(names) for name in names}
    layers = [*alignment.torch, *(layer for pairing in alignment.pairings for layer in pairing.torch)]
    required = dict.fromkeys(
        name
        for layer in layers
        for source in layer.sources.values()
        if not source.optional
        for name in source.names
    )  # fmt: skip
    order = {name: index for index, name in enumerate(torch_module.state_dict())}
    matched = {entry.flax for entry in entries} | undecided
    return Matching(
        tuple(sorted(entries, key=lambda entry: list(variables).index(entry.flax))),
        composites(torch_module, flax_module, [link for link in links if link.target.path not in undecided]),
        tuple(sorted((name for name in required if name not in used), key=lambda name: order.get(name, -1))),
        tuple(
            path
            for path, variable in variables.items()
            if path in broken or (isinstance(variable, (nnx.Param, nnx.BatchStat)) and path not in matched)
        ),
        tuple(
            Ambiguity(path, candidates)
            for choice in open_choices
            for path, candidates in choice.candidates().items()
        ),
        tuple(tied),
        _notes(alignment),
        {entry.flax: tuple(variables[entry.flax].shape) for entry in entries},
    )  # fmt: skip


def _notes(alignment: Alignment) -> tuple[str, ...]:
    """Return a sentence with the shapes of each pair of unmatched layers of the same kind, in order."""
    notes = []
    for kind in dict.fromkeys(layer.kind for layer in alignment.torch):
        ours = [layer for layer in alignment.torch if layer.kind == kind]
        theirs = [layer for layer in alignment.flax if layer.kind == kind]
        for a, b in zip(ours, theirs, strict=False):
            shapes = [", ".join(f"{role} {list(shape)}" for role, shape in layer.shapes.items()) for layer in (a, b)]
            notes.append(f"{a.label} has {shapes[0]}; {b.label} has {shapes[1]} in torch's axis order.")
    return tuple(notes)


def _entries(links: Sequence[Link], variables: Mapping[str, nnx.Variable]) -> tuple[list[Entry], set[str]]:
    """Return one entry for each variable, and the stacked variables without tensors for all of their slices."""
    by_path: dict[str, list[Link]] = {}
    for link in links:
        by_path.setdefault(link.target.path, []).append(link)
    entries, broken = [], set()
    for path, group in by_path.items():
        if group[0].target.index is None:
            entries.append(Entry(path, group[0].names, group[0].transform))
            continue
        group = sorted(group, key=lambda link: link.target.index or 0)
        count = len(group[0].names)
        complete = [link.target.index for link in group] == list(range(variables[path].shape[0]))
        if not complete or len({(link.transform, len(link.names)) for link in group}) > 1:
            broken.add(path)
            continue
        steps = joined(f"groups({count})" if count > 1 else "same", group[0].transform, "stack")
        entries.append(Entry(path, tuple(name for link in group for name in link.names), steps))
    return entries, broken


def _tied(module: torch.nn.Module) -> list[tuple[str, ...]]:
    """Return the names of each torch parameter that has several names."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [tuple(each) for each in names.values() if len(each) > 1]


def to_numpy(tensor: Any) -> np.ndarray:
    """Convert a torch tensor, a JAX array or a numpy array to a numpy array of the same dtype.

    >>> to_numpy(torch.ones(2, dtype=torch.bfloat16)).dtype
    dtype(bfloat16)
    """
    if not isinstance(tensor, torch.Tensor):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()


def load_torch_weights(flax_module: nnx.Module, state_dict: Mapping[str, Any], matching: Matching) -> None:
    """Copy torch's weights into a Flax module.

    Each variable keeps its dtype.

    Args:
        flax_module: a module of the class for which the matching was made.
        state_dict: torch tensors or arrays by name; tensors that no entry of the matching names are ignored.
        matching: the result of :func:`match` or :meth:`Matching.load`.

    Raises:
        ValueError: if a tensor or variable is missing or ambiguous, or has a wrong shape. The message lists all
            problems. The module is unchanged.

    >>> module = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    >>> load_torch_weights(module, {}, Matching((Entry("kernel", ("weight",), "transpose"),)))
    Traceback (most recent call last):
    ...
    ValueError: cannot load the weights into Linear:
      kernel: the state dict has no weight
      bias: the matching has no entry for this variable
    """
    variables = named_variables(flax_module)
    matched = {entry.flax for entry in matching.entries}
    problems, values = [], {}
    for entry in matching.entries:
        if entry.flax not in variables:
            problems.append(f"{entry.flax}: the module has no such variable")
            continue
        names = matching.names_in(entry, state_dict)
        missing = [name for name in names if name not in state_dict]
        if missing:
            problems.append(f"{entry.flax}: the state dict has no {', '.join(missing)}")
            continue
        variable = variables[entry.flax]
        try:
            value = Transform(entry.transform).apply([to_numpy(state_dict[name]) for name in names], variable.shape)
        except ValueError as error:
            problems.append(f"{entry.flax}: {', '.join(names)}: {error}")
            continue
        if _kind(value.dtype) != _kind(variable.dtype):
            problems.append(f"{entry.flax}: {', '.join(names)} is {value.dtype}. Expected {variable.dtype}")
        values[entry.flax] = value
    problems += [
        f"{path}: the matching has no entry for this variable"
        for path, variable in variables.items()
        if isinstance(variable, (nnx.Param, nnx.BatchStat)) and path not in matched
    ]
    if problems:
        raise ValueError(f"cannot load the weights into {type(flax_module).__name__}:\n  " + "\n  ".join(problems))
    set_values(flax_module, values)


def _kind(dtype: Any) -> str:
    for kind in (jnp.floating, jnp.complexfloating, jnp.bool_):
        if jnp.issubdtype(dtype, kind):
            return kind.__name__
    return "integer"


def set_values(flax_module: nnx.Module, values: Mapping[str, np.ndarray]) -> None:
    """Assign values to variables by path; each variable keeps its dtype.

    >>> module = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    >>> set_values(module, {"kernel": np.ones((1, 1))})
    """
    variables = named_variables(flax_module)
    for path, value in values.items():
        variables[path].set_value(jnp.asarray(np.array(value), variables[path].dtype))


def _listed(names: Sequence[str], limit: int = 12) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
