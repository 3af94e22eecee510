"""Predict, then reveal: a short question before a key figure, answered in the page with no kernel.

In a cell of the notebook, right before the figure that shows the answer:

    from nemlib.explore import predict
    predict(
        "With $r = 0.99$, how many sweeps is one independent draw worth?",
        choices=[("about 2", "Two moves make a sweep, but a move forgets only a little of where it began."),
                 ("about 10", "That is the answer for $r = 0.9$: the cost grows like $1/(1 - r^2)$."),
                 ("about 100", "$\\tau = (1 + r^2)/(1 - r^2)$ is 99.5 here.")],
        answer=2, name="gibbs-strong-correlation")

The explanation of a wrong choice says why it tempts.  The reader's browser remembers the choice under `name`,
which is therefore used once in the book; nothing is sent anywhere.  Without scripts the answer is folded.
Mathematics between dollars is typeset by the page, and written in plain letters where nothing typesets.
"""

import html
import re
import zlib
from collections.abc import Sequence

from nemlib.explore.figure import Figure

MATHS = re.compile(r"\$([^$]+)\$")
GREEK = ("alpha beta gamma delta epsilon varepsilon theta lambda mu nu pi rho sigma tau phi psi omega "
         "Gamma Delta Theta Lambda Sigma Phi Psi Omega").split()
SIGNS = {
    "approx": "≈", "propto": "∝", "cdot": "·", "times": "×", "pm": "±", "le": "≤", "leq": "≤", "ge": "≥",
    "geq": "≥", "ne": "≠", "neq": "≠", "ll": "≪", "gg": "≫", "to": "→", "infty": "∞", "sum": "Σ", "prod": "Π",
    "sqrt": "√", "mid": "|", "ldots": "…", "hat": "", "bar": "", "mathrm": "", "mathbb": "", "text": "",
    "left": "", "right": "", ",": " ", **dict(zip(GREEK, "αβγδεεθλμνπρστφψωΓΔΘΛΣΦΨΩ")),
}
RAISED = str.maketrans("0123456789+−int", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁱⁿᵗ")
LOWERED = str.maketrans("0123456789+−ijknt", "₀₁₂₃₄₅₆₇₈₉₊₋ᵢⱼₖₙₜ")


def predict(
    question: str, choices: Sequence[tuple[str, str]], answer: int, name: str, copy: int = 1
) -> Figure:
    """A question with choices; shown by a notebook as the last expression of a cell.

    question: plain text, with mathematics between dollars.  choices: two to six pairs (choice, explanation).
    answer: index of the right choice, from 0.  name: lower-case words joined by hyphens, once in the book.
    Raises ValueError where there is no such choice, a text is empty, or two choices are the same.
    """
    if not 2 <= len(choices) <= 6:
        raise ValueError(f"{len(choices)} choices came: a prediction has two to six.")
    if not (isinstance(answer, int) and 0 <= answer < len(choices)):
        raise ValueError(f"answer is {answer!r}: it should be the index of the right choice, "
                         f"0 to {len(choices) - 1}.")
    texts = [choice for choice, _ in choices]
    if not all(part.strip() for part in (question, *texts, *(why for _, why in choices))):
        raise ValueError("The question, every choice and every explanation need words.")
    if len(set(texts)) < len(texts):
        raise ValueError("Two choices are the same: give each its own text.")
    # a changed question forgets old answers
    fingerprint = zlib.crc32("\n".join([question, *texts]).encode())
    title = f"Predict: {plain(question)}"
    words = "\n".join([title, *(f"  {letter}) {plain(text)}" for letter, text in zip("abcdef", texts))])
    return Figure(
        name=f"predict-{name}", title=title, copy=copy, scripts=("prediction.js", "prediction.css"),
        data={"answer": answer, "key": f"nem-predict-{name}", "fingerprint": fingerprint},
        still=_still(question, choices, answer), words=words)


def _still(question: str, choices: Sequence[tuple[str, str]], answer: int) -> str:
    """The whole exchange without scripts; the script takes its texts from here, so that each stands once."""
    items = "".join(f'<li><span class="nx-text">{typeset(text)}</span></li>' for text, _ in choices)
    reasons = "".join(
        f'<li><b>{"Right" if i == answer else "Tempting"}: {typeset(text)}.</b> '
        f'<span class="nx-why">{typeset(why)}</span></li>' for i, (text, why) in enumerate(choices))
    return (f'<p><b>Predict.</b> <span class="nx-question">{typeset(question)}</span></p>'
            f'<ol type="a">{items}</ol>'
            f'<details><summary>Show the answer</summary><ol type="a">{reasons}</ol></details>')


def typeset(text: str) -> str:
    """Escaped HTML in which $…$ is marked for the page's typesetter, with plain letters kept beside it."""
    words, formulas = MATHS.split(text)[::2], MATHS.split(text)[1::2]
    marked = [f'<span class="math notranslate nohighlight" data-nx-plain="{html.escape(_letters(formula))}">'
              f"\\({html.escape(formula)}\\)</span>" for formula in formulas] + [""]
    return "".join(html.escape(word, quote=False) + formula for word, formula in zip(words, marked))


def plain(text: str) -> str:
    """The text as a terminal can show it: mathematics in plain letters."""
    return MATHS.sub(lambda match: _letters(match[1]), text)


def _letters(tex: str) -> str:
    r"""TeX in plain letters, for what a short question holds: r^{2t} becomes r²ᵗ, x_1 x₁, \tau τ."""
    tex = re.sub(r"\\t?frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)", tex)
    tex = re.sub(r"\\sqrt\{([^{}]{2,})\}", r"\\sqrt(\1)", tex)
    tex = re.sub(r"\\([a-zA-Z]+|,)", lambda match: SIGNS.get(match[1], match[1]), tex).replace("-", "−")
    for mark, letters, small in ((r"\^", "0-9int+−", RAISED), ("_", "0-9ijknt+−", LOWERED)):
        tex = re.sub(mark + rf"(?:\{{([{letters}]+)\}}|([{letters}]))",
                     lambda match, small=small: (match[1] or match[2]).translate(small), tex)
    tex = re.sub(r"\^\{([^{}]+)\}", r"^(\1)", tex)
    return re.sub(r"\s+", " ", tex.replace("{", "").replace("}", "")).strip()
