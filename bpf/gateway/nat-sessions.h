/* The table of sessions: buckets of a line of tags and sixteen lines of sessions (docs/nat.md). */
#pragma once

#include "gateway/nat-hosts.h"
#include "gateway/nat-mappings.h"
#include "gateway/nat-packet.h"

#define SLOTS NAT_LIMITS_SLOTS_PER_BUCKET
/* A bucket with fewer slots in use takes new sessions without a look at the other. */
#define SLOTS_PREFERRED 12

#define NAT_SEEN (NAT_SESSION_FLAGS_LOW_SEEN | NAT_SESSION_FLAGS_HIGH_SEEN)
#define NAT_RST	 (NAT_SESSION_STATE_RST_LOW | NAT_SESSION_STATE_RST_HIGH)
#define NAT_FIN	 (NAT_SESSION_STATE_FIN_LOW | NAT_SESSION_STATE_FIN_HIGH)
#define NAT_SYN	 (NAT_SESSION_STATE_SYN_LOW | NAT_SESSION_STATE_SYN_HIGH)

/* The two ends of a session: every pair of fields or bits is in this order. */
#define NAT_LOW	 0
#define NAT_HIGH 1

/*
 * The first 16 bytes of struct nat_session as words; the flag ENTRY and the bit that tells IPv6 are
 * part of a key.
 */
struct nat_session_key {
	__u64 addresses;
	__u64 ports; /* and the protocol */
	__u64 check; /* with NAT_KEY_SIX: 32 bits, which the session has to have, too */
};

#define NAT_KEY_ENTRY	   ((__u64)NAT_SESSION_FLAGS_ENTRY << 40)
#define NAT_KEY_SIX	   ((__u64)NAT_SESSION_VERSION_SIX << 56)
#define NAT_KEY_PORTS_MASK (0xffffffffffULL | NAT_KEY_ENTRY | NAT_KEY_SIX)

static __always_inline int nat_is_over_high(__be32 a, __be16 a_port, __be32 b, __be16 b_port)
{
	return ((__u64)bpf_ntohl(a) << 16 | bpf_ntohs(a_port)) >
	       ((__u64)bpf_ntohl(b) << 16 | bpf_ntohs(b_port));
}

/* Of a packet from one endpoint to another. Returns which end the first one is. */
static __always_inline __u32 nat_make_key(struct nat_session_key *key, __u8 protocol, __be32 from,
					  __be16 from_port, __be32 to, __be16 to_port)
{
	__u32 end = nat_is_over_high(from, from_port, to, to_port);

	key->check = 0;
	if (end == NAT_LOW) {
		key->addresses = (__u64)from | (__u64)to << 32;
		key->ports = (__u64)from_port | (__u64)to_port << 16 | (__u64)protocol << 32;
	} else {
		key->addresses = (__u64)to | (__u64)from << 32;
		key->ports = (__u64)to_port | (__u64)from_port << 16 | (__u64)protocol << 32;
	}
	return end;
}

/* Into run->hash, unless it is there already. */
static __always_inline void nat_hash_key(struct nat_run *run, const struct nat_session_key *key)
{
	__u64 ports = key->ports & 0xffffffffffULL;

	if (run->key_addresses == key->addresses && run->key_ports == ports)
		return;
	run->hash = nat_hash(key->addresses, ports);
	run->key_addresses = key->addresses;
	run->key_ports = ports;
}

static __always_inline __u16 nat_tag(__u64 hash)
{
	__u16 tag = hash;

	return tag ? tag : 1;
}

static __always_inline struct nat_session_bucket *nat_bucket_of(const struct nat_settings *settings,
								__u64 hash, int is_second)
{
	__u64 half = is_second ? hash >> 32 : hash & 0xffffffff;

	return nat_session_bucket_at((half * settings->session_bucket_count) >> 32);
}

#define TAGS_PER_WORD 4
#define EACH_LANE     0x0001000100010001ULL

static __always_inline __u64 nat_tag_word(const struct nat_session_bucket *bucket, __u32 word)
{
	return ((const __u64 *)bucket->tags)[word];
}

/* Whether one of a word's four tags is the one that is asked for (Mycroft's search for a zero). */
static __always_inline int nat_has_lane(__u64 tags, __u16 tag)
{
	__u64 lanes = tags ^ (EACH_LANE * tag);

	return ((lanes - EACH_LANE) & ~lanes & EACH_LANE << 15) != 0;
}

