#!/usr/bin/env python3
"""Recomputes a receipt of `gpurouter bench` without gpurouter: only Python and the receipt.

    python3 tests/tools/recompute_receipt.py FILE

Prints every figure that it recomputed, and exits 1 when the digest is wrong or a figure differs from the report by more than a
billionth. It shares no code with gpurouter, so that a mistake there is not repeated here.
"""
import hashlib
import json
import math
import sys

MASK = (1 << 64) - 1
Z = 1.959963984540054


def draws(seed):
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def quantile(values, share):
    values = sorted(values)
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def speedup(name, pairs, settings, at):
    by_request = {}
    for today, routed in pairs:
        times = at(today, routed)
        if None not in times:
            by_request.setdefault(today["request"], []).append(math.log(times[0] / times[1]))
    logs = [sum(repeats) / len(repeats) for _, repeats in sorted(by_request.items())]
    if not logs:
        return {f"{name}.ratio": None, f"{name}.low": None, f"{name}.high": None}
    n, random = len(logs), draws(settings["seed"])
    means = [sum(logs[(next(random) * n) >> 64] for _ in range(n)) / n for _ in range(settings["resamples"])]
    known = n > 1
    return {
        f"{name}.ratio": math.exp(sum(logs) / n),
        f"{name}.low": math.exp(quantile(means, 0.025)) if known else None,
        f"{name}.high": math.exp(quantile(means, 0.975)) if known else None,
    }


def live(settings, observations):
    settings = settings["paired"]
    pairs = {}
    for one in observations:
        pairs.setdefault(one["pair"], {})[one["policy"]] = one
    pairs = [(pair["today"], pair["routed"]) for _, pair in sorted(pairs.items())]
    late = settings["timeout_ms"]

    def time(one, field):
        return one[field] if one["outcome"] == "ok" else late

    def shortened(one, tokens):
        if one["outcome"] != "ok" or tokens == one["tokens_out"]:
            return time(one, "total_ms")
        first, steps = one["ttft_ms"], one["tokens_out"] - 1
        return first + (one["total_ms"] - first) * (tokens - 1) / steps

    def equal(today, routed):
        if not today["outcome"] == routed["outcome"] == "ok":
            return time(today, "total_ms"), time(routed, "total_ms")
        tokens = min(today["tokens_out"], routed["tokens_out"])
        return shortened(today, tokens), shortened(routed, tokens)

    figures = {}
    groups = {"all": pairs}
    for name in ("cold", "warm"):
        groups[name] = [pair for pair in pairs if pair[0]["temperature"] == name]
    for name, group in groups.items():
        if not group:
            continue
        figures |= speedup(f"{name}.ttft", group, settings, lambda a, b: (time(a, "ttft_ms"), time(b, "ttft_ms")))
        figures |= speedup(f"{name}.end_to_end", group, settings, lambda a, b: (time(a, "total_ms"), time(b, "total_ms")))
        figures |= speedup(f"{name}.equal_length", group, settings, equal)
        figures[f"{name}.saved"] = sum(time(a, "total_ms") - time(b, "total_ms") for a, b in group) / 3.6e6
        for index, policy in enumerate(("today", "routed")):
            ends = [time(pair[index], "total_ms") for pair in group]
            figures[f"{name}.{policy}.total_p50"] = quantile(ends, 0.5)
            figures[f"{name}.{policy}.total_p95"] = quantile(ends, 0.95)
            checked = [pair[index]["passed"] for pair in group if pair[index]["passed"] is not None]
            if checked:
                n, rate = len(checked), sum(checked) / len(checked)
                spread = Z * math.sqrt(rate * (1 - rate) / n + Z * Z / (4 * n * n))
                figures[f"{name}.{policy}.pass_rate"] = rate
                figures[f"{name}.{policy}.pass_low"] = max(0, (rate + Z * Z / (2 * n) - spread) / (1 + Z * Z / n))
    return figures


def roi(settings, _):
    def value(*path):
        inner = settings
        for name in path:
            inner = inner[name]
        return inner["value"]

    def product(*factors):
        return None if None in factors else math.prod(factors)

    work = settings["workload"]
    if "team" in work:
        requests = product(value("workload", "team", "developers"), value("workload", "team", "per_developer"))
    else:
        requests = value("workload", "per_day", "requests")
    per_year = product(requests, value("days"))
    saved = product(value("slow") - value("fast"), per_year)
    attention = {"sources": 1, "not_counted": 0}.get(str(settings["attention"]))
    if attention is None:
        attention = value("attention", "share")
    if settings["rounding"] == "source":
        def hours(seconds):
            minutes = round(seconds * requests / 60, 1)
            whole = minutes * value("days") / 60
            return round(whole) if whole >= 100 else round(whole, 1)
        saved = None if saved is None else 3600 * (hours(value("slow")) - hours(value("fast")))
    kwh = value("power", "kwh")
    price = settings["api"]["price"]
    tokens = [value("api", name) for name in ("tokens_in", "tokens_cached", "tokens_out")]
    cost = None
    if None not in tokens and (tokens[1] == 0 or price["cached_input"]["value"] is not None):
        rates = [price[name]["value"] for name in ("input", "cached_input", "output")]
        if rates[0] is not None:
            cost = ((tokens[0] - tokens[1]) * rates[0] + tokens[1] * (rates[1] or 0) + tokens[2] * rates[2]) / 1e6
    avoided = product(value("api", "share"), per_year, cost)
    retries = product(value("api", "retries"), per_year, cost)
    energy = product(value("power", "energy"), per_year, kwh, 1e-3)
    idle = product(value("power", "idle"), value("power", "idle_hours"), 365e-3, kwh)
    bought = settings["hardware"]
    hardware = bought["capex"]["value"] / bought["life"]["value"] if bought else 0
    net = None if None in (avoided, retries, energy, idle) else avoided - retries - energy - idle - hardware
    return {
        "speedup": value("slow") / value("fast"),
        "year.saved": None if saved is None else saved / 3600,
        "time.money": product(saved, attention, value("rate"), 1 / 3600),
        "api.avoided": avoided,
        "api.retries": retries,
        "electricity.energy_cost": energy,
        "electricity.idle_cost": idle,
        "net": net,
    }


def cost(settings, _):
    price = settings["price"]
    cached = settings["tokens_cached"]["value"]
    fresh = (settings["tokens_in"]["value"] - cached) * price["input"]["value"]
    output = settings["tokens_out"]["value"] * price["output"]["value"]
    return {"cost": (fresh + output + (cached and cached * price["cached_input"]["value"])) / 1e6}


def main():
    with open(sys.argv[1], "rb") as file:
        lines = file.read().splitlines(keepends=True)
    header, *observations, closing = (json.loads(line) for line in lines)
    wrong = []
    if hashlib.sha256(b"".join(lines[:-1])).hexdigest() != closing["sha256"]:
        wrong.append("digest")
    bench = header["bench"]
    for name, computed in {"live": live, "roi": roi, "cost": cost}[bench["kind"]](bench["settings"], observations).items():
        stored = closing["report"]["figures"]
        for part in name.split("."):
            stored = stored[part]
        stored = stored["value"]
        same = stored == computed or None not in (stored, computed) and math.isclose(stored, computed, rel_tol=1e-9, abs_tol=1e-12)
        print(f"{name} {computed}{'' if same else f' but the report says {stored}'}")
        if not same:
            wrong.append(name)
    print("differs: " + ", ".join(wrong) if wrong else "the receipt holds")
    sys.exit(bool(wrong))


main()
