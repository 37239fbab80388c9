/* Sends UDP datagrams at an even pace from one namespace and takes them in another: when each left and arrived.
 *
 * usage: pacer SENDER_NAMESPACE RECEIVER_NAMESPACE DESTINATION CPU PAYLOAD_BYTES INTERVAL_NS COUNT
 *
 * Both ends are one program on one CPU. Before the next datagram is due it empties the receiving socket, sleeps, and waits
 * awake for the last of the time. What is behind its time is sent at once; the pace goes on from there, so that a sender that was
 * held up sends no burst. Arrivals are the kernel's time stamps: a TAP device takes them inside the write that brings the frame.
 * Writes for each datagram two 8-byte integers to standard output: nanoseconds at which it was handed to the kernel, and at
 * which it arrived; 0 if it did not.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { VECTOR = 32, PORT = 5001, RECEIVE_BUFFER_BYTES = 1 << 28, PATIENCE_NS = 200000000 };
enum { SPIN_NS = 50000, EMPTYING_NS = 20000, BEHIND_NS = 20000 };

struct stamps {
    int64_t sent_ns, arrived_ns;
};

/* The clock that the kernel stamps arrivals with. */
static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int open_socket(const char *namespace) {
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int there = open(path, O_RDONLY | O_CLOEXEC);
    if (there < 0 || setns(there, CLONE_NEWNET) < 0)
        err(1, "cannot enter the namespace %s", namespace);
    close(there);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        err(1, "cannot open a socket");
    return fd;
}

/* Take all that has arrived; how many datagrams. */
static uint64_t take(int fd, struct stamps *stamps, uint64_t count) {
    static struct mmsghdr messages[VECTOR];
    static struct iovec parts[VECTOR];
    static uint64_t numbers[VECTOR];
    static char controls[VECTOR][CMSG_SPACE(sizeof(struct timespec))];
    uint64_t taken = 0;
    for (;;) {
        for (int i = 0; i < VECTOR; i++) {
            parts[i] = (struct iovec){&numbers[i], sizeof numbers[i]};
            messages[i].msg_hdr = (struct msghdr){
                .msg_iov = &parts[i], .msg_iovlen = 1, .msg_control = controls[i], .msg_controllen = sizeof controls[i]};
        }
        int got = recvmmsg(fd, messages, VECTOR, MSG_DONTWAIT, NULL);
        if (got < 0 && errno != EAGAIN)
            err(1, "cannot receive");
        for (int i = 0; i < got; i++) {
            struct cmsghdr *control = CMSG_FIRSTHDR(&messages[i].msg_hdr);
            struct timespec stamp;
            if (numbers[i] >= count || !control || control->cmsg_type != SCM_TIMESTAMPNS)
                errx(1, "a datagram of somebody else, or without a time stamp");
            memcpy(&stamp, CMSG_DATA(control), sizeof stamp);
            stamps[numbers[i]].arrived_ns = stamp.tv_sec * 1000000000LL + stamp.tv_nsec;
            taken++;
        }
        if (got < VECTOR)
            return taken;
    }
}

int main(int count_of_arguments, char *arguments[]) {
    if (count_of_arguments != 8)
        errx(2, "usage: pacer SENDER_NAMESPACE RECEIVER_NAMESPACE DESTINATION CPU PAYLOAD_BYTES INTERVAL_NS COUNT");
    size_t payload_bytes = strtoull(arguments[5], NULL, 10);
    int64_t interval_ns = strtoll(arguments[6], NULL, 10);
    uint64_t count = strtoull(arguments[7], NULL, 10);
    struct stamps *stamps = calloc(count, sizeof *stamps);
    char *payload = calloc(1, payload_bytes);
    if (!stamps || !payload || payload_bytes < sizeof(uint64_t))
        errx(1, "no memory, or a payload of less than 8 bytes");
    memset(stamps, 1, count * sizeof *stamps); /* so that no page is first touched while it counts */
    memset(stamps, 0, count * sizeof *stamps);

    int sender = open_socket(arguments[1]), receiver = open_socket(arguments[2]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int yes = 1, bytes = RECEIVE_BUFFER_BYTES;
    if (bind(receiver, (struct sockaddr *)&address, sizeof address) < 0 ||
        setsockopt(receiver, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0 ||
        setsockopt(receiver, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes) < 0)
        err(1, "cannot set the receiving socket up");
    if (inet_pton(AF_INET, arguments[3], &address.sin_addr) != 1 ||
        connect(sender, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "cannot send to %s", arguments[3]);
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(arguments[4]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) < 0)
        err(1, "cannot run on CPU %s", arguments[4]);
    struct sched_param lowest = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_RR, &lowest) < 0) /* what it measures must not be its own lateness */
        (void)setpriority(PRIO_PROCESS, 0, -20);

    uint64_t arrived = 0;
    int64_t due_ns = now_ns() + 1000000;
    for (uint64_t number = 0; number < count; number++, due_ns += interval_ns) {
        int64_t now = now_ns();
        if (due_ns - now > EMPTYING_NS)
            arrived += take(receiver, stamps, count);
        if (due_ns - now_ns() > SPIN_NS) {
            int64_t until_ns = due_ns - SPIN_NS;
            struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
            clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
        }
        while ((now = now_ns()) < due_ns)
            continue;
        if (now - due_ns > BEHIND_NS)
            due_ns = now;
        memcpy(payload, &number, sizeof number);
        stamps[number].sent_ns = now;
        if (send(sender, payload, payload_bytes, 0) < 0 && errno != EAGAIN && errno != ENOBUFS)
            err(1, "cannot send");
    }
    /* What is still on the way comes within the patience after the last one that came. */
    for (int64_t last_ns = now_ns(); arrived < count && now_ns() - last_ns < PATIENCE_NS;) {
        uint64_t taken = take(receiver, stamps, count);
        if (taken)
            last_ns = now_ns();
        arrived += taken;
    }
    if (fwrite(stamps, sizeof *stamps, count, stdout) != count)
        err(1, "cannot write");
}
