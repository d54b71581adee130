/** Applying in a kernel: whole or not at all, with no moment without rules, under real packets. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { startPacketGenerator } from '../../lab/packet-generator.ts';
import { startPacketSink } from '../../lab/packet-sink.ts';
import { seededRandom } from '../../lab/seeded-random.ts';
import { waitFor } from '../../lab/wait-for.ts';
import type { Nft } from '../../src/firewall/nft.ts';
import {
  compileRuleset,
  formatNftDocument,
  type NftDocument,
} from '../../src/firewall/nft-document.ts';
import { expectedTable } from '../../src/firewall/nft-table.ts';
import { planRuleset } from '../../src/firewall/plan-ruleset.ts';
import { tableDiffers } from '../../src/firewall/table-difference.ts';
import { openNft } from '../../src/linux/nft.ts';
import { modelWithRules, ruleNames } from '../../src/testing/firewall-models.ts';

const TIMEOUT_MS = 60_000;

/** Without IPv6, so that nobody sends what the test did not ask for. */
const quiet = { 'net.ipv6.conf.all.disable_ipv6': '1', 'net.ipv6.conf.default.disable_ipv6': '1' };
const macs = {
  internet: '02:00:00:00:00:01',
  wan: '02:00:00:00:00:02',
  lan: '02:00:00:00:00:03',
  laptop: '02:00:00:00:00:04',
};

let lab: Lab;
let gateway: LabHost;
let nft: Nft;

before(async () => {
  lab = await Lab.start(
    {
      hosts: {
        internet: {
          addresses: { eth0: ['198.51.100.254/24'] },
          routes: [{ to: '10.77.0.0/24', via: '198.51.100.1' }],
          sysctls: quiet,
        },
        gateway: {
          addresses: { wan0: ['198.51.100.1/24'], lan0: ['10.77.0.1/24'] },
          sysctls: { ...quiet, 'net.ipv4.ip_forward': '1' },
        },
        laptop: {
          addresses: { eth0: ['10.77.0.2/24'] },
          routes: [{ to: 'default', via: '10.77.0.1' }],
          sysctls: quiet,
        },
      },
      links: {
        wan: { ends: ['internet:eth0', 'gateway:wan0'], macs: [macs.internet, macs.wan] },
        lan: { ends: ['gateway:lan0', 'laptop:eth0'], macs: [macs.lan, macs.laptop] },
      },
    },
    { name: 'nftapply' },
  );
  gateway = lab.host('gateway');
  nft = openNft({ networkNamespace: gateway.namespacePath });
});

after(() => lab.stop());

async function output(host: LabHost, ...argv: [string, ...string[]]): Promise<string> {
  const result = await host.run(argv, { timeoutMs: TIMEOUT_MS });
  assert.ok(result.success, `${argv.join(' ')}: ${result.stderr}`);
  return result.stdout;
}

async function succeed(document: NftDocument): Promise<void> {
  assert.deepEqual(await nft.apply(document), { success: true });
}

async function listed() {
  const listing = await nft.list();
  assert.ok(listing.success, listing.success ? '' : listing.message);
  return listing.table;
}

