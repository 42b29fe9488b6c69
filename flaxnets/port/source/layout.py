"""Format source: lines of at most 120 characters, broken at brackets as in ruff and black."""

import dataclasses
import io
import itertools
import tokenize
from collections.abc import Iterator, Sequence

WIDTH = 120
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_STRINGS = ("FSTRING_START", "TSTRING_START")
_STRING_ENDS = ("FSTRING_END", "TSTRING_END")


@dataclasses.dataclass
class Token:
    """A token, and whether a space precedes it."""

    text: str
    spaced: bool


@dataclasses.dataclass
class Bracket:
    """A pair of brackets with its content, and whether the content has a trailing comma."""

    opening: str
    spaced: bool
    nodes: list["Node"]
    has_comma: bool = False
    is_tuple: bool = False
    is_literal: bool = False  # whether it is a tuple, list, dict or set, and not arguments or an index

    @property
    def is_exploded(self) -> bool:
        """Whether a trailing comma requires one element per line."""
        single = len(list(_elements(self.nodes))) == 1
        return self.has_comma and not (single and (self.is_tuple or self.opening == "["))


Node = Token | Bracket


def laid_out(text: str) -> str:
    """Return the text with lines that fit. Statements with comments inside brackets are not changed.

    >>> print(laid_out("x = function(\\n    1,\\n  2\\n)\\n"), end="")
    x = function(1, 2)
    """
    lines = text.splitlines()
    out: list[str] = []
    done = 0
    for tokens in _logical_lines(text):
        first, last = tokens[0].start[0], tokens[-1].end[0]
        new = _formatted(tokens, lines[first - 1 : last])
        if new is None:
            continue
        out += lines[done : first - 1] + new
        done = last
    return "\n".join(out + lines[done:]) + "\n"


def _logical_lines(text: str) -> Iterator[list[tokenize.TokenInfo]]:
    current: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NEWLINE:
            if current:
                yield current
            current = []
        elif token.type == tokenize.COMMENT and not current:
            continue  # a separate comment line
        elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
            current.append(token)


def _formatted(tokens: list[tokenize.TokenInfo], lines: Sequence[str]) -> list[str] | None:
    """Return the new lines of one logical line; None if it stays unchanged."""
    if len(lines) == 1 and len(lines[0]) <= WIDTH:
        return None
    last = tokens[-1]
    if last.type == tokenize.COMMENT and last.start[1] > WIDTH:
        row = lines[-1][: last.start[1]].rstrip()
        new = _formatted(tokens[:-1], [*lines[:-1], row])
        return new and [*new[:-1], f"{new[-1]}  {last.string}"]
    if any(t.type == tokenize.COMMENT or ("\n" in t.string and t.start[0] != t.end[0]) for t in tokens):
        return None
    if any(line.endswith("\\") for line in lines):
        return None
    indent = len(lines[0]) - len(lines[0].lstrip())
    nodes, _ = _tree(_spaced(tokens, lines), 0)
    new = _statement(nodes, indent)
    return new if max(map(len, new)) <= max(WIDTH, *map(len, lines)) else None


def _spaced(tokens: Sequence[tokenize.TokenInfo], lines: Sequence[str]) -> list[Token]:
    first = tokens[0].start[0]
    spaced_tokens: list[Token] = []
    previous, depth, start = None, 0, tokens[0]
    for token in tokens:
        name = tokenize.tok_name[token.type]
        if name in _STRINGS:
            depth, start = depth + 1, token if depth == 0 else start
        if name in _STRING_ENDS:
            depth -= 1
            if depth == 0:
                row = lines[start.start[0] - first]
                spaced_tokens.append(
                    Token(row[start.start[1] : token.end[1]], _is_spaced(previous, start, spaced_tokens))
                )
                previous = token
            continue
        if depth:
            continue
        spaced_tokens.append(Token(token.string, _is_spaced(previous, token, spaced_tokens)))
        previous = token
    return spaced_tokens


def _is_spaced(previous: tokenize.TokenInfo | None, token: tokenize.TokenInfo, spaced_tokens: Sequence[Token]) -> bool:
    if previous is None:
        return False
    if spaced_tokens[-1].text == ",":
        return True
    if previous.end[0] == token.start[0]:
        return token.start[1] > previous.end[1]
    return spaced_tokens[-1].text not in _CLOSING and token.string not in (")", "]", "}", ",", ".", ":")


def _tree(tokens: Sequence[Token], start: int) -> tuple[list[Node], int]:
    nodes: list[Node] = []
    i = start
    while i < len(tokens):
        token = tokens[i]
        if token.text in _CLOSING:
            before = nodes[-1] if nodes else None
            follows = isinstance(before, Bracket) or (before is not None and before.text.isidentifier())
            is_call = follows and not token.spaced
            inside, i = _tree(tokens, i + 1)
            has_comma = bool(inside) and _text(inside[-1]) == ","
            inside = inside[:-1] if has_comma else inside
            bracket = Bracket(
                token.text, token.spaced, inside, has_comma, token.text == "(" and not is_call, not is_call
            )
            if inside:
                inside[0].spaced = False
            nodes.append(bracket)
        elif token.text in _CLOSING.values():
            return nodes, i
        else:
            nodes.append(token)
        i += 1
    return nodes, i


