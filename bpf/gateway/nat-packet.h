/* One packet on its way through a hook of the NAT: what it says, and where it may be changed. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi/nat.h"
#include "gateway/nat-generations.h"
#include "gateway/nat-maps.h"
#include "packet/siphash.h"

#define VLAN_ID		   0xfff
#define IP_MORE_FRAGMENTS  0x2000
#define IP_OFFSET	   0x1fff
#define IP_HEADER_BYTES	   20
#define TCP_HEADER_BYTES   20
#define IP_OFFSET_IN_FRAME sizeof(struct ethhdr)

enum tcp_flag {
	TCP_FLAG_FIN = 1,
	TCP_FLAG_SYN = 2,
	TCP_FLAG_RST = 4,
	TCP_FLAG_ACK = 16,
};

enum icmp_group {
	ICMP_GROUP_NONE, /* no ICMP, or one that crosses no NAT */
	ICMP_GROUP_REQUEST,
	ICMP_GROUP_REPLY,
	ICMP_GROUP_ERROR,
};

enum fragment_part {
	FRAGMENT_PART_WHOLE, /* no fragment */
	FRAGMENT_PART_FIRST,
	FRAGMENT_PART_LATER,
};

/* No class: protocols without ports. */
#define NAT_CLASS_NONE 255

/* Addresses and ports in network order, the rest in host order. */
struct nat_packet {
	__be32 source;
	__be32 destination;
	__be16 source_port; /* of ICMP queries, the identifier in both */
	__be16 destination_port;
	__be16 identification;
	__u8 protocol;
	__u8 class;    /* enum nat_class, NAT_CLASS_NONE */
	__u8 fragment; /* enum fragment_part */
	__u8 icmp;     /* enum icmp_group */
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 tcp_flags;
	__u8 tcp_header_bytes;
	__u16 transport_offset; /* from the frame's first byte */
	__u32 bytes;		/* IP header and all behind it */
	__u32 sequence;
	__u32 acknowledgement;
	__u32 sequence_length; /* payload, SYN and FIN; a first fragment: 0 */
};

/*
 * What the functions of one hook share. It holds no pointer, so that it can be given to functions
 * that the verifier checks once by themselves.
 */
struct nat_run {
	/* The last session that was looked up: the words of its key, and their hash. */
	__u64 key_addresses;
	__u64 key_ports;
	__u64 hash;
	__u32 placed; /* where nat_insert has put that session: see nat_placed */
	__u32 tick;
	__u32 hook;			    /* enum nat_hook */
	struct nat_generations generations; /* ingress */
	/* Egress: the number by which nft let the packet through, or 0. */
	__u32 judged;
	/* Egress: the packet goes another way than its session may be judged for. */
	__u32 is_astray;
	__be32 next_hop; /* of the fast path */
	/* What a first fragment's followers shall have: enum nat_fragment_action and an address. */
	__u32 action;
	__be32 address;
	struct nat_packet packet;
};

/* What IPv6 needs besides. Only what nat_six_parse has read counts. */
struct nat_six {
	__u64 source[2]; /* addresses, as they stand in the packet */
	__u64 destination[2];
	__u64 source_hash;
	__u64 destination_hash;
	__be32 next_hop[4];	 /* of the fast path */
	__u32 source_place;	 /* enum nat_place; set at egress */
	__u32 destination_place; /* the same */
};

/* Too large for the stack, of which a chain of calls has 512 bytes. */
struct nat_scratch {
	struct nat_run run;
	struct nat_six six;
	struct nat_session session; /* one that is being made */
};

/* Owner: the programs, for the time of one packet: none interrupts another on its CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	/* By its size alone: nothing in user space reads it. */
	__uint(value_size, sizeof(struct nat_scratch));
} nat_scratch SEC(".maps");

static __always_inline struct nat_scratch *nat_get_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nat_scratch, &zero);
}

/* Where an endpoint is seen from outside. */
struct nat_external_endpoint {
	__be32 address;
	__be16 port;
	__u8 index; /* into the settings' externals */
	__u8 padding;
};

#define NAT_GO_ON TC_ACT_UNSPEC

static __always_inline int nat_drop(enum nat_counter reason)
{
	nat_count(reason);
	return TC_ACT_SHOT;
}

/* Tells the number that nft judges a packet by, to a destination as nft sees it. */
static __always_inline void nat_stamp(struct __sk_buff *skb, const struct nat_run *run,
				      __be32 destination)
{
	__u32 stamp = nat_generation_mark(nat_number_to(&run->generations, destination));

	/* Otherwise clang makes two ways to the mark, which the verifier does not take. */
	barrier_var(stamp);
	skb->mark = (skb->mark & ~PACKET_MARK_GENERATION) | stamp;
}

