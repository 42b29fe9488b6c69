"""Calls of torch functions and methods for the rows of the operator table: a family per key, a call per line.

The names are those of INPUTS. The gradients of a line that starts with ``~`` are not compared.
"""

from typing import Any

import numpy as np

_rng = np.random.default_rng(22)


def _normal(*shape: int) -> np.ndarray:
    return _rng.normal(size=shape)


_square = _normal(3, 3)
_squares = _normal(2, 3, 3)

INPUTS: dict[str, Any] = {
    "a": _normal(3, 4),
    "b": _normal(3, 4),
    "v": _normal(4),
    "w": _normal(3),
    "p": _rng.uniform(0.5, 2.0, (3, 4)),
    "u": _rng.uniform(0.05, 0.95, (3, 4)),
    "z": np.float64(0.75),
    "e": np.zeros((0, 4)),
    "e1": np.zeros(0),
    "x": _normal(2, 3, 4),
    "y": _normal(2, 4, 5),
    "g": _normal(2, 4, 3),
    "m": _square + 3 * np.eye(3),
    "mm": _squares + 3 * np.eye(3),
    "spd": _square @ _square.T + np.eye(3),
    "spds": _squares @ _squares.swapaxes(1, 2) + np.eye(3),
    "q": _normal(4, 5),
    "o": _normal(2, 1, 4, 1),
    "ties": _rng.integers(-1, 2, (3, 4)).astype(np.float64),
    "zeros": np.where(_rng.random((3, 4)) < 0.5, 0.0, 1.5),
    "odd": np.array([[1.0, np.nan, -np.inf, 3.0], [np.nan, np.inf, 2.0, 0.0], [-0.0, 1.0, 5.0, -7.5]]),
    "half": np.array([[0.5, 1.5, -0.5, 2.5], [-7.0, 7.0, 3.0, -3.0], [6.5, -6.5, 1.0, 2.0]]),
    "f": _normal(3, 4).astype(np.float32),
    "h": _normal(3, 4).astype(np.float16),
    "z32": np.float32(0.3),
    "i": _rng.integers(-5, 6, (3, 4)),
    "j": _rng.integers(1, 6, (3, 4)),
    "i32": _rng.integers(-5, 6, (3, 4)).astype(np.int32),
    "i8": _rng.integers(-5, 6, (3, 4)).astype(np.int8),
    "u8": _rng.integers(0, 9, (3, 4)).astype(np.uint8),
    "k": np.int64(2),
    "t": _rng.random((3, 4)) < 0.5,
    "r": _rng.random((3, 4)) < 0.5,
    "tv": np.array([True, False, True, True]),
    "rows": np.array([2, 0, 2]),
    "cols": np.array([3, 1]),
    "once": np.array([2, 0]),
    "at": _rng.integers(0, 4, (2, 3)),
    "at0": _rng.integers(0, 3, (2, 4)),
    "many": _rng.integers(0, 4, (3, 4)),
    "many0": _rng.integers(0, 3, (3, 4)),
    "along": np.stack([_rng.permutation(4) for _ in range(3)]),
    "c": _normal(3, 4) + 1j * _normal(3, 4),
    "d": _normal(3, 4) + 1j * _normal(3, 4),
    "pair": _normal(3, 4, 2),
    "edges": np.array([-1.0, 0.0, 0.5, 1.0]),
    "sorted_rows": np.sort(_normal(3, 4), axis=1),
    "signal": _normal(2, 16),
    "many_values": _rng.uniform(0.1, 0.9, 2000),
    "window": _rng.uniform(0.2, 1.0, 8),
    "weights": np.array([0.5, 0.25, 0.25, 1.0, 2.0]),
    "counts": np.array([0, 3, 1, 1, 3]),
    "image": _normal(2, 4, 6, 6),
    "kernel": _normal(4, 2, 3, 3),
    "line": _normal(2, 4, 8),
    "kernel1": _normal(4, 4, 3),
    "cube": _normal(1, 2, 4, 4, 4),
    "kernel3": _normal(2, 2, 2, 2, 2),
    "bias": _normal(4),
    "samples": _rng.random((2, 4, 2)),
    "samples3": _rng.random((1, 2, 3)),
    "heads": _normal(12, 4),
    "m4": _normal(4, 4),
}  # fmt: skip

_UNARY = "exp exp2 expm1 sin cos tan sinh cosh tanh atan arctan asinh arcsinh sinc deg2rad rad2deg erf erfc sigmoid"
_POSITIVE = "log log2 log10 log1p sqrt rsqrt reciprocal lgamma digamma i0"
_FRACTION = "asin arcsin acos arccos atanh arctanh erfinv logit"
_SAME = "abs absolute neg negative positive sign sgn floor ceil trunc fix round square relu"
_TEST = "isnan isinf isfinite isposinf isneginf isreal signbit"
_SPECIAL = "i0 i0e i1 i1e ndtr log_ndtr expit erf erfc exp2 expm1 sinc"
_COMPARE = "eq ne not_equal lt less le less_equal gt greater ge greater_equal"
_REDUCE = "sum mean prod amax amin var std nansum nanmean"


def _lines(names: str, *templates: str) -> str:
    return "".join(template.replace("NAME", name) + "\n" for name in names.split() for template in templates)


