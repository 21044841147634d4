#!/bin/sh
# get-model against a server that drops connections, ignores ranges, fails, and sends wrong bytes.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
command -v curl > /dev/null || { skip 'get-model from a hub' 'curl is not installed (scripts/deps does that)'; finish; }

mkdir -p www/org/m/resolve/main/sub
awk 'BEGIN { for (i = 0; i < 700; i++) print "line", i, i * i }' > www/org/m/resolve/main/big
echo '{}' > www/org/m/resolve/main/config.json
echo x > www/org/m/resolve/main/sub/x.json
cp -r www/org/m www/org/one
sum() { sha256sum "www/org/m/resolve/main/$1" | cut -d' ' -f1; }
{
    for n in m dropm stuckm wrongm errm gone badsum; do
        case $n in gone) r=org/nothing ;; *) r=org/m ;; esac
        printf '%s\thub\t%s\n%s\tfile\tbig\t%s\n%s\tfile\tconfig.json\t%s\n%s\tfile\tsub/x.json\t%s\n' $n $r $n "$(sum big)" $n "$(sum config.json)" $n "$(sum sub/x.json)"
    done | sed '/^badsum.*config/s/[0-9a-f]*$/0000/'
    printf 'one\thub\torg/one\none\tfile\tbig\t%s\n' "$(sum big)"
} > models.tsv
MM_MODELS_TSV=$PWD/models.tsv MM_BACKOFF=0 MM_TRIES=60
export MM_MODELS_TSV MM_BACKOFF MM_TRIES
mkfifo in
flaky_httpd "$PWD/www" < in > port &
exec 9> in
n=0
while [ ! -s port ] && [ $n -lt 100 ]; do sleep 0.05; n=$((n + 1)); done
base=http://127.0.0.1:$(cat port)
get=$MM_ROOT/scripts/get-model
export base get

test_ok 'a model of several files' 'HF_ENDPOINT=$base "$get" -d d m 2> err && cmp d/m/big www/org/m/resolve/main/big && [ -f d/m/sub/x.json ] && [ "$(ls -A d)" = m ]'
test_ok 'again: it is there' '"$get" -d d m 2> err && grep -q "is there" err'
test_ok 'connections that break: the download goes on where it stopped' 'HF_ENDPOINT=$base/drop "$get" -d d dropm 2> err && cmp d/dropm/big www/org/m/resolve/main/big'
test_ok 'a server that cannot go on from the middle never completes, and leaves nothing under the name' 'MM_TRIES=3; export MM_TRIES; HF_ENDPOINT=$base/stuck expect_code 1 "$get" -d d stuckm 2> err; [ ! -e d/stuckm ]'
test_ok 'what one run has fetched the next one keeps' '[ -d d/.stuckm.part ] && HF_ENDPOINT=$base "$get" -d d stuckm 2> err && cmp d/stuckm/big www/org/m/resolve/main/big && [ ! -e d/.stuckm.part ]'
test_ok 'wrong bytes are refused' 'HF_ENDPOINT=$base/wrong expect_code 1 "$get" -d d wrongm 2> err; grep -q "SHA-256" err; [ ! -e d/wrongm ]'
test_ok 'and fetched again when the server is right' 'HF_ENDPOINT=$base "$get" -d d wrongm 2> err && cmp d/wrongm/big www/org/m/resolve/main/big'
test_ok 'errors of the server that pass' 'HF_ENDPOINT=$base/err "$get" -d d errm 2> err && [ -f d/errm/config.json ]'
test_ok 'a file that is not there' 'HF_ENDPOINT=$base expect_code 1 "$get" -d d gone 2> err; grep -q "cannot fetch" err; [ ! -e d/gone ]'
test_ok 'a hash in the table that does not fit' 'HF_ENDPOINT=$base expect_code 1 "$get" -d d badsum 2> err; grep -q config.json err; [ ! -e d/badsum ]'
test_ok 'a model that is one file' 'HF_ENDPOINT=$base "$get" -d d one 2> err && cmp d/one.gguf www/org/m/resolve/main/big'
test_ok 'two at once' 'rm -rf e; HF_ENDPOINT=$base/drop "$get" -d e m 2> err1 & HF_ENDPOINT=$base/drop "$get" -d e m 2> err2; wait; cmp e/m/big www/org/m/resolve/main/big; [ "$(ls -A e)" = m ]'
test_ok 'no server' 'MM_TRIES=2; export MM_TRIES; HF_ENDPOINT=http://127.0.0.1:1 expect_code 1 "$get" -d f m 2> err; [ ! -e f/m ]'
test_ok 'unknown names, usage, --list' 'expect_code 1 "$get" -d d nobody 2> err; expect_code 2 "$get" 2> err; expect_code 2 "$get" --from moon m 2> err; "$get" --list > out && grep -q "^m hub:org/m" out'
exec 9>&-
wait
finish
