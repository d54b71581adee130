/** Texts of config files for property tests: most are right, and all are near enough to be. */
import fc from 'fast-check';

/** What every part of a config can refer to. */
interface Surroundings {
  readonly hasWan: boolean;
  readonly networkNames: readonly string[];
}

/**
 * About half of these texts are right; the others have a mistake of meaning, such as a rule that
 * matches nothing. They are JSON, which YAML includes.
 */
export function arbitraryConfigText(): fc.Arbitrary<string> {
  const surroundings = fc.record({ hasWan: fc.boolean(), networkNames: networkNamesOf() });
  return surroundings.chain(arbitraryConfig).map((config) => JSON.stringify(config));
}

function networkNamesOf(): fc.Arbitrary<string[]> {
  const letters = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,31}$/);
  const long = fc.nat(99).map((number) => `n${'x'.repeat(29)}${String(number).padStart(2, '0')}`);
  const name = fc.oneof(fc.constantFrom('lan', 'guests', 'dmz'), letters, long);
  return fc.oneof(
    { weight: 9, arbitrary: fc.uniqueArray(name, { maxLength: 5 }) },
    { weight: 1, arbitrary: fc.uniqueArray(name, { minLength: 10, maxLength: 64 }) },
  );
}

function arbitraryConfig({ hasWan, networkNames }: Surroundings): fc.Arbitrary<object> {
  const sides = { hasWan, networkNames };
  const own = networkNames.map((_, index) => `10.${index}.0.1`);
  const networks = networkNames.map((name, index) =>
    arbitraryNetwork(index).map((network) => [name, network] as const),
  );
  const ruleLists = fc.tuple(rulesOf(sides, 'r'), rulesOf(sides, 'f'), rulesOf(sides, 'g'));
  const rest = fc.record(
    {
      version: fc.constant(1),
      networks: fc.tuple(...networks).map((entries) => Object.fromEntries(entries)),
      dns: fc.constant({ upstreams: ['tls://dns.example.net'] }),
      portForwards: arbitraryForwards(sides),
      api: arbitraryApi(own),
      firewall: ruleLists.chain((lists) => arbitraryFirewall(lists)),
      dataplane: fc.record({ fastPath: fc.constantFrom('auto', 'xdp', 'tc', 'off') }),
    },
    { requiredKeys: ['version', 'networks'] },
  );
  if (!hasWan) return rest;
  return fc.tuple(rest, arbitraryWan()).map(([others, wan]) => ({ ...others, wan }));
}

function arbitraryWan() {
  const gateway = (address: string, router: string) => ({ address, gateway: router });
  return fc
    .constantFrom(
      { address: 'dhcp' },
      gateway('203.0.113.5/29', '203.0.113.1'),
      gateway('192.168.1.5/24', '192.168.1.1'),
      gateway('100.64.0.9/10', '100.64.0.1'),
      gateway('203.0.113.5/32', '172.31.1.1'),
    )
    .map((rest) => ({ interface: 'wan-abcdefghijk', ...rest }));
}

function arbitraryNetwork(index: number) {
  const ports = fc.integer({ min: 1, max: 4 }).map((count) => {
    return Array.from({ length: count }, (_, port) => `port-of-${index}-${port}`);
  });
  const filtering = fc.constantFrom('endpoint-independent', 'address-and-port-dependent');
  const optional = { dhcp: fc.constant({ range: `10.${index}.1.0-10.${index}.1.9` }) };
  return fc.record(
    {
      interfaces: fc.oneof({ weight: 20, arbitrary: ports }, fc.constant(['br-lan'])),
      address: fc.constant(`10.${index}.0.1/16`),
      nat: fc.record({ filtering }),
      ...optional,
    },
    { requiredKeys: ['interfaces', 'address'] },
  );
}

function arbitraryForwards({ hasWan, networkNames }: Surroundings) {
  if (!hasWan || networkNames.length === 0) return fc.constant([]);
  const forward = fc.record({
    protocol: fc.constantFrom('tcp', 'udp'),
    port: fc.integer({ min: 1, max: 8_000 }),
    to: fc.constant('10.0.0.20:80'),
  });
  return fc.uniqueArray(forward, { maxLength: 3, selector: ({ port }) => port });
}

