/*
 * The NAT, at tc on WAN and inside interfaces. docs/nat.md is its specification; src/nat/ is its
 * twin; bpf/abi/nat.h has its tables.
 *
 *   WAN ingress, inside ingress   nat-inbound.h   destinations change, nft is told the kind
 *   WAN egress, inside egress     nat-outbound.h  mappings and sessions are made, sources change
 *   approved packets, at ingress  nat-fast.h      both, and straight to the other interface
 *   the same, at XDP              nat-xdp.bpf.c   as far as they need nothing else
 *   IPv6                          six-*.h         the same without translation
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "abi/nat.h"
#include "gateway/nat-fast.h"
#include "gateway/nat-inbound.h"
#include "gateway/nat-outbound.h"
#include "gateway/nat-sweep.h"
#include "gateway/protocol-counting.h"
#include "gateway/six-egress.h"
#include "gateway/six-ingress.h"

enum begin {
	BEGIN_GO_ON,
	BEGIN_DROP,
	BEGIN_HANDLE,
	BEGIN_SIX,
};

/* Fills in the run of a packet. */
static __always_inline enum begin nat_begin(struct __sk_buff *skb, struct nat_run *run,
					    enum nat_hook hook)
{
	if (!nat_start(run, hook))
		return BEGIN_GO_ON;
	switch (nat_parse(skb, run)) {
	case PARSE_RESULT_OTHER:
		return BEGIN_GO_ON;
	case PARSE_RESULT_SIX:
		return BEGIN_SIX;
	case PARSE_RESULT_MALFORMED:
		nat_count(NAT_COUNTER_DROPPED_MALFORMED);
		return BEGIN_DROP;
	default:
		if (hook == NAT_HOOK_INSIDE_INGRESS || hook == NAT_HOOK_WAN_INGRESS)
			nat_note_arrival(skb, run);
		else
			nat_note_judgement(skb, run);
		return BEGIN_HANDLE;
	}
}

static __always_inline int nat_verdict(enum begin begin)
{
	return begin == BEGIN_DROP ? TC_ACT_SHOT : NAT_GO_ON;
}

/* Whether an address is the gateway's own in one of the networks. Verified once. */
__noinline int nat_is_gateway(__be32 address)
{
	struct nat_settings *settings = nat_get_settings();

	if (!settings)
		return 0;
	for (__u32 index = 0; index < NAT_LIMITS_NETWORKS; index++) {
		if (index >= settings->network_count)
			break;
		if (settings->networks[index].gateway == address)
			return 1;
	}
	return 0;
}

/* Whether the sender's mapping is missing and cannot be made. */
__noinline int nat_lacks_port(struct __sk_buff *skb, struct nat_run *run,
			      const struct nat_host *host)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	const struct nat_packet *packet = &run->packet;
	struct nat_endpoint endpoint = {
		.address = packet->source,
		.port = packet->source_port,
		.class = packet->class,
	};
	int is_over_quota = host && host->mappings >= settings->mappings_per_host;
	int network, external;

	if (!is_over_quota && !nat_some_search_rests(run->tick))
		return 0;
	network = nat_network_of(packet->source);
	external = nat_external_of(packet->source);
	if (packet->class >= NAT_LIMITS_PROTOCOL_CLASSES || network < 0 || external < 0 ||
	    !nat_is_translating(network) || external & NAT_ONE_TO_ONE ||
	    nat_network_of(packet->destination) >= 0 ||
	    nat_find_mapping(packet->source, packet->source_port, packet->class, run->tick))
		return 0;
	if (is_over_quota)
		return 1;
	for (__u32 attempt = 0; attempt < NAT_ATTEMPTS; attempt++) {
		struct nat_port_range range;

		endpoint.attempt = attempt;
		range = nat_port_range_of(settings, &endpoint, external);
		if (range.first <= range.last && !nat_search_rests(range.search, run->tick))
			return 0;
	}
	endpoint.attempt = 0;
	return !nat_may_keep_port(skb, run, &endpoint, external);
}

/* Whether a session for this packet would be refused for want of room. */
__noinline int nat_is_full(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	__be32 source = run->packet.source;
	struct nat_host *host = bpf_map_lookup_elem(&nat_hosts, &source);

	if (host && host->sessions >= settings->sessions_per_host)
		return 1;
	return !nat_has_room(run) || nat_lacks_port(skb, run, host);
}

