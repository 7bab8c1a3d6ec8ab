#!/bin/bash
# The command line's contract on real files. Usage: cli.sh STROBE_BINARY
set -u
strobe=$1
here=$(cd "$(dirname "$0")/../.." && pwd)
data=${STROBE_TEST_DATA:-$here/../shared/data}
m=$data/models/stories260K/stories260K.gguf
if [ ! -r "$m" ]; then
    echo "SKIPPED: e2e cli needs shared data models/stories260K"
    exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export STROBE_DATA=$tmp/data
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
expect() { # what, python expression over d (stdout as JSON), t (stdout), e (stderr)
    n=$((n + 1))
    python3 - "$tmp/out" "$tmp/err" "$2" <<'PY' || { bad=$((bad + 1)); echo "FAILED: $1: $2"; head -c 600 "$tmp/out" "$tmp/err"; }
import json, sys
t = open(sys.argv[1], encoding='utf-8').read()
e = open(sys.argv[2], encoding='utf-8').read()
try:
    d = json.loads(t)
except ValueError:
    d = None
sys.exit(0 if eval(sys.argv[3]) else 1)
PY
}
check version 0 "$strobe" --version
expect version 't.startswith("strobe ")'
check help 0 "$strobe" --help
for v in serve generate tokenize detokenize inspect estimate calibrate bench perplexity pack predictor corpus; do
    check "help of $v" 0 "$strobe" $v --help
    expect "help of $v" '"usage: strobe" in t and "--json" in t'
done
for w in --version --help "inspect --help" "inspect -m $m"; do
    check "no room for the output: $w" 1 bash -c '"$1" ${@:2} >/dev/full' _ "$strobe" $w
    expect "no room for the output: $w" '"cannot write the output" in e'
done
check "no verb" 2 "$strobe"
check "unknown verb" 2 "$strobe" fly
check "unknown option" 2 "$strobe" generate --fly
check "nearest verb" 2 "$strobe" generat
expect "nearest verb" '"did you mean" in e and "generate" in e and len(e.splitlines()) == 1'
check "nearest option" 2 "$strobe" generate --tempp 1
expect "nearest option" '"did you mean" in e and "--temp" in e.split("mean")[1] and len(e.splitlines()) == 1'
check "no memory" 2 "$strobe" estimate -m "$m" --ram 0
expect "no memory" '"--ram" in e'
check "missing value" 2 "$strobe" generate -m
check "bad number" 2 "$strobe" generate -m "$m" -p x -n many
check "no model" 2 "$strobe" generate -p x
check "absent file" 3 "$strobe" generate -m /no/such.gguf -p x
expect "absent file" '"/no/such.gguf" in e and len(e.splitlines()) == 1'
ln -s loop "$tmp/loop"
for f in "$tmp" "$tmp/loop" "$m/x" "$tmp/$(printf 'a%.0s' {1..300})"; do
    check "a text that is none: ${f##*/}" 3 "$strobe" perplexity -m "$m" "$f"
    expect "a text that is none: ${f##*/}" 'len(e.splitlines()) == 1'
    check "a model that is none: ${f##*/}" 3 "$strobe" generate -m "$f" -p x
done
check "texts for a vocabulary that are none" 3 "$strobe" vocab --text "$tmp" --n-vocab 300 -o "$tmp/v.gguf"
for f in "$data"/models/containers/{empty.gguf,interrupted-write.gguf,git-lfs-pointer.safetensors,tiny-no-data.gguf}; do
    check "container $(basename "$f")" 3 "$strobe" generate -m "$f" -p x
    expect "one line for $(basename "$f")" 'len(e.splitlines()) == 1 and t == ""'
