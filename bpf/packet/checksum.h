/* Incremental changes of Internet checksums (RFC 1624), as the kernel computes them. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* One's complement sum of 32 bits. */
static __always_inline __u32 checksum_add(__u32 a, __u32 b)
{
	a += b;
	return a + (a < b);
}

static __always_inline __u16 checksum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The checksum after four covered bytes have changed; all in network order. */
static __always_inline __u16 checksum_replace(__u16 checksum, __u32 from, __u32 to)
{
	return checksum_fold(checksum_add(checksum_add(~(__u32)checksum, ~from), to));
}
