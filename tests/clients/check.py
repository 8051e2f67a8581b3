"""Runs named checks and tells each in one line: `PASS name` or `FAIL name: why`; exits 1 when one failed."""

import sys
import traceback


class Checks:
    """Collects functions as checks; `python FILE BASE_URL [CHAT_MODEL]` then runs them."""

    def __init__(self):
        if len(sys.argv) not in (2, 3):
            sys.exit(f"usage: {sys.argv[0]} BASE_URL [CHAT_MODEL]")
        self.base = sys.argv[1].rstrip("/")
        self.model = sys.argv[2] if len(sys.argv) == 3 else "tiny"
        self.checks = []

    def __call__(self, function):
        self.checks.append(function)
        return function

    def run(self):
        failed = 0
        for check in self.checks:
            name = f"{sys.argv[0].rsplit('/', 1)[-1]} {self.model}: {check.__name__}"
            try:
                check()
            except Exception as error:  # whatever a client library raises is a finding
                failed += 1
                where = traceback.extract_tb(error.__traceback__)
                line = next((f"line {f.lineno}: {f.line}" for f in where if f.name == check.__name__), "")
                print(f"FAIL {name}: {type(error).__name__} {str(error)[:300]} ({line})", flush=True)
            else:
                print(f"PASS {name}", flush=True)
        sys.exit(1 if failed else 0)


def raises(kind, function):
    """The error of that kind that `function` raises; anything else is a failure."""
    try:
        result = function()
    except kind as error:
        return error
    raise AssertionError(f"no error but {str(result)[:200]}")