done
check generate 0 "$strobe" generate -m "$m" -p "Once upon a time" -n 12 --temp 0
expect generate 't.startswith(", there was a little girl") and "Once upon" not in t'
check "generate json" 0 "$strobe" --json generate -m "$m" -p "Once upon a time" -n 12 --temp 0
expect "generate json" 'd["completion_tokens"] == 12 == len(d["tokens"]) and d["finish_reason"] == "length" and d["flash"]["exact"] and d["strobe"]'
expect "timings" 'all(k in d["timings"] for k in ("load_ms", "prefill_ms", "decode_ms", "tokens_per_second"))'
expect "flash" 'all(k in d["flash"] for k in ("mode", "ram_budget", "ram_peak", "resident_bytes", "bytes_read", "reads", "cache_hit_rate", "stall_ms", "exact"))'
check tokenize 0 "$strobe" tokenize -m "$m" "Once upon a time"
expect tokenize 't.split() == ["1", "403", "407", "261", "378"]'
check "tokenize json" 0 "$strobe" tokenize -m "$m" "Once upon a time" --json --no-bos
expect "tokenize json" 'd["tokens"] == [403, 407, 261, 378]'
check detokenize 0 "$strobe" detokenize -m "$m" 1 403 407 261 378
expect detokenize 't == "Once upon a time\n"'
check "detokenize range" 2 "$strobe" detokenize -m "$m" 99999
check "tokenize vocabulary file" 0 "$strobe" tokenize -m "$data/vocab-gguf/ggml-vocab-llama-spm.gguf" "Hello world" --no-bos
expect "tokenize vocabulary file" 't.split() == ["15043", "3186"]'
check inspect 0 "$strobe" inspect -m "$m" --json
expect inspect 'd["architecture"] == "llama" and d["kv_type"] == "f32"'
check "inspect f16" 0 "$strobe" inspect -m "$data/models/stories260K/stories260K.F16.gguf" --json
expect "inspect f16" 'd["kv_type"] == "f16"'
check pack 0 "$strobe" pack -m "$m" --activation relu --mask sketch -o "$tmp/packed.gguf"
check "inspect --verify" 0 "$strobe" inspect --verify -m "$tmp/packed.gguf" --json
expect "inspect --verify" 'd["verified"]["tensors"] > 40 and d["verified"]["checked_bytes"] > 10**6'
check "neuron trace" 0 "$strobe" generate -m "$tmp/packed.gguf" -p "Once upon" -n 8 --temp 0 --flash sparse --neuron-trace "$tmp/trace" --json
expect "neuron trace" 'd["flash"]["neurons_needed"] > 0'
check "the trace is there" 0 grep -q ^strobeN2 "$tmp/trace"
check "pack with rates" 0 "$strobe" pack -m "$m" --activation relu --mask sketch --rates "$tmp/trace" -o "$tmp/rated.gguf" --json
expect "pack with rates" 'd["rates"] is True'
check "generate with rates" 0 "$strobe" generate -m "$tmp/rated.gguf" -p "Once upon" -n 8 --temp 0 --flash sparse --json
expect "generate with rates" 'd["flash"]["exact"] is True'
check "place without rates" 2 "$strobe" pack -m "$m" --activation relu --mask sketch --place rate -o "$tmp/placed.gguf"
expect "place without rates" '"--rates" in e and len(e.splitlines()) == 1'
check "no such order" 2 "$strobe" pack -m "$m" --activation relu --rates "$tmp/trace" --place best -o "$tmp/placed.gguf"
expect "no such order" '"coactive" in e'
check "pack placed" 0 "$strobe" pack -m "$m" --activation relu --mask sketch --rates "$tmp/trace" --place coactive -o "$tmp/placed.gguf" --json
expect "pack placed" 'd["place"] == "coactive"'
check "inspect placed" 0 "$strobe" inspect --verify -m "$tmp/placed.gguf" --json
expect "inspect placed" 'd["metadata"]["strobe.pack.place"] == "coactive" and d["warning"] == ""'
check "generate placed" 0 "$strobe" generate -m "$tmp/placed.gguf" -p "Once upon" -n 8 --temp 0 --flash sparse --neuron-trace "$tmp/placed.trace" --json
expect "generate placed" 'd["flash"]["exact"] is True'
check "a placed file's trace" 2 "$strobe" pack -m "$m" --activation relu --rates "$tmp/placed.trace" -o "$tmp/rated2.gguf"
expect "a placed file's trace" '"another model" in e'
check "pack sketch4" 0 "$strobe" pack -m "$m" --activation relu --mask sketch4 -o "$tmp/four.gguf"
check "a 4-bit sketch" 0 "$strobe" generate -m "$tmp/four.gguf" -p "Once upon" -n 8 --temp 0 --json
expect "a 4-bit sketch" 'd["flash"]["exact"] is False'
check "a 4-bit sketch, all neurons" 0 "$strobe" generate -m "$tmp/four.gguf" -p "Once upon" -n 8 --temp 0 --flash dense --json
expect "a 4-bit sketch, all neurons" 'd["flash"]["exact"] is True'
expect "its mask is named" 'd["flash"]["mask"]["kind"] == "sketch4" and d["flash"]["mask"]["check_every"] == 0'
check "a 4-bit sketch looked at" 0 "$strobe" generate -m "$tmp/four.gguf" -p "Once upon a time there was" -n 60 --temp 0 --mask-check 1 --json
expect "a 4-bit sketch looked at" 'd["flash"]["mask"]["recall"] > 0.95 and d["flash"]["mask"]["checked"] >= 60 * 5 and d["flash"]["mask"]["recall_low"] < 1'
check "nobody looks" 0 "$strobe" generate -m "$tmp/four.gguf" -p "Once upon" -n 8 --temp 0 --mask-check 0 --json
expect "nobody looks" 'd["flash"]["mask"]["checked"] == 0 and d["flash"]["mask"]["recall"] is None'
check predictor 0 "$strobe" predictor -m "$m" --activation fatrelu:1 --text "$data/text/tinystories-sample.txt" -o "$tmp/pred.gguf" --rank 32 --tokens 6000 --epochs 2 --json
expect predictor 'len(d["layers"]) == 5 and all(l["rank"] == 32 and l["recall"] > 0.9 and l["over_load"] > 1 for l in d["layers"]) and d["missed_mass"] < 0.05'
check "pack lowrank" 0 "$strobe" pack -m "$m" --activation fatrelu:1 --mask lowrank --predictor "$tmp/pred.gguf" -o "$tmp/low.gguf" --json
expect "pack lowrank" 'd["mask"] == "lowrank" and d["mask_bytes"] > 0'
check "inspect lowrank" 0 "$strobe" inspect -m "$tmp/low.gguf" --verify --json
expect "inspect lowrank" 'd["mask"]["kind"] == "lowrank" and d["mask"]["ranks"] == [32] * 5 and d["mask"]["exact"] is False and d["verified"]["tensors"] > 50'
check "estimate lowrank" 0 "$strobe" estimate -m "$tmp/low.gguf" --ram 1GiB --json
expect "estimate lowrank" 'd["mask"] == "lowrank" and 0 < d["mask_bytes"] < d["resident_bytes"]'
check "generate lowrank" 0 "$strobe" generate -m "$tmp/low.gguf" -p "Once upon a time there was" -n 60 --temp 0 --flash sparse --mask-check 1 --json
expect "generate lowrank" 'd["flash"]["exact"] is False and d["flash"]["mask"]["recall"] > 0.8 and d["flash"]["mask"]["over_load"] > 1 and d["flash"]["mask"]["missed_mass"] < 0.2'
head -c 20000 "$data/text/tinystories-sample.txt" >"$tmp/text"
check "neuron trace of a text" 0 "$strobe" perplexity -m "$tmp/packed.gguf" "$tmp/text" --ctx 128 --windows 2 --batch 1 --flash sparse --neuron-trace "$tmp/trace2" --json
expect "neuron trace of a text" 'd["neurons_needed"] >= d["neurons_active"] > 255 * 5 and d["neurons_missed"] > 0 and d["cache_policy"] == "adaptive"'
check "the text's trace is of its model" 0 "$strobe" pack -m "$m" --activation relu --mask sketch --rates "$tmp/trace2" -o "$tmp/rated3.gguf"
check "neuron trace of a text on a full disk" 1 "$strobe" perplexity -m "$tmp/packed.gguf" "$tmp/text" --ctx 128 --windows 2 --batch 1 --flash sparse --neuron-trace /dev/full
expect "neuron trace of a text on a full disk" '"/dev/full" in e and "space" in e'
check "neuron trace of a text and a model that is not packed" 3 "$strobe" perplexity -m "$m" "$tmp/text" --ctx 128 --neuron-trace "$tmp/trace2"
check "perplexity lowrank" 0 "$strobe" perplexity -m "$tmp/low.gguf" "$tmp/text" --ctx 128 --windows 8 --mask-check 8 --json
expect "perplexity lowrank" 'd["mask"]["kind"] == "lowrank" and d["mask"]["recall"] > 0.9 and d["mask"]["sampled"] == 0'
check "a text's neuron trace" 0 "$strobe" perplexity -m "$tmp/packed.gguf" "$tmp/text" --ctx 64 --windows 2 --batch 1 --neuron-trace "$tmp/text.trace" --json
check "pack with a text's rates" 0 "$strobe" pack -m "$m" --activation relu --mask sketch --rates "$tmp/text.trace" --place rate -o "$tmp/placed2.gguf"
check "a predictor of another activation" 2 "$strobe" pack -m "$m" --activation relu --mask lowrank --predictor "$tmp/pred.gguf" -o "$tmp/low2.gguf"
expect "a predictor of another activation" '"fatrelu:1" in e and len(e.splitlines()) == 1'
check "lowrank without a predictor" 2 "$strobe" pack -m "$m" --activation relu --mask lowrank -o "$tmp/low2.gguf"
check "a predictor that is none" 3 "$strobe" pack -m "$m" --activation relu --mask lowrank --predictor "$tmp/packed.gguf" -o "$tmp/low2.gguf"
check "a predictor of a SiLU model" 3 "$strobe" predictor -m "$m" --text "$tmp/text" -o "$tmp/pred2.gguf"
check "a predictor of a packed model" 3 "$strobe" predictor -m "$tmp/packed.gguf" --text "$tmp/text" -o "$tmp/pred2.gguf"
check "a predictor of no text" 2 "$strobe" predictor -m "$m" --activation relu -o "$tmp/pred2.gguf"
check "a bad rank" 2 "$strobe" predictor -m "$m" --activation relu --text "$tmp/text" -o "$tmp/pred2.gguf" --rank 8:
expect "a bad rank" '"--rank" in e'
check "pack SiLU" 0 "$strobe" pack -m "$m" --mask resident -o "$tmp/silu.gguf"
check "all of a SiLU model" 0 "$strobe" generate -m "$tmp/silu.gguf" -p "Once upon a time" -n 12 --temp 0 --json
expect "all of a SiLU model" 'd["flash"]["exact"] is True and d["text"].startswith(", there was a little girl")'
check "some of a SiLU model" 0 "$strobe" generate -m "$tmp/silu.gguf" -p "Once upon a time" -n 12 --temp 0 --keep 0.6 --json
expect "some of a SiLU model" 'd["flash"]["exact"] is False and d["flash"]["mask"]["kind"] == "resident"'
check "a share of a sketched file" 2 "$strobe" generate -m "$tmp/packed.gguf" -p x -n 2 --keep 0.5
expect "a share of a sketched file" '"--mask resident" in e'
s="$data/models/llama2xs-512/llama2xs-512.F32.gguf"
for temp in 0 0.8; do
    check "without a draft model, $temp" 0 "$strobe" generate -m "$m" -p "Once upon a time" -n 40 --temp $temp --draft 0
    cp "$tmp/out" "$tmp/alone"
    check "with a draft model, $temp" 0 "$strobe" generate -m "$m" -p "Once upon a time" -n 40 --temp $temp --draft-model "$s"
    cp "$tmp/out" "$tmp/drafted"
    check "the same text, $temp" 0 cmp "$tmp/drafted" "$tmp/alone"
