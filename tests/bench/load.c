/*
 * load: asks for IPv6 addresses with Neighbor Solicitations, and measures the answers.
 *
 *   load flood     send at a rate, or as fast as possible; count the advertisements that come back
 *   load latency   ask for one address at a time; time from each solicitation to its advertisement
 *   load first     ask for one address every millisecond until it is answered; the clock at that moment
 *
 * All solicitations are built before the clock starts. The result is one line of JSON.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS 1000000000LL
#define BATCH 64
/* No answer for this long, and none will come: more than any queue in between holds. */
#define SILENCE (NANOSECONDS / 10)
/* A single question is given up after this long. */
#define PATIENCE NANOSECONDS

/* RFC 4861 section 4.3, with a source link-layer address option (section 4.6.1). */
struct solicitation {
	struct ether_header ethernet;
	struct ip6_hdr ip;
	struct nd_neighbor_solicit ns;
	struct nd_opt_hdr option;
	uint8_t link_address[ETH_ALEN];
} __attribute__((packed));

/* RFC 4861 section 4.4, as far as it is looked at. */
struct advertisement {
	struct ether_header ethernet;
	struct ip6_hdr ip;
	struct nd_neighbor_advert na;
} __attribute__((packed));

struct settings {
	const char *interface;
	struct in6_addr source;
	struct in6_addr target; /* the first one; the n-th is target + (n << shift) */
	unsigned shift;
	size_t targets;
	double rate; /* solicitations a second; 0: as fast as possible */
	uint64_t frames; /* stop after so many; 0: no bound */
	double seconds; /* stop after so long */
};

struct load {
	struct settings settings;
	int socket;
	struct solicitation *solicitations;
	struct mmsghdr *messages;
	size_t next;
};

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * NANOSECONDS + time.tv_nsec;
}

static void wait_until(int64_t moment)
{
	struct timespec time = {moment / NANOSECONDS, moment % NANOSECONDS};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR)
		;
}

/* ---- solicitations ---- */

static uint32_t sum_words(uint32_t sum, const void *data, size_t size)
{
	for (const uint8_t *octets = data; size >= 2; octets += 2, size -= 2)
		sum += octets[0] << 8 | octets[1];
	return sum;
}

/* RFC 4443 section 2.3: over both addresses, the length, the next header and the message. */
static uint16_t checksum(const struct solicitation *frame)
{
	size_t length = sizeof(*frame) - offsetof(struct solicitation, ns);
	uint32_t sum = sum_words(length + IPPROTO_ICMPV6, &frame->ip.ip6_src, 32);
	sum = sum_words(sum, &frame->ns, length);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum);
}

static struct in6_addr nth_address(struct in6_addr address, unsigned __int128 n, unsigned shift)
{
	unsigned __int128 value = 0;
	for (int i = 0; i < 16; i++)
		value = value << 8 | address.s6_addr[i];
	value += n << shift;
	for (int i = 15; i >= 0; i--, value >>= 8)
		address.s6_addr[i] = (uint8_t)value;
	return address;
}

/* The whole solicitation goes to the target's solicited-node group (RFC 4291 section 2.7.1). */
static void solicit(struct solicitation *frame, const uint8_t *mac, struct in6_addr source, struct in6_addr target)
{
	memset(frame, 0, sizeof(*frame));
	memcpy(frame->ethernet.ether_dhost, (uint8_t[]){0x33, 0x33, 0xff}, 3);
	memcpy(frame->ethernet.ether_dhost + 3, target.s6_addr + 13, 3);
	memcpy(frame->ethernet.ether_shost, mac, ETH_ALEN);
	frame->ethernet.ether_type = htons(ETHERTYPE_IPV6);
	frame->ip.ip6_vfc = 6 << 4;
	frame->ip.ip6_plen = htons(sizeof(*frame) - offsetof(struct solicitation, ns));
	frame->ip.ip6_nxt = IPPROTO_ICMPV6;
	frame->ip.ip6_hlim = 255;
	frame->ip.ip6_src = source;
	inet_pton(AF_INET6, "ff02::1:ff00:0", &frame->ip.ip6_dst);
	memcpy(frame->ip.ip6_dst.s6_addr + 13, target.s6_addr + 13, 3);
	frame->ns.nd_ns_type = ND_NEIGHBOR_SOLICIT;
	frame->ns.nd_ns_target = target;
	frame->option.nd_opt_type = ND_OPT_SOURCE_LINKADDR;
	frame->option.nd_opt_len = 1;
	memcpy(frame->link_address, mac, ETH_ALEN);
	frame->ns.nd_ns_cksum = checksum(frame);
}

