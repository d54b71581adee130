/* What a packet does to its session: TCP's states, times, counts (docs/nat.md, "TCP", "Times"). */
#pragma once

#include "gateway/nat-sessions.h"
#include "gateway/six-sessions.h"

#define TCP_WINDOW_MAX	  (1 << 26)
#define TCP_FIN_AHEAD_MAX 65536
/* The mapping is told of every eighth tick only, and lives that much longer. */
#define NAT_REFRESH_SHIFT 3
#define NAT_REFRESH_SLACK (1 << NAT_REFRESH_SHIFT)

enum time_class {
	TIME_CLASS_UNCONFIRMED,
	TIME_CLASS_CLOSING,
	TIME_CLASS_ESTABLISHED,
	TIME_CLASS_OPENING,
	TIME_CLASS_UDP_UNANSWERED,
	TIME_CLASS_UDP,
	TIME_CLASS_ICMP,
	TIME_CLASS_OTHER,
};

static __always_inline int nat_is_closing(const struct nat_session *session)
{
	return (session->state & NAT_RST) || (session->state & NAT_FIN) == NAT_FIN;
}

/* Nobody inside opened it, so it is charged to the host that it was opened to. */
static __always_inline int nat_is_from_outside(const struct nat_session *session)
{
	__u32 charged = session->flags & NAT_SESSION_FLAGS_CHARGED_HIGH ? NAT_HIGH : NAT_LOW;

	return charged != nat_initiator(session);
}

static __always_inline enum time_class nat_time_class(const struct nat_session *session)
{
	if (!(session->state & NAT_SESSION_STATE_CONFIRMED))
		return TIME_CLASS_UNCONFIRMED;
	switch (session->protocol) {
	case IPPROTO_TCP:
		if (nat_is_closing(session))
			return TIME_CLASS_CLOSING;
		return session->state & NAT_SESSION_STATE_ESTABLISHED ? TIME_CLASS_ESTABLISHED
								      : TIME_CLASS_OPENING;
	case IPPROTO_UDP:
		return nat_is_from_outside(session) &&
				       !nat_is_seen(session, !nat_initiator(session))
			       ? TIME_CLASS_UDP_UNANSWERED
			       : TIME_CLASS_UDP;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return TIME_CLASS_ICMP;
	default:
		return TIME_CLASS_OTHER;
	}
}

static __always_inline __u32 nat_ticks_of(const struct nat_settings *settings,
					  enum time_class class)
{
	switch (class) {
	case TIME_CLASS_UNCONFIRMED:
		return settings->unconfirmed_ticks;
	case TIME_CLASS_CLOSING:
		return settings->tcp_closing_ticks;
	case TIME_CLASS_ESTABLISHED:
		return settings->tcp_established_ticks;
	case TIME_CLASS_OPENING:
		return settings->tcp_opening_ticks;
	case TIME_CLASS_UDP_UNANSWERED:
		return settings->udp_unanswered_ticks;
	case TIME_CLASS_UDP:
		return settings->udp_ticks;
	case TIME_CLASS_ICMP:
		return settings->icmp_ticks;
	default:
		return settings->other_ticks;
	}
}

/* Signed, around the wrap. */
static __always_inline __s32 tcp_ahead(__u32 of, __u32 than)
{
	return (__s32)(of - than);
}

/* `low_end`, `low_acknowledged`, `high_end`, `high_acknowledged`. */
static __always_inline __u32 *tcp_end(struct nat_session *session, __u32 end)
{
	return end ? &session->high_end : &session->low_end;
}

static __always_inline __u32 *tcp_acknowledged(struct nat_session *session, __u32 end)
{
	return end ? &session->high_acknowledged : &session->low_acknowledged;
}

#define STATE_BIT(bit, end) ((__u32)((bit) << (end)) << NAT_WORD_STATE)

static __always_inline void tcp_leave_established(struct nat_session *session)
{
	if (nat_clear_bits(session, (__u32)NAT_SESSION_STATE_ESTABLISHED << NAT_WORD_STATE))
		nat_left_established(session);
}

