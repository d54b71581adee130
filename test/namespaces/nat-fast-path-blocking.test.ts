/**
 * Who comes into a table that rules name, or leaves it, is judged by that at once: what is sent
 * after the command's answer does not arrive, and nobody has ended a session. Others lose nothing.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { waitFor } from '../../lab/wait-for.ts';
import { describeFastPath, Flow, later } from './nat-flow.ts';
import {
  ARRIVAL_MS,
  addresses,
  endpointOf,
  type FastPath,
  type HostName,
  type NatLab,
} from './nat-lab.ts';
import { DOWNLOAD_PORT, Streams, startDownload } from './nat-streams.ts';

const FORWARDED_UDP = 5_300;
/** Of the server. */
const SERVICE_PORT = 7_300;

const config = {
  portForwards: [`{ protocol: udp, port: ${FORWARDED_UDP}, to: ${addresses.alice}:53 }`],
  tables: { blocked: [], unserved: [], shunned: ['2001:db8:ffff::/48'], welcome: [], closed: [] },
  rules: [
    '{ name: blocked, action: drop, source: ["@blocked"] }',
    ...(['udp', 'tcp'] as const).map((protocol) => {
      const ports = `ports: [${SERVICE_PORT}, ${DOWNLOAD_PORT}]`;
      const service = `protocol: ${protocol}, ${ports}`;
      return `{ name: no_${protocol}, action: drop, source: ["@unserved"], ${service} }`;
    }),
    '{ name: shunned, action: drop, destination: ["@shunned"] }',
    '{ name: closed, action: drop, from: wan, destination: ["@closed"] }',
    '{ name: welcome, action: accept, from: guests, to: wan, source: ["@welcome"] }',
    '{ name: others, action: drop, from: guests, to: wan }',
    // For its counter.
    `{ name: bystander, action: accept, from: lan, to: wan, source: [${addresses.bob}] }`,
  ],
};

async function add(place: NatLab, table: string, prefix: string, forMs?: number): Promise<void> {
  const time = forMs === undefined ? {} : { forMs };
  const entry = { table, prefix, author: 'test', ...time };
  const answer = await place.ask({ kind: 'add-table-entry', ...entry });
  assert.equal(answer.kind, 'table-entry', JSON.stringify(answer));
}

async function remove(place: NatLab, table: string, prefix: string): Promise<void> {
  const entry = { table, prefix, author: 'test' };
  const answer = await place.ask({ kind: 'remove-table-entry', ...entry });
  assert.equal(answer.kind, 'table-entry', JSON.stringify(answer));
}

async function entryCount(place: NatLab, table: string): Promise<number> {
  const answer = await place.ask({ kind: 'get-table', table });
  assert.ok(answer.kind === 'table', JSON.stringify(answer));
  return answer.entries.length;
}

