#!/bin/sh
# mm-train: usage errors, pictures of metrics, a small unified model fine-tuned on a handful of files. The loop itself: t0610.
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
HELPERS
printf '{"text":"a"}\n' > m.jsonl
printf '{"step":%d,"time":1,"lr":0.1,"loss":{"a":%d,"it'"'"'s \\"b\\"":2},"grad_norm":1,"samples":3}\n' 1 5 2 4 3 3 > x.jsonl
printf '{"step":3,"time":2,"score":0.5,"best":true,"validation":{"r10":0.5}}\nnot JSON\n' >> x.jsonl

test_ok 'usage errors name the option' '
    usage "--data" && usage "--data" -o x.gguf && usage "--output" -d m.jsonl && usage "standard output" -d m.jsonl -o - &&
    usage "option '"'--data'"'" m.jsonl && usage "1|2|3|all" -d m.jsonl -o x.gguf --stage 4 &&
    usage "from 1 to 1024" -d m.jsonl -o x.gguf --lora 0 && usage "at least 1" -d m.jsonl -o x.gguf -n 0'
test_ok 'options that exclude or need each other' '
    usage "--resume" -d m.jsonl -o x.gguf --resume --fresh && usage "--config" -d m.jsonl -o x.gguf --from a --config tiny &&
    usage "--config" -d m.jsonl -o x.gguf --plan x && usage "--config" -d m.jsonl -o x.gguf --positions aligned && usage "--validate" -d m.jsonl -o x.gguf --patience 3 &&
    usage "--metrics" -d m.jsonl -o x.gguf --plot x.png && usage "--metrics" --plot x.png'
test_ok 'words of lists are named' '
    usage "nce" -d m.jsonl -o x.gguf --loss nce && usage "no loss has a weight" -d m.jsonl -o x.gguf --loss bank=0,flow=0 && usage "smell" -d m.jsonl -o x.gguf --batch smell=3 &&
    usage "10h" -d m.jsonl -o x.gguf --validate 10h'
test_ok 'nothing is left of what was refused' 'for f in x.gguf*; do [ ! -e "$f" ] || exit 1; done'
test_ok 'a picture of metrics: other names than .png and .svg, no losses, no file' '
    usage ".png or .svg" --plot x.pdf --metrics x.jsonl && [ ! -e x.pdf ]'
test_ok 'without gnuplot it is said so, before any training' '
    PATH=/nowhere expect_code 4 "$MM_BUILD/bin/mm-train" --plot x.png --metrics x.jsonl && has err "gnuplot, which is not installed" &&
    PATH=/nowhere expect_code 4 "$MM_BUILD/bin/mm-train" -d m.jsonl -o x.gguf --plot x.png --metrics y.jsonl && has err gnuplot && [ ! -e y.jsonl ]'
test_if 'command -v gnuplot' 'by gnuplot; names with quotes, a line that is no JSON' '
    expect_code 0 mm-train --plot x.png --metrics x.jsonl && [ ! -s err ] && [ "$(head -c 4 x.png | tail -c 3)" = PNG ] &&
    expect_code 0 mm-train --plot x.svg --metrics x.jsonl && [ ! -s err ] && grep -q "it.s .b.<" x.svg &&
    expect_code 3 mm-train --plot y.png --metrics m.jsonl && has err "no losses" && [ ! -e y.png ] &&
    expect_code 4 mm-train --plot y.png --metrics none.jsonl && expect_code 4 mm-train --plot no/y.png --metrics x.jsonl && has err "no folder"'

# ---- a model of 53,380 numbers, 12 pictures, 3 sounds, captions ----
mk_models uni s.gguf || exit 1
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    mk_media png p$i.png w=$((16 + i)) h=$((30 - i)) && echo '{"image":"p'$i'.png","text":"word '$i' of a b c"}' >> d.jsonl
    echo '{"image":"p'$i'.png","text":"other '$i' a b","split":"val"}' >> d.jsonl
    echo '{"image":"p'$i'.png","text":"third '$i' c d","split":"val"}' >> d.jsonl
