#!/bin/sh
# Long runs of mm-embed: files that are known are left out, a run that was killed goes on, labels.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
mk_models tower-clip-vit-b32 clip > /dev/null || exit 1
MM_MODEL=$PWD/clip
export MM_MODEL
mkdir pics
for i in 1 2 3 4 5 6 7 8 9; do mk_media png pics/$i.png w=$((8 * i)) h=16 || exit 1; done
find pics -name '*.png' | sort > list

test_ok 'a file of records: what it holds is left out, new and changed files are not' 'mm-embed --skip-known k.jsonl list > k.jsonl; test_lines k.jsonl 9; test_json k.jsonl "all(.[]; .file.size > 0 and (.file.hash | test(\"^[0-9a-f]{16}$\")) and (.file.mtime | test(\"^[0-9]+[.][0-9]{9}$\")))"; mm-embed -v --skip-known k.jsonl list > out 2> err; test_lines out 0; grep -q "9 unchanged" err
    mk_media png pics/3.png w=9 h=9; mk_media png pics/a.png w=5 h=5; echo pics/a.png >> list; mm-embed --skip-known k.jsonl list > out; test_json out "[.[].id] == [\"pics/3.png\",\"pics/a.png\"]"'
test_ok 'a new time with the same content is no change' 'mm-embed --skip-known k2.jsonl list > k2.jsonl; sleep 0.01; touch pics/1.png; mm-embed --skip-known k2.jsonl list > out; test_lines out 0'
test_ok 'vectors of another model do not count' 'cp -r clip other; sed -i "s/quick_gelu/gelu/g" other/config.json; mm-embed -m other --skip-known k2.jsonl list > out; test_lines out 10'
test_ok 'an index, as in a nightly job' 'for night in 1 2; do mm-embed --skip-known pics.idx list 2> err | mm-retrieve --add pics.idx > log; done; mm-retrieve --info pics.idx > info; test_json info ".[0].records == 10 and .[0].added == 10"; mk_media png pics/5.png w=7 h=7; mm-embed --skip-known pics.idx list > out; test_lines out 1; mm-embed -q --skip-known pics.idx -m other list > out 2> err || [ $? -eq 3 ]; grep -q "holds vectors of" err'
test_ok 'what failed is not tried again until it changes' 'echo nothing > pics/b.png; echo pics/b.png >> list; expect_code 1 mm-embed -q --skip-known bad.jsonl --skip-known k2.jsonl --errors-to bad.jsonl list > out; test_lines bad.jsonl 1; mm-embed --skip-known bad.jsonl --skip-known k2.jsonl list > out; test_json out "[.[].id] == [\"pics/5.png\"]"; echo more >> pics/b.png; expect_code 1 mm-embed -q --skip-known bad.jsonl --skip-known k2.jsonl list > out; test_lines out 2'
test_ok 'a run that is killed goes on where it was' 'for i in $(seq 200); do cp pics/$((i % 9 + 1)).png pics/x$i.png; done; ls pics/x*.png > many; for t in 0.05 0.1 0.15 0.2 0.25; do timeout -s KILL $t mm-embed -j1 --unbuffered --append run.jsonl many 2> err || [ $? -eq 137 ]; done; mm-embed --append run.jsonl many; jq -r .id run.jsonl | sort > got; sort many > want; test_cmp want got; test_json run.jsonl "all(.[]; has(\"embedding\"))"'
test_ok 'a cut last line is made good' 'head -c 5000 run.jsonl > cut.jsonl; mm-embed --append cut.jsonl many; jq -r .id cut.jsonl | sort > got; test_cmp want got'
test_ok 'a file that goes while we run costs one record' 'mkfifo fifo; mm-embed < fifo > out 2> err & pid=$!; exec 9> fifo; printf "pics/1.png\n" >&9; cp pics/1.png gone.png; rm gone.png; printf "gone.png\npics/2.png\n" >&9; exec 9>&-; wait $pid || [ $? -eq 1 ]; test_json out "[.[] | has(\"embedding\")] == [true,false,true]"'

printf 'a\nb\n\nc d\r\n' > names
test_ok 'labels: a softmax over all, the best first' 'mm-embed --labels names pics/1.png > out; test_json out ".[0].labels | length == 3 and (map(.score) | add - 1 | fabs) < 1e-4 and .[0].score >= .[1].score and .[1].score >= .[2].score and (map(.label) | sort) == [\"a\",\"b\",\"c d\"]"; mm-embed --labels names --top 1 pics/1.png > out; test_json out ".[0].labels | length == 1"'
cat > scores.jq <<'JQ'
def dot($x; $y): reduce range($x | length) as $i (0; . + $x[$i] * $y[$i]);
.[-1] as $p | [.[:-1][] | {(.text | rtrimstr("\r")): (dot(.embedding; $p.embedding) * 12.182494 | exp)}] | add as $e | ([$e[]] | add) as $z
| all($p.labels[]; $e[.label] / $z - .score | fabs < 1e-3)
JQ
test_ok 'as the vectors say: scale times cosine' 'grep . names > t; mm-embed -t t > v; mm-embed --labels names pics/1.png > p; cat v p | timeout 60 jq -s -e -f scores.jq'
test_ok 'templates' 'mm-embed --labels names --template "photo of {}" --template "{} again" pics/1.png > a; mm-embed --labels names pics/1.png > b; must_fail cmp -s a b; expect_code 2 mm-embed --labels names --template none pics/1.png 2> err; grep -q "no {}" err; expect_code 4 mm-embed --labels nowhere pics/1.png 2> err; : > none; expect_code 3 mm-embed --labels none pics/1.png 2> err'
test_ok 'a sigmoid for each where the model says so' 'mk_models tower-siglip siglip; mm-embed -m siglip --labels names pics/1.png > out; test_json out ".[0].labels | length == 3 and all(.[]; .score >= 0 and .score <= 1)"'