def _text(node: Node) -> str:
    return node.text if isinstance(node, Token) else ""


def _flat(nodes: Sequence[Node]) -> str:
    return "".join((" " if node.spaced else "") + _flat_node(node) for node in nodes).lstrip()


def _flat_node(node: Node) -> str:
    if isinstance(node, Token):
        return node.text
    single = node.has_comma and not node.is_exploded
    return node.opening + _flat(node.nodes) + ("," if single else "") + _CLOSING[node.opening]


def _is_exploded(nodes: Sequence[Node]) -> bool:
    return any(isinstance(n, Bracket) and (n.is_exploded or _is_exploded(n.nodes)) for n in nodes)


def _fits(nodes: Sequence[Node], indent: int, extra: int = 0) -> bool:
    return not _is_exploded(nodes) and indent + len(_flat(nodes)) + extra <= WIDTH


def _elements(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    for is_comma, group in itertools.groupby(nodes, lambda node: _text(node) == ","):
        if not is_comma:
            yield list(group)


def _statement(nodes: list[Node], indent: int) -> list[str]:
    pad = " " * indent
    if _fits(nodes, indent):
        return [pad + _flat(nodes)]
    words = [_text(node) for node in nodes[:2]]
    if "def" in words or "class" in words:
        position = next((i for i, node in enumerate(nodes) if isinstance(node, Bracket)), None)
        return [pad + _flat(nodes)] if position is None else _split(nodes, position, indent)
    begin = _expression_start(nodes)
    if begin and _needs_parentheses(nodes[begin:]):
        end = len(nodes) - 1 if _text(nodes[-1]) == ":" else len(nodes)
        inner = list(nodes[begin:end])
        inner[0].spaced = False
        is_tuple = any(_text(node) == "," for node in inner)
        nodes = [*nodes[:begin], Bracket("(", True, inner, has_comma=is_tuple), *nodes[end:]]
        return _split(nodes, begin, indent)
    return _at_last_bracket(nodes, indent)


def _expression_start(nodes: Sequence[Node]) -> int:
    """Return the index where the expression of a return, an assignment or a test begins; 0 if there is none."""
    first = _text(nodes[0])
    if first in ("return", "if", "while", "elif", "assert"):
        return 1
    equals = [i for i, node in enumerate(nodes) if _text(node) in ("=", "+=", "-=", "*=", "/=")]
    return equals[-1] + 1 if equals else 0


def _needs_parentheses(nodes: Sequence[Node]) -> bool:
    """Whether black encloses an expression that is too long in parentheses."""
    if any(_text(node) == "," for node in nodes):
        return True
    if not isinstance(nodes[-1], Bracket) and not (_text(nodes[-1]) == ":" and isinstance(nodes[-2], Bracket)):
        return len(nodes) > 1
    level = _level(nodes)
    if _is_chain(nodes):
        return True
    if level is None or level == 0:
        return False
    return len(_delimited(nodes, level)) > 2 or level >= len(_OPERATORS) - 4 or not _last_is_long(nodes)


def _is_chain(nodes: Sequence[Node]) -> bool:
    """Whether an operand is a chain of calls and indices, which is split into one line per link if it is too long."""
    links = [i for i, node in enumerate(nodes) if i and _text(node) == "." and isinstance(nodes[i - 1], Bracket)]
    return len(links) > 1 and not any(node.spaced for node in nodes[1:])


def _links(nodes: Sequence[Node]) -> list[list[Node]]:
    parts: list[list[Node]] = [[]]
    for node in nodes:
        if _text(node) == "." and parts[-1] and isinstance(parts[-1][-1], Bracket):
            parts.append([])
        parts[-1].append(node)
    return parts


def _last_is_long(nodes: Sequence[Node]) -> bool:
    last = nodes[-1] if isinstance(nodes[-1], Bracket) else nodes[-2]
    return isinstance(last, Bracket) and bool(last.nodes)


_OPERATORS: tuple[tuple[str, ...], ...] = (
    (), ("**",), ("*", "/", "//", "%", "@"), ("+", "-"), ("<<", ">>"), ("&",), ("^",), ("|",),
    ("<", ">", "==", "!=", "<=", ">=", "in", "not", "is"), ("and", "or"), ("if", "else"),
)  # fmt: skip


def _level(nodes: Sequence[Node]) -> int | None:
    """Return the index of the operators with the lowest precedence among the nodes; None without operators."""
    levels = [
        i for i, words in enumerate(_OPERATORS) for j, n in enumerate(nodes) if j and _text(n) in words and n.spaced
    ]
    return max(levels, default=None)


def _delimited(nodes: Sequence[Node], level: int) -> list[list[Node]]:
    parts: list[list[Node]] = [[]]
    for node in nodes:
        if parts[-1] and _text(node) in _OPERATORS[level] and node.spaced:
            is_second = _text(parts[-1][-1]) in ("is", "not") and _text(node) in ("not", "in")
            if not is_second:
                parts.append([])
        parts[-1].append(node)
    return parts


def _at_last_bracket(nodes: list[Node], indent: int) -> list[str]:
    pad = " " * indent
    positions = [i for i, node in enumerate(nodes) if isinstance(node, Bracket) and node.nodes]
    exploded = [i for i in positions if _is_exploded([nodes[i]])]
    for position in reversed(exploded or positions):
        head = indent + len(_flat(nodes[:position])) + 1
        if head <= WIDTH and not _is_exploded(nodes[:position]):
            return _split(nodes, position, indent)
    return _split(nodes, positions[-1], indent) if positions else [pad + _flat(nodes)]


def _split(nodes: list[Node], position: int, indent: int) -> list[str]:
    """Return the lines of a statement that is split at one of its brackets."""
    pad, bracket, tail = " " * indent, nodes[position], nodes[position + 1 :]
    assert isinstance(bracket, Bracket)
    is_def = any(_text(node) == "def" for node in nodes[:2])
    opening = (" " if bracket.spaced else "") + bracket.opening
    head = _flat(nodes[:position]) + (opening if position else opening.lstrip())
    body = _body(bracket, indent + 4, is_def)
    closing = _CLOSING[bracket.opening] + "".join((" " if n.spaced else "") + _flat_node(n) for n in tail)
    last = [pad + closing]
    if len(last[0]) > WIDTH or _is_exploded(tail):
        rest: list[Node] = [Token(_CLOSING[bracket.opening], False), *tail]
        last = _at_last_bracket(rest, indent)
    return [pad + head, *body, *last]


def _body(bracket: Bracket, indent: int, is_def: bool) -> list[str]:
    """Return the lines inside a pair of brackets."""
    nodes, pad = bracket.nodes, " " * indent
    loops = [i for i, node in enumerate(nodes) if _text(node) in ("for", "async") and i]
    is_collection = bracket.is_literal and not loops and any(_text(node) == "," for node in nodes)
    if not bracket.is_exploded and not is_collection and _fits(nodes, indent):
        comma = "," if is_def and len(list(_elements(nodes))) == 1 else ""
        return [pad + _flat(nodes) + comma]
    if loops and not any(_text(node) == "," for node in nodes[: loops[0]]):
        return _comprehension(nodes, loops[0], indent)
    elements = list(_elements(nodes))
    if len(elements) == 1 and not bracket.has_comma:
        return _operators(elements[0], indent)
    lines: list[str] = []
    for element in elements:
        new = _element(element, indent)
        new[-1] += "," if not _is_bare_generator(element) else ""
        lines += new
    return lines


def _is_bare_generator(element: Sequence[Node]) -> bool:
    return any(_text(node) == "for" for node in element)


def _comprehension(nodes: list[Node], start: int, indent: int) -> list[str]:
    parts: list[list[Node]] = [nodes[:start]]
    for node in nodes[start:]:
        if _text(node) in ("for", "if", "async") and _text(parts[-1][-1]) != "async":
            parts.append([])
        parts[-1].append(node)
    return [line for part in parts for line in _element(part, indent)]


def _element(nodes: list[Node], indent: int) -> list[str]:
    nodes[0].spaced = False
    if _fits(nodes, indent, 1):
        return [" " * indent + _flat(nodes)]
    if _is_chain(nodes):
        return [line for link in _links(nodes) for line in _element(link, indent)]
    if any(isinstance(node, Bracket) and node.nodes for node in nodes) and (_level(nodes) or 0) < len(_OPERATORS) - 2:
        return _at_last_bracket(nodes, indent)
    return _operators(nodes, indent)


def _operators(nodes: list[Node], indent: int) -> list[str]:
    """Return one line per operand if there are operators; else split at the last bracket."""
    nodes[0].spaced = False
    level = _level(nodes)
    if _is_chain(nodes):
        return _element(nodes, indent)
    if not level or any(_text(node) in ("lambda", ":") for node in nodes):
        return _at_last_bracket(nodes, indent) if not _fits(nodes, indent) else [" " * indent + _flat(nodes)]
    if _fits(nodes, indent):
        return [" " * indent + _flat(nodes)]
    return [line for part in _delimited(nodes, level) for line in _operand(part, indent)]


def _operand(nodes: list[Node], indent: int) -> list[str]:
    """Return the lines of an operand with its operator. Operators with higher precedence begin new lines, too."""
    nodes[0].spaced = False
    level = _level(nodes)
    if not level or _fits(nodes, indent) or any(_text(node) in ("lambda", ":") for node in nodes):
        return _element(nodes, indent)
    return [line for part in _delimited(nodes, level) for line in _operand(part, indent)]
