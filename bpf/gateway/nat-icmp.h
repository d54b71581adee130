/* ICMP errors and the packets that they quote (RFC 5508 section 4; docs/nat.md, "ICMP errors"). */
#pragma once

#include "gateway/nat-rewrite.h"

#define ICMP_HEADER_BYTES	   8
#define ICMP_ERROR_BYTES_MAX	   2048
#define ICMP_MTU_OFFSET		   6
#define QUOTED_TRANSPORT_BYTES_MIN 8
#define ICMP_REDIRECT		   5
#define ICMP_UNREACHABLE	   3
#define ICMP_FRAGMENTATION_NEEDED  4

/* The packet inside an error: that which it is about. */
struct nat_quote {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 class;
	__u8 is_later_fragment;
	__u8 padding;
	__u32 ip_offset; /* from the frame's first byte */
	__u32 transport_offset;
	__u32 transport_bytes; /* that are there */
};

#define CHUNK_BYTES 32

struct nat_sum {
	struct __sk_buff *skb;
	__u32 offset;
	__u32 left;
	__u32 sum;
	__u32 failed;
};

static long nat_sum_chunk(__u32 unused, void *context)
{
	struct nat_sum *state = context;
	__u8 chunk[CHUNK_BYTES] __attribute__((aligned(8))) = {};
	__u32 length = state->left;
	long failed;

	(void)unused;
	if (length == 0)
		return 1;
	if (length >= CHUNK_BYTES) {
		length = CHUNK_BYTES;
		failed = bpf_skb_load_bytes(state->skb, state->offset, chunk, CHUNK_BYTES);
	} else {
		__u32 but_one = length - 1;

		/* So that 6.1's verifier sees, too, that the length is not zero. */
		barrier_var(but_one);
		but_one &= CHUNK_BYTES - 1;
		failed = bpf_skb_load_bytes(state->skb, state->offset, chunk, but_one + 1);
	}
	if (failed) {
		state->failed = 1;
		return 1;
	}
	for (int word = 0; word < CHUNK_BYTES / 4; word++)
		state->sum = checksum_add(state->sum, ((__u32 *)chunk)[word]);
	state->offset += length;
	state->left -= length;
	return 0;
}

/* Whether the checksum over part of the frame is right; at most ICMP_ERROR_BYTES_MAX. */
__noinline int nat_sum_is_right(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	struct nat_sum state = { .skb = skb, .offset = offset, .left = length };

	if (length > ICMP_ERROR_BYTES_MAX)
		return 0;
	bpf_loop(ICMP_ERROR_BYTES_MAX / CHUNK_BYTES + 1, nat_sum_chunk, &state, 0);
	return !state.failed && checksum_fold(state.sum) == 0;
}

/* Reads and checks the quoted packet. Returns 0, or -1 when the error is broken. */
__noinline int nat_read_quote(struct __sk_buff *skb, struct nat_run *run, struct nat_quote *quote)
{
	NAT_REQUIRE(run && quote);
	const struct nat_packet *packet = &run->packet;
	__u32 offset = packet->transport_offset;
	__u32 bytes = packet->bytes - (offset - IP_OFFSET_IN_FRAME);
	__u8 transport[8] __attribute__((aligned(4)));
	struct iphdr ip;
	__u32 header_bytes;

	if (packet->fragment == FRAGMENT_PART_WHOLE && !nat_sum_is_right(skb, offset, bytes))
		return -1;
	offset += ICMP_HEADER_BYTES;
	bytes -= ICMP_HEADER_BYTES;
	if (bytes < sizeof(ip) + QUOTED_TRANSPORT_BYTES_MIN ||
	    bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) != 0)
		return -1;
	header_bytes = (__u32)ip.ihl * 4;
	if (ip.version != 4 || header_bytes < sizeof(ip) ||
	    bytes < header_bytes + QUOTED_TRANSPORT_BYTES_MIN ||
	    !nat_sum_is_right(skb, offset, header_bytes) ||
	    bpf_skb_load_bytes(skb, offset + header_bytes, transport, sizeof(transport)) != 0)
		return -1;
	quote->source = ip.saddr;
	quote->destination = ip.daddr;
	quote->protocol = ip.protocol;
	quote->class = nat_class_of(ip.protocol);
	quote->is_later_fragment = (ip.frag_off & bpf_htons(IP_OFFSET)) != 0;
	quote->padding = 0;
	quote->ip_offset = offset;
	quote->transport_offset = offset + header_bytes;
	quote->transport_bytes = bytes - header_bytes;
	quote->source_port = 0;
	quote->destination_port = 0;
	if (quote->is_later_fragment)
		return 0;
	if (quote->class == NAT_CLASS_ICMP) {
		enum icmp_group group = nat_icmp_group(transport[0]);

		/* An error about an error does not exist (RFC 1122 section 3.2.2). */
		if (group != ICMP_GROUP_REQUEST && group != ICMP_GROUP_REPLY)
			return -1;
		quote->source_port = *(__be16 *)(transport + 4);
		quote->destination_port = quote->source_port;
	} else if (quote->class != NAT_CLASS_NONE) {
		quote->source_port = *(__be16 *)transport;
		quote->destination_port = *(__be16 *)(transport + 2);
	}
	return 0;
}