test_ok 'what is no file of records stays as it is' 'cp pics/1.png photo.png; printf "notes, no end" > notes; printf "{\"id\":1}\nmore\n" > mixed; for f in photo.png notes mixed; do
    cp $f was; expect_code 3 mm-embed --append $f pics/2.png 2> err && test_cmp was $f && grep -q "stays as it is" err || exit 1; done'
printf '%s\n' '{"id":"t1","text":"a b"}' '{"id":7,"image":"pics/1.png"}' '{"id":8,"path":"pics/2.png"}' '{"path":"pics/3.png"}' '{"text":"c"}' > recs
test_ok 'records are known by their ids, numbers too, and by what they say' 'for i in 1 2; do mm-embed --append ap.jsonl recs 2> err; done; test_lines ap.jsonl 6; grep -q "1 records have neither id nor path" err
    sed -i "s/a b/a/" recs; mk_media png pics/1.png w=11 h=9; mm-embed --append ap.jsonl recs 2> err; test_lines ap.jsonl 9; tail -3 ap.jsonl | jq -c .id > got; printf "%s\n" "\"t1\"" 7 null > want; test_cmp want got'
test_ok 'lines have nothing to be known by' 'echo a > l; expect_code 2 mm-embed -t --append no.jsonl l 2> err; expect_code 2 mm-embed -t --skip-known no.jsonl l 2> err; [ ! -e no.jsonl ]'
test_ok 'vectors of another length are told, in files and indexes' 'jq -c ".embedding |= .[:3]" k2.jsonl > short.jsonl; expect_code 3 mm-embed --skip-known short.jsonl list 2> err; grep -q "3 numbers" err
    mm-retrieve --add short.idx short.jsonl; expect_code 3 mm-embed --skip-known short.idx list 2> err; grep -q "3 numbers" err'
test_ok 'what failed stays known where --errors-to names the same file' 'for i in 1 2 3; do mm-embed -q --skip-known bad2.jsonl --errors-to bad2.jsonl pics/b.png > out || [ $i = 1 ] || exit 1; test_lines out 0; test_lines bad2.jsonl 1 || exit 1; done
    expect_code 2 mm-embed --append x.jsonl --errors-to x.jsonl list 2> err'
mkdir folder
: > cut.jpg
: > none
test_ok 'a folder and an empty picture among the operands cost a record each, an empty list none' 'expect_code 1 mm-embed pics/1.png folder cut.jpg none pics/2.png > out 2> err
    jq -c "[.id, .error.code]" out > got; printf "%s\n" "[\"pics/1.png\",null]" "[\"folder\",\"MM_EIO\"]" "[\"cut.jpg\",\"MM_EEMPTY\"]" "[\"pics/2.png\",null]" > want; test_cmp want got'
printf 'just some words\nand more\n' > report.txt
printf 'gone.png\r\npics/1.png' > partly
test_ok 'an operand that is text and no list is the file itself' 'mm-embed --modality text report.txt > out; test_json out "length == 1 and .[0].path == \"report.txt\" and .[0].modality == \"text\""
    expect_code 1 mm-embed report.txt > out 2> err; test_json out "length == 1 and .[0].id == \"report.txt\""; expect_code 1 mm-embed partly > out 2> err; test_json out "map(.id) == [\"gone.png\",\"pics/1.png\"]"'
test_ok 'what an earlier run said of a record goes' 'echo "{\"id\":1,\"text\":\"a\",\"model\":\"x@1\",\"truncated\":true,\"gates\":{},\"chunks\":3,\"dropped\":{}}" | mm-embed > out; test_json out ".[0] | has(\"truncated\") or has(\"gates\") or has(\"chunks\") or has(\"dropped\") | not"'
test_ok 'parts of a record whose id is a number' 'jq -nc "{id: 7, text: (\"a \" * 200)}" | mm-embed --overflow split > out; test_json out "length > 1 and .[0].id == \"7#1\""'
test_ok '--top is for labels, --output has a name' 'expect_code 2 mm-embed --top 2 list 2> err; expect_code 2 mm-embed -o "" list 2> err; grep -q empty err'
finish
