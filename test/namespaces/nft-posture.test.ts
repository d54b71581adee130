/** What the rules let through, told by real packets between an internet, a gateway and a LAN. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { startPacketGenerator } from '../../lab/packet-generator.ts';
import { startPacketSink } from '../../lab/packet-sink.ts';
import { waitFor } from '../../lab/wait-for.ts';
import type { FirewallModel } from '../../src/firewall/firewall-model.ts';
import type { Nft } from '../../src/firewall/nft.ts';
import { compileRuleset } from '../../src/firewall/nft-document.ts';
import { markOf } from '../../src/firewall/packet-mark.ts';
import { defaultPosture, planRuleset, safeRuleset } from '../../src/firewall/plan-ruleset.ts';
import type { Ruleset } from '../../src/firewall/ruleset.ts';
import { openNft } from '../../src/linux/nft.ts';
import { protectThenForward, setForwarding } from '../../src/linux/nft-default-posture.ts';
import { modelWithRules } from '../../src/testing/firewall-models.ts';

const TIMEOUT_MS = 30_000;
const macs = {
  internet: '02:00:00:00:00:01',
  wan: '02:00:00:00:00:02',
  lan: '02:00:00:00:00:03',
  laptop: '02:00:00:00:00:04',
};
const addresses = {
  internet: ['198.51.100.254', '2001:db8:f::fe'],
  gatewayWan: ['198.51.100.1', '2001:db8:f::1'],
  gatewayLan: ['10.77.0.1', '2001:db8:1::1'],
  laptop: ['10.77.0.2', '2001:db8:1::2'],
} as const;
type HostName = 'internet' | 'gateway' | 'laptop';

let lab: Lab;
let gateway: LabHost;
let nft: Nft;

before(async () => {
  lab = await Lab.start(
    {
      hosts: {
        internet: {
          addresses: { eth0: ['198.51.100.254/24', '2001:db8:f::fe/64'] },
          // The way back: nobody translates addresses here.
          routes: [
            { to: '10.77.0.0/24', via: '198.51.100.1' },
            { to: '2001:db8:1::/64', via: '2001:db8:f::1' },
          ],
        },
        gateway: {
          addresses: {
            wan0: ['198.51.100.1/24', '2001:db8:f::1/64'],
            lan0: ['10.77.0.1/24', '2001:db8:1::1/64'],
          },
        },
        laptop: {
          addresses: { eth0: ['10.77.0.2/24', '2001:db8:1::2/64'] },
          routes: [
            { to: 'default', via: '10.77.0.1' },
            { to: 'default', via: '2001:db8:1::1' },
          ],
        },
      },
      links: {
        wan: { ends: ['internet:eth0', 'gateway:wan0'], macs: [macs.internet, macs.wan] },
        lan: { ends: ['gateway:lan0', 'laptop:eth0'], macs: [macs.lan, macs.laptop] },
      },
    },
    { name: 'nftposture' },
  );
  gateway = lab.host('gateway');
  nft = openNft({ networkNamespace: gateway.namespacePath });
  for (const host of ['internet', 'gateway', 'laptop'] as const) {
    for (const port of ['22', '80']) {
      const server = lab.host(host).spawn(['iperf3', '-s', '-p', port, '--forceflush']);
      await server.waitForOutput(/listening/, TIMEOUT_MS);
    }
  }
});

after(() => lab.stop());

beforeEach(async () => {
  await lab.host('gateway').run(['nft', 'flush', 'ruleset'], { timeoutMs: TIMEOUT_MS });
  setForwarding(true, { networkNamespace: gateway.namespacePath });
});

async function apply(ruleset: Ruleset): Promise<void> {
  const document = compileRuleset(ruleset, { replacing: 'rules' });
  assert.deepEqual(await nft.apply(document), { success: true });
}

/** How a connection attempt ends: `open`, `silence`, or the code of an error. */
async function connect(from: HostName, to: string, port: number): Promise<string> {
  const program =
    'const s = require("node:net").connect({ host: process.argv[1], port: +process.argv[2] });' +
    's.on("connect", () => { console.log("open"); s.destroy(); });' +
    's.on("error", (e) => console.log(e.code)); ' +
    's.setTimeout(400, () => { console.log("silence"); s.destroy(); });';
  const argv = [process.execPath, '-e', program, to, `${port}`] as const;
  const result = await lab.host(from).run(argv, { timeoutMs: TIMEOUT_MS });
  assert.ok(result.success, result.stderr);
  return result.stdout.trim();
}

async function pings(from: HostName, to: string): Promise<boolean> {
  const argv = ['ping', '-c', '2', '-i', '0.05', '-W', '0.5', to] as const;
  return (await lab.host(from).run(argv, { timeoutMs: TIMEOUT_MS })).success;
}

