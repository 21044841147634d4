#!/bin/sh
# mm-cat: encodings, what passes through, errors, ends of streams.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"

cat > in.jsonl <<'JSON'
{"id":"a","n":12345678901234567890,"x":1.0e-400,"text":"h\u00e9 \"q\"","nested":{"b":[1,{"c":null}]},"embedding":[0.1,-2,3e-5,1]}
{"id":"b"}
{"z":1,"a":2,"embedding":[1,2]}
{"id":"a","embedding":[0.33333334,1,2,3]}
{"id":"bad","error":{"code":"MM_EDATA","message":"before"}}
{}
JSON
test_ok 'JSON lines pass through unchanged' 'expect_code 1 mm-cat in.jsonl > out && head -4 out > a && head -4 in.jsonl > b && test_lines out 6 &&
    test_json out ".[0].nested.b[1].c == null" && grep -q 12345678901234567890 out && grep -q 1.0e-400 out && grep -q "u00e9" out'
test_ok 'what mm-cat writes it reads and writes the same' 'mm-cat --no-strict -q in.jsonl > one || true; mm-cat -q one > two || true; test_cmp one two'
test_ok 'frames and back' 'mm-cat -qb in.jsonl > f || true; mm-cat -q f > plain || true; mm-cat -qb plain > f || true; mm-cat -q f > back || true; test_cmp plain back
    mm-cat -q in.jsonl | jq -c "del(.embedding)" > a; jq -c "del(.embedding)" back > b; test_cmp a b; test_json back "(.[0].embedding[0] - 0.1) | fabs < 1e-8"'
test_ok 'base64 and back' 'mm-cat -q --encoding base64 in.jsonl > b64 || true; grep -q "\"embedding\":\"" b64; mm-cat -q b64 > back || true; mm-cat -q f > plain || true; test_cmp plain back'
test_ok 'two frame streams joined are one' 'cat f f > ff; mm-cat -q ff > out || true; test_lines out 12'
test_ok 'a cut stream is noticed, what came is passed on' 'mm-cat -b in.jsonl -q > f || true; head -c -20 f > cut; expect_code 3 mm-cat -q cut > out 2> err; grep -q "cut" err; test_lines out 6
    head -c 300 f > cut; expect_code 3 mm-cat cut > out 2> err'
test_ok 'without its end marker it is cut too' 'mm-cat -b > g <<E
{"id":"a","embedding":[1,2]}
E
    size=$(wc -c < g); head -c $((size - 64)) g > cut; expect_code 3 mm-cat cut > out 2> err; grep -q "end marker" err; test_lines out 1'
test_ok 'npy to a file and back' 'printf "{\"embedding\":[1,2.5]}\n{\"embedding\":[3,-4]}\n" | mm-cat --npy -o v.npy && mm-cat v.npy > out && test_json out "map(.embedding) == [[1,2.5],[3,-4]]" &&
    [ "$(head -c 6 v.npy | tail -c 5)" = NUMPY ] && [ "$(wc -c < v.npy)" -eq 144 ]'
test_ok 'npy needs a file' 'expect_code 2 mm-cat --npy < /dev/null 2> err && grep -q -- "--output" err'
test_ok 'a record without a vector does not go into npy, and no file appears' 'expect_code 3 mm-cat --npy -o w.npy in.jsonl 2> err; [ ! -e w.npy ]'
test_ok 'a bad line becomes an error record in its place' 'printf "{\"id\":\"1\"}\n{\"id\":\n{\"id\":\"3\"}\n" > x; expect_code 1 mm-cat x > out 2> err && test_lines out 3 &&
    test_json out ".[1].error.code == \"MM_EDATA\" and .[0].id == \"1\" and .[2].id == \"3\"" && grep -q "^mm-cat: x:2: " err'
test_ok '--strict stops there' 'expect_code 3 mm-cat --strict x > out 2> err && test_lines out 1'
test_ok 'NaN, 1e999, text and nothing are no vectors' 'printf "%s\n" "{\"embedding\":[NaN]}" "{\"embedding\":[1e999]}" "{\"embedding\":[]}" "{\"embedding\":null}" "{\"embedding\":\"%%\"}" "{\"embedding\":[1]}" > v
    expect_code 1 mm-cat --check v 2> err && expect_code 1 mm-cat -q --count v > out && test_json out ".[0] == {records:6,failed:5}"'
