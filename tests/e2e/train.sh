#!/bin/bash
# `strobe train` from outside: files, exit codes, JSON, signals, kills. Usage: train.sh STROBE_BINARY
set -u
strobe=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n=0
bad=0
check() { # what, expected exit code, command...
    local what=$1 want=$2
    shift 2
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    local got=$?
    n=$((n + 1))
    if [ $got -ne "$want" ]; then
        bad=$((bad + 1))
        echo "FAILED: $what: exit code $got, not $want: $*"
        head -n 5 "$tmp/out" "$tmp/err"
    fi
}
expect() { # what, python expression over d (stdout as JSON), t (stdout), e (stderr), m (metrics of run), L (list of files there)
    n=$((n + 1))
    python3 - "$tmp" "$2" <<'PY' || { bad=$((bad + 1)); echo "FAILED: $1: $2"; head -c 800 "$tmp/out" "$tmp/err"; }
import json, os, sys
tmp = sys.argv[1]
t = open(tmp + '/out', encoding='utf-8').read()
e = open(tmp + '/err', encoding='utf-8').read()
try:
    d = json.loads(t)
except ValueError:
    d = None
def metrics(run):
    return [json.loads(line) for line in open(f'{tmp}/{run}/metrics.jsonl', encoding='utf-8')]
def numbers(run):
    return [[r.get(k) for k in ('step', 'tokens', 'loss', 'val_loss', 'lr', 'grad_norm')] for r in metrics(run)]
def same(a, b):
    return all(open(f'{tmp}/{a}/checkpoints/last/{f}.bin', 'rb').read() == open(f'{tmp}/{b}/checkpoints/last/{f}.bin', 'rb').read() for f in ('params', 'm', 'v'))
try:
    sys.exit(0 if eval(sys.argv[2]) else 1)
except (OSError, TypeError, KeyError, IndexError) as x:
    print(x)
    sys.exit(1)
PY
}
python3 - "$tmp" <<'PY'
import json, sys
tmp = sys.argv[1]
animals = ['cat', 'dog', 'hen', 'cow', 'owl']
with open(tmp + '/text.txt', 'w') as f:
    for i in range(600):
        f.write(f'The {animals[i % 5]} has {i % 17} seeds and finds {i % 7} more. Now it has {i % 17 + i % 7}.<|endoftext|>\n')
with open(tmp + '/chat.jsonl', 'w') as f:
    for i in range(300):
        f.write(json.dumps({'prompt': f'What is {i % 10} + {i % 9}?', 'response': f'{i % 10 + i % 9}'}) + '\n')
json.dump({'data': tmp + '/text.txt', 'n_vocab': 290, 'n_layer': 2, 'd_model': 32, 'n_head': 2, 'ctx': 32, 'batch': 4, 'steps': 40,
           'eval_every': 10, 'checkpoint_every': 10, 'price_per_hour': 0.36, 'threads': 1}, open(tmp + '/c.json', 'w'))