CASES: dict[str, str] = {
    "elementwise to floats": _lines(
        _UNARY, "torch.NAME(a)", "~i.NAME()", "~torch.NAME(f)", "~torch.NAME(t)", "z.NAME()"
    )
    + _lines(_POSITIVE, "torch.NAME(p)", "~j.NAME()", "~torch.NAME(e)")
    + _lines(_FRACTION, "torch.NAME(u)", "~t.NAME()")
    + _lines(_SPECIAL, "torch.special.NAME(a)", "~torch.special.NAME(i)")
    + """
torch.acosh(p + 1)
torch.arccosh(1 + p)
~torch.acosh(j)
torch.special.entr(p)
torch.special.ndtri(u)
torch.special.erfinv(u)
torch.special.gammaln(p)
torch.special.digamma(p)
torch.special.psi(p)
torch.special.log1p(p)
torch.special.logit(u)
torch.logit(u, 0.2)
u.logit(eps=0.3)
torch.exp(c)
torch.sqrt(c)
torch.sin(c)
torch.angle(a)
torch.angle(c)
~torch.angle(i)
~torch.angle(odd)
~torch.polygamma(1, p)
~p.polygamma(2)
~torch.special.polygamma(1, p)
~torch.special.modified_bessel_i0(a)
~torch.special.modified_bessel_i1(a)
torch.mvlgamma(p + 2, 2)
torch.special.multigammaln(p + 2, 2)
~torch.special.zeta(p + 1, p)
~torch.igamma(p, u)
~torch.igammac(p, u)
~torch.special.gammainc(p, u)
~torch.special.gammaincc(p, u)
torch.tanh(c)
torch.sigmoid(c)
""",
    "elementwise": _lines(_SAME, "a.NAME()", "~half.NAME()", "~i.NAME()", "~f.NAME()")
    + _lines(_TEST, "torch.NAME(odd)")
    + """
torch.round(a, decimals=2)
torch.special.round(a)
half.round(decimals=0)
torch.frac(half)
torch.frexp(half)
torch.abs(c)
torch.sgn(c)
torch.square(c)
torch.reciprocal(c)
torch.neg(c)
torch.isnan(i)
torch.isfinite(c)
torch.isreal(c)
torch.conj(c) * d
c.conj_physical()
c.conj().resolve_conj() + d
torch.resolve_neg(a)
torch.real(c) * torch.imag(d)
c.real
c.imag
a.real
torch.nan_to_num(odd)
torch.nan_to_num(odd, nan=2.0, posinf=3.0)
odd.nan_to_num(1.0, None, -4.0)
~torch.nan_to_num(i)
torch.logical_not(t)
torch.logical_not(zeros)
~torch.bitwise_not(i)
~torch.bitwise_not(t)
torch.abs(ties)
torch.relu(ties)
torch.sign(ties)
torch.polar(p, a)
torch.complex(a, b)
torch.complex(f, f)
torch.view_as_complex(pair)
torch.view_as_real(c)
torch.view_as_real(torch.view_as_complex(pair) * c)
torch.frac(a)
torch.positive(a)
""",
    "arithmetic": """
a + b
a - b
a * b
a / b
torch.add(a, b)
torch.add(a, b, alpha=2)
a.add(2, alpha=0.5)
a.add(v)
a.sub(b, alpha=3)
torch.sub(a, 1)
torch.subtract(a, v)
a.subtract(v, alpha=2)
torch.rsub(a, b)
torch.rsub(a, b, alpha=2)
torch.rsub(i, 2)
torch.rsub(i, 0.5)
a.mul(b)
torch.multiply(a, v)
torch.mul(i, i32)
a.div(b)
torch.divide(a, 2)
torch.true_divide(a, p)
~torch.div(a, p, rounding_mode='floor')
torch.div(a, p, rounding_mode='trunc')
torch.divide(a, p, rounding_mode=None)
torch.div(i, j)
torch.div(i, 2, rounding_mode='trunc')
torch.div(i, j, rounding_mode='floor')
torch.div(i32, 2.5, rounding_mode='floor')
i / j
i / 2
i // 2
i // j
i % 3
i % -3
i % j
~a // 0.3
a % 0.7
a % -0.7
~half // 2
~half % 3
~half % -3
~torch.floor_divide(half, 2)
~torch.floor_divide(a, p)
torch.remainder(a, p)
torch.remainder(half, -3)
torch.remainder(i, 3)
torch.fmod(a, p)
torch.fmod(half, -3)
torch.fmod(i, j)
torch.fmod(i, -3)
~torch.fmod(i, 2.5)
a ** 2
p ** 0.5
p ** a
2 ** a
torch.pow(a, 3)
torch.pow(p, b)
torch.pow(2, a)
p.pow(-1.5)
i ** 2
i.pow(2.0)
torch.pow(i, 0)
torch.pow(j, 0.5)
torch.pow(zeros, 2)
~torch.pow(t, 2)
torch.float_power(j, 2)
torch.float_power(p, 0.5)
~torch.float_power(f, 2)
torch.ldexp(a, k)
~torch.ldexp(f, i32)
torch.lerp(a, b, 0.3)
torch.lerp(a, b, u)
a.lerp(b, weight=0.9)
torch.addcmul(a, b, p)
torch.addcmul(a, b, p, value=0.5)
a.addcdiv(b, p, value=-2)
torch.addcdiv(a, b, p)
~torch.addcmul(i, j, i, value=2)
torch.clamp(a, -0.5, 0.5)
torch.clamp(a, min=0)
a.clamp(max=0.3)
a.clip(-1, 1)
torch.clamp(ties, 0, 1)
torch.clamp(ties, -1, 0)
torch.clamp(ties, min=ties)
torch.clamp(a, min=b)
torch.clamp(a, b, p)
torch.clamp(a, p, b)
torch.clamp(a, max=v)
~torch.clamp(odd, -2, 2)
torch.clamp(a, 1.0, -1.0)
torch.clamp(i, 0, 2)
torch.clamp(i, min=0.5)
a.clamp_min(0.1)
a.clamp_max(0.1)
torch.clamp_min(a, b)
torch.clip(a, min=-0.2)
torch.maximum(a, b)
torch.maximum(ties, ties * 1.0)
torch.minimum(a, v)
~torch.maximum(odd, a)
torch.fmax(a, b)
~torch.fmin(odd, a)
torch.atan2(a, b)
torch.arctan2(a, p)
~torch.atan2(i, j)
torch.hypot(a, b)
torch.copysign(a, b)
~torch.copysign(i, a)
~torch.nextafter(a, b)
~torch.heaviside(ties, v)
torch.logaddexp(a, b)
torch.logaddexp2(a, b)
torch.xlogy(p, u)
torch.xlogy(zeros, p)
torch.special.xlogy(a, p)
torch.special.xlog1py(a, p)
~torch.xlogy(i, j)
torch.gcd(i, j)
torch.lcm(i, j)
-a
-i
a + c
c * d
c / d
c ** 2
c * 2j
c - 1.5
""",
    "gradients at kinks": """
torch.fmax(ties, zeros)
torch.fmin(ties, zeros)
torch.maximum(ties, zeros)
torch.minimum(ties, zeros)
torch.max(ties, zeros)
torch.clamp(ties, zeros)
torch.clamp(ties, max=zeros)
torch.where(ties >= zeros, ties, zeros)
torch.fmax(ties, b)
torch.atan2(zeros, zeros + 0)
torch.atan2(zeros - zeros, p)
torch.pow(zeros, zeros + 0)
torch.pow(zeros, p)
torch.pow(zeros, 0)
torch.pow(zeros, 1.5)
torch.pow(0, p)
torch.pow(2.0, zeros)
torch.logsumexp(ties - inf, 1)
torch.aminmax(ties, dim=1)
torch.aminmax(ties)
torch.sinc(ties)
torch.dist(a, a)
torch.prod(a * 0, 1)
torch.cumprod(a * 0, 1)
torch.abs(c * 0)
torch.norm(c * 0)
torch.sgn(c * t)
torch.xlogy(zeros, zeros + 1)
torch.maximum(ties, ties + 0)
torch.copysign(zeros, b)
torch.remainder(half, 1.5)
torch.where(zeros > 0, 1 / zeros, zeros)
torch.sqrt(zeros)
torch.rsqrt(zeros)
torch.log(zeros)
torch.clamp(ties, 0, 0)
torch.clamp(ties, ties + 0, ties + 0)
torch.var(ties - ties, 1)
torch.std_mean(ties - ties, 1)
torch.nn.functional.normalize(zeros * 0, dim=1)
torch.cdist(zeros, zeros + 0)
torch.cdist(ties, ties + 0, p=1.0)
torch.linalg.vector_norm(ties * 0, 3)
torch.renorm(zeros * 0, 2, 0, 1.0)
torch.trunc(ties)
torch.frac(ties)
torch.nan_to_num(ties / zeros)
torch.logaddexp(ties, ties + 0)
torch.asin(ties)
torch.deg2rad(ties)
torch.median(ties)
torch.median(ties, 1)[0]
torch.sort(ties, stable=True)[0]
torch.softmax(ties - inf, 1)
torch.polar(zeros, ties)
torch.lerp(ties, ties + 0, 0.5)
torch.diff(ties)
torch.mode(ties, 1)[0]
~torch.kthvalue(ties, 2, 1)[0]
""",
    "promotion": """
i + 1
i + 0.5
i * 2
i * 1j
t + 1
t + t
t * a
t * i
t + 0.5
i + i32
i8 + u8
u8 + i
i + f
h + f
h + i
f + a
a + z32
f + z
f * z
i32 + k
i32 * k
i + z
i * z32
h * z32
f + 2.5
f * 2
f + 1j
h + 1
i8 + 1
i8 + 1.5
u8 / 2
z + z32
k + z32
k + 1
k * 0.5
z32 * 2
torch.add(f, z)
torch.sub(i, k)
torch.mul(i8, 2.5)
torch.div(i8, u8)
torch.maximum(f, z)
torch.minimum(i, f)
torch.where(t, f, z)
torch.where(t, 1.0, 0.0)
torch.where(t, 1, 0)
torch.where(t, a, 0)
torch.where(t, i, 0.5)
a.where(t, b)
f.where(t, 2)
torch.where(t, a, b)
torch.where(tv, a, v)
torch.where(t, z, a)
torch.cat([f, i])
torch.cat([h, f])
torch.result_type(i, 1.0)
torch.result_type(f, z)
torch.result_type(i8, 1)
torch.promote_types(torch.int32, torch.float16)
torch.pow(i32, k)
torch.remainder(f, z)
torch.atan2(f, z)
torch.addcmul(f, f, z)
torch.lerp(f, f * 2, 0.5)
f == z32
f > z
""",
    "comparison": _lines(_COMPARE, "torch.NAME(a, b)", "a.NAME(0)", "i.NAME(0.5)", "torch.NAME(ties, ties)")
    + """
a == b
a != 0
a < v
i <= 2
a > 0.5
i >= k
torch.logical_and(t, r)
torch.logical_or(a, zeros)
torch.logical_xor(t, r)
t & r
t | r
t ^ r
i & 3
i | j
i ^ j
~i
~t
j << 2
i >> 1
torch.bitwise_and(i, j)
torch.bitwise_or(t, r)
torch.bitwise_xor(i, i32)
torch.bitwise_left_shift(j, 1)
torch.bitwise_right_shift(i, j)
torch.isclose(a, a + 1e-9)
torch.isclose(odd, odd, equal_nan=True)
torch.allclose(a, a)
torch.equal(a, b)
torch.equal(a, a)
torch.isin(i, rows)
torch.isin(rows, i, invert=True)
""",
    "reductions": _lines(
        _REDUCE,
        "torch.NAME(a)",
        "x.NAME(1)",
        "x.NAME(-1, keepdim=True)",
        "x.NAME((0, 2))",
        "x.NAME(dim=[0, -1], keepdim=True)",
    )
    .replace("x.prod((0, 2))", "x.prod(0)")
    .replace("x.prod(dim=[0, -1], keepdim=True)", "x.prod(dim=2, keepdim=False)")
    + """
torch.sum(z)
e.sum()
e.sum(0)
e.mean(0)
e.prod(0)
torch.sum(i)
i8.sum(1)
t.sum()
t.sum(1)
i32.prod(1)
i.prod()
f.sum(1)
h.sum()
h.mean(0)
i.sum(dtype=torch.float32)
i.float().mean()
i.to(torch.float64).mean()
torch.mean(i, 1, dtype=torch.float32)
t.float().mean()
c.sum(0)
c.mean()
torch.sum(a, axis=1, keepdims=True)
zeros.prod(1)
zeros.prod()
~odd.nansum(1)
odd.nanmean(1)
t.any()
t.all(1)
t.any(0, keepdim=True)
torch.any(a > 1, dim=1)
torch.all(x > -9, -1)
ties.amax(1)
ties.amin(0)
ties.amax()
ties.max()
ties.min()
i.amax(1)
torch.max(a)
torch.min(a)
a.max(1)
torch.max(a, 1, keepdim=True)
torch.max(a, dim=0)[0]
a.max(dim=-1)[1]
a.min(0)
torch.min(x, -1, True)
ties.max(1)
ties.min(0)
i.max(1)
z.max(0)
torch.max(a, b)
torch.min(a, v)
torch.max(a, other=b)
a.max(b)
torch.max(f, z)
~odd.max(1)
~odd.max()
~odd.amax(0)
a.argmax()
a.argmax(1)
torch.argmax(x, dim=1, keepdim=True)
ties.argmax(1)
ties.argmin(0)
odd.argmax(1)
a.argmin(-1)
i.argmin()
torch.aminmax(a)
torch.aminmax(a, dim=1, keepdim=True)
a.aminmax(dim=0)
torch.cummax(ties, 1)
torch.cummax(a, 0)
torch.cummin(ties, 0)
a.cummin(dim=-1)
i.cummax(1)
~odd.cummax(1)
torch.logsumexp(a, 1)
x.logsumexp((0, 2), keepdim=True)
torch.special.logsumexp(a, -1)
~torch.logsumexp(i, 1)
torch.var(a)
torch.var(a, 1)
torch.var(a, 1, unbiased=False)
torch.var(a, False)
a.var(unbiased=False)
a.std(1, correction=0)
x.var((1, 2), False, True)
torch.var(x, dim=(0, 1), correction=2)
a.std(0, keepdim=True)
torch.std(a, 1, False)
torch.std(torch.zeros_like(a), 1)
torch.std(a - a, 1)
torch.var_mean(a, 1)
torch.var_mean(x, dim=(0, 2), keepdim=True, unbiased=False)
torch.var_mean(x, [0, 2], correction=0)
torch.std_mean(a, 0)
torch.std_mean(a)
torch.var(c, 1)
torch.median(a)
a.median(1)
torch.median(a, dim=0, keepdim=True)
~torch.median(odd, 1)
~torch.median(odd)
~torch.nanmedian(odd, 1)
~odd.nanmedian()
i.median(1)[0]
~torch.mode(i, 1)[0]
~torch.mode(i32, 0, True)[0]
torch.mode(ties, 1)[0]
torch.kthvalue(a, 2)
a.kthvalue(1, 0, True)
torch.quantile(a, 0.3)
torch.quantile(a, 0.3, dim=1, keepdim=True)
torch.quantile(a, 0.5, 0, interpolation='lower')
torch.nanquantile(a, 0.25, 1)
torch.count_nonzero(zeros)
zeros.count_nonzero(1)
torch.cumsum(a, 1)
a.cumsum(-1)
i.cumsum(0)
i32.cumsum(1)
t.cumsum(1)
i8.cumsum(1)
a.cumsum(1, dtype=torch.float32)
torch.cumprod(a, 0)
zeros.cumprod(1)
i8.cumprod(0)
t.cumprod(0)
torch.logcumsumexp(a, 1)
a.logcumsumexp(dim=-1)
torch.diff(a)
torch.diff(a, n=2, dim=1)
a.diff(dim=0, prepend=b)
torch.diff(i, append=j)
torch.trapezoid(a)
torch.trapz(a, dx=0.5)
torch.trapezoid(a, b)
torch.trapezoid(a, dim=0)
torch.cumulative_trapezoid(a)
torch.cumulative_trapezoid(a, b, dim=0)
torch.cumulative_trapezoid(a, dx=2)
~torch.histc(a, 5, -2, 2)
~torch.bincount(counts, minlength=6)
~counts.bincount(weights, 4)
~torch.histc(a, bins=4)
~f.histc(4, min=-1, max=1)
~torch.histogram(a, 4, range=(-1.0, 1.0))
~torch.histogram(a, edges)
torch.cov(a)
torch.cov(a, correction=0)
torch.corrcoef(a)
torch.cov(i)
torch.corrcoef(i)
torch.trapezoid(i)
~torch.mvlgamma(j, 1)
t.square()
~torch.heaviside(i, j)
torch.logdet(c @ c.t().conj() + 3)
""",
    "norms": """
torch.norm(a)
a.norm()
a.norm(1)
a.norm(2, 1)
a.norm(p=2, dim=-1, keepdim=True)
torch.norm(x, 'fro', dim=(1, 2))
torch.norm(x, p=3, dim=(0, 2))
torch.norm(a, dim=1)
torch.norm(zeros, dim=0)
torch.norm(a - a, dim=1)
a.norm(inf, 1)
a.norm(-inf, 0)
a.norm(0, 1)
zeros.norm(0.5, 1)
torch.norm(a, 'nuc')
a.norm(1.5)
c.norm()
f.norm(dim=1)
f.norm(2, dtype=torch.float64)
zeros.norm(1)
ties.norm(1, 1)
ties.norm(inf)
ties.norm(3, 0)
torch.linalg.matrix_norm(ties, 1)
torch.linalg.norm(a)
torch.linalg.norm(a, dim=1)
torch.linalg.norm(a, 'fro')
torch.linalg.norm(a, 2)
torch.linalg.norm(a, 1, dim=1)
torch.linalg.norm(a, -1)
torch.linalg.norm(a, inf)
torch.linalg.norm(a, 'nuc', keepdim=True)
torch.linalg.norm(x, dim=(1, 2), ord=2)
torch.linalg.norm(v, 3)
torch.linalg.vector_norm(x)
torch.linalg.vector_norm(x, 3, dim=(0, 1))
torch.linalg.vector_norm(a, ord=1, dim=-1, keepdim=True)
torch.linalg.matrix_norm(x)
torch.linalg.matrix_norm(x, ord=1)
torch.linalg.matrix_norm(x, ord=-inf, keepdim=True)
torch.linalg.matrix_norm(x, ord=2, dim=(0, 1))
torch.dist(a, b)
a.dist(b, 1)
torch.cdist(a, b)
torch.cdist(x, g.transpose(1, 2))
torch.cdist(a, b, p=1.0)
torch.cdist(a, b, p=3)
torch.cdist(a, b, p=inf)
torch.cdist(a, b, compute_mode='use_mm_for_euclid_dist')
torch.cdist(a, a)
torch.renorm(a, 2, 0, 1.0)
x.renorm(1, 1, 0.5)
torch.renorm(a, p=2, dim=1, maxnorm=100)
""",
    "shapes": """
torch.cat([a, b])
torch.cat((a, b), 1)
torch.cat([a, b], dim=-1)
torch.cat([a, e])
torch.concat([a, b])
torch.concatenate([a, b], axis=1)
torch.stack([a, b])
torch.stack((a, b), dim=1)
torch.stack([z, z], -1)
torch.hstack((a, b))
torch.hstack([v, v])
torch.vstack([v, v])
torch.row_stack([a, b])
torch.dstack((a, b))
torch.column_stack([v, v])
torch.atleast_1d(z)
torch.atleast_2d(v)
torch.atleast_3d(a)
torch.atleast_1d(z, v)
torch.atleast_2d((z, v))
torch.block_diag(a, q)
torch.broadcast_tensors(a, v)
torch.broadcast_shapes((3, 1), (4,))
a.view(-1)
a.view(4, 3)
a.view((2, 6))
a.view(2, -1)
x.view(x.size(0), -1)
x.view(x.shape[0], x.shape[1] * x.shape[2])
x.view(*x.shape[:2], 2, 2)
a.view(b.size())
e.view(4, 0)
~f.view(torch.int32)
a.reshape(2, 6)
a.reshape([4, 3])
torch.reshape(a, (2, -1))
torch.reshape(a, [12])
a.view_as(b)
a.reshape_as(b)
x.permute(2, 0, 1)
x.permute((0, -1, 1))
torch.permute(x, [1, 0, 2])
x.permute(dims=(2, 1, 0))
x.transpose(1, 2)
torch.transpose(x, 0, -1)
x.transpose(-1, -2)
x.swapaxes(0, 1)
torch.swapdims(x, 0, 2)
torch.movedim(x, 1, 0)
x.moveaxis((0, 1), (1, 2))
a.t()
v.t()
a.T
x.mT
c.H
c.mH
torch.adjoint(c)
c.adjoint()
a.size()
a.size(1)
a.size(-1)
a.shape
a.shape[0]
a.dim()
a.ndimension()
a.ndim
a.numel()
torch.numel(a)
a.nelement()
torch.flatten(x)
x.flatten(1)
x.flatten(0, 1)
x.flatten(start_dim=-2)
z.flatten()
x.ravel()
torch.unflatten(a, 1, (2, 2))
a.unflatten(-1, (2, -1))
a.unflatten(dim=0, sizes=(3, 1))
o.squeeze()
o.squeeze(1)
o.squeeze(0)
o.squeeze(-1)
o.squeeze((1, 3))
torch.squeeze(o, dim=(0, 1))
a.unsqueeze(0)
torch.unsqueeze(a, -1)
z.unsqueeze(0)
a.unsqueeze(1).unsqueeze(-1)
v.expand(3, 4)
o.expand(2, 3, 4, -1)
o.expand(-1, 3, -1, 5)
v.expand((3, 4))
v.expand(a.size())
z.expand(2, 2)
torch.broadcast_to(v, (3, 4))
v.broadcast_to((2, 4))
v.broadcast_to(2, 3, 4)
v.expand_as(a)
a.repeat(2, 1)
a.repeat(2, 3, 1)
v.repeat(3)
v.repeat((2, 2))
a.tile(2)
a.tile((2, 2))
torch.tile(a, (2, 1, 1))
torch.repeat_interleave(a, 2, dim=0)
a.repeat_interleave(3, 1)
a.repeat_interleave(2)
torch.repeat_interleave(a, 2, dim=1)
torch.repeat_interleave(a, repeats=rows, dim=0, output_size=4)
torch.roll(a, 1)
a.roll(1, 0)
a.roll((1, -1), (0, 1))
torch.roll(x, shifts=(1, 2), dims=(0, 2))
torch.roll(a, [1, 1], [0, 1])
torch.flip(a, [0])
torch.flip(x, (0, -1))
x.flip(0, 1)
x.flip(-1)
x.flip((1, 2))
torch.flip(a, dims=(1,))
torch.fliplr(a)
a.flipud()
torch.rot90(x)
x.rot90(1, (1, 2))
x.rot90(k=3, dims=[1, 2])
torch.rot90(a, 2, [0, 1])
torch.narrow(a, 1, 1, 2)
x.narrow(0, -1, 1)
a.narrow_copy(1, 0, 3)
torch.select(x, 1, 2)
x.select(-1, -2)
torch.select_copy(x, 0, 1)
torch.split(a, 2)
torch.split(a, 3, dim=1)
a.split(1)
a.split([1, 3], dim=1)
a.split(split_size=2, dim=-1)
torch.split(x, (1, 2), 1)
torch.split_with_sizes(a, [1, 2])
a.split_with_sizes((2, 2), dim=1)
torch.chunk(a, 2)
torch.chunk(a, 3, dim=1)
a.chunk(2, 1)
a.chunk(chunks=2, dim=-1)
a.chunk(9, 1)
e.chunk(2)
torch.unsafe_chunk(a, 2)
torch.unsafe_split(a, 2)
torch.unsafe_split_with_sizes(a, [1, 2])
torch.tensor_split(a, 3, dim=1)
a.tensor_split((1, 3), dim=1)
a.tensor_split(sections=2)
a.tensor_split(indices=(1,), dim=0)
torch.hsplit(a, 2)
a.vsplit([1])
x.dsplit(2)
torch.unbind(a)
a.unbind(1)
x.unbind(dim=-1)
torch.meshgrid(v, w)
torch.meshgrid(v, w, indexing='ij')
torch.meshgrid([v, w], indexing='xy')
torch.meshgrid(v, z, indexing='ij')
torch.cartesian_prod(v, w)
torch.cartesian_prod(v)
torch.combinations(v)
torch.combinations(v, 3)
torch.combinations(w, with_replacement=True)
torch.tril(x)
a.tril(-1)
torch.triu(a, diagonal=1)
a.triu()
torch.diag(v)
torch.diag(m, 1)
a.diag()
m.diag(-1)
torch.diagflat(a)
v.diagflat(-1)
torch.diag_embed(a)
a.diag_embed(1)
torch.diag_embed(a, offset=-1, dim1=0, dim2=2)
torch.diagonal(m)
x.diagonal(1, 1, 2)
x.diagonal(dim1=-2, dim2=-1)
torch.linalg.diagonal(x)
torch.linalg.diagonal(x, offset=1)
torch.trace(m)
i.trace()
a.unfold(1, 2, 1)
a.unfold(1, 2, 2)
x.unfold(-1, 3, 1).unfold(1, 2, 1)
x.unfold(dimension=2, size=2, step=2)
torch.ravel(a)
""",
    "indexing": """
torch.gather(a, 1, along)
a.gather(1, at)
a.gather(0, at0)
a.gather(dim=-1, index=at)
torch.gather(v, 0, cols)
torch.gather(a, 1, a.argmax(1, keepdim=True))
torch.take_along_dim(a, along, dim=1)
torch.take_along_dim(a, a.argsort(1), 1)
torch.take_along_dim(a, torch.argmax(a, 1, keepdim=True), dim=1)
a.take_along_dim(cols)
torch.take(a, at)
a.take(cols)
torch.index_select(a, 0, rows)
a.index_select(1, cols)
x.index_select(dim=-1, index=cols)
~torch.scatter(a, 1, at, b)
a.scatter(1, along, b)
a.scatter(1, along, 2.5)
a.scatter(0, at0, value=1)
a.scatter(dim=1, index=along, src=b)
~a.scatter(1, along, b, reduce='add')
~a.scatter(1, at, 2.0, reduce='multiply')
a.scatter_add(1, along, b)
~a.scatter_add(0, at0, b)
v.scatter_add(0, rows, w)
torch.scatter_reduce(a, 1, many, b, 'sum')
a.scatter_reduce(1, many, b, reduce='mean')
a.scatter_reduce(1, many, b, 'mean', include_self=False)
a.scatter_reduce(0, many0, p, 'prod')
a.scatter_reduce(0, many0, p, 'prod', include_self=False)
zeros.scatter_reduce(0, many0, zeros + 0, 'prod')
a.scatter_reduce(1, many, b, 'amax')
a.scatter_reduce(1, many, b, 'amin', include_self=False)
ties.scatter_reduce(1, many, ties, 'amax')
i.scatter_reduce(1, at, j, 'amax', include_self=False)
i.scatter_reduce(1, at, j, 'sum')
torch.index_add(a, 0, rows, b)
a.index_add(1, cols, torch.narrow(b, 1, 0, 2))
a.index_add(0, rows, b, alpha=2)
a.index_add(dim=0, index=rows, source=b)
torch.index_copy(a, 0, once, b.narrow(0, 0, 2))
a.index_copy(1, cols, b.narrow(1, 0, 2))
torch.index_fill(a, 0, rows, 1.5)
a.index_fill(1, cols, 0)
~i.index_fill(1, cols, 7)
torch.index_reduce(a, 0, rows, p, 'prod')
a.index_reduce(0, rows, b, 'mean')
a.index_reduce(0, rows, b, 'amax', include_self=False)
torch.index_put(a, (once, once), w.narrow(0, 0, 2))
a.index_put((once,), v)
a.index_put((rows, rows), w, accumulate=True)
a.index_put([t], z)
a.index_put((t,), z, True)
a.index_put((r.any(1),), v)
a.index_put((tv.new_tensor([True, False, True]),), b.narrow(0, 0, 2))
a.index_put((torch.ones_like(t),), b.flatten())
a.index_put((r.any(1),), z)
torch.masked_fill(a, t, 2.0)
a.masked_fill(t, -inf)
a.masked_fill(tv, 0)
a.masked_fill(mask=t, value=1)
a.masked_fill(t, z)
i.masked_fill(t, 3)
~i32.masked_fill(t, 2.0)
f.masked_fill(t, z)
h.masked_fill(t, -1e4)
f.masked_fill(t == 0, torch.finfo(torch.float32).min)
torch.masked_scatter(a, t, b)
a.masked_scatter(tv, b)
a.put(at, b.flatten().narrow(0, 0, 6).view(2, 3), True)
torch.put(a, cols, w.narrow(0, 0, 2))
torch.select_scatter(a, v, 0, 1)
a.select_scatter(w, dim=1, index=-1)
torch.slice_scatter(a, b.narrow(0, 0, 2), start=1)
a.slice_scatter(torch.narrow(b, 1, 0, 2), 1, 0, 4, 2)
torch.diagonal_scatter(m, w)
m.diagonal_scatter(w.narrow(0, 0, 2), 1)
torch.nonzero_static(t, size=4)
t.nonzero_static(size=14, fill_value=-1)
torch.topk(a, 2)
a.topk(3, dim=0)
a.topk(2, largest=False)
a.topk(k=2, dim=-1, largest=True, sorted=True)
~i.topk(1, 1)[0]
~odd.topk(2)[0]
~odd.topk(2, largest=False)[0]
z.topk(1)
torch.sort(a)
a.sort(0)
a.sort(dim=1, descending=True)
torch.sort(ties, stable=True)
torch.sort(ties, stable=True, descending=True)
ties.sort(stable=True, dim=0, descending=True)
~torch.sort(odd, stable=True)
~torch.sort(odd, descending=True, stable=True)
i.sort(1)[0]
t.sort(1)[0]
z.sort()
e.sort(0)
torch.argsort(a)
a.argsort(0, True)
ties.argsort(dim=1, descending=True, stable=True)
torch.argsort(ties, stable=True)
torch.msort(a)
torch.searchsorted(edges, a)
torch.searchsorted(edges, a, right=True)
torch.searchsorted(sorted_rows, a, side='right')
torch.searchsorted(edges, 0.3)
torch.searchsorted(edges, a, out_int32=True)
torch.searchsorted(a, b, sorter=a.argsort())
torch.bucketize(a, edges)
torch.bucketize(edges, edges, right=True)
torch.bucketize(a, edges, out_int32=True)
a[0]
a[:, 1:]
x[..., -1]
a[None].expand(2, -1, -1)
""",
    "products": """
a @ q
x @ y
torch.matmul(a, q)
a.matmul(v)
torch.matmul(x, y)
x.matmul(q)
v.matmul(v)
torch.mm(a, q)
a.mm(q)
torch.bmm(x, y)
x.bmm(y)
torch.mv(a, v)
torch.dot(v, v)
v.dot(v)
torch.vdot(v, v)
torch.vdot(c.flatten(), d.flatten())
torch.inner(a, b)
torch.inner(v, v)
torch.outer(v, w)
v.ger(w)
i.float() @ q.float()
i @ j.t()
torch.addmm(torch.ones_like(a), m, a)
torch.addmm(v, m, a)
torch.addmm(v, m, a, beta=0.5, alpha=2)
torch.addmm(torch.full_like(v, nan), m, a, beta=0)
w.addmv(a, v, beta=0, alpha=3)
torch.addmv(w, a, v)
torch.addr(a, w, v)
a.addr(w, v, beta=2, alpha=0.5)
torch.baddbmm(g.narrow(2, 0, 1).narrow(1, 0, 3), x, y)
torch.baddbmm(torch.zeros_like(x @ y), x, y, beta=0, alpha=0.3)
torch.addbmm(torch.ones_like(a @ q), x, y)
torch.addbmm(a @ q, x, y, beta=2, alpha=-1)
torch.einsum('ij,jk->ik', a, q)
torch.einsum('bij,bjk->bik', x, y)
torch.einsum('ij,ij->', a, b)
torch.einsum('...ij,jk', x, q)
torch.einsum('ij,jk', [a, q])
torch.einsum('ii->i', m)
torch.einsum('bij, jk -> bki', x, q)
torch.einsum('iJ,Jk', a, q)
torch.einsum(a, [0, 1], q, [1, 2], [0, 2])
torch.einsum(x, [..., 0, 1], q, [1, 2], [..., 0, 2])
torch.tensordot(a, q, 1)
torch.tensordot(a, q, dims=([1], [0]))
torch.tensordot(x, g, dims=[[1, 2], [2, 1]])
torch.tensordot(a, b)
torch.kron(a, m)
w.kron(v)
torch.chain_matmul(m, a, q)
torch.linalg.multi_dot([m, a, q])
torch.linalg.multi_dot((v, q))
torch.linalg.matmul(a, q)
torch.cross(a, b)
torch.cross(m, m.t(), dim=1)
torch.linalg.cross(m, m.t())
torch.linalg.cross(a, b, dim=0)
torch.linalg.vecdot(a, b)
torch.linalg.vecdot(c, d, dim=0)
~torch.vander(v)
~torch.vander(v, 3, increasing=True)
torch.linalg.vander(a)
torch.linalg.vander(v, N=2)
torch.matrix_power(m, 3)
torch.linalg.matrix_power(m, -2)
mm.matrix_power(0)
torch.matrix_exp(m)
torch.linalg.matrix_exp(mm)
c @ d.t()
""",
    "linear algebra": """
torch.det(m)
torch.linalg.det(mm)
torch.logdet(spd)
~torch.logdet(-m)
torch.slogdet(m)
torch.linalg.slogdet(mm)
torch.inverse(m)
torch.linalg.inv(mm)
mm.inverse()
torch.pinverse(a)
torch.linalg.pinv(x)
~torch.linalg.pinv(spd, hermitian=True)
torch.cholesky(spd)
spd.cholesky(upper=True)
torch.linalg.cholesky(spds)
torch.linalg.cholesky(spd, upper=True)
torch.cholesky_solve(a, torch.linalg.cholesky(spd))
torch.cholesky_solve(a, torch.linalg.cholesky(spd, upper=True), upper=True)
torch.cholesky_inverse(torch.linalg.cholesky(spd))
torch.linalg.lstsq(m, a)[0]
torch.linalg.lstsq(mm, x).solution
torch.linalg.lstsq(m[:, :2], a)
torch.linalg.lstsq(m[:2], a[:2]).solution
torch.linalg.solve(m, a)
torch.linalg.solve(mm, x)
torch.linalg.solve(m, w)
torch.linalg.solve(mm, a.narrow(0, 0, 2).narrow(1, 0, 3))
torch.linalg.solve(m, a.t(), left=False)
torch.linalg.solve_triangular(m.triu(), a, upper=True)
torch.linalg.solve_triangular(m.tril(), a.t(), upper=False, left=False)
torch.linalg.solve_triangular(m.tril(), x, upper=False, unitriangular=True)
torch.linalg.svdvals(x)
~torch.linalg.svd(a)[1]
torch.linalg.svd(x, full_matrices=False)[1]
~torch.linalg.svd(a, full_matrices=False)
~torch.svd(a)
~a.svd(some=False)[1]
torch.linalg.eigh(spd)[0]
~torch.linalg.eigh(spd)[1].abs()
torch.linalg.eigvalsh(spds)
torch.linalg.eigvalsh(spd, UPLO='U')
~torch.linalg.qr(a)
torch.linalg.qr(m)
~torch.linalg.qr(x.mT, mode='reduced')
~torch.qr(m, some=True)
~torch.qr(m)
~torch.qr(a.t(), False)[1]
~torch.linalg.pinv(a, rtol=0.4)
torch.linalg.tensorinv(m, ind=1)
torch.linalg.tensorsolve(m, w)
torch.linalg.cond(m)
~torch.linalg.cond(m, 1)
~torch.linalg.matrix_rank(m)
~torch.linalg.householder_product(m, w)
~torch.linalg.eigvals(spd).real.sort()[0]
~torch.linalg.eig(spd)[0].real.sort()[0]
""",
    "fourier": _lines(
        "fft ifft rfft irfft hfft ihfft",
        "torch.fft.NAME(a)",
        "torch.fft.NAME(a, n=6, dim=0, norm='ortho')",
        "torch.fft.NAME(a, 3)",
        "~torch.fft.NAME(i)",
        "torch.fft.NAME(x, norm='forward')",
    )
    + _lines(
        "fft2 ifft2 rfft2 irfft2 hfft2 ihfft2 fftn ifftn rfftn irfftn hfftn ihfftn",
        "torch.fft.NAME(x)",
        "torch.fft.NAME(x, norm='ortho')",
        "torch.fft.NAME(x, s=(4, 6), dim=(0, 1))",
        "torch.fft.NAME(x, (2, 6), (-1, 0), 'forward')",
        "~torch.fft.NAME(i)",
    )
    + """
torch.fft.fft(c)
torch.fft.irfft(c)
torch.fft.irfft2(torch.fft.rfft2(a), s=a.shape)
torch.fft.irfft2(torch.fft.rfft2(x, norm='ortho') * 2, s=(3, 4), norm='ortho')
torch.fft.ifft(torch.fft.fft(c, dim=0), dim=0).real
torch.fft.fftshift(a)
torch.fft.fftshift(x, dim=(1, 2))
torch.fft.ifftshift(x, dim=-1)
torch.fft.fftfreq(5)
torch.fft.fftfreq(6, d=0.5, dtype=torch.float64)
torch.fft.rfftfreq(6)
torch.fft.rfftfreq(5, 2.0)
torch.stft(signal, 8, return_complex=True)
torch.stft(signal, 8, 4, window=window, return_complex=True)
signal.stft(8, hop_length=2, win_length=8, window=window, center=False, return_complex=True)
torch.stft(signal[0], 8, normalized=True, pad_mode='constant', return_complex=True)
torch.stft(signal, 16, 4, 8, window, return_complex=True, onesided=False)
torch.view_as_real(torch.stft(signal, 8, pad_mode='replicate', return_complex=True))
torch.istft(torch.stft(signal, 8, 2, window=window, return_complex=True), 8, 2, window=window)
torch.istft(torch.stft(signal, 8, 4, return_complex=True), 8, 4, length=14)
torch.stft(signal, 8, window=window, normalized=True, return_complex=True).istft(8, window=window, normalized=True)
torch.istft(torch.fft.fft(x.transpose(1, 2), dim=1), 4, 1, onesided=False)
torch.hann_window(8)
torch.hann_window(7, periodic=False, dtype=torch.float64)
torch.hann_window(1)
torch.hamming_window(6)
torch.hamming_window(6, False, 0.5, 0.5)
torch.blackman_window(6)
torch.bartlett_window(6)
torch.bartlett_window(5, False, dtype=torch.float64)
torch.kaiser_window(6)
torch.kaiser_window(5, False, 3.0, dtype=torch.float64)
""",
    "creation": """
torch.zeros(2, 3)
torch.zeros((2, 3))
torch.zeros([2])
torch.zeros(2, dtype=torch.int64)
torch.zeros(a.shape)
torch.zeros(*a.shape, dtype=torch.float64)
torch.zeros(size=(2, 1))
torch.zeros(3, dtype=None)
torch.zeros(())
torch.ones(2, 3, dtype=torch.bool)
torch.ones(4, requires_grad=False, device='cpu')
~torch.empty(0, 3)
torch.zeros_like(a)
torch.zeros_like(i)
torch.ones_like(a, dtype=torch.float32)
torch.ones_like(t)
torch.empty_like(e)
torch.full((2, 3), 1.5)
torch.full((2,), 3)
torch.full([2], True)
torch.full((2,), 2, dtype=torch.float64)
torch.full((), -inf)
torch.full_like(a, 2)
torch.full_like(i, 2, dtype=torch.float32)
torch.eye(3)
torch.eye(2, 3)
torch.eye(2, dtype=torch.float64)
torch.arange(5)
torch.arange(2, 6)
torch.arange(6, 0, -2)
torch.arange(0, 1, 0.1)
torch.arange(5.0)
torch.arange(3, dtype=torch.float32)
torch.arange(0, 8, 2, dtype=torch.float64)
torch.arange(end=4)
torch.arange(start=1, end=4, step=2)
torch.arange(1, 2.5, 0.5, dtype=torch.float64)
torch.arange(0, 8, 2).float() / 8
torch.arange(4, device='cpu')
~torch.range(1, 3)
~torch.range(0, 1, 0.25)
torch.linspace(0, 1, 5)
torch.linspace(-1, 1, 4, dtype=torch.float64)
torch.linspace(0, 10, steps=11)
torch.linspace(3, 3, 1)
torch.linspace(0, 9, 4, dtype=torch.int64)
torch.logspace(0, 2, 3)
torch.logspace(-1, 1, 5, base=2, dtype=torch.float64)
torch.tensor(1.5)
torch.tensor(2)
torch.tensor(True)
torch.tensor([1, 2])
torch.tensor([[1.0, 2], [3, 4]])
torch.tensor([])
torch.tensor(1j)
torch.tensor([1, 2], dtype=torch.float64)
torch.tensor((0.5, 1))
torch.tensor([0.5], device='cpu', requires_grad=False)
torch.as_tensor([1.0, 2.0])
torch.as_tensor(a)
torch.as_tensor(a, dtype=torch.float32)
torch.asarray([1, 2])
torch.scalar_tensor(2)
torch.scalar_tensor(2, dtype=torch.int64)
torch.from_numpy(a.detach().numpy())
torch.unravel_index(many, (2, 2))
torch.tril_indices(3, 4)
torch.tril_indices(3, 3, -1)
torch.triu_indices(3, 4, 1)
torch.triu_indices(row=3, col=3)
torch.tril_indices(2, 2, dtype=torch.int32)
torch.FloatTensor([1, 2])
torch.DoubleTensor([1, 2])
torch.LongTensor([1, 2])
torch.IntTensor([1, 2])
torch.BoolTensor([True, False])
torch.zeros_like(torch.FloatTensor(2, 3))
torch.zeros_like(torch.DoubleTensor(2, 3))
torch.zeros_like(torch.LongTensor(2, 3))
torch.zeros_like(torch.IntTensor(2, 3))
torch.zeros_like(torch.BoolTensor(2, 3))
torch.Tensor([1, 2])
torch.zeros_like(torch.Tensor(2, 3))
a.new_zeros(2, 3)
a.new_zeros((2,), dtype=torch.int64)
a.new_ones(b.shape)
f.new_full((2, 2), 3)
a.new_tensor([1, 2])
a.new_tensor(3, dtype=torch.int32)
e.new_empty(0, 2)
torch.fill(a, 2)
torch.complex(torch.ones(2), torch.zeros(2))
""",
    "conversions": """
a.clone() + 1
torch.clone(a)
a.contiguous()
a.detach() * b
torch.detach(a) * b
~torch.detach_copy(a)
~torch.alias_copy(a)
a.data * b
a.cpu()
a.float()
a.double()
a.half()
a.bfloat16().float()
half.int()
half.long()
i.short()
i.char()
half.abs().byte()
a.bool()
zeros.bool()
f.cfloat()
a.cdouble()
a.type(torch.float32)
i.type_as(a)
i.type_as(f)
a.to(torch.float32)
i.to(torch.float64)
a.to(dtype=torch.float32)
a.to('cpu')
a.to(device='cpu')
a.to('cpu', torch.float32)
a.to(device='cpu', dtype=torch.float32)
i.to(a)
f.to(a)
a.to(torch.float32, non_blocking=True)
t.float()
t.long()
t.int()
a.is_floating_point()
torch.is_floating_point(i)
torch.is_complex(c)
a.is_complex()
torch.is_tensor(a)
a.is_signed()
u8.is_signed()
a.is_same_size(b)
a.is_contiguous()
a.is_conj()
a.is_neg()
a.is_inference()
a.is_pinned()
a.is_cuda
a.is_sparse
a.is_cpu
a.is_quantized
a.is_nested
a.is_meta
a.is_mps
a.is_xla
a.is_xpu
a.is_ipu
a.is_mkldnn
a.is_mtia
a.is_vulkan
a.is_maia
a.is_sparse_csr
a.element_size()
f.itemsize
f.nbytes
f.dtype
torch.is_grad_enabled()
torch.is_inference_mode_enabled()
torch.is_autocast_enabled()
torch.is_autocast_enabled('cpu')
torch.is_anomaly_enabled()
torch.get_default_dtype()
torch.finfo(torch.float32).max
torch.finfo(f.dtype).eps
torch.iinfo(torch.int32).min
i.requires_grad_(False)
a.to_dense()
""",
    "in place": """
a.clone().add_(b)
a.clone().add_(b, alpha=2)
a.clone().sub_(1).mul_(b)
a.clone().div_(p)
a.clone().pow_(2)
i.clone().floor_divide_(2)
i.clone().add_(k)
f.clone().mul_(z)
f.clone().add_(a)
a.clone().clamp_(min=0)
a.clone().clamp_(-1, 1)
a.clone().relu_()
torch.relu_(a.clone())
a.clone().sigmoid_()
a.clone().tanh_()
a.clone().exp_()
p.clone().sqrt_()
a.clone().neg_()
a.clone().zero_()
torch.zero_(a.clone())
a.clone().fill_(2)
torch.fill_(a.clone(), 1.5)
i.clone().fill_(3)
a.clone().copy_(b)
a.clone().copy_(v)
f.clone().copy_(a)
a.clone().masked_fill_(t, 0)
i.clone().masked_fill_(t, 2)
a.clone().scatter_(1, along, 1.0)
a.clone().scatter_add_(1, along, b)
a.clone().index_add_(0, rows, b)
a.clone().index_fill_(1, cols, 0)
a.clone().index_put_((once,), v)
a.clone().index_copy_(0, once, b.narrow(0, 0, 2))
a.clone().unsqueeze_(1).squeeze_(1)
a.clone().transpose_(0, 1)
a.clone().t_()
a.clone().tril_()
a.clone().triu_(1)
a.clone().lerp_(b, 0.1)
a.clone().addcmul_(b, p, value=2)
a.clone().addcdiv_(b, p)
m.clone().fill_diagonal_(0)
a.clone().fill_diagonal_(2.5)
a.clone().gt_(0)
a.clone().eq_(b)
t.clone().logical_not_()
t.clone().logical_and_(r)
i.clone().bitwise_and_(3)
a.clone().round_()
a.clone().remainder_(0.7)
a.clone().cumsum_(1)
a.clone().nan_to_num_()
a.clone().detach_() * b
a.clone().renorm_(2, 0, 1.0)
torch.nn.functional.relu_(a.clone())
torch.nn.functional.elu_(a.clone())
""",
    "layers": """
torch.softmax(a, 1)
a.softmax(-1)
a.softmax(dim=0, dtype=torch.float32)
torch.special.softmax(a, 0)
torch.log_softmax(a, dim=1)
a.log_softmax(1)
torch.special.log_softmax(a, 1)
torch.nn.functional.softmax(a, dim=-1)
torch.nn.functional.relu(a.clone(), inplace=True)
torch.nn.functional.gelu(a)
torch.nn.functional.gelu(a, approximate='tanh')
torch.nn.functional.hardtanh(a, -0.5, 0.5)
torch.nn.functional.hardtanh(a, min_val=0.0, max_val=6.0)
torch.nn.functional.pad(a, (1, 2))
torch.nn.functional.pad(x, (1, 1), mode='reflect')
torch.nn.functional.pad(x, (2, 1), 'circular')
torch.nn.functional.pad(x, (1, 0), 'replicate')
torch.nn.functional.pad(a, (0, 1, 2, 0), 'constant', 1.5)
torch.nn.functional.one_hot(rows, 3)
torch.nn.functional.linear(a, q.t())
torch.nn.functional.normalize(a, dim=1)
torch.nn.functional.layer_norm(a, (4,))
torch.nn.functional.layer_norm(a, a.shape[1:], v, bias)
torch.nn.functional.interpolate(image, scale_factor=2)
torch.nn.functional.interpolate(image, size=(3, 3), mode='bilinear', align_corners=False)
torch.nn.functional.scaled_dot_product_attention(x, x, x)
torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
torch.nn.functional.scaled_dot_product_attention(x, x, x, None, 0.0, True)
torch.nn.functional.multi_head_attention_forward(\
 x, x, x, 4, 2, heads, None, None, None, False, 0.0, m4, bias, training=False)
torch.nn.functional.feature_alpha_dropout(image, 0.3)
torch.nn.functional.dropout1d(line, 0.3, False)
torch.nn.functional.dropout3d(cube, 0.3, training=False)
torch.feature_alpha_dropout(image, 0.3, False)
torch.batch_norm(image, v, bias, None, None, True, 0.1, 1e-5, False)
torch.layer_norm(a, (4,), v, bias, 1e-3)
torch.affine_grid_generator(x[:, :2, :3], [2, 1, 3, 3], False)
torch.max_pool1d_with_indices(line, 2)
~torch.nn.functional.fractional_max_pool2d(image, 2, 3, _random_samples=samples)
~torch.nn.functional.fractional_max_pool2d_with_indices(image, 2, 3, _random_samples=samples)
~torch.nn.functional.fractional_max_pool3d(cube, 2, 2, _random_samples=samples3)
~torch.nn.functional.fractional_max_pool3d_with_indices(cube, 2, 2, _random_samples=samples3)
torch.nn.functional.cross_entropy(a, rows)
torch.nn.functional.mse_loss(a, b, reduction='sum')
torch.prelu(a, v.narrow(0, 0, 1))
a.prelu(v)
a.hardshrink(0.3)
torch.hardshrink(a)
torch.celu(a)
torch.selu(a)
torch.threshold(a, 0.1, 2.0)
torch.conv2d(image, kernel, padding=1, groups=2)
torch.conv1d(line, kernel1, bias)
torch.conv3d(cube, kernel3, stride=2)
torch.conv_transpose1d(line, kernel1)
torch.conv_transpose2d(image, kernel, None, 2)
torch.conv_transpose3d(cube, kernel3)
torch.conv_tbc(line.permute(2, 0, 1).contiguous(), kernel1.permute(2, 1, 0).contiguous(), bias)
torch.layer_norm(a, (4,), v)
torch.rms_norm(a, (4,), v)
torch.group_norm(image, 2)
torch.embedding(a, rows)
torch.bilinear(a, b, y.narrow(2, 0, 4))
torch.adaptive_avg_pool1d(line, 3)
torch.adaptive_max_pool1d(line, 3)
torch.avg_pool1d(line, 2, 1)
torch.max_pool1d(line, 2)
torch.max_pool2d(image, 2, 1)
torch.max_pool3d(cube, 2)
torch.pixel_shuffle(image, 2)
torch.pixel_unshuffle(image, 2)
torch.channel_shuffle(image, 2)
~torch.native_channel_shuffle(image, 2)
torch.cosine_similarity(a, b)
torch.pairwise_distance(a, b)
torch.pdist(a)
torch.constant_pad_nd(a, (1, 1), 2.0)
torch.nn.functional.dropout(a, 0.5, False)
torch.nn.functional.dropout(a, training=False)
torch.dropout(a, 0.3, False)
torch.nn.functional.alpha_dropout(a, 0.3)
torch.nn.functional.dropout2d(image, 0.2, training=False)
torch.alpha_dropout(a, 0.3, False)
torch.nn.functional.rrelu(a)
~torch.nn.functional.batch_norm(image, bias, p.flatten().narrow(0, 0, 4), v, bias)
""",
}

