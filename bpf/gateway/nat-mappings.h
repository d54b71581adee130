/* Mappings: from an internal endpoint to an external one, and back (docs/nat.md, "Tables"). */
#pragma once

#include "gateway/nat-hosts.h"
#include "gateway/nat-maps.h"
#include "gateway/nat-packet.h"

#define PORTS		     65536
#define PORT_PRIVILEGED_LAST 1023

struct nat_endpoint {
	__be32 address;
	__be16 port;
	__u8 class;
	__u8 network;  /* index into the settings */
	__u32 attempt; /* which search for a port: nat_port_range_of */
};

static __always_inline __u32 nat_mapping_element(__u32 external, __u32 class, __be16 port)
{
	return (external * NAT_LIMITS_PROTOCOL_CLASSES + class) * PORTS + bpf_ntohs(port);
}

static __always_inline int nat_mapping_is_live(const struct nat_mapping *mapping, __u32 tick)
{
	if (!(mapping->flags & NAT_MAPPING_FLAGS_LIVE))
		return 0;
	return (mapping->flags & NAT_MAPPING_FLAGS_STATIC) || mapping->until_tick > tick ||
	       (mapping->established_count > 0 && mapping->established_until_tick > tick);
}

/* The word that holds port, network and flags, changed as one. */
static __always_inline __u32 *nat_mapping_word(struct nat_mapping *mapping)
{
	return (__u32 *)&mapping->internal_port;
}

static __always_inline __u32 nat_mapping_word_of(__be16 port, __u32 network, __u32 flags)
{
	return (__u32)port | network << 16 | flags << 24;
}

/*
 * Takes a mapping that is not live for its caller, who alone may write it then.
 * Returns 0 when somebody else was faster or it lives.
 */
static __always_inline int nat_claim_mapping(struct nat_mapping *mapping, __u32 tick)
{
	__u32 *word = nat_mapping_word(mapping);
	__u32 before = *word;
	__be32 owner = mapping->internal_address;

	if ((before >> 24) & NAT_MAPPING_FLAGS_BUSY || nat_mapping_is_live(mapping, tick))
		return 0;
	if (__sync_val_compare_and_swap(word, before, (__u32)NAT_MAPPING_FLAGS_BUSY << 24) !=
	    before)
		return 0;
	if ((before >> 24) & NAT_MAPPING_FLAGS_LIVE)
		nat_host_lost_mapping(owner);
	return 1;
}

static __always_inline __u64 nat_endpoint_hash(__be32 address, __be16 port, __u32 class)
{
	return nat_hash((__u64)address | (__u64)port << 32 | (__u64) class << 48, 0);
}

static __always_inline struct nat_mapping_bucket *
nat_mapping_bucket_at(const struct nat_settings *settings, __u64 hash)
{
	__u32 index = ((hash >> 32) * settings->mapping_bucket_count) >> 32;

	return bpf_map_lookup_elem(&nat_mapping_buckets, &index);
}

/* Whether a reference names the live mapping of an endpoint. */
static __always_inline int nat_reference_is(__u32 reference, __be32 address, __be16 port,
					    __u32 class, __u32 tick)
{
	struct nat_mapping *mapping;

	if (!reference || ((reference - 1) / PORTS) % NAT_LIMITS_PROTOCOL_CLASSES != class)
		return 0;
	mapping = nat_mapping_at(reference - 1);
	return mapping && mapping->internal_address == address && mapping->internal_port == port &&
	       nat_mapping_is_live(mapping, tick);
}

static __always_inline int nat_reference_is_free(__u32 reference, __u32 tick)
{
	struct nat_mapping *mapping;

	if (!reference)
		return 1;
	mapping = nat_mapping_at(reference - 1);
	return !mapping || !nat_mapping_is_live(mapping, tick);
}

/* As nat_find_mapping, of which it is the inside. Verified once. */
__noinline __u32 nat_find_reference(__be32 address, __u32 port, __u32 class, __u32 tick, __u64 hash)
{
	struct nat_settings *settings = nat_get_settings();
	struct nat_mapping_bucket *bucket;

	if (!settings)
		return 0;
	bucket = nat_mapping_bucket_at(settings, hash);
	if (!bucket)
		return 0;
	for (int index = 0; index < NAT_LIMITS_REFERENCES_PER_BUCKET; index++) {
		__u32 reference = bucket->references[index];

		if (nat_reference_is(reference, address, port, class, tick))
			return reference;
	}
	return 0;
}

/* Element of the mapping of an internal endpoint, plus 1; 0: it has none. */
static __always_inline __u32 nat_find_mapping(__be32 address, __be16 port, __u32 class, __u32 tick)
{
	return nat_find_reference(address, port, class, tick,
				  nat_endpoint_hash(address, port, class));
}

