"""Short functions that change tensors in place: each port gives torch's answer, or is refused."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

FOLLOWED: list[Callable] = []
WITHOUT_GRADIENTS: list[Callable] = []  # torch itself has none of them
REFUSED: list[tuple[Callable, str]] = []


def follows(function: Callable) -> Callable:
    FOLLOWED.append(function)
    return function


def follows_without_gradients(function: Callable) -> Callable:
    WITHOUT_GRADIENTS.append(function)
    return function


def refused(cause: str) -> Callable[[Callable], Callable]:
    def note(function: Callable) -> Callable:
        REFUSED.append((function, cause))
        return function

    return note


class Function(nn.Module):
    """A module that calls one of the functions."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(3, 4))
        self.register_buffer("seen", torch.randn(3, 4))
        self.register_buffer("count", torch.tensor(0))
        self.relu = nn.ReLU(inplace=True)
        self.act = nn.Hardtanh(-0.5, 0.5, inplace=True)
        self.table = torch.arange(12.0).view(3, 4)

    def forward(self, x):
        return self.function(self, x)


# Rebinding.


@follows
def augmented_name(self, x):
    y = x * 1
    y += x
    y -= 0.5
    y *= x
    y /= 3
    y **= 2
    return y


@follows
def augmented_alias(self, x):
    y = x * 1
    z = y
    z += 1
    return y, z


@follows
def augmented_argument(self, x):
    before = x.sum()
    x += 1
    return x - before


@follows
def alias_before_clone(self, x):
    y = x * 1
    z = y.clone()
    y.mul_(2)
    return y, z


@follows
def chain(self, x):
    y = x * 1
    y.mul_(2).add_(1).clamp_(min=0)
    return y


@follows
def chain_with_alias(self, x):
    y = x * 1
    z = y
    w = y.mul_(2).add_(x)
    return y, z, w


@refused("in place a tensor that y")
def value_read_within_statement(self, x):
    y = x * 1
    return y + y.add_(1)


@follows
def result_assigned_to_another_name(self, x):
    y = x * 1
    z = y.add_(1)
    z.mul_(3)
    return y - z.sum()


@follows
def result_in_expression(self, x):
    y = x * 1
    z = y.relu_() + 1
    return y, z


@follows
def two_changes_in_one_expression(self, x):
    y, z = x * 1, x + 1
    w = y.add_(1) * z.mul_(2)
    return w, y, z


@follows
def conditional_alias(self, x):
    y = x * 1
    z = y if x.shape[0] == 3 else x
    z += 1
    return y


@follows
def in_a_loop(self, x):
    y = torch.zeros_like(x)
    for i in range(3):
        y += x * i
        y[:, i] = i
    return y


@follows
def alias_of_the_iteration_before(self, x):
    total = x * 1
    last = None
    for i in range(3):
        if last is not None:
            total = total + last
        last = total
        total.add_(i)
    return total, last


@refused("in place a tensor that z")
def alias_only_in_the_first_iteration(self, x):
    y = x * 1
    z = y
    for _ in range(2):
        y.add_(1)
        y = y * 2
    return y, z


@follows
def keyword_argument(self, x):
    y = x * 1
    torch.relu_(input=y)
    return y


@follows_without_gradients
def functional_in_place(self, x):
    y = x * 1
    F.relu(y, inplace=True)
    F.leaky_relu_(y, 0.2)
    return y


# Elements.


@follows
def elements(self, x):
    y = x * 1
    y[0] = 1
    y[1, 2] = x[0, 0]
    y[..., -1] += 2
    y[:, 1:3] *= x[:, :2]
    y[1:, ::2] = 0.5
    return y


@follows
def elements_by_list_and_tensor(self, x):
    y = x * 1
    index = torch.tensor([0, 2])
    y[[0, 1]] = 1
    y[index] *= 2
    y[:, index] += x[:, index]
    return y


@refused("names an element twice")
def repeated_index(self, x):
    y = x * 1
    y[[0, 0, 1]] += 1
    return y


