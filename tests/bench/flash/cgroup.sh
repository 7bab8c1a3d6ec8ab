#!/bin/bash
# Runs a command in a fresh memory cgroup (v1 or v2) with a limit and no swap; the group is removed at the end.
#   tests/bench/flash/cgroup.sh LIMIT_BYTES [--report FILE] [--sample FILE] [--drop FILE]...
#       [--disk FILE [--riops N] [--rbps N]] -- COMMAND...
# --report: one JSON line there (default: standard error): limit, peak, kills for want of memory, and the
# group's major faults, anonymous, page cache and mapped bytes at the end. --sample: the same every 0.1 s while it runs.
# --drop: leave nothing of FILE in the page cache before the start; STROBE_DROP_CACHES=1 drops the whole machine's (root).
# --disk: of the disk that FILE is on, the command gets at most --riops reads and --rbps bytes a second (io.max, or blkio of v1).
# The exit code is the command's. 77: no cgroup can be made here (needs root, or systemd-run --user with a v2 hierarchy),
# or none that slows reads.
set -u
[ $# -gt 0 ] || set -- --help
case $1 in -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
limit=$1 report='' sample='' drop=() disk='' riops='' rbps=''
shift
while [ $# -gt 0 ]; do
    case $1 in
    --report) report=$2; shift 2 ;;
    --sample) sample=$2; shift 2 ;;
    --drop) drop+=("$2"); shift 2 ;;
    --disk) disk=$2; shift 2 ;;
    --riops) riops=$2; shift 2 ;;
    --rbps) rbps=$2; shift 2 ;;
    --) shift; break ;;
    *) echo "cgroup.sh: unknown word '$1'" >&2; exit 2 ;;
    esac
done
[ $# -gt 0 ] || { echo "cgroup.sh: no command" >&2; exit 2; }

own() { sed -n "s/^$1//p" /proc/self/cgroup | head -n 1; } # prefix of the line -> this process's group
root=/sys/fs/cgroup group='' version=''
# Below the group that this process is in, so that whatever limits it holds for the command too.
if [ -f $root/memory/cgroup.procs ]; then
    base=$root/memory$(own '[0-9]*:memory:')
    [ -d "$base" ] || base=$root/memory
    group=${base%/}/strobe-bench-$$ version=v1
    mkdir "$group" 2>/dev/null || group=''
elif [ -f $root/cgroup.controllers ]; then
    # A v2 group with processes cannot hand controllers down, the root can: the group goes there.
    for base in "$root$(own 0::)" $root; do
        grep -qw memory "$base/cgroup.subtree_control" 2>/dev/null ||
            echo +memory 2>/dev/null >"$base/cgroup.subtree_control" || continue
        group=${base%/}/strobe-bench-$$ version=v2
        mkdir "$group" 2>/dev/null && break
        group=''
    done
fi
if [ -z "$group" ] && [ -n "$disk" ]; then
    echo "cgroup.sh: SKIPPED: reads cannot be slowed here (needs root and a cgroup hierarchy)" >&2
    exit 77
fi
if [ -z "$group" ]; then
    # An ordinary user under systemd: it delegates a scope, in which this script runs again as the scope's only member.
    if [ -z "${STROBE_BENCH_SCOPE:-}" ] && [ -f $root/cgroup.controllers ] && command -v systemd-run >/dev/null; then
        words=()
        [ -z "$report" ] || words+=(--report "$report")
        [ -z "$sample" ] || words+=(--sample "$sample")
        for f in ${drop[@]+"${drop[@]}"}; do words+=(--drop "$f"); done
        STROBE_BENCH_SCOPE=1 exec systemd-run --user --scope --quiet -p MemoryMax="$limit" -p MemorySwapMax=0 \
            -p Delegate=memory -- "$0" "$limit" ${words[@]+"${words[@]}"} -- "$@"
    fi
    [ -n "${STROBE_BENCH_SCOPE:-}" ] || { echo "cgroup.sh: SKIPPED: no memory cgroup can be made here" >&2; exit 77; }
    group=$root$(own 0::) version=scope
fi

set_to() { echo "$2" 2>/dev/null >"$group/$1"; } # file, value
case $version in
v1)
    set_to memory.swappiness 0
    set_to memory.limit_in_bytes "$limit" || { echo "cgroup.sh: cannot limit $group" >&2; rmdir "$group"; exit 77; }
    set_to memory.memsw.limit_in_bytes "$limit"
    peak=memory.max_usage_in_bytes now=memory.usage_in_bytes total=total_ anon=rss file=cache mapped=mapped_file
    ;;
