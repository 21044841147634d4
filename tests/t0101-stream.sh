#!/bin/sh
# Streams of records as every filter reads and writes them, seen through mm-cat: what must not be lost, and what must not grow.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"

# a stream as this toolkit writes it: every encoding must give it back to the byte
cat > canon <<'JSON'
{"id":"a","n":123456789012345678901234567890,"embedding":[0.1,-2,3e-06,1],"x":1e400,"u":"\u00e9ñ😀\/"}
{"id":"b"}
{"embedding":[1,2],"z":1,"a":{"embedding":[[null]],"q":["\"",{}]}}
{"id":"a","embedding":[0.33333334,1,2,3]}
{"id":7,"embedding":[0.33333334,1,2,3]}
{}
{"text":"","k":1.10,"k2":-0.0,"é":null}
JSON
{ cat canon && echo '{"id":"e","embedding":"x","error":{"code":"MM_EDATA","message":"m"},"k":1}'; } > canon-err

test_ok 'lines, frames, frames, lines: the same bytes' 'mm-cat -b canon | mm-cat -b | mm-cat > out && test_cmp canon out'
test_ok 'lines, base64, frames, base64, lines: the same bytes' 'mm-cat --encoding base64 canon | mm-cat -b | mm-cat --encoding base64 | mm-cat --json > out && test_cmp canon out'
test_ok 'one frame a record, and one frame for all, are the same stream' 'mm-cat -b --unbuffered canon > each && mm-cat each > out && test_cmp canon out'
test_ok 'an error record passes lines unchanged; frames keep all but its vector' '
    expect_code 1 mm-cat -q canon-err > out 2> err && test_cmp canon-err out &&
    expect_code 1 mm-cat -b canon-err > f 2> err && expect_code 1 mm-cat f > out 2> err && tail -n 1 out > last &&
    [ "$(cat last)" = "{\"id\":\"e\",\"error\":{\"code\":\"MM_EDATA\",\"message\":\"m\"},\"k\":1}" ]'
test_ok 'a line of 20 MB goes through frames' '{ printf "{\"id\":\"big\",\"b64\":\""; head -c 20000000 /dev/zero | tr "\0" "A"; printf "\",\"embedding\":[1,2]}\n{\"id\":\"small\"}\n"; } > big &&
    mm-cat -b big | mm-cat > out && cmp big out && rm -f big out'
