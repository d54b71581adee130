/*
 * The fast path at XDP: approved packets that need nothing but a new address, a new TTL and a new
 * link-layer header get these where the driver hands them over, and leave. All others go on as they
 * came, unchanged and untracked, and meet the programs at tc, with which these share their maps.
 * docs/nat.md, "Fast path".
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "abi/nat.h"
#include "gateway/nat-fast.h"
#include "gateway/nat-inbound.h"
#include "gateway/nat-sweep.h"
#include "gateway/six-xdp.h"
#include "gateway/xdp-leaving.h"

/* A packet of a judged session, and where it goes as nft sees it. */
struct nat_journey {
	struct nat_session *session;
	__u32 sender;
	__be32 to;
	__be16 to_port;
	__u8 is_inbound; /* its destination is translated */
};

/*
 * Reads a frame that may go fast: a whole packet of TCP, UDP or an ICMP query, without IP options,
 * and without SYN. Returns 0, or -1 when it is anything else.
 */
static __always_inline int nat_parse_frame(struct nat_run *run, void *data, void *data_end)
{
	const __be16 fragment_bits = bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET);
	struct nat_packet *packet = &run->packet;
	struct ethhdr *ethernet = data;
	struct iphdr *ip = data + IP_OFFSET_IN_FRAME;
	void *transport = ip + 1;

	if (transport + 8 > data_end || ethernet->h_proto != bpf_htons(ETH_P_IP) ||
	    ip->version != 4 || ip->ihl * 4 != IP_HEADER_BYTES || ip->frag_off & fragment_bits)
		return -1;
	packet->bytes = bpf_ntohs(ip->tot_len);
	if (packet->bytes < IP_HEADER_BYTES + 8 ||
	    packet->bytes > data_end - data - IP_OFFSET_IN_FRAME)
		return -1;
	packet->source = ip->saddr;
	packet->destination = ip->daddr;
	packet->protocol = ip->protocol;
	packet->class = nat_class_of(ip->protocol);
	packet->transport_offset = IP_OFFSET_IN_FRAME + IP_HEADER_BYTES;
	if (packet->class == NAT_CLASS_TCP) {
		if (transport + TCP_HEADER_BYTES > data_end ||
		    nat_parse_tcp(run, transport) != PARSE_RESULT_IP ||
		    packet->tcp_flags & TCP_FLAG_SYN)
			return -1;
	} else if (packet->class == NAT_CLASS_NONE ||
		   nat_parse_short(run, transport) != PARSE_RESULT_IP) {
		return -1;
	}
	return nat_has_ports(packet) ? 0 : -1;
}

/* The session of a packet to an external address from outside. Returns 0, or -1. */
static __always_inline int nat_look_up_inward(struct nat_run *run, __u32 external,
					      struct nat_journey *journey)
{
	const struct nat_packet *packet = &run->packet;
	struct nat_target target = {};

	/* Requests are for the gateway, unless the address is a host's own: tc tells. */
	if (packet->icmp == ICMP_GROUP_REQUEST ||
	    nat_find_target(run, external, packet->class, packet->destination_port, &target) != 0)
		return -1;
	journey->session = nat_look_up_inbound(run, &target, &journey->sender);
	journey->to = target.address;
	journey->to_port = target.port;
	journey->is_inbound = 1;
	return journey->session ? 0 : -1;
}

/* The session of a packet whose destination stays. Returns 0, or -1. */
static __always_inline int nat_look_up_outward(struct nat_run *run, struct nat_journey *journey)
{
	const struct nat_packet *packet = &run->packet;
	struct nat_session_key key;

	if (run->hook == NAT_HOOK_WAN_INGRESS) {
		int network = nat_network_of(packet->destination);

		if (network < 0 || nat_is_translating(network))
			return -1;
	}
	journey->sender = nat_make_key(&key, packet->protocol, packet->source, packet->source_port,
				       packet->destination, packet->destination_port);
	journey->session = nat_look_up(run, &key);
	journey->to = packet->destination;
	journey->to_port = packet->destination_port;
	journey->is_inbound = 0;
	/* Hairpinned. */
	if (!journey->session || nat_is_translated(journey->session, !journey->sender))
		return -1;
	return nat_is_translated(journey->session, journey->sender & 1) &&
			       nat_has_lost_mapping(run, journey->session, journey->sender)
		       ? -1
		       : 0;
}

/* Of a packet that nft need not see. Returns 0, or -1. */
static __always_inline int nat_find_journey(struct nat_run *run, __u32 interface,
					    struct nat_journey *journey)
{
	int external = nat_external_index(run->packet.destination);

	if (external >= 0) {
		if (run->hook != NAT_HOOK_WAN_INGRESS ||
		    nat_look_up_inward(run, external, journey) != 0)
			return -1;
	} else if (nat_look_up_outward(run, journey) != 0) {
		return -1;
	}
	if (nat_is_over(run, journey->session, journey->sender) ||
	    !nat_approval(run, journey->session, journey->to, interface))
		return -1;
	return 0;
}

/* Whether a frame was sent to the gateway, by a source that belongs to where it came from. */
static __always_inline int nat_is_to_gateway(const struct nat_run *run,
					     const struct ethhdr *ethernet)
{
	const struct nat_settings *settings = nat_get_settings();
	int network = nat_network_of(run->packet.source);

	if (!settings)
		return 0;
	if (network < 0)
		return nat_is_sent_to(ethernet, settings->wan_mac);
	barrier_var(network);
	return nat_is_sent_to(ethernet,
			      settings->networks[network & (NAT_LIMITS_NETWORKS - 1)].mac);
}