/** Packets that rules of the bystander have let through. */
async function bystanderCount(place: NatLab): Promise<number> {
  const text = await place.output('gateway', 'nft', 'list', 'table', 'inet', 'gatehouse');
  const rules = [...text.matchAll(/counter packets (\d+) .*comment "rule bystander/g)];
  assert.equal(rules.length, 2);
  return rules.reduce((sum, [, count]) => sum + Number(count), 0);
}

interface Blocking {
  readonly fastPath: FastPath;
  readonly flow: Flow;
  readonly bystander: Flow;
  /** Where the flow and the download end. */
  readonly at: HostName;
  /** Resolves when nothing may arrive any more. */
  readonly block: () => Promise<void>;
}

/** Sends all the time, blocks in mid-stream, and looks at what arrived. */
async function assertStops(t: TestContext, place: NatLab, blocking: Blocking): Promise<void> {
  const { fastPath, flow, bystander, at, block } = blocking;
  const capture = await place
    .host(at)
    .capture('eth0', { filter: `src host ${addresses.server}`, packetCountMax: 1_000_000 });
  const streams = new Streams(flow, bystander);
  await streams.sendWhile(async () => {
    await streams.sendMore();
    const judgedBefore = await bystanderCount(place);
    const { all: fastBefore } = await place.fastCounts();
    const askedAtMs = Date.now();
    await block();
    streams.noteForbidden();
    await streams.sendMore();
    const arrived = capture.frames();
    assert.ok(arrived.length > 1_000, `${arrived.length} packets came to ${at}`);
    const lastAtMs = (arrived.at(-1)?.timestampUs ?? 0) / 1_000;
    const took = (lastAtMs - askedAtMs).toFixed(1);
    t.diagnostic(`the last packet came ${took} ms after the request`);
    await streams.sendMore();
    assert.equal(capture.frames().length, arrived.length);
    assert.equal(await bystanderCount(place), judgedBefore, 'another was judged once more');
    const fastCount = (await place.fastCounts()).all - fastBefore;
    if (fastPath === 'off') assert.equal(fastCount, 0);
    else assert.ok(fastCount > 100, `of another ${fastCount} packets went fast`);
  });
  streams.assertForbiddenStopped();
  await streams.assertOtherWhole();
  await capture.stop();
}

describeFastPath({ name: 'natblock', config, ipv6: true }, (place, fastPath) => {
  const judged = (options: Partial<Parameters<typeof Flow.judged>[1]> = {}) =>
    Flow.judged(place(), { fastPath, ...options });
  const bystanding = () => judged({ from: 'bob', to: 'stranger' });
  const cleared = (table: string, prefix: string) => later(() => remove(place(), table, prefix));
  const { alice, bob, server } = addresses;

  for (const [what, table, prefix] of [
    ['a device is blocked', 'blocked', alice],
    ['services of one device are blocked', 'unserved', alice],
    ['a remote address is shunned', 'shunned', server],
    ['a remote network is shunned', 'shunned', '203.0.113.0/25'],
  ] as const) {
    test(`survive-112 in mid-download, nothing arrives after the answer when ${what}`, async (t) => {
      using flow = await judged({ remotePort: SERVICE_PORT });
      using other = await bystanding();
      await using _download = await startDownload(place());
      await using _cleared = cleared(table, prefix);
      const block = () => add(place(), table, prefix);
      await assertStops(t, place(), { fastPath, flow, bystander: other, at: 'alice', block });
    });
  }

  test('a service that is blocked leaves the others of the same device', async () => {
    using flow = await judged({ remotePort: SERVICE_PORT });
    using other = await judged();
    await add(place(), 'unserved', alice);
    await using _cleared = cleared('unserved', alice);
    flow.sendOut('forbidden');
    flow.sendIn('forbidden');
    await other.assertPasses();
    assert.deepEqual([flow.inside.drain(), flow.outside.drain()], [[], []]);
  });

  test('survive-112 a device is blocked by its address of IPv6, too', async () => {
    using flow = await judged({ family: 6 });
    using other = await judged({ family: 6, from: 'bob' });
    const { address } = endpointOf(flow.inside);
    for (const table of ['blocked', 'shunned']) {
      const entry = table === 'blocked' ? address : endpointOf(flow.outside).address;
      await add(place(), table, entry);
      flow.sendOut('forbidden');
      flow.sendIn('forbidden');
      if (table === 'blocked') await other.assertPasses();
      await remove(place(), table, entry);
      await flow.assertPasses();
    }
  });

  test('survive-112 a session from outside stops when who it is with is closed', async (t) => {
    const forward = { to: 'alice', port: 53, externalPort: FORWARDED_UDP } as const;
    using flow = await Flow.forwarded(place(), { fastPath, ...forward });
    using other = await bystanding();
    await using _cleared = cleared('closed', alice);
    const block = () => add(place(), 'closed', alice);
    await assertStops(t, place(), { fastPath, flow, bystander: other, at: 'alice', block });
  });

  test('survive-112 what a table lets through for a time stops when that is over', async (t) => {
    const { guest } = addresses;
    await add(place(), 'welcome', guest);
    using flow = await judged({ from: 'guest' });
    using other = await bystanding();
    const block = async () => {
      await add(place(), 'welcome', guest, 1_000);
      await waitFor('the end of an entry', () => entryCount(place(), 'welcome'), {
        timeoutMs: ARRIVAL_MS,
        until: (count) => count === 0,
      });
    };
    await assertStops(t, place(), { fastPath, flow, bystander: other, at: 'guest', block });
  });

  test('survive-112 who is blocked stays so while neighbours in the table come and go', async () => {
    using flow = await judged({ from: 'bob' });
    await add(place(), 'blocked', bob);
    for (let round = 0; round < 100; round++) {
      for (const change of [add, remove]) {
        // Of the set's elements those next to the one of the flow.
        const changing = ['10.77.0.10', '10.77.0.12'].map((one) => change(place(), 'blocked', one));
        for (let number = 0; number < 20; number++) {
          flow.sendOut('forbidden');
          flow.sendIn('forbidden');
        }
        await Promise.all(changing);
      }
    }
    await remove(place(), 'blocked', bob);
    await flow.assertPasses();
  });

  test('what was blocked goes on as it was when that ends', async () => {
    using flow = await judged();
    await add(place(), 'blocked', alice);
    await add(place(), 'blocked', '10.77.0.8/29');
    await remove(place(), 'blocked', alice);
    flow.sendOut('forbidden');
    flow.sendIn('forbidden');
    await remove(place(), 'blocked', '10.77.0.8/29');
    await flow.assertPasses();
    assert.deepEqual(endpointOf(flow.inside).address, alice);
  });
});
