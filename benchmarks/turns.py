"""What the benchmarks share: loops that take turns, so that a busy machine disturbs all alike."""

import statistics
import time
from collections.abc import Callable, Mapping


def clock_for(threads: int) -> Callable[[], float]:
    """The processor's own time on one thread, which another process does not lengthen; else the clock's."""
    return time.process_time if threads == 1 else time.perf_counter


def measure(
    loops: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each loop in each round, taking turns; one round before them warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds + 1):
        for name, loop in loops.items():
            begin = clock()
            loop()
            seconds[name].append(clock() - begin)
    return {name: values[1:] for name, values in seconds.items()}


def report(seconds: Mapping[str, list[float]], beside: str, whose: str) -> None:
    """Print the median time of each loop, and the median, least and largest ratio to `beside` in one round."""
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, seconds[beside])]
        print(f"  {name:26} {statistics.median(values):6.2f} s   {statistics.median(ratios):5.2f} of {whose} time "
              f"({min(ratios):.2f} to {max(ratios):.2f})")
