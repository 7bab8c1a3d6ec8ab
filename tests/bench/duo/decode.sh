#!/bin/bash
# Does routing save time, not only FLOPs? Decode tokens/s at budgets 1 (all big), 0.75, 0.5, 0.25 and 0 (all small), resident and from flash under
# the least memory that works, rounds interleaved, best of the rounds. Two models: the bundled one, where the big part is half of the work, and one
# made here of random weights (speed does not depend on them) and routers, where it is nearly all: 12 x (512, 8192 | 512), f16, 330 MB.
#   tests/bench/duo/decode.sh [DIR]     ROUNDS=3 TG=48 LAYERS=12 WIDTH=512 FF=8192 SMALL=512 THREADS=1
#   STROBE=build/release/server/strobe SYNTH=build/release/tests/bench/synth_gguf
# big: the share of layers that were. read: MB a token from the file. speed: against all big in the same place; work: FLOPs of a token against all big's.
# About 3 minutes on a quiet machine.
set -eu
cd "$(dirname "$0")/../../.."
dir=${1:-build/bench-duo}
strobe=${STROBE:-build/release/server/strobe} synth=${SYNTH:-build/release/tests/bench/synth_gguf}
layers=${LAYERS:-12} width=${WIDTH:-512} ff=${FF:-8192} small=${SMALL:-512} rounds=${ROUNDS:-3} tg=${TG:-48} threads=${THREADS:-1}
mkdir -p "$dir"
model=$dir/duo-$layers-$width-$ff-$small.gguf raw=$dir/decode.tsv
[ -f "$model" ] || "$synth" --layers "$layers" --embd "$width" --ff "$ff" --heads 8 --kv 2 --vocab 512 --ctx 512 --small "$small" "$model" 2> /dev/null
: > "$raw"
run() { # name, model, where, more options
    name=$1 m=$2 where=$3
    shift 3
    for budget in 1 0.75 0.5 0.25 0; do
        way=router:$budget
        [ "$budget" != 1 ] || way=big # no router is asked, reading ahead has nothing to guess
        "$strobe" generate -m "$m" -p "Anna has" -n "$tg" --temp 0 --ctx 128 --ignore-eos --draft 0 --threads "$threads" --duo "$way" --json -q "$@" |
            sed -n 's/.*"tokens":\[\([0-9,]*\)\].*"prompt_tokens": *\([0-9]*\).*"tokens_per_second": *\([0-9.]*\).*"bytes_read": *\([0-9]*\).*"duo":{[^}]*"big": *\([0-9.]*\).*/\2 \3 \4 \5 \1/p' |
            awk -v n="$name" -v w="$where" -v b="$budget" -v tg="$tg" '{ printf "%s\t%s\t%s\t%s\t%.2f\t%s\t%s\n", n, w, b, $2, $3 / (tg + 0) / 1e6, $4, $5 }' >> "$raw"
    done
}
echo "# threads $threads, $tg tokens, best of $rounds rounds, load $(cut -d' ' -f1-3 /proc/loadavg)"
for m in deploy/model/strobe-duo.gguf "$model"; do
    least=$("$strobe" generate -m "$m" -p a -n 1 --ctx 128 --ram 1MiB 2>&1 | sed -n 's/.*(--ram \([0-9]*\)).*/\1/p') || true
    echo "# $(basename "$m") $(stat -c %s "$m") bytes, least memory $least"
    for r in $(seq "$rounds"); do
        run "$(basename "$m" .gguf)" "$m" resident
        run "$(basename "$m" .gguf)" "$m" flash --ram "$least" --flash dense
    done
done
# Work of a token: two FLOPs a weight, by the shapes (the bundled one: 12 x (96, 256 | 16), 4 heads, 2 of keys and values, 512 words).
awk -F'\t' -v L="$layers" -v W="$width" -v F="$ff" -v S="$small" '
    function work(name, big,   d, f, s, v, kv) {
        if (name == "strobe-duo") { d = 96; f = 256; s = 16; v = 512; kv = 48; l = 12 } else { d = W; f = F; s = S; v = 512; kv = W / 4; l = L }
        return l * (2 * d * d + 2 * d * kv + 3 * d * (big * f + (1 - big) * s)) + d * v
    }
    { k = $1 "\t" $2 "\t" $3; if (!(k in best)) { order[n++] = k; name[k] = $1; base[k] = $1 "\t" $2 "\t1"; pair[k] = $1 "\t" $3; place[k] = $2 }
      if ($4 + 0 > best[k] + 0) best[k] = $4; read[k] = $5; big[k] = $6
      if (!(pair[k] in text)) text[pair[k]] = $7; else if (text[pair[k]] != $7) differ[pair[k]] = 1 }
    END { print "model\twhere\tbudget\tbig\ttokens_per_s\tMB_read_per_token\tspeed\twork\tsame_tokens"
          for (i = 0; i < n; i++) { k = order[i]
              printf "%s\t%.3f\t%.1f\t%.2f\t%.2f\t%.2f\t%s\n", k, big[k], best[k], read[k], best[k] / best[base[k]], work(name[k], big[k]) / work(name[k], 1), differ[pair[k]] ? "NO" : "yes" } }' "$raw"
