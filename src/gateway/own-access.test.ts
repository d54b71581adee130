import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseConfig } from '../config/parse-config.ts';
import type { Config } from '../config/schema.ts';
import { arbitraryConfigText } from '../testing/config-texts.ts';
import { planConfiguration } from './firewall-plan.ts';
import { findAccessLoss } from './own-access.ts';

function configOf(text: string): Config {
  const { config, problems } = parseConfig(text, { fileName: 'gatehouse.yaml' });
  assert.ok(config, JSON.stringify(problems));
  return config;
}

interface Parts {
  readonly wan?: string;
  readonly networks?: string;
  readonly rules?: readonly string[];
  readonly rest?: string;
}

const lan = 'lan: { interfaces: [lan0], address: 10.77.0.1/24 }';
const guests = 'guests: { interfaces: [lan1], address: 10.78.0.1/24 }';
const wanFixed = '{ interface: wan0, address: 198.51.100.1/24, gateway: 198.51.100.254 }';

function config({
  wan = wanFixed,
  networks = `${lan}, ${guests}`,
  rules = [],
  rest = '',
}: Parts = {}) {
  const wanLine = wan === '' ? '' : `wan: ${wan}\n`;
  const ruleLine = `firewall: { rules: [${rules.join(', ')}] }\n`;
  return configOf(`version: 1\n${wanLine}networks: { ${networks} }\n${ruleLine}${rest}`);
}

interface Change {
  readonly client?: string;
  readonly gateway?: string;
  readonly port?: number;
  readonly current?: Config;
  readonly next: Config;
}

function lossOf({
  client = '10.77.0.100',
  gateway = '10.77.0.1',
  port = 22,
  current = config(),
  next,
}: Change): string | undefined {
  const access = { clientAddress: client, gatewayAddress: gateway, gatewayPort: port };
  const nextRuleset = planConfiguration(next, { safe: false });
  return findAccessLoss({ access, current, next, nextRuleset });
}

const noSsh = '{ name: no_ssh, action: drop, to: gateway, protocol: tcp, ports: [22] }';
const sshFromWan =
  '{ name: ssh_in, action: accept, from: wan, to: gateway, protocol: tcp, ports: [22] }';

test('a rule that drops or rejects the connection is named', () => {
  assert.equal(
    lossOf({ next: config({ rules: [noSsh] }) }),
    'rule no_ssh drops TCP to port 22 from 10.77.0.100',
  );
  assert.equal(
    lossOf({ next: config({ rules: [noSsh.replace('drop', 'reject')] }) }),
    'rule no_ssh rejects TCP to port 22 from 10.77.0.100',
  );
});

test('rules about others, other ports and forwarded packets cut nothing', () => {
  for (const rule of [
    noSsh.replace('[22]', '[23]'),
    noSsh.replace('to: gateway', 'to: gateway, from: guests'),
    noSsh.replace('to: gateway', 'to: gateway, source: [10.77.0.101]'),
    noSsh.replace('to: gateway', 'to: any'),
    noSsh.replace('tcp', 'udp'),
  ]) {
    assert.equal(lossOf({ next: config({ rules: [rule] }) }), undefined, rule);
  }
});

test('what the current config does not let in cannot be lost', () => {
  const current = config({ rules: [noSsh] });
  assert.equal(lossOf({ current, next: config({ rules: [noSsh], networks: guests }) }), undefined);
  assert.equal(lossOf({ port: 8443, next: config({ networks: guests }) }), undefined);
});

test('a port that no rule accepts any more is lost', () => {
  const api = (endpoint: string) => config({ rest: `api: { listen: [${endpoint}] }\n` });
  assert.equal(
    lossOf({ port: 8443, current: api('10.77.0.1:8443'), next: api('10.78.0.1:8443') }),
    'no rule accepts TCP to port 8443 from 10.77.0.100',
  );
  assert.equal(
    lossOf({ port: 8443, current: api('10.77.0.1:8443'), next: api('"[::]:8443"') }),
    undefined,
  );
});