/* A packet without a session, whose destination stays as it is. */
__noinline int nat_tell_new(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	if (run->hook == NAT_HOOK_WAN_INGRESS && nat_is_martian(run))
		return nat_drop(NAT_COUNTER_DROPPED_MARTIAN);
	if (nat_is_gateway(run->packet.destination))
		return NAT_GO_ON;
	if (!nat_may_open(run)) {
		if (run->hook == NAT_HOOK_WAN_INGRESS)
			return nat_drop(NAT_COUNTER_DROPPED_STRAY);
		nat_count(NAT_COUNTER_REFUSED_STRAY);
		nat_set_mark(skb, PACKET_KIND_STRAY);
	} else if (run->hook == NAT_HOOK_INSIDE_INGRESS && nat_is_full(skb, run)) {
		nat_count(NAT_COUNTER_REFUSED_FULL);
		nat_set_mark(skb, PACKET_KIND_FULL);
	}
	return NAT_GO_ON;
}

/* Says what kind a packet is whose destination stays as it is. */
__noinline int nat_tell_kind(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	const struct nat_packet *packet = &run->packet;
	struct nat_session *session;
	struct nat_session_key key;
	struct nat_quote quote;
	__u32 sender, kind;
	int way;

	if (packet->fragment == FRAGMENT_PART_LATER || bpf_ntohl(packet->destination) >> 28 >= 14)
		return NAT_GO_ON;
	if (packet->icmp == ICMP_GROUP_ERROR) {
		if (packet->icmp_type != ICMP_REDIRECT && nat_read_quote(skb, run, &quote) == 0 &&
		    !quote.is_later_fragment && quote.source == packet->destination &&
		    nat_quoted_session(run, &quote, quote.source, quote.source_port,
				       quote.destination, quote.destination_port, &sender))
			nat_set_mark(skb, PACKET_KIND_RELATED);
		return NAT_GO_ON;
	}
	if (packet->class == NAT_CLASS_ICMP && packet->icmp == ICMP_GROUP_NONE)
		return NAT_GO_ON;
	sender = nat_make_key(&key, packet->protocol, packet->source, packet->source_port,
			      packet->destination, packet->destination_port);
	session = nat_look_up(run, &key);
	if (!session || nat_is_over(run, session, sender))
		return nat_tell_new(skb, run);
	if (!nat_is_translated(session, NAT_LOW) && !nat_is_translated(session, NAT_HIGH))
		nat_track(run, session, sender, nat_time_class(session));
	kind = nat_initiator(session) == sender ? PACKET_KIND_REQUEST : PACKET_KIND_REPLY;
	if (!nat_approval(run, session, packet->destination, skb->ifindex)) {
		nat_set_mark(skb, kind);
		return NAT_GO_ON;
	}
	way = nat_find_way(skb, run, packet->destination, packet->destination_port);
	nat_set_mark(skb, kind | (way == NAT_WAY_ASTRAY ? 0 : PACKET_MARK_APPROVED));
	return way > 0 ? nat_go_out_fast(skb, run, session, sender, way) : NAT_GO_ON;
}

SEC("tc")
int nat_inside_ingress(struct __sk_buff *skb)
{
	struct nat_scratch *scratch = nat_get_scratch();
	struct nat_run *run;
	enum begin begin;
	int external;

	count_skb(skb, PACKET_DIRECTION_INGRESS);
	skb->mark &= ~PACKET_MARK_OURS;
	if (!scratch)
		return NAT_GO_ON;
	run = &scratch->run;
	begin = nat_begin(skb, run, NAT_HOOK_INSIDE_INGRESS);
	if (begin != BEGIN_HANDLE)
		return begin == BEGIN_SIX ? six_ingress(skb, run) : nat_verdict(begin);
	external = nat_external_index(run->packet.destination);
	if (external >= 0)
		return nat_destination_side(skb, run, external);
	return nat_tell_kind(skb, run);
}

