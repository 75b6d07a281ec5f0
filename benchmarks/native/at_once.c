/* The floor that stores nothing: each delivery is a write of its own, at once. */

#include "floor.h"

void begin(const char *database) { (void)database; }

void accept_message(int from, int to, const char *frame, size_t size) {
    route(from, to, frame, size, deliver);
}

void end_turn(void) {}
