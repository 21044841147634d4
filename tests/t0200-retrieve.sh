#!/bin/sh
# mm-retrieve: adding, searching, deleting, conditions, models, what is refused.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"

cat > v.jsonl <<'JSON'
{"id":"v1","embedding":[1,0,0],"lang":"de","year":2019,"meta":{"a":{"b":true}}}
{"id":"zero","embedding":[0,0,0]}
{"id":"v3","embedding":[0.9,0.1,0],"lang":"en","year":2021}
{"id":"tiny","embedding":[1e-30,0,0],"lang":"de","year":2022,"odd key":"x"}
JSON
echo '{"q":1,"embedding":[1,0,0],"note":"kept"}' > q
test_ok 'a zero vector is refused, the rest is added' 'expect_code 1 mm-retrieve --add a.idx v.jsonl 2> err && grep -q "v.jsonl:2.*zero" err && mm-retrieve --info a.idx > out && test_json out ".[0].records == 3 and .[0].dim == 3"'
test_ok 'hits in order, ties by insertion, payload with them' 'mm-retrieve -k 4 a.idx q > out && test_json out ".[0].q == 1 and .[0].note == \"kept\" and (.[0] | has(\"embedding\") | not) and (.[0].hits | map(.id)) == [\"v1\",\"tiny\",\"v3\"]
    and (.[0].hits[2].score - 0.9938837 | fabs) < 1e-6 and .[0].hits[0].score == 1 and .[0].hits[0].meta.a.b == true"'
test_ok 'NaN, 1e999 and another size are refused at add' 'printf "%s\n" "{\"id\":\"n1\",\"embedding\":[NaN,0,0]}" "{\"id\":\"n2\",\"embedding\":[1e999,0,0]}" "{\"id\":\"n3\",\"embedding\":[1,0]}" "{\"id\":\"n4\",\"embedding\":[0,1,0]}" > n
    expect_code 1 mm-retrieve --add a.idx n 2> err && [ "$(wc -l < err)" -eq 3 ] && mm-retrieve --info a.idx > out && test_json out ".[0].records == 4"'
test_ok 'bad queries are error records' 'printf "%s\n" "{\"embedding\":[0,0,0]}" "{\"embedding\":[1,2]}" "{\"x\":1}" "{\"embedding\":[0,1,0]}" > b; expect_code 1 mm-retrieve -q -k1 a.idx b > out && test_lines out 4 && test_json out "[.[] | .error.code // .hits[0].id] == [\"MM_EEMPTY\",\"MM_ESHAPE\",\"MM_EDATA\",\"n4\"]"'
test_ok 'an id that is there is replaced' 'echo "{\"id\":\"v1\",\"embedding\":[0,0,1],\"new\":1}" | mm-retrieve --add a.idx && mm-retrieve --get v1 a.idx > out && test_json out ".[0].new == 1 and .[0].embedding == [0,0,1]" && mm-retrieve --info a.idx > out && test_json out ".[0].records == 4"'
test_ok 'delete by plain lines and by records' 'echo tiny | mm-retrieve --delete a.idx && echo "{\"id\":\"v3\"}" | mm-retrieve --delete a.idx && mm-retrieve -k9 a.idx q > out && test_json out "(.[0].hits | map(.id) | sort) == [\"n4\",\"v1\"]" &&
    expect_code 1 mm-retrieve --delete a.idx v.jsonl 2> err && grep -q "no record .zero." err'
test_ok '--get of an id that is not there' 'expect_code 1 mm-retrieve --get nobody a.idx > out 2> err && test_lines out 0 && grep -q nobody err'
test_ok 'compact and verify' 'mm-retrieve --compact a.idx && mm-retrieve --info a.idx > out && test_json out ".[0].rows == .[0].records and .[0].segments == 1" && mm-retrieve --verify a.idx'
test_ok 'damage is found' 'cp -r a.idx d.idx; s=$(ls d.idx/seg-* | head -1); size=$(wc -c < $s); printf X | dd of=$s bs=1 seek=$((size - 3)) conv=notrunc 2> /dev/null; expect_code 1 mm-retrieve --verify d.idx 2> err; grep -q checksum err
    printf X | dd of=$s bs=1 seek=20 conv=notrunc 2> /dev/null; expect_code 3 mm-retrieve --info d.idx 2> err; grep -q "damaged" err; printf X | dd of=a.idx/../d.idx/manifest bs=1 seek=5 conv=notrunc 2> /dev/null; expect_code 3 mm-retrieve --info d.idx 2> err; grep -q manifest err'
