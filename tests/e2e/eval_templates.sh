#!/bin/bash
# Templates on the command line: check, sample, export, import. Usage: eval_templates.sh STROBE_BINARY
set -u
strobe=$1
here=$(cd "$(dirname "$0")/../.." && pwd)
data=${STROBE_TEST_DATA:-$here/../shared/data}
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
says() { # what, file, extended regular expression
    n=$((n + 1))
    if ! grep -qE "$3" "$2"; then
        bad=$((bad + 1))
        echo "FAILED: $1: no '$3' in $2"
        head -c 600 "$2"
    fi
}

check 'eval without a verb' 2 "$strobe" eval
check 'eval help' 0 "$strobe" eval --help
says 'help lists the verbs' "$tmp/out" '^  import '
check 'an unknown verb' 2 "$strobe" eval nonsense
check 'a variant that is none' 2 "$strobe" eval sample --variant nonsense
says 'it is named' "$tmp/err" "'nonsense' is not original, names"

check 'two runs' 0 "$strobe" eval export --variant both --variant noop@0 -n 2 --seed 5 -o "$tmp/a.jsonl"
check 'two runs' 0 "$strobe" eval export --variant both --variant noop@0 -n 2 --seed 5 -o "$tmp/b.jsonl"
check 'are the same bytes' 0 cmp "$tmp/a.jsonl" "$tmp/b.jsonl"
check 'another seed' 0 "$strobe" eval export --variant both -n 2 --seed 6 -o "$tmp/c.jsonl"
check 'differs' 1 cmp -s "$tmp/a.jsonl" "$tmp/c.jsonl"
check 'its rows come back as data' 0 "$strobe" eval sample "$tmp/a.jsonl" --max 3 --json
says 'as they were' "$tmp/out" '"variant":"frozen"'

check 'a sample as JSON' 0 "$strobe" eval sample --template bakery-tip --variant noop -n 1 --json
says 'has the version' "$tmp/out" '"strobe":"'
says 'has traps' "$tmp/out" '"traps":\[\{"value":"'

check 'built-in templates written' 0 "$strobe" eval export --templates "$tmp/mine"
check 'pass the gate' 0 "$strobe" eval check "$tmp/mine/ages.json" --answers 50 --texts 50 --json
says 'shape' "$tmp/out" '"templates":\[\{"id":"age-sum","source":"[^"]*","status":"ok"'
printf '{"id":"x","text":"{a}?","vars":{"a":"1..9 = 2"},"where":["a > 5","a < 3"],"answer":"a","gold":2}' >"$tmp/bad.json"
check 'a contradiction' 3 "$strobe" eval check "$tmp/bad.json"
says 'is named' "$tmp/out" "unsatisfiable: .*'a > 5' and 'a < 3'"
printf '{"id":"x"' >"$tmp/cut.json"
check 'a cut file' 3 "$strobe" eval check "$tmp/cut.json"
says 'is placed' "$tmp/out" 'invalid JSON at line 1'
check 'nothing there' 3 "$strobe" eval check "$tmp/nowhere"

mkdir "$tmp/mixed"
cp "$here/eval/templates/ages.json" "$tmp/cut.json" "$tmp/mixed"
check 'a broken template is not imported' 3 "$strobe" eval import "$tmp/mixed" --name mixed
says 'it is named' "$tmp/out" 'cut.json.*invalid JSON at line 1'
says 'and counted' "$tmp/err" '1 of 9 templates have errors: nothing was taken in'
check 'nothing came of it' 3 "$strobe" eval sample @mixed -n 1
check 'as JSON' 3 "$strobe" eval import "$tmp/mixed" --name mixed --json
says 'it says so' "$tmp/out" '"imported":false,"left_out":\[".*cut.json"\]'
check 'the others, when asked for' 0 "$strobe" eval import "$tmp/mixed" --name mixed --skip-broken
says 'without it' "$tmp/out" 'left out: .*cut.json'
check 'and used' 0 "$strobe" eval sample @mixed -n 1
check 'only broken ones' 3 "$strobe" eval import "$tmp/cut.json" --name cut --skip-broken

if [ -d "$data/gsm-symbolic/templates" ]; then
    mkdir -p "$tmp/public/p2"
    cp "$data/gsm-symbolic/templates/p2/0001.json" "$data/gsm-symbolic/templates/p2/0003.json" "$tmp/public/p2"
    grep -E '^\{"id": [13],' "$data/gsm-symbolic/GSM_p2_first30.jsonl" >"$tmp/public/GSM_p2.jsonl"
    check 'import' 0 "$strobe" eval import "$tmp/public" --name pub --json
    says 'rows are matched' "$tmp/out" '"recovered":100,"gold_equal":100'
    check 'files are unchanged' 0 cmp "$tmp/public/p2/0001.json" "$STROBE_DATA/evals/imports/pub/p2/0001.json"
    check 'and used by name' 0 "$strobe" eval sample @pub --variant both@2 -n 1
    says 'at their level' "$tmp/out" '^gsm-0001  both@2'
else
    echo "SKIPPED: importing public templates needs shared data gsm-symbolic"
fi
if [ -r "$data/gsm8k/test.jsonl" ]; then
    check 'GSM8K rows' 0 "$strobe" eval import "$data/gsm8k/test.jsonl" --name gsm8k
    says 'are all there' "$tmp/out" '1319 rows'
    check 'and asked' 0 "$strobe" eval sample @gsm8k --rows 2 --json
    says 'with their gold' "$tmp/out" '"gold":"18"'
else
    echo "SKIPPED: importing GSM8K needs shared data gsm8k"
fi
echo "$n checks, $bad failed"
[ $bad -eq 0 ]
