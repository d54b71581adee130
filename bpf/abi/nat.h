/*
 * The NAT's tables: settings, mappings, sessions, fragments, counters. docs/nat.md says what each
 * field is for and what happens to a packet. Shared by bpf/gateway/nat.bpf.c, by src/nat/ (the
 * twin) and by src/linux/core/.
 */
#pragma once

#include "abi/abi.h"

enum nat_limits {
	NAT_LIMITS_EXTERNALS = 16,	  /* external addresses */
	NAT_LIMITS_NETWORKS = 64,	  /* inside networks */
	NAT_LIMITS_SLOTS_PER_BUCKET = 16, /* sessions in one bucket */
	NAT_LIMITS_REFERENCES_PER_BUCKET = 15,
	NAT_LIMITS_PROTOCOL_CLASSES = 3,
	NAT_LIMITS_TICK_SHIFT = 30,    /* a tick is 2^30 ns of the monotonic clock: 1.07 s */
	NAT_LIMITS_OWN_PORT_TRIES = 8, /* own ports that one search steps over */
	/* Whoever tries again after a second, as TCP does, is refused, and not dropped again. */
	NAT_LIMITS_SEARCH_REST_TICKS = 4,
	/* Of ports: two ranges, two parities, a class and external address make 192. */
	NAT_LIMITS_SEARCHES = 256,
	NAT_LIMITS_MTU_FLOOR = 552, /* bytes; ICMP errors that tell less are raised to it */
};
ABI_EXPORT(enum, nat_limits);

/* Protocols whose packets have ports (or an identifier) that can be changed. */
enum nat_class {
	NAT_CLASS_TCP = 0,
	NAT_CLASS_UDP = 1,
	NAT_CLASS_ICMP = 2,
};
ABI_EXPORT(enum, nat_class);

/* RFC 4787 section 5. */
enum nat_filtering {
	NAT_FILTERING_ENDPOINT_INDEPENDENT = 0,
	NAT_FILTERING_ADDRESS_DEPENDENT = 1,
	NAT_FILTERING_ADDRESS_AND_PORT_DEPENDENT = 2,
};
ABI_EXPORT(enum, nat_filtering);

/* Where approved packets go from interface to interface, as bits: both ends need the same. */
enum nat_fast_path {
	NAT_FAST_PATH_TC = 1,
	NAT_FAST_PATH_XDP = 2,
};
ABI_EXPORT(enum, nat_fast_path);

struct nat_network {
	__be32 prefix;
	__be32 mask;
	__be32 gateway;	 /* the gateway's own address in it */
	__u32 interface; /* where its hosts are; 0: the interface is not there */
	__u8 mac[6];	 /* of that interface */
	__u8 translate;	 /* 0: routed, with sessions but without translation */
	__u8 filtering;	 /* enum nat_filtering */
	__u8 fast_path;	 /* enum nat_fast_path; 0: approved packets are routed, too */
	__u8 padding[3];
};
_Static_assert(sizeof(struct nat_network) == 28, "nat_network has no holes");

struct nat_external {
	__be32 address;
	__be32 one_to_one; /* the inside host that owns the whole address; 0: a pool for all */
	__u8 filtering;	   /* enum nat_filtering, for one_to_one */
	__u8 padding[3];
};
_Static_assert(sizeof(struct nat_external) == 12, "nat_external has no holes");

struct nat_settings {
	__u64 hash_key[2];
	__u64 fixed_now_ns; /* not 0: the time for all packets, for tests */
	__u32 session_bucket_count;
	__u32 mapping_bucket_count;
	/* How long after the last packet, in ticks. */
	__u32 udp_ticks;
	__u32 udp_unanswered_ticks; /* opened from outside, and the inside never answered */
	__u32 tcp_opening_ticks;
	__u32 tcp_established_ticks;
	__u32 tcp_closing_ticks;
	__u32 icmp_ticks;
	__u32 other_ticks;
	__u32 unconfirmed_ticks; /* nft has not let the first packet through */
	__u32 fragment_ticks;
	__u32 pickup_until_tick; /* until then TCP without SYN from inside opens sessions */
	__u32 sessions_per_host;
	__u32 mappings_per_host;
	__u32 outside_sessions_per_mapping; /* opened from outside and not answered */
	__u32 hold_interface;		    /* where fragments before their first go; 0: nowhere */
	__u32 wan_interface;		    /* 0: it is not there */
	__u8 wan_is_public;		    /* private addresses cannot be behind it */
	__u8 wan_fast_path;		    /* as that of a network */
	__u8 trusts_routes; /* for tests: packets leave by the interfaces of their addresses */
	__u8 padding;
	__u8 wan_mac[6];
	__u8 padding_2[2];
	__u32 external_count;
	__u32 network_count;
	__u16 pool_first; /* ports of the pool from 1,024 on, host order, both included */
	__u16 pool_last;
	__u32 layout; /* a digest of all that is here, for whoever takes the tables over */
	struct nat_external externals[16];
	struct nat_network networks[64]; /* longest prefix first */
};
_Static_assert(sizeof(struct nat_settings) == 24 + 20 * 4 + 16 + 16 * 12 + 64 * 28,
	       "nat_settings has no holes");

