/*
 * The fast path: an approved packet goes from one interface to the other at ingress, past routing
 * and nft. Whatever needs more than that goes the slow way, where the kernel does what is owed.
 * docs/nat.md, "Fast path".
 */
#pragma once

#include <linux/if_packet.h>

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

/* Bytes from the IP header on that cross the other link at once: of a super-packet, a segment. */
static __always_inline __u32 nat_wire_bytes(const struct __sk_buff *skb,
					    const struct nat_packet *packet)
{
	__u32 transport_bytes = packet->protocol == IPPROTO_TCP ? packet->tcp_header_bytes : 8;

	if (!skb->gso_size)
		return packet->bytes;
	return packet->transport_offset - IP_OFFSET_IN_FRAME + transport_bytes + skb->gso_size;
}

/* What the kernel would do with a packet that nft has let through. Its result, or -1. */
static __always_inline long nat_ask_routes(struct __sk_buff *skb, const struct nat_run *run,
					   struct bpf_fib_lookup *route)
{
	__u32 bytes = nat_wire_bytes(skb, &run->packet);
	long result;

	if (bytes > 0xffff)
		return -1;
	route->tot_len = bytes;
	result = bpf_fib_lookup(skb, route, sizeof(*route), 0);
	if (result != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return result;
	/* It does not say by which interface. */
	route->tot_len = 0;
	result = bpf_fib_lookup(skb, route, sizeof(*route), 0);
	return result == BPF_FIB_LKUP_RET_SUCCESS ? BPF_FIB_LKUP_RET_FRAG_NEEDED : result;
}

/* Whether a packet needs nothing but what nat_forward does to it. `ip` has 20 readable bytes. */
static __always_inline int nat_is_plain(const struct __sk_buff *skb, const struct nat_run *run,
					const struct iphdr *ip)
{
	const struct nat_packet *packet = &run->packet;
	const __u16 *words = (const void *)ip;
	__u32 sum = 0;

	if (!nat_has_ports(packet) || packet->fragment != FRAGMENT_PART_WHOLE ||
	    packet->transport_offset != IP_OFFSET_IN_FRAME + IP_HEADER_BYTES || ip->ttl <= 1)
		return 0;
	/* The kernel takes off what is behind the packet, and a tag of priority alone. */
	if (skb->vlan_present || (!skb->gso_size && skb->len > FRAME_BYTES_MIN &&
				  skb->len > IP_OFFSET_IN_FRAME + packet->bytes))
		return 0;
	for (int index = 0; index < IP_HEADER_BYTES / 2; index++)
		sum += words[index];
	return checksum_fold(sum) == 0;
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
	const struct nat_packet *packet = &run->packet;
	struct bpf_fib_lookup route = {
		.family = AF_INET,
		.l4_protocol = packet->protocol,
		/* Not an ICMP query's identifier, which the kernel takes for no port. */
		.sport = packet->class == NAT_CLASS_ICMP ? 0 : packet->source_port,
		.dport = packet->class == NAT_CLASS_ICMP ? 0 : to_port,
		.ipv4_src = packet->source,
		.ipv4_dst = to,
		.ifindex = skb->ifindex,
	};
	void *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip = (void *)(long)skb->data + IP_OFFSET_IN_FRAME;
	__u32 interface = nat_interface_of(to);
	int is_plain;
	long result;

	if (settings->trusts_routes)
		return NAT_WAY_SLOW;
	if ((void *)(ip + 1) > data_end)
		return NAT_WAY_ASTRAY;
	is_plain = nat_is_plain(skb, run, ip);
	route.tos = ip->tos;
	result = nat_ask_routes(skb, run, &route);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH &&
	    result != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return NAT_WAY_ASTRAY;
	if (route.ifindex != interface)
		return NAT_WAY_ASTRAY;
	/* An IPv4 packet may have an IPv6 neighbour (RFC 5549). */
	if (result != BPF_FIB_LKUP_RET_SUCCESS || route.family != AF_INET || !is_plain ||
	    interface == skb->ifindex || skb->pkt_type != PACKET_HOST ||
	    !nat_has_fast_path(packet->source) || !nat_has_fast_path(to))
		return NAT_WAY_SLOW;
	run->next_hop = route.ipv4_dst;
	return interface;
}

/* What the kernel makes of the type of service where it forwards (ip_tos2prio), a digit each. */
#define PRIORITIES	     0x4620
#define NAT_PRIORITY_OF(tos) (PRIORITIES >> ((tos) >> 3 & 3) * 4 & 0xf)

/*
 * What forwarding does to each packet (RFC 1812 section 5.3.1). Returns 0, or -1 when the packet
 * cannot be changed.
 */
static __always_inline int nat_forward(struct __sk_buff *skb)
{
	void *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip = (void *)(long)skb->data + IP_OFFSET_IN_FRAME;
	__be16 before, after;

	if ((void *)(ip + 1) > data_end)
		return -1;
	before = *(__be16 *)&ip->ttl;
	ip->ttl--;
	after = *(__be16 *)&ip->ttl;
	ip->check = checksum_replace(ip->check, before, after);
	skb->priority = NAT_PRIORITY_OF(ip->tos);
	return 0;
}

/* Sends a packet that is as it shall be but for its TTL to run->next_hop. */
__noinline int nat_leave_by(struct __sk_buff *skb, struct nat_run *run, __u32 interface)
{
	NAT_REQUIRE(run);
	struct bpf_redir_neigh neighbour = {
		.nh_family = AF_INET,
		.ipv4_nh = run->next_hop,
	};

	if (nat_forward(skb) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_MALFORMED);
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
