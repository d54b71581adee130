/* What each inside host has, against its quotas. */
#pragma once

#include "gateway/nat-maps.h"

/* NULL only when the map cannot be written. */
static __always_inline struct nat_host *nat_host_of(__be32 address)
{
	struct nat_host *host = bpf_map_lookup_elem(&nat_hosts, &address);
	struct nat_host none = {};

	if (host)
		return host;
	bpf_map_update_elem(&nat_hosts, &address, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&nat_hosts, &address);
}

/* Counts never go below zero, whatever two CPUs do at once. */
static __always_inline void nat_decrement(__u32 *count)
{
	if (*count > 0 && (__s32)__sync_fetch_and_add(count, -1) <= 0)
		__sync_fetch_and_add(count, 1);
}

/* The same for a digest. */
static __always_inline struct nat_host *six_host_of(__be32 digest)
{
	struct nat_host *host = bpf_map_lookup_elem(&nat_six_hosts, &digest);
	struct nat_host none = {};

	if (host)
		return host;
	bpf_map_update_elem(&nat_six_hosts, &digest, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&nat_six_hosts, &digest);
}

static __always_inline void nat_host_lost_session(__be32 address, int is_six)
{
	struct nat_host *host = is_six ? bpf_map_lookup_elem(&nat_six_hosts, &address)
				       : bpf_map_lookup_elem(&nat_hosts, &address);

	if (host)
		nat_decrement(&host->sessions);
}

static __always_inline void nat_host_lost_mapping(__be32 address)
{
	struct nat_host *host = bpf_map_lookup_elem(&nat_hosts, &address);

	if (host)
		nat_decrement(&host->mappings);
}
