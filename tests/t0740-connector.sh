#!/bin/sh
# mm-train --connector and mm-generate --connector, between a tiny unified model and a tiny decoder with random weights: it learns what there is to
# be learned from a random decoder,
# bad input costs one record.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
cat >> "$test_dir/helpers" <<'HELPERS'
usage() { word=$1; shift; expect_code 2 "$@" > out 2> err && grep -qF -- "$word" err && [ ! -s out ] || { cat err; return 1; }; } # TEXT COMMAND...
train() { mm-train --connector ./lm -m u.gguf -j 1 -d few.jsonl -t f32 -B image=9 --augment 0 "$@"; } # OPTION...
say() { mm-generate -m ./lm --connector c.gguf --encoder u.gguf --max-tokens 8 "$@"; } # OPTION...
HELPERS
mk_models uni u.gguf && mk_models tinylm lm || exit 1
shade() { # FILE RED GREEN BLUE
    # shellcheck disable=SC2059
    printf "P6\n1 1\n255\n\\$(printf %o "$2")\\$(printf %o "$3")\\$(printf %o "$4")" > "$1"
}
for i in 1 2 3; do
    shade r$i.ppm $((180 + 10 * i)) 20 $((30 + i)) && shade b$i.ppm 20 $((10 * i)) 210 && shade g$i.ppm 40 $((170 + 12 * i)) 30
    split='train'
    [ "$i" -lt 3 ] || split='val'
    for c in r:b b:t g:z; do echo '{"image":"'${c%:*}$i'.ppm","text":"'${c#*:}'","split":"'$split'"}' >> few.jsonl; done
done
mk_media wav s.wav ms=500 || exit 1
printf 'r1.ppm\nb1.ppm\ng1.ppm\n' > list

test_ok 'options that do not go with it' 'usage "--loss" train -o x.gguf --loss infonce && usage "--config" mm-train --connector ./lm --config tiny -d few.jsonl -o x.gguf && usage "--pairs" train -o x.gguf --pairs few.jsonl &&
    usage "--lora" train -o x.gguf --lora 2 && usage "--start" mm-train -m u.gguf -d few.jsonl -o x.gguf --start c.gguf && usage "--encoder" mm-generate -m ./lm --encoder u.gguf -p x < /dev/null && usage "--image" mm-generate --image --connector c.gguf < /dev/null'
test_ok 'what cannot be connected' 'expect_code 3 mm-train --connector u.gguf -m u.gguf -d few.jsonl -o x.gguf 2> err && grep -q "decoder of another family\|next-token head" err && expect_code 3 mm-train --connector ./lm -m ./lm -d few.jsonl -o x.gguf 2> err && cat err && [ ! -e x.gguf ]'
test_ok 'only the connector is trained' 'train -o plan.gguf -n 5 --dry-run > out && test_json out ".[0] | .family == \"connector\" and .parameters == .trained and .parameters > 10000" && [ ! -e plan.gguf ]'
test_ok 'it learns what letters colours are called by' 'train -o c.gguf -n 150 --lr 1e-2 --validate 50 --metrics m.jsonl > out && test_json out ".[0] | .finished and .score > 0" && mm-quantize --info c.gguf | grep -q "architecture mm-connector" &&
    jq -s -e "map(select(.loss) | .loss[\"next-token\"]) | (.[-10:] | add) < (.[:10] | add) - 15" m.jsonl > log || { cat log; tail -3 m.jsonl; exit 1; }'
test_ok 'it tells colours apart, the same in any company' 'say --caption list > a && test_json a "(map(.generated) | unique | length) >= 2 and all(.[]; .tokens.prompt == 4 and .modality == \"image\")" && say --caption --batch 1 -j 1 list > b && test_cmp a b &&
    for i in 1 2 3 4; do cat list; done > many; say --caption --batch 8 many > b && for i in 1 2 3 4; do cat a; done > c; test_cmp b c'
test_ok 'a prompt is how the text begins; questions go through the template' 'echo b1.ppm > one && say --caption one > a && say --caption -p t one > b && [ "$(jq .tokens.prompt b)" -eq $(($(jq .tokens.prompt a) + 1)) ] &&
    say -p "What is this?" list > out && test_json out "all(.[]; .generated != null and .tokens.prompt > 20) and (map(.tokens.prompt) | unique | length) == 1" &&
    echo "{\"image\":[\"r1.ppm\",\"b1.ppm\"],\"text\":\"<image> or <image>?\"}" | say > two && test_json two ".[0].tokens.prompt > 8" &&
    echo "{\"image\":\"r1.ppm\",\"text\":\"<image> or <image>?\"}" > x && expect_code 1 say -q x > out && test_json out ".[0].error.code == \"MM_EDATA\""'
test_ok 'turns show pictures' 'printf "%s\n" "{\"role\":\"user\",\"content\":\"What is it?\",\"image\":\"r1.ppm\"}" "{\"role\":\"user\",\"content\":\"And this?\",\"image\":\"b1.ppm\"}" | say --chat > out && test_json out "map(.role) == [\"user\",\"assistant\",\"user\",\"assistant\"] and .[3].tokens.prompt > .[1].tokens.prompt and all(.[]; .error == null)" &&
    printf "%s\n" "{\"role\":\"user\",\"content\":\"What is it?\"}" | say --chat > plain && [ "$(jq .tokens.prompt plain | sed -n 2p)" -eq "$(($(jq .tokens.prompt out | sed -n 2p) - 4))" ]'
test_ok 'text alone needs no picture; the same as without the connector' 'echo "one two" | say -t > a && echo "one two" | mm-generate -m ./lm -t --max-tokens 8 > b && test_cmp a b'
test_ok 'what is said is held against what was seen' 'say --caption --score list > out && test_json out "all(.[]; .score >= -1 and .score <= 1)" && say --caption --temperature 1 -n 4 --best 2 r1.ppm > out && test_json out "length == 2 and .[0].score >= .[1].score"'
test_ok 'bad input costs one record' 'printf nonsense > bad.png; printf "%s\n" "{\"image\":\"bad.png\"}" "{\"image\":\"gone.png\"}" "{\"image\":5}" "{\"n\":1}" "{\"audio\":\"s.wav\"}" "{\"image\":\"r1.ppm\",\"audio\":\"s.wav\"}" "{\"text\":\"x\"}" "{\"image\":\"r1.ppm\"}" > x; expect_code 1 say -q --caption x > out &&
    test_json out "map(.error.code // \"ok\") == [\"MM_EDATA\",\"MM_EIO\",\"MM_EDATA\",\"MM_EDATA\",\"MM_EUNSUP\",\"MM_EUNSUP\",\"MM_EDATA\",\"ok\"]"'
test_ok 'a connector of others, half a one, none' 'mk_models heads h.gguf > log; expect_code 3 mm-generate -m ./lm --connector c.gguf --encoder h.gguf --caption list 2> err && grep -q "was made for" err && head -c 3000 c.gguf > half.gguf && expect_code 3 mm-generate -m ./lm --connector half.gguf --encoder u.gguf --caption list 2> err && grep -q "half.gguf" err &&
    expect_code 3 mm-generate -m ./lm --connector u.gguf --encoder u.gguf --caption list 2> err && grep -q "no connector" err && mk_models tinyvlm vlm > log && expect_code 2 mm-generate -m ./vlm --connector c.gguf --encoder u.gguf --caption list 2> err && grep -q "by itself" err'
test_ok 'one that was trained goes on learning' 'train -o on.gguf -n 5 --lr 1e-4 --ema 0 --start c.gguf --metrics on.jsonl > out && test_json out ".[0] | .finished" && jq -s -e "map(.loss // empty | .[\"next-token\"]) | .[:5]" on.jsonl > first &&
    jq -s -e "map(.loss // empty | .[\"next-token\"]) | .[:5]" m.jsonl > fresh && jq -n -e --slurpfile a first --slurpfile b fresh "(\$a[0] | add) < (\$b[0] | add) - 5" > log || { cat first fresh; exit 1; }
    mk_models heads h.gguf > log; expect_code 3 train -o x.gguf -n 5 --start u.gguf 2> err && grep -q "start.*no connector" err && expect_code 3 mm-train --connector ./lm -m h.gguf -d few.jsonl -o x.gguf --start c.gguf 2> err && grep -q "start.*was made for" err'
test_ok 'a run that is stopped goes on with the same bits' 'train -o one.gguf -n 60 --lr 1e-2 > log && train -o two.gguf -n 60 --lr 1e-2 --minutes 0.001 > out 2> err && test_json out ".[0] | (.finished | not) and .steps >= 1 and .steps < 60" && [ ! -e two.gguf ] && [ -e two.gguf.ckpt ] &&
    train -o two.gguf -n 60 --lr 1e-2 --resume > out && test_json out ".[0] | .finished and .steps == 60" && cmp one.gguf two.gguf'
finish
