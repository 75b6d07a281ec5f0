/* What each server speaks above WebSocket. */

#define _GNU_SOURCE
#include "load.h"
#include "websocket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct counters counters;
char phase = '0';
struct histogram latency[KINDS], connecting;
void (*direct_came)(int sender);

static void failure(const char *data, size_t length) {
    if (!counters.errors++)
        snprintf(counters.first_error, sizeof counters.first_error, "%.*s",
                 length < 190 ? (int)length : 190, data);
}

static uint64_t hex(const char *digits, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; i++)
        value = value << 4 | (uint64_t)(digits[i] <= '9' ? digits[i] - '0' : digits[i] - 'a' + 10);
    return value;
}

/* Every content begins with @, the kind, the phase, and in hex digits the time of sending (16) and the
   sender (4). */
enum kind message_came(struct connection *c, const char *data, size_t length) {
    const char *mark = memchr(data, '@', length);
    if (!mark || mark + 23 > data + length || (mark[1] != 'b' && mark[1] != 'd'))
        return BROADCAST;
    enum kind kind = mark[1] == 'b' ? BROADCAST : DIRECT;
    if (!c->counted)
        return kind;
    counters.delivered[kind]++;
    if (mark[2] == phase) {
        uint64_t now = now_ns(), sent = hex(mark + 3, 16);
        histogram_add(&latency[kind], now > sent ? (now - sent) / 1000 : 0);
    }
    if (kind == DIRECT)
        direct_came((int)hex(mark + 19, 4));
    return kind;
}

/* wschat.v1 */

static void wschat_enter(struct connection *c) {
    static const char resume[] = "{\"type\":\"resume\",\"session\":\"bench\"}";
    connection_send(c, WS_TEXT, resume, sizeof resume - 1);
}

static void wschat_received(struct connection *c, const char *data, size_t length) {
    static const char start[] = "{\"type\":\"";
    const size_t n = sizeof start - 1;
    if (length < n + 8 || memcmp(data, start, n)) {
        failure(data, length);
        return;
    }
    switch (data[n]) {
    case 'm': { /* message */
        const char *id = memmem(data, length < 64 ? length : 64, "\"id\":", 5);
        if (id)
            c->last_id = strtoull(id + 5, NULL, 10);
        ack_later(c, message_came(c, data, length));
        break;
    }
    case 'c': /* caught_up */
        connection_ready(c);
        break;
    case 's': /* stored */
        counters.stored++;
        break;
    case 'd': /* delivered */
        counters.receipts++;
        break;
    case 'e': /* error */
        failure(data, length);
        break;
    }
}

/* A message of either kind of client: `type` and `client_id` are members, with their commas, or empty. */
static size_t chat_message(char *to, size_t size, const char *type, const char *client_id,
                           const char *to_id, const char *content) {
    return (size_t)snprintf(to, size,
                            "{%s\"header\":{\"to\":\"%s\",\"message_type\":\"%s\","
                            "\"timestamp\":\"2026-11-22T10:00:00.5Z\"%s},\"body\":{\"content\":\"%s\"}}",
                            type, to_id ? to_id : "broadcast", to_id ? "direct" : "broadcast", client_id,
                            content);
}

static size_t wschat_message(char *to, size_t size, const char *to_id, const char *content) {
    static unsigned long long number;
    char client_id[50] = "";
    if (with_client_ids)
        snprintf(client_id, sizeof client_id, ",\"client_id\":\"c%c-%llu\"", phase, ++number);
    return chat_message(to, size, "\"type\":\"message\",", client_id, to_id, content);
}

/* wschat's classic clients: nothing says that they are known, or that anything was stored. */

static void classic_enter(struct connection *c) { connection_ready(c); }

static void classic_received(struct connection *c, const char *data, size_t length) {
    static const char error[] = "\"status\":\"error\"";
    if (memmem(data, length, error, sizeof error - 1))
        failure(data, length);
    else
        message_came(c, data, length);
}

static size_t classic_message(char *to, size_t size, const char *to_id, const char *content) {
    return chat_message(to, size, "", "", to_id, content);
}

/* The plain JSON of the servers in ../peers and of the floor. */

static void json_enter(struct connection *c) { (void)c; }

