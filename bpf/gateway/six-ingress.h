/*
 * IPv6 at ingress, from inside and from the WAN: nft is told the kind, and what it has let through
 * before goes fast. Nothing is dropped for want of a session, since it may be for the gateway
 * itself. docs/nat.md, "IPv6".
 */
#pragma once

#include "gateway/nat-icmp.h"
#include "gateway/nat-inbound.h"
#include "gateway/six-egress.h"
#include "gateway/six-fast.h"

/* Whether a stranger may reach the endpoint that a packet is for. RFC 6092 REC-11, REC-33. */
__noinline int six_is_let_in(struct nat_run *run)
{
	NAT_REQUIRE(run);
	const struct nat_packet *packet = &run->packet;
	const struct nat_six *six = nat_get_six();
	struct nat_session *permission;
	struct nat_session_key key;

	if (!six || run->hook != NAT_HOOK_WAN_INGRESS || packet->class > NAT_CLASS_UDP)
		return 0;
	six_permission_key(&key, packet->protocol, six->destination_hash, packet->destination_port,
			   0);
	permission = nat_look_up(run, &key);
	if (permission &&
	    six_filtering_at(permission->low_end) == NAT_FILTERING_ENDPOINT_INDEPENDENT)
		return 1;
	six_permission_key(&key, packet->protocol, six->destination_hash, packet->destination_port,
			   six->source_hash);
	permission = nat_look_up(run, &key);
	return permission &&
	       six_filtering_at(permission->low_end) == NAT_FILTERING_ADDRESS_DEPENDENT;
}

/* Whether a session for this packet, which was looked up last, would be refused. */
static __always_inline int six_is_full(struct nat_run *run)
{
	NAT_REQUIRE_SETTINGS;
	__be32 source = run->packet.source;
	struct nat_host *host = bpf_map_lookup_elem(&nat_six_hosts, &source);

	return (host && host->sessions >= settings->sessions_per_host) || !nat_has_room(run);
}

/* A packet without a session. */
__noinline int six_tell_new(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	if (!six_may_open(run, six_place_of(skb->ifindex)))
		nat_set_mark(skb, PACKET_KIND_STRAY);
	else if (run->hook == NAT_HOOK_INSIDE_INGRESS && six_is_full(run))
		nat_set_mark(skb, PACKET_KIND_FULL);
	else if (six_is_let_in(run))
		nat_set_mark(skb, PACKET_KIND_MAPPED);
	return NAT_GO_ON;
}

/* Reads the packet that an error is about, and makes the key of its session. Returns 0, or -1. */
static __always_inline int six_read_quote(struct __sk_buff *skb, const struct nat_run *run,
					  const struct nat_six *six, struct nat_session_key *key)
{
	const __u32 begin = run->packet.transport_offset + ICMP_HEADER_BYTES;
	struct six_chain chain = {
		.offset = begin + SIX_HEADER_BYTES,
		.end = IP_OFFSET_IN_FRAME + run->packet.bytes,
	};
	__u8 transport[QUOTED_TRANSPORT_BYTES_MIN] __attribute__((aligned(4)));
	__be16 source_port = 0, destination_port = 0;
	struct ipv6hdr ip __attribute__((aligned(8)));
	__u64 remote_hash;
	__u32 class;

	if (chain.offset > chain.end || bpf_skb_load_bytes(skb, begin, &ip, sizeof(ip)) != 0 ||
	    ip.version != 6 || !six_is_same((__u64 *)&ip.saddr, six->destination))
		return -1;
	chain.protocol = ip.nexthdr;
	if (six_walk(skb, &chain) != 0 || chain.fragment == FRAGMENT_PART_LATER ||
	    chain.offset + sizeof(transport) > chain.end ||
	    bpf_skb_load_bytes(skb, chain.offset, transport, sizeof(transport)) != 0)
		return -1;
	class = six_class_of(chain.protocol);
	if (class == NAT_CLASS_ICMP) {
		enum icmp_group group = six_icmp_group(transport[0]);

		if (group != ICMP_GROUP_REQUEST && group != ICMP_GROUP_REPLY)
			return -1;
		source_port = *(__be16 *)(transport + 4);
		destination_port = source_port;
	} else if (class != NAT_CLASS_NONE) {
		source_port = *(__be16 *)transport;
		destination_port = *(__be16 *)(transport + 2);
	}
	remote_hash = nat_hash(((__u64 *)&ip.daddr)[0], ((__u64 *)&ip.daddr)[1]);
	nat_make_key(key, chain.protocol, run->packet.destination, source_port,
		     six_digest(remote_hash), destination_port);
	key->ports |= NAT_KEY_SIX;
	key->check = six_check(six->destination_hash, remote_hash);
	return 0;
}

/* An error is let through as long as the session is live that it is about (RFC 4890). */
__noinline int six_tell_error(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	const struct nat_six *six = nat_get_six();
	struct nat_session_key key;

	NAT_REQUIRE(six);
	if (six_read_quote(skb, run, six, &key) == 0 && nat_look_up(run, &key))
		nat_set_mark(skb, PACKET_KIND_RELATED);
	return NAT_GO_ON;
}

/* A packet of a session. */
__noinline int six_tell_known(struct __sk_buff *skb, struct nat_run *run,
			      struct nat_session *session, __u32 sender)
{
	NAT_REQUIRE(run && session);
	__u32 kind = nat_initiator(session) == sender ? PACKET_KIND_REQUEST : PACKET_KIND_REPLY;
	int way = NAT_WAY_ASTRAY;

	nat_track(run, session, sender, nat_time_class(session));
	if (six_is_approved(run, session, sender, skb->ifindex))
		way = six_find_way(skb, run, six_place(session, sender),
				   six_place(session, !sender));
	if (way != NAT_WAY_ASTRAY) {
		nat_set_mark(skb, kind | PACKET_MARK_APPROVED);
		return way > 0 ? six_leave_by(skb, way) : NAT_GO_ON;
	}
	if (kind == PACKET_KIND_REQUEST && six_is_let_in(run))
		kind = PACKET_KIND_MAPPED;
	nat_set_mark(skb, kind);
	return NAT_GO_ON;
}

__noinline int six_ingress(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	struct nat_six *six = nat_get_six();
	struct nat_session *session;
	struct nat_session_key key;
	__u32 sender;

	NAT_REQUIRE(six);
	switch (six_parse(skb, run, six)) {
	case PARSE_RESULT_IP:
		break;
	case PARSE_RESULT_MALFORMED:
		return nat_drop(NAT_COUNTER_DROPPED_MALFORMED);
	default:
		return NAT_GO_ON;
	}
	nat_note_arrival(skb, run);
	if (run->packet.icmp == ICMP_GROUP_ERROR)
		return six_tell_error(skb, run);
	if (!six_has_session(&run->packet))
		return NAT_GO_ON;
	sender = six_make_key(&key, run, six);
	session = nat_look_up(run, &key);
	if (!session || nat_is_over(run, session, sender))
		return six_tell_new(skb, run);
	return six_tell_known(skb, run, session, sender);
}
