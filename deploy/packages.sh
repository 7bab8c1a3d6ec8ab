#!/bin/sh
# Installs the Debian packages that a job needs and that are missing. Usage: packages.sh build|test
set -eu
build="gcc libc6-dev meson ninja-build pkg-config libmicrohttpd-dev libjansson-dev liburing-dev libpcre2-dev libsqlite3-dev libpq-dev libcurl4-openssl-dev zlib1g-dev libopenblas-dev tzdata"
tests="clang clang-format clang-tidy libclang-rt-14-dev libcriterion-dev curl git nodejs npm chromium postgresql python3 libopenmpi-dev openmpi-bin"
case "${1:-build}" in
build) want=$build ;;
test) want="$build $tests" ;;
*)
    echo "usage: packages.sh build|test" >&2
    exit 2
    ;;
esac
missing=
for p in $want; do
    dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -q '^installed$' && continue
    # A newer Node.js from elsewhere is as good as Debian's.
    case $p in
    nodejs) command -v node >/dev/null 2>&1 && continue ;;
    npm) command -v npm >/dev/null 2>&1 && continue ;;
    esac
    missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    echo "packages.sh: these packages are missing and need root or sudo to install:$missing" >&2
    exit 1
fi
echo "installing:$missing" >&2
# A mirror that stumbles is asked again, another installation that runs is waited for.
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=600 "$@"; }
apt update || apt update
# shellcheck disable=SC2086
apt install -y --no-install-recommends $missing >/dev/null || {
    apt update
    # shellcheck disable=SC2086
    apt install -y --no-install-recommends $missing >/dev/null
}
