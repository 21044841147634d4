#!/bin/sh
# mm-train: usage errors, pictures of metrics. The loop itself: t0610.
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
    usage "--config" -d m.jsonl -o x.gguf --plan x && usage "--validate" -d m.jsonl -o x.gguf --patience 3 &&
    usage "--metrics" -d m.jsonl -o x.gguf --plot x.png && usage "--metrics" --plot x.png'
test_ok 'words of lists are named' '
    usage "nce" -d m.jsonl -o x.gguf --loss nce && usage "smell" -d m.jsonl -o x.gguf --batch smell=3 &&
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
finish
