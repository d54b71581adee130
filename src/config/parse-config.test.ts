import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Value } from 'typebox/value';
import { formatConfigProblem } from './config-problem.ts';
import { exampleConfig } from './example-config.ts';
import { parseConfig } from './parse-config.ts';
import { configSchema } from './schema.ts';

const fileName = 'gatehouse.yaml';

/** `LINE:COLUMN PATH` of every problem. */
function placesIn(text: string): string[] {
  const { problems = [] } = parseConfig(text, { fileName });
  return problems.map(({ line, column, path }) => `${line}:${column} ${path}`);
}

function messagesIn(text: string): string[] {
  return (parseConfig(text, { fileName }).problems ?? []).map(formatConfigProblem);
}

/** The example with one piece replaced; each problem as `PATH: found`. */
function mistakesWith(piece: string, other: string): string[] {
  assert.equal(exampleConfig.split(piece).length, 2, `${piece} must stand once in the example`);
  const { problems = [] } = parseConfig(exampleConfig.replace(piece, other), { fileName });
  return problems.map(({ path, found }) => `${path}: ${found}`);
}

test('the example of the reference is right, and is what the schema describes', () => {
  const { config, problems } = parseConfig(exampleConfig, { fileName });
  assert.equal(problems, undefined);
  assert.deepEqual([...Value.Errors(configSchema, config)], []);
  assert.deepEqual(config?.networks['guests']?.nat, {
    mode: 'translate',
    filtering: 'endpoint-independent',
  });
  assert.equal(config?.gatekeeper?.protected[0]?.grantors[1]?.weight, 1);
});

test('what a file leaves out has its default', () => {
  const { config } = parseConfig('version: 1\n', { fileName });
  assert.deepEqual(config, {
    version: 1,
    networks: {},
    portForwards: [],
    nat: {
      externalAddresses: [],
      oneToOne: [],
      portRange: '1024-61439',
      sessions: 1_000_000,
      sessionsPerHost: 65_536,
      mappingsPerHost: 16_384,
      unansweredPerMapping: 1_024,
      timeouts: {
        udp: '5m',
        udpUnanswered: '30s',
        tcpEstablished: '124m',
        tcpOpening: '4m',
        tcpClosing: '4m',
        icmp: '60s',
        other: '10m',
      },
    },
    api: { listen: ['127.0.0.1:8443'], tls: { mode: 'self-signed' }, trustedProxies: [] },
    firewall: {
      rules: [],
      tables: {},
      features: {},
      devices: {},
      schedules: {},
      foreignChanges: 'restore',
    },
    dataplane: { fastPath: 'auto', interfaces: {} },
    paths: { state: '/var/lib/gatehouse', runtime: '/run/gatehouse' },
  });
});

test('all problems come at once, in the order of the file, with place and suggestion', () => {
  const text = [
    'version: 1',
    'wan: { interface: wan0, address: dchp }',
    'networks:',
    '  lan:',
    '    interface: [lan0]',
    '    address: 10.77.0.1/24',
    '    dhcp: { range: 10.77.1.100-10.77.1.199, lease: 30s }',
    'portForwards:',
    '  - { protocol: tpc, port: 80, to: 10.99.0.20:80 }',
    '',
  ].join('\n');
  assert.deepEqual(messagesIn(text), [
    'gatehouse.yaml:2:34: wan.address: expected `dhcp`, or an IPv4 address with the length of ' +
      'its network, such as `10.77.0.1/24`, found the text `dchp`; did you mean `dhcp`?',
    'gatehouse.yaml:5:5: networks.lan.interface: expected one of the keys `interfaces`, ' +
      '`address`, `dhcp`, `nat`, found the unknown key `interface`; did you mean `interfaces`?',
    'gatehouse.yaml:7:20: networks.lan.dhcp.range: expected addresses in 10.77.0.0/24, found ' +
      '`10.77.1.100-10.77.1.199`',
    'gatehouse.yaml:7:52: networks.lan.dhcp.lease: expected a duration: one number with ms, s, ' +
      'm, h, d or w, such as `12h`, from 2m to 365d, found the text `30s`',
    'gatehouse.yaml:9:17: portForwards[0].protocol: expected one of `tcp`, `udp`, found the text ' +
      '`tpc`; did you mean `tcp`?',
    'gatehouse.yaml:9:36: portForwards[0].to: expected a host in `lan`, found `10.99.0.20:80`',
  ]);
});

