#!/bin/bash
# Installs what the tests need, builds with sanitizers and runs every suite.
#   tests/run.sh            everything that gates a change (under 25 minutes on 2 cores)
#   tests/run.sh --long     the long soaks too
#   tests/run.sh STEP...    only these steps: lint tidy asan release tsan fuzz e2e browser
# Ends with a plain line "N passed, N failed"; exit code 1 when anything failed.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
out=${STROBE_TEST_OUT:-$root/build/tests}
mkdir -p "$out"
long=
steps=
for a in "$@"; do
    case $a in
    --long) long=1 && export STROBE_TEST_LONG=1 STROBE_KILLS=50 ;;
    -h | --help)
        sed -n '2,6s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) steps="$steps $a" ;;
    esac
done
[ -n "$steps" ] || steps="lint asan release tidy tsan fuzz e2e browser"
# Where there is a ccache: compiled once, in whatever folder the checkout is.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
cc_of() { command -v ccache >/dev/null && echo "ccache $1" || echo "$1"; } # meson takes none by itself when CC is set
export LSAN_OPTIONS=suppressions=$root/tests/support/lsan.supp:print_suppressions=0
passed=0
failed=0
failures=
ok() { passed=$((passed + $1)); }
bad() { # count, what
    failed=$((failed + $1))
    failures="$failures
  $2"
}
say() { printf '== %s (%ds)\n' "$*" "$SECONDS"; }

# A test that fails once is run three times more, alone. When all three pass it is named at the end
# as flaky and does not fail the run; more than three such tests in a run do. What a sanitizer
# finds is never forgiven.
flaky=
n_flaky=0
forgiven() { # name, log, command...
    local name=$1 log=$2 i
    shift 2
    [ "$n_flaky" -lt 3 ] || return 1
    for i in 1 2 3; do "$@" >>"$log.again" 2>&1 </dev/null || return 1; done
    n_flaky=$((n_flaky + 1))
    flaky="$flaky
  $name (log: $log)"
    echo "FLAKY: $name failed once, then passed three times alone"
}

