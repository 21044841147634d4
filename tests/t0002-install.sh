#!/bin/sh
# make install and uninstall, the library as others use it, completions.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"

# the build under test, not another one: make finds it by the same compiler and flags
test_ok 'install' 'make -s --no-print-directory -C "$MM_ROOT" install DESTDIR="$PWD/root" prefix=/usr > log 2>&1 || { cat log; exit 1; }
    cd root/usr && [ -x bin/mm-embed ] && [ -f share/man/man1/mm-embed.1 ] && [ -f share/man/man7/mm.7 ] && [ -f lib/libmm.a ] && [ -f lib/libmm.so ] &&
    [ -f include/mm/base/mm_err.h ] && [ -f share/bash-completion/completions/mm-cat ] && [ -f share/zsh/site-functions/_mm-cat ] && [ -f share/fish/vendor_completions.d/mm-cat.fish ]'
test_ok 'no file knows the place it was staged in' 'must_fail grep -rIl "$PWD" root'
test_ok 'what is installed works' 'root/usr/bin/mm-cat --version > out && grep -q "^mm-cat " out && root/usr/bin/mm-get-model --list > out && grep -q "^minilm" out'
cat > use.c <<'SRC'
#include <base/mm_base.h>
#include <stdio.h>
int main(void)
{
    mm_buf b = { 0 };
    if (mm_base64_encode(&b, "foobar", 6)) return 1;
    puts(b.p);
    mm_buf_clear(&b);
    return 0;
}
SRC
# paths in mm.pc are those of the final place; PKG_CONFIG_SYSROOT_DIR is how a staged one is used
PKG_CONFIG_PATH=$PWD/root/usr/lib/pkgconfig
cc=${MM_CC:-cc}
export PKG_CONFIG_PATH cc
test_ok 'a program against the static library' 'flags="-Iroot/usr/include/mm root/usr/lib/libmm.a $(pkg-config --static --libs-only-l mm | sed "s/-lmm //") $(pkg-config --static --libs-only-other mm)"
    $cc use.c -o a $flags && [ "$(./a)" = Zm9vYmFy ]'
test_ok 'and the shared one' 'flags="$(PKG_CONFIG_SYSROOT_DIR=$PWD/root pkg-config --cflags --libs mm | sed "s, -I[^ ]*root/usr/include , ,")"
    $cc use.c -o b -Iroot/usr/include/mm -Lroot/usr/lib $(pkg-config --libs-only-l mm) && readelf -d b | grep -q "libmm.so.0" && [ "$(LD_LIBRARY_PATH=root/usr/lib:${LD_LIBRARY_PATH:-} ./b)" = Zm9vYmFy ]'

cat > complete.bash <<'SRC'
. root/usr/share/bash-completion/completions/mm-embed
try() { # WANTED WORD...: what the last word completes to
    want=$1
    shift
    COMP_WORDS=(mm-embed "$@") COMP_CWORD=$#
    _mm_embed
    [ "${COMPREPLY[*]}" = "$want" ] || { echo "'$*': '${COMPREPLY[*]}', not '$want'"; exit 1; }
}
mkdir -p "$HOME/.local/share/mm/models/minilm"
try --overflow --over
try split --overflow s
try 'cut split document error' --overflow = ''
try split --overflow = s
try --no-quiet --no-qui
try '' --threads ''
try minilm -m mini
try use.c use
SRC
test_ok 'bash completes options, choices, models, files' 'bash complete.bash'
test_if 'command -v zsh' 'zsh reads its completions' 'zsh -n root/usr/share/zsh/site-functions/_mm-*'
test_if 'command -v fish' 'fish completes options and choices' 'fish -c "source root/usr/share/fish/vendor_completions.d/mm-embed.fish; complete -C \"mm-embed --pooling c\"" > out && test_glob out "cls*"'
test_ok 'completions for no shell we know' 'expect_code 2 sh "$MM_ROOT/scripts/completions" csh mm-cat 2> err && grep -q "bash, zsh or fish" err'
test_ok 'uninstall leaves nothing' 'make -s --no-print-directory -C "$MM_ROOT" uninstall DESTDIR="$PWD/root" prefix=/usr > log 2>&1 || { cat log; exit 1; }
    find root ! -type d > left && test_cmp left /dev/null'
finish