SEC("tc")
int nat_wan_ingress(struct __sk_buff *skb)
{
	struct nat_scratch *scratch = nat_get_scratch();
	struct nat_run *run;
	enum begin begin;
	int external, network;

	count_skb(skb, PACKET_DIRECTION_INGRESS);
	skb->mark &= ~PACKET_MARK_OURS;
	if (!scratch)
		return NAT_GO_ON;
	run = &scratch->run;
	begin = nat_begin(skb, run, NAT_HOOK_WAN_INGRESS);
	if (begin != BEGIN_HANDLE)
		return begin == BEGIN_SIX ? six_ingress(skb, run) : nat_verdict(begin);
	external = nat_external_index(run->packet.destination);
	if (external >= 0)
		return nat_destination_side(skb, run, external);
	network = nat_network_of(run->packet.destination);
	if (network < 0)
		return NAT_GO_ON;
	if (nat_is_translating(network))
		return nat_drop(NAT_COUNTER_DROPPED_INSIDE_ADDRESS);
	return nat_tell_kind(skb, run);
}

SEC("tc")
int nat_wan_egress(struct __sk_buff *skb)
{
	struct nat_session *session = NULL;
	struct nat_session_key key;
	enum begin begin;
	struct nat_scratch *scratch = nat_get_scratch();
	struct nat_run *run;
	__u32 sender = NAT_LOW;

	count_skb(skb, PACKET_DIRECTION_EGRESS);
	if (!scratch || nat_is_done(skb))
		return NAT_GO_ON;
	run = &scratch->run;
	begin = nat_begin(skb, run, NAT_HOOK_WAN_EGRESS);
	if (begin != BEGIN_HANDLE)
		return begin == BEGIN_SIX ? six_egress(skb, run) : nat_verdict(begin);
	if (run->packet.fragment != FRAGMENT_PART_LATER && run->packet.icmp != ICMP_GROUP_ERROR) {
		sender = nat_make_key(&key, run->packet.protocol, run->packet.source,
				      run->packet.source_port, run->packet.destination,
				      run->packet.destination_port);
		session = nat_look_up(run, &key);
	}
	if (session && nat_has_ports(&run->packet) && nat_is_translated(session, sender) &&
	    (nat_is_made_here(skb) || !nat_is_over(run, session, sender)) &&
	    !nat_has_lost_mapping(run, session, sender)) {
		enum time_class before = nat_time_class(session);

		nat_judge(run, session, sender);
		nat_track(run, session, sender, before);
		return nat_send_by(skb, run, session, sender);
	}
	return nat_wan_egress_slow(skb, run, session, sender);
}

SEC("tc")
int nat_inside_egress(struct __sk_buff *skb)
{
	__u32 kind = skb->mark & PACKET_MARK_KIND;
	struct nat_session *session;
	struct nat_session_key key;
	enum begin begin;
	struct nat_scratch *scratch = nat_get_scratch();
	struct nat_run *run;
	__u32 sender;

	count_skb(skb, PACKET_DIRECTION_EGRESS);
	if (!(skb->mark & PACKET_MARK_HAIRPIN) &&
	    (kind == PACKET_KIND_REPLY || kind == PACKET_KIND_RELATED ||
	     skb->mark & PACKET_MARK_APPROVED))
		return NAT_GO_ON;
	if (!scratch)
		return NAT_GO_ON;
	run = &scratch->run;
	begin = nat_begin(skb, run, NAT_HOOK_INSIDE_EGRESS);
	if (begin != BEGIN_HANDLE)
		return begin == BEGIN_SIX ? six_egress(skb, run) : nat_verdict(begin);
	if (skb->mark & PACKET_MARK_HAIRPIN)
		return nat_hairpin_egress(skb, run);
	if (nat_is_made_here(skb)) {
		if (run->packet.fragment != FRAGMENT_PART_WHOLE)
			return NAT_GO_ON;
		if (run->packet.icmp == ICMP_GROUP_ERROR)
			return nat_own_error_to_inside(skb, run);
		if (run->packet.tcp_flags & TCP_FLAG_RST)
			return nat_own_reset_to_inside(skb, run);
		return NAT_GO_ON;
	}
	if (run->packet.fragment == FRAGMENT_PART_LATER || run->packet.icmp == ICMP_GROUP_ERROR)
		return NAT_GO_ON;
	sender = nat_make_key(&key, run->packet.protocol, run->packet.source,
			      run->packet.source_port, run->packet.destination,
			      run->packet.destination_port);
	session = nat_look_up(run, &key);
	if (session && !nat_is_over(run, session, sender)) {
		nat_judge(run, session, sender);
		nat_confirm(run, session, sender);
		return NAT_GO_ON;
	}
	return kind == PACKET_KIND_REQUEST ? nat_open_routed(run, session) : NAT_GO_ON;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
