#!/usr/bin/env python3
"""Evaluates each line "expression TAB result" of a file with fractions.Fraction and compares.
A result is "n/d", "true", "false", "zero" (division by zero) or "large" (beyond 64 bits).
Prints every difference, then "N equal, M large"; exit code 1 when there is a difference."""
import math
import re
import sys
from fractions import Fraction

LIMIT = 2 ** 63
big = False


class Q(Fraction):
    """A fraction that notes when a result leaves 64 bits."""


def wrap(name):
    plain = getattr(Fraction, name)

    def op(self, *rest):
        global big
        r = plain(self, *rest)
        if r is NotImplemented:
            return r
        if isinstance(r, int) or isinstance(r, Fraction):
            r = Q(r)
            if abs(r.numerator) >= LIMIT or r.denominator >= LIMIT:
                big = True
        return r
    return op


for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "neg",
             "radd", "rsub", "rmul", "rtruediv", "rfloordiv", "rmod"):
    setattr(Q, "__%s__" % name, wrap("__%s__" % name))


def power(self, e):
    global big
    r = Q(1)
    for _ in range(int(e)):
        r = r * self
    return r


Q.__pow__ = power


def scaled_round(x, n=0):
    global big
    f = 10 ** int(n)
    if abs(Fraction(x) * f) >= LIMIT:
        big = True
    return Q(Fraction(round(Fraction(x) * f), f))


env = {
    "Q": Q,
    "int": lambda x: Q(math.trunc(x)),
    "is_int": lambda x: Fraction(x).denominator == 1,
    "divides": lambda a, b: Fraction(a) % Fraction(b) == 0,
    "round": scaled_round,
    "abs": lambda x: Q(abs(Fraction(x))),
    "floor": lambda x: Q(math.floor(x)),
    "ceil": lambda x: Q(math.ceil(x)),
    "min": min,
    "max": max,
    "Fraction": lambda a, b=1: Q(Fraction(a)) / Q(Fraction(b)),
}
NUMBER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)")
different = equal = large = 0
for line in open(sys.argv[1], encoding="ascii"):
    text, said = line.rstrip("\n").split("\t")
    big = False
    try:
        v = eval(NUMBER.sub(r'Q("\1")', text), {"__builtins__": {}}, env)
        if isinstance(v, bool):
            want = "true" if v else "false"
        else:
            v = Fraction(v)
            want = "%d/%d" % (v.numerator, v.denominator)
    except ZeroDivisionError:
        want = "zero"
    if said == "large" and big:
        large += 1
    elif said == want:
        equal += 1
    else:
        different += 1
        print("%s: %s, not %s" % (text, want, said))
print("%d equal, %d large" % (equal, large))
sys.exit(1 if different else 0)
