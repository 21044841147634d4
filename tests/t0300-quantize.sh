#!/bin/sh
# mm-quantize: files that must be refused, what is listed, conversion, safety of the input and of what is left behind.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
cat >> "$test_dir/helpers" <<'HELPERS'
expect_code() { # CODE COMMAND...: its output goes to out and err
    want=$1
    shift
    "$@" > out 2> err && got=0 || got=$?
    [ "$got" -eq "$want" ] || { echo "status $got, want $want: $*"; cat err; return 1; }
}
has() { grep -qF -- "$2" "$1" || { echo "no '$2' in $1:"; cat "$1"; return 1; }; } # FILE TEXT
no_leftovers() { for f in *.tmp-*; do [ ! -e "$f" ] || return 1; done; }
HELPERS

mk_models tinybert tiny && mk_models oddbert odd && mk_models safetensors st && mk_models gguf gguf &&
mk_models block block.safetensors || { echo 'Bail out! mk_models failed'; exit 1; }

# ---- files that must be refused: status 3, nothing on stdout, one line that names the file ----
export f t
for f in st/bad-* gguf/bad-*; do
    test_ok "refused: $f" '
        expect_code 3 mm-quantize --info "$f" && [ ! -s out ] && [ "$(wc -l <err)" -eq 1 ] && has err "$f"'
done
test_ok 'a Git LFS pointer, a pickle, a zip archive, a web page are called by their names' '
    for k in lfs:LFS pickle:pickle zip:zip html:HTML; do
        expect_code 3 mm-quantize --info st/bad-${k%:*}.safetensors && has err "${k#*:}" || exit 1
    done'
test_ok 'a configuration at fault is named with its file' 'mk_models uni u.gguf; at=$(grep -abo "{\"layer" u.gguf | head -1 | cut -d: -f1); [ -n "$at" ]; printf "\377" | dd of=u.gguf bs=1 seek=$((at + 1)) conv=notrunc 2> log; expect_code 3 mm-quantize --info u.gguf > out 2> err; grep -q "u.gguf.*mm-uni.config" err'
test_ok 'a tensor at fault is named' '
    for k in size negative overflow dtype past-end reversed; do
        expect_code 3 mm-quantize --info st/bad-$k.safetensors && has err "tensor '"'[xy]'"'" 2>/dev/null ||
            grep -q "tensor .[xy]." err || exit 1
    done'
for f in st/good-[!n]* st/good-none* gguf/good-*; do
    test_ok "listed: $f" '
        expect_code 0 mm-quantize --info "$f" && [ ! -s err ] && expect_code 0 mm-quantize --info --json "$f" &&
        jq -e ".tensors | type == \"array\"" out'
done