static __always_inline void tcp_enter_established(struct nat_session *session)
{
	if (nat_set_bits(session, (__u32)NAT_SESSION_STATE_ESTABLISHED << NAT_WORD_STATE))
		nat_entered_established(session);
}

/* Returns whether the packet counts. */
static __always_inline int tcp_take_reset(const struct nat_packet *packet,
					  struct nat_session *session, __u32 end)
{
	int is_valid;

	if (nat_is_seen(session, end))
		is_valid = packet->sequence == *tcp_end(session, end) ||
			   (nat_is_seen(session, !end) &&
			    packet->sequence == *tcp_acknowledged(session, !end));
	else
		is_valid = (packet->tcp_flags & TCP_FLAG_ACK) && nat_is_seen(session, !end) &&
			   packet->acknowledgement == *tcp_end(session, !end);
	if (!is_valid) {
		nat_count(NAT_COUNTER_TCP_RESET_IGNORED);
		return 0;
	}
	if (session->state & NAT_RST)
		return 0;
	if (!nat_is_seen(session, end)) {
		*tcp_end(session, end) = packet->sequence;
		*tcp_acknowledged(session, end) = packet->acknowledgement;
	}
	nat_set_bits(session, STATE_BIT(NAT_SESSION_STATE_RST_LOW, end));
	tcp_leave_established(session);
	return 1;
}

static __always_inline int tcp_take_syn(const struct nat_packet *packet,
					struct nat_session *session, __u32 end, int is_trusted)
{
	if (session->state & NAT_SESSION_STATE_ESTABLISHED ||
	    (!is_trusted && nat_is_closing(session))) {
		nat_count(NAT_COUNTER_TCP_SYN_IGNORED);
		return 0;
	}
	nat_set_bits(session, STATE_BIT(NAT_SESSION_STATE_SYN_LOW, end));
	*tcp_end(session, end) = packet->sequence + packet->sequence_length;
	if (packet->tcp_flags & TCP_FLAG_ACK)
		*tcp_acknowledged(session, end) = packet->acknowledgement;
	return 1;
}

static __always_inline int tcp_is_plausible(const struct nat_packet *packet,
					    struct nat_session *session, __u32 end)
{
	__s32 ahead;

	if (nat_is_seen(session, end)) {
		ahead = tcp_ahead(packet->sequence + packet->sequence_length,
				  *tcp_end(session, end));
		if (ahead < -TCP_WINDOW_MAX || ahead > TCP_WINDOW_MAX)
			return 0;
	}
	if ((packet->tcp_flags & TCP_FLAG_ACK) && nat_is_seen(session, !end)) {
		ahead = tcp_ahead(packet->acknowledgement, *tcp_end(session, !end));
		if (ahead < -TCP_WINDOW_MAX || ahead > 0)
			return 0;
	}
	return 1;
}

static __always_inline int tcp_is_fin_valid(const struct nat_packet *packet,
					    struct nat_session *session, __u32 end)
{
	/* Where the FIN itself stands: data before it may have been sent again. */
	__u32 fin = packet->sequence + packet->sequence_length - 1;

	if (!nat_is_seen(session, !end))
		return 1;
	if (tcp_ahead(fin, *tcp_acknowledged(session, !end)) < 0)
		return 0;
	return !nat_is_seen(session, end) ||
	       tcp_ahead(fin, *tcp_end(session, end)) <= TCP_FIN_AHEAD_MAX;
}

static __always_inline int tcp_take_other(const struct nat_packet *packet,
					  struct nat_session *session, __u32 end, int is_trusted)
{
	__u32 behind = packet->sequence + packet->sequence_length;
	int is_fin, was_seen = nat_is_seen(session, end);

