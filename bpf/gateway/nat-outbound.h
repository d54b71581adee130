/*
 * The source side: packets from inside hosts, at WAN egress or, hairpinned, at inside egress.
 * docs/nat.md, "WAN egress" and "Inside egress".
 */
#pragma once

#include "gateway/nat-inbound.h"

/* nft has let a packet of a session through. */
static __always_inline void nat_judge(const struct nat_run *run, struct nat_session *session,
				      __u32 sender)
{
	if (nat_initiator(session) != sender)
		return;
	if (run->judged ? session->judged != run->judged : run->is_astray)
		session->judged = run->judged;
}

/* nft has let its first packet through. */
__noinline int nat_confirm(struct nat_run *run, struct nat_session *session, __u32 sender)
{
	NAT_REQUIRE(run && session);
	if (session->state & NAT_SESSION_STATE_CONFIRMED || nat_initiator(session) != sender)
		return 0;
	nat_set_bits(session, (__u32)NAT_SESSION_STATE_CONFIRMED << NAT_WORD_STATE);
	return nat_refresh(run, session, sender, TIME_CLASS_UNCONFIRMED);
}

/* TCP without a session: may it open one? Others always may. docs/nat.md, "TCP". */
__noinline int nat_may_open(struct nat_run *run)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	const __u8 flags = run->packet.tcp_flags;

	if (run->packet.protocol != IPPROTO_TCP || nat_is_opening_syn(&run->packet))
		return 1;
	if ((flags & (TCP_FLAG_SYN | TCP_FLAG_ACK | TCP_FLAG_RST)) == (TCP_FLAG_SYN | TCP_FLAG_ACK))
		return nat_find_mapping(run->packet.source, run->packet.source_port, NAT_CLASS_TCP,
					run->tick) != 0;
	return run->tick < settings->pickup_until_tick && run->hook != NAT_HOOK_WAN_INGRESS &&
	       nat_network_of(run->packet.source) >= 0 &&
	       (flags & (TCP_FLAG_SYN | TCP_FLAG_ACK | TCP_FLAG_RST | TCP_FLAG_FIN)) ==
		       TCP_FLAG_ACK;
}

/* How the sender is seen from outside; made where it is not known. 0, or a negative reason. */
__noinline int nat_map_sender(struct __sk_buff *skb, struct nat_run *run, __u32 network,
			      struct nat_external_endpoint *as)
{
	NAT_REQUIRE(run && as);
	NAT_REQUIRE_SETTINGS;
	struct nat_endpoint endpoint = {
		.address = run->packet.source,
		.port = run->packet.source_port,
		.class = run->packet.class,
		.network = network,
	};
	int external = nat_external_of(run->packet.source), reference;

	if (external < 0)
		return -NAT_COUNTER_DROPPED_NO_PORT;
	as->port = endpoint.port;
	if (!(external & NAT_ONE_TO_ONE) && endpoint.class < NAT_LIMITS_PROTOCOL_CLASSES) {
		reference = nat_open_mapping(skb, run, &endpoint, external);
		if (reference <= 0)
			return reference;
		as->port = bpf_htons((reference - 1) & 0xffff);
		/* A port forward may stand at another address than the host's own. */
		external = (reference - 1) / PORTS / NAT_LIMITS_PROTOCOL_CLASSES;
	}
	as->index = external;
	as->address = nat_external_address(external);
	return 0;
}

static __always_inline int nat_permit(struct nat_run *run, __u32 network)
{
	NAT_REQUIRE_SETTINGS;
	__u32 ticks = run->packet.protocol == IPPROTO_TCP   ? settings->tcp_opening_ticks
		      : run->packet.protocol == IPPROTO_UDP ? settings->udp_ticks
							    : settings->icmp_ticks;
	struct nat_session_key key;

	int external = nat_external_of(run->packet.source);
	__u32 filtering =
		external & NAT_ONE_TO_ONE
			? settings->externals[external & (NAT_LIMITS_EXTERNALS - 1)].filtering
			: settings->networks[network & (NAT_LIMITS_NETWORKS - 1)].filtering;

	if (filtering != NAT_FILTERING_ADDRESS_DEPENDENT)
		return 0;
	nat_make_key(&key, run->packet.protocol, run->packet.source, run->packet.source_port,
		     run->packet.destination, 0);
	return nat_put_entry(run, &key, 0, run->tick + ticks + 1 + NAT_REFRESH_SLACK);
}

