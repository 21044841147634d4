#!/bin/sh
# corpus-stream.sh - makes the stored inputs of fuzz_frames, fuzz_jsonl and fuzz_npy anew (mm-cat must be in PATH).
set -eu
cd "$(dirname "$0")"
rm -rf corpus/fuzz_frames corpus/fuzz_jsonl corpus/fuzz_npy
mkdir -p corpus/fuzz_frames corpus/fuzz_jsonl corpus/fuzz_npy
# frame HEADER DATA: length, header, data
frame() {
    printf "\\$(printf %03o $((${#1} % 256)))\\$(printf %03o $((${#1} / 256)))\\0\\0\\0\\0\\0\\0%s" "$1"
    # shellcheck disable=SC2059 # data is a format
    printf "$2"
}
cd corpus/fuzz_jsonl
printf '0{"id":"a","n":1e400,"embedding":[1,-0.5,3e-5]}\n\n{"id":"b","text":"\\u00e9\\n"}\r\n{"error":{"code":"MM_ELONG","message":"m"}}\n' > good
printf '0{"embedding":"AACAPwAAAEA="}\n{"embedding":{"dtype":"F16","shape":[2],"b64":"ADwAwA=="}}\n{"embedding":{"dtype":"F64","shape":[1],"b64":"mpmZmZmZuT8="}}' > base64
printf '0{"embedding":[NaN]}\n{"embedding":[1e999]}\n{"embedding":[]}\n{"embedding":[[1]]}\n{"embedding":null}\n{"embedding":"%%%%"}\n' > bad-vectors
printf '0{"a":1,"a":2}\n{"a":"\\ud800"}\n{"\\ud800":1}\n{"a":"\377"}\n{"a":[[[[{"b":[]}]]]]}\n{\n[]\n"x"\n' > bad-lines
printf '6{"id":"over the limit of the line length"}\n{"embedding":[1,2,3]}\n' > limits
printf '1\357\273\277{"a":1}\n' > bom
printf '1a b.txt\nc\r\n\nl\361.txt\n' > paths
printf '2x\ny\0{z}\0l\361\0\0' > nul
printf '3one\r\n\n\377\nlast' > text
printf '4one\n\0two' > text0
printf '1RIFF\0\0\0\0WAVEfmt ' > wav
printf '1\37\213\10\0' > gzip
printf '1\377\361' > short-sound
cd ../fuzz_frames
{ tail -c +2 ../fuzz_jsonl/good; echo; tail -c +2 ../fuzz_jsonl/base64; } | mm-cat -qb > good || true
mm-cat -qb --unbuffered good > each || true
cat good each > joined
head -c 300 good > ./cut
frame '{"x":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}' '\200\077\0\100\0\300\200\077' > foreign
frame '{"__metadata__":{"mm.stream":"1"},"mm.records":{"dtype":"U8","shape":[20],"data_offsets":[0,20]},"embedding":{"dtype":"F32","shape":[1,1],"data_offsets":[20,24]}}' '[{"embedding":0}]   \n\0\0\200\077' > text-tensor
frame '{"embedding":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}}' '0123456789abcdef' > overflow
frame '{"embedding":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}' '01234567' > gap
frame '{"__metadata__":{"mm.stream":"1","mm.records":"[{\"embedding\":1},{}]"},"embedding":{"dtype":"I8","shape":[2,1],"data_offsets":[0,2]}}' '01' > order
cd ../fuzz_npy
printf '{"embedding":[1,2.5]}\n{"embedding":[3,-4]}\n' | mm-cat --npy -o f4
printf '{"embedding":{"dtype":"F16","shape":[2],"b64":"ADwAwA=="}}\n' | mm-cat --npy -o f2
printf '{"embedding":{"dtype":"I8","shape":[3],"b64":"AQID"}}\n' | mm-cat --npy -o i1
printf '{"embedding":{"dtype":"F64","shape":[1],"b64":"mpmZmZmZuT8="}}\n' | mm-cat --npy -o f8
mm-cat --npy -o empty < /dev/null
cat f4 f2 > joined
head -c 130 f4 > ./cut
printf '\223NUMPY\2\0\104\0\0\0{"descr":"<f4", "fortran_order":True, "shape":(1L,),}               \n\0\0\200\077' > v2
printf '\223NUMPY\1\0\070\0{"descr":"<f4","fortran_order":True,"shape":(2,2,2,2)} \n' > dims
