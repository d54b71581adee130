/*
 * The fast path: an approved packet goes from one interface to the other at ingress, past routing
 * and nft. Whatever needs more than that goes the slow way, where the kernel does what is owed.
 * docs/nat.md, "Fast path".
 */
#pragma once

#include <linux/if_packet.h>
#include <linux/ipv6.h>

#include "gateway/nat-source.h"

/* Of <sys/socket.h>, which is not for this target. */
#define AF_INET 2

/* Shorter frames are filled up, so that there may be something behind the packet in them. */
#define FRAME_BYTES_MIN 60

/* Instead of an interface. */
#define NAT_WAY_SLOW   0
#define NAT_WAY_ASTRAY (-1)

/* The fast path has done what egress would. */
static __always_inline int nat_is_done(const struct __sk_buff *skb)
{
	return skb->mark & PACKET_MARK_DONE && !nat_is_made_here(skb);
}

/* A frame at either hook, as far as its way depends on it. */
struct nat_frame {
	union {
		struct iphdr *ip;    /* 20 bytes can be read */
		struct ipv6hdr *six; /* 40 of them */
	};
	__u32 interface; /* by which it came */
	/* From the IP header on, as they cross the other link: of a super-packet, a segment. */
	__u32 wire_bytes;
	int is_bare;	 /* neither tagged nor with anything behind the packet */
	int is_ours;	 /* sent to the gateway's own link-layer address */
	__u32 fast_path; /* enum nat_fast_path: which both ends need */
};

/* What the kernel would do with a packet that nft has let through. Its result, or -1. */
static __always_inline long nat_ask_routes(void *context, __u32 wire_bytes,
					   struct bpf_fib_lookup *route)
{
	long result;

	if (wire_bytes > 0xffff)
		return -1;
	route->tot_len = wire_bytes;
	result = bpf_fib_lookup(context, route, sizeof(*route), 0);
	if (result != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return result;
	/* It does not say by which interface. */
	route->tot_len = 0;
	result = bpf_fib_lookup(context, route, sizeof(*route), 0);
	return result == BPF_FIB_LKUP_RET_SUCCESS ? BPF_FIB_LKUP_RET_FRAG_NEEDED : result;
}

/* Whether a packet needs nothing but what forwarding does to each. */
static __always_inline int nat_is_plain(const struct nat_run *run, const struct nat_frame *frame)
{
	const struct nat_packet *packet = &run->packet;
	const __u16 *words = (const void *)frame->ip;
	__u32 sum = 0;

	if (!nat_has_ports(packet) || packet->fragment != FRAGMENT_PART_WHOLE ||
	    packet->transport_offset != IP_OFFSET_IN_FRAME + IP_HEADER_BYTES ||
	    frame->ip->ttl <= 1 || !frame->is_bare)
		return 0;
	for (int index = 0; index < IP_HEADER_BYTES / 2; index++)
		sum += words[index];
	return checksum_fold(sum) == 0;
}

/* As nat_find_way, at either hook, whose context it is given. */
static __always_inline int nat_find_way_of(void *context, const struct nat_run *run,
					   const struct nat_frame *frame, __be32 to, __be16 to_port,
					   struct bpf_fib_lookup *route)
{
	const struct nat_packet *packet = &run->packet;
	__u32 interface = nat_interface_of(to);
	int is_plain = nat_is_plain(run, frame);
	long result;

