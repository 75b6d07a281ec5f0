/* Histograms: one bucket a microsecond up to 64, then 32 to each power of two. */

#include "histogram.h"

void histogram_add(struct histogram *h, uint64_t us) {
    int exponent = us < 64 ? 0 : 58 - __builtin_clzll(us);
    size_t at = (size_t)exponent * 32 + (us >> exponent);
    h->bucket[at < BUCKETS ? at : BUCKETS - 1]++;
    h->count++;
    if (us > h->max)
        h->max = us;
}

/* The upper end of the bucket in which the percentile is; no more than the maximum. */
uint64_t histogram_percentile(const struct histogram *h, double percent) {
    uint64_t wanted = (uint64_t)((double)h->count * percent / 100 + 0.999999), seen = 0;
    for (size_t at = 0; at < BUCKETS; at++) {
        seen += h->bucket[at];
        if (seen >= wanted && seen) {
            int exponent = at < 64 ? 0 : (int)(at / 32) - 1;
            uint64_t low = at < 64 ? at : (at % 32 + 32) << exponent;
            uint64_t high = low + ((uint64_t)1 << exponent) - 1;
            return high < h->max ? high : h->max;
        }
    }
    return h->max;
}
