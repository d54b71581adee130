/*
 * At the ingress of the hold interface, into which user space writes fragments that had to wait for
 * their first: sends each to the ingress of the interface where it came in, as if it came just now.
 * Everything else is dropped, so nothing ever reaches the kernel from the hold interface.
 *
 * The Ethernet source address tells the interface: 02:67 and its index in network order, as
 * bpf/gateway/nat-fragments.h writes it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi/fragment-return.h"

/*
 * Owner: the core, which writes the indexes of interfaces on which the NAT runs; the values mean
 * nothing. A config has at most 65, the WAN and one a network. What is not in it gets no frames.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, __u32);
} fragment_return_interfaces SEC(".maps");

/* Owner: the program. By enum fragment_return_counter. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FRAGMENT_RETURN_COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} fragment_return_counters SEC(".maps");

/* Of the frame's source address. */
struct held_place {
	__be16 prefix;
	__be16 index_high;
	__be16 index_low;
};

#define HELD_PREFIX 0x0267

static __always_inline void count(enum fragment_return_counter counter)
{
	__u32 index = counter;
	__u64 *frames = bpf_map_lookup_elem(&fragment_return_counters, &index);

	if (frames)
		*frames += 1;
}

static __always_inline int drop(enum fragment_return_counter counter)
{
	count(counter);
	return TC_ACT_SHOT;
}

SEC("tc")
int return_fragment(struct __sk_buff *skb)
{
	struct held_place place;
	__u32 interface_index;

	if (bpf_skb_load_bytes(skb, ETH_ALEN, &place, sizeof(place)) != 0 ||
	    place.prefix != bpf_htons(HELD_PREFIX))
		return drop(FRAGMENT_RETURN_COUNTER_DROPPED_FOREIGN);
	interface_index = (__u32)bpf_ntohs(place.index_high) << 16 | bpf_ntohs(place.index_low);
	if (!bpf_map_lookup_elem(&fragment_return_interfaces, &interface_index))
		return drop(FRAGMENT_RETURN_COUNTER_DROPPED_INTERFACE);
	count(FRAGMENT_RETURN_COUNTER_RETURNED);
	return bpf_redirect(interface_index, BPF_F_INGRESS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
