#!/bin/sh
# scripts/evaluate on sets of a few records with a random model: what is relevant to what shows in n, in the size of the gallery and in the
# chance, which can be worked out by hand.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
mk_models tower-imagebind all > /dev/null || exit 1
mk_models tower-clip-vit-b32 clip > /dev/null || exit 1
mk_models tinybert bert > /dev/null || exit 1
PATH=$MM_ROOT/scripts:$PATH
eq='def eq(x): . - x | fabs < 1e-5; def of(t): map(select(.task == t)); def all_of(t; n; g; c): of(t) | length > 0 and (.[0] | .n == n and .gallery == g and (.chance | eq(c)));'
export eq
i=0
rec() { # SET JSON... : a record for each JSON, with a picture, sound or clip of its own where it says "image":1 ...
    mkdir -p "data/$1/m"
    s=$1
    shift
    for r in "$@"; do
        i=$((i + 1))
        case $r in
        *'"image":1'*) mk_media png "data/$s/m/$i.png" w=$((16 + i)) h=$((40 - i % 7)) && k=image e=png ;;
        *'"audio":1'*) mk_media wav "data/$s/m/$i.wav" ms=$((200 + 10 * i)) && k=audio e=wav ;;
        *'"video":1'*) mk_media mp4 "data/$s/m/$i.mp4" w=$((30 + 2 * (i % 4))) h=32 frames=4 && k=video e=mp4 ;;
        *) k='' e='' ;;
        esac || exit 1
        printf '%s\n' "$r" | jq -c --arg k "$k" --arg p "m/$i.$e" --arg id "$s/$i" '{id: $id, split: "test"} + . + if $k == "" then {} else {($k): $p} end' >> "data/$s/manifest.jsonl"
    done
}
rec stamps '{"id":"p1","image":1,"text":"A cat."}' '{"id":"p2","image":1,"text":"a  cat"}' '{"id":"p3","image":1,"text":"A dog."}' '{"id":"p4","image":1,"text":"The sun."}' \
    '{"id":"p5","image":1,"text":"one","split":"train"}' '{"id":"p6","image":1,"text":"ab","split":"val"}' '{"audio":1,"text":"un gato","concept":"p1","kind":"speech","lang":"es"}' \
    '{"audio":1,"text":"un chat","concept":"p2","kind":"speech","lang":"fr"}' '{"audio":1,"text":"A dog.","concept":"p3","kind":"speech","lang":"en"}' \
    '{"audio":1,"text":"The sun.","concept":"p4","kind":"sound"}' '{"audio":1,"text":"one","concept":"p5","kind":"speech","split":"train"}'
rec emoji '{"image":1,"text":"big dog","texts":{"zh":["ab","c"],"fr":"e"}}' '{"image":1,"text":"sun","texts":{"zh":["ab"]}}'
rec clipart '{"image":1,"text":"card","keywords":["a","b","c","d"],"label":"things/old"}' '{"image":1,"text":"card","split":"train"}' '{"image":1,"text":"card","split":"val"}' \
    '{"image":1,"text":"cat","label":"animals"}' '{"image":1,"text":"ClipArt 3","keywords":["dog"],"label":"animals/pets"}'
rec gcwords '{"audio":1,"label":"dog","text":"perro","lang":"es"}' '{"audio":1,"label":"dog","text":"the dog","lang":"en"}' '{"audio":1,"label":"sun_one","text":"sol","lang":"es"}' \
    '{"audio":1,"label":"cat","text":"gato","lang":"es","split":"val"}' '{"image":1,"label":"dog","text":"dog"}' '{"image":1,"label":"cat","text":"cat","split":"val"}' '{"image":1,"label":"e","text":"e","split":"train"}'
rec caltech101 '{"image":1,"text":"a big dog","label":"dog"}' '{"image":1,"text":"a sun","label":"sun"}' '{"image":1,"text":"a cat","label":"cat","split":"train"}'
rec flowers '{"image":1,"text":"a","label":"a"}' '{"image":1,"text":"b","label":"b","split":"val"}'
rec fsdd '{"audio":1,"text":"zero","label":"0"}' '{"audio":1,"text":"one","label":"1","split":"train"}'
rec sounds '{"id":"sounds/max_dog_0","audio":1,"text":"dog","label":"max_dog"}' '{"id":"sounds/max_dog_1","audio":1,"text":"dog","label":"max_dog"}' '{"id":"sounds/sea_3","audio":1,"text":"sea","label":"sea"}' \
    '{"audio":1,"text":"cat","label":"c","split":"train"}' '{"audio":1,"text":"dog","label":"d","split":"train"}'
