#!/bin/sh
# mm-embed and mm-media on pictures, sound and video made here: what is taken for what, what bad files cost, what goes into the model.
# The kinds of public bug reports that the comments name.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
mk_models tower-clip-vit-b32 clip > /dev/null || exit 1
mk_models tower-imagebind all > /dev/null || exit 1
MM_MODEL=$PWD/clip
export MM_MODEL
mk_media png up.png w=48 h=32 || exit 1
# cosine of the vectors of two lines: 1 - it below a bound
cat > far.jq <<'JQ'
def dot(a; b): [range(a | length) as $i | a[$i] * b[$i]] | add;
.[0].embedding as $a | all(.[]; 1 - dot($a; .embedding) < $most)
JQ

# pictures that lie on their side (llama.cpp#20870, photoprism#1475, imaginary#284)
test_ok 'EXIF orientation is applied, in both byte orders; broken EXIF and other values are not' 'for o in 0 1 2 3 4 9; do mk_media jpeg o$o.jpg w=48 h=32 orientation=$o big=$((o % 2)); done; for o in 5 6 7 8; do mk_media jpeg o$o.jpg w=32 h=48 orientation=$o big=$((o % 2)); done
    mk_media jpeg ifd1.jpg w=32 h=48 orientation=6 exif=1; mk_media jpeg broken.jpg w=48 h=32 orientation=6 exif=2; mk_media png o6.png w=32 h=48 orientation=6
    mm-media o?.jpg ifd1.jpg o6.png > out; test_json out "length == 12 and all(.[]; .width == 48 and .height == 32)"; mm-embed up.png o?.jpg ifd1.jpg o6.png > out; test_lines out 13; jq -s -e --argjson most 0.002 -f far.jq out'
test_ok '--no-rotate leaves them' 'mm-embed o6.jpg > a; mm-embed --no-rotate o6.jpg > b; cat a b > ab; must_fail jq -s -e --argjson most 0.001 -f far.jq ab'

# one bad file and the whole run is lost, or names and vectors shift (clip-retrieval#257, rclip#282, infinity#609)
test_ok 'a bad file costs one record, in its place' 'mk_media png bad.png w=8 h=8; printf "\377" | dd of=bad.png bs=1 seek=50 conv=notrunc 2> log; mk_media jpeg cut.jpg w=64 h=64 cut=600; : > zero.jpg; echo "just words" > words.png; cp o1.jpg jpeg.png; mkdir -p folder.png
    printf "%s\n" up.png cut.jpg zero.jpg words.png jpeg.png bad.png up.png folder.png missing.png > list; expect_code 1 mm-embed list > out 2> err; test_lines out 9
    test_json out "[.[].id] == [\"up.png\",\"cut.jpg\",\"zero.jpg\",\"words.png\",\"jpeg.png\",\"bad.png\",\"up.png\",\"folder.png\",\"missing.png\"] and [.[] | has(\"embedding\")] == [true,false,false,false,true,false,true,false,false]"
    test_json out "[.[].error.code] == [null,\"MM_ETRUNC\",\"MM_EEMPTY\",\"MM_EDATA\",null,\"MM_EDATA\",null,\"MM_EIO\",\"MM_EIO\"] and (.[3].error.message | test(\"words.png.*text\")) and (.[5].error.message | test(\"CRC\"))"; [ "$(wc -l < err)" -eq 6 ]'
test_ok '--strict stops there' 'expect_code 3 mm-embed --strict list > out 2> err; test_lines out 1; expect_code 3 mm-embed --strict --errors-to bad list > out 2> err; test_json bad ".[0].id == \"cut.jpg\" and length == 1"'
test_ok 'and --errors-to keeps them apart' 'expect_code 1 mm-embed -q --errors-to bad.jsonl list > out 2> err; test_lines out 3; test_lines bad.jsonl 6; test_json bad.jsonl "all(.[]; .error.code and .id)"'

