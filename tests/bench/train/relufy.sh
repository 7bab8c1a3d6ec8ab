#!/bin/bash
# What ReLUfication costs and brings at three sizes: a SiLU model is trained, its activation swapped
# for ReLU and trained on (strobe relufy), the result packed, and its decoding measured with the
# sparse path on and off.
#   relufy.sh STROBE OUT_DIR [--steps 3000] [--relu-steps 600] [--stage 1] [--to relu] [--seed 1]
#             [--gemm f32] [--repeat 5] [--tokens 128] [--threads N] [--only small,medium,large] [--no-bench]
# Prints and writes to OUT_DIR/relufy.tsv, for each size: parameters; nats a token of the SiLU model,
# right after the swap and at the end; share of zeros in front of `down`, then, and the share of
# neurons that a run of 16 tokens leaves unused; FLOPs kept; decoding in tokens/s, median [range]: SiLU
# model, ReLU model with all neurons computed (--flash off), the packed one with the sparse path and
# everything in memory (--flash sparse), and streamed from the file, layers (dense) or neurons
# (sparse), with as little memory as the plan allows. Interrupted trainings go on; --no-bench trains
# and packs only, so that decoding can be measured later, when nothing else runs.
set -u
die() { echo "relufy.sh: $*" >&2; exit 2; }
[ $# -ge 2 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2; }
strobe=$(realpath "$1") || exit 2
mkdir -p "$2" && out=$(realpath "$2") || exit 2
shift 2
steps=3000 relu_steps=600 stage=1 to=relu seed=1 gemm=f32 repeat=5 tokens=128 threads=0 only= measure=1
while [ $# -gt 0 ]; do
    if [ "$1" = --no-bench ]; then
        measure= && shift && continue
    fi
    [ $# -gt 1 ] || die "'$1' needs a value"
    case $1 in
    --steps) steps=$2 ;;
    --relu-steps) relu_steps=$2 ;;
    --stage) stage=$2 ;;
    --to) to=$2 ;;
    --seed) seed=$2 ;;
    --gemm) gemm=$2 ;;
    --repeat) repeat=$2 ;;
    --tokens) tokens=$2 ;;
    --threads) threads=$2 ;;
    --only) only=$2 ;;
    *) die "no option '$1'" ;;
    esac
    shift 2
done

text=$out/text
if [ ! -s "$text/words.gguf" ]; then
    "$strobe" corpus -o "$text" -q --problems 40000 >/dev/null &&
        "$strobe" corpus -o "$text" -q --split test --problems 1000 >/dev/null &&
        "$strobe" vocab --text "$text/train.txt" --n-vocab 2048 -o "$text/words.gguf" -q >/dev/null || die "no text"
fi
common=(--data "$text/train.txt" --held-out "$text/test.txt" --batch 16 --ctx 256 --eval-every 0 --eval-tokens 65536
    --threads "$threads" --seed "$seed" --gemm "$gemm" -q --json)

bench() { # name of the result, model, options...
    local name=$1 model=$2
    shift 2
    "$strobe" bench -m "$model" --pp 0 --tg "$tokens" --repeat "$repeat" --data "$out/data" --json -q "$@" \
        >"$dir/bench-$name.json" 2>"$dir/bench-$name.log" || { echo "relufy.sh: $name: $(cat "$dir/bench-$name.log")" >&2; rm -f "$dir/bench-$name.json"; }
}
least() { # bytes of memory that the model can do with
    "$strobe" estimate -m "$1" --ram 1TiB --ctx 256 --slots 1 --data "$out/data" --json | sed -n 's/.*"least_bytes":\([0-9]*\).*/\1/p'
}
size() { # name, layers, width, heads
    case ,$only, in ,, | *,"$1",*) ;; *) return ;; esac
    dir=$out/$1
    mkdir -p "$dir"
    if [ ! -s "$dir/silu/model.gguf" ]; then
        local again=()
        [ -s "$dir/silu/run.json" ] && again=(--resume "$dir/silu")
        "$strobe" train "${common[@]}" --tokenizer "$text/words.gguf" --n-layer "$2" --d-model "$3" --n-head "$4" --lr 2e-3 \
            --steps "$steps" --out "$dir/silu" "${again[@]}" >"$dir/train.json" || die "$1: training"
    fi
    if [ ! -s "$dir/relu/model.gguf" ]; then
        if [ -s "$dir/relu/run.json" ]; then
            "$strobe" relufy --resume "$dir/relu" -q --json >"$dir/relufy.json" || die "$1: relufy"
        else
            "$strobe" relufy --from "$dir/silu/model.gguf" --to "$to" --stage "$stage" "${common[@]}" --lr 1e-3 \
                --steps "$relu_steps" --out "$dir/relu" >"$dir/relufy.json" || die "$1: relufy"
        fi
    fi
    [ -s "$dir/packed.gguf" ] || "$strobe" pack -m "$dir/relu/model.gguf" -o "$dir/packed.gguf" -q >/dev/null || die "$1: pack"
    [ -n "$measure" ] || return
    bench silu "$dir/silu/model.gguf" --flash off
    bench off "$dir/relu/model.gguf" --flash off
    bench sparse "$dir/packed.gguf" --flash sparse
    local ram
    ram=$(least "$dir/packed.gguf")
    bench cap-dense "$dir/packed.gguf" --flash dense --ram "$ram" --ctx 256
    bench cap-sparse "$dir/packed.gguf" --flash sparse --ram "$ram" --ctx 256
}
size small 4 128 2
size medium 6 256 4
size large 8 384 6

python3 - "$out" <<'PY'
import json, os, sys
out = sys.argv[1]
head = ['size', 'params', 'nats_silu', 'nats_swapped', 'nats_relu', 'zeros_swapped', 'zeros_relu', 'unused_16', 'flops_kept']
modes = ['silu', 'off', 'sparse', 'cap-dense', 'cap-sparse']
rows = [head + ['decode_' + m for m in modes] + ['sparse_over_off', 'cap_sparse_over_dense']]
def load(path):
    return json.load(open(path)) if os.path.exists(path) else None
for size in ('small', 'medium', 'large'):
    d = f'{out}/{size}/'
    r = load(d + 'relu/relufy.json') or load(d + 'relufy.json')
    if not r:
        continue
    s = {k: r[k]['sparsity'] for k in ('swapped', 'after')}
    row = [size, load(d + 'relu/run.json')['n_param'], *(round(r[k]['nats_per_token'], 4) for k in ('before', 'swapped', 'after')),
           round(s['swapped']['mean']['down_in'], 3), round(s['after']['mean']['down_in'], 3), round(s['after']['mean']['unused']['16'], 3),
           round(s['after']['flops'] / s['after']['flops_dense'], 3)]
    b = {m: (load(f'{d}bench-{m}.json') or {'results': [None]})['results'][0] for m in modes}
    row += [f"{b[m]['tokens_per_second']:.0f} [{b[m]['min']:.0f}..{b[m]['max']:.0f}]" if b[m] else '-' for m in modes]
    for a, c in (('sparse', 'off'), ('cap-sparse', 'cap-dense')):
        row.append(f"{b[a]['tokens_per_second'] / b[c]['tokens_per_second']:.2f}" if b[a] and b[c] else '-')
    rows.append(row)
with open(out + '/relufy.tsv', 'w') as f:
    for row in rows:
        f.write('\t'.join(map(str, row)) + '\n')
for i, name in enumerate(rows[0]):
    print(f'{name:22}' + ''.join(f'{str(r[i]):>28}' for r in rows[1:]))
PY