rec video_synth '{"video":1,"text":"dog big"}' '{"video":1,"text":"sun"}' '{"video":1,"text":"sun"}'
rec stsb '{"text":"a dog","text2":"a dog","score":5,"lang":"en"}' '{"text":"a dog","text2":"the sun","score":1,"lang":"en"}' '{"text":"a","text2":"b","score":1,"lang":"en","split":"val"}'
gzip data/stsb/manifest.jsonl || exit 1
rec tatoeba '{"text":"a","text2":"a","lang2":"deu"}' '{"text":"b","text2":"b","lang2":"deu"}' '{"text":"b","text2":"c","lang2":"deu"}' '{"text":"b","text2":"d","lang2":"deu","split":"train"}' '{"text":"e","text2":"e","lang2":"fra"}'
rec flickr8k_1k_eval '{"image":1,"texts":{"en":["a dog","a cat"]},"text":"a dog"}' '{"image":1,"texts":{"en":["a cat","the sun"]},"text":"a cat"}'
rec coco_eval '{"image":1,"text":"a b"}'

test_ok 'all tasks, and what is not there by name' 'expect_code 1 evaluate -m ./all --keep kept --json out --table data > table 2> err; test_json out "length > 40 and all(.[]; has(\"skipped\") or (.low <= .value and .value <= .high and .n > 0))"
    test_json out "[.[] | select(.skipped) | .task] == [\"emoji text(ja)->picture\",\"emoji text(ar)->picture\",\"mulberry text<->picture\",\"stsb zh\",\"stsb de\",\"stsb fr\",\"tatoeba zh-en\"]"; grep -q "^mulberry .*no mulberry/manifest.jsonl" table; [ "$(wc -l < table)" -eq "$(($(wc -l < out) + 2))" ]'
test_ok 'names of pictures, both ways' 'test_json out "$eq all_of(\"stamps text->picture\"; 3; 4; 1/3) and all_of(\"stamps picture->text\"; 4; 3; 1/3)"; test_json out "[.[] | select(.task == \"stamps text->picture\") | .metric] == [\"R@1\",\"R@10\"]"
    test_json out "$eq all_of(\"video_synth text->clip\"; 2; 3; 0.5) and all_of(\"video_synth clip->text\"; 3; 2; 0.5) and all_of(\"gcwords text->picture\"; 2; 2; 0.5)"'
test_ok 'emoji in other languages' 'test_json out "$eq all_of(\"emoji text->picture\"; 2; 2; 0.5) and all_of(\"emoji text(zh)->picture\"; 1; 2; 1) and all_of(\"emoji text(fr)->picture\"; 1; 2; 0.5)"'
test_ok 'clip-art titles that are none' 'jq -r .text kept/clipart-names.jsonl > names; printf "%s\n" "a b c old" cat "dog pets" | test_cmp - names'
test_ok 'labels of the whole set' 'test_json out "$eq all_of(\"caltech101 labels\"; 2; 3; 1/3) and all_of(\"flowers labels\"; 1; 2; 0.5) and all_of(\"fsdd digits of unseen speakers\"; 1; 2; 0.5)"; jq -r .text kept/caltech101-labels.jsonl | sort > l; printf "%s\n" "a big dog" "a cat" "a sun" | test_cmp - l
    test_json out "$eq all_of(\"sounds labels, new recordings\"; 2; 3; 1/3) and all_of(\"sounds labels, other segments\"; 1; 3; 1/3) and (of(\"sounds labels, new recordings\")[0].groups == 1)"
    evaluate -m ./all --only caltech101 --template "the {}" --keep k2 data > log 2> err; jq -r .text k2/caltech101-labels.jsonl | sort > l; printf "%s\n" "the cat" "the dog" "the sun" | test_cmp - l'
test_ok 'speech to text and pictures' 'test_json out "$eq all_of(\"stamps speech->text\"; 3; 2; 0.5) and all_of(\"stamps speech->picture\"; 3; 4; (0.5 + 0.5 + 0.25) / 3) and (of(\"stamps speech->text\")[0].groups == 2)"
    test_json out "$eq all_of(\"gcwords speech->text\"; 3; 2; 0.5) and all_of(\"gcwords speech->picture\"; 2; 2; 0.5)"; jq -r .text kept/gcwords-spoken.jsonl > w; printf "%s\n" "the dog" "sun one" | test_cmp - w'