PY
check help 0 "$strobe" train --help
expect help '"usage: strobe train" in t and "n_layer" in t and "checkpoint_every" in t and "--json" in t'
check "a whole run" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/a" --json
expect "its result" 'all(k in d for k in ("strobe", "run", "steps", "tokens", "loss", "val_loss", "bits_per_byte", "tok_s", "seconds", "dollars", "model")) and d["steps"] == 40 and d["tokens"] == 40 * 128'
expect "money" 'abs(d["dollars"] - d["seconds"] / 10000) < 1e-9'
expect "the plan is told before, the peak after" '"memory" in e and 0 < d["peak_bytes"] and d["planned_bytes"] > 0'
expect "who computed" 'json.load(open(tmp + "/a/run.json"))["products"].startswith(("strobe ", "openblas ", "plain C")) and json.load(open(tmp + "/a/run.json"))["threads"] == 1'
check "a run of some 100 MB" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/mb" --steps 2 --d-model 384 --n-head 6 --n-layer 4 --batch 16 --eval-every 0 --checkpoint-every 0 --model-type none --threads 2 --json
expect "peak memory is within 10 % of the plan" 'd["planned_bytes"] > 1e8 and abs(d["peak_bytes"] / d["planned_bytes"] - 1) < 0.1'
check "with activations kept as bf16" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/half" --steps 2 --d-model 384 --n-head 6 --n-layer 4 --batch 16 --eval-every 0 --checkpoint-every 0 --model-type none --threads 2 --activations bf16 --json
expect "memory is less, and as planned" '(lambda m: m("half") < 0.8 * m("mb"))(lambda run: json.load(open(tmp + "/" + run + "/run.json"))["memory"]["activations"]) and abs(d["peak_bytes"] / d["planned_bytes"] - 1) < 0.1' # half of four layers, and the one at work: three quarters
check "products by BLAS, or plain C where there is none" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/blas" --gemm blas --steps 2 --json
expect "who computed, and a word where it is plain C" 'json.load(open(tmp + "/blas/run.json"))["products"].startswith("openblas ") or "plain C" in e'
expect "its log" '[r["step"] for r in metrics("a")] == list(range(1, 41)) and [r["step"] for r in metrics("a") if "val_loss" in r] == [10, 20, 30, 40] and all(k in metrics("a")[0] for k in ("tokens", "loss", "lr", "grad_norm", "tok_s", "seconds", "dollars", "rss"))'
expect "its folder" 'json.load(open(tmp + "/a/run.json"))["config"]["n_layer"] == 2 and os.path.exists(tmp + "/a/model.gguf")'
check "the model runs" 0 "$strobe" generate -m "$tmp/a/model.gguf" -p "The cat" -n 8 --temp 0 --json
expect "the model runs" 'd["completion_tokens"] == 8'
check "the same run, another number of threads" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/b" --threads 2 --json
expect "is the same run" 'same("a", "b") and numbers("a") == numbers("b")'
check "flags override, with dashes" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/c" --steps=4 --eval-every 0 --n_layer 1 --json
expect "flags override, with dashes" 'd["steps"] == 4 and json.load(open(tmp + "/c/run.json"))["config"]["n_layer"] == 1'
check "without JSON" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/d" --steps 2 -q
expect "without JSON" '"step 2 of 2" in t and e == ""'
check "progress lines" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/e" --steps 2 -v
expect "progress lines" '"step 1/2 loss" in e and "tok/s" in e'
check "prompts and responses" 0 "$strobe" train --config "$tmp/c.json" --data "$tmp/chat.jsonl" --out "$tmp/f" --steps 2 --n_vocab 262 --ctx 16 --json
expect "prompts and responses" 'd["loss"] > 0'
# refusals
check "an unknown key" 2 "$strobe" train --config "$tmp/c.json" --out "$tmp/x" --n-layres 2
expect "an unknown key" "\"did you mean 'n_layer'\" in e and len(e.splitlines()) == 1"
check "an unknown key in the file" 2 "$strobe" train --config <(echo '{"stpes":1}') --out "$tmp/x"
expect "an unknown key in the file" "\"did you mean 'steps'\" in e"
check "a missing value" 2 "$strobe" train --out "$tmp/x" --steps
check "no folder" 2 "$strobe" train --config "$tmp/c.json"
check "no such file of settings" 3 "$strobe" train --config "$tmp/none.json" --out "$tmp/x"
check "settings that are no JSON" 3 "$strobe" train --config "$tmp/text.txt" --out "$tmp/x"
check "a folder with a run" 2 "$strobe" train --config "$tmp/c.json" --out "$tmp/a"
expect "a folder with a run" '"--resume" in e'
check "no such text" 3 "$strobe" train --config "$tmp/c.json" --out "$tmp/x" --data "$tmp/none.txt"
expect "no such text" '"none.txt" in e and len(e.splitlines()) == 1'
check "no such data" 3 "$strobe" train --out "$tmp/x" --data "$tmp/none" --n_vocab 262 --steps 1
expect "no such data" '"/none" in e and "No such file" in e'
check "a text of another name" 2 "$strobe" train --out "$tmp/x" --data "$tmp/c.json" --n_vocab 262 --steps 1
expect "a text of another name" '".jsonl" in e'
check "a complete run" 0 "$strobe" train --resume "$tmp/d" -q
expect "a complete run" '"step 2 of 2" in t and "nan" not in t'
check "more memory than there is" 4 "$strobe" train --config "$tmp/c.json" --out "$tmp/x" --n-layer 1000 --d-model 16384 --n-head 64
expect "more memory than there is" '"this machine gives" in e.splitlines()[-1]'
rm -rf "$tmp/x"
check "too little text" 2 "$strobe" train --config "$tmp/c.json" --out "$tmp/x" --batch 5000
expect "too little text" '"fewer than one step takes" in e'
rm -rf "$tmp/x"
check "no such text" 3 "$strobe" train --config "$tmp/c.json" --out "$tmp/x" --data "$tmp/none.txt"
check "another shape" 2 "$strobe" train --resume "$tmp/a" --d-model 64
expect "another shape" '"d_model" in e'
cp -r "$tmp/a" "$tmp/g"
python3 - "$tmp/g/checkpoints/last/v.bin" <<'PY'
import sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(100)
    c = f.read(1)
    f.seek(100)
    f.write(bytes([c[0] ^ 1]))
