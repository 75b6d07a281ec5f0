/*
 * The load: commands on standard input, one a line; one line of JSON for each on standard output.
 *
 *   load PROTOCOL PORT IDENTITIES SECONDS PID...
 *
 * IDENTITIES is a file with an id and a request path a line.  The processor time of the PIDs is
 * taken at the ends of each measurement.  After SECONDS it ends, whatever it is doing.
 */

#define _GNU_SOURCE
#include "load.h"
#include "websocket.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define MAX_PIDS 64
#define MAX_WRITERS 1000
#define DRAIN (5 * SECOND)

const struct protocol *protocol;
struct identity *identities;
int identity_count;
bool with_client_ids = true;
uint64_t ack_after[KINDS] = {1000000000, 50000000};

static struct connection *connections;
static clockid_t clocks[MAX_PIDS];
static int clock_count;

static struct acks {
    struct connection **waiting; /* in the order in which they are due, which is that of asking */
    uint64_t *due;
    int first, queued;
} acks[KINDS];

/* What is being sent. */
static struct {
    int members, senders, window;
    int writers, writer_window; /* of direct messages */
    bool paired;
    uint64_t written[MAX_WRITERS];
    double rate, direct_rate, churn_rate;
    bool stopped;
    uint64_t sent[KINDS], next[KINDS], next_churn, skipped;
    int churned; /* the extra connections: from `members` on */
    int size;
} work;

/* Acknowledgements */

void ack_later(struct connection *c, enum kind kind) {
    struct acks *queue = &acks[kind];
    if (c->ack_queued[kind] || !ack_after[kind])
        return;
    c->ack_queued[kind] = true;
    int at = (queue->first + queue->queued++) % identity_count;
    queue->waiting[at] = c;
    queue->due[at] = now_ns() + ack_after[kind];
}

static void send_ack(struct connection *c) {
    if (c->state != READY || c->last_id <= c->acked_id)
        return;
    char text[60];
    int n = snprintf(text, sizeof text, "{\"type\":\"ack\",\"id\":%llu}", (unsigned long long)c->last_id);
    connection_send(c, WS_TEXT, text, (size_t)n);
    c->acked_id = c->last_id;
    counters.acks++;
}

static void send_acks(enum kind kind, uint64_t now) {
    struct acks *queue = &acks[kind];
    while (queue->queued && queue->due[queue->first] <= now) {
        struct connection *c = queue->waiting[queue->first];
        queue->first = (queue->first + 1) % identity_count;
        queue->queued--;
        c->ack_queued[kind] = false;
        send_ack(c);
    }
}

/* Sending */

static void send_message(struct connection *c, enum kind kind, const char *to_id, uint64_t when) {
    char content[4096], text[8192];
    int n = snprintf(content, sizeof content, "@%c%c%016llx%04x", kind == BROADCAST ? 'b' : 'd', phase,
                     (unsigned long long)when, (unsigned)c->index);
    memset(content + n, 'x', (size_t)(work.size - n));
    content[work.size] = 0;
    connection_send(c, protocol->opcode, text, protocol->message(text, sizeof text, to_id, content));
    work.sent[kind]++;
}

static void broadcast(uint64_t when) {
    struct connection *c = &connections[work.sent[BROADCAST] % (uint64_t)work.senders];
    send_message(c, BROADCAST, NULL, when);
}

/* To the other one of a pair; or, when there are none, to the next one of the others. */
static void direct(int writer, uint64_t when) {
    int to = work.writers + writer;
    if (!work.paired)
        to = (writer + 1 + (int)(work.written[writer]++ % (uint64_t)(work.writers - 1))) % work.writers;
    send_message(&connections[writer], DIRECT, identities[to].id, when);
}

static void direct_arrived(int sender) {
    if (work.writer_window && !work.stopped && sender < work.writers)
        direct(sender, now_ns());
}

/* As many as are due, each with the time at which it was: lateness is a part of its latency. */
static void send_paced(enum kind kind, double rate, uint64_t now) {
    while (rate > 0 && work.next[kind] <= now) {
        if (kind == BROADCAST)
            broadcast(work.next[kind]);
        else
            direct((int)(work.sent[DIRECT] % (uint64_t)work.writers), work.next[kind]);
        work.next[kind] += (uint64_t)(SECOND / rate);
    }
}

