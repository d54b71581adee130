/* New sessions and the entries that belong to them. */
#pragma once

#include "gateway/nat-track.h"

/* Index of an end that is not translated. */
#define NAT_UNTRANSLATED 0xff

/* What a new session shall be. `from` opens it. */
struct nat_opening {
	__be32 from;
	__be32 to;
	__be16 from_port;
	__be16 to_port;
	__u8 protocol;
	__u8 network;
	__u8 is_confirmed;
	__u8 is_to_charged; /* the receiver's host has the session on its quota */
	__u8 flags;
	__u8 from_external;
	__u8 to_external;
	/* Bits, since a byte more would be 32 of the stack, which 6.1 has not left. */
	__u8 is_answer : 1; /* a SYN with ACK: somebody outside has asked first */
	__u8 is_six : 1;    /* addresses are digests */
	__be16 from_external_port;
	__be16 to_external_port;
};

static __always_inline void nat_describe_session(const struct nat_run *run,
						 const struct nat_opening *opening, __u32 sender,
						 struct nat_session *session)
{
	__u8 from_translated = opening->from_external == NAT_UNTRANSLATED
				       ? 0
				       : NAT_SESSION_FLAGS_LOW_TRANSLATED << sender;
	__u8 to_translated = opening->to_external == NAT_UNTRANSLATED
				     ? 0
				     : NAT_SESSION_FLAGS_LOW_TRANSLATED << !sender;
	__u32 charged = opening->is_to_charged ? !sender : sender;

	__builtin_memset(session, 0, sizeof(*session));
	session->low_address = sender ? opening->to : opening->from;
	session->high_address = sender ? opening->from : opening->to;
	session->low_port = sender ? opening->to_port : opening->from_port;
	session->high_port = sender ? opening->from_port : opening->to_port;
	session->protocol = opening->protocol;
	session->flags = opening->flags | from_translated | to_translated;
	if (sender)
		session->flags |= NAT_SESSION_FLAGS_INITIATOR_HIGH;
	if (charged)
		session->flags |= NAT_SESSION_FLAGS_CHARGED_HIGH;
	session->state = opening->is_confirmed ? NAT_SESSION_STATE_CONFIRMED : 0;
	/* It answers a SYN that nobody could keep. */
	if (opening->is_answer)
		session->state |= NAT_SESSION_STATE_SYN_LOW << !sender;
	/* Without the bit that tells IPv6, also where an address is in no network. */
	session->network = opening->network & ~NAT_SESSION_VERSION_SIX;
	session->low_external = sender ? opening->to_external : opening->from_external;
	session->high_external = sender ? opening->from_external : opening->to_external;
	session->low_external_port =
		sender ? opening->to_external_port : opening->from_external_port;
	session->high_external_port =
		sender ? opening->from_external_port : opening->to_external_port;
	session->judged = run->judged;
	session->created_tick = run->tick;
	/* Until its first packet has said how long. */
	session->until_tick = run->tick + 2;
}

static __always_inline void nat_count_unanswered(struct nat_session *session, __u32 end)
{
	struct nat_mapping *mapping = nat_mapping_of(session, end);

	if (mapping)
		__sync_fetch_and_add(&mapping->unanswered_count, 1);
}

static __always_inline void nat_uncount_unanswered(struct nat_session *session, __u32 end)
{
	struct nat_mapping *mapping = nat_mapping_of(session, end);

	if (mapping)
		nat_decrement(&mapping->unanswered_count);
}

/*
 * Makes a new session in the scratch memory, and counts it; nat_add_session has to follow. Returns
 * 0, or the negative reason why there can be none.
 */
