#!/usr/bin/env python3
"""Writes engine/model/chat_case.c: what Python's str.upper(), str.lower() and str.title() make of each
character, as runs of one distance, and the few that become several characters."""
import os
import sys
import unicodedata

HEAD = """/* engine/model/chat_case.c - capital and small letters of every script: written by
 * tests/golden/chat/make_case.py from Python %d.%d (Unicode %s). Do not edit. lint: table */
#include "engine/model/chat_internal.h"
"""


def runs(change):
    out = []
    for cp in range(0x80, 0x110000):
        c = change(chr(cp))
        if 0xd800 <= cp < 0xe000 or len(c) != 1 or ord(c) == cp:
            continue
        d = ord(c) - cp
        if out and out[-1][3] == d and cp - out[-1][1] in (1, 2):
            first, last, step, _ = out[-1]
            if first == last or step == cp - last:
                out[-1] = (first, cp, cp - last, d)
                continue
        out.append((cp, cp, 1, d))
    return out


def longs(change):
    return [(cp, change(chr(cp))) for cp in range(0x80, 0x110000)
            if not 0xd800 <= cp < 0xe000 and len(change(chr(cp))) > 1]


def titles():
    """Where a capitalised word does not begin with the capital letter."""
    return [(cp, chr(cp).title()) for cp in range(0x80, 0x110000)
            if not 0xd800 <= cp < 0xe000 and chr(cp).title() != chr(cp).upper()]


def c_text(s):
    return '"' + "".join("\\x%02x" % b for b in s.encode()) + '"'


def main():
    w = [HEAD % (*sys.version_info[:2], unicodedata.unidata_version)]
    w.append("/* clang-format off */")
    for name, change in (("upper", str.upper), ("lower", str.lower)):
        w.append(f"static const struct case_run {name}s[] = {{")
        w += [f"    {{ 0x{a:x}, 0x{b:x}, {s}, {d} }}," for a, b, s, d in runs(change)]
        w.append("};")
    for name, rows in (("upper", longs(str.upper)), ("lower", longs(str.lower)), ("title", titles())):
        w.append(f"static const struct case_text {name}_texts[] = {{")
        w += [f"    {{ 0x{cp:x}, {c_text(t)} }}," for cp, t in rows]
        w.append("};")
    for name, runs_of in (("upper", "uppers"), ("lower", "lowers"), ("title", None)):
        table = f"{runs_of}, sizeof {runs_of} / sizeof *{runs_of}" if runs_of else "NULL, 0"
        w.append(f"const struct case_table chat_{name} = {{ {table}, {name}_texts,\n"
                 f"    sizeof {name}_texts / sizeof *{name}_texts }};")
    w.append("/* clang-format on */")
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "../../../engine/model/chat_case.c"), "w", encoding="ascii") as f:
        f.write("\n".join(w) + "\n")


if __name__ == "__main__":
    main()