v2)
    set_to memory.swap.max 0
    set_to memory.max "$limit" || { echo "cgroup.sh: cannot limit $group" >&2; rmdir "$group"; exit 77; }
    ;;&
v2 | scope) peak=memory.peak now=memory.current total='' anon=anon file=file mapped=file_mapped ;;
esac

# The number of the whole disk: limits of a partition are refused.
disk_of() {
    local at
    at=$(readlink -f "/sys/dev/block/$(stat -c %Hd:%Ld "$1")") || return 1
    [ ! -e "$at/partition" ] || at=${at%/*}
    cat "$at/dev" 2>/dev/null
}
io=''
slow_down() {
    local number
    number=$(disk_of "$disk") || return 1
    if [ "$version" = v1 ]; then
        io=$root/blkio$(own '[0-9]*:blkio:')
        io=${io%/}/strobe-bench-$$
        mkdir "$io" 2>/dev/null || { io=''; return 1; }
        [ -z "$riops" ] || echo "$number $riops" 2>/dev/null >"$io/blkio.throttle.read_iops_device" || return 1
        [ -z "$rbps" ] || echo "$number $rbps" 2>/dev/null >"$io/blkio.throttle.read_bps_device"
    else
        echo +io 2>/dev/null >"${group%/*}/cgroup.subtree_control"
        set_to io.max "$number${riops:+ riops=$riops}${rbps:+ rbps=$rbps}"
    fi
}
if [ -n "$disk" ] && ! slow_down; then
    echo "cgroup.sh: SKIPPED: reads cannot be slowed here (no blkio or io controller for the disk of $disk)" >&2
    rmdir ${io:+"$io"} "$group"
    exit 77
fi

read_stat() { # sets a (anonymous), c (page cache), m (mapped), j (major faults)
    local k v
    a=0 c=0 m=0 j=0
    while read -r k v; do
        case $k in
        "$total$anon") a=$v ;;
        "$total$file") c=$v ;;
        "$total$mapped") m=$v ;;
        "${total}pgmajfault") j=$v ;;
        esac
    done <"$group/memory.stat"
}
sampler() {
    local u start=$EPOCHREALTIME t
    while read -r u <"$group/$now" && read_stat; do
        t=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
        echo "{\"ms\":$t,\"usage\":$u,\"anon\":$a,\"cache\":$c,\"mapped\":$m,\"major_faults\":$j}"
        sleep 0.1
    done 2>/dev/null >"$sample"
}
finish() {
    [ -z "$watch" ] || { kill "$watch"; wait "$watch"; } 2>/dev/null
    [ "$version" = scope ] && return
    # Page cache that is still charged goes with the group; a group with processes stays, and is worth a word.
    set_to memory.force_empty 0
    rmdir "$group" || echo "cgroup.sh: $group stays" >&2
    [ -z "$io" ] || rmdir "$io" || echo "cgroup.sh: $io stays" >&2
}

for f in ${drop[@]+"${drop[@]}"}; do dd if="$f" iflag=nocache count=0 status=none; done
[ -z "${STROBE_DROP_CACHES:-}" ] || { sync; echo 3 >/proc/sys/vm/drop_caches; }
watch=''
trap finish EXIT
[ -z "$sample" ] || { sampler & watch=$!; }
if [ "$version" = scope ]; then
    "$@"
else
    (echo $BASHPID >"$group/cgroup.procs" && { [ -z "$io" ] || echo $BASHPID >"$io/cgroup.procs"; } && exec "$@")
fi
code=$?
read_stat
top=$(cat "$group/$peak" 2>/dev/null || echo 0)
if [ "$version" = v1 ]; then kills=$group/memory.oom_control; else kills=$group/memory.events; fi
kills=$(sed -n 's/^oom_kill //p' "$kills")
[ -z "$report" ] || exec 2>"$report"
echo "{\"cgroup\":\"$version\",\"limit\":$limit,\"peak\":$top,\"kills\":${kills:-0},\"major_faults\":$j,\"anon\":$a,\"cache\":$c,\"mapped\":$m}" >&2
exit $code