test('a file without a version, or with nothing in it, is refused', () => {
  assert.deepEqual(placesIn('networks: {}\n'), ['1:1 version']);
  assert.deepEqual(placesIn(''), ['1:1 ']);
  assert.deepEqual(placesIn('# nothing\n'), ['2:1 ']);
  assert.deepEqual(placesIn('[]'), ['1:1 ']);
});

test('a newer version is refused with one clear sentence, whatever else is unknown', () => {
  assert.deepEqual(messagesIn('version: 2\nspaceship: {}\n'), [
    'gatehouse.yaml:1:10: version: expected a file of version 1 or older: a newer Gatehouse ' +
      'wrote this one, found `2`',
  ]);
});

test('numbers that people read in different ways are refused', () => {
  for (const port of [
    '010',
    '0x50',
    '0o120',
    '80.0',
    '8e1',
    '1e999',
    '.inf',
    '+80',
    '8_0',
    '0',
    '65536',
  ]) {
    const rule = `{ name: a, action: drop, protocol: tcp, ports: [${port}] }`;
    const text = `version: 1\nfirewall: { rules: [${rule}] }\n`;
    assert.deepEqual(placesIn(text), ['2:69 firewall.rules[0].ports[0]'], port);
  }
});

test('truth values are true and false, and words that other readers take for them are named', () => {
  const rule = (log: string) =>
    `version: 1\nfirewall: { rules: [{ name: a, action: drop, log: ${log} }] }\n`;
  assert.deepEqual(placesIn(rule('true')), []);
  for (const [word, meant] of [
    ['yes', 'true'],
    ['off', 'false'],
    ['No', 'false'],
    ['treu', 'true'],
  ] as const) {
    assert.match(
      messagesIn(rule(word))[0] ?? '',
      new RegExp(`did you mean \`${meant}\`\\?$`),
      word,
    );
  }
  for (const word of ['1', '"true"', 'TRUE', 'null', '[]'])
    assert.equal(placesIn(rule(word)).length, 1, word);
});

test('an empty section is a mistake, since it may have lost its lines', () => {
  assert.deepEqual(messagesIn('version: 1\nfirewall:\n'), [
    'gatehouse.yaml:2:10: firewall: expected a mapping (`key: value`), found nothing',
  ]);
});

test('networks keep apart from each other, from the WAN, and from what no host can have', () => {
  const network = '10.78.0.1/24';
  assert.deepEqual(mistakesWith(network, '10.77.0.129/25'), [
    'networks.guests.address: `10.77.0.129/25`, which overlaps 10.77.0.0/24 of ' +
      '`networks.lan.address`',
    'networks.guests.dhcp.range: `10.78.0.100-10.78.0.199`',
  ]);
  assert.match(mistakesWith(network, '198.51.0.1/16')[0] ?? '', /overlaps .* of `wan.address`/);
  assert.match(mistakesWith(network, '10.78.0.0/24')[0] ?? '', /the address of the network itself/);
  assert.match(mistakesWith(network, '10.78.0.255/24')[0] ?? '', /its broadcast address/);
  assert.match(mistakesWith(network, '127.0.0.1/24')[0] ?? '', /^networks.guests.address: /);
  assert.match(mistakesWith(network, '224.0.0.1/24')[0] ?? '', /^networks.guests.address: /);
});