	if (!is_trusted && !tcp_is_plausible(packet, session, end)) {
		nat_count(NAT_COUNTER_TCP_OUT_OF_WINDOW);
		return 0;
	}
	is_fin = (packet->tcp_flags & TCP_FLAG_FIN) && tcp_is_fin_valid(packet, session, end);
	if (!was_seen || (packet->fragment == FRAGMENT_PART_WHOLE &&
			  tcp_ahead(behind, *tcp_end(session, end)) > 0))
		*tcp_end(session, end) = behind;
	if ((packet->tcp_flags & TCP_FLAG_ACK) &&
	    (!was_seen || tcp_ahead(packet->acknowledgement, *tcp_acknowledged(session, end)) > 0))
		*tcp_acknowledged(session, end) = packet->acknowledgement;
	if (is_fin) {
		nat_set_bits(session, STATE_BIT(NAT_SESSION_STATE_FIN_LOW, end));
		if ((session->state & NAT_FIN) == NAT_FIN)
			tcp_leave_established(session);
	}
	nat_clear_bits(session, STATE_BIT(NAT_SESSION_STATE_RST_LOW, end));
	if (!(packet->tcp_flags & TCP_FLAG_ACK) || nat_is_closing(session) ||
	    (session->state & NAT_SESSION_STATE_ESTABLISHED))
		return 1;
	/* Picked up in the middle: nobody has seen the SYNs of a session that speaks both ways. */
	if (!(session->state & NAT_SYN) && nat_is_seen(session, !end))
		nat_set_bits(session, (__u32)NAT_SYN << NAT_WORD_STATE);
	if ((session->state & NAT_SYN) == NAT_SYN)
		tcp_enter_established(session);
	return 1;
}

static __always_inline int tcp_take(const struct nat_packet *packet, struct nat_session *session,
				    __u32 end, int is_trusted)
{
	if (packet->tcp_flags & TCP_FLAG_RST)
		return tcp_take_reset(packet, session, end);
	if (packet->tcp_flags & TCP_FLAG_SYN)
		return tcp_take_syn(packet, session, end, is_trusted);
	return tcp_take_other(packet, session, end, is_trusted);
}

static __always_inline void nat_raise(__u32 *tick, __u32 to)
{
	if (*tick < to)
		*tick = to;
}

/* A permission lives as long as the mapping that it belongs to. */
__noinline int nat_refresh_permission(struct nat_run *run, struct nat_session *session, __u32 end,
				      __u32 until)
{
	NAT_REQUIRE(run && session);
	__be32 inside = end ? session->high_address : session->low_address;
	__be32 remote = end ? session->low_address : session->high_address;
	__be16 port = end ? session->high_port : session->low_port;
	struct nat_session *permission;
	struct nat_session_key key;

	nat_make_key(&key, session->protocol, inside, port, remote, 0);
	key.ports |= NAT_KEY_ENTRY;
	permission = nat_look_up(run, &key);
	if (permission)
		nat_raise(&permission->until_tick, until);
	return 0;
}

static __always_inline void nat_refresh_mapping(struct nat_run *run, struct nat_session *session,
						__u32 end, __u32 until)
{
	const struct nat_settings *settings = nat_get_settings();
	struct nat_mapping *mapping = nat_mapping_of(session, end);
	__u32 external = end ? session->high_external : session->low_external;
	__u32 network = session->network, filtering;

	if (!settings || !nat_is_translated(session, end))
		return;
	if (mapping && session->state & NAT_SESSION_STATE_ESTABLISHED)
		nat_raise(&mapping->established_until_tick, until);
	else if (mapping)
		nat_raise(&mapping->until_tick, until);
	external &= NAT_LIMITS_EXTERNALS - 1;
	filtering = settings->externals[external].one_to_one
			    ? settings->externals[external].filtering
			    : settings->networks[network & (NAT_LIMITS_NETWORKS - 1)].filtering;
	if (filtering == NAT_FILTERING_ADDRESS_DEPENDENT)
		nat_refresh_permission(run, session, end, until);
}

/*
 * Prolongs the permission of the session's inside end when that has sent the packet, or with
 * is_both whoever has.
 */