async function assertConnections(
  rows: readonly (readonly [HostName, readonly string[], number, string])[],
): Promise<void> {
  for (const [from, targets, port, expected] of rows) {
    for (const target of targets) {
      const got = await connect(from, target, port);
      assert.equal(got, expected, `${from} to ${target} port ${port}`);
    }
  }
}

const home: FirewallModel = {
  ...modelWithRules([]),
  networks: [
    {
      name: 'lan',
      interfaces: ['lan0'],
      addresses: ['10.77.0.1/24', '2001:db8:1::1/64'],
      inside: true,
    },
  ],
};

test('without rules everything is open, so that the next tests show what the rules do', async () => {
  await assertConnections([
    ['internet', [...addresses.laptop, ...addresses.gatewayWan], 22, 'open'],
    ['laptop', [...addresses.internet, ...addresses.gatewayLan], 22, 'open'],
  ]);
});

test('under the default posture nothing is offered or forwarded, and the gateway speaks', async () => {
  await apply(defaultPosture());
  await assertConnections([
    ['internet', [...addresses.gatewayWan, ...addresses.laptop], 22, 'silence'],
    ['laptop', [...addresses.gatewayLan, ...addresses.internet], 22, 'silence'],
    ['gateway', [...addresses.internet, ...addresses.laptop, '127.0.0.1', '::1'], 22, 'open'],
  ]);
  for (const address of addresses.gatewayWan) assert.ok(await pings('internet', address), address);
  for (const address of addresses.laptop) assert.ok(!(await pings('internet', address)), address);
});

test('at home the LAN gets out, the WAN gets neither in nor to a service of the gateway', async () => {
  await apply(planRuleset(home));
  await assertConnections([
    ['laptop', addresses.internet, 80, 'open'],
    ['laptop', addresses.gatewayLan, 22, 'open'],
    ['laptop', addresses.gatewayLan, 80, 'silence'],
    [
      'internet',
      [...addresses.laptop, ...addresses.gatewayWan, ...addresses.gatewayLan],
      22,
      'silence',
    ],
    ['internet', [...addresses.laptop, ...addresses.gatewayWan], 80, 'silence'],
  ]);
  for (const address of addresses.internet) assert.ok(await pings('laptop', address), address);
  for (const address of addresses.laptop) assert.ok(!(await pings('internet', address)), address);
});

test('rules drop, reject and accept as they say, for both families', async () => {
  const rules: FirewallModel['rules'] = [
    { name: 'no_ssh', action: 'reject', from: 'lan', protocols: ['tcp'], ports: [port(22)] },
    {
      name: 'no_web',
      action: 'drop',
      from: 'lan',
      to: 'wan',
      protocols: ['tcp'],
      ports: [port(80)],
    },
    {
      name: 'web_in',
      action: 'accept',
      from: 'wan',
      to: 'lan',
      destination: addresses.laptop,
      protocols: ['tcp'],
      ports: [port(80)],
    },
  ];
  await apply(planRuleset({ ...home, rules }));
  await assertConnections([
    ['laptop', addresses.internet, 22, 'ECONNREFUSED'],
    ['laptop', addresses.internet, 80, 'silence'],
    ['laptop', addresses.gatewayLan, 22, 'open'],
    ['internet', addresses.laptop, 80, 'open'],
    ['internet', addresses.laptop, 22, 'silence'],
  ]);
});

test('the panic button forgets the rules and leaves SSH from the LAN and the way out', async () => {
  const rules: FirewallModel['rules'] = [
    { name: 'locked_out', action: 'drop', from: 'lan' },
    { name: 'locked_out_too', action: 'drop', from: 'lan', to: 'gateway' },
  ];
  await apply(planRuleset({ ...home, rules }));
  await assertConnections([
    ['laptop', [...addresses.gatewayLan, ...addresses.internet], 22, 'silence'],
  ]);
  await apply(safeRuleset({ ...home, rules }));
  await assertConnections([
    ['laptop', [...addresses.gatewayLan, ...addresses.internet], 22, 'open'],
    ['internet', [...addresses.gatewayWan, ...addresses.laptop], 22, 'silence'],
  ]);
});

test("sources that cannot be on the WAN are counted and dropped, a neighbour's are not", async () => {
  await apply(planRuleset(home));
  await output('internet', 'ip', 'address', 'add', '10.77.0.9/32', 'dev', 'eth0');
  const spoofed = ['ping', '-c', '3', '-i', '0.01', '-W', '0.2', '-I', '10.77.0.9'] as const;
  await lab.host('internet').run([...spoofed, '198.51.100.1'], { timeoutMs: TIMEOUT_MS });
  await output('internet', 'ip', 'address', 'delete', '10.77.0.9/32', 'dev', 'eth0');
  const text = await output('gateway', 'nft', 'list', 'chain', 'inet', 'gatehouse', 'prerouting');
  assert.match(text, /counter packets 3 bytes 252 drop comment "built-in martians\/ipv4"/);
  assert.ok(await pings('internet', '198.51.100.1'));
});