/* Slot of a key, SLOTS when it is not there. Verified once. */
__noinline __u32 nat_find_slot(struct nat_session_bucket *bucket, __u64 addresses, __u64 ports,
			       __u32 tag)
{
	if (!bucket)
		return SLOTS;
	for (__u32 word = 0; word < SLOTS / TAGS_PER_WORD; word++) {
		if (!nat_has_lane(nat_tag_word(bucket, word), tag))
			continue;
		for (__u32 lane = 0; lane < TAGS_PER_WORD; lane++) {
			__u32 index = word * TAGS_PER_WORD + lane;
			const __u64 *words = (const __u64 *)&bucket->slots[index];

			if (bucket->tags[index] == tag && words[0] == addresses &&
			    (words[1] & NAT_KEY_PORTS_MASK) == ports)
				return index;
		}
	}
	return SLOTS;
}

/* Of a session of IPv6. */
static __always_inline __u32 *nat_session_check(struct nat_session *session)
{
	return (__u32 *)&session->low_external_port;
}

/* The key of a session that is about to be put into the table. */
static __always_inline void nat_read_key(const struct nat_session *session,
					 struct nat_session_key *key)
{
	key->addresses = ((const __u64 *)session)[0];
	key->ports = ((const __u64 *)session)[1] & NAT_KEY_PORTS_MASK;
	key->check = *(const __u32 *)&session->low_external_port;
}

static __always_inline int nat_session_is_live(const struct nat_session *session, __u32 tick)
{
	return !session->killed && session->until_tick > tick;
}

/* The live session or entry of a key, or NULL; keeps the hash for nat_insert. */
static __always_inline struct nat_session *nat_look_up(struct nat_run *run,
						       const struct nat_session_key *key)
{
	const struct nat_settings *settings = nat_get_settings();
	struct nat_session_bucket *bucket;
	struct nat_session *session;
	__u32 slot;

	if (!settings)
		return NULL;
	nat_hash_key(run, key);
	bucket = nat_bucket_of(settings, run->hash, 0);
	slot = nat_find_slot(bucket, key->addresses, key->ports, nat_tag(run->hash));
	/* A look at the second is a miss of every cache, and mostly in vain. */
	if (bucket && slot >= SLOTS && bucket->away) {
		bucket = nat_bucket_of(settings, run->hash, 1);
		slot = nat_find_slot(bucket, key->addresses, key->ports, nat_tag(run->hash));
	}
	if (!bucket || slot >= SLOTS)
		return NULL;
	session = &bucket->slots[slot];
	/* 32 bits of an address can be hit by trying. */
	if (key->ports & NAT_KEY_SIX && *nat_session_check(session) != key->check)
		return NULL;
	return nat_session_is_live(session, run->tick) ? session : NULL;
}

/* Flags and state, which two CPUs may change at once. */
static __always_inline __u32 *nat_session_word(struct nat_session *session)
{
	return (__u32 *)&session->protocol;
}

#define NAT_WORD_FLAGS 8
#define NAT_WORD_STATE 16

/* Returns the bits that were not set before. */
static __always_inline __u32 nat_set_bits(struct nat_session *session, __u32 bits)
{
	__u32 *word = nat_session_word(session);

	if ((*word & bits) == bits)
		return 0;
	return bits & ~__sync_fetch_and_or(word, bits);
}

/* Returns the bits that were set before. */
static __always_inline __u32 nat_clear_bits(struct nat_session *session, __u32 bits)
{
	__u32 *word = nat_session_word(session);

	if (!(*word & bits))
		return 0;
	return bits & __sync_fetch_and_and(word, ~bits);
}

static __always_inline __u32 nat_initiator(const struct nat_session *session)
{
	return session->flags & NAT_SESSION_FLAGS_INITIATOR_HIGH ? NAT_HIGH : NAT_LOW;
}

static __always_inline int nat_is_translated(const struct nat_session *session, __u32 end)
{
	return session->flags & (NAT_SESSION_FLAGS_LOW_TRANSLATED << end);
}

static __always_inline int nat_is_seen(const struct nat_session *session, __u32 end)
{
	return session->flags & (NAT_SESSION_FLAGS_LOW_SEEN << end);
}

/* The mapping of a translated end, as long as it is that end's. */
static __always_inline struct nat_mapping *nat_mapping_of(struct nat_session *session, __u32 end)
{
	__u32 class = nat_class_of(session->protocol);
	__be32 address = end ? session->high_address : session->low_address;
	__be16 port = end ? session->high_port : session->low_port;
	__be16 external_port = end ? session->high_external_port : session->low_external_port;
	__u32 external = end ? session->high_external : session->low_external;
	struct nat_mapping *mapping;

	if (class == NAT_CLASS_NONE || !nat_is_translated(session, end))
		return NULL;
	mapping = nat_mapping_at(nat_mapping_element(external, class, external_port));
	if (!mapping || !(mapping->flags & NAT_MAPPING_FLAGS_LIVE) ||
	    mapping->internal_address != address || mapping->internal_port != port)
		return NULL;
	return mapping;
}

