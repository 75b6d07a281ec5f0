/* Connections: TCP, TLS, the WebSocket upgrade, frames in and out; nothing ever blocks. */

#define _GNU_SOURCE
#include "load.h"
#include "websocket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (1 << 20)
#define EVENTS 512

static int poller;
static SSL_CTX *context;
static struct sockaddr_in server;
static char buffer[READ_BYTES];
static struct connection **dirty;
static int dirty_count, dirty_capacity;
static int counts[READY + 1];

void (*input_came)(void);

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bytes_append(struct bytes *b, const char *data, size_t length) {
    if (b->length + length > b->capacity) {
        b->capacity = (b->length + length) * 2;
        b->data = realloc(b->data, b->capacity);
        if (!b->data)
            abort();
    }
    memcpy(b->data + b->length, data, length);
    b->length += length;
}

static void bytes_free(struct bytes *b) {
    free(b->data);
    *b = (struct bytes){0};
}

void connections_begin(const char *host, int port) {
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &server.sin_addr) != 1 || (ntohl(server.sin_addr.s_addr) >> 24) != 127) {
        fprintf(stderr, "load: %s is no loopback address\n", host);
        exit(2);
    }
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    /* The same key exchange and cipher with every server. */
    if (SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(context, "X25519") != 1)
        abort();
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 65536);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event); /* fails for a file, which is read otherwise */
}

static void enter_state(struct connection *c, enum state state) {
    counts[c->state]--;
    counts[c->state = state]++;
}

int connection_count(enum state state) { return counts[state]; }

static void watch(struct connection *c, bool for_writing) {
    if (c->waits_to_write == for_writing)
        return;
    c->waits_to_write = for_writing;
    struct epoll_event event = {.events = EPOLLIN | (for_writing ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

void connection_open(struct connection *c) {
    c->started = now_ns();
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        connection_failed(c, "no more sockets: is the limit of open files too low?");
        return;
    }
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    enter_state(c, CONNECTING);
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS) {
        connection_failed(c, strerror(errno));
        return;
    }
    c->waits_to_write = true;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

void connection_close(struct connection *c) {
    if (c->state == CLOSED)
        return;
    if (c->ssl) {
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    ERR_clear_error();
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    enter_state(c, CLOSED);
    bytes_free(&c->in);
    bytes_free(&c->out);
    bytes_free(&c->stream);
    c->frame_left = c->last_id = c->acked_id = 0;
}

void connection_failed(struct connection *c, const char *why) {
    if (!counters.lost++)
        snprintf(counters.first_error, sizeof counters.first_error, "connection %d: %s", c->index, why);
    connection_close(c);
}

void connection_ready(struct connection *c) {
    if (c->state != ENTERING)
        return;
    enter_state(c, READY);
    histogram_add(&connecting, (now_ns() - c->started) / 1000);
}

static void flush(struct connection *c) {
    size_t done = 0;
    while (done < c->out.length) {
        int n = SSL_write(c->ssl, c->out.data + done, (int)(c->out.length - done));
        if (n <= 0) {
            if (SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_WRITE) {
                connection_failed(c, "could not be written to");
                return;
            }
            break;
        }
        done += (size_t)n;
    }
    c->out.length -= done;
    if (done)
        memmove(c->out.data, c->out.data + done, c->out.length);
    watch(c, c->out.length > 0);
}

static void make_dirty(struct connection *c) {
    if (c->dirty)
        return;
    c->dirty = true;
    if (dirty_count == dirty_capacity) {
        dirty_capacity = dirty_capacity * 2 + 64;
        dirty = realloc(dirty, sizeof *dirty * (size_t)dirty_capacity);
        if (!dirty)
            abort();
    }
    dirty[dirty_count++] = c;
}

void connection_send(struct connection *c, int opcode, const char *data, size_t length) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    char head[WS_HEADER_MAX], body[65536];
    if (c->state < ENTERING || length > sizeof body)
        return;
    size_t n = ws_header(head, opcode, length, mask);
    ws_mask(body, data, length, mask);
    bytes_append(&c->out, head, n);
    bytes_append(&c->out, body, length);
    make_dirty(c);
}

static void upgrade(struct connection *c) {
    char request[2048], wanted[100] = "";
    if (protocol->subprotocol)
        snprintf(wanted, sizeof wanted, "Sec-WebSocket-Protocol: %s\r\n", protocol->subprotocol);
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                     identities[c->index].path, wanted);
    if (n >= (int)sizeof request) {
        connection_failed(c, "too long a path");
        return;
    }
    enter_state(c, UPGRADING);
    bytes_append(&c->out, request, (size_t)n);
    flush(c);
}

static void handshake(struct connection *c) {
    int n = SSL_connect(c->ssl);
    if (n == 1) {
        upgrade(c);
        return;
    }
    int error = SSL_get_error(c->ssl, n);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        watch(c, error == SSL_ERROR_WANT_WRITE);
    else
        connection_failed(c, "the TLS handshake failed");
}

static void connected(struct connection *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        connection_failed(c, strerror(error));
        return;
    }
    c->ssl = SSL_new(context);
    SSL_set_fd(c->ssl, c->fd);
    enter_state(c, HANDSHAKING);
    handshake(c);
}

