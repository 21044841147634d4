/* matmul.c - products of two matrices of which neither was packed before. */
#include <string.h>
#include "kernels/gemm_int.h"
#include "kernels/mm_grad.h"
#include "kernels/mm_kern.h"
#include "kernels/scratch_int.h"

enum { ROWS = 16, COLS = 64 };

int mmk_matmul(const struct mm_kern *kern, float *c, size_t ldc, size_t m, size_t n, size_t k, const float *a, size_t lda,
               int ta, const float *b, size_t ldb, int tb, const float *bias, const float *residual, size_t ldr,
               mmk_act act, int threads)
{
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (size_t row = 0; row < m; row += ROWS) {
        size_t rows = m - row < ROWS ? m - row : ROWS;
        for (size_t col = 0; col < n; col += COLS) {
            size_t cols = n - col < COLS ? n - col : COLS;
            double sum[ROWS][COLS] = { { 0 } };
            for (size_t t = 0; t < k; t++)
                for (size_t i = 0; i < rows; i++) {
                    double x = (double)(ta ? a[t * lda + row + i] : a[(row + i) * lda + t]);
                    if (tb)
                        for (size_t j = 0; j < cols; j++) sum[i][j] += x * b[(col + j) * ldb + t];
                    else
                        for (size_t j = 0; j < cols; j++) sum[i][j] += x * b[t * ldb + col + j];
                }
            for (size_t i = 0; i < rows; i++) {
                float y[COLS];
                for (size_t j = 0; j < cols; j++) y[j] = (float)(sum[i][j] + (bias ? bias[col + j] : 0));
                kern->act(y, cols, act);
                for (size_t j = 0; j < cols; j++)
                    c[(row + i) * ldc + col + j] = y[j] + (residual ? residual[(row + i) * ldr + col + j] : 0);
            }
        }
    }
    return MMK_OK;
}