static void json_received(struct connection *c, const char *data, size_t length) {
    if (c->state == ENTERING)
        connection_ready(c); /* the welcome */
    else
        message_came(c, data, length);
}

static size_t json_message(char *to, size_t size, const char *to_id, const char *content) {
    return (size_t)snprintf(to, size, "{\"to\":\"%s\",\"content\":\"%s\"}", to_id ? to_id : "*", content);
}

/* Socket.IO 5 on Engine.IO 4 */

static void socketio_received(struct connection *c, const char *data, size_t length) {
    if (length && data[0] == '0') { /* open: connect to the namespace */
        char text[200];
        int n = snprintf(text, sizeof text, "40{\"id\":\"%s\"}", identities[c->index].id);
        connection_send(c, WS_TEXT, text, (size_t)n);
    } else if (length == 1 && data[0] == '2')
        connection_send(c, WS_TEXT, "3", 1);
    else if (length > 1 && !memcmp(data, "40", 2))
        connection_ready(c);
    else if (length > 1 && !memcmp(data, "42", 2))
        message_came(c, data, length);
    else
        failure(data, length);
}

static size_t socketio_message(char *to, size_t size, const char *to_id, const char *content) {
    return (size_t)snprintf(to, size, "42[\"message\",{\"to\":\"%s\",\"content\":\"%s\"}]",
                            to_id ? to_id : "*", content);
}

/* NATS: the text protocol, as a stream in binary frames */

static void nats_enter(struct connection *c) {
    char text[400];
    int n = snprintf(text, sizeof text,
                     "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"lang\":\"c\","
                     "\"version\":\"1\",\"protocol\":1}\r\nSUB all 1\r\nSUB u.%s 2\r\nPING\r\n",
                     identities[c->index].id);
    connection_send(c, WS_BINARY, text, (size_t)n);
}

/* One operation at `data`; its length, or 0 when it is not whole. */
static size_t nats_operation(struct connection *c, const char *data, size_t length) {
    const char *end = memchr(data, '\n', length);
    if (!end)
        return 0;
    size_t line = (size_t)(end + 1 - data);
    if (!memcmp(data, "MSG ", 4)) {
        const char *digits = end - 1;
        while (digits[-1] != ' ')
            digits--;
        size_t size = strtoul(digits, NULL, 10);
        if (length < line + size + 2)
            return 0;
        message_came(c, end + 1, size);
        return line + size + 2;
    }
    if (!memcmp(data, "PONG", 4))
        connection_ready(c);
    else if (!memcmp(data, "PING", 4))
        connection_send(c, WS_BINARY, "PONG\r\n", 6);
    else if (!memcmp(data, "-ERR", 4))
        failure(data, line);
    return line;
}

static void nats_received(struct connection *c, const char *data, size_t length) {
    bool held = c->stream.length > 0;
    if (held) {
        bytes_append(&c->stream, data, length);
        data = c->stream.data;
        length = c->stream.length;
    }
    size_t at = 0, n;
    while (at < length && c->state >= ENTERING && (n = nats_operation(c, data + at, length - at)))
        at += n;
    if (c->state == CLOSED)
        return;
    if (held) {
        memmove(c->stream.data, c->stream.data + at, length - at);
        c->stream.length = length - at;
    } else if (at < length)
        bytes_append(&c->stream, data + at, length - at);
}

static size_t nats_message(char *to, size_t size, const char *to_id, const char *content) {
    if (!to_id)
        return (size_t)snprintf(to, size, "PUB all %zu\r\n%s\r\n", strlen(content), content);
    return (size_t)snprintf(to, size, "PUB u.%s %zu\r\n%s\r\n", to_id, strlen(content), content);
}

static const struct protocol protocols[] = {
    {"wschat", "wschat.v1", WS_TEXT, false, wschat_enter, wschat_received, wschat_message},
    {"classic", NULL, WS_TEXT, false, classic_enter, classic_received, classic_message},
    {"json", NULL, WS_TEXT, false, json_enter, json_received, json_message},
    {"socketio", NULL, WS_TEXT, false, json_enter, socketio_received, socketio_message},
    {"nats", NULL, WS_BINARY, true, nats_enter, nats_received, nats_message},
};

const struct protocol *protocol_named(const char *name) {
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
        if (!strcmp(protocols[i].name, name))
            return &protocols[i];
    return NULL;
}