/* The first packet of an inside host to a remote. */
__noinline int nat_open_outbound(struct __sk_buff *skb, struct nat_run *run,
				 const struct nat_session *stale, __u32 network)
{
	NAT_REQUIRE(run);
	struct nat_opening opening = {
		.from = run->packet.source,
		.to = run->packet.destination,
		.from_port = run->packet.source_port,
		.to_port = run->packet.destination_port,
		.protocol = run->packet.protocol,
		.network = network,
		.is_confirmed = 1,
		.is_answer = run->packet.tcp_flags & TCP_FLAG_SYN &&
			     run->packet.tcp_flags & TCP_FLAG_ACK,
		.from_external = NAT_UNTRANSLATED,
		.to_external = NAT_UNTRANSLATED,
	};
	struct nat_external_endpoint as = {};
	int result;

	if (!nat_may_open(run) || run->packet.icmp == ICMP_GROUP_REPLY)
		return nat_drop(NAT_COUNTER_DROPPED_STRAY);
	result = nat_map_sender(skb, run, network, &as);
	if (result < 0)
		return nat_drop(-result);
	opening.from_external = as.index;
	opening.from_external_port = as.port;
	result = nat_open(run, &opening, stale);
	if (result < 0)
		return nat_drop(-result);
	nat_permit(run, network);
	return nat_send_as(skb, run, as.address, as.port);
}

/* A session without translation. */
__noinline int nat_open_routed(struct nat_run *run, const struct nat_session *stale)
{
	NAT_REQUIRE(run);
	struct nat_opening opening = {
		.from = run->packet.source,
		.to = run->packet.destination,
		.from_port = run->packet.source_port,
		.to_port = run->packet.destination_port,
		.protocol = run->packet.protocol,
		.is_confirmed = 1,
		.is_to_charged = nat_network_of(run->packet.source) < 0,
		.is_answer = run->packet.tcp_flags & TCP_FLAG_SYN &&
			     run->packet.tcp_flags & TCP_FLAG_ACK,
		.from_external = NAT_UNTRANSLATED,
		.to_external = NAT_UNTRANSLATED,
	};
	int result;

	if (!nat_may_open(run) || run->packet.icmp == ICMP_GROUP_REPLY)
		return nat_drop(NAT_COUNTER_DROPPED_STRAY);
	result = nat_open(run, &opening, stale);
	if (result >= 0)
		return NAT_GO_ON;
	if (!opening.is_to_charged)
		return nat_drop(-result);
	nat_count(NAT_COUNTER_UNANSWERED_LIMIT);
	return NAT_GO_ON;
}

/*
 * A protocol without ports: one host alone speaks it with a remote, and the alias says which.
 * Returns 0, or the negative reason why this one may not.
 */
__noinline int nat_claim_alias(struct nat_run *run)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	int external = nat_external_of(run->packet.source);
	__u32 until = run->tick + settings->other_ticks + 1 + NAT_REFRESH_SLACK;
	struct nat_session_key key;
	__be32 address, owner;

	if (external < 0)
		return -NAT_COUNTER_DROPPED_NO_PORT;
	if (!nat_is_address_only(run->packet.protocol))
		return -NAT_COUNTER_DROPPED_PROTOCOL;
	address = nat_external_address(external);
	owner = nat_alias_of(run, run->packet.protocol, address, run->packet.destination);
	if (owner && owner != run->packet.source)
		return -NAT_COUNTER_DROPPED_PROTOCOL_BUSY;
	nat_make_key(&key, run->packet.protocol, address, 0, run->packet.destination, 0);
	return nat_put_entry(run, &key, run->packet.source, until);
}

