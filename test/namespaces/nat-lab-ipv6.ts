/** The lab of the NAT with IPv6 beside IPv4: addresses and routes. */
import type { HostDescription, Topology } from '../../lab/topology.ts';

/** The same hosts by IPv6; each link is a /64. */
export const ipv6Addresses = {
  alice: '2001:db8:77::10',
  bob: '2001:db8:77::11',
  guest: '2001:db8:78::10',
  depot: '2001:db8:79::20',
  gatewayLan: '2001:db8:77::1',
  gatewayGuests: '2001:db8:78::1',
  gatewayDepot: '2001:db8:79::1',
  gatewayWan: '2001:db8:51::1',
  isp: '2001:db8:51::fe',
  server: '2001:db8:113::10',
  stranger: '2001:db8:114::130',
  narrow: '2001:db8:2::2',
  far: '2001:db8:3::130',
} as const;
/** All of the inside. */
const INSIDE_IPV6 = '2001:db8:70::/44';

/** With every ICMP error. Addresses stay while an interface is down, as IPv4's do. */
const withIpv6 = {
  'net.ipv6.conf.all.disable_ipv6': '0',
  'net.ipv6.conf.default.disable_ipv6': '0',
  'net.ipv6.conf.all.keep_addr_on_down': '1',
  'net.ipv6.conf.default.keep_addr_on_down': '1',
  'net.ipv6.icmp.ratelimit': '0',
};

/** Of each interface, and routes. */
const ipv6Hosts = {
  alice: { eth0: ipv6Addresses.alice, routes: [['default', ipv6Addresses.gatewayLan]] },
  bob: { eth0: ipv6Addresses.bob, routes: [['default', ipv6Addresses.gatewayLan]] },
  guest: { eth0: ipv6Addresses.guest, routes: [['default', ipv6Addresses.gatewayGuests]] },
  depot: { eth0: ipv6Addresses.depot, routes: [['default', ipv6Addresses.gatewayDepot]] },
  gateway: {
    wan0: ipv6Addresses.gatewayWan,
    lan0: ipv6Addresses.gatewayLan,
    guest0: ipv6Addresses.gatewayGuests,
    depot0: ipv6Addresses.gatewayDepot,
    routes: [['default', ipv6Addresses.isp]],
  },
  isp: {
    wan0: ipv6Addresses.isp,
    server0: '2001:db8:113::1',
    stranger0: '2001:db8:114::1',
    narrow0: '2001:db8:2::1',
    routes: [
      [INSIDE_IPV6, ipv6Addresses.gatewayWan],
      ['2001:db8:3::/64', ipv6Addresses.narrow],
    ],
  },
  server: { eth0: ipv6Addresses.server, routes: [['default', '2001:db8:113::1']] },
  stranger: { eth0: ipv6Addresses.stranger, routes: [['default', '2001:db8:114::1']] },
  narrow: {
    isp0: ipv6Addresses.narrow,
    far0: '2001:db8:3::129',
    routes: [['default', '2001:db8:2::1']],
  },
  far: { eth0: ipv6Addresses.far, routes: [['default', '2001:db8:3::129']] },
} as const satisfies Record<
  string,
  Readonly<Record<string, string | readonly (readonly [string, string])[]>> & {
    readonly routes: readonly (readonly [string, string])[];
  }
>;

/** Every host gets an address of IPv6, and every router knows all ways. */
export function addIpv6(plain: Topology): Topology {
  const hosts = Object.entries(plain.hosts).map(([name, host]) => {
    if (!isKeyOf(ipv6Hosts, name)) return [name, host] as const;
    const { routes, ...interfaces } = ipv6Hosts[name];
    const added = Object.entries(interfaces).map(([at, address]) => {
      return [at, [...(host.addresses?.[at] ?? []), `${address}/64`]] as const;
    });
    const forwarding = name === 'isp' || name === 'narrow' ? '1' : '0';
    const description: HostDescription = {
      ...host,
      addresses: Object.fromEntries(added),
      routes: [...(host.routes ?? []), ...routes.map(([to, via]) => ({ to, via }))],
      sysctls: { ...host.sysctls, ...withIpv6, 'net.ipv6.conf.all.forwarding': forwarding },
    };
    return [name, description] as const;
  });
  return { ...plain, hosts: Object.fromEntries(hosts) };
}

function isKeyOf<T extends object>(value: T, key: PropertyKey): key is keyof T {
  return key in value;
}