/* At ingress, before nft sees the packet: it judges by what is read here, or later. */
__noinline int nat_note_arrival(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	run->generations = nat_read_generations(run->packet.source);
	nat_stamp(skb, run, run->packet.destination);
	return 0;
}

/* And where the destination is translated. */
__noinline int nat_note_target(struct __sk_buff *skb, struct nat_run *run, __be32 destination)
{
	NAT_REQUIRE(run);
	nat_stamp(skb, run, destination);
	return 0;
}

/* What is told about a packet. Its stamp stays. */
static __always_inline void nat_set_mark(struct __sk_buff *skb, __u32 bits)
{
	skb->mark = (skb->mark & ~(PACKET_MARK_OURS & ~PACKET_MARK_GENERATION)) | bits;
}

static __always_inline int nat_is_made_here(const struct __sk_buff *skb)
{
	return skb->ingress_ifindex == 0;
}

/* The index of the network that an inside address belongs to, or -1. */
__noinline int nat_network_of(__be32 address)
{
	struct nat_settings *settings = nat_get_settings();

	if (!settings)
		return -1;
	for (__u32 index = 0; index < NAT_LIMITS_NETWORKS; index++) {
		if (index >= settings->network_count)
			break;
		if ((address & settings->networks[index].mask) == settings->networks[index].prefix)
			return index;
	}
	return -1;
}

/* The interface that an address belongs to, 0 when that is not there. */
static __always_inline __u32 nat_interface_of(__be32 address)
{
	const struct nat_settings *settings = nat_get_settings();
	int network = nat_network_of(address);

	if (!settings)
		return 0;
	if (network < 0)
		return settings->wan_interface;
	/* So that clang does not spare the mask, which the verifier has to see. */
	barrier_var(network);
	return settings->networks[network & (NAT_LIMITS_NETWORKS - 1)].interface;
}

/* Where packets from and to an address may go fast: bits of enum nat_fast_path. */
static __always_inline __u32 nat_fast_path_of(__be32 address)
{
	const struct nat_settings *settings = nat_get_settings();
	int network = nat_network_of(address);

	if (!settings)
		return 0;
	if (network < 0)
		return settings->wan_fast_path;
	barrier_var(network);
	return settings->networks[network & (NAT_LIMITS_NETWORKS - 1)].fast_path;
}

/*
 * The index of an external address, or -1. A function of its own, verified once, so that its loop
 * does not multiply with its callers' paths.
 */
__noinline int nat_external_index(__be32 address)
{
	struct nat_settings *settings = nat_get_settings();

	if (!settings)
		return -1;
	for (__u32 index = 0; index < NAT_LIMITS_EXTERNALS; index++) {
		if (index >= settings->external_count)
			break;
		if (settings->externals[index].address == address)
			return index;
	}
	return -1;
}

/* This network, loopback, multicast, reserved: no host has it (RFC 1122 section 3.2.1.3). */
static __always_inline int nat_is_nobodys(__be32 address)
{
	__u32 first = bpf_ntohl(address) >> 24;

	return first == 0 || first == 127 || first >= 224;
}

/* Outside all networks, and nobody can have it. */
static __always_inline int nat_is_implausible(__be32 address)
{
	const struct nat_settings *settings = nat_get_settings();
	__u32 number = bpf_ntohl(address);

	if (nat_is_nobodys(address))
		return 1;
	if (settings && settings->wan_is_public &&
	    (number >> 24 == 10 || number >> 20 == 0xac1 || number >> 16 == 0xc0a8))
		return 1;
	return nat_external_index(address) >= 0;
}

/* Whether a session may have this address at this interface. */
static __always_inline int nat_is_at_home(__be32 address, __u32 interface)
{
	return interface && nat_interface_of(address) == interface &&
	       (nat_network_of(address) >= 0 || !nat_is_implausible(address));
}

/*
 * What it means that nft let a packet through that is about to leave, with the addresses that nft
 * saw. One that came in before a change may have been judged by what was before, and a reply was
 * judged as what it answers, though it may open a session of its own now.
 */
__noinline int nat_note_judgement(struct __sk_buff *skb, struct nat_run *run)
{
	NAT_REQUIRE(run);
	struct nat_generations read = nat_read_generations(run->packet.source);
	__u32 number = nat_number_to(&read, run->packet.destination);

	if (!number || nat_is_made_here(skb) ||
	    (skb->mark & PACKET_MARK_KIND) == PACKET_KIND_REPLY ||
	    (skb->mark & PACKET_MARK_GENERATION) != nat_generation_mark(number))
		return 0;
	if (nat_is_at_home(run->packet.source, skb->ingress_ifindex) &&
	    nat_is_at_home(run->packet.destination, skb->ifindex))
		run->judged = number;
	else
		run->is_astray = 1;
	return 0;
}

