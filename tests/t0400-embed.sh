#!/bin/sh
# mm-embed with a tiny model made here: what comes out, what is said of bad input, the same bits whatever the batch.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
mk_models tinybert tiny > /dev/null || exit 1
mm-quantize -q -t f32 -o tiny.gguf tiny > /dev/null || exit 1
MM_MODEL=$PWD/tiny
export MM_MODEL

printf 'the cat\na dog runs\nthe\n' > lines
test_ok 'texts become vectors of length 1' 'mm-embed -t lines > out && test_lines out 3 && test_json out "all(.[]; (.embedding | map(. * .) | add | . - 1 | fabs) < 1e-5 and (.model | test(\"@[0-9a-f]{16}$\")) and .tokens >= 3)"'
test_ok 'a record keeps its other keys, in order' 'echo "{\"b\":1,\"text\":\"the cat\",\"a\":[2]}" | mm-embed | jq -c "keys_unsorted" > out && [ "$(cat out)" = "[\"b\",\"text\",\"a\",\"model\",\"tokens\",\"embedding\"]" ]'
test_ok 'the same bits alone, in a batch, with one thread and two' 'for i in $(seq 40); do awk -v n=$i "BEGIN { for (k = 0; k < n % 9 + 1; k++) printf \"the cat runs \"; print n }"; done > many
    mm-embed -t -j1 many > a && mm-embed -t -j2 many > b && test_cmp a b && mm-embed -t --window 1 many > c && test_cmp a c && mm-embed -t --window 7 -j2 many > d && test_cmp a d &&
    sed -n 33p many | mm-embed -t > e && sed -n 33p a > f && test_cmp e f'
test_ok 'folder and GGUF give the same vectors and fingerprint' 'mm-embed -t lines > a && mm-embed -m tiny.gguf -t lines > b && test_cmp a b'
test_ok 'frames and base64 carry the same vectors' 'mm-embed -t lines > a; mm-embed -tb lines | mm-cat > b; test_cmp a b; mm-embed -t --encoding base64 lines | mm-cat > c; jq -c .embedding a > a1; mm-embed -t --encoding base64 lines | mm-cat -b | mm-cat | jq -c .embedding > c1; test_cmp a1 c1'
test_ok 'empty texts are error records, the rest goes on' 'printf "%s\n" "{\"id\":1,\"text\":\"\"}" "{\"id\":2,\"text\":\"  \"}" "{\"id\":3,\"text\":\"cat\"}" "{\"id\":4,\"text\":\"\\u200b\"}" "{\"id\":5}" "{\"id\":6,\"text\":7}" > x
    expect_code 1 mm-embed x > out 2> err && test_lines out 6 && test_json out "[.[] | .error.code // \"ok\"] == [\"MM_EEMPTY\",\"MM_EEMPTY\",\"ok\",\"MM_EEMPTY\",\"MM_EDATA\",\"MM_EDATA\"]" && grep -q "^mm-embed: x:1: " err && ! grep -qi nan out'
test_ok '--strict stops at the first' 'expect_code 3 mm-embed --strict x > out 2> err'
test_ok 'error records pass through' 'echo "{\"id\":\"q\",\"error\":{\"code\":\"MM_EIO\",\"message\":\"gone\"},\"text\":\"cat\"}" > y; expect_code 1 mm-embed -q y > out && test_json out ".[0].error.message == \"gone\" and (.[0] | has(\"embedding\") | not)"'
awk 'BEGIN { for (i = 0; i < 300; i++) printf "the cat runs "; print "" }' > long
test_ok 'a long text is cut and says so' 'mm-embed -t --max-tokens 16 long > out && test_json out ".[0].truncated == true and .[0].tokens > 16"'
test_ok 'or is an error' 'expect_code 1 mm-embed -t --max-tokens 16 --overflow error long > out 2> err && test_json out ".[0].error.code == \"MM_ELONG\""'
test_ok 'or becomes several records that cover it' 'mm-embed -t --max-tokens 16 --overflow split long > out && test_json out "length > 10 and .[0].chunk.start == 0 and .[0].chunk.n == 1 and (.[-1].chunk.end >= 3898) and all(.[]; .tokens <= 16 and has(\"embedding\"))
    and ([range(1; length) as \$i | .[\$i].chunk.start - .[\$i - 1].chunk.end] | all(. >= 0 and . <= 1))" &&
    head -c 30 long > short && mm-embed -t --overflow split short > out && test_lines out 1 && test_json out ".[0] | has(\"chunk\") | not"'
