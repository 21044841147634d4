#!/bin/sh
# Readers and a writer at the same time: no search ever fails, and each sees a state that was acknowledged or was being written.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"

# every record of generation g has the same g; generation after generation replaces all of them, in one batch each
cat > writer <<'SH'
for g in $(seq 1 40); do
    awk -v g="$g" 'BEGIN { for (i = 0; i < 300; i++) { printf "{\"id\":%d,\"g\":%d,\"embedding\":[%d,1,2],\"pad\":\"", i, g, i + 1; for (k = 0; k < 500; k++) printf "%d", k; print "\"}" } }' |
        mm-retrieve --add c.idx || exit 1
    case $((g % 5)) in
    0) mm-retrieve --compact c.idx || exit 1 ;;
    2) echo 299 | mm-retrieve --delete c.idx || exit 1 ;;
    esac
done
SH
cat > reader <<'SH'
n=0 last=0
while [ ! -e done ]; do
    mm-retrieve -k 300 c.idx q > out.$1 2> err.$1 || { echo "search: $(cat err.$1)"; exit 1; }
    g=$(jq -r '.hits | [length, (map(.g) | min), (map(.g) | max)] | @tsv' out.$1)
    set -- "$1" $g
    # deleted or not, and at most one generation being written over the one before
    [ "$2" -ge 299 ] && [ $(($4 - $3)) -le 1 ] && [ "$4" -ge "$last" ] || { echo "saw $2 records of generations $3 to $4 after $last"; exit 1; }
    last=$4 n=$((n + 1))
    mm-retrieve --verify c.idx 2> err.$1 || { echo "verify: $(cat err.$1)"; exit 1; }
done
echo $n > searches.$1
SH
echo '{"embedding":[1,1,1]}' > q
test_ok 'three readers, one writer' 'awk "BEGIN { for (i = 0; i < 300; i++) printf \"{\\\"id\\\":%d,\\\"g\\\":0,\\\"embedding\\\":[1,1,%d]}\n\", i, i }" | mm-retrieve --add c.idx
    sh ./reader 1 > r1 & a=$!; sh ./reader 2 > r2 & b=$!; sh ./reader 3 > r3 & c=$!
    sh ./writer && w=0 || w=1; : > done; s=0; for p in $a $b $c; do wait $p || s=1; done
    [ $s -eq 0 ] && [ $w -eq 0 ] || { cat r1 r2 r3; exit 1; }; [ "$(cat searches.*  | sort -n | head -1)" -gt 3 ]'
test_ok 'four writers take their turn' 'for i in 1 2 3 4; do (seq $((i * 1000)) $((i * 1000 + 200)) | sed "s/.*/{\"id\":&,\"embedding\":[&,1]}/" | mm-retrieve --add --wait --batch 10 w.idx || echo failed > failed) & done; wait; [ ! -e failed ] && mm-retrieve --info w.idx > out && test_json out ".[0].records == 804" && mm-retrieve --verify w.idx'
finish
