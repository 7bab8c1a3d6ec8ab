#!/bin/bash
# Trained tokens per second of the 12.3 M GPT-2 shape (d 384, 6 layers and heads, 8 x 256 tokens, 4096
# words, AdamW): strobe in f32, in bf16, and in bf16 with activations kept as that too; PyTorch where
# a python has it, llm.c where its folder is given; each run in turn, several rounds, because the
# rate of a shared machine moves.
#   speed.sh STROBE GEMM_BENCH [--rounds 3] [--steps 4] [--threads 2] [--llmc DIR] [--coretype NAME]
# --coretype sets OPENBLAS_CORETYPE for those who use OpenBLAS (old versions guess wrong on young
# processors). STROBE and GEMM_BENCH: server/strobe and tests/bench/gemm_bench of a release build.
# Prints for each engine: median tokens/s [least..most] of the rounds, the median of its ratio to
# PyTorch of the same round and precision [spread], MFU (76.7 MFLOP a token over the peak of fused
# multiply-adds, or of bf16 dot products, measured beside), peak memory; and for strobe what its
# planner had said. Fails when that is more than 10 % off.
set -u
die() { echo "speed.sh: $*" >&2; exit 2; }
[ $# -ge 2 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2; }
strobe=$(realpath "$1") || exit 2
gemm=$(realpath "$2") || exit 2
here=$(realpath "$(dirname "$0")")
shift 2
rounds=3 steps=4 threads=2 llmc=
while [ $# -gt 1 ]; do
    case $1 in
    --rounds) rounds=$2 ;;
    --steps) steps=$2 ;;
    --threads) threads=$2 ;;
    --llmc) llmc=$(realpath "$2") || exit 2 ;;
    --coretype) export OPENBLAS_CORETYPE=$2 ;;
    *) die "no option '$1'" ;;
    esac
    shift 2
done
[ $# -eq 0 ] || die "'$1' needs a value"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1

# Words from a counter: enough different ones for 4096 tokens.
awk 'BEGIN { srand(1)
    for (w = 0; w < 6000; w++) { n = 2 + int(rand() * 3); s = ""
        for (j = 0; j < n; j++) s = s substr("bcdfghjklmnprstvwz", 1 + int(rand() * 18), 1) substr("aeiouy", 1 + int(rand() * 6), 1)
        word[w] = s }
    for (i = 0; i < 250000; i++) printf "%s%s", word[int(6000 * rand() * rand())], i % 12 == 11 ? ".\n" : " " }' >words.txt
"$strobe" vocab --text words.txt --n-vocab 4096 -o words.gguf -q >/dev/null || die "no vocabulary"
cat >shape.json <<JSON
{"data": "words.txt", "tokenizer": "words.gguf", "n_layer": 6, "d_model": 384, "n_head": 6, "d_ff": 1536,
 "norm": "layer", "pos": "learned", "act": "gelu", "gated": false, "bias": true, "tied": true, "ctx": 256,
 "batch": 8, "eval_every": 0, "eval_tokens": 2048, "checkpoint_every": 0, "held_out_fraction": 0.01,
 "model_type": "none", "documents": false}
JSON

field() { sed -n "s/.*\"$1\":\([0-9.e+]*\).*/\1/p"; } # of one-line JSON
median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# Appends "TOKENS_PER_SECOND PEAK [PLANNED]" to the engine's file.
run_strobe() { # gemm, activations
    rm -rf run
    "$strobe" train --config shape.json --out run --gemm "$1" --activations "$2" --steps $((steps + 1)) --threads "$threads" -q --json \
        >result.json || die "strobe train --gemm $1 --activations $2 failed"
    echo "$(tail -n +2 run/metrics.jsonl | field tok_s | median) $(field peak_bytes <result.json) $(field planned_bytes <result.json)" >>"strobe_$1_$2"
}
python=
for p in python3 /usr/bin/python3; do
    "$p" -c 'import torch' 2>/dev/null && python=$p && break