/* By which interface an end of a session of IPv6 is reached: a network's index, or one of these. */
enum nat_place {
	NAT_PLACE_WAN = 64,
	NAT_PLACE_NONE = 255,
};
ABI_EXPORT(enum, nat_place);

enum nat_mapping_flags {
	NAT_MAPPING_FLAGS_LIVE = 1,   /* the fields are whole */
	NAT_MAPPING_FLAGS_STATIC = 2, /* a port forward: never expires */
	NAT_MAPPING_FLAGS_BUSY = 4,   /* somebody writes the fields */
};
ABI_EXPORT(enum, nat_mapping_flags);

/* Element (external index * 3 + class) * 65,536 + external port. */
struct nat_mapping {
	__be32 internal_address;
	__be16 internal_port;
	__u8 network; /* index into the settings */
	__u8 flags;   /* enum nat_mapping_flags */
	__u32 until_tick;
	__u32 established_until_tick;
	__u32 established_count; /* TCP sessions in the state established */
	__u32 unanswered_count;	 /* sessions opened from outside and not answered */
	__u32 created_tick;
	__u32 padding;
};
_Static_assert(sizeof(struct nat_mapping) == 32, "nat_mapping has no holes");

/* From an internal endpoint to its mapping: one cache line. */
struct nat_mapping_bucket {
	__u32 lock;
	__u32 references[15]; /* element of nat_mappings + 1; 0: none */
};
_Static_assert(sizeof(struct nat_mapping_bucket) == 64, "nat_mapping_bucket is a cache line");

enum nat_session_flags {
	NAT_SESSION_FLAGS_INITIATOR_HIGH = 1,
	NAT_SESSION_FLAGS_LOW_TRANSLATED = 2,
	NAT_SESSION_FLAGS_HIGH_TRANSLATED = 4,
	NAT_SESSION_FLAGS_LOW_SEEN = 8, /* a packet came from the low endpoint */
	NAT_SESSION_FLAGS_HIGH_SEEN = 16,
	NAT_SESSION_FLAGS_CHARGED_HIGH = 32, /* whose host's quota it counts against */
	NAT_SESSION_FLAGS_PORT_FORWARD = 64,
	NAT_SESSION_FLAGS_ENTRY = 128, /* no session: a permission or an alias, see docs/nat.md */
};
ABI_EXPORT(enum, nat_session_flags);

enum nat_session_state {
	NAT_SESSION_STATE_SYN_LOW = 1,
	NAT_SESSION_STATE_SYN_HIGH = 2,
	NAT_SESSION_STATE_FIN_LOW = 4,
	NAT_SESSION_STATE_FIN_HIGH = 8,
	NAT_SESSION_STATE_RST_LOW = 16,
	NAT_SESSION_STATE_RST_HIGH = 32,
	NAT_SESSION_STATE_ESTABLISHED = 64,
	NAT_SESSION_STATE_CONFIRMED = 128, /* nft let its first packet through */
};
ABI_EXPORT(enum, nat_session_state);

/* Of the byte `network`; part of a session's key. */
enum nat_session_version {
	NAT_SESSION_VERSION_SIX = 128, /* IPv6: docs/nat.md, "Digests, check, places" */
};
ABI_EXPORT(enum, nat_session_version);

/*
 * Endpoints are those that nft sees: inside addresses. The low one is smaller as the number made of
 * address and port, both in host order. IPv6 has digests of addresses in their place, its check in
 * that of the external ports, and the ends' places (enum nat_place) in that of the externals.
 */
