#!/bin/bash
# Held-out loss against tokens and seconds of the configurations in tests/bench/train/curves, several
# seeds each, on text that `strobe corpus` makes (the held-out text is its `test` split).
#   curves.sh STROBE OUT_DIR [--tokens 20000000] [--seeds 1,2,3] [--only 1m,5m] [--evals 20] [--threads N]
#             [--gemm f32]
# Writes OUT_DIR/curves.tsv (config, params, seed, step, tokens, seconds, train_loss, val_loss,
# bits_per_byte, tok_s) and prints, for each configuration, the mean over seeds and the range of the
# held-out loss at each tenth of the run. A run that was interrupted goes on; one that is done is not
# done again; the seeds one after another, so that a stopped table holds whole seeds. Seconds are those
# of the run alone, measuring included: write down what else ran.
set -u
die() { echo "curves.sh: $*" >&2; exit 2; }
[ $# -ge 2 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
strobe=$(realpath "$1") || exit 2
configs=$(realpath "$(dirname "$0")/curves")
mkdir -p "$2" && out=$(realpath "$2") || exit 2
shift 2
tokens=20000000 seeds=1,2,3 only= evals=20 threads=0 gemm=f32
while [ $# -gt 1 ]; do
    case $1 in
    --tokens) tokens=$2 ;;
    --seeds) seeds=$2 ;;
    --only) only=$2 ;;
    --evals) evals=$2 ;;
    --threads) threads=$2 ;;
    --gemm) gemm=$2 ;;
    *) die "no option '$1'" ;;
    esac
    shift 2
done
[ $# -eq 0 ] || die "'$1' needs a value"

text=$out/text
if [ ! -s "$text/words.gguf" ]; then
    "$strobe" corpus -o "$text" -q --problems 60000 >/dev/null &&
        "$strobe" corpus -o "$text" -q --split test --problems 2000 >/dev/null &&
        "$strobe" vocab --text "$text/train.txt" --n-vocab 2048 -o "$text/words.gguf" -q >/dev/null || die "no text"
fi
# Runs stand beside each other in folders of their own: CONFIG-TOKENS-SEED.
step=$((16 * 256))
steps=$(((tokens + step - 1) / step))
every=$(((steps + evals - 1) / evals))
for seed in ${seeds//,/ }; do
    for config in "$configs"/*.json; do
        name=$(basename "$config" .json)
        case ,$only, in ,, | *,"$name",*) ;; *) continue ;; esac
        run=$out/$name-$tokens-$seed
        [ -s "$run/done.json" ] && continue
        echo "$name, seed $seed: $steps steps" >&2
        "$strobe" train --config "$config" --data "$text/train.txt" --held-out "$text/test.txt" --gemm "$gemm" \
            --tokenizer "$text/words.gguf" --steps "$steps" --eval-every "$every" --log-every "$every" --seed "$seed" \
            --threads "$threads" --out "$run" --resume "$run" -q --json >"$run.result" || die "$run did not end"
        mv "$run.result" "$run/done.json"
    done
done

python3 - "$out" "$tokens" <<'PY'
import collections, glob, json, os, sys
out, tokens = sys.argv[1:]
keys = ['step', 'tokens', 'seconds', 'loss', 'val_loss', 'bits_per_byte', 'tok_s']
held = collections.defaultdict(lambda: collections.defaultdict(list))
params, seconds = {}, collections.defaultdict(list)
with open(out + '/curves.tsv', 'w') as f:
    f.write('\t'.join(['config', 'params', 'seed', 'step', 'tokens', 'seconds', 'train_loss', 'val_loss', 'bits_per_byte', 'tok_s']) + '\n')
    for run in sorted(glob.glob(f'{out}/*-{tokens}-*/')):
        if not os.path.exists(run + 'done.json'):
            continue
        name, _, seed = os.path.basename(run[:-1]).rsplit('-', 2)
        params[name] = json.load(open(run + 'run.json'))['n_param']
        for line in open(run + 'metrics.jsonl'):
            r = json.loads(line)
            f.write('\t'.join([name, str(params[name]), seed] + [str(r.get(k, '')) for k in keys]) + '\n')
            if 'val_loss' in r:
                held[name][r['tokens']].append(r['val_loss'])
                last = r['seconds']
        seconds[name].append(last)
for name, at in sorted(held.items(), key=lambda x: params[x[0]]):
    s = sorted(seconds[name])
    print(f'{name}: {params[name] / 1e6:.2f} M parameters, {len(s)} seeds, {s[0]:.0f} to {s[-1]:.0f} s')
    points = sorted(at)
    for i in sorted({max(0, len(points) * k // 10 - 1) for k in range(1, 11)}):
        v = sorted(at[points[i]])
        print(f'  {points[i] / 1e6:9.3f} M tokens  {sum(v) / len(v):.4f} nats a token [{v[0]:.4f}..{v[-1]:.4f}]')
PY