done
for i in 1 2 3; do mk_media wav w$i.wav ms=$((200 * i)) && echo '{"audio":"w'$i'.wav","text":"sound '$i' x"}' >> d.jsonl; done
echo '{"image":"none.png","text":"not there"}' >> d.jsonl
cat >> "$test_dir/helpers" <<'HELPERS'
tune() { mm-train -d d.jsonl --from s.gguf -j 1 -n 6 -B 3 --accumulate 2 --validate 3 --cache c.cache "$@"; }
HELPERS
test_ok 'what a run would take: the plan, and nothing is written' '
    tune -o x.gguf --dry-run >out 2>err && [ ! -e x.gguf ] && [ ! -e c.cache ] && [ ! -s err ] && test_json out ".[0].memory | .activations == null and .total == .weights + .gradients + .optimizer" &&
    test_json out ".[0] | .family == \"uni\" and .parameters == 53380 and .steps == 6 and (.stages | length == 1) and .memory.total > 1000000 and .shared.text > 0" &&
    tune -o x.gguf --dry-run --lora 2 >out && test_json out ".[0].trained < 0.3 * .[0].parameters" &&
    tune -o x.gguf --dry-run --freeze "token_embd*,blk.0.*" >out && test_json out ".[0].trained < .[0].parameters" &&
    usage "no.such" -d d.jsonl --from s.gguf -o x.gguf -n 6 --freeze "no.such*"'
test_ok 'positions of a model from nothing' '
    for p in aligned unaligned absolute; do
        mm-train -d d.jsonl --config tiny --positions $p -n 6 -o x.gguf --dry-run >$p || exit 1
    done
    test_json aligned ".[0].config.model.uni | has(\"positions\") | not" && test_json unaligned ".[0].config.model.uni.positions == \"unaligned\"" &&
    test_json absolute ".[0].config.model.uni.positions == \"absolute\"" && [ "$(jq .parameters aligned)" -eq "$(jq .parameters unaligned)" ] &&
    [ "$(jq .parameters aligned)" -lt "$(jq .parameters absolute)" ] && usage "aligned, unaligned or absolute" -d d.jsonl --config tiny --positions near -n 6 -o x.gguf --dry-run'
test_ok 'fine-tuned: the model embeds, and says how it was made; a file that is not there is told of' '
    tune -o a.gguf --metrics a.jsonl >out 2>err && has err "none.png" &&
    test_json out ".[0].finished and .[0].steps == 6 and .[0].score >= 0" &&
    test_json a.jsonl "[.[] | select(.loss) | .step] == [range(1; 7)] and ([.[] | select(.validation)] | length == 2)" &&
    mm-embed -m a.gguf p1.png >v && test_json v ".[0].embedding | length == 32" && mm-embed -m s.gguf p1.png >w && must_fail cmp -s v w &&
    mm-quantize --info --json a.gguf | jq -r ".metadata[\"mm-uni.training\"]" >how && test_json how ".[0].config.accumulate == 2 and .[0].config.seed == 1"'
test_ok 'the same with another number of threads, not with another seed' '
    tune -o b.gguf -j 2 >out && cmp a.gguf b.gguf && tune -o b.gguf --seed 2 >out && must_fail cmp -s a.gguf b.gguf'
test_ok 'SIGTERM: status 0, and how to go on; the end is the same, byte for byte' '
    tune -o whole.gguf -n 400 --validate 100 >out
    mm-train -d d.jsonl --from s.gguf -j 1 -n 400 -B 3 --accumulate 2 --validate 100 --cache c.cache -o t.gguf --metrics t.jsonl >out 2>err & p=$!
    for i in $(seq 3000); do [ ! -s t.jsonl ] || break; sleep 0.02; done
    kill -TERM $p
    wait $p
    has err "--resume goes on" && [ -e t.gguf.ckpt ] && [ ! -e t.gguf ] && test_json out ".[0].finished == false" &&
    expect_code 2 tune -o t.gguf -n 400 --validate 100 && has err "--fresh" &&
    expect_code 3 mm-quantize -t f16 -o x.gguf t.gguf.ckpt 2>err && has err "checkpoint of training" && [ ! -e x.gguf ] &&
    expect_code 2 tune -o t.gguf -n 400 --validate 100 --resume --lr 1 && has err "stages" &&
    expect_code 0 tune -o t.gguf -n 400 --validate 100 --resume --metrics t.jsonl && cmp whole.gguf t.gguf && [ ! -e t.gguf.ckpt ] &&
    test_json t.jsonl "[.[] | select(.loss) | .step] == [range(1; 401)]"'
