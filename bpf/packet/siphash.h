/*
 * SipHash-1-3 (Aumasson and Bernstein, 2012) of exactly 16 bytes, given as two little-endian words.
 * Keyed, so that nobody who does not know the key can choose packets that share a bucket.
 */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define ROTATE_LEFT(value, bits) (((value) << (bits)) | ((value) >> (64 - (bits))))

#define SIPHASH_ROUND(v0, v1, v2, v3)                                                              \
	do {                                                                                       \
		v0 += v1;                                                                          \
		v2 += v3;                                                                          \
		v1 = ROTATE_LEFT(v1, 13) ^ v0;                                                     \
		v3 = ROTATE_LEFT(v3, 16) ^ v2;                                                     \
		v0 = ROTATE_LEFT(v0, 32) + v3;                                                     \
		v2 += v1;                                                                          \
		v1 = ROTATE_LEFT(v1, 17) ^ v2;                                                     \
		v3 = ROTATE_LEFT(v3, 21) ^ v0;                                                     \
		v2 = ROTATE_LEFT(v2, 32);                                                          \
	} while (0)

static __always_inline __u64 siphash_16(const __u64 key[2], __u64 first, __u64 second)
{
	const __u64 length = 16ULL << 56;
	__u64 v0 = 0x736f6d6570736575ULL ^ key[0];
	__u64 v1 = 0x646f72616e646f6dULL ^ key[1];
	__u64 v2 = 0x6c7967656e657261ULL ^ key[0];
	__u64 v3 = 0x7465646279746573ULL ^ key[1];

	v3 ^= first;
	SIPHASH_ROUND(v0, v1, v2, v3);
	v0 ^= first;
	v3 ^= second;
	SIPHASH_ROUND(v0, v1, v2, v3);
	v0 ^= second;
	v3 ^= length;
	SIPHASH_ROUND(v0, v1, v2, v3);
	v0 ^= length;
	v2 ^= 0xff;
	SIPHASH_ROUND(v0, v1, v2, v3);
	SIPHASH_ROUND(v0, v1, v2, v3);
	SIPHASH_ROUND(v0, v1, v2, v3);
	return v0 ^ v1 ^ v2 ^ v3;
}
