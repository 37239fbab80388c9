/* Carries frames between two TAP devices and looks at none of them: the limit for two real hosts.
 *
 * usage: forwarder NAMESPACE DEVICE NAMESPACE DEVICE [BITS_PER_SECOND DELAY_NS QUEUE_BYTES]
 *
 * It makes each device in its namespace, with the offloads that the engine takes, writes "ready", and works until its
 * standard input ends. It reads and waits as the engine does: at the same priority, a batch from each device that epoll
 * names, asleep when there is nothing to do. With a rate it is a shaper as well: departure = max(now, last departure) + bits / rate,
 * arrival = departure + delay, and what would leave more than QUEUE_BYTES of the rate later is dropped. A super-frame
 * takes the time of its segments and is not cut.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum { BATCH = 64, VNET_BYTES = 12, BUFFER_BYTES = 66048, BUFFERS = 4096, SPIN_NS = 50000, TIMER = 2, INPUT = 3 };

struct frame {
    int64_t arrival_ns;
    uint8_t *bytes;
    ssize_t length;
};

struct direction {
    struct frame ring[BUFFERS];
    uint32_t head, tail;
    int64_t departure_ns;
    int in, out;
};

static struct direction directions[2];
static uint8_t *unused[BUFFERS]; /* a stack: the buffer used last is still in the cache */
static uint32_t unused_count;
static uint64_t rate_bps, queue_bytes;
static int64_t delay_ns;

static int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int open_tap(const char *namespace, const char *device) {
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(path, O_RDONLY | O_CLOEXEC);
    if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0)
        err(1, "cannot enter the namespace %s", namespace);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    int header_bytes = VNET_BYTES;
    unsigned long checksum_and_tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0)
        err(1, "cannot make the device %s", device);
    if (ioctl(fd, TUNSETOFFLOAD, checksum_and_tcp | TUN_F_USO4 | TUN_F_USO6) < 0 &&
        ioctl(fd, TUNSETOFFLOAD, checksum_and_tcp) < 0)
        err(1, "cannot set the offloads of %s", device);
    if (setns(home, CLONE_NEWNET) < 0)
        err(1, "cannot come back from the namespace %s", namespace);
    close(home);
    close(there);
    return fd;
}

/* Take what a device has, at most a batch, straight to the other one. */
static void forward(const struct direction *way) {
    static uint8_t frame[BUFFER_BYTES];
    for (int count = 0; count < BATCH; count++) {
        ssize_t length = read(way->in, frame, sizeof frame);
        if (length <= 0)
            return;
        ssize_t written = write(way->out, frame, (size_t)length);
        (void)written; /* what the device does not take is lost, as on any wire */
    }
}

/* The bytes that a frame's segments have on the wire: each repeats the TCP header. Frames of IPv4 only are cut here. */
static uint64_t wire_bytes(const uint8_t *bytes, ssize_t length) {
    struct virtio_net_hdr header;
    memcpy(&header, bytes, sizeof header);
    uint64_t frame_bytes = (uint64_t)length - VNET_BYTES;
    if (header.gso_type != VIRTIO_NET_HDR_GSO_TCPV4)
        return frame_bytes;
    const uint8_t *frame = bytes + VNET_BYTES;
    uint64_t header_bytes = header.csum_start + (uint64_t)(frame[header.csum_start + 12] >> 4) * 4;
    uint64_t segments = (frame_bytes - header_bytes + header.gso_size - 1) / header.gso_size;
    return frame_bytes + (segments - 1) * header_bytes;
}