static __always_inline __u32 nat_class_of(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return NAT_CLASS_TCP;
	case IPPROTO_UDP:
		return NAT_CLASS_UDP;
	case IPPROTO_ICMP:
		return NAT_CLASS_ICMP;
	default:
		return NAT_CLASS_NONE;
	}
}

static __always_inline enum icmp_group nat_icmp_group(__u8 type)
{
	switch (type) {
	case 8:
	case 13:
	case 15:
	case 17:
		return ICMP_GROUP_REQUEST;
	case 0:
	case 14:
	case 16:
	case 18:
		return ICMP_GROUP_REPLY;
	case 3:
	case 4:
	case 5:
	case 11:
	case 12:
		return ICMP_GROUP_ERROR;
	default:
		return ICMP_GROUP_NONE;
	}
}

/* Protocols without ports that are translated by address alone (docs/nat.md). */
static __always_inline int nat_is_address_only(__u8 protocol)
{
	return protocol == 4 || protocol == 41 || protocol == 47 || protocol == 50 ||
	       protocol == 132;
}

/*
 * DCCP, SCTP, UDP-Lite: rules may ask for their ports, which their sessions do not know. So nft
 * judges each of their packets.
 */
static __always_inline int nat_hides_ports(__u8 protocol)
{
	return protocol == IPPROTO_DCCP || protocol == IPPROTO_SCTP || protocol == IPPROTO_UDPLITE;
}

/* Of a whole packet or a first fragment: ICMP that is no query has none, not even 0. */
static __always_inline int nat_has_ports(const struct nat_packet *packet)
{
	if (packet->class == NAT_CLASS_ICMP)
		return packet->icmp == ICMP_GROUP_REQUEST || packet->icmp == ICMP_GROUP_REPLY;
	return packet->class != NAT_CLASS_NONE;
}

/* Opens a session for certain; docs/nat.md tells when others may. */
static __always_inline int nat_is_opening_syn(const struct nat_packet *packet)
{
	return (packet->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK | TCP_FLAG_RST)) == TCP_FLAG_SYN;
}

enum parse_result {
	PARSE_RESULT_IP,
	PARSE_RESULT_SIX, /* IPv6, of which nothing was read: see nat_six_parse */
	PARSE_RESULT_OTHER,
	PARSE_RESULT_MALFORMED,
};

static __always_inline int nat_parse_tcp(struct nat_run *run, const __u8 *header)
{
	struct nat_packet *packet = &run->packet;
	__u32 header_bytes = (header[12] >> 4) * 4;
	__u32 ip_bytes = packet->transport_offset - IP_OFFSET_IN_FRAME;

	packet->source_port = *(__be16 *)header;
	packet->destination_port = *(__be16 *)(header + 2);
	packet->sequence = bpf_ntohl(*(__be32 *)(header + 4));
	packet->acknowledgement = bpf_ntohl(*(__be32 *)(header + 8));
	packet->tcp_flags = header[13];
	packet->tcp_header_bytes = header_bytes;
	if (header_bytes < 20 || ip_bytes + header_bytes > packet->bytes)
		return PARSE_RESULT_MALFORMED;
	packet->sequence_length = !!(header[13] & TCP_FLAG_SYN) + !!(header[13] & TCP_FLAG_FIN);
	if (packet->fragment == FRAGMENT_PART_WHOLE)
		packet->sequence_length += packet->bytes - ip_bytes - header_bytes;
	if (!packet->source_port || !packet->destination_port)
		return PARSE_RESULT_MALFORMED;
	return PARSE_RESULT_IP;
}

/* Of UDP or ICMP, which has 8 bytes at least. */
static __always_inline int nat_parse_short(struct nat_run *run, const __u8 *bytes)
{
	struct nat_packet *packet = &run->packet;

	if (packet->protocol == IPPROTO_UDP) {
		packet->source_port = *(__be16 *)bytes;
		packet->destination_port = *(__be16 *)(bytes + 2);
		if (!packet->source_port || !packet->destination_port)
			return PARSE_RESULT_MALFORMED;
		return PARSE_RESULT_IP;
	}
	packet->icmp_type = bytes[0];
	packet->icmp_code = bytes[1];
	packet->icmp = nat_icmp_group(bytes[0]);
	if (packet->icmp == ICMP_GROUP_REQUEST || packet->icmp == ICMP_GROUP_REPLY) {
		packet->source_port = *(__be16 *)(bytes + 4);
		packet->destination_port = packet->source_port;
	}
	return PARSE_RESULT_IP;
}

static __always_inline int nat_parse_ports(struct nat_run *run, const __u8 *bytes)
{
	return run->packet.protocol == IPPROTO_TCP ? nat_parse_tcp(run, bytes)
						   : nat_parse_short(run, bytes);
}

