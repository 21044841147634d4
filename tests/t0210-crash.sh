#!/bin/sh
# kill -9 at random instants while records are added, deleted and compacted: nothing acknowledged is lost, the index stays readable.
# MM_CRASH_RUNS=1000 for the long form.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
MM_CRASH_RUNS=${MM_CRASH_RUNS:-40}
export MM_CRASH_RUNS

cat > run <<'RUN'
set -e
. ../helpers
awk -v s="${MM_SEED:-1}" 'BEGIN { srand(s); for (i = 0; i < 4000; i++) { printf "{\"id\":\"r%d\",\"run\":%%RUN%%,\"embedding\":[", i; for (k = 0; k < 24; k++) printf "%s%.5f", k ? "," : "", rand() - 0.5; print "]}" } }' > all
echo '{"embedding":[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}' > q
rm -rf c.idx
for run in $(seq "$MM_CRASH_RUNS"); do
    # records in small pieces, so that acknowledgements come often; three kinds of run
    sed "s/%RUN%/$run/" all | awk -v r="$run" '(NR * 7 + r) % 5 < 3' > in
    case $((run % 5)) in
    3) job='mm-retrieve --delete --ack c.idx' ; awk -v r="$run" 'NR % 9 == r % 9' all | sed "s/%RUN%/0/" > in ;;
    4) job='mm-retrieve --compact c.idx' ; : > in ;;
    *) job='mm-retrieve --add --ack c.idx' ;;
    esac
    : > ack
    # slowly enough that the input pauses: every pause is an acknowledgement
    mkfifo fifo
    $job < fifo > ack 2> /dev/null & p=$!
    ( while read -r l; do printf '%s\n' "$l"; done < in > fifo ) 2> /dev/null & w=$!
    # in two runs of five (both add) the first acknowledgement is there: however slowly the machine goes, enough runs say something
    case $((run % 5)) in 1 | 2) wait_for '[ -s ack ]' || exit 1 ;; esac
    sleep "$(awk -v s="$run" 'BEGIN { srand(s); print rand() * 0.12 }')"
    kill -9 "$p" 2> /dev/null || true
    wait "$p" 2> /dev/null || true
    kill -9 "$w" 2> /dev/null || true
    wait "$w" 2> /dev/null || true
    rm -f fifo
    [ -e c.idx/manifest ] || continue
    mm-retrieve --verify c.idx || { echo "run $run: verify"; exit 1; }
    n=$(tail -1 ack)
    [ -n "$n" ] || continue
    case $((run % 5)) in
    3) # at least the first n of the input are gone (others of them were not there)
        mm-retrieve --list c.idx | jq -r .id | sort > have
        jq -r .id in | head -"$n" | sort > gone
        [ "$(comm -12 have gone | wc -l)" -eq 0 ] || { echo "run $run: a deleted record is back"; exit 1; } ;;
    4) ;;
    *)
        mm-retrieve --list c.idx | jq -r '[.id, .run] | @tsv' | sort > have
        head -"$n" in | jq -r '[.id, .run] | @tsv' | sort > want
        [ "$(comm -23 want have | wc -l)" -eq 0 ] || { echo "run $run: $(comm -23 want have | wc -l) of $n acknowledged records are lost"; exit 1; } ;;
    esac
    mm-retrieve -k 1 c.idx q > /dev/null || { echo "run $run: search"; exit 1; }
    echo "$run $n" >> killed
done
[ "$(wc -l < killed)" -ge $((MM_CRASH_RUNS / 4)) ] || { echo "only $(wc -l < killed) runs acknowledged anything"; exit 1; }
RUN
test_ok "$MM_CRASH_RUNS kills lose nothing acknowledged" 'sh ./run'
test_ok 'a disk that fills up loses nothing acknowledged' '[ -e all ]; sed "s/%RUN%/9/" all > in; rm -rf f.idx
    ( ulimit -f 600; mm-retrieve --add --ack f.idx < in > ack 2> err ) && exit 1; grep -q "f.idx\|log-" err; n=$(tail -1 ack); n=${n:-0}; mm-retrieve --verify f.idx; mm-retrieve --list f.idx | jq -r .id | sort > have; head -$n in | jq -r .id | sort > want; [ "$(comm -23 want have | wc -l)" -eq 0 ]
    head -300 in | mm-retrieve --add f.idx && mm-retrieve --info f.idx > out && test_json out ".[0].records >= 300"'
finish
