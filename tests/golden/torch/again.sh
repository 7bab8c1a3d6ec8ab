#!/bin/sh
# Computes PyTorch's answers again and compares them with the committed ones, with whichever python
# has torch (Debian's is the system's own, which another one may hide). Without: SKIPPED, 77.
cd "$(dirname "$0")" || exit 1
for python in python3 /usr/bin/python3; do
    if "$python" -c 'import torch, numpy' 2>/dev/null; then
        exec "$python" make.py --check .
    fi
done
echo "SKIPPED: PyTorch's answers computed again (no python here has torch; Debian: python3-torch, python3-numpy)"
exit 77