# sizes and depths (transformers#21638, llama.cpp#17290, Pillow#2574, CLIP#422)
test_ok 'pictures of one pixel, thin, gray, of 8 and 16 bits, with alpha' 'mk_media png p1.png w=1 h=1; mk_media png thin.png w=512 h=3; mk_media png tall.png w=3 h=512; for d in 8 16; do mk_media png g$d.png w=48 h=32 color=0 depth=$d; done; mk_media png rgb16.png w=48 h=32 depth=16; mk_media png la.png w=48 h=32 color=4; mk_media png rgba.png w=48 h=32 color=6
    mm-embed p1.png thin.png tall.png g*.png rgb16.png la.png rgba.png > out; test_lines out 8; must_fail grep -qi nan out'
test_ok 'sixteen bits are scaled, not cut' 'mm-embed up.png rgb16.png > out; jq -s -e --argjson most 0.001 -f far.jq out'
test_ok 'transparency by rule' 'for a in drop white black; do mm-embed --alpha $a rgba.png > $a; done; must_fail cmp -s drop white; must_fail cmp -s white black'
test_ok 'a picture that claims to be huge is refused before memory is taken' 'printf "\211PNG\r\n\032\n\0\0\0\rIHDR\0\0\375\350\0\0\375\350\010\002\0\0\0\055\065\116\135\0\0\0\0IDAT\065\257\006\036\0\0\0\0IEND\256B\140\202" > bomb.png; expect_code 1 mm-embed bomb.png > out 2> err; test_json out ".[0].error.code == \"MM_ELONG\" and (.[0].error.message | test(\"65000\"))"; expect_code 1 mm-embed --max-pixels 1000 up.png > out 2> err; grep -q 1000 out'

test_ok 'a picture on standard input, in a key, in base64' 'mm-embed up.png | jq -c .embedding > a; mm-embed < up.png > out; test_json out ".[0].id == \"-\" and .[0].modality == \"image\" and (.[0] | has(\"b64\") | not)"; jq -c .embedding out > b; test_cmp a b
    echo "{\"id\":1,\"image\":\"up.png\",\"k\":2}" | mm-embed > out; test_json out ".[0] | keys_unsorted == [\"id\",\"image\",\"k\",\"model\",\"modality\",\"embedding\"]"; jq -c .embedding out > b; test_cmp a b; printf "{\"image\":{\"b64\":\"%s\",\"mime\":\"image/png\"}}\n" "$(base64 -w0 < up.png)" | mm-embed | jq -c .embedding > b; test_cmp a b'
test_ok 'keys that are no media are errors' 'printf "%s\n" "{\"image\":7}" "{\"image\":{\"b64\":\"!\"}}" "{\"image\":\"\"}" "{\"n\":1}" "{\"audio\":\"up.png\"}" > x; expect_code 1 mm-embed x > out 2> err; test_json out "[.[].error.code] == [\"MM_EDATA\",\"MM_EDATA\",\"MM_EDATA\",\"MM_EDATA\",\"MM_EDATA\"] or [.[].error.code] == [\"MM_EDATA\",\"MM_EDATA\",\"MM_EDATA\",\"MM_EDATA\",\"MM_EUNSUP\"]"'
test_ok 'a record with text and picture: the picture, or what --modality says' 'echo "{\"text\":\"a b\",\"image\":\"up.png\"}" > both; mm-embed both > a; mm-embed --modality text both > b; test_json a ".[0].modality == \"image\""; test_json b ".[0].modality == \"text\" and .[0].tokens > 0"; expect_code 3 mm-embed --modality audio both 2> err; grep -q "takes no audio" err'
test_ok 'the same bits alone or in a batch, with any threads' 'mm-embed -j1 o?.jpg up.png > a; mm-embed -j2 --window 3 o?.jpg up.png > b; test_cmp a b; mm-embed o4.jpg | jq -c .embedding > c; sed -n 5p a | jq -c .embedding > d; test_cmp c d'
test_ok 'what the model would see' 'mm-embed --emit inputs up.png > out; test_json out ".[0] | .input.shape == [3,32,32] and .input.dtype == \"F32\" and (.input.b64 | length) == 16384 and (has(\"embedding\") | not)"; echo "a b" | mm-embed -t --emit inputs > out; test_json out ".[0].ids == [3,5] and .[0].tokens == 2"; expect_code 2 mm-embed --emit inputs --labels x up.png 2> err'
test_ok 'a model made a GGUF gives the same' 'mm-quantize -q -t f32 -o clip.gguf clip > log; mm-embed up.png | jq -c "[.model,.embedding]" > a; mm-embed -m clip.gguf up.png | jq -c "[.model,.embedding]" > b; test_cmp a b'

