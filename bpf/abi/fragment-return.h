/* What bpf/gateway/fragment-return.bpf.c counts. */
#pragma once

#include "abi/abi.h"

/* Frames by what became of them. Index into fragment_return_counters. */
enum fragment_return_counter {
	FRAGMENT_RETURN_COUNTER_RETURNED = 0,
	FRAGMENT_RETURN_COUNTER_DROPPED_FOREIGN,   /* the source address names no interface */
	FRAGMENT_RETURN_COUNTER_DROPPED_INTERFACE, /* the NAT does not run on it */
	FRAGMENT_RETURN_COUNTER_COUNT,
};
ABI_EXPORT(enum, fragment_return_counter);