done
check "draft model json" 0 "$strobe" generate -m "$m" -p "Once upon a time" -n 40 --temp 0 --draft-model "$s" --json
expect "draft model json" 'd["flash"]["draft_model"] == "llama2xs-512.F32" and d["flash"]["drafted_by_model"] > 0 and d["flash"]["draft_bytes"] > 10**6'
check "a draft model in the estimate" 0 "$strobe" estimate -m "$m" --ram 1GiB --draft-model "$s" --json
expect "a draft model in the estimate" 'd["draft_bytes"] > 10**6 and d["total_bytes"] <= 2**30'
check "a draft model that does not fit" 4 "$strobe" generate -m "$m" -p x --ram 30MiB --draft-model "$s"
check "a draft model without a vocabulary of its own" 3 "$strobe" generate -m "$m" -p x --draft-model "$data/models/containers/empty.gguf"
check "bench with a draft model" 0 "$strobe" bench -m "$m" --pp 16 --tg 16 --repeat 1 --draft-model "$s" --json
expect "bench with a draft model" '[r["test"] for r in d["results"]] == ["prefill", "decode", "drafted"] and d["results"][2]["drafted"] >= d["results"][2]["draft_accepted"]'
check "guesses of resident neurons" 0 "$strobe" generate -m "$tmp/silu.gguf" -p "Once upon a time" -n 12 --temp 0 --draft-self --json
expect "guesses of resident neurons" 'd["flash"]["exact"] is True and d["text"].startswith(", there was a little girl")'
check "resident neurons of a model that is not packed" 3 "$strobe" generate -m "$m" -p x --draft-self
small=$("$strobe" estimate -m "$tmp/silu.gguf" --ram 1 --slots 1 --ctx 128 --flash sparse --json 2>/dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)["least_bytes"] + 50000)')
check "reuse" 0 "$strobe" generate -m "$tmp/silu.gguf" -p "Once upon a time" -n 12 --temp 0 --ctx 128 --ram "$small" --reuse 2 --json
expect "reuse" 'd["flash"]["exact"] is False and d["flash"]["reuse"] == 2 and d["flash"]["reuse_passes"] == 8 and d["flash"]["neurons_dropped"] > 0 and 0 < d["flash"]["activation_mass_dropped"] < 1'
check "reuse where nothing is missing" 0 "$strobe" generate -m "$tmp/silu.gguf" -p "Once upon a time" -n 12 --temp 0 --reuse 2 --json
expect "reuse where nothing is missing" 'd["flash"]["exact"] is True and d["flash"]["neurons_dropped"] == 0'
check "reuse and guesses" 2 "$strobe" generate -m "$tmp/silu.gguf" -p x --reuse 2 --draft-self
check "rates of no trace" 3 "$strobe" pack -m "$m" --activation relu --rates "$tmp/packed.gguf" -o "$tmp/rated2.gguf"
check "neuron trace on a full disk" 1 "$strobe" generate -m "$tmp/packed.gguf" -p x -n 8 --neuron-trace /dev/full
expect "neuron trace on a full disk" '"/dev/full" in e and "space" in e'
check "neuron trace of a model that is not packed" 3 "$strobe" generate -m "$m" -p x -n 8 --neuron-trace "$tmp/trace"
python3 - "$tmp/packed.gguf" <<'PY'
import sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(-9000, 2)
    c = f.read(1)
    f.seek(-9000, 2)
    f.write(bytes([c[0] ^ 1]))
