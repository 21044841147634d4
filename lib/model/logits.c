/* From cosines to probabilities, as the two kinds of contrastive training define them (CLIP, arXiv:2103.00020; SigLIP, arXiv:2303.15343). */
#include <math.h>
#include "model/model_int.h"

void mm_logits_scores(mm_logits how, const float *vec, const float *candidates, size_t n, size_t dim, double *scores)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) {
        double dot = 0;
        for (size_t d = 0; d < dim; d++) dot += (double)vec[d] * (double)candidates[i * dim + d];
        scores[i] = (double)how.scale * dot + (double)how.bias;
        if (scores[i] > most) most = scores[i];
    }
    for (size_t i = 0; i < n; i++) sum += scores[i] = how.sigmoid ? 1 / (1 + exp(-scores[i])) : exp(scores[i] - most);
    for (size_t i = 0; i < n && !how.sigmoid; i++) scores[i] /= sum;
}