PY
check "a damaged checkpoint" 3 "$strobe" train --resume "$tmp/g" --steps 50
expect "a damaged checkpoint" '"v.bin" in e and "token_embd.weight" in e'
# a file that may not grow stands for a full disk: the checkpoint of step 10 is there, that of 20 is not
check "until the first checkpoint" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/l" --stop-at 10 --json
check "a full disk" 1 bash -c 'ulimit -f 60; exec "$0" "$@"' "$strobe" train --resume "$tmp/l" --json
expect "a full disk" '"checkpoint of step" in e and "too large" in e and json.load(open(tmp + "/l/checkpoints/last/manifest.json"))["step"] == 10'
check "room again" 0 "$strobe" train --resume "$tmp/l" --json
expect "room again" 'same("a", "l") and numbers("a") == numbers("l")'
# parts
check "the first part" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/h" --stop-at 13 --json
expect "the first part" 'd["stopped"] is True and d["steps"] == 13 and d["model"] is None'
check "the second part" 0 "$strobe" train --resume "$tmp/h" --json
expect "the second part" 'd["stopped"] is False and same("a", "h") and numbers("a") == numbers("h")'
# a long run that is told to stop, by name of its process
check_signal() { # signal, run
    "$strobe" train --config "$tmp/c.json" --out "$tmp/$2" --steps 1000000 --eval-every 0 --checkpoint-every 0 >"$tmp/out" 2>"$tmp/err" &
    local pid=$! i
    for i in $(seq 2400); do
        [ -s "$tmp/$2/metrics.jsonl" ] && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.05
    done
    kill -"$1" $pid 2>/dev/null
    wait $pid
    local got=$?
    n=$((n + 1))
    [ $got -eq 1 ] || {
        bad=$((bad + 1))
        echo "FAILED: SIG$1: exit code $got"
        cat "$tmp/err"
    }
    expect "SIG$1 leaves a checkpoint of the last step" "'--resume' in e and json.load(open(tmp + '/$2/checkpoints/last/manifest.json'))['step'] == metrics('$2')[-1]['step']"
}
check_signal INT i
check_signal TERM j
# kill -9, again and again, until the run is done
kills=0
for i in $(seq 25); do
    "$strobe" train --config "$tmp/c.json" --out "$tmp/k" --resume "$tmp/k" --checkpoint-every 3 >/dev/null 2>"$tmp/err" &
    pid=$!
    sleep "0.$(printf %02d $((i * 37 % 30 + 3)))"
    if kill -9 $pid 2>/dev/null; then kills=$((kills + 1)); fi
    wait $pid 2>/dev/null
    rc=$?
    [ $rc -eq 0 ] && break
    [ $rc -eq 137 ] || {
        n=$((n + 1))
        bad=$((bad + 1))
        echo "FAILED: a killed run did not go on: exit code $rc"
        cat "$tmp/err"
        break
    }
done
# As before, for on a busy machine none of them may have got as far as to a folder.
[ $rc -eq 0 ] || check "the rest of the killed run" 0 "$strobe" train --config "$tmp/c.json" --out "$tmp/k" --resume "$tmp/k" --checkpoint-every 3
expect "$kills kills change nothing" 'same("a", "k") and numbers("a") == numbers("k")'
# relufy: the SiLU model that run a left becomes a ReLU one
check "relufy" 0 "$strobe" relufy --from "$tmp/a/model.gguf" --data "$tmp/text.txt" --out "$tmp/r" --steps 30 --ctx 32 --batch 4 --lr 0.001 --json
expect "relufy's report" 'd["before"]["sparsity"]["mean"]["down_in"] < 0.01 and d["swapped"]["sparsity"]["mean"]["down_in"] > 0.2 and d["after"]["nats_per_token"] < d["swapped"]["nats_per_token"] and len(d["after"]["sparsity"]["layers"]) == 2'
expect "a layer without zeros costs nothing less" 'd["before"]["sparsity"]["flops"] <= d["before"]["sparsity"]["flops_dense"] and d["after"]["sparsity"]["flops"] < 0.95 * d["after"]["sparsity"]["flops_dense"]'
check "relufy's tables" 0 "$strobe" relufy --resume "$tmp/r"
expect "runs longer than a sequence have no share" '"nan" not in t and t.splitlines()[-3].split()[-1] == "-"'
check "relufy's model" 0 "$strobe" inspect -m "$tmp/r/model.gguf" --json
expect "relufy's model says what it is" '"relu" in json.dumps(d["activation"])'
printf '{"from": "%s", "to": "shifted_relu:0.1", "stage": 2, "data": "%s", "steps": 3, "ctx": 32, "batch": 4}' "$tmp/a/model.gguf" "$tmp/text.txt" >"$tmp/r2.json"
check "relufy, stage 2, from a file of settings" 0 "$strobe" relufy --config "$tmp/r2.json" --out "$tmp/r2" --json
expect "stage 2 rectifies the norms" 'd["before"]["sparsity"]["mean"]["qkv_in"] < 0.01 and d["swapped"]["sparsity"]["mean"]["qkv_in"] > 0.2'
check "relufy of nothing" 2 "$strobe" relufy --data "$tmp/text.txt" --out "$tmp/r3"
check "relufy to silu" 2 "$strobe" relufy --from "$tmp/a/model.gguf" --to silu --data "$tmp/text.txt" --out "$tmp/r3" --steps 1
expect "relufy to silu" '"silu" in e'
check "relufy over a run" 2 "$strobe" relufy --from "$tmp/a/model.gguf" --data "$tmp/text.txt" --out "$tmp/r" --steps 30 --ctx 32
echo "e2e train: $((n - bad)) of $n checks passed ($kills kills)"
[ $bad -eq 0 ]
