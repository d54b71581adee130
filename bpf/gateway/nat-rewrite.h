/*
 * New addresses and ports for a packet at tc. The IP header's checksum is always real; that of the
 * transport may still be unfinished (CHECKSUM_PARTIAL), which only the kernel's helper knows.
 */
#pragma once

#include "gateway/nat-packet.h"
#include "packet/checksum.h"

#define UDP_CHECKSUM_OFFSET    6
#define TCP_CHECKSUM_OFFSET    16
#define ICMP_CHECKSUM_OFFSET   2
#define ICMP_IDENTIFIER_OFFSET 4

/* Writes an address into the IP header and repairs its checksum. Returns 0, or -1. */
static __always_inline int nat_write_address(struct __sk_buff *skb, int is_source, __be32 to)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + IP_OFFSET_IN_FRAME;
	__be32 from;

	if ((void *)(ip + 1) > data_end)
		return -1;
	from = is_source ? ip->saddr : ip->daddr;
	ip->check = checksum_replace(ip->check, from, to);
	if (is_source)
		ip->saddr = to;
	else
		ip->daddr = to;
	return 0;
}

/*
 * Gives the packet a new source or destination, ports and checksums included. Later fragments have
 * an address only. Returns 0, or -1 when the packet cannot be changed.
 */
__noinline int nat_rewrite(struct __sk_buff *skb, struct nat_run *run, int is_source,
			   __be32 address, __be16 port)
{
	NAT_REQUIRE(run);
	const struct nat_packet *packet = &run->packet;
	__be32 from = is_source ? packet->source : packet->destination;
	__be16 from_port = is_source ? packet->source_port : packet->destination_port;
	__u32 offset = packet->transport_offset, port_offset = is_source ? 0 : 2;
	__u64 flags = 0;

	if (nat_write_address(skb, is_source, address) != 0)
		return -1;
	if (packet->fragment == FRAGMENT_PART_LATER || packet->class == NAT_CLASS_NONE)
		return 0;
	if (packet->class == NAT_CLASS_ICMP) {
		if (packet->icmp != ICMP_GROUP_REQUEST && packet->icmp != ICMP_GROUP_REPLY)
			return 0;
		port_offset = ICMP_IDENTIFIER_OFFSET;
		offset += ICMP_CHECKSUM_OFFSET;
	} else {
		if (packet->class == NAT_CLASS_UDP)
			flags = BPF_F_MARK_MANGLED_0;
		offset +=
			packet->class == NAT_CLASS_UDP ? UDP_CHECKSUM_OFFSET : TCP_CHECKSUM_OFFSET;
		if (bpf_l4_csum_replace(skb, offset, from, address,
					flags | BPF_F_PSEUDO_HDR | sizeof(address)) != 0)
			return -1;
	}
	if (port == from_port)
		return 0;
	if (bpf_l4_csum_replace(skb, offset, from_port, port, flags | sizeof(port)) != 0)
		return -1;
	return bpf_skb_store_bytes(skb, packet->transport_offset + port_offset, &port, sizeof(port),
				   0);
}
