#!/bin/sh
# The stored inputs of every fuzz target, and some mutations of each, through the target without a fuzzing engine.
: "${MM_BUILD:?set by make check}" "${MM_ROOT:?set by make check}"
export MM_ROOT
n=0 bad=0
for f in "$MM_ROOT"/tests/fuzz/fuzz_*.c; do
    name=$(basename "$f" .c)
    n=$((n + 1))
    if out=$("$MM_BUILD/tests/fuzz/$name" -m 200 2>&1); then
        echo "ok $n - $out"
    else
        echo "not ok $n - $name"
        echo "$out" | tail -30 | sed 's/^/# /'
        bad=1
    fi
done
echo "1..$n"
exit $bad
