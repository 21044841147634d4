#!/bin/sh
# mm-quantize --prune and mm-train on a text encoder: a small bert made smaller, brought back towards what it was, and fine-tuned on pairs.
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
bad() { word=$1; shift; expect_code 2 mm-quantize --prune "$1" -t f32 -o bad.gguf tiny && has err "$word" && [ ! -e bad.gguf ]; } # TEXT SPEC
prune() { spec=$1; shift; mm-quantize --prune "$spec" -t f32 -o "$@"; } # SPEC OUT MODEL
vectors() { mm-embed -t --encoding base64 -m "$1" lines.txt | jq -c .embedding; } # MODEL
tune() { mm-train -j 1 -n 12 -B 6 --accumulate 2 --validate 4 --cache c.cache "$@"; }
HELPERS
mk_models tinybert tiny && mk_models uni uni.gguf && mk_models block block.safetensors || { echo 'Bail out! mk_models failed'; exit 1; }
printf 'the cat sat on the mat\nthe dog sat\nhello world\nsearch by meaning\nmany photos at once\n\302\2715 caf\303\251\n' > lines.txt
for a in cat dog photo mat world search meaning; do
    for b in the hello many un cafe run; do
        echo "{\"text\":\"$b $a sat on\",\"text2\":\"$a $b\"}"
        echo "{\"text\":\"$b $a\",\"weight\":0.5}"
    done
done > pairs.jsonl

# ---- pruning ----
test_ok 'words of the list that are wrong are named' '
    bad "layers=" "" && bad "should begin with" width=8 && bad "from 1 to 2" layers=3 && bad "from 1 to 2" layers=0 && bad "from 1 to 2" layers=x &&
    bad "from 1 to 4" heads=5 && bad "from 1 to 64" ffn=65 && bad "from 3 to 64" positions=2 && bad "twice" layers=1,layers=1 &&
    bad "blocks=1+0" blocks=1+0 && bad "blocks=2" blocks=2 && bad "blocks=0+" blocks=0+ && bad "together" layers=1,blocks=0 &&
    bad "vocab=lines.txt" vocab=lines.txt && bad "vocab=:9" vocab=:9 && bad "fewer than" vocab=lines.txt:136 && bad "below the" vocab=lines.txt:9 &&
    expect_code 4 mm-quantize --prune vocab=none:100 -t f32 -o bad.gguf tiny && has err none &&
    expect_code 2 mm-quantize --prune layers=1 --info tiny && has err "--prune"'
test_ok 'other models are not pruned' '
    expect_code 3 mm-quantize --prune layers=1 -t f32 -o bad.gguf uni.gguf && has err bert &&
    expect_code 3 mm-quantize --prune layers=1 -t f32 -o bad.gguf block.safetensors && has err bert && [ ! -e bad.gguf ]'
test_ok 'everything kept is the model itself, with a name of its own' '
    prune layers=2,ffn=64,heads=4,positions=64 same.gguf tiny >out && mm-quantize -t f32 -o whole.gguf tiny >out && vectors same.gguf >a &&
    vectors tiny >b && cmp a b && mm-quantize --info --json same.gguf >out && test_json out ".[0].metadata | has(\"mm.fingerprint\") or has(\"general.name\") | not"'
