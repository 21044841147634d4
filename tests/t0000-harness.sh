#!/bin/sh
# The harness itself: a failing test must fail, wherever in its script it fails.
# shellcheck source=tests/lib-test.sh
. "$MM_ROOT/tests/lib-test.sh"

cat > sample.sh <<'SAMPLE'
#!/bin/sh
. "$MM_ROOT/tests/lib-test.sh"
test_ok 'good' 'true'
test_ok 'bad in the middle' 'true
false
true'
test_ok 'bad in a chain' 'true && false && true'
test_ok 'a crash is no failure that was expected' 'must_fail sh -c "kill -9 \$\$"'
test_ok 'success where failure is expected' 'must_fail true'
test_ok 'another exit status' 'expect_code 3 sh -c "exit 4"'
test_ok 'files that differ' 'echo a > a; echo b > b; test_cmp a b'
test_ok 'pattern' 'echo abc > a; test_glob a "x*"'
test_ok 'lines' 'echo abc > a; test_lines a 2'
test_ok 'json' 'echo "{\"a\":1}" > a; test_json a ".[0].a == 2"'
finish
SAMPLE
test_ok 'a file with failures exits with a failure' 'sh sample.sh > out && exit 1; [ $? -eq 1 ]'
test_ok 'only the good test is ok' '[ "$(grep -c "^ok" out)" -eq 1 ] && [ "$(grep -c "^not ok" out)" -eq 9 ]'
test_ok 'and prove says so' 'prove sample.sh > out 2>&1 && exit 1; grep -q "Failed 9/10" out'
finish
