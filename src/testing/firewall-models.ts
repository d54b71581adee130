/** Models of the firewall for tests, benchmarks and the fake nft. */
import type { FirewallModel, FirewallRule } from '../firewall/firewall-model.ts';
import { API_SERVICE, dhcpService, dnsService, sshService } from '../firewall/plan-ruleset.ts';

/** A small home whose rules have these names, each for one destination and two ports. */
export function modelWithRules(names: readonly string[]): FirewallModel {
  return {
    forwardedTraffic: 'conntrack',
    wan: { interface: 'wan0', dhcpClient: true },
    networks: [{ name: 'lan', interfaces: ['lan0'], addresses: ['10.77.0.1/24'], inside: true }],
    services: [dhcpService, dnsService, sshService],
    rules: names.map((name, index): FirewallRule => {
      const port = 1 + (index % 65_000);
      return {
        name,
        action: 'drop',
        from: 'lan',
        to: 'wan',
        destination: [`198.51.${Math.trunc(index / 256) % 256}.${index % 256}`],
        protocols: ['tcp'],
        ports: [{ first: port, last: port + 1 }],
      };
    }),
  };
}

/** The names of so many rules. */
export function ruleNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `r${index}`);
}

/** A home with guests and a server network, and a rule of every kind. */
export function homeModel(forwardedTraffic: FirewallModel['forwardedTraffic']): FirewallModel {
  const port = (first: number, last = first) => ({ first, last });
  return {
    forwardedTraffic,
    wan: { interface: 'wan0', dhcpClient: true, martians: ['10.0.0.0/8', 'fc00::/7'] },
    networks: [
      {
        name: 'lan',
        interfaces: ['br-lan'],
        addresses: ['10.77.0.1/24', '2001:db8:1::1/64'],
        inside: true,
      },
      {
        name: 'guests',
        interfaces: ['guest0', 'guest1'],
        addresses: ['10.78.0.1/24'],
        inside: true,
      },
      { name: 'dmz', interfaces: ['dmz0'], addresses: ['10.79.0.1/24'], inside: false },
    ],
    services: [
      dhcpService,
      dnsService,
      { ...sshService, networks: ['lan'] },
      { name: API_SERVICE, protocols: ['tcp'], ports: [8443], networks: ['lan'] },
    ],
    tables: homeTables,
    rules: [
      ...tableRules,
      {
        name: 'block_tv',
        action: 'drop',
        from: 'lan',
        to: 'wan',
        source: ['10.77.0.66', '2001:db8:1::66'],
        log: true,
        comment: 'Hausaufgaben für alle zuerst',
      },
      {
        name: 'web',
        action: 'accept',
        from: 'wan',
        to: 'dmz',
        destination: ['10.79.0.80/31', '10.79.0.10', '10.79.0.11/32', '10.79.0.9'],
        protocols: ['tcp'],
        ports: [port(80), port(443), port(8_000, 8_010), port(8_011, 8_020)],
      },
      {
        name: 'no_quic',
        action: 'reject',
        from: 'guests',
        to: 'wan',
        protocols: ['tcp', 'udp', 'sctp'],
        ports: [port(443, 500)],
      },
      { name: 'no_smtp', action: 'reject', from: 'guests', protocols: ['tcp'], ports: [port(25)] },
      { name: 'dmz_is_quiet', action: 'reject', from: 'dmz', to: 'any' },
      {
        name: 'tunnels',
        action: 'accept',
        from: 'lan',
        to: 'guests',
        protocols: ['esp', 'ah', 'gre', 'icmpv6', 'icmp'],
      },
      { name: 'six', action: 'accept', to: 'dmz', source: ['::/0'], protocols: ['icmpv6'] },
      {
        name: 'wireguard',
        action: 'accept',
        from: 'wan',
        to: 'gateway',
        source: ['0.0.0.0/0'],
        protocols: ['udp'],
        ports: [port(51_820)],
      },
      {
        name: 'no_admin',
        action: 'drop',
        from: 'lan',
        to: 'gateway',
        source: ['10.77.0.128/25', '2001:db8::/32'],
        protocols: ['tcp', 'udp'],
        ports: [port(22), port(53)],
      },
    ],
  };
}

const homeTables = [
  {
    name: 'trouble',
    addresses: [
      '198.51.100.0/24',
      '198.51.100.7',
      '192.0.2.9',
      '203.0.113.0/25',
      '2001:db8:f::/48',
    ],
  },
  { name: 'friends', addresses: [] },
] as const;

const tableRules: readonly FirewallRule[] = [
  { name: 'no_trouble', action: 'drop', from: 'wan', source: ['@trouble'] },
  {
    name: 'friends_in',
    action: 'accept',
    from: 'wan',
    to: 'dmz',
    source: ['@friends', '192.0.2.128/25'],
    destination: ['10.79.0.0/24', '@trouble'],
    protocols: ['tcp'],
    ports: [{ first: 22, last: 22 }],
  },
  { name: 'gateway_shut', action: 'reject', to: 'gateway', source: ['@trouble', '@friends'] },
];