test('a range of DHCP lies in its network and leaves out what is taken', () => {
  const range = '10.78.0.100-10.78.0.199';
  for (const other of [
    '10.78.0.100-10.78.1.10',
    '10.78.0.1-10.78.0.20',
    '10.78.0.0-10.78.0.0',
    '10.78.0.200-10.78.0.255',
    '10.78.0.20-10.78.0.10',
  ]) {
    assert.equal(mistakesWith(range, other).length, 1, other);
  }
});

test('the WAN has a router exactly where nobody tells one', () => {
  const gateway = '  gateway: 198.51.100.254\n';
  assert.deepEqual(mistakesWith(gateway, ''), ['wan.gateway: nothing']);
  assert.deepEqual(mistakesWith(gateway, '  gateway: 198.51.100.1\n').length, 1);
  assert.deepEqual(mistakesWith(gateway, '  gateway: 203.0.113.254\n').length, 1);
  assert.deepEqual(mistakesWith('198.51.100.1/24        # or: dhcp', 'dhcp'), [
    'wan.gateway: `198.51.100.254`',
  ]);
});

test('an interface, a name, an address is used once', () => {
  for (const [piece, other, found] of [
    [
      '[lan1]',
      '[lan0]',
      'networks.guests.interfaces[0]: `lan0`, which is `networks.lan.interfaces[0]` already',
    ],
    [
      '[lan1]',
      '[lan1, lan1]',
      'networks.guests.interfaces[1]: `lan1`, which is `networks.guests.interfaces[0]` already',
    ],
    ['eth0', 'wan0', 'grantor.interface: `wan0`, which is `wan.interface` already'],
    [
      'guests_stay_out',
      'guests_send_no_mail',
      'firewall.features.no_mail_from_guests.rules[0].name: `guests_send_no_mail`, which ' +
        '`firewall.rules[1].name` has already',
    ],
    [
      '/run/gatehouse',
      '/var/lib/gatehouse',
      'paths.runtime: `/var/lib/gatehouse`, which is `paths.state` already',
    ],
    ['port: 6000-6009', 'port: 6000-8080', undefined],
    [
      '203.0.113.11',
      '203.0.113.10',
      'gatekeeper.protected[0].grantors[1].address: the one of ' +
        '`gatekeeper.protected[0].grantors[0].address`',
    ],
    ['[mon, tue, wed, thu, fri]', '[mon, mon]', 'firewall.schedules.homework.days[1]: `mon` again'],
  ] as const) {
    assert.deepEqual(mistakesWith(piece, other), found === undefined ? [] : [found]);
  }
});

test('two devices share neither a link-layer address nor an address', () => {
  const device = '      schedule: homework\n';
  const other = `${device}    phone: { mac: 02-00-00-00-00-01, address: 10.77.0.30 }\n`;
  assert.deepEqual(mistakesWith(device, other), [
    'firewall.devices.phone.mac: the one of `firewall.devices.console.mac`',
    'firewall.devices.phone.address: the one of `firewall.devices.console.address`',
  ]);
  assert.equal(mistakesWith('address: 10.77.0.30', 'address: 10.99.0.30').length, 1);
  assert.equal(mistakesWith('address: 10.77.0.30', 'address: 10.77.0.1').length, 1);
});

test('words with a meaning in rules are no names of networks', () => {
  for (const word of ['wan', 'gateway', 'any']) {
    const text = `version: 1\nnetworks:\n  ${word}: { interfaces: [a], address: 10.0.0.1/8 }\n`;
    assert.deepEqual(placesIn(text), [`3:3 networks.${word}`]);
  }
});

