#!/bin/bash
# Greedy tokens of exported networks by this engine and by llama.cpp: the same ids are expected, for the prompt too.
# Usage: greedy.sh BUILD_DIR TEXT [N]. BUILD_DIR has server/strobe and tests/bench/export_sample; the vocabulary is learned from TEXT.
# Recorded, not gating: llama.cpp's kernels sum in another order and cache keys and values as halves, so that near ties may differ.
set -eu
build=$(cd "$1" && pwd) text=$(realpath "$2") n=${3:-48}
cd "$(dirname "$0")/../../.."
dir=${DIR:-build/peer}
peer=$dir/peer
mkdir -p "$dir/greedy"
if [ ! -d "$peer/node_modules" ]; then
    mkdir -p "$peer"
    cp tests/bench/peer/package*.json tests/bench/peer/.npmrc "$peer/"
    (cd "$peer" && npm ci >/dev/null 2>&1) || { echo "SKIPPED: npm cannot install the peer" >&2; exit 0; }
fi
gcc -O2 -o "$peer/llama_greedy" tests/bench/peer/llama_greedy.c -ldl
libs=$(ls -d "$peer"/node_modules/@node-llama-cpp/linux-x64/bins/*/)
"$build/tests/bench/export_sample" "$text" "$dir/greedy"
for arch in llama arcee gpt2 opt; do
    f=$dir/greedy/$arch.gguf
    i=0
    for prompt in "Once upon a time" "12 + 345 = " "  he said: \"don't!\"" "KING HENRY"; do
        i=$((i + 1))
        LD_LIBRARY_PATH=$libs timeout 120 "$peer/llama_greedy" "$libs" "$f" "$n" "$prompt" >"$dir/theirs" 2>"$dir/why" || { echo "$arch: llama.cpp: $(tail -n 1 "$dir/why")"; break; }
        timeout 120 "$build/server/strobe" generate -m "$f" -p "$prompt" -n "$n" --temp 0 --ignore-eos --json >"$dir/ours"
        timeout 120 "$build/server/strobe" tokenize -m "$f" "$prompt" --json >"$dir/ids"
        python3 - "$arch" "$i" "$dir" <<'PY'
import json, sys
arch, i, d = sys.argv[1:]
theirs, ours, ids = (json.load(open(f'{d}/{x}')) for x in ('theirs', 'ours', 'ids'))
same = next((k for k, (a, b) in enumerate(zip(theirs['tokens'], ours['tokens'])) if a != b), min(len(theirs['tokens']), len(ours['tokens'])))
print(f"{arch} prompt {i}: prompt ids {'equal' if theirs['prompt'] == ids['tokens'] else 'DIFFER ' + str((theirs['prompt'], ids['tokens']))}, "
      f"{same} of {len(theirs['tokens'])} tokens equal, least lead {theirs['least_lead']:.4g}")
PY
    done
done
