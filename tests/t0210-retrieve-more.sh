#!/bin/sh
# mm-retrieve: options that exclude each other, what hits show, acknowledgements, streams that break, merging, centring.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"

cat > v.jsonl <<'JSON'
{"id":"a","embedding":[1,0,0],"score":7,"model":"m@00000000000000aa"}
{"id":7,"embedding":[0,1,0],"text":"seven","model":"m@00000000000000aa"}
{"id":"c","embedding":[0,0.9,0.1],"score":8,"text":"x","model":"m@00000000000000aa"}
JSON
echo '{"embedding":[0,1,0]}' > q
mm-retrieve --add a.idx v.jsonl

# ---- options ----
modes='add delete get=a list info verify compact merge'
for m in $modes; do
    for n in $modes; do
        [ "$m" != "$n" ] || continue
        export m n
        test_ok "--$m and --$n" 'expect_code 2 mm-retrieve --$m --$n a.idx q 2> err && grep -q -- "--${m%=*}" err && grep -q -- "--${n%=*}" err'
    done
done
for p in 'add --top=3' 'add --where=x=1' 'add --center' 'add --min-score=0' 'add --rescore=3' 'add --keep-embedding' 'add --output=o' 'add --binary' \
    'delete --type=f32' 'delete --any-model' 'delete --encoding=base64' 'get=a --ack' 'get=a --where=x=1' 'list --top=3' 'list --text' 'info --top=1' 'verify --wait' \
    'compact --ack' 'compact --type=f16' 'merge --where=x=1' 'merge --any-model' 'info --output=o'; do
    export p
    test_ok "--$p" 'expect_code 2 mm-retrieve --$p a.idx < q 2> err && grep -q "means nothing with --${p%%[ =]*}" err && [ ! -e o ]'
done
for p in ack wait type=i8; do
    export p
    test_ok "--$p in a search" 'expect_code 2 mm-retrieve --$p a.idx q 2> err && grep -q "means nothing in a search" err'
done
test_ok '--type of an index that is there' 'expect_code 2 mm-retrieve --add --type i8 a.idx v.jsonl 2> err && grep -q "another type" err && mm-retrieve --add --type f32 a.idx v.jsonl'
test_ok 'deleting and compacting make no index' 'expect_code 4 mm-retrieve --delete no.idx < q 2> err && expect_code 4 mm-retrieve --compact no.idx 2> err && [ ! -e no.idx ]'
test_ok 'a folder of something else is not touched' 'mkdir mine && echo x > mine/letter && expect_code 2 mm-retrieve --add mine v.jsonl 2> err && [ "$(ls mine)" = letter ]'

# ---- what is shown ----
test_ok 'an id that is a number stays one' 'mm-retrieve -k 1 a.idx q > out && test_json out ".[0].hits[0] == {score:1,id:7,text:\"seven\"}" && mm-retrieve --get 7 a.idx > out && test_json out ".[0].id == 7"'
test_ok 'a key "score" gives way in hits, and is kept' 'mm-retrieve -k 3 a.idx q > out && test_json out ".[0].hits[1] | (keys == [\"id\",\"score\",\"text\"] and .score < 1)" && ! grep -q "score.*score.*score.*score" out && test_json out ".[0].hits[2] == {score:0,id:\"a\"}" && mm-retrieve --get c a.idx > out && test_json out ".[0].score == 8"'
test_ok 'the model is kept once for all' 'mm-retrieve --get a a.idx > out && test_json out ".[0].model == \"m@00000000000000aa\"" && mm-retrieve --info a.idx > out && test_json out ".[0].model == \"m@00000000000000aa\""'
test_ok 'and a record of another one keeps its own' 'echo "{\"id\":\"o\",\"embedding\":[0,0,1],\"model\":\"other@00000000000000bb\"}" > o.jsonl && cp -r a.idx o.idx && mm-retrieve --add --any-model o.idx o.jsonl && mm-retrieve --get o o.idx > out && test_json out ".[0].model == \"other@00000000000000bb\""'
test_ok 'a refused record sets no model' 'printf "%s\n" "{\"embedding\":[0],\"model\":\"x@1\"}" "{\"embedding\":[1],\"model\":\"y@2\"}" > two; expect_code 1 mm-retrieve --add x.idx two 2> err; mm-retrieve --info x.idx > out && test_json out ".[0].model == \"y@2\" and .[0].records == 1"'
test_ok 'a model is not put on vectors that came without one' 'echo "{\"embedding\":[1]}" | mm-retrieve --add n.idx && echo "{\"embedding\":[1],\"model\":\"y@2\"}" | mm-retrieve --add n.idx && mm-retrieve --info n.idx > out && test_json out ".[0].model == \"\""'
test_ok 'all keys come back, in order, byte for byte' 'echo "{\"z\":1.50,\"id\":\"k\",\"y\":[1, {\"b\":  null}],\"embedding\":[1],\"a\":12345678901234567890}" | mm-retrieve --add k.idx && [ "$(mm-retrieve --get k k.idx)" = "{\"id\":\"k\",\"z\":1.50,\"y\":[1, {\"b\":  null}],\"a\":12345678901234567890,\"embedding\":[1]}" ]'
test_ok 'given ids do not come again' 'printf "{\"embedding\":[1]}\n{\"embedding\":[2]}\n" > two && mm-retrieve --add g.idx two && printf "#1\n#2\n" | mm-retrieve --delete g.idx && mm-retrieve --compact g.idx && mm-retrieve --add g.idx two && [ "$(mm-retrieve --list g.idx | jq -r .id | tr "\n" " ")" = "#3 #4 " ]'
test_ok 'an id with any character' 'printf "%s\n" "{\"id\":\"\\u0000\\n\\\"é\",\"embedding\":[1]}" | mm-retrieve --add u.idx && mm-retrieve --list u.idx > out && test_json out ".[0].id == \"\\u0000\\n\\\"é\""'
test_ok 'more hits asked for than there is memory' 'mm-retrieve -k 1000000 --batch 65536 a.idx q > out && test_json out ".[0].hits | length == 3"'