test('survive-106 killed at 200 random moments, nft leaves the old or the new rules whole', async (t) => {
  const seed = 106;
  t.diagnostic(`seed ${seed}`);
  const random = seededRandom(seed);
  const documents = (['rules', 'table'] as const).flatMap((replacing) =>
    ['old', 'new'].map((name) => {
      const model = modelWithRules([...ruleNames(150), name]);
      return compileRuleset(planRuleset(model), { replacing });
    }),
  );
  const paths = documents.map((document, index) => {
    const path = `${lab.directory}/document-${index}.json`;
    writeFileSync(path, formatNftDocument(document));
    return path;
  });
  const startedAt = performance.now();
  for (const document of documents) await succeed(document);
  const usualMs = (performance.now() - startedAt) / documents.length;
  let current = documents.at(-1) as NftDocument;
  let replacedCount = 0;
  for (let round = 0; round < 200; round++) {
    const index = round % documents.length;
    const seconds = ((random() * 1.3 * usualMs) / 1_000).toFixed(6);
    const kill = ['timeout', '--signal=KILL', seconds] as const;
    await gateway.run([...kill, 'nft', '-j', '-f', paths[index] ?? ''], { timeoutMs: TIMEOUT_MS });
    const table = await listed();
    const next = documents[index] as NftDocument;
    const isNext = tableDiffers(expectedTable(next), table) === undefined;
    const difference = tableDiffers(expectedTable(current), table);
    assert.ok(isNext || difference === undefined, `round ${round}: ${difference?.changes[0]}`);
    if (isNext && difference !== undefined) replacedCount++;
    if (isNext) current = next;
  }
  assert.ok(replacedCount > 5 && replacedCount < 150, `${replacedCount} of 200 came to their end`);
});

test('survive-106 a document that was cut short changes nothing', async () => {
  const old = compileRuleset(planRuleset(modelWithRules(['old'])), { replacing: 'rules' });
  const next = compileRuleset(planRuleset(modelWithRules(['new'])), { replacing: 'rules' });
  const text = formatNftDocument(next);
  await succeed(old);
  const path = `${lab.directory}/cut.json`;
  for (let cut = 0; cut < text.length - 1; cut += Math.ceil(text.length / 40)) {
    writeFileSync(path, text.slice(0, cut));
    await gateway.run(['nft', '-j', '-f', path], { timeoutMs: TIMEOUT_MS });
    assert.equal(tableDiffers(expectedTable(old), await listed()), undefined, `cut at ${cut}`);
  }
});

test('survive-114 while 10,000 rules come and go, no packet meets an absent ruleset', async (t) => {
  const rest = modelWithRules(ruleNames(9_998));
  const probe = { name: 'probe', action: 'accept', from: 'lan', to: 'wan' } as const;
  // Both decide at the top: with 10,000 comparisons a packet the probes would be too few.
  const refusal = { name: 'refusal', action: 'drop', from: 'wan', to: 'lan' } as const;
  const first = [{ ...probe, protocols: ['udp'] as const }, refusal];
  const model = { ...rest, rules: [...first, ...rest.rules] };
  const ruleset = planRuleset(model);
  for (const replacing of ['rules', 'table'] as const) {
    const document = compileRuleset(ruleset, { replacing });
    await succeed(document);
    const { allowed, refused, perSecond } = await probeDuring(async () => {
      for (let round = 0; round < 3; round++) await succeed(document);
    });
    t.diagnostic(`replacing ${replacing}: ${perSecond.map(Math.round)} probes a second`);
    assert.equal(allowed.arrived, allowed.sent, replacing);
    assert.equal(refused.arrived, 0, replacing);
    assert.ok(allowed.sent > 1_000 && refused.sent > 1_000);
  }
});

test('the probes of survive-114 do tell when a ruleset is replaced in two steps', async () => {
  const document = compileRuleset(planRuleset(modelWithRules([])), { replacing: 'rules' });
  await succeed(document);
  const { refused } = await probeDuring(async (refusedArrived) => {
    await output(gateway, 'nft', 'delete', 'table', 'inet', 'gatehouse');
    await waitFor('a probe that should not come in', () => refusedArrived() > 0, {
      timeoutMs: TIMEOUT_MS,
    });
    await succeed(document);
  });
  assert.ok(refused.arrived > 0);
});

