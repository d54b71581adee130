/* The fast path for IPv6: as nat-fast.h, without translation. docs/nat.md, "IPv6". */
#pragma once

#include "gateway/nat-fast.h"
#include "gateway/six-sessions.h"

/* Of <sys/socket.h>, which is not for this target. */
#define AF_INET6 10

/* Flow label and traffic class, of the fixed header's first word. */
#define SIX_FLOW_INFORMATION 0x0fffffff

/*
 * Whether a packet is spared, as one of a session that nft has judged by what holds today.
 * `interface`: the one that it came in by.
 */
static __always_inline int six_is_approved(const struct nat_run *run,
					   const struct nat_session *session, __u32 sender,
					   __u32 interface)
{
	__u32 number = nat_number_to(&run->generations, run->packet.destination);

	/* nft clamps the MSS of TCP. */
	if (!number || session->judged != number ||
	    !(session->state & NAT_SESSION_STATE_CONFIRMED) ||
	    run->packet.tcp_flags & TCP_FLAG_SYN || nat_hides_ports(run->packet.protocol))
		return 0;
	return six_interface_at(six_place(session, sender)) == interface;
}

/* Whether a packet needs nothing but what forwarding does to each. */
static __always_inline int six_is_plain(const struct nat_run *run, const struct nat_frame *frame)
{
	const struct nat_packet *packet = &run->packet;

	return nat_has_ports(packet) && packet->fragment == FRAGMENT_PART_WHOLE &&
	       packet->transport_offset == SIX_PLAIN_TRANSPORT && frame->six->hop_limit > 1 &&
	       frame->is_bare;
}

/* As six_find_way, at either hook, whose context it is given. */
static __always_inline int six_find_way_of(void *context, const struct nat_run *run,
					   const struct nat_frame *frame, const struct nat_six *six,
					   __u32 from, __u32 to, struct bpf_fib_lookup *route)
{
	const struct nat_packet *packet = &run->packet;
	__u32 interface = six_interface_at(to);
	int is_plain = six_is_plain(run, frame);
	long result;

	/* One by one: a struct of all of these clang would build beside it first, on the stack. */
	__builtin_memset(route, 0, sizeof(*route));
	route->family = AF_INET6;
	route->l4_protocol = packet->protocol;
	/* Not an echo's identifier, which the kernel takes for no port. */
	if (packet->class != NAT_CLASS_ICMP) {
		route->sport = packet->source_port;
		route->dport = packet->destination_port;
	}
	route->ifindex = frame->interface;
	route->flowinfo = *(__be32 *)frame->six & bpf_htonl(SIX_FLOW_INFORMATION);
	__builtin_memcpy(route->ipv6_src, six->source, sizeof(route->ipv6_src));
	__builtin_memcpy(route->ipv6_dst, six->destination, sizeof(route->ipv6_dst));
	result = nat_ask_routes(context, frame->wire_bytes, route);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH &&
	    result != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return NAT_WAY_ASTRAY;
	if (route->ifindex != interface)
		return NAT_WAY_ASTRAY;
	if (result != BPF_FIB_LKUP_RET_SUCCESS || route->family != AF_INET6 || !is_plain ||
	    interface == frame->interface || !frame->is_ours ||
	    !(six_fast_path_at(from) & six_fast_path_at(to) & frame->fast_path))
		return NAT_WAY_SLOW;
	return interface;
}

/*
 * Where a packet of a judged session goes, by the places of its two ends: the number of an
 * interface, and the neighbour there in six->next_hop, when it can go fast; NAT_WAY_SLOW; or
 * NAT_WAY_ASTRAY when it may leave by another interface than its session was judged for.
 */
__noinline int six_find_way(struct __sk_buff *skb, struct nat_run *run, __u32 from, __u32 to)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	struct nat_six *six = nat_get_six();
	void *data_end = (void *)(long)skb->data_end;
	struct nat_frame frame = {
		.six = (void *)(long)skb->data + IP_OFFSET_IN_FRAME,
		.interface = skb->ifindex,
		.wire_bytes = nat_wire_bytes(skb, &run->packet),
		.is_bare = nat_is_bare(skb, &run->packet),
		.is_ours = skb->pkt_type == PACKET_HOST,
		.fast_path = NAT_FAST_PATH_TC,
	};
	struct bpf_fib_lookup route;
	int way;

	if (settings->trusts_routes)
		return NAT_WAY_SLOW;
	if (!six || (void *)(frame.six + 1) > data_end)
		return NAT_WAY_ASTRAY;
	way = six_find_way_of(skb, run, &frame, six, from, to, &route);
	if (way > 0)
		__builtin_memcpy(six->next_hop, route.ipv6_dst, sizeof(six->next_hop));
	return way;
}

/* Sends a packet that is as it shall be but for its hop limit to six->next_hop. */
__noinline int six_leave_by(struct __sk_buff *skb, __u32 interface)
{
	const struct nat_six *six = nat_get_six();
	struct bpf_redir_neigh neighbour = { .nh_family = AF_INET6 };
	void *data_end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = (void *)(long)skb->data + IP_OFFSET_IN_FRAME;
	__u8 hop_limit;

	if (!six || (void *)(ip + 1) > data_end)
		return nat_drop(NAT_COUNTER_DROPPED_MALFORMED);
	hop_limit = ip->hop_limit - 1;
	/* No header's checksum makes up for it, so a sum that the card has made has to follow. */
	if (bpf_skb_store_bytes(skb, SIX_HOP_LIMIT_OFFSET, &hop_limit, sizeof(hop_limit),
				BPF_F_RECOMPUTE_CSUM) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_MALFORMED);
	__builtin_memcpy(neighbour.ipv6_nh, six->next_hop, sizeof(neighbour.ipv6_nh));
	skb->mark |= PACKET_MARK_DONE;
	nat_count(NAT_COUNTER_FAST);
	return bpf_redirect_neigh(interface, &neighbour, sizeof(neighbour), 0);
}