test('port forwards lead to hosts in networks, by ports of their own', () => {
  for (const [piece, other, found] of [
    ['10.77.0.21:6000', '10.99.0.21:6000', 'portForwards[1].to: `10.99.0.21:6000`'],
    ['10.77.0.21:6000', '10.77.0.255:6000', 'portForwards[1].to: `10.77.0.255:6000`'],
    ['10.77.0.21:6000', '10.77.0.21:65530', 'portForwards[1].to: `10.77.0.21:65530`'],
    [
      '10.77.0.21:6000',
      '10.78.0.1:6000',
      'portForwards[1].to: `10.78.0.1:6000`, the address of `networks.guests.address`',
    ],
    [
      'udp, port: 6000-6009',
      'tcp, port: 8075-8084',
      'portForwards[1].port: 8075-8084, which `portForwards[0]` takes',
    ],
    [
      '[10.77.0.1:8443,',
      '[0.0.0.0:8080,',
      'portForwards[0].port: 8080, which `api.listen[0]` takes',
    ],
    [
      '[10.77.0.1:8443,',
      '[198.51.100.1:8080,',
      'portForwards[0].port: 8080, which `api.listen[0]` takes',
    ],
    ['[10.77.0.1:8443,', '[10.77.0.1:8080,', undefined],
  ] as const) {
    assert.deepEqual(mistakesWith(piece, other), found === undefined ? [] : [found]);
  }
});

test("external addresses are nobody's but the NAT's", () => {
  const pool = 'externalAddresses: [198.51.100.2]';
  const hosts = '{ external: 198.51.100.3, internal: 10.77.0.22 }';
  const added = (more: string) => `externalAddresses: [198.51.100.2, ${more}]`;
  for (const [piece, other, found] of [
    [pool, added('192.0.2.9'), undefined],
    [
      pool,
      added('198.51.100.2'),
      'nat.externalAddresses[1]: the one of `nat.externalAddresses[0]`',
    ],
    [
      pool,
      added('198.51.100.3'),
      'nat.oneToOne[0].external: the one of `nat.externalAddresses[1]`',
    ],
    [
      pool,
      added('198.51.100.1'),
      'nat.externalAddresses[1]: `198.51.100.1`, the address of `wan.address`',
    ],
    [pool, added('10.78.0.9'), 'nat.externalAddresses[1]: `10.78.0.9`, in `guests`'],
    [pool, added('224.0.0.9'), 'nat.externalAddresses[1]: `224.0.0.9`'],
    [hosts, hosts.replace('10.77.0.22', '10.99.0.22'), 'nat.oneToOne[0].internal: `10.99.0.22`'],
    [hosts, hosts.replace('10.77.0.22', '10.77.0.255'), 'nat.oneToOne[0].internal: `10.77.0.255`'],
    [
      hosts,
      hosts.replace('10.77.0.22', '10.77.0.1'),
      'nat.oneToOne[0].internal: `10.77.0.1`, the address of `networks.lan.address`',
    ],
    [
      hosts,
      `${hosts}\n    - { external: 198.51.100.4, internal: 10.77.0.22 }`,
      'nat.oneToOne[1].internal: the one of `nat.oneToOne[0].internal`',
    ],
  ] as const) {
    assert.deepEqual(mistakesWith(piece, other), found === undefined ? [] : [found]);
  }
  const many = Array.from({ length: 15 }, (_, index) => `192.0.2.${index + 1}`).join(', ');
  assert.deepEqual(mistakesWith(pool, `externalAddresses: [${many}]`), ['nat: 16']);
  const withoutWan = 'version: 1\nnat: { externalAddresses: [192.0.2.1] }\n';
  assert.deepEqual(placesIn(withoutWan), ['2:27 nat.externalAddresses']);
});

test('a routed network has no external ports and addresses', () => {
  assert.deepEqual(mistakesWith('mode: translate', 'mode: route'), [
    'portForwards[0].to: `10.77.0.20`: `lan` has `nat.mode: route`',
    'portForwards[1].to: `10.77.0.21`: `lan` has `nat.mode: route`',
    'nat.oneToOne[0].internal: `10.77.0.22`: `lan` has `nat.mode: route`',
  ]);
});

