/** A full table of sessions in the kernel's memory: found by the programs, listed, killed. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NatSettings } from '../../src/abi/layouts.generated.ts';
import { natObject } from '../../src/abi/nat.generated.ts';
import { natSizes } from '../../src/gateway/nat-plan.ts';
import { type BpfObject, loadBpfObject } from '../../src/linux/bpf-object.ts';
import type { BpfProgram } from '../../src/linux/bpf-program.ts';
import { connectToControl } from '../../src/linux/core/control-client.ts';
import { startControlServer } from '../../src/linux/core/control-server.ts';
import { SessionAddresses } from '../../src/linux/core/session-addresses.ts';
import { answerStates, killStates, type NatTables } from '../../src/linux/core/session-states.ts';
import {
  type ControlAnswer,
  type ControlClient,
  type ControlQuestion,
  type SessionSummary,
  STATES_PER_ANSWER_MAX,
  type StateFilter,
} from '../../src/messages/control-messages.ts';
import { formatIpv4Address, ipv4Address, requireIpv4Address } from '../../src/net/ipv4-address.ts';
import {
  type FilledSession,
  fillMappings,
  fillSessions,
} from '../../src/testing/fill-nat-tables.ts';
import { udpFrame } from '../../src/testing/packet-builder.ts';

const SESSIONS = 1_000_000;
const BUCKETS = natSizes(SESSIONS, 1).sessionBuckets;
const ENDPOINTS = 1_000;
const DEVICES = 250;
const NOW = 1_000;
const UDP = 17;

const address = requireIpv4Address;
const outside = address('198.51.100.1');
const firstDevice = address('10.77.0.2');
const firstRemote = address('203.0.112.0');

const settings: NatSettings = {
  ...NatSettings.decode(new DataView(new ArrayBuffer(NatSettings.sizeBytes)), 0),
  hashKey: [0x0706_0504_0302_0100n, 0x0f0e_0d0c_0b0a_0908n],
  fixedNowNs: BigInt(NOW) << 30n,
  sessionBucketCount: BUCKETS,
  mappingBucketCount: natObject.maps.natMappingBuckets.maxEntries,
  udpTicks: 300,
  unconfirmedTicks: 30,
  sessionsPerHost: SESSIONS,
  mappingsPerHost: 65_536,
  externalCount: 1,
  networkCount: 1,
  poolFirst: 1_024,
  poolLast: 61_439,
  externals: filledUp(16, { address: outside, oneToOne: 0, filtering: 0 }),
  networks: filledUp(64, {
    prefix: address('10.77.0.0'),
    mask: address('255.255.0.0'),
    gateway: address('10.77.0.1'),
    interface: 0,
    translate: 1,
    filtering: 0,
    fastPath: 0,
    mac: new Uint8Array(6),
  }),
};

let object: BpfObject<typeof natObject>;
let tables: NatTables;
let filledCount: number;

before(() => {
  object = loadBpfObject(natObject, { maxEntries: { natSessions: BUCKETS } });
  object.maps.natSettings.update(0, settings);
  tables = {
    sessions: object.maps.natSessions.mapMemory(),
    ipv6Addresses: new SessionAddresses(object.maps.natSixAddresses),
    settings,
    nowTick: () => NOW,
    endPickup,
  };
  filledCount = fillSessions(tables.sessions, { settings, sessions: allSessions() });
});

after(() => object.close());

/** The settings here allow none. */
function endPickup(): void {}

/** The first element, and others that nobody looks at. */
function filledUp<T>(length: number, first: T): T[] {
  return Array.from({ length }, () => first);
}

/** Each endpoint with a port outside that it would not have got by itself. */
function endpoint(number: number) {
  const internal = { address: firstDevice + (number % DEVICES), port: 10_000 + number };
  return { ...internal, external: { index: 0, port: 40_000 + number } };
}

