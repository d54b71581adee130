/*
 * The destination side: packets to an external address, from the internet at WAN ingress or from an
 * inside host at inside ingress (hairpin). docs/nat.md, "Destination side".
 */
#pragma once

#include "gateway/nat-fast.h"
#include "gateway/nat-fragments.h"
#include "gateway/nat-icmp.h"
#include "gateway/nat-open.h"

/* Of the endpoint inside that a destination stands for. */
struct nat_target {
	__be32 address;
	__be16 port;
	__u8 network;
	__u8 filtering;
	__u8 external;
	__u8 is_static;
	__be16 external_port;
};

/* A packet for which a look-up has found nothing that counts. */
static __always_inline int nat_is_over(const struct nat_run *run, const struct nat_session *session,
				       __u32 sender)
{
	int is_opener = nat_initiator(session) == sender;

	/* The other end's SYN might be forged, at least when it comes from outside. */
	if (run->packet.protocol == IPPROTO_TCP && nat_is_opening_syn(&run->packet) &&
	    nat_is_closing(session) && (is_opener || run->hook != NAT_HOOK_WAN_INGRESS))
		return 1;
	return !(session->state & NAT_SESSION_STATE_CONFIRMED) && !is_opener;
}

/*
 * The bit that spares a packet, to a destination as nft sees it, of a session that nft has judged
 * by what holds today. `interface`: the one that it came in by.
 */
__noinline int nat_approval(struct nat_run *run, const struct nat_session *session,
			    __be32 destination, __u32 interface)
{
	__u32 number;

	/* Not NAT_REQUIRE, whose -1 would be an approval. */
	if (!run || !session)
		return 0;
	number = nat_number_to(&run->generations, destination);
	/* nft clamps the MSS of TCP. */
	if (!number || session->judged != number ||
	    !(session->state & NAT_SESSION_STATE_CONFIRMED) ||
	    run->packet.tcp_flags & TCP_FLAG_SYN || nat_hides_ports(run->packet.protocol))
		return 0;
	return nat_interface_of(run->packet.source) == interface ? PACKET_MARK_APPROVED : 0;
}

/* Sources that nobody on the internet can have. */
static __always_inline int nat_is_martian(const struct nat_run *run)
{
	return nat_is_nobodys(run->packet.source) || nat_network_of(run->packet.source) >= 0 ||
	       nat_external_index(run->packet.source) >= 0;
}

static __always_inline __u32 nat_hairpin_mark(const struct nat_run *run)
{
	return run->hook == NAT_HOOK_INSIDE_INGRESS ? PACKET_MARK_HAIRPIN : 0;
}

/* `told`: an enum packet_kind, perhaps with PACKET_MARK_APPROVED. */
__noinline int nat_deliver(struct __sk_buff *skb, struct nat_run *run,
			   const struct nat_target *target, __u32 told)
{
	NAT_REQUIRE(run && target);
	nat_set_mark(skb, told | nat_hairpin_mark(run));
	nat_note_target(skb, run, target->address);
	run->action = NAT_FRAGMENT_ACTION_DESTINATION;
	run->address = target->address;
	nat_count(NAT_COUNTER_TRANSLATED);
	if (nat_rewrite(skb, run, 0, target->address, target->port) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_MALFORMED);
	return NAT_GO_ON;
}

/* The other end's port as nft sees it: an ICMP query's identifier is translated on both sides. */
static __always_inline __be16 nat_remote_port(const struct nat_run *run,
					      const struct nat_target *target)
{
	return run->packet.class == NAT_CLASS_ICMP ? target->port : run->packet.source_port;
}

/* RFC 4787 section 5. */
static __always_inline int nat_is_let_in(struct nat_run *run, const struct nat_target *target)
{
	struct nat_session_key key;

	if (target->is_static || target->filtering == NAT_FILTERING_ENDPOINT_INDEPENDENT)
		return 1;
	if (target->filtering != NAT_FILTERING_ADDRESS_DEPENDENT)
		return 0;
	nat_make_key(&key, run->packet.protocol, target->address, target->port, run->packet.source,
		     0);
	key.ports |= NAT_KEY_ENTRY;
	return nat_look_up(run, &key) != NULL;
}