/*
 * The index of the external address of a host (RFC 4787 REQ-2: always the same), with
 * NAT_ONE_TO_ONE when it is the host's own; -1 when there is none. Verified once.
 */
__noinline int nat_external_of(__be32 address)
{
	struct nat_settings *settings = nat_get_settings();
	__u32 shared = 0, wanted;

	if (!settings)
		return -1;
	for (__u32 index = 0; index < NAT_LIMITS_EXTERNALS; index++) {
		if (index >= settings->external_count)
			break;
		if (settings->externals[index].one_to_one == address)
			return index | NAT_ONE_TO_ONE;
		if (!settings->externals[index].one_to_one)
			shared++;
	}
	if (shared == 0)
		return -1;
	wanted = shared == 1 ? 0 : nat_hash(address, 0) % shared;
	for (__u32 index = 0; index < NAT_LIMITS_EXTERNALS; index++) {
		if (index >= settings->external_count)
			break;
		if (settings->externals[index].one_to_one)
			continue;
		if (wanted-- == 0)
			return index;
	}
	return -1;
}

/*
 * Candidate ports: first, first + step, and so on, count of them. They are tried in strides of
 * their own for each endpoint, since neighbours are often taken together: in a range that is 99 %
 * full, the next free one is 100 strides away, and 5,000 neighbours.
 */
struct nat_port_search {
	__u32 base; /* element of port 0 */
	__u32 first;
	__u32 step;
	__u32 count;
	__u32 mask;   /* of numbers: the power of two that holds count, less 1 */
	__u32 number; /* of the next candidate; none has one from count on */
	__u32 stride; /* odd, so that every number's turn comes */
	__u32 tries;
	__u32 tick;
	__u32 found; /* a port plus 1; 0: none */
};

/* The least 2^n - 1 that holds the numbers of `count`, 65,536 at most. */
static __always_inline __u32 nat_mask_for(__u32 count)
{
	__u32 mask = count - 1;

	mask |= mask >> 1;
	mask |= mask >> 2;
	mask |= mask >> 4;
	mask |= mask >> 8;
	return mask;
}

/* Of one search: what a packet may cost. The next one goes on behind. */
#define NAT_CANDIDATES_MAX 4096

static long nat_try_port(__u32 unused, void *context)
{
	struct nat_port_search *search = context;
	struct nat_mapping *mapping;
	__u32 number, port;

	(void)unused;
	if (search->tries > search->mask || search->tries >= NAT_CANDIDATES_MAX)
		return 1;
	search->tries += 1;
	number = search->number;
	search->number = (number + search->stride) & search->mask;
	if (number >= search->count)
		return 0;
	port = search->first + number * search->step;
	mapping = nat_mapping_at(search->base + (port & 0xffff));
	if (!mapping || nat_mapping_is_live(mapping, search->tick))
		return 0;
	search->found = port + 1;
	return 1;
}

/* The part of struct bpf_sock_tuple that IPv4 has: the whole is too large for the stack. */
struct nat_sock_tuple {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
};

