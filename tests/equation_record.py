"""The marker `equation`, the fixture `largest_error`, and the record that they leave: a plugin for pytest.

A test declares the numbered equations that it verifies and reports the largest error that it found:

    @pytest.mark.equation("eq-gibbs-invariance", how="enumeration")
    def test_a_sweep_leaves_the_law(largest_error):
        error = (pi @ sweep - pi).abs().max()
        largest_error(error)
        assert error < 1e-12

After the run, `results/equations.json` holds for each label the largest error over its tests, if all of them
passed; the book prints it beside the equation (book/_ext/verified.py). A failed test takes its label out.
"""

import json
import math
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "_ext"))

import verified  # noqa: E402

PROPERTY = "equation"     # what a test reports travels to the main process in its report's properties
SELECTIONS = ("keyword", "markexpr", "lf", "deselect", "maxfail")


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "equation(*labels, how): the numbered equations that the test verifies"
    )
    if not hasattr(config, "workerinput"):      # with xdist, reports of all workers reach the main process
        config.pluginmanager.register(Recorder(config), "equation-recorder")


def declared(item) -> list[str]:
    return [label for marker in item.iter_markers("equation") for label in marker.args]


@pytest.fixture
def largest_error(request):
    """Call it with each error found: `largest_error(value)` for all labels of the test, or with one label."""
    labels = declared(request.node)

    def report(value, label: str | None = None) -> None:
        error = float(value.detach() if hasattr(value, "detach") else value)
        if not (math.isfinite(error) and error >= 0):
            raise ValueError(
                f"An error is a finite number, zero or more, and {error} came: take the absolute value, "
                "and look at the computation where it is not finite."
            )
        if label is not None and label not in labels:
            raise ValueError(
                f"The test's marker does not name {label}: it names {', '.join(labels) or 'nothing'}."
            )
        for name in [label] if label else labels:
            request.node.user_properties.append((PROPERTY, [name, error]))

    return report


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test that declares an equation and says nothing of its error is a failing test."""
    result = yield
    reported = {value[0] for key, value in pyfuncitem.user_properties if key == PROPERTY}
    silent = [label for label in declared(pyfuncitem) if label not in reported]
    if silent:
        pytest.fail(
            f"The test declares {', '.join(silent)} and reports no error: call largest_error(…).",
            pytrace=False,
        )
    return result


def write(path: Path, record: dict) -> None:
    """Atomically, as `nemlib.files` does it, which would have every run of tests wait for torch."""
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


class Recorder:
    """Gathers the tests' reports and writes the record when the run ends."""

    def __init__(self, config):
        self.config, self.root = config, config.rootpath
        self.errors: dict[tuple[str, str], float] = {}      # (test function, label) → largest error
        self.passed: set[str] = set()
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report):
        test = report.nodeid.split("[")[0]
        if report.failed:
            self.failed.add(test)
        elif report.passed and report.when == "call":
            self.passed.add(test)
            for key, value in report.user_properties:
                if key == PROPERTY:
                    known = self.errors.get((test, value[0]), 0.0)
                    self.errors[test, value[0]] = max(known, value[1])

    def pytest_sessionfinish(self):
        if not self.errors and not self.failed:
            return
        before = verified.record(self.root)
        after = self.updated(before)
        if after != before:
            write(self.root / verified.RECORD, after)

    def updated(self, before: dict) -> dict:
        """The record after this run: labels whose tests all passed are new, failed ones go, others stay."""
        groups: dict[str, dict[str, list[str]]] = {}
        for marker in verified.markers(self.root)[0]:
            groups.setdefault(marker.label, {}).setdefault(marker.how, []).append(marker.test)
        after = {
            label: {
                how: entry for how in sorted(hows) if (entry := self.entry(before, label, how, hows[how]))
            }
            for label, hows in sorted(groups.items())
        }
        return {label: hows for label, hows in after.items() if hows}

    def entry(self, before: dict, label: str, how: str, tests: list[str]) -> dict | None:
        old = before.get(label, {}).get(how)
        if self.failed & set(tests):
            return None
        if not self.passed.issuperset(tests):
            return old
        error = max(self.errors.get((test, label), 0.0) for test in tests)
        if old and self.is_selection():      # perhaps not all parameters of a test ran
            error = max(error, old["error"])
        return {"error": float(f"{error:.1e}"), "tests": sorted(set(tests))}

    def is_selection(self) -> bool:
        chosen = any(self.config.getoption(name, None) for name in SELECTIONS)
        return chosen or any("[" in argument for argument in self.config.args)
