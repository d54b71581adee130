/* What was done with a first fragment, for those that follow it (docs/nat.md). */
#pragma once

#include <asm-generic/errno-base.h>

#include "gateway/nat-rewrite.h"

static __always_inline struct nat_fragment_key nat_fragment_key_of(const struct nat_run *run)
{
	struct nat_fragment_key key = {
		.source = run->packet.source,
		.destination = run->packet.destination,
		.identification = run->packet.identification,
		.protocol = run->packet.protocol,
		.hook = run->hook,
	};

	return key;
}

static __always_inline void nat_tell_first_fragment(const struct nat_fragment_key *key,
						    __u32 interface_index)
{
	struct nat_fragment_event *event =
		bpf_ringbuf_reserve(&nat_events, sizeof(struct nat_fragment_event), 0);

	if (!event)
		return;
	event->key = *key;
	event->interface_index = interface_index;
	bpf_ringbuf_submit(event, 0);
}

/* Remembers what was done with a first fragment. */
__noinline int nat_remember_fragment(struct __sk_buff *skb, struct nat_run *run, __u32 action,
				     __be32 address)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	struct nat_fragment_key key = nat_fragment_key_of(run);
	struct nat_fragment *before;
	struct nat_fragment fragment = {
		.address = address,
		.until_tick = run->tick + settings->fragment_ticks + 1,
		/* The stamp is each packet's own. */
		.mark = skb->mark & PACKET_MARK_OURS & ~PACKET_MARK_GENERATION,
		.action = action,
	};
	int is_awaited;

	before = bpf_map_lookup_elem(&nat_fragments, &key);
	is_awaited = before && before->action == NAT_FRAGMENT_ACTION_AWAITED;
	bpf_map_update_elem(&nat_fragments, &key, &fragment, BPF_ANY);
	if (is_awaited)
		nat_tell_first_fragment(&key, skb->ifindex);
	return 0;
}

/* What happened to the first fragment of this later one, or NULL. */
static __always_inline struct nat_fragment *nat_find_fragment(struct nat_run *run)
{
	struct nat_fragment_key key = nat_fragment_key_of(run);
	struct nat_fragment *fragment = bpf_map_lookup_elem(&nat_fragments, &key);

	if (!fragment || fragment->until_tick <= run->tick)
		return NULL;
	return fragment->action == NAT_FRAGMENT_ACTION_AWAITED ? NULL : fragment;
}

/*
 * Hands a fragment that came before its first to user space, which gives it back when the first has
 * come. The Ethernet source tells it, and later the way back, where the frame came in.
 */
__noinline int nat_hold_fragment(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	NAT_REQUIRE_SETTINGS;
	struct nat_fragment_key key = nat_fragment_key_of(run);
	struct nat_fragment awaited = {
		.until_tick = run->tick + settings->fragment_ticks + 1,
		.action = NAT_FRAGMENT_ACTION_AWAITED,
	};
	__u32 interface_index = skb->ifindex;
	struct nat_fragment *before;
	long result;
	__u8 place[6] = {
		0x02,
		0x67,
		interface_index >> 24,
		interface_index >> 16,
		interface_index >> 8,
		interface_index,
	};

	if (!settings->hold_interface)
		return NAT_GO_ON;
	before = bpf_map_lookup_elem(&nat_fragments, &key);
	if (before && before->until_tick <= run->tick)
		bpf_map_delete_elem(&nat_fragments, &key);
	/* The first may have come by another CPU meanwhile: user space will see that. */
	result = bpf_map_update_elem(&nat_fragments, &key, &awaited, BPF_NOEXIST);
	if ((result != 0 && result != -EEXIST) ||
	    bpf_skb_store_bytes(skb, ETH_ALEN, place, sizeof(place), 0) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_FRAGMENT);
	nat_count(NAT_COUNTER_FRAGMENT_HELD);
	return bpf_redirect(settings->hold_interface, 0);
}

/* A later fragment where destinations change. */
__noinline int nat_later_fragment_in(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	struct nat_fragment *fragment = nat_find_fragment(run);

	if (!fragment)
		return nat_hold_fragment(skb, run);
	if (fragment->action == NAT_FRAGMENT_ACTION_DROP)
		return nat_drop(NAT_COUNTER_DROPPED_FRAGMENT);
	nat_set_mark(skb, fragment->mark & PACKET_MARK_OURS);
	if (fragment->action != NAT_FRAGMENT_ACTION_DESTINATION)
		return NAT_GO_ON;
	nat_note_target(skb, run, fragment->address);
	nat_count(NAT_COUNTER_TRANSLATED);
	if (nat_rewrite(skb, run, 0, fragment->address, 0) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_MALFORMED);
	return NAT_GO_ON;
}

/* A later fragment where sources change. The kernel sends a first fragment first. */
__noinline int nat_later_fragment_out(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	struct nat_fragment *fragment = nat_find_fragment(run);

	if (!fragment || fragment->action != NAT_FRAGMENT_ACTION_SOURCE)
		return nat_drop(NAT_COUNTER_DROPPED_FRAGMENT);
	nat_count(NAT_COUNTER_TRANSLATED);
	if (nat_rewrite(skb, run, 1, fragment->address, 0) != 0)
		return nat_drop(NAT_COUNTER_DROPPED_MALFORMED);
	return NAT_GO_ON;
}
