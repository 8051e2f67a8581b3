#!/usr/bin/env python3
"""Values that src/measure is held against, from NumPy and SciPy.

Run once and committed; prints tests/data/measure/reference.json:
    pip install numpy scipy && python3 tests/tools/measure_reference.py > tests/data/measure/reference.json

The samples are drawn by NumPy with fixed seeds. Percentiles, means, Wilson's interval and a bootstrap interval come from NumPy
and SciPy themselves. SciPy draws its resamples with another generator, so its interval agrees only up to the noise of the
resampling; therefore the exact interval is computed here as well, with the generator written anew from its definition.
"""
import json
import platform
import sys

import numpy
import scipy
from scipy import stats

MASK = (1 << 64) - 1


def splitmix64(seed):
    """SplitMix64, from Steele, Lea and Flood 2014."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def bootstrap(values, resamples, seed):
    """The percentile bootstrap of the mean with indices floor(x * n / 2^64)."""
    draws = splitmix64(seed)
    n = len(values)
    indices = numpy.array([[(next(draws) * n) >> 64 for _ in range(n)] for _ in range(resamples)])
    means = numpy.asarray(values)[indices].mean(axis=1)
    return [float(x) for x in numpy.quantile(means, [0.025, 0.975])]


def samples():
    rng = numpy.random.default_rng(20261125)
    yield "one", [3.5]
    yield "two", [1.0, 2.0]
    yield "ties", [5.0, 1.0, 5.0, 5.0, 2.0, 5.0, 1.0]
    yield "lognormal", rng.lognormal(6.0, 1.2, 101).tolist()
    yield "uniform", rng.uniform(0.001, 1e6, 64).tolist()
    yield "tiny", rng.exponential(1e-9, 20).tolist()
    yield "timeouts", rng.lognormal(7.0, 0.5, 37).tolist() + [600000.0] * 3


def main():
    shares = [0.0, 0.01, 0.05, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0]
    quantiles = []
    for name, values in samples():
        quantiles.append({
            "name": name,
            "values": values,
            "quantiles": [[p, float(numpy.quantile(values, p))] for p in shares],
            "mean": float(numpy.mean(values)),
            "geometric_mean": float(stats.gmean(values)),
        })
    rng = numpy.random.default_rng(7)
    bootstraps = []
    for name, logs, resamples, seed in [
        ("no-effect", rng.normal(0.0, 0.4, 40), 10000, 1),
        ("twice-as-fast", rng.normal(numpy.log(2.0), 0.7, 25), 10000, 42),
        ("heavy-tail", rng.standard_t(2, 60), 2000, 2**63 + 5),
        ("two-values", numpy.array([0.1, 0.9]), 1000, 0),
    ]:
        scipys = stats.bootstrap(
            (logs,), numpy.mean, n_resamples=100000, method="percentile", confidence_level=0.95, batch=1000,
            rng=numpy.random.default_rng(1),
        ).confidence_interval
        bootstraps.append({
            "name": name,
            "logs": logs.tolist(),
            "resamples": resamples,
            "seed": seed,
            "interval": bootstrap(logs, resamples, seed),
            "scipy": [float(scipys.low), float(scipys.high)],
        })
    wilson = []
    for passed, checked in [(0, 1), (1, 1), (0, 10), (10, 10), (15, 15), (57, 60), (58, 60), (188, 188), (189, 189), (960, 1000)]:
        interval = stats.binomtest(passed, checked).proportion_ci(0.95, method="wilson")
        wilson.append([passed, checked, float(interval.low), float(interval.high)])
    json.dump({
        "made_with": f"Python {platform.python_version()}, NumPy {numpy.__version__}, SciPy {scipy.__version__}",
        "quantiles": quantiles,
        "bootstraps": bootstraps,
        "wilson": wilson,
    }, sys.stdout, indent=1)
    print()


main()
