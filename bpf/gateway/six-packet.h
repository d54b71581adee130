/*
 * What a packet of IPv6 says (RFC 8200). Its addresses become digests, so that all that is made for
 * IPv4 serves it, too. docs/nat.md, "IPv6".
 */
#pragma once

#include <linux/in6.h>
#include <linux/ipv6.h>

#include "gateway/nat-packet.h"

#define SIX_HEADER_BYTES	40
#define SIX_HEADERS_MAX		8   /* extension headers */
#define SIX_HEADERS_BYTES_MAX	256 /* of them all */
#define SIX_FRAGMENT_OFFSET	0xfff8
#define SIX_MORE_FRAGMENTS	1
#define SIX_ICMP_ERROR_LAST	4
#define SIX_ICMP_ECHO_REQUEST	128
#define SIX_ICMP_ECHO_REPLY	129
#define SIX_LOOPBACK_LAST_OCTET (1ULL << 56)
#define SIX_HOP_LIMIT_OFFSET	(IP_OFFSET_IN_FRAME + 7)
#define SIX_PLAIN_TRANSPORT	(IP_OFFSET_IN_FRAME + SIX_HEADER_BYTES)

/* From the fixed header to the transport header. */
struct six_chain {
	__u32 offset;  /* from the frame's first byte; first that behind the fixed header */
	__u32 end;     /* behind the packet's last byte */
	__u8 protocol; /* first the fixed header's next header */
	__u8 fragment; /* enum fragment_part */
	__u8 has_fragment;
	__u8 padding;
};

static __always_inline int six_is_extension(__u8 header)
{
	return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING ||
	       header == IPPROTO_FRAGMENT || header == IPPROTO_DSTOPTS;
}

/*
 * Steps over one extension header. AH is none here, since nft's `meta l4proto` stops there, too.
 * Returns 0, or -1 when the packet is malformed.
 */
static __always_inline int six_step(struct __sk_buff *skb, struct six_chain *chain, __u32 number)
{
	__u8 header[8] __attribute__((aligned(4)));
	__u16 place;

	if (chain->offset + sizeof(header) > chain->end ||
	    bpf_skb_load_bytes(skb, chain->offset, header, sizeof(header)) != 0)
		return -1;
	if (chain->protocol == IPPROTO_HOPOPTS && number != 0)
		return -1;
	/* RFC 5095: type 0 bounces packets between routers. */
	if (chain->protocol == IPPROTO_ROUTING && header[2] == 0 && header[3] != 0)
		return -1;
	if (chain->protocol == IPPROTO_FRAGMENT) {
		if (chain->has_fragment)
			return -1;
		place = bpf_ntohs(*(__be16 *)(header + 2));
		if (place & SIX_FRAGMENT_OFFSET)
			chain->fragment = FRAGMENT_PART_LATER;
		else if (place & SIX_MORE_FRAGMENTS)
			chain->fragment = FRAGMENT_PART_FIRST;
		chain->has_fragment = 1;
		chain->offset += sizeof(header);
	} else {
		chain->offset += (header[1] + 1) * 8;
	}
	chain->protocol = header[0];
	return chain->offset > chain->end ? -1 : 0;
}

/* What the steps share. */
struct six_walk {
	struct __sk_buff *skb;
	struct six_chain chain;
	__u32 failed;
};

static long six_walk_on(__u32 number, void *context)
{
	struct six_walk *walk = context;

	if (!six_is_extension(walk->chain.protocol) || walk->chain.fragment == FRAGMENT_PART_LATER)
		return 1;
	walk->failed = number == SIX_HEADERS_MAX || six_step(walk->skb, &walk->chain, number) != 0;
	return walk->failed;
}

/* To the transport header, or behind the fragment header of a later fragment. 0, or -1. */
__noinline int six_walk(struct __sk_buff *skb, struct six_chain *chain)
{
	NAT_REQUIRE(chain);
	struct six_walk walk = { .skb = skb, .chain = *chain };

	/* No loop: clang lays it out as 6.1's verifier takes none. */
	bpf_loop(SIX_HEADERS_MAX + 1, six_walk_on, &walk, 0);
	if (walk.failed || walk.chain.offset - chain->offset > SIX_HEADERS_BYTES_MAX)
		return -1;
	*chain = walk.chain;
	return 0;
}

static __always_inline int six_is_same(const __u64 one[2], const __u64 other[2])
{
	return one[0] == other[0] && one[1] == other[1];
}

/* In the place of an IPv4 address; 0 means none. */
static __always_inline __be32 six_digest(__u64 hash)
{
	__u32 digest = hash;

	return digest ? digest : 1;
}

static __always_inline __u32 six_check(__u64 hash, __u64 other_hash)
{
	return (hash ^ other_hash) >> 32;
}

/* Multicast, link-local, unspecified, loopback: no router forwards it (RFC 4291 section 2.5). */
static __always_inline int six_is_never_forwarded(const __u64 address[2])
{
	__u16 first = bpf_ntohs((__u16)address[0]);

	return first >> 8 == 0xff || (first & 0xffc0) == 0xfe80 ||
	       (address[0] == 0 && (address[1] & ~SIX_LOOPBACK_LAST_OCTET) == 0);
}

static __always_inline __u32 six_class_of(__u8 protocol)
{
	if (protocol == IPPROTO_ICMPV6)
		return NAT_CLASS_ICMP;
	return protocol == IPPROTO_ICMP ? NAT_CLASS_NONE : nat_class_of(protocol);
}

