/* Packets and bytes by interface, direction and protocol. Read by src/traffic/ and the lab. */
#pragma once

#include "abi/abi.h"

enum packet_direction {
	PACKET_DIRECTION_INGRESS = 0,
	PACKET_DIRECTION_EGRESS = 1,
};
ABI_EXPORT(enum, packet_direction);

struct protocol_counter_key {
	__u32 interface_index;
	__be16 ether_type; /* behind VLAN tags; 0 where it is neither IPv4, IPv6 nor ARP */
	__u8 ip_protocol;  /* IPv4 protocol or first IPv6 next header; 0 where there is none */
	__u8 direction;	   /* enum packet_direction */
};
_Static_assert(sizeof(struct protocol_counter_key) == 8, "protocol_counter_key has no holes");

struct protocol_counter {
	__u64 packets; /* as the kernel hands them over: a GSO super-packet counts once */
	__u64 bytes;   /* with the Ethernet header, without the checksum behind the frame */
};
