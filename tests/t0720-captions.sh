#!/bin/sh
# mm-generate --caption with a tiny random unified model: what is shown matters, the company does not; what a decoder can, this one can; bad
# input costs one record.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
mk_models heads say.gguf > /dev/null || exit 1
MM_MODEL=$PWD/say.gguf
export MM_MODEL
for n in 1 2 3; do { printf 'P6\n%d 10\n255\n' $((n * 10)) && seq $((n * 1000)) 100000 | head -c $((n * 300)); } > p$n.ppm; done
{ printf 'RIFF\244\076\0\0WAVEfmt \020\0\0\0\001\0\001\0\200\076\0\0\0\175\0\0\002\0\020\0data\200\076\0\0'; seq 1 100000 | head -c 16000; } > s.wav
printf 'p1.ppm\ns.wav\np2.ppm\np3.ppm\n' > list
printf '%s\n' '{"id":"a","text":"what it is called","image":"p1.ppm","n":1.50}' '{"id":"b","audio":"s.wav"}' '{"id":"c","text":"a red kite"}' '{"id":"d","image":{"path":"p3.ppm"}}' > recs

test_ok 'paths are looked at, whatever they are of' 'mm-generate --caption --max-tokens 12 list > out && test_json out "map(.modality) == [\"image\",\"audio\",\"image\",\"image\"] and map(.path) == [\"p1.ppm\",\"s.wav\",\"p2.ppm\",\"p3.ppm\"] and
    all(.[]; (.generated | type) == \"string\" and (.model | test(\"^default@\")) and .tokens.generated <= 12) and (map(.generated) | unique | length) >= 3 and .[1].tokens.prompt > .[0].tokens.prompt" &&
    tr "\n" "\0" < list | mm-generate -0 --caption --max-tokens 12 > out0 && test_cmp out out0'
test_ok 'records: a medium before the text, the text where there is no medium' 'mm-generate --caption --max-tokens 12 recs > out && test_json out "map(.modality) == [\"image\",\"audio\",\"text\",\"image\"] and .[0].n == 1.5" && grep -q "\"n\":1.50," out &&
    jq -c .generated out > a && mm-generate --caption --max-tokens 12 list | jq -c .generated > b && [ "$(sed -n 1p a)" = "$(sed -n 1p b)" ] && [ "$(sed -n 2p a)" = "$(sed -n 2p b)" ] && [ "$(sed -n 4p a)" = "$(sed -n 4p b)" ] &&
    echo "a red kite" | mm-generate -t --caption --max-tokens 12 | jq -c .generated > c && [ "$(cat c)" = "$(sed -n 3p a)" ]'
test_ok 'the same alone and in any company, with one thread and two' 'for i in 1 2 3 4 5; do cat recs; done > many; mm-generate -j1 --batch 1 --caption --max-tokens 20 many > a && mm-generate -j2 --caption --max-tokens 20 many > b && test_cmp a b && mm-generate --batch 32 --caption --max-tokens 20 many > c && test_cmp a c &&
    mm-generate --caption --max-tokens 20 recs > d && for i in 1 2 3 4 5; do cat d; done > e && test_cmp a e'
test_ok 'draws have seeds; several captions are several records' 'mm-generate --caption --temperature 1 --seed 5 --batch 1 --max-tokens 20 many > a && mm-generate --caption --temperature 1 --seed 5 --batch 16 --max-tokens 20 many > b && test_cmp a b && mm-generate --caption --temperature 1 --seed 6 --max-tokens 20 many > c && must_fail cmp -s a c &&
    sed -n 7p a | jq -c "{text,image,audio,seed} | with_entries(select(.value))" | mm-generate --caption --temperature 1 --max-tokens 20 | jq -c .generated > d && sed -n 7p a | jq -c .generated > e && test_cmp d e &&
    head -1 recs | mm-generate --caption -n 3 --temperature 2 --max-tokens 9 > out && test_json out "map(.id) == [\"a#1\",\"a#2\",\"a#3\"] and (map(.generated) | unique | length) == 3"'
test_ok 'the beginning of the caption can be given' 'head -1 recs | mm-generate --caption --max-tokens 9 > a && head -1 recs | mm-generate --caption -p "a photo of" --max-tokens 9 > b && [ "$(jq .tokens.prompt b)" -eq $(($(jq .tokens.prompt a) + 10)) ] && [ "$(jq -c .generated a)" != "$(jq -c .generated b)" ]'
test_ok 'no token of the model itself comes out, but the end of a text' 'mm-generate --caption -n 8 --temperature 30 --max-tokens 200 --logprobs 1 many > out && test_json out "all(.[]; all(.logprobs[]; .id > 7)) and any(.[]; .finish == \"stop\") and any(.[]; .logprobs | length > 20)"'
test_ok 'a schema, stop texts, log-probabilities, the sequel of a run' 'mm-generate --caption --schema "{\"enum\":[\"yes\",\"no\"]}" recs > out && test_json out "all(.[]; .value == \"yes\" or .value == \"no\")" && mm-generate --caption --max-tokens 9 --logprobs 3 recs > out && test_json out "all(.[]; (.logprobs | length) == .tokens.generated)" &&
    mm-generate --caption --temperature 1 --max-tokens 9 many > whole && head -7 whole > part && sed -n 8p whole | head -c 30 >> part && mm-generate --caption --temperature 1 --max-tokens 9 --resume part many && test_cmp whole part'
test_ok 'bytes in the record, frames out' 'printf "{\"image\":{\"b64\":\"%s\"}}" "$(base64 -w0 < p1.ppm)" | mm-generate --caption --max-tokens 12 | jq -c .generated > a && head -1 recs | mm-generate --caption --max-tokens 12 | jq -c .generated > b && test_cmp a b && mm-generate --caption --max-tokens 5 recs > c && mm-generate -b --caption --max-tokens 5 recs | mm-cat > d && test_cmp c d'
test_ok 'bad input costs one record' 'printf nonsense > bad.png; long=$(head -c 2000 /dev/zero | tr "\0" x); printf "%s\n" "{\"image\":\"bad.png\"}" "{\"image\":\"gone.png\"}" "{\"image\":5}" "{\"n\":1}" "{\"text\":\"\"}" "{\"text\":\"$long\"}" "{\"text\":7}" "{\"audio\":\"p1.ppm\"}" "{\"image\":\"p1.ppm\"}" > x; expect_code 1 mm-generate -q --caption --max-tokens 3 x > out &&
    test_json out "map(.error.code // \"ok\") == [\"MM_EDATA\",\"MM_EIO\",\"MM_EDATA\",\"MM_EDATA\",\"MM_EEMPTY\",\"MM_ELONG\",\"MM_EDATA\",\"MM_EUNSUP\",\"ok\"]" && expect_code 3 mm-generate -q --strict --caption x > log'
test_ok 'a token that stands for what is seen is no word of a prompt' 'expect_code 1 mm-generate -q --caption -p "x <|unused|>" --max-tokens 3 recs > out && test_json out "all(.[]; .error.code == \"MM_EDATA\")"'
test_ok 'nothing comes of nothing' 'mm-generate --caption < /dev/null > out && test_lines out 0 && mm-generate --caption -p "a photo of" < /dev/null > out && test_lines out 0'
test_ok 'models that cannot' 'mk_models uni bare.gguf > log; expect_code 3 mm-generate -m ./bare.gguf --caption recs 2> err; grep -q "no next-token head" err; mk_models tinylm tiny > log; expect_code 3 mm-generate -m ./tiny --caption recs 2> err; grep -q "family uni" err'
test_ok 'options that exclude each other' 'for o in "--template x" "--raw" "--system x" "--chat"; do expect_code 2 mm-generate --caption $o recs 2> err || exit 1; done; expect_code 3 mm-generate --caption --kv q8_0 recs 2> err || expect_code 2 mm-generate --caption --kv q8_0 recs 2> err; grep -q "q8_0" err'
finish
