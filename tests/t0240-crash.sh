#!/bin/sh
# kill -9 at random instants of --add, --delete and --compact, and full disks: no acknowledged record is lost, no deleted one comes
# back, the index opens and is sound. MM_CRASH_RUNS=1000 for the long version, MM_CRASH_SEED for other instants.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
runs=${MM_CRASH_RUNS:-40}
seed=${MM_CRASH_SEED:-1}
export runs seed

# batch ADD N SEED: N records with ids out of 400, each id once; n is the version. Line by line, so that there are many pauses.
cat > ./batch <<'SH'
awk -v n="$2" -v seed="$3" -v kind="$1" 'BEGIN { srand(seed)
    pad = "padding to make the journal grow past what it may be when it is closed, "; while (length(pad) < 3000) pad = pad pad
    for (i = 0; i < n; ) { id = int(rand() * 400); if (id in seen) continue; seen[id] = 1; i++
        if (kind == "del") print "k" id
        else printf "{\"id\":\"k%d\",\"n\":%d,\"embedding\":[%.4f,%.4f,%.4f,1],\"pad\":\"%s\"}\n", id, seed * 1000 + i, rand(), rand(), rand(), substr(pad, 1, rand() * 3000)
        fflush() } }'
SH
# "id version" of all that is in the index
cat > state <<'SH'
mm-retrieve --list --encoding base64 c.idx | jq -r '"\(.id) \(.n)"' | sort
SH
# judge BATCH ACKED BEFORE AFTER: what was acknowledged is so, everything else is as before or as it would have been
cat > judge.awk <<'AWK'
FILENAME == ARGV[1] { i++; id = $1; order[id] = i; to[id] = $2; next }
FILENAME == ARGV[2] { acked = $1; next }
FILENAME == ARGV[3] { was[$1] = $2; all[$1] = 1; next }
{ is[$1] = $2; all[$1] = 1 }
END {
    for (id in to) all[id] = 1
    for (id in all) {
        if ((id in order) && order[id] <= acked ? is[id] != to[id] : is[id] != was[id] && !((id in order) && is[id] == to[id])) {
            printf "%s: was '%s', operation %s of %s acknowledged made it '%s', is '%s'\n", id, was[id], order[id], acked, to[id], is[id]; bad = 1 }
    }
    exit bad
}
AWK
cat > crash <<'SH'
set -e
. ../helpers
# a process that is killed while the sanitizer looks for leaks leaves a message of the sanitizer's
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
# something is there to be lost, however early the kills come; these ids are touched by nothing else
awk 'BEGIN { for (i = 0; i < 60; i++) printf "{\"id\":\"stays%d\",\"n\":%d,\"embedding\":[1,%d,0,1]}\n", i, i, i }' > stays
sh ./batch add 200 0 | cat stays - > first
mm-retrieve --add c.idx first
jq -r '"\(.id) \(.n)"' first | sort > before
i=0 killed=0
while [ $i -lt "$runs" ]; do
    i=$((i + 1))
    set -- $(awk -v s="$seed$i" 'BEGIN { srand(s); k = int(rand() * 8); printf "%d %.4f %d", k, rand() * (k == 2 ? 0.01 : 0.03), rand() * 300 + 100 }')
    # each fifth run adds, and is killed after something was acknowledged: however slowly the machine goes, there is something to judge
    [ $((i % 5)) -ne 0 ] || set -- 3 "$2" "$3"
    : > ops
    : > ack
    case $1 in
    0 | 1) sh ./batch del "$3" "$i" > ops; sh ./batch del "$3" "$i" | mm-retrieve -q --delete --ack --batch 16 c.idx > ack 2> err & ;;
    2) mm-retrieve --compact c.idx 2> err & ;;
    *) sh ./batch add "$3" "$i" | jq -r '"\(.id) \(.n)"' > ops; sh ./batch add "$3" "$i" | mm-retrieve --add --ack --batch 16 c.idx > ack 2> err & ;;
    esac
    pid=$!
    [ $((i % 5)) -ne 0 ] || wait_for '[ -s ack ]' || exit 1
    sleep "$2"
    kill -9 $pid 2> /dev/null || true
    wait $pid 2> /dev/null && code=0 || code=$?
    [ $code -ne 137 ] || killed=$((killed + 1))
    # a line that was cut is no acknowledgement; ids that are not there are not counted by --delete, so its acknowledgements are a floor
    awk '{ n = $1 } END { print n + 0 }' ack > n
    if [ "$1" -le 1 ]; then # n deletions that found something: position of the n-th such
        awk -v n="$(cat n)" 'FNR == NR { have[$1] = 1; next } $1 in have && ++k == n { at = FNR } END { print at + 0 }' before ops > m && mv m n
    fi
    mm-retrieve --verify c.idx || { echo "run $i: --verify"; exit 1; }
    sh ./state > after || { echo "run $i: does not open"; exit 1; }
    awk -f judge.awk ops n before after || { echo "run $i: kind $1, killed after $2 s"; exit 1; }
    mv after before
    [ "$1" -lt 3 ] || [ "$(cat n)" -eq 0 ] || echo "$i" >> said
    [ ! -s err ] || ! grep -v 'no record\|more records' err || { echo "run $i: messages"; exit 1; }
