#!/bin/sh
# mm-generate with a tiny random model that looks at pictures: what it is shown matters, the rest does not; bad pictures cost one record.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
mk_models tinyvlm eye > /dev/null || exit 1
MM_MODEL=$PWD/eye
export MM_MODEL
for n in 1 2 3; do { printf 'P6\n%d 10\n255\n' $((n * 10)) && seq $((n * 1000)) 100000 | head -c $((n * 300)); } > p$n.ppm; done
{ printf 'P6\n10 10\n255\n' && seq 5000 9000 | head -c 300; } > q1.ppm
printf '%s\n' '{"id":1,"text":"what is it?","image":"p1.ppm"}' '{"id":2,"text":"what is it?","image":"p2.ppm"}' '{"id":3,"text":"both?","image":["p1.ppm",{"path":"p3.ppm"}]}' '{"id":4,"text":"none"}' > pics.jsonl

test_ok 'records with pictures are answered' 'mm-generate --max-tokens 12 pics.jsonl > out && test_json out "map(.id) == [1,2,3,4] and all(.[]; (.generated | type) == \"string\") and .[2].image == [\"p1.ppm\",{\"path\":\"p3.ppm\"}] and
    .[0].tokens.prompt > 60 and .[2].tokens.prompt > .[0].tokens.prompt + 40 and .[3].tokens.prompt < 40"'
test_ok 'the same alone and in any company, with one thread and two' 'for i in 1 2 3 4 5; do cat pics.jsonl; done > many; mm-generate -j1 --batch 1 --max-tokens 12 many > a && mm-generate -j2 --max-tokens 12 many > b && test_cmp a b && for i in 1 2 3 4 5; do cat out; done > c && test_cmp a c'
test_ok 'another picture of the same size is another prompt, whatever was kept of the first' 'for p in p1 q1 p1 q1; do echo "{\"text\":\"what?\",\"image\":\"$p.ppm\"}"; done > two; mm-generate --batch 1 --max-tokens 2 --logprobs 1 two > out && jq -c .logprobs out > l && sed -n 1p l > a && sed -n 2p l > b && sed -n 3p l > c && sed -n 4p l > d && test_cmp a c && test_cmp b d && must_fail cmp -s a b'
test_ok 'paths are pictures, asked about with --prompt; bytes do as well' 'printf "%s\n" p1.ppm p2.ppm | mm-generate -p "what is it?" --max-tokens 12 --logprobs 1 > out && head -2 pics.jsonl | mm-generate --max-tokens 12 --logprobs 1 | jq -c .logprobs > a && jq -c .logprobs out > b && test_cmp a b &&
    printf "{\"text\":\"what is it?\",\"image\":{\"b64\":\"%s\"}}" "$(base64 -w0 < p1.ppm)" | mm-generate --max-tokens 12 --logprobs 1 | jq -c .logprobs > c && head -1 a > d && test_cmp c d'
test_ok 'messages, and plain text with marks of its own' 'echo "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"},{\"type\":\"text\",\"text\":\"what is it?\"}]}],\"image\":\"p1.ppm\"}" | mm-generate --max-tokens 12 --logprobs 1 | jq -c .logprobs > a && head -1 pics.jsonl | mm-generate --max-tokens 12 --logprobs 1 | jq -c .logprobs > b && test_cmp a b &&
    printf "{\"text\":\"User:<image>what is it?<end_of_utterance>\\\\nAssistant:\",\"image\":\"p1.ppm\"}" | mm-generate --raw --max-tokens 12 --logprobs 1 | jq -c .logprobs > c && test_cmp b c'
test_ok 'bad pictures cost one record' 'printf nonsense > bad.png; printf "%s\n" "{\"text\":\"x\",\"image\":\"bad.png\"}" "{\"text\":\"x\",\"image\":\"gone.png\"}" "{\"text\":\"x\",\"image\":[\"p1.ppm\",5]}" "{\"image\":\"p1.ppm\"}" "{\"text\":\"x\",\"video\":\"v.mp4\"}" "{\"text\":\"a <image> b <image>\",\"image\":\"p1.ppm\"}" "{\"text\":\"x\",\"image\":\"p1.ppm\"}" > x; expect_code 1 mm-generate -q --max-tokens 3 x > out
    test_json out "map(.error.code // \"ok\") == [\"MM_EDATA\",\"MM_EIO\",\"MM_EDATA\",\"MM_EDATA\",\"MM_EIO\",\"MM_EDATA\",\"ok\"]"'
test_ok 'too long with its pictures: an error, and never half a picture' 'printf "{\"text\":\"x\",\"image\":[\"p1.ppm\",\"p1.ppm\",\"p1.ppm\",\"p1.ppm\",\"p1.ppm\",\"p1.ppm\",\"p1.ppm\"]}" > long; for o in error cut-left; do expect_code 1 mm-generate -q --overflow $o --max-tokens 20 long > out; test_json out ".[0].error.code == \"MM_ELONG\""; done'
for n in 12 60; do mk_media mp4 v$n.mp4 w=64 h=48 fps=10 frames=$n audio=1 || exit 1; done
test_ok 'a clip is its frames, one each second, and what the prompt says of them' 'echo "{\"text\":\"what happens?\",\"video\":\"v60.mp4\"}" | mm-generate --max-tokens 4 > a && echo v60.mp4 | mm-generate -p "what happens?" --max-tokens 4 > b && jq -c "[.generated,.tokens]" a > c && jq -c "[.generated,.tokens]" b > d && test_cmp c d &&
    for n in 1 2 6; do echo v60.mp4 | mm-generate -p "what happens?" --frames $n --max-tokens 4; done > n && echo v12.mp4 | mm-generate -p "what happens?" --max-tokens 4 >> n && test_json n "map(.tokens.prompt) | .[0] < .[1] and .[1] < .[2] and (.[3] - .[0] | fabs) <= 2" && jq -c "[.generated,.tokens]" n | sed -n 3p > e && test_cmp c e &&
    expect_code 1 mm-generate -q -p x --max-tokens 2 p1.ppm v60.mp4 bad.png > out && test_json out "map(has(\"generated\")) == [true,true,false]"'
