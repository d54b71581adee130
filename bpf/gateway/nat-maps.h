/*
 * The NAT's maps. Sizes here are for tests; src/linux/core/nat-dataplane.ts chooses them from the
 * config. Layouts: bpf/abi/nat.h. What each is for: docs/nat.md.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi/nat.h"

/* Owner: the core, which alone writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_settings);
} nat_settings SEC(".maps");

/* Owner: whoever changes the rules, and raises it then. 0: no session is approved. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nat_generation SEC(".maps");

/*
 * Owner: the core, which alone writes it. Addresses share places, so it is never full: who shares
 * one with an address that changes is judged once more, too.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NAT_GENERATION_PLACES_LINES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_generation_line);
} nat_address_generations SEC(".maps");

/*
 * Owner: the programs; the core writes port forwards. 65,536 a class and external address. When no
 * port is free, the packet that wanted one is dropped (dropped-no-port) or refused before.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3 * 65536);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_mapping);
} nat_mappings SEC(".maps");

/*
 * Owner: the programs; the core adds port forwards. When a bucket is full of live references, the
 * packet is dropped (dropped-table-full).
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_mapping_bucket);
} nat_mapping_buckets SEC(".maps");

/*
 * Owner: the programs; user space reads, and writes only `killed`. When neither bucket of a session
 * has room, unanswered sessions go; where there are none, the packet is dropped
 * (dropped-table-full) or refused before.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_session_bucket);
} nat_sessions SEC(".maps");

/*
 * Owner: the programs. One entry an inside host with sessions or mappings. When it is full, the
 * host that opened and closed nothing for longest is forgotten, and has its quotas anew.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __be32);
	__type(value, struct nat_host);
} nat_hosts SEC(".maps");

/*
 * Owner: the programs. The same of IPv6, by the digests of addresses. A host has as many of those
 * as it likes, so it may fill this one, and must not make the other forget anybody.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __be32);
	__type(value, struct nat_host);
} nat_six_hosts SEC(".maps");

/*
 * Owner: the programs. From the digests of sessions of IPv6 to addresses, for whoever lists them:
 * no packet's fate depends on it. When it is full, the address that was not asked for for longest
 * is forgotten.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, __be32);
	__type(value, struct nat_six_address);
} nat_six_addresses SEC(".maps");

/* Owner: the programs. When it is full, the datagram not looked at for longest is forgotten. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct nat_fragment_key);
	__type(value, struct nat_fragment);
} nat_fragments SEC(".maps");

/* To the core, struct nat_fragment_event. When it is full, held fragments wait for their end. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} nat_events SEC(".maps");

/* Owner: the programs. By enum nat_counter. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NAT_COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} nat_counters SEC(".maps");

/* Owner: the programs, which share it between CPUs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_work);
} nat_work SEC(".maps");

/* Of struct nat_work: a power of two, which a mask bounds. */
#define NAT_SEARCHES NAT_LIMITS_SEARCHES

static __always_inline void nat_count(enum nat_counter counter)
{
	__u32 index = counter;
	__u64 *count = bpf_map_lookup_elem(&nat_counters, &index);

	if (count)
		*count += 1;
}

static __always_inline struct nat_settings *nat_get_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nat_settings, &zero);
}

static __always_inline __u32 nat_get_generation(void)
{
	__u32 zero = 0;
	__u32 *generation = bpf_map_lookup_elem(&nat_generation, &zero);

	return generation ? *generation : 0;
}

/*
 * A function that the verifier checks by itself has to ask whether what it was given is there. It
 * always is.
 */
#define NAT_REQUIRE(pointers)                                                                      \
	if (!(pointers))                                                                           \
	return -1

#define NAT_REQUIRE_SETTINGS                                                                       \
	struct nat_settings *settings = nat_get_settings();                                        \
                                                                                                   \
	NAT_REQUIRE(settings)

static __always_inline struct nat_work *nat_get_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nat_work, &zero);
}

static __always_inline struct nat_mapping *nat_mapping_at(__u32 element)
{
	return bpf_map_lookup_elem(&nat_mappings, &element);
}

static __always_inline struct nat_session_bucket *nat_session_bucket_at(__u32 index)
{
	return bpf_map_lookup_elem(&nat_sessions, &index);
}

#define NAT_LOCK_TRIES 128

/*
 * Nothing that holds a lock can be interrupted by another holder on the same CPU, so whoever waits
 * waits for another CPU, and shortly.
 */
static __always_inline int nat_try_lock(__u32 *lock)
{
	for (int try = 0; try < NAT_LOCK_TRIES; try++)
		if (__sync_val_compare_and_swap(lock, 0, 1) == 0)
			return 1;
	return 0;
}

static __always_inline void nat_unlock(__u32 *lock)
{
	__sync_lock_test_and_set(lock, 0);
}