done
echo "$killed of $runs were killed while they worked"
[ "$killed" -gt $((runs / 8)) ]
[ "$(wc -l < said)" -ge $((runs / 5)) ]
SH
test_ok "$runs times killed" 'sh ./crash'
test_ok 'and the index is of use' 'mm-retrieve --info c.idx > out && test_json out ".[0].records >= 60" && mm-retrieve --list c.idx | jq -r "select(.id | startswith(\"stays\")) | .id" > out && test_lines out 60 && echo "{\"embedding\":[1,1,1,1]}" | mm-retrieve -k 3 c.idx > out && test_json out ".[0].hits | length == 3" && mm-retrieve --compact c.idx && mm-retrieve --verify c.idx && sh ./state > s && test_cmp before s'

# ---- no space ----
cat > acked <<'SH'
awk -v n="$(tail -1 ack)" 'NR <= n { print $1 }' ids | sort > want
mm-retrieve --list --encoding base64 $1 | jq -r .id | sort > have
[ -s want ] && [ -z "$(comm -23 want have)" ] && mm-retrieve --verify "$1" && echo "{\"embedding\":[1,1,1,1]}" | mm-retrieve "$1" | jq -e ".hits | length == 10"
SH
sh ./batch add 400 77 > many
jq -r .id many > ids
test_ok 'a file may not grow: what was acknowledged is there' '(ulimit -f 300 && sh ./batch add 400 77 | expect_code 4 mm-retrieve --add --ack --batch 16 l.idx > ack 2> err) && grep -qi "large\|space" err && [ "$(tail -1 ack)" -lt 400 ] && sh ./acked l.idx'
test_ok 'nor while compacting: all is as it was' 'mm-retrieve --add l.idx many && ls l.idx | sort > a && (ulimit -f 300 && expect_code 4 mm-retrieve --compact l.idx 2> err) && ls l.idx | sort > b && test_cmp a b && mm-retrieve --verify l.idx && mm-retrieve --info l.idx > out && test_json out ".[0].records == 400" && mm-retrieve --compact l.idx && mm-retrieve --verify l.idx'
mkdir small
if [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=400k none small 2> /dev/null; then
    # shellcheck disable=SC2154 # set by lib-test.sh
    trap 'cd /; umount "$test_dir/d/small"; rm -rf "$test_dir"' EXIT
    test_ok 'a full disk: what was acknowledged is there' 'sh ./batch add 400 77 | expect_code 4 mm-retrieve --add --ack --batch 16 small/x.idx > ack 2> err && grep -q "No space" err && [ "$(tail -1 ack)" -lt 400 ] && sh ./acked small/x.idx'
    test_ok 'a full disk cannot be compacted, and nothing is lost by trying' 'mm-retrieve --list small/x.idx > a; dd if=/dev/zero of=small/fill bs=1k 2> /dev/null || true; expect_code 4 mm-retrieve --compact small/x.idx 2> err; rm small/fill; mm-retrieve --list small/x.idx > b && test_cmp a b && mm-retrieve --verify small/x.idx && sh ./acked small/x.idx'
    test_ok 'a full disk takes no new index, and leaves no trouble behind' 'rm -r small/x.idx; dd if=/dev/zero of=small/fill bs=1k 2> /dev/null || true; expect_code 4 mm-retrieve --add small/y.idx many 2> err; rm small/fill; head -20 many | mm-retrieve --add small/y.idx && mm-retrieve --verify small/y.idx'
else
    skip 'a full disk' 'no right to mount one'
fi
finish