@follows
def elements_by_mask(self, x):
    y = x * 1
    y[y > 0] = 0.25
    y[x < 0] *= 2
    y[x.isnan()] = x[x.isnan()]
    return y


@follows
def mask_of_a_row(self, x):
    y = x * 1
    keep = torch.tensor([True, False, True], device=x.device)
    y[keep] = 7
    return y


@follows
def mask_under_a_name(self, x):
    y = x * 1
    mask = y > 0
    y[mask] = 1
    y[~mask] = y[~mask] * 2
    return y, mask


@follows
def element_of_an_integer_tensor(self, x):
    y = torch.zeros(3, 4, dtype=torch.long)
    y[0] = 2.7
    y[1] += 1
    return y


@follows
def element_of_an_element(self, x):
    y = x * 1
    y[0][1] = 5
    y[1][2:] += 1
    y[2][1:][0] = 9
    return y


@refused("One of several targets")
def elements_swapped(self, x):
    y = x * 1
    y[0], y[1] = y[1], y[0]
    return y


@follows
def elements_swapped_by_clones(self, x):
    y = x * 1
    a, b = y[0].clone(), y[1].clone()
    y[0] = b
    y[1] = a
    return y


@follows
def elements_of_a_list(self, x):
    parts = [x, x * 2]
    parts[0] = parts[0] + 1
    parts[1] += 1
    return torch.cat(parts)


@follows
def change_of_a_list_member(self, x):
    first = x * 1
    parts = [first, x * 2]
    parts[0].add_(1)
    return parts[0] + parts[1], first


@refused("in place a tensor that parts")
def change_of_members_in_a_loop(self, x):
    parts = [x * 1, x * 2]
    for part in parts:
        part.mul_(3)
    return torch.cat(parts)


@follows
def change_in_a_dict(self, x):
    parts = {"a": x * 1}
    parts["a"].add_(1)
    parts["a"] += 1
    return parts["a"]


# Views.


@follows
def view_under_a_name(self, x):
    y = x * 1
    head = y[:, :2]
    head.mul_(3)
    return y, head


@follows
def view_changed_by_its_base(self, x):
    y = x * 1
    head = y[:, :2]
    y.mul_(3)
    return head


@follows
def view_of_a_view(self, x):
    y = x * 1
    rows = y[1:]
    corner = rows[:, 2:]
    corner.zero_()
    return y, rows, corner


@follows
def base_of_two_views(self, x):
    y = x * 1
    left, right = y[:, :2], y[:, 2:]
    left.add_(1)
    right.mul_(2)
    return y


@refused("in place a tensor that right, y")
def views_by_chunk(self, x):
    y = x * 1
    left, right = y.chunk(2, dim=1)
    left.add_(1)
    return y, right


@refused("in place a tensor that y")
def views_by_unbind(self, x):
    y = x * 1
    for row in y.unbind(0):
        row.add_(1)
    return y


@refused("in place a tensor that y")
def rows_in_a_loop(self, x):
    y = x * 1
    for row in y:
        row.mul_(2)
    return y


@follows
def view_reshaped(self, x):
    y = x * 1
    y.view(-1)[::2] = 0
    y.t()[0].fill_(1)
    y.reshape(4, 3)[1].sub_(2)
    y.unsqueeze(0)[0, 1] = 3
    return y


@follows
def transposed_view(self, x):
    y = x * 1
    z = y.t()
    z[0] = 4
    z += 1
    return y, z


@follows
def flattened_copy_is_no_view(self, x):
    y = x.t()
    z = y.flatten()
    z.add_(1)
    return x, z


@follows
def expanded_copy(self, x):
    y = x[:1].expand(3, 4).contiguous()
    y[0] = 1
    return x, y


@follows
def detached_alias(self, x):
    y = x * 1
    y.detach().add_(1)
    return y


@follows
def diagonal(self, x):
    y = x[:, :3] * 1
    y.diagonal().add_(10)
    torch.diagonal(y, 1).zero_()
    return y.fill_diagonal_(2)


@follows
def narrow_and_select(self, x):
    y = x * 1
    y.narrow(1, 1, 2).add_(5)
    y.select(0, 1).mul_(2)
    return y


