#include "sample.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct sample_endpoint);
	__type(value, __be32);
} sample_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 8);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, 8);
	__uint(value_size, 12);
} sample_sizes SEC(".maps");

SEC("xdp")
int sample_program(struct xdp_md *context)
{
	struct sample_endpoint key = { .address = context->ingress_ifindex };

	return bpf_map_lookup_elem(&sample_map, &key) ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