static __always_inline int nat_parse_transport(struct __sk_buff *skb, struct nat_run *run,
					       const void *direct, const void *data_end)
{
	struct nat_packet *packet = &run->packet;
	__u32 wanted = packet->protocol == IPPROTO_TCP ? TCP_HEADER_BYTES : 8;
	__u32 offset = packet->transport_offset;
	__u8 header[TCP_HEADER_BYTES] __attribute__((aligned(4))) = {};
	int result;

	if (packet->class == NAT_CLASS_NONE || packet->fragment == FRAGMENT_PART_LATER)
		return PARSE_RESULT_IP;
	if (offset - IP_OFFSET_IN_FRAME + wanted > packet->bytes)
		return PARSE_RESULT_MALFORMED;
	/* Nearly always: no IP options, and nat_parse has pulled enough. */
	if (offset == IP_OFFSET_IN_FRAME + IP_HEADER_BYTES && direct + TCP_HEADER_BYTES <= data_end)
		return nat_parse_ports(run, direct);
	/* A constant length each, since that is what 6.1's verifier follows. */
	result = wanted == TCP_HEADER_BYTES
			 ? bpf_skb_load_bytes(skb, offset, header, TCP_HEADER_BYTES)
			 : bpf_skb_load_bytes(skb, offset, header, 8);
	return result == 0 ? nat_parse_ports(run, header) : PARSE_RESULT_MALFORMED;
}

static __always_inline int nat_parse(struct __sk_buff *skb, struct nat_run *run)
{
	struct nat_packet *packet = &run->packet;
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	__u32 length, header_bytes, fragment;
	struct ethhdr *ethernet = data;
	struct iphdr *ip;

	/*
	 * A tagged frame is the business of the VLAN's own interface; VLAN 0 means only a priority.
	 */
	if (skb->vlan_present && skb->vlan_tci & VLAN_ID)
		return PARSE_RESULT_OTHER;
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return skb->protocol == bpf_htons(ETH_P_IPV6) ? PARSE_RESULT_SIX
							      : PARSE_RESULT_OTHER;
	if (data + sizeof(*ethernet) + sizeof(*ip) + TCP_HEADER_BYTES > data_end) {
		length = sizeof(*ethernet) + sizeof(*ip);
		if (skb->len < length)
			return PARSE_RESULT_MALFORMED;
		if (skb->len >= length + TCP_HEADER_BYTES)
			length += TCP_HEADER_BYTES;
		if (bpf_skb_pull_data(skb, length) != 0)
			return PARSE_RESULT_MALFORMED;
		data = (void *)(long)skb->data;
		data_end = (void *)(long)skb->data_end;
		ethernet = data;
		if (data + sizeof(*ethernet) + sizeof(*ip) > data_end)
			return PARSE_RESULT_MALFORMED;
	}
	if (ethernet->h_proto != bpf_htons(ETH_P_IP))
		return PARSE_RESULT_OTHER;
	ip = data + sizeof(*ethernet);
	length = skb->len - sizeof(*ethernet);
	header_bytes = (__u32)ip->ihl * 4;
	packet->bytes = ip->tot_len ? bpf_ntohs(ip->tot_len) : length;
	if (ip->version != 4 || header_bytes < sizeof(*ip) || packet->bytes < header_bytes ||
	    packet->bytes > length)
		return PARSE_RESULT_MALFORMED;

	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & IP_OFFSET)
		packet->fragment = FRAGMENT_PART_LATER;
	else if (fragment & IP_MORE_FRAGMENTS)
		packet->fragment = FRAGMENT_PART_FIRST;
	packet->source = ip->saddr;
	packet->destination = ip->daddr;
	packet->identification = ip->id;
	packet->protocol = ip->protocol;
	packet->class = nat_class_of(ip->protocol);
	packet->transport_offset = sizeof(*ethernet) + header_bytes;
	return nat_parse_transport(skb, run, ip + 1, data_end);
}

/* Keyed, of two words. A function of its own, since it needs more registers than there are. */
__noinline __u64 nat_hash(__u64 first, __u64 second)
{
	const struct nat_settings *settings = nat_get_settings();

	return settings ? siphash_16(settings->hash_key, first, second) : 0;
}

/* Marks the index of an external address that is a host's own. */
#define NAT_ONE_TO_ONE 0x100

/* Of an index as sessions keep it or nat_external_of tells it. */
static __always_inline __be32 nat_external_address(__u32 index)
{
	const struct nat_settings *settings = nat_get_settings();

	/* So that clang does not spare the mask, which the verifier has to see. */
	barrier_var(index);
	return settings ? settings->externals[index & (NAT_LIMITS_EXTERNALS - 1)].address : 0;
}

/* Whether the addresses of a network are changed on their way out. */
static __always_inline int nat_is_translating(__u32 network)
{
	const struct nat_settings *settings = nat_get_settings();

	barrier_var(network);
	return settings && settings->networks[network & (NAT_LIMITS_NETWORKS - 1)].translate;
}