/* Take what a device has, at most a batch, into the delay line. */
static void shape(struct direction *way) {
    for (int count = 0; count < BATCH && unused_count > 0; count++) {
        uint8_t *bytes = unused[unused_count - 1];
        ssize_t length = read(way->in, bytes, BUFFER_BYTES);
        if (length <= VNET_BYTES)
            return;
        int64_t now = monotonic_ns();
        int64_t start = way->departure_ns > now ? way->departure_ns : now;
        if ((uint64_t)(start - now) > queue_bytes * 8 * 1000000000 / rate_bps)
            continue;
        unused_count--;
        way->departure_ns = start + (int64_t)(wire_bytes(bytes, length) * 8 * 1000000000 / rate_bps);
        way->ring[way->tail++ % BUFFERS] = (struct frame){way->departure_ns + delay_ns, bytes, length};
    }
}

/* Deliver what has arrived; the time of the next arrival, INT64_MAX without one. */
static int64_t deliver(struct direction *way) {
    int64_t now = monotonic_ns();
    while (way->head != way->tail) {
        struct frame *frame = &way->ring[way->head % BUFFERS];
        if (frame->arrival_ns > now && frame->arrival_ns > (now = monotonic_ns()))
            return frame->arrival_ns;
        ssize_t written = write(way->out, frame->bytes, (size_t)frame->length);
        (void)written;
        unused[unused_count++] = frame->bytes;
        way->head++;
    }
    return INT64_MAX;
}

/* How long epoll may wait: not at all when the next arrival is near, for the timer lets it wait longer than it should. */
static int arm(int timer) {
    int64_t first = deliver(&directions[0]), second = deliver(&directions[1]);
    int64_t next = first < second ? first : second;
    static int64_t armed;
    if (next == INT64_MAX)
        return -1;
    next -= SPIN_NS;
    if (next <= monotonic_ns())
        return 0;
    if (next != armed) {
        struct itimerspec when = {.it_value = {next / 1000000000, next % 1000000000}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        armed = next;
    }
    return -1;
}

/* As the engine's data path: 15 parts of the time before all other threads, one as the most urgent of the ordinary. */
static void take_turns(void) {
    static int64_t until;
    static int first;
    int64_t now = monotonic_ns();
    if (now < until)
        return;
    first = !first;
    until = now + (first ? 18000000 : 1200000);
    struct sched_param priority = {.sched_priority = first};
    (void)sched_setscheduler(0, first ? SCHED_RR : SCHED_OTHER, &priority);
}

static void watch(int epoll, int fd, uint32_t tag) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        err(1, "cannot watch a descriptor");
}

int main(int count, char *arguments[]) {
    if (count != 5 && count != 8)
        errx(2, "usage: forwarder NAMESPACE DEVICE NAMESPACE DEVICE [BITS_PER_SECOND DELAY_NS QUEUE_BYTES]");
    if (count == 8) {
        rate_bps = strtoull(arguments[5], NULL, 10);
        delay_ns = strtoll(arguments[6], NULL, 10);
        queue_bytes = strtoull(arguments[7], NULL, 10);
        for (; unused_count < BUFFERS; unused_count++)
            if (!(unused[unused_count] = malloc(BUFFER_BYTES)))
                err(1, "no memory");
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int devices[2] = {open_tap(arguments[1], arguments[2]), open_tap(arguments[3], arguments[4])};
    for (uint32_t i = 0; i < 2; i++) {
        directions[i].in = devices[i];
        directions[i].out = devices[!i];
        watch(epoll, devices[i], i);
    }
    watch(epoll, timer, TIMER);
    watch(epoll, STDIN_FILENO, INPUT);
    (void)setpriority(PRIO_PROCESS, 0, -20);
    puts("ready");
    fflush(stdout);
    while (1) {
        struct epoll_event events[4];
        take_turns();
        int ready = epoll_wait(epoll, events, 4, rate_bps ? arm(timer) : -1);
        for (int i = 0; i < ready; i++) {
            uint32_t tag = events[i].data.u32;
            uint64_t expirations;
            if (tag == INPUT)
                return 0;
            if (tag == TIMER && read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
                err(1, "cannot read the timer");
            if (tag < TIMER && rate_bps)
                shape(&directions[tag]);
            else if (tag < TIMER)
                forward(&directions[tag]);
        }
    }
}
