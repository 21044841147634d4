#!/bin/sh
# Records of several modalities: one vector with weights, parts that cannot be used, parts that must be there.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
mk_models uni uni.gguf && mk_models tower-imagebind bind > /dev/null && mk_models tinybert tiny > /dev/null || exit 1
MM_MODEL=$PWD/uni.gguf
export MM_MODEL
mk_media png a.png w=48 h=32 && mk_media wav a.wav ms=700 && mk_media wav silent.wav silent=1 && mk_media mp4 with.mp4 w=64 h=48 frames=6 audio=1 &&
    mk_media mp4 mute.mp4 w=64 h=48 frames=6 && mk_media mp4 hush.mp4 w=64 h=48 frames=6 audio=1 silent=1 && mk_media jpeg cut.jpg w=64 h=64 cut=600 || exit 1
{ printf 'P6\n8 8\n255\n' && head -c 192 /dev/zero; } > black.ppm
head -c 1600 mute.mp4 > cut.mp4
echo 'just words' > words.png
# the vectors of two files of records are equal, line by line, up to the rounding of one more normalisation
cat > same.jq <<'JQ'
($got | length) == ($want | length) and all(range($want | length); . as $i | $got[$i].embedding as $a | $want[$i].embedding as $b |
    ($a | length) == ($b | length) and all(range($a | length); ($a[.] - $b[.] | fabs) < 1e-6))
JQ
printf '%s\n' '{"id":"t","text":"a b"}' '{"id":"i","image":"a.png"}' '{"id":"s","audio":"a.wav"}' '{"id":"v","video":"mute.mp4"}' > single
printf '%s\n' '{"id":1,"text":"a b","image":"a.png"}' '{"id":2,"text":"a b","image":"a.png","audio":"a.wav","video":"mute.mp4"}' \
    '{"id":3,"audio":"a.wav","k":[1],"image":"a.png"}' '{"id":4,"video":"mute.mp4","text":"c"}' > several

test_ok 'what the model would see is embedded as what it was made of; another shape, another modality is not' '
    mm-embed single > want; mm-embed --emit inputs single > in; mm-embed --inputs in > out; jq -c .embedding want > a; jq -c .embedding out > b; test_cmp a b; test_json out "all(.[]; has(\"input\") | not)"
    jq -c "select(.input) | .input.shape[0] += 1" in > bad; jq -c "select(.input) | .modality = \"smell\"" in >> bad; jq -c "select(.input) | .input.b64 = .input.b64[4:]" in >> bad
    expect_code 1 mm-embed --inputs bad > out 2> err; test_json out "length == 9 and ([.[].error.code] == [\"MM_ESHAPE\",\"MM_ESHAPE\",\"MM_ESHAPE\",\"MM_EDATA\",\"MM_EDATA\",\"MM_EDATA\",\"MM_ESHAPE\",\"MM_ESHAPE\",\"MM_ESHAPE\"])"
    mm-embed in > out; test_json out ".[1:] | all(.[]; has(\"input\"))"; expect_code 2 mm-embed --inputs --emit inputs in 2> err'
test_ok 'when the frames of a clip are shown counts, and comes with them' '
    mm-embed single | tail -1 | jq -c .embedding > a; tail -1 in > clip; jq -c "del(.times)" clip > none; mm-embed --inputs none | jq -c .embedding > b; [ "$(cat a)" != "$(cat b)" ]
    jq -c ".times = [range(8) / 2]" clip | mm-embed --inputs | jq -c .embedding > c; test_cmp b c
    jq -c ".times[1] = \"x\"" clip > bad; jq -c ".times = [1,2]" clip >> bad; jq -c ".times = {}" clip >> bad; expect_code 1 mm-embed --inputs bad > out 2> err
    test_json out "[.[].error.code] == [\"MM_EDATA\",\"MM_ESHAPE\",\"MM_ESHAPE\"]"; grep -q "number 1: not seconds" err; grep -q "list of 8 numbers" err'