test('ports of the NAT and ports of the gateway itself do not meet', () => {
  const sessions = '  sessions: 1000000\n';
  for (const [range, found] of [
    ['1024-61439', undefined],
    ['20000-30000', undefined],
    ['1023-61439', 'nat.portRange: `1023-61439`'],
    ['1024-61440', 'nat.portRange: `1024-61440`'],
    ['2000-2000', 'nat.portRange: `2000-2000`'],
  ]) {
    const mistakes = mistakesWith(sessions, `  portRange: ${range}\n`);
    assert.deepEqual(mistakes, found === undefined ? [] : [found]);
  }
  assert.deepEqual(mistakesWith('port: 6000-6009', 'port: 61430-61440'), [
    'portForwards[1].port: 61430-61440',
  ]);
  const forward = (port: string) =>
    placesIn(
      'version: 1\nwan: { interface: wan0, address: dhcp }\n' +
        'networks: { lan: { interfaces: [lan0], address: 10.77.0.1/24 } }\n' +
        `portForwards: [{ protocol: udp, port: ${port}, to: 10.77.0.2:1 }]\n`,
    );
  assert.deepEqual(forward('60-70'), ['4:39 portForwards[0].port']);
  assert.deepEqual(forward('69'), []);
});

test('times of the NAT are not below what the standards ask for', () => {
  for (const [time, found] of [
    ['udp: 2m', undefined],
    ['udp: 119s', 'nat.timeouts.udp: the text `119s`'],
    ['tcpEstablished: 123m', 'nat.timeouts.tcpEstablished: the text `123m`'],
    ['tcpOpening: 239s', 'nat.timeouts.tcpOpening: the text `239s`'],
    ['tcpClosing: 239s', 'nat.timeouts.tcpClosing: the text `239s`'],
    ['icmp: 59s', 'nat.timeouts.icmp: the text `59s`'],
    ['other: 8d', 'nat.timeouts.other: the text `8d`'],
  ]) {
    assert.deepEqual(
      mistakesWith('{ udp: 5m }', `{ ${time} }`),
      found === undefined ? [] : [found],
    );
  }
});

test('port forwards need a WAN', () => {
  assert.ok(
    placesIn('version: 1\nportForwards: [{ protocol: tcp, port: 1, to: 10.0.0.1:1 }]\n').includes(
      '2:15 portForwards',
    ),
  );
});

test('the API listens where the machine has an address, unencrypted on loopback only', () => {
  const listen = '[10.77.0.1:8443, 127.0.0.1:8443]';
  assert.deepEqual(mistakesWith(listen, '["[::1]:8443"]'), []);
  assert.deepEqual(mistakesWith(listen, '[10.77.0.2:8443]'), ['api.listen[0]: `10.77.0.2:8443`']);
  assert.deepEqual(mistakesWith(listen, '[127.0.0.1:1, 0.0.0.0:1]'), [
    'api.listen[1]: `0.0.0.0:1`, which 127.0.0.1:1 takes',
  ]);
  const mode = 'mode: self-signed';
  assert.deepEqual(mistakesWith(mode, 'mode: off'), ['api.listen[0]: `10.77.0.1:8443`']);
  assert.deepEqual(mistakesWith(mode, 'mode: files, certificate: a.pem'), ['api.tls.key: nothing']);
  assert.deepEqual(mistakesWith(mode, 'mode: acme'), ['api.tls.domains: nothing']);
  assert.deepEqual(mistakesWith(mode, 'mode: off, key: a.pem'), [
    'api.listen[0]: `10.77.0.1:8443`',
    'api.tls.key: mode `off`',
  ]);
});

test('a machine without networks may listen on addresses that its config does not name', () => {
  assert.deepEqual(placesIn('version: 1\napi: { listen: [192.0.2.7:8443] }\n'), []);
});