/* Whether a socket of the gateway itself has the port. */
static __always_inline int nat_is_own_port(struct __sk_buff *skb, struct nat_run *run,
					   __be32 external, __be16 port)
{
	struct nat_sock_tuple tuple = {
		.source = run->packet.destination,
		.destination = external,
		.source_port = run->packet.destination_port,
		.destination_port = port,
	};
	struct bpf_sock_tuple *asked = (void *)&tuple;
	struct bpf_sock *found;

	if (run->packet.class == NAT_CLASS_ICMP)
		return 0;
	/* A DHCP client has no socket bound most of the time. */
	if (run->packet.class == NAT_CLASS_UDP && (port == bpf_htons(67) || port == bpf_htons(68)))
		return 1;
	if (run->packet.class == NAT_CLASS_TCP)
		found = bpf_skc_lookup_tcp(skb, asked, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
	else
		found = bpf_sk_lookup_udp(skb, asked, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return 0;
	bpf_sk_release(found);
	return 1;
}

struct nat_port_range {
	__u32 first;
	__u32 last;
	__u32 step;
	__u32 search; /* index into nat_work's exhausted_until_tick */
};

/* One candidate range after the other: attempts 0 to 3, for privileged ports; others have two. */
#define NAT_ATTEMPTS 4

/*
 * RFC 4787 REQ-3a and REQ-4, as long as they can be had: the range and the parity of the internal
 * port; then the other parity; then, for privileged ports, the pool in the same order. `search` is
 * an index into nat_work. An empty range (last < first) means that there is no such attempt.
 */
static __always_inline struct nat_port_range nat_port_range_of(const struct nat_settings *settings,
							       const struct nat_endpoint *endpoint,
							       __u32 external)
{
	struct nat_port_range range = { .first = 0, .last = PORTS - 1, .step = 1 };
	__u32 port = bpf_ntohs(endpoint->port);
	int is_in_pool = port > PORT_PRIVILEGED_LAST || endpoint->attempt >= 2;
	__u32 parity = (port ^ endpoint->attempt) & 1;

	range.search = (external * NAT_LIMITS_PROTOCOL_CLASSES + endpoint->class) * 4;
	if (endpoint->class == NAT_CLASS_ICMP) {
		if (endpoint->attempt > 0)
			range.first = PORTS;
		return range;
	}
	range.step = 2;
	range.first = is_in_pool ? settings->pool_first : 1;
	range.last = is_in_pool ? settings->pool_last : PORT_PRIVILEGED_LAST;
	if (port > PORT_PRIVILEGED_LAST && endpoint->attempt >= 2)
		range.first = PORTS;
	range.first += (range.first ^ parity) & 1;
	range.search += (is_in_pool ? 2 : 0) + parity;
	return range;
}

/* What a search found nowhere, it looks for elsewhere the next time, and later. */
__noinline int nat_let_search_rest(__u32 search, __u32 tick)
{
	__u32 until = tick + NAT_LIMITS_SEARCH_REST_TICKS;
	struct nat_work *work = nat_get_work();

	NAT_REQUIRE(work);
	work->skipped[search & (NAT_SEARCHES - 1)] += NAT_CANDIDATES_MAX;
	work->exhausted_until_tick[search & (NAT_SEARCHES - 1)] = until;
	if (work->resting_until_tick < until)
		work->resting_until_tick = until;
	return 0;
}

/* Whether any search rests, as none does on most days. */
static __always_inline int nat_some_search_rests(__u32 tick)
{
	const struct nat_work *work = nat_get_work();

	return work && work->resting_until_tick > tick;
}

static __always_inline int nat_search_rests(__u32 search, __u32 tick)
{
	struct nat_work *work = nat_get_work();

	barrier_var(search);
	return work && work->exhausted_until_tick[search & (NAT_SEARCHES - 1)] > tick;
}

/* Whether the internal port is free outside, too, and may be kept. Asks for attempt 0. */
__noinline int nat_may_keep_port(struct __sk_buff *skb, struct nat_run *run,
				 const struct nat_endpoint *endpoint, __u32 external)
{
	if (!run || !endpoint)
		return 0;
	const struct nat_settings *settings = nat_get_settings();
	__u32 port = bpf_ntohs(endpoint->port);
	struct nat_port_range range;
	struct nat_mapping *mapping;

	if (!settings)
		return 0;
	range = nat_port_range_of(settings, endpoint, external);
	mapping = nat_mapping_at(nat_mapping_element(external, endpoint->class, endpoint->port));
	return mapping && port >= range.first && port <= range.last &&
	       !nat_mapping_is_live(mapping, run->tick) &&
	       !nat_is_own_port(skb, run, nat_external_address(external), endpoint->port);
}

/*
 * Looks for a free port in one range, and claims it. Returns its element plus 1, or 0 when none of
 * those that it looked at is free; then it rests.
 */
__noinline __u32 nat_search_port(struct __sk_buff *skb, struct nat_run *run,
				 const struct nat_endpoint *endpoint, __u32 external, __u64 hash)
{
	if (!run || !endpoint)
		return 0;
	const struct nat_settings *settings = nat_get_settings();
	struct nat_port_search search = { .tick = run->tick };
	struct nat_work *work = nat_get_work();
	struct nat_port_range range;

	if (!settings || !work)
		return 0;
	range = nat_port_range_of(settings, endpoint, external);
	if (range.last < range.first || nat_search_rests(range.search, run->tick))
		return 0;
	range.search &= NAT_SEARCHES - 1;
	search.base = (external * NAT_LIMITS_PROTOCOL_CLASSES + endpoint->class) * PORTS;
	search.step = range.step;
	search.first = range.first;
	search.count = (range.last - range.first) / range.step + 1;
	search.mask = nat_mask_for(search.count);
	search.stride = (__u32)(hash >> 40) | 1;
	search.number =
		((__u32)(hash >> 10) + work->skipped[range.search] * search.stride) & search.mask;
	for (int try = 0; try <= NAT_LIMITS_OWN_PORT_TRIES; try++) {
		struct nat_mapping *mapping;

		search.found = 0;
		bpf_loop(NAT_CANDIDATES_MAX, nat_try_port, &search, 0);
		if (!search.found)
			break;
		mapping = nat_mapping_at(search.base + ((search.found - 1) & 0xffff));
		if (!mapping)
			break;
		if (nat_is_own_port(skb, run, nat_external_address(external),
				    bpf_htons(search.found - 1)))
			continue;
		if (nat_claim_mapping(mapping, run->tick))
			return search.base + search.found;
	}
	nat_let_search_rest(range.search, run->tick);
	return 0;
}

/* Chooses and claims an external port. Returns its element plus 1, or 0 when none is free. */
static __always_inline __u32 nat_claim_port(struct __sk_buff *skb, struct nat_run *run,
					    struct nat_endpoint *endpoint, __u32 external,
					    __u64 hash)
{
	__u32 own = nat_mapping_element(external, endpoint->class, endpoint->port);
	struct nat_mapping *mapping = nat_mapping_at(own);

	if (nat_may_keep_port(skb, run, endpoint, external) && mapping &&
	    nat_claim_mapping(mapping, run->tick))
		return own + 1;
	for (__u32 attempt = 0; attempt < NAT_ATTEMPTS; attempt++) {
		__u32 reference;

		endpoint->attempt = attempt;
		reference = nat_search_port(skb, run, endpoint, external, hash);
		if (reference)
			return reference;
	}
	return 0;
}

static __always_inline void nat_write_mapping(struct nat_mapping *mapping,
					      const struct nat_endpoint *endpoint, __u32 tick)
{
	mapping->internal_address = endpoint->address;
	/* Until its first session says more. */
	mapping->until_tick = tick + 2;
	mapping->established_until_tick = 0;
	mapping->established_count = 0;
	mapping->unanswered_count = 0;
	mapping->created_tick = tick;
	/* Released as a whole: whoever sees LIVE sees the rest. */
	__sync_lock_test_and_set(
		nat_mapping_word(mapping),
		nat_mapping_word_of(endpoint->port, endpoint->network, NAT_MAPPING_FLAGS_LIVE));
}

/* A negative reason why there is none, else the element plus 1. Holds the bucket's lock. */
static __always_inline int nat_add_mapping(struct __sk_buff *skb, struct nat_run *run,
					   struct nat_endpoint *endpoint,
					   struct nat_mapping_bucket *bucket, __u32 external,
					   __u64 hash)
{
	NAT_REQUIRE_SETTINGS;
	__u32 place = NAT_LIMITS_REFERENCES_PER_BUCKET;
	struct nat_mapping *mapping;
	struct nat_host *host;
	__u32 reference;

	for (int index = 0; index < NAT_LIMITS_REFERENCES_PER_BUCKET; index++)
		if (nat_reference_is_free(bucket->references[index], run->tick))
			place = index;
	if (place >= NAT_LIMITS_REFERENCES_PER_BUCKET)
		return -NAT_COUNTER_DROPPED_TABLE_FULL;
	host = nat_host_of(endpoint->address);
	if (!host)
		return -NAT_COUNTER_DROPPED_HOSTS_FULL;
	if (host->mappings >= settings->mappings_per_host)
		return -NAT_COUNTER_DROPPED_HOST_MAPPINGS;
	reference = nat_claim_port(skb, run, endpoint, external, hash);
	if (!reference)
		return -NAT_COUNTER_DROPPED_NO_PORT;
	mapping = nat_mapping_at(reference - 1);
	if (!mapping)
		return -NAT_COUNTER_DROPPED_NO_PORT;
	__sync_fetch_and_add(&host->mappings, 1);
	nat_write_mapping(mapping, endpoint, run->tick);
	bucket->references[place] = reference;
	nat_count(NAT_COUNTER_MAPPINGS_OPENED);
	return reference;
}

/*
 * The mapping of an internal endpoint, made where it is missing; without one of the host's own
 * external address. Returns its element plus 1, or the negative reason why there is none.
 */
__noinline int nat_open_mapping(struct __sk_buff *skb, struct nat_run *run,
				struct nat_endpoint *endpoint, __u32 external)
{
	NAT_REQUIRE(run && endpoint);
	NAT_REQUIRE_SETTINGS;
	__u64 hash = nat_endpoint_hash(endpoint->address, endpoint->port, endpoint->class);
	struct nat_mapping_bucket *bucket = nat_mapping_bucket_at(settings, hash);
	int reference = nat_find_reference(endpoint->address, endpoint->port, endpoint->class,
					   run->tick, hash);

	if (reference)
		return reference;
	if (!bucket || !nat_try_lock(&bucket->lock))
		return -NAT_COUNTER_DROPPED_CONTENDED;
	/* Another CPU may have made it while this one waited. */
	reference = nat_find_reference(endpoint->address, endpoint->port, endpoint->class,
				       run->tick, hash);
	if (!reference)
		reference = nat_add_mapping(skb, run, endpoint, bucket, external, hash);
	nat_unlock(&bucket->lock);
	return reference;
}