for (const forwardedTraffic of ['conntrack', 'sessions'] as const) {
  test(`the gateway's own connections use conntrack, forwarded ones only with ${forwardedTraffic} as asked`, async () => {
    await apply(planRuleset({ ...home, forwardedTraffic }));
    await output('gateway', 'ping', '-c', '2', '-i', '0.01', '198.51.100.254');
    assert.equal(await connect('gateway', '198.51.100.254', 80), 'open');
    // Without the programs that mark replies, only the request of a session gets through.
    const isFollowed = forwardedTraffic === 'conntrack';
    assert.equal(await connect('laptop', '198.51.100.254', 80), isFollowed ? 'open' : 'silence');
    const chain = forwardedTraffic === 'conntrack' ? 'forward' : 'forward_requests';
    const text = await output('gateway', 'nft', 'list', 'chain', 'inet', 'gatehouse', chain);
    assert.match(text, /counter packets [1-9]\d* bytes \d+ accept comment "built-in outbound"/);
  });
}

test('with sessions, a reply is judged as its request would be', async () => {
  const sessions: FirewallModel = { ...home, forwardedTraffic: 'sessions' };
  const assertPings = async (expected: boolean) => {
    assert.equal(await pings('internet', '10.77.0.2'), expected);
  };
  await apply(planRuleset(sessions));
  await assertPings(false);
  // In the place of the programs in front of nft: what comes from the WAN is marked as a reply.
  await output('gateway', 'nft', 'add', 'table', 'ip', 'marks');
  const chain = '{ type filter hook prerouting priority -400; }';
  await output('gateway', 'nft', 'add', 'chain', 'ip', 'marks', 'from_wan', chain);
  const mark = `iifname "wan0" meta mark set ${markOf({ packetKind: 'reply' })}`;
  await output('gateway', 'nft', 'add', 'rule', 'ip', 'marks', 'from_wan', mark);
  await assertPings(true);
  const quiet = { name: 'quiet', action: 'drop', from: 'lan', to: 'wan' } as const;
  await apply(planRuleset({ ...sessions, rules: [{ ...quiet, protocols: ['icmp'] }] }));
  await assertPings(false);
  const replies = ['nft', 'list', 'chain', 'inet', 'gatehouse', 'forward_replies'] as const;
  const text = await output('gateway', ...replies);
  assert.match(text, /counter packets 2 bytes 168 drop comment "rule quiet\/reply"/);
});

test('survive-113 from the start on, no packet is forwarded before there are rules', async () => {
  setForwarding(false, { networkNamespace: gateway.namespacePath });
  const place = (host: HostName, name = 'eth0') => ({
    interface: name,
    networkNamespace: lab.host(host).namespacePath,
  });
  const neighbour = ['ip', 'neigh', 'replace', '10.77.0.2', 'lladdr', macs.laptop] as const;
  await output('gateway', ...neighbour, 'dev', 'lan0', 'nud', 'permanent');
  using atLaptop = startPacketSink(place('laptop'));
  const generator = await startPacketGenerator({
    sender: place('internet'),
    receiver: place('gateway', 'wan0'),
    sourceMac: macs.internet,
    destinationMac: macs.wan,
    pattern: {
      protocol: 'udp',
      source: { address: '198.51.100.254', port: 1_024, portCount: 60_000 },
      destination: { address: '10.77.0.2', port: 9 },
      frameBytes: 60,
    },
    framesPerSecond: 20_000,
    durationMsMax: TIMEOUT_MS,
  });
  const arrived = async () => {
    const text = await output('gateway', 'ip', '-s', '-j', 'link', 'show', 'wan0');
    return (JSON.parse(text) as [{ stats64: { rx: { packets: number } } }])[0].stats64.rx.packets;
  };
  const before = await arrived();
  await waitFor('packets that want in', arrived, {
    timeoutMs: TIMEOUT_MS,
    until: (packets) => packets > before + 1_000,
  });
  const result = await protectThenForward({ nft, networkNamespace: gateway.namespacePath });
  assert.deepEqual(result, { success: true, table: 'loaded' });
  await apply(planRuleset(home));
  const since = await arrived();
  await waitFor('packets under the rules', arrived, {
    timeoutMs: TIMEOUT_MS,
    until: (packets) => packets > since + 1_000,
  });
  await generator.stop();
  assert.equal(atLaptop.counted().frames, 0);
  // The way was open but for the rules.
  const text = await output('gateway', 'nft', 'list', 'chain', 'inet', 'gatehouse', 'forward');
  assert.match(text, /counter packets [1-9]\d* bytes \d+ drop comment "built-in rest"/);
});

function port(number: number) {
  return { first: number, last: number };
}

async function output(host: HostName, ...argv: [string, ...string[]]): Promise<string> {
  const result = await lab.host(host).run(argv, { timeoutMs: TIMEOUT_MS });
  assert.ok(result.success, `${argv.join(' ')}: ${result.stderr}`);
  return result.stdout;
}