# video (decord#24, opencv#15499, PosePipeline#59)
test_ok 'a rotated video is turned' 'for r in 0 90 180 270; do mk_media mp4 r$r.mp4 w=96 h=64 frames=5 rotate=$r; done; mm-media r*.mp4 > out; test_json out "all(.[]; .width == 96 and .height == 64)"; mm-embed r0.mp4 r90.mp4 r180.mp4 r270.mp4 > out; test_json out "all(.[]; .frames == 5 and .modality == \"video\")"; jq -s -e --argjson most 0.005 -f far.jq out'
test_ok 'sound in a video, none, silence' 'mk_media mp4 with.mp4 w=64 h=48 frames=5 audio=1; mk_media mp4 silent.mp4 w=64 h=48 frames=5 audio=1 silent=1; mk_media mp4 mute.mp4 w=64 h=48 frames=5; mm-embed with.mp4 silent.mp4 mute.mp4 > out; test_lines out 3; test_json out "[.[].has_audio] == [true,true,false] and .[1].has_speech == false and (.[2] | has(\"has_speech\") | not) and all(.[]; .has_video)"'
test_ok 'a cut video is used as far as it goes, and says so; one without its index is an error' 'mk_media ts cut.ts w=64 h=48 frames=30 cut=3000; expect_code 0 mm-embed cut.ts > out 2> err; test_json out ".[0].frames > 5 and .[0].frames < 30"; mk_media mp4 cut.mp4 w=64 h=48 frames=30 cut=2000; expect_code 1 mm-embed cut.mp4 up.png > out 2> err; test_json out "(.[0] | has(\"embedding\") | not) and (.[1] | has(\"embedding\"))"'
test_ok 'frames by number and their times' 'mm-embed --frames 3 --emit inputs r0.mp4 > out; test_json out ".[0].input.shape == [3,1,3,32,32] and (.[0].times | length) == 3"'
test_ok 'an animated picture is a video, its first frame where only pictures are wanted' 'mk_media gif a.gif w=48 h=32 frames=4; mm-embed a.gif > a; mm-embed --modality image a.gif > b; test_json a ".[0].modality == \"video\" and .[0].frames == 4"; test_json b ".[0].modality == \"image\""'

