/*
 * IPv6 at egress, to inside and to the WAN: what nft has let through makes sessions, and judges
 * them. docs/nat.md, "IPv6".
 */
#pragma once

#include "gateway/nat-inbound.h"
#include "gateway/nat-open.h"
#include "gateway/six-sessions.h"

/* Errors, ICMPv6 that is no query, and later fragments belong to none. */
static __always_inline int six_has_session(const struct nat_packet *packet)
{
	return packet->fragment != FRAGMENT_PART_LATER &&
	       (packet->class == NAT_CLASS_NONE || nat_has_ports(packet));
}

/*
 * TCP without a session: may it open one? Others always may. `place`: of the interface by which it
 * came in.
 */
static __always_inline int six_may_open(const struct nat_run *run, __u32 place)
{
	NAT_REQUIRE_SETTINGS;
	const __u8 flags = run->packet.tcp_flags;

	if (run->packet.protocol != IPPROTO_TCP || nat_is_opening_syn(&run->packet))
		return 1;
	return run->tick < settings->pickup_until_tick && run->hook != NAT_HOOK_WAN_INGRESS &&
	       six_is_network(place) &&
	       (flags & (TCP_FLAG_SYN | TCP_FLAG_ACK | TCP_FLAG_RST | TCP_FLAG_FIN)) ==
		       TCP_FLAG_ACK;
}

/* Where the packet came in and goes out, and what it means that nft let it through. */
__noinline int six_note_judgement(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	struct nat_generations read = nat_read_generations(run->packet.source);
	__u32 number = nat_number_to(&read, run->packet.destination);
	struct nat_six *six = nat_get_six();

	NAT_REQUIRE(six);
	six->source_place = six_place_of(skb->ingress_ifindex);
	six->destination_place = six_place_of(skb->ifindex);
	if (!number || (skb->mark & PACKET_MARK_GENERATION) != nat_generation_mark(number))
		return 0;
	if (six->source_place != NAT_PLACE_NONE && six->destination_place != NAT_PLACE_NONE)
		run->judged = number;
	else
		run->is_astray = 1;
	return 0;
}

/* nft has let a packet of a session through. */
static __always_inline void six_judge(const struct nat_run *run, const struct nat_six *six,
				      struct nat_session *session, __u32 sender)
{
	if (nat_initiator(session) != sender || (!run->judged && !run->is_astray))
		return;
	if (run->judged)
		six_set_places(session, sender, six);
	if (session->judged != run->judged)
		session->judged = run->judged;
}

/* For whoever lists sessions. */
static __always_inline void six_note_address(__be32 digest, const __u64 address[2])
{
	const __u64 *known = bpf_map_lookup_elem(&nat_six_addresses, &digest);

	if (!known || !six_is_same(known, address))
		bpf_map_update_elem(&nat_six_addresses, &digest, address, BPF_ANY);
}

/* A session was made by this packet: its addresses are noted, and strangers may answer. */
__noinline int six_note_opened(struct nat_run *run)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	const struct nat_packet *packet = &run->packet;
	struct nat_six *six = nat_get_six();
	struct nat_session_key key;
	__u32 filtering, ticks;

	NAT_REQUIRE(six);
	six_note_address(packet->source, six->source);
	six_note_address(packet->destination, six->destination);
	if (packet->class > NAT_CLASS_UDP || !six_is_network(six->source_place) ||
	    six->destination_place != NAT_PLACE_WAN)
		return 0;
	filtering = six_filtering_at(six->source_place);
	if (filtering == NAT_FILTERING_ADDRESS_AND_PORT_DEPENDENT)
		return 0;
	ticks = packet->class == NAT_CLASS_TCP ? settings->tcp_opening_ticks : settings->udp_ticks;
	six_permission_key(&key, packet->protocol, six->source_hash, packet->source_port,
			   filtering == NAT_FILTERING_ENDPOINT_INDEPENDENT ? 0
									   : six->destination_hash);
	return nat_put_entry(run, &key, six->source_place,
			     run->tick + ticks + 1 + NAT_REFRESH_SLACK);
}

/* Makes a session in the scratch memory, as nat_make_session. */
__noinline int six_make_session(struct nat_run *run, const struct nat_opening *opening)
{
	NAT_REQUIRE(run && opening);
	struct nat_scratch *scratch = nat_get_scratch();
	int result;

	NAT_REQUIRE(scratch);
	result = nat_make_session(run, opening);
	if (result != 0)
		return result;
	scratch->session.network = NAT_SESSION_VERSION_SIX;
	*nat_session_check(&scratch->session) =
		six_check(scratch->six.source_hash, scratch->six.destination_hash);
	six_set_places(&scratch->session, nat_initiator(&scratch->session), &scratch->six);
	return 0;
}

/* The first packet of a session. Calls one behind the other: see nat_open. */
__noinline int six_open(struct nat_run *run, const struct nat_session *stale)
{
	NAT_REQUIRE(run);
	const struct nat_packet *packet = &run->packet;
	const struct nat_six *six = nat_get_six();
	struct nat_opening opening = {
		.from = packet->source,
		.to = packet->destination,
		.from_port = packet->source_port,
		.to_port = packet->destination_port,
		.protocol = packet->protocol,
		.is_confirmed = 1,
		.is_to_charged = !six || !six_is_network(six->source_place),
		.from_external = NAT_UNTRANSLATED,
		.to_external = NAT_UNTRANSLATED,
		.is_six = 1,
	};
	int result;

	NAT_REQUIRE(six);
	if (!six_may_open(run, six->source_place) || packet->icmp == ICMP_GROUP_REPLY)
		return nat_drop(NAT_COUNTER_DROPPED_STRAY);
	result = six_make_session(run, &opening);
	if (result == 0)
		result = nat_add_session(run, &opening, stale);
	if (result == 0)
		result = nat_take_first(run);
	if (result >= 0) {
		six_note_opened(run);
		return NAT_GO_ON;
	}
	if (!opening.is_to_charged)
		return nat_drop(-result);
	nat_count(NAT_COUNTER_UNANSWERED_LIMIT);
	return NAT_GO_ON;
}

__noinline int six_egress(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	__u32 kind = skb->mark & PACKET_MARK_KIND;
	struct nat_six *six = nat_get_six();
	struct nat_session *session;
	struct nat_session_key key;
	__u32 sender;

	NAT_REQUIRE(six);
	if (nat_is_made_here(skb) || kind == PACKET_KIND_REPLY || kind == PACKET_KIND_RELATED ||
	    skb->mark & (PACKET_MARK_APPROVED | PACKET_MARK_DONE))
		return NAT_GO_ON;
	switch (six_parse(skb, run, six)) {
	case PARSE_RESULT_IP:
		break;
	case PARSE_RESULT_MALFORMED:
		return nat_drop(NAT_COUNTER_DROPPED_MALFORMED);
	default:
		return NAT_GO_ON;
	}
	if (!six_has_session(&run->packet))
		return NAT_GO_ON;
	six_note_judgement(skb, run);
	sender = six_make_key(&key, run, six);
	session = nat_look_up(run, &key);
	if (session && !nat_is_over(run, session, sender)) {
		six_judge(run, six, session, sender);
		return NAT_GO_ON;
	}
	if (kind != PACKET_KIND_REQUEST && kind != PACKET_KIND_MAPPED)
		return NAT_GO_ON;
	return six_open(run, session);
}
