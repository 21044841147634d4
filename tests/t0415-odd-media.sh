#!/bin/sh
# Pictures, sound and video as other programs write them: kinds that are not supported are named, sizes that were not known yet are not
# believed, what an edit list leaves out is not missing; media from every kind of pipe.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
mk_media png up.png w=48 h=32 && mk_media wav t.wav ms=500 || exit 1

cat > fn <<'FN'
# tiff FILE PHOTOMETRIC SAMPLES BITS DATA [TAG SHORT]: two pixels beside each other, little-endian; DATA in printf's octal
le() { printf "\\$(printf %03o $(($1 & 255)))\\$(printf %03o $(($1 >> 8)))"; }
tag() { le "$1" && printf '\3\0\1\0\0\0' && le "$2" && printf '\0\0'; }
tiff() {
    n=$((8 + ($# > 5))) at=$((10 + 12 * (8 + ($# > 5)) + 4))
    { printf 'II*\0\10\0\0\0' && le $n && tag 256 2 && tag 257 1; } > "$1"
    # bits of each sample are the values behind the directory, four of them
    { le 258 && printf '\3\0\4\0\0\0' && le $at && printf '\0\0' && tag 259 1 && tag 262 "$2"; } >> "$1"
    { le 273 && printf '\4\0\1\0\0\0' && le $((at + 8)) && printf '\0\0' && tag 277 "$3" && le 279 && printf '\4\0\1\0\0\0' && le $(($3 * $4 / 4)); } >> "$1"
    { printf '\0\0' && { [ $# -lt 7 ] || tag "$6" "$7"; } && printf '\0\0\0\0' && le "$4" && le "$4" && le "$4" && le "$4" && printf "$5"; } >> "$1"
}
# put FILE OFFSET BYTES: over what is there
put() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc 2> log; }
place() { grep -abo "$2" "$1" | head -1 | cut -d: -f1; }
FN

test_ok 'inks of 16 bits are inks, and colours that were multiplied by alpha are as they were' '. ./fn; tiff ink.tif 5 4 16 "\0\0\377\377\0\0\0\0\377\377\377\377\377\377\0\0"; pixels rgb ink.tif > px 2> err; [ "$(od -An -tu1 px | tr -s " " | tr -d "\n")" = " 255 0 255 0 0 0" ] || { od -An -tu1 px; false; }
    tiff alpha.tif 2 4 8 "\144\62\0\200\1\2\3\377" 338 1; pixels rgb alpha.tif > px 2> err; [ "$(od -An -tu1 px | tr -s " " | tr -d "\n")" = " 199 99 0 1 2 3" ] || { od -An -tu1 px; false; }'
test_ok 'kinds of TIFF that cannot be read are named' '. ./fn; tiff deep.tif 1 1 32 "12345678"; tiff tiles.tif 2 3 8 "123456" 322 16; tiff half.tif 2 3 16 "123456123456" 339 3; printf "II+\0\10\0\0\0\20\0\0\0\0\0\0\0" > big.tif; head -c 40 ink.tif > cut.tif; put cut.tif 4 "\377\377"
    expect_code 1 mm-media --quality deep.tif tiles.tif half.tif big.tif cut.tif > out 2> err; test_json out "[.[].error.code] == [\"MM_EUNSUP\",\"MM_EUNSUP\",\"MM_EUNSUP\",\"MM_EDATA\",\"MM_ETRUNC\"]"
    test_json out "[.[].error.message | test(\"32 bits|tiles|floating|BigTIFF|ends early\")] | all"'
# a row of a filter that there is not would come out as whatever memory held
test_ok 'a PNG row of an unknown filter is damage' 'printf "\211PNG\r\n\032\n\000\000\000\015IHDR\000\000\000\001\000\000\000\003\010\000\000\000\000\167\266\072\136\000\000\000\021IDAT\170\001\001\006\000\371\377\000\001\011\002\000\003\000\070\000\020\060\232\331\003\0\0\0\0IEND\256B\140\202" > f.png; expect_code 1 mm-media --quality f.png > out 2> err; test_json out ".[0].error.code == \"MM_EDATA\" and (.[0].error.message | test(\"filter\"))"'

# whoever writes to a pipe does not know the length yet (whisper.cpp#65, llamafile#728)
test_ok 'lengths of WAV that are not known are not a cut' '. ./fn; for n in "\0\0\0\200" "\324\377\377\177" "\0\360\377\177" "\377\377\377\377" "\333\377\377\377" "\0\0\0\0"; do cp t.wav p.wav; put p.wav 40 "$n"; mm-media --quality p.wav > out; test_json out ".[0].seconds == 0.5 and (.[0] | has(\"truncated\") | not)"; done
    cp t.wav p.wav; put p.wav 40 "\0\0\0\20"; mm-media --quality p.wav > out; test_json out ".[0].seconds == 0.5 and .[0].truncated"'
test_ok 'nor those of RF64' '. ./fn; { printf "RF64\377\377\377\377WAVEds64\34\0\0\0"; head -c 28 /dev/zero; tail -c +13 t.wav; } > r.wav; put r.wav 76 "\377\377\377\377"; mm-media --quality r.wav > out; test_json out ".[0].format == \"rf64\" and .[0].seconds == 0.5 and (.[0] | has(\"truncated\") | not)"'
test_ok 'a video that an edit list shows a part of is whole' '. ./fn; mk_media mp4 e.mp4 w=64 h=48 frames=20; put e.mp4 $(($(place e.mp4 elst) + 12)) "\0\0\3\350"; put e.mp4 $(($(place e.mp4 mvhd) + 20)) "\0\0\3\350"; put e.mp4 $(($(place e.mp4 tkhd) + 24)) "\0\0\3\350"
    mm-media --quality e.mp4 > out; test_json out ".[0].seconds == 1 and .[0].frames == 5 and (.[0] | has(\"truncated\") | not)"'

for k in png jpeg bmp ppm tiff gif avif mp4 mkv ts wav; do mk_media $k "m.$k" w=48 h=32 frames=20 || exit 1; done
test_ok 'every kind of medium on standard input, and as an operand that is a pipe' '. ./fn; for k in png jpeg bmp ppm tiff gif avif mp4 mkv ts wav; do mm-media m.$k | jq -c "[.format,.modality,.width]" > a; mm-media < m.$k | jq -c "[.format,.modality,.width]" > b; test_cmp a b
        rm -f p; mkfifo p; cat m.$k > p & timeout 60 mm-media p > out; wait; jq -c "[.format,.modality,.width]" out > b; test_cmp a b; test_json out ".[0].path == \"p\""; done'
test_ok 'a pipe is embedded too, and its writer is not left alone' 'mk_models uni uni.gguf; mm-embed -m uni.gguf m.png | jq -c .embedding > a; rm -f p; mkfifo p; { cat m.png > p || echo $? > code; } & timeout 60 mm-embed -m uni.gguf p | jq -c .embedding > b; wait; test_cmp a b; [ ! -e code ]'
finish