# ---- streams ----
test_ok 'standard input by its name, two files' 'cat v.jsonl | mm-retrieve --add s.idx - && mm-retrieve -k 1 s.idx q q > out && test_lines out 2'
test_ok 'acknowledged after each batch' 'for i in $(seq 10); do echo "{\"embedding\":[$i]}"; done > ten && [ "$(mm-retrieve --add --ack --batch 4 t.idx ten | tr "\n" " ")" = "4 8 10 " ]'
test_ok 'a writer that pauses is answered at once' 'mkfifo p r && { mm-retrieve --add --ack p.idx < p > r & } && exec 8> p 9< r && echo "{\"embedding\":[1]}" >&8 && read -r n <&9 && [ "$n" = 1 ] && echo "{\"embedding\":[2]}" >&8 && read -r n <&9 && [ "$n" = 2 ] && exec 8>&- && wait && rm p r'
test_ok 'so is one who asks' 'mkfifo p r && { mm-retrieve -k 1 a.idx < p > r & } && exec 8> p 9< r && cat q >&8 && read -r n <&9 && cat q >&8 && read -r n <&9 && exec 8>&- && wait'
test_ok '--strict stops, and keeps what came before' 'printf "%s\n" "{\"id\":1,\"embedding\":[1]}" "{\"id\":2,\"embedding\":[0]}" "{\"id\":3,\"embedding\":[3]}" > st; expect_code 3 mm-retrieve --add --strict --ack st.idx st > out 2> err && [ "$(cat out)" = 1 ] && mm-retrieve --info st.idx > out && test_json out ".[0].records == 1"'
test_ok 'a cut stream: what came is kept, status 3' 'mm-cat -b v.jsonl > f && head -c $(($(wc -c < f) - 20)) f > cut && expect_code 3 mm-retrieve --add --ack cut.idx cut > out 2> err && grep -q . out && mm-retrieve --verify cut.idx && mm-retrieve --info cut.idx > out && test_json out ".[0].records == 3"'
test_ok 'queries of another model: those before are answered' 'printf "%s\n" "{\"id\":1,\"embedding\":[0,1,0]}" "{\"id\":2,\"embedding\":[0,1,0],\"model\":\"o@1\"}" > two; expect_code 3 mm-retrieve -k 1 a.idx two > out 2> err && test_json out "length == 1 and .[0].hits[0].id == 7"'
test_ok 'a reader that leaves ends it by SIGPIPE' 'yes "{\"embedding\":[0,1,0]}" | head -20000 > many; { mm-retrieve -k 3 a.idx many || echo $? > status; } | head -1 > out; [ "$(cat status)" -eq 141 ]'
test_ok 'full disk for acknowledgements: status 4, and it is kept' 'expect_code 4 mm-retrieve --add --ack fd.idx v.jsonl > /dev/full 2> err; mm-retrieve --info fd.idx > out && test_json out ".[0].records == 3"'
test_ok 'binary on a terminal is refused' 'expect_code 2 mm-retrieve --fake-tty 1 -b a.idx q 2> err && grep -q terminal err'