@follows
def view_of_an_argument(self, x):
    x[:, 0].add_(1)
    return x


@follows
def view_rebound_before_the_change(self, x):
    y = x * 1
    head = y[:, :2]
    y = y + 1
    head.mul_(3)
    return y, head


@refused("in place a tensor that y")
def base_rebound_and_index_changed(self, x):
    y = x * 1
    i = 0
    row = y[i]
    i = 1
    row.add_(1)
    return y, row


@follows
def view_with_split_of_a_chain(self, x):
    y = x * 1
    z = y.view(2, 6)
    z[:, 0].add_(1).mul_(2)
    return y


@follows
def real_and_imaginary_parts(self, x):
    y = torch.complex(x, x * 2)
    y.real.add_(1)
    y.imag.copy_(x)
    return y


@refused("real or imaginary part")
def element_of_an_imaginary_part(self, x):
    y = torch.complex(x, x * 2)
    y.imag[0] = 3
    return y


# out= and other operations.


@follows_without_gradients
def out_of_empty(self, x):
    out = torch.empty_like(x)
    torch.add(x, x, out=out)
    torch.mul(out, 2, out=out)
    return out


@follows_without_gradients
def out_with_alias(self, x):
    out = torch.empty_like(x)
    kept = out
    torch.sub(x, 1, out=out)
    return kept


@follows_without_gradients
def out_of_a_view(self, x):
    out = torch.zeros(2, 3, 4, dtype=x.dtype)
    torch.exp(x, out=out[0])
    return out


@follows_without_gradients
def result_of_out(self, x):
    out = torch.empty_like(x)
    y = torch.neg(x, out=out)
    y.add_(1)
    return out


@follows
def copies_and_fills(self, x):
    y = torch.empty_like(x).fill_(2)
    y.copy_(x)
    z = torch.empty(3, 4).copy_(x)
    y[0].copy_(x[1])
    return y.masked_fill_(x > 1, 0), z


@follows_without_gradients
def scatters(self, x):
    y = torch.zeros(5, 4, dtype=x.dtype)
    index = torch.tensor([4, 0, 4])
    y.index_add_(0, index, x)
    y.index_copy_(0, torch.tensor([1]), x[:1])
    y.index_fill_(0, torch.tensor([2]), 3)
    y.scatter_(0, torch.tensor([[3, 3, 3, 3]]), x[:1])
    y.scatter_add_(1, torch.tensor([[0], [0], [0]]), x)
    y[index, torch.tensor([0, 1, 2])] = 1
    return y


@follows
def index_put(self, x):
    y = x * 1
    y.index_put_((torch.tensor([0, 0]), torch.tensor([1, 1])), torch.tensor(1.0, dtype=x.dtype), accumulate=True)
    return y


@follows_without_gradients
def in_place_functions(self, x):
    y = x * 1
    y.addcmul_(x, x, value=0.5).lerp_(x, 0.25)
    y.clamp_(-1, 1).tanh_().neg_().abs_().sqrt_()
    y.addmm_(x[:, :2], x[:2], beta=0.5)
    return y.t_().squeeze_().unsqueeze_(0)


@follows
def transposed_in_place(self, x):
    y = x * 1
    z = y
    y.transpose_(0, 1)
    return z.shape[0] * z


@follows
def data_is_set(self, x):
    y = x * 1
    y.data.add_(1)
    y.data[0] = 2
    return y


@follows
def zeroed_under_a_condition(self, x):
    y = x * 1
    if self.training:
        y[0].zero_()
    else:
        y.add_(1)
    return y


# Modules.


@follows
def in_place_module(self, x):
    y = x * 1
    return self.relu(y) + y


@follows
def in_place_module_after_a_read(self, x):
    y = x * 1
    z = y * 2
    w = self.relu(y)
    return z + w + y


@refused("in place a tensor that y")
def in_place_module_read_in_the_same_statement(self, x):
    y = x * 1
    return y + self.relu(y)


@follows
def in_place_module_on_a_view(self, x):
    y = x * 1
    self.relu(y[:, :2])
    return y