# sound (whisper.cpp#847, #1603, #2065, mteb#4872)
test_ok 'sound of every rate, depth and channel count' 'n=0; for r in 8000 11025 16000 22050 44100 48000 96000; do for c in 1 2; do mk_media wav s$n.wav rate=$r channels=$c bits=16 ms=500; n=$((n + 1)); done; done; mm-embed -m all s*.wav > out; test_lines out 14; test_json out "all(.[]; .modality == \"audio\" and (.seconds - 0.5 | fabs) < 0.01)"; jq -s -e --argjson most 0.02 -f far.jq out'
test_ok 'very short, silent, cut; also from a pipe' 'for ms in 1 10 25; do mk_media wav t$ms.wav ms=$ms; done; mk_media wav quiet.wav ms=1000 silent=1; mk_media wav c.wav ms=1000 cut=9000; mm-embed -m all t1.wav t10.wav t25.wav quiet.wav c.wav > out 2> err; test_lines out 5; test_json out ".[3].has_speech == false and .[4].truncated == true and all(.[]; has(\"embedding\"))"; must_fail grep -qi nan out; cat s4.wav | mm-embed -m all > out; test_json out ".[0].id == \"-\" and .[0].modality == \"audio\""'
test_ok 'a model for pictures takes no sound' 'expect_code 1 mm-embed s0.wav > out 2> err; test_json out ".[0].error.code == \"MM_EUNSUP\""'
test_ok 'sound of a video by --modality; too long sound is an error or cut' 'mm-embed -m all --modality audio with.mp4 > out; test_json out ".[0].modality == \"audio\""; expect_code 1 mm-embed -m all --max-seconds 0.2 s4.wav > out 2> err; test_json out ".[0].error.code == \"MM_ELONG\""; mm-embed -m all --max-seconds 0.2 --cut s4.wav > out 2> err; test_json out ".[0].truncated == true"'
test_ok 'quality on request' 'mm-embed --quality up.png > out; test_json out ".[0].quality | .blur >= 0 and .entropy > 0"; mm-embed -m all --quality s4.wav > out; test_json out ".[0].quality | .level < 0 and .clipping == 0"; echo "word word word word word" | mm-embed -t --quality > out; test_json out ".[0].quality | .valid and .characters == 24 and .repetition > 0.3"; mm-media --quality with.mp4 > out; test_json out ".[0].quality | has(\"duplicates\") and has(\"level\")"'

# a decoder that dies or hangs takes one input with it, not the batch. The first operand is looked at twice: while the model is loaded, too.
cat > crash <<'SH'
#!/bin/sh
[ -e once ] || { : > once; kill -SEGV $$; }
[ -e twice ] || { : > twice; kill -SEGV $$; }
exec mm-media "$@"
SH
sed 's/kill -SEGV.*/exec sleep 60; }/' crash > hang
chmod +x crash hang
test_ok 'a crash costs one record' 'rm -f once twice; expect_code 1 env MM_MEDIA=./crash mm-embed --workers 1 up.png o1.jpg o2.jpg > out 2> err; test_json out "[.[] | has(\"embedding\")] == [false,true,true] and (.[0].error.message | test(\"crashed\"))"'
test_ok 'a hang too, after --timeout' 'rm -f once twice; expect_code 1 env MM_MEDIA=./hang mm-embed --workers 1 --timeout 1.5 up.png o1.jpg > out 2> err; test_json out "[.[] | has(\"embedding\")] == [false,true] and (.[0].error.message | test(\"more than\"))"'
test_ok 'no decoder at all is said at once' 'expect_code 4 env MM_MEDIA=./nowhere mm-embed up.png 2> err; grep -q MM_MEDIA err'
test_ok 'a killed mm-embed leaves no decoders behind' 'rm -f log; mkfifo fifo; mm-embed < fifo > log & pid=$!; exec 9> fifo; echo up.png >&9
    wait_for "[ -s log ]"; kids=$(cat /proc/[0-9]*/stat 2> err | awk -v p=$pid "\$4 == p { print \$1 }"); [ -n "$kids" ]; kill -9 $pid; exec 9>&-
    for i in $(seq 600); do left=; for k in $kids; do [ ! -e /proc/$k/exe ] || ! readlink /proc/$k/exe > exe || left=$k; done; [ -n "$left" ] || break; sleep 0.1; done; [ -z "$left" ]'
test_ok 'usage' 'expect_code 2 mm-embed --template x up.png 2> err; expect_code 2 mm-embed --append a -o b up.png 2> err; expect_code 2 mm-embed --alpha pink up.png 2> err; expect_code 2 mm-embed --frames 0 up.png 2> err; expect_code 2 mm-media --nonsense 2> err; expect_code 1 mm-media words.png > out 2> err; expect_code 4 mm-embed up.png > /dev/full 2> err'
finish
