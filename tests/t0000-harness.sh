#!/bin/sh
# The harness itself: a failing test must fail, wherever in its script it fails, and nothing may be left behind.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"

cat > sample.sh <<'SAMPLE'
#!/bin/sh
. "$MM_ROOT/tests/lib-test.sh"
test_ok 'good' 'true'
test_ok 'good: chains to the end, over lines, with a way out' 'true &&
    true || exit 1
if true && false; then exit 1; fi
false && exit 1
true && x=$(true && echo 1) && [ "$x" = 1 ]'
test_ok 'bad in the middle' 'true
false
true'
test_ok 'bad in a chain' 'true && false && true'
test_ok 'bad in a chain with more after it' 'true && false
true'
test_ok 'bad in a chain in front of a semicolon' 'false && true; true'
test_ok 'bad in a loop' 'for i in 1 2; do [ $i = 2 ] && true; done
true'
test_ok 'a negation that set -e does not see' '! true
true'
test_ok 'a crash is no failure that was expected' 'must_fail sh -c "kill -9 \$\$"'
test_ok 'success where failure is expected' 'must_fail true'
test_ok 'another exit status' 'expect_code 3 sh -c "exit 4" > /dev/null 2>&1'
test_ok 'files that differ' 'echo a > a; echo b > b; test_cmp a b'
test_ok 'pattern' 'echo abc > a; test_glob a "x*"'
test_ok 'lines' 'echo abc > a; test_lines a 2'
test_ok 'json' 'echo "{\"a\":1}" > a; test_json a ".[0].a == 2"'
test_ok 'a syntax error' 'if'
test_if 'false' 'skipped' 'exit 1'
finish
SAMPLE
test_ok 'a file with failures exits with a failure' 'expect_code 1 sh sample.sh > out'
test_ok 'only the good tests are ok' 'grep "^ok" out > good && test_lines good 3 && grep "^not ok" out > bad && test_lines bad 14 && tail -1 out > plan && test_glob plan "1..17"'
test_ok 'what is left out says so' 'grep -q "^ok 17 - skipped # SKIP not here: false$" out'
test_ok 'the reason is told, even if the output is thrown away' 'grep -q "^# exit status 4, not 3" out'
test_ok 'and prove says so' 'expect_code 1 prove sample.sh > out 2>&1 && grep -q "Failed 14/17" out'
test_ok 'one test alone' 'expect_code 0 sh sample.sh --run 1 > out && grep "^ok 1 - good$" out && expect_code 1 sh sample.sh --run 4 > out && test_glob out "not ok 4 *" && expect_code 2 sh sample.sh --nonsense'
test_ok 'the commands on request' 'expect_code 1 sh sample.sh -v --run 4 > out && grep -q "^# + false" out'
printf '#!/bin/sh\n. "$MM_ROOT/tests/lib-test.sh"\npwd; kill -%s $$; sleep 5\n' TERM > killed.sh
test_ok 'a killed test leaves nothing' 'must_fail sh killed.sh > where; [ ! -e "$(cat where)" ]'
printf '#!/bin/sh\n. "$MM_ROOT/tests/lib-test.sh"\nexit 3\n' > broken.sh
test_ok 'a file that stops early is a failure to prove' 'must_fail prove broken.sh > out 2>&1 && grep -q "Result: FAIL" out'
printf '#!/bin/sh\n. "$MM_ROOT/tests/lib-test.sh"\nskip_all "no such thing"\n' > skipped.sh
test_ok 'a file that is left out' 'prove -v skipped.sh > out 2>&1 && grep -q "skipped: no such thing" out && grep -q "Result: NOTESTS" out'
test_ok 'golden files: compared, and written on request' 'mkdir -p root/tests/golden && cp "$MM_ROOT/tests/lib-test.sh" "$MM_ROOT/tests/chainlint.awk" root/tests/ &&
    echo old > root/tests/golden/g &&
    printf "%s\n" ". \"\$MM_ROOT/tests/lib-test.sh\"" "test_ok g \"echo new > f; test_golden f g\"" finish > g.sh &&
    expect_code 1 env MM_ROOT="$PWD/root" sh g.sh &&
    expect_code 0 env MM_ROOT="$PWD/root" sh g.sh --regen &&
    expect_code 0 env MM_ROOT="$PWD/root" sh g.sh &&
    test_glob root/tests/golden/g new'
test_ok 'no network' 'must_fail curl -sf --max-time 5 http://example.org/'
finish