struct nat_session {
	__be32 low_address;
	__be32 high_address;
	__be16 low_port; /* ICMP queries: the identifier, on both sides; other protocols: 0 */
	__be16 high_port;
	__u8 protocol;
	__u8 flags;   /* enum nat_session_flags */
	__u8 state;   /* enum nat_session_state */
	__u8 network; /* of the translated endpoint; enum nat_session_version */
	__be16 low_external_port;
	__be16 high_external_port;
	__u8 low_external; /* index into the settings' externals */
	__u8 high_external;
	__u8 killed;	  /* written by user space: the session is over */
	__u8 refreshed;	  /* (until_tick >> 3) when its mappings were last refreshed */
	__u32 until_tick; /* over when it is not greater than now */
	__u32 created_tick;
	/* TCP: the byte behind the last one sent, and the last acknowledgement. */
	__u32 low_end;
	__u32 low_acknowledged;
	__u32 high_end;
	__u32 high_acknowledged;
	__u32 judged; /* the number of its two addresses when nft let it through */
	/* Sent by each endpoint, from the IP header on: 48 bits, the upper ones first. */
	__u16 low_bytes_above;
	__u16 high_bytes_above;
	__u32 low_bytes;
	__u32 high_bytes;
};
_Static_assert(sizeof(struct nat_session) == 64, "nat_session is a cache line");

struct nat_session_bucket {
	__u16 tags[16]; /* of the hash, never 0; 0: the slot is free */
	__u32 lock;
	__u32 away;   /* sessions whose first bucket this is and that lie in their second */
	__u16 guests; /* a bit a slot: its session's first bucket is another */
	__u8 padding[22];
	struct nat_session slots[16];
};
_Static_assert(sizeof(struct nat_session_bucket) == 64 + 16 * 64, "nat_session_bucket: 17 lines");

enum nat_generation_places {
	NAT_GENERATION_PLACES_LINES = 4096,
	NAT_GENERATION_PLACES_PER_LINE = 16,
	/* The place of an address: the upper 16 bits of this times it, modulo 2^32. */
	NAT_GENERATION_PLACES_FACTOR = 0x61c8864f, /* 2^32 less that of the golden ratio */
	NAT_GENERATION_PLACES_SHIFT = 16,
};
ABI_EXPORT(enum, nat_generation_places);

/* Numbers of addresses: one cache line. */
struct nat_generation_line {
	__u32 numbers[16];
};
_Static_assert(sizeof(struct nat_generation_line) == 64, "nat_generation_line is a cache line");

struct nat_host {
	__u32 sessions;
	__u32 mappings;
};

/* What a digest stands for. */
struct nat_six_address {
	__u8 bytes[16];
};

/* What the programs of all CPUs share. Tests write it, too. */
struct nat_work {
	__u64 swept_at; /* time in units of 2^22 ns */
	__u32 session_cursor;
	__u32 mapping_cursor;
	__u32 resting_until_tick; /* the latest of those below, or later */
	__u32 padding;
	/* A search for a port that failed is not repeated until this tick. */
	__u32 exhausted_until_tick[256];
	/* How far it has come: it looks at a part of its ports each time. */
	__u32 skipped[256];
};
_Static_assert(sizeof(struct nat_work) == 24 + 2 * 1024, "nat_work has no holes");

enum nat_fragment_action {
	NAT_FRAGMENT_ACTION_PASS = 0,	     /* as it is: for the gateway itself */
	NAT_FRAGMENT_ACTION_DESTINATION = 1, /* new destination */
	NAT_FRAGMENT_ACTION_SOURCE = 2,	     /* new source */
	NAT_FRAGMENT_ACTION_AWAITED = 3,     /* the first fragment has not come, others are held */
	NAT_FRAGMENT_ACTION_DROP = 4,	     /* as the first fragment was */
};
ABI_EXPORT(enum, nat_fragment_action);

struct nat_fragment_key {
	__be32 source;
	__be32 destination;
	__be16 identification;
	__u8 protocol;
	__u8 hook; /* enum nat_hook */
};
_Static_assert(sizeof(struct nat_fragment_key) == 12, "nat_fragment_key has no holes");

struct nat_fragment {
	__be32 address;
	__u32 until_tick;
	__u32 mark; /* of the first fragment, our bits */
	__u32 action;
};

/* To user space: the first fragment of a datagram came, whose others are held. */
struct nat_fragment_event {
	struct nat_fragment_key key;
	__u32 interface_index;
};
_Static_assert(sizeof(struct nat_fragment_event) == 16, "nat_fragment_event has no holes");
ABI_EXPORT(struct, nat_fragment_event);

