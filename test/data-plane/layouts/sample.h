/* Every kind of field that may cross, for the test of the generator. */
#pragma once

#include "../../../bpf/abi/abi.h"

enum sample_kind {
	SAMPLE_KIND_FIRST_ONE = 1,
	SAMPLE_KIND_LAST = 2000000000,
};
ABI_EXPORT(enum, sample_kind);

struct sample_endpoint {
	__be32 address;
	__be16 port;
	__u16 padding;
};

struct sample_record {
	__u8 small;
	__s8 small_signed;
	__u16 medium;
	__s32 large_signed;
	__u64 huge;
	__s64 huge_signed;
	__be64 network_huge;
	enum sample_kind kind;
	__be16 network_medium;
	__s16 medium_signed;
	struct sample_endpoint endpoint;
	__u8 bytes[5];
	char text[7];
	__u32 numbers[3];
	__be16 ports[2];
	struct sample_endpoint endpoints[2];
	__u8 padding_1;
	__u8 last;
	__u8 padding_2[10];
};
ABI_EXPORT(struct, sample_record);