/* What the gateway says by one of its outside addresses, the external ones among them. */
static __always_inline int nat_is_local_source(const struct __sk_buff *skb,
					       const struct nat_run *run)
{
	return nat_external_index(run->packet.source) >= 0 ||
	       (nat_is_made_here(skb) && nat_network_of(run->packet.source) < 0);
}

/* The gateway's own tunnel: what comes back is its own, whoever inside spoke there before. */
__noinline int nat_claim_own_alias(struct nat_run *run)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	__u32 until = run->tick + settings->other_ticks + 1 + NAT_REFRESH_SLACK;
	struct nat_session_key key;
	struct nat_session *alias;

	nat_make_key(&key, run->packet.protocol, run->packet.source, 0, run->packet.destination, 0);
	nat_put_entry(run, &key, run->packet.source, until);
	alias = nat_look_up(run, &key);
	if (alias)
		alias->low_end = run->packet.source;
	return 0;
}

/* An error about a packet to an inside host, from it, from a router there, or from the gateway. */
__noinline int nat_error_out(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	struct nat_external_endpoint as = {};
	struct nat_session *session;
	struct nat_quote quote;
	int external, network;
	__u32 end;

	if (nat_read_quote(skb, run, &quote) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_ICMP_BROKEN);
	network = nat_network_of(quote.destination);
	if (nat_is_local_source(skb, run) && (network < 0 || !nat_is_translating(network)))
		return NAT_GO_ON;
	if (quote.is_later_fragment || run->packet.icmp_type == ICMP_REDIRECT)
		return nat_drop(NAT_COUNTER_DROPPED_ICMP_UNKNOWN);
	session = nat_quoted_session(run, &quote, quote.destination, quote.destination_port,
				     quote.source, quote.source_port, &end);
	if (session && nat_is_translated(session, end)) {
		as = nat_external_endpoint_of(session, end);
	} else {
		external = nat_external_of(quote.destination);
		as.port = quote.destination_port;
		if (external < 0)
			return nat_drop(NAT_COUNTER_DROPPED_ICMP_UNKNOWN);
		if (!(external & NAT_ONE_TO_ONE)) {
			__u32 reference = nat_find_mapping(
				quote.destination, quote.destination_port, quote.class, run->tick);

			if (!reference)
				return nat_drop(NAT_COUNTER_DROPPED_ICMP_UNKNOWN);
			as.port = bpf_htons((reference - 1) & 0xffff);
			external = (reference - 1) / PORTS / NAT_LIMITS_PROTOCOL_CLASSES;
		}
		as.address = nat_external_address(external);
	}
	if (nat_rewrite_quote(skb, run, &quote, 0, &as) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_ICMP_BROKEN);
	if (nat_is_local_source(skb, run))
		return NAT_GO_ON;
	return nat_send_as(skb, run, as.address, 0);
}

/* What the source side does with a packet whose session is not there or does not translate it. */
__noinline int nat_wan_egress_slow(struct __sk_buff *skb, struct nat_run *run,
				   struct nat_session *session, __u32 sender)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	const struct nat_packet *packet = &run->packet;
	int network, result;

	if (nat_is_local_source(skb, run)) {
		if (packet->icmp == ICMP_GROUP_ERROR && packet->fragment != FRAGMENT_PART_LATER)
			return nat_error_out(skb, run);
		if (nat_is_address_only(packet->protocol) &&
		    nat_external_index(packet->source) >= 0)
			nat_claim_own_alias(run);
		return NAT_GO_ON;
	}
	network = nat_network_of(packet->source);
	if (network < 0)
		return nat_drop(NAT_COUNTER_DROPPED_MARTIAN);
	if (!nat_is_translating(network)) {
		if (packet->fragment == FRAGMENT_PART_LATER || packet->icmp == ICMP_GROUP_ERROR)
			return NAT_GO_ON;
		if (session && !nat_is_over(run, session, sender)) {
			nat_judge(run, session, sender);
			return NAT_GO_ON;
		}
		/* nft refuses by a reset in a host's name. */
		return nat_is_made_here(skb) ? NAT_GO_ON : nat_open_routed(run, session);
	}
	if (packet->fragment == FRAGMENT_PART_LATER)
		return nat_later_fragment_out(skb, run);
	if (packet->icmp == ICMP_GROUP_ERROR)
		return nat_error_out(skb, run);
	if (packet->class == NAT_CLASS_NONE) {
		result = nat_claim_alias(run);
		if (result < 0)
			return nat_drop(-result);
		if (session && nat_is_translated(session, sender)) {
			nat_judge(run, session, sender);
			nat_track(run, session, sender, nat_time_class(session));
			return nat_send_by(skb, run, session, sender);
		}
	}
	if (packet->class == NAT_CLASS_ICMP && packet->icmp == ICMP_GROUP_NONE)
		return nat_drop(NAT_COUNTER_DROPPED_PROTOCOL);
	return nat_open_outbound(skb, run, session, network);
}

