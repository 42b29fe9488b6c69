"""Measure the likeness of two layer names, since torch and Flax models may name the same layer differently."""

import functools
import re

# Words with the same meaning: one line for each meaning.
_SYNONYMS = (
    ("query", "q", "wq"),
    ("key", "k", "wk"),
    ("value", "v", "wv"),
    ("out", "o", "wo", "proj", "projection", "output"),
    ("attention", "attn", "att", "mha", "multihead"),
    ("cross", "crossattn", "encdec", "xattn"),
    ("dense", "linear", "lin", "fc", "fully", "dense"),
    ("norm", "ln", "bn", "gn", "layernorm", "batchnorm", "groupnorm", "rmsnorm", "normalization", "normalisation"),
    ("shortcut", "downsample", "skip", "identity", "residual", "res", "id", "sc"),
    ("embedding", "embed", "emb", "embeddings", "wte", "wpe"),
    ("token", "tok", "tokens", "word", "words", "wte", "vocab"),
    ("position", "pos", "positional", "positions", "wpe", "pe"),
    ("head", "classifier", "logits", "lm"),
    ("encoder", "enc", "encode", "encoding"),
    ("decoder", "dec", "decode", "decoding"),
    ("mlp", "ffn", "ff", "feedforward", "mlps"),
    ("conv", "convolution", "cnn"),
    ("depthwise", "dw", "dwconv"),
    ("pointwise", "pw", "pwconv"),
    ("stem", "patch", "patchify"),
    ("transpose", "transposed", "deconv", "convt"),
    ("forward", "fwd", "fw"),
    ("backward", "bwd", "bw", "reverse", "back"),
    ("class", "cls"),
    ("source", "src"),
    ("target", "tgt", "trg"),
    ("final", "last", "end"),
    ("hidden", "hh", "h2h", "recurrent"),
    ("input", "ih", "x2h", "in"),
    ("bottleneck", "mid", "middle", "bridge"),
    ("expand", "expansion"),
    ("reduce", "reduction", "squeeze"),
    ("weight", "kernel", "w"),
    ("bias", "b"),
    ("mean", "mu"),
    ("variance", "var", "sigma", "logvar", "std", "logstd"),
    ("advantage", "adv"),
    ("policy", "actor", "pi"),
    ("critic", "vf"),
    ("up", "upsample", "upsampling"),
    ("down", "downsampling"),
    ("layer", "block", "stage", "blocks", "layers", "stages", "module", "modules", "h"),
    ("first", "one"),
    ("second", "two"),
)
_MEANINGS: dict[str, frozenset[str]] = {
    "qkv": frozenset({"query", "key", "value"}),
    "kv": frozenset({"key", "value"}),
}
for _line in _SYNONYMS:
    for _word in _line:
        _MEANINGS[_word] = _MEANINGS.get(_word, frozenset()) | {_line[0]}
# Words that occur in most paths and do not distinguish layers.
_EMPTY = {"layer", "the", "net", "model", "modulelist", "sequential", "self", "instance"}
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


@functools.lru_cache(maxsize=65536)
def words(name: str) -> tuple[str, ...]:
    """Return the words and numbers of a name, in lower case.

    >>> words("encoder.layers_0.selfAttn.q_proj1")
    ('encoder', 'layers', '0', 'self', 'attn', 'q', 'proj', '1')
    """
    return tuple(word.lower() for word in _WORD.findall(name.replace("x2h", "xh")))


@functools.lru_cache(maxsize=65536)
def normalised(name: str) -> str:
    """Return a name without differences of style: case, separators, brackets, plural s and common synonyms.

    >>> normalised("blocks[0].attn.q") == normalised("layers_0.Attention.query")
    True
    """
    meanings = (_meanings(word) for word in words(name))
    return " ".join("/".join(sorted(meaning)) for meaning in meanings if meaning != {"layer"})


@functools.lru_cache(maxsize=65536)
def _meanings(word: str) -> frozenset[str]:
    if word in _MEANINGS:
        return _MEANINGS[word]
    singular = word.removesuffix("s") if len(word) > 3 else word
    return _MEANINGS.get(singular, frozenset({singular}))


@functools.lru_cache(maxsize=65536)
def _split(name: str) -> tuple[frozenset[str], frozenset[str], tuple[str, ...]]:
    """Return the meanings in the last part of a path, the meanings in the other parts, and all numbers."""
    *front, last = name.split(".")
    while front and last.isdigit():
        last = front.pop()
    inner = {meaning for word in words(last) if not word.isdigit() for meaning in _meanings(word)}
    outer = {meaning for part in front for word in words(part) if not word.isdigit() for meaning in _meanings(word)}
    numbers = tuple(word for word in words(name) if word.isdigit())
    return frozenset(inner - _EMPTY), frozenset(outer - _EMPTY), numbers


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / min(len(a), len(b)) * (0.8 + 0.2 * (len(a) == len(b))) if a and b else 0.0


def likeness(a: str, b: str) -> float:
    """Return how similar the words of two paths are, from 0 to 1. Numbers do not count.

    >>> likeness("attn.q_proj", "attention.query") > likeness("attn.q_proj", "attention.key")
    True
    """
    (inner_a, outer_a, _), (inner_b, outer_b, _) = _split(a), _split(b)
    # A word before the last part may belong to the last part on the other side: "down.0" and "down_conv".
    crossed = max(_overlap(inner_a, outer_b), _overlap(outer_a, inner_b)) / 2
    return 0.6 * max(_overlap(inner_a, inner_b), crossed) + 0.4 * _overlap(outer_a | inner_a, outer_b | inner_b)


def numbered_alike(a: str, b: str, x: str, y: str) -> bool:
    """Return whether the numbers in two names are in the same order as the numbers in two names of the other side.

    >>> numbered_alike("head1", "head2", "heads.0", "heads.1"), numbered_alike("a", "b", "heads.0", "heads.1")
    (True, False)
    """
    numbers = [tuple(map(int, _split(name)[2])) for name in (a, b, x, y)]
    return (
        all(numbers)
        and (numbers[0] < numbers[1]) == (numbers[2] < numbers[3])
        and numbers[0] != numbers[1]
        and numbers[2] != numbers[3]
    )


def same_numbers(a: str, b: str) -> bool:
    """Return whether two paths contain the same numbers.

    >>> same_numbers("layers.0.fc2", "block_0.dense2"), same_numbers("fc1", "fc2")
    (True, False)
    """
    return _split(a)[2] == _split(b)[2]
