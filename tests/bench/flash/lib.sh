# shellcheck shell=bash disable=SC2154,SC2034 # variables are the protocols'
# tests/bench/flash/lib.sh - what the protocols share: options, the build, the peer. Sourced, from the project's root.
# A protocol sets the variables that are its options, names them in `opts`, and calls flash_args "$@". Its Python part sees
# them, and STROBE (the command), BENCH (programs of tests/bench), DIR (where models and results go), OUT (JSON lines).
flash_args() {
    while [ $# -gt 0 ]; do
        case $1 in
        -h | --help)
            awk 'NR > 1 && /^#/ { sub(/^# ?/, ""); print; next } NR > 1 { exit }' "$0"
            exit 0
            ;;
        --quick) quick=1; shift; continue ;;
        esac
        local name=${1#--}
        case " $opts " in
        *" $name "*) ;;
        *) echo "$(basename "$0"): unknown word '$1' (--help lists them)" >&2; exit 2 ;;
        esac
        [ $# -gt 1 ] || { echo "$(basename "$0"): $1 needs a value" >&2; exit 2; }
        printf -v "$name" %s "$2"
        shift 2
    done
    DIR=${STROBE_BENCH_DIR:-build/bench}
    local build=${STROBE_BUILD:-$DIR/tree}
    mkdir -p "$DIR"
    [ -f "$build/build.ninja" ] || meson setup "$build" --buildtype=release -Dtests=true >/dev/null
    ninja -C "$build" server/strobe tests/bench/disk_rate tests/bench/synth_gguf >/dev/null
    STROBE=$build/server/strobe BENCH=$build/tests/bench
    PROTOCOL=$(basename "$0" .sh)
    OUT=$DIR/$PROTOCOL-$(date +%Y%m%d-%H%M%S).jsonl
    export DIR STROBE BENCH PROTOCOL OUT quick=${quick:-}
    export PYTHONPATH=tests/bench/flash PYTHONDONTWRITEBYTECODE=1
    # shellcheck disable=SC2086,SC2163 # a list of names
    export $opts
}

# llama.cpp's shared library out of npm's cache or registry; PEER and PEER_LIBS stay empty where there is none.
flash_peer() {
    local peer=$DIR/peer
    if [ ! -d "$peer/node_modules" ]; then
        mkdir -p "$peer"
        cp tests/bench/peer/package*.json tests/bench/peer/.npmrc "$peer/"
        (cd "$peer" && npm ci >/dev/null 2>&1) || { echo "SKIPPED: npm cannot install the peer" >&2; return 0; }
    fi
    gcc -O2 -o "$peer/llama_peer" tests/bench/peer/llama_peer.c -ldl
    PEER=$peer/llama_peer PEER_LIBS=$(ls -d "$peer"/node_modules/@node-llama-cpp/linux-x64/bins/*/)
    export PEER PEER_LIBS
}