	*route = (struct bpf_fib_lookup){
		.family = AF_INET,
		.l4_protocol = packet->protocol,
		/* Not an ICMP query's identifier, which the kernel takes for no port. */
		.sport = packet->class == NAT_CLASS_ICMP ? 0 : packet->source_port,
		.dport = packet->class == NAT_CLASS_ICMP ? 0 : to_port,
		.ipv4_src = packet->source,
		.ipv4_dst = to,
		.ifindex = frame->interface,
		.tos = frame->ip->tos,
	};
	result = nat_ask_routes(context, frame->wire_bytes, route);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH &&
	    result != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return NAT_WAY_ASTRAY;
	if (route->ifindex != interface)
		return NAT_WAY_ASTRAY;
	/* An IPv4 packet may have an IPv6 neighbour (RFC 5549). */
	if (result != BPF_FIB_LKUP_RET_SUCCESS || route->family != AF_INET || !is_plain ||
	    interface == frame->interface || !frame->is_ours ||
	    !(nat_fast_path_of(packet->source) & nat_fast_path_of(to) & frame->fast_path))
		return NAT_WAY_SLOW;
	return interface;
}

static __always_inline __u32 nat_wire_bytes(const struct __sk_buff *skb,
					    const struct nat_packet *packet)
{
	__u32 transport_bytes = packet->protocol == IPPROTO_TCP ? packet->tcp_header_bytes : 8;

	if (!skb->gso_size)
		return packet->bytes;
	return packet->transport_offset - IP_OFFSET_IN_FRAME + transport_bytes + skb->gso_size;
}

/* The kernel takes off what is behind the packet, and a tag of priority alone. */
static __always_inline int nat_is_bare(const struct __sk_buff *skb, const struct nat_packet *packet)
{
	return !skb->vlan_present && (skb->gso_size || skb->len <= FRAME_BYTES_MIN ||
				      skb->len <= IP_OFFSET_IN_FRAME + packet->bytes);
}

/*
 * Where a packet of a judged session goes, to an endpoint as nft sees it: the number of an
 * interface, and the neighbour there in run->next_hop, when it can go fast; NAT_WAY_SLOW; or
 * NAT_WAY_ASTRAY when it may leave by another interface than its session was judged for.
 */
__noinline int nat_find_way(struct __sk_buff *skb, struct nat_run *run, __be32 to, __be16 to_port)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	void *data_end = (void *)(long)skb->data_end;
	struct nat_frame frame = {
		.ip = (void *)(long)skb->data + IP_OFFSET_IN_FRAME,
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
	if ((void *)(frame.ip + 1) > data_end)
		return NAT_WAY_ASTRAY;
	way = nat_find_way_of(skb, run, &frame, to, to_port, &route);
	if (way > 0)
		run->next_hop = route.ipv4_dst;
	return way;
}

/* What the kernel makes of the type of service where it forwards (ip_tos2prio), a digit each. */
#define PRIORITIES	     0x4620
#define NAT_PRIORITY_OF(tos) (PRIORITIES >> ((tos) >> 3 & 3) * 4 & 0xf)

/* What forwarding does to each packet (RFC 1812 section 5.3.1). */
static __always_inline void nat_forward(struct iphdr *ip)
{
	__be16 before = *(__be16 *)&ip->ttl;

	ip->ttl--;
	ip->check = checksum_replace(ip->check, before, *(__be16 *)&ip->ttl);
}

/* Sends a packet that is as it shall be but for its TTL to run->next_hop. */
__noinline int nat_leave_by(struct __sk_buff *skb, struct nat_run *run, __u32 interface)
{
	NAT_REQUIRE(run);
	struct bpf_redir_neigh neighbour = {
		.nh_family = AF_INET,
		.ipv4_nh = run->next_hop,
	};
	void *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip = (void *)(long)skb->data + IP_OFFSET_IN_FRAME;

	if ((void *)(ip + 1) > data_end)
		return nat_drop(NAT_COUNTER_DROPPED_MALFORMED);
	nat_forward(ip);
	skb->priority = NAT_PRIORITY_OF(ip->tos);
	skb->mark |= PACKET_MARK_DONE;
	nat_count(NAT_COUNTER_FAST);
	return bpf_redirect_neigh(interface, &neighbour, sizeof(neighbour), 0);
}

/* A packet whose destination stays, of a session. */
__noinline int nat_go_out_fast(struct __sk_buff *skb, struct nat_run *run,
			       struct nat_session *session, __u32 sender, __u32 interface)
{
	NAT_REQUIRE(run && session);
	int verdict;

	if (nat_is_translated(session, !sender))
		return NAT_GO_ON;
	if (nat_is_translated(session, sender & 1)) {
		if (nat_has_lost_mapping(run, session, sender))
			return NAT_GO_ON;
		nat_track(run, session, sender, nat_time_class(session));
		verdict = nat_send_by(skb, run, session, sender);
		if (verdict != NAT_GO_ON)
			return verdict;
	}
	return nat_leave_by(skb, run, interface);
}