# Calls that draw random numbers. Their distributions are compared.
DRAWN = {
    "random": """
torch.rand(40, 50)
torch.rand((2000,), dtype=torch.float64)
torch.randn(2000)
torch.randn(*a.shape, 200, dtype=torch.float64)
torch.rand_like(many_values)
torch.randn_like(many_values, dtype=torch.float32)
torch.randint(7, (2000,))
torch.randint(-3, 4, (40, 50))
torch.randint(low=2, high=5, size=(2000,), dtype=torch.int32)
torch.randint_like(many_values, 5)
torch.randint_like(many_values, -5, 5)
torch.randperm(2000)
torch.bernoulli(many_values)
many_values.bernoulli()
torch.bernoulli(many_values, 0.3)
many_values.bernoulli(0.3)
many_values.clone().bernoulli_(0.3)
many_values.clone().bernoulli_()
torch.poisson(many_values * 9)
torch.binomial(torch.full_like(many_values, 9), many_values)
torch.multinomial(weights, 2000, replacement=True)
torch.multinomial(many_values, 1000)
weights.multinomial(2000, True)
torch.normal(1.0, 2.0, (2000,))
torch.normal(many_values, many_values + 1)
torch.normal(many_values)
torch.normal(many_values, 2.0)
torch.normal(2.0, many_values)
many_values.clone().normal_()
many_values.clone().normal_(3, 0.5)
many_values.clone().normal_(std=0.02)
many_values.clone().uniform_()
many_values.clone().uniform_(-1, 2)
many_values.clone().exponential_()
many_values.clone().exponential_(3)
many_values.clone().cauchy_()
many_values.clone().log_normal_(0, 0.3)
many_values.clone().geometric_(0.3)
many_values.clone().random_(0, 9)
many_values.clone().random_(5)
torch.nn.functional.dropout(many_values, 0.3)
torch.nn.functional.rrelu(many_values - 1, training=True)
torch.rrelu(many_values - 1, training=True)
torch.dropout(many_values, 0.3, True)
torch.nn.functional.gumbel_softmax(many_values.view(40, 50), hard=True)
"""
}

# Calls whose results are Python objects, which compiled programs do not have.
EAGER = """
z.item()
i.tolist()
a.sum().item() + 1
torch.is_nonzero(k)
zeros.any().item()
torch.nn.functional.one_hot(rows)
a.max(1).indices.tolist()
"""