/* Hairpin: the second half, behind nft. */
__noinline int nat_hairpin_egress(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	struct nat_external_endpoint as = {};
	struct nat_session *session;
	struct nat_session_key key;
	__u32 sender;
	int network, result;

	if (run->packet.fragment == FRAGMENT_PART_LATER)
		return nat_later_fragment_out(skb, run);
	if (run->packet.icmp == ICMP_GROUP_ERROR)
		return nat_error_out(skb, run);
	sender = nat_make_key(&key, run->packet.protocol, run->packet.source,
			      run->packet.source_port, run->packet.destination,
			      run->packet.destination_port);
	session = nat_look_up(run, &key);
	network = nat_network_of(run->packet.source);
	if (!session || network < 0)
		return nat_drop(NAT_COUNTER_DROPPED_TABLE_FULL);
	if (!nat_is_translated(session, sender) || nat_has_lost_mapping(run, session, sender)) {
		result = nat_map_sender(skb, run, network, &as);
		if (result < 0)
			return nat_drop(-result);
		if (sender) {
			session->high_external = as.index;
			session->high_external_port = as.port;
		} else {
			session->low_external = as.index;
			session->low_external_port = as.port;
		}
		nat_set_bits(session, (__u32)(NAT_SESSION_FLAGS_LOW_TRANSLATED << (sender & 1))
					      << NAT_WORD_FLAGS);
		if (session->state & NAT_SESSION_STATE_ESTABLISHED)
			nat_count_established(session, sender);
		nat_refresh_mapping(run, session, sender, session->until_tick + NAT_REFRESH_SLACK);
	}
	nat_judge(run, session, sender);
	nat_confirm(run, session, sender);
	return nat_send_by(skb, run, session, sender);
}

/* What the gateway itself says to a host about a hairpinned packet shows the external endpoint. */
__noinline int nat_own_error_to_inside(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	struct nat_external_endpoint as;
	struct nat_session *session;
	struct nat_quote quote = {};
	__u32 end;

	if (nat_read_quote(skb, run, &quote) != 0 || quote.is_later_fragment)
		return NAT_GO_ON;
	session = nat_quoted_session(run, &quote, quote.destination, quote.destination_port,
				     quote.source, quote.source_port, &end);
	if (!session || !nat_is_translated(session, end))
		return NAT_GO_ON;
	as = nat_external_endpoint_of(session, end);
	if (nat_rewrite_quote(skb, run, &quote, 0, &as) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_ICMP_BROKEN);
	return NAT_GO_ON;
}

/* A reset by which nft refuses a hairpinned packet has the other host's inside address. */
__noinline int nat_own_reset_to_inside(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	struct nat_session *session;
	struct nat_session_key key;
	__u32 sender;

	sender = nat_make_key(&key, run->packet.protocol, run->packet.source,
			      run->packet.source_port, run->packet.destination,
			      run->packet.destination_port);
	session = nat_look_up(run, &key);
	return session && nat_is_translated(session, sender)
		       ? nat_send_by(skb, run, session, sender)
		       : NAT_GO_ON;
}