/* TCP of which no handshake has been seen to its end. */
static __always_inline int nat_is_opening(const struct nat_session *session)
{
	return session->protocol == IPPROTO_TCP &&
	       !(session->state & (NAT_SESSION_STATE_ESTABLISHED | NAT_FIN | NAT_RST));
}

/* A stranger opened the session, and this end has not answered: its mapping counts those. */
static __always_inline int nat_is_unanswered_by(const struct nat_session *session, __u32 end)
{
	if (nat_initiator(session) == end)
		return 0;
	return session->protocol == IPPROTO_TCP ? nat_is_opening(session)
						: !nat_is_seen(session, end);
}

/* Makes room for others when there is none. */
static __always_inline int nat_is_evictable(const struct nat_session *session)
{
	/* Of IPv6's permissions nobody's quota bounds the number. */
	if (session->flags & NAT_SESSION_FLAGS_ENTRY)
		return session->network & NAT_SESSION_VERSION_SIX;
	return (session->flags & NAT_SEEN) != NAT_SEEN || nat_is_opening(session);
}

static __always_inline void nat_left_established(struct nat_session *session)
{
	for (__u32 end = NAT_LOW; end <= NAT_HIGH; end++) {
		struct nat_mapping *mapping = nat_mapping_of(session, end);

		if (mapping)
			nat_decrement(&mapping->established_count);
	}
}

static __always_inline void nat_count_established(struct nat_session *session, __u32 end)
{
	struct nat_mapping *mapping = nat_mapping_of(session, end);

	if (mapping)
		__sync_fetch_and_add(&mapping->established_count, 1);
}

static __always_inline void nat_entered_established(struct nat_session *session)
{
	for (__u32 end = NAT_LOW; end <= NAT_HIGH; end++) {
		struct nat_mapping *mapping = nat_mapping_of(session, end);

		if (mapping)
			__sync_fetch_and_add(&mapping->established_count, 1);
	}
}

/* Takes back what a session counted. Its bucket's lock is held, or nobody else can see it. */
__noinline int nat_close(struct nat_session *session)
{
	NAT_REQUIRE(session);
	if (session->flags & NAT_SESSION_FLAGS_ENTRY)
		return 0;
	nat_host_lost_session(session->flags & NAT_SESSION_FLAGS_CHARGED_HIGH
				      ? session->high_address
				      : session->low_address,
			      session->network & NAT_SESSION_VERSION_SIX);
	if (session->state & NAT_SESSION_STATE_ESTABLISHED)
		nat_left_established(session);
	for (__u32 end = NAT_LOW; end <= NAT_HIGH; end++) {
		struct nat_mapping *mapping = nat_mapping_of(session, end);

		if (mapping && nat_is_unanswered_by(session, end))
			nat_decrement(&mapping->unanswered_count);
	}
	nat_count(NAT_COUNTER_SESSIONS_CLOSED);
	return 0;
}

/* What a bucket offers to a new session; slots are SLOTS where there is none. */
struct nat_offer {
	__u32 free;	  /* a slot that is free or dead */
	__u32 unanswered; /* the unanswered session that would die first */
	__u32 unanswered_until_tick;
	__u32 live_count;
};

/* The top bit of each of a word's four tags that are 0. */
static __always_inline __u64 nat_zero_lanes(__u64 tags)
{
	const __u64 low_bits = ~(EACH_LANE << 15);

	return ~(((tags & low_bits) + low_bits) | tags | low_bits);
}

/*
 * A slot of a bucket that has room, else SLOTS: by its tags alone, which are one line of memory,
 * while its sessions are sixteen. Verified once.
 */
__noinline __u32 nat_unused_slot(struct nat_session_bucket *bucket)
{
	__u32 unused_count = 0, unused = SLOTS;

	if (!bucket)
		return SLOTS;
	for (__u32 word = 0; word < SLOTS / TAGS_PER_WORD; word++) {
		__u64 zeros = nat_zero_lanes(nat_tag_word(bucket, word)) >> 15;

		if (!zeros)
			continue;
		/* The sum of the lanes comes to stand in the highest one. */
		unused_count += zeros * EACH_LANE >> 48;
		for (__u32 lane = 0; lane < TAGS_PER_WORD; lane++)
			if (zeros >> lane * 16 & 1)
				unused = word * TAGS_PER_WORD + lane;
	}
	return unused_count > SLOTS - SLOTS_PREFERRED ? unused : SLOTS;
}

