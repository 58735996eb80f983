// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Runs in the kernel at every packet that it gives up (tracepoint skb:kfree_skb). Comes in: the packet, where and why
// it is given up. Goes out: one event in a ring, if the packet, or the one inside its VXLAN header, is of the traced
// pair and the namespace is one that was asked for. It changes nothing and holds no packet.
//
// Types are our own, with only the fields that are read; their places are found in the running kernel's BTF when the
// program is loaded (CO-RE). Built by scripts/bpf.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline))
// Bounded loops are taken since Linux 5.3: rolled, the object is small.
#define LOOP _Pragma("clang loop unroll(disable)")
#define KERNEL __attribute__((preserve_access_index))

// Helpers by their numbers in the kernel's interface (include/uapi/linux/bpf.h).
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static long (*bpf_get_stack)(void *ctx, void *buf, u32 size, u64 flags) = (void *)67;
static long (*bpf_probe_read_kernel)(void *dst, u32 size, const void *from) = (void *)113;
static void *(*bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;

// The reader looks by itself every few milliseconds: waking it for each event would cost more than the event.
#define NO_WAKEUP 1

struct ns_common {
	u32 inum;
} KERNEL;

struct net {
	struct ns_common ns;
} KERNEL;

typedef struct {
	struct net *net;
} KERNEL possible_net_t;

struct net_device {
	possible_net_t nd_net;
	int ifindex;
	char name[16];
} KERNEL;

struct dst_entry {
	struct net_device *dev;
} KERNEL;

struct sock_common {
	possible_net_t skc_net;
} KERNEL;

struct sock {
	struct sock_common __sk_common;
} KERNEL;

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned long _skb_refdst;
	u32 len;
	u16 network_header;
	u16 mac_header;
	u32 tail;
	u32 end;
	u8 *head;
	u8 *data;
} KERNEL;

struct skb_shared_info {
	u16 gso_segs;
} KERNEL;

#define ADDRESSES 16
#define NAMESPACES 8
#define FRAMES 16

// An address of either family; IPv4 as ::ffff:a.b.c.d.
struct address {
	u64 high;
	u64 low;
};

// Written before the program is loaded; the layout is repeated in mod.rs.
struct wanted {
	struct address from[ADDRESSES];
	struct address to[ADDRESSES];
	u32 namespaces[NAMESPACES];
	u16 vxlan_ports[3];
	u16 port;
	u8 protocol;
	u8 pad[7];
};

const volatile struct wanted wanted = {};

// Read in record.rs.
struct event {
	u64 time;
	u64 location;
	u64 stack[FRAMES];
	struct address source;
	struct address destination;
	struct address outer_source;
	struct address outer_destination;
	char interface[16];
	u32 reason;
	u32 namespace;
	u32 length;
	u32 vni;
	u16 source_port;
	u16 destination_port;
	u16 segments;
	u8 protocol;
	u8 ttl;
	u8 icmp_type;
	u8 encapsulated;
	u8 fragment;
	u8 pad[5];
};

struct {
	int (*type)[27];
	int (*max_entries)[4 << 20];
} events SEC(".maps");

// One number: events that found no room in the ring.
struct {
	int (*type)[2];
	int (*max_entries)[1];
	u32 *key;
	u64 *value;
} unheard SEC(".maps");

// What was read of one IP packet.
struct packet {
	struct address source;
	struct address destination;
	const u8 *transport;
	u32 length;
	u8 protocol;
	u8 ttl;
	u8 later_fragment;
	u8 fragment;
};

INLINE u16 big16(const u8 *bytes)
{
	return (u16)bytes[0] << 8 | bytes[1];
}

