/* From bytes to the place of each header. Inline, no maps: the same code serves XDP and tc. */
#pragma once

#include <linux/types.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* A customer tag inside a provider tag (802.1ad); deeper nesting is told as an unknown type. */
#define VLAN_DEPTH_MAX 2

struct vlan_tag {
	__be16 control;
	__be16 ether_type;
};

struct parsed_packet {
	__be16 ether_type;    /* behind VLAN tags */
	__u8 ip_protocol;     /* meaningful with has_ip */
	__u8 has_ip;	      /* a whole IPv4 or IPv6 fixed header is there */
	__u16 network_offset; /* of the network header, from the frame's first byte */
};

static __always_inline int is_vlan(__be16 ether_type)
{
	return ether_type == bpf_htons(ETH_P_8021Q) || ether_type == bpf_htons(ETH_P_8021AD);
}

/*
 * Reads Ethernet, VLAN tags and the fixed IP header. Lengths inside the packet are never trusted,
 * only data_end is. Returns 0, or -1 when there is no whole Ethernet header.
 */
static __always_inline int parse_packet(void *data, void *data_end, struct parsed_packet *packet)
{
	struct ethhdr *ethernet = data;
	void *cursor = ethernet + 1;

	__builtin_memset(packet, 0, sizeof(*packet));
	if (cursor > data_end)
		return -1;
	packet->ether_type = ethernet->h_proto;

#pragma unroll
	for (int depth = 0; depth < VLAN_DEPTH_MAX; depth++) {
		struct vlan_tag *tag = cursor;

		if (!is_vlan(packet->ether_type) || (void *)(tag + 1) > data_end)
			break;
		packet->ether_type = tag->ether_type;
		cursor = tag + 1;
	}
	packet->network_offset = cursor - data;

	if (packet->ether_type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = cursor;

		if ((void *)(ip + 1) <= data_end && ip->version == 4) {
			packet->has_ip = 1;
			packet->ip_protocol = ip->protocol;
		}
	} else if (packet->ether_type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = cursor;

		if ((void *)(ip + 1) <= data_end && ip->version == 6) {
			packet->has_ip = 1;
			packet->ip_protocol = ip->nexthdr;
		}
	}
	return 0;
}
