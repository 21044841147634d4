# lib-test.sh - what a shell test stands on. Sourced: . "$MM_ROOT/tests/lib-test.sh"
#
#   test_ok NAME 'SCRIPT'             runs SCRIPT in a shell of its own under set -e; its status decides. A statement whose failure
#                                     set -e would not see (a && b with more after it, ! a) fails the test: chainlint.awk
#   test_if CONDITION NAME 'SCRIPT'   the same where the shell command CONDITION holds; skipped aloud where it does not
#   skip NAME REASON                  says aloud that a test is left out; skip_all REASON leaves out the file
#   finish                            prints the plan, exits non-zero if anything failed
#
# In scripts: expect_code CODE CMD..., must_fail CMD... (a crash does not count), test_cmp A B, test_glob FILE PATTERN,
# wait_for 'CONDITION' (a minute at most: time for a machine that is busy), reader_gone (in front of a pipe: until its reader has left),
# test_lines FILE N, test_json FILE EXPR (jq, over the array of all values), test_golden FILE NAME (equal to tests/golden/NAME).
# Every file of tests has a scratch folder, which is its HOME too; there is no network but the loopback.
# Options: -v shows the commands, --run N runs test N only, --regen writes golden files anew. Through prove: prove t.sh :: -v
# shellcheck shell=sh
: "${MM_BUILD:?set by make check}" "${MM_ROOT:?set by make check}"
PATH=$MM_BUILD/bin:$MM_BUILD/tests/tools:$PATH
LC_ALL=C TZ=UTC
export PATH LC_ALL TZ MM_BUILD MM_ROOT
unset MM_CPU MM_MODEL MM_MODEL_PATH XDG_DATA_HOME OMP_NUM_THREADS HF_ENDPOINT CDPATH
# a program that asks for the network gets a plain no
http_proxy=http://127.0.0.1:1 https_proxy=http://127.0.0.1:1 no_proxy=127.0.0.1 PIP_NO_INDEX=1
export http_proxy https_proxy no_proxy PIP_NO_INDEX
test_n=0 test_bad=0 test_v='' test_only='' test_regen=''
while [ $# -gt 0 ]; do
    case $1 in
    -v) test_v='set -x' ;;
    --run) test_only=${2:?} && shift ;;
    --regen) test_regen=1 ;;
    *) echo "usage: $0 [-v] [--run N] [--regen]" >&2 && exit 2 ;;
    esac
    shift
done
test_dir=$(mktemp -d "${TMPDIR:-/tmp}/mm-test-XXXXXX") || exit 1
trap 'cd / && rm -rf "$test_dir"' EXIT
trap 'exit 1' HUP INT TERM
HOME=$test_dir/home
export HOME test_regen
mkdir -p "$HOME" "$test_dir/d" && cd "$test_dir/d" || exit 1

cat > "$test_dir/helpers" <<'HELPERS'
expect_code() {
    want=$1
    shift
    "$@" && got=0 || got=$?
    [ "$got" -eq "$want" ] || { echo "exit status $got, not $want: $*" >&3; return 1; }
}
must_fail() {
    "$@" && got=0 || got=$?
    [ "$got" -ne 0 ] && [ "$got" -lt 128 ] || { echo "exit status $got where a failure was expected: $*" >&3; return 1; }
}
test_cmp() { cmp "$1" "$2" || { diff "$1" "$2" | head -20; return 1; }; }
test_glob() {
    # shellcheck disable=SC2254 # the pattern is meant
    case $(cat "$1") in
    $2) ;;
    *) echo "'$1' does not match '$2':"; head -5 "$1"; return 1 ;;
    esac
}
test_lines() { [ "$(wc -l < "$1")" -eq "$2" ] || { echo "'$1' has $(wc -l < "$1") lines, not $2"; head -5 "$1"; return 1; }; }
test_json() { jq -e -s "$2" "$1" > /dev/null || { echo "'$1': not true: $2"; head -3 "$1"; return 1; }; }
wait_for() {
    test_waited=0
    until eval "$1"; do
        test_waited=$((test_waited + 1))
        [ "$test_waited" -lt 3000 ] || { echo "a minute went by and it is not so: $1" >&3; return 1; }
        sleep 0.02
    done
}
reader_gone() { (trap '' PIPE; while echo; do sleep 0.02; done) 2> /dev/null || :; }
test_golden() {
    [ -z "$test_regen" ] || cp "$1" "$MM_ROOT/tests/golden/$2"
    test_cmp "$1" "$MM_ROOT/tests/golden/$2"
}
HELPERS

test_ok() {
    test_n=$((test_n + 1))
    [ -z "$test_only" ] || [ "$test_only" = "$test_n" ] || return 0
    test_lost=$(printf '%s\n' "$2" | awk -f "$MM_ROOT/tests/chainlint.awk")
    # set -e works only where no caller asks for the status, hence a shell of its own
    if [ -n "$test_lost" ]; then
        printf 'not ok %d - %s\n' "$test_n" "$1"
        printf 'a failure of this would not be seen (end its line with &&, or put one command on a line):\n%s\n' "$test_lost" | sed 's/^/# /'
        test_bad=1
    elif sh -c "set -e; . '$test_dir/helpers'; $test_v
$2" > "$test_dir/log" 2>&1 3>&1; then
        printf 'ok %d - %s\n' "$test_n" "$1"
    else
        printf 'not ok %d - %s\n' "$test_n" "$1"
        sed 's/^/# /' "$test_dir/log"
        test_bad=1
    fi
}
test_if() { if sh -c "$1" > /dev/null 2>&1; then test_ok "$2" "$3"; else skip "$2" "not here: $1"; fi; }
skip() {
    test_n=$((test_n + 1))
    printf 'ok %d - %s # SKIP %s\n' "$test_n" "$1" "$2"
}
skip_all() {
    echo "1..0 # SKIP $1"
    exit 0
}
finish() {
    echo "1..$test_n"
    exit "$test_bad"
}