static void refill_broadcasts(uint64_t now) {
    uint64_t readers = (uint64_t)work.members - 1;
    while (work.window && work.sent[BROADCAST] * readers <
                              counters.delivered[BROADCAST] + (uint64_t)work.window * readers)
        broadcast(now);
}

static void churn(uint64_t now) {
    int extra = identity_count - work.members;
    for (int i = work.members; i < identity_count; i++)
        if (connections[i].state == READY)
            connection_close(&connections[i]);
    while (work.churn_rate > 0 && extra > 0 && work.next_churn <= now) {
        struct connection *c = &connections[work.members + work.churned++ % extra];
        c->counted = false;
        if (c->state == CLOSED)
            connection_open(c);
        else
            work.skipped++;
        work.next_churn += (uint64_t)(SECOND / work.churn_rate);
    }
}

static uint64_t next_due(uint64_t end) {
    uint64_t next = end;
    for (int kind = 0; kind < KINDS; kind++)
        if (acks[kind].queued && acks[kind].due[acks[kind].first] < next)
            next = acks[kind].due[acks[kind].first];
    if (work.stopped)
        return next;
    if (work.rate > 0 && work.next[BROADCAST] < next)
        next = work.next[BROADCAST];
    if (work.direct_rate > 0 && work.next[DIRECT] < next)
        next = work.next[DIRECT];
    if (work.churn_rate > 0 && work.next_churn < next)
        next = work.next_churn;
    return next;
}

static void turn(uint64_t end) {
    uint64_t now = now_ns();
    for (int kind = 0; kind < KINDS; kind++)
        send_acks(kind, now);
    if (!work.stopped) {
        send_paced(BROADCAST, work.rate, now);
        send_paced(DIRECT, work.direct_rate, now);
        refill_broadcasts(now);
        churn(now);
    }
    connections_turn(next_due(end));
}

/* Measuring */

struct reading {
    uint64_t wall, server, load;
    struct counters counters;
};

