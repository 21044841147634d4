#!/bin/sh
# Texts longer than the window as one vector of all of it, and the sentences that say most; where texts are cut.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
mk_models tinybert tiny > /dev/null && mk_models uni uni.gguf || exit 1
MM_MODEL=$PWD/tiny
export MM_MODEL
awk 'BEGIN { for (i = 0; i < 80; i++) printf "the cat runs. a dog runs the cat! the the cat? "; print "" }' > long
printf 'the cat runs. a dog\n' > short

test_ok 'a long text is one vector of length 1, of all its chunks' 'mm-embed -t --max-tokens 16 --overflow document long > out; test_lines out 1; test_json out ".[0] | .chunks > 20 and .tokens > 1000 and (has(\"truncated\") | not) and (has(\"key\") | not) and (.embedding | map(. * .) | add - 1 | fabs) < 1e-5"'
test_ok 'a short one is what it always is' 'mm-embed -t --overflow document short > a; mm-embed -t short > b; test_cmp a b'
test_ok 'chunks end where sentences do' 'mm-embed -t --max-tokens 16 --overflow split long > parts; test_json parts "all(.[:-1][]; .text | test(\"[.!?]\$\")) and .[0].chunk.start == 0 and ([range(1; length) as \$i | .[\$i].chunk.start - .[\$i - 1].chunk.end] | all(. == 1))"; mm-embed -t --max-tokens 16 --overflow document long > out; [ "$(jq .chunks out)" -eq "$(wc -l < parts)" ]'
cat > attend.jq <<'JQ'
def dot($a; $b): reduce range($a | length) as $i (0; . + $a[$i] * $b[$i]);
def unit: (map(. * .) | add | sqrt) as $n | map(. / $n);
def sum($w): . as $v | [range($v[0] | length) as $k | reduce range($v | length) as $i (0; . + $w[$i] * $v[$i][$k])];
map(.embedding) as $v | ($v | sum([$v[] | 1]) | unit) as $mean | [$v[] | 4 * dot(.; $mean) | exp] as $w | ($v | sum($w) | unit) as $want
| $out[0].embedding as $got | all(range($want | length); ($want[.] - $got[.] | fabs) < 1e-5)
JQ
test_ok 'the vector is that of one step of attention from their mean' 'mm-embed -t --max-tokens 16 --overflow split long > parts; mm-embed -t --max-tokens 16 --overflow document long > out; jq -s -e --slurpfile out out -f attend.jq parts > log'
test_ok 'it is neither that of the beginning nor the mean' 'awk "BEGIN { for (i = 0; i < 9; i++) printf \"the cat. \"; for (i = 0; i < 30; i++) printf \"a dog runs. \" }" > two; for how in cut document; do mm-embed -t --max-tokens 16 --overflow $how two | jq -c .embedding > $how; done; must_fail cmp -s cut document'
test_ok '--key: sentences by score, with their bytes' 'mm-embed -t --max-tokens 16 --key 5 long > out; test_json out ".[0].key | length == 5 and all(.[]; .text | test(\"^(the|a) .*[.!?]\$\")) and ([.[].score] | . == (sort | reverse))"
    jq -r ".key[] | \"\(.start) \(.end) \(.text)\"" out > spans; while read -r from to text; do [ "$(tail -c +$((from + 1)) long | head -c $((to - from)))" = "$text" ] || exit 1; done < spans; [ "$(cut -d " " -f 1 spans | sort -u | wc -l)" -eq 5 ]'
test_ok 'of short texts too; no more than there are' 'mm-embed -t --key 9 short > out; test_json out ".[0].chunks == 1 and ([.[0].key[].text] | sort) == [\"a dog\",\"the cat runs.\"]"; mm-embed -t short | jq -c .embedding > a; jq -c .embedding out > b; jq -n -e --slurpfile a a --slurpfile b b "[range(\$a[0] | length) | \$a[0][.] - \$b[0][.] | fabs] | max < 1e-6" > log'
test_ok 'Chinese full stops, quotes, lines' 'printf "%s\n" "{\"text\":\"他说：“好。”我们走吧！Yes (he did.) And no\\nA line\"}" > zh; mm-embed -m uni.gguf --key 9 zh > out; test_json out "[.[0].key | sort_by(.start)[].text] == [\"他说：“好。”\",\"我们走吧！\",\"Yes (he did.)\",\"And no\",\"A line\"]"'
test_ok 'no border at all: words, then bytes, never inside a character' 'awk "BEGIN { for (i = 0; i < 300; i++) printf \"the cat runs \" }" > words; mm-embed -t --max-tokens 16 --overflow split words > parts; test_json parts "length > 20 and all(.[:-1][]; .text | test(\"^(the|cat|runs).*(the|cat|runs)\$\"))"; awk "BEGIN { for (i = 0; i < 900; i++) printf \"\347\214\253\" }" > one; mm-embed -m uni.gguf -t --max-tokens 16 --overflow split one > parts; test_json parts "([.[].text] | add | length) == 900"'
test_ok 'the same bits in any company, prefix and all' 'for i in 1 2 3; do cat long short; done > many; mm-embed -t -j1 --max-tokens 16 --key 2 many > a; mm-embed -t -j2 --window 2 --max-tokens 16 --key 2 many > b; test_cmp a b; mm-embed -t --max-tokens 16 --overflow document --prefix "a dog " long > c; must_fail cmp -s a c; test_json c ".[0].chunks > 20"'
test_ok 'nothing in it is an error, whatever its length' 'awk "BEGIN { for (i = 0; i < 30000; i++) printf \" \"; print \"\" }" > empty; expect_code 1 mm-embed -q -t --overflow document empty > out; test_json out ".[0].error.code == \"MM_EEMPTY\""; printf "\n" > none; expect_code 1 mm-embed -q -t --key 2 none > out; test_json out ".[0].error.code == \"MM_EEMPTY\""'
if nm "$MM_BUILD/bin/mm-embed" 2> /dev/null | grep -q __asan_init; then
    skip 'memory stays near the text: 4 MB in 400 MB' 'the sanitizer needs the address space'
else
    test_ok 'memory stays near the text: 4 MB in 400 MB' 'for i in $(seq 1100); do cat long; done | tr -d "\n" | head -c 4000000 > big; echo >> big; (ulimit -v 400000; mm-embed -j1 -t --overflow document big > out); test_json out ".[0].chunks > 1000"'
fi
test_ok 'options that do not go together' 'expect_code 2 mm-embed -t --key 2 --overflow split long 2> err; grep -q "overflow document" err; expect_code 2 mm-embed -t --key 0 long; expect_code 2 mm-embed -t --key 2 --emit inputs long'
test_ok 'rotary positions have no table that ends: all tokens of a long text in one window' 'awk "BEGIN { for (i = 0; i < 900; i++) printf \"\347\214\253\" }" > one; mm-embed -m uni.gguf -t one > cut && mm-embed -m uni.gguf -t --max-tokens 5000 one > out && test_json out ".[0] | (has(\"truncated\") | not) and .tokens == 2700" && test_json cut ".[0].truncated" &&
    expect_code 2 mm-embed -t --max-tokens 5000 one 2> err && grep -q "window of 5000" err'
finish