/* As one number: 8 bits each of free, unanswered, live_count; then until_tick. Verified once. */
__noinline __u64 nat_survey(struct nat_session_bucket *bucket, __u32 tick)
{
	__u32 free = SLOTS, unanswered = SLOTS, until = 0xffffffff, live = 0;

	if (!bucket)
		return SLOTS | SLOTS << 8 | SLOTS << 16;
	for (__u32 index = 0; index < SLOTS; index++) {
		struct nat_session *session = &bucket->slots[index];

		if (!bucket->tags[index] || !nat_session_is_live(session, tick)) {
			if (free == SLOTS)
				free = index;
			continue;
		}
		live++;
		if (nat_is_evictable(session) && session->until_tick < until) {
			unanswered = index;
			until = session->until_tick;
		}
	}
	return (__u64)until << 32 | live << 16 | unanswered << 8 | free;
}

static __always_inline struct nat_offer nat_offer_of(struct nat_session_bucket *bucket, __u32 tick)
{
	__u64 survey = nat_survey(bucket, tick);
	struct nat_offer offer = {
		.free = survey & 0xff,
		.unanswered = survey >> 8 & 0xff,
		.live_count = survey >> 16 & 0xff,
		.unanswered_until_tick = survey >> 32,
	};

	return offer;
}

/* Of a session that leaves its second bucket: its first one has one less to send there. */
__noinline int nat_forget_guest(const struct nat_session *session)
{
	NAT_REQUIRE(session);
	NAT_REQUIRE_SETTINGS;
	const __u64 *words = (const __u64 *)session;
	__u64 hash = nat_hash(words[0], words[1] & 0xffffffffffULL);
	struct nat_session_bucket *first = nat_bucket_of(settings, hash, 0);

	NAT_REQUIRE(first);
	nat_decrement(&first->away);
	return 0;
}

/* Empties a slot that is in use; its bucket's lock is held. */
static __always_inline void nat_vacate(struct nat_session_bucket *bucket, __u32 slot)
{
	const __u16 bit = 1 << slot;

	nat_close(&bucket->slots[slot]);
	if (bucket->guests & bit) {
		bucket->guests &= ~bit;
		nat_forget_guest(&bucket->slots[slot]);
	}
	bucket->tags[slot] = 0;
}

static __always_inline void nat_fill_slot(struct nat_session_bucket *bucket, __u32 slot, __u16 tag,
					  const struct nat_session *session)
{
	if (slot >= SLOTS)
		return;
	if (bucket->tags[slot])
		nat_vacate(bucket, slot);
	bucket->slots[slot] = *session;
	bucket->tags[slot] = tag;
}

/* Into the second bucket; both locks are held. */
static __always_inline void nat_fill_away(struct nat_session_bucket *first,
					  struct nat_session_bucket *second, __u32 slot, __u16 tag,
					  const struct nat_session *session)
{
	if (slot >= SLOTS)
		return;
	if (second->tags[slot])
		nat_vacate(second, slot);
	if (first != second) {
		/* Before it can be found. */
		__sync_fetch_and_add(&first->away, 1);
		second->guests |= 1 << slot;
	}
	nat_fill_slot(second, slot, tag, session);
}

/* Whether what has a key in the table lives, and is not of other addresses of IPv6. */
static __always_inline int nat_holds_key(const struct nat_run *run, struct nat_session *session,
					 const struct nat_session_key *key)
{
	if (key->ports & NAT_KEY_SIX && *nat_session_check(session) != key->check)
		return 0;
	return nat_session_is_live(session, run->tick);
}

/*
 * Empties the slot of a key, where there is one, unless a session lives there that is not `stale`.
 * Its bucket's lock is held. Returns whether the key is free in this bucket.
 */
static __always_inline int nat_free_key(struct nat_run *run, struct nat_session_bucket *bucket,
					const struct nat_session_key *key,
					const struct nat_session *stale)
{
	__u32 slot = nat_find_slot(bucket, key->addresses, key->ports, nat_tag(run->hash));

	if (slot >= SLOTS)
		return 1;
	if (&bucket->slots[slot] != stale && nat_holds_key(run, &bucket->slots[slot], key))
		return 0;
	nat_vacate(bucket, slot);
	return 1;
}

/*
 * Puts a session into the table; the first bucket's lock is held, and where that has no room the
 * second's. Whatever the key had before is over.
 * Returns its bucket's number (0, 1) times SLOTS + slot, or -1 when there is no room.
 */
