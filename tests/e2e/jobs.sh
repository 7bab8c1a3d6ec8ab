#!/bin/bash
# Training over HTTP with curl and the real trainer: queued, watched, killed with its server, gone on with, cancelled, used.
# Usage: jobs.sh STROBE_BINARY
set -u
strobe=$(realpath "$1")
tmp=$(mktemp -d)
data=data # relative: processes of jobs work elsewhere
cd "$tmp" || exit 1
mkdir "$data"
server=
n=0
bad=0
finish() {
    [ -n "$server" ] && kill -TERM "$server" 2>/dev/null && wait "$server" 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
fail() {
    bad=$((bad + 1))
    echo "FAILED: $*"
}
start() { # options...
    : >"$tmp/out"
    "$strobe" serve --port 0 --data "$data" "$@" >"$tmp/out" 2>>"$tmp/log" &
    server=$!
    for _ in $(seq 2400); do
        url=$(sed -n 's/^listening on //p' "$tmp/out")
        [ -n "$url" ] && return
        sleep 0.05
    done
    echo "FAILED: the server does not start"
    tail -n 20 "$tmp/log"
    exit 1
}
ask() { # method, path, curl options...: body in $tmp/body, headers in $tmp/head, status in $status
    local method=$1 path=$2
    shift 2
    status=$(curl -s --max-time 240 -X "$method" -o "$tmp/body" -D "$tmp/head" -w '%{http_code}' "$@" "$url$path")
}
expect() { # what, status, python expression over d (body as JSON)
    n=$((n + 1))
    if [ "$status" != "$2" ]; then
        fail "$1: status $status, not $2: $(head -c 300 "$tmp/body")"
        return
    fi
    [ $# -lt 3 ] || python3 - "$tmp/body" "$3" <<'PY' || fail "$1: $3: $(head -c 600 "$tmp/body")"
import json, sys
d = json.load(open(sys.argv[1], encoding='utf-8'))
sys.exit(0 if eval(sys.argv[2]) else 1)
PY
}
field() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$tmp/body" "$1"; }
wait_for() { # what, id, python expression over d
    local end=$((SECONDS + 480))
    n=$((n + 1))
    while [ $SECONDS -lt $end ]; do
        ask GET "/api/jobs/$2"
        [ "$(field "bool($3)")" = True ] && return
        sleep 0.1
    done
    fail "$1: not within 480 s: $(head -c 1200 "$tmp/body")"
}
# 60 KB of text with something to learn.
awk 'BEGIN { srand(3); split("cat dog bird fish child", who); split("saw ate liked found", did); split("a ball,the tree,some milk,one leaf", what, ",");
  for (i = 0; i < 2200; i++) printf "The %s %s %s.\n", who[int(rand() * 5) + 1], did[int(rand() * 4) + 1], what[int(rand() * 4) + 1] }' >"$data/text.txt"
settings() { # steps, more members
    printf '{"data":"text.txt","n_vocab":300,"n_layer":2,"d_model":32,"n_head":2,"batch":4,"ctx":64,"lr":0.003,"eval_every":20,"checkpoint_every":10,"threads":1,"price_per_hour":0.5,"steps":%s%s}' "$1" "${2:-}"
}
json=(-H 'Content-Type: application/json')

start
ask POST /api/train/pretrain "${json[@]}" -d "$(settings 120)"
expect "a training is queued" 202 'd["state"] == "queued" and d["kind"] == "pretrain"'
id=$(field 'd["id"]')
n=$((n + 1))
grep -qi "^location: /api/jobs/$id" "$tmp/head" || fail "no Location: $(cat "$tmp/head")"
curl -s -N --max-time 480 "$url/api/jobs/$id/events" >"$tmp/events" # ends with the job
n=$((n + 1))
[ "$(grep -c '^event: metrics' "$tmp/events")" -eq 120 ] || fail "events: $(grep -c '^event: metrics' "$tmp/events") lines of 120"
n=$((n + 1))
tail -n 4 "$tmp/events" | grep -q '"state":"done"' || fail "the last event is not the end: $(tail -n 4 "$tmp/events")"
ask GET "/api/jobs/$id"
expect "it is done" 200 'd["state"] == "done" and d["progress"]["step"] == 120 and d["progress"]["share"] == 1 and d["error"] is None and d["restarts"] == 0'
expect "it learned" 200 'd["result"]["loss"] < 3 and d["result"]["dollars"] > 0'
# A client that lost its connection after 60 events goes on behind them.
last=$(grep '^id:' "$tmp/events" | sed -n '60s/id: //p')
curl -s -N --max-time 240 -H "Last-Event-ID: $last" "$url/api/jobs/$id/events" >"$tmp/rest"
n=$((n + 1))
python3 - "$tmp/events" "$tmp/rest" <<'PY' || fail "lines were lost or came twice over a reconnection"
import json, sys
blocks = [open(p).read().split('\n\n') for p in sys.argv[1:]]
lines = [b for b in blocks[0][:60] + blocks[1] if 'event: metrics' in b]
steps = [json.loads(b.split('data: ', 1)[1])['step'] for b in lines]
sys.exit(0 if steps == list(range(1, 121)) else 1)
PY
ask GET "/api/jobs/$id/metrics?from=101"
expect "the metrics are columns" 200 'd["points"] == 20 and d["columns"]["step"] == list(range(101, 121)) and len(d["columns"]["loss"]) == 20'
expect "held-out losses are among them" 200 '[v is not None for v in d["columns"]["val_loss"]].count(True) == 1'
ask GET "/api/jobs/$id/log"
expect "the log is kept" 200 '"step 120/120" in d["text"]'
model=$data/$(ask GET "/api/jobs/$id" && field 'd["result"].get("model") or ""')
if [ -f "$model" ]; then
    n=$((n + 1))
    "$strobe" generate -q -m "$model" -p "The cat" -n 8 --temp 0 >"$tmp/text" 2>&1 || fail "the model does not run: $(cat "$tmp/text")"
else
    echo "SKIPPED: this build writes no model file"
fi

# The trained model becomes a sparse one; its sparsity is in the result.
if [ -f "$model" ] && "$strobe" --help | grep -q '^  relufy'; then
    ask POST /api/train/relufy "${json[@]}" -d "{\"from\":\"runs/$id/model.gguf\",\"data\":\"text.txt\",\"to\":\"relu\",\"batch\":4,\"ctx\":64,\"steps\":10,\"threads\":1}"
    expect "a relufication is queued" 202 'd["kind"] == "relufy"'
    sparse=$(field 'd["id"]')
    wait_for "it ends" "$sparse" 'd["state"] in ("done", "failed")'
    expect "it is sparse" 200 'd["state"] == "done" and d["result"]["after"]["sparsity"]["mean"]["down_in"] > d["result"]["before"]["sparsity"]["mean"]["down_in"]'
    ask POST /api/train/relufy "${json[@]}" -d '{"data":"text.txt","steps":10}'
    expect "relufy without a model" 400 'd["error"]["param"] == "from"'
else
    echo "SKIPPED: this build has no relufy"
fi

# What the trainer refuses is a 400 that names the setting.
ask POST /api/train/pretrain "${json[@]}" -d "$(settings 5 ',"d_modle":3')"
expect "an unknown setting" 400 'd["error"]["param"] == "d_modle" and "d_model" in d["error"]["message"]'
ask POST /api/train/pretrain "${json[@]}" -d "$(settings -1)"
expect "a value out of its bounds" 400 'd["error"]["param"] == "steps"'
ask POST /api/train/pretrain "${json[@]}" -d '{"data":"/etc/passwd","steps":1}'
expect "a file outside" 400 'd["error"]["param"] == "data" and "passwd" not in d["error"]["message"]'
# The same request twice is one job.
key=(-H "Idempotency-Key: k1")
ask POST /api/train/pretrain "${json[@]}" "${key[@]}" -d "$(settings 2)"
first=$(field 'd["id"]')
ask POST /api/train/pretrain "${json[@]}" "${key[@]}" -d "$(settings 2)"
expect "the same key" 202 "d['id'] == '$first'"
ask POST /api/train/pretrain "${json[@]}" "${key[@]}" -d "$(settings 3)"
expect "the key with another request" 409 'd["error"]["code"] == "idempotency_conflict"'
wait_for "the short one ends" "$first" 'd["state"] == "done"'

# kill -9 of the server: the trainer goes with it, the next server goes on with the run.
ask POST /api/train/pretrain "${json[@]}" -d "$(settings 1000000)"
long=$(field 'd["id"]')
wait_for "the long one comes to step 30" "$long" '(d["progress"] or {}).get("step", 0) >= 30'
ask GET "/api/jobs/$long"
trainer=$(pgrep -f "runs/$long/config.json" | head -n 1)
kill -KILL "$server"
wait "$server" 2>/dev/null
alive() { # also where nobody collects what has ended
    case "$(ps -o stat= -p "$1" 2>/dev/null)" in '' | Z*) return 1 ;; esac
}
for _ in $(seq 1200); do
    alive "$trainer" || break
    sleep 0.1