test_ok 'duplicate keys, lone surrogates, invalid UTF-8, NUL' 'printf "%s\n" "{\"a\":1,\"a\":2}" "{\"a\":\"\\ud800\"}" > v; printf "{\"a\":\"\\377\"}\n{\"a\":\"\\000\"}\n" >> v; mm-cat -q v > out || true; test_lines out 4; [ "$(grep -c error out)" -ge 3 ]'
test_ok 'plain lists, with their raw names' 'printf "a b\nc\td\n" | mm-cat > out && test_json out "map(.path) == [\"a b\",\"c\td\"]" && printf "x\ny\0z\0" | mm-cat -0 > out && test_json out "map(.path) == [\"x\ny\",\"z\"]" &&
    printf "l\\361\0" | mm-cat -0 > out && [ "$(jq -r .path_b64 out)" = bPE= ]'
test_ok 'text lines' 'printf "one\r\ntwo\n\nlast" | mm-cat -t > out && test_json out "map(.text) == [\"one\",\"two\",\"\",\"last\"]"'
test_ok 'a byte order mark is dropped' 'printf "\357\273\277{\"a\":1}\n" | mm-cat > out && test_json out ".[0] == {a:1}"'
test_ok 'empty input' 'mm-cat < /dev/null > out && test_lines out 0 && mm-cat -b < /dev/null > f && mm-cat f > out && test_lines out 0'
test_ok 'files and -, one after the other' 'echo "{\"a\":2}" > b; echo "{\"a\":1}" | mm-cat - b > out && test_json out "map(.a) == [1,2]"'
test_ok 'a missing file' 'expect_code 4 mm-cat no-such-file 2> err && grep -q "cannot open .no-such-file" err'
test_ok 'compressed input is named' 'printf "a\n" | gzip > z; expect_code 3 mm-cat z 2> err && grep -q gzip err'
test_ok 'full disk' 'expect_code 4 mm-cat in.jsonl > /dev/full 2> err; grep -q "No space" err; expect_code 4 mm-cat -b in.jsonl > /dev/full 2> err'
test_ok 'closed input and output' 'expect_code 4 mm-cat <&- 2> err; expect_code 4 mm-cat in.jsonl -q >&- 2> err'
test_ok 'a reader that leaves ends it by SIGPIPE' 'mkfifo p; ( mm-cat p > /dev/stdout && s=0 || s=$?; echo $s > status ) 2> err | head -1 > out & seq -f "{\"id\":%.0f}" 500000 > p || true; wait; [ "$(cat status)" -eq 141 ]'
test_ok 'no binary to a terminal' 'expect_code 2 mm-cat -b --fake-tty=1 in.jsonl > out 2> err && grep -q terminal err && test_lines out 0 && expect_code 1 mm-cat -qb --force --fake-tty=1 in.jsonl > out && [ -s out ]'
test_ok 'options that exclude each other' 'expect_code 2 mm-cat -b --json 2> err && grep -q "cannot be used together" err && expect_code 2 mm-cat -t --from json && expect_code 2 mm-cat --count --check && expect_code 2 mm-cat -b --npy -o x'
test_ok 'an output file appears only when all is well' 'expect_code 1 mm-cat -q -o o in.jsonl && test_lines o 6 && head -c 200 f > cut && printf "\1\0\0\0\0\0\0\0{" > cut && expect_code 3 mm-cat -o p2 cut 2> err && [ ! -e p2 ] && ! ls p2.tmp* 2> /dev/null'
test_ok 'what a link names is written, the link stays: a link to standard output too' 'echo old > real; ln -s real link; ln -s /proc/self/fd/1 here; printf "{\"a\":1}\n" > one; mm-cat -o link one && [ -L link ] && cmp real one && mm-cat -o here one > got && [ -L here ] && cmp got one && mm-cat -o here one | cmp - one'
test_ok 'too long a line is one bad record' '{ echo "{\"a\":1}"; head -c 5000 /dev/zero | tr "\0" x; echo; echo "{\"a\":2}"; } > v; expect_code 1 mm-cat -q --max-line 1000 v > out && test_lines out 3 && test_json out ".[1].error.code == \"MM_ELONG\" and .[2].a == 2"'
test_ok '--head' 'mm-cat -q -n 2 in.jsonl > out && test_lines out 2 && mm-cat -n 0 in.jsonl > out && test_lines out 0'
if nm "$MM_BUILD/bin/mm-cat" 2> /dev/null | grep -q __asan_init; then
    skip 'memory does not grow over a million lines' 'the sanitizer needs the address space'
else
    test_ok 'memory does not grow over a million lines' 'awk "BEGIN { for (i = 0; i < 1000000; i++) print \"{\\\"id\\\":\" i \",\\\"text\\\":\\\"some words\\\"}\" }" > big
        (ulimit -v 100000; mm-cat big > copy) && cmp big copy && (ulimit -v 100000; mm-cat -b big | mm-cat --count > out) && test_json out ".[0].records == 1000000"'
fi
finish