function* allSessions(): Generator<FilledSession> {
  for (let index = 0; index < SESSIONS; index++) {
    yield {
      protocol: UDP,
      initiator: endpoint(index % ENDPOINTS),
      responder: { address: firstRemote + Math.floor(index / ENDPOINTS), port: 53 },
      untilTick: NOW + 300,
      createdTick: NOW - 5,
    };
  }
}

/** The core's end of the control socket, with nothing behind it but the sessions. */
async function withClients(work: (clients: ControlClient[]) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-states-'));
  const server = await startControlServer(join(folder, 'control.sock'), async (request) => {
    if (request.kind === 'get-states') return answerStates(() => tables, request);
    if (request.kind === 'kill-states')
      return killStates(
        () => tables,
        request,
        () => {},
      );
    return { kind: 'refused', code: 'failed', reason: 'a test' };
  });
  const connections = await Promise.all([connectToControl(folder), connectToControl(folder)]);
  const clients = connections.map(({ client }) => client ?? assert.fail('not connected'));
  try {
    await work(clients);
  } finally {
    for (const client of clients) client.close();
    server.close();
    rmSync(folder, { recursive: true });
  }
}

async function* pages(client: ControlClient, filter: StateFilter) {
  for (let cursor: string | undefined; ; ) {
    const from = cursor === undefined ? {} : { cursor };
    const answer = await client.ask({
      ...{ kind: 'get-states', filter, limit: STATES_PER_ANSWER_MAX },
      ...from,
    } as ControlQuestion);
    assert.ok(answer.kind === 'states', JSON.stringify(answer).slice(0, 1_000));
    yield answer.states;
    cursor = answer.nextCursor;
    if (cursor === undefined) return;
  }
}

/** The number that {@link allSessions} gave a session. */
function numberOf({ initiator, responder }: SessionSummary): number {
  return (address(responder.address) - firstRemote) * ENDPOINTS + initiator.port - 10_000;
}

/** How many other questions are answered while one thing is done. */
async function answeredDuring(client: ControlClient, work: () => Promise<void>): Promise<number> {
  let isDone = false;
  const others = async () => {
    for (let answered = 0; ; answered++) {
      if (isDone) return answered;
      const answer: ControlAnswer = await client.ask({ kind: 'get-status' });
      assert.equal(answer.kind, 'refused');
    }
  };
  const end = () => {
    isDone = true;
  };
  const [answered] = await Promise.all([others(), work().finally(end)]);
  return answered;
}

test('a million sessions find room in a table of two million slots', () => {
  assert.equal(filledCount, SESSIONS);
});

test('all of a million sessions are listed once, while others are answered in between', async () => {
  await withClients(async ([lister, other]) => {
    assert.ok(lister !== undefined && other !== undefined);
    const timesListed = new Uint8Array(SESSIONS);
    let pageCount = 0;
    const answered = await answeredDuring(other, async () => {
      for await (const states of pages(lister, {})) {
        pageCount++;
        for (const number of states.map(numberOf)) {
          timesListed[number] = (timesListed[number] ?? 0) + 1;
        }
      }
    });
    assert.ok(timesListed.every((count) => count === 1));
    assert.ok(pageCount >= SESSIONS / STATES_PER_ANSWER_MAX);
    // Each answer to the one is a turn for the other.
    assert.ok(answered >= pageCount / 2, `${answered} answers`);
  });
});

test('a search through all of them leaves turns to others', async () => {
  await withClients(async ([lister, other]) => {
    assert.ok(lister !== undefined && other !== undefined);
    const found: SessionSummary[] = [];
    const answered = await answeredDuring(other, async () => {
      for await (const states of pages(lister, { port: 40_123 })) found.push(...states);
    });
    assert.equal(found.length, SESSIONS / ENDPOINTS);
    assert.ok(found.every(({ initiator }) => initiator.external?.port === 40_123));
    assert.ok(answered >= 4, `${answered} answers`);
  });
});

const { natWanEgress, natWanIngress } = natObject.programs;

