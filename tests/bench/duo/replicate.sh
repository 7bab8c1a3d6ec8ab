#!/bin/bash
# Duo-LLM's findings F1 to F10, tested on networks of 1.4 M parameters: symbolic and natural text, seeds, controls; ends in a document.
#   tests/bench/duo/replicate.sh OUT [--tokens N] [--seeds 1,2,3] [--trace-tokens N] [--doc FILE]
# Stopped or killed, the same command goes on: what is in OUT already (networks, routers, traces, scores) is not made again. With --doc the
# document goes there too, below the part of FILE that was written by hand (up to the line "# Duo-LLM, replicated small").
# Environment: STROBE, DATA (../shared/data), THREADS=1, GEMM=bf16, LAYERS=6, WIDTH=128, VOCAB=512, ROUTER_STEPS=200.
set -eu
cd "$(dirname "$0")/../../.."
strobe=${STROBE:-build/release/server/strobe}
data=${DATA:-../shared/data}
out= tokens=1000000 seeds=1,2,3 trace=4096 doc=
while [ $# -gt 0 ]; do
    case $1 in
    --tokens) tokens=$2; shift ;;
    --seeds) seeds=$2; shift ;;
    --trace-tokens) trace=$2; shift ;;
    --doc) doc=$2; shift ;;
    -*) echo "replicate.sh: there is no option '$1'" >&2; exit 2 ;;
    *) out=$1 ;;
    esac
    shift
done
[ -n "$out" ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ -x "$strobe" ] || { echo "replicate.sh: no program '$strobe': set STROBE" >&2; exit 2; }
n=$(printf '%s\n' "$seeds" | tr ',' '\n' | sort -n | tail -1)
[ "$seeds" = "$(seq -s, "$n")" ] || { echo "replicate.sh: --seeds: '$seeds' must count up from 1, as in 1,2,3" >&2; exit 2; }
natural=
for f in gsm8k/test.jsonl text/tinyshakespeare.txt text/tinystories-sample.txt text/botchan.txt; do
    if [ -f "$data/$f" ]; then natural=$natural${natural:+,}$data/$f; else echo "replicate.sh: '$data/$f' is absent: left out" >&2; fi
done
[ -n "$natural" ] || echo "replicate.sh: no natural text at all (DATA): symbolic text only" >&2
"$strobe" duo report --out "$out" ${natural:+--natural "$natural"} --seeds "$n" --steps $((tokens / 2048)) --tokens "$trace" \
    --layers "${LAYERS:-6}" --width "${WIDTH:-128}" --vocab "${VOCAB:-512}" --router-steps "${ROUTER_STEPS:-200}" \
    --gemm "${GEMM:-bf16}" --threads "${THREADS:-1}"
if [ -n "$doc" ]; then
    { sed -n '/^# Duo-LLM, replicated small$/q;p' "$doc" 2>/dev/null || true; cat "$out/report.md"; } > "$doc.new"
    mv "$doc.new" "$doc"
fi