static __always_inline int nat_unanswered_limit_reached(struct nat_run *run,
							const struct nat_target *target)
{
	NAT_REQUIRE_SETTINGS;
	struct nat_mapping *mapping = nat_mapping_at(
		nat_mapping_element(target->external, run->packet.class, target->external_port));

	/* An address of its own has no mappings. */
	return mapping && (mapping->flags & NAT_MAPPING_FLAGS_LIVE) &&
	       mapping->unanswered_count >= settings->outside_sessions_per_mapping;
}

static __always_inline int nat_open_inbound(struct nat_run *run, const struct nat_target *target,
					    const struct nat_session *stale)
{
	struct nat_opening opening = {
		.from = run->packet.source,
		.to = target->address,
		.from_port = nat_remote_port(run, target),
		.to_port = target->port,
		.protocol = run->packet.protocol,
		.network = target->network,
		.is_to_charged = run->hook == NAT_HOOK_WAN_INGRESS,
		.flags = target->is_static ? NAT_SESSION_FLAGS_PORT_FORWARD : 0,
		.from_external = NAT_UNTRANSLATED,
		.to_external = target->external,
		.to_external_port = target->external_port,
	};
	int result;

	if (nat_unanswered_limit_reached(run, target))
		result = -1;
	else
		result = nat_open(run, &opening, stale);
	if (result < 0)
		nat_count(NAT_COUNTER_UNANSWERED_LIMIT);
	return 0;
}

/* The session, over or not, of a packet to an inside endpoint, and which end sent it. */
static __always_inline struct nat_session *
nat_look_up_inbound(struct nat_run *run, const struct nat_target *target, __u32 *sender)
{
	struct nat_session_key key;

	*sender = nat_make_key(&key, run->packet.protocol, run->packet.source,
			       nat_remote_port(run, target), target->address, target->port);
	return nat_look_up(run, &key);
}

/* A packet that belongs to no session, to an inside endpoint. */
__noinline int nat_take_stranger(struct __sk_buff *skb, struct nat_run *run,
				 const struct nat_target *target)
{
	NAT_REQUIRE(run && target);
	enum packet_kind kind = target->is_static ? PACKET_KIND_PORT_FORWARD : PACKET_KIND_MAPPED;
	struct nat_session *stale;
	__u32 sender;

	if (run->hook == NAT_HOOK_WAN_INGRESS && nat_is_martian(run))
		return nat_drop(NAT_COUNTER_DROPPED_MARTIAN);
	/* The gateway's own pings use identifiers that hosts use, too. */
	if (run->packet.icmp == ICMP_GROUP_REPLY)
		return NAT_GO_ON;
	if (run->packet.protocol == IPPROTO_TCP && !nat_is_opening_syn(&run->packet))
		return nat_drop(NAT_COUNTER_DROPPED_STRAY);
	if (!nat_is_let_in(run, target))
		return nat_drop(NAT_COUNTER_DROPPED_FILTERED);
	stale = nat_look_up_inbound(run, target, &sender);
	/* Another CPU may have made it meanwhile. */
	if (!stale || nat_is_over(run, stale, sender))
		nat_open_inbound(run, target, stale);
	return nat_deliver(skb, run, target, kind);
}

/* No verdict: the packet belongs to no session. */
#define NAT_STRANGER 1000

