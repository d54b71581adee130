/*
 * IPv6 on the fast path at XDP: nothing of an approved packet changes but its hop limit and its
 * link-layer header. docs/nat.md, "IPv6".
 */
#pragma once

#include "gateway/nat-inbound.h"
#include "gateway/six-fast.h"
#include "gateway/xdp-leaving.h"

/*
 * Reads a frame of IPv6 that may go fast: a whole packet of TCP, UDP or an echo, without extension
 * headers, and with nothing behind it. Returns 0, or -1 when it is anything else.
 */
static __always_inline int six_parse_frame(struct nat_run *run, struct nat_six *six, void *data,
					   void *data_end)
{
	struct nat_packet *packet = &run->packet;
	struct ipv6hdr *ip = data + IP_OFFSET_IN_FRAME;
	void *transport = ip + 1;

	if (transport + 8 > data_end || ip->version != 6)
		return -1;
	packet->bytes = bpf_ntohs(ip->payload_len) + SIX_HEADER_BYTES;
	packet->protocol = ip->nexthdr;
	packet->class = six_class_of(ip->nexthdr);
	packet->transport_offset = SIX_PLAIN_TRANSPORT;
	if (packet->class == NAT_CLASS_NONE ||
	    packet->bytes != data_end - data - IP_OFFSET_IN_FRAME ||
	    (packet->class == NAT_CLASS_TCP && transport + TCP_HEADER_BYTES > data_end) ||
	    six_parse_ports(run, transport) != PARSE_RESULT_IP || !nat_has_ports(packet))
		return -1;
	six_take_addresses(six, ip);
	if (six_is_never_forwarded(six->source) || six_is_never_forwarded(six->destination))
		return -1;
	six_take_digests(packet, six);
	return 0;
}

/* The session of a packet that nft need not see, or NULL. */
static __always_inline struct nat_session *
six_find_approved(struct nat_run *run, const struct nat_six *six, __u32 interface, __u32 *sender)
{
	struct nat_session *session;
	struct nat_session_key key;

	*sender = six_make_key(&key, run, six);
	session = nat_look_up(run, &key);
	if (!session || nat_is_over(run, session, *sender))
		return NULL;
	return six_is_approved(run, session, *sender, interface) ? session : NULL;
}

/* Whether a frame was sent to the gateway, by where its session's sender is. */
static __always_inline int six_is_to_gateway(const struct ethhdr *ethernet, __u32 place)
{
	const struct nat_settings *settings = nat_get_settings();
	const struct nat_network *network;

	if (!settings)
		return 0;
	if (place == NAT_PLACE_WAN)
		return nat_is_sent_to(ethernet, settings->wan_mac);
	network = six_network_at(place);
	return network && nat_is_sent_to(ethernet, network->mac);
}

/* Of the neighbour that the routes have named. */
static __always_inline __u32 six_next_hop_digest(const struct bpf_fib_lookup *route)
{
	__u64 next_hop[2];

	__builtin_memcpy(next_hop, route->ipv6_dst, sizeof(next_hop));
	return six_digest(nat_hash(next_hop[0], next_hop[1]));
}

/* Sends a packet on, or leaves it to the kernel. Verified once. */
__noinline int six_cross(struct xdp_md *context, struct nat_run *run)
{
	struct nat_six *six = nat_get_six();
	void *data = (void *)(long)context->data, *data_end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = data;
	struct nat_frame frame = {
		.six = data + IP_OFFSET_IN_FRAME,
		.interface = context->ingress_ifindex,
		.is_bare = 1,
		.is_ours = 1,
		.fast_path = NAT_FAST_PATH_XDP,
	};
	struct nat_session *session;
	struct bpf_fib_lookup route;
	__u32 sender, from, to, bytes = data_end - data;
	int interface;

	if (!run || !six || six_parse_frame(run, six, data, data_end) != 0)
		return XDP_PASS;
	/* Said once more for the verifier. */
	if ((void *)(frame.six + 1) > data_end)
		return XDP_PASS;
	run->generations = nat_read_generations(run->packet.source);
	session = six_find_approved(run, six, frame.interface, &sender);
	if (!session)
		return XDP_PASS;
	from = six_place(session, sender);
	to = six_place(session, !sender);
	if (!six_is_to_gateway(ethernet, from))
		return XDP_PASS;
	frame.wire_bytes = run->packet.bytes;
	interface = six_find_way_of(context, run, &frame, six, from, to, &route);
	if (interface <= 0 ||
	    nat_is_kernels_turn(six_next_hop_digest(&route), interface, run->tick))
		return XDP_PASS;
	nat_track(run, session, sender, nat_time_class(session));
	frame.six->hop_limit--;
	return nat_leave_at_xdp(run, ethernet, &route, frame.interface, bytes);
}