# ---- looking ----
test_ok 'types and shapes' '
    expect_code 0 mm-quantize --info --json st/good-all.safetensors &&
    jq -e ".format == \"safetensors\" and .metadata.format == \"pt\" and (.tensors | length == 8) and
        (.tensors[] | select(.name == \"e.empty\") | .shape == [0,4] and .bytes == 0) and
        (.tensors[] | select(.name == \"f.scalar\") | .shape == []) and
        (.tensors[] | select(.name == \"c.bf16\") | .type == \"bf16\")" out'
test_ok 'every type of GGUF value, versions 2 and 3' '
    for v in 2 3; do
        expect_code 0 mm-quantize --info --json gguf/good-v$v.gguf &&
        jq -e ".metadata | .k7 == true and .k9 == [1,2,3] and .many == {array:\"u8\",count:9} and .k8[5:6] == \"\\u00e9\" and length == 17" out ||
            exit 1
    done'
test_ok 'a folder: configuration, tokenizer, tensors' '
    expect_code 0 mm-quantize --info --json tiny &&
    jq -e ".format == \"folder\" and .architecture == \"bert\" and .config.hidden_size == 32 and
        .tokenizer == {model:\"wordpiece\",tokens:135} and (.tensors | length == 39)" out &&
    expect_code 0 mm-quantize -i tiny && has out "wordpiece, 135 tokens" && has out "bert.embeddings.position_ids"'
test_ok 'NaN: a warning with the name; exit 1 with --check; not looked for with --no-check' '
    expect_code 0 mm-quantize --info st/good-nan.safetensors && has err "tensor '"'x'"' has 1 NaN" && [ -s out ] &&
    expect_code 1 mm-quantize --info --check st/good-nan.safetensors && has err "1 NaN" &&
    expect_code 0 mm-quantize --info --no-check st/good-nan.safetensors && [ ! -s err ] &&
    expect_code 0 mm-quantize --info --check tiny && [ ! -s err ]'
test_ok 'a name in MM_MODEL_PATH' '
    mkdir models && cp gguf/good-v3.gguf models/some.gguf && MM_MODEL_PATH=/nowhere:$PWD/models && export MM_MODEL_PATH &&
    expect_code 0 mm-quantize --info some && has out "models/some.gguf" && expect_code 4 mm-quantize --info other &&
    has err "/nowhere" && has err get-model'

test_ok 'a file that is no model here, for its tokenizer is at fault, is converted all the same' '
    mm-quantize -q -t f32 -o whole.gguf tiny >out && sed "s/mm\.fingerprint/mm.fingerprinX/;s/unknown_token_id/unknown_token_iX/" whole.gguf >bad.gguf &&
    expect_code 3 mm-embed -m bad.gguf -t tiny/vocab.txt && has err "no token for unknown words" &&
    for j in 1 2; do expect_code 0 mm-quantize -q -j $j -t q8_0 -o whole.q8.gguf bad.gguf && [ -s whole.q8.gguf ] && rm whole.q8.gguf || exit 1; done'

# ---- usage ----
test_ok 'usage errors' '
    expect_code 2 mm-quantize && expect_code 2 mm-quantize --info tiny tiny &&
    expect_code 2 mm-quantize tiny && expect_code 2 mm-quantize -t q8_0 tiny && expect_code 2 mm-quantize -o x tiny &&
    expect_code 2 mm-quantize -t q9 -o x tiny && has err "f32|f16|bf16|q8_0" &&
    expect_code 2 mm-quantize -t f32 -o - tiny && expect_code 2 mm-quantize --info -t f32 tiny && has err "--info" &&
    expect_code 2 mm-quantize --info -o x tiny && expect_code 2 mm-quantize --json -t f32 -o x tiny &&
    expect_code 2 mm-quantize --check -t f32 -o x tiny && [ ! -e x ]'

# ---- converting ----
for t in f32 f16 bf16 q8_0; do
    test_ok "folder to $t" '
        expect_code 0 mm-quantize -t $t -o tiny-$t.gguf tiny && [ ! -s err ] &&
        jq -e ".tensors == 37 and .architecture == \"bert\" and .type == \"$t\" and .rel_rms < 0.01" out &&
        expect_code 0 mm-quantize --info --json tiny-$t.gguf && jq -e ".metadata[\"bert.block_count\"] == 2 and
            .metadata[\"bert.pooling_type\"] == 1 and .metadata[\"mm.window\"] == 48 and .metadata[\"bert.attention.causal\"] == false and
            (.metadata[\"mm.fingerprint\"] | length == 16) and .metadata[\"general.name\"] == \"tiny\" and
            .tokenizer == {model:\"bert\",tokens:135} and
            ([.tensors[] | select(.name == \"blk.1.ffn_up.weight\")][0] | .type == \"$t\" and .shape == [64,32]) and
            ([.tensors[] | select(.name == \"position_embd.weight\" or .name == \"blk.0.attn_q.bias\") | .type] == [\"f32\",\"f32\"])" out'
done
test_ok 'the same bytes every time, at every kernel level' '
    mm-quantize -t q8_0 -o again.gguf tiny && cmp again.gguf tiny-q8_0.gguf &&
    mm-quantize --cpu ref -j 1 -t q8_0 -o again.gguf tiny && cmp again.gguf tiny-q8_0.gguf'
test_ok 'GGUF to GGUF equals folder to GGUF, tensor for tensor' '
    mm-quantize -t q8_0 -o again.gguf tiny-f32.gguf && mm-quantize --info --json again.gguf | jq -S "del(.file)" >a &&
    mm-quantize --info --json tiny-q8_0.gguf | jq -S "del(.file)" >b && cmp a b && tail -c 20000 again.gguf >a &&
    tail -c 20000 tiny-q8_0.gguf >b && cmp a b'
test_ok 'rows that do not divide into blocks: f16, with a warning' '
    expect_code 0 mm-quantize -t q8_0 -o odd.gguf odd && has err "rows of 13 tensors" &&
    expect_code 0 mm-quantize -v -t q8_0 -o odd.gguf odd && has err "blk.0.attn_q.weight: f32 -> f16"'
test_ok 'a plain file: zero row, error as computed by hand' '
    expect_code 0 mm-quantize -v -t q8_0 -o block.gguf block.safetensors && has err "w: f32 -> q8_0" &&
    jq -e ".architecture == \"mm-tensors\" and .parameters == 16384 and .bytes == 17408 and .rel_rms > 0.0001 and .rel_rms < 0.01 and
        .worst.name == \"w\"" out && expect_code 0 mm-quantize --info --check block.gguf &&
    head -c 272 /dev/zero >zero && tail -c +$(($(wc -c <block.gguf) - 17408 + 1 + 3 * 272)) block.gguf | head -c 272 | cmp - zero'
test_ok 'NaN cannot become q8_0, and is told of in other types' '
    expect_code 0 mm-quantize -t f16 -o nan.gguf st/good-nan.safetensors && has err "1 values that are NaN" &&
    has err "'"'x'"'"'

test_ok 'the numbers of one tensor, a record for each row' '
    expect_code 0 mm-quantize --info --tensor w block.safetensors && mv out rows && jq -e -s "length == 64" rows &&
    mm-cat --check rows && jq -e -s ".[1].id == \"w[1]\"" rows &&
    expect_code 2 mm-quantize --info --tensor none block.safetensors && has err "no tensor '"'none'"'" &&
    expect_code 2 mm-quantize --info --json --tensor w block.safetensors && expect_code 2 mm-quantize -t f32 -o x --tensor w block.safetensors'

# ---- safety ----
test_ok 'the output is never the input, however it is spelt' '
    cp block.safetensors in && ln in hard && ln -s in soft && ln -s . here && cp in copy &&
    for f in in ./in hard soft here/in here/soft; do
        expect_code 2 mm-quantize -t q8_0 -o "$f" in && has err "read from" || exit 1
    done && expect_code 2 mm-quantize -t q8_0 -o tiny/model.safetensors tiny && cmp in copy && no_leftovers'
test_ok 'a missing folder is named' '
    expect_code 4 mm-quantize -t q8_0 -o no/such/x.gguf tiny && has err "no folder '"'no/such'"'"'
test_ok 'no space: no file, nothing left behind' '
    (ulimit -f 4 && expect_code 4 mm-quantize -t f32 -o full.gguf tiny) && [ ! -e full.gguf ] && no_leftovers'
test_ok 'no space: an older file stays' '
    echo old >old && (ulimit -f 4 && expect_code 4 mm-quantize -t f32 -o old tiny) && [ "$(cat old)" = old ] && no_leftovers'
test_ok 'a full device' '
    expect_code 4 mm-quantize -t f32 -o /dev/full tiny && [ -c /dev/full ] &&
    { mm-quantize --info tiny >/dev/full 2>err && exit 1; [ $? -eq 4 ]; } && has err "No space"'
test_ok 'killed by a signal: nothing left behind' '
    { reader_gone; mm-quantize -v -t f32 -o killed.gguf tiny 2>&1 >/dev/null || echo $? >status; } | true
    [ "$(cat status)" -eq 141 ] && [ ! -e killed.gguf ] && no_leftovers'
test_ok 'a reader that leaves ends it' '
    { reader_gone; mm-quantize --info tiny || echo $? >status; } | true
    [ "$(cat status)" -eq 141 ]'
test_ok 'a unified model keeps its fingerprint, whatever the type' 'mk_models uni u.gguf; for t in f16 q8_0; do mm-quantize -t $t -o u-$t.gguf u.gguf > log || exit 1; done
    for m in u u-f16 u-q8_0; do echo a | mm-embed -t -m $m.gguf | jq -r .model; done | sed "s/.*@//" | sort -u > got; test_lines got 1'
finish
