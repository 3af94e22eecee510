"""The small language of derivations: Python expressions over an exercise's named symbols.

    pi(x) * pi(y) / sum(pi(put(x, i, k)) for k in levels)      # the reason stands behind the hash

Numbers, names, + - * / **, brackets, comparisons, calls, subscripts, and sum, prod, max or min over
`… for k in levels if …`. Nothing else is read: no dots, no strings, no assignments. An expression is parsed
to a syntax tree and walked here; it never reaches Python's eval, so it can reach nothing but its symbols.
"""

import ast
import contextlib
import difflib
import functools
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nemlib.exercises.answers import Refusal, a_or_an

MOST_STEPS = 100_000       # of one evaluation
LONGEST = 20_000           # characters of a derivation
DEEPEST = 150              # operations inside operations
EXACT = 2**53              # beyond it a whole number becomes a float

TYPED = str.maketrans({
    "−": "-", "–": "-", "·": "*", "×": "*", "²": "**2", "³": "**3", "…": "...", "α": "alpha", "β": "beta",
    "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda_", "μ": "mu", "π": "pi",
    "ρ": "rho", "σ": "sigma", "Σ": "sum", "τ": "tau", "φ": "phi", "ψ": "psi", "\u00a0": " ",
})


def sigmoid(a: float) -> float:
    """1 / (1 + exp(−a)), for large |a| too."""
    return 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a))


def _power_of(a: float, b: float) -> float:
    """a ** b, whole where both are and the result is small: 9**9**9 must not fill the memory."""
    whole = isinstance(a, int) and isinstance(b, int) and 0 <= b < 64 and abs(a) <= EXACT ** (1 / max(b, 1))
    return a**b if whole else float(a) ** float(b)


FUNCTIONS = {"exp": math.exp, "log": math.log, "sqrt": math.sqrt, "abs": abs, "sigmoid": sigmoid,
             "tanh": math.tanh, "cosh": math.cosh, "sinh": math.sinh, "len": len, "range": range}
NUMERIC = tuple(FUNCTIONS[name] for name in FUNCTIONS if name not in ("len", "range"))
REDUCTIONS = {"sum": math.fsum, "prod": lambda values: math.prod(map(float, values)), "max": max, "min": min}
ARITHMETIC = {ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
              ast.Div: lambda a, b: a / b, ast.Pow: lambda a, b: _power_of(a, b)}
COMPARISONS = {ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b, ast.Lt: lambda a, b: a < b,
               ast.LtE: lambda a, b: a <= b, ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b}
ALLOWED = (ast.Constant, ast.Name, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp, ast.Call,
           ast.Subscript, ast.Tuple, ast.GeneratorExp, ast.ListComp, ast.comprehension, ast.expr_context,
           ast.UAdd, ast.USub, ast.Not, ast.And, ast.Or, *ARITHMETIC, *COMPARISONS)
ADVICE = {
    ast.BitXor: "`^` is no power here: write `**`", ast.BitOr: "`|` has no meaning here: write a comma",
    ast.Attribute: "a name with a dot is not read: use the exercise's own symbols",
    ast.Lambda: "`lambda` is Python's own word: use the exercise's name for this symbol",
    ast.Starred: "a star in front of an argument is not read",
    ast.Set: "braces are not read: use round brackets", ast.MatMult: "`@` is not read: write the sum out",
    ast.List: "square brackets are not read here: use round ones",
}


@dataclass(frozen=True)
class Line:
    """One line of a derivation: the expression as written, the reason behind its `#`, and its tree.

    problem says why it could not be read (then tree is None); blank tells that a `...` is left in it.
    """

    number: int
    text: str
    reason: str = ""
    tree: ast.expr | None = None
    problem: str = ""

    @property
    def blank(self) -> bool:
        nodes = ast.walk(self.tree) if self.tree is not None else ()
        return any(isinstance(node, ast.Constant) and node.value is ... for node in nodes)