__noinline int nat_make_session(struct nat_run *run, const struct nat_opening *opening)
{
	NAT_REQUIRE(run && opening);
	__be32 charged = opening->is_to_charged ? opening->to : opening->from;
	struct nat_scratch *scratch = nat_get_scratch();
	struct nat_session_key key;
	struct nat_host *host;
	__u32 sender;
	__u32 quota;

	NAT_REQUIRE(scratch);
	sender = nat_make_key(&key, opening->protocol, opening->from, opening->from_port,
			      opening->to, opening->to_port);
	nat_hash_key(run, &key);
	NAT_REQUIRE_SETTINGS;
	host = opening->is_six ? six_host_of(charged) : nat_host_of(charged);
	if (!host)
		return -NAT_COUNTER_DROPPED_HOSTS_FULL;
	/* Strangers cannot take away what a host has for itself. */
	quota = settings->sessions_per_host;
	if (opening->is_to_charged || opening->is_answer)
		quota /= 2;
	if (host->sessions >= quota)
		return -NAT_COUNTER_DROPPED_HOST_SESSIONS;
	__sync_fetch_and_add(&host->sessions, 1);
	nat_describe_session(run, opening, sender, &scratch->session);
	/* Counted before anybody else can see it, and end it. */
	if (opening->to_external != NAT_UNTRANSLATED)
		nat_count_unanswered(&scratch->session, !sender);
	return 0;
}

/*
 * Puts the session that was just made into the table; nat_take_first has to follow. Returns 0, or
 * the negative reason why it is not there. `stale`: what its key named before, if that is over.
 */
__noinline int nat_add_session(struct nat_run *run, const struct nat_opening *opening,
			       const struct nat_session *stale)
{
	NAT_REQUIRE(run && opening);
	struct nat_scratch *scratch = nat_get_scratch();
	int result;

	NAT_REQUIRE(scratch);
	result = nat_insert(run, &scratch->session, stale);
	if (result == 0) {
		nat_count(NAT_COUNTER_SESSIONS_OPENED);
		return 0;
	}
	nat_host_lost_session(opening->is_to_charged ? opening->to : opening->from,
			      opening->is_six);
	if (opening->to_external != NAT_UNTRANSLATED)
		nat_uncount_unanswered(&scratch->session, !nat_initiator(&scratch->session));
	return result < 0 ? result : 0;
}

/* The packet that opened the session that was just added is its first. */
__noinline int nat_take_first(struct nat_run *run)
{
	NAT_REQUIRE(run);
	struct nat_scratch *scratch = nat_get_scratch();
	struct nat_session_key key;
	struct nat_session *added;

	NAT_REQUIRE(scratch);
	nat_read_key(&scratch->session, &key);
	added = nat_placed(run, &key);
	if (!added)
		added = nat_look_up(run, &key);
	if (!added)
		return -NAT_COUNTER_DROPPED_CONTENDED;
	return nat_track(run, added, nat_initiator(&scratch->session), TIME_CLASS_NEW);
}

/*
 * Opens a session with the packet as its first. Calls one behind the other, since a chain of calls
 * has 512 bytes of stack.
 */
static __always_inline int nat_open(struct nat_run *run, const struct nat_opening *opening,
				    const struct nat_session *stale)
{
	int result = nat_make_session(run, opening);

	if (result == 0)
		result = nat_add_session(run, opening, stale);
	return result < 0 ? result : nat_take_first(run);
}

/*
 * A permission or an alias, made or prolonged. Never pushed out by sessions, but for permissions of
 * IPv6. `owner`: an alias's inside address; the network's index of a permission of IPv6.
 */
__noinline int nat_put_entry(struct nat_run *run, struct nat_session_key *key, __u32 owner,
			     __u32 until)
{
	NAT_REQUIRE(run && key);
	struct nat_scratch *scratch = nat_get_scratch();
	struct nat_session *entry, *found;

	NAT_REQUIRE(scratch);

	key->ports |= NAT_KEY_ENTRY;
	found = nat_look_up(run, key);
	if (found) {
		nat_raise(&found->until_tick, until);
		return 0;
	}
	entry = &scratch->session;
	__builtin_memset(entry, 0, sizeof(*entry));
	((__u64 *)entry)[0] = key->addresses;
	((__u64 *)entry)[1] = key->ports;
	entry->created_tick = run->tick;
	entry->until_tick = until;
	*nat_session_check(entry) = key->check;
	entry->low_end = owner;
	return nat_insert(run, entry, NULL);
}

/* The inside host that speaks a protocol without ports with a remote, or 0. */
static __always_inline __be32 nat_alias_of(struct nat_run *run, __u8 protocol, __be32 external,
					   __be32 remote)
{
	struct nat_session_key key;
	struct nat_session *alias;

	nat_make_key(&key, protocol, external, 0, remote, 0);
	key.ports |= NAT_KEY_ENTRY;
	alias = nat_look_up(run, &key);
	return alias ? alias->low_end : 0;
}
