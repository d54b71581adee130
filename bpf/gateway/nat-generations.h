/*
 * The numbers by which a session shows whether it has to be judged once more: that of the rules,
 * and one of each end's address. docs/nat.md, "Approval".
 */
#pragma once

#include <bpf/bpf_endian.h>

#include "gateway/nat-maps.h"

/* Of a packet, as they were when it was looked at. */
struct nat_generations {
	__u32 rules;
	__u32 source; /* of its source's address */
};

/* As PACKET_MARK_GENERATION has a number: 0 only for 0. */
static __always_inline __u32 nat_generation_mark(__u32 number)
{
	/* number / 255, without a division, which takes longer than the rest. */
	__u32 quotient = (__u64)number * 0x80808081 >> 39;

	return number ? (1 + number - quotient * 255) << 23 : 0;
}

/* Of an address in host order, and of those that share its place. */
static __always_inline __u32 nat_address_generation(__u32 address)
{
	__u32 place = address * NAT_GENERATION_PLACES_FACTOR >> NAT_GENERATION_PLACES_SHIFT;
	__u32 index = place / NAT_GENERATION_PLACES_PER_LINE;
	const struct nat_generation_line *line =
		bpf_map_lookup_elem(&nat_address_generations, &index);

	return line ? line->numbers[place % NAT_GENERATION_PLACES_PER_LINE] : 0;
}

/* Before nft, or behind it: what is read here is compared there. */
static __always_inline struct nat_generations nat_read_generations(__be32 source)
{
	struct nat_generations read = {
		.rules = nat_get_generation(),
		.source = nat_address_generation(bpf_ntohl(source)),
	};

	return read;
}

/* Of a source and a destination as nft sees them. 0: nothing is judged or approved. */
static __always_inline __u32 nat_number_to(const struct nat_generations *read, __be32 destination)
{
	if (!read->rules)
		return 0;
	return read->rules + read->source + nat_address_generation(bpf_ntohl(destination));
}