test_ok 'layers, channels, heads, positions: shapes as told; it embeds; from a GGUF as from a folder' '
    prune layers=1,ffn=20,heads=3,positions=16 small.gguf tiny >out && mm-quantize --info --json small.gguf >info &&
    test_json info ".[0] | .metadata[\"bert.block_count\"] == 1 and .metadata[\"bert.attention.head_count\"] == 3 and
        .metadata[\"bert.attention.key_length\"] == 8 and .metadata[\"mm.window\"] == 16 and
        ([.tensors[] | select(.name | test(\"attn_q.weight|attn_output.weight|ffn_up.bias|ffn_down.weight|position_embd\")) | .shape] |
            sort == [[16, 32], [20], [24, 32], [32, 20], [32, 24]]) and ([.tensors[].name | select(test(\"blk.1\"))] == [])" &&
    vectors small.gguf >a && [ -s a ] && prune layers=1,ffn=20,heads=3,positions=16 small2.gguf whole.gguf >out && vectors small2.gguf >b && cmp a b &&
    prune heads=2 smaller.gguf small.gguf >out && mm-quantize --info --json smaller.gguf >info &&
    test_json info ".[0].metadata[\"bert.attention.key_length\"] == 8" && [ -n "$(vectors smaller.gguf)" ]'
test_ok 'blocks by number: the second layer is the first now' '
    prune blocks=1 second.gguf tiny >out && prune blocks=0 first.gguf tiny >out && prune layers=1 one.gguf tiny >out &&
    vectors second.gguf >a && vectors one.gguf >b && cmp a b && vectors first.gguf >b && must_fail cmp -s a b'
test_ok 'the vocabulary: at most so many, letters and special tokens always, every text has tokens, kept words their rows' '
    prune vocab=lines.txt:110 words.gguf tiny >out && mm-quantize --info --json words.gguf >info &&
    test_json info ".[0] | .tokenizer.tokens <= 110 and .tokenizer.tokens > 80 and
        ([.tensors[] | select(.name == \"token_embd.weight\") | .shape[0]] == [.tokenizer.tokens])" &&
    printf "the cat sat\nhello world\n" >known.txt && mm-embed -t --encoding base64 -m words.gguf known.txt | jq -c "[.tokens,.embedding]" >a &&
    mm-embed -t --encoding base64 -m tiny known.txt | jq -c "[.tokens,.embedding]" >b && cmp a b &&
    mm-embed -t -m words.gguf lines.txt >out && test_lines out 6 && test_json out "all(.[]; .tokens > 2)" &&
    printf "shrink\n" | mm-embed -t -m words.gguf >out && test_json out ".[0].tokens == 8"'

# ---- training ----
test_ok 'options that are not a text encoder'"'"'s are named, and a folder is sent to mm-quantize' '
    for bad in "--data --data pairs.jsonl" "--stage --stage 1" "bank --loss bank=1" "--distil --loss distil=1" "--distil --distil tiny --loss infonce=1"; do
        word=${bad%% *} && expect_code 2 mm-train --from small.gguf --pairs pairs.jsonl -n 2 -o x.gguf ${bad#* } && has err "$word" || exit 1
    done && expect_code 2 mm-train --from small.gguf --pairs pairs.jsonl -o x.gguf && has err "--steps" &&
    expect_code 3 mm-train --from tiny --pairs pairs.jsonl -n 2 -o x.gguf && has err "mm-quantize -t f32" && [ ! -e x.gguf ] &&
    mm-train --from small.gguf --pairs pairs.jsonl -n 9 -o x.gguf --dry-run >out && test_json out ".[0] | .family == \"bert\" and .batch.text == 64" && [ ! -e x.gguf ]'
test_ok 'a pruned model is brought back towards its teacher' '
    tune --from small.gguf --distil tiny --pairs pairs.jsonl -o t.gguf --lr 1e-2 -n 60 --metrics m.jsonl >out &&
    test_json m.jsonl "[.[] | select(.loss) | .loss.distil] | (.[50:] | add) < 0.5 * (.[:10] | add)" &&
    test_json m.jsonl "[.[] | select(.validation) | .validation.distil] | .[-1] > .[0]" && test_json out ".[0].score > 50" &&
    mm-quantize --info --json t.gguf >info && test_json info ".[0] | .metadata[\"mm.training\"] | fromjson.config.distil == \"tiny\"" &&
    test_json info "[.[0].tensors[] | select(.name == \"blk.0.attn_k.weight\") | [.type, .shape]] == [[\"f16\", [24, 32]]]" && vectors t.gguf >a && [ -s a ]'
test_ok 'pairs: each text finds its own; half of the way with --blend 0.5; additions of low rank, frozen parts' '
    grep text2 pairs.jsonl >two.jsonl && tune --from whole.gguf --pairs two.jsonl -o p.gguf --lr 3e-3 -n 60 -t f32 --metrics m.jsonl >out &&
    test_json m.jsonl "[.[] | select(.loss) | .loss.infonce] | (.[30:] | add) / 30 < 0.9 * (.[:2] | add) / 2" &&
    test_json out ".[0].score == 100" &&
    tune --from whole.gguf --pairs pairs.jsonl -o h.gguf --lr 1e-2 -t f32 --blend 0 >out && vectors h.gguf >a && vectors tiny >b && cmp a b &&
    expect_code 2 tune --from whole.gguf --pairs pairs.jsonl -o f.gguf --freeze "*" && [ ! -e f.gguf ] &&
    tune --from whole.gguf --pairs pairs.jsonl -o l.gguf --lora 2 -t f32 >out && test_json out ".[0].trained < 0.3 * .[0].parameters"'
test_ok 'stopped and gone on with: the same bytes, whatever the number of threads' '
    tune --from small.gguf --distil tiny --loss distil=1,infonce=0.3 --pairs pairs.jsonl -o whole-run.gguf -n 200 >out &&
    expect_code 0 tune --from small.gguf --distil tiny --loss distil=1,infonce=0.3 --pairs pairs.jsonl -o cut-run.gguf -n 200 --minutes 0.001 &&
    [ ! -e cut-run.gguf ] && [ -e cut-run.gguf.ckpt ] &&
    expect_code 0 tune --from small.gguf --distil tiny --loss distil=1,infonce=0.3 --pairs pairs.jsonl -o cut-run.gguf -n 200 --resume -j 2 &&
    cmp whole-run.gguf cut-run.gguf'
finish
