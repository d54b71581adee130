/*
 * Makes IPv4 or IPv6 frames of many flows and sends them through an interface. Run by the kernel's
 * live-frame test run, which hands over the same pages again and again, as their last receiver
 * left them: so everything that a receiver may have changed is written for every frame.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi/lab.h"

/* Owner: lab/packet-generator.ts, which writes it before the first run. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct generator_settings);
} generator_settings SEC(".maps");

/* Owner: lab/packet-generator.ts. Frames made, by CPU; also the number of the next flow. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct frame_counter);
} generated_frames SEC(".maps");

struct flow {
	__be32 source_address;
	__be32 destination_address;
	__be16 source_port;
	__be16 destination_port;
};

static __always_inline __u32 take(__u32 *index, __u32 count)
{
	__u32 digit = *index % count;

	*index /= count;
	return digit;
}

static __always_inline struct flow flow_of(const struct generator_settings *settings, __u32 index)
{
	__u32 whole = index;
	struct flow flow;

	flow.source_address = bpf_htonl(bpf_ntohl(settings->source_address) +
					take(&index, settings->source_address_count));
	flow.source_port = bpf_htons(bpf_ntohs(settings->source_port) +
				     take(&index, settings->source_port_count));
	if (settings->is_in_step)
		index = whole;
	flow.destination_address = bpf_htonl(bpf_ntohl(settings->destination_address) +
					     take(&index, settings->destination_address_count));
	flow.destination_port = bpf_htons(bpf_ntohs(settings->destination_port) +
					  take(&index, settings->destination_port_count));
	return flow;
}

/* RFC 1071: the order of bytes does not matter to the sum, so network order goes in as it is. */
static __always_inline __u16 checksum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u32 sum_of_address(__be32 address)
{
	return (address & 0xffff) + (address >> 16);
}

/* Both return where the ports are, or NULL when the frame is too short. */
static __always_inline __be16 *write_ipv4(const struct generator_settings *settings,
					  const struct flow *flow, void *data, void *data_end)
{
	struct iphdr *ip = data + sizeof(struct ethhdr);

	if (data + GENERATOR_LIMITS_FRAME_BYTES_MIN > data_end)
		return NULL;
	__builtin_memcpy(data, settings->header, GENERATOR_LIMITS_IPV4_HEADER_BYTES);
	ip->saddr = flow->source_address;
	ip->daddr = flow->destination_address;
	ip->check = checksum(settings->network_sum + sum_of_address(flow->source_address) +
			     sum_of_address(flow->destination_address));
	return (void *)(ip + 1);
}

static __always_inline __be16 *write_ipv6(const struct generator_settings *settings,
					  const struct flow *flow, void *data, void *data_end)
{
	struct ipv6hdr *ip = data + sizeof(struct ethhdr);

	if (data + GENERATOR_LIMITS_IPV6_HEADER_BYTES > data_end)
		return NULL;
	__builtin_memcpy(data, settings->header, GENERATOR_LIMITS_IPV6_HEADER_BYTES);
	ip->saddr.s6_addr32[3] = flow->source_address;
	ip->daddr.s6_addr32[3] = flow->destination_address;
	return (void *)(ip + 1);
}

SEC("xdp")
int generate_frame(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *data_end = (void *)(long)context->data_end;
	struct generator_settings *settings;
	struct frame_counter *counter;
	__u16 *transport_checksum;
	__u32 zero = 0, index;
	struct flow flow;
	__be16 *ports;

	settings = bpf_map_lookup_elem(&generator_settings, &zero);
	counter = bpf_map_lookup_elem(&generated_frames, &zero);
	if (!settings || !counter)
		return XDP_ABORTED;

	index = settings->is_random ? bpf_get_prandom_u32() : (__u32)counter->frames;
	flow = flow_of(settings, index % settings->flow_count);
	ports = settings->is_ipv6 ? write_ipv6(settings, &flow, data, data_end)
				  : write_ipv4(settings, &flow, data, data_end);
	if (!ports)
		return XDP_ABORTED;
	counter->frames += 1;
	counter->bytes += data_end - data;

	ports[0] = flow.source_port;
	ports[1] = flow.destination_port;
	transport_checksum = data + (settings->transport_checksum_offset & 0xff);
	if ((void *)(transport_checksum + 1) <= data_end) {
		__u16 sum = checksum(settings->transport_sum + sum_of_address(flow.source_address) +
				     sum_of_address(flow.destination_address) + flow.source_port +
				     flow.destination_port);

		/* RFC 768: zero means that there is none. The other zero is as good for TCP. */
		*transport_checksum = sum ? sum : 0xffff;
	}
	return bpf_redirect(settings->interface_index, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