/** Sends 2,000 packets a second that the rules let out, and as many that they let not in. */
async function probeDuring(action: (refusedArrived: () => number) => Promise<void>) {
  const place = (host: string, name = 'eth0') => ({
    interface: name,
    networkNamespace: lab.host(host).namespacePath,
  });
  await fixNeighbours();
  using atInternet = startPacketSink(place('internet'));
  using atLaptop = startPacketSink(place('laptop'));
  const common = { framesPerSecond: 2_000, durationMsMax: TIMEOUT_MS };
  const outbound = await startPacketGenerator({
    ...common,
    sender: place('laptop'),
    receiver: place('gateway', 'lan0'),
    sourceMac: macs.laptop,
    destinationMac: macs.lan,
    pattern: udp('10.77.0.2', '198.51.100.254'),
  });
  const inbound = await startPacketGenerator({
    ...common,
    sender: place('internet'),
    receiver: place('gateway', 'wan0'),
    sourceMac: macs.internet,
    destinationMac: macs.wan,
    pattern: udp('198.51.100.254', '10.77.0.2'),
  });
  await waitFor('probes', () => atInternet.counted().frames > 100, { timeoutMs: TIMEOUT_MS });
  await action(() => atLaptop.counted().frames);
  const results = [await outbound.stop(), await inbound.stop()] as const;
  await waitFor('the last probes', () => atInternet.counted().frames, {
    timeoutMs: 10_000,
    until: (frames) => frames >= results[0].frames,
  });
  return {
    allowed: { sent: results[0].frames, arrived: atInternet.counted().frames },
    refused: { sent: results[1].frames, arrived: atLaptop.counted().frames },
    perSecond: results.map(({ frames, seconds }) => frames / seconds),
  };
}

/** So many flows that nearly every probe is one that conntrack has never seen. */
function udp(source: string, destination: string) {
  return {
    protocol: 'udp',
    source: { address: source, port: 1_024, portCount: 60_000 },
    destination: { address: destination, port: 9 },
    frameBytes: 60,
  } as const;
}

/** The sinks swallow everything, and the probes must not depend on who answers ARP. */
async function fixNeighbours(): Promise<void> {
  const neighbours = [
    ['wan0', '198.51.100.254', macs.internet],
    ['lan0', '10.77.0.2', macs.laptop],
  ] as const;
  for (const [name, address, mac] of neighbours) {
    const argv = ['ip', 'neigh', 'replace', address, 'lladdr', mac, 'dev', name] as const;
    await output(gateway, ...argv, 'nud', 'permanent');
  }
}

test('survive-115 a rule for an interface that is absent stays, and holds once it appears', async () => {
  const base = modelWithRules([]);
  const later = { name: 'later', interfaces: ['later0'], addresses: ['10.99.0.1/24'] };
  const model = {
    ...base,
    networks: [...base.networks, { ...later, inside: false }],
    rules: [{ name: 'open_later', action: 'accept', from: 'lan', to: 'later' } as const],
  };
  const document = compileRuleset(planRuleset(model), { replacing: 'table' });
  await succeed(document);
  assert.equal(tableDiffers(expectedTable(document), await listed()), undefined);
  await output(gateway, 'ip', 'link', 'add', 'later0', 'type', 'veth', 'peer', 'name', 'later1');
  await output(gateway, 'ip', 'address', 'add', '10.99.0.1/24', 'dev', 'later0');
  await output(gateway, 'ip', 'link', 'set', 'later1', 'up');
  await output(gateway, 'ip', 'link', 'set', 'later0', 'up');
  const counted = async () => {
    const text = await output(gateway, 'nft', 'list', 'chain', 'inet', 'gatehouse', 'forward');
    return Number(/oifname "later0" counter packets (\d+)/.exec(text)?.[1]);
  };
  assert.equal(await counted(), 0);
  const mac = '02:00:00:00:00:99';
  const neighbour = ['ip', 'neigh', 'add', '10.99.0.2', 'lladdr', mac, 'dev', 'later0'] as const;
  await output(gateway, ...neighbour);
  const ping = ['ping', '-c', '3', '-i', '0.01', '-W', '0.1', '10.99.0.2'] as const;
  await lab.host('laptop').run(ping, { timeoutMs: TIMEOUT_MS });
  assert.equal(await counted(), 3);
  await output(gateway, 'ip', 'link', 'delete', 'later0');
  assert.equal(tableDiffers(expectedTable(document), await listed()), undefined);
});
