/*
 * Counts and drops what a measurement sends: UDP and TCP over IPv4 or IPv6. The rest passes, since
 * without ARP and neighbour discovery nothing would arrive.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

#include "abi/lab.h"
#include "packet/parse.h"

/* Owner: lab/packet-sink.ts. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct frame_counter);
} sunk_frames SEC(".maps");

SEC("xdp")
int sink_frame(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *data_end = (void *)(long)context->data_end;
	struct frame_counter *counter;
	struct parsed_packet packet;
	__u32 zero = 0;

	if (parse_packet(data, data_end, &packet) != 0)
		return XDP_PASS;
	if (packet.ip_protocol != IPPROTO_UDP && packet.ip_protocol != IPPROTO_TCP)
		return XDP_PASS;
	counter = bpf_map_lookup_elem(&sunk_frames, &zero);
	if (counter) {
		counter->frames += 1;
		counter->bytes += data_end - data;
	}
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