/* Calls no deeper for strangers, since a chain of calls has 512 bytes of stack. */
__noinline int nat_take_to_target(struct __sk_buff *skb, struct nat_run *run,
				  const struct nat_target *target)
{
	NAT_REQUIRE(run && target);
	struct nat_session *session;
	enum packet_kind kind;
	int way, verdict;
	__u32 sender;

	session = nat_look_up_inbound(run, target, &sender);
	if (!session || nat_is_over(run, session, sender))
		return NAT_STRANGER;
	if (nat_initiator(session) != sender)
		kind = PACKET_KIND_REPLY;
	else
		kind = session->flags & NAT_SESSION_FLAGS_PORT_FORWARD ? PACKET_KIND_PORT_FORWARD
								       : PACKET_KIND_MAPPED;
	nat_track(run, session, sender, nat_time_class(session));
	if (!nat_approval(run, session, target->address, skb->ifindex))
		return nat_deliver(skb, run, target, kind);
	way = nat_find_way(skb, run, target->address, target->port);
	/* What is hairpinned gets its other half at egress. */
	if (way > 0 && run->hook == NAT_HOOK_INSIDE_INGRESS)
		way = NAT_WAY_SLOW;
	verdict = nat_deliver(skb, run, target,
			      kind | (way == NAT_WAY_ASTRAY ? 0 : PACKET_MARK_APPROVED));
	return way > 0 && verdict == NAT_GO_ON ? nat_leave_by(skb, run, way) : verdict;
}

/* Fills in who stands behind a port of an external address. Returns 0, or -1: nobody does. */
static __always_inline int nat_find_target(struct nat_run *run, __u32 external, __u32 class,
					   __be16 port, struct nat_target *target)
{
	NAT_REQUIRE_SETTINGS;
	const struct nat_external *own = &settings->externals[external & 15];
	struct nat_mapping *mapping;
	__u32 network;

	target->external = external;
	target->external_port = port;
	target->is_static = 0;
	if (own->one_to_one) {
		target->address = own->one_to_one;
		target->port = port;
		target->network = nat_network_of(own->one_to_one);
		target->filtering = own->filtering;
		return 0;
	}
	if (class == NAT_CLASS_NONE)
		return -1;
	mapping = nat_mapping_at(nat_mapping_element(external, class, port));
	if (!mapping || !nat_mapping_is_live(mapping, run->tick))
		return -1;
	network = mapping->network;
	target->address = mapping->internal_address;
	target->port = mapping->internal_port;
	target->network = network;
	target->is_static = (mapping->flags & NAT_MAPPING_FLAGS_STATIC) != 0;
	target->filtering = network < NAT_LIMITS_NETWORKS
				    ? settings->networks[network].filtering
				    : NAT_FILTERING_ADDRESS_AND_PORT_DEPENDENT;
	return 0;
}

/* Whether a live session joins the two ends of a quoted packet. */
static __always_inline struct nat_session *
nat_quoted_session(struct nat_run *run, const struct nat_quote *quote, __be32 from,
		   __be16 from_port, __be32 to, __be16 to_port, __u32 *from_end)
{
	struct nat_session_key key;

	*from_end = nat_make_key(&key, quote->protocol, from, from_port, to, to_port);
	return nat_look_up(run, &key);
}

/* An error about a packet that an inside host has sent. */
__noinline int nat_error_in(struct __sk_buff *skb, struct nat_run *run, __u32 external)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	struct nat_external_endpoint inside = {};
	struct nat_target target = {};
	struct nat_quote quote;
	__be16 remote_port;
	__u32 end;

	if (nat_read_quote(skb, run, &quote) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_ICMP_BROKEN);
	if (quote.is_later_fragment)
		return nat_drop(NAT_COUNTER_DROPPED_ICMP_UNKNOWN);
	if (quote.source != run->packet.destination)
		return NAT_GO_ON;
	if (quote.class == NAT_CLASS_NONE && !settings->externals[external & 15].one_to_one) {
		if (!nat_is_address_only(quote.protocol))
			return NAT_GO_ON;
		target.address = nat_alias_of(run, quote.protocol, quote.source, quote.destination);
		if (!target.address || target.address == quote.source)
			return NAT_GO_ON;
	} else if (nat_find_target(run, external, quote.class, quote.source_port, &target) != 0) {
		return NAT_GO_ON;
	}
	if (run->packet.icmp_type == ICMP_REDIRECT)
		return nat_drop(NAT_COUNTER_DROPPED_ICMP_UNKNOWN);
	remote_port = quote.class == NAT_CLASS_ICMP ? target.port : quote.destination_port;
	if (!nat_quoted_session(run, &quote, target.address, target.port, quote.destination,
				remote_port, &end))
		return quote.class == NAT_CLASS_ICMP ? NAT_GO_ON
						     : nat_drop(NAT_COUNTER_DROPPED_ICMP_UNKNOWN);
	inside.address = target.address;
	inside.port = target.port;
	if (nat_raise_mtu(skb, run) != 0 || nat_rewrite_quote(skb, run, &quote, 1, &inside) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_ICMP_BROKEN);
	return nat_deliver(skb, run, &target, PACKET_KIND_RELATED);
}

