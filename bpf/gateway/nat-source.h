/* New sources for packets of sessions that are there, at egress and on the fast path. */
#pragma once

#include "gateway/nat-fragments.h"
#include "gateway/nat-rewrite.h"
#include "gateway/nat-track.h"

/* Where an end of a session is seen from outside. */
static __always_inline struct nat_external_endpoint
nat_external_endpoint_of(const struct nat_session *session, __u32 end)
{
	__u32 index = end ? session->high_external : session->low_external;
	struct nat_external_endpoint endpoint = {
		.address = nat_external_address(index),
		.port = end ? session->high_external_port : session->low_external_port,
		.index = index,
	};

	return endpoint;
}

/*
 * Whether the sender's mapping has ended, or is another's by now. It cannot while the sender opened
 * the session: then every packet prolongs it.
 */
__noinline int nat_has_lost_mapping(struct nat_run *run, struct nat_session *session, __u32 sender)
{
	NAT_REQUIRE(run && session);
	NAT_REQUIRE_SETTINGS;
	__u32 external = sender ? session->high_external : session->low_external;
	struct nat_mapping *mapping;

	if (nat_initiator(session) == sender || run->packet.class == NAT_CLASS_NONE)
		return 0;
	mapping = nat_mapping_of(session, sender & 1);
	if (mapping)
		return !nat_mapping_is_live(mapping, run->tick);
	barrier_var(external);
	return !settings->externals[external & (NAT_LIMITS_EXTERNALS - 1)].one_to_one;
}

__noinline int nat_send_as(struct __sk_buff *skb, struct nat_run *run, __be32 address, __be16 port)
{
	NAT_REQUIRE(run);
	run->action = NAT_FRAGMENT_ACTION_SOURCE;
	run->address = address;
	if (run->packet.fragment == FRAGMENT_PART_FIRST)
		nat_remember_fragment(skb, run, run->action, run->address);
	nat_count(NAT_COUNTER_TRANSLATED);
	if (nat_rewrite(skb, run, 1, address, port) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_MALFORMED);
	return NAT_GO_ON;
}

static __always_inline int nat_send_by(struct __sk_buff *skb, struct nat_run *run,
				       struct nat_session *session, __u32 sender)
{
	struct nat_external_endpoint as = nat_external_endpoint_of(session, sender);

	return nat_send_as(skb, run, as.address, as.port);
}