// Reads an IP header; false where there is none, or not all of it lies between here and the limit.
INLINE int read_ip(const u8 *at, const u8 *limit, struct packet *packet)
{
	u8 header[40];
	if (at + 20 > limit || bpf_probe_read_kernel(header, 20, at))
		return 0;
	if (header[0] >> 4 == 4) {
		u32 words = header[0] & 0xf;
		if (words < 5)
			return 0;
		u16 offset = big16(header + 6);
		packet->source.high = packet->destination.high = 0;
		// ::ffff: stands in bytes 8 to 11, the address after it, as they lie in memory.
		packet->source.low = 0xffff0000ull | (u64)*(u32 *)(header + 12) << 32;
		packet->destination.low = 0xffff0000ull | (u64)*(u32 *)(header + 16) << 32;
		packet->transport = at + words * 4;
		packet->length = big16(header + 2);
		packet->protocol = header[9];
		packet->ttl = header[8];
		packet->later_fragment = (offset & 0x1fff) != 0;
		packet->fragment = (offset & 0x3fff) != 0;
		return 1;
	}
	if (header[0] >> 4 != 6 || at + 40 > limit || bpf_probe_read_kernel(header, 40, at))
		return 0;
	packet->source.high = *(u64 *)(header + 8);
	packet->source.low = *(u64 *)(header + 16);
	packet->destination.high = *(u64 *)(header + 24);
	packet->destination.low = *(u64 *)(header + 32);
	packet->transport = at + 40;
	packet->length = big16(header + 4) ? big16(header + 4) + 40u : 0;
	packet->protocol = header[6];
	packet->ttl = header[7];
	packet->later_fragment = 0;
	packet->fragment = 0;
	if (packet->protocol == 44) {
		if (at + 48 > limit || bpf_probe_read_kernel(header, 8, at + 40))
			return 0;
		packet->transport = at + 48;
		packet->protocol = header[0];
		packet->later_fragment = (big16(header + 2) & 0xfff8) != 0;
		packet->fragment = 1;
	}
	return 1;
}

INLINE int is_one_of(const volatile struct address *list, const struct address *address)
{
	// The list is known when the kernel verifies this: it need not follow what comes behind the last entry.
	LOOP for (int i = 0; i < ADDRESSES && (list[i].low | list[i].high); i++)
		if (list[i].low == address->low && list[i].high == address->high)
			return 1;
	return 0;
}

INLINE int is_of_the_pair(const struct packet *packet)
{
	if (is_one_of(wanted.from, &packet->source))
		return is_one_of(wanted.to, &packet->destination);
	return is_one_of(wanted.to, &packet->source) && is_one_of(wanted.from, &packet->destination);
}

// Ports, or an echo's identifier and number.
INLINE void read_transport(const struct packet *packet, const u8 *limit, struct event *event)
{
	u8 header[8];
	event->source_port = event->destination_port = 0;
	event->icmp_type = 0;
	if (packet->later_fragment || packet->transport + 8 > limit ||
	    bpf_probe_read_kernel(header, 8, packet->transport))
		return;
	if (packet->protocol == 1 || packet->protocol == 58) {
		event->icmp_type = header[0];
		event->source_port = big16(header + 4);
		event->destination_port = big16(header + 6);
	} else if (packet->protocol == 6 || packet->protocol == 17 || packet->protocol == 132) {
		event->source_port = big16(header);
		event->destination_port = big16(header + 2);
	}
}

INLINE int is_asked_for(const struct packet *packet, const struct event *event)
{
	u8 protocol = packet->protocol == 58 ? 1 : packet->protocol;
	if (wanted.protocol && wanted.protocol != protocol)
		return 0;
	return !wanted.port || packet->later_fragment || wanted.port == event->source_port ||
	       wanted.port == event->destination_port;
}

