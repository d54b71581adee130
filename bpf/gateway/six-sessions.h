/*
 * Sessions of IPv6: what tells them from each other, by which interfaces their ends are reached,
 * and which strangers may reach an end. docs/nat.md, "IPv6".
 */
#pragma once

#include "gateway/nat-sessions.h"
#include "gateway/six-packet.h"

static __always_inline struct nat_six *nat_get_six(void)
{
	struct nat_scratch *scratch = nat_get_scratch();

	return scratch ? &scratch->six : NULL;
}

/* Of a packet that six_parse has read. Returns which end sent it. */
static __always_inline __u32 six_make_key(struct nat_session_key *key, const struct nat_run *run,
					  const struct nat_six *six)
{
	const struct nat_packet *packet = &run->packet;
	__u32 sender = nat_make_key(key, packet->protocol, packet->source, packet->source_port,
				    packet->destination, packet->destination_port);

	key->ports |= NAT_KEY_SIX;
	key->check = six_check(six->source_hash, six->destination_hash);
	return sender;
}

static __always_inline int nat_is_six(const struct nat_session *session)
{
	return session->network & NAT_SESSION_VERSION_SIX;
}

/* Where what comes and goes by an interface is. Verified once. */
__noinline __u32 six_place_of(__u32 interface)
{
	struct nat_settings *settings = nat_get_settings();

	if (!settings || !interface)
		return NAT_PLACE_NONE;
	for (__u32 index = 0; index < NAT_LIMITS_NETWORKS; index++) {
		if (index >= settings->network_count)
			break;
		if (settings->networks[index].interface == interface)
			return index;
	}
	return settings->wan_interface == interface ? NAT_PLACE_WAN : NAT_PLACE_NONE;
}

static __always_inline int six_is_network(__u32 place)
{
	return place < NAT_LIMITS_NETWORKS;
}

/* NULL when the settings have it no more. */
static __always_inline const struct nat_network *six_network_at(__u32 place)
{
	const struct nat_settings *settings = nat_get_settings();

	if (!settings || place >= settings->network_count)
		return NULL;
	/* So that clang does not spare the mask, which the verifier has to see. */
	barrier_var(place);
	return &settings->networks[place & (NAT_LIMITS_NETWORKS - 1)];
}

/* 0: it is not there. */
static __always_inline __u32 six_interface_at(__u32 place)
{
	const struct nat_settings *settings = nat_get_settings();
	const struct nat_network *network;

	if (place == NAT_PLACE_WAN)
		return settings ? settings->wan_interface : 0;
	network = six_network_at(place);
	return network ? network->interface : 0;
}

/* Bits of enum nat_fast_path. */
static __always_inline __u32 six_fast_path_at(__u32 place)
{
	const struct nat_settings *settings = nat_get_settings();
	const struct nat_network *network;

	if (place == NAT_PLACE_WAN)
		return settings ? settings->wan_fast_path : 0;
	network = six_network_at(place);
	return network ? network->fast_path : 0;
}

static __always_inline __u32 six_filtering_at(__u32 place)
{
	const struct nat_network *network = six_network_at(place);

	return network ? network->filtering : NAT_FILTERING_ADDRESS_AND_PORT_DEPENDENT;
}

static __always_inline __u32 six_place(const struct nat_session *session, __u32 end)
{
	return end ? session->high_external : session->low_external;
}

/* As one, since another CPU may look at them. */
static __always_inline void six_set_places(struct nat_session *session, __u32 sender,
					   const struct nat_six *six)
{
	__u16 places = sender == NAT_LOW ? six->source_place | six->destination_place << 8
					 : six->destination_place | six->source_place << 8;
	__u16 *field = (__u16 *)&session->low_external;

	if (*field != places)
		*field = places;
}

/* Whether strangers may reach an end of a session when its permission says so. */
static __always_inline int six_is_mapped(const struct nat_session *session, __u32 end)
{
	return six_is_network(six_place(session, end)) && six_place(session, !end) == NAT_PLACE_WAN;
}

/* A permission to reach an inside endpoint: for one remote, or with zeros for any. */
static __always_inline void six_permission_key(struct nat_session_key *key, __u8 protocol,
					       __u64 inside_hash, __be16 inside_port,
					       __u64 remote_hash)
{
	nat_make_key(key, protocol, six_digest(inside_hash), inside_port,
		     remote_hash ? six_digest(remote_hash) : 0, 0);
	key->ports |= NAT_KEY_ENTRY | NAT_KEY_SIX;
	key->check = six_check(inside_hash, remote_hash);
}
