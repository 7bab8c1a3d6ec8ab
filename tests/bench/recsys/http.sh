#!/bin/bash
# The recommender over HTTP: 100,000 items, K = 64, 2,000 requests a second offered whether or not answers come, events in
# batches beside. Goals: p99 of recommend <= 3 ms, >= 50,000 durable events a second with readers undisturbed.
#   tests/bench/recsys/http.sh BUILD_DIR [http_bench options: --items N --users N --k N --rate R --seconds S --ingest E --batch B]
# Two and a half minutes with the defaults. Server and client share the machine; /health/live is the same without a recommender.
set -eu
build=${1:?BUILD_DIR}
shift
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || { kill "$pid"; wait "$pid" || true; }; rm -rf "$dir"' EXIT
"$build/tests/bench/http_bench" make "$dir" "$@"
"$build/server/strobe" serve -q --port 0 --data "$dir" >"$dir/out" 2>"$dir/log" &
pid=$!
for _ in $(seq 600); do
    grep -q 'listening on' "$dir/out" && break
    kill -0 "$pid" || { cat "$dir/log"; exit 1; }
    sleep 0.1
done
port=$(sed -n 's/.*:\([0-9]*\)$/\1/p' "$dir/out")
"$build/tests/bench/http_bench" "$port" --pid "$pid" "$@"
