/* How often which time was measured. */

#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define BUCKETS 1024

/* Microseconds, in buckets that are at most 1/32 of their value wide. */
struct histogram {
    uint64_t count, max;
    uint64_t bucket[BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t microseconds);
/* The upper end of the bucket in which the percentile is, and at most the maximum; 0 of nothing. */
uint64_t histogram_percentile(const struct histogram *h, double percent);

#endif