@follows
def in_place_module_on_an_input(self, x):
    z = self.act(x)
    return x + z


@follows_without_gradients
def in_place_modules_in_a_sequence(self, x):
    y = x * 1
    for layer in (self.relu, self.act):
        y = layer(y)
    return y


@follows
def residual_with_an_in_place_module(self, x):
    identity = x * 1
    out = self.act(identity)
    out = out * 3
    out += identity
    return self.relu(out)


def helper(y):
    y.add_(1)


def helper_that_returns(y):
    y.mul_(2)
    return y


def helper_of_a_list(ys):
    ys[0] = ys[0] + 1
    ys.append(ys[0] * 2)


@refused("in place a tensor that y")
def helper_changes_its_argument(self, x):
    y = x * 1
    helper(y)
    return y


@follows
def helper_returns_its_argument(self, x):
    y = x * 1
    z = helper_that_returns(y)
    return y + z


@follows
def helper_on_a_view(self, x):
    y = x * 1
    z = helper_that_returns(y[0])
    return y, z


@follows
def helper_changes_a_list(self, x):
    ys = [x]
    helper_of_a_list(ys)
    return torch.stack(ys)


@refused("in place a tensor that y")
def nested_function_changes_a_variable(self, x):
    y = x * 1

    def change():
        y.add_(1)

    change()
    return y


# Buffers and parameters.


@follows
def buffer_changed(self, x):
    self.seen.mul_(0.5).add_(x.detach(), alpha=0.5)
    self.count += 1
    return x * self.seen + self.count


@follows
def buffer_read_before_and_after(self, x):
    before = self.seen
    value = self.seen * 1
    self.seen.add_(1)
    return before + value


@follows
def buffer_under_a_name(self, x):
    seen = self.seen
    seen += 1
    return x + self.seen


@follows
def buffer_elements(self, x):
    self.seen[0] = x[0].detach()
    self.seen[1:, 0] += 1
    self.seen[2].zero_()
    return x + self.seen


@follows
def buffer_replaced(self, x):
    self.seen = self.seen * 0.9 + 0.1 * x.detach()
    self.count = self.count + 1
    return self.seen


@follows
def buffer_view_under_a_name(self, x):
    row = self.seen[0]
    row.add_(1)
    return x + self.seen


@follows
def buffer_copied(self, x):
    self.seen.copy_(x.detach())
    self.seen.data.mul_(2)
    return x - self.seen


@follows
def buffer_without_gradients(self, x):
    with torch.no_grad():
        self.seen.lerp_(x, 0.1)
    return x + self.seen


@follows
def buffer_returned_and_changed_later(self, x):
    y = x + self.seen
    self.seen.zero_()
    return y


@follows
def buffer_in_a_local_container(self, x):
    state = {"seen": self.seen}
    state["seen"].add_(1)
    return x + self.seen


@follows
def buffer_by_setattr(self, x):
    setattr(self, "seen", getattr(self, "seen") + 1)
    return x + self.seen


@follows
def parameter_read_under_a_name(self, x):
    weight = self.weight
    weight = weight * 2
    return x * weight + self.weight


@follows
def parameter_changed_without_gradients(self, x):
    with torch.no_grad():
        self.weight.clamp_(-0.5, 0.5)
    return x * self.weight


@follows
def parameter_data(self, x):
    self.weight.data.mul_(0.5)
    self.weight.data = self.weight.data + 1
    return x * self.weight


@follows
def plain_tensor_in_arithmetic(self, x):
    table = self.table.to(x.dtype) * 1
    table[0] += x[0]
    return table


@refused("")
def plain_tensor_changed(self, x):
    self.table.add_(1)
    return x + self.table.to(x.dtype)


@follows
def type_conversions_are_copies_or_not(self, x):
    y = x * 1
    z = y.to(x.dtype)
    w = y.type_as(x)
    y.add_(1)
    return z + w


@follows
def conversion_to_another_type_is_a_copy(self, x):
    y = x * 1
    z = y.to(torch.bfloat16)
    y.add_(1)
    return y, z.float()