function arbitraryApi(own: readonly string[]) {
  const address = fc.constantFrom('127.0.0.1', '[::1]', '[::]', '0.0.0.0', ...own);
  const port = fc.integer({ min: 8_001, max: 8_020 });
  const endpoint = fc.tuple(address, port).map(([host, number]) => `${host}:${number}`);
  const byPort = (text: string) => text.slice(text.lastIndexOf(':'));
  return fc.record({
    listen: fc.oneof(
      fc.uniqueArray(endpoint, { maxLength: 16, selector: byPort }),
      fc.uniqueArray(endpoint, { maxLength: 4 }),
    ),
  });
}

type Rules = readonly object[];

function arbitraryFirewall([rules, first, second]: readonly [Rules, Rules, Rules]) {
  const feature = (its: Rules) =>
    fc.record(
      {
        enabled: fc.boolean(),
        schedule: fc.constantFrom('homework', 'night'),
        rules: fc.constant(its),
      },
      { requiredKeys: ['rules'] },
    );
  const device = fc.record(
    {
      mac: fc.nat(0xff).map((last) => `02:00:00:00:00:${last.toString(16).padStart(2, '0')}`),
      blocked: fc.boolean(),
      schedule: fc.constantFrom('homework', 'night'),
    },
    { requiredKeys: ['mac'] },
  );
  const deviceName = fc.nat(99).map((number) => `device_${number}`);
  return fc.record({
    rules: fc.constant(rules),
    features: fc.record({ one: feature(first), other: feature(second) }),
    tables: fc.dictionary(deviceName, fc.constant({ addresses: ['2001:db8::/32'] })),
    devices: fc.dictionary(deviceName, device, { maxKeys: 3 }),
    schedules: fc.constant({
      homework: { from: '14:00', to: '17:30' },
      night: { days: ['fri'], from: '22:00', to: '06:00' },
    }),
    foreignChanges: fc.constantFrom('restore', 'report'),
  });
}

const prefixes = {
  4: ['10.0.0.0/8', '192.0.2.7', '0.0.0.0/0', '198.51.100.0/25', '198.51.100.128/25'],
  6: ['::/0', '2001:db8::/32', 'fe80::1', '::ffff:0:0/96', '::1.2.3.4'],
} as const;

/** @param initial of their names, which differ from those of other lists then */
function rulesOf({ hasWan, networkNames }: Surroundings, initial: string): fc.Arbitrary<Rules> {
  const places = [...networkNames, 'any', ...(hasWan ? ['wan'] : [])];
  const anyPrefix = fc.constantFrom(...prefixes[4], ...prefixes[6]);
  const addresses = fc.oneof(
    fc.array(fc.constantFrom(...prefixes[4]), { minLength: 1, maxLength: 6 }),
    fc.array(anyPrefix, { minLength: 1, maxLength: 6 }),
  );
  const port = fc.integer({ min: 1, max: 65_535 });
  const ports = fc.oneof(
    port,
    fc.tuple(port, port).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
  );
  const withPorts = fc.record({
    protocol: fc.constantFrom('tcp', 'udp', 'sctp'),
    ports: fc.array(ports, { minLength: 1, maxLength: 5 }),
  });
  const without = fc.record({
    protocol: fc.constantFrom('tcp', 'udp', 'icmp', 'icmpv6', 'esp', 'ah', 'gre'),
  });
  const rule = fc.record(
    {
      action: fc.constantFrom('accept', 'drop', 'reject'),
      from: fc.constantFrom(...places),
      to: fc.constantFrom(...places, 'gateway'),
      source: addresses,
      destination: addresses,
      log: fc.boolean(),
      comment: fc.constantFrom('homework first', 'ü'.repeat(32)),
    },
    { requiredKeys: ['action'] },
  );
  const whole = fc
    .tuple(rule, fc.oneof(withPorts, without, fc.constant({})))
    .map(([ends, rest]) => ({ ...ends, ...rest }));
  return fc
    .array(whole, { maxLength: 6 })
    .map((rules) =>
      rules.map((one, index) => ({ name: `${initial}${'x'.repeat(29)}${index}`, ...one })),
    );
}
