/*
 * The floor: the least that a server can do, in one loop over OpenSSL.
 *
 *   floor CERTIFICATE KEY SECONDS [DATABASE]
 *
 * It speaks the plain JSON of the peers: `{"to": "u1" or "*", "content": …}` in, and the same with
 * `from` out; a user is the id in `GET /?id=u1`.  It knows no account, and checks hardly anything.
 * What it does with a message is at_once.c or, with a DATABASE, stored.c.  It prints its port, and
 * ends after SECONDS.
 */

#define _GNU_SOURCE
#include "floor.h"
#include "websocket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER 65536

struct client {
    int fd, user, place;
    SSL *ssl;
    bool shaken, upgraded, waits_to_write, queued;
    char *out, *in; /* what could not be written, and what was not whole, yet */
    size_t out_length, out_capacity, in_length;
};

static struct client *by_user[MAX_USERS];
static struct client *everybody[MAX_USERS];
static struct client *queued[MAX_USERS]; /* who is written to at the end of the turn */
static int count, queued_count, poller;
static char buffer[BUFFER + 1], plain[BUFFER];

static void watch(struct client *c, bool for_writing) {
    if (c->waits_to_write == for_writing)
        return;
    c->waits_to_write = for_writing;
    struct epoll_event event = {.events = EPOLLIN | (for_writing ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

static void drop(struct client *c) {
    if (c->place >= 0) {
        everybody[c->place] = everybody[--count];
        everybody[c->place]->place = c->place;
        if (by_user[c->user] == c)
            by_user[c->user] = NULL;
    }
    ERR_clear_error();
    SSL_free(c->ssl);
    close(c->fd);
    free(c->out);
    free(c->in);
    free(c);
}

static void append(struct client *c, const char *data, size_t length) {
    if (c->out_length + length > c->out_capacity) {
        c->out_capacity = (c->out_length + length) * 2;
        c->out = realloc(c->out, c->out_capacity);
        if (!c->out)
            abort();
    }
    memcpy(c->out + c->out_length, data, length);
    c->out_length += length;
}

static void keep(struct client *c, const char *data, size_t length) {
    append(c, data, length);
    watch(c, true);
}

void deliver(struct client *c, const char *data, size_t length) {
    if (c->out_length) {
        keep(c, data, length);
        return;
    }
    int n = SSL_write(c->ssl, data, (int)length);
    size_t done = n > 0 ? (size_t)n : 0;
    if (done < length)
        keep(c, data + done, length - done);
}

static void flush(struct client *c) {
    size_t done = 0;
    while (done < c->out_length) {
        size_t left = c->out_length - done;
        int n = SSL_write(c->ssl, c->out + done, (int)(left < 16384 ? left : 16384));
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    c->out_length -= done;
    if (done)
        memmove(c->out, c->out + done, c->out_length);
    watch(c, c->out_length > 0);
}

void queue(struct client *c, const char *data, size_t length) {
    append(c, data, length);
    if (!c->queued)
        queued[queued_count++] = c;
    c->queued = true;
}

void flush_queued(void) {
    while (queued_count) {
        struct client *c = queued[--queued_count];
        c->queued = false;
        if (!c->waits_to_write)
            flush(c);
    }
}

void route(int from, int to, const char *frame, size_t size,
           void (*give)(struct client *, const char *, size_t)) {
    if (to != EVERYBODY) {
        if (by_user[to])
            give(by_user[to], frame, size);
        return;
    }
    for (int i = 0; i < count; i++)
        if (everybody[i]->user != from)
            give(everybody[i], frame, size);
}

/* One message in, and out to whom it is for. */
static void message(struct client *from, const char *text, size_t length) {
    static char frame[BUFFER + 100];
    const char *to = memmem(text, length, "\"to\":\"", 6);
    const char *content = memmem(text, length, ",\"content\":\"", 12);
    if (!to || !content)
        return;
    char head[60];
    size_t rest = length - (size_t)(content - text);
    int n = snprintf(head, sizeof head, "{\"from\":\"u%d\"", from->user);
    size_t at = ws_header(frame, WS_TEXT, (size_t)n + rest, NULL);
    memcpy(frame + at, head, (size_t)n);
    memcpy(frame + at + n, content, rest);
    size_t size = at + (size_t)n + rest;
    unsigned user = (unsigned)atoi(to + 7);
    if (to[6] == '*')
        accept_message(from->user, EVERYBODY, frame, size);
    else if (user < MAX_USERS)
        accept_message(from->user, (int)user, frame, size);
}

static bool frames(struct client *c, char *data, size_t length) {
    size_t at = 0;
    struct ws_frame frame;
    while (ws_parse(data + at, length - at, &frame) && length - at >= frame.header + frame.length) {
        if (!frame.mask || frame.length >= BUFFER || frame.opcode == WS_CLOSE)
            return false;
        if (frame.opcode == WS_TEXT) {
            ws_mask(plain, data + at + frame.header, frame.length, frame.mask);
            plain[frame.length] = 0;
            message(c, plain, frame.length);
        }
        at += frame.header + frame.length;
    }
    c->in_length = length - at;
    if (c->in_length) {
        char *rest = malloc(c->in_length);
        memcpy(rest, data + at, c->in_length);
        free(c->in);
        c->in = rest;
    } else if (c->in) {
        free(c->in);
        c->in = NULL;
    }
    return true;
}

static bool upgrade(struct client *c, const char *request) {
    const char *id = strstr(request, "GET /?id=u"), *key = strcasestr(request, "sec-websocket-key: ");
    char text[100], accept[40], answer[300], welcome[60];
    unsigned char digest[SHA_DIGEST_LENGTH];
    unsigned user = id == request ? (unsigned)atoi(request + 10) : MAX_USERS;
    if (user >= MAX_USERS || !key || count == MAX_USERS)
        return false;
    int n = snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
    SHA1((unsigned char *)text, (size_t)n, digest);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof digest);
    n = snprintf(answer, sizeof answer,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n\r\n",
                 accept);
    deliver(c, answer, (size_t)n);
    c->upgraded = true;
    c->user = (int)user;
    by_user[user] = everybody[c->place = count++] = c;
    char body[40];
    int m = snprintf(body, sizeof body, "{\"welcome\":\"u%u\"}", user);
    size_t at = ws_header(welcome, WS_TEXT, (size_t)m, NULL);
    memcpy(welcome + at, body, (size_t)m);
    deliver(c, welcome, at + (size_t)m);
    return true;
}

static bool serve(struct client *c) {
    if (!c->shaken) {
        int n = SSL_accept(c->ssl);
        if (n != 1)
            return SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ;
        c->shaken = true;
    }
    do {
        size_t length = c->in_length;
        memcpy(buffer, c->in ? c->in : "", length);
        if (length == BUFFER)
            return false;
        int n = SSL_read(c->ssl, buffer + length, (int)(BUFFER - length));
        if (n <= 0)
            return SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ;
        length += (size_t)n;
        buffer[length] = 0;
        if (c->upgraded) {
            if (!frames(c, buffer, length))
                return false;
        } else if (strstr(buffer, "\r\n\r\n") && !upgrade(c, buffer))
            return false;
    } while (SSL_has_pending(c->ssl));
    return true;
}

static void welcome(int listener, SSL_CTX *context) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct client *c = calloc(1, sizeof *c);
        *c = (struct client){.fd = fd, .place = -1, .ssl = SSL_new(context)};
        SSL_set_fd(c->ssl, fd);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5)
        return 2;
    begin(argv[4]);
    signal(SIGPIPE, SIG_IGN);
    alarm((unsigned)atoi(argv[3]));
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_file(context, argv[1], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, argv[2], SSL_FILETYPE_PEM) != 1)
        return 2;
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        return 2;
    poller = epoll_create1(0);
    struct epoll_event events[512], event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(poller, events, 512, -1);
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (!c) {
                welcome(listener, context);
                continue;
            }
            if (events[i].events & EPOLLOUT)
                flush(c);
            if ((events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && !serve(c))
                drop(c);
        }
        end_turn();
    }
}
