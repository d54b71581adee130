/* The fast path for IPv6: as nat-fast.h, without translation. docs/nat.md, "IPv6". */
#pragma once

#include "gateway/nat-fast.h"
#include "gateway/six-sessions.h"

/* Of <sys/socket.h>, which is not for this target. */
#define AF_INET6 10

/* Flow label and traffic class, of the fixed header's first word. */
#define SIX_FLOW_INFORMATION 0x0fffffff

/* Whether a packet needs nothing but what six_leave_by does to it. `ip` has 40 readable bytes. */
static __always_inline int six_is_plain(const struct __sk_buff *skb, const struct nat_run *run,
					const struct ipv6hdr *ip)
{
	const struct nat_packet *packet = &run->packet;

	if (!nat_has_ports(packet) || packet->fragment != FRAGMENT_PART_WHOLE ||
	    packet->transport_offset != SIX_PLAIN_TRANSPORT || ip->hop_limit <= 1)
		return 0;
	/* The kernel takes off what is behind the packet, and a tag of priority alone. */
	return !skb->vlan_present &&
	       (skb->gso_size || skb->len <= IP_OFFSET_IN_FRAME + packet->bytes);
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
	const struct nat_packet *packet = &run->packet;
	struct bpf_fib_lookup route = {
		.family = AF_INET6,
		.l4_protocol = packet->protocol,
		/* Not an echo's identifier, which the kernel takes for no port. */
		.sport = packet->class == NAT_CLASS_ICMP ? 0 : packet->source_port,
		.dport = packet->class == NAT_CLASS_ICMP ? 0 : packet->destination_port,
		.ifindex = skb->ifindex,
	};
	void *data_end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = (void *)(long)skb->data + IP_OFFSET_IN_FRAME;
	__u32 interface = six_interface_at(to);
	int is_plain;
	long result;

	if (settings->trusts_routes)
		return NAT_WAY_SLOW;
	if (!six || (void *)(ip + 1) > data_end)
		return NAT_WAY_ASTRAY;
	is_plain = six_is_plain(skb, run, ip);
	route.flowinfo = *(__be32 *)ip & bpf_htonl(SIX_FLOW_INFORMATION);
	__builtin_memcpy(route.ipv6_src, six->source, sizeof(route.ipv6_src));
	__builtin_memcpy(route.ipv6_dst, six->destination, sizeof(route.ipv6_dst));
	result = nat_ask_routes(skb, nat_wire_bytes(skb, packet), &route);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH &&
	    result != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return NAT_WAY_ASTRAY;
	if (route.ifindex != interface)
		return NAT_WAY_ASTRAY;
	if (result != BPF_FIB_LKUP_RET_SUCCESS || route.family != AF_INET6 || !is_plain ||
	    interface == skb->ifindex || skb->pkt_type != PACKET_HOST ||
	    !(six_fast_path_at(from) & six_fast_path_at(to) & NAT_FAST_PATH_TC))
		return NAT_WAY_SLOW;
	__builtin_memcpy(six->next_hop, route.ipv6_dst, sizeof(six->next_hop));
	return interface;
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
