/* The seam of the floor: its loop, and what it does with a message. */

#ifndef FLOOR_H
#define FLOOR_H

#include <stddef.h>

#define MAX_USERS 20000
#define EVERYBODY (-1)

struct client;

/* floor.c: writes to a connection now, or at the end of the turn. */
void deliver(struct client *c, const char *data, size_t length);
void queue(struct client *c, const char *data, size_t length);
void flush_queued(void);

/* floor.c: gives a frame to a user, or to everybody but whom it is from. */
void route(int from, int to, const char *frame, size_t size,
           void (*give)(struct client *, const char *, size_t));

/* at_once.c or stored.c: the beginning, a whole frame to be delivered, and the end of a turn. */
void begin(const char *database);
void accept_message(int from, int to, const char *frame, size_t size);
void end_turn(void);

#endif