def read_chain(answer: object) -> list[Line]:
    """A derivation as lines: from a list of strings, or from one string with a step a line."""
    if isinstance(answer, str):
        parts = split_chain(answer)
    elif isinstance(answer, (list, tuple)) and all(isinstance(part, str) or part is ... for part in answer):
        parts = [piece for part in answer for piece in split_chain("..." if part is ... else part)]
    else:
        kind = a_or_an(type(answer).__name__)
        raise Refusal(f"A derivation is written as text, one line a step, and {kind} "
                      'came: put it between triple quotes, `"""…"""`, or write a list of strings.')
    if not parts:
        raise Refusal("The derivation is empty: write its first line, the given left-hand side.")
    return [read_line(number, text, reason) for number, (text, reason) in enumerate(parts, 1)]


def split_chain(text: str) -> list[tuple[str, str]]:
    """Cuts at line ends and at single `=` outside brackets; returns (expression, reason behind the #)."""
    if len(text) > LONGEST:
        raise Refusal(f"The derivation has {len(text)} characters; at most {LONGEST} are read.")
    marked = any(line.lstrip().startswith("=") for line in text.splitlines())
    parts, depth = [["", ""]], 0
    for line in text.splitlines():
        code, _, reason = line.partition("#")
        if parts[-1][0].strip() and depth <= 0 and (not marked or code.lstrip().startswith("=")):
            parts.append(["", ""])      # else: the expression goes on from the line before
        for k, sign in enumerate(code):
            depth += (sign in "([{") - (sign in ")]}")
            alone = code[k + 1:k + 2] != "=" and code[max(k - 1, 0):k] not in ("=", "<", ">", "!")
            if sign == "=" and depth <= 0 and alone:
                if parts[-1][0].strip():
                    parts.append(["", ""])
            else:
                parts[-1][0] += sign
        parts[-1][0] += " "
        parts[-1][1] = " ".join(filter(None, [parts[-1][1], reason.strip()]))
    return [(" ".join(code.split()), reason) for code, reason in parts if code.strip()]


@functools.lru_cache(maxsize=4096)      # a misconception's formula is read again for each answer
def read_line(number: int, text: str, reason: str = "") -> Line:
    """Parses one expression; what cannot be read is kept as a sentence with its column."""
    source = text.translate(TYPED)
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return Line(number, text, reason, problem=_syntax_sentence(source, error))
    if _depth(tree) > DEEPEST:
        return Line(number, text, reason, problem="operations are nested too deeply: split the line.")
    for node in ast.walk(tree):
        advice = _objection(node)
        if advice:
            return Line(number, text, reason, problem=_at(node, source) + advice + ".")
    return Line(number, source, reason, tree)


def expression(text: str) -> ast.expr:
    """The tree of an author's expression; raises ValueError with the sentence that a reader would see."""
    line = read_line(1, text)
    if line.tree is None:
        raise ValueError(f"{text!r}: {line.problem}")
    return line.tree


def _depth(tree: ast.expr) -> int:
    depth, level = 0, [tree]
    while level:      # no recursion: the tree may be deeper than Python's stack
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _objection(node: ast.AST) -> str:
    if isinstance(node, ast.BinOp) and type(node.op) in ADVICE:      # here, because an operator has no column
        return ADVICE[type(node.op)]
    if type(node) in ADVICE:
        return ADVICE[type(node)]
    if not isinstance(node, ALLOWED):
        return f"{type(node).__name__} is not part of this language"
    if isinstance(node, ast.Constant) and type(node.value) not in (int, float, type(...)):
        return f"{node.value!r} is not a number"
    if isinstance(node, ast.Name) and node.id.startswith("_"):
        return "names that begin with an underscore are not read"
    if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
        return "a `*` is missing in front of a bracket"
    if isinstance(node, ast.Call) and node.keywords:
        return "arguments are given by position, without `name=`"
    if isinstance(node, ast.comprehension) and node.is_async:
        return "`async` is not read"
    return ""


def _syntax_sentence(source: str, error: Exception) -> str:
    column = getattr(error, "offset", None) or 1
    if source.count("(") != source.count(")"):
        missing = "a closing" if source.count("(") > source.count(")") else "an opening"
        return f"{missing} bracket is missing."
    if "decimal literal" in str(error) or _side_by_side(source):
        return f"column {column}: is a `*` missing between two factors?"
    return f"column {column}: it is not a complete expression."