test_ok 'clips that are no pictures and the like' 'printf "%s\n" "{\"text\":\"x\",\"video\":\"p1.ppm\"}" "{\"text\":\"x\",\"image\":\"v60.mp4\"}" "{\"text\":\"x\",\"image\":\"p1.ppm\",\"video\":\"v60.mp4\"}" "{\"text\":\"x\",\"video\":\"v12.mp4\"}" | expect_code 1 mm-generate -q --max-tokens 2 > out;
    test_json out "map(.error.code // \"ok\") | .[1:] == [\"MM_EUNSUP\",\"MM_EUNSUP\",\"ok\"]"'
test_ok 'a clip in a conversation' 'printf "%s\n" "{\"role\":\"user\",\"content\":\"what happens?\",\"video\":\"v60.mp4\"}" "{\"role\":\"user\",\"content\":\"and this?\",\"image\":\"p1.ppm\"}" | mm-generate --chat --max-tokens 4 > out && test_lines out 4 && sed -n 2p out | jq -c "[.content,.tokens]" > f && test_cmp c f'
test_ok 'a clip that was too long leaves nothing behind for later turns' 'printf "%s\n" "{\"role\":\"user\",\"content\":\"what happens?\",\"video\":\"v60.mp4\"}" "{\"role\":\"user\",\"content\":\"hi\"}" > late && expect_code 1 mm-generate -q --chat --context 60 --overflow error --max-tokens 4 late > out &&
    test_json out "map(.error.code // \"ok\") | .[1] != \"ok\" and .[3] == \"ok\"" && sed -n 2p late | mm-generate --chat --context 60 --max-tokens 4 | sed -n 2p > a && sed -n 4p out > b && test_cmp a b'
cat > talk.jsonl <<'EOF'
{"role":"user","content":"what is it?","image":"p1.ppm"}
{"role":"user","content":"and these?","image":["p2.ppm","q1.ppm"]}
{"role":"user","content":"which is larger?"}
EOF
# as_record N: the first N turns and their answers as one record of messages with all pictures
cat > as_record.jq <<'JQ'
def parts: if .role == "user" and .image then [(.image | if type == "array" then .[] else . end | {type: "image"}), {type: "text", text: .content}] else [{type: "text", text: .content}] end;
.[:$n] | {messages: map({role, content: parts}), image: (map(.image // empty | if type == "array" then .[] else . end))}
JQ
test_ok 'pictures in the turns of a conversation: each answer is that to all turns before it' 'mm-generate --chat --max-tokens 8 talk.jsonl > out && test_lines out 6 && test_json out "map(.role) == [\"user\",\"assistant\",\"user\",\"assistant\",\"user\",\"assistant\"] and .[2].image == [\"p2.ppm\",\"q1.ppm\"]" &&
    for n in 1 3 5; do jq -s -c --argjson n $n -f as_record.jq out | mm-generate --max-tokens 8 | jq -c "[.generated, .tokens.prompt]" > a && sed -n "$((n + 1))p" out | jq -c "[.content, .tokens.prompt]" > b && test_cmp a b || exit 1; done'
test_ok 'a conversation in a file goes on with its pictures' 'head -4 out > begun && sed -n 5p out > next && mm-generate --chat --max-tokens 8 begun next > again && test_cmp out again'
test_ok 'a turn whose picture is bad was not said' '{ echo "{\"role\":\"user\",\"content\":\"x\",\"image\":[\"p3.ppm\",\"bad.png\"]}"; head -1 talk.jsonl; echo "{\"role\":\"user\",\"content\":\"x\",\"video\":\"v.mp4\"}"; } | expect_code 1 mm-generate -q --chat --max-tokens 8 > bad &&
    test_json bad "map(.error.code // \"ok\") == [\"MM_EDATA\",\"ok\",\"ok\",\"MM_EIO\"]" && sed -n 2p out > a && sed -n 3p bad > b && test_cmp a b'
test_ok 'the oldest turns go with their pictures where there is no room' 'for i in 1 2 3 4 5 6 7 8; do echo "{\"role\":\"user\",\"content\":\"x\",\"image\":\"p$((i % 3 + 1)).ppm\"}"; done > long && mm-generate --chat --overflow cut-left --max-tokens 8 long > cut && test_lines cut 16 && test_json cut "any(.[]; .truncated) and all(.[]; .error == null)" &&
    expect_code 1 mm-generate -q --chat --overflow error --max-tokens 8 long > no && test_json no "any(.[]; .error)"'
finish