/* Two bytes of the message change, and the error's own checksum with them. */
static __always_inline int nat_replace_2(struct __sk_buff *skb, struct nat_run *run, __u32 offset,
					 __be16 from, __be16 to)
{
	__u32 checksum = run->packet.transport_offset + ICMP_CHECKSUM_OFFSET;

	if (from == to)
		return 0;
	if (bpf_l4_csum_replace(skb, checksum, from, to, sizeof(to)) != 0)
		return -1;
	return bpf_skb_store_bytes(skb, offset, &to, sizeof(to), 0);
}

static __always_inline int nat_replace_4(struct __sk_buff *skb, struct nat_run *run, __u32 offset,
					 __be32 from, __be32 to)
{
	__u32 checksum = run->packet.transport_offset + ICMP_CHECKSUM_OFFSET;

	if (bpf_l4_csum_replace(skb, checksum, from, to, sizeof(to)) != 0)
		return -1;
	return bpf_skb_store_bytes(skb, offset, &to, sizeof(to), 0);
}

/* Where the quoted transport header has its checksum, 0 where it was cut off. */
static __always_inline __u32 nat_quoted_checksum_offset(const struct nat_quote *quote)
{
	if (quote->class == NAT_CLASS_UDP)
		return quote->transport_offset + UDP_CHECKSUM_OFFSET;
	if (quote->class == NAT_CLASS_ICMP)
		return quote->transport_offset + ICMP_CHECKSUM_OFFSET;
	return quote->class == NAT_CLASS_TCP && quote->transport_bytes >= TCP_CHECKSUM_OFFSET + 2
		       ? quote->transport_offset + TCP_CHECKSUM_OFFSET
		       : 0;
}

/* Gives the quoted packet another source or destination. Returns 0, or -1. */
__noinline int nat_rewrite_quote(struct __sk_buff *skb, struct nat_run *run,
				 const struct nat_quote *quote, int is_source,
				 const struct nat_external_endpoint *to)
{
	NAT_REQUIRE(run && quote && to);
	__be32 from = is_source ? quote->source : quote->destination;
	__be16 from_port = is_source ? quote->source_port : quote->destination_port;
	__u32 checksum_offset = nat_quoted_checksum_offset(quote);
	__u32 ip_checksum_offset = quote->ip_offset + __builtin_offsetof(struct iphdr, check);
	__u32 port_offset = quote->transport_offset + (is_source ? 0 : 2);
	__be16 old, new;

	if (bpf_skb_load_bytes(skb, ip_checksum_offset, &old, sizeof(old)) != 0 ||
	    nat_replace_2(skb, run, ip_checksum_offset, old,
			  checksum_replace(old, from, to->address)) != 0 ||
	    nat_replace_4(skb, run, quote->ip_offset + (is_source ? 12 : 16), from, to->address) !=
		    0)
		return -1;
	if (quote->class == NAT_CLASS_NONE)
		return 0;
	if (checksum_offset) {
		if (bpf_skb_load_bytes(skb, checksum_offset, &old, sizeof(old)) != 0)
			return -1;
		new = old;
		if (quote->class != NAT_CLASS_ICMP)
			new = checksum_replace(new, from, to->address);
		new = checksum_replace(new, from_port, to->port);
		/* RFC 768: zero means that there is none. */
		if (quote->class == NAT_CLASS_UDP)
			new = old ? (new ? new : 0xffff) : 0;
		if (nat_replace_2(skb, run, checksum_offset, old, new) != 0)
			return -1;
	}
	if (quote->class == NAT_CLASS_ICMP)
		port_offset = quote->transport_offset + ICMP_IDENTIFIER_OFFSET;
	return nat_replace_2(skb, run, port_offset, from_port, to->port);
}

/* RFC 5508 has no floor; a forged small MTU must not make every packet tiny. */
static __always_inline int nat_raise_mtu(struct __sk_buff *skb, struct nat_run *run)
{
	__u32 offset = run->packet.transport_offset + ICMP_MTU_OFFSET;
	__be16 mtu;

	if (run->packet.icmp_type != ICMP_UNREACHABLE ||
	    run->packet.icmp_code != ICMP_FRAGMENTATION_NEEDED)
		return 0;
	if (bpf_skb_load_bytes(skb, offset, &mtu, sizeof(mtu)) != 0)
		return -1;
	if (!mtu || bpf_ntohs(mtu) >= NAT_LIMITS_MTU_FLOOR)
		return 0;
	return nat_replace_2(skb, run, offset, mtu, bpf_htons(NAT_LIMITS_MTU_FLOOR));
}