test_ok 'texts' 'test_json out "$eq of(\"stsb en\")[0] | .value == 1 and .n == 2"; test_json out "$eq all_of(\"tatoeba de->en\"; 3; 2; 0.5) and all_of(\"tatoeba en->de\"; 2; 3; 0.5) and of(\"tatoeba en->de\")[0].value == 1"'
test_ok 'captions' 'test_json out "$eq all_of(\"flickr8k caption->picture\"; 3; 2; 2/3) and all_of(\"flickr8k picture->caption\"; 2; 3; 2/3) and of(\"flickr8k caption->picture\")[0].groups == 2"; test_json out "[.[] | select(.task == \"coco caption->picture\") | .metric] == [\"R@1\",\"R@5\",\"R@10\"]"'
test_ok 'the same again, on standard output, from elsewhere' 'mkdir -p sub; cd sub; evaluate -m ../all --only emoji,stsb,coco_eval ../data > ../out2 2> ../table2; cd ..; jq -c "select(.task | test(\"^(emoji|stsb|coco)\"))" out > out1; jq -c . out2 > out3; test_cmp out1 out3; grep "^emoji" table > t1; grep "^emoji" table2 > t2; test_cmp t1 t2'
test_ok 'what a model does not take' 'expect_code 0 evaluate -m ./clip --only fsdd,flowers,stamps data > o 2> err; test_json o "[.[] | select(.skipped) | [.task, .skipped]] == [[\"fsdd digits of unseen speakers\",\"the model takes no audio\"],[\"stamps speech->text, speech->picture\",\"the model takes no audio\"]]"; test_json o "map(select(.task == \"flowers labels\")) | length == 1"
    expect_code 0 evaluate -m ./bert --only fsdd,flowers,stsb,video_synth data > o 2> err; test_json o "[.[] | select(.value) | .task] == [\"stsb en\"] and ([.[] | select(.skipped) | .skipped] | unique | contains([\"the model takes no audio\",\"the model takes no image\",\"the model takes no video\"]))"; grep -q "takes no video" err'
test_ok 'val, and sets that have none' 'expect_code 0 evaluate -m ./all --split val --only gcwords,flickr8k_1k_eval,flowers,fsdd data > o 2> err; test_json o "$eq all_of(\"gcwords text->picture\"; 1; 1; 1) and all_of(\"flowers labels\"; 1; 2; 0.5) and all_of(\"gcwords speech->picture\"; 1; 1; 1)"; test_json o "[.[] | select(.skipped) | [.task, .skipped]] == [[\"fsdd digits\",\"no val records\"],[\"flickr8k captions<->picture\",\"no val records\"]]"'
test_ok 'against an earlier run; the first numbers' 'evaluate -m ./all --only stamps,tatoeba --dim 4 --against kept data > o 2> t; test_json o "all(.[] | select(.value); .dim == 4 and (.against | .n > 0 and .low <= .difference and .difference <= .high))"; grep -q difference t; evaluate -m ./all --only tatoeba --against kept data > o 2> t; test_json o "all(.[] | select(.value); .against.difference == 0)"; expect_code 4 evaluate --against sub data 2> err'
test_ok 'a broken picture costs its record and is told' 'cp -r data bad; printf x > bad/caltech101/m/$(jq -r "select(.label == \"sun\") | .image" bad/caltech101/manifest.jsonl | sed "s,m/,,"); expect_code 1 evaluate -m ./all --only caltech101 bad > o 2> err; test_json o "all(.[]; .n == 1 and .failed == 1)"; grep -q "caltech101.*not counted" err; grep -q "(1 failed)" err'
test_ok 'a model that is none; a manifest that is none' 'expect_code 1 evaluate -m ./no-such --only stsb,fsdd data > o 2> err; test_json o "all(.[]; .skipped | test(\"no-such\"))"; mkdir -p broken/stsb broken/flowers; head -c 40 data/stsb/manifest.jsonl.gz > broken/stsb/manifest.jsonl.gz; expect_code 4 evaluate -m ./bert --only stsb broken 2> err; echo "{" > broken/flowers/manifest.jsonl; expect_code 4 evaluate -m ./all --only flowers broken > o 2> err; grep -q "manifest of flowers" err'
test_ok 'usage' 'evaluate --help > out3; grep -q "^usage: evaluate" out3; expect_code 2 evaluate; expect_code 2 evaluate --split train data; expect_code 2 evaluate --only nothing data 2> err; grep -q "nothing" err; expect_code 2 evaluate --dim x data; expect_code 2 evaluate --template x data; expect_code 2 evaluate -m; expect_code 2 evaluate --bad data; expect_code 2 evaluate a b; expect_code 4 evaluate none'
finish
