/** How the core runs the NAT: what it finds, what it is given, and what the kernel refuses. */
import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import { UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { natObject } from '../../src/abi/nat.generated.ts';
import { attachedTcProgramId, tcDirections } from '../../src/linux/attach.ts';
import { BpfMap } from '../../src/linux/bpf-map.ts';
import { mapsOfProgram } from '../../src/linux/kernel-objects.ts';
import type { CoreStatus } from '../../src/messages/control-messages.ts';
import {
  addresses,
  end,
  GatehouseLab,
  gatehouse,
  kill,
  output,
  TIMEOUT_MS,
  untilReady,
} from './gatehouse-lab.ts';
import { attachStrangers, type Strangers, TCX_PROGRAM_COUNT_MAX } from './verdict-programs.ts';

const FORWARDED_PORT = 8080;
const otherWan = '198.51.100.7';
const ECHO_PORT = 7;

let place: GatehouseLab;

before(async () => {
  place = await GatehouseLab.start('natcore');
});

after(() => place.stop());

beforeEach(async () => {
  await place.reset();
  await setWanAddress(addresses.gatewayWan);
  writeConfig({});
});

interface NatConfig {
  readonly wan?: string;
  /** Of the section `nat`. */
  readonly nat?: string;
  readonly forwards?: readonly string[];
  readonly lan?: string;
  readonly rules?: readonly string[];
  readonly fastPath?: 'auto' | 'off';
}

const dhcp = '{ interface: wan0, address: dhcp }';
const forwardToLaptop = (port: number, to = 80) =>
  `{ protocol: tcp, port: ${port}, to: '${addresses.laptop}:${to}' }`;

function configText({ wan, nat, forwards = [], lan, rules = [], fastPath }: NatConfig): string {
  const networks = `{ lan: { interfaces: [lan0], address: ${lan ?? '10.77.0.1/24'} } }`;
  const text = place
    .config({ networks, rules })
    .replace(/^nat:.*$/m, `nat: { ${nat ?? 'sessions: 1024'} }`)
    .replace(/^api:/m, `portForwards: [${forwards.join(', ')}]\napi:`)
    .concat(fastPath === undefined ? '' : `dataplane: { fastPath: ${fastPath} }\n`);
  return wan === undefined ? text : text.replace(/^wan:.*$/m, `wan: ${wan}`);
}

function writeConfig(config: NatConfig): void {
  place.writeOther('gatehouse.yaml', configText(config));
}

/** As a DHCP client does: the new one is there before the old one goes. */
async function setWanAddress(address: string): Promise<void> {
  const shown = await output(place.gateway, 'ip', '-j', '-4', 'address', 'show', 'dev', 'wan0');
  const [{ addr_info: infos = [] } = {}] = JSON.parse(shown) as [
    { addr_info?: { local: string; prefixlen: number }[] }?,
  ];
  const isThere = infos.some(({ local }) => local === address);
  await output(place.gateway, 'sysctl', '-w', 'net.ipv4.conf.wan0.promote_secondaries=1');
  const change = (verb: string, one: string) =>
    output(place.gateway, 'ip', 'address', verb, one, 'dev', 'wan0');
  if (!isThere) await change('add', `${address}/24`);
  for (const { local, prefixlen } of infos) {
    if (local !== address) await change('del', `${local}/${prefixlen}`);
  }
}

/** Where the internet sees a new socket of the laptop, which is answered. */
async function seenFrom(): Promise<Endpoint> {
  using inside = UdpSocket.open(place.laptop);
  using outside = UdpSocket.open(place.internet, { address: addresses.internet, port: ECHO_PORT });
  inside.send({ address: addresses.internet, port: ECHO_PORT }, 'who am I');
  const { from } = await outside.nextDatagram(TIMEOUT_MS);
  outside.send(from, 'you');
  assert.equal(`${(await inside.nextDatagram(TIMEOUT_MS)).payload}`, 'you');
  return from;
}

/** A connection from the internet to a port of the gateway's WAN address reaches the laptop. */
async function assertForwarded(address: string, port = FORWARDED_PORT, to = 80): Promise<void> {
  using listener = TcpListener.open(place.laptop, { address: addresses.laptop, port: to });
  const options = { to: { address, port }, timeoutMs: TIMEOUT_MS };
  using _caller = await TcpSocket.connected(place.internet, options);
  const { connection } = await listener.next(TIMEOUT_MS);
  connection.close();
}

interface Connection extends Disposable {
  readonly inside: TcpSocket;
  readonly outside: TcpSocket;
  /** As the internet sees the laptop. */
  readonly from: Endpoint;
}

async function connectOut(): Promise<Connection> {
  const to = { address: addresses.internet, port: 9000 };
  using listener = TcpListener.open(place.internet, to);
  const inside = await TcpSocket.connected(place.laptop, { to, timeoutMs: TIMEOUT_MS });
  const { connection: outside, from } = await listener.next(TIMEOUT_MS);
  const close = () => {
    inside.close();
    outside.close();
  };
  return { inside, outside, from, [Symbol.dispose]: close };
}

/** Both ends hear each other. */
async function assertAlive({ inside, outside }: Connection): Promise<void> {
  for (const [from, to] of [
    [inside, outside],
    [outside, inside],
  ] as const) {
    const before = to.received().length;
    from.write('x');
    await to.waitForBytes(before + 1, TIMEOUT_MS);
  }
}

/** The kernel's numbers of what is attached. */
function natPrograms(names: readonly string[] = ['wan0', 'lan0']): number[] {
  const ids = names.flatMap((name) =>
    tcDirections.map((direction) => attachedTcProgramId(target(name), direction, 'nat')),
  );
  return ids.filter((id) => id !== undefined);
}

function target(name: string) {
  return { interface: name, networkNamespace: place.gateway.namespacePath };
}

/** No program can be attached there until it is disposed of. */
function withoutRoom(name: string): Strangers {
  return attachStrangers(target(name), 'egress', { count: TCX_PROGRAM_COUNT_MAX });
}

/** By a built-in rule of the chain of forwarded packets. */
async function packetsMetBy(name: string): Promise<number> {
  const chain = await output(place.gateway, 'nft', 'list', 'chain', 'inet', 'gatehouse', 'forward');
  const rule = chain.split('\n').find((line) => line.includes(`"built-in ${name}"`));
  return Number(/counter packets (\d+)/.exec(rule ?? '')?.[1]);
}

async function setting(path: string): Promise<string> {
  return (await output(place.gateway, 'cat', `/proc/sys/${path}`)).trim();
}

test('status tells addresses, sessions and what was counted', async () => {
  await place.run();
  const { address } = await seenFrom();
  assert.equal(address, addresses.gatewayWan);
  const { nat } = await place.awaitHealth();
  assert.deepEqual(
    [nat.state, nat.externalAddresses, nat.sessions?.max, nat.overlappingNetworks],
    ['on', [addresses.gatewayWan], 1_024, []],
  );
  assert.ok((nat.sessions?.open ?? 0) >= 1 && (nat.mappings ?? 0) >= 1);
  assert.ok((nat.counters.find(({ name }) => name === 'translated')?.count ?? 0) >= 2);
  const { stdout } = await place.expectCode(0, 'status');
  assert.match(stdout, /^nat +on, with 198\.51\.100\.1$/m);
  assert.match(stdout, /^nat +\d+ of 1024 sessions, \d+ mappings, \d+ MB$/m);
  assert.match(stdout, /^nat +.*translated \d+/m);
});

test('the kernel is set so that the gateway and the NAT keep out of each other', async () => {
  for (const name of ['all', 'lan0']) {
    await output(place.gateway, 'sysctl', '-w', `net.ipv4.conf.${name}.send_redirects=1`);
  }
  await output(place.gateway, 'sysctl', '-w', 'net.ipv4.conf.all.accept_source_route=1');
  await place.run();
  assert.equal(await setting('net/ipv4/ip_local_port_range'), '61440\t65535');
  assert.equal(await setting('net/ipv4/conf/all/send_redirects'), '0');
  assert.equal(await setting('net/ipv4/conf/lan0/send_redirects'), '0');
  assert.equal(await setting('net/ipv4/conf/all/accept_source_route'), '0');
});

test('survive-77 an address that DHCP gives is in force, and its port forwards with it', async () => {
  writeConfig({ wan: dhcp, forwards: [forwardToLaptop(FORWARDED_PORT)] });
  await output(place.gateway, 'ip', 'address', 'flush', 'dev', 'wan0');
  await place.run();
  const waiting = await place.status();
  assert.deepEqual([waiting.nat.state, waiting.nat.externalAddresses], ['on', []]);
  assert.ok(waiting.problems.some((problem) => /the WAN has no address yet/.test(problem)));
  await setWanAddress(addresses.gatewayWan);
  await place.awaitHealth();
  assert.equal((await seenFrom()).address, addresses.gatewayWan);
  await assertForwarded(addresses.gatewayWan);
});

test('survive-77 when DHCP gives another address, old connections end and new ones work', async () => {
  writeConfig({ wan: dhcp, forwards: [forwardToLaptop(FORWARDED_PORT)] });
  await place.run();
  await place.awaitHealth();
  using connection = await connectOut();
  await setWanAddress(otherWan);
  await place.awaitStatus('the other address', ({ nat }) => {
    return nat.externalAddresses.join() === otherWan;
  });
  assert.equal((await seenFrom()).address, otherWan);
  await assertForwarded(otherWan);
  connection.inside.write('anybody there?');
  assert.equal(await connection.inside.whenOver(TIMEOUT_MS), 'ECONNRESET');
  using next = await connectOut();
  assert.equal(next.from.address, otherWan);
  // And back: the first one takes its old place.
  await setWanAddress(addresses.gatewayWan);
  await place.awaitStatus('the first address', ({ nat }) => {
    return nat.externalAddresses.join() === addresses.gatewayWan;
  });
  await assertForwarded(addresses.gatewayWan);
});

test('an address that DHCP takes away for a moment ends no connection, nor does a restart then', async () => {
  writeConfig({ wan: dhcp });
  const core = await place.run();
  await place.awaitHealth();
  using connection = await connectOut();
  await output(place.gateway, 'ip', 'link', 'set', 'dev', 'wan0', 'down');
  await kill(core);
  await place.run();
  const { nat } = await place.status();
  assert.deepEqual(nat.externalAddresses, [addresses.gatewayWan]);
  await output(place.gateway, 'ip', 'link', 'set', 'dev', 'wan0', 'up');
  await assertAlive(connection);
});

test('survive-78 RFC 4787 REQ-7: a LAN with the addresses of the WAN is told, and let through as soon as it is another', async () => {
  writeConfig({ wan: dhcp });
  await output(place.gateway, 'ip', 'address', 'flush', 'dev', 'wan0');
  await output(place.gateway, 'ip', 'address', 'add', '10.77.0.99/24', 'dev', 'wan0');
  await place.run();
  const status = await place.status();
  assert.deepEqual(status.nat.overlappingNetworks, ['lan']);
  const told = /network lan \(10\.77\.0\.1\/24\) overlaps the WAN's \(10\.77\.0\.99\/24\)/;
  assert.ok(
    status.problems.some((problem) => told.test(problem)),
    status.problems.join('\n'),
  );
  assert.ok(status.alarms.some(({ text }) => told.test(text)));
  await setWanAddress(addresses.gatewayWan);
  await place.awaitHealth();
  assert.equal((await seenFrom()).address, addresses.gatewayWan);
});

test('survive-78 with a fixed address, such a config is refused', async () => {
  writeConfig({ lan: '198.51.100.9/24' });
  const { stderr } = await place.expectCode(3, 'check', place.configFile);
  assert.match(stderr, /networks\.lan\.address: .*overlaps 198\.51\.100\.0\/24 of `wan\.address`/);
});

test('port forwards come, move and go while connections by other ones stay', async () => {
  writeConfig({ forwards: [forwardToLaptop(FORWARDED_PORT)] });
  await place.run();
  await place.awaitHealth();
  using connection = await connectOut();
  const taken = connection.from.port;
  await place.install(
    configText({ forwards: [forwardToLaptop(FORWARDED_PORT, 81), forwardToLaptop(8081)] }),
  );
  await assertForwarded(addresses.gatewayWan, FORWARDED_PORT, 81);
  await assertForwarded(addresses.gatewayWan, 8081);
  await assertAlive(connection);
  // The port that a host's own connection has: the forward is what a person wants.
  await place.install(configText({ forwards: [forwardToLaptop(taken)] }));
  await assertForwarded(addresses.gatewayWan, taken);
  connection.inside.write('anybody there?');
  assert.equal(await connection.inside.whenOver(TIMEOUT_MS), 'ECONNRESET');
  const gone = { to: { address: addresses.gatewayWan, port: FORWARDED_PORT }, timeoutMs: 500 };
  await assert.rejects(TcpSocket.connected(place.internet, gone));
});

for (const fastPath of ['auto', 'off'] as const) {
  test(`survive-112 what a change of the rules forbids stops with it, with fast path ${fastPath}`, async () => {
    writeConfig({ fastPath });
    await place.run();
    await place.awaitHealth();
    using connection = await connectOut();
    await assertAlive(connection);
    await assertAlive(connection);
    const { nat } = await place.status();
    const isFast = nat.counters.some(({ name }) => name === 'fast');
    assert.equal(isFast, fastPath === 'auto');
    const isAskedOnce = isFast || (await packetsMetBy('approved')) > 0;
    assert.ok(isAskedOnce, 'nft is asked about a session once');
    const rule = '{ name: quiet, action: drop, from: lan, to: wan, protocol: tcp, ports: [9000] }';
    await place.install(configText({ fastPath, rules: [rule] }));
    const { inside, outside } = connection;
    const heard = [inside.received().length, outside.received().length];
    inside.write('x');
    outside.write('y');
    // By the same way: whatever went before it has arrived, too.
    await seenFrom();
    assert.deepEqual([inside.received().length, outside.received().length], heard);
    await place.install(configText({ fastPath }));
    await outside.waitForBytes((heard[1] ?? 0) + 1, TIMEOUT_MS);
    await inside.waitForBytes((heard[0] ?? 0) + 1, TIMEOUT_MS);
  });
}

const ip = (text: string) => output(place.gateway, 'ip', ...text.split(' '));

type FastPaths = NonNullable<CoreStatus['nat']['fastPath']>;

/** Of both interfaces. */
function awaitFastPath(where: 'tc' | 'off'): Promise<FastPaths> {
  const until = (all: FastPaths) => all.length === 2 && all.every(({ at }) => at === where);
  const ask = async () => (await place.status()).nat.fastPath ?? [];
  return waitFor(`the fast path at ${where}`, ask, { timeoutMs: TIMEOUT_MS, until });
}

test('the fast path is off as long as the rules of others may judge forwarded packets', async () => {
  await place.run();
  await place.awaitHealth();
  await awaitFastPath('tc');
  const gateway = place.gateway;
  await output(gateway, 'nft', 'add', 'table', 'ip', 'other');
  const hook = '{ type filter hook forward priority 0; }';
  await output(gateway, 'nft', 'add', 'chain', 'ip', 'other', 'judge', hook);
  for (const { reason } of await awaitFastPath('off')) {
    assert.match(reason, /table ip other may judge/);
  }
  using connection = await connectOut();
  await output(gateway, 'nft', 'add', 'rule', 'ip', 'other', 'judge', 'counter', 'drop');
  const heard = connection.outside.received().length;
  connection.inside.write('x');
  await output(gateway, 'nft', 'delete', 'table', 'ip', 'other');
  await connection.outside.waitForBytes(heard + 1, TIMEOUT_MS);
  await awaitFastPath('tc');
});

test('an IPsec policy holds for connections that went fast, and the fast path is off meanwhile', async () => {
  await place.run();
  await place.awaitHealth();
  using connection = await connectOut();
  await assertAlive(connection);
  await assertAlive(connection);
  const { nat } = await place.status();
  assert.ok(nat.counters.some(({ name }) => name === 'fast'));
  const policy = `dst ${addresses.internet} proto tcp dport 9000 dir out`;
  await ip(`xfrm policy add ${policy} action block`);
  try {
    for (const { reason } of await awaitFastPath('off')) assert.match(reason, /IPsec policies/);
    const heard = connection.outside.received().length;
    connection.inside.write('x');
    // By the same way: whatever went before it has arrived, too.
    await seenFrom();
    assert.equal(connection.outside.received().length, heard);
    await ip(`xfrm policy delete ${policy}`);
    await connection.outside.waitForBytes(heard + 1, TIMEOUT_MS);
    await awaitFastPath('tc');
  } finally {
    await ip('xfrm policy flush');
  }
});

const kernelObstacles = {
  'IPsec refuses what has no policy': {
    reason: /IPsec policies/,
    put: 'xfrm policy setdefault fwd block',
    takeAway: 'xfrm policy setdefault fwd accept',
  },
  'a routing rule goes by marks': {
    reason: /routing rules go by packet marks/,
    put: 'rule add fwmark 0x10000 table 100',
    takeAway: 'rule delete fwmark 0x10000 table 100',
  },
  'a routing rule of IPv6 goes by marks': {
    reason: /routing rules go by packet marks/,
    put: '-6 rule add fwmark 0x10000 table 100',
    takeAway: '-6 rule delete fwmark 0x10000 table 100',
  },
};

for (const [name, { reason, put, takeAway }] of Object.entries(kernelObstacles)) {
  test(`the fast path is off while ${name}, from the start on`, async () => {
    await ip(put);
    try {
      await place.run();
      const { nat } = await place.status();
      assert.ok(nat.fastPath?.every(({ at }) => at === 'off'));
    } finally {
      await ip(takeAway);
    }
    await awaitFastPath('tc');
    await ip(put);
    try {
      for (const one of await awaitFastPath('off')) assert.match(one.reason, reason);
    } finally {
      await ip(takeAway);
    }
  });
}

test('tables of another size are new ones; TCP is taken up, and it is told', async () => {
  await place.run();
  await place.awaitHealth();
  using connection = await connectOut();
  await place.install(configText({ nat: 'sessions: 4096' }));
  const status = await place.status();
  assert.equal(status.nat.sessions?.max, 4_096);
  assert.ok(status.alarms.some(({ text }) => /sessions start anew/.test(text)));
  await assertAlive(connection);
  assert.equal((await seenFrom()).address, addresses.gatewayWan);
});

test('more external addresses leave sessions alone, as long as there is room in the tables', async () => {
  await place.run();
  await place.awaitHealth();
  using connection = await connectOut();
  await place.install(configText({ nat: `sessions: 1024, externalAddresses: [${otherWan}]` }));
  const { nat, alarms } = await place.status();
  assert.deepEqual(nat.externalAddresses, [addresses.gatewayWan, otherWan]);
  assert.ok(!alarms.some(({ text }) => /start anew/.test(text)));
  await assertAlive(connection);
});

test('survive-81 a start after a kill takes the very programs over, and loads no others', async () => {
  const core = await place.run();
  await place.awaitHealth();
  using connection = await connectOut();
  const before = natPrograms();
  assert.equal(before.length, 4);
  await kill(core);
  const next = await place.run();
  await place.awaitHealth();
  assert.deepEqual(natPrograms(), before);
  await assertAlive(connection);
  // Without a record of what is loaded they are loaded again, and take the tables over.
  await kill(next);
  await output(place.gateway, 'rm', '-f', `${place.runtimeFolder}/nat-programs.json`);
  await place.run();
  await place.awaitHealth();
  assert.equal(natPrograms().filter((id) => before.includes(id)).length, 0);
  await assertAlive(connection);
});

test('survive-81 tables that mean something else than ours are not taken over, and it is told', async () => {
  const core = await place.run();
  await place.awaitHealth();
  using connection = await connectOut();
  await kill(core);
  const program = attachedTcProgramId(target('wan0'), 'ingress', 'nat') ?? assert.fail();
  const maps = mapsOfProgram(program);
  const settings = maps.find(({ name }) => name === natObject.maps.natSettings.name);
  const map = new BpfMap({ ...natObject.maps.natSettings, fd: settings?.fd ?? assert.fail() });
  const value = map.lookup(0) ?? assert.fail();
  map.update(0, { ...value, layout: value.layout + 1 });
  for (const { fd } of maps) closeSync(fd);
  await place.run();
  await place.awaitHealth();
  const { alarms } = await place.status();
  assert.ok(alarms.some(({ text }) => /another size or form .* sessions start anew/.test(text)));
  await assertAlive(connection);
});

test('what an earlier config had is taken off its interface', async () => {
  const core = await place.run();
  assert.equal(natPrograms(['lan0']).length, 2);
  await end(core);
  const other = configText({}).replace('interfaces: [lan0]', 'interfaces: [lan7]');
  place.writeOther('gatehouse.yaml', other);
  await place.run();
  assert.deepEqual(natPrograms(['lan0']), []);
});

test('survive-82 where the kernel does not take the programs, conntrack tells replies, and status says why', async () => {
  {
    using _full = withoutRoom('wan0');
    const core = await place.run();
    const { nat, problems, ruleset } = await place.status();
    assert.deepEqual([nat.state, nat.interfaces], ['off', []]);
    assert.match(nat.reason ?? '', /cannot translate on wan0: /);
    assert.ok(problems.some((problem) => /^addresses are not translated: /.test(problem)));
    assert.equal(ruleset, 'config');
    const { stdout } = await place.expectCode(6, 'status');
    assert.match(stdout, /^nat +off: cannot translate on wan0/m);
    const rules = await output(place.gateway, 'nft', 'list', 'table', 'inet', 'gatehouse');
    assert.doesNotMatch(rules, /notrack/);
    // The internet of this lab knows the way back.
    assert.equal((await seenFrom()).address, addresses.laptop);
    await place.expectCode(0, 'diff');
    await kill(core);
  }
  await place.run();
  await place.awaitHealth();
  assert.equal((await seenFrom()).address, addresses.gatewayWan);
});

test('survive-82 where the kernel takes no program at all, the network runs by its rules', async () => {
  const without = ['setpriv', '--bounding-set', '-bpf,-perfmon,-sys_admin'] as const;
  const argv = [...without, gatehouse, 'run', '--config', place.configFile] as const;
  const core = place.gateway.spawn(argv);
  await untilReady(core);
  const { nat, problems, ruleset, interfaces } = await place.status();
  assert.deepEqual([nat.state, ruleset], ['off', 'config']);
  assert.match(nat.reason ?? '', /cannot .*: EPERM/);
  assert.ok(problems.some((problem) => /^addresses are not translated: /.test(problem)));
  assert.ok(interfaces.every(({ state }) => state === 'failed'));
  assert.equal((await seenFrom()).address, addresses.laptop);
  await end(core);
});

test('survive-82 an interface that refuses the programs later turns the NAT off as a whole', async () => {
  await place.run();
  await place.awaitHealth();
  await output(
    place.gateway,
    'ip',
    'link',
    'add',
    'late0',
    'type',
    'veth',
    'peer',
    'name',
    'late1',
  );
  try {
    using _full = withoutRoom('late0');
    const late = '{ interfaces: [late0], address: 10.99.0.1/24 }';
    const text = configText({}).replace('networks: { ', `networks: { late: ${late}, `);
    const by = { author: 'test', forced: true, windowMs: 60_000 } as const;
    const applied = await place.ask({ kind: 'apply', configText: text, ...by });
    assert.equal(applied.kind, 'change');
    const isOff = await place.awaitStatus('no NAT', ({ nat }) => nat.state === 'off');
    assert.match(isOff.nat.reason ?? '', /cannot translate on late0/);
    const rules = () => output(place.gateway, 'nft', 'list', 'table', 'inet', 'gatehouse');
    const until = (text: string) => !text.includes('notrack');
    await waitFor('rules by conntrack', rules, { timeoutMs: TIMEOUT_MS, until });
    // The way back is a config that the kernel takes.
    await place.ask({ kind: 'rollback', author: 'test' });
    await place.awaitHealth();
    assert.equal((await seenFrom()).address, addresses.gatewayWan);
  } finally {
    await output(place.gateway, 'ip', 'link', 'delete', 'late0');
  }
});

test('a network that is routed keeps its addresses', async () => {
  place.writeConfig();
  await place.run();
  await place.awaitHealth();
  assert.equal((await seenFrom()).address, addresses.laptop);
});
