#!/bin/bash
# Does routing save time, not only FLOPs? Decode tokens/s of a Duo model at budgets 1, 0.75, 0.5, 0.25 and 0, resident and streamed under
# the least memory that works, rounds interleaved. The model is made here (random weights: speed does not depend on them); routes are fixed ones, spread evenly.
#   tests/bench/duo/decode.sh [DIR]     ROUNDS=3 TG=32 LAYERS=8 WIDTH=1024 FF=8192 THREADS=1 STROBE=build/release/server/strobe
set -eu
cd "$(dirname "$0")/../../.."
dir=${1:-build/bench-duo}
strobe=${STROBE:-build/release/server/strobe}
layers=${LAYERS:-8} width=${WIDTH:-1024} ff=${FF:-8192} rounds=${ROUNDS:-3} tg=${TG:-32} threads=${THREADS:-1}
mkdir -p "$dir"
model=$dir/duo-$layers-$width-$ff.gguf
if [ ! -f "$model" ]; then
    "$strobe" corpus -q -o "$dir/text" --seed 1 --problems 300 --stories 0
    rm -rf "$dir/run"
    "$strobe" duo train -q --n_layer "$layers" --d_model "$width" --n_head 16 --n_kv_head 4 --d_ff "$ff" --d_small $((ff / 16)) \
        --n_vocab 300 --data "$dir/text/train.txt" --batch 1 --ctx 64 --steps 1 --eval_every 0 --checkpoint_every 0 --eval_tokens 64 \
        --threads "$threads" --out "$dir/run"
    mv "$dir/run/model.gguf" "$model"
    rm -rf "$dir/run"
fi
# The least that works with one slot, and a little.
least=$("$strobe" generate -m "$model" -p a -n 1 --ctx 64 --ram 1MiB 2>&1 | sed -n 's/.*(--ram \([0-9]*\)).*/\1/p') || true
echo "# $(basename "$model") $(stat -c %s "$model") bytes, least memory $least; load $(cut -d' ' -f1-3 /proc/loadavg)"
pattern() { # big layers of $layers, spread evenly
    awk -v b="$1" -v n="$layers" 'BEGIN { for (l = 0; l < n; l++) printf "%s", (int((l + 1) * b / n) > int(l * b / n) ? "b" : "s") }'
}
printf 'round\twhere\tbudget\ttokens_per_second\tbytes_read\n'
for r in $(seq "$rounds"); do
    for budget in 4 3 2 1 0; do
        b=$((layers * budget / 4))
        for where in resident streamed; do
            ram=
            [ "$where" = streamed ] && ram="--ram $least"
            # shellcheck disable=SC2086
            "$strobe" generate -m "$model" -p "Anna has" -n "$tg" --temp 0 --ctx 64 --ignore-eos --draft 0 --threads "$threads" $ram \
                --duo "fixed:$(pattern $b)" --json -q |
                sed -n 's/.*"tokens_per_second": *\([0-9.]*\).*"bytes_read": *\([0-9]*\).*/\1\t\2/p' | sed "s/^/$r\t$where\t$budget\/4\t/"
        done
    done
done
