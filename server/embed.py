#!/usr/bin/env python3
"""Writes a C table of files (see assets.h): embed.py OUT.c FILE|DIR..."""
import gzip
import hashlib
import os
import sys

TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".json": "application/json"}


def array(name, data):
    rows = (",".join(str(b) for b in data[i:i + 32]) for i in range(0, len(data), 32))
    return f"static const unsigned char {name}[] = {{\n" + ",\n".join(rows) + "\n};\n"


def main():
    out, table = sys.argv[1], []
    files = []
    for path in sys.argv[2:]:
        files += [os.path.join(path, n) for n in os.listdir(path)] if os.path.isdir(path) else [path]
    with open(out, "w", encoding="ascii") as f:
        f.write('#include "server/assets.h"\n')
        for i, path in enumerate(sorted(files, key=os.path.basename)):
            data = open(path, "rb").read()
            gz = gzip.compress(data, 9, mtime=0)
            f.write(array(f"d{i}", data))
            small = len(gz) < 0.9 * len(data)
            if small:
                f.write(array(f"z{i}", gz))
            name, ext = os.path.basename(path), os.path.splitext(path)[1]
            etag = hashlib.sha256(data).hexdigest()[:16]
            table.append(f'    {{ "{name}", "{TYPES[ext]}", "\\"{etag}\\"", d{i}, '
                         + (f"z{i}, sizeof d{i}, sizeof z{i} }}," if small else f"0, sizeof d{i}, 0 }},"))
        f.write("const struct asset asset_table[] = {\n" + "\n".join(table) + "\n};\n")
        f.write("const size_t asset_count = sizeof asset_table / sizeof asset_table[0];\n")


main()
