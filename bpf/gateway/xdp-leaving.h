/* What the fast path at XDP has in common for both IP versions. docs/nat.md, "Fast path". */
#pragma once

#include "gateway/nat-packet.h"
#include "gateway/protocol-counting.h"

#define NEXT_HOP_SLOT_BITS 16
/* 2^32 divided by the golden ratio: spreads what differs in few bits (Knuth 6.4). */
#define NEXT_HOP_SPREAD 0x9e3779b1U
/* Two ticks. */
#define NEXT_HOP_PERIOD_SHIFT 1

/*
 * Owner: the programs. By a hash of next hop and period: the period in which a packet was last left
 * to the kernel. Where two next hops meet, one of them does without, and not in the next period:
 * then they have other slots. So it is never full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << NEXT_HOP_SLOT_BITS);
	__type(key, __u32);
	__type(value, __u32);
} nat_next_hops SEC(".maps");

/*
 * The kernel probes a neighbour only when it sends to it itself, and learns by that whether it is
 * still there and has still this address: so it is given the first packet in each period.
 * `next_hop`: an address of IPv4, or the digest of one of IPv6.
 */
static __always_inline int nat_is_kernels_turn(__u32 next_hop, __u32 interface, __u32 tick)
{
	__u32 period = tick >> NEXT_HOP_PERIOD_SHIFT;
	__u32 hash = (next_hop ^ interface) * NEXT_HOP_SPREAD;
	__u32 slot = (hash ^ period) * NEXT_HOP_SPREAD >> (32 - NEXT_HOP_SLOT_BITS);
	__u32 *last = bpf_map_lookup_elem(&nat_next_hops, &slot);

	/* Not to be known, it is as if it had been long ago. */
	if (!last)
		return 1;
	if (*last == period)
		return 0;
	*last = period;
	return 1;
}

/* Whether a frame is for this link-layer address. */
static __always_inline int nat_is_sent_to(const struct ethhdr *ethernet, const __u8 mac[ETH_ALEN])
{
	const __u16 *to = (const void *)ethernet->h_dest, *own = (const void *)mac;

	return to[0] == own[0] && to[1] == own[1] && to[2] == own[2];
}

/*
 * Sends a packet that is as it shall be to the neighbour that the routes have named. `from`: the
 * interface that it came in by; `bytes`: of the whole frame.
 */
static __always_inline int nat_leave_at_xdp(const struct nat_run *run, struct ethhdr *ethernet,
					    const struct bpf_fib_lookup *route, __u32 from,
					    __u32 bytes)
{
	__u8 protocol = run->packet.protocol;
	__be16 type = ethernet->h_proto;

	__builtin_memcpy(ethernet->h_dest, route->dmac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, route->smac, ETH_ALEN);
	nat_count(NAT_COUNTER_FAST);
	nat_count(NAT_COUNTER_FAST_XDP);
	count_ip(from, PACKET_DIRECTION_INGRESS, type, protocol, bytes);
	count_ip(route->ifindex, PACKET_DIRECTION_EGRESS, type, protocol, bytes);
	return bpf_redirect(route->ifindex, 0);
}