test('rules name networks that exist, and ports of protocols that have some', () => {
  const places = '{ name: guests_stay_out, action: reject, from: guests, to: lan, log: true }';
  const rule = (rest: string) => mistakesWith(places, `{ name: x, action: drop, ${rest} }`);
  assert.deepEqual(rule('from: gests'), ['firewall.rules[1].from: `gests`']);
  assert.deepEqual(rule('from: gateway'), ['firewall.rules[1].from: `gateway`']);
  assert.deepEqual(rule('from: wan, to: gateway'), []);
  assert.deepEqual(rule('ports: [80]'), ['firewall.rules[1].ports: no protocol']);
  assert.deepEqual(rule('protocol: icmp, ports: [80]'), ['firewall.rules[1].ports: `icmp`']);
  assert.deepEqual(rule('source: [10.0.0.0/8], destination: ["2001:db8::/32"]'), [
    'firewall.rules[1].destination: none: no packet could match',
  ]);
  assert.deepEqual(rule('source: [10.0.0.1/8]'), [
    'firewall.rules[1].source[0]: the text `10.0.0.1/8`',
  ]);
});

test('rules name tables that exist, and not too many at once', () => {
  const place = '"@nuisances"';
  assert.deepEqual(mistakesWith(place, '"@nuisance", 192.0.2.0/24'), [
    'firewall.rules[2].destination[0]: `@nuisance`',
  ]);
  assert.match(
    messagesIn(exampleConfig.replace(place, '"@nuisance"'))[0] ?? '',
    /expected the name of a table in `firewall.tables`, .* did you mean `@nuisances`\?/,
  );
  assert.deepEqual(mistakesWith(place, '"@nuisances", 192.0.2.0/24'), []);
  assert.deepEqual(mistakesWith(place, '"@"'), ['firewall.rules[2].destination[0]: the text `@`']);
  assert.deepEqual(mistakesWith(`[${place}]`, '["@nuisances"], protocol: icmpv6'), []);
  const nine = Array.from({ length: 9 }, () => place).join(', ');
  assert.deepEqual(mistakesWith(place, nine), ['firewall.rules[2].destination: 9']);
});

test('a key that is no name is not suggested where a name is missing', () => {
  assert.deepEqual(messagesIn(exampleConfig.replace('    homework:', '    \u00a0homework:')), [
    'gatehouse.yaml:61:17: firewall.devices.console.schedule: expected the name of a schedule in ' +
      '`firewall.schedules`, found `homework`',
    'gatehouse.yaml:63:5: firewall.schedules["\\u00a0homework"]: expected a name: a letter or _, ' +
      'then at most 31 letters, digits or _, found `\\u00a0homework`',
  ]);
});

test('rules match something: the WAN exists, and the protocol has the family of the addresses', () => {
  const rule = (rest: string) =>
    messagesIn(`version: 1\nfirewall: { rules: [{ name: x, action: drop, ${rest} }] }\n`);
  assert.deepEqual(rule('from: wan, to: wan'), [
    'gatehouse.yaml:2:52: firewall.rules[0].from: expected the name of a network, or one of ' +
      '`any`, found `wan`, which the config does not have',
    'gatehouse.yaml:2:61: firewall.rules[0].to: expected the name of a network, or one of ' +
      '`gateway`, `any`, found `wan`, which the config does not have',
  ]);
  for (const [rest, found] of [
    ['protocol: icmp, source: ["::1"]', 'source: expected addresses of the family of `icmp`'],
    ['protocol: icmpv6, destination: [10.0.0.1]', 'destination: expected addresses of the family'],
    [
      'protocol: icmp, source: [10.0.0.1, "::1"], destination: ["::1"]',
      'destination: expected addresses of the family of `icmp`',
    ],
  ] as const) {
    assert.equal(rule(rest).length, 1, rest);
    assert.ok(rule(rest)[0]?.includes(`firewall.rules[0].${found}`), rest);
  }
  assert.deepEqual(rule('protocol: icmp, source: [10.0.0.1, "::1"]'), []);
  // What was objected to for its shape is there all the same.
  const wan = 'version: 1\nwan: 5\nfirewall: { rules: [{ name: x, action: drop, from: wan }] }\n';
  assert.deepEqual(placesIn(wan), ['2:6 wan']);
});

