/*
 * A program that Linux 6.1 refuses and later kernels (6.18 for one) accept: it calls a function of
 * its own while it holds a spin lock. It shows that the test of the kernel floor can fail.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct counter {
	struct bpf_spin_lock lock;
	__u32 packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

static __noinline __u32 next(__u32 packets)
{
	/* Keeps clang from computing the result without a call. */
	asm volatile("" : "+r"(packets));
	return packets + 1;
}

SEC("xdp")
int count_packets(struct xdp_md *context __attribute__((unused)))
{
	__u32 index = 0;
	struct counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter) {
		bpf_spin_lock(&counter->lock);
		counter->packets = next(counter->packets);
		bpf_spin_unlock(&counter->lock);
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
