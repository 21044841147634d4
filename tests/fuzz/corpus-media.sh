#!/bin/sh
# corpus-media.sh BUILD - makes the stored inputs of fuzz_image anew, by tests/tools/mk_media of a build (make print-build) and from
# tests/golden/pixels.txt. Needs perl.
set -eu
mk=$(cd "$1" && pwd)/tests/tools/mk_media
cd "$(dirname "$0")"
out=corpus/fuzz_image
rm -rf $out
"$mk" corpus $out
for n in webp-lossy webp-alpha webp-animated jpeg-cmyk jpeg-420 gif-transparent; do
    perl -ane 'print pack("H*", $F[4]) if $F[0] eq "'$n'"' ../golden/pixels.txt > "$out/pil-$n"
done
