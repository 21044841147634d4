#!/bin/sh
# make install and uninstall, the library as others use it, completions.
# shellcheck source=tests/lib-test.sh disable=SC2016
. "$MM_ROOT/tests/lib-test.sh"

# the build under test, not another one: make finds it by the same compiler and flags
test_ok 'install' 'make -s -C "$MM_ROOT" install DESTDIR="$PWD/root" prefix=/usr > log 2>&1 || { cat log; exit 1; }
    [ -x root/usr/bin/mm-embed ] && [ -f root/usr/share/man/man1/mm-embed.1 ] && [ -f root/usr/lib/libmm.a ] && [ -f root/usr/include/mm/base/mm_err.h ]'
cat > use.c <<'SRC'
#include <base/mm_base.h>
#include <stdio.h>
int main(void)
{
    mm_buf b = { 0 };
    mm_base64_encode(&b, "foobar", 6);
    puts(b.p);
    mm_buf_clear(&b);
    return 0;
}
SRC
# paths in mm.pc are those of the final place; here it stands under another root
test_ok 'a program against the static library' 'export PKG_CONFIG_PATH=$PWD/root/usr/lib/pkgconfig
    cc ${SAN:-} use.c -o a $(pkg-config --define-variable=prefix="$PWD/root/usr" --cflags mm | sed "s,-I/usr/include/mm,-I$PWD/root/usr/include/mm,") root/usr/lib/libmm.a $(pkg-config --static --libs mm | sed "s,-lmm,,") && [ "$(./a)" = Zm9vYmFy ]'
test_ok 'and the shared one' 'cc ${SAN:-} use.c -o b -Iroot/usr/include/mm -Lroot/usr/lib -lmm && [ "$(LD_LIBRARY_PATH=root/usr/lib ./b)" = Zm9vYmFy ]'
test_ok 'bash completion completes options and choices' 'bash -c ". root/usr/share/bash-completion/completions/mm-embed
    COMP_WORDS=(mm-embed --over); COMP_CWORD=1; _mm_embed; [ \"\${COMPREPLY[*]}\" = --overflow ]
    COMP_WORDS=(mm-embed --overflow s); COMP_CWORD=2; _mm_embed; [ \"\${COMPREPLY[*]}\" = split ]"'
test_ok 'uninstall leaves nothing' 'make -s -C "$MM_ROOT" uninstall DESTDIR="$PWD/root" prefix=/usr > log 2>&1 && [ -z "$(find root ! -type d)" ] || { find root ! -type d; exit 1; }'
finish