test('an address that the gateway would no longer have is lost, and one of others never was', () => {
  const moved = config({ networks: `${lan.replace('77.0.1', '77.0.2')}, ${guests}` });
  assert.equal(lossOf({ next: moved }), '10.77.0.1 is no longer an address of the gateway');
  assert.equal(lossOf({ gateway: '10.78.0.1', next: moved }), undefined);
  assert.equal(lossOf({ gateway: '10.77.0.9', next: moved }), undefined);
});

test('a network that moves to another interface leaves its clients behind', () => {
  const moved = config({ networks: `${lan.replace('lan0', 'lan7')}, ${guests}` });
  assert.equal(
    lossOf({ next: moved }),
    '10.77.0.100 comes by lan0, which would not belong to `networks.lan`',
  );
  const swapped = `${lan.replace('lan0', 'lan1')}, ${guests.replace('lan1', 'lan0')}`;
  assert.match(lossOf({ next: config({ networks: swapped }) }) ?? '', /comes by lan0/);
});

test('an interface that becomes a port of a bridge, or is the last one of it, stays a way in', () => {
  const bridged = config({ networks: `${lan.replace('[lan0]', '[lan0, lan2]')}, ${guests}` });
  assert.equal(lossOf({ next: bridged }), undefined);
  assert.equal(lossOf({ current: bridged, next: config() }), undefined);
  const renamed = config({ networks: `${lan.replace('lan:', 'home:')}, ${guests}` });
  assert.equal(lossOf({ next: renamed }), undefined);
});

test('who comes from the internet keeps the way in as long as a rule opens it', () => {
  const current = config({ rules: [sshFromWan] });
  const outside = { client: '203.0.113.80', gateway: '198.51.100.1', current };
  assert.equal(lossOf({ ...outside, next: config({ rules: [sshFromWan] }) }), undefined);
  assert.equal(
    lossOf({ ...outside, next: config() }),
    'no rule accepts TCP to port 22 from 203.0.113.80',
  );
  const wan = wanFixed.replace('wan0', 'wan1');
  assert.equal(
    lossOf({ ...outside, next: config({ wan, rules: [sshFromWan] }) }),
    '203.0.113.80 comes by wan0, which would not belong to `wan`',
  );
  const anywhere = sshFromWan.replace('from: wan, ', '');
  assert.equal(
    lossOf({ ...outside, gateway: '198.51.100.9', next: config({ wan: '', rules: [anywhere] }) }),
    '203.0.113.80 comes by wan0, and `wan` is no longer there',
  );
});

test('a network that covers the client makes it a martian on the WAN, and that is told', () => {
  const current = config({ rules: [sshFromWan] });
  const wide = 'lab: { interfaces: [wan7], address: 203.0.113.1/24 }';
  const next = config({ rules: [sshFromWan], networks: `${lan}, ${wide}` });
  assert.equal(
    lossOf({ client: '203.0.113.80', gateway: '198.51.100.1', current, next }),
    '203.0.113.80 comes by wan0, which would not belong to `networks.lab`',
  );
});

test('loopback, and the gateway calling itself, are never lost', () => {
  const next = config({ rules: [noSsh], networks: guests });
  for (const [client, gateway] of [
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '::1'],
    ['::ffff:127.0.0.1', '::ffff:127.0.0.1'],
    ['10.77.0.1', '10.77.0.1'],
    ['10.78.0.1', '10.77.0.1'],
  ] as const) {
    assert.equal(lossOf({ client, gateway, next }), undefined, client);
  }
});

test('an IPv4 address that a socket of both families shows is the same', () => {
  const next = config({ rules: [noSsh] });
  const mapped = { client: '::ffff:10.77.0.100', gateway: '::ffff:10.77.0.1', next };
  assert.equal(lossOf(mapped), 'rule no_ssh drops TCP to port 22 from 10.77.0.100');
});