enum nat_hook {
	NAT_HOOK_INSIDE_INGRESS = 0,
	NAT_HOOK_INSIDE_EGRESS = 1,
	NAT_HOOK_WAN_INGRESS = 2,
	NAT_HOOK_WAN_EGRESS = 3,
};
ABI_EXPORT(enum, nat_hook);

/* Our bits of the packet mark, from ingress to nft and egress. The others belong to others. */
enum packet_mark {
	PACKET_MARK_KIND = 0x1c0, /* mask of enum packet_kind */
	PACKET_MARK_HAIRPIN = 0x200,
	PACKET_MARK_APPROVED = 0x400,	     /* nft has let the session through, by today's rules */
	PACKET_MARK_DONE = 0x800,	     /* the fast path has done what egress would */
	PACKET_MARK_GENERATION = 0x7f800000, /* mask: of the number that nft judges it by */
	PACKET_MARK_OURS = 0x7f800fc0,	     /* mask of all of ours */
};
ABI_EXPORT(enum, packet_mark);

/* What the programs know of a packet, as bits of the mark. */
enum packet_kind {
	PACKET_KIND_REQUEST =
		0x000, /* of whoever opens or opened the session; also what is local */
	PACKET_KIND_REPLY = 0x040,
	PACKET_KIND_MAPPED = 0x080,	  /* opens a session from outside, by a mapping */
	PACKET_KIND_PORT_FORWARD = 0x0c0, /* the same by a port forward */
	PACKET_KIND_RELATED = 0x100,	  /* an ICMP error about a live session */
	PACKET_KIND_FULL = 0x140,	  /* no room for a session: to be refused */
	PACKET_KIND_STRAY = 0x180,	  /* TCP without SYN and without session: to be reset */
};
ABI_EXPORT(enum, packet_kind);

/* Why a packet was dropped, or what else happened. Index into nat_counters. */
enum nat_counter {
	NAT_COUNTER_TRANSLATED = 0,
	NAT_COUNTER_SESSIONS_OPENED,
	NAT_COUNTER_SESSIONS_CLOSED,  /* removed from the table */
	NAT_COUNTER_SESSIONS_EVICTED, /* unanswered ones, for new ones */
	NAT_COUNTER_MAPPINGS_OPENED,
	NAT_COUNTER_UNANSWERED_LIMIT, /* passed without a session: too many from outside */
	NAT_COUNTER_TCP_RESET_IGNORED,
	NAT_COUNTER_TCP_SYN_IGNORED,
	NAT_COUNTER_TCP_OUT_OF_WINDOW,
	NAT_COUNTER_FRAGMENT_HELD,
	NAT_COUNTER_REFUSED_FULL,  /* marked FULL */
	NAT_COUNTER_REFUSED_STRAY, /* marked STRAY */
	NAT_COUNTER_FAST,	   /* from interface to interface, without routing and nft */
	NAT_COUNTER_FAST_XDP,	   /* of those, at XDP */
	/* From here on: dropped. */
	NAT_COUNTER_DROPPED_MALFORMED,
	NAT_COUNTER_DROPPED_MARTIAN,
	NAT_COUNTER_DROPPED_INSIDE_ADDRESS, /* from the WAN to an inside address */
	NAT_COUNTER_DROPPED_FILTERED,
	NAT_COUNTER_DROPPED_STRAY,
	NAT_COUNTER_DROPPED_TABLE_FULL,
	NAT_COUNTER_DROPPED_HOST_SESSIONS,
	NAT_COUNTER_DROPPED_HOST_MAPPINGS,
	NAT_COUNTER_DROPPED_HOSTS_FULL,
	NAT_COUNTER_DROPPED_NO_PORT,
	NAT_COUNTER_DROPPED_CONTENDED,	  /* a lock was not free in time */
	NAT_COUNTER_DROPPED_ICMP_UNKNOWN, /* an ICMP error about no session of ours */
	NAT_COUNTER_DROPPED_ICMP_BROKEN,
	NAT_COUNTER_DROPPED_PROTOCOL,
	NAT_COUNTER_DROPPED_PROTOCOL_BUSY, /* another host speaks it with this remote */
	NAT_COUNTER_DROPPED_FRAGMENT,
	NAT_COUNTER_DROPPED_NO_SETTINGS,
	NAT_COUNTER_COUNT,
};
ABI_EXPORT(enum, nat_counter);