static void control(struct connection *c, const struct ws_frame *frame, const char *payload) {
    if (frame->opcode == WS_PING)
        connection_send(c, WS_PONG, payload, frame->length);
    else if (frame->opcode == WS_CLOSE) {
        char why[160];
        unsigned code = frame->length >= 2 ? (unsigned char)payload[0] << 8 | (unsigned char)payload[1] : 0;
        int length = frame->length > 2 ? (int)frame->length - 2 : 0;
        snprintf(why, sizeof why, "closed by the server: %u %.*s", code, length, payload + 2);
        connection_failed(c, why);
    }
}

/* Handles what is whole; returns how many bytes that was. */
static size_t frames(struct connection *c, const char *data, size_t length) {
    size_t at = 0;
    while (at < length && c->state >= ENTERING) {
        if (c->frame_left) {
            size_t n = length - at < c->frame_left ? length - at : c->frame_left;
            c->frame_left -= n;
            at += n;
            protocol->received(c, data + at - n, n);
            continue;
        }
        struct ws_frame frame;
        if (!ws_parse(data + at, length - at, &frame))
            break;
        bool streamed = protocol->streams && frame.opcode < WS_CLOSE;
        if (!streamed && length - at < frame.header + frame.length)
            break;
        at += frame.header;
        if (streamed) {
            c->frame_left = frame.length;
            continue;
        }
        at += frame.length;
        if (frame.opcode >= WS_CLOSE)
            control(c, &frame, data + at - frame.length);
        else
            protocol->received(c, data + at - frame.length, frame.length);
    }
    return at;
}

static size_t upgraded(struct connection *c, char *data, size_t length) {
    char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (length < 12 || memcmp(data, "HTTP/1.1 101", 12)) {
        char why[120];
        snprintf(why, sizeof why, "no upgrade: %.*s", (int)strcspn(data, "\r"), data);
        connection_failed(c, why);
        return length;
    }
    enter_state(c, ENTERING);
    protocol->enter(c);
    return (size_t)(end + 4 - data);
}

static void readable(struct connection *c) {
    size_t length = c->in.length, at = 0;
    memcpy(buffer, c->in.data ? c->in.data : "", length);
    int n;
    do { /* all that the kernel gave, before it is looked at: frames are seldom split then */
        n = SSL_read(c->ssl, buffer + length, (int)(READ_BYTES - 1 - length));
        if (n > 0)
            length += (size_t)n;
    } while (n > 0 && SSL_has_pending(c->ssl) && length + 1 < READ_BYTES);
    bool ended = n <= 0 && SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_READ;
    buffer[length] = 0;
    if (c->state == UPGRADING)
        at = upgraded(c, buffer, length);
    if (c->state >= ENTERING)
        at += frames(c, buffer + at, length - at);
    if (c->state == CLOSED)
        return;
    c->in.length = 0;
    if (at < length)
        bytes_append(&c->in, buffer + at, length - at);
    if (ended)
        connection_failed(c, "lost");
    else if (length - at + 1 >= READ_BYTES)
        connection_failed(c, "too long a frame");
}

static void ready_for(struct connection *c, uint32_t events) {
    if (c->state == CONNECTING)
        connected(c);
    else if (c->state == HANDSHAKING)
        handshake(c);
    else {
        if (events & EPOLLOUT)
            flush(c);
        if (c->state >= UPGRADING && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
            readable(c);
    }
}

static void flush_all(void) {
    for (int i = 0; i < dirty_count; i++) {
        dirty[i]->dirty = false;
        if (dirty[i]->state >= ENTERING && !dirty[i]->waits_to_write)
            flush(dirty[i]);
    }
    dirty_count = 0;
}

void connections_turn(uint64_t until) {
    struct epoll_event events[EVENTS];
    flush_all();
    uint64_t now = now_ns();
    uint64_t wait = until > now ? until - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
    int n = epoll_pwait2(poller, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (!c)
            input_came();
        else if (c->state != CLOSED)
            ready_for(c, events[i].events);
    }
    flush_all();
}