done
# f32 is fastest with OpenBLAS's threads alone, bf16 (oneDNN) with OpenMP's.
run_torch() { # f32 or bf16
    local omp=1
    [ "$1" = bf16 ] && omp=$threads
    OMP_NUM_THREADS=$omp OPENBLAS_NUM_THREADS=$threads "$python" "$here/torch_gpt2.py" "$steps" "$1" >>"torch_$1" ||
        die "torch_gpt2.py failed"
}
if [ -n "$llmc" ]; then
    ${CC:-cc} -Ofast -fopenmp -march=native -DTESTING -I "$llmc" "$here/llmc_bench.c" -lm -o llmc_bench 2>llmc.log ||
        { tail -n 5 llmc.log >&2; die "llm.c in '$llmc' does not compile"; }
fi

bf16=
grep -qw avx512_bf16 /proc/cpuinfo && bf16=1
for ((r = 0; r < rounds; r++)); do
    run_strobe f32 f32
    [ -z "$python" ] || run_torch f32
    [ -z "$bf16" ] || run_strobe bf16 f32
    [ -z "$bf16" ] || run_strobe bf16 bf16
    [ -z "$python" ] || run_torch bf16
    [ -z "$llmc" ] || OMP_NUM_THREADS=$threads ./llmc_bench "$steps" >>llmc_f32
    "$gemm" --threads "$threads" --only square --seconds 0.2 >peak.json || true
    grep '"layer"' peak.json | head -n 1 | field fma_peak >>peak_f32
    grep '"layer"' peak.json | head -n 1 | field dot_peak >>peak_bf16
    grep '"layer"' peak.json | field f32 | sort -g | tail -n 1 >>sgemm
done

peak() { if [ -s "peak_$1" ]; then sort -g "peak_$1" | tail -n 1; else echo 0; fi; }
line() { # file, name, precision
    [ -s "$1" ] || return
    local beside=/dev/null
    [ -s "torch_$3" ] && beside=torch_$3
    awk -v name="$2" -v peak="$(peak "$3")" -v beside="$beside" '
        function sorted(a, n,   i, j, t) { for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j] < a[j - 1]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t } }
        function mid(a, n) { return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2 }
        { v[NR] = $1; if ((getline other < beside) > 0) { split(other, o, " "); q[++m] = $1 / o[1] }
          if ($2 > rss) rss = $2; plan = $3 }
        END { sorted(v, NR); sorted(q, m)
            printf "%-14s %7.0f tok/s [%.0f..%.0f]", name, mid(v, NR), v[1], v[NR]
            if (m) printf "  %5.2fx PyTorch [%.2f..%.2f]", mid(q, m), q[1], q[m]
            if (peak > 0) printf "  MFU %4.1f %%", mid(v, NR) * 0.0767 / peak * 100
            printf "  peak %.0f MiB", rss / 1048576
            if (plan) printf ", planned %.0f (%+.1f %%)", plan / 1048576, (rss / plan - 1) * 100
            print ""
            exit plan && (rss > 1.1 * plan || rss < 0.9 * plan) }' "$1" || bad=1
}
bad=
echo "threads $threads, rounds $rounds, steps $steps; load $(cut -d' ' -f1 /proc/loadavg); $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
[ ! -s peak_f32 ] || echo "peaks, GFLOP/s: f32 $(peak f32), bf16 $(peak bf16); best sgemm $(sort -g sgemm | tail -n 1); OpenBLAS $(sed -n 's/.*"blas":"\([^"]*\)".*/\1/p' peak.json | head -n 1)"
line strobe_f32_f32 "strobe f32" f32
line torch_f32 "PyTorch f32" f32
line llmc_f32 "llm.c f32" f32
line strobe_bf16_f32 "strobe bf16" bf16
line strobe_bf16_bf16 "and kept bf16" bf16
line torch_bf16 "PyTorch bf16" bf16
[ -n "$python" ] || echo "SKIPPED: PyTorch (no python here has torch; Debian: python3-torch)"
[ -n "$llmc" ] || echo "SKIPPED: llm.c (give its folder with --llmc)"
[ -n "$bf16" ] || echo "SKIPPED: bf16 (no AVX-512 BF16 here)"
[ -z "$bad" ] || { echo "FAILED: peak memory is more than 10 % off the plan"; exit 1; }
