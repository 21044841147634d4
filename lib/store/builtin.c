/* The default model, when the build has one: the bytes of a GGUF file, linked into the library as they are. They lie in a section
 * of their own, read only, so that pages of it are read from disk when a model is opened and not before; programs that open no model do
 * not link this file at all. The Makefile says where the file is (DEFAULT_MODEL); without it the build has no default. */
#include "store/store_int.h"

#ifdef MM_DEFAULT_GGUF

/* 64: tensors are aligned within the file, and kernels like whole cache lines */
__asm__(".pushsection .mm_default, \"a\", %progbits\n"
        ".balign 64\n"
        ".globl mm_default_begin\n"
        ".hidden mm_default_begin\n"
        "mm_default_begin:\n"
        ".incbin \"" MM_DEFAULT_GGUF "\"\n"
        ".globl mm_default_end\n"
        ".hidden mm_default_end\n"
        "mm_default_end:\n"
        ".byte 0\n"
        ".popsection\n");
extern const uint8_t mm_default_begin[] __attribute__((visibility("hidden"))), mm_default_end[] __attribute__((visibility("hidden")));

const void *mm_store_builtin(size_t *len)
{
    *len = (size_t)(mm_default_end - mm_default_begin);
    return mm_default_begin;
}

#else

const void *mm_store_builtin(size_t *len)
{
    *len = 0;
    return NULL;
}

#endif