/* ---- sockets ---- */

/* Accept what is addressed to us and is ICMPv6 type 136. One octet of it is enough to count it. */
static struct sock_filter advertisements[] = {
	BPF_STMT(BPF_LD | BPF_B | BPF_ABS, offsetof(struct advertisement, ip.ip6_nxt)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 3),
	BPF_STMT(BPF_LD | BPF_B | BPF_ABS, offsetof(struct advertisement, na.nd_na_type)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ND_NEIGHBOR_ADVERT, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, sizeof(struct advertisement)),
	BPF_STMT(BPF_RET | BPF_K, 0),
};

/* A packet socket on the interface; protocol 0 receives nothing. */
static int open_socket(const char *interface, int protocol)
{
	struct sock_fprog program = {sizeof(advertisements) / sizeof(*advertisements), advertisements};
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol)};
	int descriptor = socket(AF_PACKET, SOCK_RAW, 0);
	if (descriptor < 0)
		err(1, "packet socket");
	if (setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		err(1, "filter");
	address.sll_ifindex = if_nametoindex(interface);
	if (!address.sll_ifindex)
		err(1, "%s", interface);
	if (bind(descriptor, (struct sockaddr *)&address, sizeof(address)))
		err(1, "bind to %s", interface);
	return descriptor;
}

static void prepare(struct load *load)
{
	struct settings *settings = &load->settings;
	struct ifreq request = {0};
	load->socket = open_socket(settings->interface, 0);
	strncpy(request.ifr_name, settings->interface, IFNAMSIZ - 1);
	if (ioctl(load->socket, SIOCGIFHWADDR, &request))
		err(1, "%s", settings->interface);
	load->next = 0;
	load->solicitations = calloc(settings->targets, sizeof(*load->solicitations));
	load->messages = calloc(settings->targets, sizeof(*load->messages));
	struct iovec *pieces = calloc(settings->targets, sizeof(*pieces));
	if (!load->solicitations || !load->messages || !pieces)
		err(1, "memory");
	for (size_t i = 0; i < settings->targets; i++) {
		struct in6_addr target = nth_address(settings->target, i, settings->shift);
		solicit(&load->solicitations[i], (uint8_t *)request.ifr_hwaddr.sa_data, settings->source, target);
		pieces[i] = (struct iovec){&load->solicitations[i], sizeof(*load->solicitations)};
		load->messages[i].msg_hdr.msg_iov = &pieces[i];
		load->messages[i].msg_hdr.msg_iovlen = 1;
	}
}

/* Send up to `count` of the next solicitations and return how many. */
static uint64_t send_next(struct load *load, uint64_t count)
{
	size_t left = load->settings.targets - load->next;
	int sent;
	if (count > BATCH)
		count = BATCH;
	if (count > left)
		count = left;
	sent = sendmmsg(load->socket, load->messages + load->next, count, 0);
	if (sent < 0 && errno != ENOBUFS && errno != EAGAIN)
		err(1, "send");
	if (sent < 0)
		return 0;
	load->next = (load->next + sent) % load->settings.targets;
	return sent;
}

/* ---- flood ---- */

/* Answers since the last call: the kernel counts also what did not fit the queue, so nothing need be read. */
static uint64_t count_answers(int answers)
{
	struct tpacket_stats statistics;
	socklen_t size = sizeof(statistics);
	if (getsockopt(answers, SOL_PACKET, PACKET_STATISTICS, &statistics, &size))
		err(1, "statistics");
	return statistics.tp_packets;
}

static void flood(struct load *load)
{
	const struct settings *settings = &load->settings;
	int answers = open_socket(settings->interface, ETH_P_IPV6);
	int smallest = 0;
	setsockopt(answers, SOL_SOCKET, SO_RCVBUF, &smallest, sizeof(smallest));

	uint64_t sent = 0, meanwhile, answered, more;
	int64_t start = now(), end = start + (int64_t)(settings->seconds * NANOSECONDS), time;
	while ((time = now()) < end && (!settings->frames || sent < settings->frames)) {
		uint64_t due = BATCH;
		if (settings->rate > 0)
			due = (uint64_t)((double)(time - start) / NANOSECONDS * settings->rate) + 1 - sent;
		if (settings->frames && due > settings->frames - sent)
			due = settings->frames - sent;
		if (due)
			sent += send_next(load, due);
	}
	meanwhile = answered = count_answers(answers);
	do {
		wait_until(now() + SILENCE);
		answered += more = count_answers(answers);
	} while (more);
	printf("{\"sent\": %llu, \"seconds\": %.6f, \"answered_meanwhile\": %llu, \"answered\": %llu}\n",
	       (unsigned long long)sent, (double)(time - start) / NANOSECONDS, (unsigned long long)meanwhile,
	       (unsigned long long)answered);
}

