/* Offers minimum-size UDP frames to one interface as fast as one core can, for a fixed time.
 *
 * usage: generator NAMESPACE DEVICE GATEWAY_MAC SOURCE DESTINATION CPU MILLISECONDS
 *
 * It enters the namespace, pins itself to the CPU, and hands the frames to the driver in vectors, past the
 * queueing discipline. A veth device delivers on the CPU that sends, so a chain of namespaces forwards on
 * this one core as well. Prints the number of frames sent and the nanoseconds they took.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { VECTOR = 64, FRAME_BYTES = 60 };

struct frame {
    struct ether_header ether;
    struct iphdr ip;
    struct udphdr udp;
    uint8_t payload[FRAME_BYTES - sizeof(struct ether_header) - sizeof(struct iphdr) - sizeof(struct udphdr)];
} __attribute__((packed));

_Static_assert(sizeof(struct frame) == FRAME_BYTES, "a minimum Ethernet frame without its checksum");

static int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void enter(const char *namespace, int cpu) {
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        err(1, "cannot enter the namespace %s", namespace);
    close(fd);
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) < 0)
        err(1, "cannot run on CPU %d", cpu);
}

static uint16_t header_checksum(const void *header) {
    uint32_t sum = 0;
    uint16_t word;
    for (size_t at = 0; at < sizeof(struct iphdr); at += sizeof word) {
        memcpy(&word, (const uint8_t *)header + at, sizeof word);
        sum += word;
    }
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void write_frame(struct frame *frame, const uint8_t own_mac[6], char *const arguments[]) {
    uint8_t *mac = frame->ether.ether_dhost;
    if (sscanf(arguments[3], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
        errx(2, "not a MAC address: %s", arguments[3]);
    memcpy(frame->ether.ether_shost, own_mac, 6);
    frame->ether.ether_type = htons(ETHERTYPE_IP);
    frame->ip = (struct iphdr){
        .version = 4,
        .ihl = 5,
        .tot_len = htons(FRAME_BYTES - sizeof frame->ether),
        .frag_off = htons(IP_DF),
        .ttl = 255,
        .protocol = IPPROTO_UDP,
    };
    struct in_addr source, destination;
    if (!inet_aton(arguments[4], &source) || !inet_aton(arguments[5], &destination))
        errx(2, "not an address: %s or %s", arguments[4], arguments[5]);
    frame->ip.saddr = source.s_addr;
    frame->ip.daddr = destination.s_addr;
    frame->ip.check = header_checksum(&frame->ip);
    frame->udp = (struct udphdr){
        .source = htons(5000),
        .dest = htons(9), /* discard */
        .len = htons(sizeof frame->udp + sizeof frame->payload),
    };
}

static int open_device(const char *device, uint8_t own_mac[6]) {
    /* Protocol 0 on the bound address: nothing that arrives is copied to this socket. */
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0)
        err(1, "cannot open a packet socket");
    struct ifreq request = {0};
    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    if (ioctl(fd, SIOCGIFHWADDR, &request) < 0)
        err(1, "no device %s", device);
    memcpy(own_mac, request.ifr_hwaddr.sa_data, 6);
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(device)};
    int on = 1;
    if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "cannot send on %s", device);
    return fd;
}

int main(int count, char *arguments[]) {
    if (count != 8)
        errx(2, "usage: generator NAMESPACE DEVICE GATEWAY_MAC SOURCE DESTINATION CPU MILLISECONDS");
    enter(arguments[1], atoi(arguments[6]));
    struct frame frame = {0};
    uint8_t own_mac[6];
    int fd = open_device(arguments[2], own_mac);
    write_frame(&frame, own_mac, arguments);

    struct iovec part = {&frame, sizeof frame};
    struct mmsghdr messages[VECTOR];
    for (int at = 0; at < VECTOR; at++)
        messages[at] = (struct mmsghdr){.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};

    uint64_t sent = 0;
    const int64_t start = monotonic_ns();
    const int64_t end = start + atoll(arguments[7]) * 1000000LL;
    int64_t now = start;
    while (now < end) {
        int accepted = sendmmsg(fd, messages, VECTOR, 0);
        if (accepted > 0)
            sent += (uint64_t)accepted;
        else if (errno != ENOBUFS && errno != EAGAIN)
            err(1, "cannot send");
        now = monotonic_ns();
    }
    printf("%llu %lld\n", (unsigned long long)sent, (long long)(now - start));
    return 0;
}