/* Where the transport's checksum is, or NULL; `transport` is behind an IP header. */
static __always_inline __u16 *nat_checksum_in(const struct nat_packet *packet, void *transport,
					      void *data_end)
{
	__u16 *checksum;

	if (packet->class == NAT_CLASS_TCP)
		checksum = transport + TCP_CHECKSUM_OFFSET;
	else if (packet->class == NAT_CLASS_UDP)
		checksum = transport + UDP_CHECKSUM_OFFSET;
	else
		checksum = transport + ICMP_CHECKSUM_OFFSET;
	return (void *)(checksum + 1) <= data_end ? checksum : NULL;
}

/* What is put in the place of what. */
struct nat_change {
	__be32 *address;
	__be16 *port; /* or identifier */
	__be32 to;
	__be16 to_port;
};

/* As nat_rewrite, in place, and with all that a checksum is about changed before it is computed. */
static __always_inline void nat_change_end(const struct nat_packet *packet, struct iphdr *ip,
					   __u16 *checksum, const struct nat_change *change)
{
	__be32 from = *change->address;
	__be16 from_port = *change->port;
	__u16 after;

	*change->address = change->to;
	*change->port = change->to_port;
	ip->check = checksum_replace(ip->check, from, change->to);
	/* None was computed (RFC 768). */
	if (packet->class == NAT_CLASS_UDP && !*checksum)
		return;
	after = checksum_replace(*checksum, from_port, change->to_port);
	/* There is no pseudo header in ICMP's. */
	if (packet->class != NAT_CLASS_ICMP)
		after = checksum_replace(after, from, change->to);
	if (packet->class == NAT_CLASS_UDP && !after)
		after = 0xffff;
	*checksum = after;
}

/* Writes the new end of a packet, if it has one. */
static __always_inline void nat_translate_frame(const struct nat_run *run, struct iphdr *ip,
						__u16 *checksum, const struct nat_journey *journey)
{
	const struct nat_packet *packet = &run->packet;
	__be16 *ports = (void *)(ip + 1);
	struct nat_change change = {
		.address = &ip->daddr,
		.port = &ports[1],
		.to = journey->to,
		.to_port = journey->to_port,
	};

	if (!journey->is_inbound) {
		struct nat_external_endpoint as;

		if (!nat_is_translated(journey->session, journey->sender & 1))
			return;
		as = nat_external_endpoint_of(journey->session, journey->sender);
		change.address = &ip->saddr;
		change.port = &ports[0];
		change.to = as.address;
		change.to_port = as.port;
	}
	if (packet->class == NAT_CLASS_ICMP)
		change.port = &ports[ICMP_IDENTIFIER_OFFSET / 2];
	nat_count(NAT_COUNTER_TRANSLATED);
	nat_change_end(packet, ip, checksum, &change);
}

/* Sends a packet on, or leaves it to the kernel. */
__noinline int nat_cross(struct xdp_md *context, struct nat_run *run)
{
	void *data = (void *)(long)context->data, *data_end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = data;
	struct nat_frame frame = {
		.ip = data + IP_OFFSET_IN_FRAME,
		.interface = context->ingress_ifindex,
		.fast_path = NAT_FAST_PATH_XDP,
	};
	struct nat_journey journey;
	struct bpf_fib_lookup route;
	__u32 bytes = data_end - data;
	__u16 *checksum;
	int interface;

	if (!run || nat_parse_frame(run, data, data_end) != 0)
		return XDP_PASS;
	/* Said once more for the verifier. */
	if ((void *)(frame.ip + 1) + 8 > data_end)
		return XDP_PASS;
	run->generations = nat_read_generations(run->packet.source);
	checksum = nat_checksum_in(&run->packet, frame.ip + 1, data_end);
	if (!checksum || !nat_is_to_gateway(run, ethernet) ||
	    nat_find_journey(run, frame.interface, &journey) != 0)
		return XDP_PASS;
	frame.is_ours = 1;
	frame.wire_bytes = run->packet.bytes;
	frame.is_bare = bytes <= FRAME_BYTES_MIN || bytes <= IP_OFFSET_IN_FRAME + run->packet.bytes;
	interface = nat_find_way_of(context, run, &frame, journey.to, journey.to_port, &route);
	if (interface <= 0 || nat_is_kernels_turn(route.ipv4_dst, interface, run->tick))
		return XDP_PASS;
	nat_track(run, journey.session, journey.sender, nat_time_class(journey.session));
	nat_translate_frame(run, frame.ip, checksum, &journey);
	nat_forward(frame.ip);
	return nat_leave_at_xdp(run, ethernet, &route, frame.interface, bytes);
}

static __always_inline int nat_at_xdp(struct xdp_md *context, enum nat_hook hook)
{
	const struct nat_settings *settings = nat_get_settings();
	struct nat_scratch *scratch = nat_get_scratch();
	void *data_end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = (void *)(long)context->data;

	if (!settings || !scratch || settings->trusts_routes || !nat_start(&scratch->run, hook) ||
	    (void *)(ethernet + 1) > data_end)
		return XDP_PASS;
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		return six_cross(context, &scratch->run);
	return nat_cross(context, &scratch->run);
}

SEC("xdp")
int nat_wan_xdp(struct xdp_md *context)
{
	return nat_at_xdp(context, NAT_HOOK_WAN_INGRESS);
}

SEC("xdp")
int nat_inside_xdp(struct xdp_md *context)
{
	return nat_at_xdp(context, NAT_HOOK_INSIDE_INGRESS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