test('the zone of a link-local address names the interface', () => {
  const noSshOnLan = noSsh.replace('to: gateway', 'from: lan, to: gateway');
  const next = config({ rules: [noSshOnLan] });
  const link = (zone: string) => ({ client: `fe80::9%${zone}`, gateway: `fe80::1%${zone}` });
  assert.equal(lossOf({ ...link('lan0'), next }), 'rule no_ssh drops TCP to port 22 from fe80::9');
  assert.equal(lossOf({ ...link('lan1'), next }), undefined);
  assert.equal(lossOf({ ...link('eth9'), next }), undefined);
  assert.equal(
    lossOf({ ...link('lan0'), next: config({ networks: guests }) }),
    'no rule accepts TCP to port 22 from fe80::9',
  );
  const bridged = config({ networks: `${lan.replace('[lan0]', '[lan0, lan2]')}, ${guests}` });
  assert.equal(lossOf({ ...link('lan0'), next: bridged }), undefined);
  assert.equal(lossOf({ ...link('br-lan'), current: bridged, next: config() }), undefined);
  assert.match(lossOf({ ...link('br-lan'), current: bridged, next }) ?? '', /^rule no_ssh drops/);
});

test('an IPv6 client whose interface nobody knows is cut off only where every way in closes', () => {
  const six = { client: '2001:db8::9', gateway: '2001:db8::1' };
  const noSshOnLan = noSsh.replace('to: gateway', 'from: lan, to: gateway');
  assert.equal(lossOf({ ...six, next: config({ rules: [noSshOnLan] }) }), undefined);
  assert.equal(
    lossOf({ ...six, next: config({ rules: [noSsh] }) }),
    'rule no_ssh drops TCP to port 22 from 2001:db8::9',
  );
});

test('without networks and WAN, rules for every interface are what lets somebody in', () => {
  const anywhere = sshFromWan.replace('from: wan, ', '');
  const bare = (rules: readonly string[]) => config({ wan: '', networks: '', rules });
  const server = { client: '192.0.2.9', gateway: '192.0.2.1', current: bare([anywhere]) };
  assert.equal(lossOf({ ...server, next: bare([anywhere]) }), undefined);
  assert.equal(
    lossOf({ ...server, next: bare([]) }),
    'no rule accepts TCP to port 22 from 192.0.2.9',
  );
  const six = { ...server, client: '2001:db8::9', gateway: '2001:db8::1' };
  assert.equal(
    lossOf({ ...six, next: bare([]) }),
    'no rule accepts TCP to port 22 from 2001:db8::9',
  );
});

test('what is no address, or mixes families, blocks no change', () => {
  const next = config({ rules: [noSsh] });
  for (const client of ['', 'UNKNOWN', '10.77.0', '10.77.0.100%lan0%x', 'fe80::9%', '::9']) {
    assert.equal(lossOf({ client, next }), undefined, client);
  }
  assert.equal(lossOf({ gateway: 'gateway', next }), undefined);
});

test('no change to the same config cuts anything, and every sentence is one line', () => {
  const address = fc.oneof(
    fc.tuple(fc.nat(20), fc.nat(9)).map(([net, host]) => `10.${net}.0.${host}`),
    fc.constantFrom('203.0.113.80', '192.168.1.5', '2001:db8::9', 'fe80::9%port-of-0-0', '::1'),
  );
  fc.assert(
    fc.property(
      fc.tuple(arbitraryConfigText(), arbitraryConfigText()),
      fc.tuple(address, address, fc.constantFrom(22, 53, 8_001, 8_443)),
      ([currentText, nextText], [client, gateway, port]) => {
        const fileName = 'gatehouse.yaml';
        const current = parseConfig(currentText, { fileName }).config;
        const next = parseConfig(nextText, { fileName }).config;
        if (current === undefined || next === undefined) return;
        const change = { client, gateway, port, current };
        assert.equal(lossOf({ ...change, next: current }), undefined);
        assert.match(lossOf({ ...change, next }) ?? 'none', /^[ -~]{4,200}$/);
      },
    ),
    { numRuns: 200 },
  );
});
