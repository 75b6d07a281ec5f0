/* WebSocket frames (RFC 6455, section 5), as far as the load and the floor speak them. */

#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

#define WS_HEADER_MAX 14

struct ws_frame {
    int opcode;
    size_t header; /* bytes before the payload */
    uint64_t length;
    const unsigned char *mask; /* NULL when the payload is not masked */
};

/* Reads a header: 1 when it is whole, 0 when more bytes are needed. */
static inline int ws_parse(const char *data, size_t size, struct ws_frame *frame) {
    const unsigned char *p = (const unsigned char *)data;
    if (size < 2)
        return 0;
    size_t header = 2;
    uint64_t length = p[1] & 0x7f;
    if (length == 126)
        header = 4;
    else if (length == 127)
        header = 10;
    size_t masked = (p[1] & 0x80) ? 4 : 0;
    if (size < header + masked)
        return 0;
    if (header == 4)
        length = (uint64_t)p[2] << 8 | p[3];
    else if (header == 10) {
        length = 0;
        for (int i = 2; i < 10; i++)
            length = length << 8 | p[i];
    }
    frame->opcode = p[0] & 0x0f;
    frame->mask = masked ? p + header : NULL;
    frame->header = header + masked;
    frame->length = length;
    return 1;
}

/* Writes a header, and returns its length. */
static inline size_t ws_header(char *to, int opcode, size_t length, const unsigned char *mask) {
    unsigned char *p = (unsigned char *)to;
    size_t n = 2;
    p[0] = (unsigned char)(0x80 | opcode);
    if (length < 126)
        p[1] = (unsigned char)length;
    else if (length < 65536) {
        p[1] = 126;
        p[2] = (unsigned char)(length >> 8);
        p[3] = (unsigned char)length;
        n = 4;
    } else {
        p[1] = 127;
        for (int i = 0; i < 8; i++)
            p[2 + i] = (unsigned char)(length >> (56 - 8 * i));
        n = 10;
    }
    if (mask) {
        p[1] |= 0x80;
        memcpy(p + n, mask, 4);
        n += 4;
    }
    return n;
}

/* Masks or unmasks: the same either way. */
static inline void ws_mask(char *to, const char *from, size_t length, const unsigned char *mask) {
    uint32_t word;
    memcpy(&word, mask, 4);
    uint64_t wide = (uint64_t)word << 32 | word;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t value;
        memcpy(&value, from + i, 8);
        value ^= wide;
        memcpy(to + i, &value, 8);
    }
    for (; i < length; i++)
        to[i] = (char)(from[i] ^ mask[i & 3]);
}

#endif