test_ok 'somebody reads frames with od and a safetensors header' 'mm-cat -b canon > f && n=$(od -An -tu8 -N8 f | tr -d " ") && [ $(((n + 8) % 64)) -eq 0 ] &&
    tail -c +9 f | head -c "$n" > head && test_json head ".[0].embedding.dtype == \"F32\" and .[0].embedding.shape == [1,4] and (.[0].__metadata__[\"mm.records\"] | fromjson | .[0].embedding == 0)
        and .[0].__metadata__[\"mm.stream\"] == \"1\" and (.[0].__metadata__[\"mm.prog\"] | startswith(\"mm-cat \"))" &&
    mm-cat -b f | tail -c +9 > g && n=$(mm-cat -b f | od -An -tu8 -N8 | tr -d " ") && head -c "$n" g > head && test_json head ".[0].__metadata__[\"mm.prog\"] | split(\"\n\") | length == 2"'

# case 14: what is no vector
test_ok 'NaN and 1e999 are refused, in place and by name' 'printf "%s\n" "{\"id\":\"n1\",\"embedding\":[NaN,0,0]}" "{\"id\":\"n2\",\"embedding\":[1e999,0,0]}" "{\"id\":\"n3\",\"embedding\":[1,0]}" "{\"id\":\"n4\",\"embedding\":[0,1,0]}" > nf
    for form in --json -b "--encoding base64"; do
        expect_code 1 mm-cat $form nf > out 2> err; mm-cat -q out > back 2> /dev/null || true; test_lines back 4; test_lines err 2
        test_json back "map(.id) == [\"n1\",\"n2\",\"n3\",\"n4\"] and map(.error.code) == [\"MM_EDATA\",\"MM_EDATA\",null,null] and (.[1].error.message | test(\"embedding\"))"
        must_fail grep -qi "\[[^]]*nan" back
    done'
test_ok '--strict stops in front of the bad record' 'expect_code 3 mm-cat --strict nf > out 2> err; test_lines out 0; test_glob err "mm-cat: nf:1: *"
    tail -n +2 nf > nf2; (echo "{\"id\":\"ok\"}"; cat nf2) > nf3; expect_code 3 mm-cat --strict nf3 > out 2> err; test_lines out 1; test_glob err "mm-cat: nf3:2: *beyond float32*"
    expect_code 3 mm-cat --strict -b nf3 > f 2> err; expect_code 3 mm-cat f > out 2> err; test_lines out 1'
test_ok 'a record that failed before counts, and stops --strict' 'expect_code 1 mm-cat -q canon-err > out 2> err; expect_code 3 mm-cat --strict canon-err > out 2> err; test_lines out 7'

# case 15: names of files
mkdir names
printf 'plain.txt\0with space.txt\0-leading-dash.txt\0new\nline.txt\0quote'\''"back\\slash.txt\0latin1-\361.txt\0utf8-\303\261.txt\0star*?.txt\0' > list0
test_ok 'every name of case 15 comes back' 'expect_code 0 mm-cat -0 list0 > out && test_lines out 8 && iconv -f UTF-8 -t UTF-8 out > /dev/null && jq -c . out > /dev/null &&
    jq -j "(if .path_b64 then .path_b64 | @base64d else .path end), \"\u0000\"" out > names8 && [ "$(jq -s "map(.id) | unique | length" out)" -eq 8 ]
    jq -r ".path_b64 // (.path | @base64)" out | while read -r b; do printf "%s" "$b" | base64 -d; printf "\0"; done > back && test_cmp list0 back'
test_ok 'find -print0' 'cd names && tr "\0" "\n" < ../list0 > /dev/null && xargs -0 -I{} sh -c ": > \"\$1\"" x ./{} < ../list0 && find . -type f -print0 | mm-cat -0 > ../out && cd .. && test_lines out 8 && test_json out "all(.[]; .path | startswith(\"./\"))"'

# the text part of case 02: a bad record in the middle keeps order and ids
test_ok 'a bad record in the middle: order and ids' 'for i in 1 2 3 4 5; do [ $i = 3 ] && printf "{\"id\":\"r3\",\"text\":\"\\377\"}\n" || echo "{\"id\":\"r$i\"}"; done > mid; expect_code 1 mm-cat mid > out 2> err
    test_json out "map(.id) == [\"r1\",\"r2\",\"r3\",\"r4\",\"r5\"] and (map(has(\"error\")) == [false,false,true,false,false])" && test_glob err "mm-cat: mid:3: invalid JSON at byte 20: invalid UTF-8"'
test_ok 'many bad records: the first ten are told, -v tells all' 'yes x | head -30 | sed "1i {}" > many; expect_code 1 mm-cat many > out 2> err; test_lines out 31; test_lines err 11; expect_code 1 mm-cat -v many > out 2> err; test_lines err 30'

# idle input
test_ok 'what came is written while the input is idle' 'mkfifo p; mm-cat < p > idle1 & pid=$!; exec 3> p; echo "{\"a\":1}" >&3; wait_for "[ -s idle1 ]"; s=$(wc -l < idle1)
    exec 3>&-; wait $pid; [ "$s" -eq 1 ]'
test_ok 'frames too' 'mkfifo q; mm-cat -b < q | mm-cat > idle2 & pid=$!; exec 3> q; echo "{\"a\":1}" >&3; wait_for "[ -s idle2 ]"; s=$(wc -l < idle2)
    exec 3>&-; wait $pid; [ "$s" -eq 1 ]'

# limits
test_ok 'limits can be set' 'expect_code 1 mm-cat -q --max-dim 3 canon > out 2> err; test_json out "[.[] | select(.error)] | length == 3"; mm-cat -b canon > f; expect_code 3 mm-cat --max-header 100 f > out 2> err
    expect_code 2 mm-cat --max-line 0 canon 2> err; expect_code 2 mm-cat --max-line 1x canon 2> err'
test_ok 'npy: mixed sizes, cut, and what it does not hold' 'expect_code 3 mm-cat --npy -o x.npy canon 2> err; [ ! -e x.npy ]; grep -q "canon:2" err
    printf "{\"embedding\":[1,2]}\n{\"embedding\":[1]}\n" > m; expect_code 3 mm-cat --npy -o x.npy m 2> err; [ ! -e x.npy ]
    printf "{\"embedding\":[1,2]}\n{\"embedding\":[3,4]}\n" > m; mm-cat --npy -o x.npy m; mm-cat x.npy > out; test_cmp m out; head -c 140 x.npy > y.npy; expect_code 3 mm-cat y.npy > out 2> err; test_lines out 1; grep -q "cut off" err
    printf "{\"embedding\":{\"dtype\":\"BF16\",\"shape\":[2],\"b64\":\"gD8AwA==\"}}\n" | mm-cat --npy -o b.npy; mm-cat b.npy > out; test_json out ".[0].embedding == [1,-2]"'
test_ok 'a frame cut in its length' 'echo "{\"embedding\":[1]}" | mm-cat -b > whole; for n in 6 7 8 9; do head -c $n whole > cut; expect_code 3 mm-cat --check cut 2> err; grep -q "cut off in the header" err; done'
test_ok 'media are one record each' 'printf "\211PNG\r\n\032\n" | mm-cat > out; test_json out ".[0].id == \"-\""; printf "\211PNG\r\n\032\n" > i.png; mm-cat i.png > out; test_json out ".[0].path == \"i.png\""'
test_ok 'names that begin as media do are names' 'for n in caffe.png "ID3 tags.mp3" OggS.txt fLaC.flac BZhang.jpg GGUF-notes.txt "P1 scan.jpg" "P5 2020 05 11.jpg" GIF89a-spec.pdf farbfeld.ff RF64.wav .snd qoif.png RIFF BMW.jpg; do printf "%s\nb\n" "$n" | mm-cat > out; test_lines out 2; jq -r .path out > names.out; printf "%s\nb\n" "$n" | cmp - names.out; done
    for m in "P6 3 1 255\nabcdefghi" "P5\n# c\n3\n1\n255\nabc" "P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\na" "OggS\0\2 12345" "caff\0\1\0\0 1234" "BM12\0\0\0\0\0\0\66\0\0\0" "qoif\0\0\0\1"; do printf "$m" | mm-cat > out; test_json out ".[0].id == \"-\" and length == 1"; done; printf "BZh91AY&SY\1\2" > z; expect_code 3 mm-cat < z 2> err; grep -q bzcat err'
test_ok 'byte order marks where files of JSON lines were joined; UTF-16 by its name, with -t too' 'printf "\357\273\277{\"a\":1}\r\n\357\273\277{\"a\":2}\r\n" | mm-cat > out; test_json out "[.[].a] == [1,2]"; printf "\377\376h\0i\0\n\0" > u; expect_code 3 mm-cat -t u 2> err; grep -q "UTF-16" err'
test_ok 'a folder, a missing file in the middle' 'expect_code 4 mm-cat names 2> err; grep -q "names" err; echo "{\"a\":1}" > one; expect_code 4 mm-cat one none one > out 2> err; test_lines out 1'
test_ok 'options that mean nothing together' 'for o in "-b --encoding base64" "--npy --encoding base64 -o x" "--count -b" "--check --npy" "--count -o x" "--check --encoding numbers" "--count --unbuffered" "-t --from json"; do
        expect_code 2 mm-cat $o canon > out 2> err; test_lines out 0; grep -q "cannot be used together" err; [ ! -e x ]; done'
test_ok 'a reader that leaves ends it by SIGPIPE' '( { seq 100000 | mm-cat -t; } && s=0 || s=$?; echo $s > status) 2> err | head -n 1 > out; [ "$(cat status)" -eq 141 ] && test_lines err 0'
test_ok 'a file that is replaced keeps its permissions' 'echo "{}" > private && chmod 600 private && echo "{\"id\":1}" | mm-cat -o private && [ "$(stat -c %a private)" = 600 ] && test_lines private 1'
finish
