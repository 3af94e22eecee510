"""The form of an expression, up to commuting, regrouping, expanding and the names of bound variables.

It decides whether a derivation's last line is the demanded result and whether a line says anything new.
"""

import ast
import hashlib
import math
import re
from collections.abc import Mapping
from fractions import Fraction

MOST_TERMS = 500           # of an expanded product
LONGEST_ATOM = 2000        # characters of what is not arithmetic: longer ones are named by their digest

Terms = dict[tuple, Fraction]      # a sum: product of (atom, exponent) pairs → coefficient


def normal_form(tree: ast.expr) -> tuple:
    """A key that two expressions share if they are the same up to the rules of brackets and order.

    Sums and products are flattened, expanded and sorted, constants collected, constant factors taken out of
    sums over an index, and bound names renamed. No other rule is applied: not even a common denominator.
    """
    return _key(_terms(tree, {}))


def _key(terms: Terms) -> tuple:
    return tuple(sorted(((product, value) for product, value in terms.items() if value), key=repr))


def _atom(*parts: object) -> Terms:
    text = repr(parts)
    if len(text) > LONGEST_ATOM:      # a digest in its place, with the bound names that it holds
        parts = (hashlib.sha256(text.encode()).hexdigest(), *sorted(set(re.findall(r"bound \d+", text))))
    return {((parts, 1),): Fraction(1)}


def _terms(node: ast.expr, bound: Mapping[str, str]) -> Terms:
    match node:
        case ast.Constant(value=int() | float() as value) if math.isfinite(value):
            return {(): Fraction(value)}
        case ast.Name(id=name):
            return _atom("name", bound.get(name, name))
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return _product({(): Fraction(-1)}, _terms(inner, bound))
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _terms(inner, bound)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            sign = 1 if isinstance(op, ast.Add) else -1
            return _plus(_terms(left, bound), _product({(): Fraction(sign)}, _terms(right, bound)))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _product(_terms(left, bound), _terms(right, bound))
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _product(_terms(left, bound), _inverse(_terms(right, bound)))
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() as power)) if 0 <= power <= 4:
            return _power(_terms(left, bound), power)
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.UnaryOp(ast.USub(), ast.Constant(value=1))):
            return _inverse(_terms(left, bound))
        case ast.Call(func=ast.Name(id="sum"), args=[ast.GeneratorExp() | ast.ListComp() as inner]):
            return _sum_terms(inner, bound)
    return _atom(*_structure(node, bound))


def _structure(node: object, bound: Mapping[str, str]) -> tuple:
    """Everything that is not arithmetic: its kind and its parts' normal forms."""
    if isinstance(node, (ast.GeneratorExp, ast.ListComp)):
        over, inner = _renamed(node, bound)
        return ("over", over, _key(_terms(node.elt, inner)))
    if isinstance(node, ast.Call):
        return ("call", node.func.id, *(_key(_terms(part, bound)) for part in node.args))
    return (type(node).__name__, *(_part(value, bound) for _, value in ast.iter_fields(node)))


def _part(value: object, bound: Mapping[str, str]) -> object:
    if isinstance(value, list):
        return tuple(_part(one, bound) for one in value)
    if isinstance(value, ast.expr):
        return _key(_terms(value, bound))
    return type(value).__name__ if isinstance(value, ast.AST) else repr(value)


def _renamed(node: ast.GeneratorExp | ast.ListComp, bound: Mapping[str, str]) -> tuple[tuple, dict[str, str]]:
    inner, over = dict(bound), []
    for generator in node.generators:
        source = _key(_terms(generator.iter, inner))
        for name in (part.id for part in ast.walk(generator.target) if isinstance(part, ast.Name)):
            inner[name] = f"bound {len(inner)}"
        over.append((source, *sorted((_key(_terms(test, inner)) for test in generator.ifs), key=repr)))
    return tuple(over), inner


def _sum_terms(node: ast.GeneratorExp | ast.ListComp, bound: Mapping[str, str]) -> Terms:
    """A sum is linear: factors that do not hold the index stand in front of it."""
    over, inner = _renamed(node, bound)
    fresh = [name for key, name in inner.items() if bound.get(key) != name]
    total: Terms = {}
    for product, value in _terms(node.elt, inner).items():
        inside = tuple(pair for pair in product if any(repr(name) in repr(pair) for name in fresh))
        outside = tuple(pair for pair in product if pair not in inside)
        summed = _atom("sum", over, inside)
        total = _plus(total, _product({outside: value}, summed))
    return total


def _plus(a: Terms, b: Terms) -> Terms:
    return {product: a.get(product, Fraction(0)) + b.get(product, Fraction(0)) for product in a | b}


def _product(a: Terms, b: Terms) -> Terms:
    if len(a) * len(b) > MOST_TERMS:
        return _atom("product", *sorted((_key(a), _key(b)), key=repr))
    total: Terms = {}
    for first, x in a.items():
        for second, y in b.items():
            powers = dict(first)
            for atom, exponent in second:
                powers[atom] = powers.get(atom, 0) + exponent
            key = tuple(sorted(((atom, e) for atom, e in powers.items() if e), key=repr))
            total[key] = total.get(key, Fraction(0)) + x * y
    return {product: value for product, value in total.items() if value}


def _power(terms: Terms, power: int) -> Terms:
    result: Terms = {(): Fraction(1)}
    for _ in range(power):
        result = _product(result, terms)
    return result


def _inverse(terms: Terms) -> Terms:
    """One over a sum: a single product is turned over; a longer sum becomes one atom of a fixed scale."""
    ordered = _key(terms)
    if not ordered:
        return _atom("one over zero")
    product, value = ordered[0]
    if len(ordered) == 1:
        return {tuple((atom, -exponent) for atom, exponent in product): 1 / value}
    scaled = tuple((p, v / value) for p, v in ordered)
    return {product: 1 / value for product in _atom("one over", scaled)}
