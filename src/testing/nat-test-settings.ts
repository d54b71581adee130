/** A small world for tests of the NAT: one network of each kind, and external addresses. */

import type { NatFiltering, NatNetwork, NatSettings } from '../nat/nat-settings.ts';
import { requireIpv4Address } from '../net/ipv4-address.ts';
import { TESTED_INTERFACE_INDEX } from './tested-nat.ts';

/**
 * Networks: 10.77.0.0/24 translated for everybody, 10.78.0.0/24 and 10.79.0.0/24 with narrower
 * filtering, 192.0.2.0/24 routed. 203.0.113.1 is the pool; 203.0.113.9 is 10.77.0.9's alone. The
 * times are short, and all differ. All addresses belong to the one interface at which every hook
 * is.
 */
export const natTestSettings: NatSettings = {
  hashKey: [0x0706050403020100n, 0x0f0e0d0c0b0a0908n],
  externals: [
    { address: requireIpv4Address('203.0.113.1'), filtering: 'endpoint-independent' },
    {
      address: requireIpv4Address('203.0.113.9'),
      oneToOne: requireIpv4Address('10.77.0.9'),
      filtering: 'endpoint-independent',
    },
  ],
  networks: [
    network('10.77.0.0', 'endpoint-independent'),
    network('10.78.0.0', 'address-dependent'),
    network('10.79.0.0', 'address-and-port-dependent'),
    { ...network('192.0.2.0', 'endpoint-independent'), isTranslated: false },
  ],
  pool: { first: 1024, last: 61_439 },
  times: {
    udp: 40,
    udpUnanswered: 20,
    tcpOpening: 60,
    tcpEstablished: 200,
    tcpClosing: 50,
    icmp: 30,
    other: 70,
    unconfirmed: 10,
    fragment: 5,
  },
  pickupUntilTick: 0,
  sessionsPerHost: 1000,
  mappingsPerHost: 1000,
  outsideSessionsPerMapping: 100,
  holdInterface: 0,
  wanInterfaceIndex: TESTED_INTERFACE_INDEX,
  wanIsPublic: false,
};

function network(prefix: string, filtering: NatFiltering): NatNetwork {
  const address = requireIpv4Address(prefix);
  const gateway = requireIpv4Address(prefix.replace(/0$/, '1'));
  return {
    ...{ prefix: address, prefixLength: 24, gateway, isTranslated: true, filtering },
    interfaceIndex: TESTED_INTERFACE_INDEX,
  };
}