PY
check "inspect --verify of a damaged file" 3 "$strobe" inspect --verify -m "$tmp/packed.gguf"
expect "damage is named in one line" 'len(e.splitlines()) == 1 and "blk.4.ffn_bundle.weight" in e and t == ""'
check "inspect --verify of a file without sums" 3 "$strobe" inspect --verify -m "$m"
mkfifo "$tmp/pipe"
for v in "pack -m $m --activation relu" "vocab --text $tmp/text --n-vocab 300" "predictor -m $m --activation relu --text $tmp/text --epochs 1 --tokens 2000"; do
    check "an output that is a pipe: ${v%% *}" 2 "$strobe" $v -o "$tmp/pipe"
    expect "an output that is a pipe: ${v%% *}" '"pipe" in e and len(e.splitlines()) == 1'
    check "an output in no folder: ${v%% *}" 3 "$strobe" $v -o "$tmp/none/x"
done
check "the pipe is there still" 0 test -p "$tmp/pipe"
echo old >"$tmp/far.gguf"
ln -s far.gguf "$tmp/link.gguf"
check "an output that is a link" 0 "$strobe" pack -m "$m" --activation relu -o "$tmp/link.gguf"
check "the link is there still" 0 test -L "$tmp/link.gguf"
check "what it leads to was replaced" 0 "$strobe" inspect --verify -m "$tmp/far.gguf"
check estimate 0 "$strobe" estimate -m "$m" --ram 1GiB --json
expect estimate 'd["fits"] is True and d["total_bytes"] <= 2**30'
bytes=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["kv_bytes"])' "$tmp/out")
check "estimate with halves" 0 "$strobe" estimate -m "$m" --ram 1GiB --kv f16 --json
expect "estimate with halves" 'd["kv_type"] == "f16" and 2 * d["kv_bytes"] == '"$bytes"
check "an unknown kv type" 2 "$strobe" estimate -m "$m" --kv q8
check "estimate too small" 4 "$strobe" estimate -m "$m" --ram 1MiB
expect "estimate too small" '"least" in e'
check "generate too small" 4 "$strobe" generate -m "$m" -p x --ram 1MiB
check bench 0 "$strobe" bench -m "$m" --pp 64 --tg 16 --repeat 2 --json
expect bench 'len(d["results"]) == 2 and all(r["tokens_per_second"] > 0 for r in d["results"])'
head -c 40000 "$data/text/tinystories-sample.txt" >"$tmp/text"
check perplexity 0 "$strobe" perplexity -m "$m" "$tmp/text" --ctx 128 --windows 32 --json
expect "perplexity is the reference's" 'abs(d["perplexity"] / 4.5978 - 1) < 0.005'
printf 'Once upon a time there was a dog.##\nThe cat sat.' >"$tmp/docs"
printf 'The cat sat.##\nOnce upon a time there was a dog.##\n' >"$tmp/swapped"
check "perplexity of documents" 0 "$strobe" perplexity -m "$m" "$tmp/docs" --ctx 128 --split '##' --json
expect "perplexity of documents" 'd["windows"] == 2 and d["tokens"] == 16'
nats=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["nats_per_token"])' "$tmp/out")
check "documents in another order" 0 "$strobe" perplexity -m "$m" "$tmp/swapped" --ctx 128 --split '##' --json
expect "documents know nothing of each other" 'd["tokens"] == 16 and abs(d["nats_per_token"] - '"$nats"') < 1e-9'
check "one document of two" 0 "$strobe" perplexity -m "$m" "$tmp/docs" --ctx 128 --split '##' --windows 1 --json
expect "one document of two" 'd["windows"] == 1 and d["tokens"] < 16'
printf '##\n##' >"$tmp/none"
check "no documents" 2 "$strobe" perplexity -m "$m" "$tmp/none" --ctx 128 --split '##'
check "perplexity without reuse" 0 "$strobe" perplexity -m "$tmp/silu.gguf" "$tmp/text" --ctx 128 --windows 2 --ram "$small" --json
expect "perplexity without reuse" 'd["exact"] is True and "reuse" not in d'
nats=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["nats_per_token"])' "$tmp/out")
check "perplexity with reuse" 0 "$strobe" perplexity -m "$tmp/silu.gguf" "$tmp/text" --ctx 128 --windows 2 --ram "$small" --reuse 4 --json
expect "perplexity with reuse" 'd["exact"] is False and d["reuse"] == 4 and d["activation_mass_dropped"] > 0 and d["nats_per_token"] > '"$nats"
check corpus 0 "$strobe" corpus -o "$tmp/corpus" --problems 400 --seed 5 --json
expect corpus 'd["problems"] == 400 and d["stories"] == 80 and d["documents"] == 540'
expect "documents end with their mark" 'open("'"$tmp"'/corpus/train.txt").read().count("<|endoftext|>\n") == 540'
cp "$tmp/corpus/train.txt" "$tmp/corpus/first.txt"
check "corpus again" 0 "$strobe" corpus -o "$tmp/corpus" --problems 400 --seed 5
check "the same corpus" 0 cmp "$tmp/corpus/train.txt" "$tmp/corpus/first.txt"
check "corpus items" 0 "$strobe" corpus -o "$tmp/corpus" --split clauses --problems 60 --format jsonl --classes --steps 3-4
python3 - "$tmp/corpus/clauses.jsonl" "$tmp/answers.jsonl" <<'PY'
import json, sys
with open(sys.argv[2], 'w') as out:
    for i, line in enumerate(open(sys.argv[1])):
        d = json.loads(line)
        assert 3 <= d['steps'] <= 4 and d['classes']['question'][-1][1] == len(d['question'].encode())
        d['response'] = [d['answer'], d['answer'] + '0', 'I do not know.'][i % 3]
        out.write(json.dumps(d) + '\n')