test_ok 'the first part has the vector of its text alone' 'mm-embed -t --max-tokens 16 --overflow split long | sed -n 3p > part; jq -c "{text}" part | mm-embed > alone; [ "$(jq -c .embedding part)" = "$(jq -c .embedding alone)" ]'
test_ok 'a prefix counts' 'echo cat > c; mm-embed -t --prefix "the " c > a; echo "the cat" | mm-embed -t > b; [ "$(jq -c .embedding a)" = "$(jq -c .embedding b)" ]'
test_ok 'an unknown prompt is refused' 'expect_code 2 mm-embed -t --prompt nope lines 2> err && grep -q "no prompt .nope." err'
test_ok 'pooling by option changes the vector and the fingerprint' 'mm-embed -t lines > a; mm-embed -t --pooling cls lines > b; must_fail cmp -s a b; [ "$(jq -r .model a | head -1)" != "$(jq -r .model b | head -1)" ]'
test_ok 'files named by a list, whatever their names' 'mkdir -p n; cd n; for f in plain "with space" -dash "new
line" "quote'"'"'\"" "star*?" "$(printf "l\\361")" "$(printf "\\303\\261")"; do printf "the cat" > "./$f.txt"; done
    find . -name "*.txt" -print0 | mm-embed -0 > ../out; cd ..; test_lines out 8; test_json out "all(.[]; has(\"embedding\")) and length == 8"; [ "$(jq -r "select(.path_b64) | .path_b64" out | base64 -d | od -An -tx1 | tr -d " \n")" = 2e2f6cf12e747874 ]'
test_ok 'files that are no texts are error records in their place' 'printf "a\0b" > z; printf "\377\376x\303" > u; : > e; mkdir -p folder; printf "lines\nz\nu\ne\nfolder\nmissing\nlines\n" > list; expect_code 1 mm-embed list > out 2> err && test_lines out 7 &&
    test_json out "[.[] | has(\"embedding\")] == [true,false,false,false,false,false,true] and .[5].error.code == \"MM_EIO\"" && [ "$(wc -l < err)" -eq 5 ]'
test_ok 'no model, no such model, a broken one' 'expect_code 4 mm-embed -m no-such -t lines 2> err; grep -q "no model .no-such." err
    cp -r tiny broken; printf "{}" > broken/config.json; expect_code 3 mm-embed -m broken -t lines 2> err; grep -q config.json err'
test_ok 'names are found in MM_MODEL_PATH' 'MM_MODEL_PATH=/nonexistent:$PWD mm-embed -m tiny -t lines > out && test_lines out 3'
test_ok 'kernel levels differ by rounding only' 'for l in ref avx2 avx512; do MM_CPU=$l mm-embed -t lines > $l 2> err || { grep -q "should be one of" err && continue; }
    jq -s -e --slurpfile r ref "[., \$r] | transpose | all(.[]; . as [\$a, \$b] | [range(\$a.embedding | length)] | all(.[]; (\$a.embedding[.] - \$b.embedding[.]) | fabs < 1e-4))" $l > log; done'
test_ok 'an interactive pipe is answered at once' 'mkfifo p q; mm-embed -t < p > q & exec 8> p 7< q; echo "the cat" >&8; read -r line <&7; echo "a dog" >&8; read -r line2 <&7; exec 8>&-; wait; [ -n "$line" ] && [ -n "$line2" ]'
test_ok 'full disk, closed input' 'expect_code 4 mm-embed -t lines > /dev/full 2> err; expect_code 4 mm-embed -t <&- 2> err'
test_ok 'empty input' 'mm-embed -t < /dev/null > out && test_lines out 0'
test_ok 'options that exclude each other' 'expect_code 2 mm-embed --prompt a --prefix b -t lines; expect_code 2 mm-embed -b --json -t lines; expect_code 2 mm-embed --overflow tear -t lines 2> err; grep -q "cut|split|document|error" err'
finish