static __always_inline int nat_place(struct nat_run *run, const struct nat_session *session,
				     struct nat_session_bucket *first,
				     struct nat_session_bucket *second)
{
	__u32 unused = nat_unused_slot(first);
	__u16 tag = nat_tag(run->hash);
	struct nat_offer one, two;

	if (unused < SLOTS) {
		nat_fill_slot(first, unused, tag, session);
		return unused;
	}
	one = nat_offer_of(first, run->tick);
	two = nat_offer_of(second, run->tick);
	if (two.free < SLOTS && (two.live_count < one.live_count || one.free >= SLOTS)) {
		nat_fill_away(first, second, two.free, tag, session);
		return SLOTS + two.free;
	}
	if (one.free < SLOTS) {
		nat_fill_slot(first, one.free, tag, session);
		return one.free;
	}
	if (one.unanswered >= SLOTS && two.unanswered >= SLOTS)
		return -1;
	nat_count(NAT_COUNTER_SESSIONS_EVICTED);
	if (one.unanswered < SLOTS &&
	    (two.unanswered >= SLOTS || one.unanswered_until_tick <= two.unanswered_until_tick)) {
		nat_fill_slot(first, one.unanswered, tag, session);
		return one.unanswered;
	}
	nat_fill_away(first, second, two.unanswered, tag, session);
	return SLOTS + two.unanswered;
}

/*
 * Puts a session in the place of `stale`, which its caller found to be over (NULL: found none).
 * run->hash is that of its key. Returns 0; 1 when another CPU has made a session of the same key
 * meanwhile, which is left as it is; or the negative reason why it is not there.
 */
__noinline int nat_insert(struct nat_run *run, const struct nat_session *session,
			  const struct nat_session *stale)
{
	NAT_REQUIRE(run && session);
	NAT_REQUIRE_SETTINGS;
	struct nat_session_bucket *first = nat_bucket_of(settings, run->hash, 0);
	struct nat_session_bucket *second = nat_bucket_of(settings, run->hash, 1);
	struct nat_session_key key;
	int is_second_locked, placed, result = 0;

	nat_read_key(session, &key);
	if (!first || !second || !nat_try_lock(&first->lock))
		return -NAT_COUNTER_DROPPED_CONTENDED;
	/* Under its lock nothing goes away from the first: the second need not be looked at. */
	is_second_locked = first != second && (first->away || nat_unused_slot(first) >= SLOTS);
	if (is_second_locked && !nat_try_lock(&second->lock)) {
		nat_unlock(&first->lock);
		return -NAT_COUNTER_DROPPED_CONTENDED;
	}
	if (nat_free_key(run, first, &key, stale) &&
	    (!is_second_locked || nat_free_key(run, second, &key, stale))) {
		placed = nat_place(run, session, first, second);
		if (placed < 0)
			result = -NAT_COUNTER_DROPPED_TABLE_FULL;
		else
			run->placed = placed;
	} else {
		result = 1;
	}
	if (is_second_locked)
		nat_unlock(&second->lock);
	nat_unlock(&first->lock);
	return result;
}

/* The session that nat_insert has just put there, unless another CPU has taken its place. */
static __always_inline struct nat_session *nat_placed(const struct nat_run *run,
						      const struct nat_session_key *key)
{
	const struct nat_settings *settings = nat_get_settings();
	struct nat_session_bucket *bucket;
	struct nat_session *session;
	const __u64 *words;

	if (!settings)
		return NULL;
	bucket = nat_bucket_of(settings, run->hash, run->placed >= SLOTS);
	if (!bucket)
		return NULL;
	session = &bucket->slots[run->placed & (SLOTS - 1)];
	words = (const __u64 *)session;
	return words[0] == key->addresses && (words[1] & NAT_KEY_PORTS_MASK) == key->ports ? session
											   : NULL;
}

/* Whether a new session of the last key that was looked up would find room. */
static __always_inline int nat_has_room(struct nat_run *run)
{
	NAT_REQUIRE_SETTINGS;
	struct nat_session_bucket *first = nat_bucket_of(settings, run->hash, 0);
	struct nat_session_bucket *second;
	struct nat_offer offer;

	if (nat_unused_slot(first) < SLOTS)
		return 1;
	offer = nat_offer_of(first, run->tick);
	if (offer.free < SLOTS || offer.unanswered < SLOTS)
		return 1;
	second = nat_bucket_of(settings, run->hash, 1);
	offer = nat_offer_of(second, run->tick);
	return offer.free < SLOTS || offer.unanswered < SLOTS;
}