static uint64_t clock_of(clockid_t clock) {
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static struct reading take(void) {
    struct reading r = {.wall = now_ns(), .load = clock_of(CLOCK_PROCESS_CPUTIME_ID), .counters = counters};
    for (int i = 0; i < clock_count; i++)
        r.server += clock_of(clocks[i]);
    return r;
}

static void print_latency(const char *name, const struct histogram *h) {
    printf("\"%s\":{\"count\":%llu,\"p50\":%llu,\"p90\":%llu,\"p99\":%llu,\"max\":%llu}", name,
           (unsigned long long)h->count, (unsigned long long)histogram_percentile(h, 50),
           (unsigned long long)histogram_percentile(h, 90), (unsigned long long)histogram_percentile(h, 99),
           (unsigned long long)h->max);
}

static void print_reading(const struct reading *from, const struct reading *to) {
    printf("\"seconds\":%.6f,\"server_cpu\":%.6f,\"load_cpu\":%.6f,\"broadcasts\":%llu,\"directs\":%llu,"
           "\"stored\":%llu,\"receipts\":%llu,\"acks\":%llu,",
           (double)(to->wall - from->wall) / 1e9, (double)(to->server - from->server) / 1e9,
           (double)(to->load - from->load) / 1e9,
           (unsigned long long)(to->counters.delivered[BROADCAST] - from->counters.delivered[BROADCAST]),
           (unsigned long long)(to->counters.delivered[DIRECT] - from->counters.delivered[DIRECT]),
           (unsigned long long)(to->counters.stored - from->counters.stored),
           (unsigned long long)(to->counters.receipts - from->counters.receipts),
           (unsigned long long)(to->counters.acks - from->counters.acks));
}

static void print_faults(void) {
    for (char *p = counters.first_error; *p; p++)
        if (*p == '"' || *p == '\\' || *p < ' ' || *p > '~')
            *p = '\'';
    printf("\"errors\":%llu,\"lost\":%llu,\"fault\":\"%s\"}\n", (unsigned long long)counters.errors,
           (unsigned long long)counters.lost, counters.first_error);
    fflush(stdout);
    counters.errors = counters.lost = 0;
    counters.first_error[0] = 0;
}

/* Commands */

static double number(const char *line, const char *key, double otherwise) {
    char name[40];
    snprintf(name, sizeof name, " %s=", key);
    const char *found = strstr(line, name);
    return found ? strtod(found + strlen(name), NULL) : otherwise;
}

/* Open some more connections, so many at a time, and wait until they can be used. */
static void command_connect(const char *line) {
    int first = (int)number(line, "from", 0), count = (int)number(line, "count", 1);
    int at_once = (int)number(line, "at_once", 32);
    uint64_t end = now_ns() + (uint64_t)(number(line, "limit", 60) * 1e9);
    if (first + count > identity_count)
        count = identity_count - first;
    connecting = (struct histogram){0};
    struct reading from = take();
    int before = connection_count(READY), opened = 0;
    while (now_ns() < end && !counters.lost) {
        int made = connection_count(READY) - before;
        if (made == count)
            break;
        for (; opened < count && opened - made < at_once; opened++) {
            connections[first + opened].counted = number(line, "counted", 1) != 0;
            connection_open(&connections[first + opened]);
        }
        turn(end);
    }
    struct reading to = take();
    printf("{\"made\":%d,", connection_count(READY) - before);
    print_reading(&from, &to);
    print_latency("connecting", &connecting);
    printf(",");
    print_faults();
}

static void command_close(const char *line) {
    int first = (int)number(line, "from", 0), count = (int)number(line, "count", 1);
    for (int i = first; i < first + count && i < identity_count; i++)
        connection_close(&connections[i]);
    printf("{");
    print_faults();
}

/* Go on without sending anything. */
static void command_idle(const char *line) {
    uint64_t end = now_ns() + (uint64_t)(number(line, "seconds", 1) * 1e9);
    work.stopped = true;
    struct reading from = take();
    while (now_ns() < end)
        turn(end);
    struct reading to = take();
    printf("{");
    print_reading(&from, &to);
    print_faults();
}

static uint64_t expected(void) {
    return work.sent[BROADCAST] * ((uint64_t)work.members - 1) + work.sent[DIRECT];
}

static void begin_phase(void) {
    phase = phase == '9' ? '0' : (char)(phase + 1);
    memset(latency, 0, sizeof latency);
    connecting = (struct histogram){0};
}

static void run_for(uint64_t nanoseconds) {
    uint64_t end = now_ns() + nanoseconds;
    while (now_ns() < end && !counters.lost)
        turn(end);
}

/* Send for a while: a warm-up, the measurement, and then what is still on its way. */
static void command_work(const char *line) {
    memset(&work, 0, sizeof work);
    work.members = (int)number(line, "members", 2);
    work.senders = (int)number(line, "senders", 1);
    work.writers = (int)number(line, "writers", 0);
    work.paired = number(line, "paired", 1) != 0;
    work.window = (int)number(line, "window", 0);
    work.writer_window = (int)number(line, "writer_window", 0);
    work.rate = number(line, "rate", 0);
    work.direct_rate = number(line, "direct_rate", 0);
    work.churn_rate = number(line, "churn_rate", 0);
    work.size = (int)number(line, "size", 300);
    with_client_ids = number(line, "client_ids", 1) != 0;
    ack_after[BROADCAST] = (uint64_t)(number(line, "ack_after", 1) * 1e9);
    ack_after[DIRECT] = (uint64_t)(number(line, "ack_direct_after", 0.05) * 1e9);
    if (work.members > identity_count || work.writers * (work.paired ? 2 : 1) > work.members ||
        work.writers == 1 || work.writers > MAX_WRITERS || work.size > 4000 || work.size < 24 || work.senders < 1 ||
        work.senders > work.members) {
        printf("{\"errors\":1,\"lost\":0,\"fault\":\"bad numbers\"}\n");
        fflush(stdout);
        return;
    }
    counters.delivered[BROADCAST] = counters.delivered[DIRECT] = 0; /* the windows count from here */
    uint64_t now = now_ns();
    begin_phase();
    work.next[BROADCAST] = work.next[DIRECT] = work.next_churn = now;
    for (int writer = 0; writer < work.writers; writer++)
        for (int i = 0; i < work.writer_window; i++)
            direct(writer, now);
    run_for((uint64_t)(number(line, "warm", 1) * 1e9));
    begin_phase();
    struct reading from = take();
    uint64_t sent[KINDS] = {work.sent[BROADCAST], work.sent[DIRECT]};
    run_for((uint64_t)(number(line, "seconds", 5) * 1e9));
    struct reading to = take();
    sent[BROADCAST] = work.sent[BROADCAST] - sent[BROADCAST];
    sent[DIRECT] = work.sent[DIRECT] - sent[DIRECT];
    work.stopped = true;
    uint64_t arrived = 0, end = now_ns() + DRAIN;
    while (now_ns() < end && !counters.lost) {
        arrived = counters.delivered[BROADCAST] + counters.delivered[DIRECT];
        if (arrived >= expected())
            break;
        turn(now_ns() + SECOND / 100);
    }
    printf("{\"sent_broadcasts\":%llu,\"sent_directs\":%llu,\"undelivered\":%lld,\"connections_made\":%llu,"
           "\"connections_skipped\":%llu,",
           (unsigned long long)sent[BROADCAST], (unsigned long long)sent[DIRECT],
           (long long)(expected() - arrived), (unsigned long long)connecting.count,
           (unsigned long long)work.skipped);
    print_reading(&from, &to);
    print_latency("broadcast", &latency[BROADCAST]);
    printf(",");
    print_latency("direct", &latency[DIRECT]);
    printf(",");
    print_latency("connecting", &connecting);
    printf(",");
    print_faults();
}

static void command(const char *line) {
    if (!strncmp(line, "connect ", 8))
        command_connect(line);
    else if (!strncmp(line, "close ", 6))
        command_close(line);
    else if (!strncmp(line, "idle ", 5))
        command_idle(line);
    else if (!strncmp(line, "work ", 5))
        command_work(line);
    else {
        printf("{\"errors\":1,\"lost\":0,\"fault\":\"no such command\"}\n");
        fflush(stdout);
    }
}

static bool input_waits;

static void input(void) { input_waits = true; }

static void read_identities(const char *path) {
    FILE *file = fopen(path, "r");
    char id[100], request[1500];
    if (!file) {
        perror(path);
        exit(2);
    }
    int capacity = 0;
    while (fscanf(file, "%99s %1499s", id, request) == 2) {
        if (identity_count == capacity) {
            capacity = capacity * 2 + 128;
            identities = realloc(identities, sizeof *identities * (size_t)capacity);
        }
        identities[identity_count++] = (struct identity){strdup(id), strdup(request)};
    }
    fclose(file);
}

int main(int argc, char **argv) {
    if (argc < 5 || !(protocol = protocol_named(argv[1]))) {
        fprintf(stderr, "usage: load PROTOCOL PORT IDENTITIES SECONDS [PID...]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    alarm((unsigned)atoi(argv[4]));
    read_identities(argv[3]);
    for (int i = 5; i < argc && clock_count < MAX_PIDS; i++)
        if (!clock_getcpuclockid((pid_t)atoi(argv[i]), &clocks[clock_count]))
            clock_count++;
    connections = calloc((size_t)identity_count + 1, sizeof *connections);
    for (int kind = 0; kind < KINDS; kind++) {
        acks[kind].waiting = calloc((size_t)identity_count + 1, sizeof *acks[kind].waiting);
        acks[kind].due = calloc((size_t)identity_count + 1, sizeof *acks[kind].due);
    }
    for (int i = 0; i < identity_count; i++)
        connections[i] = (struct connection){.index = i, .fd = -1, .counted = true};
    connections_begin("127.0.0.1", atoi(argv[2]));
    direct_came = direct_arrived;
    input_came = input;
    work.stopped = true;
    char line[1000];
    size_t have = 0;
    for (;;) {
        input_waits = false;
        turn(now_ns() + SECOND);
        if (!input_waits)
            continue;
        ssize_t n = read(0, line + have, sizeof line - 1 - have);
        if (n <= 0)
            return 0;
        have += (size_t)n;
        line[have] = 0;
        char *end = strchr(line, '\n');
        if (end) {
            *end = 0;
            command(line);
            have = 0;
        }
    }
}
