/* What the lab's programs (bpf/lab/) share with lab/ and bench/. Not part of the product. */
#pragma once

#include "abi/abi.h"

enum generator_limits {
	GENERATOR_LIMITS_IPV4_HEADER_BYTES = 54, /* Ethernet, IPv4 and TCP */
	GENERATOR_LIMITS_IPV6_HEADER_BYTES = 62, /* Ethernet, IPv6 and UDP */
	GENERATOR_LIMITS_FRAME_BYTES_MIN = 60,
};
ABI_EXPORT(enum, generator_limits);

/*
 * Flow i of flow_count has source address i mod n1, source port i / n1 mod n2, destination address
 * i / n1 / n2 mod n3 and destination port i / n1 / n2 / n3 mod n4, counted from the base values. In
 * step, the destination is that of flow i * n1 * n2 instead: both sides count up together.
 */
struct generator_settings {
	__u8 header[62]; /* the same for all frames; varying fields and checksums are zero */
	__be16 source_port;
	__be32 source_address; /* of IPv6, the last 32 bits, here and in the sums */
	__be32 destination_address;
	__be16 destination_port;
	__u16 transport_checksum_offset; /* from the frame's start */
	__u32 source_address_count;
	__u32 source_port_count;
	__u32 destination_address_count;
	__u32 destination_port_count;
	__u32 flow_count;
	__u32 network_sum;   /* RFC 1071 sum of the IPv4 header without the varying fields */
	__u32 transport_sum; /* the same of pseudo-header, transport header and payload */
	__u32 interface_index;
	__u32 is_random;  /* 0: the flows in turn; 1: a random flow for each frame */
	__u32 is_in_step; /* 0: every source with every destination; 1: the i-th with the i-th */
	__u32 is_ipv6;
};
_Static_assert(sizeof(struct generator_settings) == 120, "generator_settings has no holes");

struct frame_counter {
	__u64 frames;
	__u64 bytes;
};

/* One record of the stream with which the ring buffer is tested and measured. */
struct stream_record {
	__u64 sequence;
	__u64 time_ns;
	__be32 source_address;
	__be32 destination_address;
	__be16 source_port;
	__be16 destination_port;
	__u32 length_bytes;
};
_Static_assert(sizeof(struct stream_record) == 32, "stream_record has no holes");
ABI_EXPORT(struct, stream_record);

/* Context of emit_records: in, how many; out, how many found no room. */
struct stream_request {
	__u64 first_sequence;
	__u32 record_count;
	__u32 lost_count;
	__u32 discard_every; /* gives up each nth record after reserving it; 0: none */
	__u32 padding;
};
ABI_EXPORT(struct, stream_request);
