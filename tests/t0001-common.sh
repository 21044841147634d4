#!/bin/sh
# What every filter does the same way: help, version, errors of usage, full disk, closed descriptors.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"

for f in "$MM_BUILD"/bin/mm-*; do
    c=${f##*/}
    export c
    test_ok "$c --help" '"$c" --help > out 2> err && test_lines err 0 && grep -q "^usage: $c " out && grep -q -- --threads out'
    test_ok "$c --version" '"$c" --version > out && head -1 out | grep -Eq "^$c [0-9]+\.[0-9]+$" && grep -q "^kernels: " out'
    test_ok "$c: unknown option" 'expect_code 2 "$c" --no-such-thing 2> err && grep -q "unknown option .--no-such-thing" err && grep -q "try .$c --help" err'
    test_ok "$c: option without its argument" 'expect_code 2 "$c" --threads 2> err && grep -q "needs an argument" err'
    test_ok "$c: number out of range" 'expect_code 2 "$c" --threads 0 2> err && grep -q "should be an integer from 1" err'
    test_ok "$c: no number" 'expect_code 2 "$c" --threads 1x 2> err && grep -q "1x" err'
    test_ok "$c: flag with an argument" 'expect_code 2 "$c" --quiet=1 2> err && grep -q "takes no argument" err'
    test_ok "$c: unknown kernel level" 'expect_code 2 env MM_CPU=nonsense "$c" --version 2> err && grep -q "MM_CPU" err && expect_code 2 "$c" --cpu nonsense --version'
    test_ok "$c: plain kernels" '"$c" --cpu ref --version > out && grep -q "^kernels: ref" out'
    test_ok "$c: full disk" 'expect_code 4 "$c" --help > /dev/full 2> err && grep -q "write failed" err'
    test_ok "$c: closed stdout" 'expect_code 4 "$c" --help >&- 2> err && grep -q "<stdout>" err'
    test_ok "$c: messages have no control characters" 'expect_code 2 "$c" "--x$(printf "\\033")y" 2> err && ! grep -q "$(printf "\\033")" err'
    test_ok "$c: the option table says what the help says" '"$c" --mm-options > table && "$c" --help > help &&
        while IFS="	" read -r _ name _ _ _; do grep -q -- "--$name" help; done < table'
done
finish
