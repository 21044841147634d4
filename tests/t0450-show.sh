#!/bin/sh
# mm-show: the page is well formed, whole in itself and safe whatever the records hold; thumbnails, sounds, and what cannot be decoded.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"
# well-formed: tags nest, values are quoted, every & is an entity; nothing comes from elsewhere, nothing runs
cat > "$test_dir/page.pl" <<'PL'
local $/; my $p = <STDIN>; my @open; my %id;
sub bad { print STDERR "@_\n"; exit 1 }
$p =~ s/^<!DOCTYPE html>\n// or bad("no doctype");
bad("control character or noncharacter") if $p =~ /[\x00-\x08\x0b-\x1f\x7f]/ || $p =~ /\xef\xbf[\xbe\xbf]/;
$p =~ s{<style>(.*?)</style>}{}s or bad("no style"); bad("style has < or &") if $1 =~ /[<&]/; bad("style loads") if $1 =~ /url\(|\@import/;
while ($p =~ /\G([^<]*)(<[^>]*>|\z)/gc) {
    my ($text, $tag) = ($1, $2);
    bad("raw & in text") if $text =~ /&(?!amp;|lt;|gt;|quot;|#39;)/; bad("raw > in text: $text") if $text =~ />/;
    last if $tag eq "";
    if ($tag =~ m{^</([a-z0-9]+)>$}) { my $o = pop @open; bad("</$1> closes <$o>") if $o ne $1; next }
    $tag =~ m{^<([a-z0-9]+)((?: [a-z-]+="[^"<>]*")*)(/?)>$} or bad("bad tag $tag");
    my ($name, $attrs, $end) = ($1, $2, $3);
    bad("<$name>") if $name =~ /^(script|iframe|object|embed|link|form)$/;
    bad("void <$name>") if ($name =~ /^(meta|img|br)$/) != ($end eq "/");
    while ($attrs =~ / ([a-z-]+)="([^"]*)"/g) {
        bad("raw & in $1") if $2 =~ /&(?!amp;|lt;|gt;|quot;|#39;)/; bad("$1 runs") if $1 =~ /^on/;
        bad("src $2") if $1 eq "src" && $2 !~ m{^data:(image/jpeg|audio/[a-z]+);base64,[A-Za-z0-9+/=]+$};
        bad("href $2") if $1 eq "href" && ($2 =~ m{^//} || $2 !~ m{^[A-Za-z0-9._~/%-]+$});
    }
    push @open, $name if !$end;
}
bad("left open: @open") if @open; bad("not all read") if pos($p) < length $p;
PL
cat > "$test_dir/images.pl" <<'PL'
local $/; my $p = <STDIN>; my $n = 0; use MIME::Base64;
while ($p =~ m{ src="data:(image|audio)/[a-z]+;base64,([^"]*)"}g) { open F, ">", "$ARGV[0]." . $n++; print F decode_base64($2); close F }
PL
cat >> "$test_dir/helpers" <<'H'
page() { perl "$test_dir/page.pl" < "$1"; }
media_of() { rm -f "$2".*; perl "$test_dir/images.pl" "$2" < "$1"; } # PAGE NAME: its pictures and sounds become NAME.0, NAME.1 ...
H
cat > "$test_dir/near.pl" <<'PL'
local $/; open A, $ARGV[0]; open B, $ARGV[1]; my @a = unpack "C*", <A>; my @b = unpack "C*", <B>; exit 1 if !@a || @a != @b; my $d = 0; $d += abs($a[$_] - $b[$_]) for 0 .. $#a;
exit($d / @a < 5 ? 0 : 1)
PL
cat >> "$test_dir/helpers" <<'H'
near() { perl "$test_dir/near.pl" "$1" "$2"; } # raw pixels, the mean difference under 5 levels
H
export test_dir
mk_media png wide.png w=400 h=100 && mk_media jpeg tall.jpg w=90 h=300 orientation=1 && mk_media png small.png w=40 h=30 && mk_media mp4 clip.mp4 w=96 h=64 frames=10 fps=5 &&
    mk_media wav tone.wav ms=500 && mk_media wav long.wav ms=20000 || exit 1
hit() { printf '{"score":%s,"id":"%s","%s":"%s"}' "$1" "$2" "$3" "$2"; }
printf '{"text":"a question","model":"m@1","hits":[%s,%s,%s,%s,%s]}\n' "$(hit 0.5 wide.png image)" "$(hit 0.4 tall.jpg image)" "$(hit 0.3 small.png image)" \
    "$(hit 0.2 clip.mp4 video)" "$(hit -0.1 tone.wav audio)" > hits

test_ok 'a page: what was asked, what was found, in order' 'mm-show hits > p.html; page p.html; grep -q "<h2 dir=\"auto\">a question</h2>" p.html; grep -q "<p>5 hits by m@1</p>" p.html; grep -o "class=\"id\" dir=\"auto\">[a-z.0-9]*" p.html | cut -d">" -f2 > ids; printf "wide.png\ntall.jpg\nsmall.png\nclip.mp4\ntone.wav\n" | test_cmp ids -
    grep -o "</span></div>\|</i></span>[-0-9.]*" p.html | cut -d">" -f3 > scores; printf "0.500\n0.400\n0.300\n0.200\n-0.100\n" | test_cmp scores -; grep -o "width:[0-9]*%\"" p.html > bars; printf "width:100%%\"\nwidth:80%%\"\nwidth:60%%\"\nwidth:40%%\"\nwidth:0%%\"\n" | test_cmp bars -; grep -q "1 query, 5 hits" p.html'
test_ok 'thumbnails: 160 pixels at most, in proportion, not enlarged; a video by its first frame; a sound as it is' 'media_of p.html t; mm-media t.0 t.1 t.2 t.3 | jq -c "[.format,.width,.height]" > sizes; printf "[\"jpeg\",160,40]\n[\"jpeg\",48,160]\n[\"jpeg\",40,30]\n[\"jpeg\",96,64]\n" | test_cmp sizes -; test_cmp t.4 tone.wav; grep -q "src=\"data:audio/wav;" p.html; grep -q "<b>▶ 2.0 s</b>" p.html; mm-show --size 64 hits > q.html; media_of q.html t; mm-media t.0 | jq -e ".width == 64 and .height == 16"'
test_ok 'the colours are those of the picture, transparency is on white' 'mk_media gif see.gif w=60 h=40 alpha=1; mm-show small.png see.gif > p.html; page p.html; media_of p.html t; pixels rgb t.0 > a 2> size; pixels rgb small.png > b 2> size; near a b; pixels rgb t.1 > a 2> size; pixels alpha white see.gif > b 2> size; near a b; pixels alpha black see.gif > b 2> size; must_fail near a b'
test_ok 'what stands in records cannot break out of the page' 'cat > evil <<"J"
{"text":"<script>alert(1)</script> & \"q\" '"'"'s'"'"' \u0000\u0001\u007f\ufffe \ud83d\ude00 雪","id":"</title>","model":"<b>","hits":[{"score":1,"id":"javascript:alert(1)//.png","image":"javascript:alert(1)//.png"},{"score":0.5,"id":"\"><img src=x onerror=alert(1)>","text":"]]>--><!-- &lt;","k":"<i>"},{"score":"high","id":7,"text":null},{"id":{"a":[1,"<u>"]}}]}
{"id":"x","text":"plain","hits":[{"id":"//host/share.png","path":"//host/share.png"},{"id":"q","path":"a b?#%&\".png"}]}
J
    expect_code 1 mm-show --show k --title "T <&> \"" evil > p.html 2> err; page p.html; grep -q "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;q&quot; &#39;s&#39;" p.html; grep -q "<title>T &lt;&amp;&gt; &quot;</title>" p.html; grep -q "k: <i>&lt;i&gt;</i>" p.html; must_fail grep -q "href=\"javascript:" p.html'
test_ok 'links lead to the files, and nowhere else' 'mkdir -p "d e"; cp small.png "d e/a:b?#%.png"; cp small.png javascript:x.png; cp small.png "$(printf "n\\303\\266\\361.png")"; find . -name "a:*" -o -name "java*" -o -name "n*.png" | sort > list; mm-show list > p.html; page p.html; grep -o "href=\"[^\"]*\"" p.html > links; printf "href=\"./d%%20e/a%%3Ab%%3F%%23%%25.png\"\nhref=\"./javascript%%3Ax.png\"\nhref=\"./n%%C3%%B6%%F1.png\"\n" | sort | test_cmp - links; mm-show "//$PWD/small.png" > p.html; page p.html; grep -q "href=\"/.//" p.html'
test_ok 'one broken picture costs its thumbnail' 'echo "no picture" > broken.jpg; head -c 300 wide.png > cut.png; printf "{\"text\":\"q\",\"hits\":[{\"id\":1,\"image\":\"small.png\"},{\"id\":2,\"image\":\"broken.jpg\"},{\"id\":3,\"image\":\"gone.png\"},{\"id\":4,\"image\":\"cut.png\"},{\"id\":5,\"image\":{\"b64\":\"!\"}},{\"id\":6,\"image\":\"wide.png\"}]}\n" > some; expect_code 1 mm-show some > p.html 2> err; page p.html; media_of p.html t; [ -e t.1 ]; [ ! -e t.2 ]; grep -c "class=\"pic none\"" p.html > n; [ "$(cat n)" -eq 4 ]; grep -q "broken.jpg.*not a picture" p.html; grep -q "gone.png.*No such file" p.html; grep -q "no base64" p.html; grep -q "6 hits, 4 not to be shown" p.html; grep -q "4 of 6 pictures" err'
cat > crash <<'C'
#!/bin/sh
[ -e once ] || { : > once; kill -SEGV $$; }
exec mm-media "$@"
C
chmod +x crash
test_ok 'so does one that crashes the decoder' 'rm -f once; expect_code 1 env MM_MEDIA=./crash mm-show --workers 1 small.png wide.png tall.jpg > p.html 2> err; page p.html; media_of p.html t; [ -e t.1 ]; [ ! -e t.2 ]; grep -q "the decoder crashed" p.html'
test_ok 'a sound that is too large is named' 'mm-show tone.wav long.wav > p.html; page p.html; [ "$(grep -c "<audio" p.html)" -eq 1 ]; grep -q "0.7 MB, not in this page" p.html; mm-show --max-sound 1000000 tone.wav long.wav > p.html; [ "$(grep -c "<audio" p.html)" -eq 2 ]; mm-show --max-sound 0 tone.wav > p.html; must_fail grep -q "<audio" p.html'
test_ok 'asked with a picture, a sound, a text that failed; nothing found' 'printf "%s\n" "{\"id\":\"small.png\",\"path\":\"small.png\",\"modality\":\"image\",\"hits\":[]}" "{\"id\":\"s\",\"audio\":\"tone.wav\",\"hits\":[{\"id\":\"t\",\"text\":\"only words\"}]}" "{\"text\":\"z\",\"error\":{\"code\":\"MM_EEMPTY\",\"message\":\"a zero vector\"}}" > asks; expect_code 1 mm-show asks > p.html 2> err; page p.html; media_of p.html t; test_cmp t.1 tone.wav; mm-media t.0 | jq -e ".width == 40"; grep -q "Nothing was found" p.html; grep -q "class=\"bad\">a zero vector" p.html; grep -q "3 queries, 1 hit" p.html'
test_ok 'records without hits: pictures, labels, texts with a path' 'printf "%s\n" "{\"id\":\"a\",\"image\":\"small.png\",\"labels\":[{\"label\":\"<cat>\",\"score\":0.93},{\"label\":\"dog\",\"score\":0.01}]}" "{\"id\":\"b\",\"path\":\"notes.txt\",\"text\":\"words\",\"modality\":\"text\",\"year\":2020}" "{\"id\":\"c\",\"error\":{\"code\":\"MM_EIO\",\"message\":\"gone\"}}" > recs; expect_code 1 mm-show --show year recs > p.html 2> err; page p.html; grep -q "&lt;cat&gt; 0.93" p.html; grep -q "year: <i>2020</i>" p.html; grep -q "<span>gone</span>" p.html; grep -q "<title>Records</title>" p.html; [ "$(grep -c "<li>" p.html)" -eq 3 ]; mm-show < /dev/null > p.html; page p.html; grep -q "0 records" p.html'
test_ok 'a picture in the record, one on standard input, from frames' 'printf "{\"id\":\"b\",\"image\":{\"b64\":\"%s\"}}\n" "$(base64 -w0 small.png)" > b64; mm-show b64 > p.html; page p.html; media_of p.html t; mm-media t.0 | jq -e ".width == 40"; mm-show - < small.png > q.html; page q.html; media_of q.html u; test_cmp t.0 u.0; mm-cat -b hits | mm-show > p.html; mm-show hits > q.html; test_cmp p.html q.html'
test_ok 'thousands of hits, any number of decoders: the same page' 'awk "BEGIN { printf \"{\\\"text\\\":\\\"q\\\",\\\"hits\\\":[\"; for (i = 0; i < 2000; i++) printf \"%s{\\\"score\\\":%.4f,\\\"id\\\":\\\"%d\\\",\\\"image\\\":\\\"small.png\\\"}\", i ? \",\" : \"\", 1 - i / 2000, i; print \"]}\" }" > many; mm-show --workers 1 many > p.html; page p.html; [ "$(grep -c "<img" p.html)" -eq 2000 ]; mm-show --workers 3 many > q.html; test_cmp p.html q.html; for i in 1 2 3 4 5 6 7 8 9; do cat hits; done > nine; mm-show nine > p.html; page p.html; grep -q "9 queries, 45 hits" p.html'
test_ok 'a file appears when it is whole' 'expect_code 3 mm-show --strict -o f.html asks 2> err; [ ! -e f.html ]; mm-show -q -o f.html hits; page f.html; expect_code 4 mm-show hits > /dev/full 2> err; expect_code 4 mm-show -o no/f.html hits 2> err'
test_ok 'hits that are no list' 'printf "%s\n" "{\"id\":\"x\",\"hits\":7}" "{\"id\":\"y\",\"hits\":[1,null,[]]}" > odd; expect_code 1 mm-show odd > p.html 2> err; page p.html; grep -q "is not a list" p.html'
test_ok 'usage' 'expect_code 2 mm-show --size 1 hits 2> err; expect_code 2 mm-show --nonsense 2> err; expect_code 4 mm-show nowhere.jsonl 2> err || expect_code 1 mm-show nowhere.jsonl > out 2> err'

test_ok 'what mm-generate said is shown' 'echo "{\"id\":\"a\",\"generated\":\"a sleepy cat\"}" | mm-show > gen.html; grep -q "a sleepy cat" gen.html'
test_ok '-o does not replace what is read' 'echo "{\"id\":1}" > mine.jsonl; cp mine.jsonl was; expect_code 2 mm-show -o mine.jsonl mine.jsonl 2> err; test_cmp mine.jsonl was'
test_ok 'an archive among the operands costs one record' 'printf "PK\003\004 and more of it" > x.docx; echo "{\"id\":\"b\",\"text\":\"two\"}" > b.jsonl; expect_code 1 mm-show x.docx b.jsonl > two.html 2> err; grep -q "zip" err; grep -q two two.html'
finish