/* A protocol without ports. */
__noinline int nat_address_only_in(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	struct nat_target target = {};
	struct nat_session *session;
	struct nat_session_key key;
	int is_approved;
	__u32 sender;

	if (!nat_is_address_only(run->packet.protocol))
		return NAT_GO_ON;
	target.address = nat_alias_of(run, run->packet.protocol, run->packet.destination,
				      run->packet.source);
	/* None, or the gateway's own. */
	if (!target.address || target.address == run->packet.destination)
		return NAT_GO_ON;
	sender = nat_make_key(&key, run->packet.protocol, run->packet.source, 0, target.address, 0);
	session = nat_look_up(run, &key);
	if (!session)
		return NAT_GO_ON;
	nat_track(run, session, sender, nat_time_class(session));
	is_approved = nat_approval(run, session, target.address, skb->ifindex) &&
		      nat_find_way(skb, run, target.address, 0) != NAT_WAY_ASTRAY;
	return nat_deliver(skb, run, &target,
			   PACKET_KIND_REPLY | (is_approved ? PACKET_MARK_APPROVED : 0));
}

static __always_inline int nat_translate_destination(struct __sk_buff *skb, struct nat_run *run,
						     __u32 external)
{
	NAT_REQUIRE_SETTINGS;
	const struct nat_packet *packet = &run->packet;
	int is_own = settings->externals[external & 15].one_to_one != 0;
	struct nat_target target = {};
	int verdict;

	if (packet->class == NAT_CLASS_ICMP) {
		if (packet->icmp == ICMP_GROUP_ERROR)
			return nat_error_in(skb, run, external);
		if (packet->icmp != ICMP_GROUP_REPLY &&
		    !(is_own && packet->icmp == ICMP_GROUP_REQUEST))
			return NAT_GO_ON;
	}
	if (packet->class == NAT_CLASS_NONE)
		return nat_address_only_in(skb, run);
	if (nat_find_target(run, external, packet->class, packet->destination_port, &target) != 0)
		return NAT_GO_ON;
	verdict = nat_take_to_target(skb, run, &target);
	return verdict == NAT_STRANGER ? nat_take_stranger(skb, run, &target) : verdict;
}

static __always_inline int nat_destination_side(struct __sk_buff *skb, struct nat_run *run,
						__u32 external)
{
	int verdict;

	if (run->hook == NAT_HOOK_INSIDE_INGRESS && nat_network_of(run->packet.source) < 0)
		return nat_drop(NAT_COUNTER_DROPPED_MARTIAN);
	if (run->packet.fragment == FRAGMENT_PART_LATER)
		return nat_later_fragment_in(skb, run);
	verdict = nat_translate_destination(skb, run, external);
	/* What is for the gateway itself stays as it is. */
	if (verdict == NAT_GO_ON && run->action == NAT_FRAGMENT_ACTION_PASS &&
	    run->hook == NAT_HOOK_WAN_INGRESS && nat_is_martian(run))
		verdict = nat_drop(NAT_COUNTER_DROPPED_MARTIAN);
	if (verdict == TC_ACT_SHOT)
		run->action = NAT_FRAGMENT_ACTION_DROP;
	if (run->packet.fragment == FRAGMENT_PART_FIRST)
		nat_remember_fragment(skb, run, run->action, run->address);
	return verdict;
}