function run(program: string, frame: Uint8Array<ArrayBuffer>): DataView {
  const loaded = Object.values<BpfProgram>(object.programs).find(({ name }) => name === program);
  const result = loaded?.testRun({ data: frame }) ?? assert.fail(program);
  const TC_ACT_SHOT = 2;
  assert.notEqual(result.returnValue, TC_ACT_SHOT);
  return new DataView(result.data.buffer);
}

const SOURCE_PORT = 14 + 20;
const DESTINATION = 14 + 16;
const DESTINATION_PORT = 14 + 22;

/** The source port with which a packet of a session leaves for the internet. */
function portOutside(number: number): number {
  const { initiator, responder } = sessionNumber(number);
  const frame = udpFrame({
    source: formatIpv4Address(ipv4Address(initiator.address)),
    destination: formatIpv4Address(ipv4Address(responder.address)),
    sourcePort: initiator.port,
    destinationPort: responder.port,
  });
  return run(natWanEgress, frame).getUint16(SOURCE_PORT);
}

function sessionNumber(number: number) {
  const remote = { address: firstRemote + Math.floor(number / ENDPOINTS), port: 53 };
  return { initiator: endpoint(number % ENDPOINTS), responder: remote };
}

/** Some of every part of the table. */
const samples = Array.from({ length: 1_000 }, (_, index) => index * 997);

test('the kernel finds each session that was put there', () => {
  for (const number of samples) {
    assert.equal(portOutside(number), 40_000 + (number % ENDPOINTS), `session ${number}`);
  }
});

test('killing by device ends exactly its sessions, and the kernel knows them no more', async () => {
  await withClients(async ([client]) => {
    assert.ok(client !== undefined);
    const device = '10.77.0.9';
    const reply = await client.ask({ kind: 'kill-states', filter: { device }, author: 'test' });
    const killedCount = SESSIONS / DEVICES;
    assert.deepEqual(reply, { kind: 'states-killed', id: reply.id, killedCount });
    const search = { kind: 'get-states', filter: { device }, limit: 1 } as const;
    const left = await client.ask(search);
    assert.ok(left.kind === 'states');
    assert.deepEqual([left.states, left.examinedCount], [[], SESSIONS - killedCount]);
  });
  const isKilled = (number: number) => number % DEVICES === 7;
  assert.ok(samples.some(isKilled));
  for (const number of samples) {
    const own = (number % ENDPOINTS) + (isKilled(number) ? 10_000 : 40_000);
    assert.equal(portOutside(number), own, `session ${number}`);
  }
});

test('the kernel finds mappings that were put there, from both sides', () => {
  const external = { index: 0, port: 55_555 };
  const internal = { address: address('10.77.9.9'), port: 7_777 };
  using mappings = disposable(object.maps.natMappings.mapMemory());
  using buckets = disposable(object.maps.natMappingBuckets.mapMemory());
  const mapping = { protocol: UDP, internal, external, untilTick: NOW + 9 };
  assert.equal(fillMappings({ mappings, buckets }, { settings, mappings: [mapping] }), 1);
  const ends = { source: '10.77.9.9', destination: '192.0.2.7' };
  const out = run(natWanEgress, udpFrame({ ...ends, sourcePort: 7_777, destinationPort: 53 }));
  assert.equal(out.getUint16(SOURCE_PORT), external.port);
  const back = { source: '192.0.2.8', destination: formatIpv4Address(outside) };
  const frame = udpFrame({ ...back, sourcePort: 53, destinationPort: external.port });
  const incoming = run(natWanIngress, frame);
  assert.equal(incoming.getUint32(DESTINATION), internal.address);
  assert.equal(incoming.getUint16(DESTINATION_PORT), internal.port);
});

function disposable<T extends { unmap(): void }>(memory: T): T & Disposable {
  return { ...memory, [Symbol.dispose]: () => memory.unmap() };
}