done
n=$((n + 1))
alive "$trainer" && fail "the trainer outlives its server"
at=$(tail -n 1 "$data/runs/$long/metrics.jsonl" | sed 's/.*"step":\([0-9]*\).*/\1/')
start
wait_for "the next server goes on" "$long" "d['restarts'] == 1 and (d['progress'] or {}).get('step', 0) > $at"
# SIGTERM: the run is saved, and goes on without having lost a step.
kill -TERM "$server"
n=$((n + 1))
wait "$server" || fail "the server ends with $? on SIGTERM"
at=$(tail -n 1 "$data/runs/$long/metrics.jsonl" | sed 's/.*"step":\([0-9]*\).*/\1/')
start
wait_for "a stopped server's run goes on" "$long" "d['restarts'] == 1 and (d['progress'] or {}).get('step', 0) > $at"
n=$((n + 1))
python3 - "$data/runs/$long/metrics.jsonl" <<'PY' || fail "the steps of the run are not each logged once"
import json, sys
steps = [json.loads(l)['step'] for l in open(sys.argv[1])]
sys.exit(0 if steps == list(range(1, len(steps) + 1)) else 1)
PY
ask POST "/api/jobs/$long/cancel"
expect "cancelling a running job" 202 'd["cancelling"]'
wait_for "it ends cancelled" "$long" 'd["state"] == "cancelled"'
at=$(tail -n 1 "$data/runs/$long/metrics.jsonl" | sed 's/.*"step":\([0-9]*\).*/\1/')
ask POST "/api/jobs/$long/resume"
expect "going on with it" 202 'd["state"] == "queued" and d["finished"] is None'
wait_for "it goes on" "$long" "(d['progress'] or {}).get('step', 0) > $at"
ask POST "/api/jobs/$long/resume"
expect "going on with one that runs" 409 'd["error"]["code"] == "not_resumable"'
ask POST "/api/jobs/$long/cancel"
wait_for "it ends cancelled again" "$long" 'd["state"] == "cancelled"'
n=$((n + 1))
python3 - "$data/runs/$long/metrics.jsonl" <<'PY' || fail "the steps of the resumed run are not each logged once"
import json, sys
steps = [json.loads(l)['step'] for l in open(sys.argv[1])]
sys.exit(0 if steps == list(range(1, len(steps) + 1)) else 1)
PY
ask POST "/api/jobs/$id/cancel"
expect "cancelling one that has ended" 409 'd["error"]["code"] == "job_ended"'
ask GET "/api/jobs?limit=2"
expect "the list" 200 'len(d["data"]) == 2 and d["has_more"] and d["data"][0]["id"] == "'"$long"'"'
ask GET "/api/jobs?limit=2&after=$(field 'd["data"][1]["id"]')"
expect "its next page" 200 'd["data"][-1]["id"] == "'"$id"'" and not d["has_more"]'
ask GET /metrics
n=$((n + 1))
grep -q "^strobe_jobs{state=\"done\"} $((2 + ${sparse:+1} + 0))\$" "$tmp/body" || fail "metrics: $(grep strobe_jobs "$tmp/body")"
# Another server on the same directory does not touch the jobs, and says so.
"$strobe" serve --port 0 --data "$data" >"$tmp/out2" 2>>"$tmp/log" &
second=$!
for _ in $(seq 2400); do
    other=$(sed -n 's/^listening on //p' "$tmp/out2")
    [ -n "$other" ] && break
    sleep 0.05
done
status=$(curl -s -o "$tmp/body" -w '%{http_code}' "$other/api/jobs")
expect "a second server on the directory" 503 'd["error"]["code"] == "store_in_use"'
kill -TERM "$second"
wait "$second"
echo "$((n - bad)) passed, $bad failed"
[ $bad -eq 0 ]
