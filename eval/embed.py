#!/usr/bin/env python3
"""Writes the template files into a C table: embed.py OUT.c FILE..."""
import os
import sys

out, files = sys.argv[1], sys.argv[2:]
with open(out, "w", encoding="ascii") as f:
    f.write('#include "eval/library.h"\n\n')
    for i, path in enumerate(files):
        with open(path, "rb") as src:
            data = src.read()
        f.write("static const char file_%d[] = {\n" % i)
        for at in range(0, len(data), 20):
            f.write(" ".join("%d," % (b if b < 128 else b - 256) for b in data[at:at + 20]) + "\n")
        f.write("0 };\n")
    f.write("const struct builtin_file builtin_files[] = {\n")
    for i, path in enumerate(files):
        f.write('    { "%s", file_%d, sizeof file_%d - 1 },\n' % (os.path.basename(path), i, i))
    f.write("    { NULL, NULL, 0 },\n};\n")
