/* The load: many WebSocket connections in one thread, which send, receive and take the time. */

#ifndef LOAD_H
#define LOAD_H

#include "histogram.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum state { CLOSED, CONNECTING, HANDSHAKING, UPGRADING, ENTERING, READY };

enum kind { BROADCAST, DIRECT, KINDS };

struct bytes {
    char *data;
    size_t length, capacity;
};

struct connection {
    int index; /* which line of the identities it is */
    int fd;
    enum state state;
    SSL *ssl;
    bool waits_to_write, dirty;
    bool counted; /* what it gets is a part of the measurement */
    uint64_t started;
    struct bytes in, out, stream;
    uint64_t frame_left; /* of a frame whose payload is read as it comes */
    uint64_t last_id;    /* wschat: the last message that came … */
    uint64_t acked_id;   /* … and the last that was acknowledged */
    bool ack_queued[KINDS];
};

struct identity {
    const char *id, *path;
};

/* What one server speaks, above WebSocket. */
struct protocol {
    const char *name;
    const char *subprotocol; /* NULL when none is asked for */
    int opcode;
    bool streams; /* messages do not end where frames end */
    /* The upgrade is done: what is to be said first. */
    void (*enter)(struct connection *c);
    /* A frame's payload, or with `streams` some of it. */
    void (*received)(struct connection *c, const char *data, size_t length);
    /* Writes one message into `to`; returns its length. `to_id` is NULL for a broadcast. */
    size_t (*message)(char *to, size_t size, const char *to_id, const char *content);
};

extern const struct protocol *protocol;
extern struct identity *identities;
extern int identity_count;
extern bool with_client_ids;
extern uint64_t ack_after[KINDS]; /* nanoseconds */

/* What was counted since the program began. */
struct counters {
    uint64_t delivered[KINDS], stored, receipts, acks, errors, lost;
    char first_error[200];
};
extern struct counters counters;

extern char phase; /* which phase messages say that they were sent in */
extern struct histogram latency[KINDS], connecting;

uint64_t now_ns(void);

void bytes_append(struct bytes *b, const char *data, size_t length);
void connections_begin(const char *host, int port);
void connection_open(struct connection *c);
void connection_close(struct connection *c);
void connection_send(struct connection *c, int opcode, const char *data, size_t length);
void connection_ready(struct connection *c);
void connection_failed(struct connection *c, const char *why);
void connections_turn(uint64_t until); /* handle what is there; wait no longer than that */
int connection_count(enum state state);

void ack_later(struct connection *c, enum kind kind);
enum kind message_came(struct connection *c, const char *data, size_t length);
const struct protocol *protocol_named(const char *name);

/* Called for each direct message that arrives, with the index of its sender. */
extern void (*direct_came)(int sender);
extern void (*input_came)(void); /* standard input can be read */

#endif
