/* kern_int.h - who fills the table; only dispatch.c calls these. Each overwrites what its level does better. */
#ifndef KERN_INT_H
#define KERN_INT_H

#include "kernels/mm_kern.h"

void mmk_fill_ref(mm_kern *k);
void mmk_fill_grad_ref(mm_kern *k);
void mmk_fill_avx2(mm_kern *k);
void mmk_fill_avx512(mm_kern *k);
void mmk_fill_vnni(mm_kern *k);
void mmk_fill_amx(mm_kern *k);
void mmk_fill_neon(mm_kern *k);
void mmk_fill_dotprod(mm_kern *k);

#endif
