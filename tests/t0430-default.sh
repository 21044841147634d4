#!/bin/sh
# The built-in model: filters linked here with a small stand-in, so that nothing depends on what the build has; what a build without says.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
mk_models uni stand-in.gguf && mk_models tinybert tiny > /dev/null && mk_models tinybert default > /dev/null || exit 1
mm-quantize -q -t f32 -o tiny.gguf tiny > /dev/null || exit 1
libs=$(env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s --no-print-directory -C "$MM_ROOT" print-libs)
cc=${MM_CC:-cc}
# filter NAME WHERE [GGUF]: NAME with that file as its default, or with none
filter() {
    # shellcheck disable=SC2086 # lists of flags
    $cc ${3:+-DMM_DEFAULT_GGUF="\"$3\""} -D_GNU_SOURCE -I"$MM_ROOT" -I"$MM_ROOT/lib" -fPIC -fvisibility=hidden -c -o "$2-default.o" "$MM_ROOT/lib/store/builtin.c" &&
        $cc -fopenmp -o "$2/$1" "$MM_BUILD/cmd/$1.o" "$2-default.o" "$MM_BUILD/libcmd.a" "$MM_BUILD/libmm.a" $libs
}
mkdir with without
for f in mm-embed mm-quantize; do
    filter $f with "$PWD/stand-in.gguf" || exit 1
    filter $f without || exit 1
done
printf 'a b\nc\n' > lines
mk_media png a.png w=20 h=10 && mk_media wav a.wav && mk_media mp4 a.mp4 w=32 h=32 frames=6 || exit 1

test_ok 'without -m, as -m default, as the file: the same bytes' 'with/mm-embed -t lines > a; with/mm-embed -m default -t lines > b; mm-embed -m stand-in.gguf -t lines > c; test_cmp a b; test_cmp a c; test_json a "length == 2 and all(.[]; .model | test(\"^default@[0-9a-f]{16}$\"))"'
test_ok 'pictures, sound and video too' 'with/mm-embed a.png a.wav a.mp4 > a; mm-embed -m stand-in.gguf a.png a.wav a.mp4 > c; test_cmp a c; test_json a "map(.modality) == [\"image\",\"audio\",\"video\"] and all(.[]; (.embedding | length == 32) and (.embedding | map(. * .) | add | . - 1 | fabs) < 1e-4)"'
test_ok 'MM_MODEL before it, -m before both' 'MM_MODEL=$PWD/tiny with/mm-embed -t lines > a; test_json a ".[0].model | startswith(\"tiny@\")"; MM_MODEL=$PWD/tiny with/mm-embed -m default -t lines > a; test_json a ".[0].model | startswith(\"default@\")"; MM_MODEL= with/mm-embed -t lines > b; test_cmp a b'
test_ok 'a folder of that name in MM_MODEL_PATH takes its place, one where we are does not' 'mkdir -p at; cp tiny.gguf at/default.gguf; MM_MODEL_PATH=$PWD/nowhere:$PWD/at with/mm-embed -t lines > a; test_json a ".[0].model | startswith(\"tiny@\")"; [ -d default ]; cp -r tiny at/default; cd at; ../with/mm-embed -t ../lines > b; ../with/mm-embed -t -m ./default ../lines > c; must_fail cmp -s b c; test_json b ".[0].model | startswith(\"default@\")"; test_json c ".[0].embedding | length == 32"'
test_ok 'mm-quantize looks into it and converts it' 'with/mm-quantize --info --json --check > a; mm-quantize --info --json --check stand-in.gguf > c; test_json a ".[0].file == \"default\""; jq "del(.file)" a > a1; jq "del(.file)" c > c1; test_cmp a1 c1; with/mm-quantize -q -t f32 -o again.gguf default > log; mm-embed -m again.gguf -t lines > b; mm-embed -m stand-in.gguf -t lines > c; test_cmp c b; expect_code 2 with/mm-quantize -t f32 -o x.gguf 2> err; grep -q "no model given" err'
test_ok 'the file is in there once, whole, 64-byte aligned, in a section of its own, not writable' 'size=$(wc -c < stand-in.gguf); readelf -SW with/mm-embed | sed "s/^ *\[ *[0-9]*\] *//" | awk "\$1 == \".mm_default\" { print \$5, \$7, \$NF }" > section; read -r hex flags align < section; [ $((0x$hex)) -eq $((size + 1)) ]; [ "$flags" = A ]; [ "$align" -eq 64 ]; objcopy -O binary --only-section=.mm_default with/mm-embed bytes; head -c "$size" bytes | test_cmp stand-in.gguf -'
test_ok 'a build without says so' 'expect_code 4 without/mm-embed -t lines > out 2> err; test_lines out 0; test_glob err "mm-embed: this build has no default model*MM_MODEL*"; expect_code 4 without/mm-embed -m default -t lines 2> err2; test_cmp err err2; expect_code 4 without/mm-quantize --info 2> err; grep -q "no default model" err; MM_MODEL_PATH=$PWD/at without/mm-embed -t lines > a; test_lines a 2; MM_MODEL=$PWD/tiny without/mm-embed -t lines > a; test_lines a 2'
test_ok '--dim: no shorter than was trained, and not of other models' 'mm-embed -m stand-in.gguf -t lines > a; mm-embed -m stand-in.gguf --dim 32 -t lines > b; test_cmp a b; expect_code 2 mm-embed -m stand-in.gguf --dim 31 -t lines 2> err; grep -q "32 to 32" err; expect_code 2 mm-embed -m tiny --dim 16 -t lines 2> err; grep -q "not trained" err'
test_if 'mm-quantize --info default' 'the default of this build' 'mm-embed -t lines > a; test_json a "length == 2 and all(.[]; .model | startswith(\"default@\"))"; mm-embed -m default a.png > b; test_json b ".[0].modality == \"image\""'
finish
