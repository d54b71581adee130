/* Refused by every verifier: it reads the packet without comparing with data_end. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int read_past_the_end(struct xdp_md *context)
{
	__u8 *data = (void *)(long)context->data;

	return data[100] == 7 ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
