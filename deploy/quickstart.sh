#!/bin/sh
# Installs packages, builds strobe (release) and starts the server on 127.0.0.1:8080.
#   deploy/quickstart.sh                       serves the bundled model (deploy/model/README.md)
#   deploy/quickstart.sh MODEL [serve flags]   serves that GGUF file or Hugging Face folder
# Environment: STROBE_PORT (8080), STROBE_BUILD (build/release), STROBE_NO_START=1 builds only.
set -eu
from=$PWD
cd "$(dirname "$0")/.."
case "${1:-}" in
-h | --help)
    sed -n '2,5s/^# \{0,1\}//p' deploy/quickstart.sh
    exit 0
    ;;
esac
model=
case "${1:--}" in
-*) ;;
*)
    model=$1
    shift
    # A relative path is the caller's, not the project's.
    case $model in /*) ;; *) model=$from/$model ;; esac
    if [ ! -e "$model" ]; then
        echo "quickstart: there is no model '$model'" >&2
        exit 3
    fi
    ;;
esac
deploy/packages.sh build
build=${STROBE_BUILD:-build/release}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" --buildtype=release >"$log" 2>&1 || {
        cat "$log" >&2
        exit 1
    }
fi
echo "building strobe" >&2
ninja -C "$build" server/strobe >"$log" 2>&1 || {
    tail -n 40 "$log" >&2
    exit 1
}
rm -f "$log"
trap - EXIT
if [ -n "${STROBE_NO_START:-}" ]; then
    echo "built $build/server/strobe" >&2
    exit 0
fi
port=${STROBE_PORT:-8080}
echo "dashboard: http://127.0.0.1:$port/" >&2
if [ -z "$model" ]; then
    model=deploy/model/strobe-small.gguf
    cat >&2 <<TEXT
Serves the bundled model, which knows small stories and word problems and nothing else.
To serve another: deploy/quickstart.sh FILE.gguf   (or a Hugging Face folder)
  with a memory cap: deploy/quickstart.sh FILE.gguf --ram 4GiB
TEXT
fi
exec "$build/server/strobe" serve -m "$model" --duo-model deploy/model/strobe-duo.gguf --port "$port" "$@"
