#!/bin/sh
# mm-train --few-shot: pictures of a few shades get labels that say nothing of what is seen, and other shades get them too.
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
usage() { word=$1; shift; expect_code 2 mm-train "$@" && has err "$word" && [ ! -s out ]; } # TEXT ARGUMENTS...
few() { mm-train --few-shot "$@" -d few.jsonl -m s.gguf -j 1; } # METHOD OPTION...
right() { # MODEL: share of the new shades that get their label
    mm-embed -m "$1" --modality image --labels names new.jsonl | jq -s 'map(if .labels[0].label == .label then 1 else 0 end) | add / length'
}
near() { jq -en --argjson least "$3" --slurpfile a "$1" --slurpfile b "$2" '[$a[0], $b[0]] | transpose | map(.[0] * .[1]) | add > $least'; } # VECTOR VECTOR COSINE
vectors() { mm-embed -m "$1" "$2" | jq -c .embedding; } # MODEL FILE
HELPERS
mk_models uni s.gguf || exit 1
shade() { # FILE RED GREEN BLUE
    # shellcheck disable=SC2059
    printf "P6\n1 1\n255\n\\$(printf %o "$2")\\$(printf %o "$3")\\$(printf %o "$4")" > "$1"
}
for i in 1 2 3 4; do
    shade r$i.ppm $((180 + 10 * i)) 20 $((30 + i)) && shade b$i.ppm 20 $((10 * i)) 210 && shade g$i.ppm 40 $((170 + 12 * i)) 30
    shade nr$i.ppm $((175 + 11 * i)) 25 35 && shade nb$i.ppm 25 $((9 * i)) 205 && shade ng$i.ppm 35 $((172 + 11 * i)) 35
    for c in r:bark b:stone g:cloud; do
        echo '{"image":"'${c%:*}$i'.ppm","text":"'${c#*:}'"}' >> few.jsonl
        echo '{"id":"n'${c%:*}$i'","image":"n'${c%:*}$i'.ppm","label":"'${c#*:}'"}' >> new.jsonl
    done
done
printf '%s\n' bark stone cloud > names
for i in 1 2 3; do
    mk_media wav s$i.wav ms=$((300 * i)) rate=$((8000 * i)) && echo '{"audio":"s'$i'.wav","text":"stone"}' >> sounds.jsonl
done
mk_media wav w.wav ms=500 && mk_media png scene.png || exit 1
echo bark > word.txt

test_ok 'usage: the methods, what they begin with, and what prototypes have no use for' '
    usage "prototype|lora|full" --few-shot magic -d few.jsonl -o x.gguf && usage "--config" --few-shot full -d few.jsonl -o x.gguf --config tiny &&
    usage "--lora" --few-shot full --lora 2 -d few.jsonl -o x.gguf && usage "--pairs" --few-shot lora --pairs few.jsonl -d few.jsonl -o x.gguf &&
    for option in "-n 3" "--lr 1e-3" "--lora 2" "--freeze x" "--batch 3" "--validate 1" "--augment 0" "--accumulate 2" "--loss bank" "--metrics m"; do
        usage "prototypes have none" --few-shot prototype -d few.jsonl -o x.gguf $option || exit 1
    done; [ ! -e x.gguf ]'
test_ok 'prototypes: other pictures of the classes get their names' '
    few prototype -o p.gguf >out && test_json out ".[0] | .finished and .steps == 0 and .trained == 2 * 12 * 32" && [ ! -e p.gguf.ckpt ] &&
    echo "$(right s.gguf) $(right p.gguf)" >shares && jq -en "[inputs] | .[0] < 0.5 and .[1] == 1" <shares'
test_ok 'vectors of texts, sounds and clips keep their bits, and so nearly do pictures of other things; the fingerprint is another' '
    for m in s p; do mm-embed -m $m.gguf -t <word.txt | jq -c .embedding >$m.text && vectors $m.gguf w.wav >$m.sound && vectors $m.gguf scene.png >$m.scene || exit 1; done
    test_cmp s.text p.text && test_cmp s.sound p.sound &&
    near s.scene p.scene 0.8 &&
    for m in s p; do mm-embed -m $m.gguf r1.ppm | jq -r .model | sed "s/.*@//" >$m.model; done && must_fail cmp -s s.model p.model'
test_ok 'the same with more threads; how far examples move is --blend; as q8_0' '
    few prototype -o q.gguf -j 2 >out && cmp p.gguf q.gguf && few prototype -o q.gguf --blend 0 >out && vectors q.gguf r1.ppm >v && vectors s.gguf r1.ppm >w &&
    jq -ens --slurpfile a v --slurpfile b w "[\$a[0], \$b[0]] | transpose | map(.[0] - .[1] | fabs) | max < 1e-3" &&
    few prototype -o q.gguf -t q8_0 >out && [ "$(right q.gguf)" = 1 ] && mm-quantize --info q.gguf >out && has out image.few_key'
test_ok 'one example; a label alone; what has no label, a picture that is not there' '
    head -n 1 few.jsonl >one.jsonl && mm-train --few-shot prototype -d one.jsonl -m s.gguf -o one.gguf >out && test_json out ".[0].trained == 64" &&
    jq -c "{image, \"label\": .text}" few.jsonl >label.jsonl && mm-train --few-shot prototype -d label.jsonl -m s.gguf -o l.gguf >out && [ "$(right l.gguf)" = 1 ] &&
    jq -c "{image}" few.jsonl >bare.jsonl && expect_code 3 mm-train --few-shot prototype -d bare.jsonl -m s.gguf -o x.gguf && has err label && [ ! -e x.gguf ] &&
    (cat few.jsonl; echo "{\"image\":\"none.png\",\"text\":\"x\"}") >more.jsonl && mm-train --few-shot prototype -d more.jsonl -m s.gguf -o more.gguf >out 2>err && has err none.png'
test_ok 'nothing is trained from a model with prototypes' '
    expect_code 3 mm-train -d few.jsonl -m p.gguf -o x.gguf -n 1 && has err "has prototypes" && expect_code 3 mm-train --few-shot prototype -d few.jsonl -m p.gguf -o x.gguf && [ ! -e x.gguf ]'
test_ok 'sounds are examples as well' '
    mm-train --few-shot prototype -d sounds.jsonl -m s.gguf -o s2.gguf >out && vectors s2.gguf r1.ppm >v && test_cmp w v && vectors s2.gguf s1.wav >v && must_fail cmp -s v s.sound &&
    mm-quantize --info s2.gguf >out && has out audio.few_key'
test_ok 'by steps: names are learned, whole and by additions, and texts stay where they were' '
    for how in lora full; do
        few $how -o $how.gguf --metrics $how.jsonl --cache c >$how.out && test_json $how.out ".[0] | .finished and .steps == 40 and .trained < .parameters" || exit 1
        test_json $how.jsonl "map(select(.loss).loss) | .[-1].image < .[0].image and (.[0] | has(\"text\"))" && vectors $how.gguf r1.ppm >v && must_fail cmp -s v w || exit 1
        mm-embed -m $how.gguf -t <word.txt | jq -c .embedding >v && near v s.text 0.9 || exit 1
    done
    jq -ens --slurpfile a lora.out --slurpfile b full.out "\$a[0].trained < \$b[0].trained" && right full.gguf >share && test_json share ".[0] > 0.5"'
test_ok 'a plan of it' 'few full -o x.gguf --dry-run >out && test_json out ".[0].trained < .[0].parameters and .[0].config.few_shot == \"full\"" && few prototype -o x.gguf --dry-run >out && [ ! -e x.gguf ]'
finish