test('rules of the list and of all features together are at most ten thousand', () => {
  const rules = (prefix: string, count: number) =>
    Array.from({ length: count }, (_, index) => `{ name: ${prefix}${index}, action: drop }`);
  const text = (count: number) =>
    `version: 1\nfirewall:\n  rules: [${rules('r', count).join(', ')}]\n` +
    `  features: { a: { rules: [${rules('a', 200).join(', ')}] } }\n`;
  assert.deepEqual(messagesIn(text(9_800)), []);
  assert.deepEqual(messagesIn(text(9_801)), [
    'gatehouse.yaml:3:3: firewall: expected at most 10000 rules, those of features included, ' +
      'found 10001',
  ]);
});

test('the name of a bridge is no other interface, and two networks share none', () => {
  const twoPorts = '[lan0, lan2]            # several are bridged';
  const bridged = (other: string) =>
    exampleConfig
      .replace('[lan0]            # several are bridged', twoPorts)
      .replace('lan1', other);
  assert.deepEqual(messagesIn(bridged('lan1')), []);
  assert.deepEqual(messagesIn(bridged('br-lan')), [
    'gatehouse.yaml:15:18: networks.guests.interfaces[0]: expected another interface: the bridge ' +
      'of `networks.lan` has this name, found `br-lan`',
  ]);
  assert.deepEqual(mistakesWith('[lan1]', '[br-lan]'), []);
  assert.deepEqual(mistakesWith('[lan1]', '[lo]'), ['networks.guests.interfaces[0]: `lo`']);
});

test('features and devices name schedules that exist', () => {
  assert.deepEqual(mistakesWith('schedule: homework', 'schedule: homewrok'), [
    'firewall.devices.console.schedule: `homewrok`',
  ]);
});

test('exceptions of the fast path name interfaces that are used', () => {
  assert.deepEqual(mistakesWith('wan0: { fastPath', 'wna0: { fastPath'), [
    'dataplane.interfaces.wna0: `wna0`',
  ]);
});

test('DNS has somebody to ask', () => {
  const upstreams = "  upstreams: [198.51.100.53, 'tls://dns.example.net']\n";
  assert.deepEqual(mistakesWith(upstreams, ''), ['dns.upstreams: none']);
  const text = 'version: 1\nwan: { interface: wan0, address: dhcp }\ndns: {}\n';
  assert.deepEqual(placesIn(text), []);
});

test('nothing of the shield lies behind itself, and families are not mixed', () => {
  for (const [piece, other, count] of [
    ['prefix: 192.0.2.0/24', 'prefix: 203.0.113.0/24', 3],
    ['prefix: 192.0.2.0/24', 'prefix: 2001:db8::/32', 3],
    ['203.0.113.11', '192.0.2.7', 1],
    ['203.0.113.11', '2001:db8::1', 1],
    ['gatekeepers: [203.0.113.1]', 'gatekeepers: [203.0.113.20]', 1],
    ['gatekeepers: [203.0.113.1]', 'gatekeepers: ["2001:db8::1"]', 1],
    ['gatekeepers: [203.0.113.1]', 'gatekeepers: [203.0.113.1, 203.0.113.1]', 1],
    [
      '  keys: keys.json\n\ngrantor',
      '    - { prefix: 192.0.2.0/24, path: { bandwidth: 1Gbit/s },' +
        ' grantors: [{ address: 203.0.113.9 }] }\n  keys: keys.json\n\ngrantor',
      1,
    ],
  ] as const) {
    assert.equal(
      mistakesWith(piece, other).length,
      count,
      JSON.stringify(mistakesWith(piece, other)),
    );
  }
});

test('what was objected to for its shape causes no further objections', () => {
  assert.deepEqual(mistakesWith('address: 10.77.0.1/24', 'address: 10.77.0.1'), [
    'networks.lan.address: the text `10.77.0.1`',
  ]);
});