/* RFC 4443. */
static __always_inline enum icmp_group six_icmp_group(__u8 type)
{
	if (type == SIX_ICMP_ECHO_REQUEST)
		return ICMP_GROUP_REQUEST;
	if (type == SIX_ICMP_ECHO_REPLY)
		return ICMP_GROUP_REPLY;
	return type >= 1 && type <= SIX_ICMP_ERROR_LAST ? ICMP_GROUP_ERROR : ICMP_GROUP_NONE;
}

/* Of TCP, UDP or ICMPv6, whose header is there. */
static __always_inline int six_parse_ports(struct nat_run *run, const __u8 *header)
{
	struct nat_packet *packet = &run->packet;

	if (packet->class != NAT_CLASS_ICMP)
		return nat_parse_ports(run, header);
	packet->icmp_type = header[0];
	packet->icmp_code = header[1];
	packet->icmp = six_icmp_group(header[0]);
	if (packet->icmp == ICMP_GROUP_REQUEST || packet->icmp == ICMP_GROUP_REPLY) {
		packet->source_port = *(__be16 *)(header + 4);
		packet->destination_port = packet->source_port;
	}
	return PARSE_RESULT_IP;
}

static __always_inline int six_parse_transport(struct __sk_buff *skb, struct nat_run *run)
{
	struct nat_packet *packet = &run->packet;
	__u32 offset = packet->transport_offset;
	__u32 wanted = packet->protocol == IPPROTO_TCP ? TCP_HEADER_BYTES : 8;
	__u8 header[TCP_HEADER_BYTES] __attribute__((aligned(4))) = {};
	long failed;

	if (packet->class == NAT_CLASS_NONE || packet->fragment == FRAGMENT_PART_LATER)
		return PARSE_RESULT_IP;
	if (offset - IP_OFFSET_IN_FRAME + wanted > packet->bytes)
		return PARSE_RESULT_MALFORMED;
	/* A constant length each, since that is what 6.1's verifier follows. */
	failed = wanted == TCP_HEADER_BYTES
			 ? bpf_skb_load_bytes(skb, offset, header, TCP_HEADER_BYTES)
			 : bpf_skb_load_bytes(skb, offset, header, 8);
	return failed ? PARSE_RESULT_MALFORMED : six_parse_ports(run, header);
}

static __always_inline void six_take_addresses(struct nat_six *six, const struct ipv6hdr *ip)
{
	six->source[0] = ((const __u64 *)&ip->saddr)[0];
	six->source[1] = ((const __u64 *)&ip->saddr)[1];
	six->destination[0] = ((const __u64 *)&ip->daddr)[0];
	six->destination[1] = ((const __u64 *)&ip->daddr)[1];
}

/* In the place of addresses of IPv4. */
static __always_inline void six_take_digests(struct nat_packet *packet, struct nat_six *six)
{
	six->source_hash = nat_hash(six->source[0], six->source[1]);
	six->destination_hash = nat_hash(six->destination[0], six->destination[1]);
	packet->source = six_digest(six->source_hash);
	packet->destination = six_digest(six->destination_hash);
}

/*
 * The fixed header: addresses, length. Returns the next header, -1 when the packet is malformed,
 * -2 when it is none of ours.
 */
static __always_inline int six_parse_header(struct __sk_buff *skb, struct nat_run *run,
					    struct nat_six *six)
{
	const __u32 wanted = SIX_PLAIN_TRANSPORT;
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;
	__u32 length, payload;
	struct ipv6hdr *ip;

	if (data + wanted > data_end) {
		if (skb->len < wanted || bpf_skb_pull_data(skb, wanted) != 0)
			return -1;
		data = (void *)(long)skb->data;
		data_end = (void *)(long)skb->data_end;
		ethernet = data;
		if (data + wanted > data_end)
			return -1;
	}
	if (ethernet->h_proto != bpf_htons(ETH_P_IPV6))
		return -2;
	ip = data + sizeof(*ethernet);
	length = skb->len - sizeof(*ethernet);
	payload = bpf_ntohs(ip->payload_len);
	/* Of a super-packet beyond 64 KiB it is zero. */
	run->packet.bytes = !payload && skb->gso_size ? length : payload + SIX_HEADER_BYTES;
	if (ip->version != 6 || run->packet.bytes > length)
		return -1;
	six_take_addresses(six, ip);
	return ip->nexthdr;
}

/* Fills in the packet of a run, which nat_begin has emptied. Returns an enum parse_result. */
__noinline int six_parse(struct __sk_buff *skb, struct nat_run *run, struct nat_six *six)
{
	NAT_REQUIRE(run && six);
	struct nat_packet *packet = &run->packet;
	struct six_chain chain = {};
	int next;

	next = six_parse_header(skb, run, six);
	chain.offset = SIX_PLAIN_TRANSPORT;
	chain.end = IP_OFFSET_IN_FRAME + packet->bytes;
	chain.protocol = next;
	if (next < 0)
		return next == -1 ? PARSE_RESULT_MALFORMED : PARSE_RESULT_OTHER;
	if (six_is_never_forwarded(six->source) || six_is_never_forwarded(six->destination))
		return PARSE_RESULT_OTHER;
	if (six_is_extension(next) && six_walk(skb, &chain) != 0)
		return PARSE_RESULT_MALFORMED;
	six_take_digests(packet, six);
	packet->protocol = chain.protocol;
	packet->class = six_class_of(chain.protocol);
	packet->fragment = chain.fragment;
	packet->transport_offset = chain.offset;
	return six_parse_transport(skb, run);
}