test_ok 'pictures of more pixels, clips of more frames' '
    mm-embed --size 64 --frames 6 --emit inputs single > in; test_json in "[.[1:][].input.shape] == [[3,64,64],[1,64,1000],[6,3,64,64]]"; mm-embed --size 64 --frames 6 --inputs in > a; mm-embed --size 64 --frames 6 single > b
    jq -c "[.model,.embedding]" a > c; jq -c "[.model,.embedding]" b > d; test_cmp c d; mm-embed single > own; test_json own "map(.model) | unique | length == 1"; [ "$(jq -r .model own | head -1)" != "$(jq -r .model b | head -1)" ]
    jq -c .embedding own > c; jq -c .embedding b > d; sed -n "1p;3p" c > e; sed -n "1p;3p" d > f; test_cmp e f; [ "$(sed -n 2p c)" != "$(sed -n 2p d)" ]
    expect_code 2 mm-embed --size 40 single 2> err; grep -q "16, 32" err; expect_code 2 mm-embed --frames 3 single 2> err; expect_code 3 mm-embed -m tiny --size 64 single 2> err; grep -q "one size" err'
test_ok 'several parts are one vector of length 1, with weights that sum to 1' 'mm-embed several > out; test_lines out 4; test_json out "map(.modality) == [\"text+image\",\"text+image+audio+video\",\"image+audio\",\"text+video\"] and
    all(.[]; (.gates | [.[]] | all(. > 0) and (add - 1 | fabs) < 1e-6) and ((.modality | split(\"+\")) == (.gates | keys_unsorted)) and (.embedding | map(. * .) | add - 1 | fabs) < 1e-5 and (has(\"dropped\") | not))"
    test_json out ".[2] | keys_unsorted == [\"id\",\"audio\",\"k\",\"image\",\"model\",\"modality\",\"gates\",\"media\",\"embedding\"] and .media.audio.seconds == 0.7"; test_json out ".[1].tokens > 0"'
test_ok 'which is none of the vectors of its parts' 'mm-embed several single > out; test_json out "map(.embedding | map(. * 1000 | round)) | unique | length == 8"'
test_ok 'the same bits alone, in a batch, with one thread and two' 'for i in $(seq 25); do sed "s/\"id\":/\"n\":$i,&/" several; echo "{\"text\":\"$i\"}"; done > many; mm-embed -j1 many > a; mm-embed -j2 many > b; test_cmp a b; mm-embed --window 1 many > c; test_cmp a c; mm-embed -j2 --window 7 many > d; test_cmp a d'
test_ok '--modality embeds one alone' 'mm-embed single | jq -c .embedding > want; for m in text image audio video; do sed -n 2p several | mm-embed --modality $m; done > out; test_json out "map(.modality) == [\"text\",\"image\",\"audio\",\"video\"] and all(.[]; has(\"gates\") | not)"; jq -c .embedding out > got; test_cmp want got'
test_ok 'null is no part, one part is embedded as ever' 'printf "%s\n" "{\"id\":\"t\",\"text\":\"a b\",\"image\":null}" "{\"id\":\"i\",\"text\":null,\"image\":\"a.png\"}" > x; mm-embed x > out; test_json out "all(.[]; has(\"gates\") | not)"; jq -c "[.modality,.embedding]" out > got; head -2 single | mm-embed | jq -c "[.modality,.embedding]" > want; test_cmp want got'

printf '%s\n' '{"id":1,"text":"a b","image":"cut.jpg"}' '{"id":2,"text":"a b","image":"nowhere.png"}' '{"id":3,"text":"a b","image":"words.png"}' '{"id":4,"text":"a b","image":"black.ppm"}' \
    '{"id":5,"text":"a b","audio":"silent.wav"}' '{"id":6,"text":"a b","video":"cut.mp4"}' '{"id":7,"text":"a b","image":7}' '{"id":8,"text":"a b","audio":{"b64":"!"}}' '{"id":9,"text":"a b","audio":"a.png"}' > broken
test_ok 'a broken part is left out with its reason, the rest is embedded as if it had been alone' 'mm-embed broken > out; test_lines out 9; test_json out "all(.[]; .modality == \"text\" and .gates == {\"text\":1} and (.dropped | length) == 1) and map(.dropped[0].modality) == [\"image\",\"image\",\"image\",\"image\",\"audio\",\"video\",\"image\",\"audio\",\"audio\"]"
    test_json out "[.[].dropped[0].reason] | (.[1] | test(\"nowhere.png\")) and (.[2] | test(\"text\")) and .[3] == \"black all over\" and .[4] == \"silence\" and (.[7] | test(\"base64\"))"; for i in 1 2 3 4 5 6 7 8 9; do head -1 single; done | mm-embed > want; jq -n -e --slurpfile got out --slurpfile want want -f same.jq > log'
test_ok 'so is a text without tokens, or one that is no text' 'printf "%s\n" "{\"text\":\"\",\"image\":\"a.png\"}" "{\"text\":[],\"image\":\"a.png\"}" > x; mm-embed x > out; test_json out "all(.[]; .gates == {\"image\":1} and .dropped[0].modality == \"text\" and (has(\"tokens\") | not))"; sed -n "2p;2p" single | mm-embed > want; jq -n -e --slurpfile got out --slurpfile want want -f same.jq > log'
test_ok 'what is left of three has weights of its own' 'echo "{\"text\":\"a b\",\"image\":\"a.png\",\"audio\":\"silent.wav\"}" | mm-embed > out; test_json out ".[0].modality == \"text+image\" and .[0].dropped == [{\"modality\":\"audio\",\"reason\":\"silence\"}]"; head -1 several | mm-embed | jq -c "[.gates,.embedding]" > want; jq -c "[.gates,.embedding]" out > got; test_cmp want got'
test_ok 'nothing left: the record fails, the others do not' 'printf "%s\n" "{\"id\":1,\"text\":\"\",\"image\":\"nowhere.png\"}" "{\"id\":2,\"text\":\"a\",\"image\":\"a.png\"}" "{\"id\":3,\"image\":\"black.ppm\",\"audio\":\"silent.wav\"}" > x; expect_code 1 mm-embed x > out 2> err; test_json out "[.[] | has(\"embedding\")] == [false,true,false] and .[2].error.code == \"MM_EEMPTY\" and (.[2].error.message | test(\"image: black all over; audio: silence\"))"; test_lines err 2'
test_ok '--require: what is missing or broken fails the record' 'expect_code 1 mm-embed -q --require image broken > out; test_json out "all(.[]; .error.message | test(\"image is required\")) and .[0].error.code == \"MM_ETRUNC\" and .[1].error.code == \"MM_EIO\" and .[3].error.code == \"MM_EEMPTY\" and .[4].error.code == \"MM_EDATA\""
    expect_code 1 mm-embed -q --require text --require audio several > out; test_json out "map(has(\"embedding\")) == [false,true,false,false]"; expect_code 1 mm-embed -q --require text,image several > out; test_json out "map(has(\"embedding\")) == [true,true,false,false]"; mm-embed --require text,image several 2> err | jq -c "select(.embedding).embedding" > got; mm-embed several | head -2 | jq -c .embedding > want; test_cmp want got'
test_ok '--require counts for records of one part and for files' 'expect_code 1 mm-embed -q --require image single > out; test_json out "map(has(\"embedding\")) == [false,true,false,false] and (.[1] | has(\"gates\") | not)"; printf "a.png\na.wav\nblack.ppm\n" > list; expect_code 1 mm-embed -q --require image list > out; test_json out "map(has(\"embedding\")) == [true,false,false] and (.[1].error.message | test(\"there is none\"))"; expect_code 2 mm-embed --require smell single 2> err; grep -q "text|image|audio|video" err; expect_code 2 mm-embed --require text, single'

test_ok '--sound-track: the sound of a video is a part, where there is one' 'printf "%s\n" with.mp4 mute.mp4 hush.mp4 a.png a.wav > list; mm-embed --sound-track list > out; test_json out "map(.modality) == [\"audio+video\",\"video\",\"video\",\"image\",\"audio\"]"; test_json out ".[0].gates | has(\"audio\") and has(\"video\")"
    test_json out "(.[1] | has(\"dropped\") | not) and .[2].dropped == [{\"modality\":\"audio\",\"reason\":\"silence\"}] and .[1].frames == 6 and .[4].seconds == 0.7"; mm-embed list | tail -n +2 > want; tail -n +2 out > got; jq -n -e --slurpfile got got --slurpfile want want -f same.jq > log'
test_ok 'the same sound as a key, which goes before the track' 'printf "%s\n" "{\"video\":\"with.mp4\",\"audio\":\"with.mp4\"}" "{\"video\":\"with.mp4\"}" "{\"video\":\"with.mp4\",\"audio\":\"a.wav\"}" > x; mm-embed --sound-track x | jq -c .embedding > out; sed -n 1p out > a; sed -n 2p out > b; sed -n 3p out > c; test_cmp a b; must_fail cmp -s a c; expect_code 1 mm-embed -q --sound-track --require audio mute.mp4 > out; test_json out ".[0].error.message | test(\"audio is required\")"'
test_ok 'a long text beside a picture is cut and says so, or fails' 'printf "{\"text\":\"%s\",\"image\":\"a.png\"}\n" "$(seq -s " " 400)" > long; for how in cut split; do mm-embed --overflow $how long > out; test_lines out 1; test_json out ".[0].truncated == true and .[0].gates.image > 0"; done; expect_code 1 mm-embed -q --overflow error long > out; test_json out ".[0].error.code == \"MM_ELONG\""'
test_ok '--quality is told of each part' 'head -1 several | mm-embed --quality > out; test_json out ".[0].media.image.quality.blur >= 0 and .[0].quality.characters == 3"'

# models without weights
cat > mean.jq <<'JQ'
def unit: (map(. * .) | add | sqrt) as $n | map(. / $n);
[$s[] | .embedding] as [$t, $i, $a] | .[0].embedding as $got | ([range($t | length) | $t[.] + $i[.] + $a[.]] | unit) as $want | all(range($want | length); ($got[.] - $want[.] | fabs) < 1e-5)
JQ
test_ok '--fuse mean: the mean of the parts, of any model; equal weights' 'head -3 single > three; for m in uni.gguf bind; do mm-embed -m $m three > s; echo "{\"text\":\"a b\",\"image\":\"a.png\",\"audio\":\"a.wav\"}" | mm-embed -m $m --fuse mean > out; test_json out ".[0].gates | .text == .image and .image == .audio and (.text - 1 / 3 | fabs) < 1e-6"; jq -s -e --slurpfile s s -f mean.jq out > log; done'
test_ok 'which leaves out what is broken too' 'echo "{\"text\":\"a b\",\"image\":\"nowhere.png\"}" | mm-embed -m bind --fuse mean > out; test_json out ".[0].gates == {\"text\":1} and .[0].dropped[0].modality == \"image\""; head -1 single | mm-embed -m bind | jq -c .embedding > want; jq -c .embedding out > got; test_cmp want got'
test_ok '--fuse no, and models that do not weigh: the first, as it says' 'mm-embed --fuse no several > out; test_json out "map(.modality) == [\"image\",\"video\",\"image\",\"video\"]"; head -1 several | mm-embed -m bind > out; test_json out ".[0].modality == \"image\" and (.[0] | has(\"gates\") | not)"; head -1 several | mm-embed -m tiny > out; test_json out ".[0].tokens > 0"'
test_ok 'what a model cannot do is refused by name' 'expect_code 3 mm-embed -m bind --fuse gates several 2> err; grep -q "bind.*--fuse mean" err; expect_code 2 mm-embed -m bind --require text several 2> err; grep -q "fuse mean" err; expect_code 2 mm-embed -m tiny --sound-track several 2> err; expect_code 2 mm-embed --modality text --require text several 2> err; expect_code 2 mm-embed --modality text --fuse mean several'
test_ok 'fused records are found by either part' 'mm-embed several | mm-retrieve --add all.idx > log 2>&1; head -2 single | mm-embed | mm-retrieve -k 4 all.idx > out; test_json out "length == 2 and all(.[]; .hits | length == 4 and all(.[]; .gates))"'
finish
