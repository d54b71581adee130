/*
 * Collects what is over, so that counts stay true and nothing fills up, whoever is alive in user
 * space: packets do it, a little each few milliseconds.
 */
#pragma once

#include "gateway/nat-sessions.h"

/* Time in units of 2^22 ns; the whole of a table takes 2^14 of them, 69 s. */
#define SWEEP_TIME_SHIFT  22
#define SWEEP_ROUND_SHIFT 14

struct nat_sweep {
	__u32 cursor;
	__u32 count;
	__u32 tick;
	__u32 padding;
};

static long nat_sweep_sessions(__u32 number, void *context)
{
	struct nat_sweep *sweep = context;
	struct nat_session_bucket *bucket =
		nat_session_bucket_at((sweep->cursor + number) % (sweep->count ? sweep->count : 1));

	if (!bucket || !nat_try_lock(&bucket->lock))
		return 0;
	for (__u32 slot = 0; slot < SLOTS; slot++) {
		if (!bucket->tags[slot] || nat_session_is_live(&bucket->slots[slot], sweep->tick))
			continue;
		nat_vacate(bucket, slot);
	}
	nat_unlock(&bucket->lock);
	return 0;
}

static long nat_sweep_mappings(__u32 number, void *context)
{
	struct nat_sweep *sweep = context;
	struct nat_mapping *mapping =
		nat_mapping_at((sweep->cursor + number) % (sweep->count ? sweep->count : 1));

	if (!mapping || !(mapping->flags & NAT_MAPPING_FLAGS_LIVE) ||
	    !nat_claim_mapping(mapping, sweep->tick))
		return 0;
	__sync_lock_test_and_set(nat_mapping_word(mapping), 0);
	return 0;
}

static __always_inline __u32 nat_sweep_length(__u32 count)
{
	return (count >> SWEEP_ROUND_SHIFT) + 1;
}

static __noinline int nat_sweep(__u32 tick)
{
	struct nat_settings *settings = nat_get_settings();
	struct nat_work *work = nat_get_work();
	struct nat_sweep sweep = { .tick = tick };
	__u32 length;

	if (!settings || !work)
		return 0;
	sweep.count = settings->session_bucket_count;
	length = nat_sweep_length(sweep.count);
	sweep.cursor = __sync_fetch_and_add(&work->session_cursor, length);
	bpf_loop(length, nat_sweep_sessions, &sweep, 0);
	sweep.count = settings->external_count * NAT_LIMITS_PROTOCOL_CLASSES * PORTS;
	length = nat_sweep_length(sweep.count);
	sweep.cursor = __sync_fetch_and_add(&work->mapping_cursor, length);
	bpf_loop(length, nat_sweep_mappings, &sweep, 0);
	return 0;
}

/* Once in each unit of time, by whichever packet comes first. */
static __always_inline void nat_sweep_sometimes(__u64 now_ns, __u32 tick)
{
	struct nat_work *work = nat_get_work();
	__u64 unit = now_ns >> SWEEP_TIME_SHIFT;
	__u64 before;

	if (!work)
		return;
	before = work->swept_at;
	if (before == unit || __sync_val_compare_and_swap(&work->swept_at, before, unit) != before)
		return;
	nat_sweep(tick);
}

/* The one place in which a packet's time is read. */
static __always_inline __u64 nat_now(const struct nat_settings *settings)
{
	return settings->fixed_now_ns ? settings->fixed_now_ns : bpf_ktime_get_coarse_ns();
}

/* The first step of each packet at each hook. Returns 0 without settings. */
static __always_inline int nat_start(struct nat_run *run, enum nat_hook hook)
{
	const struct nat_settings *settings = nat_get_settings();
	__u64 now;

	__builtin_memset(run, 0, sizeof(*run));
	run->hook = hook;
	if (!settings || (!settings->external_count && !settings->network_count))
		return 0;
	now = nat_now(settings);
	run->tick = now >> NAT_LIMITS_TICK_SHIFT;
	nat_sweep_sometimes(now, run->tick);
	return 1;
}
