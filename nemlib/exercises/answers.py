"""Running what a reader wrote, so that whatever it does is answered by a sentence.

The time limit: on Linux and macOS, in the main thread (where a notebook runs its cells), an interval timer
raises inside the reader's function; a bare `except:` that swallows it meets the next ring. In other threads
and on Windows the function runs in a worker thread into which the exception is thrown. Neither can stop one
single long call into C code: there the timer waits for its end, and the worker is left behind as a daemon.
"""

import contextlib
import copy
import ctypes
import inspect
import io
import linecache
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

RING_AGAIN = 0.25      # seconds until the timer rings again where the reader's code swallowed it
LAST_RINGS = 8         # how often a worker thread is asked to stop
SHOWN = 20             # values of a list
KEPT_OUTPUT = 2000     # characters of the reader's printing that are kept


ADVICE = (
    (IndexError, "", " An index runs beyond the end: what does your code do in a case as small as this one?"),
    (RuntimeError, "dtype", " The arguments are float64: make your own tensors with `dtype=torch.float64`."),
    (RuntimeError, "size", " Write the shapes of both operands beside that line."),
    (RuntimeError, "shape", " Write the shapes of both operands beside that line."),
    ((TypeError, ValueError, RuntimeError), "converted to Python scalars",
     " The functions of `math` take one number; those of `torch` take a whole tensor."),
    ((TypeError, ValueError, RuntimeError), "cannot be converted to Scalar",
     " The functions of `math` take one number; those of `torch` take a whole tensor."),
    (TypeError, "must be Tensor, not",
     " The functions of `torch` take tensors: `torch.as_tensor(…)` makes one of a number."),
    (ZeroDivisionError, "", " Which quantity can be zero in this case?"),
    (NameError, "", " Run the cell that defines or imports it, or look for a slip in the spelling."),
    (RecursionError, "", " The function calls itself without end."),
    (SystemExit, "", " `exit` and `quit` end a program: use `return`."),
)


class Refusal(Exception):
    """Why an answer cannot be judged, as a sentence for the reader."""

    def __init__(self, message: str, facts: tuple[tuple[str, str], ...] = (), hint: str = ""):
        super().__init__(message)
        self.message, self.facts, self.hint = message, facts, hint


class OutOfTime(BaseException):
    """Raised in the reader's function at the time limit; no `except Exception` catches it."""


class _Sink(io.StringIO):
    """Keeps the first characters of what is printed, however much that is."""

    def write(self, text: str) -> int:
        if self.tell() < KEPT_OUTPUT:
            super().write(text[:KEPT_OUTPUT])
        return len(text)


@contextlib.contextmanager
def quietly() -> Iterator[io.StringIO]:
    """Catches what is printed and puts torch's global random state back afterwards."""
    sink = _Sink()
    with (contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink),
          torch.random.fork_rng(devices=[])):
        yield sink


def within(seconds: float, function: Callable, *args: object) -> object:
    """Calls function(*args); raises OutOfTime after `seconds`. Other timers that run are put back."""
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        return _within_alarm(seconds, function, args)
    return _within_thread(seconds, function, args)


def _within_alarm(seconds: float, function: Callable, args: Sequence) -> object:
    over = False

    def ring(signum: int, frame: types.FrameType | None) -> None:
        if not over:
            raise OutOfTime

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, RING_AGAIN)
    try:
        try:
            return function(*args)
        finally:
            over = True
    finally:      # twice: a ring may fall between the function's end and the flag
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        if remaining:
            signal.setitimer(signal.ITIMER_REAL, max(remaining - time.monotonic() + started, 1e-3), interval)


def _within_thread(seconds: float, function: Callable, args: Sequence) -> object:
    outcome = {}

    def work() -> None:
        try:
            outcome["value"] = function(*args)
        except BaseException as error:      # handed to the caller's thread below
            outcome["error"] = error

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(seconds)
    for _ in range(LAST_RINGS):
        if not worker.is_alive():
            break
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(OutOfTime))
        worker.join(RING_AGAIN)
    if "error" in outcome:
        raise outcome["error"]
    if "value" not in outcome:
        raise OutOfTime
    return outcome["value"]


def check_callable(answer: object, name: str, arguments: Sequence[str]) -> None:
    """Refuses what is no function of the arguments that the exercise passes."""
    call = f"`check.{name}({name})`"
    if answer is None or answer is Ellipsis:
        raise Refusal(f"There is no answer yet: {answer!r} came in place of your function. Write it, then "
                      f"call {call}.")
    if not callable(answer):
        kind = a_or_an(type(answer).__name__)
        raise Refusal(f"The check wants your function itself, and {kind} came: call {call}, without "
                      "calling your function first.")
    if _is_empty(answer):
        raise Refusal("This is still the stub: the function's body is empty. Replace it by your own lines.")
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):      # some built-in functions have none: the call itself will tell
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise Refusal(f"Your function must take {len(arguments)} argument{'s' * (len(arguments) != 1)}, "
                      f"({', '.join(arguments)}); yours is written {signature}.") from None


def call(function: Callable, arguments: dict[str, object], seconds: float) -> object:
    """The reader's function at copies of the arguments, refused if it raises, hangs or changes them."""
    given = copy.deepcopy(list(arguments.values()))
    where = show_case(arguments)
    try:
        value = within(seconds, function, *given)
    except OutOfTime:
        raise Refusal(f"Your function had not returned after {seconds:.2g} s: does a loop never end, "
                      "or run over far too much?", (("case", where),)) from None
    except NotImplementedError:
        raise Refusal("This is still the stub: it raises NotImplementedError. Replace that line by your own.",
                      ) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Refusal(describe_error(function, error), (("case", where),)) from error
    for (name, before), after in zip(arguments.items(), given):
        if not _unchanged(before, after):
            facts = (("case", where), (f"{name} afterwards", show(after)))
            hint = f"Start with `{name} = {name}.clone()`, or build a new tensor where you assign into it."
            raise Refusal(f"Your function changed its argument `{name}` in place: whoever called it now "
                          "holds other numbers. Work on a copy.", facts, hint)
    return value