# ---- merging ----
awk 'BEGIN { srand(3); for (i = 0; i < 90; i++) printf "{\"id\":\"r%d\",\"embedding\":[%.5f,%.5f,%.5f]}\n", i, rand() - .5, rand() - .5, rand() - .5 }' > all
awk 'BEGIN { srand(4); for (i = 0; i < 20; i++) printf "{\"id\":\"q%d\",\"x\":%d,\"embedding\":[%.5f,%.5f,%.5f]}\n", i, i, rand() - .5, rand() - .5, rand() - .5 }' > qs
for n in 0 1 2; do awk -v n=$n 'NR % 3 == n' all | mm-retrieve --add s$n.idx; done
mm-retrieve --add whole.idx all
test_ok 'three indexes give what one gives' 'for n in 0 1 2; do mm-retrieve -k 5 s$n.idx qs > h$n; done; mm-retrieve -k 5 whole.idx qs > want && mm-retrieve --merge -k 5 h0 h1 h2 > got && test_cmp want got && mm-retrieve --merge -k 5 h0 - h2 < h1 > got && test_cmp want got && mm-cat -b h1 > h1.b && mm-retrieve --merge -k 5 h0 h1.b h2 > got && test_cmp want got'
test_ok 'a failed shard fails the record' 'sed "3s/.*/{\"id\":\"q2\",\"error\":{\"code\":\"MM_EDATA\",\"message\":\"no\"}}/" h1 > bad; expect_code 1 mm-retrieve --merge h0 bad > out 2> err && test_lines out 20 && test_json out ".[2].error.code == \"MM_EDATA\" and (.[3].hits | length == 10)"'
test_ok 'other queries, fewer of them, no hits: told' 'head -19 h1 > short; expect_code 3 mm-retrieve --merge h0 short > out 2> err && grep -q fewer err && sort -r h1 > other && expect_code 3 mm-retrieve --merge h0 other > out 2> err && grep -q "not the same query" err && expect_code 1 mm-retrieve --merge h0 qs > out 2> err && test_json out "all(.[]; .error.code == \"MM_EDATA\")" && expect_code 4 mm-retrieve --merge h0 nothing 2> err'

# ---- centring ----
cat > mixed <<'JSON'
{"id":"t1","text":"a","embedding":[3,0,1]}
{"id":"t2","text":"b","embedding":[3,0,-1]}
{"id":"t3","text":"c","embedding":[3,0.5,0]}
{"id":"p1","image":"a.png","embedding":[0,3,1.1]}
{"id":"p2","image":"b.png","embedding":[0,3,-1]}
{"id":"p3","image":"c.png","embedding":[0.5,3,0]}
JSON
test_ok 'a text finds its picture' 'mm-retrieve --add mix.idx mixed && echo "{\"text\":\"a\",\"embedding\":[3,0,1]}" > ask && mm-retrieve mix.idx ask | jq -c ".hits | map(.id)[0:3] | sort" > out && [ "$(cat out)" = "[\"t1\",\"t2\",\"t3\"]" ] && mm-retrieve --center mix.idx ask | jq -c ".hits | map(.id)[0:2]" > out && [ "$(cat out)" = "[\"t1\",\"p1\"]" ] && mm-retrieve --center -w "exists(image)" -k 1 mix.idx ask > out && test_json out ".[0].hits[0].id == \"p1\""'

# ---- ids ----
printf '%s\n' '{"id":"h1","path":"a.jpg","embedding":[1,0]}' '{"id":"h2","path":"b.jpg","embedding":[1,1]}' '{"id":"a.jpg","embedding":[0,1]}' '{"id":7,"embedding":[1,2]}' '{"id":null,"embedding":[2,1]}' > ids
test_ok 'a record is deleted by its id, not by its path; null is none' 'mm-retrieve --add ids.idx ids && mm-retrieve --list -w "path = \"a.jpg\"" ids.idx | mm-retrieve --delete ids.idx && mm-retrieve --list ids.idx | jq -c .id > got &&
    printf "%s\n" "\"h2\"" "\"a.jpg\"" 7 "\"#5\"" > want && test_cmp want got'
printf 'odd\377.jpg\n' > odd
test_ok 'so is a name that is not UTF-8' 'echo "{\"id\":\"b64:b2Rk/y5qcGc=\",\"embedding\":[1,0]}" | mm-retrieve --add ids.idx && mm-retrieve --delete ids.idx odd && mm-retrieve --info ids.idx > out && test_json out ".[0].records == 4"'
test_ok 'conditions see ids and the model' 'sed "s/}$/,\"model\":\"m@00000000000000aa\"}/" ids | mm-retrieve --add cond.idx && for w in "id = \"h1\"" "id = 7" "id like \"h%\"" "not (id != \"h1\")" "exists(id)" "model = \"m@00000000000000aa\"" "id in (7, \"h2\")"; do
    mm-retrieve --list -w "$w" cond.idx | wc -l || exit 1; done | tr "\n" " " > got && [ "$(cat got)" = "1 1 2 1 5 5 2 " ]'
test_ok 'answers to other questions are not put together' 'printf "%s\n" "{\"text\":\"a\",\"hits\":[]}" > m1; printf "%s\n" "{\"text\":\"b\",\"hits\":[]}" > m2; expect_code 3 mm-retrieve --merge m1 m2 2> err && grep -q "text" err'
finish