/* ---- latency, first ---- */

/* Wait for the advertisement of this target without sleeping, so that only the responder's wake-up counts. */
static bool await_answer(int answers, struct in6_addr target, int64_t end)
{
	struct advertisement answer;
	while (now() < end) {
		ssize_t size = recv(answers, &answer, sizeof(answer), MSG_DONTWAIT);
		if (size < 0 && errno != EAGAIN)
			err(1, "receive");
		if (size == sizeof(answer) && !memcmp(&answer.na.nd_na_target, &target, sizeof(target)))
			return true;
	}
	return false;
}

static struct in6_addr send_one(struct load *load)
{
	struct in6_addr target = load->solicitations[load->next].ns.nd_ns_target;
	if (send_next(load, 1) != 1)
		errx(1, "not sent");
	return target;
}

static int compare(const void *first, const void *second)
{
	int64_t a = *(const int64_t *)first, b = *(const int64_t *)second;
	return (a > b) - (a < b);
}

static void latency(struct load *load)
{
	const struct settings *settings = &load->settings;
	int answers = open_socket(settings->interface, ETH_P_IPV6);
	int64_t *times = calloc(settings->frames, sizeof(*times));
	size_t answered = 0;
	if (!times)
		err(1, "memory");
	int64_t start = now();
	for (uint64_t i = 0; i < settings->frames; i++) {
		wait_until(start + (int64_t)((double)i / settings->rate * NANOSECONDS));
		int64_t before = now();
		struct in6_addr target = send_one(load);
		if (await_answer(answers, target, before + PATIENCE))
			times[answered++] = now() - before;
	}
	if (!answered)
		errx(1, "no answer at all");
	qsort(times, answered, sizeof(*times), compare);
	printf("{\"sent\": %llu, \"answered\": %zu, \"p50\": %.1f, \"p99\": %.1f}\n",
	       (unsigned long long)settings->frames, answered, (double)times[answered / 2] / 1000,
	       (double)times[answered * 99 / 100] / 1000);
}

/* Says on standard output when it has begun, so that the caller can start the responder then. */
static void first(struct load *load)
{
	const struct settings *settings = &load->settings;
	int answers = open_socket(settings->interface, ETH_P_IPV6);
	int64_t end = now() + (int64_t)(settings->seconds * NANOSECONDS);
	puts("{\"event\": \"sending\"}");
	fflush(stdout);
	while (now() < end) {
		int64_t due = now() + NANOSECONDS / 1000;
		load->next = 0;
		if (await_answer(answers, send_one(load), due)) {
			printf("{\"answered_at\": %.6f}\n", (double)now() / NANOSECONDS);
			return;
		}
	}
	errx(1, "no answer within %.1f s", settings->seconds);
}

/* ---- command line ---- */

static void parse_address(const char *text, struct in6_addr *address)
{
	if (inet_pton(AF_INET6, text, address) != 1)
		errx(2, "%s: no IPv6 address", text);
}

static const char *parse(int argc, char **argv, struct settings *settings)
{
	int option;
	*settings = (struct settings){.targets = 1, .seconds = 3600};
	while ((option = getopt(argc, argv, "i:s:t:k:n:r:c:d:")) != -1) {
		switch (option) {
		case 'i': settings->interface = optarg; break;
		case 's': parse_address(optarg, &settings->source); break;
		case 't': parse_address(optarg, &settings->target); break;
		case 'k': settings->shift = strtoul(optarg, NULL, 10); break;
		case 'n': settings->targets = strtoul(optarg, NULL, 10); break;
		case 'r': settings->rate = strtod(optarg, NULL); break;
		case 'c': settings->frames = strtoull(optarg, NULL, 10); break;
		case 'd': settings->seconds = strtod(optarg, NULL); break;
		default: exit(2);
		}
	}
	if (optind != argc - 1 || !settings->interface || !settings->targets)
		errx(2, "usage: load -i interface -s source -t target [-k shift] [-n targets] [-r rate] [-c frames] "
			"[-d seconds] flood|latency|first");
	return argv[optind];
}

int main(int argc, char **argv)
{
	struct load load;
	const char *mode = parse(argc, argv, &load.settings);
	prepare(&load);
	if (!strcmp(mode, "flood"))
		flood(&load);
	else if (!strcmp(mode, "latency"))
		latency(&load);
	else if (!strcmp(mode, "first"))
		first(&load);
	else
		errx(2, "%s: no such mode", mode);
	return 0;
}