def describe_error(function: Callable, error: BaseException) -> str:
    """An exception of the reader's code in a sentence, with the line that raised it."""
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    code = getattr(function, "__code__", None)
    frame, line = error.__traceback__, None
    while frame is not None:
        if code is not None and frame.tb_frame.f_code.co_filename == code.co_filename:
            line = frame.tb_lineno
        frame = frame.tb_next
    source = linecache.getline(code.co_filename, line).strip() if line else ""
    place = f" in line {line}, `{source}`" if source else ""
    advice = next((say for kind, word, say in ADVICE if isinstance(error, kind) and word in str(error)), "")
    return f"Your function stopped with an error{place}: {text.rstrip('.')}.{advice}"


def as_tensor(value: object, expected: torch.Tensor) -> torch.Tensor:
    """The reader's value as a float64 tensor, whatever it came as; refused with the reason."""
    _refuse_oddities(value)
    try:
        if isinstance(value, (list, tuple)):      # torch reads a list of 0-d tensors slowly
            parts = [part.detach() if isinstance(part, torch.Tensor) else part for part in value]
            value = np.array([np.asarray(part) for part in parts])
        tensor = torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise Refusal(f"The answer cannot be read as numbers of one shape: {_called(value)} came; "
                      f"expected {_kind(expected)}.") from None
    if tensor.is_complex():
        real = bool((tensor.imag.abs() < 1e-9).all())
        raise Refusal("The answer is complex, and a real number is expected."
                      + " Its imaginary part is zero here: return `.real`." * real)
    if tensor.dtype is torch.bool and expected.dtype is not torch.bool:
        raise Refusal("The answer is True or False, and numbers are expected: is an `==` or `<` left in it?")
    return tensor.to(torch.float64)


def _refuse_oddities(value: object) -> None:
    if value is None:
        raise Refusal("Your function gives back None: is its `return` missing?")
    if value is Ellipsis or value is NotImplemented:
        raise Refusal("The answer is still open: there is a `...` where a value should be.")
    if isinstance(value, (str, bytes)):
        raise Refusal(f"The answer is text, {value!r:.40}, and a number or tensor is expected.")
    if inspect.isgenerator(value) or isinstance(value, (map, filter, zip, range)):
        raise Refusal(f"The answer is {a_or_an(type(value).__name__)}, which holds no numbers yet: "
                      "make a tensor of it, `torch.tensor(list(…))`.")
    if callable(value) and not isinstance(value, torch.Tensor):
        name = getattr(value, "__name__", type(value).__name__)
        raise Refusal(f"The answer is the function `{name}`, not its value: are the brackets `()` missing?")


def a_or_an(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeioAEIO" else f"a {noun}"


def _called(value: object) -> str:
    for kind in (list, tuple, dict, set):
        if isinstance(value, kind):
            return f"a {kind.__name__} of {len(value)} parts"
    return a_or_an(type(value).__name__)


def _kind(expected: torch.Tensor) -> str:
    return "one number" if expected.dim() == 0 else f"a tensor of shape {tuple(expected.shape)}"


def shape_sentence(yours: torch.Tensor, expected: torch.Tensor) -> str:
    """What is wrong with a shape, and what may mend it."""
    text = f"Your answer has shape {tuple(yours.shape)}, and {_kind(expected)} is expected."
    if expected.dim() == 0 and yours.numel() == 1:
        return text + " Take the single number out with `.squeeze()` or `.item()`."
    if yours.dim() == 0:
        return text + " Is there a sum or mean too much, or a missing `dim=`?"
    if yours.numel() == expected.numel():
        return text + " The number of values is right: look at `reshape`, a transpose or a `keepdim`."
    if expected.dim() == 0:
        return text + " Is a sum or mean missing?"
    return text


def _is_empty(function: Callable) -> bool:
    """Whether a function's body is only `pass`, `...` or a docstring."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_code not in (_nothing.__code__.co_code, _documented.__code__.co_code):
        return False
    return all(constant in (None, ..., function.__doc__) for constant in code.co_consts)


def _nothing(): ...


def _documented():
    """A body that is a docstring only: another bytecode than an empty body's in some versions of Python."""


def _unchanged(before: object, after: object) -> bool:
    if isinstance(before, torch.Tensor):
        return before.shape == after.shape and torch.equal(before.nan_to_num(), after.nan_to_num())
    if isinstance(before, np.ndarray):
        return np.array_equal(before, after)
    return before == after


def show(value: object, digits: int = 4) -> str:
    """A value for people: whole numbers without a point, nested lists for tensors, long ones shortened."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        parts = [show(part, digits) for part in value[:SHOWN]]
        more = f", … {len(value) - SHOWN} more" if len(value) > SHOWN else ""
        return "[" + ", ".join(parts) + more + "]"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return str(value)


def show_case(arguments: dict[str, object]) -> str:
    return ", ".join(f"{name} = {show(value)}" for name, value in arguments.items()) or "(no arguments)"


def show_apart(yours: torch.Tensor, truth: torch.Tensor) -> tuple[str, str]:
    """Both values with as many digits as it takes to see that they differ."""
    for digits in (4, 6, 9, 12):
        pair = show(yours, digits), show(truth, digits)
        if pair[0] != pair[1]:
            break
    return pair
