/*
 * Counts packets and bytes by interface, direction and protocol. The NAT's programs count, too, so
 * that a packet meets one program a hook where it is translated; all of them share these maps.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi/protocol-counters.h"
#include "packet/parse.h"

/*
 * Owner: the gateway's core. One interface needs at most 514 keys a direction (256 protocols of
 * either IP version, ARP, others), so 8,192 suffice for seven busy interfaces even when somebody
 * sends every protocol number. When it is full, the packet passes and uncounted_packets grows.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct protocol_counter_key);
	__type(value, struct protocol_counter);
} protocol_counters SEC(".maps");

/* Owner: the gateway's core. Packets for which protocol_counters had no room. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} uncounted_packets SEC(".maps");

static __always_inline void count_uncounted(void)
{
	__u32 index = 0;
	__u64 *packets = bpf_map_lookup_elem(&uncounted_packets, &index);

	if (packets)
		*packets += 1;
}

static __always_inline void count_as(const struct protocol_counter_key *key, __u64 length_bytes)
{
	struct protocol_counter first = { .packets = 1, .bytes = length_bytes };
	struct protocol_counter *counter = bpf_map_lookup_elem(&protocol_counters, key);

	if (counter) {
		/* Per CPU, and neither hook is interrupted by itself: no atomic is needed. */
		counter->packets += 1;
		counter->bytes += length_bytes;
	} else if (bpf_map_update_elem(&protocol_counters, key, &first, BPF_ANY) != 0) {
		count_uncounted();
	}
}

static __always_inline void count(void *data, void *data_end, __u32 interface_index,
				  __u64 length_bytes, enum packet_direction direction)
{
	struct protocol_counter_key key = {
		.interface_index = interface_index,
		.direction = direction,
	};
	struct parsed_packet packet;

	if (parse_packet(data, data_end, &packet) == 0) {
		if (packet.has_ip || packet.ether_type == bpf_htons(ETH_P_ARP))
			key.ether_type = packet.ether_type;
		key.ip_protocol = packet.ip_protocol;
	}
	count_as(&key, length_bytes);
}

/* A packet of either IP version without VLAN tag, whose frame has been read already. */
static __always_inline void count_ip(__u32 interface_index, enum packet_direction direction,
				     __be16 ether_type, __u8 ip_protocol, __u64 length_bytes)
{
	struct protocol_counter_key key = {
		.interface_index = interface_index,
		.direction = direction,
		.ether_type = ether_type,
		.ip_protocol = ip_protocol,
	};

	count_as(&key, length_bytes);
}

/*
 * The headers of any packet may lie outside the part that can be read directly. A function of its
 * own, so that its stack is not that of its callers.
 */
__noinline int count_skb(struct __sk_buff *skb, enum packet_direction direction)
{
	const __u32 headers_bytes = sizeof(struct ethhdr) +
				    VLAN_DEPTH_MAX * sizeof(struct vlan_tag) +
				    sizeof(struct ipv6hdr);

	const __u32 wanted_bytes = skb->len < headers_bytes ? skb->len : headers_bytes;

	if (skb->data_end - skb->data < wanted_bytes)
		bpf_skb_pull_data(skb, wanted_bytes);
	count((void *)(long)skb->data, (void *)(long)skb->data_end, skb->ifindex, skb->len,
	      direction);
	return 0;
}
