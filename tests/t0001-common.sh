#!/bin/sh
# What every filter does the same way: help, version, errors of usage, full disk, closed descriptors.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"

for f in "$MM_BUILD"/bin/mm-*; do
    c=${f##*/}
    export c
    # what is loaded by name when it is first needed (lib/media/av.h), and by mm-media alone
    test_ok "$c starts without the decoders" 'readelf -d "$(command -v "$c")" > needed && grep -q libc needed && must_fail grep -E "libavformat|libavcodec" needed &&
        { [ "$c" = mm-media ] || must_fail grep -E "libav|libsw|libsndfile|libwebp" needed; }'
    test_ok "$c --help" '"$c" --help > out 2> err && test_lines err 0 && grep -q "^usage: $c " out && grep -q -- --threads out'
    test_ok "$c -h is the same" '"$c" --help > a && "$c" -h > b && test_cmp a b'
    test_ok "$c --version" '"$c" --version > out && head -1 out | grep -Eq "^$c [0-9]+\.[0-9]+$" && grep -q "^kernels: " out && "$c" -V > out2 && test_cmp out out2'
    test_ok "$c: unknown option" 'expect_code 2 "$c" --no-such-thing > out 2> err && test_lines out 0 && grep -q "unknown option .--no-such-thing" err && grep -q "try .$c --help" err'
    test_ok "$c: unknown short option" 'expect_code 2 "$c" -% 2> err && grep -q "%" err && grep -q "try .$c --help" err'
    test_ok "$c: option without its argument" 'expect_code 2 "$c" --threads 2> err && grep -q "needs an argument" err && expect_code 2 "$c" -j 2> err && grep -q "needs an argument" err'
    test_ok "$c: number out of range" 'expect_code 2 "$c" --threads 0 2> err && grep -q "should be an integer from 1" err'
    test_ok "$c: no number" 'for n in 1x "" " 1" 0x1 1.5 99999999999999999999; do expect_code 2 "$c" --threads "$n" 2> err || exit 1; done; expect_code 2 "$c" --threads 1x 2> err && grep -q "1x" err'
    test_ok "$c: flag with an argument" 'expect_code 2 "$c" --quiet=1 2> err && grep -q "takes no argument" err'
    test_ok "$c: --no- of a flag, and not of anything else" '"$c" --no-quiet --no-verbose --version > out && expect_code 2 "$c" --no-threads --version 2> err && grep -q "no-threads" err'
    test_ok "$c: options shortened" '"$c" --versi > out && grep -q "^kernels: " out && expect_code 2 "$c" --ver 2> err && grep -q "option .--ver. could be one of [0-9]" err'
    test_ok "$c: unknown kernel level" 'expect_code 2 env MM_CPU=nonsense "$c" --version 2> err && grep -q "MM_CPU" err && expect_code 2 "$c" --cpu nonsense --version 2> err && grep -q -- "--cpu" err'
    test_ok "$c: plain kernels" '"$c" --cpu ref --version > out && grep -q "^kernels: ref" out && MM_CPU=ref "$c" --version > out2 && test_cmp out out2'
    test_ok "$c: full disk" 'expect_code 4 "$c" --help > /dev/full 2> err && grep -q "write failed" err'
    test_ok "$c: closed stdout" 'expect_code 4 "$c" --help >&- 2> err && grep -q "<stdout>" err'
    test_ok "$c: closed stdin and stderr" 'expect_code 0 "$c" --help <&- > out && test_glob out "$c - *" && expect_code 2 "$c" --no-such-thing > out 2>&- && test_lines out 0'
    test_ok "$c: a reader that leaves" '{ reader_gone; "$c" --help || echo $? > status; } | true; test_glob status 141'
    test_ok "$c: messages have no control characters" 'expect_code 2 "$c" "--x$(printf "\\033")y" 2> err && must_fail grep -q "$(printf "\\033")" err'
    test_ok "$c: the option table is what the help says" '"$c" --mm-options > table && "$c" --help > help &&
        awk -F"\t" "NF != 5 || \$3 !~ /^(bool|int|num|str|enum|list)\$/ { bad = 1 } END { exit bad || NR < 8 }" table &&
        cut -f2 table | while read -r name; do grep -q -- "--$name" help || exit 1; done'
done
finish
