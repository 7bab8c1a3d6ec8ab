#!/bin/bash
# `strobe recsys` from outside: files, exit codes, JSON, signals, kills. Usage: recsys_cli.sh STROBE_BINARY
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
has() { # what, file, extended regular expression
    n=$((n + 1))
    grep -qE -- "$3" "$tmp/$2" || {
        bad=$((bad + 1))
        echo "FAILED: $1: no '$3' in $2"
        head -c 600 "$tmp/$2"
    }
}
R="$strobe recsys"
check help 0 $R --help
has help out 'return-time'
for v in simulate fit evaluate recommend return-time; do
    check "help of $v" 0 $R $v --help
    has "help of $v" out "usage: strobe recsys $v"
done
check "no verb" 2 $R
check "no such verb" 2 $R guess
check simulate 0 $R simulate --users 60 --items 40 --days 60 --variant srpf --follows-out "$tmp/f.tsv" -o "$tmp/e.tsv" --json
has simulate out '"events":[0-9]{3}.*"strobe":'
has "true causes" e.tsv 'own$'
has "true causes" e.tsv 'friend$'
check "simulate again" 0 $R simulate --users 60 --items 40 --days 60 --variant srpf -o "$tmp/e2.tsv" -q
check "the same events" 0 cmp "$tmp/e.tsv" "$tmp/e2.tsv"
check thinning 0 $R simulate --users 20 --items 10 --method thinning -o "$tmp/t.tsv" -q
check "supercritical" 1 $R simulate --branching 3 --max-events 5000 -o "$tmp/x.tsv"
has supercritical err supercritical
for m in pf hpf hrpf drpf srpf dsrpf iirpf; do
    check "fit $m" 0 $R fit "$tmp/e.tsv" -o "$tmp/$m.rpf" --model $m -k 4 -n 12 --follows "$tmp/f.tsv" --json -t 1
    has "fit $m" out "\"variant\":\"$m\".*\"elbo\":-?[0-9]"
done
check "fit xiirpf" 0 $R fit "$tmp/e.tsv" -o "$tmp/xiirpf.rpf" --model xiirpf --cluster cause -k 4 -n 12 -q
check "held out" 0 $R fit "$tmp/e.tsv" -o "$tmp/m.rpf" -k 4 -n 30 --heldout 0.1 -v --metrics "$tmp/m.jsonl"
has "progress" err 'ELBO .*held-out'
has metrics m.jsonl '"heldout":-'
check "published settings" 0 $R fit "$tmp/e.tsv" -o "$tmp/w.rpf" -k 4 -n 12 --measure wall --scales 1h,3d --tau-prior source -q
check warm 0 $R fit "$tmp/e.tsv" -o "$tmp/w2.rpf" -k 4 -n 3 --warm "$tmp/m.rpf" -q
check batches 0 $R fit "$tmp/e.tsv" -o "$tmp/b.rpf" -k 4 -n 3 --batch-users 16 -q
check recommend 0 $R recommend u0003 -m "$tmp/m.rpf" -e "$tmp/e.tsv" --at 2024-02-20T12:00:00Z -n 5 --json
has recommend out '"items":\[\{"item":"i[0-9]+","intensity_per_hour":[0-9.e-]+,"reasons":\{"base"'
check "new ones only" 0 $R recommend u0003 -m "$tmp/m.rpf" -e "$tmp/e.tsv" --seen exclude -n 3
check "unknown user" 3 $R recommend nobody -m "$tmp/m.rpf" -e "$tmp/e.tsv"
has "unknown user" err "no user 'nobody'"
check return-time 0 $R return-time u0003 -m "$tmp/m.rpf" -e "$tmp/e.tsv" --json
has return-time out '"quantiles":\[\{"q":0.1'
check "return of an item" 0 $R return-time u0003 -m "$tmp/m.rpf" -e "$tmp/e.tsv" --item i0001
rows() { # one table, kept in rows.jsonl; how long fits took differs
    $R evaluate "$tmp/e.tsv" --with hrpf --with hrpf:1d -k 4 -n 12 --tune 3 --bootstrap 20 -t 1 --rows "$tmp/rows.jsonl" 2>"$tmp/err" |
        sed 's/| fit [0-9.]* s//' >"$1"
}
rows "$tmp/once"
cp "$tmp/err" "$tmp/out"
has "settings are told" out 'settings chosen on the last [0-9]+ of [0-9]+ training events: .*; 3 trials'
cp "$tmp/once" "$tmp/out"
has "differences" out '  popularity .*R@20 [+-][0-9.]+ \([+-][0-9.]+ to [+-]'
truncate -s -40 "$tmp/rows.jsonl"
rows "$tmp/twice"
check "a cut-off table goes on to the same end" 0 cmp "$tmp/once" "$tmp/twice"
check "the search was kept" 1 grep -q 'settings chosen' "$tmp/err"
check evaluate 0 $R evaluate "$tmp/e.tsv" --with hrpf -k 4 -n 12 --bootstrap 20 --json -t 1
for b in popularity 'popularity, last week' 'own counter' 'own recency' 'own counter, decay 1 week' hpf 'hpf \+ decayed' median_gap; do
    has "baseline $b" out "\"$b"