# One command, one result.
one() { # name, command...
    local name=$1
    shift
    run_one "$name" "$@"
    said_one "$name"
}
log_of() { printf '%s/%s.log' "$out" "$(printf '%s' "$1" | tr ' /' '__')"; }
run_one() { # name, command...
    local log
    log=$(log_of "$1")
    shift
    "$@" >"$log" 2>&1
    echo $? >"$log.rc"
}
said_one() { # name; then a command that shows whether a failure stays
    local log name=$1
    log=$(log_of "$1")
    shift
    if [ "$(cat "$log.rc" 2>/dev/null)" = 0 ]; then
        ok 1
    else
        tail -n 60 "$log"
        if [ $# -gt 0 ] && forgiven "$name" "$log" "$@"; then
            ok 1
        else
            bad 1 "$name (log: $log)"
            echo "FAILED: $name"
        fi
    fi
    grep -hE '^(# )?SKIPPED|^ *ok .* # SKIP' "$log" || true
}

# Many commands, two at a time: most of an end-to-end test is waiting.
pairs() { # word before the names; then one command a line on stdin, its name in front of a tab
    local area=$1 name command i names=() commands=()
    while IFS='	' read -r name command; do
        while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
        run_one "$area $name" sh -c "$command" </dev/null &
        names+=("$name")
        commands+=("$command")
    done
    wait
    for i in "${!names[@]}"; do said_one "$area ${names[i]}" sh -c "${commands[i]}"; done
}

configure() { # dir, compiler, meson options...
    local dir=$1 compiler=$2
    shift 2
    [ ! -f "$dir/build.ninja" ] || return 0
    CC=$(cc_of "$compiler") meson setup "$dir" -Dtests=true --werror "$@" >"$out/setup.log" 2>&1 && return
    tail -n 40 "$out/setup.log"
    bad 1 "configure $dir"
    return 1
}
compile() { # dir, targets (none: all)
    local dir=$1
    if ! ninja -C "$@" >"$out/build.log" 2>&1; then
        grep -E -A6 'error|FAILED' "$out/build.log" | head -n 60
        bad 1 "build $dir"
        return 1
    fi
    ok 1
}
# Configures and builds a tree; false when that fails.
build() { # dir, compiler, meson options...
    configure "$@" && compile "$1"
}

# Runs a tree's meson tests and adds up their results.
suite() { # name, dir, meson test options...
    local name=$1 dir=$2 log=$out/suite-$1.log n
    shift 2
    meson test -C "$dir" --no-rebuild --print-errorlogs -t 10 "$@" >"$log" 2>&1
    grep -q 'No suitable tests' "$log" && return
    n=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log" | tail -n 1)
    ok "${n:-0}"
    n=$(sed -n -E 's/^(Fail|Timeout|Unexpected Pass): *([0-9]+).*/\2/p' "$log" | awk '{s += $1} END {print s + 0}')
    if [ "$n" -gt 0 ] || ! grep -q '^Ok:' "$log"; then
        tail -n 120 "$log"
        suite_failed "$name" "$dir" "$log" "$n"
    fi
    # Criterion does not count what a sanitizer finds when a test's process ends.
    n=$(grep -cE 'ERROR: (Leak|Address)Sanitizer|WARNING: ThreadSanitizer|runtime error:|LeakSanitizer has encountered' \
        "$dir/meson-logs/testlog.txt")
    if [ "${n:-0}" -gt 0 ]; then
        bad "$n" "$name: sanitizer reports ($dir/meson-logs/testlog.txt)"
        grep -E -A12 'ERROR: (Leak|Address)Sanitizer|WARNING: ThreadSanitizer|runtime error:' "$dir/meson-logs/testlog.txt" | head -n 80
    fi
    grep -hE '^(# )?SKIPPED' "$dir/meson-logs/testlog.txt" | sort -u || true
}

suite_failed() { # name, dir, log, how many
    local name=$1 dir=$2 log=$3 n=$4 t seen=0
    if [ "$n" -eq 0 ] || [ "$n" -gt 3 ]; then
        bad "$((n > 0 ? n : 1))" "$name: $(grep -E 'FAIL|TIMEOUT' "$log" | sed 's/  */ /g' | head -n 20 | paste -sd';')"
        return
    fi
    while read -r t; do
        seen=$((seen + 1))
        if forgiven "$name $t" "$log" meson test -C "$dir" --no-rebuild --print-errorlogs -t 10 --logbase again "$t"; then
            ok 1
        else
            bad 1 "$name $t (log: $log)"
        fi
    done < <(sed -n -E 's#^ *[0-9]+/[0-9]+ (strobe:[^/]* / )?(.*[^ ]) +(FAIL|TIMEOUT|UNEXPECTEDPASS) .*#\2#p' "$log" | sort -u)
    [ "$seen" -ge "$n" ] || bad $((n - seen)) "$name: $((n - seen)) whose names were not found (log: $log)"
}

# Of a tree only the tests of some suites: configured, built as far as they need it, and run.
part() { # name, dir, suites, compiler, meson options...
    local name=$1 dir=$2 suites=$3 s targets
    shift 3
    configure "$dir" "$@" || return
    ninja -C "$dir" build.ninja >"$out/setup.log" 2>&1 # what is introspected is what is there now
    set --
    for s in $suites; do set -- "$@" --suite "$s"; done
    targets=$(meson introspect --tests "$dir" | python3 -c '
import json, os, sys
dir, suites = os.path.realpath(sys.argv[1]) + "/", set(sys.argv[2:])
tests = [t for t in json.load(sys.stdin) if suites & {s.split(":")[-1] for s in t["suite"]}]
print(*sorted({c[len(dir):] for t in tests for c in t["cmd"] if c.startswith(dir)}))' "$dir" $suites)
    compile "$dir" $targets && suite "$name" "$dir" "$@"
}

step_lint() {
    local s
    for s in layers format headers sizes commits; do
        one "lint $s" "tests/lint/$s.sh"
    done
}

step_asan() {
    build "$out/asan" gcc --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false || return
    suite asan "$out/asan"
}

step_release() {
    build "$out/release" clang --buildtype=release || return
    suite release "$out/release"
    part portable "$out/plain" "kernel golden" gcc --buildtype=release -Dsimd=none -Dio_uring=disabled -Dblas=disabled
}

step_tidy() {
    build "$out/release" clang --buildtype=release || return
    one "lint tidy" tests/lint/tidy.sh "$out/release"
}

step_tsan() {
    part tsan "$out/tsan" threads clang --buildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false
}

# Every fuzz target on the same inputs each time, as many as go into 12 s at most: a gate does not
# find by chance. With --long five minutes of new ones, from what was found before. Two side by side.
step_fuzz() {
    local dir=$out/fuzz t
    ls tests/fuzz/fuzz_*.c >/dev/null 2>&1 || return 0
    [ -f "$dir/build.ninja" ] || CC=$(cc_of clang) meson setup "$dir" -Dfuzzers=true -Dsimd=none --buildtype=debugoptimized \
        -Db_sanitize=address,undefined -Db_lundef=false >"$out/setup.log" 2>&1
    ninja -C "$dir" >"$out/build.log" 2>&1 || {
        grep -E -A6 'error|FAILED' "$out/build.log" | head -n 60
        bad 1 "build fuzzers"
        return
    }
    for t in "$dir"/tests/fuzz/fuzz_*; do
        [ -x "$t" ] && [ -f "$t" ] && echo "$t"
    done >"$out/fuzz.list"
    while read -r t && [ -n "$t" ]; do
        fuzz_one "$t" &
        if read -r t; then fuzz_one "$t" & fi
        wait
    done <"$out/fuzz.list"
    while read -r t; do
        if [ "$(cat "$out/$(basename "$t").rc" 2>/dev/null)" = 0 ]; then
            ok 1
        else
            bad 1 "$(basename "$t") (log: $out/$(basename "$t").log)"
            tail -n 40 "$out/$(basename "$t").log"
        fi
    done <"$out/fuzz.list"
}
fuzz_one() { # program
    local name seeds corpus how
    name=$(basename "$1")
    seeds=tests/fuzz/seeds/${name#fuzz_}
    [ -d "$seeds" ] || seeds=
    corpus=$out/corpus/$name how=-max_total_time=300
    [ -n "$long" ] || { corpus=$out/corpus-gate/$name how="-seed=1 -runs=20000 -max_total_time=12" && rm -rf "$corpus"; }
    mkdir -p "$corpus"
    # A machine that stands still for seconds makes no input slow.
    "$1" $how -rss_limit_mb=1500 -timeout=100 -print_final_stats=1 \
        -artifact_prefix="$out/$name-" "$corpus" $seeds \
        >"$out/$name.log" 2>&1
    echo $? >"$out/$name.rc"
}

npm_ready() { # folder
    [ -d "$1/node_modules" ] || npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund >"$out/npm.log" 2>&1
}

step_e2e() {
    build "$out/release" clang --buildtype=release || return
    local t
    export STROBE=$out/release/server/strobe
    [ -f tests/e2e/package.json ] || return 0
    npm_ready tests/e2e || bad 1 "npm ci in tests/e2e"
    pairs e2e < <(
        for t in tests/e2e/*.sh; do printf '%s\t%s "$STROBE"\n' "$(basename "$t" .sh)" "$t"; done
        for t in tests/e2e/*.test.mjs; do printf '%s\tnode --test %s\n' "$(basename "$t" .test.mjs)" "$t"; done
    )
}

step_browser() {
    build "$out/release" clang --buildtype=release || return
    local t
    export STROBE=$out/release/server/strobe
    [ -f tests/browser/package.json ] || return 0
    npm_ready tests/browser || bad 1 "npm ci in tests/browser"
    pairs browser < <(
        for t in tests/browser/*.test.mjs; do printf '%s\tnode --test %s\n' "$(basename "$t" .test.mjs)" "$t"; done
    )
}

deploy/packages.sh test || exit 1
for s in $steps; do
    say "$s"
    "step_$s" </dev/null
done
say done
[ -z "$flaky" ] || printf 'flaky:%s\n' "$flaky"
[ -z "$failures" ] || printf 'failures:%s\n' "$failures"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