@follows
def contiguous_is_the_same_tensor(self, x):
    y = x * 1
    z = y.contiguous()
    z.add_(1)
    return y


@follows
def reshape_to_the_same_shape(self, x):
    y = x * 1
    z = y.reshape(3, 4)
    z.add_(1)
    return y


@follows
def walrus(self, x):
    if (y := x * 1).ndim == 2:
        y.add_(1)
    return y


@refused("in place a tensor that ")
def tuple_of_aliases(self, x):
    y = x * 1
    pair = (y, y)
    pair[0].add_(1)
    return pair[1]


@follows
def unpacked_alias(self, x):
    y = x * 1
    a, b = y, y
    a.add_(1)
    return a + b


@refused("in place a tensor that ")
def star_arguments(self, x):
    y = x * 1
    args = (y,)
    helper_that_returns(*args)
    return y


@refused("in place a tensor that parts")
def map_changes(self, x):
    parts = [x * 1, x * 2]
    list(map(helper_that_returns, parts))
    return parts[0] + parts[1]


@refused("in place a tensor that parts")
def comprehension_changes(self, x):
    parts = [x * 1, x * 2]
    changed = [part.add_(1) for part in parts]
    return parts[0] + changed[1]


@refused("in place a tensor that y")
def returned_alias_changed_by_the_caller(self, x):
    y = x * 1

    def same():
        return y

    same().add_(1)
    return y


@follows
def buffer_view_seen_after_an_operator(self, x):
    row = self.seen[0]
    self.seen += 1
    return x + row


@follows
def alias_read_by_an_inner_function(self, x):
    y = x * 1
    z = y

    def read():
        return z * 2

    y.add_(1)
    return read()


@follows
def two_names_of_a_view(self, x):
    y = x * 1
    head = y[:, :2]
    same = head
    tail = y[:, 2:]
    y.add_(1)
    head.mul_(2)
    return y, head, same, tail


@follows
def view_defined_in_a_condition(self, x):
    y = x * 1
    if x.ndim == 2:
        head = y[0]
        head.add_(1)
    return y


@refused("in place a tensor that y")
def view_that_depends_on_a_condition(self, x):
    y = x * 1
    head = y[0]
    for i in range(2):
        if i == 0:
            head = y[i + 1]
        head.add_(1)
    return y


@follows
def views_in_a_loop(self, x):
    y = x * 1
    for i in range(y.shape[0]):
        row = y[i]
        row.mul_(i)
        row[0] = i
    return y


@follows
def module_in_a_container(self, x):
    y = x * 1
    parts = [y]
    z = self.relu(parts[0])
    return z + parts[0]


@follows
def masked_fill_of_a_view(self, x):
    y = x * 1
    y[:, :2].masked_fill_(x[:, :2] > 0, 5)
    y[1].clamp_(max=0.1)
    return y


@follows
def method_returns_a_buffer(self, x):
    seen = self.seen.mul_(2)
    self.count.add_(1)
    return seen + x


@follows
def element_assigned_under_no_grad(self, x):
    y = x * 1
    with torch.no_grad():
        y[0] = 3
        y += 1
        y[:, 1] *= 2
    return y * x


@follows
def sum_of_many_masks(self, x):
    y = x * 1
    y[y > 1] = -y[y > 1] * 2 + 1
    y[y < 0] += y[y < 0].abs().sqrt()
    return y


@follows
def views_of_the_argument(self, x):
    left = x[:, :2]
    x += 1
    return left


@refused("in place a tensor that feats")
def helper_changes_members(self, x):
    feats = [x * 1, x * 2]
    helper_of_members(feats)
    return feats[0] + feats[1]


def helper_of_members(feats):
    for feat in feats:
        feat.add_(1)


@refused("Elements are set by a mask to a tensor")
def mask_with_a_selection(self, x):
    y = x * 1
    y[x > 0] = x.flatten()[: (x > 0).sum()]
    return y


@follows
def zeros_filled_by_rows(self, x):
    out = x.new_zeros(6, 4)
    out[::2] = x
    out[1::2].copy_(x.flip(0))
    return out