done
# Bad input.
printf 'user\titem\n1\t2\n' >"$tmp/bad.tsv"
check "no time" 3 $R fit "$tmp/bad.tsv" -o "$tmp/x.rpf"
has "no time" err "column 'time'"
printf 'user\titem\ttime\na\tb\tyesterday\n' >"$tmp/bad.tsv"
check "bad time" 3 $R fit "$tmp/bad.tsv" -o "$tmp/x.rpf"
has "bad time" err 'line 2'
check "no file" 3 $R fit "$tmp/none.tsv" -o "$tmp/x.rpf"
check "no output" 2 $R fit "$tmp/e.tsv"
check "unknown model" 2 $R fit "$tmp/e.tsv" -o "$tmp/x.rpf" --model best
check "no graph" 2 $R fit "$tmp/e.tsv" -o "$tmp/x.rpf" --model srpf
check "no model" 3 $R recommend u0003 -m "$tmp/e.tsv" -e "$tmp/e.tsv"
has "no model" err 'not a model'
head -c 3000 "$tmp/m.rpf" >"$tmp/cut.rpf"
check "a cut model" 3 $R recommend u0003 -m "$tmp/cut.rpf" -e "$tmp/e.tsv"
check "disk full" 1 sh -c "ulimit -f 2; exec $R fit $tmp/e.tsv -o $tmp/full.rpf -k 4 -n 3 -q"
n=$((n + 1))
[ -e "$tmp/full.rpf" ] && { bad=$((bad + 1)); echo "FAILED: half a model after a full disk"; }
# Stopped by a signal, killed, resumed; another file's checkpoint is refused.
$R fit "$tmp/e.tsv" -o "$tmp/r.rpf" -k 16 -n 1000000 --checkpoint-every 5 -q -t 1 &
pid=$!
for _ in $(seq 2400); do [ -s "$tmp/r.rpf.checkpoint" ] && break; sleep 0.1; done
kill -9 $pid
wait $pid 2>/dev/null
check "after a kill" 0 test -s "$tmp/r.rpf.checkpoint" -a ! -e "$tmp/r.rpf"
check "foreign checkpoint" 2 $R fit "$tmp/t.tsv" -o "$tmp/r.rpf" -k 16 -n 50 --resume
has "foreign checkpoint" err 'other events'
$R fit "$tmp/e.tsv" -o "$tmp/r.rpf" -k 16 -n 1000000 --resume -t 1 --metrics "$tmp/r.jsonl" 2>"$tmp/stopped" &
pid=$!
for _ in $(seq 2400); do [ -s "$tmp/r.jsonl" ] && break; sleep 0.1; done
kill -TERM $pid
wait $pid
has "a stopped fit" stopped '--resume goes on'
# Killed, stopped, resumed twice: the same bytes as a fit that ran through.
sweeps=$(sed -n 's/.*stopped after sweep \([0-9]*\) of.*/\1/p' "$tmp/stopped")
sweeps=$((${sweeps:-0} + 3))
check "other settings" 2 $R fit "$tmp/e.tsv" -o "$tmp/r.rpf" -k 16 -n $sweeps --resume --seed 9
has "other settings" err 'other settings'
check resume 0 $R fit "$tmp/e.tsv" -o "$tmp/r.rpf" -k 16 -n $sweeps --resume -q
check unbroken 0 $R fit "$tmp/e.tsv" -o "$tmp/u.rpf" -k 16 -n $sweeps -q
check "resumed as if never stopped" 0 cmp "$tmp/r.rpf" "$tmp/u.rpf"
check "the checkpoint goes with the end" 0 test -e "$tmp/r.rpf" -a ! -e "$tmp/r.rpf.checkpoint"
if command -v mpirun >/dev/null 2>&1; then
    # Two processes share the users: the same model as one process alone.
    check "one process" 0 $R fit "$tmp/e.tsv" -o "$tmp/one.rpf" -k 4 -n 20 --json -t 1
    one=$(sed 's/.*"elbo":\([-0-9.]*\).*/\1/' "$tmp/out")
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none \
        mpirun --oversubscribe -n 2 $R fit "$tmp/e.tsv" -o "$tmp/two.rpf" -k 4 -n 20 --json -t 1 >"$tmp/out" 2>"$tmp/err"
    two=$(sed 's/.*"elbo":\([-0-9.]*\).*/\1/' "$tmp/out")
    check "two processes agree with one ($one, $two)" 0 awk -v a="$one" -v b="$two" 'BEGIN { exit !((a - b) ^ 2 < (1e-3 * a) ^ 2) }'
else
    echo "SKIPPED: recsys over several processes needs mpirun"
fi
echo "$n checks, $bad failed"
[ $bad -eq 0 ]
