# lib-test.sh - what a shell test stands on. Sourced: . "$MM_ROOT/tests/lib-test.sh"
#   test_ok NAME 'SCRIPT'     runs SCRIPT in a subshell; its status decides. Chain commands by &&: set -e does not reach into a
#                             condition, so every script is run by a shell of its own, which stops at the first failure
#   skip NAME REASON          says aloud that a test is left out
#   finish                    prints the plan, exits non-zero if anything failed
# In scripts: expect_code CODE CMD..., must_fail CMD... (a crash does not count), test_cmp A B, test_glob FILE PATTERN,
# test_lines FILE N, test_json FILE EXPR. Options of a test: -v shows commands, -r N runs only test N.
# shellcheck shell=sh
: "${MM_BUILD:?set by make check}" "${MM_ROOT:?set by make check}"
PATH=$MM_BUILD/bin:$MM_BUILD/tests/tools:$PATH
LC_ALL=C TZ=UTC
export PATH LC_ALL TZ MM_BUILD MM_ROOT
unset MM_CPU MM_MODEL MM_MODEL_PATH XDG_DATA_HOME OMP_NUM_THREADS
test_dir=$(mktemp -d "${TMPDIR:-/tmp}/mm-test-XXXXXX") || exit 1
trap 'cd /; rm -rf "$test_dir"' EXIT
HOME=$test_dir/home
export HOME
mkdir -p "$HOME" "$test_dir/d" && cd "$test_dir/d" || exit 1
test_n=0 test_bad=0 test_v='' test_only=''
while getopts vr: test_opt; do
    case $test_opt in
    v) test_v='set -x' ;;
    r) test_only=$OPTARG ;;
    *) exit 2 ;;
    esac
done

cat > "$test_dir/helpers" <<'HELPERS'
expect_code() {
    want=$1
    shift
    "$@" && got=0 || got=$?
    [ "$got" -eq "$want" ] || { echo "exit status $got, not $want: $*"; return 1; }
}
must_fail() {
    "$@" && got=0 || got=$?
    [ "$got" -ne 0 ] && [ "$got" -lt 128 ] || { echo "exit status $got where a failure was expected: $*"; return 1; }
}
test_cmp() { cmp "$1" "$2" || { diff "$1" "$2" | head -20; return 1; }; }
test_glob() {
    # shellcheck disable=SC2254 # the pattern is meant
    case $(cat "$1") in
    $2) ;;
    *) echo "'$1' does not match '$2':"; head -5 "$1"; return 1 ;;
    esac
}
test_lines() { [ "$(wc -l < "$1")" -eq "$2" ] || { echo "'$1' has $(wc -l < "$1") lines, not $2"; return 1; }; }
test_json() { jq -e -s "$2" "$1" > /dev/null || { echo "'$1': not true: $2"; head -3 "$1"; return 1; }; }
HELPERS

test_ok() {
    test_n=$((test_n + 1))
    [ -z "$test_only" ] || [ "$test_only" = "$test_n" ] || return 0
    # `set -e` works only where no caller asks for the status, hence a shell of its own
    if sh -c "set -e; . '$test_dir/helpers'; $test_v
$2" > "$test_dir/log" 2>&1; then
        echo "ok $test_n - $1"
    else
        echo "not ok $test_n - $1"
        sed 's/^/# /' "$test_dir/log"
        test_bad=1
    fi
}
skip() {
    test_n=$((test_n + 1))
    echo "ok $test_n - $1 # SKIP $2"
}
finish() {
    echo "1..$test_n"
    exit "$test_bad"
}