def _side_by_side(source: str) -> bool:
    """Whether two names or numbers, or a bracket and a name, stand side by side with only a space between."""
    words = [word for word in source.replace(")", ") ").replace("(", " ( ").split()]
    spoken = {"for", "in", "if", "else", "and", "or", "not"}
    return any((a[-1].isalnum() or a[-1] == ")") and b[0].isalnum() and not {a, b} & spoken
               for a, b in zip(words, words[1:]))


def _at(node: ast.AST, source: str) -> str:
    if not hasattr(node, "col_offset"):
        return ""
    column = len(source.encode()[:node.col_offset].decode()) + 1
    piece = ast.get_source_segment(source, node) or ""
    return f"column {column}, `{piece[:40]}`: "


class Evaluation:
    """The value of one expression at one instance. Raises Refusal with a sentence where there is none."""

    def __init__(self, text: str, symbols: Mapping[str, object]):
        self.text, self.steps = text, 0
        self.symbols = {**FUNCTIONS, **symbols}

    def number(self, tree: ast.expr) -> float:
        return float(self._number(tree, self.symbols))

    def parts(self, tree: ast.expr) -> list[tuple[str, float]]:
        """The operands of an expression's last operation that are not bare numbers, with their values."""
        found = []
        for node in ast.iter_child_nodes(tree):
            bare = isinstance(node, (ast.Constant, ast.GeneratorExp, ast.ListComp))
            if isinstance(node, ast.expr) and not bare:
                with contextlib.suppress(Refusal):      # a function's name or a state: no number to show
                    found.append((ast.get_source_segment(self.text, node), self.number(node)))
        return found

    def _value(self, node: ast.expr, scope: Mapping[str, object]) -> object:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise self._refusal(node, "this takes too many steps: a shorter range will do")
        try:
            return getattr(self, f"_{type(node).__name__.lower()}")(node, scope)
        except ZeroDivisionError:
            raise self._refusal(node, "a division by zero") from None
        except OverflowError:
            raise self._refusal(node, "a number too large to hold") from None
        except RecursionError:
            raise self._refusal(node, "brackets nested too deeply") from None

    def _number(self, node: ast.expr, scope: Mapping[str, object]) -> float:
        value = self._value(node, scope)
        if isinstance(value, complex):
            raise self._refusal(node, "not a real number: a root of a negative one")
        if not isinstance(value, (int, float)):
            what = "a function: give it its brackets" if callable(value) else f"{value!r:.40}, not a number"
            raise self._refusal(node, f"this is {what}")
        return float(value) if abs(value) > EXACT else value

    def _constant(self, node, scope):
        return float(node.value) if abs(node.value) > EXACT else node.value

    def _name(self, node, scope):
        if node.id in scope:
            return scope[node.id]
        known = sorted(set(scope) | set(REDUCTIONS))
        close = difflib.get_close_matches(node.id, known, n=1)
        guess = f"did you mean `{close[0]}`" if close else f"this exercise knows {', '.join(known)}"
        raise self._refusal(node, f"there is no symbol of this name; {guess}" + "?" * bool(close))

    def _unaryop(self, node, scope):
        value = self._number(node.operand, scope)
        if isinstance(node.op, ast.Not):
            return not value
        return -value if isinstance(node.op, ast.USub) else value

    def _binop(self, node, scope):
        left, right = self._number(node.left, scope), self._number(node.right, scope)
        return ARITHMETIC[type(node.op)](left, right)

    def _compare(self, node, scope):
        values = [self._value(part, scope) for part in (node.left, *node.comparators)]
        try:
            return all(COMPARISONS[type(op)](a, b) for op, a, b in zip(node.ops, values, values[1:]))
        except TypeError:
            raise self._refusal(node, "these two cannot be compared") from None

    def _boolop(self, node, scope):
        every = all if isinstance(node.op, ast.And) else any
        return every(self._value(part, scope) for part in node.values)

    def _ifexp(self, node, scope):
        return self._value(node.body if self._value(node.test, scope) else node.orelse, scope)

    def _tuple(self, node, scope):
        return tuple(self._value(part, scope) for part in node.elts)

    def _subscript(self, node, scope):
        whole, index = self._value(node.value, scope), self._value(node.slice, scope)
        if not isinstance(whole, (tuple, list, range)):
            raise self._refusal(node.value, "this has no parts: square brackets take a coordinate of a state")
        if not isinstance(index, int) or not 0 <= index < len(whole):
            raise self._refusal(node, f"index {index!r:.20} is not one of 0 … {len(whole) - 1}")
        return whole[index]

    def _call(self, node, scope):
        name = node.func.id
        if name in REDUCTIONS and name not in scope:
            return self._reduce(node, scope)
        function = self._name(node.func, scope)
        if not callable(function):
            raise self._refusal(node, f"`{name}` is not a function: is a `*` missing behind it?")
        read = self._number if function in NUMERIC else self._value
        arguments = [read(part, scope) for part in node.args]
        _check_count(function, arguments, lambda sentence: self._refusal(node, sentence))
        try:
            return function(*arguments)
        except (ValueError, TypeError, KeyError, IndexError):
            raise self._refusal(node, f"it has no value for {', '.join(map(repr, arguments))}") from None

    def _reduce(self, node, scope):
        if len(node.args) == 1 and isinstance(node.args[0], (ast.GeneratorExp, ast.ListComp)):
            inner = node.args[0]
            values = [self._number(inner.elt, bound) for bound in self._bindings(inner.generators, scope)]
        elif node.func.id in ("max", "min") and len(node.args) > 1:
            values = [self._number(part, scope) for part in node.args]
        else:
            raise self._refusal(node, f"write `{node.func.id}(… for k in …)`")
        if not values and node.func.id in ("max", "min"):
            raise self._refusal(node, "there is nothing to choose from")
        total = REDUCTIONS[node.func.id](values)
        return int(total) if all(isinstance(v, int) for v in values) and abs(total) < EXACT else total

    def _generatorexp(self, node, scope):
        raise self._refusal(node, "`for` stands only inside the brackets of sum, prod, max or min")

    _listcomp = _generatorexp

    def _bindings(self, generators, scope) -> Iterator[dict]:
        """Every assignment of the bound names, in order, that passes the `if`s."""
        if not generators:
            yield scope
            return
        first = generators[0]
        items = self._value(first.iter, scope)
        if not isinstance(items, (tuple, list, range)):
            raise self._refusal(first.iter, "this is nothing to run over")
        for item in items:
            self.steps += 1
            bound = {**scope, **self._unpacked(first.target, item)}
            if all(self._value(test, bound) for test in first.ifs):
                yield from self._bindings(generators[1:], bound)

    def _unpacked(self, target, item) -> dict[str, object]:
        if isinstance(target, ast.Name):
            return {target.id: item}
        names = [part.id for part in getattr(target, "elts", []) if isinstance(part, ast.Name)]
        if not isinstance(item, tuple) or len(names) != len(item):
            raise self._refusal(target, "this does not fit what is run over")
        return dict(zip(names, item))

    def _refusal(self, node: ast.AST, sentence: str) -> Refusal:
        mark = "" if sentence.endswith("?") else "."
        return Refusal(_at(node, self.text) + sentence + mark)


@functools.lru_cache(maxsize=256)
def _signature(function) -> inspect.Signature:
    return inspect.signature(function)


def _check_count(function, arguments, refusal) -> None:
    try:
        _signature(function).bind(*arguments)
    except TypeError:
        wanted = len(_signature(function).parameters)
        raise refusal(f"it takes {wanted} argument{'s' * (wanted != 1)}, {len(arguments)} came") from None
    except ValueError:      # built-in functions without a signature: log, range
        return


def names_in(tree: ast.expr) -> frozenset[str]:
    """All names that an expression uses, called or not."""
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