test_ok 'kill -9 likewise' '
    for i in 1 2 3; do
        mm-train -d d.jsonl --from s.gguf -j 1 -n 6 -B 3 --accumulate 2 --validate 3 --cache c.cache -o k.gguf --resume --checkpoint 0.01 >out 2>err & p=$!
        sleep 0.$((i * 2))
        kill -9 $p 2>/dev/null || :
        wait $p 2>/dev/null || :
    done
    [ -e k.gguf ] || tune -o k.gguf --resume >out
    cmp a.gguf k.gguf'
test_ok 'heads alone: words and pictures are learned, and the vectors stay as they were' '
    tune -o h.gguf --loss joint -n 200 --accumulate 1 --lr 5e-3 --metrics h.jsonl --validate 200 >out &&
    test_json h.jsonl "[.[] | select(.loss)] | (.[0].loss | keys == [\"align\", \"flow\", \"next-token\"]) and
        (map(.loss[\"next-token\"]) | (.[-20:] | add) < 0.5 * (.[:20] | add)) and (map(.loss.flow) | (.[-20:] | add) < 0.8 * (.[:20] | add))" &&
    test_json out ".[0].activations > 10000" && test_json h.jsonl "[.[] | select(.validation)][-1].validation | keys == [\"align\", \"flow\", \"next-token\"] and .flow > 20 and .[\"next-token\"] > 0" &&
    for m in h s; do mm-embed -m $m.gguf p1.png w1.wav | jq -c "(.model | sub(\".*@\"; \"\")), .embedding" >$m.vec; done && test_cmp h.vec s.vec'
test_ok 'the same with two threads; from there on; one head at a time; with pairs of texts' '
    tune -o h1.gguf --loss joint >out && tune -o h2.gguf --loss joint -j 2 >out && cmp h1.gguf h2.gguf &&
    tune -o h3.gguf --from h.gguf --loss flow --metrics h3.jsonl >out && test_json h3.jsonl "map(select(.loss).loss | keys == [\"flow\"]) | all" &&
    mm-embed -m h3.gguf p1.png | jq -c .embedding >v && mm-embed -m s.gguf p1.png | jq -c .embedding >u && test_cmp u v &&
    for m in h h3; do mm-generate --caption -m $m.gguf --temperature 0 --max-tokens 8 --logprobs 1 p1.png | jq -c .logprobs >$m.said; done && test_cmp h.said h3.said &&
    printf "%s\n" "{\"text\":\"uno a\",\"en\":\"one a\"}" "{\"text\":\"dos b\",\"en\":\"two b\"}" >pairs && tune -o h4.gguf --loss next-token --pairs pairs --batch image=3,text=2 >out &&
    printf "%s\n" "{\"text\":\"tres c\",\"en\":\"three c\"}" >more && tune -o h6.gguf --loss next-token --pairs pairs --pairs more --batch image=3,text=2 >out &&
    grep -aq "\"pairs\":2" h4.gguf && grep -aq "\"pairs\":3" h6.gguf && : >none && expect_code 3 tune -o h7.gguf --loss next-token --pairs pairs --pairs none && has err "none: no pair" &&
    mk_models tinybert teacher && mm-train -m s.gguf --stage 1 --distil teacher --pairs pairs -n 2 -o d.gguf --dry-run >out && test_json out ".[0].family == \"uni\""'
test_ok 'from nothing, and numbers past the trunk for a model that has none: in closed form, in their place' '
    tr -cs "[:lower:]" "\n" <"$MM_ROOT/README.md" | sort -u | grep ... | head -400 | jq -Rc "{text: ., en: .}" >things &&
    text() { mm-train -q --pairs things --distil default --stage 1 --batch text=8 -n 1 --lr 1e-9 --ema 0 --blend 1 "$@"; } &&
    text --config tiny -t f32 -o t0.gguf >out && text --from t0.gguf -t f32 --direct 100 -o t1.gguf >out && text --config tiny --direct 100 -t f32 -o t2.gguf >out &&
    for m in t0 t1 t2; do head -20 things | mm-embed -m ./$m.gguf | jq -c .embedding >$m.v || exit 1; done &&
    for m in t0 t1 t2; do jq -s . $m.v >$m.j || exit 1; done &&
    apart() { jq -n --slurpfile a $1 --slurpfile b $2 "[range(20) as \$i | range($3; $4) as \$k | \$b[0][\$i][\$k] - \$a[0][\$i][\$k] | fabs] | add / length" >by; } &&
    apart t0.j t1.j 120 160 && test_json by ".[0] > 0.01" && apart t1.j t2.j 0 256 && test_json by ".[0] < 0.005" &&
    usage "already" --from t1.gguf --direct 8 --distil default --pairs things -o x.gguf -n 1 && usage "--distil" --from t0.gguf --direct 8 --pairs things -o x.gguf -n 1 &&
    usage "no place" --from t0.gguf --direct 137 --distil default --pairs things -o x.gguf -n 1 && text --from t1.gguf --direct 100 -o x.gguf >out'
test_ok 'with other losses the encoders are trained as well' '
    tune -o h5.gguf --loss bank=1,next-token=0.5 --metrics h5.jsonl >out && test_json h5.jsonl "[.[] | select(.loss)][0].loss | has(\"image\") and has(\"next-token\")" &&
    mm-embed -m h5.gguf p1.png | jq -c .embedding >v && must_fail cmp -s u v'
test_ok 'a low-rank addition and half precision train as well' '
    tune -o l.gguf --lora 2 --precision bf16 >out && test_json out ".[0].trained < 20000 and .[0].skipped == 0 and .[0].activations > 10000" &&
    must_fail cmp -s a.gguf l.gguf && mm-embed -m l.gguf p1.png >v'

test_ok 'a medium that cannot be decoded is left out of every run, the first and those after it' '
    { cat d.jsonl; echo "{\"image\":\"notes.jpg\",\"text\":\"notes\"}"; } > odd.jsonl && echo "no picture" > notes.jpg || exit 1
    for i in 1 2; do expect_code 0 mm-train -m s.gguf -d odd.jsonl -o odd.gguf -n 1 -B image=4,audio=2 --accumulate 1 -j 1 && has err notes.jpg || exit 1; done; [ ! -e odd.gguf.cache.part ]'
test_ok 'data that is not there, a folder that is not there: said by --dry-run too' '
    expect_code 4 mm-train -m s.gguf -d nowhere.jsonl -o p1.gguf --dry-run && has err nowhere.jsonl && expect_code 4 mm-train -m s.gguf -d d.jsonl -o nowhere/p1.gguf --dry-run && has err nowhere/p1.gguf'
test_ok 'what is read is not written over' '
    for o in "-o d.jsonl" "-o p1.gguf --metrics d.jsonl" "-o p1.gguf --cache d.jsonl" "-o s.gguf"; do cp d.jsonl was && cp s.gguf before || exit 1
        expect_code 2 mm-train -m s.gguf -d d.jsonl $o -n 1 && has err "what the run reads" && cmp d.jsonl was && cmp s.gguf before || exit 1; done
    echo diary > diary.txt; expect_code 3 mm-train -m s.gguf -d d.jsonl -o p1.gguf --cache diary.txt -n 1 && has err "no cache" && [ "$(cat diary.txt)" = diary ]'
test_ok 'too little to validate with is said before the run; so is data without captions' '
    head -9 d.jsonl > few.jsonl && expect_code 3 mm-train -m s.gguf -d few.jsonl -o p1.gguf -n 1 --validate 100 && has err "more than 10" && [ ! -e p1.gguf.ckpt ] &&
    sed "s/\"text\"/\"title\"/" d.jsonl > untold.jsonl && expect_code 3 mm-train -m s.gguf -d untold.jsonl -o p1.gguf -n 1 && has err "caption in English" && has err "15 of 15 records"'
finish