__noinline int six_refresh_permission(struct nat_run *run, struct nat_session *session,
				      __u32 sender, __u32 until, int is_both)
{
	NAT_REQUIRE(run && session);
	const struct nat_six *six = nat_get_six();
	__u32 end = six_is_mapped(session, NAT_HIGH) ? NAT_HIGH : NAT_LOW;
	struct nat_session *permission;
	struct nat_session_key key;
	__u64 inside, remote;
	__u32 filtering;

	NAT_REQUIRE(six);
	if (!six_is_mapped(session, end) || (end != sender && !is_both))
		return 0;
	filtering = six_filtering_at(six_place(session, end));
	if (filtering == NAT_FILTERING_ADDRESS_AND_PORT_DEPENDENT)
		return 0;
	inside = end == sender ? six->source_hash : six->destination_hash;
	remote = end == sender ? six->destination_hash : six->source_hash;
	if (filtering == NAT_FILTERING_ENDPOINT_INDEPENDENT)
		remote = 0;
	six_permission_key(&key, session->protocol, inside,
			   end ? session->high_port : session->low_port, remote);
	permission = nat_look_up(run, &key);
	if (permission)
		nat_raise(&permission->until_tick, until);
	return 0;
}

/* Whether packets of an end decide how long others may reach it. */
static __always_inline int nat_is_reachable(const struct nat_session *session, __u32 end)
{
	return nat_is_translated(session, end) ||
	       (nat_is_six(session) && six_is_mapped(session, end));
}

/* The class of time of a session before its first packet. */
#define TIME_CLASS_NEW ((enum time_class)255)

/*
 * Sets the session's time, and where that is due those of its mappings. `before` is the class of
 * time before this packet. A packet refreshes the sender's mapping, and the other end's when that
 * end opened the session.
 */
static __always_inline int nat_refresh(struct nat_run *run, struct nat_session *session,
				       __u32 sender, enum time_class before)
{
	NAT_REQUIRE_SETTINGS;
	enum time_class class = nat_time_class(session);
	__u32 until = run->tick + nat_ticks_of(settings, class) + 1;
	int is_changed = (class == TIME_CLASS_ESTABLISHED) != (before == TIME_CLASS_ESTABLISHED);
	int may_refresh = nat_is_reachable(session, sender) || nat_initiator(session) != sender;
	int is_both = is_changed || nat_initiator(session) != sender;
	__u8 window = until >> NAT_REFRESH_SHIFT;

	session->until_tick = until;
	if (before == TIME_CLASS_NEW)
		is_changed = 0;
	else if (!is_changed && (!may_refresh || session->refreshed == window))
		return 0;
	if (may_refresh)
		session->refreshed = window;
	until += NAT_REFRESH_SLACK;
	if (nat_is_six(session))
		return six_refresh_permission(run, session, sender, until, is_both);
	nat_refresh_mapping(run, session, sender, until);
	if (is_both)
		nat_refresh_mapping(run, session, !sender, until);
	return 0;
}

static __always_inline void nat_count_bytes(struct nat_session *session, __u32 sender, __u32 bytes)
{
	__u32 *low = sender ? &session->high_bytes : &session->low_bytes;
	__u32 before = *low;

	*low = before + bytes;
	if (before + bytes < before)
		(sender ? &session->high_bytes_above : &session->low_bytes_above)[0] += 1;
}

/* Brings a session up to date with a packet from one of its ends. */
__noinline int nat_track(struct nat_run *run, struct nat_session *session, __u32 sender,
			 enum time_class before)
{
	NAT_REQUIRE(run && session);
	int is_trusted = run->hook != NAT_HOOK_WAN_INGRESS;
	struct nat_mapping *mapping;
	__u32 responder;
	int was_unanswered;

	sender &= 1;
	responder = !nat_initiator(session);
	was_unanswered = nat_is_unanswered_by(session, responder);
	nat_count_bytes(session, sender, run->packet.bytes);
	if (run->packet.protocol == IPPROTO_TCP &&
	    !tcp_take(&run->packet, session, sender, is_trusted))
		return 0;
	nat_set_bits(session, (__u32)(NAT_SESSION_FLAGS_LOW_SEEN << sender) << NAT_WORD_FLAGS);
	if (was_unanswered && !nat_is_unanswered_by(session, responder)) {
		mapping = nat_mapping_of(session, responder);
		if (mapping)
			nat_decrement(&mapping->unanswered_count);
	}
	return nat_refresh(run, session, sender, before);
}