test_ok 'a score that no vector of length 1 can have is damage' 'rm -rf d.idx; echo "{\"id\":1,\"embedding\":[1,0]}" > one; mm-retrieve --add d.idx one; mm-retrieve --compact d.idx; at=$(LC_ALL=C grep -abo "$(printf "\200\077")" d.idx/seg-* | head -1 | cut -d: -f1)
    printf "\200\177" | dd of="$(ls d.idx/seg-*)" bs=1 seek=$at conv=notrunc 2> log; expect_code 3 mm-retrieve d.idx one > out 2> err; test_lines out 0; grep -q "d.idx.*damaged" err; expect_code 1 mm-retrieve --verify d.idx 2> err'
mm-retrieve -q --add w.idx v.jsonl || true
for t in 'lang = "de"|["tiny","v1"]' 'year >= 2020|["tiny","v3"]' 'lang = "de" and year > 2020|["tiny"]' 'lang = "en" or year = 2019|["v1","v3"]' 'not lang = "de"|["v3"]' \
    'lang != "de"|["v3"]' 'lang in ("fr", "en")|["v3"]' 'lang like "d%"|["tiny","v1"]' 'exists(meta)|["v1"]' 'meta.a.b = true|["v1"]' '"odd key" = "x"|["tiny"]' \
    'year < 2020.5 and (lang = "de" or lang = "en")|["v1"]' 'year = "2019"|[]' 'lang = "de" AND Exists(meta)|["v1"]' 'nothing = 1|[]' 'nothing != 1|["tiny","v1","v3"]'; do
    cond=${t%|*} want=${t##*|}
    export cond want
    test_ok "where $cond" 'mm-retrieve -k9 -w "$cond" w.idx q > out && test_json out "(.[0].hits | map(.id) | sort) == $want"'
done
test_ok 'bad conditions name the column' 'for c in "lang" "lang =" "= 1" "(a = 1" "a = 1 b" "a ~ 1" "a like 3" "a in 1" "exists a" "a = x"; do expect_code 2 mm-retrieve -w "$c" w.idx q 2> err && grep -q "condition, column [0-9]" err || exit 1; done'
test_ok 'vectors of another model are refused, or taken if told so' 'echo "{\"id\":\"m\",\"embedding\":[1,2,3],\"model\":\"one@00000000000000aa\"}" | mm-retrieve --add m.idx && echo "{\"embedding\":[1,2,3],\"model\":\"alias@00000000000000aa\"}" | mm-retrieve m.idx > out &&
    echo "{\"embedding\":[1,2,3],\"model\":\"two@00000000000000bb\"}" > other && expect_code 3 mm-retrieve m.idx other 2> err && grep -q "one@.*two@" err && mm-retrieve --any-model m.idx other > out && test_json out ".[0].hits[0].id == \"m\"" &&
    expect_code 3 mm-retrieve --add m.idx other 2> err'
awk 'BEGIN { srand(7); for (i = 0; i < 700; i++) { printf "{\"id\":%d,\"embedding\":[", i; for (k = 0; k < 40; k++) printf "%s%.6f", k ? "," : "", rand() - 0.5; print "]}" } }' > r.jsonl
head -20 r.jsonl > rq
test_ok 'f32 search is exact' 'mm-retrieve --add r.idx r.jsonl && mm-retrieve -k 3 r.idx rq > out && test_json out "all(.[]; .id == .hits[0].id)"'
for t in f16 i8 b1; do
    export t
    test_ok "type $t finds the same" 'mm-retrieve --add --type $t $t.idx r.jsonl && mm-retrieve -k 3 $t.idx rq > o2 && mm-retrieve -k 3 r.idx rq > o1 && jq -c ".hits | map(.id)" o1 > a && jq -c ".hits | map(.id)" o2 > b && same=$(paste -d"|" a b | awk -F"|" "\$1 == \$2" | wc -l) && [ "$same" -ge 18 ] && mm-retrieve --verify $t.idx'
done
test_ok 'rescored i8 scores are those of f32' 'jq -c .hits o1 > a; mm-retrieve -k 3 --rescore 300 i8.idx rq | jq -c .hits > b; test_cmp a b'
test_ok 'batches and threads do not change hits' 'mm-retrieve -k 5 -j1 r.idx rq > a && mm-retrieve -k 5 -j2 --batch 3 r.idx rq > b && test_cmp a b'
test_ok '--min-score' 'mm-retrieve -k 9 --min-score 0.99 r.idx rq > out && test_json out "all(.[]; (.hits | length) == 1)"'
test_ok '--list gives everything back, and it can be added again' 'mm-retrieve --list r.idx > l && test_lines l 700 && mm-retrieve --add r2.idx l && mm-retrieve -k 3 r2.idx rq | jq -c ".hits | map(.id)" > a && mm-retrieve -k 3 r.idx rq | jq -c ".hits | map(.id)" > b && test_cmp a b'
test_ok 'records without an id get one' 'printf "{\"embedding\":[1]}\n{\"embedding\":[2]}\n" | mm-retrieve --add i.idx && mm-retrieve --list i.idx | jq -r .id > out && [ "$(cat out)" = "#1
#2" ]'
test_ok 'frames go in and out' 'mm-cat -b v.jsonl -q > f; mm-retrieve -q --add g.idx f || true; mm-retrieve -b -k 1 g.idx q | mm-cat > out && test_json out ".[0].hits[0].id == \"v1\""'
test_ok 'another writer: refused, or waited for' 'mkfifo p; mm-retrieve --add lock.idx < p & exec 9> p; wait_for "[ -e lock.idx/manifest ]"; expect_code 4 mm-retrieve --add lock.idx v.jsonl 2> err; grep -q "another process" err
    ( exec 9>&-; mm-retrieve -q --add --wait lock.idx v.jsonl || true; echo done > waited ) & sleep 0.3; [ ! -e waited ]; exec 9>&-; wait; [ -e waited ] && mm-retrieve --info lock.idx > out && test_json out ".[0].records == 3"'
test_ok 'searching something else' 'expect_code 4 mm-retrieve no.idx q 2> err; mkdir -p e.idx; expect_code 3 mm-retrieve e.idx q 2> err; grep -q "no index" err; mkdir -p mine; echo x > mine/file; expect_code 2 mm-retrieve --add mine v.jsonl 2> err; grep -q "not empty" err'
test_ok 'usage' 'expect_code 2 mm-retrieve 2> err; expect_code 2 mm-retrieve --add --delete a.idx 2> err; grep -q "together" err; expect_code 2 mm-retrieve -k 0 a.idx; expect_code 2 mm-retrieve --type f8 --add x.idx; expect_code 2 mm-retrieve --info a.idx more'
test_ok 'full disk for hits, closed input' 'expect_code 4 mm-retrieve a.idx q > /dev/full 2> err; expect_code 4 mm-retrieve --add c.idx <&- 2> err'
test_ok 'no input: an empty index, no hits' 'mm-retrieve --add z.idx < /dev/null && mm-retrieve z.idx q > out && test_json out ".[0].hits == []"'
cat > writer <<'SH'
set -e
for i in $(seq 30); do
    awk -v i="$i" 'NR > i * 20 && NR <= i * 20 + 20' r.jsonl | mm-retrieve --add c2.idx
    [ $((i % 7)) -ne 0 ] || mm-retrieve --compact c2.idx
done
SH
test_ok 'hits from readers while a writer works' 'mm-retrieve --add c2.idx < /dev/null; rm -f written; ( sh ./writer > wlog 2>&1 && echo ok > written || echo bad > written ) & n=0
    while [ ! -e written ]; do mm-retrieve -k 1 c2.idx rq > out 2> err || { cat err; exit 1; }; n=$((n + 1)); done; wait; cat wlog; [ "$(cat written)" = ok ] && [ "$n" -gt 3 ]'
finish
