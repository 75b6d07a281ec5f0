/*
 * The floor that stores: the messages of a turn go into SQLite in one transaction, and then what
 * each connection gets of them goes out in one write.
 *
 * The rows are as wschat's, with the same two indexes, and as durable.
 */

#define _GNU_SOURCE
#include "floor.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct held {
    int from, to;
    size_t at, size;
} *held;
static char *frames; /* of those that are held, one after the other */
static size_t held_count, held_capacity, frames_length, frames_capacity;

static sqlite3 *database;
static sqlite3_stmt *begin_immediate, *insert, *commit;

static void check(int result) {
    if (result != SQLITE_OK && result != SQLITE_DONE) {
        fprintf(stderr, "floor: %s\n", sqlite3_errmsg(database));
        exit(1);
    }
}

static sqlite3_stmt *statement(const char *text) {
    sqlite3_stmt *made;
    check(sqlite3_prepare_v3(database, text, -1, SQLITE_PREPARE_PERSISTENT, &made, NULL));
    return made;
}

static void run(sqlite3_stmt *statement) {
    check(sqlite3_step(statement));
    check(sqlite3_reset(statement));
}

void begin(const char *path) {
    check(sqlite3_open(path, &database));
    check(sqlite3_exec(database,
                       "PRAGMA journal_mode=WAL;"
                       "PRAGMA synchronous=FULL;"
                       "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL,"
                       " sender TEXT NOT NULL, timestamp TEXT NOT NULL, content TEXT NOT NULL,"
                       " stored_at DOUBLE NOT NULL, client_id TEXT);"
                       "CREATE INDEX messages_by_topic ON messages (topic, id);"
                       "CREATE UNIQUE INDEX messages_by_client_id ON messages (sender, client_id)"
                       " WHERE client_id IS NOT NULL;",
                       NULL, NULL, NULL));
    begin_immediate = statement("BEGIN IMMEDIATE");
    insert = statement("INSERT INTO messages (topic, sender, timestamp, content, stored_at, client_id)"
                       " VALUES (?, ?, ?, ?, ?, ?)");
    commit = statement("COMMIT");
}

void accept_message(int from, int to, const char *frame, size_t size) {
    if (held_count == held_capacity) {
        held_capacity = held_capacity * 2 + 64;
        held = realloc(held, held_capacity * sizeof *held);
    }
    if (frames_length + size > frames_capacity) {
        frames_capacity = (frames_length + size) * 2;
        frames = realloc(frames, frames_capacity);
    }
    if (!held || !frames)
        abort();
    held[held_count++] = (struct held){from, to, frames_length, size};
    memcpy(frames + frames_length, frame, size);
    frames_length += size;
}

/* A row, with an id of its client's as the SDK makes one for each message. */
static void store(const struct held *h) {
    static const char key[] = "\"content\":\"";
    static unsigned long long number;
    const char *frame = frames + h->at, *content = memmem(frame, h->size, key, sizeof key - 1);
    char sender[20], topic[20] = "broadcast", client_id[40];
    struct timespec now;
    content += sizeof key - 1; /* a message without is not accepted */
    clock_gettime(CLOCK_REALTIME, &now);
    if (h->to != EVERYBODY)
        snprintf(topic, sizeof topic, "u%d", h->to);
    sqlite3_bind_text(insert, 1, topic, -1, SQLITE_STATIC);
    sqlite3_bind_text(insert, 2, sender, snprintf(sender, sizeof sender, "u%d", h->from), SQLITE_STATIC);
    sqlite3_bind_text(insert, 3, "2026-01-01T00:00:00.000Z", 24, SQLITE_STATIC);
    sqlite3_bind_text(insert, 4, content, (int)(frame + h->size - content) - 2, SQLITE_STATIC);
    sqlite3_bind_double(insert, 5, (double)now.tv_sec + (double)now.tv_nsec / 1e9);
    int length = snprintf(client_id, sizeof client_id, "%llx", ++number);
    sqlite3_bind_text(insert, 6, client_id, length, SQLITE_STATIC);
    run(insert);
}

void end_turn(void) {
    if (!held_count)
        return;
    run(begin_immediate);
    for (size_t i = 0; i < held_count; i++)
        store(&held[i]);
    run(commit);
    for (size_t i = 0; i < held_count; i++)
        route(held[i].from, held[i].to, frames + held[i].at, held[i].size, queue);
    flush_queued();
    held_count = frames_length = 0;
}