PY
check "corpus score" 0 "$strobe" corpus score "$tmp/answers.jsonl" --json
expect "corpus score" '[d["splits"][0][k] for k in ("split", "n", "correct", "no_answer")] == ["clauses", 60, 20, 20] and d["splits"][0]["low"] < 1/3 < d["splits"][0]["high"] and sum(s["n"] for s in d["splits"][0]["steps"]) == 60'
echo '{"split":"test","gold":"x","response":""}' >"$tmp/bad.jsonl"
check "corpus score of a bad line" 3 "$strobe" corpus score "$tmp/bad.jsonl"
expect "corpus score of a bad line" '"line 1" in e and "gold" in e'
check "corpus eval" 0 "$strobe" corpus eval -m "$m" -n 5 --ctx 512 --max-tokens 24 --split test,numbers -o "$tmp/said.jsonl" --json
expect "corpus eval" '[s["split"] for s in d["splits"]] == ["test", "numbers"] and all(s["n"] == 5 for s in d["splits"]) and d["tokens"] > 0'
check "corpus eval's answers" 0 "$strobe" corpus score "$tmp/said.jsonl"
expect "corpus eval's answers" '"numbers" in t and "all" in t'
check "corpus without a folder" 2 "$strobe" corpus
check "corpus of no split" 2 "$strobe" corpus -o "$tmp/corpus" --split exam
check "corpus with no such steps" 2 "$strobe" corpus -o "$tmp/corpus" --split clauses --steps 1
expect "corpus with no such steps" '"clauses" in e and len(e.splitlines()) == 1'
check "corpus leaves no half file" 2 ls "$tmp/corpus/clauses.txt.tmp"
check calibrate 0 "$strobe" calibrate "$tmp" --seconds 1 --json
expect calibrate 'd["bytes_per_second"] > 1e6'
expect "calibrate leaves nothing behind" 'True'
check "stop text" 0 "$strobe" generate -m "$m" -p "Once upon a time" -n 60 --temp 0 --stop girl --json
expect "stop text" '"girl" not in d["text"] and d["finish_reason"] == "stop"'
check vocab 0 "$strobe" vocab --text "$data/text/tinystories-sample.txt" --text "$tmp/text" --n-vocab 600 -o "$tmp/v.gguf" --special "<|endoftext|>" --special "<|user|>" --json
expect vocab 'd["vocabulary"] == 600 and d["merges"] == 342 and d["special"] == ["<|endoftext|>", "<|user|>"] and d["forgotten_words"] == 0 and d["bytes_per_token"] > 2'
check "tokenize with it" 0 "$strobe" tokenize -m "$tmp/v.gguf" --special "1234<|user|>" --json
expect "digits alone, the special token last" 'd["tokens"] == [49, 50, 51, 52, 599]'
cp "$tmp/v.gguf" "$tmp/v1.gguf"
check "vocab again" 0 "$strobe" vocab --n-vocab 600 -o "$tmp/v.gguf" --special "<|endoftext|>" --special "<|user|>" "$data/text/tinystories-sample.txt" "$tmp/text"
check "vocab is deterministic" 0 cmp "$tmp/v.gguf" "$tmp/v1.gguf"
check "vocab of too little text" 2 sh -c "echo hello | \"$strobe\" vocab --text - --n-vocab 600 -o \"$tmp/no.gguf\""
expect "vocab of too little text" '"gives a vocabulary of" in e'
check "vocab wrote nothing" 1 test -e "$tmp/no.gguf"
check "vocab of no file" 3 "$strobe" vocab --text "$tmp/nowhere" --n-vocab 600 -o "$tmp/no.gguf"
check "vocab without a size" 2 "$strobe" vocab --text "$tmp/text" -o "$tmp/no.gguf"
check "vocab with an unknown bos" 2 "$strobe" vocab --text "$tmp/text" --n-vocab 600 -o "$tmp/no.gguf" --bos "<s>"
check "vocab help" 0 "$strobe" vocab --help
echo "e2e cli: $((n - bad)) of $n checks passed"
[ $bad -eq 0 ]