// The packet that begins at an IP header, or the one inside its VXLAN header; false if it is not of the pair.
INLINE int read_packet(const u8 *at, const u8 *limit, struct packet *packet, struct event *event)
{
	if (!read_ip(at, limit, packet))
		return 0;
	event->encapsulated = 0;
	if (packet->protocol == 17 && !packet->later_fragment) {
		u8 header[30];
		const u8 *udp = packet->transport;
		if (udp + 50 <= limit && !bpf_probe_read_kernel(header, 30, udp)) {
			u16 port = big16(header + 2);
			u16 ether_type = big16(header + 28);
			if ((port == wanted.vxlan_ports[0] || port == wanted.vxlan_ports[1] ||
			     port == wanted.vxlan_ports[2]) &&
			    (ether_type == 0x0800 || ether_type == 0x86dd)) {
				event->encapsulated = 1;
				event->outer_source = packet->source;
				event->outer_destination = packet->destination;
				event->vni = (u32)header[12] << 16 | (u32)header[13] << 8 | header[14];
				if (!read_ip(udp + 30, limit, packet))
					return 0;
			}
		}
	}
	return is_of_the_pair(packet);
}

INLINE u32 number_of(struct net *net)
{
	return net ? net->ns.inum : 0;
}

// Where the packet is: by its device, else by the socket that it came from, else by its route.
INLINE u32 find_namespace(struct sk_buff *skb, struct net_device **found)
{
	struct net_device *dev = skb->dev;
	*found = dev;
	u32 number = 0;
	if (dev)
		number = number_of(dev->nd_net.net);
	if (number)
		return number;
	*found = 0;
	struct sock *sk = skb->sk;
	if (sk)
		number = number_of(sk->__sk_common.skc_net.net);
	struct dst_entry *dst = (void *)(skb->_skb_refdst & ~1ul);
	struct net_device *out = 0;
	if (dst && !bpf_probe_read_kernel(&out, sizeof(out), &dst->dev) && out) {
		*found = out;
		struct net *net = 0;
		if (!number && !bpf_probe_read_kernel(&net, sizeof(net), &out->nd_net.net) && net)
			bpf_probe_read_kernel(&number, sizeof(number), &net->ns.inum);
	}
	return number;
}

INLINE int is_wanted_namespace(u32 number)
{
	LOOP for (int i = 0; i < NAMESPACES && wanted.namespaces[i]; i++)
		if (wanted.namespaces[i] == number)
			return 1;
	return 0;
}

SEC("tp_btf/kfree_skb")
int kfree_skb(u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct net_device *dev = 0;
	u32 namespace = find_namespace(skb, &dev);
	if (!is_wanted_namespace(namespace))
		return 0;

	const u8 *head = skb->head;
	const u8 *limit = head + skb->tail;
	const u8 *places[3] = { head + skb->network_header, head + skb->mac_header + 14, skb->data };
	struct event found = {};
	struct packet packet = {};
	int at = 0;
	LOOP for (; at < 3; at++)
		if (read_packet(places[at], limit, &packet, &found))
			break;
	if (at == 3)
		return 0;
	read_transport(&packet, limit, &found);
	if (!is_asked_for(&packet, &found))
		return 0;

	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		u32 first = 0;
		u64 *count = bpf_map_lookup_elem(&unheard, &first);
		if (count)
			__sync_fetch_and_add(count, 1);
		return 0;
	}
	*event = found;
	event->time = bpf_ktime_get_ns();
	event->location = ctx[1];
	event->reason = (u32)ctx[2];
	event->namespace = namespace;
	event->source = packet.source;
	event->destination = packet.destination;
	event->length = packet.length ? packet.length : skb->len;
	event->protocol = packet.protocol;
	event->ttl = packet.ttl;
	event->fragment = packet.fragment;
	struct skb_shared_info *shared = (void *)(head + skb->end);
	bpf_probe_read_kernel(&event->segments, sizeof(event->segments), &shared->gso_segs);
	if (dev)
		bpf_probe_read_kernel(event->interface, sizeof(event->interface), &dev->name);
	bpf_get_stack(ctx, event->stack, sizeof(event->stack), 0);
	bpf_ringbuf_submit(event, NO_WAKEUP);
	return 0;
}

// bpf_get_stack is lent only to programs whose licence fits the kernel's.
char _license[] SEC("license") = "Dual MIT/GPL";
