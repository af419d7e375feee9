/* From the outputs of several networks to class probabilities, and how sure they are. */
#include <math.h>

#include "bayesbinn.h"

/* probabilities of one network's logits, added to `sum`; returns their entropy, and the most probable class */
static double add_probabilities(const float *logits, int64_t classes, double *sum, int64_t *label) {
    int64_t best = 0;
    for (int64_t c = 1; c < classes; c++)
        if (logits[c] > logits[best]) best = c;
    double total = 0, weighted = 0;
    const double high = logits[best];
    for (int64_t c = 0; c < classes; c++) total += exp(logits[c] - high);
    const double log_total = log(total);
    for (int64_t c = 0; c < classes; c++) {
        const double log_prob = logits[c] - high - log_total, prob = exp(log_prob);
        sum[c] += prob, weighted += prob * log_prob;
    }
    *label = best;
    return -weighted;
}

/* share of networks whose class is not the most voted one */
static double disagreement(const int64_t *labels, int64_t count) {
    int64_t most = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t same = 0;
        for (int64_t k = 0; k < count; k++) same += labels[k] == labels[i];
        most = same > most ? same : most;
    }
    return 1 - (double)most / (double)count;
}

int bbn_predict(bbn_net *net, const float *x, int64_t num_x, int64_t first, int64_t count, float *logits,
                int64_t num_logits, int64_t *labels, double *out, int64_t num_out) {
    const int64_t inputs = bbn_num_inputs(net), classes = bbn_num_outputs(net), batch = num_x / inputs;
    if (classes < 2 || count < 1 || num_out != batch * (classes + BBN_FIGURES)) return BBN_OUT_OF_RANGE;
    const int status = bbn_run(net, x, num_x, first, count, logits, num_logits);
    if (status) return status;
    for (int64_t i = 0; i < num_logits; i++)
        if (!(logits[i] - logits[i] == 0)) return BBN_OVERFLOW;
    for (int64_t b = 0; b < batch; b++) {
        double *probs = out + b * (classes + BBN_FIGURES), *figures = probs + classes, expected = 0, entropy = 0;
        for (int64_t c = 0; c < classes; c++) probs[c] = 0;
        for (int64_t s = 0; s < count; s++)
            expected += add_probabilities(logits + (s * batch + b) * classes, classes, probs, labels + s);
        for (int64_t c = 0; c < classes; c++) {
            probs[c] /= (double)count;
            entropy -= probs[c] > 0 ? probs[c] * log(probs[c]) : 0;
        }
        expected /= (double)count;
        figures[0] = entropy, figures[1] = expected;
        figures[2] = entropy > expected && count > 1 ? entropy - expected : 0;
        figures[3] = disagreement(labels, count);
    }
    return BBN_OK;
}
