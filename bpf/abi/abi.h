/*
 * What every header of this folder builds on: the types that cross into user space and the macro
 * that makes clang keep them.
 *
 * Rules for a struct in this folder (tools/generate-abi.ts refuses what breaks them):
 *   - fields have a fixed width; addresses and ports are __be32 and __be16, in network order;
 *   - padding is explicit, named padding or padding_<n>, and written as zero;
 *   - no bit-fields, pointers or unions.
 */
#pragma once

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/*
 * Keeps a type in the object's BTF although no map names it (records of ring buffers, enums of
 * constants). The pointer lies in a section that libbpf does not load, so it costs nothing.
 */
#define ABI_EXPORT(kind, name)                                                                     \
	const kind name *abi_export_##name SEC("abi_exports") __attribute__((used)) = 0
